//! Adding rows to tallies: one loop per kind of measure, over rows that are already filtered and placed in cells.

use std::borrow::Cow;

use arrow::array::{Array, StringArray};

use super::metric::{Measure, MetricPlan};
use super::rows::{Batch, Rows, SharesAt, first_share_of_item};
use super::tally::{Entries, Finish, Tally};
use crate::filter::cells::{At, BatchCells, Cells, Items, TextCells};
use crate::filter::fields::Place;

/// What metrics left out of a batch. Several metrics may leave out the same event; it is counted once.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Per row: it has no unit.
    units: Vec<bool>,
    /// Rows that REVENUE took, so that the items it skipped are skipped.
    events: Taken,
    skipped_column: Option<usize>,
    /// Per item: it has no price or no quantity.
    items: Vec<bool>,
}

#[derive(Debug, Default)]
enum Taken {
    #[default]
    None,
    All,
    These(Vec<bool>),
}

fn mark(marks: &mut Vec<bool>, len: usize, at: usize) {
    if marks.is_empty() {
        marks.resize(len, false);
    }
    marks[at] = true;
}

impl LeftOut {
    /// How many events have no unit.
    pub(super) fn without_unit(&self) -> u64 {
        self.units.iter().filter(|out| **out).count() as u64
    }

    /// How many items REVENUE skipped.
    pub(super) fn skipped(&self, batch: &Batch<'_>) -> u64 {
        let mut skipped = self.items.iter().filter(|out| **out).count() as u64;
        if let Some(Cells::Small(counts)) = self.skipped_column.map(|column| &batch.cells.columns[column]) {
            let counts = counts.values();
            skipped += match &self.events {
                Taken::None => 0,
                Taken::All => counts.iter().map(|count| u64::from(*count)).sum(),
                Taken::These(rows) => rows.iter().zip(counts).filter(|(taken, _)| **taken).map(|(_, count)| u64::from(*count)).sum(),
            };
        }
        skipped
    }

    fn unit(&mut self, batch: &Batch<'_>, row: usize) {
        let row = batch.shares.as_ref().map_or(row, |shares| shares.first[row] as usize);
        mark(&mut self.units, batch.cells.len, row);
    }

    fn revenue(&mut self, batch: &Batch<'_>, rows: At<'_>, skipped: usize) {
        self.skipped_column = Some(skipped);
        match (&mut self.events, rows, &batch.shares) {
            (Taken::All, _, _) => {}
            (events, At::All(_), None) => *events = Taken::All,
            (events, rows, shares) => {
                let mut taken = match std::mem::take(events) {
                    Taken::These(taken) => taken,
                    Taken::None | Taken::All => Vec::new(),
                };
                rows.each(|_, row| {
                    let row = shares.as_ref().map_or(row, |shares| shares.first[row] as usize);
                    mark(&mut taken, batch.cells.len, row);
                });
                *events = Taken::These(taken);
            }
        }
    }
}

/// The values of a field. The event's name is a column of one text.
pub(super) fn cells_of<'b>(batch: &'b BatchCells<'_>, place: Place) -> Cow<'b, Cells> {
    match place {
        Place::Column(at) => Cow::Borrowed(&batch.columns[at]),
        Place::Item(at) => batch.items.as_ref().map_or(Cow::Owned(Cells::Missing), |items| Cow::Borrowed(&items.fields[at])),
        Place::Absent => Cow::Owned(Cells::Missing),
        Place::EventName => {
            Cow::Owned(Cells::Text(TextCells { codes: vec![0; batch.len].into(), values: StringArray::from(vec![batch.event]) }))
        }
    }
}

/// Where the values of a metric's field stand when they are those of every item of each row; kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Observations {
    rows: Vec<u32>,
    items: Vec<u32>,
    cells: Vec<u32>,
    shares: SharesAt,
}

impl Observations {
    fn of_items(&mut self, items: &Items, rows: &Rows) {
        self.rows.clear();
        self.items.clear();
        self.cells.clear();
        rows.at().each(|k, row| {
            let own = items.starts[row]..items.ends[row];
            self.rows.resize(self.rows.len() + own.len(), row as u32);
            self.cells.resize(self.cells.len() + own.len(), rows.cells[k]);
            self.items.extend(own);
        });
    }
}

/// Adds rows to the tally of a metric.
pub(super) fn add(tally: &mut Tally, metric: &MetricPlan, batch: &Batch<'_>, rows: &Rows, seen: &mut Observations, left_out: &mut LeftOut) {
    let columns = &batch.cells.columns;
    match metric.measure {
        Measure::Total => tally.add_rows(&rows.cells, seen.shares.of(batch, rows.at(), None)),
        Measure::Numbers(column) => {
            if let Cells::Number(numbers) = &columns[column] {
                tally.add_numbers(numbers.values(), rows.at(), &rows.cells, |row| left_out.unit(batch, row));
            }
        }
        Measure::Accounts(column) => {
            if let Cells::Text(texts) = &columns[column] {
                tally.add_texts(texts, rows.at(), &rows.cells);
                let missing = texts.missing();
                rows.at().each(|_, row| {
                    if texts.codes[row] == missing {
                        left_out.unit(batch, row);
                    }
                });
            }
        }
        Measure::Sessions { person, session } => add_sessions(tally, (person, session), batch, rows, left_out),
        Measure::EventRevenue { value, skipped } => {
            let shares = seen.shares.of(batch, rows.at(), None);
            tally.add_values(&columns[value], Entries { at: rows.at(), cells: &rows.cells, shares });
            left_out.revenue(batch, rows.at(), skipped);
        }
        Measure::ItemRevenue { price, quantity } => add_item_revenue(tally, (price, quantity), batch, rows, left_out),
        Measure::Field(place) => add_field(tally, metric.finish, place, batch, rows, seen),
    }
}

fn add_field(tally: &mut Tally, finish: Finish, place: Place, batch: &Batch<'_>, rows: &Rows, seen: &mut Observations) {
    let values = cells_of(&batch.cells, place);
    let is_item_level = !rows.items.is_empty();
    let entries = match (place, &batch.cells.items) {
        (Place::Item(_), Some(_)) if is_item_level => {
            let shares = seen.shares.of(batch, rows.at(), Some(rows.items()));
            Entries { at: rows.items(), cells: &rows.cells, shares }
        }
        (Place::Item(_), Some(items)) => {
            seen.of_items(items, rows);
            let shares = seen.shares.of(batch, At::These(&seen.rows), Some(At::These(&seen.items)));
            Entries { at: At::These(&seen.items), cells: &seen.cells, shares }
        }
        (Place::Item(_), None) => return,
        (Place::EventName | Place::Column(_) | Place::Absent, _) => {
            // An event's own field counts once per item.
            let items = is_item_level.then(|| rows.items());
            Entries { at: rows.at(), cells: &rows.cells, shares: seen.shares.of(batch, rows.at(), items) }
        }
    };
    match finish {
        Finish::Count => tally.add_present(&values, entries),
        Finish::Texts => {
            if let Cells::Text(texts) = &*values {
                tally.add_texts(texts, entries.at, entries.cells);
            }
        }
        Finish::Keys => tally.add_keys(&values, entries.at, entries.cells),
        Finish::Sum(_) | Finish::Average(_) | Finish::Min(_) | Finish::Max(_) | Finish::Percentile(_) => tally.add_values(&values, entries),
        // Of units, not of fields.
        Finish::Persons | Finish::Sessions | Finish::Numbers => {}
    }
}

/// Sessions are pairs of person and session id.
fn add_sessions(tally: &mut Tally, (person, session): (usize, usize), batch: &Batch<'_>, rows: &Rows, left_out: &mut LeftOut) {
    let columns = &batch.cells.columns;
    let (Cells::Number(persons), Cells::Text(texts)) = (&columns[person], &columns[session]) else { return };
    let mut last = None;
    rows.at().each(|k, row| {
        let (person, code, cell) = (persons.values()[row], texts.codes[row], rows.cells[k]);
        if code == texts.missing() || texts.values.is_null(code as usize) {
            left_out.unit(batch, row);
        } else if last != Some((person, code, cell)) {
            last = Some((person, code, cell));
            tally.add_session(cell, person, texts.values.value(code as usize));
        }
    });
}

fn add_item_revenue(tally: &mut Tally, (price, quantity): (usize, usize), batch: &Batch<'_>, rows: &Rows, left_out: &mut LeftOut) {
    let Some(items) = &batch.cells.items else { return };
    let (Cells::Decimal(prices), Cells::Int(quantities)) = (&items.fields[price], &items.fields[quantity]) else { return };
    rows.at().each(|k, row| {
        let Some(item) = rows.items.get(k).copied() else { return };
        let at = item as usize;
        if prices.is_valid(at) && quantities.is_valid(at) {
            // Both come from 64 bits, so that their product fits.
            let value = prices.value(at).saturating_mul(i128::from(quantities.value(at)));
            tally.add_exact(rows.cells[k], value, batch.shares.as_ref().map(|shares| shares.parts[row]));
        } else {
            let item = batch.shares.as_ref().map_or(item, |shares| first_share_of_item(items, shares, row, item));
            mark(&mut left_out.items, items.len, item as usize);
        }
    });
}
