//! [`Tally`]: what attempts add up to. Tallies of parts of the units merge into that of all, exactly.

use super::attempt::Attempt;
use super::conversion::Conversion;
use super::rule::STEPS_MAX;

/// What the attempts of some units add up to: of one breakdown value, or of all.
#[derive(Debug, Clone)]
pub struct Tally {
    reached: [u64; STEPS_MAX],
    still_open: [u64; STEPS_MAX],
    from_previous: Vec<Durations>,
    /// For step 2 it is the same as from the previous one, and kept there alone.
    from_first: Vec<Durations>,
}

/// Since when a duration counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The step that the attempt did before.
    Previous,
    /// The first step.
    First,
}

/// Durations in microseconds, in no order. Parts are never put together, so that merging moves nothing.
#[derive(Debug, Clone, Default)]
struct Durations {
    parts: Vec<Vec<u64>>,
}

impl Durations {
    #[inline]
    fn push(&mut self, duration_us: u64) {
        match self.parts.last_mut() {
            Some(last) => last.push(duration_us),
            None => self.parts.push(vec![duration_us]),
        }
    }

    fn merge(&mut self, other: Durations) {
        // The last part is the one that grows on.
        let own = self.parts.pop();
        self.parts.extend(other.parts);
        self.parts.extend(own);
    }
}

impl Tally {
    /// Nothing yet, for a funnel of so many steps.
    pub fn new(steps: usize) -> Tally {
        let none = vec![Durations::default(); steps.min(STEPS_MAX)];
        Tally { reached: [0; STEPS_MAX], still_open: [0; STEPS_MAX], from_previous: none.clone(), from_first: none }
    }

    /// Adds an attempt.
    pub fn add(&mut self, attempt: &Attempt) {
        if attempt.still_open && (1..=STEPS_MAX).contains(&attempt.depth) {
            self.still_open[attempt.depth - 1] += 1;
        }
        let mut times = attempt.times();
        let Some((_, first)) = times.next() else { return };
        self.reached[0] += 1;
        let mut previous = first;
        for (number, ts) in times {
            let step = number - 1;
            self.reached[step] += 1;
            if step < self.from_previous.len() {
                self.from_previous[step].push(ts.abs_diff(previous));
                if step > 1 {
                    self.from_first[step].push(ts.abs_diff(first));
                }
            }
            previous = ts;
        }
    }

    /// Adds those of other units.
    pub fn merge(&mut self, other: Tally) {
        let counts = self.reached.iter_mut().zip(other.reached).chain(self.still_open.iter_mut().zip(other.still_open));
        for (count, more) in counts {
            *count += more;
        }
        let durations = self.from_previous.iter_mut().zip(other.from_previous).chain(self.from_first.iter_mut().zip(other.from_first));
        for (known, more) in durations {
            known.merge(more);
        }
    }

    /// Adds attempts that did step `number`, from 1, to the count alone: with the other parts of a tally that lies elsewhere.
    pub fn add_reached(&mut self, number: usize, attempts: u64) {
        if let Some(count) = number.checked_sub(1).and_then(|step| self.reached.get_mut(step)) {
            *count += attempts;
        }
    }

    /// Adds attempts of depth `number`, from 1, that may get further, to the count alone.
    pub fn add_still_open(&mut self, number: usize, attempts: u64) {
        if let Some(count) = number.checked_sub(1).and_then(|step| self.still_open.get_mut(step)) {
            *count += attempts;
        }
    }

    /// Adds attempts that took so long to step `number`, from 2, to the durations alone.
    pub fn add_durations(&mut self, number: usize, since: Since, duration_us: u64, attempts: u64) {
        let Some(step) = number.checked_sub(1) else { return };
        let durations = match since {
            Since::First if step > 1 => self.from_first.get_mut(step),
            Since::First | Since::Previous => self.from_previous.get_mut(step),
        };
        if let Some(durations) = durations {
            (0..attempts).for_each(|_| durations.push(duration_us));
        }
    }

    /// How long each attempt took to step `number`, from 2, in no order.
    pub fn durations(&self, number: usize, since: Since) -> impl Iterator<Item = u64> + '_ {
        let parts = number.checked_sub(1).and_then(|step| self.durations_of(step, since));
        parts.into_iter().flat_map(|durations| durations.parts.iter().flatten().copied())
    }

    fn durations_of(&self, step: usize, since: Since) -> Option<&Durations> {
        match since {
            Since::First if step > 1 => self.from_first.get(step),
            Since::First | Since::Previous => self.from_previous.get(step),
        }
    }

    /// How many attempts did step `number`, from 1.
    pub fn reached(&self, number: usize) -> u64 {
        number.checked_sub(1).and_then(|step| self.reached.get(step)).copied().unwrap_or(0)
    }

    /// How many attempts of depth `number`, from 1, may get further.
    pub fn still_open(&self, number: usize) -> u64 {
        number.checked_sub(1).and_then(|step| self.still_open.get(step)).copied().unwrap_or(0)
    }

    /// How long the attempts of these tallies took to step `number`, from 2. None if no attempt did it.
    pub fn conversion<'t>(tallies: impl IntoIterator<Item = &'t Tally>, number: usize, since: Since) -> Option<Conversion> {
        let step = number.checked_sub(1)?;
        let of = |tally: &'t Tally| tally.durations_of(step, since);
        let parts: Vec<&[u64]> = tallies.into_iter().filter_map(of).flat_map(|durations| &durations.parts).map(Vec::as_slice).collect();
        Conversion::of(&parts)
    }
}
