//! Following the log: one worker per partition of `resolved`, one per partition of `identity`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use prost::Message;
use segue_log::{LogError, ReadLimits, StoredBatch};
use segue_model::TenantId;
use segue_proto::events::v1::{IdentityChangeBatch, ResolvedBatch, ResolvedEvent, identity_change::Change};
use segue_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::{CONSUMER, IDENTITY, Partition, RESOLVED, Shared};
use crate::store::NewRedirect;

/// How long one read of `resolved` waits for something to come; the watermark of a quiet partition is at most so old.
const RESOLVED_WAIT: Duration = Duration::from_millis(100);
/// The same for `identity`, whose quiet partitions keep nobody waiting.
const IDENTITY_WAIT: Duration = Duration::from_millis(500);
/// Between attempts when the log or the store cannot be reached.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Reading stops when tails take so many times their share of memory (numerator, denominator).
const ROOM: (usize, usize) = (3, 2);

/// The events of a batch by tenant, each with its place in the batch.
pub(crate) type ByTenant<'a> = BTreeMap<&'a str, Vec<(u64, &'a ResolvedEvent)>>;

/// Reads a batch of `resolved`. It was written by us: one that cannot be read means that the log is damaged.
pub(crate) fn decode(number: u16, batch: &StoredBatch) -> anyhow::Result<ResolvedBatch> {
    ResolvedBatch::decode(batch.payload.clone())
        .with_context(|| format!("batch {} of `resolved` partition {number} cannot be read: restore the log", batch.position))
}

/// Sorts a batch by tenant. The place of an event counts all events of the batch, whoever's they are.
pub(crate) fn by_tenant(batch: &ResolvedBatch) -> ByTenant<'_> {
    let mut tenants = ByTenant::new();
    let events = batch.groups.iter().flat_map(|group| group.events.iter().map(move |event| (group.tenant.as_str(), event)));
    for (at, (tenant, event)) in (0..).zip(events) {
        tenants.entry(tenant).or_default().push((at, event));
    }
    tenants
}

/// A tenant whose index must be loaded before the batch can be taken in.
struct MustLoad(TenantId);

impl Shared {
    /// Follows a partition of `resolved` until told to stop.
    pub(crate) async fn follow_resolved(self: Arc<Self>, number: u16, stopping: CancellationToken) -> anyhow::Result<()> {
        let Some(partition) = self.partitions.get(&number) else { return Ok(()) };
        let mut position = partition.lock().consumed;
        hold(&self, RESOLVED, number, position, &stopping).await?;
        while !stopping.is_cancelled() {
            self.wait_for_room(&stopping).await;
            let before_us = self.clock.now_us();
            let limits = ReadLimits { wait: RESOLVED_WAIT, ..ReadLimits::default() };
            let read = tokio::select! {
                read = self.log.read(RESOLVED, number, position, limits) => read,
                () = stopping.cancelled() => break,
            };
            let batches = match read {
                Ok(batches) => batches,
                Err(error) => {
                    position = self.after_failure(RESOLVED, position, error, &stopping).await?;
                    continue;
                }
            };
            if batches.is_empty() {
                {
                    let mut partition = partition.lock();
                    partition.watermark_us = partition.watermark_us.max(before_us);
                    partition.consumed = partition.consumed.max(position);
                }
                self.progress.notify();
            }
            for batch in &batches {
                self.take_in(number, partition, batch, &stopping).await?;
                if stopping.is_cancelled() {
                    return Ok(());
                }
                position = batch.position;
                // A batch is some milliseconds of work: others get their turn between two.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn take_in(
        &self,
        number: u16,
        partition: &Mutex<Partition>,
        batch: &StoredBatch,
        stopping: &CancellationToken,
    ) -> anyhow::Result<()> {
        let decoded = decode(number, batch)?;
        let tenants = by_tenant(&decoded);
        loop {
            let Err(MustLoad(tenant)) = self.apply(number, partition, batch, &tenants)? else { return Ok(()) };
            match self.load(&tenant).await {
                Ok(_) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%tenant, %error, "the tenant's index cannot be opened; trying again");
                    pause(stopping).await;
                }
                Err(error) => return Err(error).with_context(|| format!("the index of tenant {tenant} cannot be opened")),
            }
            if stopping.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Takes a batch in, for all its tenants or none.
    fn apply(
        &self,
        number: u16,
        partition: &Mutex<Partition>,
        batch: &StoredBatch,
        tenants: &ByTenant<'_>,
    ) -> anyhow::Result<Result<(), MustLoad>> {
        let now_us = self.clock.now_us();
        let mut partition = partition.lock();
        let mut taking = Vec::with_capacity(tenants.len());
        for (name, events) in tenants {
            let Ok(tenant) = name.parse::<TenantId>() else {
                tracing::error!(tenant = name, position = batch.position, "a batch names a tenant that cannot be; its events are left out");
                continue;
            };
            if partition.behind(&tenant).is_some() {
                continue;
            }
            if !self.is_on(&tenant) {
                partition.pass_by(tenant, batch.position);
                continue;
            }
            match self.find(&tenant) {
                Some(index) => taking.push((index, events)),
                None => return Ok(Err(MustLoad(tenant))),
            }
        }
        for (index, events) in taking {
            match index.append(number, batch.position, false, now_us, events.iter().copied()) {
                Ok(done) => done.with_context(|| format!("events of tenant {} do not fit their columns", index.id))?,
                // Those before it are in: appending them again does nothing.
                Err(super::tail::Closed) => return Ok(Err(MustLoad(index.id.clone()))),
            }
        }
        partition.consumed = partition.consumed.max(batch.position);
        partition.watermark_us = partition.watermark_us.max(batch.appended_at_us);
        drop(partition);
        self.progress.notify();
        Ok(Ok(()))
    }

    /// Waits while tails take more memory than they may: the log keeps what is waiting.
    pub(crate) async fn wait_for_room(&self, stopping: &CancellationToken) {
        let limit = self.config.tail_bytes_max / ROOM.1 * ROOM.0;
        while self.tail_bytes.load(std::sync::atomic::Ordering::Relaxed) > limit && !stopping.is_cancelled() {
            self.flush_wanted.notify_one();
            tokio::select! {
                () = self.room.notified() => {}
                // Room may have come between the check and the wait.
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    /// Where to read on after a failure.
    pub(crate) async fn after_failure(
        &self,
        topic: segue_log::Topic,
        position: u64,
        error: LogError,
        stopping: &CancellationToken,
    ) -> anyhow::Result<u64> {
        match error {
            LogError::Trimmed { partition, after, first_available, .. } => {
                tracing::error!(%topic, partition, after, first_available,
                    "batches were removed from the log before analytics had read them; their events are missing from reports");
                Ok(first_available.saturating_sub(1))
            }
            error if error.is_retryable() => {
                tracing::warn!(%topic, %error, "the log cannot be read; trying again");
                pause(stopping).await;
                Ok(position)
            }
            error => Err(error).with_context(|| format!("`{topic}` cannot be read")),
        }
    }

    /// Follows a partition of `identity` until told to stop. Redirects are kept for tenants that are off, too: they are few, and
    /// the log may have dropped them by the time that the tenant is on again.
    pub(crate) async fn follow_identity(
        self: Arc<Self>,
        number: u16,
        mut position: u64,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        hold(&self, IDENTITY, number, position, &stopping).await?;
        while !stopping.is_cancelled() {
            let limits = ReadLimits { wait: IDENTITY_WAIT, ..ReadLimits::default() };
            let read = tokio::select! {
                read = self.log.read(IDENTITY, number, position, limits) => read,
                () = stopping.cancelled() => break,
            };
            let batches = match read {
                Ok(batches) => batches,
                Err(error) => {
                    position = self.after_failure(IDENTITY, position, error, &stopping).await?;
                    continue;
                }
            };
            let Some(last) = batches.last().map(|batch| batch.position) else { continue };
            let redirects = redirects_of(number, &batches)?;
            loop {
                let opening = self.opening.lock().await;
                match self.catalogue.put_redirects(&redirects, IDENTITY.name(), number, last).await {
                    Ok(()) => {
                        self.redirect(&redirects);
                        self.progress.identity_is_at(number, last);
                        break;
                    }
                    // A full disk is made room on.
                    Err(error) if error.is_retryable() || matches!(error, StoreError::DiskFull { .. }) => {
                        drop(opening);
                        tracing::warn!(%error, "merged persons cannot be stored; trying again");
                        pause(&stopping).await;
                        if stopping.is_cancelled() {
                            return Ok(());
                        }
                    }
                    Err(error) => return Err(error).context("merged persons cannot be stored"),
                }
            }
            position = last;
            hold(&self, IDENTITY, number, position, &stopping).await?;
        }
        Ok(())
    }

    fn redirect(&self, redirects: &[NewRedirect]) {
        let mut by_tenant: BTreeMap<&TenantId, Vec<&NewRedirect>> = BTreeMap::new();
        for redirect in redirects {
            by_tenant.entry(&redirect.tenant).or_default().push(redirect);
        }
        for (tenant, redirects) in by_tenant {
            let Some(tenant) = self.find(tenant) else { continue };
            tenant.change(|changes| {
                for NewRedirect { from, into, link, undone, .. } in redirects {
                    if *undone { changes.unmerge(*from, *into, *link) } else { changes.merge(*from, *into, *link) }
                }
            });
        }
    }
}

/// The merges in batches of `identity`, and those that were undone, in their order.
fn redirects_of(number: u16, batches: &[StoredBatch]) -> anyhow::Result<Vec<NewRedirect>> {
    let mut redirects = Vec::new();
    for batch in batches {
        let decoded = IdentityChangeBatch::decode(batch.payload.clone())
            .with_context(|| format!("batch {} of `identity` partition {number} cannot be read: restore the log", batch.position))?;
        let Ok(tenant) = decoded.tenant.parse::<TenantId>() else {
            tracing::error!(
                tenant = decoded.tenant,
                position = batch.position,
                "an identity change names a tenant that cannot be; it is left out"
            );
            continue;
        };
        for change in decoded.changes {
            let (from, into, undone) = match change.change {
                Some(Change::Merged(merged)) => (merged.from, merged.into, false),
                Some(Change::Unmerged(unmerged)) => (unmerged.from, unmerged.into, true),
                // A change that a later version writes.
                None => continue,
            };
            redirects.push(NewRedirect { tenant: tenant.clone(), from, into, link: change.sequence, undone });
        }
    }
    Ok(redirects)
}

/// Registers the position with the log, waiting for the log to be reachable.
async fn hold(shared: &Shared, topic: segue_log::Topic, number: u16, position: u64, stopping: &CancellationToken) -> anyhow::Result<()> {
    loop {
        match shared.log.hold(topic, number, CONSUMER, position).await {
            Err(error) if error.is_retryable() && !stopping.is_cancelled() => {
                tracing::warn!(%topic, %error, "the log cannot be reached; trying again");
                pause(stopping).await;
            }
            done => return done.with_context(|| format!("`{topic}` cannot be held")),
        }
    }
}

pub(crate) async fn pause(stopping: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(RETRY_PAUSE) => {}
        () = stopping.cancelled() => {}
    }
}
