//! [`Db`]: the handle that services keep, and which pool a statement runs on.

use sqlx::{PgPool, SqlitePool};

use crate::{StoreError, Tx};

/// A database of one namespace. Cheap to clone; all clones share the pools.
#[derive(Clone, Debug)]
pub enum Db {
    /// A SQLite file of its own.
    Sqlite(SqliteDb),
    /// A schema of its own in a PostgreSQL database; every connection has it as its `search_path`.
    Postgres(PgPool),
}

/// One SQLite file: a single writer connection, so that writers queue in this process instead of failing with
/// `SQLITE_BUSY`, and a few readers, which in WAL mode neither wait for the writer nor hold it up.
#[derive(Clone, Debug)]
pub struct SqliteDb {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
}

/// Which database this is, for messages and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DbKind {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// A pool of either kind, for [`on_db!`](crate::on_db) and [`on_writer!`](crate::on_writer).
#[derive(Clone, Copy, Debug)]
pub enum PoolRef<'a> {
    /// SQLite.
    Sqlite(&'a SqlitePool),
    /// PostgreSQL.
    Postgres(&'a PgPool),
}

impl Db {
    /// Which database this is.
    pub fn kind(&self) -> DbKind {
        match self {
            Db::Sqlite(_) => DbKind::Sqlite,
            Db::Postgres(_) => DbKind::Postgres,
        }
    }

    /// Picks the statement for this database, where the two differ.
    pub fn sql(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Db::Sqlite(_) => sqlite,
            Db::Postgres(_) => postgres,
        }
    }

    /// The pool for reads outside a transaction. On SQLite these connections refuse to write.
    pub fn readers(&self) -> PoolRef<'_> {
        match self {
            Db::Sqlite(db) => PoolRef::Sqlite(&db.readers),
            Db::Postgres(pool) => PoolRef::Postgres(pool),
        }
    }

    /// The pool for single writing statements outside a transaction.
    pub fn writer(&self) -> PoolRef<'_> {
        match self {
            Db::Sqlite(db) => PoolRef::Sqlite(&db.writer),
            Db::Postgres(pool) => PoolRef::Postgres(pool),
        }
    }

    /// Opens a write transaction. On SQLite it takes the write lock at once (`BEGIN IMMEDIATE`), so a later statement
    /// cannot fail for want of it; keep it short, since every other writer of this namespace waits. On PostgreSQL it is
    /// `READ COMMITTED`.
    ///
    /// Dropping the transaction without [`Tx::commit`] rolls it back.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Db::Sqlite(db) => Tx::Sqlite(begun(&db.writer, "BEGIN IMMEDIATE").await?),
            Db::Postgres(pool) => Tx::Postgres(begun(pool, "BEGIN").await?),
        })
    }

    /// Opens a read-only transaction: all its statements see one and the same state of the database.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Db::Sqlite(db) => Tx::Sqlite(begun(&db.readers, "BEGIN DEFERRED").await?),
            Db::Postgres(pool) => Tx::Postgres(begun(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?),
        })
    }

    /// Answers when the database can be reached; for health checks.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _one: i64 = crate::on_db!(self, pool => sqlx::query_scalar("SELECT CAST(1 AS BIGINT)").fetch_one(pool).await)?;
        Ok(())
    }

    /// Waits for running statements and closes every connection. Later calls fail with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        match self {
            Db::Sqlite(db) => {
                db.readers.close().await;
                // Last, since the last connection of a SQLite file folds the write-ahead log into it.
                db.writer.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }
}

/// Begins a transaction, whether or not the caller is still there when it has begun. A future that is dropped after BEGIN was
/// sent would give its connection back to the pool with the transaction open, and what others then write on it would never be
/// committed. Here the transaction exists before it is dropped, so it is rolled back.
async fn begun<D: sqlx::Database>(pool: &sqlx::Pool<D>, statement: &'static str) -> Result<sqlx::Transaction<'static, D>, sqlx::Error> {
    let pool = pool.clone();
    #[allow(
        clippy::disallowed_methods,
        reason = "it ends by itself, within the pool's time limits, and outliving its caller is its purpose"
    )]
    let beginning = tokio::spawn(async move { pool.begin_with(statement).await });
    match beginning.await {
        Ok(begun) => begun,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(sqlx::Error::PoolClosed),
    }
}
