//! Catching up a tenant whose module was off: the events that were left on the log, in order, in groups of their own.
//!
//! One tenant at a time per partition. The next group (whose, until where) is written before it begins, so that it can be
//! repeated exactly; its batches have a producer and a sequence of their own. What was sent twice while the module was off
//! counts once, as far as the marks reach back from now.

use segue_log::{LogError, ReadLimits, StoredBatch};
use tracing::Instrument;

use super::error::PipelineError;
use super::fault::Point;
use super::marks::day_of;
use super::prepare::decode;
use super::resolve::NoAnswer;
use super::retry::Backoff;
use super::steps::{Done, Turn};
use super::worker::Worker;
use crate::ACCEPTED;
use crate::store::pipeline::{self as sql, Counts, PartitionRow, SkipRow};

/// Bytes of batches that one group looks through.
const BYTES_MAX: usize = 4 << 20;
/// Batches that one group looks through.
const BATCHES_MAX: usize = 256;

impl Worker {
    /// Does one step of catching up. False when there is nothing to catch up.
    pub(super) async fn catch_up(&mut self) -> Result<bool, PipelineError> {
        if self.row.catchup_tenant.is_empty() && !self.plan_catch_up().await? {
            return Ok(false);
        }
        let (tenant, until) = (self.row.catchup_tenant.clone(), self.row.catchup_until);
        let Some(skip) = self.skips.get(&tenant).cloned().filter(|skip| skip.reached < until) else {
            // Level already, or nothing planned after all.
            return Ok(true);
        };
        let Some(batches) = self.read_skipped(&skip, until as u64).await? else { return Ok(true) };
        let span = tracing::info_span!("catch up", partition = self.partition, tenant, after = skip.reached, until);
        self.work_skipped(skip, batches).instrument(span).await?;
        Ok(true)
    }

    /// Chooses the next group and writes it down.
    async fn plan_catch_up(&mut self) -> Result<bool, PipelineError> {
        let Some(skip) = self.skips.values().find(|skip| self.is_on(&skip.tenant)).cloned() else { return Ok(false) };
        if skip.reached >= self.row.position {
            let mut tx = self.shared.db.begin().await?;
            sql::fence(&mut tx, self.owner).await?;
            sql::delete_skip(&mut tx, self.owner.partition, &skip.tenant).await?;
            tx.commit().await?;
            tracing::info!(partition = self.partition, tenant = skip.tenant, "caught up");
            self.skips.remove(&skip.tenant);
            return Ok(true);
        }
        let batches = match self.read_range(skip.reached as u64).await {
            Ok(batches) => batches,
            Err(PipelineError::Log(LogError::Trimmed { first_available, .. })) => {
                self.note_loss(skip, first_available).await?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let until = batches.last().map_or(skip.reached, |batch| (batch.position as i64).min(self.row.position));
        self.write_plan(&skip.tenant, until).await?;
        Ok(true)
    }

    async fn write_plan(&mut self, tenant: &str, until: i64) -> Result<(), PipelineError> {
        let to = PartitionRow { catchup_tenant: tenant.to_owned(), catchup_until: until, ..self.row.clone() };
        let mut tx = self.shared.db.begin().await?;
        sql::fence(&mut tx, self.owner).await?;
        sql::advance_catch_up(&mut tx, self.owner, &to).await?;
        tx.commit().await?;
        self.row = to;
        self.has_planned_catch_up = true;
        Ok(())
    }

    /// Gives a planned group up. Identity may have answered a part of it: its sequence is not used again.
    async fn abandon_plan(&mut self) -> Result<(), PipelineError> {
        let to = PartitionRow {
            catchup_sequence: self.row.catchup_sequence + 1,
            catchup_tenant: String::new(),
            catchup_until: 0,
            ..self.row.clone()
        };
        let mut tx = self.shared.db.begin().await?;
        sql::fence(&mut tx, self.owner).await?;
        sql::advance_catch_up(&mut tx, self.owner, &to).await?;
        tx.commit().await?;
        self.row = to;
        Ok(())
    }

    async fn read_range(&self, after: u64) -> Result<Vec<StoredBatch>, PipelineError> {
        let limits = ReadLimits { batches_max: BATCHES_MAX, bytes_max: BYTES_MAX, wait: std::time::Duration::ZERO };
        Ok(self.shared.log.read(ACCEPTED, self.partition, after, limits).await?)
    }

    /// The planned batches. None when retention was faster.
    async fn read_skipped(&mut self, skip: &SkipRow, until: u64) -> Result<Option<Vec<StoredBatch>>, PipelineError> {
        let mut batches: Vec<StoredBatch> = Vec::new();
        while batches.last().is_none_or(|batch| batch.position < until) {
            let after = batches.last().map_or(skip.reached as u64, |batch| batch.position);
            match self.read_range(after).await {
                // They are on the log, so a read that finds nothing is one that was too early.
                Ok(more) if more.is_empty() => tokio::task::yield_now().await,
                Ok(more) => batches.extend(more.into_iter().filter(|batch| batch.position <= until)),
                Err(PipelineError::Log(LogError::Trimmed { first_available, .. })) => {
                    self.note_loss(skip.clone(), first_available).await?;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
            if self.stop.is_cancelled() {
                return Err(PipelineError::Stopping);
            }
        }
        Ok(Some(batches))
    }

    /// What was to be caught up is gone from the log up to `first_available`.
    async fn note_loss(&mut self, skip: SkipRow, first_available: u64) -> Result<(), PipelineError> {
        let reached = (first_available as i64 - 1).min(self.row.position);
        let lost = reached - skip.reached;
        tracing::error!(
            partition = self.partition,
            tenant = skip.tenant,
            after = skip.reached,
            first_available,
            "identity was off for longer than the log keeps events: {lost} batches cannot be caught up"
        );
        let skip = SkipRow { reached, lost: skip.lost + lost, ..skip };
        // The planned group may have been written in part: its sequence is not used again.
        let to = PartitionRow {
            catchup_sequence: self.row.catchup_sequence + 1,
            catchup_tenant: String::new(),
            catchup_until: 0,
            ..self.row.clone()
        };
        let mut tx = self.shared.db.begin().await?;
        sql::fence(&mut tx, self.owner).await?;
        sql::put_skip(&mut tx, self.owner.partition, &skip).await?;
        sql::advance_catch_up(&mut tx, self.owner, &to).await?;
        tx.commit().await?;
        self.row = to;
        self.skips.insert(skip.tenant.clone(), skip);
        Ok(())
    }

    async fn work_skipped(&mut self, skip: SkipRow, batches: Vec<StoredBatch>) -> Result<(), PipelineError> {
        let until = self.row.catchup_until;
        let sequence = self.row.catchup_sequence as u64 + 1;
        let producer = format!("ingest-{}-catchup", self.partition);
        let decoded = decode(self.partition, &batches, |tenant| tenant == skip.tenant)?;
        self.fault(Point::Read, true)?;
        let day = day_of(self.row.high_water_us);
        let group = self.preparer().prepare(decoded, day).await?;
        let traceparent = segue_runtime::trace::current_traceparent();
        let turn = Turn { source: format!("ingest.accepted.{}.catchup", self.partition), producer, sequence };
        let done = match self.resolve(group, day, &turn, traceparent.as_deref()).await {
            Ok(done) => done,
            Err(NoAnswer::Failed(error)) => return Err(error),
            Err(NoAnswer::SwitchedOff(_)) => {
                if self.may_decide(self.has_planned_catch_up, &turn.producer, sequence).await? {
                    return self.abandon_plan().await;
                }
                return Backoff::new(self.pause_max()).pause(&self.stop).await;
            }
        };
        self.fault(Point::Resolved, true)?;
        self.append(&done.output.batches, true).await?;
        self.fault(Point::Appended, true)?;
        self.set_aside(&batches, &done.output).await?;
        self.commit_skipped(SkipRow { reached: until, ..skip }, sequence, done).await
    }

    async fn commit_skipped(&mut self, skip: SkipRow, sequence: u64, done: Done) -> Result<(), PipelineError> {
        let to = PartitionRow { catchup_sequence: sequence as i64, catchup_tenant: String::new(), catchup_until: 0, ..self.row.clone() };
        let level = skip.reached >= self.row.position;
        let mut tx = self.shared.db.begin().await?;
        sql::fence(&mut tx, self.owner).await?;
        sql::advance_catch_up(&mut tx, self.owner, &to).await?;
        if level {
            sql::delete_skip(&mut tx, self.owner.partition, &skip.tenant).await?;
        } else {
            sql::put_skip(&mut tx, self.owner.partition, &skip).await?;
        }
        self.marks.write(&mut tx, done.day, &done.marks).await?;
        let counts: Vec<(&str, Counts)> = done.counts.iter().map(|(tenant, counts)| (tenant.as_str(), *counts)).collect();
        sql::add_counts(&mut tx, self.owner.partition, &counts).await?;
        self.fault(Point::BeforeCommit, true)?;
        tx.commit().await?;
        self.fault(Point::Committed, true)?;
        self.row = to;
        self.marks.remember(done.day, done.marks);
        if level {
            tracing::info!(partition = self.partition, tenant = skip.tenant, "caught up");
            self.skips.remove(&skip.tenant);
        } else {
            self.skips.insert(skip.tenant.clone(), skip);
        }
        Ok(())
    }
}
