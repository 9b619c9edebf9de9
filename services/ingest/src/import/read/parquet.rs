//! Parquet: only the mapped columns are read, a few rows at a time.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use segue_model::FieldViolation;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::ingest::v1::ReasonCode;

use super::{RECORD_BYTES_MAX, ReadError, Row};
use crate::accept::{reason, time::timestamp};
use crate::import::mapping::Plan;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 256;

/// A Parquet file.
pub struct ParquetReader {
    batches: ParquetRecordBatchReader,
    columns: Vec<String>,
    /// The arrays of the current batch, in the order of `columns`.
    arrays: Vec<Column>,
    rows: usize,
    at: usize,
    read: Arc<AtomicU64>,
    bytes_per_row: f64,
    rows_read: f64,
    /// Where walls are whose clocks say no zone.
    zone: Tz,
}

/// A column of a batch, in one of the shapes that values come from.
enum Column {
    Text(ArrayRef),
    Int(ArrayRef),
    UInt(ArrayRef),
    Double(ArrayRef),
    Bool(ArrayRef),
    Moment(ArrayRef),
    /// A date and time without a zone: what a clock on a wall showed.
    Wall(ArrayRef),
    Decimal(ArrayRef, i8),
    Other(ArrayRef),
}

impl ParquetReader {
    /// Reads the footer.
    pub(super) fn open(file: File, plan: &Plan, read: Arc<AtomicU64>) -> Result<Self, ReadError> {
        let bytes = file.metadata()?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| {
            ReadError::Mismatch(vec![FieldViolation::new("mapping.format", format!("the file is not readable Parquet: {error}"))])
        })?;
        let present: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        let faults = plan.check_columns(&present);
        if !faults.is_empty() {
            return Err(ReadError::Mismatch(faults));
        }
        let roots: Vec<usize> = plan.columns().iter().filter_map(|column| present.iter().position(|name| name == column)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let rows = builder.metadata().file_metadata().num_rows().max(1);
        let batches = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| ReadError::Broken(format!("the Parquet file cannot be read: {error}")))?;
        let bytes_per_row = bytes as f64 / rows as f64;
        let columns = plan.columns().to_vec();
        let zone = plan.zone();
        Ok(Self { batches, columns, arrays: Vec::new(), rows: 0, at: 0, read, bytes_per_row, rows_read: 0.0, zone })
    }

    /// The next row.
    pub(super) fn row(&mut self) -> Result<Option<Row>, ReadError> {
        while self.at == self.rows {
            let Some(batch) = self.batches.next() else { return Ok(None) };
            let broken = |error: &dyn std::fmt::Display| ReadError::Broken(format!("the Parquet file is damaged: {error}"));
            let batch = batch.map_err(|error| broken(&error))?;
            let mut arrays = Vec::with_capacity(self.columns.len());
            for column in &self.columns {
                let array = batch.column_by_name(column).ok_or_else(|| broken(&format!("column `{column}` is gone")))?;
                arrays.push(Column::of(array).map_err(|error| broken(&error))?);
            }
            (self.arrays, self.rows, self.at) = (arrays, batch.num_rows(), 0);
            // Reads go back and forth in the file, so progress is told by rows.
            self.rows_read += batch.num_rows() as f64;
            self.read.store((self.rows_read * self.bytes_per_row) as u64, Ordering::Relaxed);
        }
        let at = self.at;
        self.at += 1;
        let mut cells = Vec::with_capacity(self.arrays.len());
        for (array, column) in self.arrays.iter().zip(&self.columns) {
            match array.value(at, self.zone) {
                Ok(value) => cells.push(value.map(|kind| Value { kind: Some(kind) })),
                Err(why) => return Ok(Some(Err(reason(ReasonCode::Unreadable, column, format!("the column `{column}` {why}"))))),
            }
        }
        Ok(Some(Ok(cells)))
    }
}

impl Column {
    fn of(array: &ArrayRef) -> Result<Self, arrow::error::ArrowError> {
        let to = |data_type: &DataType| cast(array, data_type);
        Ok(match array.data_type() {
            DataType::Dictionary(_, _) => {
                let DataType::Dictionary(_, values) = array.data_type() else { return Ok(Column::Other(array.clone())) };
                return Column::of(&cast(array, values)?);
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Column::Text(to(&DataType::LargeUtf8)?),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Column::Int(to(&DataType::Int64)?),
            DataType::UInt64 => Column::UInt(array.clone()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Column::Double(to(&DataType::Float64)?),
            DataType::Boolean => Column::Bool(array.clone()),
            DataType::Timestamp(_, Some(_)) => Column::Moment(to(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 => {
                Column::Wall(to(&DataType::Timestamp(TimeUnit::Microsecond, None))?)
            }
            DataType::Decimal128(_, scale) => Column::Decimal(array.clone(), *scale),
            _ => Column::Other(array.clone()),
        })
    }

    fn value(&self, at: usize, zone: Tz) -> Result<Option<Kind>, String> {
        let (Column::Text(array)
        | Column::Int(array)
        | Column::UInt(array)
        | Column::Double(array)
        | Column::Bool(array)
        | Column::Moment(array)
        | Column::Wall(array)
        | Column::Decimal(array, _)
        | Column::Other(array)) = self;
        if array.is_null(at) {
            return Ok(None);
        }
        Ok(Some(match self {
            Column::Text(array) => {
                let text = array.as_string::<i64>().value(at);
                if text.len() > RECORD_BYTES_MAX {
                    return Err("holds a text longer than 1 MiB".to_owned());
                }
                Kind::StringValue(text.to_owned())
            }
            Column::Int(array) => Kind::IntValue(array.as_primitive::<Int64Type>().value(at)),
            Column::UInt(array) => {
                let number = array.as_primitive::<UInt64Type>().value(at);
                Kind::IntValue(i64::try_from(number).map_err(|_| format!("holds {number}, more than 64 signed bits"))?)
            }
            Column::Double(array) => {
                let number = array.as_primitive::<Float64Type>().value(at);
                // Not a number is how some programs write a missing one.
                if number.is_nan() {
                    return Ok(None);
                }
                Kind::DoubleValue(number)
            }
            Column::Bool(array) => Kind::BoolValue(array.as_boolean().value(at)),
            Column::Moment(array) => Kind::TimestampValue(timestamp(array.as_primitive::<TimestampMicrosecondType>().value(at))),
            Column::Wall(array) => {
                let shown = array.as_primitive::<TimestampMicrosecondType>().value(at);
                let local = DateTime::from_timestamp_micros(shown).ok_or("holds a time that no calendar knows")?.naive_utc();
                let moment = zone.from_local_datetime(&local).earliest().ok_or_else(|| format!("holds {local}, which {zone} skipped"))?;
                Kind::TimestampValue(timestamp(moment.timestamp_micros()))
            }
            Column::Decimal(array, scale) => decimal(array.as_primitive::<Decimal128Type>().value(at), *scale)?,
            Column::Other(array) => {
                let options = FormatOptions::default();
                let shown = ArrayFormatter::try_new(array.as_ref(), &options).map_err(|error| format!("cannot be shown: {error}"))?;
                let text = shown.value(at).to_string();
                if text.len() > RECORD_BYTES_MAX {
                    return Err("holds a value longer than 1 MiB".to_owned());
                }
                Kind::StringValue(text)
            }
        }))
    }
}

/// Exact in four places, or a fault.
fn decimal(unscaled: i128, scale: i8) -> Result<Kind, String> {
    let shift = 4 - i32::from(scale);
    let exact = if shift >= 0 {
        10i128.checked_pow(shift as u32).and_then(|factor| unscaled.checked_mul(factor))
    } else {
        10i128.checked_pow(shift.unsigned_abs()).filter(|divisor| unscaled % divisor == 0).map(|divisor| unscaled / divisor)
    };
    let exact = exact.and_then(|exact| i64::try_from(exact).ok());
    exact.map(Kind::DecimalE4Value).ok_or_else(|| format!("holds {unscaled} × 10^-{scale}, which four decimal places do not hold exactly"))
}
