//! [`Evaluator`]: from one unit's hits to its attempts. Cuts sessions, parts held values, takes attempts one after another.

use super::any_order;
use super::attempt::{Attempt, NO_VALUE, Outcome, Touch};
use super::chains::{Bounds, ChainSearch, Found, Item};
use super::matching::NOBODY;
use super::rule::{Breakdown, Counting, Entry, FunnelRule, Order};
use crate::Hit;

/// Applies a rule to one unit after another, with memory that it uses again.
#[derive(Debug)]
pub struct Evaluator<'r> {
    rule: &'r FunnelRule,
    search: ChainSearch,
    /// The stream that is searched.
    items: Vec<Item>,
    /// The unit's held values.
    keys: Vec<u32>,
}

/// What removes a unit.
struct Removed;

impl<'r> Evaluator<'r> {
    /// For a rule.
    pub fn new(rule: &'r FunnelRule) -> Evaluator<'r> {
        Evaluator { rule, search: ChainSearch::default(), items: Vec::new(), keys: Vec::new() }
    }

    /// Finds the attempts of a unit. The hits are sorted by (ts, sequence); they are all events of the unit if the rule
    /// [needs them](FunnelRule::needs_all_events), else at least those that match a selector. Needed are those from the start of the range to its
    /// end and the window after it.
    pub fn evaluate(&mut self, hits: &[Hit<Touch>], outcome: &mut Outcome) {
        outcome.attempts.clear();
        outcome.removed = false;
        let counted = match self.rule.spec().counting {
            Counting::Units => self.one(hits, i64::MAX, outcome),
            Counting::Totals => self.all(hits, outcome),
            Counting::Sessions { gap_us } => hits.chunk_by(|one, next| next.ts.saturating_sub(one.ts) <= gap_us).try_for_each(|session| {
                let until = session.last().map_or(i64::MAX, |last| last.ts.saturating_add(gap_us));
                self.one(session, until, outcome)
            }),
        };
        if let Err(Removed) = counted {
            outcome.attempts.clear();
            outcome.removed = true;
        }
    }

    /// The one attempt that counts among these hits. It can go on `until` then at most.
    fn one(&mut self, hits: &[Hit<Touch>], until: i64, outcome: &mut Outcome) -> Result<(), Removed> {
        let spec = self.rule.spec();
        let mut bounds = Bounds { first: spec.range_us.start, last: spec.range_us.end - 1, one_attempt: false };
        if spec.entry == Entry::First {
            let Some(first) = self.first_start(hits) else { return Ok(()) };
            (bounds.first, bounds.last) = (first, first);
        }
        let mut best: Option<Found> = None;
        let mut still_open = false;
        let mut keys = std::mem::take(&mut self.keys);
        self.collect_keys(hits, &mut keys);
        let mut removed = false;
        for key in &keys {
            self.stream(hits, *key);
            let Some(found) = self.find(0, bounds) else { continue };
            removed |= found.removed;
            still_open |= found.still_open;
            if best.as_ref().is_none_or(|best| counts_before(spec.order, &found, best, hits)) {
                best = Some(found);
            }
        }
        self.keys = keys;
        if removed {
            return Err(Removed);
        }
        if let Some(found) = best {
            // The session may have come to its end.
            let open = still_open && found.depth < self.rule.steps() && spec.watermark_us.is_some_and(|watermark| until >= watermark);
            outcome.attempts.push(self.attempt(&found, hits, open));
        }
        Ok(())
    }

    /// All attempts, one after another.
    fn all(&mut self, hits: &[Hit<Touch>], outcome: &mut Outcome) -> Result<(), Removed> {
        let mut keys = std::mem::take(&mut self.keys);
        self.collect_keys(hits, &mut keys);
        let counted = keys.iter().try_for_each(|key| {
            self.stream(hits, *key);
            self.one_after_another(hits, outcome)
        });
        self.keys = keys;
        counted
    }

    fn one_after_another(&mut self, hits: &[Hit<Touch>], outcome: &mut Outcome) -> Result<(), Removed> {
        let spec = self.rule.spec();
        let starts = self.starting_steps();
        let mut at = 0;
        while let Some(next) = self.items[at..].iter().position(|item| item.steps & starts != 0 && spec.range_us.contains(&item.ts)) {
            let first = self.items[at + next].ts;
            let last = match spec.entry {
                Entry::First => first,
                Entry::Deepest => first.saturating_add(spec.window_us).min(spec.range_us.end - 1),
            };
            let Some(found) = self.find(at, Bounds { first, last, one_attempt: true }) else { break };
            if found.removed {
                return Err(Removed);
            }
            outcome.attempts.push(self.attempt(&found, hits, found.still_open));
            at += self.pass_over(at, &found);
        }
        Ok(())
    }

    /// How many items from `at` on are done with when an attempt is over.
    fn pass_over(&mut self, at: usize, found: &Found) -> usize {
        let spec = self.rule.spec();
        let expires = found.start.saturating_add(spec.window_us);
        let complete = found.depth == self.rule.steps();
        let ended = found.ended.filter(|end| !complete && end.ts <= expires);
        if !complete && ended.is_none() {
            return self.items[at..].partition_point(|item| item.ts <= expires);
        }
        if spec.order == Order::Strict {
            // The log's order says what comes next: what ended the attempt, unless the attempt itself took it.
            let used = found.events[..found.depth].iter().filter(|event| **event != NOBODY).max().map_or(0, |last| last + 1);
            let from = ended.map_or(used, |end| used.max(end.hit));
            return self.items[at..].partition_point(|item| item.hit < from);
        }
        // Events of that very moment that were not needed may begin the next attempt.
        self.pass_used(at, ended.map_or(found.completed, |end| end.ts), found)
    }

    /// Puts the events of the moment `ts` that the attempt used before the others; gives how many items from `at` on are done with.
    fn pass_used(&mut self, at: usize, ts: i64, found: &Found) -> usize {
        let before = self.items[at..].partition_point(|item| item.ts < ts);
        let moment = self.items[at + before..].partition_point(|item| item.ts == ts);
        let moment = &mut self.items[at + before..at + before + moment];
        moment.sort_by_key(|item| !found.events.contains(&item.hit));
        before + moment.partition_point(|item| found.events.contains(&item.hit))
    }

    fn find(&mut self, at: usize, bounds: Bounds) -> Option<Found> {
        match self.rule.spec().order {
            Order::Ordered | Order::Strict => self.search.find(self.rule, &self.items[at..], bounds),
            Order::Any => any_order::find(self.rule, &self.items[at..], bounds),
        }
    }

    /// Steps that can be the first of an attempt, as bits.
    fn starting_steps(&self) -> u32 {
        match self.rule.spec().order {
            Order::Ordered | Order::Strict => 1,
            Order::Any => u32::MAX,
        }
    }

    /// The time of the first event that can begin an attempt.
    fn first_start(&self, hits: &[Hit<Touch>]) -> Option<i64> {
        let spec = self.rule.spec();
        let takes_part = |hit: &&Hit<Touch>| !spec.hold || hit.payload.held != NO_VALUE;
        let starts = |hit: &&Hit<Touch>| self.steps_of(hit) & self.starting_steps() != 0 && spec.range_us.contains(&hit.ts);
        hits.iter().filter(takes_part).find(starts).map(|hit| hit.ts)
    }

    fn collect_keys(&self, hits: &[Hit<Touch>], keys: &mut Vec<u32>) {
        keys.clear();
        if self.rule.spec().hold {
            keys.extend(hits.iter().filter(|hit| hit.matches != 0).map(|hit| hit.payload.held).filter(|held| *held != NO_VALUE));
            keys.sort_unstable();
            keys.dedup();
        } else {
            keys.push(NO_VALUE);
        }
    }

    /// Makes the stream of a held value. Under strict order other events stay in it as what they are: in between.
    fn stream(&mut self, hits: &[Hit<Touch>], key: u32) {
        let spec = self.rule.spec();
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        for (at, hit) in hits.iter().enumerate() {
            let (mut steps, mut exclusions) = (0, 0);
            if !spec.hold || hit.payload.held == key {
                steps = self.steps_of(hit);
                exclusions = spec
                    .exclusions
                    .iter()
                    .enumerate()
                    .fold(0, |bits, (number, exclusion)| bits | (u32::from(hit.is(exclusion.selector as usize)) << number));
            }
            if steps | exclusions != 0 || spec.order == Order::Strict {
                items.push(Item { ts: hit.ts, steps, exclusions, hit: at as u32 });
            }
        }
        self.items = items;
    }

    fn steps_of(&self, hit: &Hit<Touch>) -> u32 {
        let steps = &self.rule.spec().steps;
        steps.iter().enumerate().fold(0, |bits, (at, step)| bits | (u32::from(hit.is(step.selector as usize)) << at))
    }

    fn attempt(&self, found: &Found, hits: &[Hit<Touch>], still_open: bool) -> Attempt {
        let hit = |event: u32| hits.get(event as usize);
        let value = |event: u32| hit(event).map_or(NO_VALUE, |hit| hit.payload.value);
        let mut values = found.events.iter().map(|event| value(*event)).filter(|value| *value != NO_VALUE);
        let value = match self.rule.spec().breakdown {
            Breakdown::AtStep(step) => value(found.events.get(step - 1).copied().unwrap_or(NOBODY)),
            Breakdown::FirstTouch => values.next().unwrap_or(NO_VALUE),
            Breakdown::LastTouch => values.next_back().unwrap_or(NO_VALUE),
        };
        let mut attempt = Attempt::new(found.depth, value, still_open);
        for (step, event) in found.events.iter().enumerate() {
            if let Some(hit) = hit(*event) {
                attempt.note(step, hit.ts);
            }
        }
        attempt
    }
}

/// Whether an attempt counts rather than another one of another stream. What decides last does not depend on codes.
fn counts_before(order: Order, one: &Found, other: &Found, hits: &[Hit<Touch>]) -> bool {
    let rank = |found: &Found| {
        let time = |event: u32| hits.get(event as usize).map(|hit| hit.ts);
        (
            std::cmp::Reverse(found.depth),
            found.completed,
            if order == Order::Strict { found.events[found.depth - 1] } else { 0 },
            std::cmp::Reverse(found.done),
            std::cmp::Reverse(found.start),
            found.events.map(time),
            found.events,
        )
    };
    rank(one) < rank(other)
}
