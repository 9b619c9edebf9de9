//! The fast ways for the commonest funnel: ordered, every event does one step at most, one attempt per unit, no further options.
//!
//! [`PlainFunnel::search`] reads the times of each step where they lie, backwards from the last step: of what was done rarely all, of what
//! was done often only what comes just before. [`PlainFunnel::run`] reads hits that are packed into single numbers and sorted.

use std::ops::Range;

use super::attempt::{Attempt, NO_VALUE};
use super::rule::{Counting, Entry, FunnelRule, FunnelSpec, Order, STEPS_MAX};

/// Bits of a packed hit that hold its step.
const STEP_BITS: u32 = 5;
const STEP_MASK: u64 = (1 << STEP_BITS) - 1;
/// A start so long ago that no window reaches from it.
const NEVER: i64 = i64::MIN / 2;

/// Packs a hit: so many microseconds after the start of the range, below 2⁵⁹, and its step, from 0 and below 32. Packed hits sort by time
/// and, where times are equal, by step, which is the order that carries attempts furthest.
#[inline]
pub const fn pack(since_start_us: u64, step: u32) -> u64 {
    (since_start_us << STEP_BITS) | (step as u64 & STEP_MASK)
}

/// A funnel that packed hits are enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainFunnel {
    steps: u32,
    window: i64,
    /// Microseconds since the epoch that packed times count from.
    start: i64,
    /// Attempts start before this, from `start`.
    end: i64,
    /// Attempts that start from here on are open at the watermark, microseconds UTC.
    open_from: i64,
}

/// When a unit did each step: list k holds the times of step k + 1, in parts. Each part ascends; parts may overlap.
pub trait TimeLists {
    /// The numbers of a list's parts.
    fn parts(&self, list: usize) -> Range<usize>;
    /// The times of a part.
    fn part(&self, number: usize) -> &[i64];
}

/// The attempt of a unit that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainAttempt {
    /// The furthest step done; 0 if the unit did not enter.
    pub depth: u32,
    /// When the first step was done, microseconds UTC.
    pub first: i64,
    /// When the furthest step was done.
    pub last: i64,
    /// Not all steps are done, and more of them may still be.
    pub still_open: bool,
}

impl PlainFunnel {
    /// The fast way for a rule, if there is one. It is right where no event matches two selectors.
    pub fn of(rule: &FunnelRule) -> Option<PlainFunnel> {
        // Every field, so that a new option cannot be forgotten here. The breakdown value is not the fast way's business.
        let FunnelSpec { steps, order, window_us, exclusions, entry, counting, hold, breakdown: _, range_us, watermark_us } = rule.spec();
        let distinct = steps.iter().enumerate().all(|(at, step)| steps[..at].iter().all(|before| before.selector != step.selector));
        let plain = *order == Order::Ordered
            && *entry == Entry::Deepest
            && *counting == Counting::Units
            && exclusions.is_empty()
            && rule.optional() == 0
            && !hold
            && distinct;
        plain.then(|| PlainFunnel {
            steps: steps.len() as u32,
            window: (*window_us).min(i64::MAX / 4),
            start: range_us.start,
            end: range_us.end.saturating_sub(range_us.start),
            open_from: watermark_us.map_or(i64::MAX, |watermark| watermark.saturating_sub(*window_us)),
        })
    }

    /// The attempt that counts. The keys of a unit are packed hits in ascending order, none from before the start of the range.
    #[inline]
    pub fn run(&self, keys: &[u64]) -> PlainAttempt {
        // latest[k] is the latest start of an attempt that has done k steps. It only grows with time, so that what is copied after
        // its window has passed replaces nothing that could go on; it is out of the window for ever, like NEVER.
        let mut latest = [NEVER; 1 << STEP_BITS];
        let mut found = PlainAttempt { depth: 0, first: 0, last: 0, still_open: false };
        for key in keys {
            let step = (key & STEP_MASK) as usize;
            let ts = (key >> STEP_BITS) as i64;
            latest[0] = if ts < self.end { ts } else { latest[1] };
            let start = latest[step];
            latest[(step + 1) & STEP_MASK as usize] = start;
            if step as u32 >= found.depth && ts - start <= self.window {
                let (first, last) = (self.start.saturating_add(start), self.start.saturating_add(ts));
                found = PlainAttempt { depth: step as u32 + 1, first, last, still_open: false };
                if found.depth == self.steps {
                    return found;
                }
            }
        }
        // The latest start of all has the longest window.
        found.still_open = found.depth > 0 && self.start.saturating_add(latest[1]) >= self.open_from;
        found
    }

    /// The steps of the attempt that [`run`](PlainFunnel::run) found in these keys, and when they were done.
    pub fn trace(&self, keys: &[u64], found: &PlainAttempt) -> Attempt {
        let mut attempt = Attempt::new(found.depth as usize, NO_VALUE, found.still_open);
        let mut wanted = 0;
        let from = keys.partition_point(|key| *key < pack(found.first.abs_diff(self.start), 0));
        for key in &keys[from..] {
            if wanted == found.depth {
                break;
            }
            if key & STEP_MASK == u64::from(wanted) && (wanted as usize) < STEPS_MAX {
                attempt.note(wanted as usize, self.start.saturating_add((key >> STEP_BITS) as i64));
                wanted += 1;
            }
        }
        attempt
    }

    /// The attempt that counts, by the times of each step; those of the first step lie in the range.
    #[inline]
    pub fn search(&self, lists: &impl TimeLists) -> PlainAttempt {
        let Some(latest) = parts(lists, 0).filter_map(|part| part.last().copied()).max() else {
            return PlainAttempt { depth: 0, first: 0, last: 0, still_open: false };
        };
        // An empty list ends the funnel.
        let mut depth = 1;
        while depth < self.steps && parts(lists, depth as usize).any(|part| !part.is_empty()) {
            depth += 1;
        }
        let mut found = None;
        while depth > 1 && found.is_none() {
            found = self.first_done(lists, depth as usize);
            depth -= u32::from(found.is_none());
        }
        let (first, last) = found.unwrap_or_else(|| {
            let first = parts(lists, 0).filter_map(|part| part.first().copied()).min().unwrap_or(latest);
            (first, first)
        });
        PlainAttempt { depth, first, last, still_open: depth < self.steps && latest >= self.open_from }
    }

    /// The latest start and the end of the attempt that is the first to do so many steps.
    #[inline]
    fn first_done(&self, lists: &impl TimeLists, depth: usize) -> Option<(i64, i64)> {
        let mut first: Option<(i64, i64)> = None;
        for part in parts(lists, depth - 1) {
            'ends: for end in part {
                if first.is_some_and(|(_, known)| known <= *end) {
                    break;
                }
                // Each step as late as it can be makes the start as late as it can be.
                let mut ts = *end;
                for list in (0..depth - 1).rev() {
                    match latest_until(lists, list, ts) {
                        Some(before) if end.saturating_sub(before) <= self.window => ts = before,
                        Some(_) | None => continue 'ends,
                    }
                }
                first = Some((ts, *end));
                break;
            }
        }
        first
    }

    /// The steps of the attempt that [`search`](PlainFunnel::search) found in these lists, and when they were done.
    #[inline]
    pub fn trace_lists(&self, lists: &impl TimeLists, found: &PlainAttempt) -> Attempt {
        let mut attempt = Attempt::new(found.depth as usize, NO_VALUE, found.still_open);
        let depth = (found.depth as usize).min(STEPS_MAX);
        let mut ts = found.first;
        for step in 0..depth {
            if step > 0 && step + 1 < depth {
                // Each step as early as it can be.
                ts = earliest_from(lists, step, ts).unwrap_or(ts);
            } else if step + 1 == depth {
                ts = found.last;
            }
            attempt.note(step, ts);
        }
        attempt
    }
}

fn parts(lists: &impl TimeLists, list: usize) -> impl DoubleEndedIterator<Item = &[i64]> {
    lists.parts(list).map(|number| lists.part(number))
}

/// The latest time of a list that is not after `ts`.
#[inline]
fn latest_until(lists: &impl TimeLists, list: usize, ts: i64) -> Option<i64> {
    let mut latest = None;
    // Later parts tend to hold later times.
    for part in parts(lists, list).rev() {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        if *first > ts || latest.is_some_and(|latest| latest >= *last) {
            continue;
        }
        let until = part.partition_point(|time| *time <= ts);
        latest = latest.max(part.get(until.wrapping_sub(1)).copied());
    }
    latest
}

/// The earliest time of a list that is not before `ts`.
#[inline]
fn earliest_from(lists: &impl TimeLists, list: usize, ts: i64) -> Option<i64> {
    parts(lists, list).filter_map(|part| part.get(part.partition_point(|time| *time < ts)).copied()).min()
}
