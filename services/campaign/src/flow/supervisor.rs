//! Which tenants this process works on: those with the module on that have scenarios, as far as no other process has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use segue_log::feed::{Followed, hold_back};
use segue_model::{Module, TenantId};
use segue_runtime::Tasks;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::feed::{CONSUMER, Feed, follow};
use super::store;
use super::worker::{Failure, Shared, Worker};
use crate::error::CampaignError;
use crate::scenarios;
use crate::service::Service;

/// Between looks at tenants, switches and definitions that nobody rang for.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// After a worker had to give up.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two words to the log about what is not needed any more.
const HOLD_INTERVAL: Duration = Duration::from_secs(5);
/// Inputs that may wait for a worker, in rounds.
const WAITING_ROUNDS: usize = 10;

/// A worker's task.
struct Task {
    stop: CancellationToken,
    done: tokio::sync::watch::Receiver<bool>,
    wake: Arc<Notify>,
}

/// Runs until the process stops.
pub(crate) async fn run(service: Service, tasks: Tasks, stopping: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = service.tenants.ready() => {}
        () = stopping.cancelled() => return Ok(()),
    }
    let Some(feed) = Feed::open_once_reachable(&service.log, &service.clock, &stopping).await? else { return Ok(()) };
    let feed = Arc::new(feed);
    for (stream, partition) in feed.partitions() {
        let follow = follow(feed.clone(), stream, partition, stopping.clone());
        tasks.spawn(format!("scenarios: `{}` partition {partition}", stream.topic()), follow);
    }
    let bells = service.bells.clone();
    let mut directory = service.tenants.changes();
    let mut supervisor = Supervisor::new(service, tasks, feed);
    while !stopping.is_cancelled() {
        if let Err(error) = supervisor.look(&stopping).await {
            tracing::warn!(error = segue_runtime::status::chain(&error), "scenarios cannot be looked after; trying again");
        }
        tokio::select! {
            () = bells.flow.notified() => supervisor.wake_all(),
            _ = directory.changed() => {}
            () = tokio::time::sleep(LOOK_PAUSE) => {}
            () = stopping.cancelled() => {}
        }
    }
    supervisor.stop_all().await;
    Ok(())
}

/// A name that no other process has.
#[allow(clippy::disallowed_methods, reason = "names this process; nothing is computed from it")]
fn owner() -> String {
    uuid::Uuid::new_v4().to_string()
}

struct Supervisor {
    shared: Arc<Shared>,
    spawner: Tasks,
    tasks: HashMap<TenantId, Task>,
    held_at: Option<Instant>,
    renewed_at: Instant,
}

impl Supervisor {
    fn new(service: Service, spawner: Tasks, feed: Arc<Feed>) -> Self {
        let shared = Shared {
            config: service.config.flow.clone(),
            rounds: Semaphore::new(service.config.flow.rounds_max),
            waiting_max: service.config.flow.round_inputs_max.saturating_mul(WAITING_ROUNDS),
            whole_config: service.config,
            db: service.db,
            clock: service.clock,
            tenants: service.tenants,
            peers: service.peers,
            bells: service.bells,
            feed,
            owner: owner(),
        };
        Self { shared: Arc::new(shared), spawner, tasks: HashMap::new(), held_at: None, renewed_at: Instant::now() }
    }

    async fn look(&mut self, stopping: &CancellationToken) -> Result<(), CampaignError> {
        let shared = self.shared.clone();
        let lease = Duration::from_millis(shared.config.lease_ms);
        if self.renewed_at.elapsed() >= lease / 3 {
            let lease_us = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
            store::renew(&shared.db, &shared.owner, shared.clock.now_us().saturating_add(lease_us)).await?;
            self.renewed_at = Instant::now();
        }
        self.tasks.retain(|_, task| !*task.done.borrow());
        for (tenant, task) in &self.tasks {
            if !shared.tenants.is_on(tenant, Module::Campaign) {
                task.stop.cancel();
            }
        }
        for (tenant, _) in scenarios::changes(&shared.db).await? {
            if shared.tenants.is_on(&tenant, Module::Campaign) && !self.tasks.contains_key(&tenant) {
                self.spawn(tenant, stopping);
            }
        }
        for tenant in store::asked(&shared.db, &shared.owner).await? {
            if let Some(task) = tenant.parse::<TenantId>().ok().and_then(|tenant| self.tasks.get(&tenant)) {
                task.wake.notify_one();
            }
        }
        if self.held_at.is_none_or(|at| at.elapsed() >= HOLD_INTERVAL) {
            self.hold().await?;
            self.held_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Somebody rang: nobody says for whom.
    fn wake_all(&self) {
        self.tasks.values().for_each(|task| task.wake.notify_one());
    }

    fn spawn(&mut self, tenant: TenantId, stopping: &CancellationToken) {
        let stop = stopping.child_token();
        let (finished, done) = tokio::sync::watch::channel(false);
        let wake = Arc::new(Notify::new());
        self.tasks.insert(tenant.clone(), Task { stop: stop.clone(), done, wake: wake.clone() });
        let shared = self.shared.clone();
        self.spawner.spawn_finite(format!("scenarios of {tenant}"), async move {
            let worked = work(shared.clone(), &tenant, wake, stop.clone()).await;
            shared.feed.unsubscribe(&tenant);
            if let Err(error) = worked {
                tracing::warn!(%tenant, error = segue_runtime::status::chain(&error), "the scenarios of a tenant are loaded anew");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            }
            finished.send_replace(true);
            Ok(())
        });
    }

    /// Tells the log what nobody here needs any more: what every tenant that is on has dealt with.
    async fn hold(&self) -> Result<(), CampaignError> {
        let mut least = self.shared.feed.positions();
        for (tenant, positions) in store::positions(&self.shared.db).await? {
            let is_on = tenant.parse::<TenantId>().is_ok_and(|tenant| self.shared.tenants.is_on(&tenant, Module::Campaign));
            if is_on {
                hold_back(&mut least, &positions);
            }
        }
        self.shared.feed.hold(CONSUMER, &least).await?;
        Ok(())
    }

    async fn stop_all(&mut self) {
        let tasks: BTreeMap<TenantId, Task> = std::mem::take(&mut self.tasks).into_iter().collect();
        for task in tasks.values() {
            task.stop.cancel();
        }
        for (_, mut task) in tasks {
            // Ends when the worker does; a worker that is gone has ended too.
            let _ = task.done.wait_for(|done| *done).await;
        }
    }
}

/// Works on a tenant until told to stop, or until the state has to be loaded anew.
async fn work(shared: Arc<Shared>, tenant: &TenantId, wake: Arc<Notify>, stop: CancellationToken) -> Result<(), CampaignError> {
    let loaded = tokio::select! {
        loaded = Worker::load(shared, tenant.clone(), wake) => loaded?,
        () = stop.cancelled() => return Ok(()),
    };
    let Some(mut worker) = loaded else { return Ok(()) };
    let worked = worker.run(stop).await;
    worker.release().await;
    match worked {
        Ok(()) => Ok(()),
        Err(Failure::Repeat(error) | Failure::Reload(error)) => Err(error),
    }
}
