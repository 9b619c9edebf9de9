//! Reading. Callers ask statelessly ("what follows position n?"); the answer comes from a [`Cursor`], a consumer on the server
//! that stands at n because the same reader asked for what came before. Cursors wait in a pool between calls. A call takes
//! one that stands where it wants to go on, or opens one. One pull brings up to `batches_max` messages in one round trip.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::{Message, StatusCode, Subscriber};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::names;
use super::streams::{PartitionStream, TopicStreams};
use crate::config::PAYLOAD_BYTES_CAP;
use crate::{LogError, ReadLimits, StoredBatch, codec};

/// Cursors kept per partition.
const CURSORS_MAX: usize = 32;
/// A cursor that nobody used for so long is let go; the server lets go of its consumer after twice that.
const CURSOR_IDLE: Duration = Duration::from_secs(60);
/// How long the server may take to answer a pull that does not wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A consumer on the server and where it stands.
pub(super) struct Cursor {
    consumer: Consumer<pull::Config>,
    inbox: String,
    replies: Subscriber,
    requests: u64,
    /// The position that it delivers next.
    next: u64,
    /// Messages that the last request may still bring: those that the last call had no room for.
    owed: usize,
    used_at: Instant,
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Why a pull ended.
enum End {
    /// Nothing (more) there now.
    Nothing,
    /// The consumer is gone, or has moved.
    Lost,
}

impl TopicStreams {
    pub(super) async fn read(&self, partition: u16, after: u64, limits: ReadLimits) -> Result<Vec<StoredBatch>, LogError> {
        let partition = self.partition(partition);
        let deadline = Instant::now() + limits.wait;
        // A cursor from the pool may have been lost while it was idle; a new one has no such excuse.
        for cursor in [partition.take_cursor(after), None] {
            let fresh = cursor.is_none();
            let mut cursor = match cursor {
                Some(cursor) => cursor,
                None => partition.open_cursor(after).await?,
            };
            match partition.read_from(&mut cursor, limits, deadline).await? {
                Some(batches) => {
                    partition.put_cursor(cursor);
                    return Ok(batches);
                }
                None if fresh => break,
                None => {}
            }
        }
        Err(LogError::unavailable(std::io::Error::other("the server lost the consumer while it was read")))
    }

    pub(super) fn drop_idle_cursors(&self) {
        for partition in &self.partitions {
            partition.cursors.lock().retain(|cursor| cursor.used_at.elapsed() < CURSOR_IDLE);
        }
    }
}

impl PartitionStream {
    fn take_cursor(&self, after: u64) -> Option<Cursor> {
        let mut cursors = self.cursors.lock();
        let index = cursors.iter().position(|cursor| cursor.next == after + 1 && cursor.used_at.elapsed() < CURSOR_IDLE)?;
        Some(cursors.swap_remove(index))
    }

    fn put_cursor(&self, mut cursor: Cursor) {
        cursor.used_at = Instant::now();
        let mut cursors = self.cursors.lock();
        if cursors.len() >= CURSORS_MAX
            && let Some(oldest) = (0..cursors.len()).min_by_key(|index| cursors[*index].used_at)
        {
            cursors.swap_remove(oldest);
        }
        cursors.push(cursor);
    }

    async fn open_cursor(&self, after: u64) -> Result<Cursor, LogError> {
        self.check_readable(after).await?;
        let consumer = self
            .stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
                ack_policy: AckPolicy::None,
                memory_storage: true,
                num_replicas: 1,
                inactive_threshold: CURSOR_IDLE * 2,
                ..pull::Config::default()
            })
            .await
            .map_err(LogError::unavailable)?;
        let client = self.jetstream.client();
        let inbox = client.new_inbox();
        let replies = client.subscribe(format!("{inbox}.*")).await.map_err(LogError::unavailable)?;
        Ok(Cursor { consumer, inbox, replies, requests: 0, next: after + 1, owed: 0, used_at: Instant::now() })
    }

    async fn check_readable(&self, after: u64) -> Result<(), LogError> {
        let bounds = self.bounds().await?;
        let (topic, partition) = (self.topic.clone(), self.partition);
        if after > bounds.last {
            return Err(LogError::BeyondEnd { topic, partition, after, last: bounds.last });
        }
        if after + 1 < bounds.first {
            return Err(LogError::Trimmed { topic, partition, after, first_available: bounds.first });
        }
        Ok(())
    }

    /// `None` when the cursor is of no more use.
    async fn read_from(&self, cursor: &mut Cursor, limits: ReadLimits, deadline: Instant) -> Result<Option<Vec<StoredBatch>>, LogError> {
        let mut batches = Vec::new();
        if cursor.owed > 0
            && let End::Lost = self.receive(cursor, limits, Instant::now(), &mut batches).await?
        {
            return Ok((!batches.is_empty()).then_some(batches));
        }
        if batches.is_empty()
            && let End::Lost = self.pull(cursor, limits, None, &mut batches).await?
        {
            return Ok(None);
        }
        if batches.is_empty() && Instant::now() < deadline {
            // One, to be woken by; what came with it is fetched right after.
            let one = ReadLimits { batches_max: 1, ..limits };
            if let End::Lost = self.pull(cursor, one, Some(deadline), &mut batches).await? {
                return Ok(None);
            }
            if !batches.is_empty() && batches.len() < limits.batches_max {
                // If the cursor is lost now, the next call notices; what came before is good.
                self.pull(cursor, limits, None, &mut batches).await?;
            }
        }
        Ok(Some(batches))
    }

    /// One request to the server, and its answers appended to `batches`.
    async fn pull(
        &self,
        cursor: &mut Cursor,
        limits: ReadLimits,
        wait_until: Option<Instant>,
        batches: &mut Vec<StoredBatch>,
    ) -> Result<End, LogError> {
        let now = Instant::now();
        let expires = wait_until.map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)));
        cursor.owed = limits.batches_max.saturating_sub(batches.len());
        cursor.requests += 1;
        let request = pull::BatchConfig {
            batch: cursor.owed,
            expires,
            no_wait: expires.is_none(),
            // Counts compressed bytes, and must let the largest message through.
            max_bytes: limits.bytes_max.max(self.jetstream.client().max_payload() + (64 << 10)),
            ..pull::BatchConfig::default()
        };
        cursor.consumer.request_batch(request, cursor.request_inbox().into()).await.map_err(LogError::unavailable)?;
        self.receive(cursor, limits, now + expires.unwrap_or_default(), batches).await
    }

    /// Takes what the last request brings, as much as the limits allow; `expires_at` is when the server gives up on it.
    async fn receive(
        &self,
        cursor: &mut Cursor,
        limits: ReadLimits,
        expires_at: Instant,
        batches: &mut Vec<StoredBatch>,
    ) -> Result<End, LogError> {
        let mut bytes: usize = batches.iter().map(|batch| batch.payload.len()).sum();
        while cursor.owed > 0 && batches.len() < limits.batches_max && (bytes < limits.bytes_max || batches.is_empty()) {
            let Ok(Some(message)) = timeout_at(expires_at + ANSWER_TIMEOUT, cursor.replies.next()).await else { return Ok(End::Lost) };
            if let Some(status) = message.status.filter(|status| *status != StatusCode::OK) {
                // The end of an earlier request may come late.
                if message.subject.as_str() != cursor.request_inbox() || status == StatusCode::IDLE_HEARTBEAT {
                    continue;
                }
                cursor.owed = 0;
                return Ok(end_of(status, message.description.as_deref().unwrap_or_default()));
            }
            cursor.owed -= 1;
            match self.decode(message, cursor.next) {
                Ok(None) => {}
                Ok(Some((batch, pending))) => {
                    cursor.next += 1;
                    bytes += batch.payload.len();
                    batches.push(batch);
                    if pending == 0 {
                        cursor.owed = 0; // a request that does not wait says nothing at its end
                    }
                }
                Err(damage) if batches.is_empty() => return Err(self.explain(damage, cursor.next).await),
                // What comes before the damage is good; the next read meets it first, with another cursor.
                Err(_) => {
                    cursor.owed = 0;
                    cursor.next = 0;
                    return Ok(End::Nothing);
                }
            }
        }
        Ok(End::Nothing)
    }

    /// The batch in a message, and how many are behind it; nothing if it was delivered before.
    fn decode(&self, message: Message, expected: u64) -> Result<Option<(StoredBatch, u64)>, Damage> {
        let message = async_nats::jetstream::Message { message, context: self.jetstream.clone() };
        let info = message.info().map_err(|error| Damage::Content(error.to_string()))?;
        let (position, pending) = (info.stream_sequence, info.pending);
        if position < expected {
            return Ok(None);
        }
        if position > expected {
            return Err(Damage::Gap);
        }
        let header = |name: &'static str| message.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str());
        let number = |name: &'static str| {
            let value = header(name).and_then(|value| value.parse::<u64>().ok());
            value.ok_or_else(|| Damage::Content(format!("it has no readable {name} header")))
        };
        let size = usize::try_from(number(names::SIZE)?).unwrap_or(usize::MAX);
        if size > PAYLOAD_BYTES_CAP {
            return Err(Damage::Content(format!("it claims a size of {size} bytes")));
        }
        let events = u32::try_from(number(names::EVENTS)?).map_err(|_| Damage::Content("it claims too many events".to_owned()))?;
        let batch = StoredBatch {
            position,
            appended_at_us: (info.published.unix_timestamp_nanos() / 1000) as i64,
            events,
            payload: codec::decompress(&message.payload, size).map_err(Damage::Content)?,
            traceparent: header(names::TRACEPARENT).map(str::to_owned),
        };
        Ok(Some((batch, pending)))
    }

    async fn explain(&self, damage: Damage, position: u64) -> LogError {
        let reason = match damage {
            Damage::Content(reason) => reason,
            // Removed by retention since the cursor was opened; anything else is a hole.
            Damage::Gap => match self.check_readable(position - 1).await {
                Err(error) => return error,
                Ok(()) => "it is missing".to_owned(),
            },
        };
        LogError::Corrupt { topic: self.topic.clone(), partition: self.partition, position, reason }
    }
}

/// What is wrong with a message.
enum Damage {
    /// Messages before it were not delivered.
    Gap,
    Content(String),
}

impl Cursor {
    /// Where the answers to the latest request arrive; each has its own, so that they are told from those to earlier ones.
    fn request_inbox(&self) -> String {
        format!("{}.{}", self.inbox, self.requests)
    }
}

/// What the end of a request means: <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-13.md>.
fn end_of(status: StatusCode, description: &str) -> End {
    match status {
        StatusCode::NOT_FOUND | StatusCode::TIMEOUT => End::Nothing,
        // 409 stands for many things, told apart by their text.
        _ if description.contains("MaxBytes") || description.contains("Batch Completed") => End::Nothing,
        // Consumer deleted, leadership change, server shutdown; 503: nobody there.
        _ => End::Lost,
    }
}
