//! The thread that owns a topic's writer connection. It takes all requests that are waiting and commits them in one
//! transaction: a thousand appends at once cost one sync to disk. Between groups it writes holds and runs retention.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::plan::Plan;
use super::retention::TrimJob;
use super::sql;
use super::topic::{Hold, Mark, Shared};
use crate::{Appended, LogConfig, LogError, ProducerSequence, Trimmed};

/// Largest group, so that no caller waits for long.
const GROUP_BATCHES_MAX: usize = 4096;
const GROUP_BYTES_MAX: usize = 32 << 20;
/// What a row costs besides its payload.
pub(super) const ROW_OVERHEAD_BYTES: u64 = 64;

/// A batch, compressed.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) partition: u16,
    pub(super) size: usize,
    pub(super) events: u32,
    pub(super) producer: Option<ProducerSequence>,
    pub(super) traceparent: Option<String>,
    pub(super) payload: Bytes,
}

impl Encoded {
    pub(super) fn stored_bytes(&self) -> u64 {
        self.payload.len() as u64 + ROW_OVERHEAD_BYTES
    }
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Command {
    Append { batches: Vec<Encoded>, reply: Reply<Vec<Appended>> },
    LastSequence { partition: u16, producer: String, reply: Reply<Option<u64>> },
    Hold { partition: u16, consumer: String, position: u64, reply: Reply<()> },
    Release { consumer: String, reply: Reply<()> },
    Trim { now_us: i64, reply: Reply<Trimmed> },
    Close { reply: Reply<()> },
}

/// What a partition holds, as committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// The last thing that a producer wrote to a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Produced {
    pub(super) sequence: u64,
    pub(super) position: u64,
}

/// State of the writer thread.
pub(super) struct Writer {
    pub(super) config: LogConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) conn: SqliteConnection,
    options: SqliteConnectOptions,
    /// A transaction was begun and not seen to end.
    unfinished: bool,
    pub(super) parts: Vec<Part>,
    pub(super) bytes: u64,
    pub(super) producers: HashMap<(u16, String), Produced>,
    /// Times never go back, so that retention by age may stop at the first young batch.
    last_appended_at_us: i64,
    _lock: Arc<File>,
}

impl Writer {
    pub(super) async fn open(
        name: &str,
        options: SqliteConnectOptions,
        config: &LogConfig,
        lock: Arc<File>,
    ) -> Result<(Writer, Arc<Shared>), LogError> {
        let mut conn = options.connect().await?;
        let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
        for statement in sql::CREATE {
            sqlx::query(statement).execute(&mut *tx).await?;
        }
        sqlx::query(sql::SET_PARTITIONS).bind(i64::from(config.partitions)).execute(&mut *tx).await?;
        let stored: i64 = sqlx::query_scalar(sql::GET_PARTITIONS).fetch_one(&mut *tx).await?;
        if stored != i64::from(config.partitions) {
            return Err(LogError::PartitionsMismatch { stored: stored as u16, configured: config.partitions });
        }
        tx.commit().await?;

        let mut parts = vec![Part { first: 1, last: 0, bytes: 0 }; usize::from(config.partitions)];
        for (partition, first, last, bytes) in sqlx::query_as::<_, (i64, i64, i64, i64)>(sql::LIST_PARTS).fetch_all(&mut conn).await? {
            if let Some(part) = parts.get_mut(partition as usize) {
                *part = Part { first: first as u64, last: last as u64, bytes: bytes as u64 };
            }
        }
        let mut producers = HashMap::new();
        for (partition, name, sequence, position) in
            sqlx::query_as::<_, (i64, String, i64, i64)>(sql::LIST_PRODUCERS).fetch_all(&mut conn).await?
        {
            producers.insert((partition as u16, name), Produced { sequence: sequence as u64, position: position as u64 });
        }
        let mut holds = BTreeMap::new();
        for (partition, consumer, position) in sqlx::query_as::<_, (i64, String, i64)>(sql::LIST_HOLDS).fetch_all(&mut conn).await? {
            holds.insert((partition as u16, consumer), Hold { position: position as u64, dirty: false });
        }

        let bytes = parts.iter().map(|part| part.bytes).sum();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            bytes: AtomicU64::new(bytes),
            marks: parts.iter().map(|part| Mark { first: AtomicU64::new(part.first), last: watch::Sender::new(part.last) }).collect(),
            holds: Mutex::new(holds),
        });
        let writer = Writer {
            config: config.clone(),
            shared: shared.clone(),
            conn,
            options,
            unfinished: false,
            parts,
            bytes,
            producers,
            last_appended_at_us: 0,
            _lock: lock,
        };
        Ok((writer, shared))
    }

    /// Starts the thread. It has a runtime of its own: an async runtime busy with queries must not delay durability.
    pub(super) fn start(self, queue: mpsc::Receiver<Command>) -> Result<(), LogError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(LogError::unavailable)?;
        std::thread::Builder::new()
            .name(format!("log-{}", self.shared.name))
            .spawn(move || runtime.block_on(self.run(queue)))
            .map_err(LogError::unavailable)?;
        Ok(())
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut trim_at = Instant::now() + self.config.trim_interval;
        let mut holds_at = Instant::now() + self.config.hold_interval;
        let mut trim: Option<TrimJob> = None;
        // A command that ended a group; it comes after it.
        let mut next: Option<Command> = None;
        loop {
            let command = match (next.take(), &trim) {
                (Some(command), _) => Some(command),
                // Retention works in small steps, between which appends have their turn.
                (None, Some(_)) => queue.try_recv().ok(),
                (None, None) => tokio::select! {
                    command = queue.recv() => match command {
                        Some(command) => Some(command),
                        None => break, // every handle was dropped
                    },
                    () = sleep_until(trim_at.min(holds_at)) => None,
                },
            };
            match command {
                Some(Command::Append { batches, reply }) => next = self.append_group((batches, reply), &mut queue).await,
                Some(Command::Trim { now_us, reply }) => {
                    let job = TrimJob::by_age_and_size(&self, now_us, Some(reply));
                    // Two at once are answered one after the other.
                    if let Some(running) = trim.replace(job) {
                        self.finish_trim(running).await;
                    }
                }
                Some(Command::Close { reply }) => {
                    let result = self.write_holds().await;
                    let closed = self.conn.close().await.map_err(LogError::from);
                    let _ = reply.send(result.and(closed));
                    return;
                }
                Some(other) => self.answer(other).await,
                None => {}
            }
            if let Some(job) = trim.take() {
                trim = self.step_trim(job).await;
            }
            let now = Instant::now();
            if now >= holds_at {
                if let Err(error) = self.write_holds().await {
                    tracing::warn!(
                        topic = self.shared.name,
                        error = &error as &dyn std::error::Error,
                        "cannot write consumers' positions; will retry"
                    );
                }
                holds_at = now + self.config.hold_interval;
            }
            if now >= trim_at && trim.is_none() {
                trim = Some(TrimJob::by_age_and_size(&self, self.config.clock.now_us(), None));
                trim_at = now + self.config.trim_interval;
            }
        }
        let _ = self.write_holds().await;
        let _ = self.conn.close().await;
    }

    async fn answer(&mut self, command: Command) {
        match command {
            Command::LastSequence { partition, producer, reply } => {
                let _ = reply.send(Ok(self.producers.get(&(partition, producer)).map(|p| p.sequence)));
            }
            Command::Hold { partition, consumer, position, reply } => {
                let _ = reply.send(self.put_hold(partition, consumer, position).await);
            }
            Command::Release { consumer, reply } => {
                let _ = reply.send(self.release(consumer).await);
            }
            // Answered by `run`.
            Command::Append { .. } | Command::Trim { .. } | Command::Close { .. } => {}
        }
    }

    /// Commits this request and all others that are waiting. Returns the first waiting command that is none.
    async fn append_group(&mut self, first: (Vec<Encoded>, Reply<Vec<Appended>>), queue: &mut mpsc::Receiver<Command>) -> Option<Command> {
        let mut batches = first.0.len();
        let mut bytes: usize = first.0.iter().map(|batch| batch.payload.len()).sum();
        let mut group = vec![first];
        let mut next = None;
        while batches < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
            match queue.try_recv() {
                Ok(Command::Append { batches: more, reply }) => {
                    batches += more.len();
                    bytes += more.iter().map(|batch| batch.payload.len()).sum::<usize>();
                    group.push((more, reply));
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }

        let stored: u64 = group.iter().flat_map(|(batches, _)| batches).map(Encoded::stored_bytes).sum();
        if self.bytes + stored > self.config.retention_bytes {
            self.make_room(stored).await;
        }
        let mut plan = Plan::new(self.bytes);
        let mut replies = Vec::with_capacity(group.len());
        for (batches, reply) in group {
            replies.push((plan.add(self, batches), reply));
        }
        let result = self.commit(plan).await;
        if let Err(error) = &result {
            tracing::error!(topic = self.shared.name, error = error as &dyn std::error::Error, "an append failed; its senders are told");
        }
        for (answer, reply) in replies {
            let _ = reply.send(match &result {
                Ok(()) => answer,
                Err(error) => Err(error.clone()),
            });
        }
        next
    }

    /// Writes what is planned in one transaction; only then does anyone see it.
    async fn commit(&mut self, plan: Plan) -> Result<(), LogError> {
        let Plan { rows, parts, producers, bytes } = plan;
        if rows.is_empty() {
            return Ok(());
        }
        let now_us = self.config.clock.now_us().max(self.last_appended_at_us);
        self.prepare().await?;
        let mut tx = self.conn.begin_with("BEGIN IMMEDIATE").await?;
        for chunk in rows.chunks(sql::INSERT_ROWS) {
            if chunk.len() == sql::INSERT_ROWS {
                let mut query = sqlx::query(sql::INSERT_8);
                for (id, batch) in chunk {
                    query = bind_row(query, *id, now_us, batch);
                }
                query.execute(&mut *tx).await?;
            } else {
                for (id, batch) in chunk {
                    bind_row(sqlx::query(sql::INSERT_1), *id, now_us, batch).execute(&mut *tx).await?;
                }
            }
        }
        for (partition, part) in &parts {
            put_part(&mut tx, *partition, *part).await?;
        }
        for ((partition, name), produced) in &producers {
            sqlx::query(sql::PUT_PRODUCER)
                .bind(i64::from(*partition))
                .bind(name)
                .bind(produced.sequence as i64)
                .bind(produced.position as i64)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        self.finished();

        self.last_appended_at_us = now_us;
        self.bytes = bytes;
        self.shared.bytes.store(bytes, Ordering::Relaxed);
        self.producers.extend(producers);
        for (partition, part) in parts {
            self.parts[usize::from(partition)] = part;
            self.shared.marks[usize::from(partition)].last.send_replace(part.last);
        }
        Ok(())
    }

    /// Makes the connection fit for a transaction; [`Writer::finished`] says that it went well. When a full disk makes SQLite roll
    /// back by itself, the driver's own roll-back fails, and it believes for ever that a transaction is open: such a connection
    /// is replaced.
    pub(super) async fn prepare(&mut self) -> Result<(), LogError> {
        if self.unfinished {
            // Comes after the driver's roll-back, which is queued.
            self.conn.ping().await?;
            if self.conn.is_in_transaction() {
                self.conn = self.options.connect().await?;
            }
        }
        self.unfinished = true;
        Ok(())
    }

    /// The transaction was committed.
    pub(super) fn finished(&mut self) {
        self.unfinished = false;
    }

    async fn put_hold(&mut self, partition: u16, consumer: String, position: u64) -> Result<(), LogError> {
        sqlx::query(sql::PUT_HOLD).bind(i64::from(partition)).bind(&consumer).bind(position as i64).execute(&mut self.conn).await?;
        self.shared.holds.lock().insert((partition, consumer), Hold { position, dirty: false });
        Ok(())
    }

    async fn release(&mut self, consumer: String) -> Result<(), LogError> {
        sqlx::query(sql::DELETE_HOLDS).bind(&consumer).execute(&mut self.conn).await?;
        self.shared.holds.lock().retain(|(_, other), _| *other != consumer);
        Ok(())
    }

    /// Writes the holds that moved since the last time.
    async fn write_holds(&mut self) -> Result<(), LogError> {
        let dirty: Vec<((u16, String), u64)> = {
            let holds = self.shared.holds.lock();
            holds.iter().filter(|(_, hold)| hold.dirty).map(|(key, hold)| (key.clone(), hold.position)).collect()
        };
        if dirty.is_empty() {
            return Ok(());
        }
        self.prepare().await?;
        let mut tx = self.conn.begin_with("BEGIN IMMEDIATE").await?;
        for ((partition, consumer), position) in &dirty {
            sqlx::query(sql::PUT_HOLD).bind(i64::from(*partition)).bind(consumer).bind(*position as i64).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        self.finished();
        let mut holds = self.shared.holds.lock();
        for (key, position) in dirty {
            if let Some(hold) = holds.get_mut(&key)
                && hold.position == position
            {
                hold.dirty = false;
            }
        }
        Ok(())
    }
}

pub(super) async fn put_part(conn: &mut SqliteConnection, partition: u16, part: Part) -> Result<(), LogError> {
    sqlx::query(sql::PUT_PART)
        .bind(i64::from(partition))
        .bind(part.first as i64)
        .bind(part.last as i64)
        .bind(part.bytes as i64)
        .execute(conn)
        .await?;
    Ok(())
}

type SqliteQuery<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind_row<'q>(query: SqliteQuery<'q>, id: i64, now_us: i64, batch: &'q Encoded) -> SqliteQuery<'q> {
    query
        .bind(id)
        .bind(now_us)
        .bind(i64::from(batch.events))
        .bind(batch.size as i64)
        .bind(batch.traceparent.as_deref())
        .bind(&batch.payload[..])
}
