//! What goes into the log and comes out of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// Name of a topic: lower-case letters, digits and `_`, starting with a letter, at most 32 of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(&'static str);

impl Topic {
    /// A topic by its name. In a constant, an unusable name fails to compile; at run time it panics.
    pub const fn new(name: &'static str) -> Topic {
        assert!(is_topic_name(name), "a topic is 1 to 32 of a-z, 0-9 and _, starting with a letter");
        Topic(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Whether `name` can be a topic.
pub(crate) const fn is_topic_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 32 || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether `name` can be a producer or a consumer: 1 to 64 letters, digits, `-` and `_` (it is part of a NATS subject).
pub(crate) fn is_party_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A batch to append.
#[derive(Clone, Debug, Default)]
pub struct NewBatch {
    /// Opaque bytes; compressed by the log. At most `LogConfig::payload_bytes_max`.
    pub payload: Bytes,
    /// How many events the payload stands for; for counting only.
    pub events: u32,
    /// Makes the append idempotent.
    pub producer: Option<ProducerSequence>,
    /// W3C trace context of what caused the batch, handed to its readers.
    pub traceparent: Option<String>,
}

/// Who writes, and which of its batches this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSequence {
    /// A lasting name, such as `pipeline-3`: 1 to 64 letters, digits, `-` and `_`. Few per topic; the log remembers each one
    /// for good.
    pub producer: String,
    /// Grows with each batch that the producer writes to a partition, with gaps as it likes; at most `i64::MAX`.
    pub sequence: u64,
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position in the partition. Of a duplicate: position of the last batch which that producer wrote there (0 on NATS when
    /// retention has removed it since).
    pub position: u64,
    /// Nothing was written, since the producer has written this sequence or a later one before.
    pub duplicate: bool,
}

/// How much one read returns, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// At most so many batches (at least 1).
    pub batches_max: usize,
    /// About so many bytes of uncompressed payload; the first batch is returned however large it is.
    pub bytes_max: usize,
    /// How long to wait when there is nothing yet; zero asks once. The answer is then empty.
    pub wait: Duration,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits { batches_max: 256, bytes_max: 8 << 20, wait: Duration::from_secs(5) }
    }
}

/// A batch as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// Position in the partition, from 1.
    pub position: u64,
    /// When it was appended, in microseconds UTC, by the clock of the log.
    pub appended_at_us: i64,
    /// As appended.
    pub events: u32,
    /// As appended.
    pub payload: Bytes,
    /// As appended.
    pub traceparent: Option<String>,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first position that can be read; `last + 1` when the partition is empty.
    pub first: u64,
    /// The last position written; 0 when there never was one.
    pub last: u64,
}

impl Bounds {
    /// How many batches a consumer at `position` still has before it.
    pub fn behind(&self, position: u64) -> u64 {
        self.last.saturating_sub(position)
    }
}

/// What a topic takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicUsage {
    /// Compressed bytes kept, over all partitions.
    pub bytes: u64,
    /// Batches kept, over all partitions.
    pub batches: u64,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Batches removed.
    pub batches: u64,
    /// Compressed bytes removed.
    pub bytes: u64,
}
