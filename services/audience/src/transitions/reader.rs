//! Reads a tenant's transitions from a place on, a batch at a time, whatever others have between them.

use std::collections::VecDeque;
use std::time::Duration;

use segue_log::{Log, LogError, ReadLimits, StoredBatch};
use segue_model::TenantId;

use super::batch::Batch;
use super::partition_of;
use super::place::Place;
use crate::TRANSITIONS;
use crate::error::AudienceError;

/// What one read brings at most.
const BATCHES_MAX: usize = 64;
const BYTES_MAX: usize = 1 << 20;

/// See [`self`].
#[derive(Debug)]
pub(crate) struct Reader {
    log: Log,
    partition: u16,
    tenant: TenantId,
    place: Place,
    /// Read and not looked at.
    waiting: VecDeque<StoredBatch>,
    /// The batch at `place`, if it was looked at.
    open: Option<Batch>,
}

impl Reader {
    pub(crate) fn new(log: Log, tenant: &TenantId, place: Place) -> Self {
        Self { partition: partition_of(tenant, &log), log, tenant: tenant.clone(), place, waiting: VecDeque::new(), open: None }
    }

    /// What comes before it is dealt with.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The tenant's next batch in memory, and how many of its transitions are dealt with; `None` when more must be read.
    pub(crate) fn batch(&mut self) -> Result<Option<(&Batch, u64)>, AudienceError> {
        while self.open.is_none() {
            let Some(stored) = self.waiting.pop_front() else { return Ok(None) };
            if stored.position != self.place.position {
                self.place = Place { position: stored.position, offset: 0, after: self.place.after };
            }
            match Batch::of(self.tenant.as_str(), &stored.payload)? {
                Some(batch) => {
                    self.place.offset = self.place.offset.max(batch.up_to(self.place.after));
                    self.open = Some(batch);
                }
                None => self.place = Place::behind(stored.position, self.place.after),
            }
        }
        Ok(self.open.as_ref().map(|batch| (batch, self.place.offset)))
    }

    /// Says that so many transitions of the batch are dealt with.
    pub(crate) fn advance(&mut self, offset: u64) {
        self.place.offset = offset;
        if let Some(batch) = self.open.take_if(|batch| batch.len() <= offset) {
            let passed = batch.last_sequence() >= self.place.after;
            self.place = Place::behind(self.place.position, if passed { 0 } else { self.place.after });
        }
    }

    /// Reads on, once [`Reader::batch`] has nothing; waits so long for something to come, and says whether it did. CURSOR_TOO_OLD when
    /// what follows is no longer kept. Safe to cancel.
    pub(crate) async fn read(&mut self, wait: Duration) -> Result<bool, AudienceError> {
        let limits = ReadLimits { batches_max: BATCHES_MAX, bytes_max: BYTES_MAX, wait };
        match self.log.read(TRANSITIONS, self.partition, self.place.position.saturating_sub(1), limits).await {
            Ok(batches) => {
                self.waiting.extend(batches);
                Ok(!self.waiting.is_empty())
            }
            // Beyond the end: the log was replaced by an older one.
            Err(LogError::Trimmed { .. } | LogError::BeyondEnd { .. }) => Err(AudienceError::CursorTooOld),
            Err(error) => Err(error.into()),
        }
    }
}
