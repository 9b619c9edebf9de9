//! [`StoreError`]: failures sorted by what a caller can do about them.

use segue_model::Code;
use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::migrate::MigrateError;

/// Which rule of the schema a statement broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConstraintKind {
    /// A primary key or unique index: the row exists already.
    Unique,
    /// A foreign key: the row referred to does not exist, or is still referred to.
    ForeignKey,
    /// A column that must have a value has none.
    NotNull,
    /// A `CHECK` does not hold.
    Check,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL of the configuration cannot be used.
    #[error("store.url cannot be used: {reason}; write `sqlite:<folder>` or `postgres://user@host/database`")]
    InvalidUrl {
        /// What is wrong with it. Never contains the URL, which may hold a password.
        reason: String,
    },
    /// A namespace is a lower-case name of at most 40 letters, digits and underscores.
    #[error("`{namespace}` is not a namespace: use a-z, 0-9 and _, starting with a letter, at most 40 of them")]
    InvalidNamespace {
        /// The name as given.
        namespace: String,
    },
    /// The folder of a SQLite file, or a lock in it, could not be made.
    #[error("cannot create {path}: check that the process may write there")]
    Folder {
        /// The folder.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database cannot be reached, or the connection was lost. Retry; for a lost `commit` see [`Tx::commit`](crate::Tx::commit).
    #[error("the database cannot be reached: check that it runs and that store.url is right; the call may be retried")]
    Unavailable {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// Another transaction was in the way (serialization failure, deadlock, lock timeout, or all connections in use).
    /// Run the whole transaction again.
    #[error("the database is busy with a conflicting transaction: run the whole transaction again")]
    Busy {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// No space is left. Nothing of the transaction was kept.
    #[error("the disk of the database is full: free space or enlarge it; nothing was written")]
    DiskFull {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The statement broke a rule of the schema.
    #[error("the row breaks a rule of the schema ({kind:?} {})", name.as_deref().unwrap_or("unnamed"))]
    Constraint {
        /// Which kind of rule.
        kind: ConstraintKind,
        /// Name of the constraint; SQLite tells it for few kinds.
        name: Option<String>,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The stored data cannot be read.
    #[error("the stored data cannot be read: restore the database from a backup")]
    Corrupt {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// A row that must exist does not (`fetch_one` without a row).
    #[error("no row was found where one must exist")]
    RowNotFound,
    /// A migration failed, or the database was made by another version.
    #[error("the schema cannot be brought up to date: run the version that made the database, or a newer one")]
    Migration {
        /// What the migrator said.
        source: MigrateError,
    },
    /// Anything else: a statement or a decode that can never work. A defect of the program.
    #[error("a statement failed in a way that retrying cannot mend")]
    Statement {
        /// What the driver said.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Whether the same transaction may succeed when run again from its beginning.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::Unavailable { .. } | StoreError::Busy { .. } => true,
            StoreError::InvalidUrl { .. }
            | StoreError::InvalidNamespace { .. }
            | StoreError::Folder { .. }
            | StoreError::DiskFull { .. }
            | StoreError::Constraint { .. }
            | StoreError::Corrupt { .. }
            | StoreError::RowNotFound
            | StoreError::Migration { .. }
            | StoreError::Statement { .. } => false,
        }
    }

    /// What kind of failure it is to who called the service.
    pub fn code(&self) -> Code {
        match self {
            StoreError::Unavailable { .. } | StoreError::Busy { .. } => Code::Unavailable,
            StoreError::DiskFull { .. } => Code::ResourceExhausted,
            StoreError::Corrupt { .. } => Code::DataLoss,
            StoreError::InvalidUrl { .. }
            | StoreError::InvalidNamespace { .. }
            | StoreError::Folder { .. }
            | StoreError::Constraint { .. }
            | StoreError::RowNotFound
            | StoreError::Migration { .. }
            | StoreError::Statement { .. } => Code::Internal,
        }
    }

    /// The reason to give for it, for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            StoreError::Unavailable { .. } | StoreError::Busy { .. } => "STORE_UNAVAILABLE",
            StoreError::DiskFull { .. } => "DISK_FULL",
            StoreError::Corrupt { .. }
            | StoreError::InvalidUrl { .. }
            | StoreError::InvalidNamespace { .. }
            | StoreError::Folder { .. }
            | StoreError::Constraint { .. }
            | StoreError::RowNotFound
            | StoreError::Migration { .. }
            | StoreError::Statement { .. } => "STORE_FAILED",
        }
    }

    /// Whether a primary key or unique index refused the row.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, StoreError::Constraint { kind: ConstraintKind::Unique, .. })
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        match classify(&source) {
            Class::Unavailable => StoreError::Unavailable { source },
            Class::Busy => StoreError::Busy { source },
            Class::DiskFull => StoreError::DiskFull { source },
            Class::Constraint(kind) => {
                let name = source.as_database_error().and_then(|e| e.constraint()).map(str::to_owned);
                StoreError::Constraint { kind, name, source }
            }
            Class::Corrupt => StoreError::Corrupt { source },
            Class::RowNotFound => StoreError::RowNotFound,
            Class::Statement => StoreError::Statement { source },
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            // Connection trouble while migrating is trouble with the connection, not with the schema.
            MigrateError::Execute(source) => match StoreError::from(source) {
                StoreError::Statement { source } | StoreError::Constraint { source, .. } => {
                    StoreError::Migration { source: MigrateError::Execute(source) }
                }
                other => other,
            },
            source => StoreError::Migration { source },
        }
    }
}

enum Class {
    Unavailable,
    Busy,
    DiskFull,
    Constraint(ConstraintKind),
    Corrupt,
    RowNotFound,
    Statement,
}

fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Class::Unavailable,
        // The server answered with something that is no PostgreSQL, or half an answer.
        sqlx::Error::Protocol(_) => Class::Unavailable,
        sqlx::Error::PoolTimedOut => Class::Busy,
        sqlx::Error::RowNotFound => Class::RowNotFound,
        sqlx::Error::Database(database) => classify_database(database.as_ref()),
        _ => Class::Statement,
    }
}

fn classify_database(error: &dyn DatabaseError) -> Class {
    match error.kind() {
        ErrorKind::UniqueViolation => return Class::Constraint(ConstraintKind::Unique),
        ErrorKind::ForeignKeyViolation => return Class::Constraint(ConstraintKind::ForeignKey),
        ErrorKind::NotNullViolation => return Class::Constraint(ConstraintKind::NotNull),
        ErrorKind::CheckViolation => return Class::Constraint(ConstraintKind::Check),
        _ => {}
    }
    let Some(code) = error.code() else { return Class::Statement };
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() { classify_postgres(&code) } else { classify_sqlite(&code) }
}

/// SQLSTATE: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn classify_postgres(code: &str) -> Class {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available, too_many_connections
        "40001" | "40P01" | "55P03" | "53300" => Class::Busy,
        // read_only_sql_transaction: the server was demoted to a standby; another connection reaches the new primary.
        "25006" => Class::Unavailable,
        // disk_full; out_of_memory and configuration_limit_exceeded pass by themselves.
        "53100" => Class::DiskFull,
        "53200" | "53400" => Class::Busy,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Class::Corrupt,
        // Connection exceptions; admin_shutdown, crash_shutdown, cannot_connect_now
        _ if code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "58030") => Class::Unavailable,
        _ => Class::Statement,
    }
}

/// Extended result codes: <https://www.sqlite.org/rescode.html>; the low byte is the primary code.
fn classify_sqlite(code: &str) -> Class {
    match code.parse::<i32>().map(|extended| extended & 0xff) {
        Ok(5 | 6) => Class::Busy,          // SQLITE_BUSY, SQLITE_LOCKED
        Ok(10 | 14) => Class::Unavailable, // SQLITE_IOERR, SQLITE_CANTOPEN
        Ok(13) => Class::DiskFull,         // SQLITE_FULL
        Ok(11 | 26) => Class::Corrupt,     // SQLITE_CORRUPT, SQLITE_NOTADB
        Ok(_) | Err(_) => Class::Statement,
    }
}
