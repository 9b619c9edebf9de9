//! All SQL of the gateway: tenants, keys, the audit log.
//!
//! Every change of a tenant first raises `state.version`. That row is the queue of writers, so on PostgreSQL too changes
//! become visible in the order of their numbers, and "all after number n" misses none.

use segue_model::TenantId;
use segue_model::module::ModuleSet;
use segue_runtime::caller::Role;
use segue_store::{Db, Migrations, StoreError, Tx, on_db, on_tx, sqlx};

use crate::error::TenancyError;
use crate::record::{KeyRecord, TenantRecord};
use crate::secret::{KeyHash, KeyKind};

static SQLITE: sqlx::migrate::Migrator = ::sqlx::migrate!("migrations/sqlite");
static POSTGRES: sqlx::migrate::Migrator = ::sqlx::migrate!("migrations/postgres");
const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };

const NAMESPACE: &str = "gateway";

const NEXT_VERSION: &str = "UPDATE state SET version = version + 1 WHERE id = 1 RETURNING version";
const GET_VERSION: &str = "SELECT version FROM state WHERE id = 1";
const TENANTS_AFTER: &str = "SELECT id, display_name, time_zone, currency, modules, requests_per_second, ingest_bytes_per_second,
        event_retention_days, created_at_us, version
    FROM tenant WHERE version > $1 ORDER BY version";
const FIND_TENANT: &str = "SELECT id, display_name, time_zone, currency, modules, requests_per_second, ingest_bytes_per_second,
        event_retention_days, created_at_us, version
    FROM tenant WHERE id = $1";
const INSERT_TENANT: &str = "INSERT INTO tenant (id, display_name, time_zone, currency, modules, requests_per_second,
        ingest_bytes_per_second, event_retention_days, created_at_us, version)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING";
const UPDATE_TENANT: &str = "UPDATE tenant SET display_name = $2, time_zone = $3, currency = $4, modules = $5,
        requests_per_second = $6, ingest_bytes_per_second = $7, event_retention_days = $8, version = $9
    WHERE id = $1";
const FIND_KEY_BY_HASH: &str = "SELECT id, tenant, kind, role, display_name, source, created_at_us, revoked_at_us
    FROM api_key WHERE secret_sha256 = $1 AND revoked_at_us IS NULL";
const LIST_KEYS: &str = "SELECT id, tenant, kind, role, display_name, source, created_at_us, revoked_at_us
    FROM api_key WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
const LIST_OPERATOR_KEYS: &str = "SELECT id, tenant, kind, role, display_name, source, created_at_us, revoked_at_us
    FROM api_key WHERE tenant IS NULL AND id > $1 ORDER BY id LIMIT $2";
const COUNT_OPERATOR_KEYS: &str = "SELECT count(*), count(*) - count(revoked_at_us) FROM api_key WHERE kind = 'operator'";
const INSERT_KEY: &str = "INSERT INTO api_key (id, tenant, kind, role, display_name, source, secret_sha256, created_at_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
const REVOKE_KEY: &str = "UPDATE api_key SET revoked_at_us = $2 WHERE id = $1 AND revoked_at_us IS NULL";
const FIND_KEY: &str = "SELECT id, tenant, kind, role, display_name, source, created_at_us, revoked_at_us, secret_sha256
    FROM api_key WHERE id = $1";
const INSERT_AUDIT: &str = "INSERT INTO audit (at_us, actor, tenant, action, detail) VALUES ($1, $2, $3, $4, $5)";

/// Who changed what, when; one line of the audit log.
#[derive(Debug)]
pub(crate) struct Audit<'a> {
    pub(crate) at_us: i64,
    /// Name of the key.
    pub(crate) actor: &'a str,
    pub(crate) tenant: Option<&'a TenantId>,
    /// Name of the RPC.
    pub(crate) action: &'static str,
    pub(crate) detail: String,
}

#[derive(sqlx::FromRow)]
struct TenantRow {
    id: String,
    display_name: String,
    time_zone: String,
    currency: String,
    modules: i64,
    requests_per_second: i64,
    ingest_bytes_per_second: i64,
    event_retention_days: i64,
    created_at_us: i64,
    version: i64,
}

impl TenantRow {
    fn into_record(self) -> Result<TenantRecord, StoreError> {
        Ok(TenantRecord {
            id: self.id.parse().map_err(unreadable)?,
            display_name: self.display_name,
            time_zone: self.time_zone,
            currency: self.currency,
            modules: ModuleSet::from_bits(u8::try_from(self.modules).map_err(unreadable)?),
            requests_per_second: u32::try_from(self.requests_per_second).map_err(unreadable)?,
            ingest_bytes_per_second: u64::try_from(self.ingest_bytes_per_second).map_err(unreadable)?,
            event_retention_days: u32::try_from(self.event_retention_days).map_err(unreadable)?,
            created_at_us: self.created_at_us,
            version: self.version,
        })
    }
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: String,
    tenant: Option<String>,
    kind: String,
    role: String,
    display_name: String,
    source: String,
    created_at_us: i64,
    revoked_at_us: Option<i64>,
    #[sqlx(default)]
    secret_sha256: Vec<u8>,
}

impl KeyRow {
    fn into_record(self) -> Result<KeyRecord, StoreError> {
        Ok(KeyRecord {
            id: self.id,
            tenant: self.tenant.map(|id| id.parse()).transpose().map_err(unreadable)?,
            kind: KeyKind::find(&self.kind).ok_or_else(|| unreadable("an unknown kind of key"))?,
            role: self.role.parse::<Role>().map_err(unreadable)?,
            display_name: self.display_name,
            source: self.source,
            created_at_us: self.created_at_us,
            revoked_at_us: self.revoked_at_us,
        })
    }
}

/// A row that another version wrote, or that somebody edited.
fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Corrupt { source: sqlx::Error::Decode(error.into()) }
}

/// The gateway's store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    db: Db,
}

impl Store {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Db::open(url, NAMESPACE, MIGRATIONS).await? })
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.db.ping().await
    }

    pub(crate) async fn close(&self) {
        self.db.close().await;
    }

    /// Tenants that changed after `version`, and the number of the last change.
    pub(crate) async fn tenants_after(&self, version: i64) -> Result<(i64, Vec<TenantRecord>), StoreError> {
        let latest: i64 = on_db!(self.db, pool => sqlx::query_scalar(GET_VERSION).fetch_one(pool).await)?;
        if latest <= version {
            return Ok((latest, Vec::new()));
        }
        let rows: Vec<TenantRow> = on_db!(self.db, pool => sqlx::query_as(TENANTS_AFTER).bind(version).fetch_all(pool).await)?;
        let tenants = rows.into_iter().map(TenantRow::into_record).collect::<Result<Vec<_>, _>>()?;
        // A change that committed between the two reads is in the rows already.
        let latest = tenants.last().map_or(latest, |tenant| tenant.version.max(latest));
        Ok((latest, tenants))
    }

    /// Adds a tenant. Its `version` is assigned.
    pub(crate) async fn create_tenant(&self, tenant: &TenantRecord, audit: &Audit<'_>) -> Result<(), TenancyError> {
        let mut tx = self.db.begin().await?;
        let version = next_version(&mut tx).await?;
        let added = on_tx!(tx, conn => sqlx::query(INSERT_TENANT)
            .bind(tenant.id.as_str())
            .bind(&tenant.display_name)
            .bind(&tenant.time_zone)
            .bind(&tenant.currency)
            .bind(i64::from(tenant.modules.bits()))
            .bind(i64::from(tenant.requests_per_second))
            .bind(stored(tenant.ingest_bytes_per_second))
            .bind(i64::from(tenant.event_retention_days))
            .bind(tenant.created_at_us)
            .bind(version)
            .execute(conn).await.map(|done| done.rows_affected()))
        .map_err(StoreError::from)?;
        if added == 0 {
            return Err(TenancyError::TenantExists(tenant.id.clone()));
        }
        write_audit(&mut tx, audit).await?;
        Ok(tx.commit().await?)
    }

    /// Reads a tenant, applies `change`, and writes it if that made a difference. Nobody else writes in between.
    pub(crate) async fn change_tenant<C>(&self, id: &TenantId, audit: &Audit<'_>, change: C) -> Result<(), TenancyError>
    where
        C: FnOnce(&TenantRecord) -> Result<TenantRecord, TenancyError>,
    {
        let mut tx = self.db.begin().await?;
        // First, since it is what makes the others wait.
        let version = next_version(&mut tx).await?;
        let row: Option<TenantRow> =
            on_tx!(tx, conn => sqlx::query_as(FIND_TENANT).bind(id.as_str()).fetch_optional(conn).await).map_err(StoreError::from)?;
        let Some(row) = row else { return Err(TenancyError::NoSuchTenant(id.to_string())) };
        let before = row.into_record()?;
        let after = change(&before)?;
        if after == before {
            return Ok(tx.rollback().await?);
        }
        on_tx!(tx, conn => sqlx::query(UPDATE_TENANT)
            .bind(id.as_str())
            .bind(&after.display_name)
            .bind(&after.time_zone)
            .bind(&after.currency)
            .bind(i64::from(after.modules.bits()))
            .bind(i64::from(after.requests_per_second))
            .bind(stored(after.ingest_bytes_per_second))
            .bind(i64::from(after.event_retention_days))
            .bind(version)
            .execute(conn).await.map(|_| ()))
        .map_err(StoreError::from)?;
        write_audit(&mut tx, audit).await?;
        Ok(tx.commit().await?)
    }

    /// The key with this hash, if it is not revoked.
    pub(crate) async fn find_key(&self, hash: &KeyHash) -> Result<Option<KeyRecord>, StoreError> {
        let row: Option<KeyRow> = on_db!(self.db, pool => sqlx::query_as(FIND_KEY_BY_HASH).bind(&hash[..]).fetch_optional(pool).await)?;
        row.map(KeyRow::into_record).transpose()
    }

    /// A page of a tenant's keys, or of the operator keys, in the order in which they were made.
    pub(crate) async fn list_keys(&self, tenant: Option<&TenantId>, after: &str, limit: i64) -> Result<Vec<KeyRecord>, StoreError> {
        let rows: Vec<KeyRow> = match tenant {
            Some(tenant) => on_db!(self.db, pool =>
                sqlx::query_as(LIST_KEYS).bind(tenant.as_str()).bind(after).bind(limit).fetch_all(pool).await)?,
            None => on_db!(self.db, pool =>
                sqlx::query_as(LIST_OPERATOR_KEYS).bind(after).bind(limit).fetch_all(pool).await)?,
        };
        rows.into_iter().map(KeyRow::into_record).collect()
    }

    /// How many operator keys were ever made, and how many of them are not revoked.
    pub(crate) async fn count_operator_keys(&self) -> Result<(i64, i64), StoreError> {
        Ok(on_db!(self.db, pool => sqlx::query_as(COUNT_OPERATOR_KEYS).fetch_one(pool).await)?)
    }

    /// Adds a key; false if the id is taken.
    pub(crate) async fn create_key(&self, key: &KeyRecord, hash: &KeyHash, audit: &Audit<'_>) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let added = on_tx!(tx, conn => sqlx::query(INSERT_KEY)
            .bind(&key.id)
            .bind(key.tenant.as_ref().map(TenantId::as_str))
            .bind(key.kind.name())
            .bind(key.role.name())
            .bind(&key.display_name)
            .bind(&key.source)
            .bind(&hash[..])
            .bind(key.created_at_us)
            .execute(conn).await.map(|done| done.rows_affected()))?;
        if added == 0 {
            return Ok(false);
        }
        write_audit(&mut tx, audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Marks a key as revoked unless it is, and gives it and its hash. `tenant` limits it to the keys of one;
    /// without it operator keys are reached too.
    pub(crate) async fn revoke_key(
        &self,
        id: &str,
        tenant: Option<&TenantId>,
        audit: &Audit<'_>,
    ) -> Result<(KeyRecord, KeyHash), TenancyError> {
        let missing = || TenancyError::NoSuchKey(format!("keys/{id}"));
        let mut tx = self.db.begin().await?;
        let revoked = on_tx!(tx, conn => sqlx::query(REVOKE_KEY).bind(id).bind(audit.at_us)
            .execute(conn).await.map(|done| done.rows_affected()))
        .map_err(StoreError::from)?;
        let row: Option<KeyRow> =
            on_tx!(tx, conn => sqlx::query_as(FIND_KEY).bind(id).fetch_optional(conn).await).map_err(StoreError::from)?;
        let row = row.ok_or_else(missing)?;
        let hash: KeyHash = row.secret_sha256.as_slice().try_into().map_err(unreadable)?;
        let key = row.into_record()?;
        // Leaving without a commit undoes the mark.
        if tenant.is_some() && key.tenant.as_ref() != tenant {
            return Err(missing());
        }
        if revoked > 0 {
            write_audit(&mut tx, &Audit { tenant: key.tenant.as_ref(), detail: audit.detail.clone(), ..*audit }).await?;
        }
        tx.commit().await?;
        Ok((key, hash))
    }
}

async fn next_version(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(on_tx!(tx, conn => sqlx::query_scalar(NEXT_VERSION).fetch_one(conn).await)?)
}

async fn write_audit(tx: &mut Tx, audit: &Audit<'_>) -> Result<(), StoreError> {
    on_tx!(tx, conn => sqlx::query(INSERT_AUDIT)
        .bind(audit.at_us)
        .bind(audit.actor)
        .bind(audit.tenant.map(TenantId::as_str))
        .bind(audit.action)
        .bind(&audit.detail)
        .execute(conn).await.map(|_| ()))?;
    Ok(())
}

/// Checked to fit when it came in.
fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
