//! Attempts in any order: the most distinct steps that distinct events inside a sliding window can do.
//!
//! One matching of steps to events is kept while the window slides: an event that comes in enlarges it if it can, an event
//! that falls out is replaced if it can be. So a unit costs a few hundred operations per event, however many lie in a window.

use std::collections::VecDeque;

use super::chains::{Bounds, End, Found, Item};
use super::matching::{Matching, NOBODY};
use super::rule::{FunnelRule, STEPS_MAX, Scope};

/// Events of the window that do no step, by the set of steps that they could do.
#[derive(Debug, Default)]
struct Spare {
    classes: Vec<(u32, VecDeque<u32>)>,
}

impl Spare {
    fn put(&mut self, mask: u32, event: u32) {
        match self.classes.iter_mut().find(|(known, _)| *known == mask) {
            Some((_, events)) => events.push_back(event),
            None => self.classes.push((mask, VecDeque::from([event]))),
        }
    }

    /// The last one that can do a step: it stays in the window longest.
    fn last(&self, step: usize) -> Option<(u32, u32)> {
        let able = self.classes.iter().filter(|(mask, _)| mask & (1 << step) != 0);
        able.filter_map(|(mask, events)| Some((*events.back()?, *mask))).max()
    }

    fn take(&mut self, mask: u32) {
        if let Some((_, events)) = self.classes.iter_mut().find(|(known, _)| *known == mask) {
            events.pop_back();
        }
    }

    /// Drops an event that falls out of the window; the earliest ones do.
    fn drop_out(&mut self, mask: u32, event: u32) {
        if let Some((_, events)) = self.classes.iter_mut().find(|(known, _)| *known == mask)
            && events.front() == Some(&event)
        {
            events.pop_front();
        }
    }
}

/// What lies inside the window, and which steps it does.
struct Window {
    matching: Matching,
    spare: Spare,
}

impl Window {
    /// Takes in event number `at`.
    fn enter(&mut self, at: usize, mask: u32) {
        if !self.matching.add(at as u32, mask) {
            self.spare.put(mask, at as u32);
        }
    }

    fn leave(&mut self, at: usize, mask: u32) {
        let Some(step) = self.matching.remove(at as u32) else {
            self.spare.drop_out(mask, at as u32);
            return;
        };
        let mut taken = None;
        let spare = &self.spare;
        let filled = self.matching.fill(step, |_, step| {
            let found = spare.last(step);
            taken = found;
            found
        });
        if let (true, Some((_, mask))) = (filled, taken) {
            self.spare.take(mask);
        }
    }
}

/// The attempt that counts among those of a stream, which is sorted by time. None if nothing starts.
pub(super) fn find(rule: &FunnelRule, items: &[Item], bounds: Bounds) -> Option<Found> {
    let able = |item: &&Item| item.steps != 0 && item.ts >= bounds.first;
    let entered = items.iter().find(able).filter(|item| item.ts <= bounds.last)?.ts;
    // The first exclusion ends all that began before it, if it meets any of it inside its window.
    let exclusion = items.iter().find(|item| bounds.one_attempt && item.exclusions != 0 && item.ts > entered);
    let ended = exclusion.map(|item| End { ts: item.ts, hit: item.hit }).filter(|End { ts, .. }| {
        let mut before = items[..items.partition_point(|item| item.ts < *ts)].iter().rev();
        let latest = before.find(|item| item.steps != 0 && item.ts <= bounds.last).map_or(entered, |item| item.ts);
        ts.saturating_sub(latest) <= rule.spec().window_us
    });
    let all = bounds;
    let bounds = Bounds { last: ended.map_or(bounds.last, |ended| bounds.last.min(ended.ts - 1)), ..bounds };
    let (deepest, completed, earliest) = slide(rule, items, bounds);
    let complete = deepest == rule.steps();
    // What is complete at that very moment has not been ended, and may as well have begun then.
    let mut found = trace(items, if complete { all } else { bounds }, deepest, completed, earliest);
    found.removed = removed(rule, items, bounds, complete.then_some(completed));
    if !complete {
        found.ended = ended;
        found.still_open = ended.is_none() && still_open(rule, items, bounds);
    }
    Some(found)
}

/// The most steps, when they were first done, and how early they may have begun.
fn slide(rule: &FunnelRule, items: &[Item], bounds: Bounds) -> (usize, i64, i64) {
    let mut window = Window { matching: Matching::new(), spare: Spare::default() };
    let (mut deepest, mut completed, mut earliest) = (0, i64::MIN, i64::MIN);
    let mut tail = items.partition_point(|item| item.ts < bounds.first);
    let mut head = tail;
    let mut excluded = i64::MIN;
    while head < items.len() {
        let ts = items[head].ts;
        let from = ts.saturating_sub(rule.spec().window_us).max(excluded).max(bounds.first);
        if from > bounds.last {
            break;
        }
        while tail < head && items[tail].ts < from {
            if items[tail].steps != 0 {
                window.leave(tail, items[tail].steps);
            }
            tail += 1;
        }
        while head < items.len() && items[head].ts == ts {
            if items[head].steps != 0 {
                window.enter(head, items[head].steps);
            }
            if items[head].exclusions != 0 {
                // What comes later must not have begun before this.
                excluded = ts;
            }
            head += 1;
        }
        // One of the events must be able to be the first. If one is, some largest matching holds it.
        let starts = items[tail..head].iter().find(|item| item.steps != 0).is_some_and(|item| item.ts <= bounds.last);
        if starts && window.matching.size() > deepest {
            (deepest, completed, earliest) = (window.matching.size(), ts, from);
            if deepest == rule.steps() {
                break;
            }
        }
    }
    (deepest, completed, earliest)
}

/// The attempt of so many steps that is done at `completed`: the latest start, then every step as early as possible.
fn trace(items: &[Item], bounds: Bounds, depth: usize, completed: i64, earliest: i64) -> Found {
    let from = items.partition_point(|item| item.ts < earliest);
    let to = items.partition_point(|item| item.ts <= completed);
    let inside = &items[from..to];
    let mut backwards = Matching::new();
    let mut start = completed;
    for (at, item) in inside.iter().enumerate().rev() {
        if backwards.add(at as u32, item.steps) {
            start = item.ts;
        }
        if backwards.size() == depth {
            break;
        }
    }
    // The first event must lie where attempts may start, and any event that can do a step is part of a largest matching.
    let last = inside.iter().rev().find(|item| item.steps != 0 && item.ts <= bounds.last).map_or(start, |item| item.ts);
    let start = start.min(last);
    let mut found =
        Found { depth, done: depth, completed, start, events: [NOBODY; STEPS_MAX], still_open: false, ended: None, removed: false };
    let mut forwards = Matching::new();
    let mut position = 0;
    for (at, item) in inside.iter().enumerate().skip_while(|(_, item)| item.ts < start) {
        if position < depth && forwards.add(at as u32, item.steps) {
            found.events[position] = item.hit;
            position += 1;
        }
    }
    found
}

/// Whether an exclusion lies strictly after a start, inside its window, before all steps were done.
fn removed(rule: &FunnelRule, items: &[Item], bounds: Bounds, completed: Option<i64>) -> bool {
    let spec = rule.spec();
    let scoped = spec
        .exclusions
        .iter()
        .enumerate()
        .fold(0, |bits, (number, exclusion)| bits | (u32::from(exclusion.scope == Scope::Unit) << number));
    if scoped == 0 {
        return false;
    }
    let end = completed.unwrap_or(i64::MAX);
    // The latest start, and the latest exclusion of any kind, before the moment that is looked at.
    let (mut started, mut excluded) = (None, None);
    for moment in items.chunk_by(|one, next| one.ts == next.ts) {
        let Some(ts) = moment.first().map(|item| item.ts).filter(|ts| *ts < end) else { break };
        let exclusions = moment.iter().fold(0, |bits, item| bits | item.exclusions);
        let meets = started.is_some_and(|started: i64| ts.saturating_sub(started) <= spec.window_us) && started >= excluded;
        if meets && exclusions & scoped != 0 {
            return true;
        }
        if exclusions != 0 {
            excluded = Some(ts);
        }
        if (bounds.first..=bounds.last).contains(&ts) && moment.iter().any(|item| item.steps != 0) {
            started = Some(ts);
        }
    }
    false
}

fn still_open(rule: &FunnelRule, items: &[Item], bounds: Bounds) -> bool {
    let spec = rule.spec();
    let Some(watermark) = spec.watermark_us else { return false };
    // From the end on: the next exclusion after an event is known when the event is met.
    let mut exclusion: Option<i64> = None;
    let mut pending: Option<i64> = None;
    for item in items.iter().rev() {
        if pending.is_some_and(|pending| pending > item.ts) {
            exclusion = pending;
        }
        if item.exclusions != 0 {
            pending = Some(item.ts);
        }
        let starts = item.steps != 0 && (bounds.first..=bounds.last).contains(&item.ts);
        let until = item.ts.saturating_add(spec.window_us);
        if starts && until >= watermark && exclusion.is_none_or(|exclusion| exclusion > until) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::funnel::rule::{FunnelSpec, Order};

    #[test]
    fn very_many_events_in_one_window_take_no_time() {
        let spec = FunnelSpec { order: Order::Any, ..FunnelSpec::ordered([0, 1, 2, 3], i64::MAX, 0..i64::MAX) };
        let rule = FunnelRule::new(spec).expect("a valid rule");
        let items: Vec<Item> = (0..200_000u32).map(|hit| Item { ts: i64::from(hit), steps: 1 << (hit % 3), exclusions: 0, hit }).collect();
        let found = find(&rule, &items, Bounds { first: 0, last: i64::MAX, one_attempt: false });
        assert_eq!(found.map(|found| (found.depth, found.start, found.completed)), Some((3, 0, 2)));
    }
}
