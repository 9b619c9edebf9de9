//! SQL of definitions.
//!
//! Every change of a tenant's definitions or lists begins with [`begin_change`], whose row lock makes them wait for each other on PostgreSQL
//! (SQLite has one writer anyway). What is read after it in the same transaction is therefore what others committed before.

use std::collections::BTreeMap;

use prost::Message;
use segue_model::TenantId;
use segue_proto::query::v1::Condition;
use segue_store::{Db, Run, Tx, on_db, on_tx};

use super::change::{Content, Stored, Version};
use super::graph::{Definition, Graph};
use super::{ListChange, Mode};
use crate::error::{AudienceError, Kind};
use crate::lists::chunks;
use crate::store::{counter, number};

const BUMP: &str = "INSERT INTO definition_counter (tenant, changes) VALUES ($1, 1)
    ON CONFLICT (tenant) DO UPDATE SET changes = definition_counter.changes + 1";
const COUNTERS: &str = "SELECT tenant, changes FROM definition_counter";
const COUNTER: &str = "SELECT changes FROM definition_counter WHERE tenant = $1";
const DEFINITIONS: &str = "SELECT kind, id, mode, version, archived, condition, holdout, time_zone FROM definition WHERE tenant = $1";
const LISTS: &str = "SELECT id, archived FROM list WHERE tenant = $1";
const LIST_CHANGES: &str = "SELECT list, revision, persons FROM list_change WHERE tenant = $1 ORDER BY list, revision";
const FORGET_LIST_CHANGES: &str = "DELETE FROM list_change WHERE tenant = $1 AND list = $2 AND revision <= $3";

const FIND: &str = "SELECT id, name, description, mode, version, condition, holdout, time_zone, revision, archived, created_us, updated_us
    FROM definition WHERE tenant = $1 AND kind = $2 AND id = $3";
const PAGE: &str = "SELECT id, name, description, mode, version, condition, holdout, time_zone, revision, archived, created_us, updated_us
    FROM definition WHERE tenant = $1 AND kind = $2 AND id > $3 AND ($4 OR NOT archived) ORDER BY id LIMIT $5";
const COUNT: &str = "SELECT count(*) FROM definition WHERE tenant = $1 AND kind = $2 AND NOT archived";
const PUT: &str = "INSERT INTO definition
        (tenant, kind, id, name, description, mode, version, condition, holdout, time_zone, revision, archived, created_us, updated_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (tenant, kind, id) DO UPDATE SET name = excluded.name, description = excluded.description, mode = excluded.mode,
        version = excluded.version, condition = excluded.condition, holdout = excluded.holdout, time_zone = excluded.time_zone,
        revision = excluded.revision, archived = excluded.archived, updated_us = excluded.updated_us";
const ADD_VERSION: &str = "INSERT INTO definition_version (tenant, kind, id, version, condition, holdout, time_zone, created_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const VERSIONS: &str = "SELECT version, condition, holdout, time_zone, created_us FROM definition_version
    WHERE tenant = $1 AND kind = $2 AND id = $3 AND version < $4 ORDER BY version DESC LIMIT $5";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    description: String,
    mode: String,
    version: i64,
    condition: Vec<u8>,
    holdout: i64,
    time_zone: String,
    revision: i64,
    archived: bool,
    created_us: i64,
    updated_us: i64,
}

/// Begins a change of a tenant's definitions or lists: nobody else changes them until the transaction ends.
pub(crate) async fn begin_change(db: &Db, tenant: &TenantId) -> Result<Tx, AudienceError> {
    let mut tx = db.begin().await?;
    on_tx!(tx, conn => sqlx::query(BUMP).bind(tenant.as_str()).run(conn).await)?;
    Ok(tx)
}

/// A segment or audience.
pub(super) async fn find(tx: &mut Tx, tenant: &TenantId, kind: Kind, id: &str) -> Result<Option<Stored>, AudienceError> {
    let row: Option<Row> =
        on_tx!(tx, conn => sqlx::query_as(FIND).bind(tenant.as_str()).bind(name_of(kind)).bind(id).fetch_optional(conn).await)?;
    row.map(|row| stored(kind, row)).transpose()
}

/// Segments or audiences with an id above `after`, by id.
pub(super) async fn page(
    db: &Db,
    tenant: &TenantId,
    kind: Kind,
    after: &str,
    with_archived: bool,
    rows_max: usize,
) -> Result<Vec<Stored>, AudienceError> {
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(PAGE)
        .bind(tenant.as_str()).bind(name_of(kind)).bind(after).bind(with_archived).bind(rows_max as i64).fetch_all(pool).await)?;
    rows.into_iter().map(|row| stored(kind, row)).collect()
}

/// How many are not archived.
pub(super) async fn count(tx: &mut Tx, tenant: &TenantId, kind: Kind) -> Result<u64, AudienceError> {
    let count: i64 = on_tx!(tx, conn => sqlx::query_scalar(COUNT).bind(tenant.as_str()).bind(name_of(kind)).fetch_one(conn).await)?;
    counter(count)
}

/// Writes a segment or audience.
pub(super) async fn put(tx: &mut Tx, tenant: &TenantId, stored: &Stored) -> Result<(), AudienceError> {
    let Stored { kind, id, content, version, revision, archived, created_us, updated_us } = stored;
    let revision = i64::try_from(*revision).map_err(|_| AudienceError::Corrupt { what: "revision" })?;
    let condition = content.condition.encode_to_vec();
    on_tx!(tx, conn => sqlx::query(PUT)
        .bind(tenant.as_str()).bind(name_of(*kind)).bind(id).bind(&content.name).bind(&content.description).bind(mode_name(content.mode))
        .bind(i64::from(*version)).bind(&condition).bind(i64::from(content.holdout)).bind(&content.time_zone)
        .bind(revision).bind(*archived).bind(*created_us).bind(*updated_us).run(conn).await)?;
    Ok(())
}

/// Keeps the present version of a segment or audience for later.
pub(super) async fn add_version(tx: &mut Tx, tenant: &TenantId, stored: &Stored) -> Result<(), AudienceError> {
    let Stored { kind, id, content, version, updated_us, .. } = stored;
    let condition = content.condition.encode_to_vec();
    on_tx!(tx, conn => sqlx::query(ADD_VERSION)
        .bind(tenant.as_str()).bind(name_of(*kind)).bind(id).bind(i64::from(*version)).bind(&condition)
        .bind(i64::from(content.holdout)).bind(&content.time_zone).bind(*updated_us).run(conn).await)?;
    Ok(())
}

/// Versions below `below`, the newest first.
pub(super) async fn versions(
    db: &Db,
    tenant: &TenantId,
    kind: Kind,
    id: &str,
    below: u32,
    rows_max: usize,
) -> Result<Vec<Version>, AudienceError> {
    type Row = (i64, Vec<u8>, i64, String, i64);
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(VERSIONS).bind(tenant.as_str()).bind(name_of(kind)).bind(id)
        .bind(i64::from(below)).bind(rows_max as i64).fetch_all(pool).await)?;
    let version = |(version, condition, holdout, time_zone, created_us): Row| {
        Ok(Version { version: number(version)?, condition: condition_of(&condition)?, holdout: number(holdout)?, time_zone, created_us })
    };
    rows.into_iter().map(version).collect()
}

fn stored(kind: Kind, row: Row) -> Result<Stored, AudienceError> {
    let content = Content {
        name: row.name,
        description: row.description,
        condition: condition_of(&row.condition)?,
        mode: mode_of(&row.mode)?,
        holdout: number(row.holdout)?,
        time_zone: row.time_zone,
    };
    Ok(Stored {
        kind,
        id: row.id,
        content,
        version: number(row.version)?,
        revision: counter(row.revision)?,
        archived: row.archived,
        created_us: row.created_us,
        updated_us: row.updated_us,
    })
}

/// How often each tenant's definitions were changed.
pub(super) async fn counters(db: &Db) -> Result<BTreeMap<TenantId, u64>, AudienceError> {
    let rows: Vec<(String, i64)> = on_db!(db, pool => sqlx::query_as(COUNTERS).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(tenant, changes)| Ok((tenant.parse().map_err(|_| AudienceError::Corrupt { what: "tenant" })?, counter(changes)?)))
        .collect()
}

/// How often a tenant's definitions were changed, as the transaction sees it.
pub(super) async fn changes(tx: &mut Tx, tenant: &TenantId) -> Result<u64, AudienceError> {
    let changes: Option<i64> = on_tx!(tx, conn => sqlx::query_scalar(COUNTER).bind(tenant.as_str()).fetch_optional(conn).await)?;
    counter(changes.unwrap_or_default())
}

/// Everything that a tenant defined, as the transaction sees it.
pub(crate) async fn graph(tx: &mut Tx, tenant: &TenantId) -> Result<Graph, AudienceError> {
    type Row = (String, String, String, i64, bool, Vec<u8>, i64, String);
    let rows: Vec<Row> = on_tx!(tx, conn => sqlx::query_as(DEFINITIONS).bind(tenant.as_str()).fetch_all(conn).await)?;
    let mut graph = Graph::default();
    for (kind, id, mode, version, archived, condition, holdout, time_zone) in rows {
        let condition = condition_of(&condition)?;
        let definition =
            Definition { archived, version: number(version)?, condition, mode: mode_of(&mode)?, holdout: number(holdout)?, time_zone };
        graph.definitions.insert((kind_of(&kind)?, id), definition);
    }
    let lists: Vec<(String, bool)> = on_tx!(tx, conn => sqlx::query_as(LISTS).bind(tenant.as_str()).fetch_all(conn).await)?;
    graph.lists = lists.into_iter().collect();
    Ok(graph)
}

/// Changes of lists, one per list.
pub(super) async fn list_changes(db: &Db, tenant: &TenantId) -> Result<Vec<ListChange>, AudienceError> {
    let rows: Vec<(String, i64, Vec<u8>)> = on_db!(db, pool => sqlx::query_as(LIST_CHANGES).bind(tenant.as_str()).fetch_all(pool).await)?;
    let mut changes: Vec<ListChange> = Vec::new();
    for (list, revision, persons) in rows {
        let (revision, persons) = (counter(revision)?, chunks::decode(&persons)?);
        match changes.last_mut() {
            Some(last) if last.list == list => {
                last.revision = revision;
                last.persons |= persons;
            }
            Some(_) | None => changes.push(ListChange { list, revision, persons }),
        }
    }
    Ok(changes)
}

/// Forgets changes up to a revision.
pub(super) async fn forget_list_changes(tx: &mut Tx, tenant: &TenantId, list: &str, revision: u64) -> Result<(), AudienceError> {
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    on_tx!(tx, conn => sqlx::query(FORGET_LIST_CHANGES).bind(tenant.as_str()).bind(list).bind(revision).run(conn).await)?;
    Ok(())
}

/// A condition as stored.
fn condition_of(bytes: &[u8]) -> Result<Condition, AudienceError> {
    Condition::decode(bytes).map_err(|_| AudienceError::Corrupt { what: "condition" })
}

fn mode_of(name: &str) -> Result<Mode, AudienceError> {
    match name {
        "live" => Ok(Mode::Live),
        "snapshot" => Ok(Mode::Snapshot),
        _ => Err(AudienceError::Corrupt { what: "mode" }),
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Snapshot => "snapshot",
    }
}

/// As stored; only segments and audiences are.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Segment => "segment",
        Kind::Audience => "audience",
        Kind::List | Kind::Sync | Kind::Template | Kind::Person => "",
    }
}

fn kind_of(name: &str) -> Result<Kind, AudienceError> {
    match name {
        "segment" => Ok(Kind::Segment),
        "audience" => Ok(Kind::Audience),
        _ => Err(AudienceError::Corrupt { what: "kind" }),
    }
}
