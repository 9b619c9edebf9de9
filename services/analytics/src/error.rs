//! What can go wrong with a call, and with starting.

use std::time::Duration;

use segue_log::LogError;
use segue_model::{Code, FieldViolation};
use segue_runtime::caller::CallerError;
use segue_runtime::status::ServiceError;
use segue_store::StoreError;

use crate::index::NotYet;
use crate::question::QueryError;
use crate::scan::ScanError;
use crate::sql::SqlError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum AnalyticsError {
    /// Who calls is not known, or may not.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// The tenant's analytics is off.
    #[error("analytics is off for tenant {tenant}: switch the module on first")]
    ModuleDisabled {
        /// Whose.
        tenant: String,
    },
    /// The tenant is not in the directory yet.
    #[error("tenant {tenant} is not known here yet: retry in a moment")]
    TenantUnknown {
        /// Which.
        tenant: String,
    },
    /// The question cannot be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The SQL statement cannot be answered.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// What the caller has read already is not in the index yet.
    #[error("not indexed yet: {0}: retry in a moment")]
    NotIndexedYet(#[from] NotYet),
    /// Merges of persons that were published before the call are not read yet, so it is not known who is part of a person.
    #[error("merges of persons are still being read: retry in a moment")]
    MergesUnread,
    /// Too many queries run and wait.
    #[error("too many queries are running and waiting: retry in a moment")]
    Busy,
    /// It took longer than allowed.
    #[error("the query took longer than {limit_ms} ms: narrow the range or the filters")]
    DeadlineExceeded {
        /// Longest allowed.
        limit_ms: u64,
    },
    /// The process stops, or the query's thread broke off.
    #[error("the query broke off before it had an answer: retry")]
    Stopped,
    /// Events cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The store failed.
    #[error("the store of analytics failed")]
    Store(#[from] StoreError),
    /// The log failed.
    #[error("the event log failed")]
    Log(#[from] LogError),
}

fn describe(violations: &[FieldViolation]) -> String {
    let all: Vec<String> = violations.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect();
    all.join("; ")
}

impl ServiceError for AnalyticsError {
    fn code(&self) -> Code {
        match self {
            Self::Caller(error) => error.code(),
            Self::ModuleDisabled { .. } => Code::FailedPrecondition,
            Self::TenantUnknown { .. } => Code::Unavailable,
            Self::Query(error) => error.code(),
            Self::Sql(error) => error.code(),
            Self::MergesUnread | Self::NotIndexedYet(_) => Code::Unavailable,
            Self::Busy => Code::ResourceExhausted,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::Stopped => Code::Unavailable,
            Self::Scan(ScanError::File { .. }) => Code::DataLoss,
            Self::Scan(ScanError::Arrow(_)) => Code::Internal,
            Self::Scan(ScanError::Cancelled) => Code::Cancelled,
            Self::Scan(ScanError::NotLoaded { .. }) => Code::Unavailable,
            Self::Store(error) if error.is_retryable() => Code::Unavailable,
            Self::Log(error) if error.is_retryable() => Code::Unavailable,
            Self::Store(_) | Self::Log(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Caller(error) => error.reason(),
            Self::ModuleDisabled { .. } => "MODULE_DISABLED",
            Self::TenantUnknown { .. } => "TENANT_UNKNOWN",
            Self::Query(error) => error.reason(),
            Self::Sql(error) => error.reason(),
            Self::MergesUnread => "MERGES_UNREAD",
            Self::NotIndexedYet(_) => "NOT_INDEXED_YET",
            Self::Busy => "TOO_MANY_QUERIES",
            Self::DeadlineExceeded { .. } => "QUERY_TOO_LONG",
            Self::Stopped => "STOPPED",
            Self::Scan(ScanError::File { .. }) => "EVENT_FILE_UNREADABLE",
            Self::Scan(ScanError::Arrow(_)) => "EVENT_COLUMNS",
            Self::Scan(ScanError::Cancelled) => "CANCELLED",
            Self::Scan(ScanError::NotLoaded { .. }) => "INDEX_OPENING",
            Self::Store(_) => "STORE",
            Self::Log(_) => "LOG",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::ModuleDisabled { tenant } => vec![("module", "analytics".to_owned()), ("tenant", tenant.clone())],
            Self::TenantUnknown { tenant } => vec![("tenant", tenant.clone())],
            Self::Scan(ScanError::File { file, .. }) | Self::Query(QueryError::Scan(ScanError::File { file, .. })) => {
                vec![("file", file.clone())]
            }
            Self::Query(error) => error.metadata(),
            Self::Sql(error) => error.metadata(),
            Self::Scan(ScanError::Arrow(_) | ScanError::Cancelled | ScanError::NotLoaded { .. })
            | Self::Caller(_)
            | Self::MergesUnread
            | Self::NotIndexedYet(_)
            | Self::Busy
            | Self::DeadlineExceeded { .. }
            | Self::Stopped
            | Self::Store(_)
            | Self::Log(_) => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Query(error) => error.field_violations(),
            Self::Sql(error) => error.field_violations(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotIndexedYet(_) => Some(Duration::from_millis(100)),
            Self::Busy | Self::MergesUnread | Self::TenantUnknown { .. } | Self::Scan(ScanError::NotLoaded { .. }) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

/// Why analytics could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration is invalid: {}", describe(violations))]
    Config {
        /// Every fault.
        violations: Vec<FieldViolation>,
    },
    /// The store cannot be opened.
    #[error("the store of analytics cannot be opened")]
    Store(#[from] StoreError),
    /// Threads for SQL cannot be started.
    #[error("threads for SQL cannot be started")]
    Threads(#[source] std::io::Error),
    /// The lake cannot be opened or read.
    #[error("the folder of event files cannot be used")]
    Lake(#[source] anyhow::Error),
}
