//! SQL of definitions as they are read: the graph, counters, and changes of lists.

use std::collections::BTreeMap;

use prost::Message;
use segue_model::TenantId;
use segue_proto::query::v1::Condition;
use segue_store::{Db, Run, Tx, on_db, on_tx};

use super::graph::{Definition, Graph};
use super::{ListChange, Mode};
use crate::error::{AudienceError, Kind};
use crate::lists::chunks;
use crate::store::{counter, number};

const COUNTERS: &str = "SELECT tenant, changes FROM definition_counter";
const DEFINITIONS: &str = "SELECT kind, id, mode, version, archived, condition, holdout, time_zone FROM definition WHERE tenant = $1";
const LISTS: &str = "SELECT id, archived FROM list WHERE tenant = $1";
const LIST_CHANGES: &str = "SELECT list, revision, persons FROM list_change WHERE tenant = $1 ORDER BY list, revision";
const FORGET_LIST_CHANGES: &str = "DELETE FROM list_change WHERE tenant = $1 AND list = $2 AND revision <= $3";

/// How often each tenant's definitions were changed.
pub(super) async fn counters(db: &Db) -> Result<BTreeMap<TenantId, u64>, AudienceError> {
    let rows: Vec<(String, i64)> = on_db!(db, pool => sqlx::query_as(COUNTERS).fetch_all(pool).await)?;
    rows.into_iter()
        .map(|(tenant, changes)| Ok((tenant.parse().map_err(|_| AudienceError::Corrupt { what: "tenant" })?, counter(changes)?)))
        .collect()
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
pub(crate) fn condition_of(bytes: &[u8]) -> Result<Condition, AudienceError> {
    Condition::decode(bytes).map_err(|_| AudienceError::Corrupt { what: "condition" })
}

pub(crate) fn mode_of(name: &str) -> Result<Mode, AudienceError> {
    match name {
        "live" => Ok(Mode::Live),
        "snapshot" => Ok(Mode::Snapshot),
        _ => Err(AudienceError::Corrupt { what: "mode" }),
    }
}

pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Snapshot => "snapshot",
    }
}

fn kind_of(name: &str) -> Result<Kind, AudienceError> {
    match name {
        "segment" => Ok(Kind::Segment),
        "audience" => Ok(Kind::Audience),
        _ => Err(AudienceError::Corrupt { what: "kind" }),
    }
}
