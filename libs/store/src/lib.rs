//! Relational state: one [`Db`] over SQLite (one process, nothing beside it) and PostgreSQL 15 (many processes).
//!
//! A service owns one *namespace*: a SQLite file of its own, or a PostgreSQL schema of its own. A statement is written
//! once, as a constant with `$1` placeholders, and runs on either database through three macros:
//!
//! | macro | for | SQLite | PostgreSQL |
//! |---|---|---|---|
//! | [`on_db!`] | reads | the reader pool (a write here is an error) | the pool |
//! | [`on_writer!`] | one writing statement on its own | the writer connection | the pool |
//! | [`on_tx!`] | statements of a [`Tx`] | the writer connection, `BEGIN IMMEDIATE` | one connection |
//!
//! ```no_run
//! # use segue_store::{Db, Run, StoreError, on_db, on_tx};
//! const INSERT_ALIAS: &str = "INSERT INTO alias (tenant, name, target) VALUES ($1, $2, $3)
//!     ON CONFLICT (tenant, name) DO UPDATE SET target = excluded.target";
//! const FIND_ALIAS: &str = "SELECT name, target FROM alias WHERE tenant = $1 AND name = $2";
//!
//! #[derive(sqlx::FromRow)]
//! struct AliasRow { name: String, target: Option<String> }
//!
//! async fn put_alias(db: &Db, tenant: i64, name: &str, target: &str) -> Result<(), StoreError> {
//!     let mut tx = db.begin().await?;
//!     on_tx!(tx, conn => sqlx::query(INSERT_ALIAS).bind(tenant).bind(name).bind(target).run(conn).await)?;
//!     tx.commit().await
//! }
//!
//! async fn find_alias(db: &Db, tenant: i64, name: &str) -> Result<Option<AliasRow>, StoreError> {
//!     Ok(on_db!(db, pool => sqlx::query_as(FIND_ALIAS).bind(tenant).bind(name).fetch_optional(pool).await)?)
//! }
//! ```
//!
//! `execute` answers with another type on each database; [`Run::run`] is the same and answers with the number of rows.
//!
//! # What binds and decodes the same way on both
//!
//! `i64` (`INTEGER` / `BIGINT`), `String` and `&str` (`TEXT`), `Vec<u8>` and `&[u8]` (`BLOB` / `BYTEA`), `bool`
//! (`BOOLEAN`), `f64` (`REAL` / `DOUBLE PRECISION`), and `Option` of these. Do not use `u64`, `u32` or `i32`: the
//! databases disagree about them. In PostgreSQL `count(*)` is a `BIGINT` but `sum(bigint)` is `NUMERIC`: write
//! `CAST(sum(x) AS BIGINT)`, which SQLite reads too. A parameter whose type PostgreSQL cannot infer wants
//! `CAST($1 AS BIGINT)`.
//!
//! # Where the databases differ
//!
//! Write two constants side by side and pick with [`Db::sql`] or [`Tx::sql`]:
//!
//! ```no_run
//! # use segue_store::{Tx, StoreError, on_tx};
//! // Many rows in one statement: bind one JSON text. About 1 µs per row on SQLite, where one prepared statement per
//! // row costs 10 to 20 µs for the trip to the connection's thread; on PostgreSQL it saves a round trip per row.
//! const INSERT_MARKS_SQLITE: &str = "INSERT INTO mark (tenant, message, seen_at)
//!     SELECT $1, value ->> 0, value ->> 1 FROM json_each($2) WHERE true
//!     ON CONFLICT DO NOTHING RETURNING message";
//! const INSERT_MARKS_POSTGRES: &str = "INSERT INTO mark (tenant, message, seen_at)
//!     SELECT $1, value ->> 0, (value ->> 1)::bigint FROM json_array_elements($2::json)
//!     ON CONFLICT DO NOTHING RETURNING message";
//!
//! /// Returns those that are new. `rows` is a JSON array of `[message, seen_at]`.
//! async fn insert_marks(tx: &mut Tx, tenant: i64, rows: &str) -> Result<Vec<String>, StoreError> {
//!     let sql = tx.sql(INSERT_MARKS_SQLITE, INSERT_MARKS_POSTGRES);
//!     Ok(on_tx!(tx, conn => sqlx::query_scalar(sql).bind(tenant).bind(rows).fetch_all(conn).await)?)
//! }
//! ```
//!
//! - `WHERE true` is needed on SQLite between `SELECT … FROM` and `ON CONFLICT` (a parsing ambiguity).
//! - Bytes travel in JSON as hexadecimal: `unhex(value ->> 0)` on SQLite, `decode(value ->> 0, 'hex')` on PostgreSQL.
//! - A lookup of many keys is the same: `… WHERE key IN (SELECT value FROM json_each($1))` and
//!   `… WHERE key = ANY (SELECT json_array_elements_text($1::json))`.
//! - Where even that is too slow on PostgreSQL, `match` on [`Tx::conn`] and bind arrays to `UNNEST` in one arm.
//! - An upsert that touches one row twice is an error on PostgreSQL and allowed on SQLite: make keys unique first.
//! - Sort rows by key before a multi-row upsert, so that two transactions on PostgreSQL cannot deadlock.
//!
//! Decide by `ON CONFLICT` and rows returned rather than by reading first: on PostgreSQL another process may write
//! between your read and your write. Bind times and ids; never `now()`.
//!
//! # Errors
//!
//! [`StoreError`] sorts failures by what the caller can do; [`StoreError::is_retryable`] means "the same transaction may
//! succeed when run again from its beginning".

mod db;
mod error;
mod open;
mod run;
mod schema;
mod tx;

pub use db::{Db, DbKind, PoolRef, SqliteDb};
pub use error::{ConstraintKind, StoreError};
pub use open::Migrations;
pub use run::{CountsRows, Run};
pub use schema::drop_schemas_with_prefix;
pub use tx::{ConnRef, Tx};

// Re-exported so that a service names one version of sqlx; `sqlx::FromRow` still needs the crate as a dependency.
pub use sqlx;

/// Runs a read on whichever database `$db` is; `$pool` is the pool inside `$body`. The driver is inferred per arm.
///
/// The value is that of `$body`, usually `Result<_, sqlx::Error>`, which `?` turns into a [`StoreError`].
#[macro_export]
macro_rules! on_db {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db.readers() {
            $crate::PoolRef::Sqlite($pool) => $body,
            $crate::PoolRef::Postgres($pool) => $body,
        }
    };
}

/// Runs one writing statement on its own (it commits by itself); like [`on_db!`] otherwise.
#[macro_export]
macro_rules! on_writer {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db.writer() {
            $crate::PoolRef::Sqlite($pool) => $body,
            $crate::PoolRef::Postgres($pool) => $body,
        }
    };
}

/// Runs a statement inside a [`Tx`]; `$conn` is a `&mut` connection (write `&mut *$conn` to use it more than once).
#[macro_export]
macro_rules! on_tx {
    ($tx:expr, $conn:ident => $body:expr) => {
        match $tx.conn() {
            $crate::ConnRef::Sqlite($conn) => $body,
            $crate::ConnRef::Postgres($conn) => $body,
        }
    };
}
