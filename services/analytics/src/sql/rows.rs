//! Rows of `events`: what a scan gives, in batches of the size that DataFusion wants, with the types that [`super::columns`] names.
//!
//! Every batch owns its memory: a slice of a run would be counted, by whoever keeps it, with the size of the whole run.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, ListArray, StringViewArray, StructArray, UInt32Array, new_null_array};
use arrow::compute::{cast, concat_batches, nullif, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType, UInt8Type, UInt32Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::BaselineMetrics;
use segue_proto::events::v1::EventKind;

use super::blocking;
use super::columns::{Source, plain_type, source_of};
use super::leaf::{ScanMeter, SnapshotExec};
use super::selection::{ALL_PERSONS, PersonRange, Selection};
use crate::scan::{Column, Scan, ScanBatch, ScanError, ScanRequest, Snapshot};

/// Distinct texts of a run up to this size are prepared once for all of its batches.
const SHARED_TEXT_BYTES_MAX: usize = 64 << 10;

/// The rows of one part.
pub(super) fn stream(
    leaf: &SnapshotExec,
    part: &[PersonRange],
    partition: usize,
    context: &TaskContext,
) -> Result<SendableRecordBatchStream> {
    let rows = Rows::new(leaf, part, context.session_config().batch_size())?;
    Ok(blocking::stream(leaf.schema.clone(), rows, BaselineMetrics::new(leaf.metrics_set(), partition)))
}

/// An error of the scan on its way through DataFusion.
pub(super) fn scan_error(error: ScanError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The request for one range of persons.
pub(super) fn request(selection: &Selection, range: &PersonRange, columns: Vec<Column>) -> ScanRequest {
    let end = u32::try_from(range.end).unwrap_or(u32::MAX);
    let persons = (*range != ALL_PERSONS).then(|| u32::try_from(range.start).unwrap_or(u32::MAX)..end);
    ScanRequest { events: selection.events.clone(), range_us: selection.range_us, columns, persons }
}

/// The rows of one part, batch by batch. Blocks.
struct Rows {
    snapshot: Arc<Snapshot>,
    selection: Selection,
    schema: SchemaRef,
    sources: Vec<Source>,
    /// What of `sources` comes from the scan.
    scanned: Vec<Column>,
    ranges: std::vec::IntoIter<PersonRange>,
    scan: Option<Scan>,
    meter: ScanMeter,
    run: Option<Run>,
    /// Small batches on their way to be put together.
    small: Vec<RecordBatch>,
    small_rows: usize,
    ready: VecDeque<RecordBatch>,
    batch_rows: usize,
    /// Rows still to give.
    left: usize,
}

impl Rows {
    fn new(leaf: &SnapshotExec, part: &[PersonRange], batch_rows: usize) -> Result<Self> {
        let mut sources = Vec::new();
        let mut scanned = Vec::new();
        for field in leaf.schema.fields() {
            let source = source_of(field.name()).ok_or_else(|| internal_datafusion_err!("events have no column `{}`", field.name()))?;
            if let Source::Scanned(column) = &source {
                scanned.push(column.clone());
            }
            sources.push(source);
        }
        let part = if leaf.selection.is_empty() { Vec::new() } else { part.to_vec() };
        Ok(Self {
            snapshot: leaf.snapshot.clone(),
            selection: leaf.selection.clone(),
            schema: leaf.schema.clone(),
            sources,
            scanned,
            ranges: part.into_iter(),
            scan: None,
            meter: leaf.meter(),
            run: None,
            small: Vec::new(),
            small_rows: 0,
            ready: VecDeque::new(),
            batch_rows: batch_rows.max(1),
            left: leaf.fetch.unwrap_or(usize::MAX),
        })
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if let Some(run) = self.run.take() {
                self.take_from(run)?;
                continue;
            }
            match self.next_run()? {
                Some(batch) => self.run = Some(Run::new(batch, &self.sources)?),
                None if self.small.is_empty() => return Ok(None),
                None => self.join_small()?,
            }
        }
    }

    fn next_run(&mut self) -> Result<Option<ScanBatch>> {
        loop {
            if let Some(scan) = &mut self.scan {
                let next = scan.next();
                self.meter.count(scan.stats());
                match next {
                    Some(batch) => return batch.map(Some).map_err(scan_error),
                    None => self.scan = None,
                }
            }
            let Some(range) = self.ranges.next() else { return Ok(None) };
            self.meter.next_scan();
            self.scan = Some(self.snapshot.scan(request(&self.selection, &range, self.scanned.clone())));
        }
    }

    /// Takes the next rows of a run.
    fn take_from(&mut self, mut run: Run) -> Result<()> {
        let rows = run.left().min(self.batch_rows).min(self.left);
        let batch = run.take(rows, &self.schema, &self.sources)?;
        if run.left() > 0 {
            self.run = Some(run);
        }
        if rows >= self.batch_rows / 2 && self.small.is_empty() {
            self.ready.push_back(batch);
            return Ok(());
        }
        self.small_rows += rows;
        self.small.push(batch);
        if self.small_rows >= self.batch_rows / 2 || self.small_rows >= self.left {
            self.join_small()?;
        }
        Ok(())
    }

    fn join_small(&mut self) -> Result<()> {
        let small = std::mem::take(&mut self.small);
        self.small_rows = 0;
        self.ready.push_back(concat_batches(&self.schema, &small)?);
        Ok(())
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let mut next = self.next_batch().transpose();
        if let Some(Ok(batch)) = &mut next {
            if batch.num_rows() > self.left {
                *batch = batch.slice(0, self.left);
            }
            self.left -= batch.num_rows();
        }
        next
    }
}

/// A batch of the scan that is given out in pieces.
struct Run {
    batch: ScanBatch,
    /// For dictionaries with little text: the distinct values.
    texts: Vec<Option<StringViewArray>>,
    name: StringViewArray,
    at: usize,
}

impl Run {
    fn new(batch: ScanBatch, sources: &[Source]) -> Result<Self> {
        let mut texts = Vec::with_capacity(batch.batch.num_columns());
        for column in batch.batch.columns() {
            let values = column.as_dictionary_opt::<UInt32Type>().and_then(|dictionary| dictionary.values().as_string_opt::<i32>());
            texts.push(match values {
                Some(values) if values.value_data().len() <= SHARED_TEXT_BYTES_MAX => {
                    Some(cast(values, &DataType::Utf8View)?.as_string_view().gc())
                }
                Some(_) | None => None,
            });
        }
        debug_assert_eq!(sources.iter().filter(|source| **source != Source::Event).count(), texts.len());
        let name = StringViewArray::from_iter_values([batch.event.as_ref()]);
        Ok(Self { batch, texts, name, at: 0 })
    }

    fn left(&self) -> usize {
        self.batch.batch.num_rows() - self.at
    }

    /// The next rows, converted.
    fn take(&mut self, rows: usize, schema: &SchemaRef, sources: &[Source]) -> Result<RecordBatch> {
        let mut scanned = self.batch.batch.columns().iter().zip(&self.texts);
        let mut columns = Vec::with_capacity(sources.len());
        for (source, field) in sources.iter().zip(schema.fields()) {
            let column = match source {
                Source::Event => take(&self.name, &UInt32Array::from_value(0, rows), None)?,
                Source::Scanned(column) => {
                    let (array, texts) = scanned.next().ok_or_else(|| internal_datafusion_err!("a scan gave too few columns"))?;
                    let slice = array.slice(self.at, rows);
                    match texts {
                        Some(texts) => take(texts, slice.as_dictionary::<UInt32Type>().keys(), None)?,
                        None => convert(column, &slice)?,
                    }
                }
            };
            columns.push(fitted(column, field.data_type())?);
        }
        self.at += rows;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }
}

/// A column that another process planned may be unknown here, and then comes as nulls of another type.
fn fitted(column: ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    match column.data_type() == wanted {
        true => Ok(column),
        false if column.null_count() == column.len() => Ok(new_null_array(wanted, column.len())),
        false => Ok(cast(&column, wanted)?),
    }
}

/// A copy of a piece of a column, in SQL's type.
fn convert(column: &Column, slice: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let Some(dictionary) = slice.as_dictionary_opt::<UInt32Type>() {
        return text(dictionary);
    }
    let copy = take(slice, &UInt32Array::from_iter_values(0..slice.len() as u32), None)?;
    match column {
        Column::Ts | Column::ReceivedAt => {
            Ok(Arc::new(copy.as_primitive::<Int64Type>().reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC")))
        }
        Column::Device => {
            let none = arrow::compute::kernels::cmp::eq(&copy, &UInt32Array::new_scalar(0))?;
            nullif(&copy, &none)
        }
        Column::Kind => Ok(Arc::new(kinds(&copy))),
        Column::ItemsList => plain(&copy),
        _ if copy.data_type() == &DataType::Utf8 => cast(&copy, &DataType::Utf8View),
        _ => Ok(copy),
    }
}

/// The texts of a dictionary, without those that no row has.
fn text(dictionary: &DictionaryArray<UInt32Type>) -> Result<ArrayRef, ArrowError> {
    cast(&take(dictionary.values(), dictionary.keys(), None)?, &DataType::Utf8View)
}

/// Resolves dictionaries within lists of structs, as [`plain_type`] does for their types.
fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let Some(dictionary) = array.as_dictionary_opt::<UInt32Type>() {
        return text(dictionary);
    }
    if let Some(list) = array.as_list_opt::<i32>() {
        let DataType::List(element) = plain_type(list.data_type()) else { return Ok(array.clone()) };
        let list = ListArray::try_new(element, list.offsets().clone(), plain(list.values())?, list.nulls().cloned())?;
        return Ok(Arc::new(list));
    }
    if let Some(items) = array.as_struct_opt() {
        let DataType::Struct(fields) = plain_type(items.data_type()) else { return Ok(array.clone()) };
        let columns: Result<Vec<ArrayRef>, ArrowError> = items.columns().iter().map(plain).collect();
        return Ok(Arc::new(StructArray::try_new(fields, columns?, items.nulls().cloned())?));
    }
    Ok(array.clone())
}

/// Kinds by name, as in requests.
fn kinds(numbers: &ArrayRef) -> StringViewArray {
    let name = |number: u8| match EventKind::try_from(i32::from(number)) {
        Ok(EventKind::Unspecified | EventKind::Track) => "track",
        Ok(EventKind::Identify) => "identify",
        Ok(EventKind::Page) => "page",
        Ok(EventKind::Screen) => "screen",
        Ok(EventKind::Group) => "group",
        Ok(EventKind::Alias) => "alias",
        Err(_) => "unknown",
    };
    numbers.as_primitive::<UInt8Type>().iter().map(|number| number.map(name)).collect()
}
