//! SQL of lists.

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_store::{Db, Run, Tx, on_db, on_tx};

use super::change::Stored;
use super::chunks;
use crate::error::AudienceError;
use crate::store::{counter, json};

const FIND: &str = "SELECT id, name, description, size, revision, archived, created_us, updated_us FROM list WHERE tenant = $1 AND id = $2";
const PAGE: &str = "SELECT id, name, description, size, revision, archived, created_us, updated_us FROM list
    WHERE tenant = $1 AND id > $2 AND ($3 OR NOT archived) ORDER BY id LIMIT $4";
const COUNT: &str = "SELECT count(*) FROM list WHERE tenant = $1 AND NOT archived";
const PUT: &str = "INSERT INTO list (tenant, id, name, description, size, revision, archived, created_us, updated_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (tenant, id) DO UPDATE SET size = excluded.size, revision = excluded.revision, archived = excluded.archived,
        updated_us = excluded.updated_us";

const BYTES: &str = "SELECT CAST(COALESCE(sum(length(persons)), 0) AS BIGINT) FROM list_chunk WHERE tenant = $1 AND list = $2";
const CHUNKS: &str = "SELECT persons FROM list_chunk WHERE tenant = $1 AND list = $2 ORDER BY chunk";
// CROSS JOIN keeps SQLite from walking the list and looking into the chunks asked for.
const CHUNKS_AMONG_SQLITE: &str = "SELECT c.persons FROM json_each($3) k CROSS JOIN list_chunk c
    WHERE c.tenant = $1 AND c.list = $2 AND c.chunk = k.value ORDER BY c.chunk";
const CHUNKS_AMONG_POSTGRES: &str = "SELECT c.persons FROM json_array_elements_text($3::json) k(value)
    JOIN list_chunk c ON c.tenant = $1 AND c.list = $2 AND c.chunk = k.value::bigint ORDER BY c.chunk";
const PUT_CHUNK: &str = "INSERT INTO list_chunk (tenant, list, chunk, persons) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, list, chunk) DO UPDATE SET persons = excluded.persons";
const DELETE_CHUNK: &str = "DELETE FROM list_chunk WHERE tenant = $1 AND list = $2 AND chunk = $3";

const ADD_CHANGE: &str = "INSERT INTO list_change (tenant, list, revision, persons) VALUES ($1, $2, $3, $4)";
const CHANGES: &str = "SELECT persons FROM list_change WHERE tenant = $1 AND list = $2";
const COUNT_CHANGES: &str = "SELECT count(*) FROM list_change WHERE tenant = $1 AND list = $2";
const DELETE_CHANGES: &str = "DELETE FROM list_change WHERE tenant = $1 AND list = $2";

/// Changes of one list that are kept apart until live membership looks at them; then they become one.
const CHANGES_APART_MAX: u64 = 32;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    description: String,
    size: i64,
    revision: i64,
    archived: bool,
    created_us: i64,
    updated_us: i64,
}

fn stored(row: Row) -> Result<Stored, AudienceError> {
    let Row { id, name, description, size, revision, archived, created_us, updated_us } = row;
    Ok(Stored { id, name, description, size: counter(size)?, revision: counter(revision)?, archived, created_us, updated_us })
}

fn integer(value: u64) -> Result<i64, AudienceError> {
    i64::try_from(value).map_err(|_| AudienceError::Corrupt { what: "counter" })
}

/// A list.
pub(super) async fn find(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Option<Stored>, AudienceError> {
    let row: Option<Row> = on_tx!(tx, conn => sqlx::query_as(FIND).bind(tenant.as_str()).bind(id).fetch_optional(conn).await)?;
    row.map(stored).transpose()
}

/// Lists with an id above `after`, by id.
pub(super) async fn page(
    db: &Db,
    tenant: &TenantId,
    after: &str,
    with_archived: bool,
    rows_max: usize,
) -> Result<Vec<Stored>, AudienceError> {
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(PAGE)
        .bind(tenant.as_str()).bind(after).bind(with_archived).bind(rows_max as i64).fetch_all(pool).await)?;
    rows.into_iter().map(stored).collect()
}

/// How many are not archived.
pub(super) async fn count(tx: &mut Tx, tenant: &TenantId) -> Result<u64, AudienceError> {
    let count: i64 = on_tx!(tx, conn => sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(conn).await)?;
    counter(count)
}

/// Writes a list, but not its persons.
pub(super) async fn put(tx: &mut Tx, tenant: &TenantId, list: &Stored) -> Result<(), AudienceError> {
    let (size, revision) = (integer(list.size)?, integer(list.revision)?);
    on_tx!(tx, conn => sqlx::query(PUT)
        .bind(tenant.as_str()).bind(&list.id).bind(&list.name).bind(&list.description).bind(size).bind(revision).bind(list.archived)
        .bind(list.created_us).bind(list.updated_us).run(conn).await)?;
    Ok(())
}

/// How many bytes the persons of a list take.
pub(crate) async fn bytes(db: &Db, tenant: &TenantId, list: &str) -> Result<u64, AudienceError> {
    let mut tx = db.read().await?;
    let bytes = bytes_in(&mut tx, tenant, list).await?;
    tx.commit().await?;
    Ok(bytes)
}

/// The same, as the transaction sees it.
pub(super) async fn bytes_in(tx: &mut Tx, tenant: &TenantId, list: &str) -> Result<u64, AudienceError> {
    let bytes: i64 = on_tx!(tx, conn => sqlx::query_scalar(BYTES).bind(tenant.as_str()).bind(list).fetch_one(conn).await)?;
    counter(bytes)
}

/// The persons of a list.
pub(crate) async fn persons(db: &Db, tenant: &TenantId, list: &str) -> Result<RoaringBitmap, AudienceError> {
    let mut tx = db.read().await?;
    let persons = persons_in(&mut tx, tenant, list).await?;
    tx.commit().await?;
    Ok(persons)
}

/// The same, as the transaction sees it.
pub(super) async fn persons_in(tx: &mut Tx, tenant: &TenantId, list: &str) -> Result<RoaringBitmap, AudienceError> {
    let rows: Vec<Vec<u8>> = on_tx!(tx, conn => sqlx::query_scalar(CHUNKS).bind(tenant.as_str()).bind(list).fetch_all(conn).await)?;
    union(&rows)
}

/// The persons of a list who are among these.
pub(crate) async fn persons_among(db: &Db, tenant: &TenantId, list: &str, among: &RoaringBitmap) -> Result<RoaringBitmap, AudienceError> {
    let mut tx = db.read().await?;
    let near = persons_near(&mut tx, tenant, list, among).await?;
    tx.commit().await?;
    Ok(near & among)
}

/// The persons of a list who are in the chunks of these.
pub(super) async fn persons_near(tx: &mut Tx, tenant: &TenantId, list: &str, near: &RoaringBitmap) -> Result<RoaringBitmap, AudienceError> {
    let sql = tx.sql(CHUNKS_AMONG_SQLITE, CHUNKS_AMONG_POSTGRES);
    let touched = json(&chunks::touched(near))?;
    let rows: Vec<Vec<u8>> =
        on_tx!(tx, conn => sqlx::query_scalar(sql).bind(tenant.as_str()).bind(list).bind(&touched).fetch_all(conn).await)?;
    union(&rows)
}

/// Writes the chunks in which persons of a list changed.
pub(super) async fn put_chunks(
    tx: &mut Tx,
    tenant: &TenantId,
    list: &str,
    after: &RoaringBitmap,
    changed: &RoaringBitmap,
) -> Result<(), AudienceError> {
    for chunk in chunks::touched(changed) {
        let persons = chunks::part(after, chunk);
        if persons.is_empty() {
            on_tx!(tx, conn => sqlx::query(DELETE_CHUNK).bind(tenant.as_str()).bind(list).bind(i64::from(chunk)).run(conn).await)?;
        } else {
            let persons = chunks::encode(&persons);
            on_tx!(tx, conn => sqlx::query(PUT_CHUNK)
                .bind(tenant.as_str()).bind(list).bind(i64::from(chunk)).bind(&persons).run(conn).await)?;
        }
    }
    Ok(())
}

/// Notes for live membership whom a revision of a list concerns. When it has not looked for long, what is noted becomes one note, so that
/// a list that nobody looks at does not gather them for ever.
pub(super) async fn add_change(tx: &mut Tx, tenant: &TenantId, list: &Stored, changed: &RoaringBitmap) -> Result<(), AudienceError> {
    let mut persons = changed.clone();
    let count: i64 = on_tx!(tx, conn => sqlx::query_scalar(COUNT_CHANGES).bind(tenant.as_str()).bind(&list.id).fetch_one(conn).await)?;
    if counter(count)? >= CHANGES_APART_MAX {
        let rows: Vec<Vec<u8>> =
            on_tx!(tx, conn => sqlx::query_scalar(CHANGES).bind(tenant.as_str()).bind(&list.id).fetch_all(conn).await)?;
        persons |= union(&rows)?;
        on_tx!(tx, conn => sqlx::query(DELETE_CHANGES).bind(tenant.as_str()).bind(&list.id).run(conn).await)?;
    }
    let (revision, persons) = (integer(list.revision)?, chunks::encode(&persons));
    on_tx!(tx, conn => sqlx::query(ADD_CHANGE)
        .bind(tenant.as_str()).bind(&list.id).bind(revision).bind(&persons).run(conn).await)?;
    Ok(())
}

fn union(parts: &[Vec<u8>]) -> Result<RoaringBitmap, AudienceError> {
    let mut persons = RoaringBitmap::new();
    for part in parts {
        persons |= chunks::decode(part)?;
    }
    Ok(persons)
}
