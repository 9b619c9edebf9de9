//! Pauses between attempts: doubling, with a limit, ended by a stop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::PipelineError;

/// First pause.
const FIRST: Duration = Duration::from_millis(20);

/// Pauses between attempts.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Pauses up to `most`.
    pub fn new(most: Duration) -> Self {
        Self { next: FIRST.min(most), most }
    }

    /// Waits. [`PipelineError::Stopping`] when told to stop meanwhile.
    pub async fn pause(&mut self, stop: &CancellationToken) -> Result<(), PipelineError> {
        let pause = self.next;
        self.next = (self.next * 2).min(self.most);
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = stop.cancelled() => Err(PipelineError::Stopping),
        }
    }
}
