//! Channels in the store.

use prost::Message;
use segue_model::TenantId;
use segue_proto::campaign::v1::{Channel, ChannelKind};
use segue_store::{Db, Run, on_db, on_writer};

use super::definition::{Definition, kind_of};
use super::secret::Secret;
use crate::error::CampaignError;
use crate::store::{counter, number};

const COUNT: &str = "SELECT count(*) FROM channel WHERE tenant = $1";
const INSERT: &str = "INSERT INTO channel (tenant, id, name, kind, settings, signing_secret, rate_per_second, paused, revision, created_us,
        updated_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9) ON CONFLICT DO NOTHING";
const GET: &str = "SELECT * FROM channel WHERE tenant = $1 AND id = $2";
const GET_STATE: &str = "SELECT revision, created_us FROM channel WHERE tenant = $1 AND id = $2";
const GET_KIND: &str = "SELECT kind FROM channel WHERE tenant = $1 AND id = $2";
const GET_SIGNING_SECRET: &str = "SELECT signing_secret FROM channel WHERE tenant = $1 AND id = $2";
const LIST: &str = "SELECT * FROM channel WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
const UPDATE: &str =
    "UPDATE channel SET name = $4, settings = $5, rate_per_second = $6, paused = $7, updated_us = $8, revision = revision + 1
    WHERE tenant = $1 AND id = $2 AND revision = $3 RETURNING *";
const DELETE: &str = "DELETE FROM channel WHERE tenant = $1 AND id = $2 AND revision = $3";

const CORRUPT: CampaignError = CampaignError::Corrupt { what: "channel" };

/// One state of one channel: another state of it has another one, and so has a channel that is created anew under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) created_us: i64,
}

/// A channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) definition: Definition,
    /// Empty for kinds without.
    pub(super) signing_secret: Secret,
    pub(super) state: State,
    pub(super) updated_us: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    settings: Vec<u8>,
    signing_secret: String,
    rate_per_second: i64,
    paused: bool,
    revision: i64,
    created_us: i64,
    updated_us: i64,
}

impl TryFrom<Row> for Stored {
    type Error = CampaignError;

    fn try_from(row: Row) -> Result<Self, CampaignError> {
        let settings = Channel::decode(row.settings.as_slice()).ok().and_then(|channel| channel.settings).ok_or(CORRUPT)?;
        Ok(Stored {
            id: row.id,
            definition: Definition { name: row.name, settings, rate_per_second: number(row.rate_per_second)?, paused: row.paused },
            signing_secret: Secret::new(row.signing_secret),
            state: State { revision: counter(row.revision)?, created_us: row.created_us },
            updated_us: row.updated_us,
        })
    }
}

fn encoded(definition: &Definition) -> Vec<u8> {
    Channel { settings: Some(definition.settings.clone()), ..Channel::default() }.encode_to_vec()
}

/// A number as it is stored; what counts up cannot get that far.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) async fn count(db: &Db, tenant: &TenantId) -> Result<u64, CampaignError> {
    counter(on_db!(db, pool => sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(pool).await)?)
}

/// Does nothing if the id is taken.
pub(super) async fn insert(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    definition: &Definition,
    signing_secret: &Secret,
    now_us: i64,
) -> Result<(), CampaignError> {
    let kind = i64::from(i32::from(kind_of(&definition.settings)));
    on_writer!(db, pool => sqlx::query(INSERT).bind(tenant.as_str()).bind(id).bind(&definition.name).bind(kind).bind(encoded(definition))
        .bind(signing_secret.reveal()).bind(i64::from(definition.rate_per_second)).bind(definition.paused).bind(now_us).run(pool).await)?;
    Ok(())
}

pub(super) async fn find(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<Stored>, CampaignError> {
    let row: Option<Row> = on_db!(db, pool => sqlx::query_as(GET).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?;
    row.map(Stored::try_from).transpose()
}

/// What tells whether it has changed.
pub(super) async fn state(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<State>, CampaignError> {
    let row: Option<(i64, i64)> = on_db!(db, pool => sqlx::query_as(GET_STATE).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?;
    row.map(|(revision, created_us)| Ok(State { revision: counter(revision)?, created_us })).transpose()
}

pub(super) async fn kind(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<ChannelKind>, CampaignError> {
    let row: Option<i64> = on_db!(db, pool => sqlx::query_scalar(GET_KIND).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?;
    row.map(|kind| i32::try_from(kind).ok().and_then(|kind| ChannelKind::try_from(kind).ok()).ok_or(CORRUPT)).transpose()
}

/// Empty for kinds without.
pub(super) async fn signing_secret(db: &Db, tenant: &TenantId, id: &str) -> Result<Option<String>, CampaignError> {
    Ok(on_db!(db, pool => sqlx::query_scalar(GET_SIGNING_SECRET).bind(tenant.as_str()).bind(id).fetch_optional(pool).await)?)
}

/// By id, those after `after`.
pub(super) async fn list(db: &Db, tenant: &TenantId, after: &str, rows_max: usize) -> Result<Vec<Stored>, CampaignError> {
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(LIST).bind(tenant.as_str()).bind(after).bind(stored(rows_max as u64))
        .fetch_all(pool).await)?;
    rows.into_iter().map(Stored::try_from).collect()
}

/// As it is afterwards; `None` if it is no longer at that revision.
pub(super) async fn update(
    db: &Db,
    tenant: &TenantId,
    id: &str,
    revision: u64,
    definition: &Definition,
    now_us: i64,
) -> Result<Option<Stored>, CampaignError> {
    let row: Option<Row> = on_writer!(db, pool => sqlx::query_as(UPDATE).bind(tenant.as_str()).bind(id).bind(stored(revision))
        .bind(&definition.name).bind(encoded(definition)).bind(i64::from(definition.rate_per_second)).bind(definition.paused).bind(now_us)
        .fetch_optional(pool).await)?;
    row.map(Stored::try_from).transpose()
}

/// Whether it was at that revision.
pub(super) async fn delete(db: &Db, tenant: &TenantId, id: &str, revision: u64) -> Result<bool, CampaignError> {
    let rows = on_writer!(db, pool => sqlx::query(DELETE).bind(tenant.as_str()).bind(id).bind(stored(revision)).run(pool).await)?;
    Ok(rows == 1)
}
