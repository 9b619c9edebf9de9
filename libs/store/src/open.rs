//! Opening a [`Db`]: reading the URL, preparing the file or schema, migrating.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::{Db, SqliteDb, StoreError, schema};

/// How long a statement waits for SQLite's write lock when another process holds it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Readers of one SQLite file.
const SQLITE_READERS_MAX: u32 = 4;
/// Connections to PostgreSQL per namespace and process, unless the URL says `connections_max=`.
const POSTGRES_CONNECTIONS_MAX: u32 = 10;

/// The migrations of a namespace, one set for each database:
///
/// ```ignore
/// static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
/// static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
/// pub const MIGRATIONS: Migrations = Migrations { sqlite: &SQLITE, postgres: &POSTGRES };
/// ```
///
/// Files are named `NNNN_what_it_does.sql`. A released file never changes; a mistake is mended by a new one. After
/// adding a file, touch the source that holds `migrate!` (or have a `build.rs` that says `rerun-if-changed=migrations`).
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// For SQLite.
    pub sqlite: &'static Migrator,
    /// For PostgreSQL.
    pub postgres: &'static Migrator,
}

impl Db {
    /// Opens the database of `namespace` and brings its schema up to date.
    ///
    /// - `sqlite:<folder>`: the file `<folder>/<namespace>.sqlite`, created when missing. A commit is on disk when it
    ///   returns (`synchronous = FULL`).
    /// - `postgres://…`: the schema `segue_<namespace>`, created when missing. Two parameters of the URL are ours:
    ///   `schema_prefix=` instead of `segue_` (several installations in one database) and `connections_max=` (per
    ///   namespace and process, 10 when absent). Several processes may start at once: they migrate one after another.
    pub async fn open(url: &str, namespace: &str, migrations: Migrations) -> Result<Db, StoreError> {
        if !schema::is_name(namespace) {
            return Err(StoreError::InvalidNamespace { namespace: namespace.to_owned() });
        }
        match url.split_once(':') {
            Some(("sqlite", folder)) => open_sqlite(folder, namespace, migrations.sqlite).await,
            Some(("postgres" | "postgresql", _)) => open_postgres(url, namespace, migrations.postgres).await,
            _ => Err(StoreError::InvalidUrl { reason: "it starts with neither `sqlite:` nor `postgres:`".to_owned() }),
        }
    }
}

async fn open_sqlite(folder: &str, namespace: &str, migrator: &'static Migrator) -> Result<Db, StoreError> {
    // `sqlite:///abs` and `sqlite:/abs` are both in use.
    let folder = folder.strip_prefix("//").unwrap_or(folder);
    if folder.is_empty() {
        return Err(StoreError::InvalidUrl { reason: "the folder after `sqlite:` is missing".to_owned() });
    }
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path: folder.display().to_string(), source })?;

    let options = SqliteConnectOptions::new()
        .filename(folder.join(format!("{namespace}.sqlite")))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .statement_cache_capacity(256)
        .thread_name({
            let name = format!("sqlite-{namespace}");
            move |id| format!("{name}-{id}")
        })
        .pragma("temp_store", "memory")
        // Negative: kibibytes. The default of 2 MiB is small for indexes that every batch touches.
        .pragma("cache_size", "-16384")
        // Shrinks the write-ahead log after a burst.
        .pragma("journal_size_limit", "67108864");

    // Processes that start together take turns: the migrator locks PostgreSQL by itself and SQLite not at all, and the first
    // connection of a new file changes its journal mode, which fails at once when another one does too.
    let lock = lock_file(folder.join(format!("{namespace}.migrate.lock"))).await?;
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // A ping per transaction buys nothing on a local file.
        .test_before_acquire(false)
        // When a full disk makes SQLite roll back by itself, the driver's own roll-back fails, and it believes for ever that a
        // transaction is open: such a connection is replaced.
        .after_release(|conn, _| {
            Box::pin(async move {
                conn.ping().await?; // comes after the roll-back, which is queued
                Ok(!conn.is_in_transaction())
            })
        })
        .connect_with(options.clone())
        .await?;
    let migrated = migrator.run(&writer).await;
    drop(lock);
    if let Err(error) = migrated {
        writer.close().await;
        return Err(error.into());
    }
    let readers = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.pragma("query_only", "on"))
        .await?;
    Ok(Db::Sqlite(SqliteDb { writer, readers }))
}

/// Waits for the lock; it ends with the file handle, also when the process dies.
async fn lock_file(path: PathBuf) -> Result<File, StoreError> {
    let folder_error = |source| StoreError::Folder { path: path.display().to_string(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(folder_error)?;
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    locked.map_err(std::io::Error::other).and_then(|locked| locked).map_err(folder_error)
}

async fn open_postgres(url: &str, namespace: &str, migrator: &'static Migrator) -> Result<Db, StoreError> {
    let (url, ours) = split_parameters(url)?;
    let schema_name = schema::SchemaName::new(&ours.schema_prefix, namespace)?;
    let options = PgConnectOptions::from_str(&url)
        .map_err(|error| StoreError::InvalidUrl { reason: error.to_string() })?
        .application_name(&format!("segue-{namespace}"));

    schema::create(&options, &schema_name).await?;

    let pool = PgPoolOptions::new()
        .max_connections(ours.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.options([
            ("search_path", schema_name.as_str()),
            // A process that hangs inside a transaction would keep rows locked for all others.
            ("idle_in_transaction_session_timeout", "60s"),
        ]))
        .await?;
    if let Err(error) = migrator.run(&pool).await {
        // The migrator's advisory lock belongs to the connection: closing releases it.
        pool.close().await;
        return Err(error.into());
    }
    Ok(Db::Postgres(pool))
}

struct OurParameters {
    schema_prefix: String,
    connections_max: u32,
}

/// Takes our own parameters out of the URL, since the driver warns about those it does not know.
fn split_parameters(url: &str) -> Result<(String, OurParameters), StoreError> {
    let mut ours = OurParameters { schema_prefix: "segue_".to_owned(), connections_max: POSTGRES_CONNECTIONS_MAX };
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), ours)) };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("schema_prefix", value)) => ours.schema_prefix = value.to_owned(),
            Some(("connections_max", value)) => {
                ours.connections_max = value
                    .parse()
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or_else(|| StoreError::InvalidUrl { reason: format!("connections_max is `{value}`, not a number above 0") })?;
            }
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_are_taken_out_of_the_url_and_the_rest_is_kept() {
        let (url, ours) = split_parameters("postgres://h/d?sslmode=disable&schema_prefix=t_&connections_max=3").unwrap();
        assert_eq!(url, "postgres://h/d?sslmode=disable");
        assert_eq!((ours.schema_prefix.as_str(), ours.connections_max), ("t_", 3));
        assert!(split_parameters("postgres://h/d?connections_max=0").is_err());
    }
}
