//! One topic as its callers see it. What they need to know in memory is in [`Shared`]; the writer thread keeps it true.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlitePool, query_as};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::sql::{self, BatchRow, id_of, position_of};
use super::writer::{Command, Encoded, Writer};
use crate::config::PAYLOAD_BYTES_CAP;
use crate::{Appended, Bounds, LogConfig, LogError, ReadLimits, StoredBatch, TopicUsage, Trimmed, codec};

/// Requests waiting for the writer; callers beyond it wait to hand theirs over.
const QUEUE_MAX: usize = 4096;
const READERS_MAX: u32 = 4;
/// Rows of this log are a few to a few hundred KiB: pages larger than SQLite's 4 KiB mean fewer overflow pages.
const PAGE_BYTES: u32 = 8192;

/// A topic.
#[derive(Debug)]
pub(super) struct TopicLog {
    shared: Arc<Shared>,
    readers: SqlitePool,
    commands: mpsc::Sender<Command>,
}

/// What callers and the writer both look at.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) bytes: AtomicU64,
    pub(super) marks: Vec<Mark>,
    pub(super) holds: Mutex<BTreeMap<(u16, String), Hold>>,
}

/// What a partition holds.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) first: AtomicU64,
    /// The last committed position; readers that are at the end wait for it to change.
    pub(super) last: watch::Sender<u64>,
}

/// How far a consumer got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) position: u64,
    /// Not yet written.
    pub(super) dirty: bool,
}

impl TopicLog {
    pub(super) async fn open(name: &str, file: &Path, config: &LogConfig, lock: Arc<File>) -> Result<TopicLog, LogError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .thread_name({
                let name = name.to_owned();
                move |id| format!("log-{name}-{id}")
            })
            .pragma("cache_size", "-16384")
            .pragma("journal_size_limit", "67108864");
        let (writer, shared) = Writer::open(name, options.clone(), config, lock).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options.pragma("query_only", "on"))
            .await?;
        let (commands, queue) = mpsc::channel(QUEUE_MAX);
        writer.start(queue)?;
        Ok(TopicLog { shared, readers, commands })
    }

    pub(super) async fn append(&self, batches: Vec<Encoded>) -> Result<Vec<Appended>, LogError> {
        self.ask(|reply| Command::Append { batches, reply }).await
    }

    pub(super) async fn read(&self, partition: u16, after: u64, limits: ReadLimits) -> Result<Vec<StoredBatch>, LogError> {
        let deadline = Instant::now() + limits.wait;
        let mut last = self.shared.marks[usize::from(partition)].last.subscribe();
        loop {
            let bounds = self.bounds(partition);
            self.check_readable(partition, after, bounds)?;
            if after < bounds.last {
                return self.read_range(partition, after, bounds.last, limits).await;
            }
            match timeout_at(deadline, last.wait_for(|last| *last > after)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(LogError::Closed),
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    fn check_readable(&self, partition: u16, after: u64, bounds: Bounds) -> Result<(), LogError> {
        let topic = || self.shared.name.clone();
        if after > bounds.last {
            return Err(LogError::BeyondEnd { topic: topic(), partition, after, last: bounds.last });
        }
        if after + 1 < bounds.first {
            return Err(LogError::Trimmed { topic: topic(), partition, after, first_available: bounds.first });
        }
        Ok(())
    }

    async fn read_range(&self, partition: u16, after: u64, last: u64, limits: ReadLimits) -> Result<Vec<StoredBatch>, LogError> {
        let mut batches = Vec::new();
        let mut bytes = 0usize;
        let mut rows = query_as::<_, BatchRow>(sql::READ)
            .bind(id_of(partition, after))
            .bind(id_of(partition, last))
            .bind(i64::try_from(limits.batches_max).unwrap_or(i64::MAX))
            .fetch(&self.readers);
        loop {
            let expected = after + 1 + batches.len() as u64;
            let corrupt = |reason: String| LogError::Corrupt { topic: self.shared.name.clone(), partition, position: expected, reason };
            let decoded = match rows.try_next().await {
                Ok(None) => break,
                Ok(Some(row)) if position_of(row.id) != expected => {
                    // Removed by retention since the bounds were looked at; anything else is a hole.
                    self.check_readable(partition, expected - 1, self.bounds(partition))?;
                    Err(corrupt("it is missing".to_owned()))
                }
                Ok(Some(row)) => decode(row).map_err(corrupt),
                Err(error) if is_damage(&error) => Err(corrupt(error.to_string())),
                Err(error) => Err(error.into()),
            };
            match decoded {
                // What comes before the trouble is good; the next read meets the trouble first.
                Err(_) if !batches.is_empty() => break,
                Err(error) => return Err(error),
                Ok(batch) => {
                    bytes += batch.payload.len();
                    batches.push(batch);
                }
            }
            if bytes >= limits.bytes_max {
                break;
            }
        }
        if batches.is_empty() {
            self.check_readable(partition, after, self.bounds(partition))?;
            let (topic, position) = (self.shared.name.clone(), after + 1);
            return Err(LogError::Corrupt { topic, partition, position, reason: "it is missing".to_owned() });
        }
        Ok(batches)
    }

    pub(super) fn bounds(&self, partition: u16) -> Bounds {
        let mark = &self.shared.marks[usize::from(partition)];
        // `first` is read first: it may lag behind `last`, never run ahead of it.
        let first = mark.first.load(Ordering::Acquire);
        Bounds { first, last: *mark.last.borrow() }
    }

    pub(super) fn usage(&self) -> TopicUsage {
        let batches = (0..self.shared.marks.len() as u16).map(|p| self.bounds(p)).map(|b| (b.last + 1).saturating_sub(b.first)).sum();
        TopicUsage { bytes: self.shared.bytes.load(Ordering::Relaxed), batches }
    }

    pub(super) async fn last_sequence(&self, partition: u16, producer: &str) -> Result<Option<u64>, LogError> {
        let producer = producer.to_owned();
        self.ask(|reply| Command::LastSequence { partition, producer, reply }).await
    }

    pub(super) async fn hold(&self, partition: u16, consumer: &str, position: u64) -> Result<(), LogError> {
        {
            let mut holds = self.shared.holds.lock();
            if let Some(hold) = holds.get_mut(&(partition, consumer.to_owned()))
                && hold.position <= position
            {
                if hold.position < position {
                    *hold = Hold { position, dirty: true };
                }
                return Ok(());
            }
        }
        // New, or going back: durable before this returns, since retention could otherwise overtake it after a crash.
        let consumer = consumer.to_owned();
        self.ask(|reply| Command::Hold { partition, consumer, position, reply }).await
    }

    pub(super) async fn release(&self, consumer: &str) -> Result<(), LogError> {
        let consumer = consumer.to_owned();
        self.ask(|reply| Command::Release { consumer, reply }).await
    }

    pub(super) async fn trim(&self, now_us: i64) -> Result<Trimmed, LogError> {
        self.ask(|reply| Command::Trim { now_us, reply }).await
    }

    pub(super) async fn close(&self) -> Result<(), LogError> {
        self.readers.close().await;
        match self.ask(|reply| Command::Close { reply }).await {
            // Closed before.
            Ok(()) | Err(LogError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Command) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| LogError::Closed)?;
        answer.await.map_err(|_| LogError::Closed)?
    }
}

fn decode(row: BatchRow) -> Result<StoredBatch, String> {
    let size = usize::try_from(row.size).ok().filter(|size| *size <= PAYLOAD_BYTES_CAP);
    let size = size.ok_or_else(|| format!("it claims a size of {} bytes", row.size))?;
    let payload: Bytes = codec::decompress(&row.payload, size)?;
    let events = u32::try_from(row.events).map_err(|_| format!("it claims {} events", row.events))?;
    Ok(StoredBatch { position: position_of(row.id), appended_at_us: row.appended_at_us, events, payload, traceparent: row.traceparent })
}

/// `SQLITE_CORRUPT` or `SQLITE_NOTADB`, or a column of the wrong type.
fn is_damage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| matches!(code & 0xff, 11 | 26))
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
        _ => false,
    }
}
