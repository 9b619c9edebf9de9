//! The time of an event: required, readable, from 2000 to a day ahead, after correcting the sender's clock.

use prost_types::Timestamp;
use segue_proto::events::v1::Event;
use segue_proto::ingest::v1::{Reason, ReasonCode};

use super::reason;
use super::skew::{DAY_US, corrected_time_us};

/// 2000-01-01T00:00:00Z.
pub const EARLIEST_US: i64 = 946_684_800_000_000;

/// Microseconds of a timestamp; none when it is not a valid one (years 1 to 9999, nanoseconds below a second).
pub fn micros(timestamp: &Timestamp) -> Option<i64> {
    let years = -62_135_596_800..=253_402_300_799;
    if !years.contains(&timestamp.seconds) || !(0..1_000_000_000).contains(&timestamp.nanos) {
        return None;
    }
    Some(timestamp.seconds * 1_000_000 + i64::from(timestamp.nanos / 1_000))
}

/// The timestamp of a number of microseconds.
pub fn timestamp(micros: i64) -> Timestamp {
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32 }
}

pub(super) fn check(event: &Event, received_at_us: i64, trusted: bool, faults: &mut Vec<Reason>) {
    // A reader that could not read the time has said so already.
    if faults.iter().any(|fault| fault.field == "time") {
        return;
    }
    let Some(time) = &event.time else {
        faults.push(reason(ReasonCode::MissingField, "time", "the event has no time: say when it happened"));
        return;
    };
    let Some(time_us) = micros(time) else {
        faults.push(reason(ReasonCode::Unreadable, "time", "not a time between the years 1 and 9999"));
        return;
    };
    let sent_at_us = match &event.sent_at {
        None => None,
        Some(sent_at) => match micros(sent_at) {
            Some(sent_at_us) => Some(sent_at_us),
            None => {
                faults.push(reason(ReasonCode::Unreadable, "sent_at", "not a time between the years 1 and 9999"));
                return;
            }
        },
    };
    let corrected = if trusted { time_us } else { corrected_time_us(time_us, sent_at_us, received_at_us) };
    if corrected < EARLIEST_US {
        faults.push(reason(ReasonCode::TimeOutOfRange, "time", "before 2000-01-01: check the sender's clock and the unit of the time"));
    } else if corrected > received_at_us.saturating_add(DAY_US) {
        faults.push(reason(
            ReasonCode::TimeOutOfRange,
            "time",
            "more than a day after it was received: check the sender's clock and the unit of the time",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_and_microseconds_agree() {
        for us in [0, 1, -1, EARLIEST_US, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            assert_eq!(micros(&timestamp(us)), Some(us));
        }
        assert_eq!(micros(&Timestamp { seconds: 0, nanos: -1 }), None);
        assert_eq!(micros(&Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }
}
