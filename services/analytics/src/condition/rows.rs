//! Evaluation of a leaf over rows: read what it names, add up, ask the verdict.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, UInt32Type, UInt64Type};
use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::condition::Days;
use segue_proto::events::v1::{Value, value::Kind};

use super::evaluate::{Moment, add};
use super::plan::{Edge, Measure, Operand, Rows};
use super::slots::Slots;
use super::tally::{Counts, Distinct, DoubleExtremes, DoubleSums, Edges, Extremes, Sums};
use super::verdict::Verdict;
use crate::filter::cells::{At, BatchCells, Cells};
use crate::filter::fields::Place;
use crate::filter::matching::{item_mask, mask};
use crate::filter::predicate::Predicate;
use crate::pass::Values;
use crate::question::QueryError;
use crate::scan::{Column, ScanBatch, ScanError, ScanRequest, ScanStats};

/// The persons among `universe`, who lie in `range`, of whom the leaf is true. `number` is that of the node.
pub(super) fn evaluate(
    rows: &Rows,
    number: usize,
    moment: &Moment<'_>,
    range: &Range<u32>,
    universe: &RoaringBitmap,
    stats: &mut ScanStats,
) -> Result<RoaringBitmap, QueryError> {
    if universe.is_empty() {
        return Ok(RoaringBitmap::new());
    }
    let slots = Slots::new(universe, range);
    let mut tally = Tally::new(&rows.measure, slots.len(), moment.zone);
    let times = rows.window.bounds(moment.now_us, moment.zone);
    if rows.may_match(times) {
        let snapshot = moment.context.snapshot;
        let scan = match moment.passes.get(number) {
            Some(pass) => pass.get_or_init(|| snapshot.pass(request(rows, times))).scan(range.clone()),
            None => snapshot.scan(ScanRequest { persons: Some(range.clone()), ..request(rows, times) }),
        };
        let mut scan = scan.having(&rows.having);
        if slots.are_listed() {
            scan = scan.only(Arc::new(universe.clone()));
        }
        for batch in scan.by_ref() {
            moment.context.check()?;
            let batch = batch?;
            let (of_rows, first) = slots.of_rows(persons_of(&batch, rows.columns.len())?);
            let reading = Reading::new(rows, &batch, (of_rows, first), None)?;
            tally.add(&reading)?;
            tally.check(moment.context.limits.hits_bytes_max)?;
        }
        add(stats, scan.stats());
    }
    Ok(tally.finish(&slots, universe))
}

/// The columns that a leaf reads: its own, and the keys behind them.
pub(super) fn columns_of(rows: &Rows) -> Vec<Column> {
    let mut columns = rows.columns.clone();
    columns.push(Column::Person);
    if matches!(rows.measure, Measure::Edge(_)) {
        columns.extend([Column::Ts, Column::Sequence, Column::Origin]);
    }
    columns
}

fn request(rows: &Rows, range_us: (i64, i64)) -> ScanRequest {
    ScanRequest { events: rows.events.clone(), range_us, columns: columns_of(rows), persons: None }
}

/// The persons of a batch's rows.
fn persons_of(batch: &ScanBatch, at: usize) -> Result<&[u32], QueryError> {
    Ok(key::<UInt32Type>(batch, at)?.values())
}

/// Which rows match, and which of their items count; `None`: all.
pub(super) fn matching(
    filter: &Predicate,
    items: Option<&Predicate>,
    cells: &BatchCells<'_>,
) -> (Option<BooleanBuffer>, Option<BooleanBuffer>) {
    let mut selected = (!matches!(filter, Predicate::Always(true))).then(|| mask(filter, cells));
    let items = match (items, &cells.items) {
        (Some(filter), Some(items)) => {
            let passing = item_mask(filter, items);
            let any = |row: usize| (items.starts[row]..items.ends[row]).any(|item| passing.value(item as usize));
            and(&mut selected, BooleanBuffer::collect_bool(cells.len, any));
            Some(passing)
        }
        (Some(_), None) => {
            and(&mut selected, BooleanBuffer::new_unset(cells.len));
            None
        }
        (None, _) => None,
    };
    (selected, items)
}

fn and(selected: &mut Option<BooleanBuffer>, further: BooleanBuffer) {
    *selected = Some(match selected.take() {
        Some(selected) => &selected & &further,
        None => further,
    });
}

/// The matching rows of one batch.
pub(super) struct Reading<'r> {
    batch: &'r ScanBatch,
    cells: BatchCells<'r>,
    keys: usize,
    /// Per row of the batch, its person's slot, moved by `first`.
    slots: Cow<'r, [u32]>,
    first: u32,
    /// `None`: all.
    matching: Option<Vec<u32>>,
    /// Which items count; `None`: all.
    items: Option<BooleanBuffer>,
}

impl<'r> Reading<'r> {
    /// Of a batch with the columns of [`columns_of`]. `slots` are those of its rows, moved by a constant; only rows `among` are looked at.
    pub(super) fn new(
        rows: &Rows,
        batch: &'r ScanBatch,
        (slots, first): (Cow<'r, [u32]>, u32),
        among: Option<BooleanBuffer>,
    ) -> Result<Self, QueryError> {
        let keys = rows.columns.len();
        let cells = BatchCells::new(batch, &rows.columns, &rows.item_columns)?;
        let (mut selected, items) = matching(&rows.filter, rows.items.as_ref(), &cells);
        if let Some(among) = among {
            and(&mut selected, among);
        }
        let matching = selected.map(|selected| selected.set_indices_u32().collect());
        Ok(Self { batch, cells, keys, slots, first, matching, items })
    }

    fn is_empty(&self) -> bool {
        self.matching.as_ref().is_some_and(Vec::is_empty) || self.cells.len == 0
    }

    #[inline]
    fn slot(&self, row: u32) -> u32 {
        self.slots[row as usize] - self.first
    }

    fn at(&self) -> At<'_> {
        self.matching.as_deref().map_or(At::All(self.cells.len), At::These)
    }

    /// The matching rows as a list.
    pub(super) fn rows(&self) -> Cow<'_, [u32]> {
        match &self.matching {
            Some(rows) => rows.as_slice().into(),
            None => (0..self.cells.len as u32).collect::<Vec<u32>>().into(),
        }
    }

    /// The slot of the k-th matching row.
    #[inline]
    fn slot_of(&self, k: usize) -> u32 {
        self.matching.as_ref().map_or(self.slots[k] - self.first, |rows| self.slot(rows[k]))
    }

    /// The items that count of the matching rows, and per item its row.
    fn items_of_rows(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut items, mut owners) = (Vec::new(), Vec::new());
        let Some(all) = &self.cells.items else { return (items, owners) };
        for row in self.rows().iter().copied() {
            for item in all.starts[row as usize]..all.ends[row as usize] {
                if self.items.as_ref().is_none_or(|passing| passing.value(item as usize)) {
                    items.push(item);
                    owners.push(row);
                }
            }
        }
        (items, owners)
    }

    fn item_field(&self, at: usize) -> &Cells {
        self.cells.items.as_ref().and_then(|items| items.fields.get(at)).unwrap_or(&Cells::Missing)
    }

    /// Calls `each(slot, number)` for every number of an operand.
    pub(super) fn exact(&self, operand: Operand, mut each: impl FnMut(u32, i128)) {
        match operand {
            Operand::Exact(at) => {
                self.cells.columns[at].each_exact(self.at(), |k, number| each(self.slot_of(k), number));
            }
            Operand::ItemExact(at) => {
                let (items, owners) = self.items_of_rows();
                self.item_field(at).each_exact(At::These(&items), |k, number| each(self.slot(owners[k]), number));
            }
            Operand::ItemsValue { price, quantity } => {
                let (items, owners) = self.items_of_rows();
                let mut prices: Vec<Option<i128>> = vec![None; items.len()];
                self.item_field(price).each_exact(At::These(&items), |k, number| prices[k] = Some(number));
                let mut open: Option<(u32, i128)> = None;
                self.item_field(quantity).each_exact(At::These(&items), |k, quantity| {
                    let Some(price) = prices[k] else { return };
                    let value = price.saturating_mul(quantity);
                    open = match open {
                        Some((row, sum)) if row == owners[k] => Some((row, sum.saturating_add(value))),
                        before => {
                            if let Some((row, sum)) = before {
                                each(self.slot(row), sum);
                            }
                            Some((owners[k], value))
                        }
                    };
                });
                if let Some((row, sum)) = open {
                    each(self.slot(row), sum);
                }
            }
            Operand::Double(_) | Operand::ItemDouble(_) | Operand::Absent => {}
        }
    }

    pub(super) fn double(&self, operand: Operand, mut each: impl FnMut(u32, f64)) {
        match operand {
            Operand::Double(at) => {
                self.cells.columns[at].each_double(self.at(), |k, number| each(self.slot_of(k), number));
            }
            Operand::ItemDouble(at) => {
                let (items, owners) = self.items_of_rows();
                self.item_field(at).each_double(At::These(&items), |k, number| each(self.slot(owners[k]), number));
            }
            Operand::Exact(_) | Operand::ItemExact(_) | Operand::ItemsValue { .. } | Operand::Absent => {}
        }
    }

    /// Calls `each(slot, code)` for every value of a field; equal values have equal codes.
    pub(super) fn codes(&self, place: Place, values: &Values, mut each: impl FnMut(u32, u32)) {
        let mut codes = Vec::new();
        let owners = match place {
            Place::Item(at) => {
                let (items, owners) = self.items_of_rows();
                values.cell_codes(self.item_field(at), &items, &mut codes);
                owners.into()
            }
            Place::EventName | Place::Column(_) | Place::Absent => {
                let rows = self.rows();
                values.codes(place, &self.cells, &rows, &mut codes);
                rows
            }
        };
        // Code 0 is missing.
        for (row, code) in owners.iter().zip(codes).filter(|(_, code)| *code != 0) {
            each(self.slot(*row), code);
        }
    }

    /// Calls `each(where, moment, passes)` for every row that an edge considers.
    pub(super) fn edges(&self, edge: &Edge, mut each: impl FnMut(Where, super::tally::Moment, bool)) -> Result<(), QueryError> {
        let ts = key::<Int64Type>(self.batch, self.keys + 1)?.values();
        let sequence = key::<UInt64Type>(self.batch, self.keys + 2)?.values();
        let origin = key::<UInt32Type>(self.batch, self.keys + 3)?.values();
        let moment = |row: usize| (ts[row], sequence[row], origin[row]);
        if !edge.of_items {
            let (present, passes) = (mask(&edge.present, &self.cells), mask(&edge.passes, &self.cells));
            for row in self.rows().iter().copied().filter(|row| present.value(*row as usize)) {
                each(Where { row, item: None }, moment(row as usize), passes.value(row as usize));
            }
            return Ok(());
        }
        let Some(items) = &self.cells.items else { return Ok(()) };
        let (present, passes) = (item_mask(&edge.present, items), item_mask(&edge.passes, items));
        let (of_rows, owners) = self.items_of_rows();
        let present: Vec<(u32, u32)> = owners.into_iter().zip(of_rows).filter(|(_, item)| present.value(*item as usize)).collect();
        // Within an event, items stand in order.
        for of_row in present.chunk_by(|one, other| one.0 == other.0) {
            let Some((row, item)) = (if edge.last { of_row.last() } else { of_row.first() }) else { continue };
            each(Where { row: *row, item: Some(*item) }, moment(*row as usize), passes.value(*item as usize));
        }
        Ok(())
    }

    /// The name of the event.
    pub(super) fn event(&self) -> &Arc<str> {
        &self.batch.event
    }

    /// The value of a field. (Arrays and objects that items carry are not told.)
    pub(super) fn value(&self, place: Place, Where { row, item }: Where) -> Option<Value> {
        match (place, item) {
            (Place::EventName, _) => Some(Value { kind: Some(Kind::StringValue(self.batch.event.to_string())) }),
            (Place::Column(at), _) => crate::timeline::property(self.batch.batch.columns().get(at)?, row as usize),
            (Place::Item(at), Some(item)) => {
                let (values, mut codes) = (Values::default(), Vec::new());
                values.cell_codes(self.item_field(at), &[item], &mut codes);
                values.value(*codes.first()?).group_value().value
            }
            (Place::Item(_), None) | (Place::Absent, _) => None,
        }
    }
}

/// What an edge considers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Where {
    pub(super) row: u32,
    /// If it is about items: which.
    item: Option<u32>,
}

/// A column that the leaf asked for beside its own.
pub(super) fn key<T: ArrowPrimitiveType>(batch: &ScanBatch, at: usize) -> Result<&PrimitiveArray<T>, QueryError> {
    let column = batch.batch.columns().get(at).and_then(|column| column.as_primitive_opt::<T>());
    column.ok_or_else(|| {
        let what = format!("a run of `{}` lacks person, ts, sequence or origin", batch.event);
        QueryError::Scan(ScanError::Arrow(arrow::error::ArrowError::SchemaError(what)))
    })
}

/// The aggregate of a measure, per slot, and what is asked of it.
pub(super) enum Tally<'m> {
    Counts(&'m Verdict, Counts),
    Sums(&'m Verdict, Operand, Sums),
    DoubleSums(&'m Verdict, Operand, DoubleSums),
    Extremes(&'m Verdict, Operand, Extremes),
    DoubleExtremes(&'m Verdict, Operand, DoubleExtremes),
    Days(&'m Verdict, usize, Days, Distinct),
    Distinct(&'m Verdict, Place, Values, Distinct),
    Edges(&'m Edge, Edges),
}

impl<'m> Tally<'m> {
    pub(super) fn new(measure: &'m Measure, slots: usize, zone: Tz) -> Self {
        match measure {
            Measure::Count(verdict) => Tally::Counts(verdict, Counts::new(slots)),
            Measure::Sum(operand, verdict) if operand.is_double() => Tally::DoubleSums(verdict, *operand, DoubleSums::default()),
            Measure::Sum(operand, verdict) => Tally::Sums(verdict, *operand, Sums::new(slots)),
            Measure::Least(operand, verdict) | Measure::Most(operand, verdict) => {
                let largest = matches!(measure, Measure::Most(..));
                if operand.is_double() {
                    Tally::DoubleExtremes(verdict, *operand, DoubleExtremes::new(slots, largest))
                } else {
                    Tally::Extremes(verdict, *operand, Extremes::new(slots, largest))
                }
            }
            Measure::Days(times, verdict) => Tally::Days(verdict, *times, Days::new(zone), Distinct::new()),
            Measure::Distinct(place, verdict) => Tally::Distinct(verdict, *place, Values::default(), Distinct::new()),
            Measure::Edge(edge) => Tally::Edges(edge, Edges::new(slots, edge.last, edge.otherwise)),
        }
    }

    pub(super) fn add(&mut self, reading: &Reading<'_>) -> Result<(), QueryError> {
        if reading.is_empty() {
            return Ok(());
        }
        match self {
            Tally::Counts(_, counts) => match &reading.matching {
                None => counts.add_rows(&reading.slots, reading.first),
                Some(rows) => rows.iter().for_each(|row| counts.add(reading.slot(*row))),
            },
            Tally::Sums(_, operand, sums) => reading.exact(*operand, |slot, term| sums.add(slot, term)),
            Tally::DoubleSums(_, operand, sums) => reading.double(*operand, |slot, term| sums.add(slot, term)),
            Tally::Extremes(_, operand, extremes) => reading.exact(*operand, |slot, value| extremes.add(slot, value)),
            Tally::DoubleExtremes(_, operand, extremes) => reading.double(*operand, |slot, value| extremes.add(slot, value)),
            Tally::Days(_, times, days, distinct) => reading.exact(Operand::Exact(*times), |slot, ts| {
                // Times are 64 bits wide; the number of a day keeps its bits.
                distinct.add(slot, days.number(ts as i64).cast_unsigned());
            }),
            Tally::Distinct(_, place, values, distinct) => reading.codes(*place, values, |slot, code| distinct.add(slot, code)),
            Tally::Edges(edge, edges) => return reading.edges(edge, |at, moment, passes| edges.add(reading.slot(at.row), moment, passes)),
        }
        Ok(())
    }

    /// Keeps memory in bounds.
    pub(super) fn check(&mut self, bytes_max: usize) -> Result<(), QueryError> {
        match self {
            Tally::DoubleSums(_, _, sums) => sums.check(bytes_max),
            Tally::Days(_, _, _, distinct) | Tally::Distinct(_, _, _, distinct) => distinct.check(bytes_max),
            Tally::Counts(..) | Tally::Sums(..) | Tally::Extremes(..) | Tally::DoubleExtremes(..) | Tally::Edges(..) => Ok(()),
        }
    }

    pub(super) fn finish(self, slots: &Slots, among: &RoaringBitmap) -> RoaringBitmap {
        match self {
            Tally::Counts(verdict, counts) => counts.finish(verdict, slots, among),
            Tally::Sums(verdict, _, sums) => sums.finish(verdict, slots, among),
            Tally::DoubleSums(verdict, _, sums) => sums.finish(verdict, slots, among),
            Tally::Extremes(verdict, _, extremes) => extremes.finish(verdict, slots, among),
            Tally::DoubleExtremes(verdict, _, extremes) => extremes.finish(verdict, slots, among),
            Tally::Days(verdict, _, _, distinct) | Tally::Distinct(verdict, _, _, distinct) => distinct.finish(verdict, slots, among),
            Tally::Edges(_, edges) => edges.finish(slots, among),
        }
    }
}
