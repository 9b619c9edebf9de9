//! The stream as Segue has it once persons are resolved: each row of a day file is one event.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, UInt16Type, UInt32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use segue_model::{decimal, dimension};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, EventKind, Item, ResolvedEvent, Value};

/// Columns of the stream that are built-in dimensions here.
const DIMENSIONS: [(&str, &str); 4] =
    [("platform", "platform"), ("country", "country"), ("os_version", "os_version"), ("campaign", "utm_campaign")];
/// Columns of the stream that are registered properties here.
const PROPERTIES: [&str; 2] = ["channel", "category"];

/// The events of one day file, in their order. `prefix` makes message ids unique among files.
pub(crate) fn events(path: &Path, prefix: String) -> anyhow::Result<impl Iterator<Item = anyhow::Result<ResolvedEvent>> + Send + 'static> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
    let mut number = 0_u64;
    Ok(reader
        .map(|batch| anyhow::Ok(Rows::new(batch?)?))
        .flat_map(|rows| {
            let (rows, failed) = match rows {
                Ok(rows) => (Some(rows), None),
                Err(error) => (None, Some(Err(error))),
            };
            failed.into_iter().chain(rows.into_iter().flat_map(|rows| (0..rows.len).map(move |row| Ok(rows.event(row)))))
        })
        .map(move |event| {
            number += 1;
            event.map(|event| ResolvedEvent { message_id: format!("{prefix}-{number}"), ..event })
        }))
}

/// A text column: codes, and what they stand for.
struct Texts {
    codes: Vec<u16>,
    values: StringArray,
}

impl Texts {
    fn get(&self, row: usize) -> &str {
        self.values.value(usize::from(self.codes[row]))
    }
}

struct Rows {
    len: usize,
    person: Vec<u32>,
    ts: Vec<i64>,
    name: Texts,
    dimensions: Vec<(u32, Texts)>,
    properties: Vec<(&'static str, Texts)>,
    price: Vec<f64>,
    quantity: Vec<i32>,
}

impl Rows {
    fn new(batch: RecordBatch) -> anyhow::Result<Self> {
        let mut dimensions = DIMENSIONS
            .into_iter()
            .map(|(column, name)| Ok((dimension::by_name(name).context("no such dimension")?.code, texts(&batch, column)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        dimensions.sort_by_key(|(code, _)| *code);
        Ok(Self {
            len: batch.num_rows(),
            person: numbers::<UInt32Type>(&batch, "person")?,
            ts: numbers::<Int64Type>(&batch, "ts")?,
            name: texts(&batch, "event")?,
            dimensions,
            properties: PROPERTIES.into_iter().map(|name| Ok((name, texts(&batch, name)?))).collect::<anyhow::Result<_>>()?,
            price: numbers::<Float64Type>(&batch, "price")?,
            quantity: numbers::<Int32Type>(&batch, "quantity")?,
        })
    }

    fn event(&self, row: usize) -> ResolvedEvent {
        // Ours count persons from 1. Everybody has one device.
        let person = self.person[row] + 1;
        let time_us = self.ts[row] * 1_000;
        let text = |texts: &Texts| Value { kind: Some(Kind::StringValue(texts.get(row).to_owned())) };
        let mut event = ResolvedEvent {
            person,
            device: person,
            time_us,
            received_at_us: time_us + 200_000,
            name: self.name.get(row).to_owned(),
            kind: EventKind::Track as i32,
            dimensions: self
                .dimensions
                .iter()
                .map(|(code, texts)| DimensionValue { code: *code, value: texts.get(row).to_owned() })
                .collect(),
            properties: self.properties.iter().map(|(name, texts)| ((*name).to_owned(), text(texts))).collect(),
            ..ResolvedEvent::default()
        };
        if self.quantity[row] > 0 {
            let category = event.properties.get("category").and_then(|value| value.kind.clone());
            event.items.push(Item {
                // Prices of the stream are whole numbers.
                price_e4: Some(self.price[row] as i64 * decimal::SCALE),
                quantity: Some(i64::from(self.quantity[row])),
                categories: category
                    .into_iter()
                    .filter_map(|kind| if let Kind::StringValue(text) = kind { Some(text) } else { None })
                    .collect(),
                ..Item::default()
            });
        }
        event
    }
}

fn numbers<T: ArrowPrimitiveType>(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<T::Native>> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<T>());
    Ok(column.with_context(|| format!("the stream has no column `{name}` of {}", T::DATA_TYPE))?.values().to_vec())
}

fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<Texts> {
    let column = batch.column_by_name(name).and_then(|column| column.as_dictionary_opt::<UInt16Type>());
    let column = column.with_context(|| format!("the stream has no text column `{name}`"))?;
    let values = column.values().as_string_opt::<i32>().with_context(|| format!("the values of `{name}` are no texts"))?;
    Ok(Texts { codes: column.keys().values().to_vec(), values: values.clone() })
}
