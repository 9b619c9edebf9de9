//! Outlets that stand before or in the place of others: one bounds how long an outlet takes, one says why there is none.

use std::time::Duration;

use futures::future::BoxFuture;

use super::wire::{again, too_slow};
use super::{Message, Outcome, Outlet};

/// An outlet, with all that it does for a message within a time.
#[derive(Debug)]
pub(super) struct Bounded {
    pub(super) inner: Box<dyn Outlet>,
    pub(super) timeout_ms: u64,
}

impl Outlet for Bounded {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            match tokio::time::timeout(Duration::from_millis(self.timeout_ms), self.inner.send(message)).await {
                Ok(outcome) => outcome,
                Err(_) => again(None, too_slow(self.timeout_ms)),
            }
        })
    }
}

/// A channel whose settings cannot be used (any more): its messages wait until that is changed.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) problem: String,
}

impl Outlet for Closed {
    fn send<'a>(&'a self, _: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { again(None, format!("the channel cannot be used: {}", self.problem)) })
    }
}
