//! The state stream: small facts that must outlive the batches, the last message of each subject being the fact.

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;

use super::append::publish_error;
use super::names;
use super::streams::{common_config, create_stream};
use crate::{LogConfig, LogError};

/// Opens the state stream and settles the number of partitions: whoever writes it first decides.
pub(super) async fn open(jetstream: &Context, config: &LogConfig) -> Result<Stream<()>, LogError> {
    let name = names::state_stream(&config.prefix);
    create_stream(
        jetstream,
        Config {
            name: name.clone(),
            subjects: vec![names::state_subjects(&config.prefix)],
            description: Some("Segue log: partition count, consumers' positions, remembered producers".to_owned()),
            max_messages_per_subject: 1,
            discard: async_nats::jetstream::stream::DiscardPolicy::Old,
            num_replicas: usize::from(config.replicas),
            ..common_config()
        },
    )
    .await?;
    let stream = jetstream.get_stream_no_info(name).await.map_err(LogError::unavailable)?;
    let subject = names::meta_subject(&config.prefix);
    put(jetstream, subject.clone(), u64::from(config.partitions), Some(0)).await?;
    let stored = get(&stream, &subject).await?.unwrap_or(0);
    if stored != u64::from(config.partitions) {
        return Err(LogError::PartitionsMismatch { stored: stored as u16, configured: config.partitions });
    }
    Ok(stream)
}

/// Reads a fact from the stream's leader.
pub(super) async fn get(stream: &Stream<()>, subject: &str) -> Result<Option<u64>, LogError> {
    Ok(last_message(stream, subject).await?.map(|(_, _, payload)| parse(&payload)))
}

/// Writes a fact. With an expected revision (0: none yet) it is written only if that is still the last one; returns whether.
pub(super) async fn put(jetstream: &Context, subject: String, value: u64, expected: Option<u64>) -> Result<bool, LogError> {
    let mut message = PublishMessage::build().payload(value.to_string().into());
    if let Some(revision) = expected {
        message = message.expected_last_subject_sequence(revision);
    }
    let acknowledged = async { jetstream.send_publish(subject, message).await?.await };
    match acknowledged.await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
        Err(error) => Err(publish_error(error)),
    }
}

/// The number that a fact's payload says; nonsense counts as 0, which holds everything and remembers nothing.
pub(super) fn parse(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Sequence, headers and payload of the last message of a subject, asked of the stream's leader (never of a copy that may lag).
pub(super) async fn last_message<I>(stream: &Stream<I>, subject: &str) -> Result<Option<(u64, HeaderMap, Bytes)>, LogError> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some((message.sequence, message.headers, message.payload))),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            LastRawMessageErrorKind::JetStream(refusal) => Err(names::refused(refusal)),
            LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => Err(LogError::unavailable(error)),
        },
    }
}
