//! Calendar bucketing in a tenant's zone: the one function that every report uses.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike, Utc};
pub use chrono_tz::Tz;

const HOUR_US: i64 = 3_600_000_000;

/// Length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grain {
    /// Clock hours.
    Hour,
    /// Calendar days.
    Day,
    /// Calendar weeks from Monday.
    Week,
    /// Calendar months.
    Month,
}

/// Start, in microseconds UTC, of the bucket of `time_us` in `zone`. None outside the years that the calendar knows.
///
/// Where a change to summer time skips the bucket's first moment, the bucket starts at the first moment that exists. An
/// hour that a zone lives twice is two buckets.
pub fn bucket_start_us(time_us: i64, grain: Grain, zone: Tz) -> Option<i64> {
    let utc: DateTime<Utc> = DateTime::from_timestamp_micros(time_us)?;
    let local = utc.with_timezone(&zone);
    let date = local.date_naive();
    let first_day = match grain {
        Grain::Hour => {
            // Subtracting inside the hour stays on the right side of a repeated hour.
            let start = time_us.checked_sub(into_hour_us(&local))?;
            return change_us(start, time_us, zone).map(|change| change.unwrap_or(start));
        }
        Grain::Day => date,
        Grain::Week => date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_monday())))?,
        Grain::Month => date.with_day(1)?,
    };
    start_of_day_us(first_day, zone)
}

/// Start of the bucket after the one that starts at `start_us`.
pub fn next_bucket_us(start_us: i64, grain: Grain, zone: Tz) -> Option<i64> {
    let local = DateTime::from_timestamp_micros(start_us)?.with_timezone(&zone);
    let date = local.date_naive();
    match grain {
        Grain::Hour => {
            // Zones that move by half an hour have hours that start late or end early.
            let next = start_us.checked_sub(into_hour_us(&local))?.checked_add(HOUR_US)?;
            change_us(start_us, next.checked_sub(1)?, zone).map(|change| change.unwrap_or(next))
        }
        Grain::Day => start_of_day_us(date.checked_add_days(Days::new(1))?, zone),
        Grain::Week => start_of_day_us(date.checked_add_days(Days::new(7))?, zone),
        Grain::Month => start_of_day_us(date.checked_add_months(Months::new(1))?, zone),
    }
}

fn into_hour_us(local: &DateTime<Tz>) -> i64 {
    i64::from(local.minute()) * 60_000_000 + i64::from(local.second()) * 1_000_000 + i64::from(local.timestamp_subsec_micros())
}

/// The moment after `from_us`, up to `to_us`, at which the clock was moved, if it was; no two changes lie within an hour.
#[allow(clippy::option_option, reason = "the outer one is for times outside the calendar")]
fn change_us(from_us: i64, to_us: i64, zone: Tz) -> Option<Option<i64>> {
    let offset = |us: i64| Some(zone.offset_from_utc_datetime(&DateTime::from_timestamp_micros(us)?.naive_utc()).fix());
    let after = offset(to_us)?;
    if offset(from_us)? == after {
        return Some(None);
    }
    let (mut low, mut high) = (from_us, to_us);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if offset(middle)? == after { high = middle } else { low = middle }
    }
    Some(Some(high))
}

/// The same time of the clock `months` calendar months later: of a day that the month does not have, its last day. Of a time
/// that `zone` lives twice the first one; of a time that it skips, the next that exists (to a quarter of an hour).
pub fn add_months_us(time_us: i64, months: u32, zone: Tz) -> Option<i64> {
    let local = DateTime::from_timestamp_micros(time_us)?.with_timezone(&zone).naive_local();
    first_moment_us(local.checked_add_months(Months::new(months))?, zone)
}

fn start_of_day_us(date: NaiveDate, zone: Tz) -> Option<i64> {
    first_moment_us(date.and_time(NaiveTime::MIN), zone)
}

fn first_moment_us(mut moment: NaiveDateTime, zone: Tz) -> Option<i64> {
    // Zones that change at midnight have no 00:00 on that day; the gap is never longer than a day.
    for _ in 0..=96 {
        if let Some(found) = zone.from_local_datetime(&moment).earliest() {
            return Some(found.timestamp_micros());
        }
        moment = moment.checked_add_signed(chrono::TimeDelta::minutes(15))?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
    }

    #[test]
    fn buckets_start_at_local_midnight_monday_and_first_of_month() {
        let seoul: Tz = chrono_tz::Asia::Seoul;
        for (grain, at, start) in [
            (Grain::Hour, "2026-11-22T16:45:10Z", "2026-11-22T16:00:00Z"),
            (Grain::Day, "2026-11-22T16:45:10Z", "2026-11-22T15:00:00Z"),
            (Grain::Week, "2026-11-22T16:45:10Z", "2026-11-22T15:00:00Z"),
            (Grain::Week, "2026-11-22T14:59:59Z", "2026-11-15T15:00:00Z"),
            (Grain::Month, "2026-11-30T15:00:00Z", "2026-11-30T15:00:00Z"),
            (Grain::Month, "2026-11-30T14:59:59Z", "2026-10-31T15:00:00Z"),
        ] {
            assert_eq!(bucket_start_us(us(at), grain, seoul), Some(us(start)), "{grain:?} {at}");
        }
    }

    #[test]
    fn summer_time_neither_loses_nor_doubles_a_bucket() {
        let berlin = chrono_tz::Europe::Berlin;
        // 2026-10-25: 02:30 exists twice.
        assert_eq!(bucket_start_us(us("2026-10-25T00:30:00Z"), Grain::Hour, berlin), Some(us("2026-10-25T00:00:00Z")));
        assert_eq!(bucket_start_us(us("2026-10-25T01:30:00Z"), Grain::Hour, berlin), Some(us("2026-10-25T01:00:00Z")));
        let day = bucket_start_us(us("2026-10-25T12:00:00Z"), Grain::Day, berlin).expect("a day");
        assert_eq!(next_bucket_us(day, Grain::Day, berlin), Some(day + 25 * 3_600_000_000));
        // Sao Paulo changed at midnight: 2018-11-04 starts at 01:00.
        let sao_paulo = chrono_tz::America::Sao_Paulo;
        assert_eq!(bucket_start_us(us("2018-11-04T12:00:00Z"), Grain::Day, sao_paulo), Some(us("2018-11-04T03:00:00Z")));
    }

    #[test]
    fn an_hour_that_a_zone_cuts_short_ends_where_the_clock_does() {
        let lord_howe = chrono_tz::Australia::Lord_Howe;
        // On 4 October 02:00 became 02:30, on 5 April 02:00 became 01:30.
        for (at, start, next) in [
            ("2026-10-03T15:10:00Z", "2026-10-03T14:30:00Z", "2026-10-03T15:30:00Z"),
            ("2026-10-03T15:40:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"),
            ("2026-10-03T16:10:00Z", "2026-10-03T16:00:00Z", "2026-10-03T17:00:00Z"),
            ("2026-04-04T14:59:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"),
            ("2026-04-04T15:10:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"),
            ("2026-04-04T15:40:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z"),
        ] {
            assert_eq!(bucket_start_us(us(at), Grain::Hour, lord_howe), Some(us(start)), "{at}");
            assert_eq!(next_bucket_us(us(start), Grain::Hour, lord_howe), Some(us(next)), "{at}");
        }
    }

    #[test]
    fn months_later_is_the_same_time_of_the_clock_or_the_next_that_exists() {
        let berlin = chrono_tz::Europe::Berlin;
        for (from, months, to) in [
            ("2026-01-31T10:00:00Z", 0, "2026-01-31T10:00:00Z"),
            ("2026-01-31T10:00:00Z", 1, "2026-02-28T10:00:00Z"),
            ("2026-01-31T10:00:00Z", 2, "2026-03-31T09:00:00Z"),
            // 02:30 does not exist on 29 March.
            ("2026-01-29T01:30:00Z", 2, "2026-03-29T01:00:00Z"),
            // 02:30 exists twice on 25 October.
            ("2026-09-25T00:30:00Z", 1, "2026-10-25T00:30:00Z"),
        ] {
            assert_eq!(add_months_us(us(from), months, berlin), Some(us(to)), "{from} + {months}");
        }
    }

    #[test]
    fn half_hour_zones_have_hours_of_their_own() {
        assert_eq!(bucket_start_us(us("2026-01-01T00:10:00Z"), Grain::Hour, chrono_tz::Asia::Kolkata), Some(us("2025-12-31T23:30:00Z")));
    }
}
