//! Consumers' holds, and removing what all of them have passed. Every process does it; doing it twice changes nothing.
//!
//! A consumer that registers while another process is just removing may find that a little less is left than it asked for.

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::State;

use super::streams::{PartitionStream, TopicStreams, bounds_of, fetch_once, last_per_subject};
use super::{Inner, names, state};
use crate::{Bounds, LogError, Trimmed};

/// Topic, partition, consumer.
pub(super) type HoldKey = (String, u16, String);

/// How far a consumer of this process got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    position: u64,
    /// Not yet written.
    dirty: bool,
}

/// Rounds of removal by size: each estimates from the average size of a batch.
const ROUNDS_MAX: usize = 8;

impl Inner {
    pub(super) async fn hold(&self, topic: &str, partition: u16, consumer: &str, position: u64) -> Result<(), LogError> {
        let key = (topic.to_owned(), partition, consumer.to_owned());
        {
            let mut holds = self.holds.lock();
            if let Some(hold) = holds.get_mut(&key)
                && hold.position <= position
            {
                if hold.position < position {
                    *hold = Hold { position, dirty: true };
                }
                return Ok(());
            }
        }
        // New to this process, or going back: durable before this returns.
        let subject = names::hold_subject(&self.config.prefix, topic, partition, consumer);
        state::put(&self.jetstream, subject, position, None).await?;
        self.holds.lock().insert(key, Hold { position, dirty: false });
        Ok(())
    }

    pub(super) async fn release(&self, topic: &str, consumer: &str) -> Result<(), LogError> {
        self.holds.lock().retain(|(other, _, name), _| other != topic || name != consumer);
        let filter = names::hold_subject(&self.config.prefix, topic, 0, consumer).replacen(".0.", ".*.", 1);
        self.state.purge().filter(filter).await.map_err(LogError::unavailable)?;
        Ok(())
    }

    /// Writes the holds that moved since the last time.
    pub(super) async fn write_holds(&self) -> Result<(), LogError> {
        let dirty: Vec<(HoldKey, u64)> = {
            let holds = self.holds.lock();
            holds.iter().filter(|(_, hold)| hold.dirty).map(|(key, hold)| (key.clone(), hold.position)).collect()
        };
        for (key, position) in dirty {
            let (topic, partition, consumer) = &key;
            let subject = names::hold_subject(&self.config.prefix, topic, *partition, consumer);
            state::put(&self.jetstream, subject, position, None).await?;
            let mut holds = self.holds.lock();
            if let Some(hold) = holds.get_mut(&key)
                && hold.position == position
            {
                hold.dirty = false;
            }
        }
        Ok(())
    }

    /// Every hold on a topic, of all processes: consumer and position by partition.
    async fn list_holds(&self, topic: &TopicStreams) -> Result<BTreeMap<u16, Vec<(String, u64)>>, LogError> {
        let mut holds: BTreeMap<u16, Vec<(String, u64)>> = BTreeMap::new();
        for message in last_per_subject(&self.state, names::hold_subjects(&self.config.prefix, &topic.name), false).await? {
            let mut tokens = message.subject.rsplit('.');
            let (Some(consumer), Some(Ok(partition))) = (tokens.next(), tokens.next().map(str::parse)) else { continue };
            holds.entry(partition).or_default().push((consumer.to_owned(), state::parse(&message.payload)));
        }
        Ok(holds)
    }

    /// The consumer that is furthest behind.
    pub(super) async fn slowest(&self, topic: &TopicStreams) -> Result<Option<String>, LogError> {
        let states = topic.states().await?;
        let holds = self.list_holds(topic).await?;
        let all = holds.into_iter().flat_map(|(partition, holds)| holds.into_iter().map(move |hold| (partition, hold)));
        let behind = all.filter_map(|(partition, (consumer, position))| {
            Some((states.get(usize::from(partition))?.last_sequence.saturating_sub(position), consumer))
        });
        Ok(behind.max().map(|(_, consumer)| consumer))
    }

    /// Removes what is too old at `now_us` (if given), then what is too much when `room` more bytes shall fit.
    pub(super) async fn trim_topic(&self, topic: &TopicStreams, now_us: Option<i64>, room: u64) -> Result<Trimmed, LogError> {
        self.write_holds().await?;
        let holds = self.list_holds(topic).await?;
        let before = topic.states().await?;
        if let Some(now_us) = now_us {
            let age_us = i64::try_from(self.config.retention_age.as_micros()).unwrap_or(i64::MAX);
            for (partition, state) in topic.partitions.iter().zip(&before) {
                let passed = passed_by_all(&holds, partition.partition, state);
                let keep_from = self.first_young(partition, state, now_us.saturating_sub(age_us)).await?;
                self.remove(partition, state, keep_from.min(passed + 1)).await?;
            }
        }
        for _ in 0..ROUNDS_MAX {
            let states = topic.states().await?;
            let total: u64 = states.iter().map(|state| state.bytes).sum();
            let excess = (total + room).saturating_sub(self.config.retention_bytes);
            if excess == 0 {
                break;
            }
            // With a little room to spare, so that a full topic is not trimmed at every append.
            if !self.remove_share(topic, &states, &holds, excess + self.config.retention_bytes / 64).await? {
                break;
            }
        }
        let after = topic.states().await?;
        let trimmed = before.iter().zip(&after).map(|(before, after)| Trimmed {
            batches: bounds_of(after).first.saturating_sub(bounds_of(before).first),
            bytes: before.bytes.saturating_sub(after.bytes),
        });
        Ok(trimmed.fold(Trimmed::default(), |a, b| Trimmed { batches: a.batches + b.batches, bytes: a.bytes + b.bytes }))
    }

    /// Removes about `excess` bytes, from each partition its share of what may be removed. Returns whether anything was.
    async fn remove_share(
        &self,
        topic: &TopicStreams,
        states: &[State],
        holds: &BTreeMap<u16, Vec<(String, u64)>>,
        excess: u64,
    ) -> Result<bool, LogError> {
        let removable = |partition: u16, state: &State| {
            let Bounds { first, .. } = bounds_of(state);
            let batches = (passed_by_all(holds, partition, state) + 1).saturating_sub(first);
            let bytes = (u128::from(state.bytes) * u128::from(batches)).checked_div(u128::from(state.messages)).unwrap_or(0);
            (first, batches, bytes as u64)
        };
        let total: u64 = topic.partitions.iter().zip(states).map(|(partition, state)| removable(partition.partition, state).2).sum();
        if total == 0 {
            return Ok(false);
        }
        for (partition, state) in topic.partitions.iter().zip(states) {
            let (first, batches, _) = removable(partition.partition, state);
            let share = (u128::from(batches) * u128::from(excess)).div_ceil(u128::from(total)) as u64;
            self.remove(partition, state, first + share.min(batches)).await?;
        }
        Ok(true)
    }

    /// The first position that is not older than the cut-off.
    async fn first_young(&self, partition: &PartitionStream, state: &State, cutoff_us: i64) -> Result<u64, LogError> {
        let bounds = bounds_of(state);
        let first_us = (state.first_timestamp.unix_timestamp_nanos() / 1000) as i64;
        let last_us = (state.last_timestamp.unix_timestamp_nanos() / 1000) as i64;
        if state.messages == 0 || first_us >= cutoff_us {
            return Ok(bounds.first);
        }
        if last_us < cutoff_us {
            return Ok(bounds.last + 1);
        }
        let Ok(start_time) = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(cutoff_us) * 1000) else {
            return Ok(bounds.first);
        };
        let policy = DeliverPolicy::ByStartTime { start_time };
        let young = fetch_once(&partition.stream, String::new(), true, policy, 1).await?;
        let Some(message) = young.first() else { return Ok(bounds.first) };
        Ok(message.info().map_err(|error| LogError::Unavailable { source: error.into() })?.stream_sequence)
    }

    /// Removes everything before `keep_from`, having remembered the producers whose last message goes with it.
    async fn remove(&self, partition: &PartitionStream, state: &State, keep_from: u64) -> Result<(), LogError> {
        if keep_from <= bounds_of(state).first {
            return Ok(());
        }
        if !self.remember_producers(partition, keep_from).await? {
            // Another process is removing the same; it will not be less next time.
            return Ok(());
        }
        partition.stream.purge().sequence(keep_from).await.map_err(LogError::unavailable)?;
        Ok(())
    }

    /// Returns false when another process changed a remembered sequence meanwhile. Revisions are read before the messages: a
    /// newer sequence can then not be replaced by an older one.
    async fn remember_producers(&self, partition: &PartitionStream, keep_from: u64) -> Result<bool, LogError> {
        let (prefix, topic, number) = (&self.config.prefix, &partition.topic, partition.partition);
        let mut revisions = HashMap::new();
        for message in last_per_subject(&self.state, names::producer_subjects(prefix, topic, number), true).await? {
            let revision = message.info().map_err(|error| LogError::Unavailable { source: error.into() })?.stream_sequence;
            revisions.insert(names::last_token(&message.subject).to_owned(), revision);
        }
        for message in last_per_subject(&partition.stream, names::all_subjects(prefix, topic, number), true).await? {
            let position = message.info().map_err(|error| LogError::Unavailable { source: error.into() })?.stream_sequence;
            let sequence = message.headers.as_ref().and_then(|headers| headers.get(names::SEQUENCE));
            let Some(sequence) = sequence.and_then(|value| value.as_str().parse().ok()) else { continue };
            if position >= keep_from {
                continue;
            }
            let producer = names::last_token(&message.subject);
            let revision = revisions.get(producer).copied().unwrap_or(0);
            let subject = names::producer_subject(prefix, topic, number, producer);
            if !state::put(&self.jetstream, subject, sequence, Some(revision)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The last position that every registered consumer has passed.
fn passed_by_all(holds: &BTreeMap<u16, Vec<(String, u64)>>, partition: u16, state: &State) -> u64 {
    let of_partition = holds.get(&partition).into_iter().flatten();
    of_partition.map(|(_, position)| *position).min().unwrap_or(state.last_sequence).min(state.last_sequence)
}
