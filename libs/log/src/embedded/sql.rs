//! Every statement of the embedded log, and the meaning of its tables.
//!
//! `batch.id` is `partition << 48 | position`: the table is then clustered by partition and position, so that a read is one
//! range and an append goes to the end of its partition's range. `payload` is the last column: large payloads spill to
//! overflow pages, which a statement that needs only the columns before it never touches.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

/// Bits of a position within an id.
const POSITION_BITS: u32 = 48;

/// The row id of a position.
pub(super) fn id_of(partition: u16, position: u64) -> i64 {
    debug_assert!(position < 1 << POSITION_BITS);
    (i64::from(partition) << POSITION_BITS) | (position as i64 & ((1 << POSITION_BITS) - 1))
}

/// The position of a row id.
pub(super) fn position_of(id: i64) -> u64 {
    (id & ((1 << POSITION_BITS) - 1)) as u64
}

/// Run one by one at every opening; each does nothing when it was done before. `meta.version` is for later changes.
pub(super) const CREATE: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS batch (
        id INTEGER PRIMARY KEY,
        appended_at_us INTEGER NOT NULL,
        events INTEGER NOT NULL,
        size INTEGER NOT NULL,
        traceparent TEXT,
        payload BLOB NOT NULL)",
    // What each partition holds: kept here because deleting rows must not let positions start again.
    "CREATE TABLE IF NOT EXISTS part (
        partition INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        bytes INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS producer (
        partition INTEGER NOT NULL,
        name TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (partition, name)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS hold (
        partition INTEGER NOT NULL,
        consumer TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (partition, consumer)) WITHOUT ROWID",
];

pub(super) const SET_PARTITIONS: &str = "INSERT INTO meta (name, value) VALUES ('partitions', $1), ('version', 1) ON CONFLICT DO NOTHING";
pub(super) const GET_PARTITIONS: &str = "SELECT value FROM meta WHERE name = 'partitions'";

pub(super) const LIST_PARTS: &str = "SELECT partition, first, last, bytes FROM part";
pub(super) const PUT_PART: &str = "INSERT INTO part (partition, first, last, bytes) VALUES ($1, $2, $3, $4)
    ON CONFLICT (partition) DO UPDATE SET first = excluded.first, last = excluded.last, bytes = excluded.bytes";

pub(super) const LIST_PRODUCERS: &str = "SELECT partition, name, sequence, position FROM producer";
pub(super) const PUT_PRODUCER: &str = "INSERT INTO producer (partition, name, sequence, position) VALUES ($1, $2, $3, $4)
    ON CONFLICT (partition, name) DO UPDATE SET sequence = excluded.sequence, position = excluded.position";

pub(super) const LIST_HOLDS: &str = "SELECT partition, consumer, position FROM hold";
pub(super) const PUT_HOLD: &str = "INSERT INTO hold (partition, consumer, position) VALUES ($1, $2, $3)
    ON CONFLICT (partition, consumer) DO UPDATE SET position = excluded.position";
pub(super) const DELETE_HOLDS: &str = "DELETE FROM hold WHERE consumer = $1";

/// Each row costs a trip to the connection's thread; eight rows a trip is most of what there is to gain.
pub(super) const INSERT_ROWS: usize = 8;
pub(super) const INSERT_8: &str = "INSERT INTO batch (id, appended_at_us, events, size, traceparent, payload) VALUES
    ($1, $2, $3, $4, $5, $6), ($7, $8, $9, $10, $11, $12), ($13, $14, $15, $16, $17, $18), ($19, $20, $21, $22, $23, $24),
    ($25, $26, $27, $28, $29, $30), ($31, $32, $33, $34, $35, $36), ($37, $38, $39, $40, $41, $42), ($43, $44, $45, $46, $47, $48)";
pub(super) const INSERT_1: &str =
    "INSERT INTO batch (id, appended_at_us, events, size, traceparent, payload) VALUES ($1, $2, $3, $4, $5, $6)";

pub(super) const READ: &str = "SELECT id, appended_at_us, events, size, traceparent, payload FROM batch
    WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";
/// What retention needs to know of the oldest batches of a partition.
pub(super) const LIST_OLDEST: &str = "SELECT id, appended_at_us, length(payload) FROM batch
    WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3";
pub(super) const DELETE_RANGE: &str = "DELETE FROM batch WHERE id >= $1 AND id <= $2";

/// A row of `batch`.
pub(super) struct BatchRow {
    pub(super) id: i64,
    pub(super) appended_at_us: i64,
    pub(super) events: i64,
    pub(super) size: i64,
    pub(super) traceparent: Option<String>,
    pub(super) payload: Vec<u8>,
}

impl FromRow<'_, SqliteRow> for BatchRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(BatchRow {
            id: row.try_get(0)?,
            appended_at_us: row.try_get(1)?,
            events: row.try_get(2)?,
            size: row.try_get(3)?,
            traceparent: row.try_get(4)?,
            payload: row.try_get(5)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_partition_then_position_and_give_the_position_back() {
        assert!(id_of(0, u64::from(u32::MAX) * 1000) < id_of(1, 0));
        assert!(id_of(1023, 1) < id_of(1023, 2));
        assert_eq!(position_of(id_of(1023, 123_456_789_012)), 123_456_789_012);
    }
}
