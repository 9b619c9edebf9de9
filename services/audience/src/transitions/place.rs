//! A place in a tenant's transitions: as text for clients, and found by the number of a transition.

use segue_log::{Log, LogError, ReadLimits};
use segue_model::TenantId;

use super::batch::Batch;
use super::partition_of;
use crate::TRANSITIONS;
use crate::error::AudienceError;

/// Batches that a look for a place reads at once.
const CHUNK: u64 = 64;

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The batch of the log in which what follows begins: nothing before it is needed.
    pub(crate) position: u64,
    /// Transitions of that batch that are dealt with.
    pub(crate) offset: u64,
    /// Transitions up to this number are dealt with, wherever they are: those that were not on the log yet when the place was found.
    pub(crate) after: u64,
}

impl Place {
    /// Behind a batch of the log.
    pub(crate) fn behind(position: u64, after: u64) -> Self {
        Place { position: position.saturating_add(1), offset: 0, after }
    }

    /// As clients see it.
    pub(crate) fn to_text(self) -> String {
        format!("t1-{}-{}-{}", self.position, self.offset, self.after)
    }

    /// Reads what [`Place::to_text`] wrote.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("t1-")?.split('-').map(|part| part.parse::<u64>().ok());
        let place = Place { position: parts.next()??, offset: parts.next()??, after: parts.next()?? };
        // A log counts from 1 and up to i64::MAX.
        (parts.next().is_none() && (1..i64::MAX as u64).contains(&place.position)).then_some(place)
    }
}

/// Behind everything that is on the log now.
pub(crate) async fn end(log: &Log, tenant: &TenantId) -> Result<Place, AudienceError> {
    Ok(Place::behind(log.bounds(TRANSITIONS, partition_of(tenant, log)).await?.last, 0))
}

/// The oldest that is kept.
pub(crate) async fn oldest(log: &Log, tenant: &TenantId) -> Result<Place, AudienceError> {
    let bounds = log.bounds(TRANSITIONS, partition_of(tenant, log)).await?;
    Ok(Place { position: bounds.first.max(1), offset: 0, after: 0 })
}

/// Behind the transition with this number, which may be one that is not on the log yet. CURSOR_TOO_OLD when what follows it is no longer
/// kept.
pub(crate) async fn behind_sequence(log: &Log, tenant: &TenantId, after: u64) -> Result<Place, AudienceError> {
    let partition = partition_of(tenant, log);
    let (mut from, mut known) = (0, log.bounds(TRANSITIONS, partition).await?);
    loop {
        if let Some((position, batch)) = first_beyond(log, tenant, from.max(known.first), known.last, after).await? {
            if batch.first_sequence() > after.saturating_add(1) {
                return Err(AudienceError::CursorTooOld);
            }
            return Ok(Place { position, offset: batch.up_to(after), after });
        }
        let written = log.last_sequence(TRANSITIONS, partition, tenant.as_str()).await?;
        if written.is_none_or(|written| written <= after) {
            return Ok(Place::behind(known.last, after));
        }
        // There is more than was found: it came while this looked, or it is gone.
        let now = log.bounds(TRANSITIONS, partition).await?;
        if now.last == known.last {
            return Err(AudienceError::CursorTooOld);
        }
        (from, known) = (known.last + 1, now);
    }
}

/// The tenant's first batch between `low` and `last` that reaches beyond `after`. Numbers ascend with positions, so it halves; other
/// tenants' batches in the way are passed.
async fn first_beyond(log: &Log, tenant: &TenantId, low: u64, last: u64, after: u64) -> Result<Option<(u64, Batch)>, AudienceError> {
    let (mut low, mut high) = (low, last.saturating_add(1)); // it is not before `low`, and not at `high` or beyond unless it is `found`
    let mut found = None;
    while low < high {
        let middle = if high - low <= CHUNK { low } else { low + (high - low) / 2 };
        match first_of(log, tenant, middle, high).await {
            Ok(Some((position, batch))) if batch.last_sequence() <= after => low = position + 1,
            Ok(Some(hit)) => {
                found = Some(hit);
                high = middle;
            }
            Ok(None) => high = middle,
            Err(AudienceError::Log(error)) if let LogError::Trimmed { first_available, .. } = *error => low = first_available.max(low + 1),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The tenant's first batch from `low` on and before `high`.
async fn first_of(log: &Log, tenant: &TenantId, low: u64, high: u64) -> Result<Option<(u64, Batch)>, AudienceError> {
    let mut after = low.saturating_sub(1);
    while after + 1 < high {
        let batches_max = (high - after - 1).min(CHUNK) as usize;
        let limits = ReadLimits { batches_max, bytes_max: 4 << 20, wait: std::time::Duration::ZERO };
        let batches = log.read(TRANSITIONS, partition_of(tenant, log), after, limits).await?;
        if batches.is_empty() {
            return Ok(None);
        }
        for stored in batches {
            after = stored.position;
            if after < high
                && let Some(batch) = Batch::of(tenant.as_str(), &stored.payload)?
            {
                return Ok(Some((after, batch)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_as_text_and_other_texts_are_none() {
        let place = Place { position: 7, offset: 1_000, after: u64::MAX };
        assert_eq!(Place::from_text(&place.to_text()), Some(place));
        for text in ["", "t1", "t1-1-2", "t1-1-2-3-4", "t1-0-0-0", "t1-1--1-0", "t2-1-1-1", "t1-1-x-1", "t1-99999999999999999999-1-1"] {
            assert_eq!(Place::from_text(text), None, "{text:?}");
        }
    }
}
