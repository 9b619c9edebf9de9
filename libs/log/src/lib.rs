//! The durable event log: what is waiting between the services, in order, until everyone has read it.
//!
//! A [`Log`] has topics; a topic has a fixed number of partitions; a partition is a sequence of *batches* at positions
//! 1, 2, 3, … without gaps. A batch is one payload (opaque bytes, compressed here) that stands for a number of events.
//!
//! Two backends, one behaviour (one suite of tests runs on both):
//!
//! | URL | where | appends | reads |
//! |---|---|---|---|
//! | `embedded:<folder>` | one SQLite file per topic in `<folder>/log`, one process | group commit: all waiting appends share one sync to disk | by range, woken in process |
//! | `nats://host:port` | JetStream, one stream per topic and partition | one message per batch, many in flight | one pull per call, on a consumer kept open |
//!
//! # Promises
//!
//! - **Durable.** [`Log::append`] returns when the batch is on disk. On NATS that holds only if the server runs with
//!   `jetstream { sync_interval: always }` (it answers before it syncs otherwise) and, in a cluster, 3 replicas.
//! - **Ordered.** Positions of a partition never change. One caller's appends to a partition, each awaited before the
//!   next, keep their order; so do those of one [`Log::append_all`].
//! - **Idempotent where asked.** An append with a [`ProducerSequence`] writes nothing if that producer has already written
//!   that sequence, or a later one, to that partition; whatever crashed in between and however long ago. Two processes
//!   that act as the same producer cannot both write a sequence: one of them is told that it was a duplicate. This makes
//!   the effect once only if a sequence always stands for the same content (sequences are deterministic).
//!   An append *without* a sequence that fails with a retryable error may have been written.
//! - **No silent gaps.** Reading from a position that retention removed is [`LogError::Trimmed`]; a damaged batch is
//!   [`LogError::Corrupt`] with its position.
//! - **Retention waits for consumers.** What a consumer that called [`Log::hold`] has not passed is never removed. A topic
//!   over its size with nothing to remove refuses appends with [`LogError::Full`], which reaches the senders as
//!   back-pressure. A consumer that is gone for good must be told off with [`Log::release`].
//!
//! # A consumer
//!
//! ```no_run
//! # use segue_log::{Log, LogError, ReadLimits, Topic};
//! const RESOLVED: Topic = Topic::new("resolved");
//!
//! async fn follow(log: Log, partition: u16, mut position: u64) -> Result<(), LogError> {
//!     log.hold(RESOLVED, partition, "analytics", position).await?;
//!     loop {
//!         for batch in log.read(RESOLVED, partition, position, ReadLimits::default()).await? {
//!             // Apply the batch and store `batch.position` in one transaction of your own, then:
//!             position = batch.position;
//!         }
//!         log.hold(RESOLVED, partition, "analytics", position).await?; // cheap: written about once a second
//!     }
//! }
//! ```
//!
//! [`feed`] is for a service that follows topics for many tenants at once.
//!
//! # Sizing NATS
//!
//! A stream per topic and partition makes the stream's sequence the position, lets each partition lead on another server,
//! and keeps purging cheap. It costs a few file handles and, replicated, one Raft group each: 16 partitions and 6 topics are
//! about 100 groups, which a cluster of 3 carries easily; do not go beyond 64 partitions. The server's `max_payload` (1 MiB
//! unless set) bounds a compressed batch: set it to 8 MiB.

mod backend;
mod codec;
mod config;
mod embedded;
mod error;
pub mod feed;
mod log;
mod nats;
mod types;

pub use backend::{BoxFuture, LogBackend};
pub use config::LogConfig;
pub use error::LogError;
pub use log::Log;
pub use types::{Appended, Bounds, NewBatch, ProducerSequence, ReadLimits, StoredBatch, Topic, TopicUsage, Trimmed};
