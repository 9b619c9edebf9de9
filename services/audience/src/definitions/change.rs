//! Changing segments and audiences. Each change holds the lock of the tenant's definitions, so that what is found right about the whole (no
//! cycles, nothing archived in use, nothing too large) is still right when it is committed.

use segue_model::{FieldViolation, TenantId};
use segue_proto::query::v1::Condition;
use segue_runtime::{Tenant, fields};
use segue_store::Tx;

use super::expand::expand;
use super::graph::{Definition, Graph};
use super::{Definitions, Mode, store, zones};
use crate::error::{AudienceError, Kind};

/// What somebody wrote.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) condition: Condition,
    /// Of an audience.
    pub(crate) mode: Mode,
    /// Of an audience.
    pub(crate) holdout: u32,
    /// Of an audience.
    pub(crate) time_zone: String,
}

impl Content {
    /// Whether the other one is another version: another condition, or other persons who meet it.
    fn is_other_version(&self, other: &Content) -> bool {
        self.condition != other.condition || self.holdout != other.holdout || self.time_zone != other.time_zone
    }
}

/// A segment or audience as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) content: Content,
    pub(crate) version: u32,
    /// Counts changes of any kind.
    pub(crate) revision: u64,
    pub(crate) archived: bool,
    pub(crate) created_us: i64,
    pub(crate) updated_us: i64,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// It is to be committed.
    Changed(T),
    /// Nothing was to be changed.
    Same(T),
}

/// A version as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Version {
    pub(crate) version: u32,
    pub(crate) condition: Condition,
    pub(crate) holdout: u32,
    pub(crate) time_zone: String,
    pub(crate) created_us: i64,
}

impl Stored {
    /// Stands for this state.
    pub(crate) fn etag(&self) -> String {
        fields::etag(&self.kind.to_string(), &self.id, self.revision, self.updated_us)
    }

    fn definition(&self) -> Definition {
        let Content { condition, mode, holdout, time_zone, .. } = self.content.clone();
        Definition { archived: self.archived, version: self.version, condition, mode, holdout, time_zone }
    }

    fn check_etag(&self, etag: &str) -> Result<(), AudienceError> {
        if etag.is_empty() || etag == self.etag() {
            return Ok(());
        }
        Err(AudienceError::EtagMismatch { kind: self.kind, id: self.id.clone() })
    }
}

impl Definitions {
    /// A segment or audience.
    pub(crate) async fn find(&self, tenant: &TenantId, kind: Kind, id: &str) -> Result<Option<Stored>, AudienceError> {
        if !fields::is_id(id) {
            return Ok(None);
        }
        let mut tx = self.db.read().await?;
        let found = store::find(&mut tx, tenant, kind, id).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// A segment or audience that there has to be.
    pub(crate) async fn get(&self, tenant: &TenantId, kind: Kind, id: &str) -> Result<Stored, AudienceError> {
        self.find(tenant, kind, id).await?.ok_or_else(|| AudienceError::not_found(kind, id))
    }

    /// Segments or audiences with an id above `after`, by id.
    pub(crate) async fn page(
        &self,
        tenant: &TenantId,
        kind: Kind,
        after: &str,
        with_archived: bool,
        rows_max: usize,
    ) -> Result<Vec<Stored>, AudienceError> {
        store::page(&self.db, tenant, kind, after, with_archived, rows_max).await
    }

    /// Versions below `below`, the newest first.
    pub(crate) async fn versions(
        &self,
        tenant: &TenantId,
        kind: Kind,
        id: &str,
        below: u32,
        rows_max: usize,
    ) -> Result<Vec<Version>, AudienceError> {
        store::versions(&self.db, tenant, kind, id, below, rows_max).await
    }

    /// Creates a segment or audience; the one that there is, if it says the same.
    pub(crate) async fn create(&self, tenant: &Tenant, kind: Kind, id: &str, content: Content) -> Result<Stored, AudienceError> {
        let mut tx = store::begin_change(&self.db, &tenant.id).await?;
        let outcome = self.create_in(&mut tx, tenant, kind, id, content).await;
        self.end(tx, outcome).await
    }

    async fn create_in(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        kind: Kind,
        id: &str,
        content: Content,
    ) -> Result<Outcome<Stored>, AudienceError> {
        if let Some(stored) = store::find(tx, &tenant.id, kind, id).await? {
            return existing(stored, &content).map(Outcome::Same);
        }
        self.check_room(tx, &tenant.id, kind).await?;
        let now_us = self.clock.now_us();
        let stored =
            Stored { kind, id: id.to_owned(), content, version: 1, revision: 1, archived: false, created_us: now_us, updated_us: now_us };
        self.check_whole(tx, tenant, &stored).await?;
        store::put(tx, &tenant.id, &stored).await?;
        store::add_version(tx, &tenant.id, &stored).await?;
        Ok(Outcome::Changed(stored))
    }

    /// Changes what a segment or audience says.
    pub(crate) async fn update(
        &self,
        tenant: &Tenant,
        kind: Kind,
        id: &str,
        etag: &str,
        change: impl FnOnce(&mut Content),
    ) -> Result<Stored, AudienceError> {
        let mut tx = store::begin_change(&self.db, &tenant.id).await?;
        let outcome = match found(&mut tx, &tenant.id, kind, id).await {
            Ok(before) => {
                let mut stored = before.clone();
                change(&mut stored.content);
                self.update_in(&mut tx, tenant, etag, &before, stored).await
            }
            Err(error) => Err(error),
        };
        self.end(tx, outcome).await
    }

    async fn update_in(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        etag: &str,
        before: &Stored,
        mut stored: Stored,
    ) -> Result<Outcome<Stored>, AudienceError> {
        before.check_etag(etag)?;
        if before.archived {
            return Err(AudienceError::Archived { kind: stored.kind, id: stored.id });
        }
        if stored == *before {
            return Ok(Outcome::Same(stored));
        }
        self.renew(&mut stored);
        if stored.content.is_other_version(&before.content) {
            stored.version += 1;
            self.check_whole(tx, tenant, &stored).await?;
            store::add_version(tx, &tenant.id, &stored).await?;
        }
        store::put(tx, &tenant.id, &stored).await?;
        Ok(Outcome::Changed(stored))
    }

    /// Takes a segment or audience out of use; one that is archived already stays so.
    pub(crate) async fn archive(&self, tenant: &TenantId, kind: Kind, id: &str, etag: &str) -> Result<Stored, AudienceError> {
        let mut tx = store::begin_change(&self.db, tenant).await?;
        let outcome = self.archive_in(&mut tx, tenant, kind, id, etag).await;
        self.end(tx, outcome).await
    }

    async fn archive_in(&self, tx: &mut Tx, tenant: &TenantId, kind: Kind, id: &str, etag: &str) -> Result<Outcome<Stored>, AudienceError> {
        let mut stored = found(tx, tenant, kind, id).await?;
        if stored.archived {
            return Ok(Outcome::Same(stored));
        }
        stored.check_etag(etag)?;
        refuse_in_use(&store::graph(tx, tenant).await?, kind, id)?;
        stored.archived = true;
        self.renew(&mut stored);
        store::put(tx, tenant, &stored).await?;
        Ok(Outcome::Changed(stored))
    }

    /// Takes a segment or audience back into use.
    pub(crate) async fn restore(&self, tenant: &Tenant, kind: Kind, id: &str) -> Result<Stored, AudienceError> {
        let mut tx = store::begin_change(&self.db, &tenant.id).await?;
        let outcome = self.restore_in(&mut tx, tenant, kind, id).await;
        self.end(tx, outcome).await
    }

    async fn restore_in(&self, tx: &mut Tx, tenant: &Tenant, kind: Kind, id: &str) -> Result<Outcome<Stored>, AudienceError> {
        let mut stored = found(tx, &tenant.id, kind, id).await?;
        if !stored.archived {
            return Ok(Outcome::Same(stored));
        }
        self.check_room(tx, &tenant.id, kind).await?;
        stored.archived = false;
        self.renew(&mut stored);
        self.check_whole(tx, tenant, &stored).await?;
        store::put(tx, &tenant.id, &stored).await?;
        Ok(Outcome::Changed(stored))
    }

    /// Ends a change: commits and says so, or undoes it. It waits for the undoing too, so that who is answered holds no lock any more.
    pub(crate) async fn end<T>(&self, tx: Tx, outcome: Result<Outcome<T>, AudienceError>) -> Result<T, AudienceError> {
        match outcome {
            Ok(Outcome::Changed(after)) => {
                tx.commit().await?;
                self.ring();
                Ok(after)
            }
            Ok(Outcome::Same(before)) => {
                tx.rollback().await?;
                Ok(before)
            }
            Err(error) => {
                // What went wrong first is what the caller has to know.
                let _ = tx.rollback().await;
                Err(error)
            }
        }
    }

    fn renew(&self, stored: &mut Stored) {
        stored.revision += 1;
        stored.updated_us = self.clock.now_us();
    }

    /// Whether the tenant may have one more.
    async fn check_room(&self, tx: &mut Tx, tenant: &TenantId, kind: Kind) -> Result<(), AudienceError> {
        let (what, max, setting) = match kind {
            Kind::Audience => ("audiences", self.config.audiences_max, "audience.audiences_max"),
            _ => ("segments", self.config.segments_max, "audience.segments_max"),
        };
        if store::count(tx, tenant, kind).await? < u64::from(max) {
            return Ok(());
        }
        Err(AudienceError::TooMany { what, max: max.into(), setting })
    }

    /// Whether this and all that refers to it can be evaluated when it is as given.
    async fn check_whole(&self, tx: &mut Tx, tenant: &Tenant, stored: &Stored) -> Result<(), AudienceError> {
        let mut graph = store::graph(tx, &tenant.id).await?;
        let (kind, id) = (stored.kind, stored.id.as_str());
        graph.definitions.insert((kind, id.to_owned()), stored.definition());
        let path = format!("{kind}.condition");
        expand(&graph, self.limits(), &stored.content.condition, &path, Some((kind, id))).map_err(AudienceError::Invalid)?;
        let own_zone = tenant.time_zone.name();
        let mut faults = Vec::new();
        faults.extend(zones::fault(&graph, own_zone, kind, id).map(|fault| FieldViolation::new(format!("{kind}.time_zone"), fault)));
        for (user_kind, user) in graph.dependents_of(kind, id) {
            let Some(definition) = graph.find(user_kind, user) else { continue };
            let expanded = expand(&graph, self.limits(), &definition.condition, &path, Some((user_kind, user)));
            let fault = match expanded {
                Ok(_) => zones::fault(&graph, own_zone, user_kind, user),
                Err(faults) => faults.into_iter().next().map(|fault| fault.description),
            };
            faults.extend(fault.map(|fault| FieldViolation::new(&path, format!("the {user_kind} `{user}` refers to it: {fault}"))));
        }
        Ok(fields::refuse(faults)?)
    }
}

/// A segment or audience that there has to be.
async fn found(tx: &mut Tx, tenant: &TenantId, kind: Kind, id: &str) -> Result<Stored, AudienceError> {
    store::find(tx, tenant, kind, id).await?.ok_or_else(|| AudienceError::not_found(kind, id))
}

/// What there is, if it says what is to be created.
fn existing(stored: Stored, content: &Content) -> Result<Stored, AudienceError> {
    let (kind, id) = (stored.kind, stored.id.clone());
    match stored.archived {
        _ if stored.content != *content => Err(AudienceError::AlreadyExists { kind, id }),
        true => Err(AudienceError::Archived { kind, id }),
        false => Ok(stored),
    }
}

/// Refuses to archive what is in use.
pub(crate) fn refuse_in_use(graph: &Graph, kind: Kind, id: &str) -> Result<(), AudienceError> {
    let users = graph.users_of(kind, id);
    if users.is_empty() {
        return Ok(());
    }
    let by = users.into_iter().map(|(kind, id)| format!("{kind} {id}")).collect();
    Err(AudienceError::InUse { kind, id: id.to_owned(), by })
}
