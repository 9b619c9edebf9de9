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
use segue_store::StoreError;

use super::Shared;
use super::files::FileEntry;
use super::lake::{Lake, Unpublished};
use super::run::{MemoryRun, Piece, Span, merge_pieces};
use super::tail::{Attempt, Capture, TenantIndex};
use super::write::{FileWriter, union_schema};
use crate::scan::Column;
use crate::store::{Checkpoint, Publication, Published};

pub(super) const DAY_US: i64 = 86_400_000_000;
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
        let mut gate = tenant.flush.lock().await;
        if tenant.with(|state| state.closed) {
            return Ok(()); // it was unloaded, with all of its tail in files
        }
        self.try_flush(tenant, &mut gate).await.with_context(|| format!("the tail of tenant {} cannot be written to files", tenant.id))
    }

    /// `gate` holds the flush for as long as its end is not known, also when this is dropped midway.
    async fn try_flush(&self, tenant: &TenantIndex, gate: &mut Option<Attempt>) -> anyhow::Result<()> {
        self.settle(tenant, gate).await?;
        let attempt = gate.insert(Attempt { capture: tenant.capture(self.stored_from_us(&tenant.id))?, files: None });
        let written = match self.write_tail(tenant, &attempt.capture).await {
            Ok(written) => written,
            Err(error) => {
                self.settle(tenant, gate).await?;
                return Err(error);
            }
        };
        let files = attempt.files.insert(written);
        match self.publish_tail(tenant, &attempt.capture, files).await {
            Ok(Published::Done) => {
                self.end(tenant, gate, true);
                Ok(())
            }
            Ok(Published::FileGone) => {
                self.end(tenant, gate, false);
                anyhow::bail!("a file is gone from the catalogue");
            }
            Ok(Published::Moved { partition }) => {
                self.end(tenant, gate, false);
                anyhow::bail!(
                    "another process has written events of partition {partition} to files: let one process alone have the partition, and restart this one to see those files"
                );
            }
            // The answer alone may be lost: then all is well.
            Err(error) => match self.settle(tenant, gate).await? {
                true => Ok(()),
                false => Err(error.into()),
            },
        }
    }

    /// Finds out how an attempt ended; true when it got through. Fails, and leaves it open, when the store cannot be asked.
    async fn settle(&self, tenant: &TenantIndex, gate: &mut Option<Attempt>) -> anyhow::Result<bool> {
        let Some(Attempt { capture, files }) = gate.as_ref() else { return Ok(true) };
        let published = match files {
            None => false,
            Some(files) => {
                let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
                let asked = self.catalogue.is_published(&tenant.id, &names, &capture.advances()).await;
                asked.context("whether an earlier attempt got through is not known yet")?
            }
        };
        self.end(tenant, gate, published);
        Ok(published)
    }

    fn end(&self, tenant: &TenantIndex, gate: &mut Option<Attempt>, published: bool) {
        let Some(Attempt { capture, files }) = gate.take() else { return };
        if published {
            let files = files.into_iter().flatten().map(|entry| self.handle(&tenant.id, entry)).collect();
            tenant.flushed(&capture, files);
            self.room.notify_waiters();
        } else {
            tenant.not_flushed(capture, self.clock.now_us());
        }
    }

    pub(super) async fn write_tail(&self, tenant: &TenantIndex, capture: &Capture) -> anyhow::Result<Vec<FileEntry>> {
        if capture.pieces.is_empty() {
            return Ok(Vec::new());
        }
        let (id, lake, pieces, rewrite) = (tenant.id.clone(), self.lake.clone(), capture.pieces.clone(), capture.rewrite.clone());
        tokio::task::spawn_blocking(move || files_of(&id, &lake, &merge_pieces(&pieces, Some(&rewrite))?)).await?
    }

    pub(super) async fn publish_tail(&self, tenant: &TenantIndex, capture: &Capture, files: &[FileEntry]) -> Result<Published, StoreError> {
        // A checkpoint must not store a mark between here and the transaction that changes marks.
        let _marks = self.marks.lock().await;
        let mut skipped = Vec::new();
        for (number, lane) in &capture.lanes {
            let Some(partition) = self.partitions.get(number) else { continue };
            let mut partition = partition.lock();
            let Some(mark) = partition.skipped.get_mut(&tenant.id) else { continue };
            if let Some(first) = mark.after_flush(lane.applied) {
                // Until the answer is there, what the store has is not known.
                mark.stored = false;
                skipped.push((*number, first));
            }
        }
        let publication = Publication {
            new: files.to_vec(),
            replaced: Vec::new(),
            properties: capture.properties.clone(),
            flushed: capture.advances(),
            skipped,
            checkpoint: Checkpoint::default(),
        };
        let published = self.catalogue.publish(&tenant.id, self.clock.now_us(), &publication).await?;
        if published == Published::Done {
            for (number, first) in &publication.skipped {
                let applied = capture.lanes.get(number).map_or(0, |lane| lane.applied);
                self.move_mark(&tenant.id, *number, *first, applied);
            }
        }
        Ok(published)
    }

    /// Follows what the store now holds, where everything up to `applied` is in files.
    fn move_mark(&self, tenant: &TenantId, number: u16, stored: Option<u64>, applied: u64) {
        let Some(partition) = self.partitions.get(&number) else { return };
        let mut partition = partition.lock();
        let Some(mark) = partition.skipped.get_mut(tenant) else { return };
        // The tenant may have passed batches by since, or caught up.
        if stored.is_none() && mark.after_flush(applied) == Some(None) {
            partition.skipped.remove(tenant);
        } else {
            (mark.first, mark.stored) = (applied + 1, stored.is_some());
        }
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
            let due = partition.skipped.iter().filter(|(_, mark)| !mark.stored && mark.first <= safe.saturating_add(1));
            checkpoint.skipped.extend(due.map(|(tenant, mark)| (tenant.clone(), *number, mark.first)));
        }
        if checkpoint.positions.is_empty() && checkpoint.skipped.is_empty() {
            return Ok(());
        }
        self.catalogue.checkpoint(&checkpoint).await?;
        for (tenant, number, first) in &checkpoint.skipped {
            if let Some(partition) = self.partitions.get(number)
                && let Some(mark) = partition.lock().skipped.get_mut(tenant)
                && mark.first == *first
            {
                mark.stored = true;
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
pub(super) fn files_of(tenant: &TenantId, lake: &Lake, piece: &Piece) -> anyhow::Result<Vec<FileEntry>> {
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

    let mut files = Unpublished::new(lake);
    for day in own {
        files.add(write_part(tenant, lake, piece, (day, day), |ts| day_of(ts) == day)?);
    }
    if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        files.add(write_part(tenant, lake, piece, (*first, *last), |ts| rest.binary_search(&day_of(ts)).is_ok())?);
    }
    Ok(files.take())
}

fn times(run: &MemoryRun) -> anyhow::Result<&[i64]> {
    let column = run.batch.column_by_name(&Column::Ts.name()).and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok(column.context("a run has no times")?.values())
}

fn write_part(
    tenant: &TenantId,
    lake: &Lake,
    piece: &Piece,
    days: Span<i64>,
    belongs: impl Fn(i64) -> bool,
) -> anyhow::Result<Option<FileEntry>> {
    let parts = piece.runs.iter().map(|run| select(run, &belongs)).filter_map(Result::transpose).collect::<anyhow::Result<Vec<_>>>()?;
    let schema = union_schema(parts.iter().map(|run| run.batch.schema_ref().as_ref()));
    let mut writer = FileWriter::create(lake, file_name(tenant, days), days, schema)?;
    parts.iter().try_for_each(|run| writer.write(run))?;
    writer.finish()
}

/// The rows of a run whose time belongs; `None` when there are none.
fn select(run: &MemoryRun, belongs: &impl Fn(i64) -> bool) -> anyhow::Result<Option<MemoryRun>> {
    let times = times(run)?;
    let rows: Vec<u32> = (0..).zip(times).filter(|(_, ts)| belongs(**ts)).map(|(row, _)| row).collect();
    Ok(match rows.len() {
        0 => None,
        all if all == times.len() => Some(run.clone()),
        _ => Some(run.rows(rows)?),
    })
}
