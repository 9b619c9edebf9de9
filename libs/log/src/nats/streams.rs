//! The streams of a topic: creating them, and looking at what they hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, State, StorageType, Stream};
use async_nats::jetstream::{Context, Message};
use futures::StreamExt;
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::append::ProducerSlot;
use super::names;
use super::read::Cursor;
use crate::{Bounds, LogConfig, LogError};

/// A topic.
#[derive(Debug)]
pub(super) struct TopicStreams {
    pub(super) name: String,
    pub(super) partitions: Vec<PartitionStream>,
    pub(super) fill: Fill,
}

/// How full the topic is, as far as this process knows: what the streams said last, and what it has published since.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) bytes: AtomicU64,
    /// When room was last sought in vain, and who was in the way.
    pub(super) in_vain: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
}

/// A partition.
#[derive(Debug)]
pub(super) struct PartitionStream {
    pub(super) topic: String,
    pub(super) partition: u16,
    pub(super) stream: Stream<Info>,
    pub(super) jetstream: Context,
    /// Subject up to the producer's name.
    pub(super) producers: Mutex<HashMap<String, Arc<ProducerSlot>>>,
    pub(super) cursors: Mutex<Vec<Cursor>>,
}

impl TopicStreams {
    pub(super) async fn open(jetstream: &Context, config: &LogConfig, topic: &str) -> Result<TopicStreams, LogError> {
        let partitions = try_join_all((0..config.partitions).map(|partition| async move {
            let stream = create_stream(
                jetstream,
                Config {
                    name: names::stream(&config.prefix, topic, partition),
                    subjects: vec![names::all_subjects(&config.prefix, topic, partition)],
                    description: Some(format!("Segue log: topic {topic}, partition {partition}")),
                    num_replicas: usize::from(config.replicas),
                    ..common_config()
                },
            )
            .await?;
            Ok::<_, LogError>(PartitionStream {
                topic: topic.to_owned(),
                partition,
                stream,
                jetstream: jetstream.clone(),
                producers: Mutex::default(),
                cursors: Mutex::default(),
            })
        }))
        .await?;
        let bytes = partitions.iter().map(|partition| partition.stream.cached_info().state.bytes).sum();
        let fill = Fill { bytes: AtomicU64::new(bytes), in_vain: tokio::sync::Mutex::new(None) };
        Ok(TopicStreams { name: topic.to_owned(), partitions, fill })
    }

    pub(super) fn partition(&self, partition: u16) -> &PartitionStream {
        &self.partitions[usize::from(partition)]
    }

    /// What every stream holds now.
    pub(super) async fn states(&self) -> Result<Vec<State>, LogError> {
        let states = try_join_all(self.partitions.iter().map(PartitionStream::state)).await?;
        self.fill.bytes.store(states.iter().map(|state| state.bytes).sum(), Ordering::Relaxed);
        Ok(states)
    }

    pub(super) async fn bounds(&self, partition: u16) -> Result<Bounds, LogError> {
        self.partition(partition).bounds().await
    }
}

impl PartitionStream {
    pub(super) async fn state(&self) -> Result<State, LogError> {
        Ok(self.stream.get_info().await.map_err(LogError::unavailable)?.state)
    }

    pub(super) async fn bounds(&self) -> Result<Bounds, LogError> {
        Ok(bounds_of(&self.state().await?))
    }
}

pub(super) fn bounds_of(state: &State) -> Bounds {
    // An empty stream says `last + 1` after a purge, and 0 when nothing was ever in it.
    let first = if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence };
    Bounds { first, last: state.last_sequence }
}

/// What all our streams have in common. Limits stay with us, since the server's know nothing of consumers' holds.
pub(super) fn common_config() -> Config {
    Config {
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        ..Config::default()
    }
}

pub(super) async fn create_stream(jetstream: &Context, config: Config) -> Result<Stream<Info>, LogError> {
    jetstream.get_or_create_stream(config).await.map_err(|error| match error.kind() {
        CreateStreamErrorKind::JetStream(refusal) => names::refused(refusal),
        _ => LogError::unavailable(error),
    })
}

/// The last message of each subject, without its payload unless asked for. Read through a consumer of its own, in one pull.
pub(super) async fn last_per_subject<I>(stream: &Stream<I>, filter: String, headers_only: bool) -> Result<Vec<Message>, LogError> {
    fetch_once(stream, filter, headers_only, DeliverPolicy::LastPerSubject, usize::MAX).await
}

/// Up to `count` messages that are there now.
pub(super) async fn fetch_once<I>(
    stream: &Stream<I>,
    filter_subject: String,
    headers_only: bool,
    deliver_policy: DeliverPolicy,
    count: usize,
) -> Result<Vec<Message>, LogError> {
    let consumer = stream
        .create_consumer(pull::Config {
            filter_subject,
            headers_only,
            deliver_policy,
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: std::time::Duration::from_secs(30),
            ..pull::Config::default()
        })
        .await
        .map_err(LogError::unavailable)?;
    let mut left = usize::try_from(consumer.cached_info().num_pending).unwrap_or(usize::MAX).min(count);
    let mut messages = Vec::new();
    while left > 0 {
        let mut batch = consumer
            .batch()
            .max_messages(left.min(1000))
            .expires(std::time::Duration::from_secs(5))
            .messages()
            .await
            .map_err(LogError::unavailable)?;
        let before = messages.len();
        while let Some(message) = batch.next().await {
            messages.push(message.map_err(|error| LogError::Unavailable { source: error.into() })?);
        }
        if messages.len() == before {
            break; // removed meanwhile
        }
        left = left.saturating_sub(messages.len() - before);
    }
    // It would go by itself.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(messages)
}
