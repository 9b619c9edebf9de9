//! What becomes of attempts: counts per group, or the persons behind one number.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use segue_engine::funnel::{Attempt, NO_VALUE, Tally};
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;

use super::pass::Collect;
use super::plan::Plan;
use crate::pass::{KeyValue, Values};
use crate::question::QueryError;
use crate::report::ReportLimits;

/// Counts attempts by their breakdown values.
pub(super) struct Tallies {
    steps: usize,
    grouped: bool,
    limits: ReportLimits,
    /// Durations kept by all threads, as far as they have told.
    kept: AtomicUsize,
}

/// Tallies by codes of values; one of no value without a breakdown.
#[derive(Default)]
pub(super) struct Groups {
    /// The group of the attempt before: mostly it is that of the next one.
    last: Option<(u32, Tally)>,
    others: HashMap<u32, Tally>,
    /// Durations that `Tallies::kept` does not know of.
    untold: usize,
    /// Over a limit: what comes now is not counted any more.
    over: bool,
}

impl Groups {
    /// The groups, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Tally)> {
        self.last.iter().map(|(code, tally)| (*code, tally)).chain(self.others.iter().map(|(code, tally)| (*code, tally)))
    }

    fn len(&self) -> usize {
        self.others.len() + usize::from(self.last.is_some())
    }

    /// Notes that so many durations were added to a tally.
    pub(super) fn note(&mut self, durations: u64) {
        self.untold = self.untold.saturating_add(usize::try_from(durations).unwrap_or(usize::MAX));
    }

    /// The tally of a code.
    pub(super) fn tally(&mut self, code: u32, steps: usize) -> &mut Tally {
        if self.last.as_ref().is_some_and(|(last, _)| *last != code)
            && let Some((code, tally)) = self.last.take()
        {
            self.others.insert(code, tally);
        }
        let others = &mut self.others;
        &mut self.last.get_or_insert_with(|| (code, others.remove(&code).unwrap_or_else(|| Tally::new(steps)))).1
    }
}

impl Tallies {
    /// For a plan, within limits.
    pub(super) fn new(plan: &Plan, limits: ReportLimits) -> Tallies {
        Tallies { steps: plan.rule.steps(), grouped: plan.breakdown.is_some(), limits, kept: AtomicUsize::new(0) }
    }

    fn too_many(&self, groups: &Groups) -> bool {
        groups.len().saturating_mul(self.steps) > self.limits.cells_max
    }

    /// Whether so many durations take more memory than they may.
    fn too_much(&self, durations: usize) -> bool {
        durations.saturating_mul(size_of::<u64>()) > self.limits.bytes_max
    }

    /// The groups, unless they went over a limit.
    pub(super) fn checked(&self, groups: Groups) -> Result<Groups, QueryError> {
        if self.too_many(&groups) {
            let (groups, periods, cells_max) = (groups.len(), self.steps, self.limits.cells_max);
            return Err(QueryError::TooManyGroups { groups, periods, cells_max });
        }
        if groups.over || self.too_much(self.kept.load(Ordering::Relaxed) + groups.untold) {
            return Err(QueryError::TooMuchMemory { what: "the durations of conversions", bytes_max: self.limits.bytes_max });
        }
        Ok(groups)
    }
}

impl Collect for Tallies {
    type Collected = Groups;

    fn nothing(&self) -> Groups {
        Groups::default()
    }

    fn take(&self, into: &mut Groups, _person: u32, attempt: &Attempt) {
        const TELL: usize = 4_096;
        if into.over {
            return;
        }
        let code = if self.grouped { attempt.value } else { NO_VALUE };
        into.tally(code, self.steps).add(attempt);
        into.untold += 2 * attempt.done.count_ones() as usize;
        if into.untold >= TELL {
            let known = self.kept.fetch_add(into.untold, Ordering::Relaxed) + into.untold;
            into.untold = 0;
            into.over = self.too_much(known) || self.too_many(into);
        }
    }

    fn merge(&self, into: &mut Groups, from: Groups) {
        into.untold += from.untold;
        into.over |= from.over;
        for (code, tally) in from.last.into_iter().chain(from.others) {
            into.tally(code, self.steps).merge(tally);
        }
    }
}

/// Whose persons are wanted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    step: usize,
    outcome: pb::FunnelOutcome,
    /// Unset: of all groups.
    pub(super) group: Option<pb::GroupKey>,
}

impl Wanted {
    /// Checks a cell against the funnel that it is of.
    pub(super) fn new(plan: &Plan, cell: &pb::FunnelCell) -> Result<Wanted, QueryError> {
        let mut faults = Vec::new();
        let mut fault = |path: &str, description: String| faults.push(FieldViolation::new(path, description));
        let step = cell.step as usize;
        if step == 0 || step > plan.rule.steps() {
            fault("report.funnel.step", format!("1 to {}", plan.rule.steps()));
        }
        let outcome = match pb::FunnelOutcome::try_from(cell.outcome) {
            Ok(pb::FunnelOutcome::Unspecified | pb::FunnelOutcome::Reached) => pb::FunnelOutcome::Reached,
            Ok(outcome) => outcome,
            Err(_) => {
                fault("report.funnel.outcome", "not an outcome of this version".to_owned());
                pb::FunnelOutcome::Reached
            }
        };
        let group = cell.group.clone().filter(|key| key.other || !key.values.is_empty());
        if let Some(key) = &group {
            if plan.breakdown.is_none() {
                fault("report.funnel.group", "the funnel has no breakdown".to_owned());
            } else if key.other != key.values.is_empty() || key.values.len() > 1 {
                fault("report.funnel.group", "one value, or other".to_owned());
            } else if !key.other && key.values.first().and_then(KeyValue::of_group_value).is_none() {
                fault("report.funnel.group.values[0]", "not a value that groups have".to_owned());
            }
        }
        if faults.is_empty() { Ok(Wanted { step, outcome, group }) } else { Err(QueryError::Invalid(faults)) }
    }

    fn is_met_by(&self, attempt: &Attempt) -> bool {
        match self.outcome {
            pb::FunnelOutcome::Unspecified | pb::FunnelOutcome::Reached => attempt.time(self.step).is_some(),
            pb::FunnelOutcome::Stopped => attempt.depth == self.step,
            pb::FunnelOutcome::StillOpen => attempt.depth == self.step && attempt.still_open,
        }
    }
}

/// Groups that are wanted.
#[derive(Debug)]
pub(super) enum Chosen {
    /// Every one.
    All,
    /// This one.
    Only(KeyValue),
    /// All but these.
    Except(Vec<KeyValue>),
}

/// Lists the persons of attempts that meet what is wanted.
pub(super) struct Persons<'w> {
    wanted: &'w Wanted,
    chosen: &'w Chosen,
    codes: RwLock<HashSet<u32>>,
}

impl<'w> Persons<'w> {
    pub(super) fn new(wanted: &'w Wanted, chosen: &'w Chosen) -> Self {
        Persons { wanted, chosen, codes: RwLock::default() }
    }

    /// Learns the codes of the chosen values, before the first attempt.
    pub(super) fn use_codes_of(&self, values: &Values) {
        let mut codes = self.codes.write();
        match self.chosen {
            Chosen::All => {}
            Chosen::Only(value) => codes.extend([values.code(value.clone())]),
            Chosen::Except(shown) => codes.extend(shown.iter().map(|value| values.code(value.clone()))),
        }
    }
}

impl Collect for Persons<'_> {
    type Collected = RoaringBitmap;

    fn nothing(&self) -> RoaringBitmap {
        RoaringBitmap::new()
    }

    fn take(&self, into: &mut RoaringBitmap, person: u32, attempt: &Attempt) {
        let chosen = match self.chosen {
            Chosen::All => true,
            Chosen::Only(_) => self.codes.read().contains(&attempt.value),
            Chosen::Except(_) => !self.codes.read().contains(&attempt.value),
        };
        if chosen && self.wanted.is_met_by(attempt) {
            into.insert(person);
        }
    }

    fn merge(&self, into: &mut RoaringBitmap, from: RoaringBitmap) {
        *into |= from;
    }
}
