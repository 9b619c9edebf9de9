//! SQL of the pipeline's positions, leases, skipped tenants and counters.

use segue_store::{Db, StoreError, Tx, on_db, on_tx, on_writer};

use crate::pipeline::error::PipelineError;
use crate::pipeline::marks::Owner;

/// Where a worker is.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub struct PartitionRow {
    /// The partition.
    pub partition: i64,
    /// Last accepted position whose effect is committed.
    pub position: i64,
    /// The next group ends here; 0: it is one batch.
    pub planned_until: i64,
    /// Latest append time seen.
    pub high_water_us: i64,
    /// Number of the last group of catching up.
    pub catchup_sequence: i64,
    /// Tenant of the next one, if planned.
    pub catchup_tenant: String,
    /// Where the next one ends.
    pub catchup_until: i64,
    /// Epoch of the lease.
    pub epoch: i64,
}

/// A tenant whose events are left on the log.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SkipRow {
    /// The tenant.
    pub tenant: String,
    /// Everything of it up to here is resolved.
    pub reached: i64,
    /// Batches that retention removed first.
    pub lost: i64,
}

/// Counters of a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Counts {
    /// Events written to `resolved`.
    pub resolved: i64,
    /// Events dropped as seen before.
    pub duplicates: i64,
}

const CREATE_PARTITION: &str = "INSERT INTO pipeline_partition
    (partition, position, planned_until, high_water_us, catchup_sequence, catchup_tenant, catchup_until, owner, epoch, until_us)
    VALUES ($1, 0, 0, 0, 0, '', 0, '', 0, 0) ON CONFLICT DO NOTHING";
const ACQUIRE: &str = "UPDATE pipeline_partition SET owner = $2, epoch = epoch + 1, until_us = $4
    WHERE partition = $1 AND (until_us <= $3 OR owner = $2)
    RETURNING partition, position, planned_until, high_water_us, catchup_sequence, catchup_tenant, catchup_until, epoch";
// Whatever lease is there is of a process that is gone.
const TAKE_OVER: &str = "UPDATE pipeline_partition SET owner = $2, epoch = epoch + 1, until_us = $3
    WHERE partition = $1
    RETURNING partition, position, planned_until, high_water_us, catchup_sequence, catchup_tenant, catchup_until, epoch";
const RENEW: &str = "UPDATE pipeline_partition SET until_us = $3 WHERE partition = $1 AND epoch = $2";
const RELEASE: &str = "UPDATE pipeline_partition SET until_us = 0 WHERE partition = $1 AND epoch = $2";
const GET_PARTITION: &str =
    "SELECT partition, position, planned_until, high_water_us, catchup_sequence, catchup_tenant, catchup_until, epoch
    FROM pipeline_partition WHERE partition = $1";
const LIST_PARTITIONS: &str =
    "SELECT partition, position, planned_until, high_water_us, catchup_sequence, catchup_tenant, catchup_until, epoch
    FROM pipeline_partition ORDER BY partition";
const FENCE: &str = "UPDATE pipeline_partition SET epoch = epoch WHERE partition = $1 AND epoch = $2";
const ADVANCE: &str = "UPDATE pipeline_partition SET position = $3, planned_until = $4, high_water_us = $5
    WHERE partition = $1 AND epoch = $2 AND position = $6";
const ADVANCE_CATCH_UP: &str = "UPDATE pipeline_partition
    SET catchup_sequence = $3, catchup_tenant = $4, catchup_until = $5, high_water_us = $6
    WHERE partition = $1 AND epoch = $2";
const HEARTBEAT: &str = "INSERT INTO pipeline_member (owner, until_us) VALUES ($1, $2)
    ON CONFLICT (owner) DO UPDATE SET until_us = excluded.until_us";
const COUNT_MEMBERS: &str = "SELECT count(*) FROM pipeline_member WHERE until_us > $1";
const FORGET_MEMBERS: &str = "DELETE FROM pipeline_member WHERE until_us <= $1 OR owner = $2";
const LIST_SKIPS: &str = "SELECT tenant, reached, lost FROM pipeline_skip WHERE partition = $1 ORDER BY tenant";
const PUT_SKIP: &str = "INSERT INTO pipeline_skip (partition, tenant, reached, lost) VALUES ($1, $2, $3, $4)
    ON CONFLICT (partition, tenant) DO UPDATE SET reached = excluded.reached, lost = excluded.lost";
const DELETE_SKIP: &str = "DELETE FROM pipeline_skip WHERE partition = $1 AND tenant = $2";
const ADD_COUNTS_SQLITE: &str = "INSERT INTO pipeline_count (tenant, partition, resolved, duplicates)
    SELECT value ->> 0, $1, value ->> 1, value ->> 2 FROM json_each($2) WHERE true
    ON CONFLICT (tenant, partition) DO UPDATE
    SET resolved = pipeline_count.resolved + excluded.resolved, duplicates = pipeline_count.duplicates + excluded.duplicates";
const ADD_COUNTS_POSTGRES: &str = "INSERT INTO pipeline_count (tenant, partition, resolved, duplicates)
    SELECT value ->> 0, $1, (value ->> 1)::bigint, (value ->> 2)::bigint FROM json_array_elements($2::json)
    ON CONFLICT (tenant, partition) DO UPDATE
    SET resolved = pipeline_count.resolved + excluded.resolved, duplicates = pipeline_count.duplicates + excluded.duplicates";
const GET_COUNTS: &str = "SELECT CAST(COALESCE(sum(resolved), 0) AS BIGINT) AS resolved,
    CAST(COALESCE(sum(duplicates), 0) AS BIGINT) AS duplicates FROM pipeline_count WHERE tenant = $1";

/// Makes sure that the partition has a row.
pub async fn create_partition(db: &Db, partition: i64) -> Result<(), StoreError> {
    on_writer!(db, pool => sqlx::query(CREATE_PARTITION).bind(partition).execute(pool).await.map(drop))?;
    Ok(())
}

/// Takes the lease of a partition if it is free (or was this owner's). Whoever had it before can write no more.
pub async fn acquire(db: &Db, partition: i64, owner: &str, now_us: i64, until_us: i64) -> Result<Option<PartitionRow>, StoreError> {
    Ok(on_writer!(db, pool => sqlx::query_as(ACQUIRE).bind(partition).bind(owner).bind(now_us).bind(until_us)
        .fetch_optional(pool).await)?)
}

/// Takes the lease of a partition whoever has it.
pub async fn take_over(db: &Db, partition: i64, owner: &str, until_us: i64) -> Result<Option<PartitionRow>, StoreError> {
    Ok(on_writer!(db, pool => sqlx::query_as(TAKE_OVER).bind(partition).bind(owner).bind(until_us).fetch_optional(pool).await)?)
}

/// Keeps a lease. False: it is somebody else's now.
pub async fn renew(db: &Db, owner: Owner, until_us: i64) -> Result<bool, StoreError> {
    let rows = on_writer!(db, pool => sqlx::query(RENEW).bind(owner.partition).bind(owner.epoch).bind(until_us)
        .execute(pool).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Gives a lease back.
pub async fn release(db: &Db, owner: Owner) -> Result<(), StoreError> {
    on_writer!(db, pool => sqlx::query(RELEASE).bind(owner.partition).bind(owner.epoch).execute(pool).await.map(drop))?;
    Ok(())
}

/// Where a worker is.
pub async fn find_partition(db: &Db, partition: i64) -> Result<Option<PartitionRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(GET_PARTITION).bind(partition).fetch_optional(pool).await)?)
}

/// Where all workers are.
pub async fn list_partitions(db: &Db) -> Result<Vec<PartitionRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(LIST_PARTITIONS).fetch_all(pool).await)?)
}

/// Fails unless the lease is still of this epoch; from here to the end of the transaction nobody can take it.
pub async fn fence(tx: &mut Tx, owner: Owner) -> Result<(), PipelineError> {
    let rows = on_tx!(tx, conn => sqlx::query(FENCE).bind(owner.partition).bind(owner.epoch)
        .execute(conn).await.map(|done| done.rows_affected()))
    .map_err(StoreError::from)?;
    if rows == 1 { Ok(()) } else { Err(PipelineError::Fenced { partition: owner.partition }) }
}

/// Moves the position on, if the lease is still of this epoch and the position where it was.
pub async fn advance(tx: &mut Tx, owner: Owner, from: i64, to: &PartitionRow) -> Result<bool, StoreError> {
    let rows = on_tx!(tx, conn => sqlx::query(ADVANCE).bind(owner.partition).bind(owner.epoch)
        .bind(to.position).bind(to.planned_until).bind(to.high_water_us).bind(from)
        .execute(conn).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes how far catching up is, and what it does next. Fence first.
pub async fn advance_catch_up(tx: &mut Tx, owner: Owner, to: &PartitionRow) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(ADVANCE_CATCH_UP).bind(owner.partition).bind(owner.epoch)
        .bind(to.catchup_sequence).bind(&to.catchup_tenant).bind(to.catchup_until).bind(to.high_water_us)
        .execute(conn).await.map(drop))?;
    Ok(())
}

/// Says that this process is alive, and how many are.
pub async fn heartbeat(db: &Db, owner: &str, now_us: i64, until_us: i64) -> Result<i64, StoreError> {
    on_writer!(db, pool => sqlx::query(HEARTBEAT).bind(owner).bind(until_us).execute(pool).await.map(drop))?;
    Ok(on_writer!(db, pool => sqlx::query_scalar(COUNT_MEMBERS).bind(now_us).fetch_one(pool).await)?)
}

/// Forgets members that are gone, and this one.
pub async fn forget_members(db: &Db, owner: &str, now_us: i64) -> Result<(), StoreError> {
    on_writer!(db, pool => sqlx::query(FORGET_MEMBERS).bind(now_us).bind(owner).execute(pool).await.map(drop))?;
    Ok(())
}

/// Tenants that a partition skips.
pub async fn list_skips(db: &Db, partition: i64) -> Result<Vec<SkipRow>, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(LIST_SKIPS).bind(partition).fetch_all(pool).await)?)
}

/// Skips a tenant, or says how far it is caught up.
pub async fn put_skip(tx: &mut Tx, partition: i64, skip: &SkipRow) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(PUT_SKIP).bind(partition).bind(&skip.tenant).bind(skip.reached).bind(skip.lost)
        .execute(conn).await.map(drop))?;
    Ok(())
}

/// Skips a tenant no longer.
pub async fn delete_skip(tx: &mut Tx, partition: i64, tenant: &str) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(DELETE_SKIP).bind(partition).bind(tenant).execute(conn).await.map(drop))?;
    Ok(())
}

/// Adds to the counters of tenants; each tenant stands once, in order.
pub async fn add_counts(tx: &mut Tx, partition: i64, counts: &[(&str, Counts)]) -> Result<(), StoreError> {
    if counts.is_empty() {
        return Ok(());
    }
    let rows: Vec<(&str, i64, i64)> = counts.iter().map(|(tenant, count)| (*tenant, count.resolved, count.duplicates)).collect();
    let rows = serde_json::to_string(&rows).unwrap_or_default();
    let sql = tx.sql(ADD_COUNTS_SQLITE, ADD_COUNTS_POSTGRES);
    on_tx!(tx, conn => sqlx::query(sql).bind(partition).bind(&rows).execute(conn).await.map(drop))?;
    Ok(())
}

/// Counters of a tenant over all partitions.
pub async fn get_counts(db: &Db, tenant: &str) -> Result<Counts, StoreError> {
    Ok(on_db!(db, pool => sqlx::query_as(GET_COUNTS).bind(tenant).fetch_one(pool).await)?)
}
