//! [`Pass`]: many scans of the same rows, each over other persons.
//!
//! A row group holds the rows of many persons, so the scans of several chunks need it. Where the cache of decoded columns is too
//! small to keep it from one chunk to the next, each of them would decode it anew. A pass holds decoded columns until the scans
//! have been over all persons that the row group spans. Scans that go up through the persons therefore hold what is in flight
//! only; what would exceed the limit is not held, and decoded again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef};
use parking_lot::Mutex;

use super::plan::Plan;
use super::view::Run;
use super::{Scan, ScanError};
use crate::index::having::Few;
use crate::index::run::Span;

/// Scans of one snapshot that differ only in their persons (so that all or none have the same [`Scan::having`]), and may run at the same time. Each person should be scanned once, and
/// smaller numbers before larger ones.
#[derive(Debug)]
pub struct Pass {
    plan: Arc<Plan>,
    held: Arc<Held>,
    persons: Option<Range<u32>>,
    exact_times: bool,
}

impl Pass {
    pub(super) fn new(plan: Plan, persons: Option<Range<u32>>, bytes_max: usize) -> Self {
        let held = Held { slots: plan.runs.iter().map(|_| Mutex::default()).collect(), bytes: AtomicUsize::new(0), bytes_max };
        Self { plan: Arc::new(plan), held: Arc::new(held), persons, exact_times: true }
    }

    /// See [`Scan::whole_slices`].
    pub fn whole_slices(self) -> Self {
        Self { exact_times: false, ..self }
    }

    /// The rows of these persons, as far as the pass is over them.
    pub fn scan(&self, persons: Range<u32>) -> Scan {
        let persons = match &self.persons {
            Some(all) => persons.start.max(all.start)..persons.end.min(all.end),
            None => persons,
        };
        Scan::new(self.plan.clone(), Some(self.held.clone()), Some(persons), self.exact_times)
    }

    /// Bytes of decoded columns that are held now.
    pub fn bytes(&self) -> usize {
        self.held.bytes.load(Ordering::Relaxed)
    }
}

/// Decoded columns by run.
#[derive(Debug)]
pub(super) struct Held {
    slots: Vec<Mutex<Slot>>,
    bytes: AtomicUsize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// By place in the plan: what was read; inside, `None` is a column that is not stored.
    columns: Vec<Option<Option<ArrayRef>>>,
    bytes: usize,
    /// Persons of the run's span that were scanned.
    scanned: u64,
}

impl Held {
    /// Columns of a run (of these rows of it, in all scans) by their places. Threads that need the same run wait for the one that decodes it.
    pub(super) fn columns(
        &self,
        at: usize,
        run: &Run,
        few: Option<&Few>,
        stored: &[Arc<str>],
        places: &[usize],
    ) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        let Some(slot) = self.slots.get(at) else { return Ok(Vec::new()) };
        let mut slot = slot.lock();
        if slot.columns.is_empty() {
            slot.columns.resize(stored.len(), None);
        }
        let missing: Vec<usize> = places.iter().copied().filter(|place| slot.columns[*place].is_none()).collect();
        if missing.is_empty() {
            return Ok(places.iter().map(|place| slot.columns[*place].clone().flatten()).collect());
        }
        let names: Vec<Arc<str>> = missing.iter().map(|place| stored[*place].clone()).collect();
        let read = run.columns_of(&names, few)?;
        let mut found: Vec<Option<ArrayRef>> = places.iter().map(|place| slot.columns[*place].clone().flatten()).collect();
        for (place, column) in missing.into_iter().zip(read) {
            for (slot, _) in found.iter_mut().zip(places).filter(|(_, asked)| **asked == place) {
                slot.clone_from(&column);
            }
            let bytes = column.as_ref().map_or(0, |column| column.get_array_memory_size());
            if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.bytes_max {
                slot.bytes += bytes;
                slot.columns[place] = Some(column);
            } else {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        Ok(found)
    }

    /// A scan over these persons is done with a run.
    pub(super) fn release(&self, at: usize, (least, most): Span<u32>, (from, to): (u64, u64)) {
        let Some(slot) = self.slots.get(at) else { return };
        let (first, end) = (from.max(u64::from(least)), to.min(u64::from(most) + 1));
        let mut slot = slot.lock();
        slot.scanned += end.saturating_sub(first);
        if slot.scanned > u64::from(most - least) {
            slot.columns.clear();
            self.bytes.fetch_sub(std::mem::take(&mut slot.bytes), Ordering::Relaxed);
        }
    }
}
