//! kill -9 in a loop while messages are being sent: every message that was to be sent is in the ledger once, and came to the receiver at
//! least once, always under the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue_node::client::Gateway;
use segue_proto::campaign::v1::{
    Channel, ChannelKind, CreateChannelRequest, CreateScenarioRequest, CreateTemplateRequest, Entry, EventEntry, HttpSettings,
    ListScenariosRequest, ListSendsRequest, LocalizedParts, Scenario, ScenarioDefinition, Send, SendState, StartScenarioRequest, Template,
    WebhookStep, channel, entry, step,
};
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::tenancy::v1::Module;
use segue_tests::events::{event, text};
use segue_tests::installation::{Installation, Shape, TenantKeys};

use super::shop::{on, step as step_of};
use crate::modules::eventually;
use crate::semantics::now_us;

const KILLS: usize = 12;
const BATCH: u64 = 20;
const SETTINGS: [&str; 5] = [
    "campaign.send.allow_insecure=true",
    "campaign.send.allow_private_addresses=true",
    "campaign.send.timeout_ms=1000",
    "campaign.send.lease_ms=2000",
    "campaign.flow.lease_ms=1000",
];

/// How often each key came, with which orders.
type Received = Arc<Mutex<BTreeMap<String, (u32, BTreeSet<String>)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_while_sending_every_message_is_in_the_ledger_once_and_came_under_one_key_embedded() {
    if let Err(error) = crate::on(Shape::Embedded, &SETTINGS, crash_loop).await {
        panic!("{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_while_sending_every_message_is_in_the_ledger_once_and_came_under_one_key_distributed() {
    for shape in Shape::available().into_iter().filter(|shape| *shape == Shape::EightProcesses) {
        if let Err(error) = crate::on(shape, &SETTINGS, crash_loop).await {
            panic!("{error:?}");
        }
    }
}

/// A receiver of webhooks; answers with its address.
async fn receiver(received: Received) -> anyhow::Result<String> {
    let take = move |headers: HeaderMap, body: String| {
        let received = received.clone();
        async move {
            let Some(id) = headers.get("webhook-id").and_then(|id| id.to_str().ok()) else { return StatusCode::BAD_REQUEST };
            let mut received = received.lock();
            let (count, bodies) = received.entry(id.to_owned()).or_default();
            *count += 1;
            bodies.insert(body);
            StatusCode::NO_CONTENT
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(take))).await });
    Ok(format!("http://{address}/hook"))
}

async fn define(gateway: &Gateway, url: String) -> anyhow::Result<()> {
    let webhook = channel::Settings::Webhook(HttpSettings { url, headers: Default::default() });
    let channel = Channel { id: "hook".to_owned(), name: "hook".to_owned(), settings: Some(webhook), ..Channel::default() };
    gateway.channels().create_channel(CreateChannelRequest { channel: Some(channel) }).await?;
    let parts = [("body".to_owned(), "{\"order\": {{ entry_key }}}".to_owned())].into();
    let template = Template {
        id: "order".to_owned(),
        name: "order".to_owned(),
        kind: ChannelKind::Webhook.into(),
        locales: vec![LocalizedParts { locale: "en".to_owned(), parts }],
        default_locale: "en".to_owned(),
        ..Template::default()
    };
    gateway.templates().create_template(CreateTemplateRequest { template: Some(template) }).await?;
    let entry = EventEntry { on: Some(on("order")), entry_key_property: "order".to_owned() };
    let webhook = WebhookStep { channel: "hook".to_owned(), template: "order".to_owned(), ..WebhookStep::default() };
    let definition = ScenarioDefinition {
        entry: Some(Entry { on: Some(entry::On::Event(entry)), only_if: None }),
        steps: vec![step_of("tell", "", step::Kind::Webhook(webhook))],
        ..ScenarioDefinition::default()
    };
    let scenario = Scenario { id: "orders".to_owned(), name: "orders".to_owned(), definition: Some(definition), ..Scenario::default() };
    gateway.scenarios().create_scenario(CreateScenarioRequest { scenario: Some(scenario) }).await?;
    let request = StartScenarioRequest { id: "orders".to_owned(), ..StartScenarioRequest::default() };
    gateway.scenarios().start_scenario(request).await.context("failed to start the scenario")?;
    Ok(())
}

/// Sends batch after batch, each until it is acknowledged, under the same ids. Answers with how many orders there were.
async fn sender(urls: Vec<String>, key: String, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> u64 {
    let mut batch = 0;
    while !stop.load(Ordering::SeqCst) {
        let events: Vec<_> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|order| {
                let mut ordered = event(&format!("order-{order}"), "order", now_us(), &[("user_id", &format!("u{}", order % 37))]);
                ordered.properties.insert("order".to_owned(), text(&format!("o{order}")));
                ordered
            })
            .collect();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let url = &urls[attempt % urls.len()];
            let sent = async {
                anyhow::Ok(Gateway::connect(url, &key, None).await?.ingest().track(TrackRequest { events: events.clone() }).await?)
            };
            match tokio::time::timeout(Duration::from_secs(10), sent).await {
                Ok(Ok(_)) => break,
                _ if attempt > 5_000 => panic!("a batch was never taken"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        acknowledged.fetch_add(BATCH, Ordering::SeqCst);
        batch += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    batch * BATCH
}

async fn crash_loop(mut installation: Installation) -> anyhow::Result<()> {
    let keys = installation.tenant("shop").await?;
    installation.set_audiences("shop", true).await?;
    installation.set_module("shop", Module::Campaign, true).await?;
    eventually(true, async || Ok(keys.gateway.scenarios().list_scenarios(ListScenariosRequest::default()).await.is_ok())).await?;
    let received = Received::default();
    define(&keys.gateway, receiver(received.clone()).await?).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    #[allow(clippy::disallowed_methods, reason = "the test waits for it below")]
    let sending = tokio::spawn(sender(installation.gateways(), keys.write.clone(), stop.clone(), acknowledged.clone()));
    let mut random = StdRng::seed_from_u64(5);
    let victims = [installation.running("campaign"), installation.running("identity"), installation.running("ingest")].concat();
    for kill in 0..KILLS {
        // Messages come between kills, or the loop would only show that nothing works; then a random moment.
        let before = received.lock().len();
        eventually(true, async || Ok(received.lock().len() > before)).await.with_context(|| installation.log_tail(0))?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        // Whoever sends, and every other time somebody whom it needs.
        let victim = if kill % 2 == 0 { victims[0] } else { victims[random.random_range(0..victims.len())] };
        installation.kill_and_restart(victim)?;
        installation.ready().await?;
    }
    stop.store(true, Ordering::SeqCst);
    let orders = sending.await?;
    eventually(orders, async || Ok(received.lock().len() as u64)).await.with_context(|| format!("{orders} orders"))?;
    ledger(&keys, orders, &received).await
}

async fn ledger(keys: &TenantKeys, orders: u64, received: &Received) -> anyhow::Result<()> {
    let is_over = async || Ok(sends(keys).await?.iter().all(|send| send.state() == SendState::Sent));
    eventually(true, is_over).await?;
    let sends = sends(keys).await?;
    let ids: BTreeSet<&str> = sends.iter().map(|send| send.id.as_str()).collect();
    let told: BTreeSet<&str> = sends.iter().map(|send| send.entry_key.as_str()).collect();
    ensure!(
        (sends.len() as u64, ids.len(), told.len() as u64) == (orders, sends.len(), orders),
        "{} sends of {orders} orders",
        sends.len()
    );
    let received = received.lock();
    ensure!(received.keys().map(String::as_str).collect::<BTreeSet<_>>() == ids, "the receiver has seen other keys than the ledger has");
    for send in &sends {
        let (_, bodies) = &received[&send.id];
        let body = format!("{{\"order\": \"{}\"}}", send.entry_key);
        ensure!(bodies.len() == 1 && bodies.contains(&body), "{}: {bodies:?}", send.id);
    }
    let again = received.values().filter(|(count, _)| *count > 1).count();
    eprintln!("{orders} orders, {again} of them told more than once");
    Ok(())
}

async fn sends(keys: &TenantKeys) -> anyhow::Result<Vec<Send>> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSendsRequest { scenario: "orders".to_owned(), page_size: 1_000, page_token, ..ListSendsRequest::default() };
        let page = keys.gateway.messages().list_sends(request).await?.into_inner();
        all.extend(page.sends);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}
