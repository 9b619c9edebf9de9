//! Catching up: reading again, for one tenant alone, what passed by while its analytics was off.
//!
//! The live worker goes on passing the tenant by until the task has reached it; then, under the partition's lock, the tenant
//! joins. Rows go into the same tail, so they are queryable as they come.

use std::sync::Arc;
use std::time::Duration;

use segue_log::{LogError, ReadLimits};
use segue_model::TenantId;
use tokio_util::sync::CancellationToken;

use super::consumer::{by_tenant, decode, pause};
use super::tail::TenantIndex;
use super::{RESOLVED, Reading, Shared};

impl Shared {
    /// Tenants that are on and have something to catch up with, and no task for it yet.
    pub(crate) fn behind(&self) -> Vec<TenantId> {
        let mut behind: Vec<TenantId> = self
            .partitions
            .values()
            .flat_map(|partition| {
                let partition = partition.lock();
                partition.skipped.keys().filter(|tenant| partition.behind(tenant).is_some()).cloned().collect::<Vec<_>>()
            })
            .filter(|tenant| self.is_on(tenant))
            .collect();
        behind.sort_unstable();
        behind.dedup();
        let mut running = self.catching_up.lock();
        behind.retain(|tenant| !running.contains_key(tenant));
        running.extend(behind.iter().map(|tenant| (tenant.clone(), 0.0)));
        behind
    }

    /// Catches one tenant up in all partitions; ends early when it is switched off again.
    pub(crate) async fn catch_up(self: Arc<Self>, tenant: TenantId, stopping: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(%tenant, "catching up with what passed by while analytics was off");
        let done = self.catch_up_all(&tenant, &stopping).await;
        self.catching_up.lock().remove(&tenant);
        match &done {
            Ok(true) => tracing::info!(%tenant, "caught up"),
            Ok(false) => tracing::info!(%tenant, "catching up was interrupted; it goes on when analytics is on again"),
            Err(error) => tracing::error!(%tenant, error = format!("{error:#}"), "catching up failed; it is tried again"),
        }
        Ok(())
    }

    async fn catch_up_all(&self, tenant: &TenantId, stopping: &CancellationToken) -> anyhow::Result<bool> {
        let index = self.load(tenant).await?;
        let numbers: Vec<u16> = self.partitions.keys().copied().collect();
        let todo: Vec<u16> = numbers.into_iter().filter(|number| self.next_skipped(tenant, *number).is_some()).collect();
        for (at, number) in todo.iter().enumerate() {
            let progress = (at as f64, todo.len() as f64);
            if !self.catch_up_partition(&index, *number, progress, stopping).await? {
                return Ok(false);
            }
        }
        // Makes it durable that nothing is skipped any more.
        self.flush(&index).await?;
        Ok(true)
    }

    fn next_skipped(&self, tenant: &TenantId, number: u16) -> Option<u64> {
        self.partitions.get(&number)?.lock().behind(tenant)
    }

    /// False: interrupted.
    pub(super) async fn catch_up_partition(
        &self,
        index: &TenantIndex,
        number: u16,
        progress: (f64, f64),
        stopping: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let Some(partition) = self.partitions.get(&number) else { return Ok(true) };
        let Some(first) = self.next_skipped(&index.id, number) else { return Ok(true) };
        let mut position = index.with(|state| {
            let lane = state.lanes.entry(number).or_default();
            lane.applied.max(first.saturating_sub(1))
        });
        loop {
            {
                let mut live = partition.lock();
                // The whole of it is in the tail: a later flush, or interruption, goes on from here.
                index.with(|state| {
                    let lane = state.lanes.entry(number).or_default();
                    lane.applied = lane.applied.max(position);
                });
                let has_joined = position >= live.consumed;
                // `first` stays: what is in the tail alone has to be read again after a crash. A flush moves it on.
                if let Some(mark) = live.skipped.get_mut(&index.id) {
                    mark.reading = if has_joined { Reading::Joined(position) } else { Reading::Behind(position + 1) };
                }
                if has_joined {
                    return Ok(true);
                }
                let (total, done) = ((live.consumed + 1).saturating_sub(first).max(1), (position + 1).saturating_sub(first));
                let share = (progress.0 + done as f64 / total as f64) / progress.1;
                self.catching_up.lock().insert(index.id.clone(), share.clamp(0.0, 1.0));
            }
            if stopping.is_cancelled() || !self.is_on(&index.id) || index.with(|state| state.closed) {
                return Ok(false);
            }
            self.wait_for_room(stopping).await;
            position = self.catch_up_some(index, number, position, stopping).await?;
        }
    }

    /// Takes in the next batches, none of them beyond the live worker; the last position.
    async fn catch_up_some(&self, index: &TenantIndex, number: u16, position: u64, stopping: &CancellationToken) -> anyhow::Result<u64> {
        let live = self.partitions.get(&number).map_or(0, |partition| partition.lock().consumed);
        let limits = ReadLimits { batches_max: 64, bytes_max: 4 << 20, wait: Duration::from_millis(100) };
        let batches = match self.log.read(RESOLVED, number, position, limits).await {
            Ok(batches) => batches,
            Err(LogError::Trimmed { after, first_available, .. }) => {
                tracing::error!(tenant = %index.id, partition = number, after, first_available,
                    "the log no longer has what passed by while analytics was off; events of this tenant between these positions are missing from its reports");
                return Ok(first_available.saturating_sub(1).min(live));
            }
            Err(error) if error.is_retryable() => {
                pause(stopping).await;
                return Ok(position);
            }
            Err(error) => return Err(error.into()),
        };
        let mut last = position;
        for batch in batches.iter().take_while(|batch| batch.position <= live) {
            let decoded = decode(number, batch)?;
            if let Some(events) = by_tenant(&decoded).remove(index.id.as_str()) {
                match index.append(number, batch.position, true, self.clock.now_us(), events.into_iter()) {
                    Ok(done) => done?,
                    Err(super::tail::Closed) => return Ok(last),
                }
            }
            last = batch.position;
            tokio::task::yield_now().await;
        }
        Ok(last)
    }
}
