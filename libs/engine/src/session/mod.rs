//! Cutting a person's events into sessions.
//!
//! A session ends where the next event is later than the gap; a pause of exactly the gap is inside. Sessions are cut over all events
//! of a person, whatever the range of a report: a session belongs to the moment of its first event.
//!
//! To know the sessions that start in a range, events from [`look_back`] on are enough: an event of the range whose
//! predecessor lies before that starts a session, and one whose predecessor lies between belongs to one that does not start in the range. After
//! the range, sessions may go on for as long as events follow each other: see [`Session::may_go_on`].

mod tally;
#[cfg(test)]
mod tests;

pub use tally::{Figures, Summary, Tally};

use crate::Hit;

/// The gap unless a question says otherwise: 30 minutes.
pub const GAP_DEFAULT_US: i64 = 30 * 60 * 1_000_000;

/// Neighbouring events of one person; at least one.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a, P> {
    first: &'a Hit<P>,
    last: &'a Hit<P>,
    hits: &'a [Hit<P>],
}

impl<'a, P> Session<'a, P> {
    /// All events, in order.
    pub fn hits(&self) -> &'a [Hit<P>] {
        self.hits
    }

    /// The first event: what the session is filed under.
    pub fn first(&self) -> &'a Hit<P> {
        self.first
    }

    /// The last event.
    pub fn last(&self) -> &'a Hit<P> {
        self.last
    }

    /// From the first to the last event, in microseconds.
    pub fn duration_us(&self) -> u64 {
        self.last.ts.abs_diff(self.first.ts)
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.hits.len() as u64
    }

    /// Whether it is a single event. Two events at the same moment are no bounce, though they take no time either.
    pub fn is_bounce(&self) -> bool {
        self.hits.len() == 1
    }

    /// Whether an event at `end_us` or later could still belong to the session, given that all before it are known.
    pub fn may_go_on(&self, end_us: i64, gap_us: i64) -> bool {
        self.last.ts.saturating_add(gap_us) >= end_us
    }
}

/// Cuts the events of a person, given in order of time.
pub fn sessions<P>(hits: &[Hit<P>], gap_us: i64) -> impl Iterator<Item = Session<'_, P>> {
    let same = move |before: &Hit<P>, after: &Hit<P>| after.ts.saturating_sub(before.ts) <= gap_us;
    hits.chunk_by(same).filter_map(|hits| Some(Session { first: hits.first()?, last: hits.last()?, hits }))
}

/// From where on events have to be known to find the sessions that start at or after `start_us`.
pub fn look_back(start_us: i64, gap_us: i64) -> i64 {
    start_us.saturating_sub(gap_us)
}
