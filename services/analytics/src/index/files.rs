//! Event files: what the catalogue says of them, reading their columns through a cache, and deleting them when nobody reads
//! them any more.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};
use segue_model::TenantId;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::lake::Lake;
use super::run::Span;
use super::write::{CHECKSUMS_KEY, checksum, checksum_at};
use crate::scan::ScanError;

/// One row group, as the catalogue knows it: a run, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Whose rows; one event only.
    pub(crate) event: Arc<str>,
    pub(crate) rows: u64,
    /// Smallest and largest person.
    pub(crate) persons: Span<u32>,
    /// Smallest and largest event time.
    pub(crate) ts: Span<i64>,
}

/// What the catalogue says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEntry {
    /// Path below the lake's URL; starts with the tenant.
    pub(crate) name: String,
    /// Whole UTC days (numbers since 1970) that it covers, both inclusive.
    pub(crate) days: Span<i64>,
    pub(crate) bytes: u64,
    /// Length and checksum of the footer, which holds all other checksums.
    pub(crate) footer_bytes: u64,
    pub(crate) footer_checksum: u64,
    pub(crate) groups: Vec<Group>,
}

impl FileEntry {
    pub(crate) fn rows(&self) -> u64 {
        self.groups.iter().map(|group| group.rows).sum()
    }
}

/// Key of the cache: a file is known by a number of its own in this process, which no other tenant's file shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    file: u64,
    group: u32,
    column: Arc<str>,
}

#[derive(Clone)]
enum Cached {
    /// `None`: the file has no such column.
    Column(Option<ArrayRef>),
    Footer(ArrowReaderMetadata),
}

/// Decoded columns and footers, bounded in bytes, the least recently used dropped first.
#[derive(Clone)]
pub(crate) struct ColumnCache(Cache<CacheKey, Cached>);

impl std::fmt::Debug for ColumnCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnCache").field("bytes", &self.0.weighted_size()).finish()
    }
}

impl ColumnCache {
    /// A cache of so many bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |key: &CacheKey, value: &Cached| {
            let bytes = match value {
                Cached::Column(Some(column)) => column.get_array_memory_size(),
                Cached::Column(None) => 0,
                Cached::Footer(footer) => footer.metadata().memory_size(),
            };
            u32::try_from(bytes + key.column.len() + 128).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(bytes_max).eviction_policy(moka::policy::EvictionPolicy::lru()).weigher(weigh).build())
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.weighted_size()
    }

    /// Lets go of all columns; footers stay.
    pub(crate) fn forget_columns(&self) {
        for (key, _) in self.0.iter().filter(|(_, cached)| matches!(cached, Cached::Column(_))) {
            self.0.invalidate(key.as_ref());
        }
        self.0.run_pending_tasks();
    }
}

/// A file that queries may hold on to. When it was replaced by others, it is deleted as the last holder lets go.
pub(crate) struct FileHandle {
    pub(crate) entry: FileEntry,
    tenant: TenantId,
    number: u64,
    lake: Lake,
    cache: ColumnCache,
    cached: Mutex<HashSet<CacheKey>>,
    replaced: AtomicBool,
    deletions: mpsc::UnboundedSender<String>,
}

impl std::fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileHandle").field("name", &self.entry.name).finish_non_exhaustive()
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        for key in self.cached.get_mut().drain() {
            self.cache.0.invalidate(&key);
        }
        if *self.replaced.get_mut() {
            // Nobody listens when the process stops; the file is then swept at the next start.
            let _ = self.deletions.send(std::mem::take(&mut self.entry.name));
        }
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl FileHandle {
    pub(crate) fn new(
        tenant: TenantId,
        entry: FileEntry,
        lake: Lake,
        cache: ColumnCache,
        deletions: mpsc::UnboundedSender<String>,
    ) -> Self {
        Self {
            entry,
            tenant,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            lake,
            cache,
            cached: Mutex::default(),
            replaced: AtomicBool::new(false),
            deletions,
        }
    }

    /// The catalogue no longer names it: delete it when nobody reads it.
    pub(crate) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// Columns of a row group, in the order of `names`; `None` where the file has no such column.
    pub(crate) fn columns(&self, group: usize, names: &[Arc<str>]) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        let mut found: Vec<Option<Option<ArrayRef>>> = names
            .iter()
            .map(|name| match self.cache.0.get(&self.key(group, name)) {
                Some(Cached::Column(column)) => Some(column),
                Some(Cached::Footer(_)) | None => None,
            })
            .collect();
        let missing: Vec<Arc<str>> =
            names.iter().zip(&found).filter(|(_, column)| column.is_none()).map(|(name, _)| name.clone()).collect();
        if !missing.is_empty() {
            let batch = self.read(group, Some(&missing)).map_err(|source| self.error(source))?;
            for (name, slot) in names.iter().zip(&mut found).filter(|(_, slot)| slot.is_none()) {
                // A column without any value is the same as none, and takes no memory.
                let column = batch.column_by_name(name).filter(|column| column.null_count() < column.len()).cloned();
                self.remember(self.key(group, name), Cached::Column(column.clone()));
                *slot = Some(column);
            }
        }
        Ok(found.into_iter().map(Option::flatten).collect())
    }

    /// All columns of a row group, past the cache.
    pub(crate) fn group(&self, group: usize) -> Result<RecordBatch, ScanError> {
        self.read(group, None).map_err(|source| self.error(source))
    }

    /// Names and types of all columns.
    pub(crate) fn schema(&self) -> Result<SchemaRef, ScanError> {
        self.footer().map(|footer| footer.schema().clone()).map_err(|source| self.error(source))
    }

    fn error(&self, source: anyhow::Error) -> ScanError {
        ScanError::File { file: self.entry.name.clone(), tenant: self.tenant.to_string(), source }
    }

    fn key(&self, group: usize, column: &Arc<str>) -> CacheKey {
        CacheKey { file: self.number, group: group as u32, column: column.clone() }
    }

    fn remember(&self, key: CacheKey, value: Cached) {
        self.cached.lock().insert(key.clone());
        self.cache.0.insert(key, value);
    }

    fn footer(&self) -> anyhow::Result<ArrowReaderMetadata> {
        // No row group has this number.
        let key = CacheKey { file: self.number, group: u32::MAX, column: "".into() };
        if let Some(Cached::Footer(footer)) = self.cache.0.get(&key) {
            return Ok(footer);
        }
        let start = self.entry.bytes.checked_sub(self.entry.footer_bytes).context("the catalogue's footer is longer than the file")?;
        let content = self.lake.read(&self.entry.name, std::slice::from_ref(&(start..self.entry.bytes)))?.pop().unwrap_or_default();
        anyhow::ensure!(checksum(&content) == self.entry.footer_checksum, "the footer's checksum does not match the catalogue");
        let footer = Chunks { bytes: self.entry.bytes, parts: vec![(start, content)] };
        let footer = ArrowReaderMetadata::load(&footer, ArrowReaderOptions::new())?;
        anyhow::ensure!(
            footer.metadata().num_row_groups() == self.entry.groups.len(),
            "it has {} row groups and the catalogue knows {}",
            footer.metadata().num_row_groups(),
            self.entry.groups.len()
        );
        self.remember(key, Cached::Footer(footer.clone()));
        Ok(footer)
    }

    /// Reads columns (all: `None`) of a row group as one batch, checking every checksum.
    fn read(&self, group: usize, names: Option<&[Arc<str>]>) -> anyhow::Result<RecordBatch> {
        let footer = self.footer()?;
        let schema = footer.parquet_schema();
        let wanted = |root: &str| names.is_none_or(|names| names.iter().any(|name| name.as_ref() == root));
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(|leaf| wanted(schema.get_column_root(*leaf).name())).collect();
        let rows = self.entry.groups.get(group).context("the catalogue knows no such row group")?.rows;
        let meta = footer.metadata().row_group(group);
        anyhow::ensure!(meta.num_rows() as u64 == rows, "row group {group} has {} rows and the catalogue says {rows}", meta.num_rows());

        let ranges: Vec<Range<u64>> = leaves
            .iter()
            .map(|leaf| {
                let (start, length) = meta.column(*leaf).byte_range();
                start..start + length
            })
            .collect();
        let parts = self.lake.read(&self.entry.name, &ranges)?;
        let checksums = footer
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .and_then(|pairs| pairs.iter().find(|pair| pair.key == CHECKSUMS_KEY))
            .and_then(|pair| pair.value.as_deref())
            .context("it carries no checksums")?;
        for (leaf, part) in leaves.iter().zip(&parts) {
            anyhow::ensure!(
                checksum_at(checksums, group * schema.num_columns() + leaf) == Some(checksum(part)),
                "column `{}` of row group {group} is damaged: its checksum does not match",
                schema.get_column_root(*leaf).name()
            );
        }
        let chunks = Chunks { bytes: self.entry.bytes, parts: ranges.iter().map(|range| range.start).zip(parts).collect() };
        let mask = ProjectionMask::leaves(schema, leaves);
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, footer)
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(rows.max(1) as usize)
            .build()?;
        let batch = reader.next().context("it ends early")??;
        anyhow::ensure!(batch.num_rows() as u64 == rows, "row group {group} gave {} rows of {rows}", batch.num_rows());
        Ok(batch)
    }
}

/// The parts of a file that were read, to the Parquet reader the whole file.
struct Chunks {
    bytes: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl Chunks {
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        self.parts
            .iter()
            .find(|(at, part)| *at <= start && start < at + part.len() as u64)
            .map(|(at, part)| part.slice((start - at) as usize..))
            .ok_or_else(|| parquet::errors::ParquetError::EOF(format!("byte {start} lies outside of what was read")))
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(bytes::Buf::reader(self.from(start)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let part = self.from(start)?;
        if part.len() < length {
            return Err(parquet::errors::ParquetError::EOF(format!("{length} bytes from byte {start} were not read")));
        }
        Ok(part.slice(..length))
    }
}
