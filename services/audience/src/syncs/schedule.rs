//! When a batch that was not taken is sent again, and when that is given up.

use std::time::Duration;

use crate::config::SyncConfig;

/// Pause after the first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A destination that asks for a longer pause is asked again after this one.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How long to wait after so many failures in a row. `random` is from 0 to 1: what fails together is not tried again together. A pause
/// that the destination asks for is the least.
pub(super) fn pause(failures: u32, asked: Option<Duration>, config: &SyncConfig, random: f64) -> Duration {
    let most = Duration::from_millis(config.retry_pause_ms_max);
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let own = doubled.min(most).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
    asked.map_or(own, |asked| own.max(asked.min(ASKED_PAUSE_MAX)))
}

/// Whether what has failed since then is given up.
pub(super) fn is_over(failing_since_us: i64, now_us: i64, config: &SyncConfig) -> bool {
    let hours = now_us.saturating_sub(failing_since_us) / 3_600_000_000;
    u64::try_from(hours).is_ok_and(|hours| hours >= config.give_up_hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_half() {
        let config = SyncConfig { retry_pause_ms_max: 60_000, ..SyncConfig::default() };
        let longest = [1, 2, 3, 6, 7, 100, u32::MAX].map(|failures| pause(failures, None, &config, 1.0).as_secs());
        assert_eq!(longest, [1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(pause(3, None, &config, 0.0), Duration::from_secs(2));
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept_within_a_day() {
        let config = SyncConfig::default();
        let asked = |seconds| pause(1, Some(Duration::from_secs(seconds)), &config, 1.0).as_secs();
        assert_eq!([0, 120, 3_600, 10_000_000].map(asked), [1, 120, 3_600, 86_400]);
    }

    #[test]
    fn what_fails_for_so_many_hours_is_given_up() {
        let config = SyncConfig { give_up_hours: 72, ..SyncConfig::default() };
        let hour_us = 3_600_000_000;
        assert!(!is_over(hour_us, 73 * hour_us - 1, &config));
        assert!(is_over(hour_us, 73 * hour_us, &config));
        assert!(!is_over(hour_us, 0, &config), "the clock went back");
    }
}
