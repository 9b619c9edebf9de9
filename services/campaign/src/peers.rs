//! The other services, as this one calls them on behalf of a tenant.

use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_runtime::transport::{MESSAGE_BYTES_MAX, PeerChannel};

/// The services that this one calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    pub(crate) ingest: PeerChannel,
    pub(crate) identity: PeerChannel,
    pub(crate) analytics: PeerChannel,
    pub(crate) audience: PeerChannel,
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
