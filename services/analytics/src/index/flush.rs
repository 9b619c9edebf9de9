//! Writing a tail to files, and storing positions.
//!
//! The order is what makes a crash harmless: files are written under their final names and synced; then one transaction makes
//! them exist and moves the positions; only then does the tail let go of its rows. A file whose transaction did not happen is
//! swept at the next start.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use segue_model::TenantId;

use super::Shared;
use super::run::{MemoryRun, Piece, Span, merge_pieces};
use super::tail::{Capture, TenantIndex};
use super::write::{WrittenFile, union_schema, write_file};
use crate::scan::Column;
use crate::store::{Checkpoint, Publication};

const DAY_US: i64 = 86_400_000_000;
/// So many days get a file of their own per flush, those with the most events; the rest (an import of scattered days) shares one.
const DAY_FILES_MAX: usize = 8;

/// The UTC day of a moment, counted from 1970.
pub(crate) fn day_of(ts: i64) -> i64 {
    ts.div_euclid(DAY_US)
}

/// A name that no other file has: the tenant, the days, and something random.
pub(crate) fn file_name(tenant: &TenantId, days: Span<i64>) -> String {
    let date = |day: i64| match chrono::DateTime::from_timestamp(day.saturating_mul(86_400), 0) {
        Some(time) => time.format("%Y%m%d").to_string(),
        None => day.to_string(),
    };
    format!("{tenant}/events/{}-{}-{}.parquet", date(days.0), date(days.1), uuid::Uuid::new_v4().simple())
}

impl Shared {
    /// Writes the tail to files, or fails and leaves everything as it was.
    pub(crate) async fn flush(&self, tenant: &Arc<TenantIndex>) -> anyhow::Result<()> {
        let _gate = tenant.flush.lock().await;
        let capture = tenant.capture()?;
        match self.write_tail(tenant, &capture).await {
            Ok(files) => {
                let files = files.into_iter().map(|file| self.handle(&tenant.id, file.entry)).collect();
                tenant.flushed(&capture, files);
                self.room.notify_waiters();
                Ok(())
            }
            Err(error) => {
                tenant.not_flushed(capture, self.clock.now_us());
                Err(error.context(format!("the tail of tenant {} cannot be written to files", tenant.id)))
            }
        }
    }

    async fn write_tail(&self, tenant: &TenantIndex, capture: &Capture) -> anyhow::Result<Vec<WrittenFile>> {
        let files = match capture.pieces.is_empty() {
            true => Vec::new(),
            false => {
                let (id, pieces, redirects) = (tenant.id.clone(), capture.pieces.clone(), capture.redirects.clone());
                tokio::task::spawn_blocking(move || files_of(&id, &merge_pieces(&pieces, Some(&redirects))?)).await??
            }
        };
        for file in &files {
            self.lake.write(&file.entry.name, file.content.clone()).await.with_context(|| format!("writing {}", file.entry.name))?;
        }
        // A checkpoint must not store a mark between here and the transaction that removes marks.
        let _marks = self.marks.lock().await;
        let publication = Publication {
            new: files.iter().map(|file| file.entry.clone()).collect(),
            replaced: Vec::new(),
            properties: capture.properties.clone(),
            flushed: capture
                .lanes
                .iter()
                .filter(|(_, lane)| lane.applied > lane.flushed)
                .map(|(number, lane)| (*number, lane.applied))
                .collect(),
            skipped: capture
                .lanes
                .iter()
                .filter(|(_, lane)| lane.was_skipped)
                .map(|(number, lane)| {
                    let again = || self.partitions.get(number)?.lock().skipped.get(&tenant.id).map(|(first, _)| *first);
                    (*number, if lane.catching_up { Some(lane.applied + 1) } else { again() })
                })
                .collect(),
            checkpoint: Checkpoint::default(),
        };
        self.catalogue.publish(&tenant.id, self.clock.now_us(), &publication).await?;
        Ok(files)
    }

    /// Stores where each partition stands, and tells the log what is no longer needed.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        let _marks = self.marks.lock().await;
        let mut checkpoint = Checkpoint::default();
        for (number, partition) in &self.partitions {
            let safe = self.safe_position(*number);
            let partition = partition.lock();
            if safe > partition.saved {
                checkpoint.positions.push((*number, safe));
            }
            // A mark counts only once reading would start behind it: until then, reading again makes it again, or takes the events in.
            let due = partition.skipped.iter().filter(|(_, (first, stored))| !stored && *first <= safe.saturating_add(1));
            checkpoint.skipped.extend(due.map(|(tenant, (first, _))| (tenant.clone(), *number, *first)));
        }
        if checkpoint.positions.is_empty() && checkpoint.skipped.is_empty() {
            return Ok(());
        }
        self.catalogue.checkpoint(&checkpoint).await?;
        for (tenant, number, first) in &checkpoint.skipped {
            if let Some(partition) = self.partitions.get(number)
                && let Some((known, stored)) = partition.lock().skipped.get_mut(tenant)
                && known == first
            {
                *stored = true;
            }
        }
        for (number, position) in &checkpoint.positions {
            if let Some(partition) = self.partitions.get(number) {
                partition.lock().saved = *position;
            }
            self.log.hold(super::RESOLVED, *number, super::CONSUMER, *position).await?;
        }
        Ok(())
    }
}

/// Cuts a merged piece into files by UTC day.
fn files_of(tenant: &TenantId, piece: &Piece) -> anyhow::Result<Vec<WrittenFile>> {
    let mut rows_of: BTreeMap<i64, usize> = BTreeMap::new();
    for run in &piece.runs {
        for ts in times(run)? {
            *rows_of.entry(day_of(*ts)).or_default() += 1;
        }
    }
    let mut largest: Vec<(i64, usize)> = rows_of.iter().map(|(day, rows)| (*day, *rows)).collect();
    largest.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    let own: Vec<i64> = largest.iter().take(DAY_FILES_MAX).map(|(day, _)| *day).collect();
    let rest: Vec<i64> = rows_of.keys().copied().filter(|day| !own.contains(day)).collect();

    let mut files = Vec::new();
    for day in own {
        files.push(write_part(tenant, piece, (day, day), |ts| day_of(ts) == day)?);
    }
    if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        files.push(write_part(tenant, piece, (*first, *last), |ts| rest.binary_search(&day_of(ts)).is_ok())?);
    }
    Ok(files)
}

fn times(run: &MemoryRun) -> anyhow::Result<&[i64]> {
    let column = run.batch.column_by_name(&Column::Ts.name()).and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok(column.context("a run has no times")?.values())
}

fn write_part(tenant: &TenantId, piece: &Piece, days: Span<i64>, belongs: impl Fn(i64) -> bool) -> anyhow::Result<WrittenFile> {
    let parts = piece.runs.iter().map(|run| select(run, &belongs)).filter_map(Result::transpose).collect::<anyhow::Result<Vec<_>>>()?;
    let schema = union_schema(parts.iter().map(|run| run.batch.schema_ref().as_ref()));
    write_file(file_name(tenant, days), days, schema, parts.into_iter().map(Ok))
}

/// The rows of a run whose time belongs; `None` when there are none.
pub(crate) fn select(run: &MemoryRun, belongs: &impl Fn(i64) -> bool) -> anyhow::Result<Option<MemoryRun>> {
    let times = times(run)?;
    let rows: Vec<u32> = (0..).zip(times).filter(|(_, ts)| belongs(**ts)).map(|(row, _)| row).collect();
    Ok(match rows.len() {
        0 => None,
        all if all == times.len() => Some(run.clone()),
        _ => Some(run.rows(rows)?),
    })
}
