//! Threads of their own for statements: planning and computing never hold up those that serve calls.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::SqlError;
use super::run::{SqlAnswer, SqlLimits, run};
use crate::scan::Snapshot;

/// Plans are walked recursively, and a statement may nest as deeply as [`super::guard`] lets it. Memory that is not touched is not
/// taken.
const STACK_BYTES: usize = 64 << 20;
/// Threads that read. They work in short bursts, so few are enough.
const READERS_PER_WORKER: usize = 4;
/// A statement that was told to end is given so long to notice before its caller is answered.
const GRACE: Duration = Duration::from_millis(200);

/// Runs statements. Dropping it ends what still runs.
#[derive(Debug)]
pub struct SqlRuntime {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl SqlRuntime {
    /// Starts so many threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(threads * READERS_PER_WORKER)
            .thread_name("segue-sql")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a statement as [`run`] does. `held` is dropped when the work has really ended, also when nobody waits for it any more.
    pub async fn run<H: Send + 'static>(
        &self,
        snapshot: Arc<Snapshot>,
        limits: SqlLimits,
        now: DateTime<Utc>,
        text: String,
        cancelled: CancellationToken,
        held: H,
    ) -> Result<SqlAnswer, SqlError> {
        let Some(runtime) = &self.runtime else { return Err(SqlError::Cancelled) };
        // A join may be in the midst of a poll when its caller goes away, or runs out of time.
        let cancelled = cancelled.child_token();
        let _guard = cancelled.clone().drop_guard();
        let longest = Duration::from_millis(limits.ms_max) + GRACE;
        let limit_ms = limits.ms_max;
        let work = runtime.spawn(async move {
            let _held = held;
            run(&snapshot, &limits, now, &text, &cancelled).await
        });
        // Planning does not look at the clock, so the limit is watched from here too.
        match tokio::time::timeout(longest, Aborting(work)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) if broken.is_cancelled() => Err(SqlError::Cancelled),
            Ok(Err(broken)) => Err(SqlError::of(datafusion::error::DataFusionError::ExecutionJoin(Box::new(broken)), 0)),
            Err(_) => Err(SqlError::TooLong { limit_ms }),
        }
    }
}

impl Drop for SqlRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Ends its task when it is dropped.
struct Aborting<T>(JoinHandle<T>);

impl<T> Future for Aborting<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
