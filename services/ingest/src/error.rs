//! Why a call could not be answered. Faults of single events are outcomes, not errors.

use std::time::Duration;

use segue_log::LogError;
use segue_model::{Code, FieldViolation};
use segue_runtime::caller::CallerError;
use segue_runtime::fields::InvalidFields;
use segue_runtime::status::ServiceError;
use segue_store::StoreError;

/// Why a call could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Who calls is unknown or may not do this.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// Fields of the request are wrong.
    #[error("the request is invalid: {}", describe(.0))]
    Invalid(Vec<FieldViolation>),
    /// There is no such thing for this tenant.
    #[error("{resource} does not exist")]
    NotFound {
        /// Its resource name.
        resource: String,
    },
    /// There is one already.
    #[error("{resource} exists already")]
    AlreadyExists {
        /// Its resource name.
        resource: String,
    },
    /// The type of a property never changes.
    #[error("the property `{property}` is registered as {registered} and keeps that type: send it as such, or under another name")]
    PropertyTypeFixed {
        /// The property.
        property: String,
        /// Its type.
        registered: &'static str,
    },
    /// Somebody else changed it since it was read.
    #[error("{resource} was changed since it was read: read it again, then retry with its new etag")]
    EtagMismatch {
        /// Its resource name.
        resource: String,
    },
    /// There are as many as there may be.
    #[error("there are {limit} {what} already: delete some first")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u32,
    },
    /// Too much is waiting to be written.
    #[error("too many events are waiting to be written: retry after {} ms", retry_after.as_millis())]
    Busy {
        /// When to retry.
        retry_after: Duration,
    },
    /// The process is stopping.
    #[error("this process is stopping: retry, another one will answer")]
    Stopping,
    /// The store failed.
    #[error("the store could not do it")]
    Store(#[from] StoreError),
    /// The log failed.
    #[error("the log could not do it")]
    Log(#[from] LogError),
    /// A file of the data directory failed.
    #[error("a file of the data directory cannot be read or written: check its disk, then retry")]
    File {
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Something that the store holds cannot be read by this version.
    #[error("stored data cannot be read: {what}")]
    Unreadable {
        /// What and why.
        what: String,
    },
}

impl IngestError {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        IngestError::Invalid(vec![FieldViolation::new(field, description)])
    }
}

impl From<InvalidFields> for IngestError {
    fn from(InvalidFields(violations): InvalidFields) -> Self {
        IngestError::Invalid(violations)
    }
}

fn describe(violations: &[FieldViolation]) -> String {
    violations.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect::<Vec<_>>().join("; ")
}

impl ServiceError for IngestError {
    fn code(&self) -> Code {
        match self {
            IngestError::Caller(error) => error.code(),
            IngestError::Invalid(_) => Code::InvalidArgument,
            IngestError::NotFound { .. } => Code::NotFound,
            IngestError::AlreadyExists { .. } => Code::AlreadyExists,
            IngestError::PropertyTypeFixed { .. } | IngestError::TooMany { .. } => Code::FailedPrecondition,
            IngestError::EtagMismatch { .. } => Code::Aborted,
            IngestError::Busy { .. } => Code::ResourceExhausted,
            IngestError::Stopping => Code::Unavailable,
            IngestError::Store(StoreError::DiskFull { .. }) => Code::ResourceExhausted,
            IngestError::Store(error) if error.is_retryable() => Code::Unavailable,
            IngestError::Store(StoreError::Corrupt { .. }) => Code::DataLoss,
            IngestError::Store(_) => Code::Internal,
            IngestError::Log(error) if error.is_full() => Code::ResourceExhausted,
            IngestError::Log(LogError::Closed) => Code::Unavailable,
            IngestError::Log(error) if error.is_retryable() => Code::Unavailable,
            IngestError::Log(LogError::Corrupt { .. }) => Code::DataLoss,
            IngestError::Log(_) => Code::Internal,
            IngestError::File { source } if source.kind() == std::io::ErrorKind::StorageFull => Code::ResourceExhausted,
            IngestError::File { .. } => Code::Internal,
            IngestError::Unreadable { .. } => Code::DataLoss,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            IngestError::Caller(error) => error.reason(),
            IngestError::Invalid(_) => "INVALID_REQUEST",
            IngestError::NotFound { .. } => "NOT_FOUND",
            IngestError::AlreadyExists { .. } => "ALREADY_EXISTS",
            IngestError::PropertyTypeFixed { .. } => "PROPERTY_TYPE_FIXED",
            IngestError::EtagMismatch { .. } => "ETAG_MISMATCH",
            IngestError::TooMany { .. } => "TOO_MANY",
            IngestError::Busy { .. } => "TOO_MUCH_WAITING",
            IngestError::Stopping => "STOPPING",
            IngestError::Store(StoreError::DiskFull { .. }) => "STORE_FULL",
            IngestError::Store(_) => "STORE_FAILED",
            IngestError::Log(error) if error.is_full() => "LOG_FULL",
            IngestError::Log(_) => "LOG_FAILED",
            IngestError::File { .. } => "FILE_FAILED",
            IngestError::Unreadable { .. } => "STORED_DATA_UNREADABLE",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            IngestError::Caller(error) => error.metadata(),
            IngestError::PropertyTypeFixed { property, registered } => {
                vec![("property", property.clone()), ("type", (*registered).to_owned())]
            }
            IngestError::NotFound { resource } | IngestError::AlreadyExists { resource } | IngestError::EtagMismatch { resource } => {
                vec![("resource", resource.clone())]
            }
            IngestError::Invalid(_)
            | IngestError::TooMany { .. }
            | IngestError::Busy { .. }
            | IngestError::Stopping
            | IngestError::Store(_)
            | IngestError::Log(_)
            | IngestError::File { .. }
            | IngestError::Unreadable { .. } => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            IngestError::Caller(error) => error.field_violations(),
            IngestError::Invalid(violations) => violations.clone(),
            IngestError::NotFound { .. }
            | IngestError::AlreadyExists { .. }
            | IngestError::PropertyTypeFixed { .. }
            | IngestError::EtagMismatch { .. }
            | IngestError::TooMany { .. }
            | IngestError::Busy { .. }
            | IngestError::Stopping
            | IngestError::Store(_)
            | IngestError::Log(_)
            | IngestError::File { .. }
            | IngestError::Unreadable { .. } => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            IngestError::Caller(error) => error.retry_after(),
            IngestError::Busy { retry_after } => Some(*retry_after),
            // Retention runs every 30 seconds; a few seconds spread the retries over that.
            IngestError::Log(error) if error.is_full() => Some(Duration::from_secs(5)),
            IngestError::Store(StoreError::DiskFull { .. }) => Some(Duration::from_secs(5)),
            IngestError::Stopping => Some(Duration::from_millis(200)),
            IngestError::Invalid(_)
            | IngestError::NotFound { .. }
            | IngestError::AlreadyExists { .. }
            | IngestError::PropertyTypeFixed { .. }
            | IngestError::EtagMismatch { .. }
            | IngestError::TooMany { .. }
            | IngestError::Store(_)
            | IngestError::Log(_)
            | IngestError::File { .. }
            | IngestError::Unreadable { .. } => None,
        }
    }
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration of ingest is invalid: {}", describe(.0))]
    Config(Vec<FieldViolation>),
    /// The store could not be opened.
    #[error("ingest's store could not be opened")]
    Store(#[from] StoreError),
    /// The log refused.
    #[error("ingest could not use the log")]
    Log(#[from] LogError),
    /// A folder or file of the data directory could not be used.
    #[error("{path} cannot be used: check that it exists and the process may read and write there")]
    File {
        /// The path.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the data directory (the place database) is not what it should be.
    #[error("{path} cannot be read: {reason}")]
    BadFile {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
