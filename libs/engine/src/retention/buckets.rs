//! The calendar buckets of a range, and the rolling buckets of one start. All calendar arithmetic happens once per report,
//! except for rolling months.

use segue_model::calendar::{Grain, Tz, add_months_us, bucket_start_us, next_bucket_us};

use super::{BUCKETS_MAX, RetentionError};

const HOUR_US: i64 = 3_600_000_000;

/// Consecutive calendar buckets: those that meet a range, not cut by it.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    /// Their starts, ascending, and the end of the last: one more than there are buckets.
    bounds: Vec<i64>,
    first: i64,
    /// Stretches of 2^`shift` µs from the first bucket's start on. None is longer than any bucket, so that at most one bucket starts
    /// within a stretch after its first moment: a moment's bucket is found without a guess that may fail.
    stretches: Vec<Stretch>,
    shift: u32,
}

/// Which buckets a stretch of time meets.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Start of the bucket after it.
    next: i64,
    /// The bucket of its first moment.
    first: u32,
}

impl Buckets {
    pub(super) fn new(start: i64, end: i64, grain: Grain, zone: Tz) -> Result<Buckets, RetentionError> {
        if start >= end {
            return Err(RetentionError::EmptyRange);
        }
        let mut bound = bucket_start_us(start, grain, zone).ok_or(RetentionError::OutsideCalendar)?;
        let mut bounds = vec![bound];
        while bound < end {
            if bounds.len() > BUCKETS_MAX {
                return Err(RetentionError::TooManyBuckets);
            }
            let next = next_bucket_us(bound, grain, zone).filter(|next| *next > bound);
            bound = next.ok_or(RetentionError::OutsideCalendar)?;
            bounds.push(bound);
        }
        let lengths = bounds.iter().zip(bounds.iter().skip(1)).map(|(from, to)| to - from);
        let shift = lengths.min().unwrap_or(1).ilog2();
        let first = bounds.first().copied().unwrap_or(bound);
        let stretches = (0..=(bound - first - 1) >> shift).map(|stretch| {
            let moment = first + (stretch << shift);
            let index = bounds.partition_point(|bound| *bound <= moment).saturating_sub(1);
            Stretch { next: bounds.get(index + 1).copied().unwrap_or(i64::MAX), first: index as u32 }
        });
        Ok(Buckets { stretches: stretches.collect(), first, bounds, shift })
    }

    /// How many; at least one.
    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Start of bucket `index`; of the number of buckets, the end of the last.
    pub(super) fn bound(&self, index: usize) -> i64 {
        self.bounds.get(index).copied().unwrap_or(i64::MAX)
    }

    /// Which bucket the moment falls into.
    #[inline]
    pub(super) fn index_of(&self, time_us: i64) -> Option<usize> {
        let stretch = self.stretches.get((time_us.wrapping_sub(self.first) as u64 >> self.shift) as usize)?;
        let index = stretch.first as usize + usize::from(time_us >= stretch.next);
        // The last stretch goes beyond the last bucket.
        (index < self.len()).then_some(index)
    }
}

/// Length of a rolling bucket.
#[derive(Debug, Clone, Copy)]
pub(super) enum Length {
    Fixed(i64),
    Months(Tz),
}

impl Length {
    pub(super) fn of(grain: Grain, zone: Tz) -> Length {
        match grain {
            Grain::Hour => Length::Fixed(HOUR_US),
            Grain::Day => Length::Fixed(24 * HOUR_US),
            Grain::Week => Length::Fixed(7 * 24 * HOUR_US),
            Grain::Month => Length::Months(zone),
        }
    }

    /// First moment of bucket `number`, counted from `start`. Beyond the calendar, the end of time.
    pub(super) fn bound(self, start: i64, number: usize) -> i64 {
        if number == 0 {
            // A start inside a repeated hour is itself, not the first hour's twin.
            return start;
        }
        match self {
            Length::Fixed(length) => {
                i64::try_from(number).ok().and_then(|number| start.checked_add(number.checked_mul(length)?)).unwrap_or(i64::MAX)
            }
            Length::Months(zone) => u32::try_from(number).ok().and_then(|number| add_months_us(start, number, zone)).unwrap_or(i64::MAX),
        }
    }

    /// The bucket, at or after `from`, of a moment at or after the start of bucket `from`.
    pub(super) fn index_of(self, start: i64, time_us: i64, from: usize) -> usize {
        match self {
            Length::Fixed(length) => usize::try_from(time_us.saturating_sub(start) / length).unwrap_or(usize::MAX),
            Length::Months(_) => {
                let mut at = from;
                while self.bound(start, at + 1) <= time_us {
                    at += 1;
                }
                at
            }
        }
    }
}
