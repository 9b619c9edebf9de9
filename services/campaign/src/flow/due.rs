//! Which runs are due, scenario by scenario, and when to try again those that could not go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::deck::Slot;

/// After a failure that may pass.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// After one that will not pass by itself soon.
pub(crate) const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Which runs of a scenario are due.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// None is before this.
    next_us: i64,
    /// Runs up to this (due, id) cannot go on now: what they need to know cannot be learned.
    after: (i64, u64),
}

impl Default for Due {
    fn default() -> Self {
        Self { next_us: i64::MIN, after: (i64::MIN, 0) }
    }
}

/// Which runs of a tenant are due.
#[derive(Debug, Default)]
pub(crate) struct DueRuns {
    by_scenario: BTreeMap<String, Due>,
    /// Some could not go on: when they are tried again, and how long the pause before is.
    retry: Option<(Instant, Duration)>,
}

impl DueRuns {
    /// These are the scenarios.
    pub(crate) fn keep<'s>(&mut self, scenarios: impl Iterator<Item = &'s str>) {
        let known = |scenario: &str| self.by_scenario.get(scenario).copied().unwrap_or_default();
        self.by_scenario = scenarios.map(|scenario| (scenario.to_owned(), known(scenario))).collect();
    }

    /// Whether runs of scenarios that go on may be due.
    pub(crate) fn is_any(&self, now_us: i64, is_going: impl Fn(&str) -> bool) -> bool {
        self.by_scenario.iter().any(|(scenario, due)| due.next_us <= now_us && is_going(scenario))
    }

    /// Scenarios that go on and whose runs may be due, the earliest first, and behind which (due, id) to look.
    pub(crate) fn of(&self, now_us: i64, is_going: impl Fn(&str) -> bool) -> Vec<(String, (i64, u64))> {
        let mut due: Vec<_> = self.by_scenario.iter().filter(|(scenario, due)| due.next_us <= now_us && is_going(scenario)).collect();
        due.sort_by_key(|(_, due)| due.next_us);
        due.into_iter().map(|(scenario, due)| (scenario.clone(), due.after)).collect()
    }

    /// Behind which (due, id) of a scenario to look.
    pub(crate) fn after(&self, scenario: &str) -> (i64, u64) {
        self.by_scenario.get(scenario).copied().unwrap_or_default().after
    }

    /// The next run of a scenario is due then; None: there is none.
    pub(crate) fn set_next(&mut self, scenario: &str, next_us: Option<i64>) {
        if let Some(due) = self.by_scenario.get_mut(scenario) {
            due.next_us = next_us.unwrap_or(i64::MAX);
        }
    }

    /// Notes when runs are due that were written.
    pub(crate) fn note<'s>(&mut self, slots: impl Iterator<Item = &'s Slot>, stuck: &BTreeSet<u32>) {
        for slot in slots.filter(|slot| slot.run.ended.is_none()) {
            let (Some(due_us), Some(due)) = (slot.run.due_us, self.by_scenario.get_mut(&slot.run.scenario)) else { continue };
            if stuck.contains(&slot.run.person) {
                due.after = due.after.max((due_us, slot.run.id));
            } else {
                due.next_us = due.next_us.min(due_us);
            }
        }
    }

    /// Some could not go on: they are tried again after a pause that grows. Or all could.
    pub(crate) fn note_stuck(&mut self, is_stuck: bool) {
        self.retry = match self.retry {
            None if is_stuck => Some((Instant::now() + RETRY_PAUSE, RETRY_PAUSE)),
            Some((at, pause)) if is_stuck && at <= Instant::now() => {
                let pause = (pause * 2).min(FAILURE_PAUSE);
                Some((Instant::now() + pause, pause))
            }
            Some((at, _)) if at <= Instant::now() => None,
            waiting => waiting,
        };
    }

    /// Looks at everybody again who could not go on, if it is time to.
    pub(crate) fn retry(&mut self) -> bool {
        let is_time = self.is_stuck() && self.may_try();
        if is_time {
            self.by_scenario.values_mut().for_each(|due| *due = Due::default());
        }
        is_time
    }

    /// Whether some wait for what cannot be learned.
    pub(crate) fn is_stuck(&self) -> bool {
        self.retry.is_some()
    }

    /// Whether what could not be learned may be asked for now.
    pub(crate) fn may_try(&self) -> bool {
        self.retry.is_none_or(|(at, _)| at <= Instant::now())
    }
}
