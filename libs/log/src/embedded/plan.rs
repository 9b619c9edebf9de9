//! What a group of appends will write, decided before anything is written: positions, duplicates, and who is refused.

use std::collections::HashMap;

use super::sql::id_of;
use super::writer::{Encoded, Part, Produced, Writer};
use crate::{Appended, LogError};

/// The outcome of a group, on top of what the writer has committed.
pub(super) struct Plan {
    /// Rows to insert, with their ids.
    pub(super) rows: Vec<(i64, Encoded)>,
    /// Partitions as they will be.
    pub(super) parts: HashMap<u16, Part>,
    /// Producers as they will be.
    pub(super) producers: HashMap<(u16, String), Produced>,
    /// Size of the topic as it will be.
    pub(super) bytes: u64,
}

impl Plan {
    /// Nothing yet, on a topic of this size.
    pub(super) fn new(bytes: u64) -> Plan {
        Plan { rows: Vec::new(), parts: HashMap::new(), producers: HashMap::new(), bytes }
    }

    /// Adds one request and says what its sender will be told once the group is committed.
    pub(super) fn add(&mut self, writer: &Writer, batches: Vec<Encoded>) -> Result<Vec<Appended>, LogError> {
        let fresh = batches.iter().filter(|batch| self.duplicate_of(writer, batch).is_none());
        let bytes = self.bytes + fresh.map(Encoded::stored_bytes).sum::<u64>();
        // Duplicates are answered also when the topic is full: nothing is written for them.
        if bytes > self.bytes && bytes > writer.config.retention_bytes {
            return Err(writer.full());
        }
        Ok(batches.into_iter().map(|batch| self.add_one(writer, batch)).collect())
    }

    fn add_one(&mut self, writer: &Writer, batch: Encoded) -> Appended {
        if let Some(position) = self.duplicate_of(writer, &batch) {
            return Appended { position, duplicate: true };
        }
        let part = self.parts.entry(batch.partition).or_insert(writer.parts[usize::from(batch.partition)]);
        part.last += 1;
        part.bytes += batch.stored_bytes();
        self.bytes += batch.stored_bytes();
        let position = part.last;
        if let Some(producer) = &batch.producer {
            let produced = Produced { sequence: producer.sequence, position };
            self.producers.insert((batch.partition, producer.producer.clone()), produced);
        }
        self.rows.push((id_of(batch.partition, position), batch));
        Appended { position, duplicate: false }
    }

    /// Position of the producer's last batch, if it has written this sequence or a later one.
    fn duplicate_of(&self, writer: &Writer, batch: &Encoded) -> Option<u64> {
        let producer = batch.producer.as_ref()?;
        let key = (batch.partition, producer.producer.clone());
        let last = self.producers.get(&key).or_else(|| writer.producers.get(&key))?;
        (last.sequence >= producer.sequence).then_some(last.position)
    }
}
