//! What a process knows of a channel: how fast messages may go, how many are on their way, and whether its provider is down. A lane that
//! rests or is full holds up nobody else.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// First rest after a provider failed, and the longest; in between twice as long each time.
const REST_US: i64 = 500_000;
const REST_US_MAX: i64 = 60_000_000;
/// Messages that try whether the provider is back.
const PROBES: usize = 8;
/// Batches of one channel that are worked on at once.
const BATCHES_MAX: usize = 4;
/// Of a channel that rests or is paused: how often what is too late is looked for.
const EXPIRED_INTERVAL_US: i64 = 10_000_000;
/// Seconds' worth of messages that a channel with a rate has on their way at most.
const RATE_AHEAD_S: usize = 2;

/// See [`self`].
#[derive(Debug)]
pub(super) struct Lane {
    /// Requests to the provider at once: some of the process's are left to others.
    pub(super) permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batches: usize,
    in_flight: usize,
    /// Flushes in a row in which the provider took nothing.
    failures: u32,
    rest_until_us: i64,
    expired_looked_us: i64,
    /// When the next message may go.
    next: Option<Instant>,
    /// Larger: was served later.
    turn: u64,
}

impl Lane {
    pub(super) fn new(concurrency_max: usize) -> Self {
        Self { permits: Semaphore::new((concurrency_max * 3 / 4).max(1)), state: Mutex::default() }
    }

    /// How many sends may be taken up now.
    pub(super) fn allowance(&self, claim_max: usize, rate_per_second: u32) -> usize {
        let state = self.state.lock();
        if state.batches >= BATCHES_MAX || (state.failures > 0 && state.batches > 0) {
            return 0;
        }
        let most = if state.failures > 0 { PROBES.min(claim_max) } else { claim_max };
        match rate_per_second as usize {
            0 => most,
            rate => most.min(rate.saturating_mul(RATE_AHEAD_S).saturating_sub(state.in_flight)),
        }
    }

    pub(super) fn turn(&self) -> u64 {
        self.state.lock().turn
    }

    pub(super) fn begin(&self, sends: usize, turn: u64) {
        let mut state = self.state.lock();
        state.batches += 1;
        state.in_flight += sends;
        state.turn = turn;
    }

    pub(super) fn end(&self, sends: usize) {
        let mut state = self.state.lock();
        state.batches = state.batches.saturating_sub(1);
        state.in_flight = state.in_flight.saturating_sub(sends);
    }

    /// Until when the provider is left alone.
    pub(super) fn rest_until_us(&self) -> i64 {
        self.state.lock().rest_until_us
    }

    /// Whether it is time to look for what is too late, of a channel that sends nothing.
    pub(super) fn looks_for_expired(&self, now_us: i64) -> bool {
        let mut state = self.state.lock();
        let is_time = now_us.saturating_sub(state.expired_looked_us) >= EXPIRED_INTERVAL_US || state.expired_looked_us > now_us;
        if is_time {
            state.expired_looked_us = now_us;
        }
        is_time
    }

    /// Notes how the provider answered: whether to anything at all, and how long it asks to be left alone.
    pub(super) fn answered(&self, took_any: bool, failed_any: bool, asked_us: i64, most_us: i64, now_us: i64) {
        let mut state = self.state.lock();
        if took_any {
            state.failures = 0;
        } else if failed_any {
            let rest = REST_US.saturating_mul(1 << state.failures.min(20)).min(REST_US_MAX);
            state.failures += 1;
            state.rest_until_us = state.rest_until_us.max(now_us.saturating_add(rest));
        }
        if asked_us > 0 {
            state.rest_until_us = state.rest_until_us.max(now_us.saturating_add(asked_us.min(most_us)));
        }
    }

    /// Waits for its turn at so many messages per second; 0: at once.
    pub(super) async fn pace(&self, rate_per_second: u32) {
        if rate_per_second == 0 {
            return;
        }
        let at = {
            let mut state = self.state.lock();
            let now = Instant::now();
            let at = state.next.map_or(now, |next| next.max(now));
            state.next = Some(at + Duration::from_secs(1) / rate_per_second);
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_is_down_rests_longer_each_time_and_is_tried_with_a_few() {
        let lane = Lane::new(8);
        assert_eq!(lane.allowance(500, 0), 500);
        lane.answered(false, true, 0, i64::MAX, 1_000_000);
        assert_eq!((lane.rest_until_us(), lane.allowance(500, 0)), (1_500_000, PROBES));
        lane.answered(false, true, 0, i64::MAX, 1_500_000);
        assert_eq!(lane.rest_until_us(), 2_500_000);
        for _ in 0..40 {
            lane.answered(false, true, 0, i64::MAX, 2_500_000);
        }
        assert_eq!(lane.rest_until_us(), 2_500_000 + REST_US_MAX);
        lane.answered(true, true, 0, i64::MAX, 90_000_000);
        assert_eq!(lane.allowance(500, 0), 500);
        lane.answered(true, true, 100_000_000, 5_000_000, 90_000_000);
        assert_eq!(lane.rest_until_us(), 95_000_000, "as it asks, up to the longest pause");
    }

    #[tokio::test(start_paused = true)]
    async fn messages_go_at_the_channels_rate() {
        let (lane, began) = (Lane::new(8), Instant::now());
        for _ in 0..21 {
            lane.pace(10).await;
        }
        assert_eq!(began.elapsed().as_millis() / 10, 200);
        assert_eq!(lane.allowance(500, 10), 20);
        lane.begin(15, 1);
        assert_eq!(lane.allowance(500, 10), 5);
        lane.end(15);
        assert_eq!(lane.allowance(500, 10), 20);
    }
}
