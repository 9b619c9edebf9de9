//! Runs: one event's rows sorted by (person, ts, sequence), in memory; and merging runs into one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Field, Int64Type, Schema, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use roaring::RoaringBitmap;

use super::files::add_persons;
use super::redirects::Redirects;
use super::text::concat_text;
use crate::scan::{Column, ScanError, TRAITS, text_type};

/// Smallest and largest, both inclusive.
pub(crate) type Span<T> = (T, T);

/// A sorted run in memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryRun {
    pub(crate) event: Arc<str>,
    pub(crate) batch: RecordBatch,
    pub(crate) persons: Span<u32>,
    pub(crate) ts: Span<i64>,
}

/// Several runs that were frozen together, ordered by event: one per event.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) runs: Vec<MemoryRun>,
    pub(crate) rows: usize,
    /// Those that are events.
    pub(crate) event_rows: usize,
    pub(crate) bytes: usize,
    persons: OnceLock<Arc<RoaringBitmap>>,
}

impl Piece {
    pub(crate) fn new(runs: Vec<MemoryRun>) -> Self {
        let rows = runs.iter().map(|run| run.batch.num_rows()).sum();
        let traits: usize = runs.iter().filter(|run| run.event.as_ref() == TRAITS).map(|run| run.batch.num_rows()).sum();
        let bytes = runs.iter().map(|run| run.batch.get_array_memory_size()).sum();
        Self { runs, rows, event_rows: rows - traits, bytes, persons: OnceLock::new() }
    }

    /// The person numbers that its rows are stored under.
    pub(crate) fn persons(&self) -> Result<Arc<RoaringBitmap>, ScanError> {
        if let Some(persons) = self.persons.get() {
            return Ok(persons.clone());
        }
        let mut persons = RoaringBitmap::new();
        for run in &self.runs {
            add_persons(&mut persons, run.batch.column_by_name(&Column::Person.name()))?;
        }
        Ok(self.persons.get_or_init(|| Arc::new(persons)).clone())
    }
}

/// A column that every run has, by its position in the batch.
fn required<'a>(batch: &'a RecordBatch, column: &Column) -> Result<&'a ArrayRef, ArrowError> {
    batch
        .column_by_name(&column.name())
        .filter(|array| column.data_type().as_ref() == Some(array.data_type()))
        .ok_or_else(|| ArrowError::SchemaError(format!("a run has no usable column `{}`", column.name())))
}

/// The columns that order a run.
pub(crate) struct SortKeys<'a> {
    pub(crate) person: &'a [u32],
    pub(crate) ts: &'a [i64],
    pub(crate) sequence: &'a [u64],
    pub(crate) origin: &'a [u32],
}

impl<'a> SortKeys<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        Ok(Self {
            person: required(batch, &Column::Person)?.as_primitive::<UInt32Type>().values(),
            ts: required(batch, &Column::Ts)?.as_primitive::<Int64Type>().values(),
            sequence: required(batch, &Column::Sequence)?.as_primitive::<UInt64Type>().values(),
            origin: required(batch, &Column::Origin)?.as_primitive::<UInt32Type>().values(),
        })
    }

    fn key(&self, row: usize) -> (u32, i64, u64, u32) {
        // The origin decides between rows of two partitions, whose sequences may be equal.
        (self.person[row], self.ts[row], self.sequence[row], self.origin[row])
    }
}

impl MemoryRun {
    /// Sorts the rows of a batch that has at least the required columns and one row.
    pub(crate) fn sorted(event: Arc<str>, batch: RecordBatch) -> Result<Self, ArrowError> {
        let keys = SortKeys::of(&batch)?;
        let rows = batch.num_rows();
        if !(1..rows).all(|row| keys.key(row - 1) <= keys.key(row)) {
            let mut order: Vec<u32> = (0..rows as u32).collect();
            // Stable sorting is quick here: the input is a few sorted stretches.
            order.sort_by_key(|row| keys.key(*row as usize));
            let batch = take_rows(&batch, &UInt32Array::from(order))?;
            return Self::of_sorted(event, batch);
        }
        Self::of_sorted(event, batch)
    }

    fn of_sorted(event: Arc<str>, batch: RecordBatch) -> Result<Self, ArrowError> {
        let keys = SortKeys::of(&batch)?;
        let (Some(first), Some(last)) = (keys.person.first().copied(), keys.person.last().copied()) else {
            return Err(ArrowError::InvalidArgumentError(format!("a run of `{event}` without rows")));
        };
        let ts = span(keys.ts);
        Ok(Self { event, persons: (first, last), ts, batch })
    }

    /// A part of the run.
    pub(crate) fn slice(&self, offset: usize, rows: usize) -> Result<Self, ArrowError> {
        Self::of_sorted(self.event.clone(), self.batch.slice(offset, rows))
    }

    /// The rows with these numbers, which keep their order.
    pub(crate) fn rows(&self, rows: Vec<u32>) -> Result<Self, ArrowError> {
        Self::of_sorted(self.event.clone(), take_rows(&self.batch, &UInt32Array::from(rows))?)
    }
}

fn span(values: &[i64]) -> Span<i64> {
    values.iter().fold((i64::MAX, i64::MIN), |(least, most), value| (least.min(*value), most.max(*value)))
}

/// The rows with these numbers, in this order.
pub(crate) fn take_rows(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| take(column, rows, None)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

/// What becomes of rows that are written anew.
#[derive(Debug, Clone)]
pub(crate) struct Rewrite {
    pub(crate) redirects: Arc<Redirects>,
    /// Events before this moment are left out.
    pub(crate) kept_from_us: i64,
}

impl Rewrite {
    /// Puts rows under the persons whose they are now (they keep their origins) and leaves out those that are no longer shown.
    fn apply(&self, event: &str, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let kept_from_us = if event == TRAITS { i64::MIN } else { self.kept_from_us };
        let keys = SortKeys::of(&batch)?;
        let all_kept = kept_from_us == i64::MIN || keys.ts.iter().all(|ts| *ts >= kept_from_us);
        if self.redirects.is_empty() && all_kept {
            return Ok(batch);
        }
        let received = required(&batch, &Column::ReceivedAt)?.as_primitive::<Int64Type>().values();
        let is_kept = |row: usize| keys.ts[row] >= kept_from_us && !self.redirects.is_deleted(keys.origin[row], received[row]);
        let kept: Option<Vec<u32>> = (!all_kept || self.redirects.deletes())
            .then(|| (0..batch.num_rows()).filter(|row| is_kept(*row)).map(|row| row as u32).collect());
        let persons: UInt32Array = keys.origin.iter().map(|origin| self.redirects.survivor(*origin)).collect::<Vec<u32>>().into();
        let person = batch.schema().index_of(&Column::Person.name())?;
        let (schema, mut columns, _) = batch.into_parts();
        columns[person] = Arc::new(persons);
        let batch = RecordBatch::try_new(schema, columns)?;
        let Some(kept) = kept.filter(|kept| kept.len() < batch.num_rows()) else { return Ok(batch) };
        take_rows(&batch, &kept.into())
    }
}

/// Merges batches of one event into one run. Columns that a batch lacks are missing values there. `None`: no row is left.
pub(crate) fn merge_runs(event: Arc<str>, batches: &[RecordBatch], rewrite: Option<&Rewrite>) -> Result<Option<MemoryRun>, ArrowError> {
    if batches.is_empty() {
        return Ok(None);
    }
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for field in batches.iter().flat_map(|batch| batch.schema_ref().fields()) {
        fields.entry(field.name().clone()).or_insert_with(|| field.as_ref().clone());
    }
    let mut columns = Vec::with_capacity(fields.len());
    for (name, field) in &fields {
        let parts: Vec<ArrayRef> = batches
            .iter()
            .map(|batch| match batch.column_by_name(name) {
                Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
                Some(column) => arrow::compute::cast(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            })
            .collect::<Result<_, _>>()?;
        let column = if *field.data_type() == text_type() {
            concat_text(&parts)?
        } else {
            concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<&dyn Array>>())?
        };
        columns.push(column);
    }
    let schema = Arc::new(Schema::new(fields.into_values().collect::<Vec<_>>()));
    let mut batch = RecordBatch::try_new(schema, columns)?;
    if let Some(rewrite) = rewrite {
        batch = rewrite.apply(&event, batch)?;
    }
    if batch.num_rows() == 0 { Ok(None) } else { MemoryRun::sorted(event, batch).map(Some) }
}

/// Merges pieces into one, event by event.
pub(crate) fn merge_pieces(pieces: &[Arc<Piece>], rewrite: Option<&Rewrite>) -> Result<Piece, ArrowError> {
    let mut by_event: BTreeMap<Arc<str>, Vec<RecordBatch>> = BTreeMap::new();
    for run in pieces.iter().flat_map(|piece| &piece.runs) {
        by_event.entry(run.event.clone()).or_default().push(run.batch.clone());
    }
    let runs = by_event.into_iter().filter_map(|(event, batches)| merge_runs(event, &batches, rewrite).transpose());
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    Ok(Piece::new(runs))
}
