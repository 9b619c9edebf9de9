//! [`Tally`]: what attempts add up to. Tallies of parts of the units merge into that of all, exactly.

use super::attempt::Attempt;
use super::rule::STEPS_MAX;

/// What the attempts of some units add up to: of one breakdown value, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    reached: [u64; STEPS_MAX],
    still_open: [u64; STEPS_MAX],
    from_previous: Vec<Conversion>,
    from_first: Vec<Conversion>,
}

impl Tally {
    /// Nothing yet, for a funnel of so many steps.
    pub fn new(steps: usize) -> Tally {
        let steps = steps.min(STEPS_MAX);
        Tally {
            reached: [0; STEPS_MAX],
            still_open: [0; STEPS_MAX],
            from_previous: vec![Conversion::default(); steps],
            from_first: vec![Conversion::default(); steps],
        }
    }

    /// Adds an attempt.
    pub fn add(&mut self, attempt: &Attempt) {
        if attempt.still_open && (1..=STEPS_MAX).contains(&attempt.depth) {
            self.still_open[attempt.depth - 1] += 1;
        }
        let mut first = None;
        let mut previous = None;
        for (number, ts) in attempt.times() {
            let step = number - 1;
            self.reached[step] += 1;
            if let (Some(first), Some(previous)) = (first, previous)
                && step < self.from_previous.len()
            {
                self.from_previous[step].add(ts.abs_diff(previous));
                self.from_first[step].add(ts.abs_diff(first));
            }
            first = first.or(Some(ts));
            previous = Some(ts);
        }
    }

    /// Adds those of other units.
    pub fn merge(&mut self, other: Tally) {
        let counts = self.reached.iter_mut().zip(other.reached).chain(self.still_open.iter_mut().zip(other.still_open));
        for (count, more) in counts {
            *count += more;
        }
        let conversions = self.from_previous.iter_mut().zip(other.from_previous).chain(self.from_first.iter_mut().zip(other.from_first));
        for (conversion, more) in conversions {
            conversion.merge(more);
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

    /// How long attempts took to step `number`, from 2, since the step that they did before it.
    pub fn from_previous(&self, number: usize) -> Option<&Conversion> {
        self.from_previous.get(number.checked_sub(1)?)
    }

    /// How long attempts took to step `number`, from 2, since the first step.
    pub fn from_first(&self, number: usize) -> Option<&Conversion> {
        self.from_first.get(number.checked_sub(1)?)
    }

    /// Durations that are kept, for limits on memory.
    pub fn kept(&self) -> usize {
        self.from_previous.iter().chain(&self.from_first).map(|conversion| conversion.durations.len()).sum()
    }
}

/// How long attempts took, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Conversion {
    durations: Vec<u64>,
}

/// Equal if the durations are, in whichever order they came.
impl PartialEq for Conversion {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |conversion: &Conversion| {
            let mut durations = conversion.durations.clone();
            durations.sort_unstable();
            durations
        };
        self.durations.len() == other.durations.len() && sorted(self) == sorted(other)
    }
}

impl Eq for Conversion {}

impl Conversion {
    /// Adds one duration.
    pub fn add(&mut self, duration_us: u64) {
        self.durations.push(duration_us);
    }

    fn merge(&mut self, other: Conversion) {
        if self.durations.is_empty() {
            self.durations = other.durations;
        } else {
            self.durations.extend(other.durations);
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.durations.len() as u64
    }

    /// The sum of all, exactly.
    pub fn sum_us(&self) -> u128 {
        self.durations.iter().map(|duration| u128::from(*duration)).sum()
    }

    /// The mean, to the nearest microsecond, a half upwards.
    pub fn mean_us(&self) -> Option<u64> {
        let count = self.durations.len() as u128;
        // The mean of 64-bit numbers has 64 bits.
        (count > 0).then(|| ((self.sum_us() * 2 + count) / (count * 2)) as u64)
    }

    /// The median: of an even number the middle between the two in the middle, to the nearest microsecond, a half upwards.
    pub fn median_us(&self) -> Option<u64> {
        let mut durations = self.durations.clone();
        let count = durations.len();
        let middle = count / 2;
        if count == 0 {
            return None;
        }
        let (below, upper, _) = durations.select_nth_unstable(middle);
        let upper = *upper;
        if count % 2 == 1 {
            return Some(upper);
        }
        let lower = below.iter().copied().max().unwrap_or(upper);
        Some(lower + (upper - lower).div_ceil(2))
    }

    /// How many durations lie below each of the ascending `bounds_us` and not below the one before it; last, how many lie below none.
    pub fn distribution(&self, bounds_us: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; bounds_us.len() + 1];
        for duration in &self.durations {
            counts[bounds_us.partition_point(|bound| bound <= duration)] += 1;
        }
        counts
    }

    /// The shortest and the longest.
    pub fn extremes_us(&self) -> Option<(u64, u64)> {
        Some((*self.durations.iter().min()?, *self.durations.iter().max()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversion(durations: &[u64]) -> Conversion {
        Conversion { durations: durations.to_vec() }
    }

    #[test]
    fn means_and_medians_are_exact_to_the_microsecond() {
        for (durations, mean, median) in [
            (vec![], None, None),
            (vec![7], Some(7), Some(7)),
            (vec![1, 2], Some(2), Some(2)),
            (vec![3, 1, 2], Some(2), Some(2)),
            (vec![10, 0, 0, 1], Some(3), Some(1)),
            (vec![u64::MAX, u64::MAX], Some(u64::MAX), Some(u64::MAX)),
            (vec![0, u64::MAX], Some(1 << 63), Some(1 << 63)),
        ] {
            let conversion = conversion(&durations);
            assert_eq!((conversion.mean_us(), conversion.median_us()), (mean, median), "{durations:?}");
        }
    }

    #[test]
    fn a_distribution_counts_every_duration_once() {
        let conversion = conversion(&[0, 9, 10, 19, 20, 500]);
        assert_eq!(conversion.distribution(&[10, 20]), [2, 2, 2]);
        assert_eq!(conversion.distribution(&[]), [6]);
        assert_eq!(conversion.extremes_us(), Some((0, 500)));
    }
}
