//! SQL of the taxonomy.
//!
//! Every change begins with `bump`, whose row lock makes changes of one tenant wait for each other on PostgreSQL (SQLite
//! has one writer anyway). What is read after it in the same transaction is therefore what others committed before.

use segue_model::TenantId;
use segue_model::catalogue::ValueType;
use segue_store::{Db, StoreError, Tx, on_db, on_tx, sqlx};

use crate::IngestError;
use crate::accept::shape::TEXT_BYTES_MAX;
use crate::taxonomy::{EventEntry, Mode, PropertyEntry, Scope, Settings, Snapshot};

const REVISION: &str = "SELECT revision FROM taxonomy WHERE tenant = $1";
const SETTINGS: &str = "SELECT revision, mode, inferred_properties_max, inferred_events_max, version FROM taxonomy WHERE tenant = $1";
const EVENTS: &str = "SELECT name, description, required_properties, inferred, archived FROM event_definition WHERE tenant = $1";
const ALIASES: &str = "SELECT alias, name FROM event_alias WHERE tenant = $1 ORDER BY alias";
const PROPERTIES: &str = "SELECT scope, name, value_type, description, string_bytes_max, inferred, archived
    FROM property_definition WHERE tenant = $1";
const BUMP: &str = "INSERT INTO taxonomy (tenant, revision) VALUES ($1, 1)
    ON CONFLICT (tenant) DO UPDATE SET revision = taxonomy.revision + 1
    RETURNING revision, mode, inferred_properties_max, inferred_events_max, version";
const COUNT_INFERRED_EVENTS: &str = "SELECT count(*) FROM event_definition WHERE tenant = $1 AND inferred";
const COUNT_INFERRED_PROPERTIES: &str = "SELECT count(*) FROM property_definition WHERE tenant = $1 AND inferred";
const INFER_EVENT: &str = "INSERT INTO event_definition (tenant, name, inferred, created_at_us) VALUES ($1, $2, TRUE, $3)
    ON CONFLICT DO NOTHING";
const INFER_PROPERTY: &str = "INSERT INTO property_definition (tenant, scope, name, value_type, string_bytes_max, inferred, created_at_us)
    VALUES ($1, $2, $3, $4, $5, TRUE, $6) ON CONFLICT DO NOTHING";
const UPDATE_SETTINGS: &str = "UPDATE taxonomy
    SET mode = $2, inferred_properties_max = $3, inferred_events_max = $4, version = version + 1 WHERE tenant = $1";
const PUT_EVENT: &str = "INSERT INTO event_definition (tenant, name, description, required_properties, inferred, archived, created_at_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (tenant, name) DO UPDATE SET description = excluded.description,
        required_properties = excluded.required_properties, inferred = excluded.inferred, archived = excluded.archived";
const INSERT_ALIAS: &str = "INSERT INTO event_alias (tenant, alias, name) VALUES ($1, $2, $3)";
const PUT_PROPERTY: &str = "INSERT INTO property_definition
        (tenant, scope, name, value_type, description, string_bytes_max, inferred, archived, created_at_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (tenant, scope, name) DO UPDATE SET description = excluded.description,
        string_bytes_max = excluded.string_bytes_max, inferred = excluded.inferred, archived = excluded.archived";

#[derive(sqlx::FromRow)]
struct SettingsRow {
    revision: i64,
    mode: String,
    inferred_properties_max: i64,
    inferred_events_max: i64,
    version: i64,
}

#[derive(sqlx::FromRow)]
struct EventRow {
    name: String,
    description: String,
    required_properties: String,
    inferred: bool,
    archived: bool,
}

#[derive(sqlx::FromRow)]
struct PropertyRow {
    scope: String,
    name: String,
    value_type: String,
    description: String,
    string_bytes_max: i64,
    inferred: bool,
    archived: bool,
}

/// The tenant's revision; 0 when nothing was ever changed.
pub(crate) async fn revision(db: &Db, tenant: &TenantId) -> Result<i64, IngestError> {
    let found: Option<i64> =
        on_db!(db, pool => sqlx::query_scalar(REVISION).bind(tenant.as_str()).fetch_optional(pool).await).map_err(StoreError::from)?;
    Ok(found.unwrap_or(0))
}

/// The tenant's taxonomy at one moment.
pub(crate) async fn load(db: &Db, tenant: &TenantId) -> Result<Snapshot, IngestError> {
    let mut tx = db.read().await?;
    let snapshot = read(&mut tx, tenant).await?;
    tx.commit().await?;
    Ok(snapshot)
}

/// The tenant's taxonomy as the transaction sees it.
pub(crate) async fn read(tx: &mut Tx, tenant: &TenantId) -> Result<Snapshot, IngestError> {
    let id = tenant.as_str();
    let settings: Option<SettingsRow> =
        on_tx!(tx, conn => sqlx::query_as(SETTINGS).bind(id).fetch_optional(conn).await).map_err(StoreError::from)?;
    let events: Vec<EventRow> = on_tx!(tx, conn => sqlx::query_as(EVENTS).bind(id).fetch_all(conn).await).map_err(StoreError::from)?;
    let aliases: Vec<(String, String)> =
        on_tx!(tx, conn => sqlx::query_as(ALIASES).bind(id).fetch_all(conn).await).map_err(StoreError::from)?;
    let properties: Vec<PropertyRow> =
        on_tx!(tx, conn => sqlx::query_as(PROPERTIES).bind(id).fetch_all(conn).await).map_err(StoreError::from)?;

    let (revision, settings) = match settings {
        Some(row) => (row.revision, read_settings(&row)?),
        None => (0, Settings::default()),
    };
    let events = events.into_iter().map(read_event).collect::<Result<_, _>>()?;
    let properties = properties.into_iter().map(read_property).collect::<Result<_, _>>()?;
    Ok(Snapshot::new(revision, settings, events, aliases, properties))
}

fn unreadable(what: String) -> IngestError {
    IngestError::Unreadable { what }
}

fn read_settings(row: &SettingsRow) -> Result<Settings, IngestError> {
    Ok(Settings {
        mode: Mode::from_name(&row.mode).ok_or_else(|| unreadable(format!("taxonomy mode `{}`", row.mode)))?,
        inferred_properties_max: u32::try_from(row.inferred_properties_max).unwrap_or(u32::MAX),
        inferred_events_max: u32::try_from(row.inferred_events_max).unwrap_or(u32::MAX),
        version: row.version,
    })
}

fn read_event(row: EventRow) -> Result<EventEntry, IngestError> {
    let required_properties = serde_json::from_str(&row.required_properties)
        .map_err(|error| unreadable(format!("required properties of event `{}`: {error}", row.name)))?;
    Ok(EventEntry {
        name: row.name,
        description: row.description,
        aliases: Vec::new(),
        required_properties,
        standard: false,
        inferred: row.inferred,
        archived: row.archived,
    })
}

fn read_property(row: PropertyRow) -> Result<(Scope, PropertyEntry), IngestError> {
    let scope = Scope::from_name(&row.scope).ok_or_else(|| unreadable(format!("property scope `{}`", row.scope)))?;
    let value_type = crate::taxonomy::type_from_name(&row.value_type)
        .ok_or_else(|| unreadable(format!("type `{}` of property `{}`", row.value_type, row.name)))?;
    let entry = PropertyEntry {
        name: row.name,
        value_type,
        description: row.description,
        string_bytes_max: u32::try_from(row.string_bytes_max).unwrap_or(TEXT_BYTES_MAX as u32),
        standard: false,
        inferred: row.inferred,
        archived: row.archived,
    };
    Ok((scope, entry))
}

/// Begins a change: bumps the revision, which also keeps other changes of the tenant waiting.
pub(crate) async fn bump(tx: &mut Tx, tenant: &TenantId) -> Result<Settings, IngestError> {
    let row: SettingsRow =
        on_tx!(tx, conn => sqlx::query_as(BUMP).bind(tenant.as_str()).fetch_one(conn).await).map_err(StoreError::from)?;
    read_settings(&row)
}

/// Registers names by inference, as far as the limits allow. What exists stays as it is.
pub(crate) async fn register(
    db: &Db,
    tenant: &TenantId,
    events: &[String],
    properties: &[(Scope, String, ValueType)],
    now_us: i64,
) -> Result<(), IngestError> {
    let id = tenant.as_str();
    let mut tx = db.begin().await?;
    let settings = bump(&mut tx, tenant).await?;
    if settings.mode != Mode::Open {
        // Another process changed the mode meanwhile.
        return Ok(tx.rollback().await?);
    }
    if !events.is_empty() {
        let counted: i64 =
            on_tx!(tx, conn => sqlx::query_scalar(COUNT_INFERRED_EVENTS).bind(id).fetch_one(conn).await).map_err(StoreError::from)?;
        let mut room = i64::from(settings.inferred_events_max) - counted;
        for name in events {
            if room <= 0 {
                break;
            }
            room -= on_tx!(tx, conn => sqlx::query(INFER_EVENT).bind(id).bind(name).bind(now_us)
                .execute(conn).await.map(|done| done.rows_affected() as i64))
            .map_err(StoreError::from)?;
        }
    }
    if !properties.is_empty() {
        let counted: i64 =
            on_tx!(tx, conn => sqlx::query_scalar(COUNT_INFERRED_PROPERTIES).bind(id).fetch_one(conn).await).map_err(StoreError::from)?;
        let mut room = i64::from(settings.inferred_properties_max) - counted;
        for (scope, name, value_type) in properties {
            if room <= 0 {
                break;
            }
            room -= on_tx!(tx, conn => sqlx::query(INFER_PROPERTY).bind(id).bind(scope.name()).bind(name)
                .bind(value_type.name()).bind(TEXT_BYTES_MAX as i64).bind(now_us)
                .execute(conn).await.map(|done| done.rows_affected() as i64))
            .map_err(StoreError::from)?;
        }
    }
    Ok(tx.commit().await?)
}

/// Writes mode and limits, after [`bump`].
pub(crate) async fn update_settings(tx: &mut Tx, tenant: &TenantId, settings: &Settings) -> Result<(), IngestError> {
    on_tx!(tx, conn => sqlx::query(UPDATE_SETTINGS).bind(tenant.as_str()).bind(settings.mode.name())
        .bind(i64::from(settings.inferred_properties_max)).bind(i64::from(settings.inferred_events_max))
        .execute(conn).await.map(drop))
    .map_err(StoreError::from)?;
    Ok(())
}

/// Writes an event definition, after [`bump`]. Its aliases are written by [`insert_aliases`].
pub(crate) async fn put_event(tx: &mut Tx, tenant: &TenantId, event: &EventEntry, now_us: i64) -> Result<(), IngestError> {
    let required = serde_json::to_string(&event.required_properties).map_err(|error| unreadable(error.to_string()))?;
    on_tx!(tx, conn => sqlx::query(PUT_EVENT).bind(tenant.as_str()).bind(&event.name).bind(&event.description).bind(&required)
        .bind(event.inferred).bind(event.archived).bind(now_us).execute(conn).await.map(drop))
    .map_err(StoreError::from)?;
    Ok(())
}

/// Adds aliases of an event. The caller has seen, after [`bump`], that they are free.
pub(crate) async fn insert_aliases(tx: &mut Tx, tenant: &TenantId, name: &str, aliases: &[String]) -> Result<(), IngestError> {
    for alias in aliases {
        on_tx!(tx, conn => sqlx::query(INSERT_ALIAS).bind(tenant.as_str()).bind(alias).bind(name).execute(conn).await.map(drop))
            .map_err(StoreError::from)?;
    }
    Ok(())
}

/// Writes a property definition, after [`bump`]. The type of one that exists is not touched.
pub(crate) async fn put_property(
    tx: &mut Tx,
    tenant: &TenantId,
    scope: Scope,
    property: &PropertyEntry,
    now_us: i64,
) -> Result<(), IngestError> {
    on_tx!(tx, conn => sqlx::query(PUT_PROPERTY).bind(tenant.as_str()).bind(scope.name()).bind(&property.name)
        .bind(property.value_type.name()).bind(&property.description).bind(i64::from(property.string_bytes_max))
        .bind(property.inferred).bind(property.archived).bind(now_us).execute(conn).await.map(drop))
    .map_err(StoreError::from)?;
    Ok(())
}
