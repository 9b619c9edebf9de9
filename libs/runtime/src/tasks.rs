//! Supervised background tasks. A task that ends before it was told to, or panics, stops the process: a worker that died
//! silently is worse than a restart.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All tasks of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    stopping: CancellationToken,
    failure: Arc<watch::Sender<Option<String>>>,
}

/// Not all tasks ended in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{running} tasks still run after {limit:?}; they are given up")]
pub struct TasksStillRunning {
    running: usize,
    limit: Duration,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            failure: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Runs a task for the life of the process. It watches [`Tasks::stopping`] and then returns `Ok(())`.
    pub fn spawn<F>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.run(name.into(), future, false);
    }

    /// Runs a task that may end well at any time; only a failure stops the process.
    pub fn spawn_finite<F>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.run(name.into(), future, true);
    }

    fn run<F>(&self, name: String, future: F, finite: bool)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (stopping, failure) = (self.stopping.clone(), self.failure.clone());
        self.tracker.spawn(async move {
            let problem = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(Ok(())) if finite || stopping.is_cancelled() => return,
                Ok(Ok(())) => format!("task {name} ended early"),
                Ok(Err(error)) => format!("task {name} failed: {error:#}"),
                Err(panic) => {
                    let text =
                        panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
                    format!("task {name} panicked: {}", text.unwrap_or_default())
                }
            };
            tracing::error!("{problem}");
            failure.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(problem);
                is_first
            });
        });
    }

    /// Cancelled first, when the process is asked to end: long streams finish what is under way and close, calls go on.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Cancelled when the listeners are closed and background work is to end.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Tells every task to end and waits for them, up to `limit`.
    pub async fn stop(&self, limit: Duration) -> Result<(), TasksStillRunning> {
        self.draining.cancel();
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.map_err(|_| TasksStillRunning { running: self.tracker.len(), limit })
    }

    /// Waits for the first failure of a task; never returns while all goes well.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(problem) => anyhow!("{}", problem.as_deref().unwrap_or_default()),
            // The sender lives in self.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_is_reported_by_name() {
        let tasks = Tasks::new();
        tasks.spawn_finite("one-off", async { Ok(()) });
        tasks.spawn("indexer", async { panic!("out of ink") });
        assert_eq!(tasks.failed().await.to_string(), "task indexer panicked: out of ink");
        let tasks = Tasks::new();
        tasks.spawn("indexer", async { Ok(()) });
        assert_eq!(tasks.failed().await.to_string(), "task indexer ended early");
    }

    #[tokio::test]
    async fn stopping_waits_for_tasks_up_to_the_limit() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("good", async move {
            stopping.cancelled().await;
            Ok(())
        });
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, Ok(()));
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());
        assert!(tasks.stop(Duration::from_millis(1)).await.is_err());
    }
}
