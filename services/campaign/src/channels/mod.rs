//! How messages leave: a tenant's channels, and one small trait that every kind of provider is behind.
//!
//! To add a kind: a variant of `ChannelKind` and its settings in channel.proto, a module here that implements [`Outlet`], and its line in
//! [`Channels::find`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use segue_model::{Clock, TenantId};
use segue_proto::campaign::v1::{
    Channel, ChannelKind, CreateChannelRequest, DeleteChannelRequest, DeleteChannelResponse, GetChannelRequest, ListChannelsRequest,
    ListChannelsResponse, UpdateChannelRequest,
};
use segue_runtime::Tenant;
use segue_store::Db;

use crate::config::Config;
use crate::error::CampaignError;
use crate::service::Service;

/// A message to one address.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The same for every attempt.
    pub(crate) idempotency_key: String,
    pub(crate) tenant: TenantId,
    pub(crate) person: u32,
    /// Empty where the kind has none.
    pub(crate) address: String,
    pub(crate) parts: BTreeMap<String, String>,
    /// Of e-mails: where one click unsubscribes (RFC 8058).
    pub(crate) unsubscribe_url: Option<String>,
}

/// What a provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Sent {
        provider_message_id: String,
    },
    /// Try again, not before `after`.
    Retry {
        after: Option<Duration>,
        error: String,
    },
    /// For good.
    Refused {
        error: String,
    },
    /// For good, and the address is nobody's any more.
    Unregistered {
        error: String,
    },
}

/// A provider.
pub(crate) trait Outlet: Send + Sync + std::fmt::Debug {
    /// Gives it a message. Takes at most `send.timeout_ms`.
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome>;
}

/// A channel that is ready to send.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    pub(crate) id: String,
    pub(crate) kind: ChannelKind,
    /// 0: no limit.
    pub(crate) rate_per_second: u32,
    pub(crate) paused: bool,
    /// Kind of identifier that is the address; None: it needs none.
    pub(crate) address_kind: Option<&'static str>,
    /// All identifiers of the kind rather than the one linked last.
    pub(crate) to_all: bool,
    pub(crate) outlet: Arc<dyn Outlet>,
}

/// Channels of all tenants, opened ones kept until they change. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Channels {
    config: Arc<Config>,
    db: Db,
    clock: Arc<dyn Clock>,
}

impl Channels {
    pub(crate) fn new(config: Arc<Config>, db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { config, db, clock }
    }

    /// A channel as it is now.
    pub(crate) async fn find(&self, _tenant: &TenantId, _id: &str) -> Result<Option<Arc<OpenChannel>>, CampaignError> {
        let _ = (&self.config, &self.db, &self.clock);
        Ok(None)
    }

    /// The kind of a channel, without opening it.
    pub(crate) async fn kind(&self, _tenant: &TenantId, _id: &str) -> Result<Option<ChannelKind>, CampaignError> {
        Ok(None)
    }

    /// The secret that a channel's adapter signs its reports with.
    pub(crate) async fn signing_secret(&self, _tenant: &TenantId, _id: &str) -> Result<Option<String>, CampaignError> {
        Ok(None)
    }
}

impl Service {
    pub(crate) async fn create_channel_of(&self, _tenant: &Tenant, _request: CreateChannelRequest) -> Result<Channel, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn get_channel_of(&self, _tenant: &Tenant, _request: GetChannelRequest) -> Result<Channel, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn list_channels_of(
        &self,
        _tenant: &Tenant,
        _request: ListChannelsRequest,
    ) -> Result<ListChannelsResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn update_channel_of(&self, _tenant: &Tenant, _request: UpdateChannelRequest) -> Result<Channel, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn delete_channel_of(
        &self,
        _tenant: &Tenant,
        _request: DeleteChannelRequest,
    ) -> Result<DeleteChannelResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
