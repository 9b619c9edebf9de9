//! The calendar day of an event, looked up once for neighbouring events of one day.

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;
use segue_model::calendar::{Grain, bucket_start_us, next_bucket_us};

/// Numbers the calendar days of one zone.
#[derive(Debug, Clone)]
pub struct Days {
    zone: Tz,
    /// The last day looked up: its first microsecond, the next day's, and its number.
    last: (i64, i64, i32),
}

impl Days {
    /// Of this zone.
    pub fn new(zone: Tz) -> Self {
        Self { zone, last: (i64::MAX, i64::MIN, 0) }
    }

    /// Number of the day of `time_us`: days since the first of January of the year 1, which is 1. Times that the calendar does not know
    /// share the number `i32::MIN`.
    pub fn number(&mut self, time_us: i64) -> i32 {
        let (start, end, number) = self.last;
        if start <= time_us && time_us < end {
            return number;
        }
        let Some(local) = DateTime::from_timestamp_micros(time_us).map(|utc| utc.with_timezone(&self.zone)) else { return i32::MIN };
        let number = local.date_naive().num_days_from_ce();
        let bounds = bucket_start_us(time_us, Grain::Day, self.zone)
            .and_then(|start| next_bucket_us(start, Grain::Day, self.zone).map(|end| (start, end)));
        // A day that cannot be bounded is looked up each time.
        if let Some((start, end)) = bounds {
            self.last = (start, end, number);
        }
        number
    }
}
