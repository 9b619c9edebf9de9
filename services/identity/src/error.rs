//! Every way in which identity can fail.

use std::sync::Arc;
use std::time::Duration;

use segue_model::{Code, FieldViolation, TenantId};
use segue_runtime::caller::CallerError;
use segue_runtime::fields::{InvalidFields, list};
use segue_runtime::status::ServiceError;
use segue_store::StoreError;

use crate::registry::RegistryError;

/// Why identity could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IdentityError {
    /// Fields of the request are wrong.
    #[error("the request is invalid: {}", list(.0))]
    Invalid(Vec<FieldViolation>),
    /// A later batch of this source was resolved already.
    #[error("{source_name} has resolved batch {last} already, and asks for {sequence}; go on after {last}")]
    StaleSequence {
        /// Who asks.
        source_name: String,
        /// What was asked for.
        sequence: u64,
        /// The last batch resolved.
        last: u64,
    },
    /// Another process answered the same source meanwhile. The writer begins again, so callers do not see it.
    #[error("another process resolves batches of {source_name} at the same time; retry")]
    Overtaken {
        /// Who asks.
        source_name: String,
    },
    /// No such person.
    #[error("there is no such person")]
    PersonNotFound,
    /// A field of the request names nobody.
    #[error("{field} names no person; leave it out, or name somebody who exists")]
    NamesNobody {
        /// Path of the field.
        field: String,
    },
    /// An identifier to be taken away names nobody, or somebody else.
    #[error("the identifier does not name that person (any more)")]
    IdentifierNotFound,
    /// No such account.
    #[error("there is no such account")]
    AccountNotFound,
    /// Two persons with user ids are merged only by force.
    #[error("persons {from} and {into} both have a user id; set `force` if they are one all the same")]
    BothHaveUserId {
        /// The one to be merged.
        from: u32,
        /// The one to survive.
        into: u32,
    },
    /// A request id stands for another merge.
    #[error("this request_id was used to merge {from} into {into}; use a new one for another merge")]
    RequestIdReused {
        /// The one that was merged then.
        from: u32,
        /// The one that it was merged into.
        into: u32,
    },
    /// The tenant's switch is off.
    #[error("identity is switched off for {tenant}; an operator can switch it on")]
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
    /// All numbers of a tenant were given out.
    #[error("the tenant has used up its 4294967295 {what} numbers")]
    NumbersExhausted {
        /// Persons or devices.
        what: &'static str,
    },
    /// More calls wait than may.
    #[error("too many calls are waiting to be resolved; retry in a moment")]
    QueueFull,
    /// The process stops.
    #[error("the service is stopping; retry")]
    Stopping,
    /// The store failed.
    #[error("identity's store failed")]
    Store(#[source] Arc<StoreError>),
    /// A stored answer, trait or number cannot be read.
    #[error("stored data cannot be read ({what}); restore the store from a backup")]
    Corrupt {
        /// What.
        what: &'static str,
    },
    /// A defect.
    #[error("a rule found the registry incomplete")]
    Registry(#[from] RegistryError),
    /// The caller may not do this.
    #[error(transparent)]
    Caller(#[from] CallerError),
}

impl IdentityError {
    /// One wrong field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        IdentityError::Invalid(vec![FieldViolation::new(field, description)])
    }

    /// Whether the same transaction may succeed when run again.
    pub fn is_retryable(&self) -> bool {
        match self {
            IdentityError::Store(error) => error.is_retryable(),
            // Another process changed the state below the cache; it is loaded anew then.
            IdentityError::Registry(_) | IdentityError::Overtaken { .. } => true,
            IdentityError::Invalid(_)
            | IdentityError::StaleSequence { .. }
            | IdentityError::PersonNotFound
            | IdentityError::NamesNobody { .. }
            | IdentityError::IdentifierNotFound
            | IdentityError::AccountNotFound
            | IdentityError::BothHaveUserId { .. }
            | IdentityError::RequestIdReused { .. }
            | IdentityError::ModuleDisabled { .. }
            | IdentityError::TenantUnknown { .. }
            | IdentityError::NumbersExhausted { .. }
            | IdentityError::QueueFull
            | IdentityError::Stopping
            | IdentityError::Corrupt { .. }
            | IdentityError::Caller(_) => false,
        }
    }
}

impl From<InvalidFields> for IdentityError {
    fn from(InvalidFields(violations): InvalidFields) -> Self {
        IdentityError::Invalid(violations)
    }
}

impl From<StoreError> for IdentityError {
    fn from(error: StoreError) -> Self {
        IdentityError::Store(Arc::new(error))
    }
}

impl From<sqlx::Error> for IdentityError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl ServiceError for IdentityError {
    fn code(&self) -> Code {
        match self {
            IdentityError::Invalid(_) | IdentityError::RequestIdReused { .. } => Code::InvalidArgument,
            IdentityError::StaleSequence { .. } | IdentityError::BothHaveUserId { .. } | IdentityError::ModuleDisabled { .. } => {
                Code::FailedPrecondition
            }
            IdentityError::PersonNotFound
            | IdentityError::NamesNobody { .. }
            | IdentityError::IdentifierNotFound
            | IdentityError::AccountNotFound => Code::NotFound,
            IdentityError::NumbersExhausted { .. } | IdentityError::QueueFull => Code::ResourceExhausted,
            IdentityError::TenantUnknown { .. } | IdentityError::Overtaken { .. } | IdentityError::Stopping => Code::Unavailable,
            IdentityError::Store(error) => error.code(),
            IdentityError::Corrupt { .. } => Code::DataLoss,
            IdentityError::Registry(_) => Code::Internal,
            IdentityError::Caller(error) => error.code(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            IdentityError::Invalid(_) => "INVALID_REQUEST",
            IdentityError::StaleSequence { .. } => "STALE_SEQUENCE",
            IdentityError::Overtaken { .. } => "OVERTAKEN",
            IdentityError::PersonNotFound | IdentityError::NamesNobody { .. } => "PERSON_NOT_FOUND",
            IdentityError::IdentifierNotFound => "IDENTIFIER_NOT_FOUND",
            IdentityError::AccountNotFound => "ACCOUNT_NOT_FOUND",
            IdentityError::BothHaveUserId { .. } => "BOTH_HAVE_USER_ID",
            IdentityError::RequestIdReused { .. } => "REQUEST_ID_REUSED",
            IdentityError::ModuleDisabled { .. } => "MODULE_DISABLED",
            IdentityError::TenantUnknown { .. } => "TENANT_UNKNOWN",
            IdentityError::NumbersExhausted { .. } => "NUMBERS_EXHAUSTED",
            IdentityError::QueueFull => "QUEUE_FULL",
            IdentityError::Stopping => "STOPPING",
            IdentityError::Store(error) => error.reason(),
            IdentityError::Corrupt { .. } => "STORED_DATA_CORRUPT",
            IdentityError::Registry(_) => "REGISTRY_INCOMPLETE",
            IdentityError::Caller(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            IdentityError::StaleSequence { last, .. } => vec![("last", last.to_string())],
            IdentityError::ModuleDisabled { tenant } => vec![("module", "identity".to_owned()), ("tenant", tenant.to_string())],
            IdentityError::TenantUnknown { tenant } => vec![("tenant", tenant.to_string())],
            IdentityError::NamesNobody { field } => vec![("field", field.clone())],
            IdentityError::BothHaveUserId { from, into } | IdentityError::RequestIdReused { from, into } => {
                vec![("from", from.to_string()), ("into", into.to_string())]
            }
            IdentityError::Invalid(_)
            | IdentityError::Overtaken { .. }
            | IdentityError::PersonNotFound
            | IdentityError::IdentifierNotFound
            | IdentityError::AccountNotFound
            | IdentityError::NumbersExhausted { .. }
            | IdentityError::QueueFull
            | IdentityError::Stopping
            | IdentityError::Store(_)
            | IdentityError::Corrupt { .. }
            | IdentityError::Registry(_)
            | IdentityError::Caller(_) => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            IdentityError::Invalid(violations) => violations.clone(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            IdentityError::QueueFull => Some(Duration::from_millis(200)),
            IdentityError::TenantUnknown { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
