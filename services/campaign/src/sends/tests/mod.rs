//! The ledger as a whole, on every store: what is planned is decided, given to a provider that notes what it gets, and told.

mod coming_back;
mod concurrent;
pub(super) mod process;
mod sending;
mod standing;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use segue_log::Log;
use segue_model::{ManualClock, Module, TenantId};
use segue_proto::campaign::v1::{
    ChannelKind, CreateTemplateRequest, ExplainSendRequest, FrequencyCap, GetSendRequest, LocalizedParts, Purpose, Send, SendingPolicy,
    Template, TimeRule, UpdateSendingPolicyRequest,
};
use segue_proto::identity::v1::{Consent, ConsentState};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_store::{Db, on_db, on_writer};

use super::worker::{Sender, Sources};
use super::{NewSend, plan};
use crate::channels::{Channels, Message, OpenChannel, Outcome, Outlet};
use crate::config::{Config, SendConfig};
use crate::error::CampaignError;
use crate::links::Links;
use crate::peers::Peers;
use crate::persons::Profile;
use crate::policies::Policies;
use crate::service::Service;
use crate::store::{MIGRATIONS, NAMESPACE};
use crate::templates::Templates;

/// 2025-05-28 19:00 in Seoul.
const NOW_US: i64 = 1_748_426_400_000_000;
const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

type Answer = dyn Fn(&Message, usize) -> Outcome + std::marker::Send + Sync;

/// A provider: notes what it gets, answers as told, and notices when two senders give it the same message at once.
struct Provider {
    got: Mutex<Vec<Message>>,
    times: Mutex<HashMap<String, usize>>,
    held: Mutex<HashSet<String>>,
    given_at_once: Mutex<Vec<String>>,
    /// Given the message, and how many times it came before.
    answer: Mutex<Arc<Answer>>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

impl Default for Provider {
    fn default() -> Self {
        let sent = |message: &Message, _| Outcome::Sent { provider_message_id: format!("p-{}", message.idempotency_key) };
        Self {
            got: Mutex::default(),
            times: Mutex::default(),
            held: Mutex::default(),
            given_at_once: Mutex::default(),
            answer: Mutex::new(Arc::new(sent)),
        }
    }
}

impl Outlet for Provider {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if !self.held.lock().insert(message.idempotency_key.clone()) {
                self.given_at_once.lock().push(message.idempotency_key.clone());
            }
            tokio::task::yield_now().await;
            self.got.lock().push(message.clone());
            let before = {
                let mut times = self.times.lock();
                let times = times.entry(message.idempotency_key.clone()).or_default();
                *times += 1;
                *times - 1
            };
            let answer = self.answer.lock().clone();
            let answered = answer(message, before);
            self.held.lock().remove(&message.idempotency_key);
            answered
        })
    }
}

impl Provider {
    fn answers(&self, answer: impl Fn(&Message, usize) -> Outcome + std::marker::Send + Sync + 'static) {
        *self.answer.lock() = Arc::new(answer);
    }

    fn keys(&self) -> Vec<String> {
        self.got.lock().iter().map(|message| message.idempotency_key.clone()).collect()
    }
}

fn retry(after_s: Option<u64>) -> Outcome {
    Outcome::Retry { after: after_s.map(std::time::Duration::from_secs), error: "503 not now".to_owned() }
}

/// What senders know of persons and channels here.
#[derive(Default)]
struct Given {
    persons: Mutex<HashMap<u32, Arc<Profile>>>,
    channels: Mutex<HashMap<String, Arc<OpenChannel>>>,
    unlinked: Mutex<Vec<(String, String, u32)>>,
}

impl Sources for Given {
    fn channel<'a>(&'a self, _: &'a TenantId, id: &'a str) -> BoxFuture<'a, Result<Option<Arc<OpenChannel>>, CampaignError>> {
        Box::pin(async move { Ok(self.channels.lock().get(id).cloned()) })
    }

    fn persons<'a>(
        &'a self,
        _: &'a TenantId,
        numbers: &'a BTreeSet<u32>,
    ) -> BoxFuture<'a, Result<HashMap<u32, Arc<Profile>>, CampaignError>> {
        Box::pin(async move {
            let persons = self.persons.lock();
            Ok(numbers.iter().filter_map(|number| Some((*number, persons.get(number)?.clone()))).collect())
        })
    }

    fn unlink<'a>(&'a self, _: &'a TenantId, kind: &'a str, value: &'a str, person: u32) -> BoxFuture<'a, Result<(), CampaignError>> {
        self.unlinked.lock().push((kind.to_owned(), value.to_owned(), person));
        Box::pin(async { Ok(()) })
    }
}

/// Somebody who takes advertising by e-mail and push, and has an address of each kind.
fn person(number: u32) -> Profile {
    let granted = |channel: &str| Consent {
        channel: channel.to_owned(),
        purpose: "advertising".to_owned(),
        state: ConsentState::Granted.into(),
        time: Some(crate::store::timestamp(NOW_US - HOUR_US)),
        ..Consent::default()
    };
    Profile {
        number,
        id: format!("id-{number}"),
        identifiers: vec![
            (3, "push_token".to_owned(), format!("{number}-phone")),
            (2, "email".to_owned(), format!("{number}@shop.example")),
            (1, "push_token".to_owned(), format!("{number}-tablet")),
            (1, "email".to_owned(), format!("{number}-old@shop.example")),
        ],
        consents: vec![granted("email"), granted("push")],
        ..Profile::default()
    }
}

struct World {
    service: Service,
    sender: Sender,
    given: Arc<Given>,
    provider: Arc<Provider>,
    clock: ManualClock,
    shop: Tenant,
    place: segue_testkit::TempStore,
    _log: segue_testkit::TempLog,
}

async fn service_on(db: Db, log: Log, clock: &ManualClock, tenants: TenantDirectory) -> Service {
    let send = SendConfig { claim_max: 50, ..SendConfig::default() };
    let config = Arc::new(Config { send, ..Config::default() });
    let (nobody, _) = segue_runtime::transport::deferred();
    let peers = Peers { ingest: nobody.clone(), identity: nobody.clone(), analytics: nobody.clone(), audience: nobody };
    Service {
        links: Links::new(config.clone(), db.clone()),
        policies: Policies::new(db.clone()),
        templates: Templates::new(config.clone(), db.clone()),
        channels: Channels::new(config.clone(), db.clone(), Arc::new(clock.clone())),
        config,
        db,
        log,
        clock: Arc::new(clock.clone()),
        tenants,
        peers,
        bells: Arc::default(),
    }
}

impl World {
    /// With the channels `mail` and `push`, templates of the same names, and the persons 1 to 9.
    async fn new(place: segue_testkit::TempStore) -> Self {
        let log_place = segue_testkit::TempLog::embedded();
        let log = log_place.open().await.expect("opens");
        let db = place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
        let clock = ManualClock::new(NOW_US);
        let of = |id: &str| Tenant::new(id.parse().expect("an id"), [Module::Campaign].into_iter().collect());
        let tenants = TenantDirectory::fixed(vec![of("shop"), of("cafe")]);
        let service = service_on(db, log, &clock, tenants).await;
        let (given, provider) = (Arc::new(Given::default()), Arc::new(Provider::default()));
        given.persons.lock().extend((1..10).map(|number| (number, Arc::new(person(number)))));
        let sender = Sender::new(service.clone(), given.clone(), Tasks::new().stopping());
        let world = Self { service, sender, given, provider, clock, shop: of("shop"), place, _log: log_place };
        world.channel("mail", ChannelKind::Email, |_| {});
        world.channel("push", ChannelKind::Fcm, |channel| channel.to_all = true);
        for tenant in [&world.shop, &of("cafe")] {
            world
                .template(tenant, "mail", ChannelKind::Email, &[("subject", "Hi"), ("text", "{{ event.name }} for {{ person.number }}")])
                .await;
            world.template(tenant, "push", ChannelKind::Fcm, &[("title", "Hi"), ("body", "You")]).await;
        }
        world
    }

    fn channel(&self, id: &str, kind: ChannelKind, change: impl FnOnce(&mut OpenChannel)) {
        let mut channel = OpenChannel {
            kind,
            rate_per_second: 0,
            paused: false,
            address_kind: match kind {
                ChannelKind::Email => Some("email"),
                ChannelKind::Fcm => Some("push_token"),
                _ => None,
            },
            to_all: false,
            outlet: self.provider.clone(),
        };
        change(&mut channel);
        self.given.channels.lock().insert(id.to_owned(), Arc::new(channel));
    }

    async fn template(&self, tenant: &Tenant, id: &str, kind: ChannelKind, parts: &[(&str, &str)]) {
        let parts = parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let template = Template {
            id: id.to_owned(),
            name: id.to_owned(),
            kind: kind.into(),
            locales: vec![LocalizedParts { locale: "en".to_owned(), parts }],
            default_locale: "en".to_owned(),
            ..Template::default()
        };
        let request = CreateTemplateRequest { template: Some(template) };
        self.service.create_template_of(tenant, request).await.expect("a good template");
    }

    async fn policy(&self, caps: Vec<FrequencyCap>, times: Vec<TimeRule>) {
        let etag = self.service.get_sending_policy_of(&self.shop, Default::default()).await.expect("there is one").etag;
        let policy = SendingPolicy { caps, times, etag, ..SendingPolicy::default() };
        let request = UpdateSendingPolicyRequest { policy: Some(policy) };
        self.service.update_sending_policy_of(&self.shop, request).await.expect("a good policy");
    }

    async fn plan(&self, sends: &[NewSend]) {
        plan_for(&self.service.db, &self.shop.id, sends).await;
    }

    /// Gives what is due to the provider until nothing is.
    async fn drain(&self) {
        drain(&self.sender).await;
    }

    async fn get(&self, send: &NewSend) -> Send {
        self.service.get_send_of(&self.shop, GetSendRequest { id: key(send) }).await.expect("it is there")
    }

    /// Check and outcome of every decision.
    async fn decisions(&self, send: &NewSend) -> Vec<(String, String)> {
        let explained = self.service.explain_send_of(&self.shop, ExplainSendRequest { id: key(send) }).await.expect("it is there");
        explained.decisions.into_iter().map(|decision| (decision.check, decision.outcome)).collect()
    }

    /// Message ids of events to be told, in order.
    async fn told(&self) -> Vec<String> {
        let rows: Vec<Vec<u8>> = on_db!(&self.service.db, pool => sqlx::query_scalar("SELECT payload FROM outbox ORDER BY id")
            .fetch_all(pool).await)
        .expect("reads");
        rows.iter()
            .map(|row| <segue_proto::events::v1::Event as prost::Message>::decode(row.as_slice()).expect("an event").message_id)
            .collect()
    }

    async fn run(&self, sql: &'static str) {
        on_writer!(&self.service.db, pool => sqlx::query(sql).execute(pool).await.map(drop)).expect("runs");
    }
}

async fn plan_for(db: &Db, tenant: &TenantId, sends: &[NewSend]) {
    let mut tx = db.begin().await.expect("begins");
    plan(&mut tx, tenant, sends).await.expect("plans");
    tx.commit().await.expect("commits");
}

async fn drain(sender: &Sender) {
    loop {
        let taken = sender.take().await.expect("takes");
        if taken.work.is_empty() {
            return;
        }
        for work in taken.work {
            sender.work(work).await;
        }
    }
}

/// A message by e-mail, of a run of its own.
fn new_send(run: u64, person: u32) -> NewSend {
    NewSend {
        scenario: "cart".to_owned(),
        version: 1,
        step: "mail".to_owned(),
        run,
        person,
        entry_key: format!("key\0{run}"),
        attempt_group: "1.1".to_owned(),
        channel: "mail".to_owned(),
        template: "mail".to_owned(),
        purpose: Purpose::Advertising,
        variant: "test=b".to_owned(),
        held_out: false,
        time_zone: "Asia/Seoul".to_owned(),
        values: serde_json::json!({ "event": { "name": "add\u{0}ed" } }),
        planned_us: NOW_US,
        expires_us: NOW_US + 100 * HOUR_US,
    }
}

fn by_push(send: NewSend) -> NewSend {
    NewSend { channel: "push".to_owned(), template: "push".to_owned(), ..send }
}

fn key(send: &NewSend) -> String {
    super::id(&send.scenario, &send.step, send.run, &send.attempt_group)
}

async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for place in segue_testkit::stores() {
        worlds.push(World::new(place).await);
    }
    worlds
}
