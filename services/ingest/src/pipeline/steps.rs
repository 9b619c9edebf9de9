//! The steps that a group and a group of catching up have in common: resolving, appending, setting aside.

use std::collections::HashSet;

use segue_log::{NewBatch, StoredBatch, Topic};
use segue_model::TenantId;
use segue_proto::ingest::v1::ReasonCode;

use super::emit::{Output, emit};
use super::error::PipelineError;
use super::fault::Point;
use super::marks::Fingerprint;
use super::prepare::{Group, decode, mark_of};
use super::resolve::NoAnswer;
use super::retry::Backoff;
use super::worker::Worker;
use crate::accept::reason;
use crate::store::pipeline::{self as sql, Counts};
use crate::store::quarantine::{self, NewEntry};

/// Under which names a group asks identity and writes, so that both know it when it is repeated.
pub(super) struct Turn {
    /// Identity's source. Groups of catching up have their own: their positions are behind those of the others.
    pub(super) source: String,
    /// The log's producer.
    pub(super) producer: String,
    /// Ascends per source and producer.
    pub(super) sequence: u64,
}

/// What a group writes when it is done.
pub(super) struct Done {
    pub(super) day: i64,
    pub(super) marks: Vec<Fingerprint>,
    pub(super) counts: Vec<(String, Counts)>,
    pub(super) output: Output,
}

impl Worker {
    /// Resolves a prepared group and puts its output together.
    pub(super) async fn resolve(&self, mut group: Group, day: i64, turn: &Turn, traceparent: Option<&str>) -> Result<Done, NoAnswer> {
        let subjects: Vec<_> = group
            .tenants
            .iter_mut()
            .filter(|(_, events)| !events.subjects.is_empty())
            .map(|(tenant, events)| (tenant.clone(), std::mem::take(&mut events.subjects)))
            .collect();
        let answers = match self.shared.resolver.resolve(&turn.source, turn.sequence, subjects, &self.stop).await {
            Err(NoAnswer::Failed(error @ PipelineError::Superseded { .. })) => return Err(self.why_superseded(error).await.into()),
            answers => answers?,
        };
        let mut marks = std::mem::take(&mut group.marks);
        let duplicates: Vec<(String, u64)> = group.tenants.iter().map(|(tenant, events)| (tenant.clone(), events.duplicates)).collect();
        let output = emit(group, answers, self.shared.log.partitions(), &turn.producer, turn.sequence, traceparent);
        let counts = duplicates
            .into_iter()
            .map(|(tenant, duplicates)| {
                let resolved = output.resolved.get(&tenant).copied().unwrap_or(0) as i64;
                (tenant, Counts { resolved, duplicates: duplicates as i64 })
            })
            .collect();
        if !output.nobody.is_empty() {
            // Corrected and replayed, they come again under the same ids.
            let nobody: HashSet<Fingerprint> = output.nobody.iter().map(|(tenant, prepared)| mark_of(tenant, &prepared.event)).collect();
            marks.retain(|mark| !nobody.contains(mark));
        }
        Ok(Done { day, marks, counts, output })
    }

    /// Identity has answered for a later batch. When another process has taken over, that is all there is to it.
    async fn why_superseded(&self, error: PipelineError) -> PipelineError {
        match sql::find_partition(&self.shared.db, self.owner.partition).await {
            Ok(Some(row)) if row.epoch == self.owner.epoch => error,
            Ok(_) => PipelineError::Fenced { partition: self.owner.partition },
            // Whether it is ours is asked again before anything else is done.
            Err(error) => error.into(),
        }
    }

    /// Puts events that identity found nobody for into quarantine, as they came. (Accepting asks for an identifier that names
    /// somebody, so this is for rules that differ between the two.)
    pub(super) async fn set_aside(&self, batches: &[StoredBatch], output: &Output) -> Result<(), PipelineError> {
        let nobody: HashSet<Fingerprint> = output.nobody.iter().map(|(tenant, prepared)| mark_of(tenant, &prepared.event)).collect();
        if nobody.is_empty() {
            return Ok(());
        }
        for (tenant, events) in decode(self.partition, batches, |_| true)? {
            let Ok(id) = tenant.parse::<TenantId>() else { continue };
            let faulty = events
                .into_iter()
                .filter(|accepted| accepted.event.as_ref().is_some_and(|event| nobody.contains(&mark_of(&tenant, event))));
            let entries = faulty.map(|accepted| {
                let reasons = vec![reason(ReasonCode::MissingIdentifier, "identifiers", "no identifier names anybody")];
                (0, NewEntry::new(accepted.event.unwrap_or_default(), reasons, accepted.received_at_us, accepted.time_is_final))
            });
            // Without a limit: there is nobody left who could be told that it is full.
            quarantine::insert(&self.shared.db, &id, entries.collect(), i64::MAX).await.map_err(|source| PipelineError::Part {
                what: "the quarantine",
                tenant: tenant.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// Appends, waiting while the log is full or away.
    pub(super) async fn append(&self, batches: &[(Topic, u16, NewBatch)], catch_up: bool) -> Result<(), PipelineError> {
        if self.shared.faults.is_hit(self.partition, Point::PartlyAppended, catch_up) {
            self.shared.log.append_all(batches.iter().take(1).cloned().collect()).await?;
            return Err(PipelineError::Injected(Point::PartlyAppended));
        }
        if batches.is_empty() {
            return Ok(());
        }
        let mut backoff = Backoff::new(self.pause_max());
        loop {
            match self.shared.log.append_all(batches.to_vec()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(
                        partition = self.partition,
                        error = &error as &dyn std::error::Error,
                        "resolved events cannot be appended; trying again"
                    );
                    backoff.pause(&self.stop).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
