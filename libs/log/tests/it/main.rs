//! The contract of the log, run on both backends, and what is particular to one of them.

mod append;
mod crash;
mod embedded;
mod feed;
mod nats;
mod read;
mod retention;
mod speed;

use std::time::Duration;

use bytes::Bytes;
use segue_log::{Log, LogError, NewBatch, ProducerSequence, ReadLimits, StoredBatch, Topic};

pub(crate) const EVENTS: Topic = Topic::new("events");
pub(crate) const OTHER: Topic = Topic::new("other");

/// Asks once, does not wait.
pub(crate) const NOW: ReadLimits = ReadLimits { batches_max: 1000, bytes_max: 64 << 20, wait: Duration::ZERO };

pub(crate) fn batch(payload: impl Into<Bytes>) -> NewBatch {
    NewBatch { payload: payload.into(), events: 1, ..NewBatch::default() }
}

pub(crate) fn sequenced(producer: &str, sequence: u64) -> NewBatch {
    NewBatch { producer: Some(ProducerSequence { producer: producer.to_owned(), sequence }), ..batch(format!("{producer} {sequence}")) }
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// Everything from `after` to the end.
pub(crate) async fn read_all(log: &Log, topic: Topic, partition: u16, mut after: u64) -> Result<Vec<StoredBatch>, LogError> {
    let mut all: Vec<StoredBatch> = Vec::new();
    loop {
        let batches = log.read(topic, partition, after, NOW).await?;
        let Some(last) = batches.last() else { return Ok(all) };
        after = last.position;
        all.extend(batches);
    }
}

pub(crate) fn texts(batches: &[StoredBatch]) -> Vec<String> {
    batches.iter().map(|batch| String::from_utf8_lossy(&batch.payload).into_owned()).collect()
}
