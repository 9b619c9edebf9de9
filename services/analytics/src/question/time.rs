//! Moments and periods: protobuf timestamps to microseconds and back, and the periods of a range in a zone.

use chrono_tz::Tz;
use prost_types::Timestamp;
use segue_model::calendar::{Grain, bucket_start_us, next_bucket_us};

/// Periods that one range may have.
pub(crate) const PERIODS_MAX: usize = 10_000;

/// Half-open range in microseconds: start ≤ t < end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeUs {
    /// First moment.
    pub(crate) start: i64,
    /// First moment after it.
    pub(crate) end: i64,
}

/// Nanoseconds since 1970. None when the message is not a valid timestamp.
pub(crate) fn nanos(time: &Timestamp) -> Option<i128> {
    // The years that protobuf defines: 0001 to 9999.
    let valid = (-62_135_596_800..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    valid.then(|| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
}

/// The first microsecond at or after `time`. Times of events are whole microseconds, so bounds of half-open ranges keep
/// their meaning under this.
pub(crate) fn bound_us(time: &Timestamp) -> Option<i64> {
    let nanos = nanos(time)?;
    i64::try_from(nanos.div_euclid(1000) + i128::from(nanos.rem_euclid(1000) != 0)).ok()
}

/// The last microsecond that is not after `time`: what happened until then is known at `time`.
pub(crate) fn last_us(time: &Timestamp) -> Option<i64> {
    i64::try_from(nanos(time)?.div_euclid(1000)).ok()
}

/// As protobuf has it.
pub(crate) fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

/// Why a range has no periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeriodsError {
    /// Over [`PERIODS_MAX`].
    TooMany,
    /// The range leaves the years that the calendar knows.
    OutsideCalendar,
}

/// The consecutive periods of a range: calendar buckets of a zone, the first and last cut by the range.
#[derive(Debug, Clone)]
pub(crate) struct Periods {
    /// Start of every period, ascending; the first is the range's start. Not empty.
    starts: Vec<i64>,
    end: i64,
    /// Stretches of 2^`shift` µs from the start on, none longer than any period but the first and the last: at most one period
    /// starts within a stretch after its first moment.
    stretches: Vec<Stretch>,
    shift: u32,
}

/// What periods a stretch of time touches.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Start of the period after it.
    next: i64,
    /// The period of its first moment.
    first: u32,
}

impl Periods {
    /// The periods of `range`; without a grain the range is one period.
    pub(crate) fn new(range: RangeUs, grain: Option<Grain>, zone: Tz) -> Result<Periods, PeriodsError> {
        let mut starts = vec![range.start];
        if let Some(grain) = grain {
            let mut bucket = bucket_start_us(range.start, grain, zone).ok_or(PeriodsError::OutsideCalendar)?;
            loop {
                bucket = next_bucket_us(bucket, grain, zone).ok_or(PeriodsError::OutsideCalendar)?;
                if bucket >= range.end {
                    break;
                }
                if starts.len() == PERIODS_MAX {
                    return Err(PeriodsError::TooMany);
                }
                starts.push(bucket);
            }
        }
        let length = range.end.saturating_sub(range.start).max(1);
        let whole = starts.get(1..).unwrap_or_default();
        let shortest = whole.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(length);
        let shift = shortest.max(1).ilog2();
        let stretches = (0..=(length - 1) >> shift).map(|stretch| {
            let moment = range.start + (stretch << shift);
            let first = starts.partition_point(|start| *start <= moment).saturating_sub(1);
            Stretch { next: starts.get(first + 1).copied().unwrap_or(i64::MAX), first: first as u32 }
        });
        Ok(Periods { stretches: stretches.collect(), starts, end: range.end, shift })
    }

    /// Starts of all periods, ascending.
    pub(crate) fn starts(&self) -> &[i64] {
        &self.starts
    }

    /// How many; at least one.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The range that they cover.
    pub(crate) fn range(&self) -> RangeUs {
        RangeUs { start: self.starts.first().copied().unwrap_or(self.end), end: self.end }
    }

    /// Which period the moment falls into, given that it lies in the range.
    #[inline]
    pub(crate) fn index_of(&self, time_us: i64) -> u32 {
        let at = (time_us.wrapping_sub(self.starts[0]) as u64 >> self.shift) as usize;
        let stretch = self.stretches[at.min(self.stretches.len() - 1)];
        stretch.first + u32::from(time_us >= stretch.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time").timestamp_micros()
    }

    #[test]
    fn periods_are_calendar_buckets_cut_by_the_range() {
        let zone = chrono_tz::Asia::Seoul;
        let range = RangeUs { start: us("2026-11-04T03:00:00Z"), end: us("2026-11-17T00:00:00Z") };
        let periods = Periods::new(range, Some(Grain::Week), zone).expect("periods");
        assert_eq!(periods.starts(), [us("2026-11-04T03:00:00Z"), us("2026-11-08T15:00:00Z"), us("2026-11-15T15:00:00Z")]);
        assert_eq!(periods.range(), range);
    }

    #[test]
    fn a_moment_finds_its_period_across_summer_time() {
        let zone = chrono_tz::Europe::Berlin;
        let range = RangeUs { start: us("2026-10-01T10:00:00Z"), end: us("2026-11-20T10:00:00Z") };
        for grain in [Grain::Hour, Grain::Day, Grain::Week, Grain::Month] {
            let periods = Periods::new(range, Some(grain), zone).expect("periods");
            let boundaries = periods.starts().iter().flat_map(|start| [start - 1, *start, start + 1]);
            let moments = (range.start..range.end).step_by(1_799_000_000).chain(boundaries);
            for at in moments.filter(|at| (range.start..range.end).contains(at)) {
                let expected = periods.starts().partition_point(|start| *start <= at) - 1;
                assert_eq!(periods.index_of(at) as usize, expected, "{grain:?}, {at}");
            }
        }
    }

    #[test]
    fn periods_cut_to_a_microsecond_keep_their_moments() {
        let midnight = us("2026-11-04T00:00:00Z");
        for (before, after) in [(1, 1), (1, 5 * 86_400_000_000 + 1), (3 * 86_400_000_000, 1), (0, 1)] {
            let range = RangeUs { start: midnight - before, end: midnight + after };
            let periods = Periods::new(range, Some(Grain::Day), Tz::UTC).expect("periods");
            for at in [range.start, midnight - 1, midnight, midnight + 1, range.end - 1] {
                if (range.start..range.end).contains(&at) {
                    let expected = periods.starts().partition_point(|start| *start <= at) - 1;
                    assert_eq!(periods.index_of(at) as usize, expected, "{before} before, {after} after, {at}");
                }
            }
        }
    }

    #[test]
    fn too_many_periods_are_refused() {
        let range = RangeUs { start: 0, end: 10_001 * 3_600_000_000 };
        assert_eq!(Periods::new(range, Some(Grain::Hour), Tz::UTC).err(), Some(PeriodsError::TooMany));
        let range = RangeUs { start: 0, end: 10_000 * 3_600_000_000 };
        assert_eq!(Periods::new(range, Some(Grain::Hour), Tz::UTC).map(|periods| periods.len()), Ok(10_000));
    }

    #[test]
    fn bounds_between_microseconds_are_rounded_up() {
        assert_eq!(bound_us(&Timestamp { seconds: 1, nanos: 1 }), Some(1_000_001));
        assert_eq!(bound_us(&Timestamp { seconds: -1, nanos: 999_999_999 }), Some(0));
        assert_eq!(bound_us(&Timestamp { seconds: 1, nanos: -1 }), None);
    }
}
