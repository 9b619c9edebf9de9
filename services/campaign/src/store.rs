//! The store: its schema, and what several parts of it share. Statements stand with the part that uses them.

use segue_store::sqlx::migrate::Migrator;
use segue_store::{Db, Migrations, StoreError};
use serde::Serialize;

use crate::error::CampaignError;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The schema.
pub const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };
/// The namespace.
pub const NAMESPACE: &str = "campaign";

/// Opens the store and brings its schema up to date.
pub async fn open(url: &str) -> Result<Db, StoreError> {
    Db::open(url, NAMESPACE, MIGRATIONS).await
}

/// Rows as one JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(rows: &T) -> Result<String, CampaignError> {
    // Only maps with odd keys fail to serialize, and rows have none.
    serde_json::to_string(rows).map_err(|_| CampaignError::Corrupt { what: "rows" })
}

/// A count as stored.
pub(crate) fn counter(value: i64) -> Result<u64, CampaignError> {
    u64::try_from(value).map_err(|_| CampaignError::Corrupt { what: "counter" })
}

/// A small number as stored.
pub(crate) fn number(value: i64) -> Result<u32, CampaignError> {
    u32::try_from(value).map_err(|_| CampaignError::Corrupt { what: "number" })
}

/// A moment as the APIs say it.
pub(crate) fn timestamp(time_us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time_us.div_euclid(1_000_000), nanos: (time_us.rem_euclid(1_000_000) * 1_000) as i32 }
}
