//! The part of a process that lets runs go on, for tests of the whole service: dropped at any moment, the process has ended there.

use super::*;
use crate::flow::round::round;
use crate::flow::store as flow_store;
use crate::service::Service;

/// Workers of one tenant, without the supervisor: claims are not renewed, so that the tenant changes hands whenever a lease is over.
pub(crate) struct FlowProcess {
    shared: Arc<Shared>,
    stopping: CancellationToken,
}

impl Drop for FlowProcess {
    fn drop(&mut self) {
        // Readers of the log end with their process.
        self.stopping.cancel();
    }
}

impl FlowProcess {
    pub(crate) async fn start(service: &Service, owner: &str) -> Result<Self, CampaignError> {
        let config = service.config.flow.clone();
        let feed = Arc::new(Feed::open(service.log.clone(), service.clock.clone()).await?);
        let (tasks, stopping) = (Tasks::new(), CancellationToken::new());
        for (stream, partition) in feed.partitions() {
            let follow = follow(feed.clone(), stream, partition, CancellationToken::new());
            let stopping = stopping.clone();
            tasks.spawn_finite("reader", async move {
                tokio::select! {
                    followed = follow => followed,
                    () = stopping.cancelled() => Ok(()),
                }
            });
        }
        let waiting_max = config.round_inputs_max * 3;
        let shared = Shared {
            config,
            whole_config: service.config.clone(),
            db: service.db.clone(),
            clock: service.clock.clone(),
            tenants: service.tenants.clone(),
            peers: service.peers.clone(),
            bells: service.bells.clone(),
            feed,
            waiting_max,
            rounds: Semaphore::new(1),
            owner: owner.to_owned(),
        };
        Ok(Self { shared: Arc::new(shared), stopping })
    }

    /// Goes from round to round, for ever. `gate`: held open while a round is made.
    pub(crate) async fn run(&self, tenant: &TenantId, gate: &tokio::sync::RwLock<()>) {
        let pause = std::time::Duration::from_millis(2);
        loop {
            let loaded = Worker::load(self.shared.clone(), tenant.clone(), Arc::new(Notify::new())).await;
            if let Ok(Some(mut worker)) = loaded {
                loop {
                    let open = gate.read().await;
                    let done = round(&mut worker).await;
                    drop(open);
                    match done {
                        Ok(()) => {}
                        Err(Failure::Repeat(error)) => worker.row.problem = segue_runtime::status::chain(&error),
                        Err(Failure::Reload(_)) => break,
                    }
                    tokio::time::sleep(pause).await;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// How far a tenant is.
pub(crate) struct Standing {
    asked: u64,
}

impl Standing {
    pub(crate) async fn ask(db: &Db, tenant: &TenantId) -> Result<Self, CampaignError> {
        Ok(Self { asked: flow_store::ask(db, tenant).await? })
    }

    /// Whether everything that was there when it was asked for has been dealt with; else what is in the way.
    pub(crate) async fn is_done(&self, db: &Db, tenant: &TenantId) -> Result<bool, CampaignError> {
        Ok(flow_store::find(db, tenant).await?.is_some_and(|row| row.answered >= self.asked))
    }
}

/// All runs of these scenarios, the oldest first.
pub(crate) async fn all_runs(db: &Db, tenant: &TenantId, scenarios: &[String]) -> Result<Vec<Run>, CampaignError> {
    let mut all = Vec::new();
    for scenario in scenarios {
        let rows = runs::page(db, tenant, Shown { scenario, person: 0, active_only: false, before: i64::MAX }, 1_000_000).await?;
        for row in rows {
            all.push(row.read()?.0);
        }
    }
    all.sort_unstable_by_key(|run| run.id);
    Ok(all)
}
