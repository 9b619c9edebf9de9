//! Names of streams, subjects and headers. They are part of the stored format.

use std::sync::Arc;

use async_nats::jetstream::ErrorCode;

use crate::LogError;

/// Number of events in a batch.
pub(super) const EVENTS: &str = "Segue-Events";
/// Uncompressed size of a payload.
pub(super) const SIZE: &str = "Segue-Size";
/// Sequence of the producer that the subject names.
pub(super) const SEQUENCE: &str = "Segue-Sequence";
/// W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";

pub(super) fn stream(prefix: &str, topic: &str, partition: u16) -> String {
    format!("{prefix}-{topic}-{partition}")
}

/// A producer has a subject of its own: its last message is found by subject, and the server can be asked to refuse a message
/// unless that is still the last. `=` stands for no producer; no name may have it.
pub(super) fn subject(prefix: &str, topic: &str, partition: u16, producer: Option<&str>) -> String {
    format!("{prefix}.{topic}.{partition}.{}", producer.unwrap_or("="))
}

pub(super) fn all_subjects(prefix: &str, topic: &str, partition: u16) -> String {
    format!("{prefix}.{topic}.{partition}.*")
}

/// No topic starts with `_`, so the state's subjects are nobody else's.
pub(super) fn state_subjects(prefix: &str) -> String {
    format!("{prefix}._state.>")
}

pub(super) fn state_stream(prefix: &str) -> String {
    format!("{prefix}-state-")
}

pub(super) fn meta_subject(prefix: &str) -> String {
    format!("{prefix}._state.partitions")
}

pub(super) fn hold_subject(prefix: &str, topic: &str, partition: u16, consumer: &str) -> String {
    format!("{prefix}._state.hold.{topic}.{partition}.{consumer}")
}

pub(super) fn hold_subjects(prefix: &str, topic: &str) -> String {
    format!("{prefix}._state.hold.{topic}.*.*")
}

pub(super) fn producer_subject(prefix: &str, topic: &str, partition: u16, producer: &str) -> String {
    format!("{prefix}._state.producer.{topic}.{partition}.{producer}")
}

pub(super) fn producer_subjects(prefix: &str, topic: &str, partition: u16) -> String {
    format!("{prefix}._state.producer.{topic}.{partition}.*")
}

/// The last token of a subject.
pub(super) fn last_token(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or(subject)
}

/// What JetStream refused, as one of our errors.
pub(super) fn refused(error: async_nats::jetstream::Error) -> LogError {
    match error.error_code() {
        // The server is out of disk, or the account or stream is at its own limit.
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_STORE_FAILED => LogError::DiskFull { source: Arc::new(error) },
        // 5xx: not now (no leader, shutting down); 4xx: not ever.
        _ if error.code() >= 500 => LogError::unavailable(error),
        _ => LogError::storage(error),
    }
}
