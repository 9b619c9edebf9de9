//! Windows: which times count as seen from *now*.
//!
//! `last N` is `(now − N, now]`. Going back by calendar months never goes back further for a later *now*, so that an event which has left
//! a window does not come back into it:
//! - where the month N months before has no such day (29–31 May, three months back), the window begins with the end of that month;
//! - while a clock is set back and an hour runs a second time, the window's begin waits.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// Microseconds.
    Fixed(i64),
    /// Months of the calendar.
    Months(u32),
}

impl Span {
    /// The moment that lies this span before `now_us`, in microseconds UTC; the least number where the calendar ends. Never decreases as
    /// `now_us` grows.
    pub fn before(self, now_us: i64, zone: Tz) -> i64 {
        match self {
            Span::Fixed(us) => now_us.saturating_sub(us),
            Span::Months(months) => months_before(now_us, months, zone).unwrap_or(i64::MIN),
        }
    }

    /// The first `now` for which [`Span::before`] has reached `time_us`: when an event of that time leaves a window of this length. None
    /// when that lies beyond the calendar.
    pub fn after(self, time_us: i64, zone: Tz) -> Option<i64> {
        let Span::Months(months) = self else {
            let Span::Fixed(us) = self else { return None };
            return time_us.checked_add(us);
        };
        let reached = |now: i64| self.before(now, zone) >= time_us;
        let guess = months_after(time_us, months, zone)?;
        if reached(guess) && !reached(guess - 1) {
            return Some(guess);
        }
        // The guess is off by a change of clocks at most.
        let (mut below, mut at) = (guess.checked_sub(3 * DAY_US)?, guess.checked_add(3 * DAY_US)?);
        if reached(below) || !reached(at) {
            return None;
        }
        while below + 1 < at {
            let middle = below + (at - below) / 2;
            if reached(middle) { at = middle } else { below = middle }
        }
        Some(at)
    }
}

/// Which events of a person count, by their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// All up to now.
    Ever,
    /// `(now − span, now]`.
    Last(Span),
    /// From (inclusive), to (exclusive), in microseconds; and nothing after now.
    Absolute(i64, i64),
}

impl Window {
    /// The times that count, from (inclusive) to (exclusive); empty when the second is not above the first.
    pub fn bounds(self, now_us: i64, zone: Tz) -> (i64, i64) {
        let until = now_us.saturating_add(1);
        match self {
            Window::Ever => (i64::MIN, until),
            Window::Last(span) => (span.before(now_us, zone).saturating_add(1), until),
            Window::Absolute(from, to) => (from, to.min(until)),
        }
    }

    /// The first `now` at which an event of this time no longer counts, though it did before; none if it never leaves.
    pub fn leaves_at(self, time_us: i64, zone: Tz) -> Option<i64> {
        match self {
            Window::Ever | Window::Absolute(..) => None,
            Window::Last(span) => span.after(time_us, zone),
        }
    }
}

const DAY_US: i64 = 86_400_000_000;
const LAST_OF_DAY: TimeDelta = TimeDelta::microseconds(DAY_US - 1);

fn months_before(now_us: i64, months: u32, zone: Tz) -> Option<i64> {
    let local = steady_local(now_us, zone)?;
    let date = local.date().checked_sub_months(Months::new(months))?;
    let then = if date.day() == local.day() {
        date.and_time(local.time())
    } else {
        // chrono went to the last day of a month that is too short.
        date.and_time(NaiveTime::MIN).checked_add_signed(LAST_OF_DAY)?
    };
    let next = then.checked_add_signed(TimeDelta::microseconds(1))?;
    // The last moment before the next one begins: right also where the clock skips this one, or shows it twice.
    Some(first_moment(next, zone)?.saturating_sub(1))
}

/// Where an event of this time is likely to leave a window of so many months.
fn months_after(time_us: i64, months: u32, zone: Tz) -> Option<i64> {
    let local = local_time(time_us, zone)?;
    let date = local.date().checked_add_months(Months::new(months))?;
    let then = if date.day() == local.day() { date.and_time(local.time()) } else { month_after(date)?.and_time(NaiveTime::MIN) };
    first_moment(then, zone)
}

fn month_after(date: NaiveDate) -> Option<NaiveDate> {
    date.with_day(1)?.checked_add_months(Months::new(1))
}

fn local_time(time_us: i64, zone: Tz) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(time_us)?.with_timezone(&zone).naive_local())
}

/// What the clock shows, except that it stands still while it is set back: the latest that it has shown up to this moment.
fn steady_local(time_us: i64, zone: Tz) -> Option<NaiveDateTime> {
    let utc: DateTime<Utc> = DateTime::from_timestamp_micros(time_us)?;
    let local = utc.with_timezone(&zone).naive_local();
    let Some(first) = zone.from_local_datetime(&local).earliest().map(|first| first.timestamp_micros()).filter(|first| *first < time_us)
    else {
        return Some(local);
    };
    // The clock shows this for the second time: find the moment in between at which it was set back.
    let offset_at = |us: i64| Some(zone.offset_from_utc_datetime(&DateTime::from_timestamp_micros(us)?.naive_utc()).fix());
    let before = offset_at(first)?;
    let (mut old, mut new) = (first, time_us);
    while old + 1 < new {
        let middle = old + (new - old) / 2;
        if offset_at(middle)? == before { old = middle } else { new = middle }
    }
    local_time(old, zone)
}

/// The first moment at which the clock shows this time or a later one.
fn first_moment(local: NaiveDateTime, zone: Tz) -> Option<i64> {
    if let Some(found) = zone.from_local_datetime(&local).earliest() {
        return Some(found.timestamp_micros());
    }
    // The clock skips it: the moment of the jump, found between a time that is surely before it and one that is surely after it.
    let utc = local.and_utc().timestamp_micros();
    let (mut below, mut at) = (utc.checked_sub(2 * DAY_US)?, utc.checked_add(2 * DAY_US)?);
    while below + 1 < at {
        let middle = below + (at - below) / 2;
        if local_time(middle, zone)? >= local { at = middle } else { below = middle }
    }
    Some(at)
}
