//! One tenant's index in memory: the tail of fresh events, the files, and where each partition stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use parking_lot::Mutex;
use segue_model::TenantId;
use segue_proto::events::v1::ResolvedEvent;

use super::builder::Builder;
use super::files::{FileEntry, FileHandle};
use super::property::Properties;
use super::redirects::{PersonChanges, Redirects};
use super::run::{Piece, Rewrite, merge_pieces};
use crate::scan::{ScanError, StoredProperty, StoredView, View};
use crate::store::Advance;

/// The builder is frozen into a piece at so many events, which bounds what a snapshot has to sort,
const FREEZE_ROWS: usize = 8_192;
/// or at so many bytes, since a column holds 2 GiB of text at most.
const FREEZE_BYTES: usize = 64 << 20;
/// Pieces of one size class (a factor of 8) are merged when there are so many.
const CLASS_PIECES_MAX: usize = 4;

/// How far a tenant is in a partition.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lane {
    /// Last batch of the log whose events are in the tail or in files.
    pub(crate) applied: u64,
    /// Last batch whose events are in files.
    pub(crate) flushed: u64,
}

#[derive(Default)]
pub(crate) struct TenantState {
    builder: Builder,
    pieces: Vec<Arc<Piece>>,
    /// Pieces on their way into files.
    flushing: Vec<Arc<Piece>>,
    /// Per partition, the first batch of live events that are in no file.
    pending: BTreeMap<u16, u64>,
    flushing_pending: BTreeMap<u16, u64>,
    pub(crate) lanes: BTreeMap<u16, Lane>,
    pub(crate) files: Arc<Vec<Arc<FileHandle>>>,
    pub(crate) changes: PersonChanges,
    redirects: Option<Arc<Redirects>>,
    /// Kept for as long as it is true.
    stored: Option<Arc<StoredView>>,
    pub(crate) properties: Properties,
    /// When the oldest event in the tail came, by our clock.
    oldest_us: Option<i64>,
    /// Counts changes that a snapshot would show.
    version: u64,
    view: Option<(Arc<View>, u64, Instant)>,
    /// Unloaded: whoever still holds this must open the tenant again.
    pub(crate) closed: bool,
    /// A batch is in the tail in part, or rows were lost from it. Nothing is shown or written any more, so that opening the tenant
    /// anew reads everything again that is in no file.
    broken: bool,
    /// Part of `tail_bytes` that is this tenant's.
    bytes: usize,
}

/// One tenant's index.
pub(crate) struct TenantIndex {
    pub(crate) id: TenantId,
    state: Mutex<TenantState>,
    /// Held while a flush is under way; a flush whose end is not known is left in it.
    pub(crate) flush: tokio::sync::Mutex<Option<Attempt>>,
    /// Held while files are merged.
    pub(crate) merging: tokio::sync::Mutex<()>,
    /// Bytes of all tails of the process.
    tail_bytes: Arc<AtomicUsize>,
}

impl std::fmt::Debug for TenantIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantIndex").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The tenant was unloaded while its events came.
#[derive(Debug)]
pub(crate) struct Closed;

/// What a flush writes.
pub(crate) struct Capture {
    pub(crate) pieces: Vec<Arc<Piece>>,
    pub(crate) lanes: BTreeMap<u16, Lane>,
    pub(crate) properties: Vec<StoredProperty>,
    pub(crate) rewrite: Rewrite,
}

impl Capture {
    /// Which batches come to be in files with it.
    pub(crate) fn advances(&self) -> Vec<Advance> {
        let moved = self.lanes.iter().filter(|(_, lane)| lane.applied > lane.flushed);
        moved.map(|(number, lane)| Advance { partition: *number, before: lane.flushed, after: lane.applied }).collect()
    }
}

/// A flush that was begun.
pub(crate) struct Attempt {
    pub(crate) capture: Capture,
    /// What it tries to publish; `None` until it does.
    pub(crate) files: Option<Vec<FileEntry>>,
}

/// How large the tail is and how old.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TailSize {
    pub(crate) rows: usize,
    /// Those that are events.
    pub(crate) event_rows: usize,
    pub(crate) bytes: usize,
    pub(crate) oldest_us: Option<i64>,
}

impl TenantState {
    /// As the store knows the tenant; the tail is empty.
    pub(crate) fn of_stored(
        lanes: BTreeMap<u16, Lane>,
        files: Vec<Arc<FileHandle>>,
        changes: PersonChanges,
        properties: Properties,
    ) -> Self {
        Self { lanes, files: Arc::new(files), changes, properties, ..Self::default() }
    }

    fn redirects(&mut self) -> Arc<Redirects> {
        let changes = &self.changes;
        self.redirects.get_or_insert_with(|| Arc::new(Redirects::resolve(changes))).clone()
    }

    fn stored(&mut self, kept_from_us: i64) -> Arc<StoredView> {
        let redirects = self.redirects();
        let is_true = |known: &Arc<StoredView>| {
            Arc::ptr_eq(&known.files, &self.files) && Arc::ptr_eq(&known.redirects, &redirects) && known.kept_from_us == kept_from_us
        };
        let known = self.stored.take().filter(is_true);
        let stored = known.unwrap_or_else(|| Arc::new(StoredView::new(self.files.clone(), redirects, kept_from_us)));
        self.stored.insert(stored).clone()
    }

    fn freeze(&mut self) -> Result<(), ArrowError> {
        self.check()?;
        if self.builder.rows() == 0 {
            return Ok(());
        }
        let runs = std::mem::take(&mut self.builder).finish().inspect_err(|_| self.broken = true)?;
        self.pieces.push(Arc::new(Piece::new(runs)));
        Ok(())
    }

    fn check(&self) -> Result<(), ArrowError> {
        if self.broken {
            return Err(ArrowError::ComputeError("a batch did not fit the columns of the tail: restart to read it again".to_owned()));
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.builder.rows() + self.pieces.iter().chain(&self.flushing).map(|piece| piece.rows).sum::<usize>()
    }

    fn event_rows(&self) -> usize {
        self.builder.event_rows() + self.pieces.iter().chain(&self.flushing).map(|piece| piece.event_rows).sum::<usize>()
    }

    /// No events in memory.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    fn measure(&self) -> usize {
        self.builder.bytes() + self.pieces.iter().chain(&self.flushing).map(|piece| piece.bytes).sum::<usize>()
    }
}

impl TenantIndex {
    pub(crate) fn new(id: TenantId, state: TenantState, tail_bytes: Arc<AtomicUsize>) -> Self {
        Self { id, state: Mutex::new(state), flush: tokio::sync::Mutex::default(), merging: tokio::sync::Mutex::default(), tail_bytes }
    }

    /// Changes or reads the state under its lock, and keeps the count of bytes current.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut TenantState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let bytes = state.measure();
        let before = std::mem::replace(&mut state.bytes, bytes);
        if bytes >= before {
            self.tail_bytes.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.tail_bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        result
    }

    /// Takes in the tenant's events of one batch of the log. `at` is the place of each event in the batch. Does nothing when they
    /// are in already.
    pub(crate) fn append<'a>(
        &self,
        partition: u16,
        position: u64,
        catching_up: bool,
        now_us: i64,
        events: impl Iterator<Item = (u64, &'a ResolvedEvent)>,
    ) -> Result<Result<(), ArrowError>, Closed> {
        self.with(|state| {
            if state.closed {
                return Err(Closed);
            }
            if position <= state.lanes.entry(partition).or_default().applied {
                return Ok(Ok(()));
            }
            let done = state.check().and_then(|()| append_rows(state, partition, position, catching_up, now_us, events));
            match &done {
                Ok(()) => state.lanes.entry(partition).or_default().applied = position,
                Err(_) => state.broken = true,
            }
            Ok(done)
        })
    }

    /// What a snapshot shows. A view that is younger than `age_max` is used again, and one to which nothing has come since.
    pub(crate) fn view(&self, watermark_us: i64, kept_from_us: i64, age_max: Duration) -> Result<Arc<View>, ScanError> {
        self.with(|state| {
            if let Some((view, version, at)) = &state.view
                && (at.elapsed() < age_max || *version == state.version && view.watermark_us == watermark_us)
                && view.stored.kept_from_us == kept_from_us
            {
                return Ok(view.clone());
            }
            state.freeze()?;
            let pieces = state.flushing.iter().chain(&state.pieces).cloned().collect();
            let view = Arc::new(View::new(self.id.clone(), watermark_us, state.stored(kept_from_us), pieces, state.properties.list()));
            // Kept only where it may serve again: it holds on to files.
            state.view = if age_max.is_zero() { state.view.take() } else { Some((view.clone(), state.version, Instant::now())) };
            Ok(view)
        })
    }

    /// Lets go of a view that is too old to be used again, so that replaced files can be deleted.
    pub(crate) fn forget_view(&self, age_max: Duration) {
        self.with(|state| state.view.take_if(|(_, _, at)| at.elapsed() >= age_max));
    }

    /// Changes whose rows are whose. What was shown before is not shown again.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut PersonChanges) -> T) -> T {
        self.with(|state| {
            let changed = change(&mut state.changes);
            state.redirects = None;
            state.version += 1;
            state.view = None;
            changed
        })
    }

    /// Whether [`TenantIndex::compact`] has something to do.
    pub(crate) fn is_scattered(&self) -> bool {
        self.with(|state| choose(&state.pieces).is_some())
    }

    /// Merges small pieces, so that a snapshot has few runs. Heavy: call it on a blocking thread. True: there may be more to do.
    pub(crate) fn compact(&self) -> Result<bool, ArrowError> {
        let Some(chosen) = self.with(|state| choose(&state.pieces)) else { return Ok(false) };
        let merged = Arc::new(merge_pieces(&chosen, None)?);
        Ok(self.with(|state| {
            let is_chosen = |piece: &Arc<Piece>| chosen.iter().any(|one| Arc::ptr_eq(one, piece));
            // A flush may have taken them meanwhile.
            if state.pieces.iter().filter(|piece| is_chosen(piece)).count() != chosen.len() {
                return false;
            }
            state.pieces.retain(|piece| !is_chosen(piece));
            state.pieces.push(merged);
            state.version += 1;
            true
        }))
    }

    pub(crate) fn tail_size(&self) -> TailSize {
        self.with(|state| TailSize {
            rows: state.rows(),
            event_rows: state.event_rows(),
            bytes: state.measure(),
            oldest_us: state.oldest_us,
        })
    }

    /// First batch of a partition with live events that are in no file.
    pub(crate) fn pending(&self, partition: u16) -> Option<u64> {
        self.with(|state| state.pending.get(&partition).into_iter().chain(state.flushing_pending.get(&partition)).min().copied())
    }

    /// Takes the tail for writing; it stays visible. Hold [`TenantIndex::flush`], and end with `flushed` or `not_flushed`.
    pub(crate) fn capture(&self, kept_from_us: i64) -> Result<Capture, ArrowError> {
        self.with(|state| {
            state.freeze()?;
            let mut pieces = std::mem::take(&mut state.pieces);
            state.flushing.append(&mut pieces);
            for (partition, first) in std::mem::take(&mut state.pending) {
                state.flushing_pending.entry(partition).and_modify(|known| *known = first.min(*known)).or_insert(first);
            }
            state.oldest_us = None;
            Ok(Capture {
                pieces: state.flushing.clone(),
                lanes: state.lanes.clone(),
                properties: state.properties.take_unsaved(),
                rewrite: Rewrite { redirects: state.redirects(), kept_from_us },
            })
        })
    }

    /// The captured tail is in files, which the catalogue names.
    pub(crate) fn flushed(&self, capture: &Capture, files: Vec<Arc<FileHandle>>) {
        self.with(|state| {
            state.flushing.clear();
            state.flushing_pending.clear();
            for (partition, captured) in &capture.lanes {
                if let Some(lane) = state.lanes.get_mut(partition) {
                    lane.flushed = captured.applied;
                }
            }
            state.files = Arc::new(state.files.iter().cloned().chain(files).collect());
            state.version += 1;
            (state.view, state.stored) = (None, None);
        });
    }

    /// Writing failed: the tail is as it was.
    pub(crate) fn not_flushed(&self, capture: Capture, now_us: i64) {
        self.with(|state| {
            let mut pieces = std::mem::take(&mut state.flushing);
            pieces.append(&mut state.pieces);
            state.pieces = pieces;
            for (partition, first) in std::mem::take(&mut state.flushing_pending) {
                state.pending.entry(partition).and_modify(|known| *known = first.min(*known)).or_insert(first);
            }
            state.oldest_us.get_or_insert(now_us);
            state.properties.unsave(capture.properties);
        });
    }

    /// What a merge starts from.
    pub(crate) fn files_and_rewrite(&self, kept_from_us: i64) -> (Arc<Vec<Arc<FileHandle>>>, Rewrite) {
        self.with(|state| (state.files.clone(), Rewrite { redirects: state.redirects(), kept_from_us }))
    }

    /// Puts merged files in the place of others.
    pub(crate) fn replace_files(&self, replaced: &[Arc<FileHandle>], new: Vec<Arc<FileHandle>>) {
        self.with(|state| {
            let keep = |file: &&Arc<FileHandle>| !replaced.iter().any(|old| Arc::ptr_eq(old, file));
            state.files = Arc::new(state.files.iter().filter(keep).cloned().chain(new).collect());
            state.version += 1;
            (state.view, state.stored) = (None, None);
        });
        for file in replaced {
            file.replace();
        }
    }
}

fn append_rows<'a>(
    state: &mut TenantState,
    partition: u16,
    position: u64,
    catching_up: bool,
    now_us: i64,
    events: impl Iterator<Item = (u64, &'a ResolvedEvent)>,
) -> Result<(), ArrowError> {
    let mut appended = false;
    for (at, event) in events {
        appended |= state.builder.append(event, super::sequence(position, at), &mut state.properties)?;
    }
    if appended {
        state.version += 1;
        state.oldest_us.get_or_insert(now_us);
        if !catching_up {
            state.pending.entry(partition).or_insert(position);
        }
        if state.builder.rows() >= FREEZE_ROWS || state.builder.bytes() >= FREEZE_BYTES {
            state.freeze()?;
        }
    }
    Ok(())
}

/// The pieces to merge next: those of the smallest size class that has too many.
fn choose(pieces: &[Arc<Piece>]) -> Option<Vec<Arc<Piece>>> {
    let mut classes: BTreeMap<u32, Vec<&Arc<Piece>>> = BTreeMap::new();
    for piece in pieces {
        classes.entry((piece.rows as u64).max(1).ilog2() / 3).or_default().push(piece);
    }
    let chosen = classes.into_values().find(|pieces| pieces.len() >= CLASS_PIECES_MAX)?;
    Some(chosen.into_iter().cloned().collect())
}
