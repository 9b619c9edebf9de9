//! When the work on the index runs: flushes, checkpoints, merges, opening and unloading tenants, catching up, deleting files.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use segue_model::TenantId;
use segue_runtime::Tasks;
use segue_runtime::status::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::tail::TenantIndex;
use super::{IDENTITY, Index, Mark, Reading, Shared};

/// How often ages are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a flush that failed is left alone.
const FLUSH_RETRY: Duration = Duration::from_secs(1);
/// How long the files of a tenant whose merge failed are left alone.
const MERGE_RETRY: Duration = Duration::from_secs(600);

/// Starts everything that works on the index.
pub(crate) async fn spawn_workers(
    index: &Index,
    deleted: mpsc::UnboundedReceiver<String>,
    tasks: &Tasks,
) -> Result<(), segue_store::StoreError> {
    let shared = &index.shared;
    let identity = shared.catalogue.positions(IDENTITY.name()).await?;
    let stopping = tasks.stopping();
    for number in 0..shared.log.partitions() {
        let (shared, stopping, position) = (shared.clone(), stopping.clone(), identity.get(&number).copied().unwrap_or(0));
        tasks.spawn(format!("analytics.identity.{number}"), shared.follow_identity(number, position, stopping));
    }
    for number in shared.partitions.keys().copied() {
        let (shared, stopping) = (shared.clone(), stopping.clone());
        tasks.spawn(format!("analytics.index.{number}"), async move {
            tokio::select! {
                () = shared.directory.ready() => {}
                () = stopping.cancelled() => return Ok(()),
            }
            shared.follow_resolved(number, stopping).await
        });
    }
    tasks.spawn("analytics.flush", shared.clone().run_flushes(stopping.clone()));
    tasks.spawn("analytics.checkpoint", shared.clone().run_checkpoints(stopping.clone()));
    tasks.spawn("analytics.merge", shared.clone().run_merges(stopping.clone()));
    tasks.spawn("analytics.tenants", shared.clone().run_tenants(tasks.clone(), stopping.clone()));
    tasks.spawn("analytics.delete", shared.clone().run_deletions(deleted, stopping));
    Ok(())
}

impl Shared {
    async fn run_flushes(self: Arc<Self>, stopping: CancellationToken) -> anyhow::Result<()> {
        while !stopping.is_cancelled() {
            tokio::select! {
                () = self.flush_wanted.notified() => {}
                () = tokio::time::sleep(TICK) => {}
                () = stopping.cancelled() => break,
            }
            for tenant in self.loaded() {
                tenant.forget_view(Duration::from_millis(self.config.snapshot_age_ms_max));
                while tenant.is_scattered() {
                    let compacting = tenant.clone();
                    match tokio::task::spawn_blocking(move || compacting.compact()).await {
                        Ok(Ok(true)) => {}
                        // Pieces that cannot be merged are still readable, and the flush will say what is wrong with them.
                        Ok(Ok(false) | Err(_)) | Err(_) => break,
                    }
                }
            }
            let Some(tenant) = self.due() else { continue };
            if let Err(error) = self.flush(&tenant).await {
                tracing::error!(tenant = %tenant.id, error = format!("{error:#}"), "events stay in memory; writing them is tried again");
                tokio::select! {
                    () = tokio::time::sleep(FLUSH_RETRY) => {}
                    () = stopping.cancelled() => {}
                }
            } else {
                // Another one may be due.
                self.flush_wanted.notify_one();
            }
        }
        Ok(())
    }

    /// The tenant whose tail is to be written next.
    fn due(&self) -> Option<Arc<TenantIndex>> {
        let now_us = self.clock.now_us();
        let age_max_us = i64::try_from(self.config.flush_age_ms_max).unwrap_or(i64::MAX).saturating_mul(1_000);
        let full = self.tail_bytes.load(Ordering::Relaxed) > self.config.tail_bytes_max;
        let sizes: Vec<_> = self.loaded().into_iter().map(|tenant| (tenant.tail_size(), tenant)).collect();
        let largest = if full { sizes.iter().map(|(size, _)| size.bytes).max().filter(|bytes| *bytes > 0) } else { None };
        let due = sizes.into_iter().find(|(size, _)| {
            size.rows >= self.config.flush_rows_max
                || size.bytes >= self.config.flush_bytes_max
                || size.oldest_us.is_some_and(|oldest| now_us.saturating_sub(oldest) >= age_max_us)
                || largest == Some(size.bytes)
        });
        due.map(|(_, tenant)| tenant)
    }

    async fn run_checkpoints(self: Arc<Self>, stopping: CancellationToken) -> anyhow::Result<()> {
        while !stopping.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(self.config.checkpoint_interval_ms)) => {}
                () = stopping.cancelled() => {}
            }
            if let Err(error) = self.checkpoint().await {
                tracing::warn!(error = format!("{error:#}"), "positions cannot be stored; trying again");
            }
        }
        Ok(())
    }

    async fn run_merges(self: Arc<Self>, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut failed: HashMap<TenantId, Instant> = HashMap::new();
        let mut purged: HashMap<TenantId, Instant> = HashMap::new();
        let purge_interval = Duration::from_millis(self.config.purge_interval_ms);
        while !stopping.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(self.config.merge_interval_ms)) => {}
                () = stopping.cancelled() => break,
            }
            failed.retain(|_, at| at.elapsed() < MERGE_RETRY);
            for tenant in self.loaded() {
                while !failed.contains_key(&tenant.id) {
                    if stopping.is_cancelled() {
                        return Ok(());
                    }
                    match self.merge_next(&tenant).await {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => {
                            tracing::error!(tenant = %tenant.id, error = format!("{error:#}"), "files cannot be merged; they stay as they are");
                            failed.insert(tenant.id.clone(), Instant::now());
                        }
                    }
                }
                if purged.get(&tenant.id).is_none_or(|at| at.elapsed() >= purge_interval) {
                    purged.insert(tenant.id.clone(), Instant::now());
                    if let Err(error) = self.purge(&tenant).await {
                        tracing::error!(tenant = %tenant.id, error = format!("{error:#}"), "what is deleted or too old stays in files, unseen; trying again");
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens tenants that are on, unloads those that are off, and starts catching up.
    async fn run_tenants(self: Arc<Self>, tasks: Tasks, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.directory.changes();
        while !stopping.is_cancelled() {
            changes.mark_unchanged();
            for tenant in self.directory.all() {
                if self.is_on(&tenant.id)
                    && let Err(error) = self.load(&tenant.id).await
                {
                    tracing::error!(tenant = %tenant.id, error = chain(&error), "the tenant's index cannot be opened; trying again");
                }
            }
            for tenant in self.loaded() {
                if !self.is_on(&tenant.id)
                    && let Err(error) = self.unload(&tenant).await
                {
                    tracing::error!(tenant = %tenant.id, error = format!("{error:#}"), "the tenant's tail cannot be written; it stays in memory");
                }
            }
            for tenant in self.behind() {
                let (shared, stopping) = (self.clone(), stopping.clone());
                tasks.spawn_finite(format!("analytics.catch-up.{tenant}"), shared.catch_up(tenant, stopping));
            }
            tokio::select! {
                _ = changes.changed() => {}
                // Marks and late batches come without a change of the directory.
                () = tokio::time::sleep(FLUSH_RETRY) => {}
                () = stopping.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Writes what is in memory and lets go of the tenant.
    pub(super) async fn unload(&self, tenant: &Arc<TenantIndex>) -> anyhow::Result<()> {
        if self.catching_up.lock().contains_key(&tenant.id) {
            return Ok(()); // the task sees that the tenant is off; next time
        }
        // The flush also removes marks of what was caught up with, be the tail empty or not.
        if tenant.tail_size().rows > 0 || self.is_marked_as_joined(&tenant.id) {
            self.flush(tenant).await?;
        }
        // Whoever works on the files of the tenant must have ended, for it may be opened again at once.
        let (Ok(_merging), Ok(_flushing)) = (tenant.merging.try_lock(), tenant.flush.try_lock()) else {
            return Ok(()); // next time
        };
        let mut tenants = self.tenants.write();
        let empty = tenant.with(|state| {
            // Events may have come since: switching takes a moment to reach everyone.
            state.closed = state.is_empty();
            state.closed
        });
        if empty {
            tenants.remove(&tenant.id);
            tracing::info!(tenant = %tenant.id, "analytics is off: the index is out of memory");
        }
        Ok(())
    }

    fn is_marked_as_joined(&self, tenant: &TenantId) -> bool {
        let is_joined = |mark: &Mark| matches!(mark.reading, Reading::Joined(_));
        self.partitions.values().any(|partition| partition.lock().skipped.get(tenant).is_some_and(is_joined))
    }

    async fn run_deletions(
        self: Arc<Self>,
        mut deleted: mpsc::UnboundedReceiver<String>,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let name = tokio::select! {
                name = deleted.recv() => name,
                () = stopping.cancelled() => return Ok(()),
            };
            let Some(name) = name else { return Ok(()) };
            if let Err(error) = self.lake.delete(&name).await {
                tracing::warn!(file = name, error = format!("{error:#}"), "a merged file cannot be deleted; it is swept at the next start");
            }
        }
    }

    /// Deletes files that the catalogue does not know: what a crash left between writing and publishing.
    pub(crate) async fn sweep(&self) -> anyhow::Result<usize> {
        let latest_us =
            self.clock.now_us().saturating_sub(i64::try_from(self.config.sweep_age_ms_min).unwrap_or(i64::MAX).saturating_mul(1_000));
        // First the files, then the catalogue: a file is catalogued after it is written.
        let found = self.lake.list().await?;
        let known = self.catalogue.file_names().await?;
        let mut swept = 0;
        for file in
            found.into_iter().filter(|file| !known.contains(&file.name) && file.name.ends_with(".parquet") && file.modified_us <= latest_us)
        {
            self.lake.delete(&file.name).await?;
            tracing::info!(file = file.name, "swept a file that was never published");
            swept += 1;
        }
        Ok(swept)
    }
}

impl Index {
    pub(crate) async fn sweep(&self) -> anyhow::Result<usize> {
        self.shared.sweep().await
    }
}
