//! One audience, as the worker keeps it.

use roaring::RoaringBitmap;
use segue_proto::audience::v1::EvaluateAudienceResponse;
use segue_proto::events::v1::TransitionReason;
use tokio::sync::oneshot;

use super::feed::Positions;
use super::interest::Interest;
use super::timers::Timers;
use crate::definitions::{Kept, Mode};
use crate::error::AudienceError;

/// Who waits for a full evaluation.
pub(crate) type Reply = oneshot::Sender<Result<EvaluateAudienceResponse, AudienceError>>;

/// Whether the members are those of the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They are, and are kept so.
    Current,
    /// They have to be evaluated in full first; what changes by that has this reason.
    ToEvaluate(TransitionReason),
    /// Of a snapshot that nobody has asked to evaluate.
    AtRest,
    /// Analytics refuses the condition: nothing happens until it is changed.
    Refused,
}

/// An audience.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) kept: Kept,
    /// IANA zone of its days and months.
    pub(crate) time_zone: String,
    pub(crate) interest: Interest,
    pub(crate) standing: Standing,
    /// Fingerprint of what the members are of; empty: there are none yet.
    pub(crate) of: String,
    pub(crate) timers: Timers,
    pub(crate) audit: Audit,
    /// Who asked for a full evaluation.
    pub(crate) replies: Vec<Reply>,
}

/// Comparing live membership with a full evaluation. What differs is looked at again as if it had been touched: only what then changes,
/// with no other reason to, was wrong.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) audited_us: i64,
    pub(crate) is_wanted: bool,
    /// Who differed.
    pub(crate) suspects: RoaringBitmap,
    /// Up to where the log has to be dealt with before they are looked at again.
    pub(crate) after: Positions,
    /// Suspects wait to be looked at.
    pub(crate) is_open: bool,
    /// Who were wrong, in the audit at hand.
    pub(crate) repaired: u64,
}

impl Audit {
    /// Whether suspects wait and may be looked at.
    pub(crate) fn is_ready(&self, delivered: &Positions) -> bool {
        self.is_open && self.after.iter().all(|(at, position)| delivered.get(at) >= Some(position))
    }
}

impl Audience {
    /// Zone and fingerprint decide together who meets the condition.
    pub(crate) fn fingerprint(kept: &Kept, time_zone: &str) -> String {
        format!("{}:{time_zone}", kept.fingerprint)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.kept.mode == Mode::Live
    }

    /// Whether events and moments are followed for it.
    pub(crate) fn is_followed(&self) -> bool {
        self.is_live() && self.standing == Standing::Current
    }
}
