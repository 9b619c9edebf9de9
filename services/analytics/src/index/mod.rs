//! The index: what every tenant's events are kept in, and who works on it.
//!
//! | part | does |
//! |---|---|
//! | `consumer` | follows the log: events into tails, merged persons into redirects |
//! | `bulk` | takes in a history at once, past the log |
//! | `catchup` | reads again, for one tenant, what passed by while its analytics was off |
//! | `flush` | writes tails to files and positions to the store |
//! | `merge` | puts small files together |
//! | `purge` | deletes persons, and removes from files what is no longer shown |
//! | `progress` | knows how far the topics are read; whoever has read them as well waits for it |
//! | `maintain` | decides when each of these runs; opens and unloads tenants |
//!
//! # Positions
//!
//! What is in files is known per tenant and partition (`flushed`): publishing files and moving it is one transaction, so each
//! event is counted once whatever crashes. `log_position` says where to start reading a partition: before the first batch that
//! any tenant has in its tail alone. A batch of a tenant at or before its `flushed` position is passed by on reading again.
//! What a tenant passed by while it was off, and read later, does not hold `log_position` back; the tenant's mark (`skipped`) says
//! where to read it again, and stays until a flush has put it into files. A flush moves `flushed` from where it knows it to be,
//! or not at all, so that neither a lost answer nor a second process counts events twice.
//!
//! Lock order: partition, then tenant.

pub(crate) mod builder;
mod bulk;
mod catchup;
mod consumer;
#[cfg(test)]
mod durability;
pub(crate) mod files;
mod flush;
pub(crate) mod having;
mod items;
mod kept;
mod lake;
mod maintain;
mod merge;
mod merge_plan;
mod progress;
pub(crate) mod property;
mod purge;
pub(crate) mod redirects;
pub(crate) mod run;
mod status;
mod tail;
mod text;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use segue_log::{Log, Topic};
use segue_model::{Clock, Module, TenantId};
use segue_runtime::TenantDirectory;
use segue_store::StoreError;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::scan::{ScanError, Snapshot};
use crate::store::Catalogue;
use files::{ColumnCache, FileHandle};
pub(crate) use lake::Lake;
pub(crate) use maintain::spawn_workers;
pub use progress::NotYet;
use progress::Progress;
pub(crate) use progress::{Position, Wanted};
use tail::{Lane, TenantIndex, TenantState};

/// Events with persons.
pub(crate) const RESOLVED: Topic = Topic::new("resolved");
/// Persons that were merged.
pub(crate) const IDENTITY: Topic = Topic::new("identity");
/// Who we are to the log.
pub(crate) const CONSUMER: &str = "analytics";

/// Bits of a sequence that count events within a batch: more than fit the largest payload of the log.
const EVENT_BITS: u32 = 24;

/// The sequence of an event: unique and ascending within a partition, the same whenever the batch is read again.
pub(crate) fn sequence(position: u64, event: u64) -> u64 {
    (position << EVENT_BITS) | (event & ((1 << EVENT_BITS) - 1))
}

/// The index of all tenants. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
    /// Ends the scans of snapshots that are taken through this handle.
    cancelled: CancellationToken,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) catalogue: Catalogue,
    pub(crate) lake: Lake,
    pub(crate) cache: ColumnCache,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: TenantDirectory,
    pub(crate) log: Log,
    tenants: RwLock<HashMap<TenantId, Arc<TenantIndex>>>,
    /// Held while a tenant is loaded, so that it is loaded once; and while merged persons are stored and told to the tenants in
    /// memory, so that one that loads meanwhile does not miss them.
    opening: tokio::sync::Mutex<()>,
    partitions: BTreeMap<u16, Mutex<Partition>>,
    /// How far `identity` is, and who waits for either topic.
    progress: Progress,
    /// Held while marks of skipped batches are stored or removed.
    marks: tokio::sync::Mutex<()>,
    tail_bytes: Arc<AtomicUsize>,
    days_kept: kept::DaysKept,
    /// Catch-ups under way, with their progress from 0 to 1.
    catching_up: Mutex<HashMap<TenantId, f64>>,
    /// Something may have become due for a flush.
    flush_wanted: Notify,
    /// A flush made room in memory.
    room: Notify,
    deletions: mpsc::UnboundedSender<String>,
}

/// Where this process is in a partition of `resolved`.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// Last batch that every tenant has taken in or passed by.
    pub(crate) consumed: u64,
    /// As stored.
    pub(crate) saved: u64,
    /// Everything appended before this moment was consumed.
    pub(crate) watermark_us: i64,
    /// What each tenant has passed by and does not have in files yet.
    pub(crate) skipped: HashMap<TenantId, Mark>,
}

/// Batches of a partition that a tenant passed by while it was off. It stays until what was caught up with is in files: until
/// then nothing else says that those events are to be read again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Reading again from here misses nothing: everything before is in files, or in a tail and not yet behind `log_position`.
    pub(crate) first: u64,
    /// The store knows of `first`.
    pub(crate) stored: bool,
    pub(crate) reading: Reading,
}

/// Who reads the partition for a tenant that passed something by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nobody, or the catch-up task, which goes on with this batch.
    Behind(u64),
    /// The live worker, since the task got to this batch. What the task read may be in the tail alone.
    Joined(u64),
}

impl Mark {
    /// A tenant passes this batch by.
    pub(crate) fn new(position: u64, stored: bool) -> Self {
        Self { first: position, stored, reading: Reading::Behind(position) }
    }

    /// What the store is to hold when everything of the tenant up to batch `applied` is in files: nothing, or another first batch.
    /// `None`: that says nothing about this mark.
    pub(crate) fn after_flush(&self, applied: u64) -> Option<Option<u64>> {
        match self.reading {
            Reading::Joined(at) if at <= applied => Some(None),
            _ => (self.first <= applied).then_some(Some(applied + 1)),
        }
    }
}

impl Partition {
    /// Where catching up goes on for a tenant that the live worker passes by.
    pub(crate) fn behind(&self, tenant: &TenantId) -> Option<u64> {
        match self.skipped.get(tenant)?.reading {
            Reading::Behind(next) => Some(next),
            Reading::Joined(_) => None,
        }
    }

    /// The tenant is off and passes a batch by.
    pub(crate) fn pass_by(&mut self, tenant: TenantId, position: u64) {
        // A mark whose events are in no file yet keeps its first batch.
        self.skipped.entry(tenant).or_insert_with(|| Mark::new(position, false)).reading = Reading::Behind(position);
    }
}

impl Index {
    /// Opens the index without any work on it; `spawn_workers` starts that. Also gives the names of files to delete.
    pub(crate) async fn open(
        config: Config,
        catalogue: Catalogue,
        lake: Lake,
        clock: Arc<dyn Clock>,
        directory: TenantDirectory,
        log: Log,
    ) -> Result<(Self, mpsc::UnboundedReceiver<String>), StoreError> {
        let numbers: Vec<u16> = if config.partitions.is_empty() { (0..log.partitions()).collect() } else { config.partitions.clone() };
        let positions = catalogue.positions(RESOLVED.name()).await?;
        let mut partitions: BTreeMap<u16, Partition> = numbers
            .into_iter()
            .map(|number| {
                let position = positions.get(&number).copied().unwrap_or(0);
                (number, Partition { consumed: position, saved: position, ..Partition::default() })
            })
            .collect();
        for (tenant, number, position) in catalogue.skipped().await? {
            if let Some(partition) = partitions.get_mut(&number) {
                partition.skipped.insert(tenant, Mark::new(position, true));
            }
        }
        let identity = catalogue.positions(IDENTITY.name()).await?;
        let progress = Progress::new((0..log.partitions()).map(|number| (number, identity.get(&number).copied().unwrap_or(0))));
        let (deletions, deleted) = mpsc::unbounded_channel();
        let shared = Shared {
            cache: ColumnCache::new(config.cache_bytes_max),
            config,
            catalogue,
            lake,
            clock,
            directory,
            log,
            tenants: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            partitions: partitions.into_iter().map(|(number, partition)| (number, Mutex::new(partition))).collect(),
            progress,
            marks: tokio::sync::Mutex::default(),
            tail_bytes: Arc::default(),
            days_kept: kept::DaysKept::default(),
            catching_up: Mutex::default(),
            flush_wanted: Notify::new(),
            room: Notify::new(),
            deletions,
        };
        Ok((Self { shared: Arc::new(shared), cancelled: CancellationToken::new() }, deleted))
    }

    /// The same index; scans of its snapshots end when the token is cancelled.
    pub fn cancelled_by(&self, token: CancellationToken) -> Self {
        Self { shared: self.shared.clone(), cancelled: token }
    }

    /// One consistent view of a tenant's events. [`Index::load`] must have loaded the tenant.
    pub fn snapshot(&self, tenant: &TenantId) -> Result<Arc<Snapshot>, ScanError> {
        self.snapshot_of_age(tenant, Duration::from_millis(self.shared.config.snapshot_age_ms_max))
    }

    /// The same, and all that is indexed is in it.
    pub(crate) fn snapshot_of_now(&self, tenant: &TenantId) -> Result<Arc<Snapshot>, ScanError> {
        self.snapshot_of_age(tenant, Duration::ZERO)
    }

    fn snapshot_of_age(&self, tenant: &TenantId, age_max: Duration) -> Result<Arc<Snapshot>, ScanError> {
        let loaded = self.shared.tenants.read().get(tenant).cloned();
        let Some(loaded) = loaded else { return Err(ScanError::NotLoaded { tenant: tenant.to_string() }) };
        // First the watermark, then the tail: the tail may then hold more, never less.
        let watermark_us = self.shared.watermark_us(tenant);
        let kept_from_us = self.shared.kept_from_us(tenant);
        let view = loaded.view(watermark_us, kept_from_us, age_max)?;
        let pass_bytes_max = usize::try_from(self.shared.config.pass_bytes_max).unwrap_or(usize::MAX);
        Ok(Arc::new(Snapshot::new(view, self.cancelled.clone(), pass_bytes_max)))
    }

    /// Loads a tenant's files and redirects, if that has not happened. Does nothing for a tenant whose analytics is off.
    pub async fn load(&self, tenant: &TenantId) -> Result<(), StoreError> {
        if self.shared.is_on(tenant) { self.shared.load(tenant).await.map(drop) } else { Ok(()) }
    }

    /// Writes a tenant's tail to files now.
    pub async fn flush(&self, tenant: &TenantId) -> anyhow::Result<()> {
        match self.shared.find(tenant) {
            Some(tenant) => self.shared.flush(&tenant).await,
            None => Ok(()),
        }
    }

    /// Bytes of all tails in memory.
    pub fn tail_bytes(&self) -> usize {
        self.shared.tail_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of decoded columns that are kept.
    pub fn cache_bytes(&self) -> u64 {
        self.shared.cache.bytes()
    }

    /// Lets go of all decoded columns: the next question reads its columns from files, as after a restart.
    pub fn forget_columns(&self) {
        self.shared.cache.forget_columns();
    }

    /// Merges what is due in a tenant's files now; the number of merges.
    pub async fn merge(&self, tenant: &TenantId) -> anyhow::Result<usize> {
        let Some(tenant) = self.shared.find(tenant) else { return Ok(0) };
        let mut merges = 0;
        while self.shared.merge_next(&tenant).await? {
            merges += 1;
        }
        Ok(merges)
    }
}

impl Shared {
    pub(crate) fn is_on(&self, tenant: &TenantId) -> bool {
        self.directory.is_on(tenant, Module::Analytics)
    }

    pub(crate) fn find(&self, tenant: &TenantId) -> Option<Arc<TenantIndex>> {
        self.tenants.read().get(tenant).cloned()
    }

    pub(crate) fn loaded(&self) -> Vec<Arc<TenantIndex>> {
        self.tenants.read().values().cloned().collect()
    }

    /// The tenant's index, loaded from the catalogue when it is not in memory.
    pub(crate) async fn load(&self, tenant: &TenantId) -> Result<Arc<TenantIndex>, StoreError> {
        if let Some(found) = self.find(tenant) {
            return Ok(found);
        }
        let _gate = self.opening.lock().await;
        if let Some(found) = self.find(tenant) {
            return Ok(found);
        }
        let stored = self.catalogue.load(tenant).await?;
        let files = stored.files.into_iter().map(|entry| self.handle(tenant, entry)).collect();
        let lane = |position| Lane { applied: position, flushed: position };
        let lanes: BTreeMap<u16, Lane> = stored.flushed.into_iter().map(|(number, position)| (number, lane(position))).collect();
        let state = TenantState::of_stored(lanes, files, stored.changes, property::Properties::load(stored.properties));
        let loaded = Arc::new(TenantIndex::new(tenant.clone(), state, self.tail_bytes.clone()));
        self.tenants.write().insert(tenant.clone(), loaded.clone());
        tracing::debug!(%tenant, "index opened");
        Ok(loaded)
    }

    pub(crate) fn handle(&self, tenant: &TenantId, entry: files::FileEntry) -> Arc<FileHandle> {
        Arc::new(FileHandle::new(tenant.clone(), entry, self.lake.clone(), self.cache.clone(), self.deletions.clone()))
    }

    /// Everything appended to `resolved` before this moment is in the tenant's tail or files.
    fn watermark_us(&self, tenant: &TenantId) -> i64 {
        let of = |partition: &Mutex<Partition>| {
            let partition = partition.lock();
            // What is being caught up with may be of any age.
            if partition.behind(tenant).is_some() { 0 } else { partition.watermark_us }
        };
        self.partitions.values().map(of).min().unwrap_or(0)
    }

    /// Where reading a partition may start again: behind it, every batch is in files or passed by for good.
    pub(crate) fn safe_position(&self, number: u16) -> u64 {
        let Some(partition) = self.partitions.get(&number) else { return 0 };
        // First what was consumed, then what is pending: a batch is in the tails before it counts as consumed.
        let consumed = partition.lock().consumed;
        let pending = self.loaded().iter().filter_map(|tenant| tenant.pending(number)).min();
        pending.map_or(consumed, |first| consumed.min(first.saturating_sub(1)))
    }
}
