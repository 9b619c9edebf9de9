//! Calls to enter: written down when they come in, dealt with by the worker a moment later.
//!
//! The row of a tenant's counter is locked before a sequence is taken, until the transaction ends: sequences are committed in their order,
//! and who reads on after one misses none.

use segue_model::TenantId;
use segue_proto::campaign::v1::{ScenarioDefinition, entry};
use segue_runtime::fields;
use segue_store::{Db, Run, Tx, on_db, on_tx};

use super::Call;
use super::change::{Outcome, end_tx};
use super::enter::Enter;
use super::store::{self, State};
use crate::error::{CampaignError, Kind};
use crate::store::{json, number};

/// How long answers are kept under their request id.
const KEPT_US: i64 = 7 * 24 * 3_600 * 1_000_000;
/// Older ones that one request forgets at most: more than it adds, so that they become fewer.
const FORGOTTEN_AT_ONCE: i64 = 100;

const LOCK: &str = "INSERT INTO scenario_call_counter (tenant, sequence) VALUES ($1, 0)
    ON CONFLICT (tenant) DO UPDATE SET sequence = scenario_call_counter.sequence RETURNING sequence";
const SET_SEQUENCE: &str = "UPDATE scenario_call_counter SET sequence = $2 WHERE tenant = $1";
const STATE: &str = "SELECT state, started_version FROM scenario WHERE tenant = $1 AND id = $2";
// It stays as it is until the calls are written; SQLite has one writer anyway.
const STATE_HELD_POSTGRES: &str = "SELECT state, started_version FROM scenario WHERE tenant = $1 AND id = $2 FOR SHARE";
const ADD_SQLITE: &str = "INSERT INTO scenario_call (tenant, sequence, scenario, person, entry_key, event)
    SELECT $1, value ->> 0, $2, value ->> 1, value ->> 2, value ->> 3 FROM json_each($3)";
const ADD_POSTGRES: &str = "INSERT INTO scenario_call (tenant, sequence, scenario, person, entry_key, event)
    SELECT $1, (value ->> 0)::bigint, $2, (value ->> 1)::bigint, value ->> 2, value ->> 3 FROM json_array_elements($3::json)";
const CALLS: &str = "SELECT sequence, scenario, person, entry_key, event FROM scenario_call
    WHERE tenant = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
const FORGET: &str = "DELETE FROM scenario_call WHERE tenant = $1 AND sequence <= $2";

const ANSWER: &str = "SELECT fingerprint, known FROM scenario_call_request WHERE tenant = $1 AND scenario = $2 AND request_id = $3";
const ADD_ANSWER: &str = "INSERT INTO scenario_call_request (tenant, scenario, request_id, fingerprint, known, made_us)
    VALUES ($1, $2, $3, $4, $5, $6)";
const FORGET_ANSWERS: &str = "DELETE FROM scenario_call_request WHERE tenant = $1 AND (scenario, request_id) IN
    (SELECT scenario, request_id FROM scenario_call_request WHERE tenant = $1 AND made_us < $2 ORDER BY made_us LIMIT $3)";

/// The answer that a request was given before, if it was.
pub(super) async fn answer(db: &Db, tenant: &TenantId, enter: &Enter) -> Result<Option<Vec<bool>>, CampaignError> {
    if !fields::is_id(&enter.scenario) {
        return Err(CampaignError::not_found(Kind::Scenario, &enter.scenario));
    }
    let row: Option<(String, String)> = on_db!(db, pool => sqlx::query_as(ANSWER)
        .bind(tenant.as_str()).bind(&enter.scenario).bind(&enter.request_id).fetch_optional(pool).await)?;
    row.map(|row| answered(enter, row)).transpose()
}

/// Refuses to let persons enter by call where they cannot, before anybody is asked who they are.
pub(super) async fn check(db: &Db, tenant: &TenantId, id: &str) -> Result<(), CampaignError> {
    let mut tx = db.read().await?;
    let checked = check_in(&mut tx, STATE, tenant, id).await;
    // What is wrong with the scenario is what the caller has to know.
    let _ = tx.rollback().await;
    checked
}

async fn check_in(tx: &mut Tx, sql: &'static str, tenant: &TenantId, id: &str) -> Result<(), CampaignError> {
    let row: Option<(String, i64)> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(id).fetch_optional(conn).await)?;
    let (state, version) = row.ok_or_else(|| CampaignError::not_found(Kind::Scenario, id))?;
    check_running(id, State::of(&state)?)?;
    check_entry(id, &store::definition_in(tx, tenant, id, number(version)?).await?)
}

/// Writes down who is to enter; `persons` are those of the entrants, None who is unknown. Answers whether each is known, as it did before if
/// the request was made before.
pub(super) async fn add(
    db: &Db,
    tenant: &TenantId,
    enter: &Enter,
    persons: &[Option<u32>],
    now_us: i64,
) -> Result<Outcome<Vec<bool>>, CampaignError> {
    let mut tx = db.begin().await?;
    let outcome = add_in(&mut tx, tenant, enter, persons, now_us).await;
    end_tx(tx, outcome).await
}

async fn add_in(
    tx: &mut Tx,
    tenant: &TenantId,
    enter: &Enter,
    persons: &[Option<u32>],
    now_us: i64,
) -> Result<Outcome<Vec<bool>>, CampaignError> {
    let id = &enter.scenario;
    let mut sequence: i64 = on_tx!(tx, conn => sqlx::query_scalar(LOCK).bind(tenant.as_str()).fetch_one(conn).await)?;
    let row: Option<(String, String)> = on_tx!(tx, conn => sqlx::query_as(ANSWER)
        .bind(tenant.as_str()).bind(id).bind(&enter.request_id).fetch_optional(conn).await)?;
    if let Some(row) = row {
        return answered(enter, row).map(Outcome::Same);
    }
    let held = tx.sql(STATE, STATE_HELD_POSTGRES);
    check_in(tx, held, tenant, id).await?;
    let mut rows: Vec<(i64, u32, &str, String)> = Vec::with_capacity(persons.len());
    for (entrant, person) in enter.entrants.iter().zip(persons) {
        if let Some(person) = person {
            sequence += 1;
            rows.push((sequence, *person, &entrant.entry_key, json(&entrant.event(&enter.request_id, now_us))?));
        }
    }
    if !rows.is_empty() {
        let (sql, rows) = (tx.sql(ADD_SQLITE, ADD_POSTGRES), json(&rows)?);
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(id).bind(&rows).run(conn).await)?;
        on_tx!(tx, conn => sqlx::query(SET_SEQUENCE).bind(tenant.as_str()).bind(sequence).run(conn).await)?;
    }
    let known: Vec<bool> = persons.iter().map(Option::is_some).collect();
    let digits: String = known.iter().map(|known| if *known { '1' } else { '0' }).collect();
    on_tx!(tx, conn => sqlx::query(ADD_ANSWER).bind(tenant.as_str()).bind(id).bind(&enter.request_id)
        .bind(&enter.fingerprint).bind(&digits).bind(now_us).run(conn).await)?;
    let before_us = now_us.saturating_sub(KEPT_US);
    on_tx!(tx, conn => sqlx::query(FORGET_ANSWERS)
        .bind(tenant.as_str()).bind(before_us).bind(FORGOTTEN_AT_ONCE).run(conn).await)?;
    Ok(Outcome::Changed(known))
}

/// What was answered to the request that made this row.
fn answered(enter: &Enter, (fingerprint, digits): (String, String)) -> Result<Vec<bool>, CampaignError> {
    if fingerprint != enter.fingerprint {
        return Err(CampaignError::field("request_id", "was used for other entrants in the last days: choose another one"));
    }
    Ok(digits.bytes().map(|digit| digit == b'1').collect())
}

fn check_running(id: &str, state: State) -> Result<(), CampaignError> {
    let why = match state {
        State::Running => return Ok(()),
        State::Draft => "was never started: start it first",
        State::Paused => "is paused: start it again first",
        State::Ended => "has ended: nobody enters it any more",
        State::Archived => "is archived: nobody enters it any more",
    };
    Err(CampaignError::NotNow { kind: Kind::Scenario, id: id.to_owned(), why: why.to_owned() })
}

fn check_entry(id: &str, definition: &ScenarioDefinition) -> Result<(), CampaignError> {
    let on = definition.entry.as_ref().and_then(|entry| entry.on.as_ref());
    let by = match on {
        Some(entry::On::Call(_)) => return Ok(()),
        Some(entry::On::Event(_)) => "an event",
        Some(entry::On::Audience(_)) => "an audience",
        Some(entry::On::Schedule(_)) => "a schedule",
        None => "nothing",
    };
    let why = format!("is entered by {by}, not by call: use a scenario whose entry is `call`");
    Err(CampaignError::NotNow { kind: Kind::Scenario, id: id.to_owned(), why })
}

/// Calls after this sequence, the oldest first.
pub(crate) async fn calls(db: &Db, tenant: &TenantId, after: i64, limit: usize) -> Result<Vec<Call>, CampaignError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(i64, String, i64, String, String)> =
        on_db!(db, pool => sqlx::query_as(CALLS).bind(tenant.as_str()).bind(after).bind(limit).fetch_all(pool).await)?;
    let call = |(sequence, scenario, person, entry_key, event): (i64, String, i64, String, String)| {
        let event = serde_json::from_str(&event).map_err(|_| CampaignError::Corrupt { what: "call to enter" })?;
        Ok(Call { sequence, scenario, person: number(person)?, entry_key, event })
    };
    rows.into_iter().map(call).collect()
}

/// Forgets calls that were dealt with (their request ids are kept).
pub(crate) async fn forget_calls(tx: &mut Tx, tenant: &TenantId, up_to: i64) -> Result<(), CampaignError> {
    on_tx!(tx, conn => sqlx::query(FORGET).bind(tenant.as_str()).bind(up_to).run(conn).await)?;
    Ok(())
}
