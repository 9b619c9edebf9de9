//! Definitions as the rest of the service reads them: audiences with everything that they refer to put in place.

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use segue_model::{Clock, TenantId};
use segue_proto::query::v1::Condition;
use segue_store::Db;

use crate::config::Config;
use crate::error::AudienceError;
use crate::peers::Peers;

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

/// The definitions of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Definitions {
    pub(crate) config: Arc<Config>,
    pub(crate) db: Db,
    pub(crate) peers: Peers,
    pub(crate) clock: Arc<dyn Clock>,
    changed: Arc<tokio::sync::Notify>,
}

impl Definitions {
    pub(crate) fn new(config: Arc<Config>, db: Db, peers: Peers, clock: Arc<dyn Clock>) -> Self {
        Self { config, db, peers, clock, changed: Arc::default() }
    }

    /// Rung when definitions or lists of any tenant were changed through this process. Use [`Definitions::changes`] to see whose.
    pub(crate) fn changed(&self) -> Arc<tokio::sync::Notify> {
        self.changed.clone()
    }

    /// How often each tenant's definitions and lists were changed so far, by any process.
    pub(crate) async fn changes(&self) -> Result<std::collections::BTreeMap<TenantId, u64>, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// All audiences of a tenant that are not archived, by id. One that cannot be expanded any more is left out with a warning.
    pub(crate) async fn kept(&self, _tenant: &TenantId) -> Result<Vec<Kept>, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// One of them.
    pub(crate) async fn kept_one(&self, _tenant: &TenantId, _id: &str) -> Result<Kept, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// Puts segments and audiences in place. Faults are at paths that begin with `path`.
    pub(crate) async fn expand(&self, _tenant: &TenantId, _condition: &Condition, _path: &str) -> Result<Expanded, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// The condition as analytics takes it: lists and identifiers as sets of persons; with `within`, of these persons only.
    pub(crate) async fn resolve(
        &self,
        _tenant: &TenantId,
        _expanded: &Expanded,
        _within: Option<&RoaringBitmap>,
    ) -> Result<Condition, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// Persons put on or taken off lists since live membership looked, by list, with the revision up to which that is.
    pub(crate) async fn list_changes(&self, _tenant: &TenantId) -> Result<Vec<ListChange>, AudienceError> {
        Err(AudienceError::Stopping)
    }

    /// Forgets changes of lists that live membership has dealt with, in its transaction.
    pub(crate) async fn forget_list_changes(
        &self,
        _tx: &mut segue_store::Tx,
        _tenant: &TenantId,
        _marks: &[(String, u64)],
    ) -> Result<(), AudienceError> {
        Err(AudienceError::Stopping)
    }
}

/// Persons put on or taken off a list.
#[derive(Debug, Clone)]
pub(crate) struct ListChange {
    pub(crate) list: String,
    pub(crate) revision: u64,
    pub(crate) persons: RoaringBitmap,
}
