//! Every way in which campaigns can fail.

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
    /// A graph of steps.
    Scenario,
    /// One person going through a scenario once.
    Run,
    /// What a message says.
    Template,
    /// How messages leave.
    Channel,
    /// A message of the ledger.
    Send,
    /// The rules for when messages may be sent.
    Policy,
    /// A person.
    Person,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Scenario => "scenario",
            Kind::Run => "run",
            Kind::Template => "template",
            Kind::Channel => "channel",
            Kind::Send => "send",
            Kind::Policy => "policy",
            Kind::Person => "person",
        })
    }
}

/// Why the service could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CampaignError {
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
    /// It cannot be done in the state that it is in.
    #[error("the {kind} `{id}` {why}")]
    NotNow {
        /// What.
        kind: Kind,
        /// Which.
        id: String,
        /// In which state it is, and what to do.
        why: String,
    },
    /// The tenant's switch is off.
    #[error("campaigns are switched off for {tenant}; an operator can switch them on")]
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
    /// Runs are being taken up, or another process works on the tenant.
    #[error("scenarios are not ready: {why}; retry in a moment")]
    NotReady {
        /// Why.
        why: String,
    },
    /// Another process works on the tenant now.
    #[error("another process has taken over the tenant's scenarios; retry")]
    Fenced,
    /// The process stops.
    #[error("the service is stopping; retry")]
    Stopping,
    /// Analytics or identity did not answer as needed.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The store failed.
    #[error("the store of campaigns failed")]
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
    /// The caller may not do this.
    #[error(transparent)]
    Caller(#[from] CallerError),
}

impl CampaignError {
    /// One wrong field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        CampaignError::Invalid(vec![FieldViolation::new(field, description)])
    }

    /// Something that does not exist.
    pub fn not_found(kind: Kind, id: impl Into<String>) -> Self {
        CampaignError::NotFound { kind, id: id.into() }
    }

    /// Whether the same may succeed when done again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code(), Code::Unavailable | Code::DeadlineExceeded)
            || matches!(self, CampaignError::Store(error) if matches!(**error, StoreError::DiskFull { .. }))
            || matches!(self, CampaignError::Peer(error) if error.is_retryable())
    }
}

impl From<InvalidFields> for CampaignError {
    fn from(InvalidFields(violations): InvalidFields) -> Self {
        CampaignError::Invalid(violations)
    }
}

impl From<StoreError> for CampaignError {
    fn from(error: StoreError) -> Self {
        CampaignError::Store(Arc::new(error))
    }
}

impl From<sqlx::Error> for CampaignError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<LogError> for CampaignError {
    fn from(error: LogError) -> Self {
        CampaignError::Log(Arc::new(error))
    }
}

impl From<BarrierError> for CampaignError {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Behind => CampaignError::NotReady { why: error.to_string() },
            BarrierError::Log(error) => error.into(),
        }
    }
}

impl ServiceError for CampaignError {
    fn code(&self) -> Code {
        match self {
            CampaignError::Invalid(_) => Code::InvalidArgument,
            CampaignError::NotFound { .. } => Code::NotFound,
            CampaignError::AlreadyExists { .. } => Code::AlreadyExists,
            CampaignError::EtagMismatch { .. } => Code::Aborted,
            CampaignError::Archived { .. }
            | CampaignError::InUse { .. }
            | CampaignError::NotNow { .. }
            | CampaignError::ModuleDisabled { .. } => Code::FailedPrecondition,
            CampaignError::TooMany { .. } => Code::ResourceExhausted,
            CampaignError::TenantUnknown { .. } | CampaignError::NotReady { .. } | CampaignError::Fenced | CampaignError::Stopping => {
                Code::Unavailable
            }
            CampaignError::Peer(error) => error.code(),
            CampaignError::Store(error) => error.code(),
            CampaignError::Log(error) => {
                if error.is_retryable() {
                    Code::Unavailable
                } else {
                    Code::Internal
                }
            }
            CampaignError::Corrupt { .. } => Code::DataLoss,
            CampaignError::Caller(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            CampaignError::Invalid(_) => "INVALID_REQUEST",
            CampaignError::NotFound { .. } => "NOT_FOUND",
            CampaignError::AlreadyExists { .. } => "ALREADY_EXISTS",
            CampaignError::EtagMismatch { .. } => "ETAG_MISMATCH",
            CampaignError::Archived { .. } => "ARCHIVED",
            CampaignError::InUse { .. } => "IN_USE",
            CampaignError::TooMany { .. } => "TOO_MANY",
            CampaignError::NotNow { .. } => "WRONG_STATE",
            CampaignError::ModuleDisabled { .. } => "MODULE_DISABLED",
            CampaignError::TenantUnknown { .. } => "TENANT_UNKNOWN",
            CampaignError::NotReady { .. } => "NOT_READY",
            CampaignError::Fenced => "FENCED",
            CampaignError::Stopping => "STOPPING",
            CampaignError::Peer(error) => error.reason(),
            CampaignError::Store(error) => error.reason(),
            CampaignError::Log(_) => "LOG_FAILED",
            CampaignError::Corrupt { .. } => "STORED_DATA_CORRUPT",
            CampaignError::Caller(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            CampaignError::ModuleDisabled { tenant } => vec![("module", "campaign".to_owned()), ("tenant", tenant.to_string())],
            CampaignError::NotFound { kind, id }
            | CampaignError::AlreadyExists { kind, id }
            | CampaignError::EtagMismatch { kind, id }
            | CampaignError::Archived { kind, id }
            | CampaignError::InUse { kind, id, .. }
            | CampaignError::NotNow { kind, id, .. } => vec![("kind", kind.to_string()), ("id", id.clone())],
            CampaignError::TooMany { max, setting, .. } => vec![("max", max.to_string()), ("setting", (*setting).to_owned())],
            CampaignError::TenantUnknown { tenant } => vec![("tenant", tenant.to_string())],
            CampaignError::Invalid(_)
            | CampaignError::NotReady { .. }
            | CampaignError::Fenced
            | CampaignError::Stopping
            | CampaignError::Peer(_)
            | CampaignError::Store(_)
            | CampaignError::Log(_)
            | CampaignError::Corrupt { .. }
            | CampaignError::Caller(_) => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            CampaignError::Invalid(violations) => violations.clone(),
            CampaignError::Peer(error) => error.violations().to_vec(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            CampaignError::TenantUnknown { .. } | CampaignError::NotReady { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// The service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration of campaign is invalid: {}", list(.0))]
    Config(Vec<FieldViolation>),
    /// The store cannot be opened.
    #[error("the store of campaigns cannot be opened")]
    Store(#[from] StoreError),
}
