//! [`Conversion`]: mean, median and distribution of how long it took, exactly, in time linear in the durations.

/// Intervals that durations are counted in to find the median.
const BINS: usize = 4096;
/// Buckets of a distribution.
const BUCKETS_MAX: u64 = 60;

/// How long attempts took, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// How many durations.
    pub count: u64,
    /// Their sum.
    pub sum_us: u128,
    /// The two in the middle; the same one twice of an odd number.
    pub middle_us: (u64, u64),
    /// The shortest.
    pub min_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Equally long buckets from the shortest to the longest; the last includes its end.
    pub distribution: Vec<DurationBucket>,
}

/// Durations from `start_us` to before `end_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationBucket {
    /// Its start.
    pub start_us: u64,
    /// Its end.
    pub end_us: u64,
    /// How many durations.
    pub count: u64,
}

impl Conversion {
    /// Of all durations in these parts, whichever their order; None of none. As many buckets as the cube root of their number.
    pub fn of(parts: &[&[u64]]) -> Option<Conversion> {
        let all = || parts.iter().flat_map(|part| part.iter().copied());
        let count = parts.iter().map(|part| part.len() as u64).sum();
        let (mut min_us, mut max_us, mut sum_us) = (u64::MAX, 0, 0_u128);
        for duration in all() {
            min_us = min_us.min(duration);
            max_us = max_us.max(duration);
            sum_us += u128::from(duration);
        }
        (count > 0).then(|| Conversion {
            count,
            sum_us,
            middle_us: middle(all, count, min_us, max_us),
            min_us,
            max_us,
            distribution: distribution(all(), count, min_us, max_us),
        })
    }

    /// The mean in seconds.
    pub fn mean_seconds(&self) -> f64 {
        self.sum_us as f64 / self.count as f64 / 1e6
    }

    /// The median in seconds: of an even number the middle between the two in the middle.
    pub fn median_seconds(&self) -> f64 {
        (u128::from(self.middle_us.0) + u128::from(self.middle_us.1)) as f64 / 2e6
    }
}

/// The durations in the middle: found by counting, then by selection among those of the interval that they fall into.
fn middle<I: Iterator<Item = u64>>(all: impl Fn() -> I, count: u64, min: u64, max: u64) -> (u64, u64) {
    let mut shift = 0;
    while (max - min) >> shift >= BINS as u64 {
        shift += 1;
    }
    let bin = |duration: u64| ((duration - min) >> shift) as usize;
    let mut counts = vec![0_u64; BINS];
    for duration in all() {
        counts[bin(duration)] += 1;
    }
    let (lower, upper) = ((count - 1) / 2, count / 2);
    let (mut before, mut first, mut last) = (0, None, 0);
    for (at, count) in counts.into_iter().enumerate() {
        if first.is_none() && before + count > lower {
            first = Some((at, before));
        }
        if before + count > upper {
            last = at;
            break;
        }
        before += count;
    }
    let (first, before) = first.unwrap_or((0, 0));
    let mut near: Vec<u64> = all().filter(|duration| (first..=last).contains(&bin(*duration))).collect();
    let (_, low, above) = near.select_nth_unstable((lower - before) as usize);
    let low = *low;
    (low, if upper == lower { low } else { above.iter().copied().min().unwrap_or(low) })
}

fn distribution(all: impl Iterator<Item = u64>, count: u64, min: u64, max: u64) -> Vec<DurationBucket> {
    let range = max - min;
    let buckets = ((count as f64).cbrt().ceil() as u64).clamp(1, BUCKETS_MAX).min(range.max(1));
    // Whole microseconds, as equal as they can be; none is empty, since there are no more buckets than microseconds.
    let bound = |at: u64| min + (u128::from(range) * u128::from(at) / u128::from(buckets)) as u64;
    let mut found: Vec<DurationBucket> =
        (0..buckets).map(|at| DurationBucket { start_us: bound(at), end_us: bound(at + 1), count: 0 }).collect();
    let scale = buckets as f64 / range.max(1) as f64;
    let last = found.len() - 1;
    for duration in all {
        // Rounding may miss by one bucket.
        let mut at = (((duration - min) as f64 * scale) as usize).min(last);
        while at > 0 && duration < found[at].start_us {
            at -= 1;
        }
        while at < last && duration >= found[at].end_us {
            at += 1;
        }
        found[at].count += 1;
    }
    found
}
