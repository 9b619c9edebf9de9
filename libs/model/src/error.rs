//! Error codes, as gRPC has them, without gRPC; one place in `runtime` turns them into a status.

/// What kind of failure, and so what the caller should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong whatever the state: mend it.
    InvalidArgument,
    /// No or unknown credentials.
    Unauthenticated,
    /// The credentials do not allow this.
    PermissionDenied,
    /// There is no such thing (for this tenant).
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// The state does not allow it; change the state first.
    FailedPrecondition,
    /// Somebody else changed it: read again, then retry.
    Aborted,
    /// Over a limit: wait as told.
    ResourceExhausted,
    /// Passing: retry with back-off.
    Unavailable,
    /// Took longer than allowed.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// A page or position that lies outside.
    OutOfRange,
    /// Not offered here.
    Unimplemented,
    /// Stored data cannot be read.
    DataLoss,
    /// A fault of ours; masked for callers, logged in full.
    Internal,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, for example `metrics[1].filter.any.filters[0].compare`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}
