//! Where steps lead: to steps that exist, everywhere from the first, and never round and round without a wait.

use std::collections::{BTreeMap, VecDeque};

use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{Step, WaitStep};

use super::compile::Faults;

/// One way out of a step.
#[derive(Debug, Clone)]
struct Way<'d> {
    /// The field that says it, below the step.
    field: String,
    /// Id of the step that it leads to; not empty.
    to: &'d str,
    pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// A run may go it without having waited.
    AtOnce,
    /// Only after a wait.
    Later,
    /// Never: another way is always taken.
    Never,
}

fn ways(step: &Step) -> Vec<Way<'_>> {
    let mut ways: Vec<Way<'_>> = Vec::new();
    let next = match &step.kind {
        Some(Kind::Split(split)) => {
            let arms = split.arms.iter().enumerate();
            ways.extend(arms.map(|(at, arm)| Way { field: format!("split.arms[{at}].next"), to: &arm.next, pace: Pace::AtOnce }));
            Pace::Never
        }
        Some(Kind::Experiment(experiment)) => {
            let variants = experiment.variants.iter().enumerate();
            ways.extend(variants.map(|(at, variant)| Way {
                field: format!("experiment.variants[{at}].next"),
                to: &variant.next,
                pace: Pace::AtOnce,
            }));
            Pace::Never
        }
        Some(Kind::Branch(branch)) => {
            let arms = branch.arms.iter().enumerate();
            ways.extend(arms.map(|(at, arm)| Way { field: format!("branch.arms[{at}].next"), to: &arm.next, pace: Pace::AtOnce }));
            Pace::AtOnce
        }
        Some(Kind::Wait(WaitStep { wait: Some(Wait::ForEvent(wait)) })) => {
            let arms = wait.arms.iter().enumerate();
            ways.extend(arms.map(|(at, arm)| Way { field: format!("wait.for_event.arms[{at}].next"), to: &arm.next, pace: Pace::Later }));
            Pace::Later
        }
        // Whoever lacks the trait does not wait.
        Some(Kind::Wait(WaitStep { wait: Some(Wait::UntilTraitDate(date)) })) if date.otherwise.is_empty() => Pace::AtOnce,
        Some(Kind::Wait(WaitStep { wait: Some(Wait::UntilTraitDate(date)) })) => {
            ways.push(Way { field: "wait.until_trait_date.otherwise".to_owned(), to: &date.otherwise, pace: Pace::AtOnce });
            Pace::Later
        }
        Some(Kind::Wait(_)) => Pace::Later,
        Some(Kind::End(_)) => Pace::Never,
        Some(Kind::Message(_) | Kind::UpdateTrait(_) | Kind::Webhook(_) | Kind::List(_)) | None => Pace::AtOnce,
    };
    ways.push(Way { field: "next".to_owned(), to: &step.next, pace: next });
    ways.retain(|way| !way.to.is_empty());
    ways
}

/// Adds what is wrong with where the steps lead.
pub(super) fn check(faults: &mut Faults, steps: &[Step], positions: &BTreeMap<String, usize>) {
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(steps.len());
    let mut at_once: Vec<Vec<usize>> = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let (mut to_all, mut to_at_once) = (Vec::new(), Vec::new());
        for way in ways(step) {
            let Some(to) = positions.get(way.to) else {
                faults.add(format!("definition.steps[{at}].{}", way.field), format!("there is no step `{}`", shown(way.to)));
                continue;
            };
            match way.pace {
                Pace::Never => {}
                Pace::Later => to_all.push(*to),
                Pace::AtOnce => {
                    to_all.push(*to);
                    to_at_once.push(*to);
                }
            }
        }
        all.push(to_all);
        at_once.push(to_at_once);
    }
    for at in unreachable(&all) {
        let why = "no run comes here: lead to it from a step that is reached, or remove it";
        faults.add(format!("definition.steps[{at}]"), why);
    }
    let mut named = vec![false; steps.len()];
    for at in 0..steps.len() {
        if named[at] {
            continue;
        }
        let Some(cycle) = cycle_through(at, &at_once) else { continue };
        cycle.iter().for_each(|step| named[*step] = true);
        let step_of = |step: &usize| steps.get(*step);
        let ids: Vec<&str> = cycle.iter().chain([&at]).filter_map(step_of).map(|step| step.id.as_str()).collect();
        let waits_for_a_trait = cycle.iter().filter_map(step_of).find(|step| matches!(step.kind, Some(Kind::Wait(_))));
        let what_to_do = match waits_for_a_trait {
            Some(step) => format!("who lacks the trait does not wait in `{}`: let its `otherwise` lead out of the loop", step.id),
            None => "put a wait into it".to_owned(),
        };
        faults.add(format!("definition.steps[{at}]"), format!("a loop without a wait: {}; {what_to_do}", ids.join(" → ")));
    }
}

/// Ids in messages are short.
fn shown(id: &str) -> String {
    id.chars().take(63).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Steps that cannot be reached from the first.
fn unreachable(ways: &[Vec<usize>]) -> Vec<usize> {
    let mut reached = vec![false; ways.len()];
    let mut open = Vec::new();
    if let Some(first) = reached.first_mut() {
        *first = true;
        open.push(0);
    }
    while let Some(at) = open.pop() {
        for to in &ways[at] {
            if !std::mem::replace(&mut reached[*to], true) {
                open.push(*to);
            }
        }
    }
    (0..ways.len()).filter(|at| !reached[*at]).collect()
}

/// The steps of a shortest loop from this one back to it, this one first.
fn cycle_through(start: usize, ways: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut from: Vec<Option<usize>> = vec![None; ways.len()];
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for to in &ways[at] {
            if *to == start {
                let mut cycle = vec![at];
                while let Some(before) = cycle.last().filter(|last| **last != start).and_then(|last| from[*last]) {
                    cycle.push(before);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if from[*to].is_none() {
                from[*to] = Some(at);
                open.push_back(*to);
            }
        }
    }
    None
}
