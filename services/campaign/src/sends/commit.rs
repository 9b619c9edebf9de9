//! The transactions in which decisions and results become true, a batch at a time. A send that was dropped, or that another worker holds by
//! now, is left as it is: nothing is told of it here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, SendReason, SendState};
use segue_store::{Tx, on_tx};
use serde::Serialize;

use super::caps::Counts;
use super::judge::{self, Judged};
use super::prepare::{Batch, Prepared};
use super::row::{Address, Claimed, clean, further, stored_state};
use super::told::{About, reason_name};
use crate::channels::Message;
use crate::error::CampaignError;
use crate::outbox::{self, Told};
use crate::policies::{Checked, consent_channel};
use crate::scenarios::{self, Standing};
use crate::service::Service;
use crate::store::{json, number};

/// Tries of one transaction that others get into the way of.
const TRIES: u32 = 5;

macro_rules! update {
    ($indexed:literal, $from:literal, [$($value:literal),+]) => {
        concat!("UPDATE send ", $indexed, " SET ", $($value, )+ " FROM ", $from)
    };
}
const UPDATE_SQLITE: &str = update!(
    "INDEXED BY sqlite_autoindex_send_1",
    "json_each($2) j WHERE send.id = j.value ->> 0 AND send.tenant = $1 AND send.claim = j.value ->> 1 AND send.due_us IS NOT NULL
    RETURNING send.id",
    [
        "state = j.value ->> 2, reason = j.value ->> 3, reason_detail = j.value ->> 4, due_us = j.value ->> 5, kind = j.value ->> 6,",
        "policy_version = j.value ->> 7, counted = j.value ->> 8, addresses = j.value -> 9, attempts = j.value ->> 10,",
        "sent_us = COALESCE(send.sent_us, j.value ->> 11), decisions = send.decisions || (j.value ->> 12),",
        "decision_count = send.decision_count + (j.value ->> 13)"
    ]
);
const UPDATE_POSTGRES: &str = update!(
    "",
    "json_array_elements($2::json) j(value) WHERE send.id = j.value ->> 0 AND send.tenant = $1 AND send.claim = (j.value ->> 1)::bigint
    AND send.due_us IS NOT NULL RETURNING send.id",
    [
        "state = (j.value ->> 2)::bigint, reason = (j.value ->> 3)::bigint, reason_detail = j.value ->> 4, ",
        "due_us = (j.value ->> 5)::bigint, kind = (j.value ->> 6)::bigint, policy_version = (j.value ->> 7)::bigint, ",
        "counted = (j.value ->> 8)::boolean, addresses = (j.value -> 9)::text, attempts = (j.value ->> 10)::bigint, ",
        "sent_us = COALESCE(send.sent_us, (j.value ->> 11)::bigint), decisions = send.decisions || (j.value ->> 12), ",
        "decision_count = send.decision_count + (j.value ->> 13)::bigint"
    ]
);

const LOCK_SQLITE: &str = "SELECT s.id, s.counted, s.decisions FROM json_each($2) j CROSS JOIN send s
    WHERE s.id = j.value ->> 0 AND s.tenant = $1 AND s.claim = j.value ->> 1 AND s.due_us IS NOT NULL";
const LOCK_POSTGRES: &str = "SELECT s.id, s.counted, s.decisions FROM json_array_elements($2::json) j(value)
    JOIN send s ON s.id = j.value ->> 0 AND s.tenant = $1 AND s.claim = (j.value ->> 1)::bigint AND s.due_us IS NOT NULL
    ORDER BY s.id FOR UPDATE OF s";

const UNSUBSCRIBED_SQLITE: &str = "SELECT u.person, u.time_us FROM json_each($2) k CROSS JOIN unsubscribed u
    WHERE u.tenant = $1 AND u.person = k.value AND u.channel = $3";
const UNSUBSCRIBED_POSTGRES: &str = "SELECT u.person, u.time_us FROM json_array_elements_text($2::json) k
    JOIN unsubscribed u ON u.tenant = $1 AND u.person = k.value::bigint AND u.channel = $3";

/// What becomes of a send, in the order of the statement's columns.
#[derive(Debug, Clone, Serialize)]
struct Change<'c>(&'c str, i64, i64, i64, String, Option<i64>, i64, i64, bool, Cow<'c, [Address]>, i64, Option<i64>, String, usize);

/// What may have changed of a send since it was claimed: when nobody heard that a decision was committed, it is made once more.
#[derive(sqlx::FromRow)]
struct Held {
    id: String,
    counted: bool,
    decisions: String,
}

/// A send that was decided to be sent: it is held, and its messages are to be given to the provider.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) send: Claimed,
    pub(super) person: u32,
    pub(super) addresses: Vec<Address>,
    pub(super) messages: Vec<(usize, Message)>,
    /// From then on they are to wait, however soon they were to go.
    pub(super) quiet_from_us: Option<i64>,
}

/// What providers made of a send.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) ready: Ready,
    /// Some provider was asked.
    pub(super) attempted: bool,
    pub(super) checked: Vec<Checked>,
    /// When to try again the addresses that are left; None: never.
    pub(super) again_us: Option<i64>,
}

/// How a send ends for now.
struct End {
    state: SendState,
    reason: SendReason,
    detail: String,
    /// Event to tell.
    name: Option<&'static str>,
}

impl End {
    fn sent() -> Self {
        Self { state: SendState::Sent, reason: SendReason::Unspecified, detail: String::new(), name: None }
    }

    /// Not sent (any further): what some address has stays sent.
    fn without(send: &Claimed, addresses: &[Address], reason: SendReason, detail: &str) -> Self {
        if send.is_sent() {
            return Self::sent();
        }
        let detail = clean(detail);
        // Tried in vain until it was too late: that is the provider's.
        if reason == SendReason::TooLate && send.attempts > 0 {
            let detail = addresses.iter().map(|address| address.error.clone()).find(|error| !error.is_empty()).unwrap_or(detail);
            return Self::failed(detail);
        }
        Self { state: SendState::Suppressed, reason, detail, name: Some("df_message_suppressed") }
    }

    fn failed(detail: String) -> Self {
        Self { state: SendState::Failed, reason: SendReason::ProviderFailed, detail, name: Some("df_message_failed") }
    }

    fn tell(&self, send: &Claimed, person: u32, kind: ChannelKind, now_us: i64) -> Option<Told> {
        let name = self.name?;
        let about = About { send: &send.id, person, scenario: &send.scenario, step: &send.step, variant: &send.variant, kind };
        let message_id = name.trim_start_matches("df_message_");
        let reason = if self.reason == SendReason::Unspecified { String::new() } else { reason_name(self.reason) };
        Some(about.tell(name, message_id, now_us, &reason))
    }
}

/// Decides on a batch: consent as of now, unsubscribing and caps as of this transaction. Answers with the sends to give to the provider.
pub(super) async fn decide(service: &Service, batch: &Batch, prepared: Vec<Prepared>, now_us: i64) -> Result<Vec<Ready>, CampaignError> {
    let mut tried = 0;
    let going = loop {
        tried += 1;
        match decide_once(service, batch, &prepared, now_us).await {
            Err(error) if error.is_retryable() && tried < TRIES => pause(tried).await,
            decided => break decided?,
        }
    };
    service.bells.outbox.notify_one();
    let mut ready = Vec::with_capacity(going.len());
    for ((send, prepared), counted) in batch.sends.iter().zip(prepared).zip(going) {
        let Some(counted) = counted else { continue };
        let person = batch.numbers(send).first().copied().unwrap_or_default();
        let mut send = Claimed { counted, policy_version: batch.policy.version.into(), ..send.clone() };
        if !send.is_sent() {
            send.state = stored_state(SendState::Sending);
        }
        if let Some(channel) = &batch.channel {
            send.kind = i64::from(i32::from(channel.kind));
        }
        let quiet_from_us = batch.quiet_from(&send, now_us);
        ready.push(Ready { send, person, addresses: prepared.addresses, messages: prepared.messages, quiet_from_us });
    }
    Ok(ready)
}

async fn pause(tried: u32) {
    tokio::time::sleep(Duration::from_millis(20 << tried)).await;
}

/// Of each send: whether it goes to the provider, and if so, whether it is counted.
async fn decide_once(service: &Service, batch: &Batch, prepared: &[Prepared], now_us: i64) -> Result<Vec<Option<bool>>, CampaignError> {
    let (tenant, mut tx) = (&batch.tenant, service.db.begin().await?);
    // First, as by whoever starts or ends a scenario.
    let named: BTreeSet<&str> = batch.sends.iter().map(|send| send.scenario.as_str()).collect();
    let standings = scenarios::standings(&mut tx, tenant, &named).await?;
    let ours = lock(&mut tx, tenant, &batch.sends).await?;
    let unsubscribed = unsubscribed(&mut tx, batch, prepared).await?;
    let mut counts = counts(&mut tx, batch, prepared).await?;
    let kind = batch.channel.as_ref().map_or(ChannelKind::Unspecified, |channel| channel.kind);
    let (mut changes, mut told, mut going) = (Vec::new(), Vec::new(), Vec::with_capacity(prepared.len()));
    for (send, one) in batch.sends.iter().zip(prepared) {
        let Some(held) = ours.get(&send.id) else {
            going.push(None);
            continue;
        };
        let numbers = batch.numbers(send);
        let since_us = numbers.iter().filter_map(|number| unsubscribed.get(number).copied()).max();
        let (mut judged, mut checked) = rejudge(batch, send, one, standings.get(&send.scenario).copied(), since_us, now_us);
        let mut counted = held.counted;
        if let Judged::Send { caps } = &judged
            && !counted
            && !caps.is_empty()
        {
            match counts.take(&numbers, caps, &mut checked) {
                Ok(()) => counted = true,
                Err(detail) => judged = Judged::Suppress { reason: SendReason::Capped, detail },
            }
        }
        let person = numbers.first().copied().unwrap_or_default();
        going.push(matches!(judged, Judged::Send { .. }).then_some(counted));
        let is_waiting = matches!(judged, Judged::Wait { .. });
        let (end, due_us) = match judged {
            Judged::Send { .. } if send.is_sent() => (End::sent(), Some(send.due_us)),
            Judged::Send { .. } => (End { state: SendState::Sending, ..End::sent() }, Some(send.due_us)),
            Judged::Wait { until_us } => (waiting(send), Some(until_us)),
            Judged::Suppress { reason, detail } => (End::without(send, &one.addresses, reason, &detail), None),
        };
        told.extend(end.tell(send, person, kind, now_us));
        // Of what waits the next decision makes them.
        let addresses = if is_waiting { Cow::Owned(send.addresses()?) } else { Cow::Borrowed(one.addresses.as_slice()) };
        let added = further(&held.decisions, &checked, now_us, due_us.is_none())?;
        let count = added.lines().filter(|line| !line.is_empty()).count();
        let (kind, version) = (i64::from(i32::from(kind)), batch.policy.version.into());
        let (state, reason) = (stored_state(end.state), i64::from(i32::from(end.reason)));
        changes.push(Change(
            &send.id,
            send.claim,
            state,
            reason,
            end.detail,
            due_us,
            kind,
            version,
            counted,
            addresses,
            send.attempts,
            None,
            added,
            count,
        ));
    }
    update(&mut tx, tenant, &changes).await?;
    counts.write(&mut tx, tenant).await?;
    outbox::put(&mut tx, tenant, &told).await?;
    tx.commit().await?;
    Ok(going)
}

/// As it was; it is looked at again later.
fn waiting(send: &Claimed) -> End {
    let state = i32::try_from(send.state).ok().and_then(|state| SendState::try_from(state).ok()).unwrap_or(SendState::Planned);
    End { state, ..End::sent() }
}

/// What was judged before the transaction, as it is in it.
fn rejudge(
    batch: &Batch,
    send: &Claimed,
    one: &Prepared,
    standing: Option<Standing>,
    unsubscribed_us: Option<i64>,
    now_us: i64,
) -> (Judged, Vec<Checked>) {
    if let Some((judged, checked)) = standing.and_then(|standing| judge::of_scenario(send, standing, now_us)) {
        return (judged, vec![checked]);
    }
    if unsubscribed_us.is_some() && matches!(one.judged, Judged::Send { .. }) {
        let mut checked = Vec::new();
        let judged = batch.judge(send, unsubscribed_us, now_us, &mut checked);
        if !matches!(judged, Judged::Send { .. }) {
            return (judged, checked);
        }
    }
    (one.judged.clone(), one.checked.clone())
}

/// Those of the sends that are still held under this claim; nobody changes them until the transaction ends.
async fn lock(tx: &mut Tx, tenant: &TenantId, sends: &[Claimed]) -> Result<HashMap<String, Held>, CampaignError> {
    let keys: Vec<_> = sends.iter().map(|send| (send.id.as_str(), send.claim)).collect();
    let (sql, keys) = (tx.sql(LOCK_SQLITE, LOCK_POSTGRES), json(&keys)?);
    let held: Vec<Held> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(keys).fetch_all(conn).await)?;
    Ok(held.into_iter().map(|held| (held.id.clone(), held)).collect())
}

/// The numbers of the persons of those that are to be sent.
fn numbers(batch: &Batch, prepared: &[Prepared], wanted: impl Fn(&Claimed, &Judged) -> bool) -> BTreeSet<u32> {
    let wanted = batch.sends.iter().zip(prepared).filter(|(send, one)| wanted(send, &one.judged));
    wanted.flat_map(|(send, _)| batch.numbers(send)).collect()
}

/// Who has unsubscribed from the channel by a link, and when.
async fn unsubscribed(tx: &mut Tx, batch: &Batch, prepared: &[Prepared]) -> Result<BTreeMap<u32, i64>, CampaignError> {
    let Some(channel) = batch.channel.as_ref().and_then(|channel| consent_channel(channel.kind)) else { return Ok(BTreeMap::new()) };
    let numbers = numbers(batch, prepared, |_, judged| matches!(judged, Judged::Send { .. }));
    let (sql, numbers) = (tx.sql(UNSUBSCRIBED_SQLITE, UNSUBSCRIBED_POSTGRES), json(&numbers)?);
    let rows: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(sql)
        .bind(batch.tenant.as_str()).bind(numbers).bind(channel).fetch_all(conn).await)?;
    rows.into_iter().map(|(person, time_us)| Ok((number(person)?, time_us))).collect()
}

async fn counts(tx: &mut Tx, batch: &Batch, prepared: &[Prepared]) -> Result<Counts, CampaignError> {
    let is_capped = |send: &Claimed, judged: &Judged| !send.counted && matches!(judged, Judged::Send { caps } if !caps.is_empty());
    let numbers = numbers(batch, prepared, is_capped);
    if numbers.is_empty() { Ok(Counts::default()) } else { Counts::lock(tx, &batch.tenant, &numbers).await }
}

/// Answers with the ids of those that changed.
async fn update(tx: &mut Tx, tenant: &TenantId, changes: &[Change<'_>]) -> Result<HashSet<String>, CampaignError> {
    if changes.is_empty() {
        return Ok(HashSet::new());
    }
    let (sql, rows) = (tx.sql(UPDATE_SQLITE, UPDATE_POSTGRES), json(changes)?);
    let ids: Vec<String> = on_tx!(tx, conn => sqlx::query_scalar(sql).bind(tenant.as_str()).bind(rows).fetch_all(conn).await)?;
    Ok(ids.into_iter().collect())
}

/// Records what providers said. Tried until it is written, or until others may have taken the sends up again.
pub(super) async fn settle(service: &Service, tenant: &TenantId, settled: &[Settled], now_us: i64) -> Result<(), CampaignError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let held = settled.iter().any(|one| one.ready.send.due_us > service.clock.now_us());
        match settle_once(service, tenant, settled, now_us).await {
            Err(error) if error.is_retryable() && held => pause(tried.min(6)).await,
            written => break written?,
        }
    }
    service.bells.outbox.notify_one();
    Ok(())
}

async fn settle_once(service: &Service, tenant: &TenantId, settled: &[Settled], now_us: i64) -> Result<(), CampaignError> {
    let (mut changes, mut told) = (Vec::with_capacity(settled.len()), Vec::new());
    for Settled { ready, attempted, checked, again_us } in settled {
        let send = &ready.send;
        let is_sent = ready.addresses.iter().any(|address| address.state == i32::from(SendState::Sent));
        let end = match again_us {
            _ if is_sent && !send.is_sent() => End { name: Some("df_message_sent"), ..End::sent() },
            _ if is_sent => End::sent(),
            Some(_) => End { state: SendState::Sending, ..End::sent() },
            None => {
                End::failed(ready.addresses.iter().map(|address| address.error.clone()).find(|error| !error.is_empty()).unwrap_or_default())
            }
        };
        let kind = i32::try_from(send.kind).ok().and_then(|kind| ChannelKind::try_from(kind).ok()).unwrap_or_default();
        if let Some(event) = end.tell(send, ready.person, kind, now_us) {
            told.push((send.id.as_str(), event));
        }
        let added = further(&send.decisions, checked, now_us, again_us.is_none())?;
        let count = added.lines().filter(|line| !line.is_empty()).count();
        let (state, reason) = (stored_state(end.state), i64::from(i32::from(end.reason)));
        let (attempts, sent_us) = (send.attempts + i64::from(*attempted), is_sent.then_some(now_us));
        changes.push(Change(
            &send.id,
            send.claim,
            state,
            reason,
            end.detail,
            *again_us,
            send.kind,
            send.policy_version,
            send.counted,
            Cow::Borrowed(ready.addresses.as_slice()),
            attempts,
            sent_us,
            added,
            count,
        ));
    }
    let mut tx = service.db.begin().await?;
    let changed = update(&mut tx, tenant, &changes).await?;
    let told: Vec<Told> = told.into_iter().filter(|(id, _)| changed.contains(*id)).map(|(_, event)| event).collect();
    outbox::put(&mut tx, tenant, &told).await?;
    tx.commit().await?;
    Ok(())
}

const RELEASE_SQLITE: &str = "UPDATE send INDEXED BY sqlite_autoindex_send_1 SET due_us = $3 FROM json_each($2) j
    WHERE send.id = j.value ->> 0 AND send.tenant = $1 AND send.claim = j.value ->> 1 AND send.due_us IS NOT NULL";
const RELEASE_POSTGRES: &str = "UPDATE send SET due_us = $3 FROM json_array_elements($2::json) j(value)
    WHERE send.id = j.value ->> 0 AND send.tenant = $1 AND send.claim = (j.value ->> 1)::bigint AND send.due_us IS NOT NULL";

/// Lets go of sends that could not be decided, until then.
pub(super) async fn release(service: &Service, tenant: &TenantId, keys: &[(String, i64)], due_us: i64) -> Result<(), CampaignError> {
    let (sql, keys) = (service.db.sql(RELEASE_SQLITE, RELEASE_POSTGRES), json(keys)?);
    let mut tx = service.db.begin().await?;
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(keys).bind(due_us).execute(conn).await.map(drop))?;
    Ok(tx.commit().await?)
}
