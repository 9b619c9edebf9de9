//! Persons cut into bands, which threads take one after the other. A person is in one band only, so that distinct persons of
//! bands add up; what a band needs in memory, it needs until it is done.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::execute::{Choice, Execution};
use super::plan::Plan;
use super::touches::{Touches, Tuples};
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;

/// The part of a band's rows that is worth a thread of its own.
const THREADS_PER_BAND_MAX: u64 = 32;

/// Bytes that the threads of a report take together.
struct Budget {
    bytes_max: usize,
    taken: AtomicUsize,
}

/// One thread's part of them.
struct Part<'b> {
    budget: &'b Budget,
    bytes: usize,
}

impl Part<'_> {
    /// Says how much the thread takes now.
    fn set(&mut self, bytes: usize) -> Result<(), QueryError> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let taken = if bytes >= before {
            self.budget.taken.fetch_add(bytes - before, Ordering::Relaxed) + (bytes - before)
        } else {
            self.budget.taken.fetch_sub(before - bytes, Ordering::Relaxed) - (before - bytes)
        };
        if taken > self.budget.bytes_max {
            let what = "its groups and the values that they keep";
            return Err(QueryError::TooMuchMemory { what, bytes_max: self.budget.bytes_max });
        }
        Ok(())
    }
}

/// Computes the plan over all persons.
pub(super) fn run<'p>(context: &Context<'_>, plan: &'p Plan, choice: Choice<'p>) -> Result<(Execution<'p>, ScanStats), QueryError> {
    let rows = rows(context, plan);
    let band_rows = plan.limits.band_rows.max(1);
    let threads = context.limits.threads.clamp(1, (rows * THREADS_PER_BAND_MAX / band_rows).clamp(1, 1 << 16) as usize);
    let bands = cut(context.snapshot.persons_max(), rows / band_rows, threads);
    let budget = Budget { bytes_max: plan.limits.bytes_max, taken: AtomicUsize::new(0) };
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<QueryError>> = Mutex::new(None);
    let work = |number: usize| {
        let mut worker = Worker::new(context, plan, choice, number, &budget, threads);
        while failed.lock().is_none() {
            let Some(band) = bands.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = worker.band(band.clone()) {
                failed.lock().get_or_insert(error);
            }
        }
        (worker.execution, worker.stats)
    };
    let work = &work;
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|number| scope.spawn(move || work(number))).collect();
        let own = work(0);
        let others = others.into_iter().map(|other| other.join().map_err(|_| QueryError::BrokeOff));
        std::iter::once(Ok(own)).chain(others).collect::<Result<Vec<_>, _>>()
    })?;
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let (mut all, mut stats) = results.swap_remove(0);
    for (execution, of_thread) in results {
        all.merge(execution)?;
        stats.rows += of_thread.rows;
        stats.tail_rows += of_thread.tail_rows;
        stats.files = stats.files.max(of_thread.files);
    }
    all.finish();
    Ok((all, stats))
}

/// At most so many rows are looked at.
fn rows(context: &Context<'_>, plan: &Plan) -> u64 {
    let events = plan.events();
    let of_range = |start: i64, end: i64| context.snapshot.rows_max(events.as_deref(), (start, end));
    let of_touches = |start: i64, end: i64| match &plan.attributed {
        // Of most events only a few columns are looked at.
        Some(attributed) => context.snapshot.rows_max(None, (start.saturating_sub(attributed.rule.look_back_us), end)) / 4,
        None => 0,
    };
    let ranges = plan.ranges().map(|periods| periods.range());
    ranges.map(|range| of_range(range.start, range.end) + of_touches(range.start, range.end)).sum()
}

/// At least so many bands of persons up to `most`, and at least as many as there are threads.
fn cut(most: u32, bands: u64, threads: usize) -> Vec<Range<u32>> {
    let persons = u64::from(most) + 1;
    let bands = (bands + 1).next_multiple_of(threads as u64).min(persons);
    let bound = |band: u64| u32::try_from(persons * band / bands).unwrap_or(u32::MAX);
    // The largest number that exists, u32::MAX, is given to nobody.
    (0..bands).map(|band| bound(band)..bound(band + 1)).collect()
}

struct Worker<'w, 'p> {
    context: &'w Context<'w>,
    plan: &'p Plan,
    execution: Execution<'p>,
    tuples: Option<Tuples>,
    /// Touches that may be in memory.
    touches_max: usize,
    part: Part<'w>,
    stats: ScanStats,
}

impl<'w, 'p> Worker<'w, 'p> {
    fn new(context: &'w Context<'w>, plan: &'p Plan, choice: Choice<'p>, number: usize, budget: &'w Budget, threads: usize) -> Self {
        Worker {
            context,
            plan,
            execution: Execution::new(plan, choice, number),
            tuples: plan.attributed.as_ref().map(Tuples::new),
            touches_max: (budget.bytes_max / threads / 4 / Touches::BYTES_EACH).max(1),
            part: Part { budget, bytes: 0 },
            stats: ScanStats::default(),
        }
    }

    fn band(&mut self, persons: Range<u32>) -> Result<(), QueryError> {
        if self.plan.among.as_ref().is_some_and(|(_, among)| among.range_cardinality(persons.clone()) == 0) {
            return Ok(());
        }
        for pass in 0..self.execution.passes.len() {
            self.pass(pass, persons.clone())?;
        }
        self.part.set(self.bytes())
    }

    fn pass(&mut self, pass: usize, persons: Range<u32>) -> Result<(), QueryError> {
        let range = self.execution.passes[pass].periods.range();
        let touches = match (&self.plan.attributed, &mut self.tuples) {
            (Some(attributed), Some(tuples)) => {
                let stats = &mut self.stats;
                match Touches::gather(self.context, attributed, range, persons.clone(), tuples, self.touches_max, stats)? {
                    Some(touches) => Some(touches),
                    None if persons.len() > 1 => {
                        let middle = persons.start + (persons.end - persons.start) / 2;
                        self.pass(pass, persons.start..middle)?;
                        return self.pass(pass, middle..persons.end);
                    }
                    None => {
                        let bytes_max = self.plan.limits.bytes_max;
                        return Err(QueryError::TooMuchMemory { what: "the touches of one person", bytes_max });
                    }
                }
            }
            _ => None,
        };
        let mut scan = self.context.snapshot.scan(self.plan.scan(range, persons.clone()));
        let mut batches = Vec::new();
        for batch in scan.by_ref() {
            self.context.check()?;
            batches.push(batch?);
        }
        self.execution.begin(pass, persons, &batches);
        for batch in batches {
            self.context.check()?;
            let credited = match (&touches, &self.plan.attributed, &self.tuples) {
                (Some(touches), Some(attributed), Some(tuples)) => Some(touches.credit(self.context, attributed, tuples, &batch)?),
                _ => None,
            };
            self.execution.push(pass, &batch, credited)?;
            self.part.set(self.bytes() + touches.as_ref().map_or(0, Touches::bytes))?;
        }
        self.execution.settle(pass);
        let of_scan = scan.stats();
        self.stats.rows += of_scan.rows;
        self.stats.tail_rows += of_scan.tail_rows;
        self.stats.files = self.stats.files.max(of_scan.files);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.execution.bytes() + self.tuples.as_ref().map_or(0, Tuples::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_every_person_once() {
        for (most, bands, threads) in [(0, 0, 1), (5, 10, 2), (1_000_000, 50, 2), (u32::MAX - 1, 1_000, 7), (100, 1_000, 64)] {
            let bands = cut(most, bands, threads);
            assert_eq!(bands.first().map(|band| band.start), Some(0));
            assert_eq!(bands.last().map(|band| band.end), Some(most + 1));
            assert!(bands.windows(2).all(|pair| pair[0].end == pair[1].start && !pair[0].is_empty()), "{most} {threads}");
        }
    }
}
