//! Adding rows to tallies: one loop per kind of measure, over rows that are already filtered and placed in cells.

use arrow::array::Array;

use super::metric::Measure;
use super::tally::{Additions, Finish, Tally};
use crate::filter::cells::{BatchCells, Cells, Items};

/// Rows (or items) that take part, with the cell that each counts in.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Row of the batch.
    pub(super) rows: Vec<u32>,
    /// Item of the batch; empty unless the row is the item.
    pub(super) items: Vec<u32>,
    pub(super) cells: Vec<u32>,
}

impl Rows {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.items.clear();
        self.cells.clear();
    }
}

/// What metrics left out of a batch. Several metrics may leave out the same event; it is counted once.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Per row: it has no unit.
    pub(super) units: Vec<bool>,
    /// Per row: REVENUE took it, so that the items it skipped are skipped.
    events: Vec<bool>,
    skipped_column: Option<usize>,
    /// Per item: it has no price or no quantity.
    items: Vec<bool>,
}

fn mark(marks: &mut Vec<bool>, len: usize, at: u32) {
    if marks.is_empty() {
        marks.resize(len, false);
    }
    marks[at as usize] = true;
}

impl LeftOut {
    /// How many items REVENUE skipped.
    pub(super) fn skipped(&self, batch: &BatchCells<'_>) -> u64 {
        let mut skipped = self.items.iter().filter(|out| **out).count() as u64;
        if let Some(Cells::Small(counts)) = self.skipped_column.map(|column| &batch.columns[column]) {
            skipped +=
                self.events.iter().zip(counts.values()).filter(|(taken, _)| **taken).map(|(_, count)| u64::from(*count)).sum::<u64>();
        }
        skipped
    }
}

/// Adds the values at `at` to the cells beside them.
pub(super) fn add_field(tally: &mut Tally, finish: Finish, values: &Cells, at: &[u32], cells: &[u32], additions: &mut Additions) {
    match finish {
        Finish::Count => {
            if let Tally::Count(counts) = tally {
                let len = at.iter().max().map_or(0, |last| *last as usize + 1);
                let present = values.present(len);
                for (row, cell) in at.iter().zip(cells) {
                    counts[*cell as usize] += u64::from(present.value(*row as usize));
                }
            }
        }
        Finish::DistinctNumbers => {
            if let Cells::Text(text) = values {
                tally.add_texts(cells, at, text, additions);
            }
        }
        Finish::DistinctKeys => values.each_key(at, |k, key| tally.add_key(cells[k], key, additions)),
        Finish::Sum(_) | Finish::Average(_) | Finish::Min(_) | Finish::Max(_) | Finish::Percentile(_) => {
            let max = matches!(finish, Finish::Max(_));
            match (&tally, values) {
                (Tally::Exact(_) | Tally::ExactExtreme(_), _) => {
                    values.each_exact(at, |k, value| tally.add_exact(cells[k], value, max, additions));
                }
                (_, _) => values.each_double(at, |k, value| tally.add_double(cells[k], value, max, additions)),
            }
        }
    }
}

/// Adds rows to a tally that is not of a field.
pub(super) fn add_measure(
    tally: &mut Tally,
    measure: Measure,
    batch: &BatchCells<'_>,
    rows: &Rows,
    left_out: &mut LeftOut,
    additions: &mut Additions,
) {
    match measure {
        Measure::Total => tally.add_rows(&rows.cells),
        Measure::Persons(column) | Measure::Devices(column) => {
            if let Cells::Number(numbers) = &batch.columns[column] {
                let numbers = numbers.values();
                for (row, cell) in rows.rows.iter().zip(&rows.cells) {
                    match numbers[*row as usize] {
                        0 => mark(&mut left_out.units, batch.len, *row),
                        number => tally.add_number(*cell, number),
                    }
                }
            }
        }
        Measure::Accounts(column) => {
            if let Cells::Text(text) = &batch.columns[column] {
                tally.add_texts(&rows.cells, &rows.rows, text, additions);
                for row in rows.rows.iter().filter(|row| text.codes[**row as usize] == text.missing()) {
                    mark(&mut left_out.units, batch.len, *row);
                }
            }
        }
        Measure::Sessions { person, session } => add_sessions(tally, (person, session), batch, rows, left_out, additions),
        Measure::EventRevenue { value, skipped } => {
            batch.columns[value].each_exact(&rows.rows, |k, value| tally.add_exact(rows.cells[k], value, false, additions));
            left_out.skipped_column = Some(skipped);
            for row in &rows.rows {
                mark(&mut left_out.events, batch.len, *row);
            }
        }
        Measure::ItemRevenue { price, quantity } => {
            if let Some(items) = &batch.items {
                add_item_revenue(tally, (price, quantity), items, rows, left_out, additions);
            }
        }
        // Handled by `add_field`.
        Measure::Field { .. } => {}
    }
}

/// A session is a pair of person and session id, kept as a 128-bit hash: among 2^32 sessions, two would have to share a hash
/// with a probability below 2^-64.
fn add_sessions(
    tally: &mut Tally,
    (person, session): (usize, usize),
    batch: &BatchCells<'_>,
    rows: &Rows,
    left_out: &mut LeftOut,
    additions: &mut Additions,
) {
    let (Cells::Number(persons), Cells::Text(text)) = (&batch.columns[person], &batch.columns[session]) else { return };
    let mut last = None;
    for (row, cell) in rows.rows.iter().zip(&rows.cells) {
        let (person, code) = (persons.values()[*row as usize], text.codes[*row as usize]);
        if code == text.missing() || text.values.is_null(code as usize) {
            mark(&mut left_out.units, batch.len, *row);
        } else if last != Some((person, code, *cell)) {
            last = Some((person, code, *cell));
            let key = xxhash_rust::xxh3::xxh3_128_with_seed(text.values.value(code as usize).as_bytes(), u64::from(person));
            tally.add_key(*cell, key, additions);
        }
    }
}

fn add_item_revenue(
    tally: &mut Tally,
    (price, quantity): (usize, usize),
    items: &Items,
    rows: &Rows,
    left_out: &mut LeftOut,
    additions: &mut Additions,
) {
    let (Cells::Decimal(prices), Cells::Int(quantities)) = (&items.fields[price], &items.fields[quantity]) else { return };
    for (item, cell) in rows.items.iter().zip(&rows.cells) {
        let at = *item as usize;
        if prices.is_valid(at) && quantities.is_valid(at) {
            // Both come from 64 bits, so that their product fits.
            let value = prices.value(at).saturating_mul(i128::from(quantities.value(at)));
            tally.add_exact(*cell, value, false, additions);
        } else {
            mark(&mut left_out.items, items.len, *item);
        }
    }
}
