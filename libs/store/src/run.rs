//! `execute` answers with a type of its own on each database; [`Run::run`] answers with the number of rows on both.

use std::future::Future;

use sqlx::query::Query;
use sqlx::{Database, Executor, IntoArguments, Postgres, Sqlite};

/// A database whose `execute` tells how many rows it touched.
pub trait CountsRows: Database {
    /// Rows inserted, changed or deleted.
    fn rows(result: &Self::QueryResult) -> u64;
}

impl CountsRows for Sqlite {
    fn rows(result: &Self::QueryResult) -> u64 {
        result.rows_affected()
    }
}

impl CountsRows for Postgres {
    fn rows(result: &Self::QueryResult) -> u64 {
        result.rows_affected()
    }
}

/// Runs a statement that returns no rows.
pub trait Run<'q, DB: Database>: Sized {
    /// Runs the statement; the number of rows inserted, changed or deleted.
    fn run<'e, E>(self, executor: E) -> impl Future<Output = Result<u64, sqlx::Error>> + Send
    where
        'q: 'e,
        E: Executor<'e, Database = DB> + 'e;
}

impl<'q, DB, A> Run<'q, DB> for Query<'q, DB, A>
where
    DB: CountsRows,
    A: Send + IntoArguments<DB> + 'q,
{
    async fn run<'e, E>(self, executor: E) -> Result<u64, sqlx::Error>
    where
        'q: 'e,
        E: Executor<'e, Database = DB> + 'e,
    {
        Ok(DB::rows(&self.execute(executor).await?))
    }
}
