//! What a funnel reads of an event, and what it finds in a unit's events.

use super::rule::STEPS_MAX;

/// Code of a value that an event does not have: a breakdown value, or one of the held values.
pub const NO_VALUE: u32 = 0;

/// What a funnel reads of an event besides its time and the selectors that it matches. The codes are the caller's; equal codes
/// mean equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Touch {
    /// Code of all held values together; [`NO_VALUE`] if one of them is missing, so that the event takes no part.
    pub held: u32,
    /// Code of the breakdown value, or [`NO_VALUE`].
    pub value: u32,
}

/// One attempt at the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The furthest step done, from 1. In any order, how many are done.
    pub depth: usize,
    /// Bit i is set if step i + 1 is done. Only optional steps below the depth can be left out.
    pub done: u32,
    /// When each step was done, in microseconds, where it was.
    times: [i64; STEPS_MAX],
    /// Code of the breakdown value.
    pub value: u32,
    /// Not all steps are done, and more of them may still be.
    pub still_open: bool,
}

impl Attempt {
    pub(super) fn new(depth: usize, value: u32, still_open: bool) -> Attempt {
        Attempt { depth, done: 0, times: [0; STEPS_MAX], value, still_open }
    }

    /// Notes when a step, from 0, was done.
    pub(super) fn note(&mut self, step: usize, ts: i64) {
        self.done |= 1 << step;
        self.times[step] = ts;
    }

    /// When step `number`, from 1, was done.
    pub fn time(&self, number: usize) -> Option<i64> {
        let step = number.checked_sub(1).filter(|step| *step < STEPS_MAX)?;
        (self.done & (1 << step) != 0).then(|| self.times[step])
    }

    /// The steps done, from 1, and when.
    pub fn times(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        (1..=STEPS_MAX).filter_map(|number| Some((number, self.time(number)?)))
    }
}

/// What a funnel finds in the events of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// One attempt at most, or one per session, or all. None if the unit did not enter or was removed.
    pub attempts: Vec<Attempt>,
    /// An exclusion removed the unit.
    pub removed: bool,
}
