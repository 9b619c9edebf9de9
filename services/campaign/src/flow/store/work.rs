//! Statements on work that takes several rounds: waves, commands, and what was done for a scenario as a whole.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_store::{Db, Run as _, Tx, on_db, on_tx};
use serde::{Deserialize, Serialize};

use crate::error::CampaignError;
use crate::store::{counter, json, number};

const LIST_WAVES: &str = "SELECT number, body, persons, after_person FROM flow_wave WHERE tenant = $1 ORDER BY number LIMIT $2";
const PUT_WAVE: &str = "INSERT INTO flow_wave (tenant, number, body, persons, after_person) VALUES ($1, $2, $3, $4, $5)";
const MOVE_WAVE: &str = "UPDATE flow_wave SET after_person = $3 WHERE tenant = $1 AND number = $2";
const DELETE_WAVE: &str = "DELETE FROM flow_wave WHERE tenant = $1 AND number = $2";
const LIST_COMMANDS: &str = "SELECT number, body FROM flow_command WHERE tenant = $1 ORDER BY number LIMIT $2";
const PUT_COMMAND: &str = "INSERT INTO flow_command (tenant, number, body) VALUES ($1, $2, $3)";
const CHANGE_COMMAND: &str = "UPDATE flow_command SET body = $3 WHERE tenant = $1 AND number = $2";
const DELETE_COMMAND: &str = "DELETE FROM flow_command WHERE tenant = $1 AND number = $2";
const LIST_SCENARIOS: &str = "SELECT scenario, version, base_us, after_us, present FROM flow_scenario WHERE tenant = $1";
const PUT_SCENARIO: &str = "INSERT INTO flow_scenario (tenant, scenario, version, base_us, after_us, present)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant, scenario) DO UPDATE SET version = excluded.version, base_us = excluded.base_us, after_us = excluded.after_us,
        present = excluded.present";

/// What happened to many persons at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum WaveBody {
    /// They entered or left an audience.
    Moved {
        /// Which.
        audience: String,
        /// Entered rather than left.
        entered: bool,
        /// They belong to the audience's holdout.
        held_out: bool,
        /// When.
        time_us: i64,
    },
    /// They are to enter a scenario; whom its entry asks for was looked up.
    Enter {
        /// Which.
        scenario: String,
        /// Since when.
        time_us: i64,
    },
}

/// Something that happened to many persons at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wave {
    pub(crate) number: u64,
    pub(crate) body: WaveBody,
    pub(crate) persons: RoaringBitmap,
    /// Persons up to this one were dealt with.
    pub(crate) after_person: u32,
}

/// A set of persons in its portable serialisation.
pub(crate) fn bytes_of(persons: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(persons.serialized_size());
    // Writing to memory does not fail.
    let _ = persons.serialize_into(&mut bytes);
    bytes
}

/// The oldest waves.
pub(crate) async fn waves(db: &Db, tenant: &TenantId, limit: i64) -> Result<Vec<Wave>, CampaignError> {
    let rows: Vec<(i64, String, Vec<u8>, i64)> =
        on_db!(db, pool => sqlx::query_as(LIST_WAVES).bind(tenant.as_str()).bind(limit).fetch_all(pool).await)?;
    let corrupt = || CampaignError::Corrupt { what: "a wave" };
    rows.into_iter()
        .map(|(at, body, persons, after_person)| {
            Ok(Wave {
                number: counter(at)?,
                body: serde_json::from_str(&body).map_err(|_| corrupt())?,
                persons: RoaringBitmap::deserialize_from(&*persons).map_err(|_| corrupt())?,
                after_person: number(after_person)?,
            })
        })
        .collect()
}

pub(crate) async fn put_wave(tx: &mut Tx, tenant: &TenantId, wave: &Wave) -> Result<(), CampaignError> {
    let body = json(&wave.body)?;
    on_tx!(tx, conn => sqlx::query(PUT_WAVE).bind(tenant.as_str()).bind(wave.number as i64).bind(body).bind(bytes_of(&wave.persons))
        .bind(i64::from(wave.after_person)).run(conn).await)?;
    Ok(())
}

/// Persons of a wave up to this one were dealt with; None: all were.
pub(crate) async fn move_wave(tx: &mut Tx, tenant: &TenantId, wave: u64, after_person: Option<u32>) -> Result<(), CampaignError> {
    match after_person {
        Some(person) => on_tx!(tx, conn => sqlx::query(MOVE_WAVE).bind(tenant.as_str()).bind(wave as i64).bind(i64::from(person))
            .run(conn).await)?,
        None => on_tx!(tx, conn => sqlx::query(DELETE_WAVE).bind(tenant.as_str()).bind(wave as i64).run(conn).await)?,
    };
    Ok(())
}

/// What a call wants done to runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CommandBody {
    /// Ends runs of a person.
    Exit {
        /// Of which scenario.
        scenario: String,
        /// Whose.
        person: u32,
        /// None: all of them.
        entry_key: Option<String>,
    },
    /// Moves active runs to another version.
    Move {
        /// Of which scenario.
        scenario: String,
        /// From this version.
        from: u32,
        /// To this one.
        to: u32,
        /// Where runs at a step go on.
        steps: BTreeMap<String, String>,
        /// Runs up to this one were dealt with.
        after_run: u64,
        /// Runs behind this one are not meant.
        until_run: u64,
    },
}

/// What a call wants done to runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) number: i64,
    pub(crate) body: CommandBody,
}

/// The oldest commands.
pub(crate) async fn commands(db: &Db, tenant: &TenantId, limit: i64) -> Result<Vec<Command>, CampaignError> {
    let rows: Vec<(i64, String)> =
        on_db!(db, pool => sqlx::query_as(LIST_COMMANDS).bind(tenant.as_str()).bind(limit).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(number, body)| {
            Ok(Command { number, body: serde_json::from_str(&body).map_err(|_| CampaignError::Corrupt { what: "a command" })? })
        })
        .collect()
}

/// Writes a command down.
pub(crate) async fn command(db: &Db, tenant: &TenantId, body: &CommandBody) -> Result<(), CampaignError> {
    let mut tx = db.begin().await?;
    let number = super::next_command(&mut tx, tenant).await?;
    let body = json(body)?;
    on_tx!(tx, conn => sqlx::query(PUT_COMMAND).bind(tenant.as_str()).bind(number).bind(body).run(conn).await)?;
    tx.commit().await?;
    Ok(())
}

/// A command was dealt with in part, and goes on as this; None: it is done.
pub(crate) async fn move_command(tx: &mut Tx, tenant: &TenantId, number: i64, rest: Option<&CommandBody>) -> Result<(), CampaignError> {
    match rest {
        Some(body) => {
            let body = json(body)?;
            on_tx!(tx, conn => sqlx::query(CHANGE_COMMAND).bind(tenant.as_str()).bind(number).bind(body).run(conn).await)?
        }
        None => on_tx!(tx, conn => sqlx::query(DELETE_COMMAND).bind(tenant.as_str()).bind(number).run(conn).await)?,
    };
    Ok(())
}

/// What was done for a scenario as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ScenarioRow {
    pub(crate) scenario: String,
    /// Its schedule is that of this version, which began at `base_us`.
    pub(crate) version: u32,
    pub(crate) base_us: i64,
    /// What was to happen up to then did.
    pub(crate) after_us: i64,
    /// The start for which present members entered.
    pub(crate) present: u32,
}

pub(crate) async fn scenario_rows(db: &Db, tenant: &TenantId) -> Result<BTreeMap<String, ScenarioRow>, CampaignError> {
    let rows: Vec<(String, i64, i64, i64, i64)> =
        on_db!(db, pool => sqlx::query_as(LIST_SCENARIOS).bind(tenant.as_str()).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(scenario, version, base_us, after_us, present)| {
            let row = ScenarioRow { scenario, version: number(version)?, base_us, after_us, present: number(present)? };
            Ok((row.scenario.clone(), row))
        })
        .collect()
}

pub(crate) async fn put_scenario(tx: &mut Tx, tenant: &TenantId, row: &ScenarioRow) -> Result<(), CampaignError> {
    on_tx!(tx, conn => sqlx::query(PUT_SCENARIO).bind(tenant.as_str()).bind(row.scenario.as_str()).bind(i64::from(row.version))
        .bind(row.base_us).bind(row.after_us).bind(i64::from(row.present)).run(conn).await)?;
    Ok(())
}
