//! The embedded backend: a folder with one SQLite file per topic, for one process.
//!
//! - `mod.rs`: the folder, its lock, and the topics in it.
//! - `topic.rs`: one topic as its callers see it: reading, waiting, holds.
//! - `writer.rs`: the thread that owns a topic's writer connection: group commit.
//! - `plan.rs`: which batches of a group are written, and where.
//! - `retention.rs`: what may be removed, and removing it.
//! - `sql.rs`: every statement, and the meaning of the tables.

mod plan;
mod retention;
mod sql;
mod topic;
mod writer;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use parking_lot::RwLock;

use self::topic::TopicLog;
use self::writer::Encoded;
use crate::backend::{BoxFuture, LogBackend};
use crate::types::is_topic_name;
use crate::{Appended, Bounds, LogConfig, LogError, NewBatch, ReadLimits, StoredBatch, Topic, TopicUsage, Trimmed, codec};

/// How long to wait for another handle of the log to let go of it: a restart overlaps with the end of the old process.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// A log in a folder.
#[derive(Debug)]
pub(crate) struct EmbeddedLog {
    folder: PathBuf,
    config: LogConfig,
    topics: RwLock<HashMap<String, Arc<TopicLog>>>,
    /// Held while a topic's file is opened, so that it is opened once.
    opening: tokio::sync::Mutex<()>,
    /// Also held by every writer thread: the log is free when the last of them has finished.
    lock: Arc<File>,
}

impl EmbeddedLog {
    pub(crate) async fn open(folder: PathBuf, config: LogConfig) -> Result<EmbeddedLog, LogError> {
        std::fs::create_dir_all(&folder).map_err(LogError::unavailable)?;
        let lock = Arc::new(take_lock(&folder).await?);
        let log = EmbeddedLog { topics: RwLock::default(), opening: tokio::sync::Mutex::new(()), lock, config, folder };
        // All that are there, also those that this process never asks for: retention goes on for them, and a wrong number of
        // partitions is noticed now.
        for name in existing_topics(&log.folder).map_err(LogError::unavailable)? {
            log.topic(&name).await?;
        }
        Ok(log)
    }

    async fn topic(&self, name: &str) -> Result<Arc<TopicLog>, LogError> {
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(topic.clone());
        }
        let _opening = self.opening.lock().await;
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(topic.clone());
        }
        let file = self.folder.join(format!("{name}.sqlite"));
        let topic = Arc::new(TopicLog::open(name, &file, &self.config, self.lock.clone()).await?);
        self.topics.write().insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    fn open_topics(&self) -> Vec<Arc<TopicLog>> {
        self.topics.read().values().cloned().collect()
    }

    async fn append(&self, batches: Vec<(Topic, u16, NewBatch)>) -> Result<Vec<Appended>, LogError> {
        // One request per topic; `indexes` remembers where each answer belongs.
        let mut requests: Vec<(Topic, Vec<usize>, Vec<Encoded>)> = Vec::new();
        let count = batches.len();
        for (index, (topic, partition, batch)) in batches.into_iter().enumerate() {
            let encoded = Encoded {
                partition,
                size: batch.payload.len(),
                events: batch.events,
                producer: batch.producer,
                traceparent: batch.traceparent,
                payload: codec::compress(batch.payload).await?,
            };
            match requests.iter_mut().find(|(other, ..)| *other == topic) {
                Some((_, indexes, request)) => {
                    indexes.push(index);
                    request.push(encoded);
                }
                None => requests.push((topic, vec![index], vec![encoded])),
            }
        }
        let answers = try_join_all(requests.into_iter().map(|(topic, indexes, request)| async move {
            let answer = self.topic(topic.name()).await?.append(request).await?;
            Ok::<_, LogError>((indexes, answer))
        }))
        .await?;
        let mut appended = vec![Appended { position: 0, duplicate: false }; count];
        for (indexes, answer) in answers {
            for (index, one) in indexes.into_iter().zip(answer) {
                appended[index] = one;
            }
        }
        Ok(appended)
    }
}

async fn take_lock(folder: &Path) -> Result<File, LogError> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("log.lock")).map_err(LogError::unavailable)?;
    let deadline = tokio::time::Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => return Err(LogError::Locked { folder: folder.display().to_string() }),
            Err(TryLockError::Error(error)) => return Err(LogError::unavailable(error)),
        }
    }
}

fn existing_topics(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(topic) = name.to_str().and_then(|name| name.strip_suffix(".sqlite"))
            && is_topic_name(topic)
        {
            names.push(topic.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl LogBackend for EmbeddedLog {
    fn append_all(&self, batches: Vec<(Topic, u16, NewBatch)>) -> BoxFuture<'_, Vec<Appended>> {
        Box::pin(self.append(batches))
    }

    fn read(&self, topic: Topic, partition: u16, after: u64, limits: ReadLimits) -> BoxFuture<'_, Vec<StoredBatch>> {
        Box::pin(async move { self.topic(topic.name()).await?.read(partition, after, limits).await })
    }

    fn bounds(&self, topic: Topic, partition: u16) -> BoxFuture<'_, Bounds> {
        Box::pin(async move { Ok(self.topic(topic.name()).await?.bounds(partition)) })
    }

    fn last_sequence<'a>(&'a self, topic: Topic, partition: u16, producer: &'a str) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async move { self.topic(topic.name()).await?.last_sequence(partition, producer).await })
    }

    fn hold<'a>(&'a self, topic: Topic, partition: u16, consumer: &'a str, position: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.topic(topic.name()).await?.hold(partition, consumer, position).await })
    }

    fn release<'a>(&'a self, topic: Topic, consumer: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.topic(topic.name()).await?.release(consumer).await })
    }

    fn usage(&self, topic: Topic) -> BoxFuture<'_, TopicUsage> {
        Box::pin(async move { Ok(self.topic(topic.name()).await?.usage()) })
    }

    fn trim_now(&self, now_us: i64) -> BoxFuture<'_, Trimmed> {
        Box::pin(async move {
            let mut total = Trimmed::default();
            for topic in self.open_topics() {
                let trimmed = topic.trim(now_us).await?;
                total.batches += trimmed.batches;
                total.bytes += trimmed.bytes;
            }
            Ok(total)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for topic in self.open_topics() {
                topic.close().await?;
            }
            // A writer answers before its thread has quite ended; the lock is what the next opener waits for.
            self.lock.unlock().map_err(LogError::unavailable)
        })
    }
}
