//! [`Tx`]: a transaction on either database.

use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

use crate::StoreError;

/// A transaction. Run statements in it with [`on_tx!`](crate::on_tx); dropping it rolls back.
#[derive(Debug)]
pub enum Tx {
    /// SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
}

/// The connection of a transaction, for [`on_tx!`](crate::on_tx).
#[derive(Debug)]
pub enum ConnRef<'a> {
    /// SQLite.
    Sqlite(&'a mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'a mut PgConnection),
}

impl Tx {
    /// The connection to run statements on.
    pub fn conn(&mut self) -> ConnRef<'_> {
        match self {
            Tx::Sqlite(tx) => ConnRef::Sqlite(tx),
            Tx::Postgres(tx) => ConnRef::Postgres(tx),
        }
    }

    /// Picks the statement for this database, where the two differ.
    pub fn sql(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Tx::Sqlite(_) => sqlite,
            Tx::Postgres(_) => postgres,
        }
    }

    /// Makes the transaction durable: it is on disk when this returns.
    ///
    /// When it fails with [`StoreError::Unavailable`] on PostgreSQL, whether it was committed is unknown; statements
    /// that are safe to run twice (`ON CONFLICT`) make that harmless.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Undoes the transaction. Dropping it does the same, without waiting.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.rollback().await?,
            Tx::Postgres(tx) => tx.rollback().await?,
        }
        Ok(())
    }
}
