//! The most frequent reports in one loop: rows by at most one text and by periods, their number, their persons, and the sum of one
//! decimal. It does what `execute` and `gather` do with a batch, without writing down groups and cells first, which is most of
//! the time where so little is computed.

use arrow::array::Array;

use super::execute::Pass;
use super::grouping::Grouper;
use super::metric::{Measure, MetricPlan};
use super::plan::Plan;
use super::tally::{Exclusive, Plain, Slot};
use crate::filter::cells::{BatchCells, Cells, TextCells};
use crate::filter::fields::Place;

/// What the loop reads and adds to.
#[derive(Default)]
struct Sinks<'s> {
    count: Option<&'s mut [u64]>,
    sum: Option<(&'s mut [i128], &'s [i128])>,
    persons: Option<(Exclusive<'s>, &'s [u32])>,
}

/// The group of each row: its text's, or the only one.
pub(super) struct ByText<'b> {
    codes: &'b [u32],
    /// Groups of the dictionary's codes.
    groups: &'b [u32],
}

/// The text column that the rows are grouped by, if the loop knows how; then all its values have groups.
pub(super) fn texts<'b>(plan: &Plan, batch: &'b BatchCells<'_>, grouper: &mut Grouper, periods: usize) -> Option<Option<&'b TextCells>> {
    if plan.item_level || plan.is_shared() {
        return None;
    }
    match plan.group_by.as_slice() {
        [] => Some(None),
        [field] => match field.place {
            Place::Column(at) => match &batch.columns[at] {
                // All values of the dictionary get groups, though not all may occur.
                Cells::Text(texts) if texts.values.len() <= batch.len => {
                    let cells = (grouper.len() + texts.values.len()).saturating_mul(periods);
                    (cells <= plan.limits.cells_max && grouper.translate_all(texts)).then_some(Some(texts))
                }
                _ => None,
            },
            Place::EventName | Place::Item(_) | Place::Absent => None,
        },
        _ => None,
    }
}

/// Adds all rows of a batch for these metrics. False, with nothing done, where it takes more than this loop; a sum that left 128 bits
/// is `Err`.
pub(super) fn add(
    plan: &Plan,
    metrics: &[usize],
    pass: &mut Pass,
    batch: &BatchCells<'_>,
    span_us: (i64, i64),
    by_text: Option<ByText<'_>>,
    sums: &mut Sums,
) -> Result<bool, Overflow> {
    let Pass { periods, tallies, seen, .. } = pass;
    if seen.len().saturating_mul(periods.len()) > batch.len {
        // Too many cells for so few rows.
        return Ok(false);
    }
    let range = periods.range();
    let period_at = |time: i64| periods.index_of(time.clamp(range.start, range.end - 1)) as usize;
    let touched = period_at(span_us.0)..=period_at(span_us.1);
    let times = match plan.time.map(|column| &batch.columns[column]) {
        Some(Cells::Int(times)) if periods.len() > 1 => Some(&times.values()[..batch.len]),
        Some(_) if periods.len() > 1 => return Ok(false),
        Some(_) | None => None,
    };
    let mut sinks = Sinks::default();
    for (at, tally) in tallies.iter_mut().enumerate() {
        if metrics.contains(&at) {
            let Some(metric) = plan.metrics.get(at) else { return Ok(false) };
            let Some(()) = tally.plain(touched.clone()).and_then(|plain| sinks.take(metric, plain, batch)) else { return Ok(false) };
        }
    }
    let (len, size) = (batch.len, (seen.len(), periods.len()));
    let period_of = |times: &[i64], row: usize| periods.index_of(times[row]);
    match (times, &by_text) {
        (Some(times), Some(ByText { codes, groups })) => {
            let codes = &codes[..len];
            sums.add(len, |row| groups[codes[row] as usize], |row| period_of(times, row), size, &mut sinks);
        }
        (Some(times), None) => sums.add(len, |_| 0, |row| period_of(times, row), size, &mut sinks),
        (None, Some(ByText { codes, groups })) => sums.add(len, |row| groups[codes[row] as usize], |_| 0, size, &mut sinks),
        (None, None) => sums.add(len, |_| 0, |_| 0, size, &mut sinks),
    }
    sums.put(periods.len(), seen, sinks);
    if sums.has_overflown { Err(Overflow) } else { Ok(true) }
}

/// A sum left 128 bits.
pub(super) struct Overflow;

impl<'b> ByText<'b> {
    /// Of a column whose texts all have groups.
    pub(super) fn new(texts: &'b TextCells, grouper: &'b Grouper) -> ByText<'b> {
        ByText { codes: &texts.codes, groups: grouper.translated() }
    }
}

impl<'s> Sinks<'s> {
    /// Takes a metric on; none where there is one of its kind already, or where it is not that simple.
    fn take(&mut self, metric: &MetricPlan, plain: Plain<'s>, batch: &'s BatchCells<'_>) -> Option<()> {
        if metric.members.is_some() {
            return None;
        }
        match (plain, metric.measure) {
            (Plain::Count(count), Measure::Total) if self.count.is_none() => self.count = Some(count),
            (Plain::Persons(persons), Measure::Numbers(column)) if self.persons.is_none() => match &batch.columns[column] {
                // Persons ascend, and number 0 is nobody.
                Cells::Number(numbers) if numbers.values().first().is_some_and(|first| *first > 0) => {
                    self.persons = Some((persons, numbers.values()));
                }
                _ => return None,
            },
            (Plain::Sum(sum), Measure::EventRevenue { value, .. }) if self.sum.is_none() => match &batch.columns[value] {
                Cells::Decimal(values) if values.null_count() == 0 => self.sum = Some((sum, values.values())),
                _ => return None,
            },
            _ => return None,
        }
        Some(())
    }
}

/// What the rows of one batch come to in one cell: beside each other, so that a row touches one line of the cache.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    sum: i128,
    rows: u32,
    persons: Slot,
}

/// Sums of the batch in hand by cell, and its persons by period; kept for their memory.
#[derive(Debug, Default)]
pub(super) struct Sums {
    cells: Vec<Cell>,
    by_period: Vec<Slot>,
    has_overflown: bool,
}

impl Sums {
    /// Adds up a batch. Persons ascend.
    #[inline(always)]
    fn add(
        &mut self,
        len: usize,
        group_of: impl Fn(usize) -> u32,
        period_of: impl Fn(usize) -> u32,
        (groups, periods): (usize, usize),
        sinks: &mut Sinks<'_>,
    ) {
        self.cells.clear();
        self.cells.resize(groups * periods, Cell::default());
        self.by_period.clear();
        self.by_period.resize(periods, Slot::default());
        self.has_overflown = false;
        let values = sinks.sum.as_ref().map(|(_, values)| &values[..len]);
        let mut persons = sinks.persons.as_mut().map(|(exclusive, numbers)| (exclusive, &numbers[..len]));
        for row in 0..len {
            let (group, period) = (group_of(row), period_of(row));
            let cell = &mut self.cells[group as usize * periods + period as usize];
            cell.rows += 1;
            if let Some(values) = values {
                let (sum, over) = cell.sum.overflowing_add(values[row]);
                cell.sum = sum;
                self.has_overflown |= over;
            }
            if let Some((exclusive, numbers)) = &mut persons {
                let number = numbers[row];
                cell.persons.add(number);
                self.by_period[period as usize].add(number);
                exclusive.mark(group, number);
            }
        }
    }

    /// Puts the batch's sums to those of the report.
    fn put(&mut self, periods: usize, seen: &mut [bool], sinks: Sinks<'_>) {
        let Sinks { mut count, mut sum, mut persons } = sinks;
        for (at, cell) in self.cells.iter().enumerate().filter(|(_, cell)| cell.rows > 0) {
            seen[at / periods] = true;
            if let Some(count) = &mut count {
                count[at] += u64::from(cell.rows);
            }
            if let Some((sums, _)) = &mut sum {
                let (total, over) = sums[at].overflowing_add(cell.sum);
                sums[at] = total;
                self.has_overflown |= over;
            }
            if let Some((exclusive, _)) = &mut persons {
                exclusive.cells[at].follow(cell.persons);
            }
        }
        if let Some((exclusive, _)) = &mut persons {
            for (all, of_batch) in exclusive.by_period.iter_mut().zip(&self.by_period) {
                all.follow(*of_batch);
            }
        }
    }
}
