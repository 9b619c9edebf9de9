//! Syncs against a real store and a real HTTP server: what reaches the destination, in which order, under which id, and when again.

use std::sync::Arc;
use std::time::Duration;

use segue_model::{Clock, ManualClock};
use segue_proto::audience::v1::SyncState;
use segue_testkit::destination::{Answer, Destination};

use super::deliver::{Delivery, message_id};
use super::outlet::Outlet;
use super::store::{BatchAtHand, Owner, Phase, Progress};
use super::*;
use crate::config::SyncConfig;
use crate::store::{MIGRATIONS, NAMESPACE};

const NOW_US: i64 = 1_748_426_400_000_000;
const SECOND_US: i64 = 1_000_000;

/// A sync of the audience `buyers` that has told nothing yet.
pub(super) fn stored(id: &str) -> Stored {
    Stored {
        tenant: "shop".parse().expect("an id"),
        id: id.to_owned(),
        audience: "buyers".to_owned(),
        settings: Settings { url: "https://crm.example/".to_owned(), identifier_kinds: vec!["user_id".to_owned()], paused: false },
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        revision: 1,
        created_us: NOW_US,
        phase: Phase::Begin,
        next_person: 0,
        sequence: 0,
        place: String::new(),
        batches: 0,
        delivered_sequence: 0,
        delivered_us: 0,
        failures: 0,
        failing_since_us: 0,
        problem: String::new(),
        due_us: 0,
    }
}

/// A store with one sync, and the destination of it.
struct World {
    db: Db,
    clock: ManualClock,
    config: SyncConfig,
    destination: Destination,
    tenant: TenantId,
}

impl World {
    async fn new(db: Db) -> Self {
        let config = SyncConfig { allow_http: true, allow_private_addresses: true, ..SyncConfig::default() };
        let destination = Destination::start().await;
        let tenant: TenantId = "shop".parse().expect("an id");
        let world = Self { db, clock: ManualClock::new(NOW_US), config, destination, tenant };
        world.create(&world.sync("crm")).await.expect("it is new");
        world
    }

    fn sync(&self, id: &str) -> Sync {
        Sync { id: id.to_owned(), audience: "buyers".to_owned(), url: self.destination.url.clone(), ..Sync::default() }
    }

    fn service_config(&self) -> Config {
        Config { syncs_max: 2, sync: self.config.clone(), ..Config::default() }
    }

    async fn create(&self, sync: &Sync) -> Result<Sync, AudienceError> {
        let sync = parse_new(Some(sync.clone()), &self.config)?;
        create(&self.db, &self.service_config(), &self.tenant, sync, self.clock.now_us()).await
    }

    async fn update(&self, sync: &Sync) -> Result<Sync, AudienceError> {
        update(&self.db, &self.service_config(), &self.tenant, sync).await
    }

    /// What a process of this name delivers with.
    fn process(&self, name: &str) -> Delivery {
        Delivery {
            db: self.db.clone(),
            clock: Arc::new(self.clock.clone()),
            config: self.config.clone(),
            outlet: Outlet::new(&self.config),
            owner: Owner(name.to_owned()),
        }
    }

    /// Claims the sync for a minute.
    async fn claim(&self, process: &Delivery) -> Option<Stored> {
        let now_us = self.clock.now_us();
        process.owner.claim(&self.db, &self.tenant, "crm", now_us + 60 * SECOND_US, now_us).await.expect("the store works")
    }

    /// Decides the next batch, which says its own number.
    async fn decide(&self, process: &Delivery, sequence: u64) {
        let sync = self.claim(process).await.expect("it is to be worked on");
        let number = sync.batches + 1;
        let batch = BatchAtHand { number, sequence, payload: format!("{{\"batch\":{number}}}").into_bytes() };
        let progress = Progress { phase: Phase::Follow, next_person: 0, sequence, place: "t1-1-0-0".to_owned() };
        process.owner.decide(&self.db, &sync, &batch, &progress).await.expect("the store takes it");
    }

    /// Sends the batch at hand once, if the sync is to be worked on: whether it was taken.
    async fn attempt(&self, process: &Delivery) -> Option<bool> {
        let sync = self.claim(process).await?;
        let batch = store::batch_at_hand(&self.db, &sync).await.expect("the store works")?;
        Some(process.attempt(&sync, &batch).await.expect("the store works"))
    }

    async fn get(&self) -> Stored {
        get(&self.db, &self.tenant, "crm").await.expect("it is there")
    }

    /// Ids and bodies that reached the destination.
    fn received(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.destination.received().iter().map(|one| (one.header("webhook-id"), text(&one.body))).collect()
    }
}

async fn worlds() -> Vec<(World, segue_testkit::TempStore)> {
    let mut worlds = Vec::new();
    for place in segue_testkit::stores() {
        worlds.push((World::new(place.open(NAMESPACE, MIGRATIONS).await.expect("opens")).await, place));
    }
    worlds
}

#[tokio::test]
async fn batches_arrive_in_order_signed_and_again_under_the_same_id_until_they_are_taken() {
    for (world, _place) in worlds().await {
        let process = world.process("p1");
        world.destination.answer([Answer::status(500), Answer::status(429).header("retry-after", "120"), Answer::status(200)]);
        world.decide(&process, 7).await;
        assert_eq!(world.attempt(&process).await, Some(false));
        let failed = world.get().await;
        assert_eq!((failed.failures, failed.failing_since_us, failed.delivered_us), (1, NOW_US, 0));
        assert!(failed.problem.starts_with("answered 500"), "{}", failed.problem);
        let pause_us = failed.due_us - NOW_US;
        assert!((SECOND_US / 2..=SECOND_US).contains(&pause_us), "{pause_us}");
        assert_eq!(world.attempt(&process).await, None, "it is not due");
        world.clock.advance_us(pause_us);
        assert_eq!(world.attempt(&process).await, Some(false));
        assert_eq!(world.get().await.due_us, world.clock.now_us() + 120 * SECOND_US, "the pause that was asked for");
        world.clock.advance_us(120 * SECOND_US);
        assert_eq!(world.attempt(&process).await, Some(true));
        let taken = world.get().await;
        assert_eq!((taken.failures, taken.failing_since_us, taken.problem.as_str()), (0, 0, ""));
        assert_eq!((taken.delivered_sequence, taken.delivered_us), (7, world.clock.now_us()));
        assert_eq!(world.attempt(&process).await, None, "nothing is at hand");
        world.decide(&process, 9).await;
        assert_eq!(world.attempt(&process).await, Some(true));

        let ids = [1, 2].map(|number| message_id(&taken, number));
        let expected =
            [(0, 1), (0, 1), (0, 1), (1, 2)].map(|(id, batch): (usize, u64)| (ids[id].clone(), format!("{{\"batch\":{batch}}}")));
        assert_eq!(world.received(), expected);
        assert!(world.destination.received().iter().all(|one| one.is_signed_with(&taken.secret)));
    }
}

#[tokio::test]
async fn after_a_crash_another_process_sends_the_same_batch_under_the_same_id() {
    for (world, _place) in worlds().await {
        let (one, other) = (world.process("p1"), world.process("p2"));
        world.decide(&one, 7).await;
        // It ends when the destination has the batch and before that is written down.
        let sync = world.claim(&one).await.expect("it is its own");
        let batch = store::batch_at_hand(&world.db, &sync).await.expect("reads").expect("decided");
        let id = message_id(&sync, batch.number);
        let message = outlet::Message { url: &sync.settings.url, secret: &sync.secret, id: &id, body: &batch.payload };
        assert_eq!(one.outlet.send(message, world.clock.now_us()).await, outlet::Outcome::Taken);

        assert_eq!(world.attempt(&other).await, None, "the first one may still be alive");
        world.clock.advance_us(60 * SECOND_US);
        assert_eq!(world.attempt(&other).await, Some(true));
        let received = world.received();
        assert_eq!((received.len(), &received[0]), (2, &received[1]));
        // Back again, the first one writes nothing down any more.
        assert!(matches!(one.owner.taken(&world.db, &sync, &batch, 1).await, Err(AudienceError::Fenced)));
        assert!(matches!(one.owner.begin(&world.db, &sync, b"", 1).await, Err(AudienceError::Fenced)));
        assert_eq!(world.get().await.delivered_us, world.clock.now_us());
    }
}

#[tokio::test]
async fn what_is_gone_or_fails_for_days_is_paused_and_goes_on_when_told_to() {
    for (world, _place) in worlds().await {
        let process = world.process("p1");
        world.destination.answer([Answer::status(500), Answer::status(500), Answer::status(410)]);
        world.decide(&process, 7).await;
        assert_eq!(world.attempt(&process).await, Some(false));
        world.clock.advance_us(72 * 3_600 * SECOND_US);
        assert_eq!(world.attempt(&process).await, Some(false));
        let paused = world.get().await;
        assert!(paused.settings.paused && paused.problem.starts_with("paused after 72 hours"), "{}", paused.problem);
        world.clock.advance_us(3_600 * SECOND_US);
        assert_eq!(world.attempt(&process).await, None, "it is paused");

        let resume = Sync { id: "crm".to_owned(), state: SyncState::Active.into(), ..Sync::default() };
        let resumed = world.update(&resume).await.expect("it is there");
        assert_eq!(
            (resumed.state(), resumed.failures, resumed.problem.as_str(), resumed.url.as_str()),
            (SyncState::Active, 0, "", world.destination.url.as_str())
        );
        assert_eq!(world.attempt(&process).await, Some(false));
        let gone = world.get().await;
        assert!(gone.settings.paused && gone.problem.contains("410"), "{}", gone.problem);
        world.update(&resume).await.expect("it is there");
        assert_eq!(world.attempt(&process).await, Some(true));
        assert_eq!(world.received().len(), 4);
    }
}

#[tokio::test]
async fn a_failure_does_not_pause_a_sync_that_was_mended_meanwhile() {
    for (world, _place) in worlds().await {
        let process = world.process("p1");
        world.destination.answer([Answer::status(410)]);
        world.decide(&process, 7).await;
        let sync = world.claim(&process).await.expect("it is its own");
        let batch = store::batch_at_hand(&world.db, &sync).await.expect("reads").expect("decided");
        let mended = Sync { id: "crm".to_owned(), url: format!("{}new", world.destination.url), ..Sync::default() };
        world.update(&mended).await.expect("it is there");
        assert!(!process.attempt(&sync, &batch).await.expect("the store works"));
        let after = world.get().await;
        assert_eq!((after.settings.paused, after.failures), (false, 0));
        assert_eq!(world.attempt(&world.process("p2")).await, Some(true), "it was let go of at once");
    }
}

#[tokio::test]
async fn syncs_are_created_once_listed_changed_by_etag_and_deleted_with_all_they_had() {
    for (world, _place) in worlds().await {
        let again = world.create(&world.sync("crm")).await.expect("the same request");
        assert!(again.secret.starts_with("whsec_") && again.delivered_at.is_none() && again.state() == SyncState::Active);
        assert!(to_proto(world.get().await).secret.is_empty(), "a secret is told by CreateSync alone");
        let other = Sync { url: "http://127.0.0.1:1/".to_owned(), ..world.sync("crm") };
        assert!(matches!(world.create(&other).await, Err(AudienceError::AlreadyExists { .. })));
        let second = world.create(&world.sync("ads")).await.expect("there may be two");
        assert_ne!(second.secret, again.secret);
        assert!(matches!(world.create(&world.sync("third")).await, Err(AudienceError::TooMany { max: 2, .. })));

        let ids = |found: Vec<Stored>| found.into_iter().map(|sync| sync.id).collect::<Vec<_>>();
        assert_eq!(ids(store::list(&world.db, &world.tenant, "", "", 10).await.expect("lists")), ["ads", "crm"]);
        assert_eq!(ids(store::list(&world.db, &world.tenant, "ads", "buyers", 10).await.expect("lists")), ["crm"]);
        assert!(store::list(&world.db, &world.tenant, "", "lapsed", 10).await.expect("lists").is_empty());

        let pause = Sync { state: SyncState::Paused.into(), etag: again.etag.clone(), ..world.sync("crm") };
        let paused = world.update(&pause).await.expect("it is as it was");
        assert_eq!((paused.state(), paused.etag != again.etag), (SyncState::Paused, true));
        assert!(matches!(world.update(&pause).await, Err(AudienceError::EtagMismatch { .. })));
        assert!(store::list_due(&world.db, NOW_US).await.expect("lists").iter().all(|(_, id)| id != "crm"));

        world.update(&Sync { state: SyncState::Active.into(), ..world.sync("crm") }).await.expect("it is there");
        let process = world.process("p1");
        let sync = world.claim(&process).await.expect("it is to be worked on");
        process.owner.begin(&world.db, &sync, b"members", 3).await.expect("the store takes it");
        assert_eq!(store::members(&world.db, &sync).await.expect("reads"), b"members");
        world.decide(&process, 3).await;
        assert!(store::members(&world.db, &sync).await.is_err(), "they are no longer needed");
        assert!(store::delete(&world.db, &world.tenant, "crm").await.expect("deletes"));
        assert!(!store::delete(&world.db, &world.tenant, "crm").await.expect("deletes"));
        assert!(matches!(get(&world.db, &world.tenant, "crm").await, Err(AudienceError::NotFound { kind: Kind::Sync, .. })));
        // One of the same id is another one.
        world.clock.advance_us(1);
        world.create(&world.sync("crm")).await.expect("the id is free");
        let anew = world.get().await;
        assert_eq!(store::batch_at_hand(&world.db, &anew).await.expect("reads"), None);
        assert_ne!(message_id(&anew, 1), message_id(&sync, 1));
    }
}

#[tokio::test]
async fn a_sync_that_passes_what_is_not_about_it_is_up_to_date_and_one_process_works_on_it() {
    for (world, _place) in worlds().await {
        let (one, other) = (world.process("p1"), world.process("p2"));
        let due = store::list_due(&world.db, NOW_US).await.expect("lists");
        assert_eq!(due, [(world.tenant.clone(), "crm".to_owned())]);
        let sync = world.claim(&one).await.expect("it is free");
        assert!(world.claim(&other).await.is_none());
        assert!(store::list_due(&world.db, NOW_US).await.expect("lists").is_empty());
        one.owner.pass(&world.db, &sync, 12, "t1-5-0-0").await.expect("the store takes it");
        let passed = world.get().await;
        assert_eq!((passed.sequence, passed.delivered_sequence, passed.place.as_str()), (12, 12, "t1-5-0-0"));
        one.owner.release(&world.db, &world.tenant, "crm").await.expect("the store takes it");
        assert!(world.claim(&other).await.is_some());
        other.owner.anew(&world.db, &passed).await.expect("the store takes it");
        assert_eq!(world.get().await.phase, Phase::Begin);
    }
    // The lease outlasts the longest message.
    assert!(Duration::from_millis(SyncConfig::default().timeout_ms) < Duration::from_secs(60));
}
