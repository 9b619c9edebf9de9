//! Which tenants this process works on: those with the module on that have definitions, as far as no other process has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use segue_log::feed::{Followed, hold_back};
use segue_model::{Module, TenantId};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::feed::{CONSUMER, Feed, follow};
use super::view::View;
use super::worker::{Failure, Reached, Shared, Worker};
use super::{Live, Running, store};
use crate::error::AudienceError;

/// Between looks at tenants, switches and definitions that nobody rang for.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// After a worker had to give up.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two words to the log about what is not needed any more.
const HOLD_INTERVAL: Duration = Duration::from_secs(5);
/// Commands that may wait for a worker.
const COMMANDS_MAX: usize = 64;
/// Events that may wait for a worker, over and above those of a round.
const WAITING_ROUNDS: usize = 10;

/// A worker's task.
struct Task {
    stop: CancellationToken,
    done: tokio::sync::watch::Receiver<bool>,
    wake: Arc<Notify>,
    /// Definitions as of this change are known to it.
    changes: u64,
}

/// Runs until the process stops.
pub(super) async fn run(live: Live, stopping: CancellationToken) -> anyhow::Result<()> {
    let deps = live.deps.clone();
    tokio::select! {
        () = deps.tenants.ready() => {}
        () = stopping.cancelled() => return Ok(()),
    }
    let Some(feed) = Feed::open_once_reachable(&deps.log, &deps.clock, &stopping).await? else { return Ok(()) };
    let feed = Arc::new(feed);
    let shared = Arc::new(Shared {
        deps: deps.clone(),
        feed: feed.clone(),
        waiting_max: deps.config.live.round_events_max.saturating_mul(WAITING_ROUNDS),
        rounds: Semaphore::new(deps.config.live.rounds_max),
        owner: owner(),
        committed: live.committed.clone(),
    });
    for (stream, partition) in feed.partitions() {
        let follow = follow(feed.clone(), stream, partition, stopping.clone());
        deps.tasks.spawn(format!("audiences: `{}` partition {partition}", stream.topic()), follow);
    }
    let mut supervisor = Supervisor { live, shared, tasks: HashMap::new(), held_at: None, renewed_at: Instant::now() };
    let changed = deps.definitions.changed();
    let mut directory = deps.tenants.changes();
    while !stopping.is_cancelled() {
        if let Err(error) = supervisor.look(&stopping).await {
            tracing::warn!(error = segue_runtime::status::chain(&error), "live membership cannot be looked after; trying again");
        }
        tokio::select! {
            () = changed.notified() => {}
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
    live: Live,
    shared: Arc<Shared>,
    tasks: HashMap<TenantId, Task>,
    held_at: Option<Instant>,
    renewed_at: Instant,
}

impl Supervisor {
    async fn look(&mut self, stopping: &CancellationToken) -> Result<(), AudienceError> {
        let lease = Duration::from_millis(self.shared.deps.config.live.lease_ms);
        if self.renewed_at.elapsed() >= lease / 3 {
            let lease_us = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
            let until_us = self.shared.deps.clock.now_us().saturating_add(lease_us);
            store::renew(&self.shared.deps.db, &self.shared.owner, until_us).await?;
            self.renewed_at = Instant::now();
        }
        let changes = self.shared.deps.definitions.changes().await?;
        self.tasks.retain(|_, task| !*task.done.borrow());
        for (tenant, task) in &mut self.tasks {
            if !self.shared.deps.tenants.is_on(tenant, Module::Audience) {
                task.stop.cancel();
            }
            let now = changes.get(tenant).copied().unwrap_or_default();
            if now != task.changes {
                task.changes = now;
                task.wake.notify_one();
            }
        }
        for (tenant, changes) in &changes {
            if self.shared.deps.tenants.is_on(tenant, Module::Audience) && !self.tasks.contains_key(tenant) {
                self.spawn(tenant.clone(), *changes, stopping);
            }
        }
        if self.held_at.is_none_or(|at| at.elapsed() >= HOLD_INTERVAL) {
            self.hold().await?;
            self.held_at = Some(Instant::now());
        }
        Ok(())
    }

    fn spawn(&mut self, tenant: TenantId, changes: u64, stopping: &CancellationToken) {
        let stop = stopping.child_token();
        let (finished, done) = tokio::sync::watch::channel(false);
        let wake = Arc::new(Notify::new());
        let task = Task { stop: stop.clone(), done, wake: wake.clone(), changes };
        let (live, shared) = (self.live.clone(), self.shared.clone());
        self.tasks.insert(tenant.clone(), task);
        self.shared.deps.tasks.spawn_finite(format!("audiences of {tenant}"), async move {
            let worked = work(&live, shared.clone(), &tenant, wake, stop.clone()).await;
            live.running.write().remove(&tenant);
            shared.feed.unsubscribe(&tenant);
            if let Err(error) = worked {
                tracing::warn!(%tenant, error = segue_runtime::status::chain(&error), "the audiences of a tenant are loaded anew");
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
    async fn hold(&self) -> Result<(), AudienceError> {
        let mut least = self.shared.feed.positions();
        for (tenant, positions) in store::positions(&self.shared.deps.db).await? {
            let is_on = tenant.parse::<TenantId>().is_ok_and(|tenant| self.shared.deps.tenants.is_on(&tenant, Module::Audience));
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
async fn work(
    live: &Live,
    shared: Arc<Shared>,
    tenant: &TenantId,
    wake: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(), AudienceError> {
    let view = Arc::new(RwLock::new(View::default()));
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let reached = Reached { view: view.clone(), wake: wake.clone(), commands };
    let loaded = tokio::select! {
        loaded = Worker::load(shared, tenant.clone(), reached) => loaded?,
        () = stop.cancelled() => return Ok(()),
    };
    let Some(mut worker) = loaded else { return Ok(()) };
    live.running.write().insert(tenant.clone(), Running { view, commands: sender, wake });
    let worked = worker.run(stop).await;
    live.running.write().remove(tenant);
    worker.release().await;
    match worked {
        Ok(()) => Ok(()),
        Err(Failure::Repeat(error) | Failure::Reload(error)) => Err(error),
    }
}
