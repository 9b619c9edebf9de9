//! Which process works which partition: leases in the store, shared out evenly over the processes that are alive.
//!
//! A lease only keeps two processes from doing the same work; what keeps them from harm is its epoch, which every commit
//! names: a process that comes back after its lease ran out can commit nothing any more. Each process takes at most its share,
//! and gives partitions back, between two groups, when others join.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use segue_store::DbKind;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::PipelineError;
use super::marks::Owner;
use super::retry::Backoff;
use super::worker::{Shared, Worker};
use crate::ACCEPTED;
use crate::store::pipeline as sql;

/// How often lag is logged.
const LAG_INTERVAL: Duration = Duration::from_secs(30);

/// A worker of this process.
struct Working {
    owner: Owner,
    stop: CancellationToken,
}

/// A worker has ended.
struct Ended {
    partition: u16,
    owner: Owner,
}

/// Takes, keeps and gives back partitions.
pub struct Leases {
    shared: Arc<Shared>,
    name: String,
    working: BTreeMap<u16, Working>,
    /// Partitions that this process has asked for before.
    asked: BTreeSet<u16>,
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
}

impl Leases {
    /// For a process called `name`.
    pub fn new(shared: Arc<Shared>, name: String) -> Self {
        Self { shared, name, working: BTreeMap::new(), asked: BTreeSet::new(), ended: mpsc::unbounded_channel() }
    }

    /// Runs until the process stops, then gives everything back.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let stopping = self.shared.tasks.stopping();
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let mut tick = tokio::time::interval(Duration::from_millis(u64::from(self.shared.config.lease_ms) / 3));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lag = tokio::time::interval(LAG_INTERVAL);
        lag.reset();
        loop {
            tokio::select! {
                _ = tick.tick() => match self.share().await {
                    Ok(()) => backoff = Backoff::new(Duration::from_secs(1)),
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(error = segue_runtime::status::chain(&error), "leases cannot be kept; trying again");
                        if backoff.pause(&stopping).await.is_err() {
                            continue;
                        }
                        tick.reset_immediately();
                    }
                    Err(error) => return Err(error.into()),
                },
                Some(ended) = self.ended.1.recv() => self.take_back(ended).await,
                _ = lag.tick() => self.log_lag().await,
                () = stopping.cancelled() => break,
            }
        }
        while !self.working.is_empty() {
            let Some(ended) = self.ended.1.recv().await else { break };
            self.take_back(ended).await;
        }
        let _ = sql::forget_members(&self.shared.db, &self.name, self.now_us()).await;
        Ok(())
    }

    fn now_us(&self) -> i64 {
        self.shared.clock.now_us()
    }

    fn until_us(&self) -> i64 {
        self.now_us() + i64::from(self.shared.config.lease_ms) * 1_000
    }

    fn partitions(&self) -> Vec<u16> {
        let all = 0..self.shared.log.partitions();
        let allowed = &self.shared.config.partitions;
        all.filter(|partition| allowed.is_empty() || allowed.contains(partition)).collect()
    }

    /// Keeps what it has, takes what is free, up to this process's share.
    async fn share(&mut self) -> Result<(), PipelineError> {
        let (now_us, until_us) = (self.now_us(), self.until_us());
        let members = sql::heartbeat(&self.shared.db, &self.name, now_us, until_us).await?.max(1) as usize;
        for (partition, working) in &self.working {
            if !working.stop.is_cancelled() && !sql::renew(&self.shared.db, working.owner, until_us).await? {
                tracing::warn!(partition, "another process has taken over the partition");
                working.stop.cancel();
            }
        }
        let mine = self.partitions();
        // Whoever may work only some partitions takes all of them: nobody else may be there for them.
        let share = if self.shared.config.partitions.is_empty() { mine.len().div_ceil(members) } else { mine.len() };
        let surplus = self.working.values().filter(|working| !working.stop.is_cancelled()).count().saturating_sub(share);
        for working in self.working.values().rev().filter(|working| !working.stop.is_cancelled()).take(surplus) {
            working.stop.cancel();
        }
        for partition in mine {
            if self.working.len() >= share {
                break;
            }
            if !self.working.contains_key(&partition) {
                self.try_take(partition).await?;
            }
        }
        Ok(())
    }

    async fn try_take(&mut self, partition: u16) -> Result<(), PipelineError> {
        let db = &self.shared.db;
        sql::create_partition(db, partition.into()).await?;
        // A SQLite store belongs to one process: a lease that is there when it starts is of one that is gone.
        let is_first = self.asked.insert(partition) && db.kind() == DbKind::Sqlite;
        let acquired = if is_first {
            sql::take_over(db, partition.into(), &self.name, self.until_us()).await?
        } else {
            sql::acquire(db, partition.into(), &self.name, self.now_us(), self.until_us()).await?
        };
        let Some(row) = acquired else { return Ok(()) };
        let owner = Owner { partition: row.partition, epoch: row.epoch };
        let stop = self.shared.tasks.stopping().child_token();
        self.working.insert(partition, Working { owner, stop: stop.clone() });
        let (shared, tell) = (self.shared.clone(), self.ended.0.clone());
        self.shared.tasks.spawn_finite(format!("ingest-pipeline-{partition}"), async move {
            let worked = async {
                let worker = load(shared, row, stop).await?;
                worker.run().await
            }
            .await;
            let _ = tell.send(Ended { partition, owner });
            match worked {
                Ok(()) | Err(PipelineError::Stopping) => Ok(()),
                Err(PipelineError::Fenced { .. }) => {
                    tracing::warn!(partition, "another process has taken over the partition; nothing of this one was committed since");
                    Ok(())
                }
                Err(error) => Err(error.into()),
            }
        });
        Ok(())
    }

    async fn take_back(&mut self, ended: Ended) {
        self.working.remove(&ended.partition);
        // If this fails, the lease runs out by itself.
        let _ = sql::release(&self.shared.db, ended.owner).await;
    }

    async fn log_lag(&self) {
        for (partition, working) in &self.working {
            let Ok(Some(row)) = sql::find_partition(&self.shared.db, working.owner.partition).await else { continue };
            let Ok(bounds) = self.shared.log.bounds(ACCEPTED, *partition).await else { continue };
            let behind = bounds.behind(row.position as u64);
            if behind > 0 {
                tracing::info!(
                    partition,
                    resolved_position = row.position,
                    accepted_position = bounds.last,
                    behind,
                    "batches wait to be resolved"
                );
            }
        }
    }
}

/// Loads a worker, waiting while the store or the log is away.
async fn load(shared: Arc<Shared>, row: sql::PartitionRow, stop: CancellationToken) -> Result<Worker, PipelineError> {
    let mut backoff = Backoff::new(Duration::from_millis(shared.config.retry_ms_max.into()));
    loop {
        match Worker::load(shared.clone(), row.clone(), stop.clone()).await {
            Err(error) if error.is_retryable() => backoff.pause(&stop).await?,
            loaded => return loaded,
        }
    }
}
