//! One thing after the other: whether a person did A, then B, within a time, and not C in between.

use crate::Hit;

/// Steps of one sequence.
pub const STEPS_MAX: usize = 10;

/// The latest moment at which an attempt began that went through all steps; none when no attempt did.
///
/// An attempt is distinct events e1 … ek, one per step (`matches` bits 0 to k − 1), whose times do not decrease: events of equal time
/// count in either order. `begin_min(t)` is the earliest begin of an attempt that ends at t (never decreasing). An event with bit k is
/// not allowed at a time strictly between those of two neighbouring steps.
///
/// `hits` ascend by time. `steps` beyond [`STEPS_MAX`] are cut to it.
pub fn latest_sequence(hits: &[Hit], steps: usize, begin_min: impl Fn(i64) -> i64) -> Option<i64> {
    let steps = steps.min(STEPS_MAX);
    if steps == 0 {
        return None;
    }
    // Of the attempts that have just done step s (from 1) and may go on: the latest begin. An attempt that began later can do whatever
    // an earlier one can.
    let mut open = [None::<i64>; STEPS_MAX + 1];
    let mut latest = None;
    for moment in hits.chunk_by(|one, other| one.ts == other.ts) {
        let Some(ts) = moment.first().map(|hit| hit.ts) else { continue };
        let earliest = begin_min(ts);
        let mut reached = [None::<i64>; STEPS_MAX + 1];
        open[0] = Some(ts);
        for done in 0..steps {
            let Some(begin) = open[done].filter(|begin| *begin >= earliest) else { continue };
            for slot in &mut reached[done + 1..=steps_at_once(moment, done, steps)] {
                *slot = (*slot).max(Some(begin));
            }
        }
        latest = latest.max(reached[steps]);
        if moment.iter().any(|hit| hit.is(steps)) {
            // What was open before this moment cannot go on after it; what is reached at this moment can.
            open = reached;
        } else {
            for (slot, new) in open.iter_mut().zip(reached) {
                *slot = (*slot).max(new);
            }
        }
    }
    latest
}

/// The furthest step that events of one moment take an attempt to which has done `done` steps: as many consecutive steps as can be given
/// an event each (bipartite matching, by augmenting paths).
fn steps_at_once(moment: &[Hit], done: usize, steps: usize) -> usize {
    if let [only] = moment {
        return done + usize::from(only.is(done));
    }
    let mut taken: Vec<Option<usize>> = vec![None; moment.len()];
    for step in done..steps {
        let mut seen = vec![false; moment.len()];
        if !give_event(step, moment, &mut taken, &mut seen) {
            return step;
        }
    }
    steps
}

/// Finds an event for a step, moving steps that have one already to others where needed. The depth is bounded by the steps.
fn give_event(step: usize, moment: &[Hit], taken: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    for at in 0..moment.len() {
        if seen[at] || !moment[at].is(step) {
            continue;
        }
        seen[at] = true;
        if taken[at].is_none_or(|other| give_event(other, moment, taken, seen)) {
            taken[at] = Some(step);
            return true;
        }
    }
    false
}

/// How an attempt came to have done some steps at a moment.
#[derive(Debug, Clone, Copy)]
struct Reached {
    /// The moment before, at which it had done `done` of them; none when it began here.
    from: Option<usize>,
    done: usize,
}

/// A moment of an attempt: the place of its first hit, its hits, and what the attempt had done by then.
type Moment<'h> = (usize, &'h [Hit], [Option<Reached>; STEPS_MAX + 1]);

/// The events of one attempt that began at the moment `begin` and went through all steps, as their places among `hits`, one per step; none
/// when no attempt did. The rest is as for [`latest_sequence`], whose answer is such a moment.
pub fn sequence_from(hits: &[Hit], steps: usize, begin: i64, begin_min: impl Fn(i64) -> i64) -> Option<Vec<usize>> {
    let steps = steps.min(STEPS_MAX);
    let mut moments: Vec<Moment<'_>> = Vec::new();
    // The moment at which so many steps were done, if it may go on from there.
    let mut open = [None::<usize>; STEPS_MAX + 1];
    let mut next = 0;
    for moment in hits.chunk_by(|one, other| one.ts == other.ts) {
        let (first, ts) = (next, moment.first().map_or(begin, |hit| hit.ts));
        next += moment.len();
        if ts < begin {
            continue;
        }
        if begin_min(ts) > begin {
            break;
        }
        let mut reached = [None::<Reached>; STEPS_MAX + 1];
        for done in 0..steps {
            let from = if done == 0 { None } else { open[done] };
            if (done == 0 && ts != begin) || (done > 0 && from.is_none()) {
                continue;
            }
            for slot in &mut reached[done + 1..=steps_at_once(moment, done, steps)] {
                slot.get_or_insert(Reached { from, done });
            }
        }
        let at = moments.len();
        moments.push((first, moment, reached));
        if reached[steps].is_some() {
            return trace(&moments, steps);
        }
        let is_forbidden = moment.iter().any(|hit| hit.is(steps));
        for (slot, new) in open.iter_mut().zip(reached) {
            match new {
                Some(_) => *slot = Some(at),
                None if is_forbidden => *slot = None,
                None => {}
            }
        }
    }
    None
}

/// The events that led to the last moment.
fn trace(moments: &[Moment<'_>], steps: usize) -> Option<Vec<usize>> {
    let mut places = vec![0; steps];
    let (mut at, mut end) = (moments.len().checked_sub(1)?, steps);
    while end > 0 {
        let (first, moment, reached) = moments.get(at)?;
        let Reached { from, done } = reached[end]?;
        let mut taken: Vec<Option<usize>> = vec![None; moment.len()];
        for step in done..end {
            give_event(step, moment, &mut taken, &mut vec![false; moment.len()]).then_some(())?;
        }
        for (place, step) in taken.iter().enumerate().filter_map(|(place, step)| Some((place, (*step)?))) {
            *places.get_mut(step)? = first + place;
        }
        (at, end) = (from.unwrap_or(0), done);
    }
    Some(places)
}
