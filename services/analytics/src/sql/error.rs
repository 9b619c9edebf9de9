//! Why a statement has no answer.

use datafusion::error::DataFusionError;
use segue_model::{Code, FieldViolation};
use segue_runtime::status::ServiceError;

use super::growth::TooLarge;
use crate::scan::ScanError;

/// Longest message of DataFusion that is passed on.
const MESSAGE_CHARS_MAX: usize = 400;

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The statement is wrong, or its expressions fail on the data.
    #[error("the query is invalid: {0}")]
    Invalid(String),
    /// The statement asks for what is not allowed here.
    #[error("{what} cannot be used here: {why}")]
    Refused {
        /// Which part of the statement.
        what: String,
        /// The reason, and what to do.
        why: &'static str,
    },
    /// Its groups, sorts or joins need too much memory.
    #[error(
        "the query needs more than {bytes_max} bytes of memory: narrow the range of time, filter by event, or group by fewer distinct values"
    )]
    Memory {
        /// Most that one query may take.
        bytes_max: u64,
    },
    /// A function puts too much into one value.
    #[error("{function} makes values of more than {bytes_max} bytes: put less together")]
    ValueTooLarge {
        /// Which.
        function: String,
        /// Most bytes of the values of a batch.
        bytes_max: u64,
    },
    /// One row alone is larger than an answer may be.
    #[error("a row of the answer has more than {bytes_max} bytes: select fewer columns or aggregate less into one row")]
    RowTooLarge {
        /// Most bytes of an answer.
        bytes_max: u64,
    },
    /// It took longer than allowed.
    #[error("the query took longer than {limit_ms} ms: narrow the range of time, filter by event, or select fewer columns")]
    TooLong {
        /// Longest allowed.
        limit_ms: u64,
    },
    /// The caller went away, or the process stops.
    #[error("the query was cancelled")]
    Cancelled,
    /// Events cannot be read.
    #[error(transparent)]
    Scan(ScanError),
    /// A fault of ours or of DataFusion.
    #[error("the query engine failed")]
    Engine(#[source] Box<DataFusionError>),
}

impl SqlError {
    /// What DataFusion says, as ours. `memory_bytes_max` is the limit that was set.
    pub(super) fn of(error: DataFusionError, memory_bytes_max: u64) -> Self {
        if let Some(found) = own(&error) {
            return found;
        }
        let root = error.find_root();
        match root {
            DataFusionError::ResourcesExhausted(_) => Self::Memory { bytes_max: memory_bytes_max },
            DataFusionError::SQL(parser, _) => Self::Invalid(shortened(&parser.to_string())),
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(_, _)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::Execution(_)
            | DataFusionError::ArrowError(_, _)
            | DataFusionError::Diagnostic(_, _)
            | DataFusionError::Collection(_) => Self::Invalid(shortened(&root.message())),
            _ => Self::Engine(Box::new(error)),
        }
    }
}

/// An error of ours that came through DataFusion.
fn own(error: &DataFusionError) -> Option<SqlError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(Refusal { what, why }) = current.downcast_ref() {
            return Some(SqlError::Refused { what: what.clone(), why });
        }
        if let Some(TooLarge { function, bytes_max }) = current.downcast_ref() {
            return Some(SqlError::ValueTooLarge { function: function.clone(), bytes_max: *bytes_max });
        }
        if let Some(error) = current.downcast_ref::<ScanError>() {
            return Some(match error {
                ScanError::Cancelled => SqlError::Cancelled,
                ScanError::NotLoaded { tenant } => SqlError::Scan(ScanError::NotLoaded { tenant: tenant.clone() }),
                ScanError::Arrow(error) => SqlError::Scan(ScanError::Arrow(arrow::error::ArrowError::ComputeError(error.to_string()))),
                ScanError::File { file, tenant, source } => {
                    // The original is behind a reference; its text is what the log needs.
                    SqlError::Scan(ScanError::File { file: file.clone(), tenant: tenant.clone(), source: anyhow::anyhow!("{source:#}") })
                }
            });
        }
        source = match current.downcast_ref::<std::sync::Arc<DataFusionError>>() {
            Some(shared) => Some(shared.as_ref()),
            None => current.source(),
        };
    }
    None
}

/// A refusal on its way through DataFusion.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be used here: {why}")]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) why: &'static str,
}

/// The first part of a message, without DataFusion's hints to its own developers.
fn shortened(message: &str) -> String {
    let message = message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
    let message = message.split("\nThis issue was likely caused").next().unwrap_or_default().trim();
    let mut short: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    if short.len() < message.len() {
        short.push('…');
    }
    short
}

impl ServiceError for SqlError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Refused { .. } => Code::InvalidArgument,
            Self::Memory { .. } | Self::ValueTooLarge { .. } | Self::RowTooLarge { .. } => Code::ResourceExhausted,
            Self::TooLong { .. } => Code::DeadlineExceeded,
            Self::Cancelled | Self::Scan(ScanError::Cancelled) => Code::Cancelled,
            Self::Scan(ScanError::File { .. }) => Code::DataLoss,
            Self::Scan(ScanError::NotLoaded { .. }) => Code::Unavailable,
            Self::Scan(ScanError::Arrow(_)) | Self::Engine(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_SQL",
            Self::Refused { .. } => "SQL_NOT_ALLOWED",
            Self::Memory { .. } => "TOO_MUCH_MEMORY",
            Self::ValueTooLarge { .. } => "VALUE_TOO_LARGE",
            Self::RowTooLarge { .. } => "ROW_TOO_LARGE",
            Self::TooLong { .. } => "QUERY_TOO_LONG",
            Self::Cancelled | Self::Scan(ScanError::Cancelled) => "QUERY_CANCELLED",
            Self::Scan(ScanError::File { .. }) => "EVENT_FILE_UNREADABLE",
            Self::Scan(ScanError::NotLoaded { .. }) => "INDEX_OPENING",
            Self::Scan(ScanError::Arrow(_)) => "EVENT_COLUMNS",
            Self::Engine(_) => "SQL_ENGINE",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Scan(ScanError::File { file, .. }) => vec![("file", file.clone())],
            _ => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(_) | Self::Refused { .. } => vec![FieldViolation::new("sql", self.to_string())],
            _ => Vec::new(),
        }
    }
}

impl From<ScanError> for SqlError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Cancelled => Self::Cancelled,
            other => Self::Scan(other),
        }
    }
}
