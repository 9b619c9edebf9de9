//! A tenant with campaigns in a program of its own, a receiver of webhooks, and what is made before measuring.

use std::time::{Duration, Instant};

use anyhow::ensure;
use segue_proto::campaign::v1::{
    Channel, ChannelKind, CreateChannelRequest, CreateScenarioRequest, CreateTemplateRequest, EndScenarioRequest, Entry, EventEntry,
    GetScenarioStatusRequest, GetScenarioStatusResponse, HttpSettings, ListScenariosRequest, LocalizedParts, Scenario, ScenarioDefinition,
    StartScenarioRequest, Step, Template, WebhookStep, channel, entry, step,
};
use segue_proto::query::v1::EventSelector;
use segue_proto::tenancy::v1::Module;
use segue_tests::installation::{Installation, Shape, TenantKeys};

use super::receiver::Receiver;
use crate::process;
use crate::sender::Load;

/// How long services take at most to hear of a module.
const SWITCHED_LATEST: Duration = Duration::from_secs(30);
/// How long what was sent may take to be dealt with.
const RESTED_LATEST: Duration = Duration::from_secs(300);
const SETTINGS: [&str; 5] = [
    "telemetry.log_filter=warn",
    "gateway.requests_per_second=1000000",
    "gateway.ingest_bytes_per_second=4000000000",
    "campaign.send.allow_insecure=true",
    "campaign.send.allow_private_addresses=true",
];

/// What is measured.
pub(crate) struct Shop {
    installation: Installation,
    pub(crate) shape: Shape,
    pub(crate) keys: TenantKeys,
    pub(crate) load: Load,
    pub(crate) receiver: Receiver,
}

impl Shop {
    pub(crate) async fn open(servers: bool) -> anyhow::Result<Self> {
        let shape = if servers { Shape::OneProcess } else { Shape::Embedded };
        let program = std::env::current_exe()?.with_file_name("segue-under-test");
        ensure!(program.exists(), "{} is not built; run this through tests/bench", program.display());
        let installation = Installation::start(shape, &program, &SETTINGS).await?;
        let keys = installation.tenant("bench").await?;
        installation.set_audiences("bench", true).await?;
        installation.set_module("bench", Module::Campaign, true).await?;
        let started = Instant::now();
        while let Err(error) = keys.gateway.scenarios().list_scenarios(ListScenariosRequest::default()).await {
            ensure!(started.elapsed() < SWITCHED_LATEST, "campaigns are not there: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let load = Load::new(installation.url(), keys.write.clone());
        let shop = Self { shape, keys, load, receiver: Receiver::start().await?, installation };
        shop.make_channel().await?;
        Ok(shop)
    }

    /// A webhook that tells when the event that caused it was sent.
    async fn make_channel(&self) -> anyhow::Result<()> {
        let webhook = channel::Settings::Webhook(HttpSettings { url: self.receiver.url.clone(), headers: Default::default() });
        let channel = Channel { id: "hook".to_owned(), name: "hook".to_owned(), settings: Some(webhook), ..Channel::default() };
        self.keys.gateway.channels().create_channel(CreateChannelRequest { channel: Some(channel) }).await?;
        let parts = [("body".to_owned(), "{{ event.properties.sent | default(0) }}".to_owned())].into();
        let template = Template {
            id: "sent".to_owned(),
            name: "sent".to_owned(),
            kind: ChannelKind::Webhook.into(),
            locales: vec![LocalizedParts { locale: "en".to_owned(), parts }],
            default_locale: "en".to_owned(),
            ..Template::default()
        };
        self.keys.gateway.templates().create_template(CreateTemplateRequest { template: Some(template) }).await?;
        Ok(())
    }

    /// Starts a scenario that is entered by an event.
    pub(crate) async fn start(&self, id: &str, event: &str, steps: Vec<Step>) -> anyhow::Result<()> {
        let entry = EventEntry { on: Some(on(event)), entry_key_property: String::new() };
        let entry = Some(Entry { on: Some(entry::On::Event(entry)), only_if: None });
        let definition = ScenarioDefinition { entry, steps, ..ScenarioDefinition::default() };
        let scenario = Scenario { id: id.to_owned(), name: id.to_owned(), definition: Some(definition), ..Scenario::default() };
        let mut client = self.keys.gateway.scenarios();
        client.create_scenario(CreateScenarioRequest { scenario: Some(scenario) }).await?;
        client.start_scenario(StartScenarioRequest { id: id.to_owned(), ..StartScenarioRequest::default() }).await?;
        // The load has times in whole seconds, and what came before the start lets nobody enter.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    pub(crate) async fn end(&self, id: &str) -> anyhow::Result<()> {
        let request = EndScenarioRequest { id: id.to_owned(), ..EndScenarioRequest::default() };
        self.keys.gateway.scenarios().end_scenario(request).await?;
        Ok(())
    }

    /// How far scenarios are, and when everything that is there now was dealt with or so many milliseconds have passed.
    pub(crate) async fn status(&self, wait_ms: u32) -> anyhow::Result<GetScenarioStatusResponse> {
        Ok(self.keys.gateway.scenarios().get_scenario_status(GetScenarioStatusRequest { wait_ms }).await?.into_inner())
    }

    /// Waits until everything that came in was dealt with and everything that is due was sent.
    pub(crate) async fn rested(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let status = self.status(10_000).await?;
            if status.problem.is_empty() && status.due_runs + status.waiting_sends + status.waiting_events == 0 {
                return Ok(());
            }
            ensure!(started.elapsed() < RESTED_LATEST, "{status:?}\n{}", self.log_tail());
        }
    }

    /// Seconds of processor time that the program has used.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.installation.pids()[0])
    }

    /// Resident bytes of the program, now and at its peak.
    pub(crate) fn memory(&self) -> anyhow::Result<(u64, u64)> {
        process::memory(self.installation.pids()[0])
    }

    /// What the program logged last.
    pub(crate) fn log_tail(&self) -> String {
        self.installation.log_tail(0)
    }
}

pub(crate) fn on(event: &str) -> EventSelector {
    EventSelector { events: vec![event.to_owned()], filter: None }
}

pub(crate) fn step_of(id: &str, next: &str, kind: step::Kind) -> Step {
    Step { id: id.to_owned(), next: next.to_owned(), kind: Some(kind) }
}

/// The step that tells the receiver.
pub(crate) fn tell(next: &str) -> Step {
    let webhook = WebhookStep { channel: "hook".to_owned(), template: "sent".to_owned(), ..WebhookStep::default() };
    step_of("tell", next, step::Kind::Webhook(webhook))
}
