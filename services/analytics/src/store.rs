//! The catalogue: all SQL of the index. Publishing files, dropping merged ones and advancing positions is one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use segue_model::TenantId;
use segue_store::{Db, Migrations, Run, StoreError, Tx, on_db, on_tx};
use sqlx::migrate::Migrator;

use crate::index::files::{FileEntry, Group};
use crate::index::redirects::{PersonChanges, Settled};
use crate::scan::{PropertyScope, PropertyType, StoredProperty};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
/// Schema of the namespace `analytics`.
pub(crate) const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };

const LIST_FILES: &str = "SELECT name, day_first, day_last, bytes, footer_bytes, footer_checksum, groups_json FROM file
    WHERE tenant = $1 ORDER BY name";
const LIST_FILE_NAMES: &str = "SELECT name FROM file";
const COUNT_FILE: &str = "SELECT COUNT(*) FROM file WHERE tenant = $1 AND name = $2";
const INSERT_FILE: &str = "INSERT INTO file
    (tenant, name, day_first, day_last, event_rows, bytes, footer_bytes, footer_checksum, groups_json, created_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const DELETE_FILE: &str = "DELETE FROM file WHERE tenant = $1 AND name = $2";

const LIST_FLUSHED: &str = "SELECT partition_id, position FROM flushed WHERE tenant = $1";
// Both change a row only where the position is the one that the caller started from: the same batches are never published twice.
const INSERT_FLUSHED: &str = "INSERT INTO flushed (tenant, partition_id, position) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const MOVE_FLUSHED: &str = "UPDATE flushed SET position = $3 WHERE tenant = $1 AND partition_id = $2 AND position = $4";

const LIST_POSITIONS: &str = "SELECT partition_id, position FROM log_position WHERE topic = $1";
// A position never goes back: of two processes that follow one partition, the further one is right.
const PUT_POSITION: &str = "INSERT INTO log_position (topic, partition_id, position) VALUES ($1, $2, $3)
    ON CONFLICT (topic, partition_id) DO UPDATE SET position = excluded.position WHERE log_position.position < excluded.position";

const LIST_SKIPPED: &str = "SELECT tenant, partition_id, position FROM skipped";
const PUT_SKIPPED: &str = "INSERT INTO skipped (tenant, partition_id, position) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, partition_id) DO UPDATE SET position = excluded.position";
const DELETE_SKIPPED: &str = "DELETE FROM skipped WHERE tenant = $1 AND partition_id = $2";

const LIST_REDIRECTS: &str = "SELECT person_from, person_into FROM redirect WHERE tenant = $1";
const FIND_REDIRECT: &str = "SELECT person_into, link FROM redirect WHERE tenant = $1 AND person_from = $2";
const PUT_REDIRECT: &str = "INSERT INTO redirect (tenant, person_from, person_into, link) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, person_from) DO UPDATE SET person_into = excluded.person_into, link = excluded.link
    WHERE redirect.link < excluded.link";
// The row stays, so that an earlier merge that is read again changes nothing.
const UNDO_REDIRECT: &str = "UPDATE redirect SET person_into = person_from, link = $4
    WHERE tenant = $1 AND person_from = $2 AND person_into = $3 AND link < $4";
const LIST_UNDONE: &str = "SELECT person_from, person_into, link FROM undone_merge WHERE tenant = $1";
const PUT_UNDONE: &str = "INSERT INTO undone_merge (tenant, person_from, person_into, link) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, person_from, person_into) DO UPDATE SET link = excluded.link";
const DELETE_UNDONE: &str = "DELETE FROM undone_merge WHERE tenant = $1 AND person_from = $2 AND person_into = $3 AND link <= $4";

const FIND_DELETION: &str = "SELECT asked, person, deleted_us FROM deletion WHERE tenant = $1 AND request_id = $2";
const INSERT_DELETION: &str = "INSERT INTO deletion (tenant, request_id, asked, person, deleted_us) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING";
const FORGET_DELETIONS: &str = "DELETE FROM deletion WHERE tenant = $1 AND deleted_us < $2";
const LIST_DELETED: &str = "SELECT origin, until_us FROM deleted_origin WHERE tenant = $1";
const PUT_DELETED: &str = "INSERT INTO deleted_origin (tenant, origin, until_us) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, origin) DO UPDATE SET until_us = excluded.until_us WHERE deleted_origin.until_us < excluded.until_us";
const FORGET_DELETED: &str = "DELETE FROM deleted_origin WHERE tenant = $1 AND origin = $2 AND until_us = $3";

const LIST_PROPERTIES: &str = "SELECT scope, name, kind FROM property WHERE tenant = $1";
const PUT_PROPERTY: &str = "INSERT INTO property (tenant, scope, name, kind) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

/// What the store knows of a tenant.
pub(crate) struct StoredTenant {
    pub(crate) files: Vec<FileEntry>,
    pub(crate) flushed: BTreeMap<u16, u64>,
    pub(crate) changes: PersonChanges,
    pub(crate) properties: Vec<StoredProperty>,
}

/// Progress that does not belong to one tenant's files.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// Where to start reading `resolved`.
    pub(crate) positions: Vec<(u16, u64)>,
    /// First batches passed by while off.
    pub(crate) skipped: Vec<(TenantId, u16, u64)>,
}

/// Events of a partition that come to be in files: those behind `before`, up to and including batch `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) partition: u16,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Published {
    /// All of it is true now.
    Done,
    /// Nothing happened: a file to be replaced is not there any more.
    FileGone,
    /// Nothing happened: the events of this partition are not in files up to where the caller says, but elsewhere.
    Moved {
        /// Which.
        partition: u16,
    },
}

/// What becomes true at once when files are published.
#[derive(Default)]
pub(crate) struct Publication {
    pub(crate) new: Vec<FileEntry>,
    /// Names of files that the new ones replace.
    pub(crate) replaced: Vec<String>,
    pub(crate) properties: Vec<StoredProperty>,
    /// How far the tenant's events are in files now.
    pub(crate) flushed: Vec<Advance>,
    /// First batches not yet caught up with; `None`: caught up.
    pub(crate) skipped: Vec<(u16, Option<u64>)>,
    pub(crate) checkpoint: Checkpoint,
}

/// One record of who became part of whom, or no longer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRedirect {
    pub(crate) tenant: TenantId,
    pub(crate) from: u32,
    pub(crate) into: u32,
    pub(crate) link: u64,
    /// The merge is undone.
    pub(crate) undone: bool,
}

/// A deletion of what a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The number that was asked for.
    pub asked: u32,
    /// Its survivor, who is deleted with all who are part of it.
    pub person: u32,
    /// What was received up to this moment (microseconds UTC) is deleted.
    pub deleted_us: i64,
}

/// The catalogue in the service's store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    db: Db,
}

#[derive(sqlx::FromRow)]
struct FileRow {
    name: String,
    day_first: i64,
    day_last: i64,
    bytes: i64,
    footer_bytes: i64,
    footer_checksum: i64,
    groups_json: String,
}

/// Positions are counted from 1 and far below 2^63.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn partition(value: i64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

impl FileRow {
    /// Fails when its groups cannot be read: without them its events would be missing from every answer, and nobody would know.
    fn into_entry(self) -> Result<FileEntry, StoreError> {
        let groups: Vec<Group> = serde_json::from_str(&self.groups_json).map_err(|error| {
            tracing::error!(file = self.name, %error, "the catalogue's row groups of an event file cannot be read");
            StoreError::Corrupt { source: sqlx::Error::Decode(error.into()) }
        })?;
        Ok(FileEntry {
            name: self.name,
            days: (self.day_first, self.day_last),
            bytes: unsigned(self.bytes),
            footer_bytes: unsigned(self.footer_bytes),
            footer_checksum: self.footer_checksum.cast_unsigned(),
            groups,
        })
    }
}

impl Catalogue {
    /// Opens the store and brings its schema up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Db::open(url, "analytics", MIGRATIONS).await? })
    }

    /// Everything of a tenant, as of one moment.
    pub(crate) async fn load(&self, tenant: &TenantId) -> Result<StoredTenant, StoreError> {
        let id = tenant.as_str();
        let mut tx = self.db.read().await?;
        let files: Vec<FileRow> = on_tx!(tx, conn => sqlx::query_as(LIST_FILES).bind(id).fetch_all(conn).await)?;
        let flushed: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(LIST_FLUSHED).bind(id).fetch_all(conn).await)?;
        let changes = load_changes(&mut tx, id).await?;
        let properties: Vec<(i64, String, String)> = on_tx!(tx, conn => sqlx::query_as(LIST_PROPERTIES).bind(id).fetch_all(conn).await)?;
        tx.rollback().await?;
        Ok(StoredTenant {
            files: files.into_iter().map(FileRow::into_entry).collect::<Result<_, _>>()?,
            flushed: flushed.into_iter().map(|(number, position)| (partition(number), unsigned(position))).collect(),
            changes,
            properties: properties
                .into_iter()
                .filter_map(|(scope, name, kind)| {
                    Some(StoredProperty { scope: PropertyScope::from_code(scope)?, name, kind: PropertyType::by_name(&kind)? })
                })
                .collect(),
        })
    }

    /// Where each partition of a topic stands.
    pub(crate) async fn positions(&self, topic: &str) -> Result<HashMap<u16, u64>, StoreError> {
        let rows: Vec<(i64, i64)> = on_db!(self.db, pool => sqlx::query_as(LIST_POSITIONS).bind(topic).fetch_all(pool).await)?;
        Ok(rows.into_iter().map(|(number, position)| (partition(number), unsigned(position))).collect())
    }

    /// What was passed by while analytics was off.
    pub(crate) async fn skipped(&self) -> Result<Vec<(TenantId, u16, u64)>, StoreError> {
        let rows: Vec<(String, i64, i64)> = on_db!(self.db, pool => sqlx::query_as(LIST_SKIPPED).fetch_all(pool).await)?;
        Ok(rows
            .into_iter()
            .filter_map(|(tenant, number, position)| Some((tenant.parse().ok()?, partition(number), unsigned(position))))
            .collect())
    }

    /// Names of all files of all tenants.
    pub(crate) async fn file_names(&self) -> Result<HashSet<String>, StoreError> {
        let names: Vec<String> = on_db!(self.db, pool => sqlx::query_scalar(LIST_FILE_NAMES).fetch_all(pool).await)?;
        Ok(names.into_iter().collect())
    }

    /// Publishes files. When the commit fails with [`StoreError::Unavailable`], [`Catalogue::is_published`] knows what became of it.
    pub(crate) async fn publish(&self, tenant: &TenantId, now_us: i64, publication: &Publication) -> Result<Published, StoreError> {
        let id = tenant.as_str();
        let mut tx = self.db.begin().await?;
        for name in &publication.replaced {
            let deleted = on_tx!(tx, conn => sqlx::query(DELETE_FILE).bind(id).bind(name).run(conn).await)?;
            if deleted != 1 {
                tx.rollback().await?;
                return Ok(Published::FileGone);
            }
        }
        for advance in &publication.flushed {
            if !move_flushed(&mut tx, id, *advance).await? {
                tx.rollback().await?;
                return Ok(Published::Moved { partition: advance.partition });
            }
        }
        for file in &publication.new {
            insert_file(&mut tx, id, now_us, file).await?;
        }
        for property in &publication.properties {
            on_tx!(tx, conn => sqlx::query(PUT_PROPERTY)
                .bind(id).bind(property.scope.code()).bind(&property.name).bind(property.kind.name())
                .run(conn).await)?;
        }
        for (number, position) in &publication.skipped {
            match position {
                Some(position) => put_skipped(&mut tx, id, *number, *position).await?,
                None => {
                    on_tx!(tx, conn => sqlx::query(DELETE_SKIPPED).bind(id).bind(i64::from(*number)).run(conn).await)?;
                }
            }
        }
        put_checkpoint(&mut tx, &publication.checkpoint).await?;
        tx.commit().await?;
        Ok(Published::Done)
    }

    /// Whether a publication of a tail has happened whose answer did not come. Its file names are its own; one without files is
    /// done when the positions are where it was to bring them, whoever did it.
    pub(crate) async fn is_published(&self, tenant: &TenantId, names: &[String], flushed: &[Advance]) -> Result<bool, StoreError> {
        let id = tenant.as_str();
        if let Some(name) = names.first() {
            let count: i64 = on_db!(self.db, pool => sqlx::query_scalar(COUNT_FILE).bind(id).bind(name).fetch_one(pool).await)?;
            return Ok(count > 0);
        }
        let stored: Vec<(i64, i64)> = on_db!(self.db, pool => sqlx::query_as(LIST_FLUSHED).bind(id).fetch_all(pool).await)?;
        let is_there = |advance: &Advance| stored.contains(&(i64::from(advance.partition), signed(advance.after)));
        Ok(!flushed.is_empty() && flushed.iter().all(is_there))
    }

    /// Stores progress where no file was written.
    pub(crate) async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        put_checkpoint(&mut tx, checkpoint).await?;
        tx.commit().await
    }

    /// Stores merges of persons and what became of them, in their order, together with the position on the log that they came from.
    pub(crate) async fn put_redirects(&self, redirects: &[NewRedirect], topic: &str, number: u16, position: u64) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for redirect in redirects {
            if redirect.undone { undo_redirect(&mut tx, redirect).await? } else { put_redirect(&mut tx, redirect).await? }
        }
        put_position(&mut tx, topic, number, position).await?;
        tx.commit().await
    }

    /// Who is part of whom, whose rows are deleted.
    pub(crate) async fn changes(&self, tenant: &TenantId) -> Result<PersonChanges, StoreError> {
        let mut tx = self.db.read().await?;
        let changes = load_changes(&mut tx, tenant.as_str()).await?;
        tx.rollback().await?;
        Ok(changes)
    }

    /// Stores that the rows of some origins are deleted. When that happened before under the same request, gives what was answered
    /// then, and nothing changes. An empty request is never the same as another.
    pub(crate) async fn delete(
        &self,
        tenant: &TenantId,
        request_id: &str,
        deletion: Deletion,
        origins: &BTreeSet<u32>,
    ) -> Result<Option<Deletion>, StoreError> {
        let id = tenant.as_str();
        let mut tx = self.db.begin().await?;
        if !request_id.is_empty() {
            let Deletion { asked, person, deleted_us } = deletion;
            let is_new = on_tx!(tx, conn => sqlx::query(INSERT_DELETION)
                .bind(id).bind(request_id).bind(i64::from(asked)).bind(i64::from(person)).bind(deleted_us)
                .run(conn).await)?;
            if is_new == 0 {
                let (asked, person, deleted_us): (i64, i64, i64) =
                    on_tx!(tx, conn => sqlx::query_as(FIND_DELETION).bind(id).bind(request_id).fetch_one(conn).await)?;
                tx.rollback().await?;
                return Ok(Some(Deletion { asked: person_number(asked), person: person_number(person), deleted_us }));
            }
        }
        for origin in origins {
            on_tx!(tx, conn => sqlx::query(PUT_DELETED).bind(id).bind(i64::from(*origin)).bind(deletion.deleted_us).run(conn).await)?;
        }
        tx.commit().await?;
        Ok(None)
    }

    /// Forgets changes that no row is concerned by any more, and answers to requests from before a moment.
    pub(crate) async fn forget(&self, tenant: &TenantId, settled: &Settled, before_us: i64) -> Result<(), StoreError> {
        let id = tenant.as_str();
        let mut tx = self.db.begin().await?;
        for (origin, until_us) in &settled.deleted {
            on_tx!(tx, conn => sqlx::query(FORGET_DELETED).bind(id).bind(i64::from(*origin)).bind(*until_us).run(conn).await)?;
        }
        for ((from, into), link) in &settled.undone {
            delete_undone(&mut tx, id, (*from, *into), *link).await?;
        }
        on_tx!(tx, conn => sqlx::query(FORGET_DELETIONS).bind(id).bind(before_us).run(conn).await)?;
        tx.commit().await
    }
}

/// Person numbers fit 32 bits.
fn person_number(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

async fn load_changes(tx: &mut Tx, tenant: &str) -> Result<PersonChanges, StoreError> {
    let steps: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(LIST_REDIRECTS).bind(tenant).fetch_all(conn).await)?;
    let undone: Vec<(i64, i64, i64)> = on_tx!(tx, conn => sqlx::query_as(LIST_UNDONE).bind(tenant).fetch_all(conn).await)?;
    let deleted: Vec<(i64, i64)> = on_tx!(tx, conn => sqlx::query_as(LIST_DELETED).bind(tenant).fetch_all(conn).await)?;
    Ok(PersonChanges {
        steps: steps
            .into_iter()
            .filter(|(from, into)| from != into)
            .map(|(from, into)| (person_number(from), person_number(into)))
            .collect(),
        undone: undone.into_iter().map(|(from, into, link)| ((person_number(from), person_number(into)), unsigned(link))).collect(),
        deleted: deleted.into_iter().map(|(origin, until_us)| (person_number(origin), until_us)).collect(),
    })
}

async fn put_redirect(tx: &mut Tx, redirect: &NewRedirect) -> Result<(), StoreError> {
    let NewRedirect { tenant, from, into, link, .. } = redirect;
    let known: Option<(i64, i64)> =
        on_tx!(tx, conn => sqlx::query_as(FIND_REDIRECT).bind(tenant.as_str()).bind(i64::from(*from)).fetch_optional(conn).await)?;
    if known.is_some_and(|(_, known)| known >= signed(*link)) {
        return Ok(());
    }
    on_tx!(tx, conn => sqlx::query(PUT_REDIRECT)
        .bind(tenant.as_str()).bind(i64::from(*from)).bind(i64::from(*into)).bind(signed(*link))
        .run(conn).await)?;
    delete_undone(tx, tenant.as_str(), (*from, *into), *link).await?;
    // One that was part of another leaves it.
    match known.map(|(into, _)| person_number(into)) {
        Some(before) if before != *into && before != *from => put_undone(tx, tenant.as_str(), (*from, before), *link).await,
        Some(_) | None => Ok(()),
    }
}

async fn undo_redirect(tx: &mut Tx, redirect: &NewRedirect) -> Result<(), StoreError> {
    let NewRedirect { tenant, from, into, link, .. } = redirect;
    let undone = on_tx!(tx, conn => sqlx::query(UNDO_REDIRECT)
        .bind(tenant.as_str()).bind(i64::from(*from)).bind(i64::from(*into)).bind(signed(*link))
        .run(conn).await)?;
    if undone == 0 { Ok(()) } else { put_undone(tx, tenant.as_str(), (*from, *into), *link).await }
}

async fn put_undone(tx: &mut Tx, tenant: &str, (from, into): (u32, u32), link: u64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(PUT_UNDONE).bind(tenant).bind(i64::from(from)).bind(i64::from(into)).bind(signed(link)).run(conn).await)?;
    Ok(())
}

async fn delete_undone(tx: &mut Tx, tenant: &str, (from, into): (u32, u32), link: u64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(DELETE_UNDONE).bind(tenant).bind(i64::from(from)).bind(i64::from(into)).bind(signed(link)).run(conn).await)?;
    Ok(())
}

async fn insert_file(tx: &mut Tx, tenant: &str, now_us: i64, file: &FileEntry) -> Result<(), StoreError> {
    // Strings and numbers always become JSON.
    let groups = serde_json::to_string(&file.groups).unwrap_or_default();
    on_tx!(tx, conn => sqlx::query(INSERT_FILE)
        .bind(tenant).bind(&file.name).bind(file.days.0).bind(file.days.1).bind(signed(file.event_rows())).bind(signed(file.bytes))
        .bind(signed(file.footer_bytes)).bind(file.footer_checksum.cast_signed()).bind(&groups).bind(now_us)
        .run(conn).await)?;
    Ok(())
}

/// False: the position is not where it was when the files were begun.
async fn move_flushed(tx: &mut Tx, tenant: &str, advance: Advance) -> Result<bool, StoreError> {
    let (number, after) = (i64::from(advance.partition), signed(advance.after));
    let changed = if advance.before == 0 {
        on_tx!(tx, conn => sqlx::query(INSERT_FLUSHED).bind(tenant).bind(number).bind(after).run(conn).await)?
    } else {
        on_tx!(tx, conn => sqlx::query(MOVE_FLUSHED)
            .bind(tenant).bind(number).bind(after).bind(signed(advance.before))
            .run(conn).await)?
    };
    Ok(changed == 1)
}

async fn put_skipped(tx: &mut Tx, tenant: &str, number: u16, position: u64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(PUT_SKIPPED).bind(tenant).bind(i64::from(number)).bind(signed(position)).run(conn).await)?;
    Ok(())
}

async fn put_position(tx: &mut Tx, topic: &str, number: u16, position: u64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(PUT_POSITION).bind(topic).bind(i64::from(number)).bind(signed(position)).run(conn).await)?;
    Ok(())
}

async fn put_checkpoint(tx: &mut Tx, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    for (number, position) in &checkpoint.positions {
        put_position(tx, crate::index::RESOLVED.name(), *number, *position).await?;
    }
    for (tenant, number, position) in &checkpoint.skipped {
        put_skipped(tx, tenant.as_str(), *number, *position).await?;
    }
    Ok(())
}
