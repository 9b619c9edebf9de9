//! Retention: removes what is too old or too much, oldest first, never what a registered consumer has not passed. It works
//! in steps of bounded size, so that appends between them do not wait.

use std::sync::atomic::Ordering;

use sqlx::Connection;

use super::sql::{self, id_of, position_of};
use super::writer::{Part, ROW_OVERHEAD_BYTES, Reply, Writer, put_part};
use crate::{LogError, Trimmed};

/// Batches removed in one transaction.
const STEP_BATCHES: usize = 1000;
/// Batches looked at per partition when the oldest of all partitions are sought.
const LOOK_AHEAD: usize = 128;
/// Making room frees this part of the size at least, so that a full topic does not trim at every append.
const HEADROOM_DIVISOR: u64 = 64;

/// A run of retention in progress.
pub(super) struct TrimJob {
    cutoff_us: i64,
    /// The partition whose old batches are being removed; all done when beyond the last.
    partition: u16,
    total: Trimmed,
    reply: Option<Reply<Trimmed>>,
}

impl TrimJob {
    /// First by age, then by size.
    pub(super) fn by_age_and_size(writer: &Writer, now_us: i64, reply: Option<Reply<Trimmed>>) -> TrimJob {
        let age_us = i64::try_from(writer.config.retention_age.as_micros()).unwrap_or(i64::MAX);
        TrimJob { cutoff_us: now_us.saturating_sub(age_us), partition: 0, total: Trimmed::default(), reply }
    }
}

/// The oldest batches of one partition, to be removed together.
struct Cut {
    partition: u16,
    /// The last position removed.
    through: u64,
    removed: Trimmed,
}

impl Writer {
    /// Does one step; gives the job back when there is more to do.
    pub(super) async fn step_trim(&mut self, mut job: TrimJob) -> Option<TrimJob> {
        match self.trim_some(&mut job).await {
            Ok(true) => return Some(job),
            Ok(false) => {
                if let Some(reply) = job.reply {
                    let _ = reply.send(Ok(job.total));
                }
            }
            Err(error) => match job.reply {
                Some(reply) => drop(reply.send(Err(error))),
                None => tracing::warn!(
                    topic = self.shared.name,
                    error = &error as &dyn std::error::Error,
                    "retention failed; it will be tried again"
                ),
            },
        }
        None
    }

    /// Does all that is left of a job.
    pub(super) async fn finish_trim(&mut self, job: TrimJob) {
        let mut rest = Some(job);
        while let Some(job) = rest {
            rest = self.step_trim(job).await;
        }
    }

    /// Returns whether there may be more to do.
    async fn trim_some(&mut self, job: &mut TrimJob) -> Result<bool, LogError> {
        if usize::from(job.partition) < self.parts.len() {
            let oldest = self.list_oldest(job.partition, STEP_BATCHES).await?;
            let looked_at = oldest.len();
            let old: Vec<_> = oldest.into_iter().take_while(|(_, appended_at_us, _)| *appended_at_us < job.cutoff_us).collect();
            if old.len() < looked_at || looked_at < STEP_BATCHES {
                job.partition += 1;
            }
            let cut = cut_of(old.iter().map(|(id, _, bytes)| (*id, *bytes)));
            job.total = sum(job.total, self.remove(cut.into_iter().collect()).await?);
            return Ok(true);
        }
        let removed = self.remove_oldest(self.config.retention_bytes).await?;
        job.total = sum(job.total, removed);
        Ok(removed.batches > 0 && self.bytes > self.config.retention_bytes)
    }

    /// Frees room for so many bytes, as far as consumers allow.
    pub(super) async fn make_room(&mut self, bytes: u64) {
        let target = self.config.retention_bytes.saturating_sub(bytes.max(self.config.retention_bytes / HEADROOM_DIVISOR));
        while self.bytes > target {
            match self.remove_oldest(target).await {
                Ok(removed) if removed.batches > 0 => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(topic = self.shared.name, error = &error as &dyn std::error::Error, "cannot make room in a full topic");
                    return;
                }
            }
        }
    }

    /// One step of removing the oldest batches of all partitions until the topic is no larger than `target`.
    async fn remove_oldest(&mut self, target: u64) -> Result<Trimmed, LogError> {
        let mut excess = self.bytes.saturating_sub(target);
        if excess == 0 {
            return Ok(Trimmed::default());
        }
        let mut queues = Vec::new();
        for partition in 0..self.parts.len() as u16 {
            let oldest = self.list_oldest(partition, LOOK_AHEAD).await?;
            if !oldest.is_empty() {
                queues.push((partition, oldest.into_iter().peekable(), Vec::new()));
            }
        }
        while excess > 0 {
            let oldest = queues.iter_mut().filter_map(|queue| {
                let appended_at_us = queue.1.peek()?.1;
                Some((appended_at_us, queue))
            });
            let Some((_, (_, rows, taken))) = oldest.min_by_key(|(appended_at_us, _)| *appended_at_us) else { break };
            if let Some((id, _, bytes)) = rows.next() {
                excess = excess.saturating_sub(bytes);
                taken.push((id, bytes));
            }
            // Beyond what was looked at, another partition may not be the oldest: the next step looks again.
            if rows.peek().is_none() {
                break;
            }
        }
        let cuts = queues.into_iter().filter_map(|(_, _, taken)| cut_of(taken.into_iter())).collect();
        self.remove(cuts).await
    }

    /// Id, time and size of the oldest batches of a partition that may be removed.
    async fn list_oldest(&mut self, partition: u16, count: usize) -> Result<Vec<(i64, i64, u64)>, LogError> {
        let part = self.parts[usize::from(partition)];
        let limit = self.passed_by_all(partition);
        if part.first > limit {
            return Ok(Vec::new());
        }
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(sql::LIST_OLDEST)
            .bind(id_of(partition, part.first))
            .bind(id_of(partition, limit))
            .bind(count as i64)
            .fetch_all(&mut self.conn)
            .await?;
        Ok(rows.into_iter().map(|(id, at, length)| (id, at, length as u64 + ROW_OVERHEAD_BYTES)).collect())
    }

    /// The last position that every registered consumer has passed.
    fn passed_by_all(&self, partition: u16) -> u64 {
        let last = self.parts[usize::from(partition)].last;
        let holds = self.shared.holds.lock();
        let of_partition = holds.range((partition, String::new())..).take_while(|((other, _), _)| *other == partition);
        of_partition.map(|(_, hold)| hold.position).min().unwrap_or(last).min(last)
    }

    async fn remove(&mut self, cuts: Vec<Cut>) -> Result<Trimmed, LogError> {
        if cuts.is_empty() {
            return Ok(Trimmed::default());
        }
        // Readers learn of it first: one that met the hole with the old bounds would take it for damage.
        for cut in &cuts {
            self.shared.marks[usize::from(cut.partition)].first.store(cut.through + 1, Ordering::Release);
        }
        let result = self.delete(&cuts).await;
        if result.is_err() {
            for cut in &cuts {
                let first = self.parts[usize::from(cut.partition)].first;
                self.shared.marks[usize::from(cut.partition)].first.store(first, Ordering::Release);
            }
            result?;
        }
        let mut total = Trimmed::default();
        for cut in &cuts {
            self.parts[usize::from(cut.partition)] = self.part_after(cut);
            total = sum(total, cut.removed);
        }
        self.bytes = self.parts.iter().map(|part| part.bytes).sum();
        self.shared.bytes.store(self.bytes, Ordering::Relaxed);
        Ok(total)
    }

    async fn delete(&mut self, cuts: &[Cut]) -> Result<(), LogError> {
        let after: Vec<Part> = cuts.iter().map(|cut| self.part_after(cut)).collect();
        self.prepare().await?;
        let mut tx = self.conn.begin_with("BEGIN IMMEDIATE").await?;
        for (cut, part) in cuts.iter().zip(after) {
            sqlx::query(sql::DELETE_RANGE).bind(id_of(cut.partition, 0)).bind(id_of(cut.partition, cut.through)).execute(&mut *tx).await?;
            put_part(&mut tx, cut.partition, part).await?;
        }
        tx.commit().await?;
        self.finished();
        Ok(())
    }

    fn part_after(&self, cut: &Cut) -> Part {
        let part = self.parts[usize::from(cut.partition)];
        Part { first: cut.through + 1, bytes: part.bytes.saturating_sub(cut.removed.bytes), ..part }
    }

    /// The error for an append that finds no room.
    pub(super) fn full(&self) -> LogError {
        let holds = self.shared.holds.lock();
        let behind = |partition: u16, position: u64| self.parts.get(usize::from(partition)).map_or(0, |p| p.last.saturating_sub(position));
        let slowest = holds.iter().max_by_key(|((partition, _), hold)| behind(*partition, hold.position));
        LogError::Full {
            topic: self.shared.name.clone(),
            bytes: self.bytes,
            bytes_max: self.config.retention_bytes,
            slowest: slowest.map(|((_, consumer), _)| consumer.clone()),
        }
    }
}

/// The cut that removes these batches, which are consecutive.
fn cut_of(rows: impl Iterator<Item = (i64, u64)>) -> Option<Cut> {
    rows.fold(None, |cut: Option<Cut>, (id, bytes)| {
        let removed = cut.map_or(Trimmed::default(), |cut| cut.removed);
        let removed = sum(removed, Trimmed { batches: 1, bytes });
        Some(Cut { partition: (id >> 48) as u16, through: position_of(id), removed })
    })
}

fn sum(a: Trimmed, b: Trimmed) -> Trimmed {
    Trimmed { batches: a.batches + b.batches, bytes: a.bytes + b.bytes }
}
