//! Every way in which audiences can fail.

use std::sync::Arc;
use std::time::Duration;

use segue_log::LogError;
use segue_log::feed::BarrierError;
use segue_model::{Code, FieldViolation, TenantId};
use segue_runtime::caller::CallerError;
use segue_runtime::fields::{InvalidFields, list};
use segue_runtime::peers::PeerError;
use segue_runtime::status::ServiceError;
use segue_store::StoreError;

/// What a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A named condition.
    Segment,
    /// A condition whose members are kept.
    Audience,
    /// Persons that somebody named.
    List,
    /// A destination that is told who enters and leaves.
    Sync,
    /// A ready-made condition.
    Template,
    /// A person.
    Person,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Segment => "segment",
            Kind::Audience => "audience",
            Kind::List => "list",
            Kind::Sync => "sync",
            Kind::Template => "template",
            Kind::Person => "person",
        })
    }
}

/// Why the service could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AudienceError {
    /// Fields of the request are wrong.
    #[error("the request is invalid: {}", list(.0))]
    Invalid(Vec<FieldViolation>),
    /// What the request names does not exist.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// What.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// The id is taken.
    #[error("there is a {kind} `{id}` already, with another content: choose another id, or update it")]
    AlreadyExists {
        /// What.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// The state that a change was decided on is no longer the present one.
    #[error("the {kind} `{id}` was changed meanwhile: read it again, then decide")]
    EtagMismatch {
        /// What.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// It is archived.
    #[error("the {kind} `{id}` is archived: restore it first")]
    Archived {
        /// What.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// Others refer to it.
    #[error("the {kind} `{id}` is used by {}: change them first", .by.join(", "))]
    InUse {
        /// What.
        kind: Kind,
        /// Which.
        id: String,
        /// `segment a`, `audience b`, …
        by: Vec<String>,
    },
    /// A tenant may not have more.
    #[error("the tenant has {max} {what} already, as many as it may: archive some, or have an operator raise {setting}")]
    TooMany {
        /// What, in plural.
        what: &'static str,
        /// How many it may have.
        max: u64,
        /// Key of the configuration.
        setting: &'static str,
    },
    /// Members are not known yet.
    #[error("the audience `{id}` has not been evaluated yet: {hint}")]
    NotEvaluated {
        /// Which.
        id: String,
        /// What to do.
        hint: &'static str,
    },
    /// Transitions after this cursor are no longer kept.
    #[error("transitions after this cursor are no longer kept: take the members anew, then watch from the sequence read before that")]
    CursorTooOld,
    /// The tenant's switch is off.
    #[error("audiences are switched off for {tenant}; an operator can switch them on")]
    ModuleDisabled {
        /// Whose.
        tenant: TenantId,
    },
    /// The tenant is not in the directory, which may be because it has not arrived yet.
    #[error("the tenant {tenant} is not known here (yet); retry, and if it stays so, check that it exists")]
    TenantUnknown {
        /// Which.
        tenant: TenantId,
    },
    /// Membership is being loaded, or another process works on the tenant and has not written it down yet.
    #[error("live membership is not ready: {why}; retry in a moment")]
    NotReady {
        /// Why.
        why: String,
    },
    /// Another process works on the tenant now.
    #[error("another process has taken over the tenant's audiences; retry")]
    Fenced,
    /// The process stops.
    #[error("the service is stopping; retry")]
    Stopping,
    /// Analytics or identity did not answer as needed.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The store failed.
    #[error("the store of audiences failed")]
    Store(#[source] Arc<StoreError>),
    /// The event log failed.
    #[error("the event log failed")]
    Log(#[source] Arc<LogError>),
    /// What is stored cannot be read.
    #[error("stored data cannot be read ({what}); restore the store from a backup")]
    Corrupt {
        /// What.
        what: &'static str,
    },
    /// A file could not be written.
    #[error("the file could not be written: {what}")]
    File {
        /// Why.
        what: String,
    },
    /// The caller may not do this.
    #[error(transparent)]
    Caller(#[from] CallerError),
}

impl AudienceError {
    /// One wrong field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        AudienceError::Invalid(vec![FieldViolation::new(field, description)])
    }

    /// Something that does not exist.
    pub fn not_found(kind: Kind, id: impl Into<String>) -> Self {
        AudienceError::NotFound { kind, id: id.into() }
    }

    /// Whether the same may succeed when done again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code(), Code::Unavailable | Code::DeadlineExceeded)
            || matches!(self, AudienceError::Store(error) if matches!(**error, StoreError::DiskFull { .. }))
            || matches!(self, AudienceError::Peer(error) if error.is_retryable())
    }
}

impl From<InvalidFields> for AudienceError {
    fn from(InvalidFields(violations): InvalidFields) -> Self {
        AudienceError::Invalid(violations)
    }
}

impl From<StoreError> for AudienceError {
    fn from(error: StoreError) -> Self {
        AudienceError::Store(Arc::new(error))
    }
}

impl From<sqlx::Error> for AudienceError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<LogError> for AudienceError {
    fn from(error: LogError) -> Self {
        AudienceError::Log(Arc::new(error))
    }
}

impl From<BarrierError> for AudienceError {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Behind => AudienceError::NotReady { why: error.to_string() },
            BarrierError::Log(error) => error.into(),
        }
    }
}

impl ServiceError for AudienceError {
    fn code(&self) -> Code {
        match self {
            AudienceError::Invalid(_) => Code::InvalidArgument,
            AudienceError::NotFound { .. } => Code::NotFound,
            AudienceError::AlreadyExists { .. } => Code::AlreadyExists,
            AudienceError::EtagMismatch { .. } => Code::Aborted,
            AudienceError::Archived { .. }
            | AudienceError::InUse { .. }
            | AudienceError::NotEvaluated { .. }
            | AudienceError::ModuleDisabled { .. } => Code::FailedPrecondition,
            AudienceError::TooMany { .. } => Code::ResourceExhausted,
            AudienceError::CursorTooOld => Code::OutOfRange,
            AudienceError::TenantUnknown { .. } | AudienceError::NotReady { .. } | AudienceError::Fenced | AudienceError::Stopping => {
                Code::Unavailable
            }
            AudienceError::Peer(error) => error.code(),
            AudienceError::Store(error) => error.code(),
            AudienceError::Log(error) => {
                if error.is_retryable() {
                    Code::Unavailable
                } else {
                    Code::Internal
                }
            }
            AudienceError::Corrupt { .. } => Code::DataLoss,
            AudienceError::File { .. } => Code::Internal,
            AudienceError::Caller(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            AudienceError::Invalid(_) => "INVALID_REQUEST",
            AudienceError::NotFound { .. } => "NOT_FOUND",
            AudienceError::AlreadyExists { .. } => "ALREADY_EXISTS",
            AudienceError::EtagMismatch { .. } => "ETAG_MISMATCH",
            AudienceError::Archived { .. } => "ARCHIVED",
            AudienceError::InUse { .. } => "IN_USE",
            AudienceError::TooMany { .. } => "TOO_MANY",
            AudienceError::NotEvaluated { .. } => "NOT_EVALUATED",
            AudienceError::CursorTooOld => "CURSOR_TOO_OLD",
            AudienceError::ModuleDisabled { .. } => "MODULE_DISABLED",
            AudienceError::TenantUnknown { .. } => "TENANT_UNKNOWN",
            AudienceError::NotReady { .. } => "NOT_READY",
            AudienceError::Fenced => "FENCED",
            AudienceError::Stopping => "STOPPING",
            AudienceError::Peer(error) => error.reason(),
            AudienceError::Store(error) => error.reason(),
            AudienceError::Log(_) => "LOG_FAILED",
            AudienceError::Corrupt { .. } => "STORED_DATA_CORRUPT",
            AudienceError::File { .. } => "FILE_FAILED",
            AudienceError::Caller(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            AudienceError::ModuleDisabled { tenant } => vec![("module", "audience".to_owned()), ("tenant", tenant.to_string())],
            AudienceError::NotFound { kind, id }
            | AudienceError::AlreadyExists { kind, id }
            | AudienceError::EtagMismatch { kind, id }
            | AudienceError::Archived { kind, id }
            | AudienceError::InUse { kind, id, .. } => vec![("kind", kind.to_string()), ("id", id.clone())],
            AudienceError::TooMany { max, setting, .. } => vec![("max", max.to_string()), ("setting", (*setting).to_owned())],
            AudienceError::TenantUnknown { tenant } => vec![("tenant", tenant.to_string())],
            AudienceError::Invalid(_)
            | AudienceError::NotEvaluated { .. }
            | AudienceError::CursorTooOld
            | AudienceError::NotReady { .. }
            | AudienceError::Fenced
            | AudienceError::Stopping
            | AudienceError::Peer(_)
            | AudienceError::Store(_)
            | AudienceError::Log(_)
            | AudienceError::Corrupt { .. }
            | AudienceError::File { .. }
            | AudienceError::Caller(_) => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            AudienceError::Invalid(violations) => violations.clone(),
            AudienceError::Peer(error) => error.violations().to_vec(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            AudienceError::TenantUnknown { .. } | AudienceError::NotReady { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// The service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration of audience is invalid: {}", list(.0))]
    Config(Vec<FieldViolation>),
    /// The store cannot be opened.
    #[error("the store of audiences cannot be opened")]
    Store(#[from] StoreError),
}
