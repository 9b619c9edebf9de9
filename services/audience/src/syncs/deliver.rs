//! Sends the batch at hand of a sync, and writes down what became of it.

use std::sync::Arc;

use segue_model::Clock;
use segue_store::Db;
use xxhash_rust::xxh3::xxh3_128;

use super::outlet::{Message, Outcome, Outlet};
use super::schedule;
use super::store::{BatchAtHand, Failure, Owner, Stored};
use crate::config::SyncConfig;
use crate::error::AudienceError;

/// What delivering takes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: SyncConfig,
    pub(super) outlet: Outlet,
    pub(super) owner: Owner,
}

impl Delivery {
    /// Sends it once; whether it was taken. If not, the sync is let go of until it is due again.
    pub(super) async fn attempt(&self, sync: &Stored, batch: &BatchAtHand) -> Result<bool, AudienceError> {
        let id = message_id(sync, batch.number);
        let message = Message { url: &sync.settings.url, secret: &sync.secret, id: &id, body: &batch.payload };
        let outcome = self.outlet.send(message, self.clock.now_us()).await;
        let now_us = self.clock.now_us();
        let failing_since_us = if sync.failing_since_us == 0 { now_us } else { sync.failing_since_us };
        let failures = sync.failures.saturating_add(1);
        let failure = match outcome {
            Outcome::Taken => {
                self.owner.taken(&self.db, sync, batch, now_us).await?;
                return Ok(true);
            }
            Outcome::Gone => {
                let problem = "answered 410 Gone: paused, since the destination wants nothing any more".to_owned();
                Failure { failures, failing_since_us, problem, due_us: now_us, pause: true }
            }
            Outcome::Failed { problem, .. } if schedule::is_over(failing_since_us, now_us, &self.config) => {
                let problem = format!("paused after {} hours without success: {problem}", self.config.give_up_hours);
                Failure { failures, failing_since_us, problem, due_us: now_us, pause: true }
            }
            Outcome::Failed { problem, pause } => {
                let pause = schedule::pause(failures, pause, &self.config, rand::random());
                let due_us = now_us.saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX));
                Failure { failures, failing_since_us, problem, due_us, pause: false }
            }
        };
        let (tenant, number, problem) = (&sync.tenant, batch.number, &failure.problem);
        tracing::info!(%tenant, sync = sync.id, batch = number, failures, problem, "a sync's destination did not take a batch");
        self.owner.failed(&self.db, sync, &failure).await?;
        Ok(false)
    }
}

/// The same for the same batch of the same sync, another for any other. Without a full stop, which separates the parts of what is signed.
pub(super) fn message_id(sync: &Stored, number: u64) -> String {
    // A sync that is created anew under the id of a deleted one is another.
    let of = format!("{}/{}/{}", sync.tenant, sync.id, sync.created_us);
    format!("msg_{:032x}_{number}", xxh3_128(of.as_bytes()))
}
