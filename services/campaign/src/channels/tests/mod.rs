//! Channels in stores, and the ways out of this process against real servers.

mod http;
mod mail_server;
mod push;
mod smtp;

use prost_types::FieldMask;
use segue_model::ManualClock;
use segue_proto::campaign::v1::{ApnsSettings, EmailSettings, FcmSettings, HttpSettings, InAppSettings};
use segue_testkit::TempStore;

use super::*;
use crate::config::SendConfig;
use crate::store::{MIGRATIONS, NAMESPACE};

const NOW_US: i64 = 1_748_426_400_000_000;

/// A store with channels that may lead to this machine.
struct World {
    channels: Channels,
    clock: Arc<ManualClock>,
    tenant: TenantId,
    _store: TempStore,
}

impl World {
    async fn on(store: TempStore, send: SendConfig) -> Self {
        segue_runtime::install_tls_provider();
        let db = store.open(NAMESPACE, MIGRATIONS).await.expect("a store");
        let clock = Arc::new(ManualClock::new(NOW_US));
        let config = Arc::new(Config { channels_max: 3, send, ..Config::default() });
        let tenant = "shop".parse().expect("an id");
        Self { channels: Channels::new(config, db, clock.clone()), clock, tenant, _store: store }
    }

    async fn new() -> Self {
        Self::with(open()).await
    }

    async fn with(send: SendConfig) -> Self {
        Self::on(segue_testkit::stores().into_iter().next().expect("SQLite"), send).await
    }

    async fn create(&self, channel: Channel) -> Result<Stored, CampaignError> {
        let (id, definition) = parse_new(Some(channel), &self.channels.config.send.rules())?;
        create(&self.channels.db, &self.channels.config, &self.tenant, &id, &definition, self.clock.now_us()).await
    }

    async fn update(&self, channel: Channel, mask: &[&str]) -> Result<Stored, CampaignError> {
        let id = channel.id.clone();
        let before = get_at(&self.channels.db, &self.tenant, &id, &channel.etag).await?;
        let mask = FieldMask { paths: mask.iter().map(|path| (*path).to_owned()).collect() };
        let after = parse_change(channel, Some(&mask), &before.definition, &self.channels.config.send.rules())?;
        let updated = store::update(&self.channels.db, &self.tenant, &id, before.state.revision, &after, self.clock.now_us()).await?;
        updated.ok_or_else(|| mismatch(&id))
    }

    /// A channel with these settings, opened.
    async fn opened(&self, settings: Settings) -> Arc<OpenChannel> {
        self.create(channel("out", settings)).await.expect("valid settings");
        self.channels.find(&self.tenant, "out").await.expect("a store").expect("it is there")
    }
}

fn open() -> SendConfig {
    SendConfig { allow_insecure: true, allow_private_addresses: true, ..SendConfig::default() }
}

fn channel(id: &str, settings: Settings) -> Channel {
    Channel { id: id.to_owned(), name: "A channel".to_owned(), settings: Some(settings), ..Channel::default() }
}

fn message(address: &str, parts: &[(&str, &str)]) -> Message {
    Message {
        idempotency_key: "s-1.0".to_owned(),
        tenant: "shop".parse().expect("an id"),
        person: 7,
        address: address.to_owned(),
        parts: parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        unsubscribe_url: None,
    }
}

fn webhook(url: &str) -> HttpSettings {
    HttpSettings { url: url.to_owned(), headers: HashMap::from([("Authorization".to_owned(), "Bearer SECRET-1".to_owned())]) }
}

fn mail() -> EmailSettings {
    EmailSettings {
        url: "smtps://mail.example".to_owned(),
        username: "shop".to_owned(),
        password: "SECRET-2".to_owned(),
        from: "Shop <news@shop.example>".to_owned(),
    }
}

fn fields_of(result: Result<impl std::fmt::Debug, CampaignError>) -> Vec<String> {
    match result {
        Err(CampaignError::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
        other => panic!("expected faults: {other:?}"),
    }
}

#[tokio::test]
async fn creating_is_idempotent_and_secrets_are_never_read_back() {
    for store in segue_testkit::stores() {
        let world = World::on(store, open()).await;
        let hook = channel("hook", Settings::Webhook(webhook("https://a.example/in")));
        let first = world.create(hook.clone()).await.expect("new");
        let again = world.create(hook.clone()).await.expect("the same");
        assert_eq!(first, again);
        assert!(first.signing_secret.reveal().starts_with("whsec_"));
        let other = Channel { name: "Another".to_owned(), ..hook.clone() };
        assert!(matches!(world.create(other).await, Err(CampaignError::AlreadyExists { .. })));
        let told = to_proto(first.clone(), "https://x.example/cb".to_owned());
        let Some(Settings::Webhook(http)) = &told.settings else { panic!("a webhook") };
        assert_eq!(http.headers, HashMap::from([("Authorization".to_owned(), String::new())]));
        assert!(!format!("{told:?}").contains("SECRET") && !format!("{first:?}").contains("SECRET"));
        assert!(told.signing_secret.is_empty() && !format!("{first:?}").contains("whsec_"));
        let email = world.create(channel("mail", Settings::Email(mail()))).await.expect("new");
        assert_eq!(email.signing_secret.reveal(), "");
        assert!(!format!("{:?}", to_proto(email, String::new())).contains("SECRET"));
        world.create(channel("feed", Settings::InApp(InAppSettings::default()))).await.expect("new");
        let fourth = world.create(channel("fourth", Settings::InApp(InAppSettings::default()))).await;
        assert!(matches!(fourth, Err(CampaignError::TooMany { max: 3, .. })), "{fourth:?}");
        assert!(world.create(hook).await.is_ok(), "what is there may be created again");
        let channels = &world.channels;
        assert_eq!(channels.kind(&world.tenant, "feed").await.expect("a store"), Some(ChannelKind::InApp));
        assert_eq!(channels.kind(&world.tenant, "none").await.expect("a store"), None);
        let secret = channels.signing_secret(&world.tenant, "hook").await.expect("a store");
        assert_eq!(secret.as_deref(), Some(first.signing_secret.reveal()));
        assert_eq!(channels.signing_secret(&world.tenant, "mail").await.expect("a store"), None);
        let page = store::list(&channels.db, &world.tenant, "feed", 10).await.expect("a store");
        assert_eq!(page.iter().map(|stored| stored.id.as_str()).collect::<Vec<_>>(), ["hook", "mail"]);
        assert!(matches!(get(&channels.db, &world.tenant, "a\0").await, Err(CampaignError::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_change_keeps_empty_secrets_and_the_kind_and_wants_the_present_etag() {
    for store in segue_testkit::stores() {
        let world = World::on(store, open()).await;
        let before = world.create(channel("hook", Settings::Webhook(webhook("https://a.example/in")))).await.expect("new");
        let moved = HttpSettings {
            url: "https://b.example/in".to_owned(),
            headers: HashMap::from([("Authorization".to_owned(), String::new()), ("X-More".to_owned(), "1".to_owned())]),
        };
        let change = |settings| Channel { etag: etag(&before), paused: true, ..channel("hook", settings) };
        let after = world.update(change(Settings::Webhook(moved.clone())), &["webhook"]).await.expect("valid");
        let Settings::Webhook(http) = &after.definition.settings else { panic!("a webhook") };
        assert_eq!((http.url.as_str(), http.headers["Authorization"].as_str()), ("https://b.example/in", "Bearer SECRET-1"));
        assert_eq!((http.headers["X-More"].as_str(), after.definition.paused), ("1", false), "paused is not in the mask");
        assert_eq!(after.signing_secret, before.signing_secret);
        let late = world.update(change(Settings::Webhook(moved.clone())), &[]).await;
        assert!(matches!(late, Err(CampaignError::EtagMismatch { .. })), "{late:?}");
        let valueless = HttpSettings { headers: HashMap::from([("X-New".to_owned(), String::new())]), ..moved };
        let unguarded = |settings| channel("hook", settings);
        assert_eq!(fields_of(world.update(unguarded(Settings::Webhook(valueless)), &[]).await), ["channel.webhook.headers[X-New]"]);
        assert_eq!(fields_of(world.update(unguarded(Settings::Email(mail())), &[]).await), ["channel.email"]);
        let mut bare = unguarded(Settings::Email(mail()));
        bare.settings = None;
        assert_eq!(fields_of(world.update(bare.clone(), &["webhook"]).await), ["channel.webhook"]);
        assert_eq!(fields_of(world.update(bare.clone(), &["email"]).await), ["update_mask.paths[0]"]);
        bare.paused = true;
        assert!(world.update(bare, &["paused"]).await.expect("valid").definition.paused);
        assert!(!store::delete(&world.channels.db, &world.tenant, "hook", 1).await.expect("a store"), "that was long ago");
        assert!(store::delete(&world.channels.db, &world.tenant, "hook", 3).await.expect("a store"));
    }
}

#[tokio::test]
async fn an_opened_channel_is_kept_until_it_changes() {
    for store in segue_testkit::stores() {
        let world = World::on(store, open()).await;
        let first = world.opened(Settings::Email(mail())).await;
        let find = async || world.channels.find(&world.tenant, "out").await.expect("a store");
        assert!(Arc::ptr_eq(&first, &find().await.expect("it is there")));
        assert_eq!((first.kind, first.address_kind, first.to_all, first.paused), (ChannelKind::Email, Some("email"), false, false));
        let paused = Channel { paused: true, rate_per_second: 9, ..channel("out", Settings::Email(mail())) };
        world.update(paused, &["paused", "rate_per_second"]).await.expect("valid");
        let second = find().await.expect("it is there");
        assert_eq!((second.paused, second.rate_per_second), (true, 9));
        assert!(Arc::ptr_eq(&second, &find().await.expect("it is there")));
        assert!(!format!("{second:?}").contains("SECRET"));
        store::delete(&world.channels.db, &world.tenant, "out", 2).await.expect("a store");
        assert!(find().await.is_none());
        world.clock.advance_us(1);
        let anew = world.opened(Settings::InApp(InAppSettings::default())).await;
        assert_eq!((anew.kind, anew.address_kind), (ChannelKind::InApp, None));
    }
}

#[tokio::test]
async fn every_fault_of_settings_is_named() {
    let world = World::with(SendConfig::default()).await;
    let faults = async |settings| fields_of(world.create(channel("a", settings)).await);
    let missing = Channel { id: "A".to_owned(), settings: None, ..channel("", Settings::Email(mail())) };
    assert_eq!(fields_of(world.create(missing).await), ["channel.id", "channel.settings"]);
    let email = EmailSettings { url: "smtp://mail.example".to_owned(), password: String::new(), from: "a\r\nb".to_owned(), ..mail() };
    assert_eq!(faults(Settings::Email(email)).await, ["url", "password", "from"].map(|field| format!("channel.email.{field}")));
    for url in ["http://a.example", "https://127.0.0.1", "https://0x7f.1", "https://[::ffff:10.0.0.1]", "https://2130706433"] {
        assert_eq!(faults(Settings::Sms(webhook(url))).await, ["channel.sms.url"], "{url}");
    }
    let headers = [("a b", "1"), ("Host", "1"), ("X-A", "a\nb"), ("webhook-id", "1"), ("x-b", "1"), ("X-B", "2")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let named = faults(Settings::Kakao(HttpSettings { headers, ..webhook("https://a.example") })).await;
    assert_eq!(named, ["Host", "X-A", "a b", "webhook-id", "x-b"].map(|name| format!("channel.kakao.headers[{name}]")));
    let fcm = FcmSettings { project_id: "a/b".to_owned(), private_key: "SECRET".to_owned(), ..FcmSettings::default() };
    let named = faults(Settings::Fcm(fcm)).await;
    assert_eq!(named, ["project_id", "client_email", "private_key"].map(|field| format!("channel.fcm.{field}")));
    let apns = ApnsSettings { url: "http://a.example".to_owned(), ..ApnsSettings::default() };
    let named = faults(Settings::Apns(apns)).await;
    assert_eq!(named, ["team_id", "key_id", "private_key", "bundle_id", "url"].map(|field| format!("channel.apns.{field}")));
    assert_eq!(faults(Settings::InApp(InAppSettings { keep_days: 4_000 })).await, ["channel.in_app.keep_days"]);
    let feed = world.create(channel("feed", Settings::InApp(InAppSettings::default()))).await.expect("valid");
    assert_eq!(feed.definition.settings, Settings::InApp(InAppSettings { keep_days: 30 }));
}
