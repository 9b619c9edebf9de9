//! Publishing batches.
//!
//! Without a producer, messages of one call go out back to back and are acknowledged together.
//!
//! With one, the server's duplicate window (two minutes) would not do. Instead each producer has a subject of its own per
//! partition, and the last message there carries its last sequence: durable, and found again in one request after any
//! crash. Every publish names the message that it believes to be the last of that subject
//! (`Nats-Expected-Last-Subject-Sequence`), and the server refuses it otherwise. So
//! - a publish that timed out and arrives late finds the retry in its place, or the retry finds it: one of them is refused,
//!   looks again, and sees a duplicate;
//! - a process that was thought dead and comes back with an old picture is refused, looks again, and sees the same;
//! - producers on one partition have different subjects and never disturb each other.
//!
//! Retention may remove a producer's last message; before it does, it writes the sequence to the state stream
//! (`retention.rs`). A look-up asks the subject first and the state second: if the message was gone by the first question,
//! the state had been written before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::streams::TopicStreams;
use super::{Inner, names, state};
use crate::{Appended, LogError, NewBatch, ProducerSequence, Topic, codec};

/// Conflicts in a row on one producer's subject before giving up: each means that another process wrote as the same producer.
const CONFLICTS_MAX: usize = 8;
/// How often a full topic is trimmed at the demand of appends.
const MAKE_ROOM_INTERVAL: Duration = Duration::from_millis(200);
/// What a message costs besides its payload, about.
const MESSAGE_OVERHEAD_BYTES: u64 = 200;

/// What is known of a producer on one partition; the lock also makes its appends go one after the other.
pub(super) type ProducerSlot = tokio::sync::Mutex<Option<Produced>>;

/// The last thing that a producer wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Produced {
    pub(super) sequence: Option<u64>,
    /// Position of its last message; 0 when there is none (any more).
    pub(super) position: u64,
}

/// A message ready to go, and who it is from.
struct Outgoing {
    headers: HeaderMap,
    payload: Bytes,
    producer: Option<ProducerSequence>,
}

impl Inner {
    pub(super) async fn append_all(&self, batches: Vec<(Topic, u16, NewBatch)>) -> Result<Vec<Appended>, LogError> {
        let count = batches.len();
        let mut groups: BTreeMap<(Topic, u16), (Vec<usize>, Vec<Outgoing>)> = BTreeMap::new();
        let mut bytes: BTreeMap<Topic, u64> = BTreeMap::new();
        for (index, (topic, partition, batch)) in batches.into_iter().enumerate() {
            let outgoing = self.encode(batch).await?;
            *bytes.entry(topic).or_default() += outgoing.payload.len() as u64 + MESSAGE_OVERHEAD_BYTES;
            let (indexes, group) = groups.entry((topic, partition)).or_default();
            indexes.push(index);
            group.push(outgoing);
        }
        for (topic, bytes) in bytes {
            let topic = self.topic(topic.name()).await?;
            self.reserve(&topic, bytes).await?;
        }
        // All are waited for, also when one fails: the caller must not retry while some are still on their way.
        let outcomes = join_all(groups.into_iter().map(|((topic, partition), (indexes, group))| async move {
            let topic = self.topic(topic.name()).await?;
            let appended = self.append_group(&topic, partition, group).await?;
            Ok::<_, LogError>((indexes, appended))
        }))
        .await;
        let mut appended = vec![Appended { position: 0, duplicate: false }; count];
        for outcome in outcomes {
            let (indexes, group) = outcome?;
            for (index, one) in indexes.into_iter().zip(group) {
                appended[index] = one;
            }
        }
        Ok(appended)
    }

    async fn encode(&self, batch: NewBatch) -> Result<Outgoing, LogError> {
        let mut headers = HeaderMap::new();
        headers.insert(names::SIZE, batch.payload.len().to_string());
        headers.insert(names::EVENTS, batch.events.to_string());
        if let Some(producer) = &batch.producer {
            headers.insert(names::SEQUENCE, producer.sequence.to_string());
        }
        if let Some(traceparent) = &batch.traceparent {
            // A header cannot hold a line break; such a trace context is none.
            if let Ok(value) = traceparent.parse::<async_nats::HeaderValue>() {
                headers.insert(names::TRACEPARENT, value);
            }
        }
        let payload = codec::compress(batch.payload).await?;
        let bytes_max = self.jetstream.client().max_payload();
        if payload.len() + 1024 > bytes_max {
            return Err(LogError::TooLarge { bytes: payload.len(), bytes_max: bytes_max.saturating_sub(1024) });
        }
        Ok(Outgoing { headers, payload, producer: batch.producer })
    }

    /// Counts the bytes in, or says that the topic is full. What is on its way elsewhere at that moment is not counted: the limit
    /// may be exceeded by as much.
    async fn reserve(&self, topic: &TopicStreams, bytes: u64) -> Result<(), LogError> {
        let bytes_max = self.config.retention_bytes;
        if topic.fill.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= bytes_max {
            return Ok(());
        }
        let mut in_vain = topic.fill.in_vain.lock().await;
        if topic.fill.bytes.load(Ordering::Relaxed) <= bytes_max {
            return Ok(()); // another append has made room meanwhile
        }
        if in_vain.as_ref().is_none_or(|(at, _)| at.elapsed() >= MAKE_ROOM_INTERVAL) {
            self.trim_topic(topic, None, bytes).await?; // and asks the streams for their size
            if topic.fill.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= bytes_max {
                *in_vain = None;
                return Ok(());
            }
            *in_vain = Some((Instant::now(), self.slowest(topic).await?));
            topic.fill.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let size = topic.fill.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        let slowest = in_vain.as_ref().and_then(|(_, slowest)| slowest.clone());
        Err(LogError::Full { topic: topic.name.clone(), bytes: size, bytes_max, slowest })
    }

    /// Appends to one partition, in order.
    async fn append_group(&self, topic: &TopicStreams, partition: u16, group: Vec<Outgoing>) -> Result<Vec<Appended>, LogError> {
        let mut appended = Vec::with_capacity(group.len());
        if group.iter().any(|outgoing| outgoing.producer.is_some()) {
            for outgoing in group {
                appended.push(match &outgoing.producer {
                    Some(producer) => self.append_once(topic, partition, producer, &outgoing).await?,
                    None => self.publish(topic, partition, None, None, &outgoing).await.map_err(publish_error)?,
                });
            }
            return Ok(appended);
        }
        // One connection and one stream: what is sent in order is stored in order.
        let subject = names::subject(&self.config.prefix, &topic.name, partition, None);
        let mut acknowledgements = Vec::with_capacity(group.len());
        for outgoing in group {
            let message = PublishMessage::build().payload(outgoing.payload).headers(outgoing.headers);
            acknowledgements.push(self.jetstream.send_publish(subject.clone(), message).await.map_err(publish_error)?);
        }
        for acknowledged in join_all(acknowledgements.into_iter().map(IntoFuture::into_future)).await {
            let position = acknowledged.map_err(publish_error)?.sequence;
            appended.push(Appended { position, duplicate: false });
        }
        Ok(appended)
    }

    /// Appends a sequence, unless its producer has written it or a later one.
    async fn append_once(
        &self,
        topic: &TopicStreams,
        partition: u16,
        producer: &ProducerSequence,
        outgoing: &Outgoing,
    ) -> Result<Appended, LogError> {
        let slot: Arc<ProducerSlot> = topic.partition(partition).producers.lock().entry(producer.producer.clone()).or_default().clone();
        let mut known = slot.lock().await;
        let mut conflict = None;
        for _ in 0..CONFLICTS_MAX {
            // Taken out: if this is cancelled or fails half-way, the next append looks again.
            let last = match known.take() {
                Some(last) => last,
                None => self.look_up_producer(topic, partition, &producer.producer).await?,
            };
            if last.sequence.is_some_and(|sequence| sequence >= producer.sequence) {
                *known = Some(last);
                return Ok(Appended { position: last.position, duplicate: true });
            }
            match self.publish(topic, partition, Some(&producer.producer), Some(last.position), outgoing).await {
                Ok(appended) => {
                    *known = Some(Produced { sequence: Some(producer.sequence), position: appended.position });
                    return Ok(appended);
                }
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => conflict = Some(error),
                Err(error) => return Err(publish_error(error)),
            }
        }
        match conflict {
            Some(error) => Err(LogError::unavailable(error)),
            None => Err(LogError::Closed),
        }
    }

    async fn publish(
        &self,
        topic: &TopicStreams,
        partition: u16,
        producer: Option<&str>,
        expected: Option<u64>,
        outgoing: &Outgoing,
    ) -> Result<Appended, PublishError> {
        let mut message = PublishMessage::build().payload(outgoing.payload.clone()).headers(outgoing.headers.clone());
        if let Some(position) = expected {
            message = message.expected_last_subject_sequence(position);
        }
        let subject = names::subject(&self.config.prefix, &topic.name, partition, producer);
        let acknowledged = self.jetstream.send_publish(subject, message).await?.await?;
        Ok(Appended { position: acknowledged.sequence, duplicate: false })
    }

    /// What the producer wrote last, from the server. The order of the two questions matters: see the top of this file.
    pub(super) async fn look_up_producer(&self, topic: &TopicStreams, partition: u16, producer: &str) -> Result<Produced, LogError> {
        let subject = names::subject(&self.config.prefix, &topic.name, partition, Some(producer));
        if let Some((position, headers, _)) = state::last_message(&topic.partition(partition).stream, &subject).await? {
            let sequence = headers.get(names::SEQUENCE).and_then(|value| value.as_str().parse().ok());
            let sequence = sequence.ok_or_else(|| LogError::Corrupt {
                topic: topic.name.clone(),
                partition,
                position,
                reason: format!("it has no readable {} header", names::SEQUENCE),
            })?;
            return Ok(Produced { sequence: Some(sequence), position });
        }
        let remembered = names::producer_subject(&self.config.prefix, &topic.name, partition, producer);
        Ok(Produced { sequence: state::get(&self.state, &remembered).await?, position: 0 })
    }
}

/// What became of a publish, as one of our errors.
pub(super) fn publish_error(error: PublishError) -> LogError {
    match error.kind() {
        PublishErrorKind::Other => {
            use std::error::Error;
            match error.source().and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>()) {
                Some(refusal) => names::refused(refusal.clone()),
                None => LogError::unavailable(error),
            }
        }
        PublishErrorKind::MaxPayloadExceeded => LogError::storage(error),
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => LogError::unavailable(error),
    }
}
