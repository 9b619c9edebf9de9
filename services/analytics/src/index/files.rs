//! Event files: what the catalogue says of them, reading their columns through a cache, and deleting them when nobody reads
//! them any more.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};
use roaring::RoaringBitmap;
use segue_model::TenantId;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::having::{Few, Having, Holders};
use super::lake::Lake;
use super::run::Span;
use super::write::{CHECKSUMS_KEY, VALUES_KEY, checksum, checksum_at};
use crate::scan::{Column, ItemFields, ScanError, TRAITS, column_of};

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

    /// Rows that are events.
    pub(crate) fn event_rows(&self) -> u64 {
        self.groups.iter().filter(|group| group.event.as_ref() != TRAITS).map(|group| group.rows).sum()
    }
}

/// Key of the cache: a file is known by a number of its own in this process, which no other tenant's file shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    file: u64,
    group: u32,
    column: Arc<str>,
    /// Of these rows alone.
    few: Option<Arc<str>>,
}

#[derive(Clone)]
enum Cached {
    /// `None`: the file has no such column.
    Column(Option<ArrayRef>),
    Holders(Holders),
    Footer(ArrowReaderMetadata),
    Persons(Arc<RoaringBitmap>),
}

/// Where a file's footer and its persons lie in the cache: no row group has these numbers.
const FOOTER: u32 = u32::MAX;
const PERSONS: u32 = u32::MAX - 1;

/// Decoded columns and footers, bounded in bytes, the least recently used dropped first.
#[derive(Clone)]
pub(crate) struct ColumnCache {
    columns: Cache<CacheKey, Cached>,
    /// Held while something is decoded: a row group's by its hash.
    turns: Arc<[Mutex<()>; TURNS]>,
}

/// More than threads that decode at once, so that two of them rarely wait for each other without need.
const TURNS: usize = 256;

impl std::fmt::Debug for ColumnCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnCache").field("bytes", &self.columns.weighted_size()).finish()
    }
}

impl ColumnCache {
    /// A cache of so many bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weigh = |key: &CacheKey, value: &Cached| {
            let bytes = match value {
                Cached::Column(Some(column)) => column.get_array_memory_size(),
                Cached::Column(None) => 0,
                Cached::Holders(holders) => holders.bytes(),
                Cached::Footer(footer) => footer.metadata().memory_size(),
                Cached::Persons(persons) => persons.serialized_size(),
            };
            u32::try_from(bytes + key.column.len() + 128).unwrap_or(u32::MAX)
        };
        let columns = Cache::builder().max_capacity(bytes_max).eviction_policy(moka::policy::EvictionPolicy::lru()).weigher(weigh).build();
        Self { columns, turns: Arc::new([const { Mutex::new(()) }; TURNS]) }
    }

    fn turn(&self, file: u64, group: usize) -> &Mutex<()> {
        &self.turns[(file as usize).wrapping_mul(31).wrapping_add(group) % TURNS]
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.columns.run_pending_tasks();
        self.columns.weighted_size()
    }

    /// Lets go of all columns; footers stay.
    pub(crate) fn forget_columns(&self) {
        for (key, _) in self.columns.iter().filter(|(_, cached)| matches!(cached, Cached::Column(_) | Cached::Holders(_))) {
            self.columns.invalidate(key.as_ref());
        }
        self.columns.run_pending_tasks();
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
    /// Smallest and largest person number stored.
    persons: Span<u32>,
}

impl std::fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileHandle").field("name", &self.entry.name).finish_non_exhaustive()
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        for key in self.cached.get_mut().drain() {
            self.cache.columns.invalidate(&key);
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
        let spans = entry.groups.iter().map(|group| group.persons);
        let persons = spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).unwrap_or((0, 0));
        Self {
            entry,
            tenant,
            persons,
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

    /// The row groups of an event, which follow each other and go up through the persons.
    pub(crate) fn groups_of(&self, event: &str) -> Range<usize> {
        let groups = &self.entry.groups;
        let start = groups.partition_point(|group| group.event.as_ref() < event);
        start..start + groups[start..].partition_point(|group| group.event.as_ref() == event)
    }

    /// Columns of a row group (of these rows of it), in the order of `names`; `None` where the file has no such column.
    pub(crate) fn columns(&self, group: usize, names: &[Arc<str>], few: Option<&Few>) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        let mut found: Vec<Option<Option<ArrayRef>>> = names.iter().map(|name| self.cached_column(group, name, few)).collect();
        if found.iter().any(Option::is_none) {
            // Of threads that need the same columns, one decodes them.
            let _turn = self.cache.turn(self.number, group).lock();
            for (name, slot) in names.iter().zip(&mut found).filter(|(_, slot)| slot.is_none()) {
                *slot = self.cached_column(group, name, few);
            }
            let missing: Vec<Arc<str>> =
                names.iter().zip(&found).filter(|(_, column)| column.is_none()).map(|(name, _)| name.clone()).collect();
            let mut read = self.values(group, &missing)?.into_iter();
            for (name, slot) in names.iter().zip(&mut found).filter(|(_, slot)| slot.is_none()) {
                let column = match (read.next().flatten(), few) {
                    (Some(column), Some(few)) => Some(few.of(&column)?),
                    (column, _) => column,
                };
                self.remember(self.key(group, name, few), Cached::Column(column.clone()));
                *slot = Some(column);
            }
        }
        Ok(found.into_iter().map(Option::flatten).collect())
    }

    /// Which rows of a row group have a value in one of the columns.
    pub(crate) fn holders(&self, group: usize, having: &Having) -> Result<Holders, ScanError> {
        let key = self.key(group, &having.key, None);
        if let Some(Cached::Holders(holders)) = self.cache.columns.get(&key) {
            return Ok(holders);
        }
        let _turn = self.cache.turn(self.number, group).lock();
        if let Some(Cached::Holders(holders)) = self.cache.columns.get(&key) {
            return Ok(holders);
        }
        // They are not remembered: what comes next needs few rows of few of them.
        let columns = self.values(group, &having.names)?;
        let holders = having.holders(columns.iter().flatten());
        self.remember(key, Cached::Holders(holders.clone()));
        Ok(holders)
    }

    /// Whole columns past the cache. A column without any value is the same as none.
    fn values(&self, group: usize, names: &[Arc<str>]) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        let mut columns = Vec::with_capacity(names.len());
        let mut unread = Vec::new();
        for name in names {
            let cached = self.cached_column(group, name, None);
            if cached.is_none() && self.has_values(group, name).map_err(|source| self.error(source))? {
                unread.push(name.clone());
            }
            columns.push(cached.flatten());
        }
        if !unread.is_empty() {
            let batch = self.read(group, Some(&unread)).map_err(|source| self.error(source))?;
            for (name, column) in names.iter().zip(&mut columns).filter(|(_, column)| column.is_none()) {
                let found = column_of(name, |name| batch.column_by_name(name))?;
                *column = found.filter(|column| column.null_count() < column.len());
            }
        }
        Ok(columns)
    }

    fn cached_column(&self, group: usize, name: &Arc<str>, few: Option<&Few>) -> Option<Option<ArrayRef>> {
        match self.cache.columns.get(&self.key(group, name, few)) {
            Some(Cached::Column(column)) => Some(column),
            Some(Cached::Holders(_) | Cached::Footer(_) | Cached::Persons(_)) | None => None,
        }
    }

    /// Smallest and largest of [`FileHandle::persons`].
    pub(crate) fn persons_span(&self) -> Span<u32> {
        self.persons
    }

    /// The person numbers that rows are stored under, which redirects may lead elsewhere.
    pub(crate) fn persons(&self) -> Result<Arc<RoaringBitmap>, ScanError> {
        let key = CacheKey { file: self.number, group: PERSONS, column: "".into(), few: None };
        if let Some(Cached::Persons(persons)) = self.cache.columns.get(&key) {
            return Ok(persons);
        }
        let _turn = self.cache.turn(self.number, PERSONS as usize).lock();
        if let Some(Cached::Persons(persons)) = self.cache.columns.get(&key) {
            return Ok(persons);
        }
        let name: Arc<str> = Column::Person.name().into();
        let mut persons = RoaringBitmap::new();
        for group in 0..self.entry.groups.len() {
            let column = match self.cached_column(group, &name, None) {
                Some(column) => column,
                // The set is small and stays; the column would only push out others.
                None => {
                    let batch = self.read(group, Some(std::slice::from_ref(&name))).map_err(|source| self.error(source))?;
                    batch.column_by_name(&name).cloned()
                }
            };
            add_persons(&mut persons, column.as_ref())?;
        }
        persons.optimize();
        let persons = Arc::new(persons);
        self.remember(key, Cached::Persons(persons.clone()));
        Ok(persons)
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

    fn key(&self, group: usize, column: &Arc<str>, few: Option<&Few>) -> CacheKey {
        CacheKey { file: self.number, group: group as u32, column: column.clone(), few: few.map(|few| few.key().clone()) }
    }

    fn remember(&self, key: CacheKey, value: Cached) {
        self.cached.lock().insert(key.clone());
        self.cache.columns.insert(key, value);
    }

    fn footer(&self) -> anyhow::Result<ArrowReaderMetadata> {
        let key = CacheKey { file: self.number, group: FOOTER, column: "".into(), few: None };
        if let Some(Cached::Footer(footer)) = self.cache.columns.get(&key) {
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

    /// Whether any row of a row group has a value in a column, as far as the file tells.
    fn has_values(&self, group: usize, name: &str) -> anyhow::Result<bool> {
        let footer = self.footer()?;
        let name = ItemFields::of_column_name(name).map_or_else(|| name.to_owned(), |_| Column::ItemsList.name());
        let Ok(column) = footer.schema().index_of(&name) else { return Ok(false) };
        let columns = footer.schema().fields().len();
        let known = of_metadata(&footer, VALUES_KEY).and_then(|marks| marks.as_bytes().get(group * columns + column).copied());
        Ok(known != Some(b'0'))
    }

    /// Reads columns (all: `None`) of a row group as one batch, checking every checksum.
    fn read(&self, group: usize, names: Option<&[Arc<str>]>) -> anyhow::Result<RecordBatch> {
        let footer = self.footer()?;
        let schema = footer.parquet_schema();
        let wanted = |leaf: usize| names.is_none_or(|names| names.iter().any(|name| is_of(schema.column(leaf).path().parts(), name)));
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(|leaf| wanted(*leaf)).collect();
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
        let checksums = of_metadata(&footer, CHECKSUMS_KEY).context("it carries no checksums")?;
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

/// Whether a leaf, by its path, is a part of a column.
fn is_of(path: &[String], name: &str) -> bool {
    match ItemFields::of_column_name(name) {
        // The list of items, its entries, the item, the field.
        Some(fields) => {
            let field = path.get(3).filter(|_| path.first().is_some_and(|root| *root == Column::ItemsList.name()));
            field.is_some_and(|field| fields.iter().any(|wanted| wanted.name() == field))
        }
        None => path.first().is_some_and(|root| root == name),
    }
}

/// A text that a file carries.
fn of_metadata<'f>(footer: &'f ArrowReaderMetadata, key: &str) -> Option<&'f str> {
    let pairs = footer.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
}

/// Adds the numbers of a sorted column of persons to a set.
pub(crate) fn add_persons(persons: &mut RoaringBitmap, column: Option<&ArrayRef>) -> Result<(), ScanError> {
    let numbers = column
        .and_then(|column| column.as_primitive_opt::<UInt32Type>())
        .ok_or_else(|| ArrowError::SchemaError("a run has no usable column of persons".to_owned()))?;
    let mut last = None;
    // Neighbours are mostly equal.
    let distinct = numbers.values().iter().copied().filter(|number| last.replace(*number) != Some(*number));
    // In order, so that building a set takes no search; sorted columns never fail it, and a damaged one is taken value by value.
    match RoaringBitmap::from_sorted_iter(distinct) {
        Ok(of_column) => *persons |= of_column,
        Err(_) => persons.extend(numbers.values().iter().copied()),
    }
    Ok(())
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
