//! SQL of scenarios and their versions.
//!
//! Every change of a tenant's scenarios begins with [`begin_change`], whose row lock makes them wait for each other on PostgreSQL (SQLite
//! has one writer anyway). What is read after it in the same transaction is therefore what others committed before.

use std::collections::BTreeMap;

use prost::Message;
use segue_model::TenantId;
use segue_proto::campaign::v1::{ScenarioDefinition, ScenarioState};
use segue_runtime::{fields, page};
use segue_store::{Db, Run, Tx, on_db, on_tx};

use super::content::Content;
use super::named::named;
use super::{Started, Used};
use crate::error::{CampaignError, Kind};
use crate::store::{counter, json, number};

/// Rows that are read at once: definitions may be large, and a page ends where it is full.
const ROWS_AT_ONCE: usize = 32;

const LOCK: &str = "INSERT INTO scenario_counter (tenant, changes) VALUES ($1, 0)
    ON CONFLICT (tenant) DO UPDATE SET changes = scenario_counter.changes";
const BUMP: &str = "UPDATE scenario_counter SET changes = changes + 1 WHERE tenant = $1";
const CHANGES: &str = "SELECT tenant, changes FROM scenario_counter WHERE changes > 0";

const FIND: &str = "SELECT s.id, s.name, s.description, s.version, v.definition, s.state, s.started_version, s.starts, s.enters_present,
        s.started_us, s.revision, s.created_us, s.updated_us
    FROM scenario s JOIN scenario_version v ON v.tenant = s.tenant AND v.scenario = s.id AND v.version = s.version
    WHERE s.tenant = $1 AND s.id = $2";
const PAGE: &str = "SELECT s.id, s.name, s.description, s.version, v.definition, s.state, s.started_version, s.starts, s.enters_present,
        s.started_us, s.revision, s.created_us, s.updated_us
    FROM scenario s JOIN scenario_version v ON v.tenant = s.tenant AND v.scenario = s.id AND v.version = s.version
    WHERE s.tenant = $1 AND s.id > $2 AND ($3 OR s.state <> 'archived') ORDER BY s.id LIMIT $4";
const COUNT: &str = "SELECT count(*) FROM scenario WHERE tenant = $1 AND state <> 'archived'";
const PUT: &str = "INSERT INTO scenario (tenant, id, name, description, version, state, started_version, starts, enters_present,
        started_us, revision, created_us, updated_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, description = excluded.description, version = excluded.version,
        state = excluded.state, started_version = excluded.started_version, starts = excluded.starts,
        enters_present = excluded.enters_present, started_us = excluded.started_us, revision = excluded.revision,
        updated_us = excluded.updated_us";

const ADD_VERSION: &str = "INSERT INTO scenario_version (tenant, scenario, version, definition, started, created_us)
    VALUES ($1, $2, $3, $4, false, $5)";
const MARK_STARTED: &str = "UPDATE scenario_version SET started = true WHERE tenant = $1 AND scenario = $2 AND version = $3";
const VERSION: &str = "SELECT definition FROM scenario_version WHERE tenant = $1 AND scenario = $2 AND version = $3";
const VERSIONS: &str = "SELECT version, definition, created_us FROM scenario_version
    WHERE tenant = $1 AND scenario = $2 AND version < $3 ORDER BY version DESC LIMIT $4";
// Of what has ended only that of which runs are kept: it would grow for ever.
const STARTED: &str = "SELECT s.id, s.name, s.state, s.started_version, s.starts, s.enters_present, s.started_us FROM scenario s
    WHERE s.tenant = $1 AND s.started_version > 0 AND (s.state IN ('running', 'paused')
        OR EXISTS (SELECT 1 FROM flow_run r WHERE r.tenant = $1 AND r.scenario = s.id)) ORDER BY s.id";
const STARTED_VERSIONS: &str = "SELECT v.scenario, v.version, v.definition FROM scenario_version v
    JOIN scenario s ON s.tenant = v.tenant AND s.id = v.scenario
    WHERE v.tenant = $1 AND v.started AND (s.state IN ('running', 'paused')
        OR EXISTS (SELECT 1 FROM flow_run r WHERE r.tenant = $1 AND r.scenario = v.scenario))";

const ADD_USES_SQLITE: &str = "INSERT INTO scenario_use (tenant, kind, name, scenario, version)
    SELECT $1, value ->> 0, value ->> 1, $2, $3 FROM json_each($4) WHERE true ON CONFLICT DO NOTHING";
const ADD_USES_POSTGRES: &str = "INSERT INTO scenario_use (tenant, kind, name, scenario, version)
    SELECT $1, value ->> 0, value ->> 1, $2, $3 FROM json_array_elements($4::json) ON CONFLICT DO NOTHING";
const USERS: &str = "SELECT DISTINCT s.id FROM scenario_use u
        JOIN scenario s ON s.tenant = u.tenant AND s.id = u.scenario
        JOIN scenario_version v ON v.tenant = u.tenant AND v.scenario = u.scenario AND v.version = u.version
    WHERE u.tenant = $1 AND u.kind = $2 AND u.name = $3 AND v.started AND s.state IN ('running', 'paused') ORDER BY s.id";

/// Where a scenario is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Draft,
    Running,
    Paused,
    Ended,
    Archived,
}

impl State {
    /// As stored and shown.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::Running => "running",
            State::Paused => "paused",
            State::Ended => "ended",
            State::Archived => "archived",
        }
    }

    pub(super) fn of(name: &str) -> Result<Self, CampaignError> {
        match name {
            "draft" => Ok(State::Draft),
            "running" => Ok(State::Running),
            "paused" => Ok(State::Paused),
            "ended" => Ok(State::Ended),
            "archived" => Ok(State::Archived),
            _ => Err(CampaignError::Corrupt { what: "state of a scenario" }),
        }
    }

    pub(super) fn to_proto(self) -> ScenarioState {
        match self {
            State::Draft => ScenarioState::Draft,
            State::Running => ScenarioState::Running,
            State::Paused => ScenarioState::Paused,
            State::Ended => ScenarioState::Ended,
            State::Archived => ScenarioState::Archived,
        }
    }
}

/// A scenario as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: String,
    /// With the definition of the newest version.
    pub(super) content: Content,
    pub(super) version: u32,
    pub(super) state: State,
    /// 0: never started.
    pub(super) started_version: u32,
    pub(super) starts: u32,
    pub(super) enters_present: bool,
    pub(super) started_us: i64,
    /// Counts changes of any kind.
    pub(super) revision: u64,
    pub(super) created_us: i64,
    pub(super) updated_us: i64,
}

impl Stored {
    /// Stands for this state.
    pub(super) fn etag(&self) -> String {
        fields::etag("scenario", &self.id, self.revision, self.updated_us)
    }

    /// About what it takes up in a message.
    pub(super) fn bytes(&self) -> usize {
        self.content.definition.encoded_len() + self.content.description.len() + self.content.name.len() + 256
    }
}

/// A version as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) version: u32,
    pub(super) definition: ScenarioDefinition,
    pub(super) created_us: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    description: String,
    version: i64,
    definition: Vec<u8>,
    state: String,
    started_version: i64,
    starts: i64,
    enters_present: bool,
    started_us: i64,
    revision: i64,
    created_us: i64,
    updated_us: i64,
}

/// Begins a change of a tenant's scenarios: nobody else changes them until the transaction ends.
pub(super) async fn begin_change(db: &Db, tenant: &TenantId) -> Result<Tx, CampaignError> {
    let mut tx = db.begin().await?;
    on_tx!(tx, conn => sqlx::query(LOCK).bind(tenant.as_str()).run(conn).await)?;
    Ok(tx)
}

/// The change is one that the worker has to see.
pub(super) async fn bump(tx: &mut Tx, tenant: &TenantId) -> Result<(), CampaignError> {
    on_tx!(tx, conn => sqlx::query(BUMP).bind(tenant.as_str()).run(conn).await)?;
    Ok(())
}

/// Changes of a tenant's scenarios so far: grows with each, so that a worker sees whether to load again. Of all tenants that have any.
pub(crate) async fn changes(db: &Db) -> Result<Vec<(TenantId, i64)>, CampaignError> {
    let rows: Vec<(String, i64)> = on_db!(db, pool => sqlx::query_as(CHANGES).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(tenant, changes)| Ok((tenant.parse().map_err(|_| CampaignError::Corrupt { what: "tenant" })?, changes)))
        .collect()
}

/// A scenario, as the transaction sees it.
pub(super) async fn find_in(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Option<Stored>, CampaignError> {
    let row: Option<Row> = on_tx!(tx, conn => sqlx::query_as(FIND).bind(tenant.as_str()).bind(id).fetch_optional(conn).await)?;
    row.map(stored).transpose()
}

/// A scenario that there has to be.
pub(super) async fn get(db: &Db, tenant: &TenantId, id: &str) -> Result<Stored, CampaignError> {
    let not_found = || CampaignError::not_found(Kind::Scenario, id);
    // What is no id may hold what a database refuses.
    if !fields::is_id(id) {
        return Err(not_found());
    }
    let row: Option<Row> = on_db!(db, pool => sqlx::query_as(FIND).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?;
    stored(row.ok_or_else(not_found)?)
}

/// Scenarios with an id above `after`, by id: one more than `size` if there are more, fewer where they fill a page.
pub(super) async fn page(db: &Db, tenant: &TenantId, after: &str, with_archived: bool, size: usize) -> Result<Vec<Stored>, CampaignError> {
    let mut found: Vec<Stored> = Vec::new();
    let mut bytes = 0;
    while found.len() <= size && bytes <= page::BYTES_MAX {
        let after = found.last().map_or(after, |last| last.id.as_str()).to_owned();
        let rows_max = ROWS_AT_ONCE.min(size + 1 - found.len());
        let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(PAGE)
            .bind(tenant.as_str()).bind(&after).bind(with_archived).bind(rows_max as i64).fetch_all(pool).await)?;
        let is_end = rows.len() < rows_max;
        for row in rows {
            let row = stored(row)?;
            bytes += row.bytes();
            found.push(row);
        }
        if is_end {
            break;
        }
    }
    Ok(found)
}

/// How many are not archived.
pub(super) async fn count(tx: &mut Tx, tenant: &TenantId) -> Result<u64, CampaignError> {
    let count: i64 = on_tx!(tx, conn => sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(conn).await)?;
    counter(count)
}

/// Writes a scenario, but for its versions.
pub(super) async fn put(tx: &mut Tx, tenant: &TenantId, stored: &Stored) -> Result<(), CampaignError> {
    let revision = i64::try_from(stored.revision).map_err(|_| CampaignError::Corrupt { what: "revision" })?;
    on_tx!(tx, conn => sqlx::query(PUT)
        .bind(tenant.as_str()).bind(&stored.id).bind(&stored.content.name).bind(&stored.content.description)
        .bind(i64::from(stored.version)).bind(stored.state.name()).bind(i64::from(stored.started_version))
        .bind(i64::from(stored.starts)).bind(stored.enters_present).bind(stored.started_us)
        .bind(revision).bind(stored.created_us).bind(stored.updated_us).run(conn).await)?;
    Ok(())
}

/// Writes the newest version of a scenario, with what it sends with.
pub(super) async fn add_version(tx: &mut Tx, tenant: &TenantId, stored: &Stored) -> Result<(), CampaignError> {
    let version = i64::from(stored.version);
    let definition = stored.content.definition.encode_to_vec();
    on_tx!(tx, conn => sqlx::query(ADD_VERSION)
        .bind(tenant.as_str()).bind(&stored.id).bind(version).bind(&definition).bind(stored.updated_us).run(conn).await)?;
    let mut uses: Vec<(&str, &str)> = Vec::new();
    for message in &named(&stored.content.definition).messages {
        uses.push((Used::Template(message.template).kind(), message.template));
        uses.push((Used::Channel(message.channel).kind(), message.channel));
    }
    // What is no id names nothing, and may hold what a database refuses.
    uses.retain(|(_, name)| fields::is_id(name));
    if !uses.is_empty() {
        let (sql, uses) = (tx.sql(ADD_USES_SQLITE, ADD_USES_POSTGRES), json(&uses)?);
        on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(&stored.id).bind(version).bind(&uses).run(conn).await)?;
    }
    Ok(())
}

/// Persons can enter a version from now on.
pub(super) async fn mark_started(tx: &mut Tx, tenant: &TenantId, id: &str, version: u32) -> Result<(), CampaignError> {
    let version = i64::from(version);
    on_tx!(tx, conn => sqlx::query(MARK_STARTED).bind(tenant.as_str()).bind(id).bind(version).run(conn).await)?;
    Ok(())
}

/// The definition of a version that there has to be.
pub(super) async fn definition_in(tx: &mut Tx, tenant: &TenantId, id: &str, version: u32) -> Result<ScenarioDefinition, CampaignError> {
    let version = i64::from(version);
    let bytes: Option<Vec<u8>> =
        on_tx!(tx, conn => sqlx::query_scalar(VERSION).bind(tenant.as_str()).bind(id).bind(version).fetch_optional(conn).await)?;
    definition(&bytes.ok_or(CampaignError::Corrupt { what: "version of a scenario" })?)
}

/// Versions below `below`, the newest first: one more than `size` if there are more, fewer where they fill a page.
pub(super) async fn versions(db: &Db, tenant: &TenantId, id: &str, below: u32, size: usize) -> Result<Vec<Version>, CampaignError> {
    let mut found: Vec<Version> = Vec::new();
    let mut bytes = 0;
    while found.len() <= size && bytes <= page::BYTES_MAX {
        let below = i64::from(found.last().map_or(below, |last| last.version));
        let rows_max = ROWS_AT_ONCE.min(size + 1 - found.len());
        let rows: Vec<(i64, Vec<u8>, i64)> = on_db!(db, pool => sqlx::query_as(VERSIONS)
            .bind(tenant.as_str()).bind(id).bind(below).bind(rows_max as i64).fetch_all(pool).await)?;
        let is_end = rows.len() < rows_max;
        for (version, encoded, created_us) in rows {
            bytes += encoded.len();
            found.push(Version { version: number(version)?, definition: definition(&encoded)?, created_us });
        }
        if is_end {
            break;
        }
    }
    Ok(found)
}

/// All scenarios of a tenant that were ever started. Archived ones are ended: their runs may still have to be, and their goals count on.
pub(crate) async fn started(db: &Db, tenant: &TenantId) -> Result<Vec<Started>, CampaignError> {
    type Row = (String, String, String, i64, i64, bool, i64);
    // In one transaction, so that the version that persons enter is among the versions.
    let mut tx = db.read().await?;
    let rows: Vec<Row> = on_tx!(tx, conn => sqlx::query_as(STARTED).bind(tenant.as_str()).fetch_all(conn).await)?;
    let versions: Vec<(String, i64, Vec<u8>)> =
        on_tx!(tx, conn => sqlx::query_as(STARTED_VERSIONS).bind(tenant.as_str()).fetch_all(conn).await)?;
    tx.commit().await?;
    let mut by_scenario: BTreeMap<String, BTreeMap<u32, ScenarioDefinition>> = BTreeMap::new();
    for (scenario, version, encoded) in versions {
        by_scenario.entry(scenario).or_default().insert(number(version)?, definition(&encoded)?);
    }
    let started = |(id, name, state, version, starts, enter_present_members, started_us): Row| {
        let (state, version) = (State::of(&state)?, number(version)?);
        let versions = by_scenario.remove(&id).unwrap_or_default();
        if !versions.contains_key(&version) {
            return Err(CampaignError::Corrupt { what: "version of a scenario" });
        }
        Ok(Started {
            id,
            name,
            version,
            versions,
            paused: state == State::Paused,
            ended: matches!(state, State::Ended | State::Archived),
            started_us,
            starts: number(starts)?,
            enter_present_members,
        })
    };
    rows.into_iter().map(started).collect()
}

/// Which running or paused scenarios use a template or channel, as `scenario a`: in a version that persons can be on.
pub(crate) async fn users_of(db: &Db, tenant: &TenantId, what: Used<'_>) -> Result<Vec<String>, CampaignError> {
    let (kind, name) = (what.kind(), what.name());
    if !fields::is_id(name) {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = on_db!(db, pool => sqlx::query_scalar(USERS).bind(tenant.as_str()).bind(kind).bind(name).fetch_all(pool).await)?;
    Ok(ids.into_iter().map(|id| format!("{} {id}", Kind::Scenario)).collect())
}

fn stored(row: Row) -> Result<Stored, CampaignError> {
    let definition = definition(&row.definition)?;
    Ok(Stored {
        id: row.id,
        content: Content { name: row.name, description: row.description, definition },
        version: number(row.version)?,
        state: State::of(&row.state)?,
        started_version: number(row.started_version)?,
        starts: number(row.starts)?,
        enters_present: row.enters_present,
        started_us: row.started_us,
        revision: counter(row.revision)?,
        created_us: row.created_us,
        updated_us: row.updated_us,
    })
}

fn definition(bytes: &[u8]) -> Result<ScenarioDefinition, CampaignError> {
    ScenarioDefinition::decode(bytes).map_err(|_| CampaignError::Corrupt { what: "definition of a scenario" })
}
