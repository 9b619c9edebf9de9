//! Statements of live membership: claims on tenants, positions, members, transitions, sizes.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use segue_log::feed::{entries, of_entries};
use segue_model::TenantId;
use segue_store::{Db, DbKind, Run, Tx, on_db, on_tx, on_writer};

use super::changes::{Numbered, bitmap_of, bytes_of};
use super::feed::Positions;
use crate::error::AudienceError;
use crate::store::{counter, json, number};

const CLAIM: &str = "INSERT INTO live_tenant (tenant, owner, epoch, until_us, positions, as_of_us, sequence, checkpoint, audits, repaired)
    VALUES ($1, $2, 1, $3, '[]', 0, 0, 0, 0, 0)
    ON CONFLICT (tenant) DO UPDATE SET owner = excluded.owner, epoch = live_tenant.epoch + 1, until_us = excluded.until_us
    WHERE live_tenant.until_us <= $4 OR live_tenant.owner = excluded.owner
    RETURNING epoch, positions, as_of_us, sequence, checkpoint, audits, repaired";
const RENEW: &str = "UPDATE live_tenant SET until_us = $2 WHERE owner = $1 AND until_us > 0";
const RELEASE: &str = "UPDATE live_tenant SET until_us = 0 WHERE tenant = $1 AND epoch = $2";
const GET: &str = "SELECT epoch, positions, as_of_us, sequence, checkpoint, audits, repaired FROM live_tenant WHERE tenant = $1";
const LIST_POSITIONS: &str = "SELECT tenant, positions FROM live_tenant";
const ADVANCE: &str = "UPDATE live_tenant SET positions = $3, as_of_us = $4, sequence = $5, audits = $6, repaired = $7
    WHERE tenant = $1 AND epoch = $2 AND sequence = $8";
const CHECKPOINT: &str = "UPDATE live_tenant SET checkpoint = $3 WHERE tenant = $1 AND epoch = $2";
const LIST_AUDIENCES: &str = "SELECT audience, version, fingerprint, holdout, evaluated_us, audited_us, size, held_out
    FROM live_audience WHERE tenant = $1";
const PUT_AUDIENCE: &str =
    "INSERT INTO live_audience (tenant, audience, version, fingerprint, holdout, evaluated_us, audited_us, size, held_out)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (tenant, audience) DO UPDATE SET version = excluded.version, fingerprint = excluded.fingerprint,
    holdout = excluded.holdout, evaluated_us = excluded.evaluated_us, audited_us = excluded.audited_us, size = excluded.size,
    held_out = excluded.held_out";
const DELETE_AUDIENCE: &str = "DELETE FROM live_audience WHERE tenant = $1 AND audience = $2";
const LIST_CHUNKS: &str = "SELECT audience, chunk, persons FROM member_chunk WHERE tenant = $1";
const LIST_CHUNKS_OF: &str = "SELECT audience, chunk, persons FROM member_chunk WHERE tenant = $1 AND audience = $2";
const PUT_CHUNK: &str = "INSERT INTO member_chunk (tenant, audience, chunk, persons) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, audience, chunk) DO UPDATE SET persons = excluded.persons";
const DELETE_CHUNK: &str = "DELETE FROM member_chunk WHERE tenant = $1 AND audience = $2 AND chunk = $3";
const PUT_BATCH: &str = "INSERT INTO transition_batch (tenant, last_sequence, transitions, payload, relayed)
    VALUES ($1, $2, $3, $4, FALSE)";
const LIST_BATCHES: &str = "SELECT payload FROM transition_batch WHERE tenant = $1 AND last_sequence > $2 ORDER BY last_sequence";
const DELETE_BATCHES: &str = "DELETE FROM transition_batch WHERE tenant = $1 AND last_sequence <= $2 AND relayed";
const PUT_HOUR: &str = "INSERT INTO audience_hour (tenant, audience, hour_us, size, held_out, entered, left_)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (tenant, audience, hour_us) DO UPDATE SET size = excluded.size, held_out = excluded.held_out,
    entered = audience_hour.entered + excluded.entered, left_ = audience_hour.left_ + excluded.left_";

/// Where a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRow {
    pub(crate) epoch: i64,
    /// Empty: it has never been worked on.
    pub(crate) positions: Positions,
    pub(crate) as_of_us: i64,
    pub(crate) sequence: u64,
    /// The chunks are as of this transition.
    pub(crate) checkpoint: u64,
    pub(crate) audits: u64,
    pub(crate) repaired: u64,
}

type RawTenant = (i64, String, i64, i64, i64, i64, i64);

impl TenantRow {
    fn read((epoch, positions, as_of_us, sequence, checkpoint, audits, repaired): RawTenant) -> Result<Self, AudienceError> {
        Ok(Self {
            epoch,
            positions: positions_of(&positions)?,
            as_of_us,
            sequence: counter(sequence)?,
            checkpoint: counter(checkpoint)?,
            audits: counter(audits)?,
            repaired: counter(repaired)?,
        })
    }
}

fn positions_of(text: &str) -> Result<Positions, AudienceError> {
    let entries = serde_json::from_str(text).ok();
    entries.and_then(of_entries).ok_or(AudienceError::Corrupt { what: "positions" })
}

/// Claims a tenant, if nobody has a claim that lasts. With SQLite there is one process, so a claim is of one that is gone.
pub(crate) async fn claim(db: &Db, tenant: &TenantId, owner: &str, now_us: i64, until_us: i64) -> Result<Option<TenantRow>, AudienceError> {
    let gone_us = if db.kind() == DbKind::Sqlite { i64::MAX } else { now_us };
    let row: Option<RawTenant> = on_writer!(db, pool => sqlx::query_as(CLAIM).bind(tenant.as_str()).bind(owner).bind(until_us)
        .bind(gone_us).fetch_optional(pool).await)?;
    row.map(TenantRow::read).transpose()
}

/// Renews all claims of a process.
pub(crate) async fn renew(db: &Db, owner: &str, until_us: i64) -> Result<(), AudienceError> {
    on_writer!(db, pool => sqlx::query(RENEW).bind(owner).bind(until_us).execute(pool).await.map(drop))?;
    Ok(())
}

/// Gives a claim back.
pub(crate) async fn release(db: &Db, tenant: &TenantId, epoch: i64) -> Result<(), AudienceError> {
    on_writer!(db, pool => sqlx::query(RELEASE).bind(tenant.as_str()).bind(epoch).execute(pool).await.map(drop))?;
    Ok(())
}

/// Where a tenant is, whoever works on it.
pub(crate) async fn find(db: &Db, tenant: &TenantId) -> Result<Option<TenantRow>, AudienceError> {
    let row: Option<RawTenant> = on_db!(db, pool => sqlx::query_as(GET).bind(tenant.as_str()).fetch_optional(pool).await)?;
    row.map(TenantRow::read).transpose()
}

/// The positions of all tenants.
pub(crate) async fn positions(db: &Db) -> Result<Vec<(String, Positions)>, AudienceError> {
    let rows: Vec<(String, String)> = on_db!(db, pool => sqlx::query_as(LIST_POSITIONS).fetch_all(pool).await)?;
    rows.into_iter().map(|(tenant, positions)| Ok((tenant, positions_of(&positions)?))).collect()
}

/// What the members of an audience are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AudienceRow {
    pub(crate) audience: String,
    pub(crate) version: u32,
    pub(crate) fingerprint: String,
    pub(crate) holdout: u32,
    pub(crate) evaluated_us: i64,
    pub(crate) audited_us: i64,
    pub(crate) size: u64,
    pub(crate) held_out: u64,
}

type RawAudience = (String, i64, String, i64, i64, i64, i64, i64);

impl AudienceRow {
    fn read(raw: RawAudience) -> Result<Self, AudienceError> {
        let (audience, version, fingerprint, holdout, evaluated_us, audited_us, size, held_out) = raw;
        Ok(AudienceRow {
            audience,
            version: number(version)?,
            fingerprint,
            holdout: number(holdout)?,
            evaluated_us,
            audited_us,
            size: counter(size)?,
            held_out: counter(held_out)?,
        })
    }
}

pub(crate) async fn audiences(db: &Db, tenant: &TenantId) -> Result<Vec<AudienceRow>, AudienceError> {
    let rows: Vec<RawAudience> = on_db!(db, pool => sqlx::query_as(LIST_AUDIENCES).bind(tenant.as_str()).fetch_all(pool).await)?;
    rows.into_iter().map(AudienceRow::read).collect()
}

type RawChunk = (String, i64, Vec<u8>);

/// Who is in each audience as of the tenant's checkpoint.
pub(crate) async fn members(db: &Db, tenant: &TenantId) -> Result<BTreeMap<String, RoaringBitmap>, AudienceError> {
    members_of(on_db!(db, pool => sqlx::query_as(LIST_CHUNKS).bind(tenant.as_str()).fetch_all(pool).await)?)
}

fn members_of(rows: Vec<RawChunk>) -> Result<BTreeMap<String, RoaringBitmap>, AudienceError> {
    let mut members: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
    for (audience, _, persons) in rows {
        *members.entry(audience).or_default() |= bitmap_of(&persons).ok_or(AudienceError::Corrupt { what: "members" })?;
    }
    Ok(members)
}

/// An audience as it is written down.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) tenant: TenantRow,
    pub(crate) audience: AudienceRow,
    /// As of the checkpoint.
    pub(crate) members: BTreeMap<String, RoaringBitmap>,
    /// The transitions since, of all audiences.
    pub(crate) batches: Vec<Vec<u8>>,
}

/// All that is written down of an audience, as of one moment: a checkpoint in between would leave transitions out.
pub(crate) async fn written(db: &Db, tenant: &TenantId, audience: &str) -> Result<Option<Written>, AudienceError> {
    let id = tenant.as_str();
    let mut tx = db.read().await?;
    let row: Option<RawTenant> = on_tx!(tx, conn => sqlx::query_as(GET).bind(id).fetch_optional(conn).await)?;
    let Some(row) = row.map(TenantRow::read).transpose()? else { return Ok(None) };
    let audiences: Vec<RawAudience> = on_tx!(tx, conn => sqlx::query_as(LIST_AUDIENCES).bind(id).fetch_all(conn).await)?;
    let Some(of) = audiences.into_iter().find(|raw| raw.0 == audience) else { return Ok(None) };
    let chunks = on_tx!(tx, conn => sqlx::query_as(LIST_CHUNKS_OF).bind(id).bind(audience).fetch_all(conn).await)?;
    let batches = on_tx!(tx, conn => sqlx::query_scalar(LIST_BATCHES).bind(id).bind(row.checkpoint as i64).fetch_all(conn).await)?;
    Ok(Some(Written { tenant: row, audience: AudienceRow::read(of)?, members: members_of(chunks)?, batches }))
}

/// The batches of transitions behind a sequence, in order.
pub(crate) async fn batches(db: &Db, tenant: &TenantId, after: u64) -> Result<Vec<Vec<u8>>, AudienceError> {
    Ok(on_db!(db, pool => sqlx::query_scalar(LIST_BATCHES).bind(tenant.as_str()).bind(after as i64).fetch_all(pool).await)?)
}

/// How an audience changed within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hour {
    pub(crate) hour_us: i64,
    pub(crate) size: u64,
    pub(crate) held_out: u64,
    pub(crate) entered: u64,
    pub(crate) left: u64,
}

/// Moves a tenant on, in the transaction of everything that the round did. [`AudienceError::Fenced`]: it is somebody else's, or this very
/// round was committed before.
pub(crate) async fn advance(tx: &mut Tx, tenant: &TenantId, row: &TenantRow, sequence_before: u64) -> Result<(), AudienceError> {
    let positions = json(&entries(&row.positions))?;
    let rows = on_tx!(tx, conn => sqlx::query(ADVANCE).bind(tenant.as_str()).bind(row.epoch).bind(positions).bind(row.as_of_us)
        .bind(row.sequence as i64).bind(row.audits as i64).bind(row.repaired as i64).bind(sequence_before as i64).run(conn).await)?;
    if rows == 1 { Ok(()) } else { Err(AudienceError::Fenced) }
}

pub(crate) async fn put_batches(tx: &mut Tx, tenant: &TenantId, batches: &[Numbered]) -> Result<(), AudienceError> {
    for batch in batches {
        on_tx!(tx, conn => sqlx::query(PUT_BATCH).bind(tenant.as_str()).bind(batch.last_sequence as i64)
            .bind(batch.transitions as i64).bind(batch.payload.as_slice()).run(conn).await)?;
    }
    Ok(())
}

pub(crate) async fn put_audience(tx: &mut Tx, tenant: &TenantId, row: &AudienceRow) -> Result<(), AudienceError> {
    on_tx!(tx, conn => sqlx::query(PUT_AUDIENCE).bind(tenant.as_str()).bind(row.audience.as_str()).bind(i64::from(row.version))
        .bind(row.fingerprint.as_str()).bind(i64::from(row.holdout)).bind(row.evaluated_us).bind(row.audited_us)
        .bind(row.size as i64).bind(row.held_out as i64).run(conn).await)?;
    Ok(())
}

pub(crate) async fn delete_audience(tx: &mut Tx, tenant: &TenantId, audience: &str) -> Result<(), AudienceError> {
    on_tx!(tx, conn => sqlx::query(DELETE_AUDIENCE).bind(tenant.as_str()).bind(audience).run(conn).await)?;
    Ok(())
}

pub(crate) async fn put_hour(tx: &mut Tx, tenant: &TenantId, audience: &str, hour: &Hour) -> Result<(), AudienceError> {
    on_tx!(tx, conn => sqlx::query(PUT_HOUR).bind(tenant.as_str()).bind(audience).bind(hour.hour_us).bind(hour.size as i64)
        .bind(hour.held_out as i64).bind(hour.entered as i64).bind(hour.left as i64).run(conn).await)?;
    Ok(())
}

/// Writes chunks of members (None: nobody is left in it) that are now as of transition `sequence`, and forgets batches that nobody needs
/// any more: in the chunks, and on the log.
pub(crate) async fn checkpoint(
    db: &Db,
    tenant: &TenantId,
    epoch: i64,
    sequence: u64,
    chunks: &[(String, u16, Option<RoaringBitmap>)],
) -> Result<(), AudienceError> {
    let mut tx = db.begin().await?;
    let rows = on_tx!(tx, conn => sqlx::query(CHECKPOINT).bind(tenant.as_str()).bind(epoch).bind(sequence as i64).run(conn).await)?;
    if rows != 1 {
        return Err(AudienceError::Fenced);
    }
    for (audience, chunk, persons) in chunks {
        let chunk = i64::from(*chunk);
        match persons {
            Some(persons) => on_tx!(tx, conn => sqlx::query(PUT_CHUNK).bind(tenant.as_str()).bind(audience.as_str()).bind(chunk)
                .bind(bytes_of(persons)).run(conn).await)?,
            None => on_tx!(tx, conn => sqlx::query(DELETE_CHUNK).bind(tenant.as_str()).bind(audience.as_str()).bind(chunk)
                .run(conn).await)?,
        };
    }
    on_tx!(tx, conn => sqlx::query(DELETE_BATCHES).bind(tenant.as_str()).bind(sequence as i64).run(conn).await)?;
    tx.commit().await?;
    Ok(())
}
