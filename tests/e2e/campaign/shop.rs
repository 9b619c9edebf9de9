//! A shop whose clock is moved by hand: what it sends, what it defines, and waiting until everything has been dealt with.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use segue_node::client::Gateway;
use segue_proto::audience::v1::{Audience, CreateAudienceRequest, GetLiveStatusRequest, ListAudiencesRequest, ParseConditionRequest};
use segue_proto::campaign::v1::{
    AudienceEntry, Channel, ChannelKind, CreateChannelRequest, CreateScenarioRequest, CreateTemplateRequest, EmailSettings, Entry,
    ExitRule, ExperimentStep, GetScenarioStatusRequest, Goal, ListScenariosRequest, LocalizedParts, MessageStep, Scenario,
    ScenarioDefinition, StartScenarioRequest, Step, Template, Variant, WaitStep, channel, entry, exit_rule, step, wait_step,
};
use segue_proto::events::v1::{Event, Item, Value, value::Kind};
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::query::v1::{EventSelector, Span, TimeUnit};
use segue_proto::tenancy::v1::Module;
use segue_tests::events::{event, text};

use crate::audience::tenant::micros;
use crate::modules::eventually;
use crate::truth::Stage;

pub const SECOND_US: i64 = 1_000_000;
pub const HOUR_US: i64 = 3_600 * SECOND_US;

/// A tenant with campaigns on.
pub struct Shop<'s> {
    pub stage: &'s Stage,
    pub gateway: Gateway,
}

impl<'s> Shop<'s> {
    pub async fn open(stage: &'s Stage, id: &str) -> anyhow::Result<Self> {
        let gateway = stage.tenant_with(id, Module::Campaign).await?;
        // Services hear of it a moment later.
        eventually(true, async || Ok(gateway.scenarios().list_scenarios(ListScenariosRequest::default()).await.is_ok())).await?;
        eventually(true, async || Ok(gateway.audience().list_audiences(ListAudiencesRequest::default()).await.is_ok())).await?;
        Ok(Self { stage, gateway })
    }

    pub async fn send(&self, events: Vec<Event>) -> anyhow::Result<()> {
        let count = events.len();
        let answer = self.gateway.ingest().track(TrackRequest { events }).await?.into_inner();
        ensure!(answer.accepted as usize == count, "{answer:?}");
        Ok(())
    }

    /// An event of a user now.
    pub fn did(&self, user: &str, name: &str, properties: &[(&str, Value)]) -> Event {
        let now_us = self.stage.now_us();
        let mut did = event(&format!("{user}-{name}-{now_us}"), name, now_us, &[("user_id", user)]);
        did.properties = properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        did
    }

    pub async fn audience(&self, id: &str, condition: &str) -> anyhow::Result<()> {
        let mut client = self.gateway.audience();
        let parsed = client.parse_condition(ParseConditionRequest { text: condition.to_owned() }).await?.into_inner();
        let audience = Audience { id: id.to_owned(), name: id.to_owned(), condition: parsed.condition, ..Default::default() };
        client.create_audience(CreateAudienceRequest { audience: Some(audience) }).await?;
        Ok(())
    }

    pub async fn mail_channel(&self, id: &str, url: &str) -> anyhow::Result<()> {
        let email = EmailSettings { url: url.to_owned(), from: "Shop <news@shop.example>".to_owned(), ..EmailSettings::default() };
        let channel =
            Channel { id: id.to_owned(), name: id.to_owned(), settings: Some(channel::Settings::Email(email)), ..Channel::default() };
        self.gateway.channels().create_channel(CreateChannelRequest { channel: Some(channel) }).await?;
        Ok(())
    }

    pub async fn mail_template(&self, id: &str, parts: &[(&str, &str)]) -> anyhow::Result<()> {
        let parts: BTreeMap<String, String> = parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let template = Template {
            id: id.to_owned(),
            name: id.to_owned(),
            kind: ChannelKind::Email.into(),
            locales: vec![LocalizedParts { locale: "en".to_owned(), parts: parts.into_iter().collect() }],
            default_locale: "en".to_owned(),
            ..Template::default()
        };
        self.gateway.templates().create_template(CreateTemplateRequest { template: Some(template) }).await?;
        Ok(())
    }

    pub async fn start(&self, id: &str, definition: ScenarioDefinition) -> anyhow::Result<()> {
        let scenario = Scenario { id: id.to_owned(), name: id.to_owned(), definition: Some(definition), ..Scenario::default() };
        let mut client = self.gateway.scenarios();
        client.create_scenario(CreateScenarioRequest { scenario: Some(scenario) }).await?;
        let request = StartScenarioRequest { id: id.to_owned(), ..StartScenarioRequest::default() };
        client.start_scenario(request).await.with_context(|| format!("scenario {id}"))?;
        Ok(())
    }

    /// Waits until everything that was sent shows everywhere, everything that is due has happened, and what came of it shows too.
    pub async fn settle(&self) -> anyhow::Result<()> {
        // Audiences follow events, scenarios follow audiences, and messages come back as events: once around and once more.
        for _ in 0..2 {
            self.gateway.wait_until_indexed().await?;
            let now_us = self.stage.now_us();
            let mut audience = self.gateway.audience();
            // Nobody works on a tenant without audiences.
            let is_any = !audience.list_audiences(ListAudiencesRequest::default()).await?.into_inner().audiences.is_empty();
            let is_live = async || {
                Ok(!is_any || audience.get_live_status(GetLiveStatusRequest {}).await?.into_inner().as_of.map_or(0, micros) >= now_us)
            };
            eventually(true, is_live).await?;
            let mut scenarios = self.gateway.scenarios();
            let dealt_with = async || {
                let status = scenarios.get_scenario_status(GetScenarioStatusRequest { wait_ms: 5_000 }).await?.into_inner();
                let is_done = status.dealt_with_until.map_or(0, micros) >= now_us
                    && status.due_runs + status.waiting_sends + status.waiting_events == 0;
                Ok(if is_done { None } else { Some(format!("{status:?}")) })
            };
            eventually(None, dealt_with).await?;
        }
        self.gateway.wait_until_indexed().await
    }

    /// Moves the clock forward.
    pub fn pass(&self, us: i64) {
        self.stage.clock.advance_us(us);
    }
}

pub fn span(count: u32, unit: TimeUnit) -> Option<Span> {
    Some(Span { count, unit: unit.into() })
}

pub fn on(name: &str) -> EventSelector {
    EventSelector { events: vec![name.to_owned()], filter: None }
}

pub fn item(name: &str, price: i64, quantity: i64) -> Item {
    Item {
        item_id: name.to_lowercase(),
        name: name.to_owned(),
        price_e4: Some(price * 10_000),
        quantity: Some(quantity),
        ..Item::default()
    }
}

pub fn step(id: &str, next: &str, kind: step::Kind) -> Step {
    Step { id: id.to_owned(), next: next.to_owned(), kind: Some(kind) }
}

pub fn wait(count: u32, unit: TimeUnit) -> step::Kind {
    step::Kind::Wait(WaitStep { wait: Some(wait_step::Wait::Duration(Span { count, unit: unit.into() })) })
}

pub fn message(channel: &str, template: &str) -> step::Kind {
    step::Kind::Message(MessageStep { channel: channel.to_owned(), template: template.to_owned(), ..MessageStep::default() })
}

pub fn experiment(variants: &[(&str, &str)]) -> step::Kind {
    let variants = variants.iter().enumerate().map(|(at, (name, next))| Variant {
        name: (*name).to_owned(),
        weight: 1,
        next: (*next).to_owned(),
        control: at == 0,
    });
    step::Kind::Experiment(ExperimentStep { variants: variants.collect(), goal: String::new() })
}

pub fn entered(audience: &str) -> Option<Entry> {
    Some(Entry { on: Some(entry::On::Audience(AudienceEntry { audience: audience.to_owned(), on_leaving: false })), only_if: None })
}

pub fn exit_on(name: &str) -> ExitRule {
    ExitRule { on: Some(exit_rule::On::Event(on(name))), ..ExitRule::default() }
}

pub fn goal(name: &str, event: &str) -> Goal {
    Goal { name: name.to_owned(), on: Some(on(event)), window: span(7, TimeUnit::Day), ..Goal::default() }
}

/// Somebody who said yes to advertising by mail.
pub fn signed_up(shop: &Shop<'_>, user: &str, name: &str, address: &str) -> Event {
    agreed(shop.did(user, "df_sign_up", &[]), name, address)
}

/// The event of somebody who says yes to advertising by mail with it.
pub fn agreed(mut event: Event, name: &str, address: &str) -> Event {
    event.identifiers.push(segue_tests::events::identifier("email", address));
    event.traits.insert("df_name".to_owned(), text(name));
    event.traits.insert("df_email_ads_optin".to_owned(), Value { kind: Some(Kind::BoolValue(true)) });
    event
}
