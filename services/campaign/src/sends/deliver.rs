//! Giving messages to providers: bounded, paced, under a hold that outlasts each request, and written down as answers come in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use segue_proto::campaign::v1::SendState;

use super::commit::{self, Ready, Settled};
use super::judge;
use super::lane::Lane;
use super::prepare::Batch;
use super::worker::Sender;
use crate::channels::{Message, OpenChannel, Outcome};
use crate::error::CampaignError;
use crate::policies::Checked;

/// Answers are written down at least this often while others are waited for.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// Sends whose answers are written down at once.
const WRITE_MAX: usize = 1_000;
/// Tries to take an identifier from a person that the provider knows no more; without it the next message is refused again.
const UNLINK_TRIES: usize = 3;
const UNLINK_PAUSE: Duration = Duration::from_millis(500);
/// Identifiers that are taken away at once.
const UNLINK_AT_ONCE: usize = 16;

/// A send on its way.
struct Waiting {
    ready: Option<Ready>,
    /// Answers that are still to come.
    left: usize,
    answers: Vec<(usize, Option<Outcome>)>,
}

/// Until when a message may be given to its provider.
#[derive(Clone, Copy)]
struct Until {
    /// The end of the hold.
    held_us: i64,
    /// The beginning of quiet hours.
    quiet_us: i64,
}

/// A message, and what the provider said of each of its addresses; nothing: it was not given to it.
type Given = (Ready, Vec<(usize, Option<Outcome>)>);

impl Sender {
    /// Gives what was decided to the provider of the channel and records what becomes of it.
    pub(super) async fn deliver(&self, batch: &Batch, lane: &Lane, ready: Vec<Ready>) -> Result<(), CampaignError> {
        let Some(channel) = &batch.channel else { return Ok(()) };
        let mut jobs = Vec::new();
        let mut sends = Vec::with_capacity(ready.len());
        for (at, mut one) in ready.into_iter().enumerate() {
            let messages = std::mem::take(&mut one.messages);
            let until = Until { held_us: one.send.due_us, quiet_us: one.quiet_from_us.unwrap_or(i64::MAX) };
            sends.push(Waiting { left: messages.len(), answers: Vec::new(), ready: Some(one) });
            jobs.extend(messages.into_iter().map(|(n, message)| (at, n, message, until)));
        }
        // Once the hold of one runs out, so does that of all: the rest is not even waited for.
        let too_late = AtomicBool::new(false);
        let calls = stream::iter(jobs).map(|(at, n, message, until)| {
            let too_late = &too_late;
            async move { (at, n, self.call(channel, lane, &message, until, too_late).await) }
        });
        let calls = calls.buffer_unordered(self.service.config.send.concurrency_max);
        self.collect(batch, lane, sends, calls).await
    }

    /// Writes answers down as they come in.
    async fn collect(
        &self,
        batch: &Batch,
        lane: &Lane,
        mut sends: Vec<Waiting>,
        calls: impl Stream<Item = (usize, usize, Option<Outcome>)>,
    ) -> Result<(), CampaignError> {
        let mut calls = std::pin::pin!(calls);
        let mut writing = tokio::time::interval(WRITE_INTERVAL);
        writing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut done: Vec<Given> = Vec::new();
        loop {
            let ended = tokio::select! {
                biased;
                answer = calls.next() => match answer {
                    Some((at, n, outcome)) => {
                        if let Some(waiting) = sends.get_mut(at) {
                            waiting.answers.push((n, outcome));
                            waiting.left = waiting.left.saturating_sub(1);
                            if waiting.left == 0 && let Some(ready) = waiting.ready.take() {
                                done.push((ready, std::mem::take(&mut waiting.answers)));
                            }
                        }
                        if done.len() < WRITE_MAX {
                            continue;
                        }
                        false
                    }
                    None => true,
                },
                _ = writing.tick() => false,
            };
            if !done.is_empty() {
                self.write(batch, lane, std::mem::take(&mut done)).await?;
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// One request; None: it was not made, for want of time.
    async fn call(&self, channel: &OpenChannel, lane: &Lane, message: &Message, until: Until, too_late: &AtomicBool) -> Option<Outcome> {
        let is_late = || {
            let timeout_us = i64::try_from(self.service.config.send.timeout_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
            let now_us = self.service.clock.now_us();
            now_us.saturating_add(timeout_us) > until.held_us || self.stopping.is_cancelled()
        };
        if too_late.load(Ordering::Relaxed) {
            return None;
        }
        lane.pace(channel.rate_per_second).await;
        // Never closed.
        let _turn = (lane.permits.acquire().await, self.concurrency.acquire().await);
        // A provider that has stopped answering meanwhile is not asked by those who still queue for it.
        if is_late() || lane.rest_until_us() > self.service.clock.now_us() {
            too_late.store(is_late(), Ordering::Relaxed);
            return None;
        }
        // It queued until a time at which it is not to be sent: it is decided on once more.
        if self.service.clock.now_us() >= until.quiet_us {
            return None;
        }
        let timeout = Duration::from_millis(self.service.config.send.timeout_ms);
        let answered = tokio::time::timeout(timeout, channel.outlet.send(message)).await;
        let late = |_| Outcome::Retry { after: None, error: format!("did not answer within {} ms", timeout.as_millis()) };
        Some(answered.unwrap_or_else(late))
    }

    async fn write(&self, batch: &Batch, lane: &Lane, done: Vec<Given>) -> Result<(), CampaignError> {
        let now_us = self.service.clock.now_us();
        let most_us = i64::try_from(self.service.config.send.retry_pause_ms_max.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let (mut took_any, mut failed_any, mut asked_us) = (false, false, 0);
        let mut unlinked = Vec::new();
        let mut settled = Vec::with_capacity(done.len());
        for (ready, answers) in done {
            for (n, outcome) in &answers {
                match outcome {
                    Some(Outcome::Retry { after, .. }) => {
                        failed_any = true;
                        asked_us = asked_us.max(micros(*after));
                    }
                    Some(Outcome::Unregistered { .. }) => {
                        took_any = true;
                        unlinked.extend(ready.addresses.get(*n).map(|address| (address.kind.clone(), address.value.clone(), ready.person)));
                    }
                    Some(Outcome::Sent { .. } | Outcome::Refused { .. }) => took_any = true,
                    None => {}
                }
            }
            settled.push(settle(ready, answers, most_us, now_us));
        }
        lane.answered(took_any, failed_any, asked_us, most_us, now_us);
        commit::settle(&self.service, &batch.tenant, &settled, now_us).await?;
        stream::iter(unlinked).for_each_concurrent(UNLINK_AT_ONCE, |(kind, value, person)| self.unlink(batch, kind, value, person)).await;
        Ok(())
    }

    /// Best effort: what the provider does not know is refused once more otherwise.
    async fn unlink(&self, batch: &Batch, kind: String, value: String, person: u32) {
        for tried in 1..=UNLINK_TRIES {
            match self.sources.unlink(&batch.tenant, &kind, &value, person).await {
                Ok(()) => return,
                Err(error) if error.is_retryable() && tried < UNLINK_TRIES => tokio::time::sleep(UNLINK_PAUSE).await,
                Err(error) => {
                    let error = segue_runtime::status::chain(&error);
                    tracing::warn!(tenant = %batch.tenant, kind, error, "an address that its provider knows no more is still linked");
                    return;
                }
            }
        }
    }
}

fn micros(pause: Option<Duration>) -> i64 {
    pause.map_or(0, |pause| i64::try_from(pause.as_micros()).unwrap_or(i64::MAX))
}

/// What becomes of a send after these answers.
fn settle(mut ready: Ready, answers: Vec<(usize, Option<Outcome>)>, most_us: i64, now_us: i64) -> Settled {
    let attempted = answers.iter().any(|(_, outcome)| outcome.is_some());
    let mut asked_us = 0;
    let mut checked = Vec::new();
    for (n, outcome) in &answers {
        let (Some(address), Some(outcome)) = (ready.addresses.get_mut(*n), outcome) else { continue };
        let again = judge::settle(address, outcome);
        let (outcome, detail) = match outcome {
            Outcome::Sent { provider_message_id } => ("sent", provider_message_id.clone()),
            Outcome::Retry { after, error } => {
                asked_us = asked_us.max(micros(*after));
                ("waits", error.clone())
            }
            Outcome::Refused { error } | Outcome::Unregistered { error } => ("failed", error.clone()),
        };
        debug_assert_eq!(again, outcome == "waits");
        let detail = if address.value.is_empty() { detail } else { format!("`{}`: {detail}", address.value) };
        checked.push(Checked { check: "attempt", outcome, detail });
    }
    let sending = i32::from(SendState::Sending);
    let is_left = ready.addresses.iter().any(|address| address.state == sending);
    let pause_us = match attempted {
        true => judge::pause_us(&ready.send.id, ready.send.attempts + 1, asked_us, most_us),
        false => 0,
    };
    let again_us = now_us.saturating_add(pause_us);
    // What nobody was asked about is decided once more, so that being too late is said as what it is.
    let gives_up = attempted && again_us > ready.send.expires_us;
    if gives_up {
        for address in ready.addresses.iter_mut().filter(|address| address.state == sending) {
            address.state = SendState::Failed.into();
        }
    }
    Settled { ready, attempted, checked, again_us: (is_left && !gives_up).then_some(again_us) }
}
