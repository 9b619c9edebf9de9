//! Partial results as rows: `(key, us, amount)`, where `SUM(amount) GROUP BY key, us` puts the rows of all parts together.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayBuilder, AsArray, BinaryBuilder, Int64Builder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use prost::Message;
use roaring::RoaringBitmap;

use super::key::{Cell, Frame, Key};
use crate::question::QueryError;
use crate::scan::{PERSONS_PER_CHUNK, ScanError, ScanStats};

/// What is counted: a [`Key`].
pub(super) const KEY: &str = "key";
/// A duration, where all of them are needed.
pub(super) const US: &str = "us";
/// What is added up.
pub(super) const AMOUNT: &str = "amount";

const BATCH_ROWS: usize = 8_192;
const BATCH_KEY_BYTES: usize = 1 << 20;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let key = Field::new(KEY, DataType::Binary, false);
    Arc::new(Schema::new(vec![key, Field::new(US, DataType::Int64, true), Field::new(AMOUNT, DataType::UInt64, false)]))
});

/// The columns of a partial result.
pub(super) fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// Takes in rows of a partial result.
pub(crate) struct Rows {
    keys: BinaryBuilder,
    us: Int64Builder,
    amounts: UInt64Builder,
    key_bytes: usize,
    batches: Vec<RecordBatch>,
    bytes: usize,
    bytes_max: usize,
}

impl Rows {
    /// Rows of at most so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        let (keys, us, amounts) = (BinaryBuilder::new(), Int64Builder::new(), UInt64Builder::new());
        Self { keys, us, amounts, key_bytes: 0, batches: Vec::new(), bytes: 0, bytes_max }
    }

    /// So much of this. Nothing is no row.
    pub(crate) fn add(&mut self, key: &[u8], us: Option<i64>, amount: u64) -> Result<(), QueryError> {
        if amount == 0 {
            return Ok(());
        }
        self.keys.append_value(key);
        self.us.append_option(us);
        self.amounts.append_value(amount);
        self.key_bytes += key.len();
        if self.amounts.len() >= BATCH_ROWS || self.key_bytes >= BATCH_KEY_BYTES {
            self.end_batch()?;
        }
        Ok(())
    }

    fn end_batch(&mut self) -> Result<(), QueryError> {
        let columns: Vec<Arc<dyn Array>> = vec![Arc::new(self.keys.finish()), Arc::new(self.us.finish()), Arc::new(self.amounts.finish())];
        let batch = RecordBatch::try_new(schema(), columns).map_err(ScanError::Arrow)?;
        self.key_bytes = 0;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        if self.bytes > self.bytes_max {
            return Err(QueryError::TooMuchMemory { what: "its partial results", bytes_max: self.bytes_max });
        }
        Ok(())
    }

    /// What was read, and the watermark that everything was judged by.
    pub(super) fn add_frame(&mut self, watermark_us: i64, stats: ScanStats) -> Result<(), QueryError> {
        let key = |frame: Frame| Cell::Frame(frame.into()).key();
        self.add(&key(Frame::Watermark), Some(watermark_us), 1)?;
        self.add(&key(Frame::Rows), None, stats.rows)?;
        self.add(&key(Frame::TailRows), None, stats.tail_rows)?;
        self.add(&key(Frame::Files), Some(i64::from(stats.files)), 1)
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        if !self.amounts.is_empty() {
            self.end_batch()?;
        }
        Ok(self.batches)
    }
}

/// Persons as keys have them: a bitmap per chunk, with how many it holds.
pub(crate) fn persons_by_chunk(mut persons: RoaringBitmap) -> impl Iterator<Item = (Vec<u8>, u64)> {
    std::iter::from_fn(move || {
        let start = persons.min()? / PERSONS_PER_CHUNK * PERSONS_PER_CHUNK;
        let chunk = start..=start.saturating_add(PERSONS_PER_CHUNK - 1);
        let mut of_chunk = RoaringBitmap::new();
        of_chunk.insert_range(chunk.clone());
        of_chunk &= &persons;
        persons.remove_range(chunk);
        let mut bytes = Vec::with_capacity(of_chunk.serialized_size());
        // Writing to memory does not fail.
        let _ = of_chunk.serialize_into(&mut bytes);
        Some((bytes, of_chunk.len()))
    })
}

/// One row of the sum over all parts.
pub(crate) struct Row {
    pub(crate) cell: Cell,
    pub(crate) us: Option<i64>,
    pub(crate) amount: u64,
}

impl Row {
    /// The duration.
    pub(crate) fn duration_us(&self) -> u64 {
        self.us.unwrap_or_default().cast_unsigned()
    }
}

/// The sum over all parts.
pub(super) struct Sum {
    /// Of the question.
    pub(super) rows: Vec<Row>,
    pub(super) stats: ScanStats,
    /// The least that persons were judged by.
    pub(super) watermark_us: Option<i64>,
}

impl Sum {
    /// Reads what was aggregated.
    pub(super) fn of(batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut sum = Sum { rows: Vec::new(), stats: ScanStats::default(), watermark_us: None };
        for batch in batches {
            let [keys, us, amounts] = batch.columns() else {
                return Err(ArrowError::SchemaError(format!("partial results have 3 columns, not {}", batch.num_columns())));
            };
            let (keys, us, amounts) = (keys.as_binary_opt::<i32>(), us.as_primitive_opt::<Int64Type>(), amounts.as_primitive_opt());
            let (Some(keys), Some(us), Some(amounts)) = (keys, us, amounts) else {
                return Err(ArrowError::SchemaError(format!("partial results have other columns than {:?}", batch.schema())));
            };
            let amounts: &arrow::array::PrimitiveArray<UInt64Type> = amounts;
            for row in 0..batch.num_rows() {
                let key = Key::decode(keys.value(row)).map_err(|error| ArrowError::ParseError(error.to_string()))?;
                let cell = key.cell.ok_or_else(|| ArrowError::ParseError("a partial result of another version".to_owned()))?;
                sum.take(Row { cell, us: us.is_valid(row).then(|| us.value(row)), amount: amounts.value(row) });
            }
        }
        Ok(sum)
    }

    fn take(&mut self, row: Row) {
        let Cell::Frame(frame) = row.cell else {
            self.rows.push(row);
            return;
        };
        match (Frame::try_from(frame), row.us) {
            (Ok(Frame::Watermark), Some(us)) => self.watermark_us = Some(self.watermark_us.map_or(us, |least| least.min(us))),
            (Ok(Frame::Rows), _) => self.stats.rows += row.amount,
            (Ok(Frame::TailRows), _) => self.stats.tail_rows += row.amount,
            (Ok(Frame::Files), Some(files)) => self.stats.files = self.stats.files.max(u32::try_from(files).unwrap_or(u32::MAX)),
            // A newer replica says more than this one knows of, which the question does not need.
            (Ok(Frame::Watermark | Frame::Files | Frame::Unspecified) | Err(_), _) => {}
        }
    }
}
