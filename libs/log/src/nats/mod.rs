//! The NATS JetStream backend: for any number of processes.
//!
//! | what | where |
//! |---|---|
//! | a partition | stream `<prefix>-<topic>-<partition>`; the stream's sequence is the position |
//! | a batch | one message, on subject `<prefix>.<topic>.<partition>.<producer>` (`=` without a producer); zstd, with headers |
//! | holds, remembered producers, the partition count | stream `<prefix>-state-`, the last message of each subject |
//!
//! - `names.rs`: those names, and the headers.
//! - `streams.rs`: creating streams and looking at them.
//! - `append.rs`: publishing, and why a sequence is written once.
//! - `read.rs`: reading through consumers that are kept open.
//! - `state.rs`: the state stream.
//! - `retention.rs`: holds and removal.

mod append;
mod names;
mod read;
mod retention;
mod state;
mod streams;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use self::retention::Hold;
use self::streams::TopicStreams;
use crate::backend::{BoxFuture, LogBackend};
use crate::{Appended, Bounds, LogConfig, LogError, NewBatch, ReadLimits, StoredBatch, Topic, TopicUsage, Trimmed};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A log in NATS JetStream.
#[derive(Debug)]
pub(crate) struct NatsLog(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    config: LogConfig,
    jetstream: Context,
    state: jetstream::stream::Stream<()>,
    topics: RwLock<HashMap<String, Arc<TopicStreams>>>,
    opening: tokio::sync::Mutex<()>,
    holds: Mutex<BTreeMap<retention::HoldKey, Hold>>,
    closed: AtomicBool,
}

impl NatsLog {
    pub(crate) async fn open(config: LogConfig) -> Result<NatsLog, LogError> {
        let servers: Vec<&str> = config.url.split(',').map(str::trim).collect();
        let client = async_nats::ConnectOptions::new()
            .name("segue-log")
            .connection_timeout(CONNECT_TIMEOUT)
            .connect(servers)
            .await
            .map_err(LogError::unavailable)?;
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(config.append_timeout)
            .ack_timeout(config.append_timeout)
            .max_ack_inflight(16_384)
            // A sender beyond that waits instead of failing.
            .backpressure_on_inflight(true)
            .build(client);
        let state = state::open(&jetstream, &config).await?;
        let inner = Arc::new(Inner {
            config,
            jetstream,
            state,
            topics: RwLock::default(),
            opening: tokio::sync::Mutex::new(()),
            holds: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        #[allow(clippy::disallowed_methods, reason = "ends with the log, and what it does is retried; it cannot end early")]
        tokio::spawn(maintain(Arc::downgrade(&inner)));
        Ok(NatsLog(inner))
    }
}

impl Inner {
    async fn topic(&self, topic: &str) -> Result<Arc<TopicStreams>, LogError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        if let Some(streams) = self.topics.read().get(topic) {
            return Ok(streams.clone());
        }
        let _opening = self.opening.lock().await;
        if let Some(streams) = self.topics.read().get(topic) {
            return Ok(streams.clone());
        }
        let streams = Arc::new(TopicStreams::open(&self.jetstream, &self.config, topic).await?);
        self.topics.write().insert(topic.to_owned(), streams.clone());
        Ok(streams)
    }

    fn open_topics(&self) -> Vec<Arc<TopicStreams>> {
        self.topics.read().values().cloned().collect()
    }
}

/// Writes holds, runs retention and lets go of idle readers, until the log is dropped or closed.
async fn maintain(log: Weak<Inner>) {
    let Some((hold_interval, trim_interval)) = log.upgrade().map(|log| (log.config.hold_interval, log.config.trim_interval)) else {
        return;
    };
    let mut trim_at = Instant::now() + trim_interval;
    loop {
        tokio::time::sleep(hold_interval).await;
        let Some(log) = log.upgrade().filter(|log| !log.closed.load(Ordering::Acquire)) else { return };
        if let Err(error) = log.write_holds().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot write consumers' positions; will retry");
        }
        if Instant::now() < trim_at {
            continue;
        }
        for topic in log.open_topics() {
            topic.drop_idle_cursors();
            if let Err(error) = log.trim_topic(&topic, Some(log.config.clock.now_us()), 0).await {
                tracing::warn!(topic = topic.name, error = &error as &dyn std::error::Error, "retention failed; it will be tried again");
            }
        }
        trim_at = Instant::now() + trim_interval;
    }
}

impl LogBackend for NatsLog {
    fn append_all(&self, batches: Vec<(Topic, u16, NewBatch)>) -> BoxFuture<'_, Vec<Appended>> {
        Box::pin(self.0.append_all(batches))
    }

    fn read(&self, topic: Topic, partition: u16, after: u64, limits: ReadLimits) -> BoxFuture<'_, Vec<StoredBatch>> {
        Box::pin(async move { self.0.topic(topic.name()).await?.read(partition, after, limits).await })
    }

    fn bounds(&self, topic: Topic, partition: u16) -> BoxFuture<'_, Bounds> {
        Box::pin(async move { self.0.topic(topic.name()).await?.bounds(partition).await })
    }

    fn last_sequence<'a>(&'a self, topic: Topic, partition: u16, producer: &'a str) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async move {
            let topic = self.0.topic(topic.name()).await?;
            Ok(self.0.look_up_producer(&topic, partition, producer).await?.sequence)
        })
    }

    fn hold<'a>(&'a self, topic: Topic, partition: u16, consumer: &'a str, position: u64) -> BoxFuture<'a, ()> {
        Box::pin(self.0.hold(topic.name(), partition, consumer, position))
    }

    fn release<'a>(&'a self, topic: Topic, consumer: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.0.release(topic.name(), consumer))
    }

    fn usage(&self, topic: Topic) -> BoxFuture<'_, TopicUsage> {
        Box::pin(async move {
            let states = self.0.topic(topic.name()).await?.states().await?;
            Ok(TopicUsage { bytes: states.iter().map(|state| state.bytes).sum(), batches: states.iter().map(|state| state.messages).sum() })
        })
    }

    fn trim_now(&self, now_us: i64) -> BoxFuture<'_, Trimmed> {
        Box::pin(async move {
            let mut total = Trimmed::default();
            for topic in self.0.open_topics() {
                let trimmed = self.0.trim_topic(&topic, Some(now_us), 0).await?;
                total.batches += trimmed.batches;
                total.bytes += trimmed.bytes;
            }
            Ok(total)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.0.closed.load(Ordering::Acquire) {
                return Ok(());
            }
            let written = self.0.write_holds().await;
            self.0.closed.store(true, Ordering::Release);
            // Waits for what was published to leave.
            self.0.jetstream.client().drain().await.map_err(LogError::unavailable)?;
            written
        })
    }
}
