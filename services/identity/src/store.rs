//! All SQL of identity: `load` fills the registry, `write` makes effects durable (`limits` leaves out what there is no room
//! for), `read` answers questions about few, `select` about many, `accounts` and `consents` do both for theirs,
//! `outbox` hands changes to the log.
//!
//! The link log is the truth; `persons` and `identifiers` are views over it that are kept in the same transaction. Row lists
//! travel as one JSON text per statement (see `segue_store`).

pub(crate) mod accounts;
pub(crate) mod consents;
mod limits;
pub(crate) mod load;
pub(crate) mod outbox;
pub(crate) mod read;
pub(crate) mod select;
pub(crate) mod write;

use prost::Message;
use segue_proto::events::v1::Value;
use segue_store::sqlx::migrate::Migrator;
use segue_store::{Db, Migrations, StoreError};
use serde::Serialize;

use crate::error::IdentityError;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The schema.
pub const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };
/// The namespace.
pub const NAMESPACE: &str = "identity";

/// Opens identity's store and brings its schema up to date.
pub async fn open(url: &str) -> Result<Db, StoreError> {
    Db::open(url, NAMESPACE, MIGRATIONS).await
}

/// Rows as one JSON text.
fn json<T: Serialize + ?Sized>(rows: &T) -> Result<String, IdentityError> {
    // Only maps with odd keys fail to serialize, and rows have none.
    serde_json::to_string(rows).map_err(|_| IdentityError::Corrupt { what: "rows" })
}

fn number(value: i64) -> Result<u32, IdentityError> {
    u32::try_from(value).map_err(|_| IdentityError::Corrupt { what: "number" })
}

fn counter(value: i64) -> Result<u64, IdentityError> {
    u64::try_from(value).map_err(|_| IdentityError::Corrupt { what: "counter" })
}

/// A moment as the APIs say it.
pub(crate) fn timestamp(time_us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time_us.div_euclid(1_000_000), nanos: (time_us.rem_euclid(1_000_000) * 1_000) as i32 }
}

fn trait_value(bytes: &[u8]) -> Result<Value, IdentityError> {
    Value::decode(bytes).map_err(|_| IdentityError::Corrupt { what: "trait" })
}
