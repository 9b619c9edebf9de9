//! Why a report was not computed. Every variant says what the caller can do about it.

use segue_model::{Code, FieldViolation};
use segue_runtime::status::ServiceError;

use crate::scan::ScanError;

/// Why a report was not computed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The request is wrong; every fault found is listed with its path.
    #[error("the report's request has {} fault(s), the first at `{}`: {}", .0.len(), first(.0).field, first(.0).description)]
    Invalid(Vec<FieldViolation>),
    /// The answer would have more numbers than the limit allows.
    #[error(
        "the report needs {groups} groups × {periods} periods, over the limit of {cells_max} cells; narrow the range or the filters, \
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
        "the report has to keep more than {values_max} values for its distinct counts and percentiles; narrow the range or the filters"
    )]
    TooManyValues {
        /// The limit.
        values_max: usize,
    },
    /// The caller gave up or the deadline passed.
    #[error("the report was cancelled before it was complete")]
    Cancelled,
    /// A stored column does not have the form that its registration promises.
    #[error("column `{column}` is stored as {found}, which cannot be read as {wanted}")]
    Column {
        /// Name of the column.
        column: String,
        /// Arrow type of what is stored.
        found: String,
        /// What the report needed.
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

impl ReportError {
    /// One fault at one field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        ReportError::Invalid(vec![FieldViolation::new(field, description)])
    }
}

impl ServiceError for ReportError {
    fn code(&self) -> Code {
        match self {
            ReportError::Invalid(_) => Code::InvalidArgument,
            ReportError::TooManyGroups { .. } | ReportError::TooManyValues { .. } => Code::ResourceExhausted,
            ReportError::Cancelled => Code::Cancelled,
            ReportError::Column { .. } => Code::DataLoss,
            ReportError::Overflow => Code::OutOfRange,
            ReportError::Scan(ScanError::File { .. }) => Code::DataLoss,
            ReportError::Scan(ScanError::Arrow(_)) => Code::Internal,
            ReportError::Scan(ScanError::Cancelled) => Code::Cancelled,
            ReportError::Scan(ScanError::NotLoaded { .. }) => Code::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            ReportError::Invalid(_) => "INVALID_REPORT",
            ReportError::TooManyGroups { .. } => "TOO_MANY_GROUPS",
            ReportError::TooManyValues { .. } => "TOO_MANY_VALUES",
            ReportError::Cancelled => "REPORT_CANCELLED",
            ReportError::Column { .. } => "COLUMN_MISMATCH",
            ReportError::Overflow => "TOTAL_OVERFLOW",
            ReportError::Scan(ScanError::File { .. }) => "EVENT_FILE_UNREADABLE",
            ReportError::Scan(ScanError::Arrow(_)) => "COLUMNS_DO_NOT_FIT",
            ReportError::Scan(ScanError::Cancelled) => "REPORT_CANCELLED",
            ReportError::Scan(ScanError::NotLoaded { .. }) => "INDEX_NOT_LOADED",
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            ReportError::Invalid(violations) => violations.clone(),
            ReportError::TooManyGroups { .. }
            | ReportError::TooManyValues { .. }
            | ReportError::Cancelled
            | ReportError::Column { .. }
            | ReportError::Overflow
            | ReportError::Scan(_) => Vec::new(),
        }
    }
}
