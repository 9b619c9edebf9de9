//! Evaluation of a sequence: the pass gathers the events of its steps per person, the engine's rule decides.

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::Hit;
use segue_engine::condition::latest_sequence;

use super::evaluate::{Moment, add};
use super::plan::Sequence;
use crate::filter::predicate::Predicate;
use crate::pass::{self, Gather, Packing, Question, Selector};
use crate::question::QueryError;
use crate::question::time::RangeUs;
use crate::scan::ScanStats;

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
    let range = RangeUs { start, end };
    let steps = sequence.steps.iter().chain(&sequence.not_between);
    let selectors: Vec<Selector> = steps.map(|step| Selector { events: step.events.clone(), filter: step.filter.clone(), range }).collect();
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
