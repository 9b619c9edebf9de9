//! The other services, as this one calls them on behalf of a tenant.

use std::time::Duration;

use segue_model::{Code, FieldViolation, TenantId};
use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_runtime::transport::{MESSAGE_BYTES_MAX, PeerChannel, for_tenant};
use tonic::{Request, Status};
use tonic_types::StatusExt;

/// The services that this one calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    pub(crate) ingest: PeerChannel,
    pub(crate) identity: PeerChannel,
    pub(crate) analytics: PeerChannel,
    pub(crate) audience: PeerChannel,
}

/// What a peer answered instead of what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{peer} answered: {message}")]
pub struct PeerError {
    peer: &'static str,
    code: Code,
    reason: String,
    message: String,
    violations: Vec<FieldViolation>,
}

impl Peers {
    pub(crate) fn ingest(&self) -> IngestServiceClient<PeerChannel> {
        let client = IngestServiceClient::new(self.ingest.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn identity(&self) -> IdentityServiceClient<PeerChannel> {
        let client = IdentityServiceClient::new(self.identity.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn analytics(&self) -> AnalyticsServiceClient<PeerChannel> {
        let client = AnalyticsServiceClient::new(self.analytics.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn audience(&self) -> AudienceServiceClient<PeerChannel> {
        let client = AudienceServiceClient::new(self.audience.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// A request on behalf of a tenant that ends after `timeout`.
pub(crate) fn request<T>(tenant: &TenantId, message: T, timeout: Duration) -> Request<T> {
    let mut request = for_tenant(tenant, message);
    request.set_timeout(timeout);
    request
}

impl PeerError {
    pub(crate) fn new(peer: &'static str, status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations);
        Self {
            peer,
            code: code_of(status.code()),
            reason: details.error_info().map_or_else(String::new, |info| info.reason.clone()),
            message: status.message().to_owned(),
            violations: violations.iter().map(|fault| FieldViolation::new(fault.field.clone(), fault.description.clone())).collect(),
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self.code {
            Code::InvalidArgument => "INVALID_REQUEST",
            Code::FailedPrecondition => "PEER_REFUSED",
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => "PEER_UNAVAILABLE",
            _ => "PEER_FAILED",
        }
    }

    pub(crate) fn violations(&self) -> &[FieldViolation] {
        &self.violations
    }

    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled)
    }
}

fn code_of(code: tonic::Code) -> Code {
    match code {
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal => Code::Internal,
    }
}
