//! [`Log`]: the handle that services keep. It checks arguments; the backend does the work.

use std::path::Path;
use std::sync::Arc;

use crate::backend::LogBackend;
use crate::embedded::EmbeddedLog;
use crate::nats::NatsLog;
use crate::types::is_party_name;
use crate::{Appended, Bounds, LogConfig, LogError, NewBatch, ReadLimits, StoredBatch, Topic, TopicUsage, Trimmed};

/// The durable event log. Cheap to clone; see the crate's documentation for its promises.
#[derive(Clone, Debug)]
pub struct Log {
    backend: Arc<dyn LogBackend>,
    partitions: u16,
    payload_bytes_max: usize,
}

impl Log {
    /// Opens the log, creating it when it is missing, and starts its retention. Fails with
    /// [`LogError::PartitionsMismatch`] when it was created with another number of partitions.
    pub async fn open(config: LogConfig) -> Result<Log, LogError> {
        config.validate()?;
        let (partitions, payload_bytes_max) = (config.partitions, config.payload_bytes_max);
        let backend: Arc<dyn LogBackend> = match config.url.split_once(':') {
            Some(("embedded", folder)) if !folder.is_empty() => {
                // A folder of its own: the data folder is usually shared with the stores, whose files look alike.
                Arc::new(EmbeddedLog::open(Path::new(folder).join("log"), config).await?)
            }
            Some(("nats" | "tls", _)) => Arc::new(NatsLog::open(config).await?),
            _ => {
                return Err(LogError::InvalidConfig { reason: "log.url starts with neither `embedded:` nor `nats://`".to_owned() });
            }
        };
        Ok(Log { backend, partitions, payload_bytes_max })
    }

    /// Partitions per topic.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Appends one batch and returns when it is on disk. See [`ProducerSequence`](crate::ProducerSequence) for idempotence.
    pub async fn append(&self, topic: Topic, partition: u16, batch: NewBatch) -> Result<Appended, LogError> {
        let mut appended = self.append_all(vec![(topic, partition, batch)]).await?;
        appended.pop().ok_or(LogError::Closed)
    }

    /// Appends several batches, to any topics and partitions, and returns when all are on disk: one answer per batch, in
    /// their order. They are written at once, so this costs about as much as one append.
    ///
    /// It is not a transaction: when it fails, some may have been written (on the embedded backend those of one topic are
    /// written together or not at all). Retry with the same producer sequences.
    pub async fn append_all(&self, batches: Vec<(Topic, u16, NewBatch)>) -> Result<Vec<Appended>, LogError> {
        for (topic, partition, batch) in &batches {
            self.check_partition(*topic, *partition)?;
            if batch.payload.len() > self.payload_bytes_max {
                return Err(LogError::TooLarge { bytes: batch.payload.len(), bytes_max: self.payload_bytes_max });
            }
            if let Some(producer) = &batch.producer {
                check_name(&producer.producer)?;
                if i64::try_from(producer.sequence).is_err() {
                    return Err(LogError::InvalidName { name: producer.sequence.to_string() });
                }
            }
        }
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        self.backend.append_all(batches).await
    }

    /// Reads what follows position `after` (0 reads from the beginning), oldest first. Waits up to `limits.wait` when there is
    /// nothing yet, and returns as soon as there is something. Safe to cancel.
    pub async fn read(&self, topic: Topic, partition: u16, after: u64, limits: ReadLimits) -> Result<Vec<StoredBatch>, LogError> {
        self.check_partition(topic, partition)?;
        let limits = ReadLimits { batches_max: limits.batches_max.clamp(1, 10_000), ..limits };
        self.backend.read(topic, partition, after, limits).await
    }

    /// The first and last position of a partition.
    pub async fn bounds(&self, topic: Topic, partition: u16) -> Result<Bounds, LogError> {
        self.check_partition(topic, partition)?;
        self.backend.bounds(topic, partition).await
    }

    /// The last sequence that `producer` wrote to the partition, also when retention has removed the batch.
    pub async fn last_sequence(&self, topic: Topic, partition: u16, producer: &str) -> Result<Option<u64>, LogError> {
        self.check_partition(topic, partition)?;
        check_name(producer)?;
        self.backend.last_sequence(topic, partition, producer).await
    }

    /// Records that `consumer` needs nothing up to and including `position` any more, and everything after it. The first call
    /// registers the consumer durably; later ones that move on are cheap and written every `LogConfig::hold_interval`.
    ///
    /// Call it only after the consumer's own store has committed that position.
    pub async fn hold(&self, topic: Topic, partition: u16, consumer: &str, position: u64) -> Result<(), LogError> {
        self.check_partition(topic, partition)?;
        check_name(consumer)?;
        if i64::try_from(position).is_err() {
            return Err(LogError::InvalidName { name: position.to_string() });
        }
        self.backend.hold(topic, partition, consumer, position).await
    }

    /// Forgets a consumer of a topic: retention no longer waits for it, on any partition.
    pub async fn release(&self, topic: Topic, consumer: &str) -> Result<(), LogError> {
        check_name(consumer)?;
        self.backend.release(topic, consumer).await
    }

    /// What a topic takes up.
    pub async fn usage(&self, topic: Topic) -> Result<TopicUsage, LogError> {
        self.backend.usage(topic).await
    }

    /// Runs retention now, as if the time were `now_us`. It runs by itself every `LogConfig::trim_interval`.
    pub async fn trim_now(&self, now_us: i64) -> Result<Trimmed, LogError> {
        self.backend.trim_now(now_us).await
    }

    /// Writes what is pending and lets go of files and connections. Appends that are waiting are written first; later calls
    /// fail with [`LogError::Closed`]. Dropping every clone does the same without waiting.
    pub async fn close(&self) -> Result<(), LogError> {
        self.backend.close().await
    }

    fn check_partition(&self, topic: Topic, partition: u16) -> Result<(), LogError> {
        if partition < self.partitions {
            return Ok(());
        }
        Err(LogError::NoSuchPartition { topic: topic.name().to_owned(), partition, partitions: self.partitions })
    }
}

fn check_name(name: &str) -> Result<(), LogError> {
    if is_party_name(name) { Ok(()) } else { Err(LogError::InvalidName { name: name.to_owned() }) }
}
