//! [`Tally`]: sessions counted by group and period. Additive over persons; exact, medians included, which is why the durations of
//! sessions are kept.

use std::collections::HashMap;
use std::hash::Hash;

use super::Session;

/// Sessions of some group in some period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    sessions: u64,
    events: u64,
    bounces: u64,
    still_open: u64,
    duration_us: u128,
    /// Of sessions that are no bounces: bounces take no time.
    durations_us: Vec<u64>,
    /// Whose; the same person's sessions come together.
    persons: Vec<u32>,
}

impl Figures {
    /// Adds a session of `person`. All sessions of one person are added before those of the next.
    pub fn add(&mut self, person: u32, session: &Session, still_open: bool) {
        self.sessions += 1;
        self.events += session.events as u64;
        self.still_open += u64::from(still_open);
        if session.is_bounce() {
            self.bounces += 1;
        } else {
            self.duration_us += u128::from(session.duration_us());
            self.durations_us.push(session.duration_us());
        }
        if self.persons.last() != Some(&person) {
            self.persons.push(person);
        }
    }

    /// Adds others: of other persons, another period or another group.
    pub fn merge(&mut self, other: &Figures) {
        self.sessions += other.sessions;
        self.events += other.events;
        self.bounces += other.bounces;
        self.still_open += other.still_open;
        self.duration_us += other.duration_us;
        self.durations_us.extend_from_slice(&other.durations_us);
        self.persons.extend_from_slice(&other.persons);
    }

    /// How many sessions: what groups are ranked by.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// What is only counted.
    pub fn counts(&self) -> Counts {
        Counts { sessions: self.sessions, events: self.events, bounces: self.bounces, still_open: self.still_open }
    }

    /// Durations of sessions that are no bounces, in microseconds, in no order.
    pub fn durations_us(&self) -> &[u64] {
        &self.durations_us
    }

    /// Whose sessions they are, in no order; one person may occur several times.
    pub fn persons(&self) -> &[u32] {
        &self.persons
    }

    /// Adds what is counted of other sessions, whose durations and persons are added apart.
    pub fn add_counts(&mut self, counts: Counts) {
        self.sessions += counts.sessions;
        self.events += counts.events;
        self.bounces += counts.bounces;
        self.still_open += counts.still_open;
    }

    /// Adds the durations of so many sessions that took equally long and are no bounces.
    pub fn add_durations(&mut self, duration_us: u64, sessions: u64) {
        self.duration_us += u128::from(duration_us) * u128::from(sessions);
        self.durations_us.extend((0..sessions).map(|_| duration_us));
    }

    /// Adds whose sessions they are.
    pub fn add_persons(&mut self, persons: impl IntoIterator<Item = u32>) {
        self.persons.extend(persons);
    }

    /// How many numbers are kept.
    pub fn kept(&self) -> usize {
        self.durations_us.len() + self.persons.len()
    }

    /// Finishes.
    pub fn summary(mut self) -> Summary {
        self.persons.sort_unstable();
        self.persons.dedup();
        let median_us = median(self.bounces, &mut self.durations_us);
        Summary {
            sessions: self.sessions,
            persons: self.persons.len() as u64,
            events: self.events,
            bounces: self.bounces,
            still_open: self.still_open,
            duration_us: self.duration_us,
            median_us,
        }
    }
}

/// What of some sessions is only counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many.
    pub sessions: u64,
    /// Events in them.
    pub events: u64,
    /// Sessions of one event.
    pub bounces: u64,
    /// Sessions to which an event after the watermark could still belong.
    pub still_open: u64,
}

/// Finished figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// How many.
    pub sessions: u64,
    /// Of how many different persons.
    pub persons: u64,
    /// Events in them.
    pub events: u64,
    /// Sessions of one event.
    pub bounces: u64,
    /// Sessions to which an event after the watermark could still belong.
    pub still_open: u64,
    /// Σ duration, in microseconds.
    pub duration_us: u128,
    /// Median duration, in microseconds: of an even number the mean of the two in the middle. None without sessions.
    pub median_us: Option<f64>,
}

/// Median of `zeros` zeros and `values`.
pub(super) fn median(zeros: u64, values: &mut [u64]) -> Option<f64> {
    let zeros = usize::try_from(zeros).ok()?;
    let count = zeros + values.len();
    let last = count.checked_sub(1)?;
    let mut at = |position: usize| match position.checked_sub(zeros) {
        None => 0,
        Some(position) => *values.select_nth_unstable(position).1,
    };
    // Both are the same one of an odd number. The sum is taken apart so that it cannot overflow.
    let (low, high) = (at(last / 2), at(count / 2));
    Some(low as f64 + (high - low) as f64 / 2.0)
}

/// The sessions of some persons by group and period; `()` without a breakdown.
#[derive(Debug, Clone)]
pub struct Tally<G> {
    cells: HashMap<(G, u32), Figures>,
}

impl<G> Default for Tally<G> {
    fn default() -> Self {
        Tally { cells: HashMap::new() }
    }
}

impl<G: Eq + Hash> Tally<G> {
    /// The figures of a group in a period, to be added to.
    pub fn figures_mut(&mut self, group: G, period: u32) -> &mut Figures {
        self.cells.entry((group, period)).or_default()
    }

    /// The figures of a group in a period.
    pub fn figures(&self, group: G, period: u32) -> Option<&Figures> {
        self.cells.get(&(group, period))
    }

    /// All groups and periods that have sessions.
    pub fn cells(&self) -> impl Iterator<Item = (&G, u32, &Figures)> {
        self.cells.iter().map(|((group, period), figures)| (group, *period, figures))
    }

    /// Adds the sessions of other persons, whose groups are called otherwise.
    pub fn merge<H>(&mut self, other: Tally<H>, mut name: impl FnMut(H) -> G) {
        for ((group, period), figures) in other.cells {
            match self.cells.entry((name(group), period)) {
                std::collections::hash_map::Entry::Occupied(mut mine) => mine.get_mut().merge(&figures),
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(figures);
                }
            }
        }
    }

    /// How many numbers are kept.
    pub fn kept(&self) -> usize {
        self.cells.values().map(Figures::kept).sum()
    }
}
