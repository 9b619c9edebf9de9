//! Correcting the clock of a sender: `received − (sent − time)`. One rule for the check at the door and for the pipeline.

/// A day, in microseconds.
pub const DAY_US: i64 = 86_400_000_000;

/// The event's time by our clock. The sender's time stands when it did not say when it sent, or when the result would lie more
/// than a day in the future.
pub fn corrected_time_us(time_us: i64, sent_at_us: Option<i64>, received_at_us: i64) -> i64 {
    let Some(sent_at_us) = sent_at_us else { return time_us };
    let corrected = i128::from(received_at_us) - (i128::from(sent_at_us) - i128::from(time_us));
    match i64::try_from(corrected) {
        Ok(corrected) if corrected <= received_at_us.saturating_add(DAY_US) => corrected,
        Ok(_) | Err(_) => time_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_corrected_unless_the_result_is_absurd() {
        let received = 1_000 * DAY_US;
        for (time, sent, corrected) in [
            (received - 10, None, received - 10),
            // A clock that is an hour ahead: the event happened 5 µs before it was sent.
            (received + 3_600_000_000 - 5, Some(received + 3_600_000_000), received - 5),
            // "Sent" long before it happened: two days ahead after correction, so the sender's time stands.
            (received, Some(received - 2 * DAY_US), received),
            (received, Some(received - DAY_US), received + DAY_US),
            (i64::MIN, Some(i64::MAX), i64::MIN),
            (i64::MAX, Some(i64::MIN), i64::MAX),
        ] {
            assert_eq!(corrected_time_us(time, sent, received), corrected, "{time} {sent:?}");
        }
    }
}
