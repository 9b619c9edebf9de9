//! Tells what is in the outbox: one look at a time, one task per tenant and destination that has something to tell.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use segue_model::{Clock, Module, TenantId};
use segue_runtime::status::chain;
use segue_runtime::{Tasks, TenantDirectory};
use segue_store::Db;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::store::{self, Claim, Destination};
use super::tell::Batch;
use crate::error::CampaignError;
use crate::links;
use crate::peers::Peers;
use crate::service::Service;
use crate::start::Bells;

/// Between looks that nobody rang for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between looks at what of the in-app feed is too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Rows that are told together: as many persons as identity gives at once.
const BATCH_ROWS: usize = 1_000;
/// Tenants and destinations that are told at once.
const AT_ONCE: usize = 16;
/// How long a claim lasts, from the end of one batch: longer than the next may take to be read and told, so that no other tells it too.
const LEASE: Duration = Duration::from_secs(120);
/// How long reading a batch, and telling it, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(45);
/// The first pause after a failure; it doubles with each.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

type Key = (Destination, TenantId);

/// See [`self`]. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    db: Db,
    clock: Arc<dyn Clock>,
    tenants: TenantDirectory,
    peers: Peers,
    bells: Arc<Bells>,
    tasks: Tasks,
    owner: Arc<str>,
    at_work: Arc<Mutex<HashSet<Key>>>,
    /// Failures in a row, and when to try again.
    failing: Arc<Mutex<HashMap<Key, (u32, Instant)>>>,
    places: Arc<Semaphore>,
}

/// Looks for what is to be told until told to stop.
pub(super) async fn run(teller: Teller, stopping: CancellationToken) -> anyhow::Result<()> {
    let mut swept_at: Option<Instant> = None;
    loop {
        if let Err(error) = teller.take_on().await {
            tracing::warn!(error = chain(&error), "the outbox cannot be looked at; trying again");
        }
        if swept_at.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) {
            swept_at = Some(Instant::now());
            if let Err(error) = links::sweep_inbox(&teller.db, teller.clock.now_us()).await {
                tracing::warn!(error = chain(&error), "old messages of the in-app feed cannot be deleted; trying again");
            }
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = teller.bells.outbox.notified() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

impl Teller {
    #[allow(clippy::disallowed_methods, reason = "the name of a process is random on purpose")]
    pub(super) fn new(service: &Service, tasks: &Tasks) -> Self {
        Self {
            db: service.db.clone(),
            clock: service.clock.clone(),
            tenants: service.tenants.clone(),
            peers: service.peers.clone(),
            bells: service.bells.clone(),
            tasks: tasks.clone(),
            owner: uuid::Uuid::new_v4().to_string().into(),
            at_work: Arc::default(),
            failing: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Starts a task for each tenant and destination that something is to be told and none tells.
    async fn take_on(&self) -> Result<(), CampaignError> {
        for destination in Destination::ALL {
            for tenant in store::tenants(&self.db, destination).await? {
                let key = (destination, tenant);
                let paused = self.failing.lock().get(&key).is_some_and(|(_, until)| Instant::now() < *until);
                if paused || !self.tenants.is_on(&key.1, Module::Campaign) || !self.at_work.lock().insert(key.clone()) {
                    continue;
                }
                let teller = self.clone();
                self.tasks.spawn_finite("outbox of a tenant", async move {
                    let told = teller.work(&key).await;
                    teller.at_work.lock().remove(&key);
                    if told > 0 {
                        // Something may have come after the last look, whose bell was for nobody.
                        teller.bells.outbox.notify_one();
                    }
                    Ok(())
                });
            }
        }
        Ok(())
    }

    /// Tells until there is nothing left or it fails; how much.
    async fn work(&self, key: &Key) -> u64 {
        let stopping = self.tasks.stopping();
        let (destination, tenant) = (key.0, &key.1);
        let claim = Claim { destination, tenant, owner: &self.owner };
        let mut told = 0;
        let worked = tokio::select! {
            () = stopping.cancelled() => Ok(()),
            worked = self.tell_all(claim, &mut told) => worked,
        };
        if let Err(error) = claim.release(&self.db).await {
            tracing::debug!(%tenant, error = chain(&error), "a claim is not given back; it ends by itself");
        }
        match worked {
            Ok(()) => {
                self.failing.lock().remove(key);
            }
            Err(error) => {
                if told > 0 {
                    // It works but for a moment: a destination that is busy is not one that is down.
                    self.failing.lock().remove(key);
                }
                self.pause(key, &error);
            }
        }
        told
    }

    fn pause(&self, key: &Key, error: &CampaignError) {
        let mut failing = self.failing.lock();
        let failures = failing.get(key).map_or(0, |(failures, _)| *failures);
        let pause = PAUSE.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
        failing.insert(key.clone(), (failures.saturating_add(1), Instant::now() + pause));
        let (destination, tenant, error) = (key.0.name(), &key.1, chain(error));
        if failures == 0 {
            tracing::warn!(%tenant, destination, error, "what happened to messages cannot be told; it is kept and tried again");
        } else {
            tracing::debug!(%tenant, destination, error, failures, "what happened to messages still cannot be told");
        }
    }

    async fn tell_all(&self, claim: Claim<'_>, told: &mut u64) -> Result<(), CampaignError> {
        // Never closed.
        let _place = self.places.acquire().await;
        if !claim.take(&self.db, self.clock.now_us(), self.until_us()).await? {
            return Ok(());
        }
        let mut next = self.read(claim, 0).await?;
        while let Some(batch) = next {
            if !self.tenants.is_on(claim.tenant, Module::Campaign) {
                return Ok(());
            }
            // The next one is made ready meanwhile.
            let (finished, read) = tokio::join!(self.finish(claim, &batch), self.read(claim, batch.last()));
            let still_ours = finished?;
            *told = told.saturating_add(batch.rows.len() as u64);
            if !still_ours {
                return Ok(());
            }
            next = read?;
        }
        Ok(())
    }

    async fn read(&self, claim: Claim<'_>, after: i64) -> Result<Option<Batch>, CampaignError> {
        let rows = store::page(&self.db, claim.destination, claim.tenant, after, BATCH_ROWS).await?;
        if rows.is_empty() { Ok(None) } else { in_time(Batch::of(&self.peers, claim.tenant, rows)).await.map(Some) }
    }

    async fn finish(&self, claim: Claim<'_>, batch: &Batch) -> Result<bool, CampaignError> {
        in_time(batch.tell(&self.peers, claim.destination, claim.tenant)).await?;
        claim.done(&self.db, &batch.ids(), self.until_us()).await
    }

    fn until_us(&self) -> i64 {
        self.clock.now_us().saturating_add(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX))
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, CampaignError>>) -> Result<T, CampaignError> {
    let late = || CampaignError::NotReady { why: format!("a peer took longer than {} s", STEP_TIMEOUT.as_secs()) };
    tokio::time::timeout(STEP_TIMEOUT, step).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests;
