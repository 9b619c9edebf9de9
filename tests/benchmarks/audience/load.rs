//! The load of live audiences: events of the shop as senders state them, at the time of sending, of persons who were there before and of
//! some new ones.

use segue_model::dimension;
use segue_proto::events::v1::{Context, Event, EventKind, ResolvedEvent};
use segue_tests::events::identifier;

use super::data::Stream;
use crate::engine::data::Random;
use crate::load::{Template, id_mark, time_mark};

/// Events in one call.
pub(crate) const BATCH: usize = 250;
/// Events that are encoded beforehand; they are sent again when they have been used up.
const ENCODED: usize = 1_000_000;
/// One event in so many is of somebody new.
const NEW: u64 = 100;

/// An event by which identity gets to know each person of the history, in as many batches as are needed.
pub(crate) fn everybody(persons: u32) -> Vec<Template> {
    let numbers: Vec<u32> = (0..persons).collect();
    let of = |number: &u32| Event { name: "known".to_owned(), ..event_of(*number) };
    numbers.chunks(1_000).map(|chunk| Template::of_events(chunk.iter().map(of).collect())).collect()
}

/// The events to send.
pub(crate) fn batches(stream: &Stream) -> Vec<Template> {
    let mut random = Random::of(99);
    let mut strangers = stream.size.persons;
    let mut event = || {
        let resolved = stream.shop().event(&mut random, None);
        let number = if random.below(NEW) == 0 {
            strangers += 1;
            strangers
        } else {
            resolved.person - 1
        };
        sent(number, resolved)
    };
    (0..ENCODED / BATCH).map(|_| Template::of_events((0..BATCH).map(|_| event()).collect())).collect()
}

fn event_of(number: u32) -> Event {
    Event {
        message_id: id_mark(),
        kind: EventKind::Track as i32,
        time: Some(time_mark()),
        identifiers: vec![identifier("user_id", &format!("user-{number}")), identifier("device_id", &format!("device-{number}"))],
        ..Event::default()
    }
}

/// As its sender states it.
fn sent(number: u32, resolved: ResolvedEvent) -> Event {
    let mut context = Context::default();
    for value in resolved.dimensions {
        match dimension::by_code(value.code).map(|dimension| dimension.name) {
            Some("platform") => context.platform = value.value,
            Some("utm_source") => context.utm_source = value.value,
            Some("utm_medium") => context.utm_medium = value.value,
            Some("utm_campaign") => context.utm_campaign = value.value,
            Some(name) => {
                context.dimensions.insert(name.to_owned(), value.value);
            }
            None => {}
        }
    }
    Event { name: resolved.name, items: resolved.items, context: Some(context), ..event_of(number) }
}
