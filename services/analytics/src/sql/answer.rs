//! Answers as messages.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use prost::Message;
use segue_proto::analytics::v1::{ExecutionStats, QuerySqlResponse, SqlColumn, SqlRow};
use segue_proto::events::v1::{Value, value::Kind};

use super::error::SqlError;
use super::run::SqlAnswer;
use crate::scan::timestamp_of;

/// An answer as a message of about so many bytes at most; what does not fit is cut off.
pub(super) fn message(answer: &SqlAnswer, bytes_max: u64, seconds: f64) -> Result<QuerySqlResponse, SqlError> {
    let fields = answer.schema.fields();
    let columns = fields.iter().map(|field| SqlColumn { name: field.name().clone(), r#type: field.data_type().to_string() });
    let mut response = QuerySqlResponse {
        columns: columns.collect(),
        rows: Vec::new(),
        truncated: answer.truncated.is_some(),
        watermark: Some(timestamp_of(answer.watermark_us)),
        stats: Some(ExecutionStats {
            rows_scanned: answer.stats.rows,
            files: answer.stats.files,
            tail_rows: answer.stats.tail_rows,
            seconds,
        }),
    };
    let mut bytes = 0;
    for batch in &answer.batches {
        let cells = Cells::of(batch).map_err(|error| SqlError::Engine(Box::new(error.into())))?;
        for row in 0..batch.num_rows() {
            let row = SqlRow { values: cells.row(row) };
            // With the row's own tag and length.
            bytes += row.encoded_len() as u64 + 6;
            if bytes > bytes_max {
                if response.rows.is_empty() {
                    return Err(SqlError::RowTooLarge { bytes_max });
                }
                response.truncated = true;
                return Ok(response);
            }
            response.rows.push(row);
        }
    }
    Ok(response)
}

/// The values of a batch.
struct Cells<'a> {
    columns: Vec<(&'a dyn Array, ArrayFormatter<'a>)>,
}

impl<'a> Cells<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let columns = batch.columns().iter().map(|column| Ok((column.as_ref(), ArrayFormatter::try_new(column, &OPTIONS)?)));
        Ok(Self { columns: columns.collect::<Result<_, ArrowError>>()? })
    }

    fn row(&self, row: usize) -> Vec<Value> {
        self.columns.iter().map(|(column, text)| Value { kind: kind(*column, text, row) }).collect()
    }
}

/// A value as its kind; what there is no kind for is text, or JSON where it has parts.
fn kind(column: &dyn Array, text: &ArrayFormatter<'_>, row: usize) -> Option<Kind> {
    if column.is_null(row) {
        return None;
    }
    let as_text = || Kind::StringValue(text.value(row).to_string());
    Some(match column.data_type() {
        DataType::Null => return None,
        DataType::Boolean => Kind::BoolValue(column.as_boolean().value(row)),
        DataType::Utf8 => Kind::StringValue(column.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Kind::StringValue(column.as_string::<i64>().value(row).to_owned()),
        DataType::Int64 => Kind::IntValue(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => {
            let number = column.as_primitive::<UInt64Type>().value(row);
            i64::try_from(number).map_or_else(|_| as_text(), Kind::IntValue)
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            text.value(row).to_string().parse().map_or_else(|_| as_text(), Kind::IntValue)
        }
        DataType::Float64 => Kind::DoubleValue(column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => Kind::DoubleValue(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Decimal128(_, scale @ 0..=4) => {
            let number = column.as_primitive::<Decimal128Type>().value(row);
            let e4 = 10_i128.pow(u32::from(4 - scale.unsigned_abs())).checked_mul(number);
            e4.and_then(|e4| i64::try_from(e4).ok()).map_or_else(as_text, Kind::DecimalE4Value)
        }
        DataType::Timestamp(unit, _) => timestamp(column, *unit, row).map_or_else(as_text, Kind::TimestampValue),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) | DataType::Struct(_) | DataType::Map(_, _) => {
            let mut json = String::new();
            write_json(column, row, &mut json);
            Kind::JsonValue(json)
        }
        _ => as_text(),
    })
}

fn timestamp(column: &dyn Array, unit: TimeUnit, row: usize) -> Option<prost_types::Timestamp> {
    let numbers = arrow::compute::cast(&column.slice(row, 1), &DataType::Int64).ok()?;
    let number = numbers.as_primitive::<Int64Type>().values().first().copied()?;
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let nanos = number.rem_euclid(per_second) * (1_000_000_000 / per_second);
    Some(prost_types::Timestamp { seconds: number.div_euclid(per_second), nanos: nanos as i32 })
}

/// A value with parts as JSON: decimals as exact numbers, moments and what JSON has no form for as text.
fn write_json(column: &dyn Array, row: usize, out: &mut String) {
    if column.is_null(row) {
        return out.push_str("null");
    }
    match column.data_type() {
        DataType::Struct(fields) => {
            let parts = column.as_struct();
            out.push('{');
            for (at, (field, part)) in fields.iter().zip(parts.columns()).enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_text(field.name(), out);
                out.push(':');
                write_json(part.as_ref(), row, out);
            }
            out.push('}');
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            out.push('{');
            for at in 0..entries.len() {
                out.push_str(if at > 0 { "," } else { "" });
                write_text(&plain(entries.column(0).as_ref(), at), out);
                out.push(':');
                write_json(entries.column(1).as_ref(), at, out);
            }
            out.push('}');
        }
        DataType::List(_) => write_list(column.as_list::<i32>().value(row).as_ref(), out),
        DataType::LargeList(_) => write_list(column.as_list::<i64>().value(row).as_ref(), out),
        DataType::FixedSizeList(_, _) => write_list(column.as_fixed_size_list().value(row).as_ref(), out),
        DataType::Boolean => out.push_str(if column.as_boolean().value(row) { "true" } else { "false" }),
        number if number.is_integer() || number.is_decimal() => out.push_str(&plain(column, row)),
        number if number.is_floating() => {
            let text = plain(column, row);
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() => out.push_str(&text),
                _ => write_text(&text, out),
            }
        }
        _ => write_text(&plain(column, row), out),
    }
}

fn write_list(elements: &dyn Array, out: &mut String) {
    out.push('[');
    for at in 0..elements.len() {
        out.push_str(if at > 0 { "," } else { "" });
        write_json(elements, at, out);
    }
    out.push(']');
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn plain(column: &dyn Array, row: usize) -> String {
    arrow::util::display::array_value_to_string(column, row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Date32Array, Decimal128Array, ListArray, StringArray, StructArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    fn kinds(column: ArrayRef) -> Vec<Option<Kind>> {
        let batch = RecordBatch::try_from_iter([("c", column)]).expect("a batch");
        let cells = Cells::of(&batch).expect("cells");
        (0..batch.num_rows()).map(|row| cells.row(row).remove(0).kind).collect()
    }

    #[test]
    fn values_keep_their_kind_and_what_has_none_is_text_or_json() {
        let text = |text: &str| Some(Kind::StringValue(text.to_owned()));
        assert_eq!(kinds(Arc::new(UInt64Array::from(vec![7, u64::MAX]))), [Some(Kind::IntValue(7)), text("18446744073709551615")]);
        let decimal = |scale, number| Arc::new(Decimal128Array::from(vec![number]).with_precision_and_scale(38, scale).expect("fits"));
        assert_eq!(kinds(decimal(2, 1_234)), [Some(Kind::DecimalE4Value(123_400))]);
        assert_eq!(kinds(decimal(4, i128::from(i64::MAX) + 1)), [text("922337203685477.5808")]);
        assert_eq!(kinds(decimal(6, 1_234_567)), [text("1.234567")]);
        let moment = Arc::new(TimestampNanosecondArray::from(vec![-1]));
        assert_eq!(kinds(moment), [Some(Kind::TimestampValue(prost_types::Timestamp { seconds: -1, nanos: 999_999_999 }))]);
        assert_eq!(kinds(Arc::new(Date32Array::from(vec![20_758]))), [text("2026-11-01")]);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        assert_eq!(kinds(Arc::new(list)), [Some(Kind::JsonValue("[1,null]".to_owned())), None]);
        let parts = StructArray::from(vec![
            (Arc::new(Field::new("na\"me", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["a\n"])) as ArrayRef),
            (Arc::new(Field::new("price", DataType::Decimal128(38, 4), true)), decimal(4, 15_000) as ArrayRef),
        ]);
        let json = r#"{"na\"me":"a\n","price":1.5000}"#;
        assert_eq!(kinds(Arc::new(parts)), [Some(Kind::JsonValue(json.to_owned()))]);
    }
}
