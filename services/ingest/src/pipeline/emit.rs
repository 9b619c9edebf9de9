//! The second half of a group's work: events with their persons, as batches of the `resolved` topic.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message;
use segue_log::{NewBatch, ProducerSequence, Topic};
use segue_model::partition::of_person;
use segue_proto::events::v1::{Event, ResolvedBatch, ResolvedEvent, ResolvedGroup, Value};

use super::enrich::from_profile;
use super::prepare::{Group, Prepared};
use super::resolve::Answer;
use crate::RESOLVED;

/// Batches that one group may write to one partition; their sequences are `group × 16 + part`.
pub const PARTS_MAX: u64 = 16;
/// Where a batch is cut, in bytes: below what any log takes, while 16 of them hold more than any group.
const BATCH_BYTES: usize = 2 << 20;

/// What a group leads to.
#[derive(Debug, Default)]
pub struct Output {
    /// For the log.
    pub batches: Vec<(Topic, u16, NewBatch)>,
    /// Events per tenant that were resolved.
    pub resolved: HashMap<String, u64>,
    /// Events that identity found nobody for.
    pub nobody: Vec<(String, Prepared)>,
}

/// A batch of one partition that is being filled.
#[derive(Default)]
struct Filling {
    batch: ResolvedBatch,
    bytes: usize,
    events: u32,
    part: u64,
}

/// Puts events and answers together.
pub fn emit(
    group: Group,
    mut answers: BTreeMap<String, Answer>,
    partitions: u16,
    producer: &str,
    sequence: u64,
    traceparent: Option<&str>,
) -> Output {
    let mut output = Output::default();
    let mut filling: BTreeMap<u16, Filling> = BTreeMap::new();
    let close = |filling: &mut Filling, partition: u16, batches: &mut Vec<(Topic, u16, NewBatch)>| {
        let payload = Bytes::from(std::mem::take(&mut filling.batch).encode_to_vec());
        let producer = ProducerSequence { producer: producer.to_owned(), sequence: sequence * PARTS_MAX + filling.part };
        let batch = NewBatch { payload, events: filling.events, producer: Some(producer), traceparent: traceparent.map(str::to_owned) };
        batches.push((RESOLVED, partition, batch));
        *filling = Filling { part: filling.part + 1, ..Filling::default() };
    };
    for (tenant, of_tenant) in group.tenants {
        let answer = answers.remove(&tenant).unwrap_or_default();
        let mut resolved = 0;
        for (mut prepared, resolution) in of_tenant.events.into_iter().zip(answer.resolutions) {
            if resolution.person == 0 {
                output.nobody.push((tenant.clone(), prepared));
                continue;
            }
            let partition = of_person(&tenant, resolution.person, partitions);
            let mut dimensions = std::mem::take(&mut prepared.dimensions);
            from_profile(&mut dimensions, answer.profiles.get(&resolution.person), resolution.first, prepared.time_us);
            let event = resolved_event(prepared, resolution.person, resolution.device, dimensions);
            let into = filling.entry(partition).or_default();
            into.bytes += event.encoded_len() + 8;
            into.events += 1;
            resolved += 1;
            match into.batch.groups.last_mut() {
                Some(group) if group.tenant == tenant => group.events.push(event),
                _ => into.batch.groups.push(ResolvedGroup { tenant: tenant.clone(), events: vec![event] }),
            }
            if into.bytes >= BATCH_BYTES && into.part + 1 < PARTS_MAX {
                close(into, partition, &mut output.batches);
            }
        }
        output.resolved.insert(tenant, resolved);
    }
    for (partition, mut rest) in filling {
        if rest.events > 0 {
            close(&mut rest, partition, &mut output.batches);
        }
    }
    output
}

fn resolved_event(prepared: Prepared, person: u32, device: u32, dimensions: super::enrich::Dimensions) -> ResolvedEvent {
    let Prepared { event, unregistered, time_us, received_at_us, original_time_us, sent_at_us, name, .. } = prepared;
    let Event { message_id, kind, name: sent_name, mut properties, items, context, source, traits, .. } = event;
    let unknown: HashMap<String, Value> = unregistered.iter().filter_map(|name| properties.remove_entry(name)).collect();
    let context = context.unwrap_or_default();
    let original_name = if sent_name == name { String::new() } else { sent_name };
    ResolvedEvent {
        person,
        device,
        time_us,
        received_at_us,
        original_time_us,
        sent_at_us,
        name,
        original_name,
        message_id,
        properties,
        unregistered: unknown,
        items,
        dimensions: dimensions.into_values(),
        session_id: context.session_id,
        account_id: context.account_id,
        kind,
        source,
        traits,
    }
}
