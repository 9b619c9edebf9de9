//! How messages leave: a tenant's channels, and one small trait that every kind of provider is behind.
//!
//! To add a kind: a variant of `ChannelKind` and its settings in channel.proto, a module here that implements [`Outlet`], and its line in
//! `Channels::outlet`.

mod apns;
mod bounded;
mod definition;
mod email;
mod fcm;
mod http;
mod in_app;
mod secret;
mod smtp;
mod store;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use segue_model::{Clock, TenantId};
use segue_proto::campaign::v1::channel::Settings;
use segue_proto::campaign::v1::{
    Channel, ChannelKind, CreateChannelRequest, DeleteChannelRequest, DeleteChannelResponse, GetChannelRequest, ListChannelsRequest,
    ListChannelsResponse, UpdateChannelRequest,
};
use segue_runtime::{Tenant, fields, outgoing, page};
use segue_store::Db;
use uuid::Uuid;

use self::bounded::{Bounded, Closed};
use self::definition::{Definition, etag, is_signed, kind_of, parse_change, parse_new, to_proto};
use self::secret::Secret;
use self::store::{State, Stored};
use self::wire::Wire;
use crate::config::Config;
use crate::error::{CampaignError, Kind};
use crate::scenarios::{Used, users_of};
use crate::service::Service;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1_000;

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

/// A channel as it was opened, and the state that it was opened in.
type Opened = (State, Arc<OpenChannel>);

/// Channels of all tenants, opened ones kept until they change. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Channels {
    config: Arc<Config>,
    db: Db,
    clock: Arc<dyn Clock>,
    wire: Wire,
    opened: Arc<Mutex<HashMap<(TenantId, String), Opened>>>,
}

impl Channels {
    pub(crate) fn new(config: Arc<Config>, db: Db, clock: Arc<dyn Clock>) -> Self {
        let wire = Wire::new(&config.send, clock.clone());
        Self { config, db, clock, wire, opened: Arc::default() }
    }

    /// A channel as it is now.
    pub(crate) async fn find(&self, tenant: &TenantId, id: &str) -> Result<Option<Arc<OpenChannel>>, CampaignError> {
        let key = (tenant.clone(), id.to_owned());
        let state = store::state(&self.db, tenant, id).await?;
        if let Some((of, open)) = self.opened.lock().get(&key)
            && Some(*of) == state
        {
            return Ok(Some(open.clone()));
        }
        let Some(stored) = store::find(&self.db, tenant, id).await? else {
            self.opened.lock().remove(&key);
            return Ok(None);
        };
        let open = Arc::new(self.open(&stored));
        self.opened.lock().insert(key, (stored.state, open.clone()));
        Ok(Some(open))
    }

    /// The kind of a channel, without opening it.
    pub(crate) async fn kind(&self, tenant: &TenantId, id: &str) -> Result<Option<ChannelKind>, CampaignError> {
        store::kind(&self.db, tenant, id).await
    }

    /// The secret that a channel's adapter signs its reports with.
    pub(crate) async fn signing_secret(&self, tenant: &TenantId, id: &str) -> Result<Option<String>, CampaignError> {
        Ok(store::signing_secret(&self.db, tenant, id).await?.filter(|secret| !secret.is_empty()))
    }

    fn open(&self, stored: &Stored) -> OpenChannel {
        let definition = &stored.definition;
        let kind = kind_of(&definition.settings);
        let address_kind = match kind {
            ChannelKind::Email => Some("email"),
            ChannelKind::Fcm => Some("push_token"),
            ChannelKind::Apns => Some("apns_token"),
            ChannelKind::Sms | ChannelKind::Kakao => Some("phone"),
            ChannelKind::Webhook | ChannelKind::InApp | ChannelKind::Unspecified => None,
        };
        let timeout_ms = self.config.send.timeout_ms;
        let outlet: Arc<dyn Outlet> = match self.outlet(stored) {
            Ok(inner) => Arc::new(Bounded { inner, timeout_ms }),
            Err(problem) => Arc::new(Closed { problem }),
        };
        OpenChannel {
            kind,
            rate_per_second: definition.rate_per_second,
            paused: definition.paused,
            address_kind,
            to_all: matches!(kind, ChannelKind::Fcm | ChannelKind::Apns),
            outlet,
        }
    }

    /// The provider; or why there is none.
    fn outlet(&self, stored: &Stored) -> Result<Box<dyn Outlet>, String> {
        let rules = self.config.send.rules();
        let settings = &stored.definition.settings;
        Ok(match settings {
            Settings::Email(email) => Box::new(email::Email::open(email, &rules, &self.clock)?),
            Settings::Webhook(http) | Settings::Sms(http) | Settings::Kakao(http) => {
                Box::new(http::Http::open(kind_of(settings), http, stored.signing_secret.clone(), &rules, &self.wire)?)
            }
            Settings::Fcm(fcm) => Box::new(fcm::Fcm::open(fcm, &rules, &self.wire)?),
            Settings::Apns(apns) => Box::new(apns::Apns::open(apns, &rules, &self.wire)?),
            Settings::InApp(in_app) => Box::new(in_app::InApp::open(in_app, &self.db, &self.clock)),
        })
    }
}

/// An id for providers that want a UUID: always the same for the same key.
fn message_uuid(idempotency_key: &str) -> Uuid {
    uuid::Builder::from_custom_bytes(xxhash_rust::xxh3::xxh3_128(idempotency_key.as_bytes()).to_be_bytes()).into_uuid()
}

/// The part `data` of a push.
fn data(message: &Message) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    match message.parts.get("data").map(|text| text.trim()) {
        None | Some("") => Ok(serde_json::Map::new()),
        Some(text) => serde_json::from_str(text).map_err(|_| "the part `data` is not a JSON object".to_owned()),
    }
}

async fn get(db: &Db, tenant: &TenantId, id: &str) -> Result<Stored, CampaignError> {
    let found = if fields::is_id(id) { store::find(db, tenant, id).await? } else { None };
    found.ok_or_else(|| CampaignError::not_found(Kind::Channel, id))
}

/// As it is stored; when it was created by the same request before, as it was then.
async fn create(
    db: &Db,
    config: &Config,
    tenant: &TenantId,
    id: &str,
    definition: &Definition,
    now_us: i64,
) -> Result<Stored, CampaignError> {
    if store::state(db, tenant, id).await?.is_none() {
        let max = u64::from(config.channels_max);
        if store::count(db, tenant).await? >= max {
            return Err(CampaignError::TooMany { what: "channels", max, setting: "campaign.channels_max" });
        }
        let signed = is_signed(kind_of(&definition.settings));
        let secret = if signed { Secret::new(outgoing::new_secret(&mut rand::rng())) } else { Secret::default() };
        store::insert(db, tenant, id, definition, &secret, now_us).await?;
    }
    let stored = get(db, tenant, id).await?;
    match stored.definition == *definition {
        true => Ok(stored),
        false => Err(CampaignError::AlreadyExists { kind: Kind::Channel, id: id.to_owned() }),
    }
}

fn mismatch(id: &str) -> CampaignError {
    CampaignError::EtagMismatch { kind: Kind::Channel, id: id.to_owned() }
}

/// A channel, if it is in the state that a change was decided on. Without an etag any state is.
async fn get_at(db: &Db, tenant: &TenantId, id: &str, decided_on: &str) -> Result<Stored, CampaignError> {
    let stored = get(db, tenant, id).await?;
    if decided_on.is_empty() || decided_on == etag(&stored) { Ok(stored) } else { Err(mismatch(id)) }
}

impl Service {
    pub(crate) async fn create_channel_of(&self, tenant: &Tenant, request: CreateChannelRequest) -> Result<Channel, CampaignError> {
        let (id, definition) = parse_new(request.channel, &self.config.send.rules())?;
        let stored = create(&self.db, &self.config, &tenant.id, &id, &definition, self.clock.now_us()).await?;
        let signing_secret = stored.signing_secret.reveal().to_owned();
        Ok(Channel { signing_secret, ..self.tell_channel(tenant, stored).await? })
    }

    pub(crate) async fn get_channel_of(&self, tenant: &Tenant, request: GetChannelRequest) -> Result<Channel, CampaignError> {
        let stored = get(&self.db, &tenant.id, &request.id).await?;
        self.tell_channel(tenant, stored).await
    }

    pub(crate) async fn list_channels_of(
        &self,
        tenant: &Tenant,
        request: ListChannelsRequest,
    ) -> Result<ListChannelsResponse, CampaignError> {
        let size = page::size(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
        if !request.page_token.is_empty() && !fields::is_id(&request.page_token) {
            return Err(page::bad_token().into());
        }
        let mut found = store::list(&self.db, &tenant.id, &request.page_token, size + 1).await?;
        let next_page_token = page::cut(&mut found, size, |stored| stored.id.clone());
        let mut channels = Vec::with_capacity(found.len());
        for stored in found {
            channels.push(self.tell_channel(tenant, stored).await?);
        }
        Ok(ListChannelsResponse { channels, next_page_token })
    }

    pub(crate) async fn update_channel_of(&self, tenant: &Tenant, request: UpdateChannelRequest) -> Result<Channel, CampaignError> {
        let channel = request.channel.ok_or_else(|| CampaignError::field("channel", "is missing"))?;
        let before = get_at(&self.db, &tenant.id, &channel.id, &channel.etag).await?;
        let after = parse_change(channel, request.update_mask.as_ref(), &before.definition, &self.config.send.rules())?;
        let now_us = self.clock.now_us();
        let stored = store::update(&self.db, &tenant.id, &before.id, before.state.revision, &after, now_us).await?;
        self.tell_channel(tenant, stored.ok_or_else(|| mismatch(&before.id))?).await
    }

    pub(crate) async fn delete_channel_of(
        &self,
        tenant: &Tenant,
        request: DeleteChannelRequest,
    ) -> Result<DeleteChannelResponse, CampaignError> {
        let stored = get_at(&self.db, &tenant.id, &request.id, &request.etag).await?;
        let by = users_of(&self.db, &tenant.id, Used::Channel(&stored.id)).await?;
        if !by.is_empty() {
            return Err(CampaignError::InUse { kind: Kind::Channel, id: stored.id, by });
        }
        match store::delete(&self.db, &tenant.id, &stored.id, stored.state.revision).await? {
            true => Ok(DeleteChannelResponse {}),
            false => Err(mismatch(&stored.id)),
        }
    }

    /// A channel as the API tells it. Kinds whose requests are signed have reports, signed in the same way.
    async fn tell_channel(&self, tenant: &Tenant, stored: Stored) -> Result<Channel, CampaignError> {
        let callback_url = match is_signed(kind_of(&stored.definition.settings)) {
            true => self.links.callback_url(&tenant.id, &stored.id).await?,
            false => String::new(),
        };
        Ok(to_proto(stored, callback_url))
    }
}

#[cfg(test)]
mod tests;
