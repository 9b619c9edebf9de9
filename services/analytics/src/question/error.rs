//! Why a question was not answered. Every variant says what the caller can do about it.

use segue_model::{Code, FieldViolation};
use segue_runtime::status::ServiceError;

use crate::scan::ScanError;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The request is wrong; every fault found is listed with its path.
    #[error("the request has {} fault(s), the first at `{}`: {}", .0.len(), first(.0).field, first(.0).description)]
    Invalid(Vec<FieldViolation>),
    /// The answer would have more numbers than the limit allows.
    #[error(
        "the answer needs {groups} groups × {periods} periods, over the limit of {cells_max} cells; narrow the range or the filters, \
         take a coarser grain or group by fewer fields"
    )]
    TooManyGroups {
        /// Groups found when the limit was passed.
        groups: usize,
        /// Periods of the range (and of the comparison range).
        periods: usize,
        /// The limit on their product.
        cells_max: usize,
    },
    /// Distinct counts and percentiles would have to keep more values than the limit allows.
    #[error(
        "the question has to keep more than {values_max} values for its distinct counts and percentiles; narrow the range or the filters"
    )]
    TooManyValues {
        /// The limit.
        values_max: usize,
    },
    /// The events of a question about paths have more different nodes than the limit allows.
    #[error(
        "the paths have more than {nodes_max} different nodes; group them with `rules`, for example `/product/*`, strip queries, or \
         narrow the range or the filters"
    )]
    TooManyNodes {
        /// The limit.
        nodes_max: u32,
    },
    /// What the question has to hold in memory of one person's events, or of all its groups, is over the limit.
    #[error("the question needs more than {bytes_max} bytes of memory for {what}; narrow the range or the filters")]
    TooMuchMemory {
        /// What takes it.
        what: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// A thread of the query broke off; a fault of ours.
    #[error("the query broke off before it had an answer: retry, and report it if it happens again")]
    BrokeOff,
    /// The caller gave up or the deadline passed.
    #[error("the query was cancelled before it was complete")]
    Cancelled,
    /// A stored column does not have the form that its registration promises.
    #[error("column `{column}` is stored as {found}, which cannot be read as {wanted}")]
    Column {
        /// Name of the column.
        column: String,
        /// Arrow type of what is stored.
        found: String,
        /// What the question needed.
        wanted: &'static str,
    },
    /// A total left the range of exact 128-bit arithmetic.
    #[error("a sum exceeds 128 bits: filter out the events whose numbers are that large")]
    Overflow,
    /// Rows could not be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

fn first(violations: &[FieldViolation]) -> FieldViolation {
    violations.first().cloned().unwrap_or_else(|| FieldViolation::new("", "nothing stated"))
}

impl QueryError {
    /// One fault at one field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        QueryError::Invalid(vec![FieldViolation::new(field, description)])
    }
}

impl ServiceError for QueryError {
    fn code(&self) -> Code {
        match self {
            QueryError::Invalid(_) => Code::InvalidArgument,
            QueryError::TooManyGroups { .. }
            | QueryError::TooManyValues { .. }
            | QueryError::TooManyNodes { .. }
            | QueryError::TooMuchMemory { .. } => Code::ResourceExhausted,
            QueryError::Cancelled => Code::Cancelled,
            QueryError::BrokeOff => Code::Internal,
            QueryError::Column { .. } => Code::DataLoss,
            QueryError::Overflow => Code::OutOfRange,
            QueryError::Scan(ScanError::File { .. }) => Code::DataLoss,
            QueryError::Scan(ScanError::Arrow(_)) => Code::Internal,
            QueryError::Scan(ScanError::Cancelled) => Code::Cancelled,
            QueryError::Scan(ScanError::NotLoaded { .. }) => Code::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            QueryError::Invalid(_) => "INVALID_QUERY",
            QueryError::TooManyGroups { .. } => "TOO_MANY_GROUPS",
            QueryError::TooManyValues { .. } => "TOO_MANY_VALUES",
            QueryError::TooManyNodes { .. } => "TOO_MANY_NODES",
            QueryError::TooMuchMemory { .. } => "TOO_MUCH_MEMORY",
            QueryError::BrokeOff => "QUERY_BROKE_OFF",
            QueryError::Cancelled => "QUERY_CANCELLED",
            QueryError::Column { .. } => "COLUMN_MISMATCH",
            QueryError::Overflow => "TOTAL_OVERFLOW",
            QueryError::Scan(ScanError::File { .. }) => "EVENT_FILE_UNREADABLE",
            QueryError::Scan(ScanError::Arrow(_)) => "COLUMNS_DO_NOT_FIT",
            QueryError::Scan(ScanError::Cancelled) => "QUERY_CANCELLED",
            QueryError::Scan(ScanError::NotLoaded { .. }) => "INDEX_NOT_LOADED",
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            QueryError::Invalid(violations) => violations.clone(),
            QueryError::TooManyGroups { .. }
            | QueryError::TooManyValues { .. }
            | QueryError::TooManyNodes { .. }
            | QueryError::TooMuchMemory { .. }
            | QueryError::BrokeOff
            | QueryError::Cancelled
            | QueryError::Column { .. }
            | QueryError::Overflow
            | QueryError::Scan(_) => Vec::new(),
        }
    }
}
