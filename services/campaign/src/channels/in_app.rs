//! The feed that an app fetches: a message is there as soon as it is stored.

use std::sync::Arc;

use futures::future::BoxFuture;
use segue_model::Clock;
use segue_proto::campaign::v1::InAppSettings;
use segue_store::Db;

use super::wire::again;
use super::{Message, Outcome, Outlet};
use crate::links::put_into_inbox;

const DAY_US: i64 = 86_400_000_000;

/// The feeds of a tenant's persons.
#[derive(Debug)]
pub(super) struct InApp {
    db: Db,
    clock: Arc<dyn Clock>,
    keep_us: i64,
}

impl InApp {
    pub(super) fn open(settings: &InAppSettings, db: &Db, clock: &Arc<dyn Clock>) -> Self {
        Self { db: db.clone(), clock: clock.clone(), keep_us: i64::from(settings.keep_days).saturating_mul(DAY_US) }
    }
}

impl Outlet for InApp {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let now_us = self.clock.now_us();
            match put_into_inbox(&self.db, message, now_us, now_us.saturating_add(self.keep_us)).await {
                Ok(()) => Outcome::Sent { provider_message_id: String::new() },
                Err(error) => again(None, error.to_string()),
            }
        })
    }
}
