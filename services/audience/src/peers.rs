//! Analytics and identity, as this service calls them on behalf of a tenant.

use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_runtime::transport::{MESSAGE_BYTES_MAX, PeerChannel};

/// The services that this one calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    analytics: PeerChannel,
    identity: PeerChannel,
}

impl Peers {
    pub(crate) fn new(analytics: PeerChannel, identity: PeerChannel) -> Self {
        Self { analytics, identity }
    }

    pub(crate) fn analytics(&self) -> AnalyticsServiceClient<PeerChannel> {
        let client = AnalyticsServiceClient::new(self.analytics.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn identity(&self) -> IdentityServiceClient<PeerChannel> {
        let client = IdentityServiceClient::new(self.identity.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}
