//! Whether runs did what they had to: who entered by what, each step once and in order, no sooner and no later than the script allows, and
//! why they ended. Where a moment is uncertain, it is so by as much as clocks differ.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use super::SECOND_US;
use super::case::{Case, Seen};
use super::script::{Node, Plan};
use crate::flow::machine::{EndReason, Run, Visited};
use crate::sends;

/// The clock goes back by up to 5 s, and each process's differs from it by up to 3 s.
const UNCERTAIN_US: i64 = 12 * SECOND_US;

/// What the steps of all runs come to.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// By id of the send.
    pub(super) sends: BTreeMap<String, PlannedSend>,
    pub(super) traits: usize,
    pub(super) lists: usize,
}

#[derive(Debug, Clone)]
pub(super) struct PlannedSend {
    pub(super) run: u64,
    pub(super) node: Node,
    /// Who entered.
    pub(super) person: u32,
    pub(super) end: EndReason,
}

pub(super) fn check(case: &Case<'_>, runs: &[Run]) -> Result<Planned> {
    let mut planned = Planned::default();
    let mut entered: BTreeSet<(usize, &str)> = BTreeSet::new();
    for run in runs {
        let one = Walked::new(case, run).and_then(|walked| {
            ensure!(entered.insert((walked.scenario, &walked.by.id)), "it was entered twice by {}", walked.by.id);
            walked.check(&mut planned)
        });
        one.with_context(|| format!("run {run:?}"))?;
    }
    for (at, plan) in case.script.scenarios.iter().enumerate() {
        let of: Vec<Walked<'_>> = runs
            .iter()
            .map(|run| Walked::new(case, run))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .filter(|one| one.scenario == at)
            .collect();
        for (order, seen) in case.seen.iter().enumerate() {
            let lets_enter = seen.is_cart && if plan.by_call { seen.scenario == Some(at) } else { seen.scenario.is_none() };
            if lets_enter && (plan.by_call || seen.time_us >= super::NOW_US) {
                entry(case, plan, &of, order, seen).with_context(|| format!("scenario {at}, {seen:?}"))?;
            }
        }
    }
    Ok(planned)
}

/// Whoever had to enter did.
fn entry(case: &Case<'_>, plan: &Plan, runs: &[Walked<'_>], order: usize, seen: &Seen) -> Result<()> {
    let selves = case.selves(seen.person);
    let alike: Vec<&Walked<'_>> =
        runs.iter().filter(|one| selves.contains(&one.by.person) && (!plan.is_keyed || one.by.key == seen.key)).collect();
    if selves.len() > 1 {
        // Which of them came first, and whether they were one already, the script does not say.
        ensure!(!alike.is_empty(), "nobody entered");
        return Ok(());
    }
    if alike.iter().any(|one| one.order == order) {
        return Ok(());
    }
    let mut before = alike.iter().filter(|one| one.order < order);
    let is_taken = match plan.again {
        false => before.next().is_some(),
        true => before.any(|one| one.run.ended.is_some_and(|(ended_us, _)| ended_us >= seen.known_us - UNCERTAIN_US)),
    };
    ensure!(is_taken, "they had to enter, and did not; others: {:?}", alike.iter().map(|one| one.run).collect::<Vec<_>>());
    Ok(())
}

/// A run with what the script has about it.
struct Walked<'c> {
    case: &'c Case<'c>,
    run: &'c Run,
    scenario: usize,
    plan: &'c Plan,
    /// What it was entered by, and which of what came in that was.
    by: &'c Seen,
    order: usize,
}

impl<'c> Walked<'c> {
    fn new(case: &'c Case<'c>, run: &'c Run) -> Result<Self> {
        let scenario: usize = run.scenario.trim_start_matches('s').parse()?;
        let plan = &case.script.scenarios[scenario];
        let is_meant = |seen: &Seen| seen.id == run.state.event.message_id;
        let order = case.seen.iter().position(is_meant).with_context(|| format!("it was entered by nothing: {run:?}"))?;
        Ok(Self { case, run, scenario, plan, by: &case.seen[order], order })
    }

    fn check(&self, planned: &mut Planned) -> Result<()> {
        let (run, plan, by) = (self.run, self.plan, self.by);
        ensure!(by.is_cart && by.scenario == plan.by_call.then_some(self.scenario), "it was entered by what lets nobody enter");
        ensure!(run.person == self.case.survivor[&by.person], "it is somebody else's");
        let key = if plan.is_keyed { format!("k{}", by.key) } else { String::new() };
        ensure!(run.entry_key == key, "its key is another");
        ensure!(run.entered_us == by.time_us, "it was entered at another time");
        let Some((ended_us, end)) = run.ended else { bail!("it has not ended") };
        let mut at = 0;
        let mut before_us = None;
        for visited in &run.state.history {
            let Some(node) = plan.nodes.get(at) else { bail!("it went on behind its last step") };
            ensure!(visited.step == Plan::step_id(at), "after {at} steps it was at another");
            at = self.visit(at, *node, visited, before_us, planned, end)?;
            before_us = Some(visited.time_us);
        }
        ensure!(run.state.visits as usize == run.state.history.len(), "it counts other steps");
        match end {
            EndReason::Completed => ensure!(at == plan.nodes.len(), "it ended before its last step"),
            EndReason::ExitRule => ensure!(plan.leaves && self.buys().next().is_some(), "nobody bought"),
            EndReason::Merged => ensure!(self.case.selves(by.person).len() > 1, "nobody was merged"),
            EndReason::ScenarioEnded | EndReason::ExitCall | EndReason::NoStep => bail!("it ended for no reason"),
        }
        let completed_us = (end == EndReason::Completed).then_some(ended_us);
        self.left_in_time(completed_us)
    }

    /// One step that was done: what it comes to, and where it leads.
    fn visit(
        &self,
        at: usize,
        node: Node,
        visited: &Visited,
        before_us: Option<i64>,
        planned: &mut Planned,
        end: EndReason,
    ) -> Result<usize> {
        let (run, decision) = (self.run, visited.decision.as_str());
        let least_us = before_us.unwrap_or(run.entered_us) - UNCERTAIN_US;
        let waited = |minutes: u32| visited.time_us >= least_us + i64::from(minutes) * 60 * SECOND_US;
        ensure!(visited.time_us >= least_us, "{visited:?} was before what comes before it");
        match node {
            Node::Message { .. } | Node::Webhook => {
                let visit = run.state.history.iter().position(|one| one == visited).map_or(0, |nth| nth + 1);
                let id = sends::id(&run.scenario, &visited.step, run.id, &format!("{}.{visit}", run.entry));
                ensure!(decision == format!("send {id}"), "{visited:?} sends something else than {id}");
                let one = PlannedSend { run: run.id, node, person: self.by.person, end };
                ensure!(planned.sends.insert(id, one).is_none(), "{visited:?} is sent twice");
            }
            Node::Trait { .. } => planned.traits += 1,
            Node::List => planned.lists += 1,
            Node::Wait { minutes } => ensure!(decision == "waited" && waited(minutes), "{visited:?} was too soon"),
            Node::Event { to, .. } if decision == "arm 1" => {
                ensure!(self.buys().next().is_some(), "nobody bought, and {visited:?}");
                return Ok(to);
            }
            Node::Event { minutes, .. } => {
                ensure!(decision == "timed out" && waited(minutes), "{visited:?} was too soon");
                self.bought_in_time(visited, before_us.unwrap_or(i64::MAX), minutes)?;
            }
        }
        Ok(at + 1)
    }

    /// What this run has heard of buying, sooner or later.
    fn buys(&self) -> impl Iterator<Item = (usize, &Seen)> {
        let selves = self.case.selves(self.by.person);
        let concerns = move |seen: &Seen| {
            let is_of_key = !self.plan.is_keyed || seen.key == self.by.key;
            !seen.is_cart && selves.contains(&seen.person) && is_of_key && seen.time_us >= self.run.entered_us
        };
        self.case.seen.iter().enumerate().filter(move |(_, seen)| concerns(seen))
    }

    /// Those that came in behind what it was entered by, and surely for it. Of calls nobody knows what they came in behind.
    fn sure_buys(&self) -> impl Iterator<Item = &Seen> {
        let is_sure = self.case.selves(self.by.person).len() == 1 && !self.plan.by_call;
        self.buys().filter(move |(order, _)| is_sure && *order > self.order).map(|(_, seen)| seen)
    }

    /// Nothing is done after they have bought, where buying is a reason to leave. What came in together (nobody had the tenant, say) is
    /// dealt with in its order at one moment: whoever enters by it goes as far as they can before they leave by it.
    fn left_in_time(&self, completed_us: Option<i64>) -> Result<()> {
        if !self.plan.leaves {
            return Ok(());
        }
        let begun_us = self.run.state.history.first().map_or(i64::MAX, |visited| visited.time_us);
        for bought in self.sure_buys() {
            let late = |time_us: i64| time_us > (bought.known_us + UNCERTAIN_US).max(begun_us);
            let done = self.run.state.history.iter().find(|visited| late(visited.time_us));
            ensure!(done.is_none() && !completed_us.is_some_and(late), "it went on after {bought:?}");
        }
        Ok(())
    }

    /// The wait for buying did not end by itself although they had bought while it lasted.
    fn bought_in_time(&self, left: &Visited, begun_us: i64, minutes: u32) -> Result<()> {
        if self.plan.leaves || !self.case.script.jumps_between_rounds {
            return Ok(());
        }
        let due_us = begun_us.saturating_add(i64::from(minutes) * 60 * SECOND_US);
        for bought in self.sure_buys() {
            let is_in_it = bought.known_us - UNCERTAIN_US > begun_us && bought.time_us <= due_us;
            ensure!(!(is_in_it && left.time_us > bought.known_us + UNCERTAIN_US), "{left:?} overtook {bought:?}");
        }
        Ok(())
    }
}
