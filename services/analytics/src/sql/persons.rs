//! Rows of `persons`: one per person with events, computed from the events chunk by chunk.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::BaselineMetrics;

use super::blocking;
use super::leaf::{ScanMeter, SnapshotExec};
use super::rows::{request, scan_error};
use super::selection::{PersonRange, Selection};
use crate::scan::{Column, PERSONS_PER_CHUNK, Snapshot};

/// Persons that are computed in one walk over the runs: few walks over small runs, and 24 MiB of memory.
const PERSONS_PER_WALK: u64 = 16 * PERSONS_PER_CHUNK as u64;

/// The persons of one part.
pub(super) fn stream(
    leaf: &SnapshotExec,
    part: &[PersonRange],
    partition: usize,
    context: &TaskContext,
) -> Result<SendableRecordBatchStream> {
    let part = if leaf.selection.is_empty() { Vec::new() } else { part.to_vec() };
    let walks: Vec<PersonRange> = part.iter().flat_map(walks).collect();
    let persons = Persons {
        snapshot: leaf.snapshot.clone(),
        selection: leaf.selection.clone(),
        schema: leaf.schema.clone(),
        with_devices: leaf.schema.index_of("devices").is_ok(),
        meter: leaf.meter(),
        walks: walks.into_iter(),
        found: Found::default(),
        reservation: MemoryConsumer::new(format!("persons[{partition}]")).register(context.memory_pool()),
        batch_rows: context.session_config().batch_size().max(1),
        left: leaf.fetch.unwrap_or(usize::MAX),
    };
    Ok(blocking::stream(leaf.schema.clone(), persons, BaselineMetrics::new(leaf.metrics_set(), partition)))
}

fn walks(range: &PersonRange) -> impl Iterator<Item = PersonRange> + use<> {
    let (start, end) = (range.start, range.end);
    (0..(end - start).div_ceil(PERSONS_PER_WALK)).map(move |walk| {
        let from = start + walk * PERSONS_PER_WALK;
        from..end.min(from + PERSONS_PER_WALK)
    })
}

/// Persons, batch by batch. Blocks.
struct Persons {
    snapshot: Arc<Snapshot>,
    selection: Selection,
    schema: SchemaRef,
    with_devices: bool,
    meter: ScanMeter,
    walks: std::vec::IntoIter<PersonRange>,
    found: Found,
    reservation: MemoryReservation,
    batch_rows: usize,
    left: usize,
}

/// What one walk found of one person.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first_us: i64,
    last_us: i64,
    events: i64,
}

const UNSEEN: Seen = Seen { first_us: i64::MAX, last_us: i64::MIN, events: 0 };

/// What one walk found, by person from `start`; given out up to `at`.
#[derive(Default)]
struct Found {
    start: u64,
    seen: Vec<Seen>,
    /// Device counts, where they are asked for.
    devices: Vec<i64>,
    at: usize,
}

impl Persons {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let batch = self.found.take(self.batch_rows.min(self.left), &self.schema)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
            self.found = Found::default();
            self.reservation.resize(0);
            let Some(range) = self.walks.next() else { return Ok(None) };
            self.found = self.walk(&range)?;
        }
    }

    fn walk(&mut self, range: &PersonRange) -> Result<Found> {
        let persons = (range.end - range.start) as usize;
        self.reservation.try_grow(persons * size_of::<Seen>())?;
        let mut seen = vec![UNSEEN; persons];
        let mut devices = Devices::default();
        let mut columns = vec![Column::Person, Column::Ts];
        if self.with_devices {
            columns.push(Column::Device);
        }
        let mut scan = self.snapshot.scan(request(&self.selection, range, columns));
        self.meter.next_scan();
        while let Some(batch) = scan.next() {
            self.meter.count(scan.stats());
            let batch = batch.map_err(scan_error)?.batch;
            let (Some(numbers), Some(times)) = (batch.columns().first(), batch.columns().get(1)) else {
                return Err(internal_datafusion_err!("a scan gave too few columns"));
            };
            let numbers = numbers.as_primitive::<UInt32Type>().values();
            for (person, ts) in numbers.iter().zip(times.as_primitive::<Int64Type>().values()) {
                let at = u64::from(*person).wrapping_sub(range.start) as usize;
                let Some(seen) = seen.get_mut(at) else { continue };
                seen.first_us = seen.first_us.min(*ts);
                seen.last_us = seen.last_us.max(*ts);
                seen.events += 1;
            }
            if let Some(used) = batch.columns().get(2) {
                devices.add(numbers, used.as_primitive::<UInt32Type>().values(), &self.reservation)?;
            }
        }
        let devices = if self.with_devices { devices.counts(range.start, persons, &self.reservation)? } else { Vec::new() };
        Ok(Found { start: range.start, seen, devices, at: 0 })
    }
}

impl Iterator for Persons {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let next = self.next_batch().transpose();
        if let Some(Ok(batch)) = &next {
            self.left -= batch.num_rows().min(self.left);
        }
        next
    }
}

impl Found {
    /// The next persons with events, at most so many.
    fn take(&mut self, rows: usize, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut places: Vec<usize> = Vec::with_capacity(rows);
        while places.len() < rows && self.at < self.seen.len() {
            if self.seen.get(self.at).is_some_and(|seen| seen.events > 0) {
                places.push(self.at);
            }
            self.at += 1;
        }
        let seen = || places.iter().filter_map(|place| self.seen.get(*place));
        let moments = |moment: fn(&Seen) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(seen().map(moment)).with_timezone("UTC"))
        };
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "first_seen" => moments(|seen| seen.first_us),
                "last_seen" => moments(|seen| seen.last_us),
                "events" => Arc::new(Int64Array::from_iter_values(seen().map(|seen| seen.events))),
                "devices" => {
                    let counts = places.iter().map(|place| self.devices.get(*place).copied().unwrap_or(0));
                    Arc::new(Int64Array::from_iter_values(counts))
                }
                _ => Arc::new(UInt32Array::from_iter_values(places.iter().map(|place| (self.start + *place as u64) as u32))),
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns.collect(), &options)?)
    }
}

/// Pairs of person and device, each once in the end.
#[derive(Default)]
struct Devices {
    pairs: Vec<u64>,
    /// Pairs up to here are sorted and distinct.
    distinct: usize,
}

impl Devices {
    fn add(&mut self, persons: &[u32], devices: &[u32], reservation: &MemoryReservation) -> Result<()> {
        let before = self.pairs.capacity();
        for (person, device) in persons.iter().zip(devices).filter(|(_, device)| **device != 0) {
            let pair = u64::from(*person) << 32 | u64::from(*device);
            if self.pairs.last() != Some(&pair) {
                self.pairs.push(pair);
            }
        }
        reservation.try_grow((self.pairs.capacity() - before) * size_of::<u64>())?;
        // Most pairs occur again and again: what is kept stays within twice the distinct ones.
        if self.pairs.len() > 2 * self.distinct + (1 << 20) {
            self.compact();
        }
        Ok(())
    }

    fn compact(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
        self.distinct = self.pairs.len();
    }

    fn counts(mut self, start: u64, persons: usize, reservation: &MemoryReservation) -> Result<Vec<i64>> {
        self.compact();
        reservation.try_grow(persons * size_of::<i64>())?;
        let mut counts = vec![0; persons];
        for pair in &self.pairs {
            if let Some(count) = counts.get_mut((pair >> 32).wrapping_sub(start) as usize) {
                *count += 1;
            }
        }
        reservation.shrink(self.pairs.capacity() * size_of::<u64>());
        Ok(counts)
    }
}
