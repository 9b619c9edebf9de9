//! A token bucket that can go into debt: how much a tenant may ask for.
//!
//! The usual crate (governor) gives all keys one quota and refuses whatever is larger than its burst. Here tenants have
//! quotas of their own, and a batch of 8 MiB must pass at some time under a quota of 1 MiB per second: it passes when
//! there is any credit, and the tenant then waits until the debt is paid. So the rate over time is exact, whatever the
//! size of the single request.

use std::time::Duration;

/// Millionths of a token, so that microseconds × tokens per second needs no division.
const TOKEN: i128 = 1_000_000;

/// One quota's state. Full at first; holds at most what one second brings.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// What was taken and has not come back yet, in millionths of a token.
    used: i128,
    at_us: i64,
}

impl Bucket {
    /// Takes `tokens` if there is at least one; otherwise says how long until there will be.
    pub(crate) fn take(&mut self, tokens: u64, per_second: u64, now_us: i64) -> Result<(), Duration> {
        self.refill(per_second, now_us);
        let capacity = i128::from(per_second.max(1)) * TOKEN;
        let missing = TOKEN - (capacity - self.used);
        if missing > 0 {
            let wait_us = missing.div_euclid(i128::from(per_second.max(1))) + 1;
            return Err(Duration::from_micros(u64::try_from(wait_us).unwrap_or(u64::MAX)));
        }
        self.used += i128::from(tokens) * TOKEN;
        Ok(())
    }

    /// Takes `tokens` whatever is there: they were used already.
    pub(crate) fn charge(&mut self, tokens: u64, per_second: u64, now_us: i64) {
        self.refill(per_second, now_us);
        self.used += i128::from(tokens) * TOKEN;
    }

    fn refill(&mut self, per_second: u64, now_us: i64) {
        // A clock that goes back brings nothing and takes nothing.
        let elapsed_us = i128::from(now_us.saturating_sub(self.at_us).max(0));
        self.at_us = now_us;
        self.used = (self.used - elapsed_us * i128::from(per_second.max(1))).max(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_brings_as_many_as_the_quota_says() {
        let mut bucket = Bucket::default();
        for _ in 0..10 {
            assert_eq!(bucket.take(1, 10, 0), Ok(()));
        }
        let wait = bucket.take(1, 10, 0).expect_err("all are used");
        assert!(wait > Duration::from_millis(99) && wait < Duration::from_millis(101), "{wait:?}");
        assert_eq!(bucket.take(1, 10, 100_001), Ok(()));
        assert!(bucket.take(1, 10, 100_001).is_err());
        // However long it rests, it holds one second's worth.
        let granted = (0..100).filter(|_| bucket.take(1, 10, 3_600_000_000).is_ok()).count();
        assert_eq!(granted, 10);
    }

    #[test]
    fn a_large_request_passes_and_its_debt_is_waited_for() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(5_000, 1_000, 0), Ok(()));
        let wait = bucket.take(1, 1_000, 0).expect_err("in debt");
        assert!(wait > Duration::from_secs(4) && wait < Duration::from_millis(4_010), "{wait:?}");
        assert!(bucket.take(1, 1_000, 3_999_000).is_err());
        assert_eq!(bucket.take(1, 1_000, 4_002_000), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_blocks_nobody() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(1, 1, 10_000_000), Ok(()));
        assert!(bucket.take(1, 1, 1_000_000).is_err());
        assert_eq!(bucket.take(1, 1, 2_000_001), Ok(()));
    }

    #[test]
    fn a_lower_quota_applies_at_once() {
        let mut bucket = Bucket::default();
        bucket.charge(50, 100, 0);
        assert!(bucket.take(1, 10, 0).is_err());
        assert_eq!(bucket.take(1, 100, 0), Ok(()));
    }
}
