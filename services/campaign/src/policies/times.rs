//! Rules of times: when one applies, and when it ends.
//!
//! A rule is about what a clock in its zone shows, `from` to `to`, half-open. Clocks are moved twice a year in many places: what the clock
//! then shows twice is quiet twice, what it skips never is, and a rule may begin or end in the moment of the change.

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use segue_proto::campaign::v1::TimeRule;

const DAY_US: i64 = 86_400_000_000;

/// The quiet part of a day, in microseconds of the clock since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quiet {
    from_us: i64,
    to_us: i64,
    pub(super) zone: Tz,
}

impl Quiet {
    /// Of a rule; `zone` is the person's. None: the rule is one that `check` refuses.
    pub(super) fn of(rule: &TimeRule, zone: Tz) -> Option<Self> {
        let zone = if rule.time_zone.is_empty() { zone } else { rule.time_zone.parse().ok()? };
        Some(Self { from_us: parse_time(&rule.from)?, to_us: parse_time(&rule.to)?, zone })
    }

    /// Whether this moment is quiet.
    pub(super) fn holds(&self, time_us: i64) -> bool {
        local_us(time_us, self.zone).is_some_and(|local_us| self.is_quiet(local_us.rem_euclid(DAY_US)))
    }

    fn is_quiet(&self, of_day_us: i64) -> bool {
        if self.from_us <= self.to_us {
            (self.from_us..self.to_us).contains(&of_day_us)
        } else {
            of_day_us >= self.from_us || of_day_us < self.to_us
        }
    }

    /// The first moment after one that is not quiet, up to another, that is.
    pub(super) fn begin_us(&self, after_us: i64, until_us: i64) -> Option<i64> {
        let mut time_us = after_us;
        // As for the end.
        for _ in 0..8 {
            let left_us = (self.from_us - local_us(time_us, self.zone)?.rem_euclid(DAY_US)).rem_euclid(DAY_US);
            let unmoved_us = time_us.saturating_add(left_us);
            let Some(change_us) = change_us(time_us, unmoved_us.min(until_us), self.zone) else {
                return (unmoved_us <= until_us).then_some(unmoved_us);
            };
            if self.holds(change_us) {
                return Some(change_us);
            }
            time_us = change_us;
        }
        None
    }

    /// The first moment after a quiet one that is not.
    pub(super) fn end_us(&self, mut time_us: i64) -> i64 {
        // Each turn ends the rule or passes a change of the clock; no zone has more than a few of them in a day.
        for _ in 0..8 {
            let Some(local_us) = local_us(time_us, self.zone) else { break };
            let left_us = (self.to_us - local_us.rem_euclid(DAY_US)).rem_euclid(DAY_US);
            let unmoved_us = time_us.saturating_add(left_us);
            let Some(change_us) = change_us(time_us, unmoved_us, self.zone) else { return unmoved_us };
            if !self.holds(change_us) {
                return change_us;
            }
            time_us = change_us;
        }
        time_us
    }
}

/// `HH:MM` in microseconds since midnight.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let digits = |text: &str| if text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<i64>().ok() } else { None };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60_000_000)
}

/// Days from 1970-01-01 to the day that the clock of a zone shows.
pub(super) fn day(time_us: i64, zone: Tz) -> Option<i64> {
    Some(local_us(time_us, zone)?.div_euclid(DAY_US))
}

fn offset_us(time_us: i64, zone: Tz) -> Option<i64> {
    let utc = DateTime::from_timestamp_micros(time_us)?.naive_utc();
    Some(i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1_000_000)
}

/// What the clock shows, as if it were UTC.
fn local_us(time_us: i64, zone: Tz) -> Option<i64> {
    time_us.checked_add(offset_us(time_us, zone)?)
}

/// The moment after `from_us`, up to `to_us`, at which the clock was moved, if it was.
fn change_us(from_us: i64, to_us: i64, zone: Tz) -> Option<i64> {
    let before = offset_us(from_us, zone)?;
    if offset_us(to_us, zone)? == before {
        return None;
    }
    let (mut low, mut high) = (from_us, to_us);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if offset_us(middle, zone)? == before { low = middle } else { high = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
    }

    fn quiet(from: &str, to: &str, zone: Tz) -> Quiet {
        let rule = TimeRule { from: from.to_owned(), to: to.to_owned(), ..TimeRule::default() };
        Quiet::of(&rule, zone).expect("a rule")
    }

    #[test]
    fn a_rule_is_half_open_to_the_microsecond_and_goes_over_midnight() {
        let night = quiet("21:00", "08:00", chrono_tz::Asia::Seoul);
        for (at, held) in [
            ("2026-11-22T11:59:59.999999Z", false),
            ("2026-11-22T12:00:00Z", true),
            ("2026-11-22T15:00:00Z", true),
            ("2026-11-22T22:59:59.999999Z", true),
            ("2026-11-22T23:00:00Z", false),
        ] {
            assert_eq!(night.holds(us(at)), held, "{at}");
            if held {
                assert_eq!(night.end_us(us(at)), us("2026-11-22T23:00:00Z"), "{at}");
            }
        }
        let noon = quiet("12:00", "13:30", chrono_tz::Asia::Seoul);
        assert!(!noon.holds(us("2026-11-22T02:59:59.999999Z")) && !noon.holds(us("2026-11-22T04:30:00Z")));
        assert_eq!(noon.end_us(us("2026-11-22T03:00:00Z")), us("2026-11-22T04:30:00Z"));
        let to_midnight = quiet("22:00", "00:00", chrono_tz::UTC);
        assert_eq!(to_midnight.end_us(us("2026-11-22T23:59:59.999999Z")), us("2026-11-23T00:00:00Z"));
        assert!(!to_midnight.holds(us("2026-11-23T00:00:00Z")));
    }

    #[test]
    fn a_moved_clock_moves_the_end_of_a_rule() {
        let berlin = chrono_tz::Europe::Berlin;
        // Forward on 29 March: 02:00 is 03:00. The night is an hour shorter.
        assert_eq!(quiet("22:00", "08:00", berlin).end_us(us("2026-03-28T22:00:00Z")), us("2026-03-29T06:00:00Z"));
        // Back on 25 October: 03:00 is 02:00. The night is an hour longer.
        assert_eq!(quiet("22:00", "08:00", berlin).end_us(us("2026-10-24T21:00:00Z")), us("2026-10-25T07:00:00Z"));
        // The end is skipped: the rule ends when the clock is moved.
        assert_eq!(quiet("22:00", "02:30", berlin).end_us(us("2026-03-29T00:59:59.999999Z")), us("2026-03-29T01:00:00Z"));
        // All of it is skipped.
        assert!(!quiet("02:00", "03:00", berlin).holds(us("2026-03-29T01:00:00Z")));
        // The end comes twice: it is quiet until the first, and again from when the clock is moved.
        let twice = quiet("22:00", "02:30", berlin);
        assert_eq!(twice.end_us(us("2026-10-24T23:00:00Z")), us("2026-10-25T00:30:00Z"));
        assert!(!twice.holds(us("2026-10-25T00:59:59.999999Z")) && twice.holds(us("2026-10-25T01:00:00Z")));
        assert_eq!(twice.end_us(us("2026-10-25T01:00:00Z")), us("2026-10-25T01:30:00Z"));
        // Moved back to before its beginning.
        assert_eq!(quiet("02:30", "08:00", berlin).end_us(us("2026-10-25T00:45:00Z")), us("2026-10-25T01:00:00Z"));
    }

    #[test]
    fn the_beginning_of_a_rule_is_the_first_moment_that_it_holds() {
        let (seoul, berlin) = (chrono_tz::Asia::Seoul, chrono_tz::Europe::Berlin);
        for (rule, after, until, begins) in [
            (quiet("21:00", "08:00", seoul), "2026-11-22T11:59:30Z", "2026-11-22T12:00:30Z", Some("2026-11-22T12:00:00Z")),
            (quiet("21:00", "08:00", seoul), "2026-11-22T11:58:00Z", "2026-11-22T11:59:59Z", None),
            (quiet("21:00", "08:00", seoul), "2026-11-22T23:00:00Z", "2026-11-22T23:01:00Z", None),
            // 02:00 is 03:00: what would begin in between begins when the clock is moved, unless it has ended by then.
            (quiet("02:30", "08:00", berlin), "2026-03-29T00:59:30Z", "2026-03-29T01:00:30Z", Some("2026-03-29T01:00:00Z")),
            (quiet("02:10", "02:50", berlin), "2026-03-29T00:59:30Z", "2026-03-29T01:00:30Z", None),
            // 03:00 is 02:00: it begins again.
            (quiet("02:00", "02:30", berlin), "2026-10-25T00:59:30Z", "2026-10-25T01:00:30Z", Some("2026-10-25T01:00:00Z")),
        ] {
            assert!(!rule.holds(us(after)));
            assert_eq!(rule.begin_us(us(after), us(until)), begins.map(us), "{rule:?} after {after}");
        }
    }

    #[test]
    fn only_times_of_the_clock_are_times() {
        assert_eq!(parse_time("00:00"), Some(0));
        assert_eq!(parse_time("23:59"), Some(86_340_000_000));
        for text in ["", "8:00", "08:0", "24:00", "08:60", "+8:00", "08:00:00", "0８:00", " 8:00", "-1:00"] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
    }
}
