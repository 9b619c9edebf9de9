//! The demonstration's scenario: carts are abandoned, an hour passes (the demonstration's clock is put forward), half of the shoppers get one
//! mail and half another in a mail server of the demonstration's own, some buy and leave at once, and the result says what the mails changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use prost_types::Timestamp;
use segue_model::{Clock, SystemClock};
use segue_proto::campaign::v1::{
    Channel, CreateChannelRequest, CreateScenarioRequest, CreateTemplateRequest, ExplainSendRequest, GetExperimentResultsRequest,
    GetExperimentResultsResponse, GetScenarioResultsRequest, GetScenarioResultsResponse, GetScenarioStatusRequest, ListSendsRequest,
    Scenario, SendingPolicy, StartScenarioRequest, Template, UpdateSendingPolicyRequest,
};
use segue_proto::events::v1::{Event, EventKind, Identifier, Item, Value, value};
use segue_proto::ingest::v1::TrackRequest;

use super::mailbox::Mailbox;
use crate::client::Gateway;
use crate::json;

/// Who abandon their carts.
const SHOPPERS: usize = 20;
const HOUR_US: i64 = 3_600_000_000;
/// How long services may take to hear of a switch, or to get something done.
const LIMIT: Duration = Duration::from_secs(60);

const TEMPLATES: [&str; 2] = [
    r#"{"id": "cart-plain", "name": "Cart", "kind": "CHANNEL_KIND_EMAIL", "default_locale": "en", "locales": [{"locale": "en", "parts": {
        "subject": "{{ person.traits.df_name }}, your cart waits",
        "text": "Hello {{ person.traits.df_name }}, something is still in your cart."}}]}"#,
    r#"{"id": "cart-coupon", "name": "Cart with a coupon", "kind": "CHANNEL_KIND_EMAIL", "default_locale": "en", "locales": [{"locale": "en", "parts": {
        "subject": "{{ person.traits.df_name }}, 10 % off your cart",
        "html": "<p>Hello {{ person.traits.df_name }}, <a href=\"https://shop.example/cart\">10 % off</a> today.</p>"}}]}"#,
];

const SCENARIO: &str = r#"{"id": "cart-reminder", "name": "Remind of carts", "definition": {
    "entry": {"audience": {"audience": "left-in-cart"}},
    "steps": [
        {"id": "hour", "next": "offer", "wait": {"duration": {"count": 1, "unit": "TIME_UNIT_HOUR"}}},
        {"id": "offer", "experiment": {"variants": [
            {"name": "plain", "weight": 1, "next": "plain", "control": true}, {"name": "coupon", "weight": 1, "next": "coupon"}]}},
        {"id": "plain", "next": "day", "message": {"channel": "mail", "template": "cart-plain"}},
        {"id": "coupon", "next": "day", "message": {"channel": "mail", "template": "cart-coupon"}},
        {"id": "day", "wait": {"duration": {"count": 1, "unit": "TIME_UNIT_DAY"}}}],
    "exits": [{"event": {"events": ["df_purchase"]}}],
    "goals": [{"name": "buy", "on": {"events": ["df_purchase"]}, "window": {"count": 7, "unit": "TIME_UNIT_DAY"}}]}}"#;

/// The machine's clock, put forward by hand.
#[derive(Debug, Clone, Default)]
pub(super) struct ShiftedClock(Arc<AtomicI64>);

impl ShiftedClock {
    fn advance_us(&self, by_us: i64) {
        self.0.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now_us(&self) -> i64 {
        SystemClock.now_us().saturating_add(self.0.load(Ordering::SeqCst))
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) mails: usize,
    pub(super) bought: usize,
    pub(super) results: GetScenarioResultsResponse,
    pub(super) experiment: GetExperimentResultsResponse,
    why: Vec<String>,
    first_subject: String,
}

/// The demonstration's shoppers and what they are sent.
pub(super) struct Story<'s> {
    pub(super) gateway: &'s Gateway,
    /// May define channels.
    pub(super) admin: &'s Gateway,
    pub(super) clock: &'s ShiftedClock,
}

impl Story<'_> {
    /// Tells it; `say` prints a line as it goes.
    pub(super) async fn tell(&self, mut say: impl FnMut(String) -> anyhow::Result<()>) -> anyhow::Result<Outcome> {
        let mailbox = Mailbox::open().await?;
        self.define(&mailbox).await?;
        // A run of the demonstration over old data has other shoppers.
        let run = self.clock.now_us();
        let shopper = |at: usize| format!("shopper-{run}-{at}");
        self.send((0..SHOPPERS).map(|at| self.signed_up(&shopper(at), at)).collect()).await?;
        self.send((0..SHOPPERS).map(|at| self.did(&shopper(at), "df_add_to_cart", 1)).collect()).await?;
        self.settled().await?;
        say(format!("Scenario `cart-reminder`: {SHOPPERS} shoppers sign up and leave something in their carts. An hour passes …"))?;
        self.clock.advance_us(HOUR_US + 1_000_000);
        self.settled().await?;
        let mails = mailbox.mails();
        let first_subject = mails.first().map(|mail| subject(&mail.content)).unwrap_or_default();
        say(format!(
            "{} mails are in the mail server at {}, the first to {}: {first_subject}",
            mails.len(),
            mailbox.address,
            first_to(&mails)
        ))?;
        let with_coupon = |at: usize| mails.iter().any(|mail| mail.to == address(at) && mail.content.contains("text/html"));
        let buyers: Vec<usize> = (0..SHOPPERS).filter(|at| if with_coupon(*at) { at % 4 != 0 } else { at % 4 == 0 }).collect();
        self.clock.advance_us(60_000_000);
        self.send(buyers.iter().map(|at| self.did(&shopper(*at), "df_purchase", 1)).collect()).await?;
        self.settled().await?;
        self.outcome(mails.len(), buyers.len(), first_subject).await
    }

    async fn define(&self, mailbox: &Mailbox) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut channels = self.admin.channels();
        // At any hour, since a demonstration may be at night.
        let policy = SendingPolicy::default();
        while let Err(status) = channels.update_sending_policy(UpdateSendingPolicyRequest { policy: Some(policy.clone()) }).await {
            // The switch was turned a moment ago.
            ensure!(started.elapsed() < LIMIT, "{}", status.message());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let channel = format!(
            r#"{{"id": "mail", "name": "Mail", "email": {{"url": "smtp://{}", "from": "Shop <news@shop.example>"}}}}"#,
            mailbox.address
        );
        let channel: Channel = json::read("segue.campaign.v1.Channel", &channel)?;
        if let Err(status) = channels.create_channel(CreateChannelRequest { channel: Some(channel.clone()) }).await {
            ensure!(status.code() == tonic::Code::AlreadyExists, "{}", status.message());
            // That of an earlier run; its mail server has gone.
            let request = segue_proto::campaign::v1::UpdateChannelRequest { channel: Some(channel), update_mask: None };
            channels.update_channel(request).await?;
        }
        for template in TEMPLATES {
            let template: Template = json::read("segue.campaign.v1.Template", template)?;
            self.gateway.templates().create_template(CreateTemplateRequest { template: Some(template) }).await?;
        }
        let scenario: Scenario = json::read("segue.campaign.v1.Scenario", SCENARIO)?;
        let mut scenarios = self.gateway.scenarios();
        let id = scenario.id.clone();
        scenarios.create_scenario(CreateScenarioRequest { scenario: Some(scenario) }).await?;
        scenarios.start_scenario(StartScenarioRequest { id, ..Default::default() }).await.context("failed to start the scenario")?;
        Ok(())
    }

    fn did(&self, user: &str, name: &str, quantity: i64) -> Event {
        let now_us = self.clock.now_us();
        let item = Item {
            item_id: "tent".to_owned(),
            name: "Tent".to_owned(),
            price_e4: Some(3_290_000),
            quantity: Some(quantity),
            ..Item::default()
        };
        Event {
            message_id: format!("{user}-{name}"),
            kind: EventKind::Track.into(),
            name: name.to_owned(),
            time: Some(Timestamp { seconds: now_us.div_euclid(1_000_000), nanos: (now_us.rem_euclid(1_000_000) * 1_000) as i32 }),
            identifiers: vec![Identifier { kind: "user_id".to_owned(), value: user.to_owned() }],
            items: vec![item],
            ..Event::default()
        }
    }

    fn signed_up(&self, user: &str, at: usize) -> Event {
        let mut event = Event { items: Vec::new(), ..self.did(user, "df_sign_up", 0) };
        event.identifiers.push(Identifier { kind: "email".to_owned(), value: address(at) });
        let name = Value { kind: Some(value::Kind::StringValue(format!("Shopper {at}"))) };
        event.traits.insert("df_name".to_owned(), name);
        event.traits.insert("df_email_ads_optin".to_owned(), Value { kind: Some(value::Kind::BoolValue(true)) });
        event
    }

    async fn send(&self, events: Vec<Event>) -> anyhow::Result<()> {
        let count = events.len();
        let answer = self.gateway.ingest().track(TrackRequest { events }).await?.into_inner();
        ensure!(answer.accepted as usize == count, "{answer:?}");
        Ok(())
    }

    /// Waits until what was sent shows everywhere, what is due has happened, and what came of it shows too.
    async fn settled(&self) -> anyhow::Result<()> {
        for _ in 0..2 {
            self.gateway.wait_until_in_audiences().await?;
            let (now_us, started) = (self.clock.now_us(), Instant::now());
            loop {
                let request = GetScenarioStatusRequest { wait_ms: 5_000 };
                let status = self.gateway.scenarios().get_scenario_status(request).await?.into_inner();
                let until_us = status.dealt_with_until.map_or(0, |until| until.seconds * 1_000_000 + i64::from(until.nanos / 1_000));
                if until_us >= now_us && status.due_runs + status.waiting_sends + status.waiting_events == 0 {
                    break;
                }
                ensure!(started.elapsed() < LIMIT, "scenarios are behind: {status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.gateway.wait_until_indexed().await
    }

    async fn outcome(&self, mails: usize, bought: usize, first_subject: String) -> anyhow::Result<Outcome> {
        let scenario = "cart-reminder".to_owned();
        let mut client = self.gateway.results();
        let request = GetScenarioResultsRequest { scenario: scenario.clone(), range: None };
        let results = client.get_scenario_results(request).await?.into_inner();
        let request = GetExperimentResultsRequest { scenario: scenario.clone(), step: "offer".to_owned(), ..Default::default() };
        let experiment = client.get_experiment_results(request).await?.into_inner();
        let mut messages = self.gateway.messages();
        let sends = messages.list_sends(ListSendsRequest { scenario, page_size: 1, ..Default::default() }).await?.into_inner().sends;
        let mut why = Vec::new();
        if let Some(send) = sends.first() {
            let chain = messages.explain_send(ExplainSendRequest { id: send.id.clone() }).await?.into_inner().decisions;
            why.extend(chain.into_iter().map(|decision| format!("  {} {}: {}", decision.check, decision.outcome, decision.detail)));
        }
        Ok(Outcome { mails, bought, results, experiment, why, first_subject })
    }
}

impl Outcome {
    /// In a few lines.
    pub(super) fn text(&self) -> String {
        let total = self.results.total.clone().unwrap_or_default();
        let mut text = format!(
            "{} bought and left the scenario at once. {} entered, {} active; {} sent, {} converted, worth {}\n",
            self.bought, self.results.entered, self.results.active, total.sent, total.converted, total.value
        );
        for variant in &self.experiment.variants {
            text.push_str(&format!(
                "  {:8} {:3} persons, {:2} bought ({:.0} %), best with probability {:.2}, p = {:.3}\n",
                variant.variant,
                variant.persons,
                variant.converted,
                variant.rate * 100.0,
                variant.probability_best,
                variant.p_value
            ));
        }
        if !self.why.is_empty() {
            text.push_str(&format!("Why the last mail was sent:\n{}\n", self.why.join("\n")));
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        let total = self.results.total.clone().unwrap_or_default();
        let variant = |variant: &segue_proto::campaign::v1::VariantResult| serde_json::json!({"variant": variant.variant, "persons": variant.persons, "converted": variant.converted, "p_value": variant.p_value});
        serde_json::json!({
            "id": "cart-reminder", "entered": self.results.entered, "active": self.results.active, "mails": self.mails,
            "first_subject": self.first_subject, "sent": total.sent, "converted": total.converted, "value": total.value,
            "variants": self.experiment.variants.iter().map(variant).collect::<Vec<_>>(),
        })
    }
}

fn address(at: usize) -> String {
    format!("shopper{at}@demo.example")
}

fn first_to(mails: &[super::mailbox::Mail]) -> &str {
    mails.first().map_or("nobody", |mail| mail.to.as_str())
}

fn subject(content: &str) -> String {
    content.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
}
