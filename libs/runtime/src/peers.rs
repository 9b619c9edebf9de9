//! What a service says to its peers and hears from them: requests on behalf of a tenant, and what was answered instead.

use std::time::Duration;

use segue_model::{Code, FieldViolation, TenantId};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::status::our_code;
use crate::transport::for_tenant;

/// What a peer answered instead of what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{peer} answered: {message}")]
pub struct PeerError {
    peer: &'static str,
    code: Code,
    message: String,
    violations: Vec<FieldViolation>,
}

impl PeerError {
    fn new(peer: &'static str, status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
        Self {
            peer,
            code: our_code(status.code()),
            message: status.message().to_owned(),
            violations: violations.iter().map(|fault| FieldViolation::new(fault.field.clone(), fault.description.clone())).collect(),
        }
    }

    /// What analytics answered.
    pub fn analytics(status: Status) -> Self {
        Self::new("analytics", status)
    }

    /// What audience answered.
    pub fn audience(status: Status) -> Self {
        Self::new("audience", status)
    }

    /// What identity answered.
    pub fn identity(status: Status) -> Self {
        Self::new("identity", status)
    }

    /// What ingest answered.
    pub fn ingest(status: Status) -> Self {
        Self::new("ingest", status)
    }

    /// Kind of failure, as the peer sees it.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason to give to one's own callers.
    pub fn reason(&self) -> &'static str {
        match self.code {
            Code::InvalidArgument => "INVALID_REQUEST",
            Code::FailedPrecondition => "PEER_REFUSED",
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => "PEER_UNAVAILABLE",
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Aborted
            | Code::Cancelled
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Internal => "PEER_FAILED",
        }
    }

    /// What is wrong with which field of what the peer was asked.
    pub fn violations(&self) -> &[FieldViolation] {
        &self.violations
    }

    /// Whether the same question may be answered later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled)
    }
}

/// A request on behalf of a tenant that ends after `timeout`.
pub fn request<T>(tenant: &TenantId, message: T, timeout: Duration) -> Request<T> {
    let mut request = for_tenant(tenant, message);
    request.set_timeout(timeout);
    request
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn what_a_peer_says_of_fields_is_kept_and_what_passes_may_be_asked_again() {
        let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", crate::status::DOMAIN, std::collections::HashMap::new());
        details.add_bad_request_violation("filter.all", "is empty");
        let error = PeerError::analytics(Status::with_error_details(tonic::Code::InvalidArgument, "the request is invalid", details));
        assert_eq!(error.violations(), [FieldViolation::new("filter.all", "is empty")]);
        assert_eq!((error.code(), error.reason(), error.is_retryable()), (Code::InvalidArgument, "INVALID_REQUEST", false));
        assert_eq!(error.to_string(), "analytics answered: the request is invalid");
        let error = PeerError::identity(Status::unavailable("starting"));
        assert_eq!((error.code(), error.reason(), error.is_retryable()), (Code::Unavailable, "PEER_UNAVAILABLE", true));
    }
}
