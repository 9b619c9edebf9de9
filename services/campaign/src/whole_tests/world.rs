//! What cases run in: a store, a log, identity, a provider, and processes that share them. Each case is a tenant of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;
use segue_log::Log;
use segue_model::{Clock, ManualClock, Module, SystemClock};
use segue_proto::campaign::v1::channel::Settings;
use segue_proto::campaign::v1::{
    Channel, ChannelKind, CreateChannelRequest, CreateTemplateRequest, FrequencyCap, HttpSettings, LocalizedParts, Purpose, SendingPolicy,
    Template, TimeRule, UpdateSendingPolicyRequest,
};
use segue_proto::events::v1::{EventKind, Identifier};
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{Consent, ConsentState, PersonConsent, ResolveBatchRequest, SetConsentsRequest, Subject, person_consent};
use segue_runtime::transport::{PeerChannel, deferred, for_tenant, local};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_testkit::{TempLog, TempStore};

use super::provider::Provider;
use super::script::{By, PERSONS, PROCESSES, Policy};
use super::{HOUR_US, NOW_US, SECOND_US};
use crate::channels::Channels;
use crate::config::{Config, FlowConfig, SendConfig};
use crate::links::Links;
use crate::peers::Peers;
use crate::policies::Policies;
use crate::service::Service;
use crate::store::{MIGRATIONS, NAMESPACE, timestamp};
use crate::templates::Templates;

/// The clock of a process.
#[derive(Debug)]
struct Skewed {
    clock: ManualClock,
    by_us: Arc<AtomicI64>,
}

impl Clock for Skewed {
    fn now_us(&self) -> i64 {
        self.clock.now_us() + self.by_us.load(Ordering::SeqCst)
    }
}

pub(super) struct World {
    /// Of each process, with a clock and a pool of its own.
    pub(super) services: Vec<Service>,
    pub(super) clock: ManualClock,
    skews: Vec<Arc<AtomicI64>>,
    pub(super) identity: IdentityServiceClient<PeerChannel>,
    pub(super) provider: Provider,
    pub(super) log: Log,
    tenants: TenantDirectory,
    tasks: Tasks,
    _log_place: TempLog,
    _place: TempStore,
}

impl World {
    pub(super) async fn new(place: TempStore) -> Result<Self> {
        segue_runtime::install_tls_provider();
        let (log_place, tasks, tenants) = (TempLog::embedded().with_partitions(2), Tasks::new(), TenantDirectory::fixed(Vec::new()));
        let log = log_place.open().await?;
        let identity = segue_identity::start(segue_identity::Deps {
            config: segue_identity::Config::default(),
            store_url: place.url().to_owned(),
            log: log.clone(),
            clock: Arc::new(SystemClock),
            tenants: tenants.clone(),
            tasks: tasks.clone(),
        });
        let identity = local(identity.await?.routes);
        let clock = ManualClock::new(NOW_US);
        let config = Arc::new(Config {
            // Small, so that much takes several rounds and looks.
            flow: FlowConfig { round_inputs_max: 4, round_runs_max: 4, ..FlowConfig::default() },
            send: SendConfig { claim_max: 4, allow_insecure: true, allow_private_addresses: true, ..SendConfig::default() },
            ..Config::default()
        });
        let (nobody, _) = deferred();
        let (mut services, mut skews) = (Vec::new(), Vec::new());
        for _ in 0..PROCESSES {
            let db = place.open(NAMESPACE, MIGRATIONS).await?;
            let by_us: Arc<AtomicI64> = Arc::default();
            let clock: Arc<dyn Clock> = Arc::new(Skewed { clock: clock.clone(), by_us: by_us.clone() });
            skews.push(by_us);
            services.push(Service {
                links: Links::new(config.clone(), db.clone()),
                policies: Policies::new(db.clone()),
                templates: Templates::new(config.clone(), db.clone()),
                channels: Channels::new(config.clone(), db.clone(), clock.clone()),
                config: config.clone(),
                db,
                log: log.clone(),
                clock,
                tenants: tenants.clone(),
                peers: Peers { ingest: nobody.clone(), identity: identity.clone(), analytics: nobody.clone(), audience: nobody.clone() },
                bells: Arc::default(),
            });
        }
        let identity = IdentityServiceClient::new(identity);
        let provider = Provider::start().await;
        Ok(Self { services, clock, skews, identity, provider, log, tenants, tasks, _log_place: log_place, _place: place })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.tasks.stop(std::time::Duration::from_secs(30)).await?;
        self.log.close().await?;
        Ok(())
    }

    /// The clock of a process goes wrong by so much.
    pub(super) fn skew(&self, process: usize, by_us: i64) {
        self.skews[process].store(by_us, Ordering::SeqCst);
    }

    /// Whoever asks about what is stored, or changes it, asks this one.
    pub(super) fn service(&self) -> &Service {
        &self.services[0]
    }

    /// A tenant with channels, templates, a policy, and persons 1 to [`PERSONS`] who take advertising.
    pub(super) async fn tenant(&self, id: &str, policy: &Policy) -> Result<Tenant> {
        let tenant = Tenant::new(id.parse()?, Module::ALL.into_iter().collect());
        self.tenants.replace(vec![tenant.clone()]);
        self.clock.set_us(NOW_US);
        (0..PROCESSES).for_each(|process| self.skew(process, 0));
        for (channel, kind, parts) in [
            ("sms", ChannelKind::Sms, vec![("text", "{{ event.name }} {{ step }} {{ entry_key }}")]),
            ("kakao", ChannelKind::Kakao, vec![("text", "{{ event.name }} {{ step }} {{ entry_key }}"), ("template_code", "T1")]),
            ("hook", ChannelKind::Webhook, vec![("body", r#"{"step": {{ step }}, "key": {{ entry_key }}}"#)]),
        ] {
            self.channel(&tenant, channel, kind).await?;
            let parts = parts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
            let template = Template {
                id: channel.to_owned(),
                name: channel.to_owned(),
                kind: kind.into(),
                locales: vec![LocalizedParts { locale: "en".to_owned(), parts }],
                default_locale: "en".to_owned(),
                ..Template::default()
            };
            self.service().create_template_of(&tenant, CreateTemplateRequest { template: Some(template) }).await?;
        }
        self.policy(&tenant, policy).await?;
        self.persons(&tenant).await?;
        Ok(tenant)
    }

    async fn channel(&self, tenant: &Tenant, id: &str, kind: ChannelKind) -> Result<()> {
        let http = HttpSettings { url: format!("{}/{}/{id}", self.provider.url, tenant.id), headers: HashMap::new() };
        let settings = match kind {
            ChannelKind::Sms => Settings::Sms(http),
            ChannelKind::Kakao => Settings::Kakao(http),
            _ => Settings::Webhook(http),
        };
        let channel = Channel { id: id.to_owned(), name: id.to_owned(), settings: Some(settings), ..Channel::default() };
        self.service().create_channel_of(tenant, CreateChannelRequest { channel: Some(channel) }).await?;
        Ok(())
    }

    async fn policy(&self, tenant: &Tenant, policy: &Policy) -> Result<()> {
        let cap = |of: Option<(u32, u32)>, kinds: Vec<i32>| of.map(|(count, days)| FrequencyCap { count, days, kinds });
        let quiet = |drop: bool| TimeRule {
            name: "night".to_owned(),
            from: "22:00".to_owned(),
            to: "06:00".to_owned(),
            purpose: Purpose::Advertising.into(),
            time_zone: "UTC".to_owned(),
            drop,
            ..TimeRule::default()
        };
        let etag = self.service().get_sending_policy_of(tenant, Default::default()).await?.etag;
        let policy = SendingPolicy {
            caps: cap(policy.cap, Vec::new()).into_iter().chain(cap(policy.sms_cap, vec![ChannelKind::Sms.into()])).collect(),
            times: policy.quiet.map(quiet).into_iter().collect(),
            etag,
            ..SendingPolicy::default()
        };
        self.service().update_sending_policy_of(tenant, UpdateSendingPolicyRequest { policy: Some(policy) }).await?;
        Ok(())
    }

    async fn persons(&self, tenant: &Tenant) -> Result<()> {
        let subject = |number: u32| Subject {
            identifiers: vec![Identifier { kind: "phone".to_owned(), value: format!("+82101234{number:04}") }],
            time_us: NOW_US - 2 * HOUR_US,
            kind: EventKind::Track.into(),
            ..Subject::default()
        };
        let request = ResolveBatchRequest { source: "test".to_owned(), sequence: 1, subjects: (1..=PERSONS).map(subject).collect() };
        let resolved = self.identity.clone().resolve_batch(for_tenant(&tenant.id, request)).await?.into_inner();
        let numbers: Vec<u32> = resolved.resolutions.iter().map(|resolution| resolution.person).collect();
        anyhow::ensure!(numbers == (1..=PERSONS).collect::<Vec<_>>(), "{numbers:?}");
        let granted = |by: By| move |person: u32| (person, by, "advertising", ConsentState::Granted, NOW_US - HOUR_US - SECOND_US);
        let consents = (1..=PERSONS).map(granted(By::Sms)).chain((1..=PERSONS).map(granted(By::Kakao)));
        self.consents(tenant, consents.collect()).await
    }

    /// Durable when it returns: (person, channel, purpose, state, time).
    pub(super) async fn consents(&self, tenant: &Tenant, said: Vec<(u32, By, &str, ConsentState, i64)>) -> Result<()> {
        let consent = |(person, by, purpose, state, time_us): (u32, By, &str, ConsentState, i64)| PersonConsent {
            who: Some(person_consent::Who::Person(person)),
            consent: Some(Consent {
                channel: by.name().to_owned(),
                purpose: purpose.to_owned(),
                state: state.into(),
                time: Some(timestamp(time_us)),
                source: "api".to_owned(),
                ..Consent::default()
            }),
        };
        let request = SetConsentsRequest { consents: said.into_iter().map(consent).collect() };
        self.identity.clone().set_consents(for_tenant(&tenant.id, request)).await?;
        Ok(())
    }
}
