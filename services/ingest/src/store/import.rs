//! SQL of imports.

use segue_store::{Db, StoreError, on_db, on_writer};

/// Running.
pub const RUNNING: i64 = 1;
/// Read to its end.
pub const SUCCEEDED: i64 = 2;
/// Stopped at a fault.
pub const FAILED: i64 = 3;
/// Stopped by somebody.
pub const CANCELLED: i64 = 4;

/// An import.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub struct ImportRow {
    /// Last part of its name.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// The node that has the file.
    pub node: String,
    /// When it was created.
    pub created_at_us: i64,
    /// When it ended; 0 before.
    pub finished_at_us: i64,
    /// [`RUNNING`] and so on, as in the contract.
    pub state: i64,
    /// For people.
    pub file_name: String,
    /// SHA-256 of the decompressed content.
    pub content_digest: Vec<u8>,
    /// SHA-256 of the source: the unique index over this and the content's digest lets the rows of a file in once per source. The
    /// column is older than this rule and has its name from when it held the digest of the whole mapping.
    #[sqlx(rename = "mapping_digest")]
    pub source_digest: Vec<u8>,
    /// prost `Mapping`.
    pub mapping: Vec<u8>,
    /// The stored file is gzip.
    pub compressed: bool,
    /// Rows read so far.
    pub rows_read: i64,
    /// Outcomes of them.
    pub accepted: i64,
    /// Outcomes of them.
    pub quarantined: i64,
    /// Outcomes of them.
    pub rejected: i64,
    /// Bytes of the file read so far.
    pub bytes_read: i64,
    /// Size of the file.
    pub bytes_total: i64,
    /// prost `Import` with nothing but faults.
    pub faults: Vec<u8>,
    /// Why it stopped.
    pub error: String,
}

const INSERT: &str =
    "INSERT INTO import (id, tenant, node, created_at_us, finished_at_us, state, file_name, content_digest, mapping_digest,
        mapping, compressed, rows_read, accepted, quarantined, rejected, bytes_read, bytes_total, faults, error)
    VALUES ($1, $2, $3, $4, 0, 1, $5, $6, $7, $8, $9, 0, 0, 0, 0, 0, $10, $11, '') ON CONFLICT DO NOTHING";
const FIND_SAME_CONTENT: &str =
    "SELECT * FROM import WHERE tenant = $1 AND content_digest = $2 AND state IN (1, 2) ORDER BY created_at_us, id";
const FIND: &str = "SELECT * FROM import WHERE tenant = $1 AND id = $2";
const LIST: &str = "SELECT * FROM import WHERE tenant = $1 AND (created_at_us < $2 OR (created_at_us = $2 AND id < $3))
    ORDER BY created_at_us DESC, id DESC LIMIT $4";
const LIST_RUNNING: &str = "SELECT * FROM import WHERE node = $1 AND state = 1 ORDER BY created_at_us, id";
const ADVANCE: &str = "UPDATE import SET rows_read = $3, accepted = $4, quarantined = $5, rejected = $6, bytes_read = $7, faults = $8
    WHERE id = $1 AND state = 1 AND rows_read = $2";
const FINISH: &str = "UPDATE import SET state = $2, error = $3, finished_at_us = $4, bytes_read = $5 WHERE id = $1 AND state = 1";
const CANCEL: &str = "UPDATE import SET state = 4, finished_at_us = $3 WHERE tenant = $1 AND id = $2 AND state = 1";

/// Adds an import unless one of the same content and source is running or has succeeded. True: it was added.
pub async fn insert(db: &Db, row: &ImportRow) -> Result<bool, StoreError> {
    let rows = on_writer!(db, pool => sqlx::query(INSERT).bind(&row.id).bind(&row.tenant).bind(&row.node).bind(row.created_at_us)
        .bind(&row.file_name).bind(&row.content_digest).bind(&row.source_digest).bind(&row.mapping).bind(row.compressed)
        .bind(row.bytes_total).bind(&row.faults).execute(pool).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Imports of the same content that are running or have succeeded, whatever their mapping.
pub async fn find_same_content(db: &Db, tenant: &str, content: &[u8]) -> Result<Vec<ImportRow>, StoreError> {
    Ok(on_writer!(db, pool => sqlx::query_as(FIND_SAME_CONTENT).bind(tenant).bind(content).fetch_all(pool).await)?)
}

/// An import by its id.
pub async fn find(db: &Db, tenant: &str, id: &str) -> Result<Option<ImportRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(FIND).bind(tenant).bind(id).fetch_optional(pool).await)?)
}

/// Imports of a tenant before (`created_at_us`, `id`), the newest first.
pub async fn list(db: &Db, tenant: &str, created_at_us: i64, id: &str, most: i64) -> Result<Vec<ImportRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(LIST).bind(tenant).bind(created_at_us).bind(id).bind(most).fetch_all(pool).await)?)
}

/// Imports that a node has to go on with.
pub async fn list_running(db: &Db, node: &str) -> Result<Vec<ImportRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(LIST_RUNNING).bind(node).fetch_all(pool).await)?)
}

/// Writes the progress of a running import that had read `from` rows. False: it was cancelled, or somebody else works on it.
pub async fn advance(db: &Db, from: i64, row: &ImportRow) -> Result<bool, StoreError> {
    let rows = on_writer!(db, pool => sqlx::query(ADVANCE).bind(&row.id).bind(from).bind(row.rows_read).bind(row.accepted)
        .bind(row.quarantined).bind(row.rejected).bind(row.bytes_read).bind(&row.faults)
        .execute(pool).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Ends a running import.
pub async fn finish(db: &Db, id: &str, state: i64, error: &str, now_us: i64, bytes_read: i64) -> Result<(), StoreError> {
    on_writer!(db, pool => sqlx::query(FINISH).bind(id).bind(state).bind(error).bind(now_us).bind(bytes_read)
        .execute(pool).await.map(drop))?;
    Ok(())
}

/// Cancels a running import.
pub async fn cancel(db: &Db, tenant: &str, id: &str, now_us: i64) -> Result<(), StoreError> {
    on_writer!(db, pool => sqlx::query(CANCEL).bind(tenant).bind(id).bind(now_us).execute(pool).await.map(drop))?;
    Ok(())
}
