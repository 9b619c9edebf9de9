//! SQL of duplicate marks: rows of single groups, and the sorted segments that they are merged into.

use segue_store::{Db, StoreError, Tx, on_db, on_tx, on_writer};

/// Chunks of one segment; ids of chunks are `segment × 2^22 + chunk`.
pub const CHUNK_BITS_MAX: u32 = 22;

/// A segment is being written; swept when its writer is gone.
pub const BUILDING: i64 = 0;
/// A segment holds marks.
pub const LIVE: i64 = 1;
/// A segment is to be removed.
pub const DROPPED: i64 = 2;

/// Marks of one group.
#[derive(Debug, sqlx::FromRow)]
pub struct MarkRow {
    /// Ascending per partition.
    pub number: i64,
    /// Day since 1970, by the time of appending.
    pub day: i64,
    /// 16 bytes each, big-endian, ascending.
    pub fingerprints: Vec<u8>,
}

/// A segment without its chunks.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SegmentRow {
    /// Unique in the store.
    pub id: i64,
    /// Day since 1970 of all its marks.
    pub day: i64,
    /// How often its marks were merged.
    pub level: i64,
    /// How many.
    pub marks: i64,
    /// There are `2^chunk_bits` chunks.
    pub chunk_bits: i64,
    /// One of [`BUILDING`], [`LIVE`], [`DROPPED`].
    pub state: i64,
    /// How `filter` was made.
    pub filter_version: i64,
}

/// A chunk: fingerprints that begin with the same bits.
#[derive(Debug, sqlx::FromRow)]
pub struct ChunkRow {
    /// `segment × 2^22 + chunk`.
    pub id: i64,
    /// 16 bytes each, big-endian, ascending.
    pub fingerprints: Vec<u8>,
}

const INSERT_ROW: &str = "INSERT INTO mark_row (partition, number, day, fingerprints) VALUES ($1, $2, $3, $4)";
const LIST_ROWS: &str = "SELECT number, day, fingerprints FROM mark_row WHERE partition = $1 ORDER BY number";
const DELETE_ROWS: &str = "DELETE FROM mark_row WHERE partition = $1 AND number <= $2";
const INSERT_SEGMENT: &str = "INSERT INTO mark_segment (id, partition, day, level, marks, chunk_bits, state, filter_version, filter)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const LIST_SEGMENTS: &str = "SELECT id, day, level, marks, chunk_bits, state, filter_version FROM mark_segment
    WHERE partition = $1 ORDER BY id";
const GET_FILTER: &str = "SELECT filter FROM mark_segment WHERE id = $1";
const FINISH_SEGMENT: &str = "UPDATE mark_segment SET state = 1, marks = $2, filter = $3 WHERE id = $1 AND state = 0";
const DROP_SEGMENT: &str = "UPDATE mark_segment SET state = 2 WHERE id = $1";
const DELETE_SEGMENT: &str = "DELETE FROM mark_segment WHERE id = $1";
const DELETE_CHUNKS: &str = "DELETE FROM mark_chunk WHERE id >= $1 AND id < $2";
const LIMIT_DAY: &str = "UPDATE mark_segment SET day = $2 WHERE partition = $1 AND day > $2";
const READ_CHUNKS: &str = "SELECT id, fingerprints FROM mark_chunk WHERE id >= $1 AND id < $2 ORDER BY id";
// Many chunks in one statement: all their bytes as one parameter, cut by [id, start from 1, length] of each.
const INSERT_CHUNKS_SQLITE: &str = "INSERT INTO mark_chunk (id, fingerprints)
    SELECT value ->> 0, substr($1, value ->> 1, value ->> 2) FROM json_each($2)";
const INSERT_CHUNKS_POSTGRES: &str = "INSERT INTO mark_chunk (id, fingerprints)
    SELECT (value ->> 0)::bigint, substr($1, (value ->> 1)::int, (value ->> 2)::int) FROM json_array_elements($2::json)";
const FIND_CHUNKS_SQLITE: &str = "SELECT id, fingerprints FROM mark_chunk WHERE id IN (SELECT value FROM json_each($1))";
const FIND_CHUNKS_POSTGRES: &str = "SELECT id, fingerprints FROM mark_chunk
    WHERE id = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))";

/// Adds the marks of a group.
pub async fn insert_row(tx: &mut Tx, partition: i64, number: i64, day: i64, fingerprints: &[u8]) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(INSERT_ROW).bind(partition).bind(number).bind(day).bind(fingerprints).execute(conn).await.map(drop))?;
    Ok(())
}

/// All rows of a partition, oldest first.
pub async fn list_rows(db: &Db, partition: i64) -> Result<Vec<MarkRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(LIST_ROWS).bind(partition).fetch_all(pool).await)?)
}

/// Removes the rows up to `number`, which a segment now holds.
pub async fn delete_rows(tx: &mut Tx, partition: i64, number: i64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(DELETE_ROWS).bind(partition).bind(number).execute(conn).await.map(drop))?;
    Ok(())
}

/// Adds a segment.
pub async fn insert_segment(tx: &mut Tx, partition: i64, row: &SegmentRow, filter: &[u8]) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(INSERT_SEGMENT)
        .bind(row.id).bind(partition).bind(row.day).bind(row.level).bind(row.marks).bind(row.chunk_bits)
        .bind(row.state).bind(row.filter_version).bind(filter)
        .execute(conn).await.map(drop))?;
    Ok(())
}

/// All segments of a partition, oldest first.
pub async fn list_segments(tx: &mut Tx, partition: i64) -> Result<Vec<SegmentRow>, StoreError> {
    Ok(on_tx!(tx, conn => sqlx::query_as(LIST_SEGMENTS).bind(partition).fetch_all(conn).await)?)
}

/// The stored filter of a segment.
pub async fn get_filter(db: &Db, segment: i64) -> Result<Vec<u8>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_scalar(GET_FILTER).bind(segment).fetch_one(pool).await)?)
}

/// Puts a segment into use. False: it was given up meanwhile, by somebody who loaded the index anew.
pub async fn finish_segment(tx: &mut Tx, segment: i64, marks: i64, filter: &[u8]) -> Result<bool, StoreError> {
    let rows = on_tx!(tx, conn => sqlx::query(FINISH_SEGMENT).bind(segment).bind(marks).bind(filter)
        .execute(conn).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Takes a segment out of use; its chunks are removed afterwards.
pub async fn drop_segment(tx: &mut Tx, segment: i64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(DROP_SEGMENT).bind(segment).execute(conn).await.map(drop))?;
    Ok(())
}

/// Removes chunks that somebody left under an id that is about to be used: a writer that was ended may have got that far.
pub async fn clear_segment(tx: &mut Tx, segment: i64) -> Result<(), StoreError> {
    let (first, end) = (segment << CHUNK_BITS_MAX, (segment + 1) << CHUNK_BITS_MAX);
    on_tx!(tx, conn => sqlx::query(DELETE_CHUNKS).bind(first).bind(end).execute(conn).await.map(drop))?;
    Ok(())
}

/// Makes `day` the latest day of any segment.
pub async fn limit_day(tx: &mut Tx, partition: i64, day: i64) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(LIMIT_DAY).bind(partition).bind(day).execute(conn).await.map(drop))?;
    Ok(())
}

/// Removes the row of a segment whose chunks are gone.
pub async fn delete_segment(db: &Db, segment: i64) -> Result<(), StoreError> {
    on_writer!(db, pool => sqlx::query(DELETE_SEGMENT).bind(segment).execute(pool).await.map(drop))?;
    Ok(())
}

/// Removes the chunks `first..end` of a segment.
pub async fn delete_chunks(db: &Db, segment: i64, first: i64, end: i64) -> Result<(), StoreError> {
    let base = segment << CHUNK_BITS_MAX;
    on_writer!(db, pool => sqlx::query(DELETE_CHUNKS).bind(base + first).bind(base + end).execute(pool).await.map(drop))?;
    Ok(())
}

/// The chunks `first..end` of a segment; empty ones are not stored.
pub async fn read_chunks(db: &Db, segment: i64, first: i64, end: i64) -> Result<Vec<ChunkRow>, StoreError> {
    let base = segment << CHUNK_BITS_MAX;
    Ok(on_db!(db, pool => sqlx::query_as(READ_CHUNKS).bind(base + first).bind(base + end).fetch_all(pool).await)?)
}

/// The chunks with these ids.
pub async fn find_chunks(db: &Db, ids: &[i64]) -> Result<Vec<ChunkRow>, StoreError> {
    let ids = serde_json::to_string(ids).unwrap_or_default();
    let sql = db.sql(FIND_CHUNKS_SQLITE, FIND_CHUNKS_POSTGRES);
    Ok(on_db!(db, pool => sqlx::query_as(sql).bind(&ids).fetch_all(pool).await)?)
}

/// Adds chunks: `cuts` are (id, offset in `bytes`, length).
pub async fn insert_chunks(tx: &mut Tx, bytes: &[u8], cuts: &[(i64, usize, usize)]) -> Result<(), StoreError> {
    if cuts.is_empty() {
        return Ok(());
    }
    let mut json = String::with_capacity(cuts.len() * 32);
    for (id, offset, length) in cuts {
        json.push(if json.is_empty() { '[' } else { ',' });
        json.push_str(&format!("[{id},{},{length}]", offset + 1));
    }
    json.push(']');
    let sql = tx.sql(INSERT_CHUNKS_SQLITE, INSERT_CHUNKS_POSTGRES);
    on_tx!(tx, conn => sqlx::query(sql).bind(bytes).bind(&json).execute(conn).await.map(drop))?;
    Ok(())
}
