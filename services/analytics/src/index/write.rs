//! Writing a file: runs in the order of events, each in row groups of its own, with a checksum per column of a row group.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

use super::files::{FileEntry, Group};
use super::run::{MemoryRun, Span};

/// Key of the checksums in a file's metadata: for each row group, for each leaf column, 16 hexadecimal digits.
pub(crate) const CHECKSUMS_KEY: &str = "segue.xxh3";
/// Rows of a row group at most: what one read decodes, and what one range of persons can skip.
const GROUP_ROWS_MAX: usize = 262_144;
/// Bytes after the metadata: its length and the magic number.
const TRAILER_BYTES: u64 = 8;

/// Checksum of a part of a file.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// One of the checksums stored under [`CHECKSUMS_KEY`].
pub(crate) fn checksum_at(text: &str, at: usize) -> Option<u64> {
    u64::from_str_radix(text.get(at * 16..at * 16 + 16)?, 16).ok()
}

/// A file in memory, ready to be stored.
pub(crate) struct WrittenFile {
    pub(crate) content: Bytes,
    pub(crate) entry: FileEntry,
}

/// Writes runs, given in the order of their events, as one file. The iterator makes a run when its turn comes, so that only one
/// is in memory at a time; `schema` covers them all.
pub(crate) fn write_file<E: From<anyhow::Error>>(
    name: String,
    days: Span<i64>,
    schema: SchemaRef,
    runs: impl Iterator<Item = Result<MemoryRun, E>>,
) -> Result<WrittenFile, E> {
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties()?)).map_err(anyhow::Error::from)?;
    let mut groups = Vec::new();
    for run in runs {
        let run = run?;
        let rows = run.batch.num_rows();
        for start in (0..rows).step_by(GROUP_ROWS_MAX) {
            let part = run.slice(start, GROUP_ROWS_MAX.min(rows - start)).map_err(anyhow::Error::from)?;
            let batch = widen(&part.batch, &schema)?;
            writer.write(&batch).and_then(|()| writer.flush()).map_err(anyhow::Error::from)?;
            groups.push(Group { event: part.event, rows: batch.num_rows() as u64, persons: part.persons, ts: part.ts });
        }
    }
    finish(writer, name, days, groups).map_err(E::from)
}

fn properties() -> Result<WriterProperties, anyhow::Error> {
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        // The catalogue knows what can be skipped; statistics would only make footers larger.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_created_by("segue".to_owned())
        .build())
}

fn finish(mut writer: ArrowWriter<Vec<u8>>, name: String, days: Span<i64>, groups: Vec<Group>) -> Result<WrittenFile, anyhow::Error> {
    use std::fmt::Write;
    writer.sync()?;
    let mut checksums = String::new();
    for group in writer.flushed_row_groups() {
        for column in group.columns() {
            let (start, length) = column.byte_range();
            let part = writer.inner().get(start as usize..(start + length) as usize).unwrap_or_default();
            write!(checksums, "{:016x}", checksum(part))?;
        }
    }
    writer.append_key_value_metadata(KeyValue::new(CHECKSUMS_KEY.to_owned(), checksums));
    let content = Bytes::from(writer.into_inner()?);
    let bytes = content.len() as u64;
    let trailer = content.len().saturating_sub(TRAILER_BYTES as usize);
    let length = content.get(trailer..trailer + 4).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    let footer_bytes = u64::from(length.unwrap_or(0)) + TRAILER_BYTES;
    let footer = content.get((bytes.saturating_sub(footer_bytes)) as usize..).unwrap_or_default();
    let entry = FileEntry { name, days, bytes, footer_bytes, footer_checksum: checksum(footer), groups };
    Ok(WrittenFile { content, entry })
}

/// A schema that covers all of these.
pub(crate) fn union_schema<'a>(schemas: impl Iterator<Item = &'a Schema>) -> SchemaRef {
    let mut fields: BTreeMap<String, Arc<Field>> = BTreeMap::new();
    for field in schemas.flat_map(Schema::fields) {
        fields.entry(field.name().clone()).or_insert_with(|| field.clone());
    }
    Arc::new(Schema::new(fields.into_values().collect::<Vec<_>>()))
}

/// The batch with the columns of `schema`; those it lacks are missing values.
fn widen(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, anyhow::Error> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => arrow::compute::cast(column, field.data_type()),
            None => Ok(arrow::array::new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
