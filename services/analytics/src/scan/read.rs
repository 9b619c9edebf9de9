//! [`Scan`]: run by run, the rows that match, and their columns.

use std::collections::HashSet;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use roaring::RoaringBitmap;

use super::pass::Held;
use super::plan::Plan;
use super::select::{Rows, Wanted, choose};
use super::view::Run;
use super::{Column, ScanBatch, ScanError, ScanStats};
use crate::index::having::{Few, Having, Holders};

/// Rows of a snapshot, batch by batch. See the module's documentation for the order.
#[derive(Debug)]
pub struct Scan {
    plan: Arc<Plan>,
    /// Decoded columns that the scans of one pass share.
    held: Option<Arc<Held>>,
    /// From (inclusive), to (exclusive).
    persons: (u64, u64),
    /// These of them alone.
    only: Option<Arc<RoaringBitmap>>,
    exact_times: bool,
    /// Columns of which a row must have at least one.
    having: Option<Having>,
    /// Which run is next.
    at: usize,
    /// The second batch of a run: rows of merged persons.
    waiting: Option<ScanBatch>,
    stats: ScanStats,
    /// Places of files that were read.
    files: HashSet<usize>,
    ended: bool,
}

impl Iterator for Scan {
    type Item = Result<ScanBatch, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if self.plan.cancelled.is_cancelled() {
                self.ended = true;
                return Some(Err(ScanError::Cancelled));
            }
            if let Some(batch) = self.waiting.take() {
                return Some(Ok(batch));
            }
            let plan = self.plan.clone();
            let (at, Some(run)) = (self.at, plan.runs.get(self.at)) else {
                self.ended = true;
                break;
            };
            self.at += 1;
            let read = self.read(at, run);
            if let Some(held) = &self.held {
                held.release(at, run.persons(), self.persons);
            }
            match read {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl FusedIterator for Scan {}

impl Scan {
    pub(super) fn new(plan: Arc<Plan>, held: Option<Arc<Held>>, persons: Option<Range<u32>>, exact_times: bool) -> Self {
        let persons = persons.map_or((0, u64::from(u32::MAX) + 1), |range| (u64::from(range.start), u64::from(range.end)));
        Self {
            plan,
            held,
            persons,
            only: None,
            exact_times,
            having: None,
            at: 0,
            waiting: None,
            stats: ScanStats::default(),
            files: HashSet::new(),
            ended: false,
        }
    }

    /// Only rows that have a value in at least one of these columns, which are not properties. Runs without any cost next to nothing.
    #[must_use]
    pub fn having(self, columns: &[Column]) -> Self {
        Self { having: (!columns.is_empty()).then(|| Having::new(columns)), ..self }
    }

    /// Only rows of these (surviving) persons, who are searched for in each run one by one: for few of many.
    #[must_use]
    pub fn only(self, persons: Arc<RoaringBitmap>) -> Self {
        Self { only: Some(persons), ..self }
    }

    /// For a reader that looks at times itself: batches may then hold rows outside of [`ScanRequest::range_us`](super::ScanRequest),
    /// and are cut out of what is stored without copying wherever that can be.
    pub fn whole_slices(self) -> Self {
        Self { exact_times: false, ..self }
    }

    /// What was read so far.
    pub fn stats(&self) -> ScanStats {
        ScanStats { files: self.files.len() as u32, ..self.stats }
    }

    /// The batch of a run, and the one of its merged persons put aside.
    fn read(&mut self, at: usize, run: &Run) -> Result<Option<ScanBatch>, ScanError> {
        let plan = self.plan.clone();
        let holders = self.having.as_ref().map_or(Ok(Holders::All), |having| run.holders(having))?;
        let (len, few) = match &holders {
            Holders::All | Holders::Many(_) => (run.rows(), None),
            Holders::Few(few) => (few.len(), Some(few)),
            Holders::None => return Ok(None),
        };
        let specials = plan.view.specials(run)?;
        let kept_from_us = plan.view.kept_from_us(run.event());
        let (from_us, to_us) = if self.exact_times { plan.range_us } else { (i64::MIN, i64::MAX) };
        let wanted = Wanted { persons: self.persons, times: (from_us.max(kept_from_us), to_us), only: self.only.as_deref() };
        let load = |column: &Column| Ok(self.load(at, run, few, Plan::key(column).as_slice())?.pop().flatten());
        let Some(mut chosen) = choose(run, len, &plan.view.stored.redirects, specials, wanted, load)? else { return Ok(None) };
        if let Holders::Many(rows) = &holders {
            chosen.retain(rows);
        }
        if chosen.kept.len() == 0 && chosen.moved.is_none() {
            return Ok(None);
        }
        let columns = self.load(at, run, few, &plan.needed)?;
        let batch = |rows: &Rows, persons: Option<&UInt32Array>| -> Result<ScanBatch, ScanError> {
            Ok(ScanBatch { event: run.event().clone(), span_us: run.ts(), batch: plan.batch(&columns, rows, persons)? })
        };
        let mut rows = chosen.kept.len();
        let first = if rows > 0 { Some(batch(&chosen.kept, None)?) } else { None };
        let second = chosen.moved.map(|moved| {
            rows += moved.rows.len();
            batch(&Rows::Picked(moved.rows), Some(&moved.persons))
        });
        let second = second.transpose()?;
        self.stats.rows += rows as u64;
        match run {
            Run::Memory { .. } => self.stats.tail_rows += rows as u64,
            Run::File { place, .. } => {
                self.files.insert(*place);
            }
        }
        match first {
            Some(first) => {
                self.waiting = second;
                Ok(Some(first))
            }
            None => Ok(second),
        }
    }

    /// Stored columns of a run (of these rows of it), by their places in the plan; `None` where nothing is stored.
    fn load(&self, at: usize, run: &Run, few: Option<&Few>, places: &[usize]) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        match (&self.held, run) {
            (Some(held), Run::File { .. }) => held.columns(at, run, few, &self.plan.stored, places),
            _ => run.columns_of(&places.iter().map(|place| self.plan.stored[*place].clone()).collect::<Vec<_>>(), few),
        }
    }
}
