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

pub use tally::{Counts, Figures, Summary, Tally};

/// The gap unless a question says otherwise: 30 minutes.
pub const GAP_DEFAULT_US: i64 = 30 * 60 * 1_000_000;

/// Neighbouring events of one person; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Time of the first event, microseconds: what the session is filed under.
    pub start_us: i64,
    /// Time of the last event.
    pub end_us: i64,
    /// Position of the first event among the times that were cut.
    pub first: usize,
    /// Number of events.
    pub events: usize,
}

impl Session {
    /// From the first to the last event, in microseconds.
    pub fn duration_us(&self) -> u64 {
        self.end_us.abs_diff(self.start_us)
    }

    /// Whether it is a single event. Two events at the same moment are no bounce, though they take no time either.
    pub fn is_bounce(&self) -> bool {
        self.events == 1
    }

    /// Whether an event at `end_us` or later could still belong to the session, given that all before it are known.
    pub fn may_go_on(&self, end_us: i64, gap_us: i64) -> bool {
        self.end_us.saturating_add(gap_us) >= end_us
    }
}

/// Cuts the events of a person, whose times are given ascending.
pub fn sessions(times: impl IntoIterator<Item = i64>, gap_us: i64) -> impl Iterator<Item = Session> {
    let mut times = times.into_iter().enumerate();
    let mut next = times.next();
    std::iter::from_fn(move || {
        let (first, start_us) = next.take()?;
        let mut session = Session { start_us, end_us: start_us, first, events: 1 };
        for (at, time) in times.by_ref() {
            if time.saturating_sub(session.end_us) > gap_us {
                next = Some((at, time));
                break;
            }
            session.end_us = time;
            session.events += 1;
        }
        Some(session)
    })
}

/// From where on events have to be known to find the sessions that start at or after `start_us`.
pub fn look_back(start_us: i64, gap_us: i64) -> i64 {
    start_us.saturating_sub(gap_us)
}
