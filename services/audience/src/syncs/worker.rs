//! Works on every sync that is due, one task each, until told to stop.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use segue_model::{Module, TenantId};
use segue_runtime::status::chain;
use segue_runtime::{Tasks, TenantDirectory};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::decide::Decider;
use super::deliver::Delivery;
use super::outlet::Outlet;
use super::store::{self, Failure, Owner, Stored};
use crate::error::AudienceError;
use crate::service::Service;

/// How often syncs are looked for that are due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Messages on their way at once, over all tenants.
const SENT_AT_ONCE: usize = 64;
/// How long a step waits for something to send. Settings that were changed meanwhile are seen after it.
const WAIT: Duration = Duration::from_secs(5);
/// How long a process may be silent about a sync beyond the time that a message may take.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// When what has nothing to do with the destination fails, it is tried again after so long.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);

type SyncKey = (TenantId, String);

/// See [`self`]. Cheap to clone.
#[derive(Clone)]
pub(super) struct Worker {
    decider: Decider,
    delivery: Delivery,
    tenants: TenantDirectory,
    tasks: Tasks,
    lease: Duration,
    wait: Duration,
    at_work: Arc<Mutex<HashSet<SyncKey>>>,
    sending: Arc<Semaphore>,
}

/// Takes on syncs until told to stop.
pub(super) async fn run(worker: Worker, stopping: CancellationToken) -> anyhow::Result<()> {
    loop {
        if let Err(error) = worker.take_on().await {
            tracing::warn!(error = chain(&error), "syncs cannot be listed; trying again");
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

impl Worker {
    #[allow(clippy::disallowed_methods, reason = "the name of a process is random on purpose")]
    pub(super) fn new(service: &Service, tasks: &Tasks) -> Self {
        let config = &service.config.sync;
        let owner = Owner(uuid::Uuid::new_v4().to_string());
        let decider = Decider {
            db: service.db.clone(),
            log: service.log.clone(),
            clock: service.clock.clone(),
            live: service.live.clone(),
            peers: service.peers.clone(),
            owner: owner.clone(),
            batch_persons_max: config.batch_persons_max as usize,
        };
        let delivery =
            Delivery { db: service.db.clone(), clock: service.clock.clone(), outlet: Outlet::new(config), config: config.clone(), owner };
        Self {
            decider,
            delivery,
            tenants: service.tenants.clone(),
            tasks: tasks.clone(),
            lease: Duration::from_millis(config.timeout_ms) + LEASE_MARGIN,
            wait: WAIT,
            at_work: Arc::default(),
            sending: Arc::new(Semaphore::new(SENT_AT_ONCE)),
        }
    }

    /// Starts a task for each sync that is due and that none works on.
    async fn take_on(&self) -> Result<(), AudienceError> {
        for key in store::list_due(&self.delivery.db, self.delivery.clock.now_us()).await? {
            if !self.tenants.is_on(&key.0, Module::Audience) || !self.at_work.lock().insert(key.clone()) {
                continue;
            }
            let worker = self.clone();
            self.tasks.spawn_finite("sync", async move {
                let (tenant, id) = &key;
                if let Err(error) = worker.work(tenant, id).await {
                    tracing::warn!(%tenant, sync = id, error = chain(&error), "a sync could not be worked on; trying again");
                }
                worker.at_work.lock().remove(&key);
                Ok(())
            });
        }
        Ok(())
    }

    /// Works on a sync until it is paused, deleted, or to be left alone for a while.
    async fn work(&self, tenant: &TenantId, id: &str) -> Result<(), AudienceError> {
        let db = &self.delivery.db;
        let (stopping, mut frozen) = (self.tasks.stopping(), None);
        while let Some(sync) = self.claim(tenant, id).await? {
            if stopping.is_cancelled() || !self.tenants.is_on(tenant, Module::Audience) {
                return self.delivery.owner.release(db, tenant, id).await;
            }
            let stepped = tokio::select! {
                () = stopping.cancelled() => continue,
                stepped = self.step(&sync, &mut frozen) => stepped,
            };
            match stepped {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // Another process has it.
                Err(AudienceError::Fenced) => return Ok(()),
                Err(error) => return self.trouble(&sync, &error).await,
            }
        }
        // Paused or deleted, or another's: in that case this does nothing.
        self.delivery.owner.release(db, tenant, id).await
    }

    async fn claim(&self, tenant: &TenantId, id: &str) -> Result<Option<Stored>, AudienceError> {
        let now_us = self.delivery.clock.now_us();
        let until_us = now_us.saturating_add(i64::try_from(self.lease.as_micros()).unwrap_or(i64::MAX));
        self.delivery.owner.claim(&self.delivery.db, tenant, id, until_us, now_us).await
    }

    /// Sends the batch at hand, or decides the next one; whether to go on.
    async fn step(&self, sync: &Stored, frozen: &mut Option<RoaringBitmap>) -> Result<bool, AudienceError> {
        match store::batch_at_hand(&self.delivery.db, sync).await? {
            Some(batch) => {
                // Never closed.
                let _turn = self.sending.acquire().await;
                self.delivery.attempt(sync, &batch).await
            }
            None => self.decider.step(sync, frozen, self.wait).await.map(|()| true),
        }
    }

    /// Something that the destination has no part in: said in the sync, and tried again after a while.
    async fn trouble(&self, sync: &Stored, error: &AudienceError) -> Result<(), AudienceError> {
        let due_us = self.delivery.clock.now_us().saturating_add(TROUBLE_PAUSE.as_micros() as i64);
        let (failures, failing_since_us) = (sync.failures, sync.failing_since_us);
        let failure = Failure { failures, failing_since_us, problem: error.to_string(), due_us, pause: false };
        self.delivery.owner.failed(&self.delivery.db, sync, &failure).await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use segue_log::{Log, LogConfig, NewBatch, ProducerSequence};
    use segue_model::{Clock, ManualClock};
    use segue_proto::events::v1::TransitionKind;
    use segue_runtime::Tenant;
    use segue_store::{Db, on_writer};
    use segue_testkit::destination::{Answer, Destination};
    use serde_json::Value;

    use super::super::definition::parse_new;
    use super::super::store::Phase;
    use super::super::update;
    use super::*;
    use crate::TRANSITIONS;
    use crate::config::{Config, SyncConfig};
    use crate::definitions::Definitions;
    use crate::live::{Live, LiveDeps};
    use crate::peers::Peers;
    use crate::store::{MIGRATIONS, NAMESPACE};
    use crate::transitions::batch::tests::{group, payload};
    use crate::transitions::partition_of;

    const NOW_US: i64 = 1_748_426_400_000_000;
    const PUT_TENANT: &str = "INSERT INTO live_tenant
        (tenant, owner, epoch, until_us, positions, as_of_us, sequence, checkpoint, audits, repaired)
        VALUES ('shop', 'other', 1, 0, '[]', 1, $1, $1, 0, 0)
        ON CONFLICT (tenant) DO UPDATE SET sequence = excluded.sequence, checkpoint = excluded.checkpoint";
    const PUT_AUDIENCE: &str = "INSERT INTO live_audience
        (tenant, audience, version, fingerprint, holdout, evaluated_us, audited_us, size, held_out)
        VALUES ('shop', 'buyers', 1, '', 0, 1, 1, 0, 0) ON CONFLICT DO NOTHING";

    /// A worker on a tenant whose audience `buyers` has nobody in it, as another process has written down.
    struct World {
        db: Db,
        log: Log,
        clock: ManualClock,
        tenants: TenantDirectory,
        tasks: Tasks,
        worker: Worker,
        config: Config,
        destination: Destination,
        shop: TenantId,
        _places: (segue_testkit::TempStore, segue_testkit::TempLog),
    }

    fn on(shop: &TenantId) -> Vec<Tenant> {
        vec![Tenant::new(shop.clone(), [Module::Audience].into_iter().collect())]
    }

    impl World {
        async fn new(place: segue_testkit::TempStore) -> Self {
            let log_place = segue_testkit::TempLog::embedded();
            let log = LogConfig { retention_age: Duration::from_secs(1), ..log_place.config() };
            let log = Log::open(log).await.expect("opens");
            let db = place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
            let sync = SyncConfig { allow_http: true, allow_private_addresses: true, ..SyncConfig::default() };
            let config = Config { sync, ..Config::default() };
            let (clock, tasks, shop) = (ManualClock::new(NOW_US), Tasks::new(), "shop".parse::<TenantId>().expect("an id"));
            let (nobody, _) = segue_runtime::transport::deferred();
            let peers = Peers::new(nobody.clone(), nobody);
            let (shared, ticking) = (Arc::new(config.clone()), Arc::new(clock.clone()));
            let definitions = Definitions::new(shared.clone(), db.clone(), peers.clone(), ticking.clone());
            let live = Live::start(LiveDeps {
                config: shared.clone(),
                db: db.clone(),
                log: log.clone(),
                clock: ticking.clone(),
                // Live membership is another process's business here.
                tenants: TenantDirectory::fixed(Vec::new()),
                tasks: tasks.clone(),
                peers: peers.clone(),
                definitions: definitions.clone(),
            });
            let tenants = TenantDirectory::fixed(on(&shop));
            let service = Service {
                config: shared,
                db: db.clone(),
                log: log.clone(),
                clock: ticking,
                tenants: tenants.clone(),
                peers,
                definitions,
                live,
                draining: tasks.draining(),
            };
            let worker = Worker { wait: Duration::ZERO, ..Worker::new(&service, &tasks) };
            let destination = Destination::start().await;
            let world = Self { db, log, clock, tenants, tasks, worker, config, destination, shop, _places: (place, log_place) };
            world.is_at(0).await;
            world.create().await;
            world
        }

        async fn create(&self) {
            let (id, audience, url) = ("crm".to_owned(), "buyers".to_owned(), self.destination.url.clone());
            let sync = segue_proto::audience::v1::Sync { id, audience, url, ..Default::default() };
            let sync = parse_new(Some(sync), &self.config.sync).expect("valid");
            assert!(store::insert(&self.db, &self.shop, &sync, "whsec_c2VjcmV0", NOW_US).await.expect("the store takes it"));
        }

        /// Membership is written down as of this transition.
        async fn is_at(&self, sequence: i64) {
            let put = on_writer!(&self.db, pool => sqlx::query(PUT_TENANT).bind(sequence).execute(pool).await.map(drop));
            put.expect("the store takes it");
            on_writer!(&self.db, pool => sqlx::query(PUT_AUDIENCE).execute(pool).await.map(drop)).expect("the store takes it");
        }

        /// Three persons enter another audience.
        async fn others_enter(&self, first: u64) {
            let payload = Bytes::from(payload("shop", first, vec![group("lapsed", TransitionKind::Entered, 1..=3)]));
            let producer = Some(ProducerSequence { producer: "shop".to_owned(), sequence: first + 2 });
            let batch = NewBatch { payload, events: 3, producer, traceparent: None };
            self.log.append(TRANSITIONS, partition_of(&self.shop, &self.log), batch).await.expect("the log takes it");
        }

        async fn get(&self) -> Stored {
            store::find(&self.db, &self.shop, "crm").await.expect("the store works").expect("it is there")
        }

        async fn step(&self) -> Stored {
            let sync = self.worker.claim(&self.shop, "crm").await.expect("the store works").expect("it is to be worked on");
            self.worker.step(&sync, &mut None).await.expect("nothing fails");
            self.get().await
        }

        /// What every message says: batch, whether it begins, how many entered.
        fn told(&self) -> Vec<(u64, bool, usize)> {
            let read = |body: &[u8]| {
                let body: Value = serde_json::from_slice(body).expect("JSON");
                let data = &body["data"];
                assert_eq!((&data["sync"], &data["audience"], &data["first"]), (&"crm".into(), &"buyers".into(), &true.into()));
                let entered = data["entered"].as_array().expect("a list").len();
                (data["batch"].as_u64().expect("a number"), data["begins"] == true, entered)
            };
            self.destination.received().iter().map(|one| read(&one.body)).collect()
        }

        fn due_in(&self, seconds: i64) {
            self.clock.advance_us(seconds * 1_000_000);
        }
    }

    async fn worlds() -> Vec<World> {
        let mut worlds = Vec::new();
        for place in segue_testkit::stores() {
            worlds.push(World::new(place).await);
        }
        worlds
    }

    #[tokio::test]
    async fn a_sync_freezes_sends_follows_and_begins_anew_when_its_place_is_gone() {
        for world in worlds().await {
            assert_eq!(world.step().await.phase, Phase::First);
            let decided = world.step().await;
            assert_eq!((decided.phase, decided.batches), (Phase::Follow, 1));
            assert!(world.told().is_empty(), "it is written down before it is sent");
            assert_eq!(world.step().await.delivered_us, NOW_US);
            assert_eq!(world.told(), [(1, true, 0)], "also nobody is told");

            world.others_enter(1).await;
            let passed = world.step().await;
            assert_eq!((passed.sequence, passed.delivered_sequence), (3, 3));
            assert!(!passed.place.is_empty());
            assert_eq!(world.step().await, passed, "there is nothing more");

            world.others_enter(4).await;
            world.is_at(6).await;
            world.log.trim_now(i64::MAX / 4).await.expect("trims");
            assert_eq!(world.step().await.phase, Phase::Begin);
            for _ in 0..3 {
                world.step().await;
            }
            assert_eq!(world.told(), [(1, true, 0), (2, true, 0)]);
            assert_eq!(world.step().await.delivered_sequence, 6);
        }
    }

    #[tokio::test]
    async fn work_is_let_go_of_when_a_message_fails_and_taken_on_again_when_it_is_due() {
        for world in worlds().await {
            world.destination.answer([Answer::status(500)]);
            world.worker.work(&world.shop, "crm").await.expect("the store works");
            let failed = world.get().await;
            assert_eq!((failed.failures, world.told().len()), (1, 1));
            world.worker.take_on().await.expect("the store works");
            assert!(world.worker.at_work.lock().is_empty(), "it is not due");
            world.due_in(1);
            world.tenants.replace(Vec::new());
            world.worker.take_on().await.expect("the store works");
            assert!(world.worker.at_work.lock().is_empty(), "its tenant is off");
            world.tenants.replace(on(&world.shop));
            world.worker.take_on().await.expect("the store works");
            assert_eq!(world.worker.at_work.lock().len(), 1);
            world.destination.reached(2).await;
            world.tasks.stop(Duration::from_secs(10)).await.expect("the work ends");
            assert_eq!(world.told(), [(1, true, 0), (1, true, 0)]);
            let due = store::list_due(&world.db, world.clock.now_us()).await.expect("lists");
            assert_eq!(due.len(), 1, "another process can go on at once");
        }
    }

    #[tokio::test]
    async fn a_paused_sync_is_left_alone_and_trouble_of_our_own_is_said_and_is_no_failure_of_the_destination() {
        for world in worlds().await {
            on_writer!(&world.db, pool => sqlx::query("DELETE FROM live_audience").execute(pool).await.map(drop)).expect("runs");
            world.worker.work(&world.shop, "crm").await.expect("the store works");
            let troubled = world.get().await;
            assert_eq!((troubled.failures, troubled.failing_since_us, troubled.settings.paused), (0, 0, false));
            assert!(troubled.problem.contains("there is no audience") && troubled.due_us > NOW_US, "{}", troubled.problem);
            world.is_at(0).await;
            world.due_in(5);
            let state = segue_proto::audience::v1::SyncState::Paused.into();
            let pause = segue_proto::audience::v1::Sync { id: "crm".to_owned(), state, ..Default::default() };
            update(&world.db, &world.config, &world.shop, &pause).await.expect("it is there");
            world.worker.work(&world.shop, "crm").await.expect("the store works");
            world.worker.take_on().await.expect("the store works");
            assert!(world.told().is_empty() && world.worker.at_work.lock().is_empty());
        }
    }
}
