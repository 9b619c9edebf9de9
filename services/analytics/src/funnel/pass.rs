//! The funnel as a question for the pass: what is read of each event, and the rules applied to each person.

use std::collections::HashMap;
use std::ops::Range;

use parking_lot::Mutex;
use segue_engine::Hit;
use segue_engine::funnel::{Attempt, Evaluator, NO_VALUE, Outcome, PlainFunnel, Touch};

use super::plan::Plan;
use crate::filter::cells::BatchCells;
use crate::filter::fields::Place;
use crate::pass::{self, Gather, Packing, Part, PartLists, Question, Values, Within};
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;

/// What becomes of attempts.
pub(super) trait Collect: Sync {
    /// What some persons have come to.
    type Collected: Send;

    /// Nothing yet.
    fn nothing(&self) -> Self::Collected;
    /// Takes in an attempt of a person; all attempts of one come together.
    fn take(&self, into: &mut Self::Collected, person: u32, attempt: &Attempt);
    /// Puts that of other persons to it.
    fn merge(&self, into: &mut Self::Collected, from: Self::Collected);
}

/// A funnel, asked of each person.
pub(super) struct FunnelQuestion<'p, C> {
    plan: &'p Plan,
    collect: &'p C,
    plain: Option<(PlainFunnel, Packing)>,
    values: Values,
    held: Combinations,
    bytes_max: usize,
}

/// What a thread of the pass has come to, with memory that it uses again.
pub(super) struct Partial<'p, T> {
    evaluator: Evaluator<'p>,
    outcome: Outcome,
    collected: T,
}

/// A packed hit of this step matches several selectors.
const SEVERAL: u64 = 31;
const STEP_BITS: u32 = 5;
/// What a value takes that has a code, about.
const VALUE_BYTES: usize = 100;

impl<'p, C: Collect> FunnelQuestion<'p, C> {
    pub(super) fn new(plan: &'p Plan, collect: &'p C, bytes_max: usize) -> Self {
        let reads_nothing = plan.held.is_empty() && plan.breakdown.is_none();
        let plain = PlainFunnel::of(&plan.rule).filter(|_| reads_nothing);
        let packing = Packing::of((plan.reach.start, plan.reach.end), STEP_BITS);
        let (values, held) = (Values::default(), Combinations::default());
        FunnelQuestion { plan, collect, plain: plain.zip(packing), values, held, bytes_max }
    }

    /// Codes of breakdown values.
    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// Asks all persons, or some.
    pub(super) fn run(&self, context: &Context<'_>, within: Within<'_>) -> Result<(C::Collected, ScanStats), QueryError> {
        let plan = self.plan;
        let places = plan.held.iter().copied().chain(plan.breakdown.map(|breakdown| breakdown.place));
        let mut payload: Vec<usize> = places
            .filter_map(|place| match place {
                Place::Column(at) => Some(at),
                Place::EventName | Place::Item(_) | Place::Absent => None,
            })
            .collect();
        payload.sort_unstable();
        payload.dedup();
        let gather = Gather {
            selectors: &plan.selectors,
            others: plan.others,
            filter: &plan.filter,
            columns: &plan.columns,
            items: &plan.items,
            payload: &payload,
            persons: plan.among.as_ref(),
        };
        let (partial, stats) = pass::run_within(context, &gather, self, within)?;
        Ok((partial.collected, stats))
    }
}

impl<'p, C: Collect> Question for FunnelQuestion<'p, C> {
    type Payload = Touch;
    type Partial = Partial<'p, C::Collected>;

    fn partial(&self) -> Self::Partial {
        Partial { evaluator: Evaluator::new(&self.plan.rule), outcome: Outcome::default(), collected: self.collect.nothing() }
    }

    fn has_payload(&self) -> bool {
        !self.plan.held.is_empty() || self.plan.breakdown.is_some()
    }

    fn payload(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<Touch>) -> Result<(), QueryError> {
        let codes = |place: Place| {
            let mut codes = Vec::with_capacity(rows.len());
            self.values.codes(place, batch, rows, &mut codes);
            codes
        };
        let from = out.len();
        out.resize(from + rows.len(), Touch::default());
        let out = &mut out[from..];
        if let Some(breakdown) = self.plan.breakdown {
            for (touch, code) in out.iter_mut().zip(codes(breakdown.place)) {
                touch.value = code;
            }
        }
        if !self.plan.held.is_empty() {
            let fields: Vec<Vec<u32>> = self.plan.held.iter().map(|place| codes(*place)).collect();
            self.held.codes(&fields, out);
        }
        if (self.values.len() + self.held.len()).saturating_mul(VALUE_BYTES) > self.bytes_max {
            return Err(QueryError::TooMuchMemory {
                what: "the values of its breakdown and of what is held constant",
                bytes_max: self.bytes_max,
            });
        }
        Ok(())
    }

    fn person(&self, partial: &mut Self::Partial, person: u32, hits: &[Hit<Touch>]) {
        partial.evaluator.evaluate(hits, &mut partial.outcome);
        for attempt in &partial.outcome.attempts {
            self.collect.take(&mut partial.collected, person, attempt);
        }
    }

    fn packing(&self) -> Option<Packing> {
        self.plain.map(|(_, packing)| packing)
    }

    fn pack(&self, matches: u32, _payload: Touch) -> u64 {
        // The selectors of a plain funnel are those of its steps, in their order.
        if matches.is_power_of_two() { u64::from(matches.trailing_zeros()) } else { SEVERAL }
    }

    fn packed(&self, partial: &mut Self::Partial, person: u32, hits: &[u64]) -> bool {
        let Some((plain, _)) = self.plain else { return false };
        if self.plan.overlapping && hits.iter().any(|hit| hit & SEVERAL == SEVERAL) {
            return false;
        }
        let found = plain.run(hits);
        if found.depth > 0 {
            self.collect.take(&mut partial.collected, person, &plain.trace(hits, &found));
        }
        true
    }

    fn unpacked(&self, partial: &mut Self::Partial, persons: Range<u32>, parts: &[Part<Touch>]) -> bool {
        let Some((plain, _)) = self.plain else { return false };
        let Some(lists) = PartLists::new(parts, self.plan.selectors.len(), persons) else { return false };
        lists.each(|person, lists| {
            let found = plain.search(lists);
            if found.depth > 0 {
                self.collect.take(&mut partial.collected, person, &plain.trace_lists(lists, &found));
            }
        });
        true
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        self.collect.merge(&mut into.collected, from.collected);
    }
}

/// Codes of several held values together, from 1.
#[derive(Debug, Default)]
struct Combinations(Mutex<HashMap<[u32; 3], u32>>);

impl Combinations {
    fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Notes for each row the code of its values, `NO_VALUE` if one is missing.
    fn codes(&self, fields: &[Vec<u32>], out: &mut [Touch]) {
        if let [only] = fields {
            for (touch, code) in out.iter_mut().zip(only) {
                touch.held = *code;
            }
            return;
        }
        let mut known = self.0.lock();
        for (row, touch) in out.iter_mut().enumerate() {
            let mut key = [NO_VALUE; 3];
            for (part, codes) in key.iter_mut().zip(fields) {
                *part = codes[row];
            }
            if key[..fields.len()].contains(&NO_VALUE) {
                continue;
            }
            let next = known.len() as u32 + 1;
            touch.held = *known.entry(key).or_insert(next);
        }
    }
}
