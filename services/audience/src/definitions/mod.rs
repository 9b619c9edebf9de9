//! Definitions as the rest of the service reads them: audiences with everything that they refer to put in place.
//!
//! `graph` is everything that a tenant defined, `expand` puts segments and audiences in place, `resolve` the persons of lists and of kinds
//! of identifiers, `change` changes definitions, `zones` knows which days are meant, `numbers` who was
//! merged, `store` has the statements.

pub(crate) mod change;
pub(crate) mod expand;
pub(crate) mod graph;
pub(crate) mod numbers;
#[cfg(test)]
pub(crate) mod on_stores;
mod resolve;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod tests;
mod zones;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;
use roaring::RoaringBitmap;
use segue_model::{Clock, FieldViolation, TenantId};
use segue_proto::query::v1::Condition;
use segue_store::{Db, Tx};
use xxhash_rust::xxh3::Xxh3;

use crate::config::Config;
use crate::error::{AudienceError, Kind};
use crate::peers::Peers;
use expand::Limits;
use graph::{Definition, Graph};

pub(crate) use resolve::SET_BYTES_MAX;

/// Tenants whose audiences are held expanded.
const TENANTS_KNOWN_MAX: usize = 1_000;

/// How the members of an audience come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Kept true at every moment.
    Live,
    /// Of the last evaluation on request.
    Snapshot,
}

/// A condition in which segments and audiences are put in place of what refers to them. Lists and kinds of identifiers are still nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expanded {
    pub(crate) condition: Condition,
    /// Lists that it refers to.
    pub(crate) lists: BTreeSet<String>,
    /// Kinds of identifiers that it asks about.
    pub(crate) identifier_kinds: BTreeSet<String>,
    pub(crate) nodes: u32,
}

/// An audience that is not archived.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) mode: Mode,
    /// Buckets below this number are held out.
    pub(crate) holdout: u32,
    /// IANA; empty: the tenant's.
    pub(crate) time_zone: String,
    pub(crate) expanded: Arc<Expanded>,
    /// Of everything that decides who meets the condition (condition, zone), but for the persons of lists, who holds which identifier,
    /// and the holdout. 16 hexadecimal digits.
    pub(crate) fingerprint: String,
}

/// The audiences of a tenant as of so many changes.
type Known = (u64, Arc<[Kept]>);

/// The definitions of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Definitions {
    pub(crate) config: Arc<Config>,
    pub(crate) db: Db,
    pub(crate) peers: Peers,
    pub(crate) clock: Arc<dyn Clock>,
    changed: Arc<tokio::sync::Notify>,
    known: Arc<Mutex<HashMap<TenantId, Known>>>,
}

impl Definitions {
    pub(crate) fn new(config: Arc<Config>, db: Db, peers: Peers, clock: Arc<dyn Clock>) -> Self {
        Self { config, db, peers, clock, changed: Arc::default(), known: Arc::default() }
    }

    /// Rung when definitions or lists of any tenant were changed through this process; a ring that nobody waits for is kept for the next who
    /// does. Use [`Definitions::changes`] to see whose.
    pub(crate) fn changed(&self) -> Arc<tokio::sync::Notify> {
        self.changed.clone()
    }

    /// Says that something was changed and committed.
    pub(crate) fn ring(&self) {
        self.changed.notify_one();
    }

    /// How often each tenant's definitions and lists were changed so far, by any process.
    pub(crate) async fn changes(&self) -> Result<BTreeMap<TenantId, u64>, AudienceError> {
        store::counters(&self.db).await
    }

    /// Everything that a tenant defined.
    pub(crate) async fn graph(&self, tenant: &TenantId) -> Result<Graph, AudienceError> {
        let mut tx = self.db.read().await?;
        let graph = store::graph(&mut tx, tenant).await?;
        tx.commit().await?;
        Ok(graph)
    }

    /// How large conditions may be.
    pub(crate) fn limits(&self) -> Limits {
        Limits { nodes_max: self.config.condition_nodes_max, depth_max: self.config.condition_depth_max }
    }

    /// All audiences of a tenant that are not archived, by id. One that cannot be expanded any more is left out with a warning.
    pub(crate) async fn kept(&self, tenant: &TenantId) -> Result<Vec<Kept>, AudienceError> {
        let mut tx = self.db.read().await?;
        let changes = store::changes(&mut tx, tenant).await?;
        let known = self.known.lock().get(tenant).filter(|(as_of, _)| *as_of == changes).map(|(_, kept)| kept.clone());
        let kept = match known {
            Some(kept) => kept,
            None => self.keep_all(&mut tx, tenant, changes).await?,
        };
        tx.commit().await?;
        Ok(kept.to_vec())
    }

    /// Expands all audiences as of so many changes.
    async fn keep_all(&self, tx: &mut Tx, tenant: &TenantId, changes: u64) -> Result<Arc<[Kept]>, AudienceError> {
        let graph = store::graph(tx, tenant).await?;
        let mut audiences = Vec::new();
        for ((kind, id), definition) in &graph.definitions {
            if *kind != Kind::Audience || definition.archived {
                continue;
            }
            match self.keep(&graph, id, definition) {
                Ok(audience) => audiences.push(audience),
                Err(faults) => {
                    let error = AudienceError::Invalid(faults);
                    tracing::warn!(%tenant, audience = id, %error, "this audience is left as it is: its condition cannot be evaluated");
                }
            }
        }
        let audiences: Arc<[Kept]> = audiences.into();
        let mut known = self.known.lock();
        if known.len() >= TENANTS_KNOWN_MAX && !known.contains_key(tenant) {
            known.clear();
        }
        known.insert(tenant.clone(), (changes, audiences.clone()));
        Ok(audiences)
    }

    /// One of them.
    pub(crate) async fn kept_one(&self, tenant: &TenantId, id: &str) -> Result<Kept, AudienceError> {
        if let Some(kept) = self.kept(tenant).await?.into_iter().find(|kept| kept.id == id) {
            return Ok(kept);
        }
        // Why not.
        let graph = self.graph(tenant).await?;
        match graph.find(Kind::Audience, id) {
            None => Err(AudienceError::not_found(Kind::Audience, id)),
            Some(definition) if definition.archived => Err(AudienceError::Archived { kind: Kind::Audience, id: id.to_owned() }),
            Some(definition) => self.keep(&graph, id, definition).map_err(AudienceError::Invalid),
        }
    }

    fn keep(&self, graph: &Graph, id: &str, definition: &Definition) -> Result<Kept, Vec<FieldViolation>> {
        let expanded = expand::expand(graph, self.limits(), &definition.condition, "audience.condition", Some((Kind::Audience, id)))?;
        Ok(Kept {
            id: id.to_owned(),
            version: definition.version,
            mode: definition.mode,
            holdout: definition.holdout,
            time_zone: definition.time_zone.clone(),
            fingerprint: fingerprint(&expanded.condition, &definition.time_zone),
            expanded: Arc::new(expanded),
        })
    }

    /// Puts segments and audiences in place. Faults are at paths that begin with `path`; those of what is referred to are at the path of the
    /// reference in `condition`.
    pub(crate) async fn expand(&self, tenant: &TenantId, condition: &Condition, path: &str) -> Result<Expanded, AudienceError> {
        let mut expanded = self.expand_all(tenant, &[(condition, path.to_owned())]).await?;
        expanded.pop().ok_or_else(|| AudienceError::field(path, "required: a condition"))
    }

    /// The same for several conditions, each with its path, over one state of the definitions. All faults are told at once.
    pub(crate) async fn expand_all(&self, tenant: &TenantId, conditions: &[(&Condition, String)]) -> Result<Vec<Expanded>, AudienceError> {
        let refers = conditions.iter().any(|(condition, _)| !graph::references(condition).is_empty());
        let graph = if refers { self.graph(tenant).await? } else { Graph::default() };
        let (mut all, mut faults) = (Vec::with_capacity(conditions.len()), Vec::new());
        for (condition, path) in conditions {
            match expand::expand(&graph, self.limits(), condition, path, None) {
                Ok(expanded) => all.push(expanded),
                Err(found) => faults.extend(found),
            }
            if faults.len() >= expand::FAULTS_MAX {
                break;
            }
        }
        if faults.is_empty() { Ok(all) } else { Err(AudienceError::Invalid(faults)) }
    }

    /// The condition as analytics takes it: lists and identifiers as sets of persons. With `within` it is right about these persons, and
    /// about who they were merged into; about others it need not be.
    pub(crate) async fn resolve(
        &self,
        tenant: &TenantId,
        expanded: &Expanded,
        within: Option<&RoaringBitmap>,
    ) -> Result<Condition, AudienceError> {
        self.resolve_sets(tenant, expanded, within).await
    }

    /// Persons put on or taken off lists since live membership looked, by list, with the revision up to which that is.
    pub(crate) async fn list_changes(&self, tenant: &TenantId) -> Result<Vec<ListChange>, AudienceError> {
        store::list_changes(&self.db, tenant).await
    }
}

/// Forgets the changes of lists up to the revisions given: they have been dealt with in this transaction.
pub(crate) async fn forget_list_changes(tx: &mut Tx, tenant: &TenantId, until: &[(String, u64)]) -> Result<(), AudienceError> {
    for (list, revision) in until {
        store::forget_list_changes(tx, tenant, list, *revision).await?;
    }
    Ok(())
}

fn fingerprint(condition: &Condition, time_zone: &str) -> String {
    let mut hasher = Xxh3::new();
    hasher.update(time_zone.as_bytes());
    hasher.update(&[0xff]); // never part of UTF-8, so zone and condition cannot run together
    hasher.update(&condition.encode_to_vec());
    format!("{:016x}", hasher.digest())
}

/// Persons put on or taken off a list.
#[derive(Debug, Clone)]
pub(crate) struct ListChange {
    pub(crate) list: String,
    pub(crate) revision: u64,
    pub(crate) persons: RoaringBitmap,
}
