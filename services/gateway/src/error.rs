//! What can go wrong: at the door ([`AccessError`]), in the administration of tenants ([`TenancyError`]) and at the start.

use std::time::Duration;

use segue_model::module::SwitchError;
use segue_model::{Code, FieldViolation, Module, TenantId};
use segue_runtime::caller::CallerError;
use segue_runtime::status::ServiceError;
use segue_store::StoreError;

/// The gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has faults.
    #[error("the gateway's configuration has faults: {}", list(.0))]
    Config(Vec<FieldViolation>),
    /// The contract that was compiled in cannot be read. A defect of the build.
    #[error("the compiled-in contract cannot be read")]
    Contract(#[source] prost::DecodeError),
    /// The store cannot be opened, migrated or read.
    #[error("the gateway's store cannot be used")]
    Store(#[from] StoreError),
}

fn list(violations: &[FieldViolation]) -> String {
    violations.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect::<Vec<_>>().join("; ")
}

/// A call that is not let through. The same rules hold for gRPC and HTTP; `sdk::refuse` has their HTTP statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No key was given.
    #[error("no API key was given; send `authorization: Bearer <key>`")]
    NoKey,
    /// The key is none of ours, or was revoked.
    #[error("the API key is unknown or revoked; ask the operator for a new one")]
    UnknownKey,
    /// The store of keys does not answer. Never to be mistaken for an unknown key: clients drop what they hold on that.
    #[error("keys cannot be checked right now; try again")]
    KeyStoreDown,
    /// Write keys stand in public pages and can do no more than send events.
    #[error("a write key can only send events; use a secret key")]
    WriteKeyOnlyIngests,
    /// An operator's call to a module without a tenant.
    #[error("this call acts on one tenant; use a key of that tenant, or name it in the header x-segue-act-as-tenant with an operator key")]
    NoTenant,
    /// The operator named a tenant that does not exist.
    #[error("there is no tenant {0:?}; list them with TenancyService/ListTenants")]
    NoSuchTenant(String),
    /// The key's tenant is not known here yet.
    #[error("the tenant {0} is not known to this process yet; try again")]
    TenantNotLoaded(TenantId),
    /// The module is off for the tenant.
    #[error("the module {module} is off for the tenant {tenant}; an operator can switch it on")]
    ModuleDisabled {
        /// Which.
        module: Module,
        /// For whom.
        tenant: TenantId,
    },
    /// Too many calls.
    #[error("the tenant's calls per second are used up; try again after {} ms", retry_after.as_millis())]
    TooManyRequests {
        /// When there will be room again.
        retry_after: Duration,
    },
    /// Too many bytes.
    #[error("the tenant's bytes of ingestion per second are used up; try again after {} ms", retry_after.as_millis())]
    TooManyBytes {
        /// When there will be room again.
        retry_after: Duration,
    },
    /// As many streams are open as there may be.
    #[error("{whose} has {max} streams open, the most there may be; close some, or try again after {} ms", retry_after.as_millis())]
    TooManyStreams {
        /// The tenant or this process.
        whose: &'static str,
        /// How many there may be.
        max: u32,
        /// A guess.
        retry_after: Duration,
    },
    /// The client sent nothing for too long.
    #[error("nothing was sent on this stream for {} ms; open it again and send what was not acknowledged", limit.as_millis())]
    StreamIdle {
        /// How long it may.
        limit: Duration,
    },
    /// A tenant's key with the name of another tenant.
    #[error("this key belongs to the tenant {own} and cannot act on another; leave out x-segue-act-as-tenant, or use an operator key")]
    OtherTenant {
        /// The key's.
        own: TenantId,
    },
    /// This process has too many requests of the HTTP API under way.
    #[error("too many requests are under way; try again after {} ms", retry_after.as_millis())]
    Overloaded {
        /// A guess.
        retry_after: Duration,
    },
    /// The path names no call that is offered here.
    #[error("{path} is not offered here; see the contracts for what is")]
    NoSuchCall {
        /// The path.
        path: String,
    },
    /// The installation runs without this service.
    #[error("this installation has no {module} service; configure its address at the gateway")]
    NoPeer {
        /// Which.
        module: Module,
    },
    /// The service behind does not answer.
    #[error("the {service} service cannot be reached; try again")]
    PeerDown {
        /// Which.
        service: &'static str,
    },
    /// The process ends, and a stream with it.
    #[error("this process is shutting down; open the stream again and go on after the last acknowledgement")]
    ShuttingDown,
    /// The client's deadline passed, or ours for calls that bring none.
    #[error("the answer took longer than the deadline")]
    DeadlineExceeded,
}

impl ServiceError for AccessError {
    fn code(&self) -> Code {
        match self {
            AccessError::NoKey | AccessError::UnknownKey => Code::Unauthenticated,
            AccessError::KeyStoreDown
            | AccessError::TenantNotLoaded(_)
            | AccessError::PeerDown { .. }
            | AccessError::ShuttingDown
            | AccessError::StreamIdle { .. } => Code::Unavailable,
            AccessError::WriteKeyOnlyIngests | AccessError::OtherTenant { .. } => Code::PermissionDenied,
            AccessError::NoTenant => Code::InvalidArgument,
            AccessError::NoSuchTenant(_) => Code::NotFound,
            AccessError::ModuleDisabled { .. } => Code::FailedPrecondition,
            AccessError::TooManyRequests { .. }
            | AccessError::TooManyBytes { .. }
            | AccessError::TooManyStreams { .. }
            | AccessError::Overloaded { .. } => Code::ResourceExhausted,
            AccessError::NoSuchCall { .. } | AccessError::NoPeer { .. } => Code::Unimplemented,
            AccessError::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            AccessError::NoKey => "NO_KEY",
            AccessError::UnknownKey => "UNKNOWN_KEY",
            AccessError::KeyStoreDown => "KEY_STORE_DOWN",
            AccessError::WriteKeyOnlyIngests => "WRITE_KEY_ONLY_INGESTS",
            AccessError::NoTenant => "NO_TENANT",
            AccessError::NoSuchTenant(_) => "NO_SUCH_TENANT",
            AccessError::TenantNotLoaded(_) => "TENANT_NOT_LOADED",
            AccessError::ModuleDisabled { .. } => "MODULE_DISABLED",
            AccessError::TooManyRequests { .. } => "TOO_MANY_REQUESTS",
            AccessError::TooManyBytes { .. } => "TOO_MANY_BYTES",
            AccessError::TooManyStreams { .. } => "TOO_MANY_STREAMS",
            AccessError::StreamIdle { .. } => "STREAM_IDLE",
            AccessError::OtherTenant { .. } => "OTHER_TENANT",
            AccessError::Overloaded { .. } => "OVERLOADED",
            AccessError::NoSuchCall { .. } => "NO_SUCH_CALL",
            AccessError::NoPeer { .. } => "NO_SUCH_SERVICE",
            AccessError::PeerDown { .. } => "SERVICE_UNREACHABLE",
            AccessError::ShuttingDown => "SHUTTING_DOWN",
            AccessError::DeadlineExceeded => "DEADLINE_EXCEEDED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            AccessError::ModuleDisabled { module, tenant } => vec![("module", module.to_string()), ("tenant", tenant.to_string())],
            AccessError::NoPeer { module } => vec![("module", module.to_string())],
            AccessError::PeerDown { service } => vec![("service", (*service).to_owned())],
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            AccessError::TooManyRequests { retry_after }
            | AccessError::TooManyBytes { retry_after }
            | AccessError::TooManyStreams { retry_after, .. }
            | AccessError::Overloaded { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// A call of `TenancyService` that was not done.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// Who calls, and what they may do.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// Fields of the request are wrong.
    #[error("the request is invalid: {}", list(.0))]
    Invalid(Vec<FieldViolation>),
    /// The id is taken.
    #[error("the tenant {0} exists already")]
    TenantExists(TenantId),
    /// There is no such tenant, or the key may not see it.
    #[error("there is no tenant {0:?}")]
    NoSuchTenant(String),
    /// There is no such key, or it belongs to another tenant.
    #[error("there is no key {0:?}")]
    NoSuchKey(String),
    /// The dependencies of modules do not allow it.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// Somebody changed the tenant since it was read.
    #[error("the tenant was changed since it was read; read it again and repeat the change")]
    Stale,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for TenancyError {
    fn code(&self) -> Code {
        match self {
            TenancyError::Caller(error) => error.code(),
            TenancyError::Invalid(_) => Code::InvalidArgument,
            TenancyError::TenantExists(_) => Code::AlreadyExists,
            TenancyError::NoSuchTenant(_) | TenancyError::NoSuchKey(_) => Code::NotFound,
            TenancyError::Switch(_) => Code::FailedPrecondition,
            TenancyError::Stale => Code::Aborted,
            TenancyError::Store(error) if error.is_retryable() => Code::Unavailable,
            TenancyError::Store(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            TenancyError::Caller(error) => error.reason(),
            TenancyError::Invalid(_) => "INVALID_REQUEST",
            TenancyError::TenantExists(_) => "TENANT_EXISTS",
            TenancyError::NoSuchTenant(_) => "NO_SUCH_TENANT",
            TenancyError::NoSuchKey(_) => "NO_SUCH_KEY",
            TenancyError::Switch(SwitchError::MissingDependency { .. }) => "MODULE_MISSING_DEPENDENCY",
            TenancyError::Switch(SwitchError::HasDependents { .. }) => "MODULE_HAS_DEPENDENTS",
            TenancyError::Stale => "STALE_ETAG",
            TenancyError::Store(_) => "STORE",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let names = |modules: &[Module]| modules.iter().map(|module| module.name()).collect::<Vec<_>>().join(",");
        match self {
            TenancyError::Switch(SwitchError::MissingDependency { module, missing }) => {
                vec![("module", module.to_string()), ("missing", names(missing))]
            }
            TenancyError::Switch(SwitchError::HasDependents { module, dependents }) => {
                vec![("module", module.to_string()), ("dependents", names(dependents))]
            }
            _ => Vec::new(),
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            TenancyError::Invalid(violations) => violations.clone(),
            _ => Vec::new(),
        }
    }
}

impl TenancyError {
    /// One field is wrong.
    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        TenancyError::Invalid(vec![FieldViolation::new(field, description)])
    }
}
