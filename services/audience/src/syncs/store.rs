//! Syncs in the store. What users change (URL, kinds, whether it is paused) is guarded by the revision; how far delivery is, by the
//! process that holds the lease: a process that lost it changes nothing any more.

use segue_model::TenantId;
use segue_store::{Db, Run, on_db, on_tx, on_writer};

use super::definition::{NewSync, Settings};
use crate::error::AudienceError;
use crate::store::{counter, json, number};

const COUNT: &str = "SELECT count(*) FROM sync WHERE tenant = $1";
const INSERT: &str = "INSERT INTO sync (tenant, id, audience, url, secret, identifier_kinds, paused, revision, created_us,
        phase, next_person, sequence, place, batches, delivered_sequence, delivered_us, failures, failing_since_us, problem, due_us,
        owner, until_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, 'begin', 0, 0, '', 0, 0, 0, 0, 0, '', 0, '', 0) ON CONFLICT DO NOTHING";
const GET: &str = "SELECT * FROM sync WHERE tenant = $1 AND id = $2";
const LIST: &str = "SELECT * FROM sync WHERE tenant = $1 AND id > $2 AND ($3 = '' OR audience = $3) ORDER BY id LIMIT $4";
// What was wrong may be right now: it is tried at once, and its time to be given up begins anew.
const UPDATE: &str = "UPDATE sync SET url = $4, identifier_kinds = $5, paused = $6, revision = revision + 1,
        failures = 0, failing_since_us = 0, problem = '', due_us = 0
    WHERE tenant = $1 AND id = $2 AND revision = $3 RETURNING *";
const DELETE: &str = "DELETE FROM sync WHERE tenant = $1 AND id = $2";
const DELETE_BATCHES: &str = "DELETE FROM sync_batch WHERE tenant = $1 AND sync = $2";
const DELETE_MEMBERS: &str = "DELETE FROM sync_members WHERE tenant = $1 AND sync = $2";

const LIST_DUE: &str = "SELECT tenant, id FROM sync WHERE NOT paused AND due_us <= $1 AND until_us <= $1";
const CLAIM: &str = "UPDATE sync SET owner = $3, until_us = $4
    WHERE tenant = $1 AND id = $2 AND NOT paused AND due_us <= $5 AND (owner = $3 OR until_us <= $5) RETURNING *";
const RELEASE: &str = "UPDATE sync SET until_us = 0 WHERE tenant = $1 AND id = $2 AND owner = $3";

const BEGIN: &str = "UPDATE sync SET phase = 'first', next_person = 0, sequence = $4, place = ''
    WHERE tenant = $1 AND id = $2 AND owner = $3";
const PUT_MEMBERS: &str = "INSERT INTO sync_members (tenant, sync, persons) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, sync) DO UPDATE SET persons = excluded.persons";
const GET_MEMBERS: &str = "SELECT persons FROM sync_members WHERE tenant = $1 AND sync = $2";
const ANEW: &str = "UPDATE sync SET phase = 'begin' WHERE tenant = $1 AND id = $2 AND owner = $3";
const DECIDE: &str = "UPDATE sync SET phase = $5, next_person = $6, sequence = $7, place = $8, batches = $4
    WHERE tenant = $1 AND id = $2 AND owner = $3 AND batches + 1 = $4";
const INSERT_BATCH: &str = "INSERT INTO sync_batch (tenant, sync, number, sequence, payload) VALUES ($1, $2, $3, $4, $5)";
const GET_BATCH: &str = "SELECT number, sequence, payload FROM sync_batch WHERE tenant = $1 AND sync = $2 ORDER BY number LIMIT 1";
const PASS: &str =
    "UPDATE sync SET sequence = $4, delivered_sequence = $4, place = $5, problem = '' WHERE tenant = $1 AND id = $2 AND owner = $3";

const TAKEN: &str = "UPDATE sync SET delivered_us = $4,
        delivered_sequence = CASE WHEN CAST($5 AS BIGINT) > 0 THEN CAST($5 AS BIGINT) ELSE delivered_sequence END,
        failures = 0, failing_since_us = 0, problem = '', due_us = 0
    WHERE tenant = $1 AND id = $2 AND owner = $3";
const DELETE_BATCH: &str = "DELETE FROM sync_batch WHERE tenant = $1 AND sync = $2 AND number = $3";
const FAILED: &str = "UPDATE sync SET failures = $5, failing_since_us = $6, problem = $7, due_us = $8, paused = $9,
        revision = revision + CASE WHEN CAST($9 AS BOOLEAN) THEN 1 ELSE 0 END, until_us = 0
    WHERE tenant = $1 AND id = $2 AND owner = $3 AND revision = $4";

/// How far a sync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is decided.
    Begin,
    /// All members are being sent.
    First,
    /// Differences are being sent.
    Follow,
}

/// A sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) tenant: TenantId,
    pub(super) id: String,
    pub(super) audience: String,
    pub(super) settings: Settings,
    pub(super) secret: String,
    pub(super) revision: u64,
    pub(super) created_us: i64,
    pub(super) phase: Phase,
    pub(super) next_person: u32,
    pub(super) sequence: u64,
    pub(super) place: String,
    pub(super) batches: u64,
    pub(super) delivered_sequence: u64,
    pub(super) delivered_us: i64,
    pub(super) failures: u32,
    pub(super) failing_since_us: i64,
    pub(super) problem: String,
    pub(super) due_us: i64,
}

/// A batch that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchAtHand {
    pub(super) number: u64,
    /// Transitions up to this one are with the destination once it has taken it; 0: as before.
    pub(super) sequence: u64,
    pub(super) payload: Vec<u8>,
}

/// Where a sync is once a batch is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    pub(super) next_person: u32,
    pub(super) sequence: u64,
    pub(super) place: String,
}

/// What to write down of a batch that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) failures: u32,
    pub(super) failing_since_us: i64,
    pub(super) problem: String,
    pub(super) due_us: i64,
    pub(super) pause: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    tenant: String,
    id: String,
    audience: String,
    url: String,
    secret: String,
    identifier_kinds: String,
    paused: bool,
    revision: i64,
    created_us: i64,
    phase: String,
    next_person: i64,
    sequence: i64,
    place: String,
    batches: i64,
    delivered_sequence: i64,
    delivered_us: i64,
    failures: i64,
    failing_since_us: i64,
    problem: String,
    due_us: i64,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Begin => "begin",
            Phase::First => "first",
            Phase::Follow => "follow",
        }
    }
}

impl TryFrom<Row> for Stored {
    type Error = AudienceError;

    fn try_from(row: Row) -> Result<Self, AudienceError> {
        const CORRUPT: AudienceError = AudienceError::Corrupt { what: "sync" };
        let phases = [Phase::Begin, Phase::First, Phase::Follow];
        let identifier_kinds = serde_json::from_str(&row.identifier_kinds).map_err(|_| CORRUPT)?;
        Ok(Stored {
            tenant: row.tenant.parse().map_err(|_| CORRUPT)?,
            id: row.id,
            audience: row.audience,
            settings: Settings { url: row.url, identifier_kinds, paused: row.paused },
            secret: row.secret,
            revision: counter(row.revision)?,
            created_us: row.created_us,
            phase: phases.into_iter().find(|phase| phase.name() == row.phase).ok_or(CORRUPT)?,
            next_person: number(row.next_person)?,
            sequence: counter(row.sequence)?,
            place: row.place,
            batches: counter(row.batches)?,
            delivered_sequence: counter(row.delivered_sequence)?,
            delivered_us: row.delivered_us,
            failures: number(row.failures)?,
            failing_since_us: row.failing_since_us,
            problem: row.problem,
            due_us: row.due_us,
        })
    }
}

/// A number as it is stored; what counts up cannot get that far.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) async fn count(db: &Db, tenant: &TenantId) -> Result<u64, AudienceError> {
    counter(on_db!(db, pool => sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(pool).await)?)
}

/// Whether the id was free.
pub(super) async fn insert(db: &Db, tenant: &TenantId, sync: &NewSync, secret: &str, now_us: i64) -> Result<bool, AudienceError> {
    let kinds = json(&sync.settings.identifier_kinds)?;
    let rows = on_writer!(db, pool => sqlx::query(INSERT).bind(tenant.as_str()).bind(&sync.id).bind(&sync.audience)
        .bind(&sync.settings.url).bind(secret).bind(kinds).bind(sync.settings.paused).bind(now_us).run(pool).await)?;
    Ok(rows == 1)
}

pub(super) async fn find(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<Stored>, AudienceError> {
    let row: Option<Row> = on_db!(db, pool => sqlx::query_as(GET).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?;
    row.map(Stored::try_from).transpose()
}

/// By id, those after `after`, of one audience or (empty) of all.
pub(super) async fn list(db: &Db, tenant: &TenantId, after: &str, audience: &str, rows_max: usize) -> Result<Vec<Stored>, AudienceError> {
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(LIST).bind(tenant.as_str()).bind(after).bind(audience)
        .bind(stored(rows_max as u64)).fetch_all(pool).await)?;
    rows.into_iter().map(Stored::try_from).collect()
}

/// As it is afterwards; `None` if it is no longer at that revision.
pub(super) async fn update(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    revision: u64,
    settings: &Settings,
) -> Result<Option<Stored>, AudienceError> {
    let kinds = json(&settings.identifier_kinds)?;
    let row: Option<Row> = on_writer!(db, pool => sqlx::query_as(UPDATE).bind(tenant.as_str()).bind(id).bind(stored(revision))
        .bind(&settings.url).bind(kinds).bind(settings.paused).fetch_optional(pool).await)?;
    row.map(Stored::try_from).transpose()
}

/// Whether there was one.
pub(super) async fn delete(db: &Db, tenant: &TenantId, id: &str) -> Result<bool, AudienceError> {
    let mut tx = db.begin().await?;
    let rows = on_tx!(tx, conn => sqlx::query(DELETE).bind(tenant.as_str()).bind(id).run(conn).await)?;
    for rest in [DELETE_BATCHES, DELETE_MEMBERS] {
        on_tx!(tx, conn => sqlx::query(rest).bind(tenant.as_str()).bind(id).run(conn).await)?;
    }
    tx.commit().await?;
    Ok(rows == 1)
}

/// Syncs that nobody works on and that are to be worked on.
pub(super) async fn list_due(db: &Db, now_us: i64) -> Result<Vec<(TenantId, String)>, AudienceError> {
    let rows: Vec<(String, String)> = on_db!(db, pool => sqlx::query_as(LIST_DUE).bind(now_us).fetch_all(pool).await)?;
    let read = |(tenant, id): (String, String)| Ok((tenant.parse().map_err(|_| AudienceError::Corrupt { what: "sync" })?, id));
    rows.into_iter().map(read).collect()
}

/// Which process works on syncs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner(pub(super) String);

impl Owner {
    /// The sync, if it is to be worked on and nobody else does; nobody else will until then.
    pub(super) async fn claim(
        &self,
        db: &Db,
        tenant: &TenantId,
        id: &str,
        until_us: i64,
        now_us: i64,
    ) -> Result<Option<Stored>, AudienceError> {
        let row: Option<Row> = on_writer!(db, pool => sqlx::query_as(CLAIM).bind(tenant.as_str()).bind(id).bind(&self.0)
            .bind(until_us).bind(now_us).fetch_optional(pool).await)?;
        row.map(Stored::try_from).transpose()
    }

    /// Lets others work on it.
    pub(super) async fn release(&self, db: &Db, tenant: &TenantId, id: &str) -> Result<(), AudienceError> {
        on_writer!(db, pool => sqlx::query(RELEASE).bind(tenant.as_str()).bind(id).bind(&self.0).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Writes down who is to be sent first.
    pub(super) async fn begin(&self, db: &Db, sync: &Stored, members: &[u8], sequence: u64) -> Result<(), AudienceError> {
        let mut tx = db.begin().await?;
        let rows = on_tx!(tx, conn => sqlx::query(BEGIN).bind(sync.tenant.as_str()).bind(&sync.id).bind(&self.0)
            .bind(stored(sequence)).run(conn).await)?;
        if rows == 0 {
            return Err(AudienceError::Fenced);
        }
        on_tx!(tx, conn => sqlx::query(PUT_MEMBERS).bind(sync.tenant.as_str()).bind(&sync.id).bind(members).run(conn).await)?;
        Ok(tx.commit().await?)
    }

    /// Has it begin once more.
    pub(super) async fn anew(&self, db: &Db, sync: &Stored) -> Result<(), AudienceError> {
        on_writer!(db, pool => sqlx::query(ANEW).bind(sync.tenant.as_str()).bind(&sync.id).bind(&self.0).execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Writes down the next batch and where the sync is with it.
    pub(super) async fn decide(&self, db: &Db, sync: &Stored, batch: &BatchAtHand, progress: &Progress) -> Result<(), AudienceError> {
        let (tenant, id) = (sync.tenant.as_str(), &sync.id);
        let mut tx = db.begin().await?;
        let rows = on_tx!(tx, conn => sqlx::query(DECIDE).bind(tenant).bind(id).bind(&self.0).bind(stored(batch.number))
            .bind(progress.phase.name()).bind(i64::from(progress.next_person)).bind(stored(progress.sequence)).bind(&progress.place)
            .run(conn).await)?;
        if rows == 0 {
            return Err(AudienceError::Fenced);
        }
        on_tx!(tx, conn => sqlx::query(INSERT_BATCH).bind(tenant).bind(id).bind(stored(batch.number)).bind(stored(batch.sequence))
            .bind(&batch.payload).run(conn).await)?;
        if progress.phase != Phase::First {
            on_tx!(tx, conn => sqlx::query(DELETE_MEMBERS).bind(tenant).bind(id).run(conn).await)?;
        }
        Ok(tx.commit().await?)
    }

    /// Writes down that transitions up to this one, before that place, are nothing to this sync.
    pub(super) async fn pass(&self, db: &Db, sync: &Stored, sequence: u64, place: &str) -> Result<(), AudienceError> {
        on_writer!(db, pool => sqlx::query(PASS).bind(sync.tenant.as_str()).bind(&sync.id).bind(&self.0).bind(stored(sequence)).bind(place)
            .execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Writes down that the destination has taken the batch.
    pub(super) async fn taken(&self, db: &Db, sync: &Stored, batch: &BatchAtHand, now_us: i64) -> Result<(), AudienceError> {
        let (tenant, id) = (sync.tenant.as_str(), &sync.id);
        let mut tx = db.begin().await?;
        let rows = on_tx!(tx, conn => sqlx::query(TAKEN).bind(tenant).bind(id).bind(&self.0).bind(now_us).bind(stored(batch.sequence))
            .run(conn).await)?;
        if rows == 0 {
            return Err(AudienceError::Fenced);
        }
        on_tx!(tx, conn => sqlx::query(DELETE_BATCH).bind(tenant).bind(id).bind(stored(batch.number)).run(conn).await)?;
        Ok(tx.commit().await?)
    }

    /// Writes down that it has not, unless the settings were changed meanwhile, and lets go of the sync.
    pub(super) async fn failed(&self, db: &Db, sync: &Stored, failure: &Failure) -> Result<(), AudienceError> {
        let (tenant, revision) = (sync.tenant.as_str(), stored(sync.revision));
        let rows = on_writer!(db, pool => sqlx::query(FAILED).bind(tenant).bind(&sync.id).bind(&self.0).bind(revision)
            .bind(i64::from(failure.failures)).bind(failure.failing_since_us).bind(&failure.problem).bind(failure.due_us)
            .bind(failure.pause).run(pool).await)?;
        if rows == 0 { self.release(db, &sync.tenant, &sync.id).await } else { Ok(()) }
    }
}

/// The batch that the destination is to take next, if it is decided.
pub(super) async fn batch_at_hand(db: &Db, sync: &Stored) -> Result<Option<BatchAtHand>, AudienceError> {
    let row: Option<(i64, i64, Vec<u8>)> =
        on_db!(db, pool => sqlx::query_as(GET_BATCH).bind(sync.tenant.as_str()).bind(&sync.id).fetch_optional(pool).await)?;
    row.map(|(number, sequence, payload)| Ok(BatchAtHand { number: counter(number)?, sequence: counter(sequence)?, payload })).transpose()
}

/// Who is to be sent first.
pub(super) async fn members(db: &Db, sync: &Stored) -> Result<Vec<u8>, AudienceError> {
    let row: Option<Vec<u8>> =
        on_db!(db, pool => sqlx::query_scalar(GET_MEMBERS).bind(sync.tenant.as_str()).bind(&sync.id).fetch_optional(pool).await)?;
    row.ok_or(AudienceError::Corrupt { what: "members of a sync" })
}
