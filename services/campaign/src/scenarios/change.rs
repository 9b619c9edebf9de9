//! Changing scenarios: what they say, and where they are in their life. Each change holds the lock of the tenant's scenarios.
//!
//! ```text
//! draft ─start→ running ⇄ paused        running, paused ─end→ ended        draft, ended ─archive→ archived
//! ```
//!
//! Doing again what was done already changes nothing, whatever the etag: so that a caller can retry whose answer was lost.

use segue_model::TenantId;
use segue_proto::campaign::v1::{ScenarioDefinition, entry};
use segue_runtime::fields;
use segue_store::{Db, Tx};

use super::content::Content;
use super::store::{self, State, Stored};
use crate::error::{CampaignError, Kind};
use crate::sends;

/// What came of a change.
#[derive(Debug)]
pub(super) enum Outcome<T> {
    /// It was committed.
    Changed(T),
    /// Nothing was to be changed.
    Same(T),
}

/// What starting asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'s> {
    pub(super) id: &'s str,
    pub(super) etag: &'s str,
    /// Who is a member of the entry's audience now enters too.
    pub(super) present: bool,
}

/// Creates a scenario; the one that there is, if it says the same.
pub(super) async fn create(
    db: &Db,
    tenant: &TenantId,
    scenarios_max: u32,
    id: &str,
    content: Content,
    now_us: i64,
) -> Result<Outcome<Stored>, CampaignError> {
    let mut tx = store::begin_change(db, tenant).await?;
    let outcome = create_in(&mut tx, tenant, scenarios_max, id, content, now_us).await;
    end_tx(tx, outcome).await
}

async fn create_in(
    tx: &mut Tx,
    tenant: &TenantId,
    scenarios_max: u32,
    id: &str,
    content: Content,
    now_us: i64,
) -> Result<Outcome<Stored>, CampaignError> {
    if let Some(stored) = store::find_in(tx, tenant, id).await? {
        // An archived one cannot be taken back, and its results stay under its id.
        return if stored.state != State::Archived && stored.content.is_same(&content) {
            Ok(Outcome::Same(stored))
        } else {
            Err(CampaignError::AlreadyExists { kind: Kind::Scenario, id: id.to_owned() })
        };
    }
    if store::count(tx, tenant).await? >= u64::from(scenarios_max) {
        return Err(CampaignError::TooMany { what: "scenarios", max: scenarios_max.into(), setting: "campaign.scenarios_max" });
    }
    let stored = Stored {
        id: id.to_owned(),
        content,
        version: 1,
        state: State::Draft,
        started_version: 0,
        starts: 0,
        enters_present: false,
        started_us: 0,
        revision: 1,
        created_us: now_us,
        updated_us: now_us,
    };
    store::put(tx, tenant, &stored).await?;
    store::add_version(tx, tenant, &stored).await?;
    Ok(Outcome::Changed(stored))
}

/// Changes what a scenario says.
pub(super) async fn update(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    etag: &str,
    now_us: i64,
    change: impl FnOnce(&mut Content),
) -> Result<Outcome<Stored>, CampaignError> {
    let mut tx = store::begin_change(db, tenant).await?;
    let outcome = match found(&mut tx, tenant, id).await {
        Ok(before) => {
            let mut stored = before.clone();
            change(&mut stored.content);
            update_in(&mut tx, tenant, etag, now_us, &before, stored).await
        }
        Err(error) => Err(error),
    };
    end_tx(tx, outcome).await
}

async fn update_in(
    tx: &mut Tx,
    tenant: &TenantId,
    etag: &str,
    now_us: i64,
    before: &Stored,
    mut stored: Stored,
) -> Result<Outcome<Stored>, CampaignError> {
    check_etag(before, etag)?;
    if before.state == State::Archived {
        return Err(not_now(before, "is archived, and stays as it is: create another one"));
    }
    if stored.content.is_same(&before.content) {
        return Ok(Outcome::Same(stored));
    }
    let is_other_version = stored.content.is_other_version(&before.content);
    if is_other_version && before.state == State::Ended {
        return Err(not_now(before, "has ended for good, and nobody would enter another version: create another scenario"));
    }
    renew(&mut stored, now_us);
    if is_other_version {
        stored.version += 1;
        store::add_version(tx, tenant, &stored).await?;
    }
    store::put(tx, tenant, &stored).await?;
    if before.started_version > 0 && before.content.name != stored.content.name {
        // A new version is nothing to the worker before it is started, but messages may say the name.
        store::bump(tx, tenant).await?;
    }
    Ok(Outcome::Changed(stored))
}

/// Starts the version that was found right, or goes on after a pause. None: another version is the newest meanwhile.
pub(super) async fn start(
    db: &Db,
    tenant: &TenantId,
    start: Start<'_>,
    checked_version: u32,
    now_us: i64,
) -> Result<Option<Outcome<Stored>>, CampaignError> {
    let mut tx = store::begin_change(db, tenant).await?;
    match start_in(&mut tx, tenant, start, checked_version, now_us).await {
        Ok(None) => {
            tx.rollback().await?;
            Ok(None)
        }
        Ok(Some(outcome)) => end_tx(tx, Ok(outcome)).await.map(Some),
        Err(error) => end_tx(tx, Err(error)).await.map(Some),
    }
}

async fn start_in(
    tx: &mut Tx,
    tenant: &TenantId,
    start: Start<'_>,
    checked_version: u32,
    now_us: i64,
) -> Result<Option<Outcome<Stored>>, CampaignError> {
    let mut stored = found(tx, tenant, start.id).await?;
    if is_started(&stored, start)? {
        return Ok(Some(Outcome::Same(stored)));
    }
    if stored.version != checked_version {
        return Ok(None);
    }
    // Nobody is left out who would enter both ways: what happened just now and was not dealt with yet counts on.
    let goes_on = stored.state == State::Running
        && (stored.started_version == stored.version || {
            let before = store::definition_in(tx, tenant, &stored.id, stored.started_version).await?;
            before.entry == stored.content.definition.entry
        });
    if !goes_on {
        stored.started_us = now_us;
    }
    stored.state = State::Running;
    stored.started_version = stored.version;
    stored.starts += 1;
    stored.enters_present = start.present;
    renew(&mut stored, now_us);
    store::mark_started(tx, tenant, &stored.id, stored.version).await?;
    store::put(tx, tenant, &stored).await?;
    store::bump(tx, tenant).await?;
    sends::resume(tx, tenant, &stored.id, now_us).await?;
    Ok(Some(Outcome::Changed(stored)))
}

/// Whether a scenario is started as asked already; refuses where it cannot be, as far as that is seen without its definition's faults.
pub(super) fn is_started(stored: &Stored, start: Start<'_>) -> Result<bool, CampaignError> {
    match stored.state {
        State::Archived => return Err(not_now(stored, "is archived for good: create another one with its definition")),
        State::Ended => return Err(not_now(stored, "has ended for good: create another one with its definition")),
        State::Running if stored.started_version == stored.version && (stored.enters_present || !start.present) => return Ok(true),
        State::Draft | State::Running | State::Paused => {}
    }
    check_etag(stored, start.etag)?;
    if start.present && !enters_on_entering(&stored.content.definition) {
        let fault = "only of scenarios whose entry is entering an audience: leave it out";
        return Err(CampaignError::field("enter_present_members", fault));
    }
    Ok(false)
}

fn enters_on_entering(definition: &ScenarioDefinition) -> bool {
    let on = definition.entry.as_ref().and_then(|entry| entry.on.as_ref());
    matches!(on, Some(entry::On::Audience(audience)) if !audience.on_leaving)
}

/// Nobody enters and nothing is sent until it is started again.
pub(super) async fn pause(db: &Db, tenant: &TenantId, id: &str, etag: &str, now_us: i64) -> Result<Outcome<Stored>, CampaignError> {
    to_state(db, tenant, id, etag, now_us, State::Paused, |stored| match stored.state {
        State::Running | State::Paused => Ok(()),
        State::Draft => Err(not_now(stored, "was never started: there is nothing to pause")),
        State::Ended => Err(not_now(stored, "has ended: there is nothing to pause")),
        State::Archived => Err(not_now(stored, "is archived: there is nothing to pause")),
    })
    .await
}

/// Every run ends, for good.
pub(super) async fn end(db: &Db, tenant: &TenantId, id: &str, etag: &str, now_us: i64) -> Result<Outcome<Stored>, CampaignError> {
    to_state(db, tenant, id, etag, now_us, State::Ended, |stored| match stored.state {
        State::Running | State::Paused | State::Ended => Ok(()),
        State::Draft => Err(not_now(stored, "was never started: archive it instead")),
        State::Archived => Err(not_now(stored, "is archived, and has ended before")),
    })
    .await
}

/// Takes it out of lists.
pub(super) async fn archive(db: &Db, tenant: &TenantId, id: &str, etag: &str, now_us: i64) -> Result<Outcome<Stored>, CampaignError> {
    to_state(db, tenant, id, etag, now_us, State::Archived, |stored| match stored.state {
        State::Draft | State::Ended | State::Archived => Ok(()),
        State::Running => Err(not_now(stored, "is running: end it first")),
        State::Paused => Err(not_now(stored, "is paused: end it first")),
    })
    .await
}

async fn to_state(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    etag: &str,
    now_us: i64,
    state: State,
    allows: impl FnOnce(&Stored) -> Result<(), CampaignError>,
) -> Result<Outcome<Stored>, CampaignError> {
    let mut tx = store::begin_change(db, tenant).await?;
    let outcome = match found(&mut tx, tenant, id).await {
        Ok(stored) => match allows(&stored) {
            Ok(()) => to_state_in(&mut tx, tenant, etag, now_us, state, stored).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    end_tx(tx, outcome).await
}

async fn to_state_in(
    tx: &mut Tx,
    tenant: &TenantId,
    etag: &str,
    now_us: i64,
    state: State,
    mut stored: Stored,
) -> Result<Outcome<Stored>, CampaignError> {
    if stored.state == state {
        return Ok(Outcome::Same(stored));
    }
    check_etag(&stored, etag)?;
    stored.state = state;
    renew(&mut stored, now_us);
    store::put(tx, tenant, &stored).await?;
    if stored.started_version > 0 {
        store::bump(tx, tenant).await?;
    }
    if state == State::Ended {
        sends::end(tx, tenant, &stored.id, now_us).await?;
    }
    Ok(Outcome::Changed(stored))
}

/// Ends a change: commits, or undoes it. It waits for the undoing too, so that who is answered holds no lock any more.
pub(super) async fn end_tx<T>(tx: Tx, outcome: Result<Outcome<T>, CampaignError>) -> Result<Outcome<T>, CampaignError> {
    match outcome {
        Ok(Outcome::Changed(after)) => {
            tx.commit().await?;
            Ok(Outcome::Changed(after))
        }
        Ok(Outcome::Same(before)) => {
            tx.rollback().await?;
            Ok(Outcome::Same(before))
        }
        Err(error) => {
            // What went wrong first is what the caller has to know.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

/// A scenario that there has to be.
async fn found(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Stored, CampaignError> {
    let not_found = || CampaignError::not_found(Kind::Scenario, id);
    if !fields::is_id(id) {
        return Err(not_found());
    }
    store::find_in(tx, tenant, id).await?.ok_or_else(not_found)
}

fn check_etag(stored: &Stored, etag: &str) -> Result<(), CampaignError> {
    if etag.is_empty() || etag == stored.etag() {
        return Ok(());
    }
    Err(CampaignError::EtagMismatch { kind: Kind::Scenario, id: stored.id.clone() })
}

fn renew(stored: &mut Stored, now_us: i64) {
    stored.revision += 1;
    stored.updated_us = now_us;
}

fn not_now(stored: &Stored, why: &str) -> CampaignError {
    CampaignError::NotNow { kind: Kind::Scenario, id: stored.id.clone(), why: why.to_owned() }
}
