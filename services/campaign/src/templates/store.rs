//! SQL of templates.
//!
//! Every change of a tenant's templates begins with [`begin_change`], whose row lock makes changes wait for each other on PostgreSQL
//! (SQLite has one writer anyway), and whose counter says to every process that what it has compiled may be old.

use std::collections::BTreeMap;

use prost::Message;
use segue_model::TenantId;
use segue_proto::campaign::v1::{ChannelKind, Template};
use segue_runtime::fields;
use segue_store::{Db, Run, Tx, on_db, on_tx};

use super::definition::Content;
use crate::error::{CampaignError, Kind};
use crate::store::{counter, json, number, timestamp};

const BUMP: &str = "INSERT INTO template_counter (tenant, changes) VALUES ($1, 1)
    ON CONFLICT (tenant) DO UPDATE SET changes = template_counter.changes + 1";
const COUNTER: &str = "SELECT changes FROM template_counter WHERE tenant = $1";
const FIND: &str = "SELECT id, name, kind, version, content, revision, archived, created_us, updated_us
    FROM template WHERE tenant = $1 AND id = $2";
const FIND_MANY_SQLITE: &str = "SELECT id, name, kind, version, content, revision, archived, created_us, updated_us
    FROM template WHERE tenant = $1 AND id IN (SELECT value FROM json_each($2))";
const FIND_MANY_POSTGRES: &str = "SELECT id, name, kind, version, content, revision, archived, created_us, updated_us
    FROM template WHERE tenant = $1 AND id = ANY (SELECT json_array_elements_text($2::json))";
const PAGE: &str = "SELECT id, name, kind, version, content, revision, archived, created_us, updated_us
    FROM template WHERE tenant = $1 AND id > $2 AND ($3 OR NOT archived) ORDER BY id LIMIT $4";
const COUNT: &str = "SELECT count(*) FROM template WHERE tenant = $1 AND NOT archived";
const PUT: &str = "INSERT INTO template (tenant, id, name, kind, version, content, revision, archived, created_us, updated_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name, version = excluded.version, content = excluded.content,
        revision = excluded.revision, archived = excluded.archived, updated_us = excluded.updated_us";
const VERSION: &str = "SELECT content FROM template_version WHERE tenant = $1 AND id = $2 AND version = $3";
const ADD_VERSION: &str = "INSERT INTO template_version (tenant, id, version, content, created_us) VALUES ($1, $2, $3, $4, $5)";
const INCLUDES: &str = "SELECT id, included FROM template_include WHERE tenant = $1";
const INCLUDERS: &str = "SELECT id FROM template_include WHERE tenant = $1 AND included = $2 ORDER BY id";
const FORGET_INCLUDES: &str = "DELETE FROM template_include WHERE tenant = $1 AND id = $2";
const ADD_INCLUDES_SQLITE: &str = "INSERT INTO template_include (tenant, id, included) SELECT $1, $2, value FROM json_each($3)";
const ADD_INCLUDES_POSTGRES: &str = "INSERT INTO template_include (tenant, id, included)
    SELECT $1, $2, included FROM json_array_elements_text($3::json) AS included";

/// A template as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: ChannelKind,
    pub(super) version: u32,
    pub(super) content: Content,
    /// Counts changes of any kind.
    pub(super) revision: u64,
    pub(super) archived: bool,
    pub(super) created_us: i64,
    pub(super) updated_us: i64,
}

impl Stored {
    /// Stands for this state.
    pub(super) fn etag(&self) -> String {
        fields::etag("template", &self.id, self.revision, self.updated_us)
    }

    pub(super) fn check_etag(&self, etag: &str) -> Result<(), CampaignError> {
        if etag.is_empty() || etag == self.etag() {
            return Ok(());
        }
        Err(CampaignError::EtagMismatch { kind: Kind::Template, id: self.id.clone() })
    }

    /// About how much it takes in an answer.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.content.bytes()
    }

    pub(super) fn to_proto(&self) -> Template {
        Template {
            id: self.id.clone(),
            name: self.name.clone(),
            kind: self.kind.into(),
            version: self.version,
            archived: self.archived,
            created_at: Some(timestamp(self.created_us)),
            updated_at: Some(timestamp(self.updated_us)),
            etag: self.etag(),
            ..self.content.to_proto()
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    kind: i64,
    version: i64,
    content: Vec<u8>,
    revision: i64,
    archived: bool,
    created_us: i64,
    updated_us: i64,
}

fn stored(row: Row) -> Result<Stored, CampaignError> {
    let kind = i32::try_from(row.kind).ok().and_then(|kind| ChannelKind::try_from(kind).ok());
    Ok(Stored {
        id: row.id,
        name: row.name,
        kind: kind.ok_or(CampaignError::Corrupt { what: "kind" })?,
        version: number(row.version)?,
        content: content_of(&row.content)?,
        revision: counter(row.revision)?,
        archived: row.archived,
        created_us: row.created_us,
        updated_us: row.updated_us,
    })
}

fn content_of(bytes: &[u8]) -> Result<Content, CampaignError> {
    Template::decode(bytes).map(Content::of).map_err(|_| CampaignError::Corrupt { what: "template" })
}

/// Begins a change of a tenant's templates: nobody else changes them until the transaction ends.
pub(super) async fn begin_change(db: &Db, tenant: &TenantId) -> Result<Tx, CampaignError> {
    let mut tx = db.begin().await?;
    on_tx!(tx, conn => sqlx::query(BUMP).bind(tenant.as_str()).run(conn).await)?;
    Ok(tx)
}

/// How often a tenant's templates were changed.
pub(super) async fn changes(db: &Db, tenant: &TenantId) -> Result<i64, CampaignError> {
    let changes: Option<i64> = on_db!(db, pool => sqlx::query_scalar(COUNTER).bind(tenant.as_str()).fetch_optional(pool).await)?;
    Ok(changes.unwrap_or_default())
}

/// The same as a transaction sees it.
pub(super) async fn changes_in(tx: &mut Tx, tenant: &TenantId) -> Result<i64, CampaignError> {
    let changes: Option<i64> = on_tx!(tx, conn => sqlx::query_scalar(COUNTER).bind(tenant.as_str()).fetch_optional(conn).await)?;
    Ok(changes.unwrap_or_default())
}

/// A template.
pub(super) async fn find(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Option<Stored>, CampaignError> {
    let row: Option<Row> = on_tx!(tx, conn => sqlx::query_as(FIND).bind(tenant.as_str()).bind(id).fetch_optional(conn).await)?;
    row.map(stored).transpose()
}

/// Those of these templates that there are.
pub(super) async fn find_many(tx: &mut Tx, tenant: &TenantId, ids: &[&str]) -> Result<Vec<Stored>, CampaignError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = tx.sql(FIND_MANY_SQLITE, FIND_MANY_POSTGRES);
    let ids = json(ids)?;
    let rows: Vec<Row> = on_tx!(tx, conn => sqlx::query_as(sql).bind(tenant.as_str()).bind(&ids).fetch_all(conn).await)?;
    rows.into_iter().map(stored).collect()
}

/// Templates with an id above `after`, by id.
pub(super) async fn page(
    db: &Db,
    tenant: &TenantId,
    after: &str,
    with_archived: bool,
    rows_max: usize,
) -> Result<Vec<Stored>, CampaignError> {
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(PAGE)
        .bind(tenant.as_str()).bind(after).bind(with_archived).bind(rows_max as i64).fetch_all(pool).await)?;
    rows.into_iter().map(stored).collect()
}

/// How many are not archived.
pub(super) async fn count(tx: &mut Tx, tenant: &TenantId) -> Result<u64, CampaignError> {
    counter(on_tx!(tx, conn => sqlx::query_scalar(COUNT).bind(tenant.as_str()).fetch_one(conn).await)?)
}

/// Writes a template.
pub(super) async fn put(tx: &mut Tx, tenant: &TenantId, stored: &Stored) -> Result<(), CampaignError> {
    let Stored { id, name, kind, version, content, revision, archived, created_us, updated_us } = stored;
    let revision = i64::try_from(*revision).map_err(|_| CampaignError::Corrupt { what: "revision" })?;
    let content = content.to_proto().encode_to_vec();
    on_tx!(tx, conn => sqlx::query(PUT)
        .bind(tenant.as_str()).bind(id).bind(name).bind(i64::from(*kind as i32)).bind(i64::from(*version)).bind(&content)
        .bind(revision).bind(*archived).bind(*created_us).bind(*updated_us).run(conn).await)?;
    Ok(())
}

/// What a version says.
pub(super) async fn version(tx: &mut Tx, tenant: &TenantId, id: &str, version: u32) -> Result<Option<Content>, CampaignError> {
    let content: Option<Vec<u8>> = on_tx!(tx, conn => sqlx::query_scalar(VERSION)
        .bind(tenant.as_str()).bind(id).bind(i64::from(version)).fetch_optional(conn).await)?;
    content.map(|content| content_of(&content)).transpose()
}

/// Keeps the present version of a template for later.
pub(super) async fn add_version(tx: &mut Tx, tenant: &TenantId, stored: &Stored) -> Result<(), CampaignError> {
    let Stored { id, version, content, updated_us, .. } = stored;
    let content = content.to_proto().encode_to_vec();
    on_tx!(tx, conn => sqlx::query(ADD_VERSION)
        .bind(tenant.as_str()).bind(id).bind(i64::from(*version)).bind(&content).bind(*updated_us).run(conn).await)?;
    Ok(())
}

/// What each template includes.
pub(super) async fn includes(tx: &mut Tx, tenant: &TenantId) -> Result<BTreeMap<String, Vec<String>>, CampaignError> {
    let rows: Vec<(String, String)> = on_tx!(tx, conn => sqlx::query_as(INCLUDES).bind(tenant.as_str()).fetch_all(conn).await)?;
    let mut includes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, included) in rows {
        includes.entry(id).or_default().push(included);
    }
    Ok(includes)
}

/// Templates that include a partial.
pub(super) async fn includers(tx: &mut Tx, tenant: &TenantId, id: &str) -> Result<Vec<String>, CampaignError> {
    Ok(on_tx!(tx, conn => sqlx::query_scalar(INCLUDERS).bind(tenant.as_str()).bind(id).fetch_all(conn).await)?)
}

/// Writes down what a template includes now.
pub(super) async fn put_includes(tx: &mut Tx, tenant: &TenantId, id: &str, included: &[&str]) -> Result<(), CampaignError> {
    on_tx!(tx, conn => sqlx::query(FORGET_INCLUDES).bind(tenant.as_str()).bind(id).run(conn).await)?;
    if included.is_empty() {
        return Ok(());
    }
    let sql = tx.sql(ADD_INCLUDES_SQLITE, ADD_INCLUDES_POSTGRES);
    let included = json(included)?;
    on_tx!(tx, conn => sqlx::query(sql).bind(tenant.as_str()).bind(id).bind(&included).run(conn).await)?;
    Ok(())
}
