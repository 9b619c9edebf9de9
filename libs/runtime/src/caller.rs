//! Who calls: set by the gateway after it checked the key, carried as metadata, trusted only behind the gateway.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderValue};
use segue_model::{Code, TenantId};

use crate::status::ServiceError;

/// Prefix of every header that only the gateway and peers may set.
pub const INTERNAL_PREFIX: &str = "x-segue-";
const TENANT: &str = "x-segue-tenant";
const ROLE: &str = "x-segue-role";
const KEY: &str = "x-segue-key";
const SOURCE: &str = "x-segue-source";

/// What a caller may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Send events.
    Writer,
    /// Read.
    Analyst,
    /// Change definitions and data.
    Editor,
    /// Manage the tenant's keys.
    Admin,
    /// Manage tenants.
    Operator,
    /// Another Segue service.
    Service,
}

impl Role {
    const ALL: [Role; 6] = [Role::Writer, Role::Analyst, Role::Editor, Role::Admin, Role::Operator, Role::Service];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Analyst => "analyst",
            Role::Editor => "editor",
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Service => "service",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = CallerError;

    fn from_str(text: &str) -> Result<Self, CallerError> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or(CallerError::Unidentified)
    }
}

/// Who calls, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant of the credential. None for operators that act on no tenant.
    pub tenant: Option<TenantId>,
    /// What the credential allows.
    pub role: Role,
    /// Name of the key (`keys/…`), for the audit log; empty for services.
    pub key: String,
    /// Source of events that name none.
    pub source: String,
}

/// The caller is unknown or may not do this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// The call did not come through the gateway.
    #[error("the call carries no caller; call the gateway with an API key")]
    Unidentified,
    /// An operator called without naming a tenant.
    #[error("this call acts on one tenant; use a key of that tenant, or name it in the header x-segue-act-as-tenant with an operator key")]
    NoTenant,
    /// The role is too low.
    #[error("this key has the role {has}; the call needs {needs} or above")]
    RoleTooLow {
        /// What the key has.
        has: Role,
        /// What the call needs.
        needs: Role,
    },
}

impl ServiceError for CallerError {
    fn code(&self) -> Code {
        match self {
            CallerError::Unidentified => Code::Unauthenticated,
            CallerError::NoTenant => Code::InvalidArgument,
            CallerError::RoleTooLow { .. } => Code::PermissionDenied,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            CallerError::Unidentified => "UNIDENTIFIED_CALLER",
            CallerError::NoTenant => "NO_TENANT",
            CallerError::RoleTooLow { .. } => "ROLE_TOO_LOW",
        }
    }
}

impl Caller {
    /// A Segue service that acts for `tenant`.
    pub fn service(tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), role: Role::Service, key: String::new(), source: String::new() }
    }

    /// Reads the caller of a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, CallerError> {
        let text = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        Ok(Self {
            tenant: match text(TENANT) {
                Some(id) => Some(id.parse().map_err(|_| CallerError::Unidentified)?),
                None => None,
            },
            role: text(ROLE).ok_or(CallerError::Unidentified)?.parse()?,
            key: text(KEY).unwrap_or_default().to_owned(),
            source: text(SOURCE).unwrap_or_default().to_owned(),
        })
    }

    /// The tenant that the call acts on.
    pub fn tenant(&self) -> Result<&TenantId, CallerError> {
        self.tenant.as_ref().ok_or(CallerError::NoTenant)
    }

    /// Fails unless the caller has at least this role.
    pub fn require(&self, needs: Role) -> Result<(), CallerError> {
        if self.role >= needs { Ok(()) } else { Err(CallerError::RoleTooLow { has: self.role, needs }) }
    }

    /// The tenant, if the caller has at least this role: how most handlers begin.
    pub fn tenant_with(&self, needs: Role) -> Result<&TenantId, CallerError> {
        self.require(needs)?;
        self.tenant()
    }

    /// Writes the caller into headers, in place of whatever a client sent.
    pub fn attach(&self, headers: &mut HeaderMap) {
        Self::strip(headers);
        let mut set = |name: &'static str, value: &str| {
            // Values are ids and names that were checked when they were made; what is not a header value is left out.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if let Some(tenant) = &self.tenant {
            set(TENANT, tenant.as_str());
        }
        set(ROLE, self.role.name());
        if !self.key.is_empty() {
            set(KEY, &self.key);
        }
        if !self.source.is_empty() {
            set(SOURCE, &self.source);
        }
    }

    /// Removes every internal header, so that no client can pretend to be somebody.
    pub fn strip(headers: &mut HeaderMap) {
        let internal: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
        for name in internal {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_survives_the_way_through_metadata_and_a_pretender_does_not() {
        let caller =
            Caller { tenant: Some("shop".parse().expect("an id")), role: Role::Editor, key: "keys/1".into(), source: "web".into() };
        let mut headers = HeaderMap::new();
        headers.insert("x-segue-tenant", HeaderValue::from_static("victim"));
        headers.insert("x-segue-other", HeaderValue::from_static("x"));
        caller.attach(&mut headers);
        assert!(!headers.contains_key("x-segue-other"));
        let mut request = tonic::Request::new(());
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        assert_eq!(Caller::of(&request), Ok(caller.clone()));
        assert_eq!(caller.require(Role::Analyst), Ok(()));
        assert_eq!(caller.require(Role::Admin), Err(CallerError::RoleTooLow { has: Role::Editor, needs: Role::Admin }));
        assert_eq!(Caller::of(&tonic::Request::new(())), Err(CallerError::Unidentified));
    }
}
