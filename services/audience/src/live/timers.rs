//! When somebody may enter or leave an audience by time alone: the edges that analytics listed, up to a moment ahead.

use std::collections::BTreeSet;

/// Edges that make it worth looking further ahead next time, and edges that make it too far.
const FEW: usize = 1_000;
const MANY: usize = 20_000;
const SECOND_US: i64 = 1_000_000;
const SPAN_US_MIN: i64 = 10 * SECOND_US;
const SPAN_US_MAX: i64 = 6 * 3_600 * SECOND_US;

/// The edges of one audience.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    edges: BTreeSet<(i64, u32)>,
    /// All edges up to this moment are known.
    until_us: i64,
    /// How far ahead to look.
    span_us: i64,
}

impl Timers {
    /// None are known after `as_of_us`.
    pub(crate) fn new(as_of_us: i64, span_us: i64) -> Self {
        Self { edges: BTreeSet::new(), until_us: as_of_us, span_us: span_us.clamp(SPAN_US_MIN, SPAN_US_MAX) }
    }

    pub(crate) fn until_us(&self) -> i64 {
        self.until_us
    }

    pub(crate) fn span_us(&self) -> i64 {
        self.span_us
    }

    /// Up to where to ask for edges at this moment, if it is time to.
    pub(crate) fn wanted_until(&self, now_us: i64) -> Option<i64> {
        let is_short = self.until_us.saturating_sub(now_us) < self.span_us / 2;
        is_short.then(|| self.until_us.max(now_us).saturating_add(self.span_us))
    }

    /// Adds the edges of some persons.
    pub(crate) fn add(&mut self, edges: impl Iterator<Item = (i64, u32)>) {
        self.edges.extend(edges);
    }

    /// Adds the edges of everyone, which are complete up to this moment.
    pub(crate) fn extend(&mut self, edges: impl Iterator<Item = (i64, u32)>, until_us: i64) {
        let before = self.edges.len();
        self.edges.extend(edges);
        let more = self.edges.len() - before;
        if more < FEW {
            self.span_us = (self.span_us * 2).min(SPAN_US_MAX);
        } else if more > MANY {
            self.span_us = (self.span_us / 2).max(SPAN_US_MIN);
        }
        self.until_us = self.until_us.max(until_us);
    }

    /// Those up to and including this moment, in order.
    pub(crate) fn due(&self, now_us: i64) -> impl Iterator<Item = (i64, u32)> {
        self.edges.range(..=(now_us, u32::MAX)).copied()
    }

    /// The first one.
    pub(crate) fn next_us(&self) -> Option<i64> {
        self.edges.first().map(|(at, _)| *at)
    }

    /// Forgets those up to and including this moment.
    pub(crate) fn forget(&mut self, as_of_us: i64) {
        if let Some(after) = as_of_us.checked_add(1) {
            self.edges = self.edges.split_off(&(after, 0));
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.edges.len() * 24
    }
}

/// The edges of an answer: moments as differences, and persons.
pub(crate) fn edges_of<'a>(times_us: &'a [i64], persons: &'a [u32]) -> impl Iterator<Item = (i64, u32)> + 'a {
    let mut at = 0_i64;
    times_us.iter().zip(persons).map(move |(difference, person)| {
        at = at.saturating_add(*difference);
        (at, *person)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_due_once_and_looked_for_before_they_run_out() {
        let mut timers = Timers::new(1_000, 60 * SECOND_US);
        assert_eq!(timers.wanted_until(1_000), Some(1_000 + 60 * SECOND_US));
        timers.extend(edges_of(&[2_000, 0, 5], &[7, 8, 7]), 1_000 + 60 * SECOND_US);
        assert_eq!(timers.wanted_until(1_000), None);
        assert_eq!(timers.wanted_until(1_001), Some(1_000 + 60 * SECOND_US + 120 * SECOND_US));
        assert_eq!(timers.next_us(), Some(2_000));
        assert_eq!(timers.due(2_004).collect::<Vec<_>>(), [(2_000, 7), (2_000, 8)]);
        timers.forget(2_004);
        assert_eq!(timers.due(i64::MAX).collect::<Vec<_>>(), [(2_005, 7)]);
        timers.add([(2_005, 7), (2_001, 9)].into_iter());
        assert_eq!(timers.due(i64::MAX).collect::<Vec<_>>(), [(2_001, 9), (2_005, 7)]);
    }

    #[test]
    fn many_edges_shorten_the_look_ahead() {
        let mut timers = Timers::new(0, 100 * SECOND_US);
        timers.extend((0..30_000).map(|person| (5, person)), 100 * SECOND_US);
        assert_eq!(timers.wanted_until(100 * SECOND_US), Some(150 * SECOND_US));
    }
}
