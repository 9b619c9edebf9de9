//! Wall clock times in a zone, and spans. Where a day of the zone skips a time, the first moment after is meant; where it comes twice, the
//! first.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use segue_model::calendar::add_months_us;
use segue_proto::query::v1::{Span, TimeUnit};

const SECOND_US: i64 = 1_000_000;
pub(super) const MINUTE_US: i64 = 60 * SECOND_US;
/// No zone has ever skipped more than a day.
const SKIPPED_MINUTES_MAX: u32 = 24 * 60;

/// `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeOfDay(NaiveTime);

impl TimeOfDay {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let two_digits = |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?;
        NaiveTime::from_hms_opt(two_digits(hours)?, two_digits(minutes)?, 0).map(Self)
    }

    pub(super) fn time(self) -> NaiveTime {
        self.0
    }
}

/// What a clock of the zone shows. None outside the years that the calendar knows.
pub(super) fn shown(time_us: i64, zone: Tz) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(time_us)?.with_timezone(&zone).naive_local())
}

/// When a clock of the zone shows this.
pub(super) fn moment_us(date: NaiveDate, time: NaiveTime, zone: Tz) -> Option<i64> {
    let wanted = date.and_time(time);
    let found = |at: &NaiveDateTime| zone.from_local_datetime(at).earliest().map(|moment| moment.timestamp_micros());
    if let Some(moment) = found(&wanted) {
        return Some(moment);
    }
    // Clocks are moved at full minutes.
    let minute = wanted.checked_sub_signed(seconds(time))?;
    (1..=SKIPPED_MINUTES_MAX).find_map(|skipped| found(&minute.checked_add_signed(TimeDelta::minutes(skipped.into()))?))
}

/// Of a time, what lies after its full minute.
fn seconds(time: NaiveTime) -> TimeDelta {
    TimeDelta::seconds(time.second().into()) + TimeDelta::nanoseconds(time.nanosecond().into())
}

/// Whether how long it is depends on the zone.
pub(super) fn needs_zone(span: &Span) -> bool {
    span.unit() == TimeUnit::Month
}

/// So much later. What lies beyond the calendar never comes.
pub(super) fn later_us(from_us: i64, span: &Span, zone: Tz) -> i64 {
    let seconds = match span.unit() {
        TimeUnit::Unspecified | TimeUnit::Second => 1,
        TimeUnit::Minute => 60,
        TimeUnit::Hour => 3_600,
        TimeUnit::Day => 86_400,
        TimeUnit::Week => 7 * 86_400,
        TimeUnit::Month => return add_months_us(from_us, span.count, zone).unwrap_or(i64::MAX),
    };
    from_us.saturating_add(i64::from(span.count).saturating_mul(seconds * SECOND_US))
}
