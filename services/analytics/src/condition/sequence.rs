//! Evaluation of a sequence: the pass gathers the events of its steps per person, the engine's rule decides.

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::Hit;
use segue_engine::condition::{latest_sequence, sequence_from};

use super::evaluate::{Moment, add};
use super::plan::Sequence;
use crate::filter::cells::{BatchCells, Cells};
use crate::filter::predicate::Predicate;
use crate::pass::{self, Gather, KeyValue, Packing, Question, Selector, Values};
use crate::question::QueryError;
use crate::question::time::RangeUs;
use crate::scan::{Column, ScanStats};
use crate::timeline::{Key, Keyed};

/// The persons among `universe` of whom the sequence is true.
pub(super) fn evaluate(
    sequence: &Sequence,
    moment: &Moment<'_>,
    universe: &RoaringBitmap,
    stats: &mut ScanStats,
) -> Result<RoaringBitmap, QueryError> {
    let (start, end) = sequence.window.bounds(moment.now_us, moment.zone);
    if start >= end || universe.is_empty() {
        return Ok(RoaringBitmap::new());
    }
    let selectors = selectors(sequence, RangeUs { start, end });
    let gather = Gather {
        selectors: &selectors,
        others: None,
        filter: &Predicate::Always(true),
        columns: &sequence.columns,
        items: &sequence.item_columns,
        payload: &[],
        persons: Some(universe),
    };
    let question = InOrder { sequence, zone: moment.zone, packing: Packing::of((start, end), selectors.len() as u32) };
    let (found, of_pass) = pass::run(moment.context, &gather, &question)?;
    add(stats, of_pass);
    let mut persons = found.persons;
    persons.sort_unstable();
    Ok(persons.into_iter().collect())
}

/// The steps, then what may not come between them.
fn selectors(sequence: &Sequence, range: RangeUs) -> Vec<Selector> {
    let steps = sequence.steps.iter().chain(&sequence.not_between);
    steps.map(|step| Selector { events: step.events.clone(), filter: step.filter.clone(), range }).collect()
}

/// The events of a person that make the sequence true, in the order of its steps: of the latest attempts, one. None if it is not.
pub(super) fn events(sequence: &Sequence, moment: &Moment<'_>, person: u32) -> Result<Vec<Keyed>, QueryError> {
    let (start, end) = sequence.window.bounds(moment.now_us, moment.zone);
    if start >= end {
        return Ok(Vec::new());
    }
    let selectors = selectors(sequence, RangeUs { start, end });
    let mut columns = sequence.columns.clone();
    columns.push(Column::Origin);
    let gather = Gather {
        selectors: &selectors,
        others: None,
        filter: &Predicate::Always(true),
        columns: &columns,
        items: &sequence.item_columns,
        payload: &[columns.len() - 1],
        persons: Some(&RoaringBitmap::from([person])),
    };
    let question = Told { origin: columns.len() - 1, names: Values::default() };
    let (hits, _) = pass::run(moment.context, &gather, &question)?;
    let steps = sequence.steps.len();
    let begin_min = |end: i64| sequence.within.before(end, moment.zone);
    // The engine's rule looks at times and matches alone.
    let plain: Vec<Hit> = hits.iter().map(|hit| Hit { ts: hit.ts, sequence: hit.sequence, matches: hit.matches, payload: () }).collect();
    let places = latest_sequence(&plain, steps, begin_min).and_then(|begin| sequence_from(&plain, steps, begin, begin_min));
    let keyed = |hit: &Hit<(u32, u32)>| {
        let (origin, name) = hit.payload;
        let event = if let KeyValue::Text(name) = question.names.value(name) { name } else { "".into() };
        Keyed { key: Key { ts: hit.ts, sequence: hit.sequence, origin }, event }
    };
    Ok(places.into_iter().flatten().filter_map(|place| hits.get(place)).map(keyed).collect())
}

/// The question for the hits of one person: what carries the origin and the code of the event's name.
struct Told {
    /// Where the origins are.
    origin: usize,
    names: Values,
}

impl Question for Told {
    type Payload = (u32, u32);
    type Partial = Vec<Hit<(u32, u32)>>;

    fn partial(&self) -> Self::Partial {
        Vec::new()
    }

    fn has_payload(&self) -> bool {
        true
    }

    fn payload(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<(u32, u32)>) -> Result<(), QueryError> {
        let name = self.names.code(KeyValue::Text(batch.event.into()));
        let Some(Cells::Number(origins)) = batch.columns.get(self.origin) else { return Err(QueryError::BrokeOff) };
        out.extend(rows.iter().map(|row| (origins.value(*row as usize), name)));
        Ok(())
    }

    fn person(&self, partial: &mut Self::Partial, _person: u32, hits: &[Hit<(u32, u32)>]) {
        partial.extend_from_slice(hits);
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        into.extend(from);
    }
}

/// The question to the pass.
struct InOrder<'s> {
    sequence: &'s Sequence,
    zone: Tz,
    packing: Option<Packing>,
}

#[derive(Default)]
struct Found {
    persons: Vec<u32>,
    /// Hits of the person at hand.
    unpacked: Vec<Hit>,
}

impl InOrder<'_> {
    fn is_met(&self, hits: &[Hit]) -> bool {
        let begin_min = |end: i64| self.sequence.within.before(end, self.zone);
        latest_sequence(hits, self.sequence.steps.len(), begin_min).is_some()
    }
}

impl Question for InOrder<'_> {
    type Payload = ();
    type Partial = Found;

    fn partial(&self) -> Found {
        Found::default()
    }

    fn person(&self, found: &mut Found, person: u32, hits: &[Hit]) {
        if self.is_met(hits) {
            found.persons.push(person);
        }
    }

    fn packing(&self) -> Option<Packing> {
        self.packing
    }

    fn pack(&self, matches: u32, _payload: ()) -> u64 {
        u64::from(matches)
    }

    fn packed(&self, found: &mut Found, person: u32, hits: &[u64]) -> bool {
        // Events of equal time count in either order, so their sequence does not matter.
        let Some(packing) = self.packing else { return false };
        let all_steps = (1_u64 << self.sequence.steps.len()) - 1;
        if hits.iter().fold(0, |seen, hit| seen | hit) & all_steps != all_steps {
            return true;
        }
        let bits = (1_u64 << packing.bits) - 1;
        let unpack = |hit: &u64| {
            let ts = packing.base_us.wrapping_add((hit >> packing.bits).cast_signed());
            Hit { ts, sequence: 0, matches: (hit & bits) as u32, payload: () }
        };
        found.unpacked.clear();
        found.unpacked.extend(hits.iter().map(unpack));
        if self.is_met(&found.unpacked) {
            found.persons.push(person);
        }
        true
    }

    fn merge(&self, into: &mut Found, from: Found) {
        into.persons.extend(from.persons);
    }
}
