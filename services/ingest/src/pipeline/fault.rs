//! Places where a test can end a worker as a crash would: what is in memory is lost, what was written stays.

use std::sync::Arc;

use super::error::PipelineError;

/// A step of a group's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The group is read and what it skips is decided.
    Read,
    /// Identity has answered.
    Resolved,
    /// Some of the group's batches are on the `resolved` topic.
    PartlyAppended,
    /// All of them are.
    Appended,
    /// The transaction is ready to be committed.
    BeforeCommit,
    /// It is committed.
    Committed,
    /// The store is away for the commit. The worker tries again, unlike after the others.
    StoreLost,
    /// The store is away when the worker loads its state again.
    Reload,
}

impl Point {
    /// Whether a worker goes on after it.
    pub(super) fn is_retryable(self) -> bool {
        match self {
            Point::StoreLost | Point::Reload => true,
            Point::Read | Point::Resolved | Point::PartlyAppended | Point::Appended | Point::BeforeCommit | Point::Committed => false,
        }
    }

    /// All that end a worker, in order.
    pub const ALL: [Point; 6] =
        [Point::Read, Point::Resolved, Point::PartlyAppended, Point::Appended, Point::BeforeCommit, Point::Committed];
}

/// Decides where to fail: called with the partition, the point, and whether the group catches up a tenant.
pub type Decide = dyn Fn(u16, Point, bool) -> bool + Send + Sync;

/// Where to fail; nowhere by default.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Decide>>);

impl Faults {
    /// Fails where `decide` says so.
    pub fn new(decide: impl Fn(u16, Point, bool) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(decide)))
    }

    pub(super) fn is_hit(&self, partition: u16, point: Point, catch_up: bool) -> bool {
        self.0.as_ref().is_some_and(|decide| decide(partition, point, catch_up))
    }

    pub(super) fn hit(&self, partition: u16, point: Point, catch_up: bool) -> Result<(), PipelineError> {
        if self.is_hit(partition, point, catch_up) { Err(PipelineError::Injected(point)) } else { Ok(()) }
    }
}
