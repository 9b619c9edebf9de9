//! Rows as bytes, in each of the formats.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use segue_proto::audience::v1::ExportFormat;

use super::columns::{Cell, Column, Columns, FIXED, Row};
use super::values;
use crate::error::AudienceError;

/// What separates several values of one cell of CSV.
const SEPARATOR: &str = ";";
/// Row groups of Parquet end at so many rows, or at so many bytes: they are held in memory until then.
const GROUP_ROWS_MAX: usize = 65_536;
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Writes rows to memory, from which they are taken.
pub(super) struct Writer {
    columns: Arc<Columns>,
    written: Vec<u8>,
    format: Format,
}

enum Format {
    Csv,
    Ndjson,
    Parquet { writer: Box<ArrowWriter<Vec<u8>>>, schema: Arc<Schema> },
}

impl Writer {
    pub(super) fn new(format: ExportFormat, columns: Arc<Columns>) -> Result<Self, AudienceError> {
        let mut written = Vec::new();
        let format = match format {
            ExportFormat::Unspecified => return Err(AudienceError::field("format", "is missing; set CSV, NDJSON or PARQUET")),
            ExportFormat::Csv => {
                written = csv_records([columns.names()])?;
                Format::Csv
            }
            ExportFormat::Ndjson => Format::Ndjson,
            ExportFormat::Parquet => {
                let level = ZstdLevel::try_new(3).map_err(file)?;
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                let schema = schema(&columns);
                let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(file)?;
                Format::Parquet { writer: Box::new(writer), schema }
            }
        };
        Ok(Self { columns, written, format })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<(), AudienceError> {
        match &mut self.format {
            Format::Csv => self.written.extend(csv_records(rows.iter().map(csv_record))?),
            Format::Ndjson => {
                let mut lines = String::new();
                for row in rows {
                    json_line(&self.columns, row, &mut lines);
                }
                self.written.extend_from_slice(lines.as_bytes());
            }
            Format::Parquet { writer, schema } => {
                writer.write(&batch(&self.columns, rows, schema.clone())?).map_err(file)?;
                if writer.in_progress_rows() >= GROUP_ROWS_MAX || writer.in_progress_size() >= GROUP_BYTES_MAX {
                    writer.flush().map_err(file)?;
                }
            }
        }
        Ok(())
    }

    /// Writes what ends the file; no rows after it.
    pub(super) fn finish(&mut self) -> Result<(), AudienceError> {
        match &mut self.format {
            Format::Csv | Format::Ndjson => Ok(()),
            Format::Parquet { writer, .. } => writer.finish().map(drop).map_err(file),
        }
    }

    /// What was written since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        match &mut self.format {
            Format::Csv | Format::Ndjson => std::mem::take(&mut self.written),
            // It counts what it writes itself, and does not look back.
            Format::Parquet { writer, .. } => std::mem::take(writer.inner_mut()),
        }
    }
}

fn file(error: impl std::fmt::Display) -> AudienceError {
    AudienceError::File { what: error.to_string() }
}

fn csv_records(records: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<u8>, AudienceError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for record in records {
        writer.write_record(record).map_err(file)?;
    }
    writer.into_inner().map_err(file)
}

fn csv_record(row: &Row) -> Vec<String> {
    let cells = row.cells.iter().map(|cell| match cell {
        Cell::Identifiers(all) => all.join(SEPARATOR),
        Cell::Trait(value) => value.as_ref().map(values::text).unwrap_or_default(),
    });
    [row.person.to_string(), row.id.clone()].into_iter().chain(cells).collect()
}

fn json_line(columns: &Columns, row: &Row, out: &mut String) {
    out.push_str("{\"person\":");
    out.push_str(&row.person.to_string());
    out.push_str(",\"id\":");
    values::string(&row.id, out);
    for (column, cell) in columns.0.iter().zip(&row.cells) {
        out.push(',');
        values::string(&column.name(), out);
        out.push(':');
        match cell {
            Cell::Identifiers(all) => {
                out.push('[');
                for (at, one) in all.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    values::string(one, out);
                }
                out.push(']');
            }
            Cell::Trait(None) => out.push_str("null"),
            Cell::Trait(Some(value)) => values::json(value, out),
        }
    }
    out.push_str("}\n");
}

fn schema(columns: &Columns) -> Arc<Schema> {
    let [person, id] = FIXED;
    let mut fields = vec![Field::new(person, DataType::UInt32, false), Field::new(id, DataType::Utf8, false)];
    fields.extend(columns.0.iter().map(|column| match column {
        Column::Identifiers(kind) => Field::new_list(kind, item(), false),
        // A trait may have values of several types: text is what all of them are.
        Column::Trait(_) => Field::new(column.name(), DataType::Utf8, true),
    }));
    Arc::new(Schema::new(fields))
}

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8, false))
}

fn batch(columns: &Columns, rows: &[Row], schema: Arc<Schema>) -> Result<RecordBatch, AudienceError> {
    let mut id = StringBuilder::new();
    rows.iter().for_each(|row| id.append_value(&row.id));
    let person: UInt32Array = rows.iter().map(|row| row.person).collect::<Vec<u32>>().into();
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(person), Arc::new(id.finish())];
    for (at, column) in columns.0.iter().enumerate() {
        let cells = rows.iter().map(|row| row.cells.get(at));
        arrays.push(match column {
            Column::Identifiers(_) => {
                let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item());
                for cell in cells {
                    if let Some(Cell::Identifiers(all)) = cell {
                        all.iter().for_each(|one| lists.values().append_value(one));
                    }
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
            Column::Trait(_) => {
                let mut texts = StringBuilder::new();
                for cell in cells {
                    match cell {
                        Some(Cell::Trait(Some(value))) => texts.append_value(values::text(value)),
                        _ => texts.append_null(),
                    }
                }
                Arc::new(texts.finish())
            }
        });
    }
    RecordBatch::try_new(schema, arrays).map_err(file)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::UInt32Type;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use segue_proto::events::v1::{Value, value::Kind};

    use super::*;

    fn columns() -> Arc<Columns> {
        let names = ["email", "trait:level", "phone"].map(str::to_owned);
        Arc::new(Columns::parse(&names).expect("valid"))
    }

    fn row(person: u32, emails: &[&str], level: Option<Kind>, phones: &[&str]) -> Row {
        let texts = |all: &[&str]| Cell::Identifiers(all.iter().map(|one| (*one).to_owned()).collect());
        let level = Cell::Trait(level.map(|kind| Value { kind: Some(kind) }));
        Row { person, id: format!("id-{person}"), cells: vec![texts(emails), level, texts(phones)] }
    }

    fn awkward() -> Vec<Row> {
        vec![
            row(1, &["a@x.kr", "b@x.kr"], Some(Kind::StringValue("gold, \"old\"\r\nline".to_owned())), &["+82 10"]),
            row(2, &[], None, &["=1+1"]),
            row(3, &["가@x.kr"], Some(Kind::DecimalE4Value(15_000)), &[""]),
        ]
    }

    /// The file, its rows written in two goes, and taken after each.
    fn written(format: ExportFormat, rows: &[Row]) -> Vec<u8> {
        let mut writer = Writer::new(format, columns()).expect("a format");
        let (first, rest) = rows.split_at(rows.len() / 2);
        let mut bytes = Vec::new();
        for part in [first, rest] {
            if !part.is_empty() {
                writer.write(part).expect("writes");
            }
            bytes.extend(writer.take());
        }
        writer.finish().expect("finishes");
        bytes.extend(writer.take());
        bytes
    }

    #[test]
    fn csv_has_a_header_and_quotes_whatever_would_break_a_line() {
        let bytes = written(ExportFormat::Csv, &awkward());
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        assert!(
            text.starts_with("person,id,email,trait:level,phone\r\n1,id-1,a@x.kr;b@x.kr,\"gold, \"\"old\"\"\r\nline\",+82 10\r\n"),
            "{text}"
        );
        let mut reader = csv::ReaderBuilder::new().from_reader(bytes.as_slice());
        let read: Vec<Vec<String>> = reader.records().map(|record| record.expect("reads").iter().map(str::to_owned).collect()).collect();
        assert_eq!(read, awkward().iter().map(csv_record).collect::<Vec<_>>());
        assert_eq!(written(ExportFormat::Csv, &[]), b"person,id,email,trait:level,phone\r\n");
    }

    #[test]
    fn ndjson_has_one_object_per_line_with_typed_values() {
        let text = String::from_utf8(written(ExportFormat::Ndjson, &awkward())).expect("UTF-8");
        assert_eq!(text.lines().count(), 3);
        let read: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(read[0]["email"], serde_json::json!(["a@x.kr", "b@x.kr"]));
        assert_eq!(read[0]["trait:level"], "gold, \"old\"\r\nline");
        assert_eq!(
            (&read[1]["person"], &read[1]["trait:level"], &read[1]["email"]),
            (&2.into(), &serde_json::Value::Null, &serde_json::json!([]))
        );
        assert_eq!(read[2]["trait:level"].to_string(), "1.5000");
        assert!(written(ExportFormat::Ndjson, &[]).is_empty());
    }

    #[test]
    fn parquet_reads_back_as_it_was_also_over_several_row_groups_and_empty() {
        for count in [0, 3, 70_000_u32] {
            let rows: Vec<Row> = (0..count).map(|at| Row { person: at + 1, ..awkward()[at as usize % 3].clone() }).collect();
            let mut writer = Writer::new(ExportFormat::Parquet, columns()).expect("a format");
            let mut bytes = Vec::new();
            for page in rows.chunks(1_000) {
                writer.write(page).expect("writes");
                bytes.extend(writer.take());
            }
            writer.finish().expect("finishes");
            bytes.extend(writer.take());
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).expect("a Parquet file");
            assert_eq!(
                reader.metadata().num_row_groups(),
                [0, 1, 2][[0, 3, 70_000].iter().position(|one| *one == count).expect("it is one")]
            );
            let mut read = Vec::new();
            for batch in reader.build().expect("readable") {
                let batch = batch.expect("readable");
                let texts = |column: usize, at: usize| {
                    let list = batch.column(column).as_list::<i32>().value(at);
                    Cell::Identifiers(list.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
                };
                let levels = batch.column(3).as_string::<i32>();
                for at in 0..batch.num_rows() {
                    let level = levels.is_valid(at).then(|| Value { kind: Some(Kind::StringValue(levels.value(at).to_owned())) });
                    read.push(Row {
                        person: batch.column(0).as_primitive::<UInt32Type>().value(at),
                        id: batch.column(1).as_string::<i32>().value(at).to_owned(),
                        cells: vec![texts(2, at), Cell::Trait(level), texts(4, at)],
                    });
                }
            }
            let as_text = |cell: &Cell| match cell {
                Cell::Trait(Some(value)) => Cell::Trait(Some(Value { kind: Some(Kind::StringValue(values::text(value))) })),
                cell => cell.clone(),
            };
            let expected = rows.iter().map(|row| Row { cells: row.cells.iter().map(as_text).collect(), ..row.clone() });
            assert!(read == expected.collect::<Vec<Row>>(), "{count} rows");
        }
    }

    #[test]
    fn a_format_must_be_named() {
        assert!(matches!(Writer::new(ExportFormat::Unspecified, columns()), Err(AudienceError::Invalid(_))));
    }
}
