//! Creating, changing and archiving lists. Like every change of definitions it holds the lock of the tenant's definitions: a list cannot be
//! archived while something begins to refer to it.

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_runtime::fields;
use segue_store::Tx;

use super::members::{Change, Changed};
use super::store as lists;
use crate::definitions::change::{Outcome, refuse_in_use};
use crate::definitions::{Definitions, SET_BYTES_MAX, store};
use crate::error::{AudienceError, Kind};

/// A list as it is stored, without its persons.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) size: u64,
    /// Counts changes of any kind.
    pub(crate) revision: u64,
    pub(crate) archived: bool,
    pub(crate) created_us: i64,
    pub(crate) updated_us: i64,
}

impl Stored {
    /// Stands for this state.
    pub(crate) fn etag(&self) -> String {
        fields::etag("list", &self.id, self.revision, self.updated_us)
    }

    /// This one, if it was made by the same words and is in use.
    pub(super) fn if_same(self, name: &str, description: &str) -> Result<Stored, AudienceError> {
        if self.name != name || self.description != description {
            return Err(AudienceError::AlreadyExists { kind: Kind::List, id: self.id });
        }
        self.if_in_use()
    }

    /// This one, unless it is archived.
    pub(super) fn if_in_use(self) -> Result<Stored, AudienceError> {
        if self.archived { Err(AudienceError::Archived { kind: Kind::List, id: self.id }) } else { Ok(self) }
    }
}

impl Definitions {
    /// A list.
    pub(crate) async fn find_list(&self, tenant: &TenantId, id: &str) -> Result<Option<Stored>, AudienceError> {
        if !fields::is_id(id) {
            return Ok(None);
        }
        let mut tx = self.db.read().await?;
        let found = lists::find(&mut tx, tenant, id).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// A list that there has to be.
    pub(crate) async fn get_list(&self, tenant: &TenantId, id: &str) -> Result<Stored, AudienceError> {
        self.find_list(tenant, id).await?.ok_or_else(|| AudienceError::not_found(Kind::List, id))
    }

    /// Creates a list of these persons; the one that there is, if it was made by the same words.
    pub(crate) async fn create_list(
        &self,
        tenant: &TenantId,
        id: &str,
        name: &str,
        description: &str,
        persons: &RoaringBitmap,
    ) -> Result<Stored, AudienceError> {
        let now_us = self.clock.now_us();
        let (id, name, description) = (id.to_owned(), name.to_owned(), description.to_owned());
        let list =
            Stored { id, name, description, size: persons.len(), revision: 1, archived: false, created_us: now_us, updated_us: now_us };
        let mut tx = store::begin_change(&self.db, tenant).await?;
        let outcome = self.create_list_in(&mut tx, tenant, list, persons).await;
        self.end(tx, outcome).await
    }

    async fn create_list_in(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        list: Stored,
        persons: &RoaringBitmap,
    ) -> Result<Outcome<Stored>, AudienceError> {
        if let Some(stored) = lists::find(tx, tenant, &list.id).await? {
            return stored.if_same(&list.name, &list.description).map(Outcome::Same);
        }
        let max = u64::from(self.config.lists_max);
        if lists::count(tx, tenant).await? >= max {
            return Err(AudienceError::TooMany { what: "lists", max, setting: "audience.lists_max" });
        }
        lists::put(tx, tenant, &list).await?;
        // Nothing refers to it yet, so nobody's membership changes.
        lists::put_chunks(tx, tenant, &list.id, persons, persons).await?;
        check_room(tx, tenant, &list.id).await?;
        Ok(Outcome::Changed(list))
    }

    /// Changes who is on a list; answers with the list and what came of it.
    pub(crate) async fn change_list(&self, tenant: &TenantId, id: &str, change: &Change) -> Result<(Stored, Changed), AudienceError> {
        let mut tx = store::begin_change(&self.db, tenant).await?;
        let outcome = self.change_list_in(&mut tx, tenant, id, change).await;
        self.end(tx, outcome).await
    }

    async fn change_list_in(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        id: &str,
        change: &Change,
    ) -> Result<Outcome<(Stored, Changed)>, AudienceError> {
        let mut list = found(tx, tenant, id).await?.if_in_use()?;
        let before = if change.replace {
            lists::persons_in(tx, tenant, id).await?
        } else {
            lists::persons_near(tx, tenant, id, &change.persons.numbers()).await?
        };
        let changed = change.apply(&before);
        if changed.numbers.is_empty() {
            return Ok(Outcome::Same((list, changed)));
        }
        list.size = (list.size + changed.after.len()).checked_sub(before.len()).ok_or(AudienceError::Corrupt { what: "size of a list" })?;
        list.revision += 1;
        list.updated_us = self.clock.now_us();
        lists::put(tx, tenant, &list).await?;
        lists::put_chunks(tx, tenant, id, &changed.after, &changed.numbers).await?;
        check_room(tx, tenant, id).await?;
        lists::add_change(tx, tenant, &list, &changed.numbers).await?;
        Ok(Outcome::Changed((list, changed)))
    }

    /// Takes a list out of use; one that is archived already stays so.
    pub(crate) async fn archive_list(&self, tenant: &TenantId, id: &str, etag: &str) -> Result<Stored, AudienceError> {
        let mut tx = store::begin_change(&self.db, tenant).await?;
        let outcome = self.archive_list_in(&mut tx, tenant, id, etag).await;
        self.end(tx, outcome).await
    }

    async fn archive_list_in(&self, tx: &mut Tx, tenant: &TenantId, id: &str, etag: &str) -> Result<Outcome<Stored>, AudienceError> {
        let mut list = found(tx, tenant, id).await?;
        if list.archived {
            return Ok(Outcome::Same(list));
        }
        if !etag.is_empty() && etag != list.etag() {
            return Err(AudienceError::EtagMismatch { kind: Kind::List, id: list.id });
        }
        refuse_in_use(&store::graph(tx, tenant).await?, Kind::List, id)?;
        list.archived = true;
        list.revision += 1;
        list.updated_us = self.clock.now_us();
        lists::put(tx, tenant, &list).await?;
        Ok(Outcome::Changed(list))
    }
}

/// A list that there has to be.
async fn found(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Stored, AudienceError> {
    lists::find(tx, tenant, id).await?.ok_or_else(|| AudienceError::not_found(Kind::List, id))
}

/// Whether analytics can still take the list. Its chunks together take no more than each by itself.
async fn check_room(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<(), AudienceError> {
    if lists::bytes_in(tx, tenant, id).await? <= SET_BYTES_MAX as u64 {
        return Ok(());
    }
    let fault = format!("its persons would take more than {} MiB: use several lists", SET_BYTES_MAX >> 20);
    Err(AudienceError::field("list", fault))
}
