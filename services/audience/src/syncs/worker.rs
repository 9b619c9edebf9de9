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
            None => self.decider.step(sync, frozen, WAIT).await.map(|()| true),
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
