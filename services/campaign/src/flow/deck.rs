//! The persons and runs of a round in memory: what reaches each person is dealt with in order, all persons side by side, so that what runs
//! have to know can be asked for many at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use segue_model::bucket::Buckets;
use segue_proto::campaign::v1::entry::On;
use segue_proto::events::v1::ResolvedEvent;

use super::definitions::{Definitions, Plan, Scenario};
use super::effects::{Outcome, Reached};
use super::happening::{Entrant, Filling, Happening};
use super::machine::{self, Ask, EndReason, Facts, Input, Next, Run, State};
use super::store::persons::{Entries, EntryKey};
use crate::persons::Profile;

/// A run in memory.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) run: Run,
    pub(crate) scenario: Arc<Scenario>,
    /// None: its version cannot be gone through; it stays where it is.
    pub(crate) plan: Option<Arc<Plan>>,
    /// By (step, arm).
    pub(crate) conditions: BTreeMap<(usize, usize), bool>,
    pub(crate) is_new: bool,
    pub(crate) is_changed: bool,
}

impl Slot {
    /// Whether it is to go on by itself now.
    pub(crate) fn is_due(&self, now_us: i64) -> bool {
        self.may_go() && self.run.ended.is_none() && self.run.due_us.is_some_and(|due_us| due_us <= now_us)
    }

    /// Whether it may do steps.
    pub(crate) fn may_go(&self) -> bool {
        !self.scenario.started.paused
    }
}

/// What is to be known before a person can go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Want {
    Person,
    Assignments,
    /// The conditions of a run's step.
    Step {
        run: u64,
        step: usize,
    },
    /// The condition of a scenario's entry.
    Entry {
        scenario: String,
        version: u32,
    },
}

/// What happens to a run.
#[derive(Debug, Clone)]
enum Going {
    Go,
    Event(Arc<ResolvedEvent>),
    Moved { audience: Arc<str>, entered: bool },
    End(EndReason),
}

/// A person of the round.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) happenings: VecDeque<Happening>,
    pub(crate) runs: Vec<u64>,
    going: Vec<(u64, Going)>,
    pub(crate) profile: Option<Arc<Profile>>,
    /// (scenario, step, variant).
    pub(crate) assigned: Option<Vec<(String, String, String)>>,
    /// By scenario and version: whether the condition of the entry is met.
    pub(crate) entry_met: BTreeMap<(String, u32), bool>,
    /// Goals that the present event has reached.
    reached: Vec<Reached>,
    is_done: bool,
    /// What it wants cannot be learned now.
    pub(crate) is_stuck: bool,
}

/// The persons and runs of a round.
pub(crate) struct Deck {
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) now_us: i64,
    steps_max: u32,
    pub(crate) slots: HashMap<u64, Slot>,
    pub(crate) queues: BTreeMap<u32, Queue>,
    pub(crate) entries: HashMap<EntryKey, Entries>,
    /// The last number given out.
    pub(crate) numbers: u64,
    buckets: HashMap<String, Buckets>,
    pub(crate) outcome: Outcome,
}

impl Deck {
    pub(crate) fn new(definitions: Arc<Definitions>, now_us: i64, steps_max: u32, numbers: u64) -> Self {
        Self {
            definitions,
            now_us,
            steps_max,
            slots: HashMap::new(),
            queues: BTreeMap::new(),
            entries: HashMap::new(),
            numbers,
            buckets: HashMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Puts a run in. One whose scenario nobody knows is left alone.
    pub(crate) fn add_run(&mut self, run: Run, is_new: bool) {
        if self.slots.contains_key(&run.id) {
            return;
        }
        let Some(scenario) = self.definitions.get(&run.scenario).cloned() else { return };
        let plan = scenario.plans.get(&run.version).cloned();
        self.queues.entry(run.person).or_default().runs.push(run.id);
        let slot = Slot { scenario, plan, conditions: BTreeMap::new(), is_new, is_changed: is_new, run };
        self.slots.insert(slot.run.id, slot);
    }

    /// Lets something reach a person, after everything that did so far.
    pub(crate) fn add(&mut self, person: u32, happening: Happening) {
        self.queues.entry(person).or_default().happenings.push_back(happening);
    }

    /// Deals with everything that can be dealt with by what is known. Answers what is wanted for more.
    pub(crate) fn sweep(&mut self) -> Vec<(u32, Want)> {
        let mut wants = Vec::new();
        let mut queues = std::mem::take(&mut self.queues);
        for (person, queue) in queues.iter_mut().filter(|(_, queue)| !queue.is_done && !queue.is_stuck) {
            // Runs without an order of their own go by id: older ones first.
            queue.runs.sort_unstable();
            queue.is_done = self.work(*person, queue, &mut wants);
        }
        self.queues = queues;
        wants
    }

    /// Whether the person has nothing left to do.
    fn work(&mut self, person: u32, queue: &mut Queue, wants: &mut Vec<(u32, Want)>) -> bool {
        loop {
            for (id, input) in std::mem::take(&mut queue.going) {
                if let Some(ask) = self.go_on(queue, id, &input) {
                    wants.push((
                        person,
                        match ask {
                            Ask::Person => Want::Person,
                            Ask::Assignments => Want::Assignments,
                            Ask::Conditions { step } => Want::Step { run: id, step },
                        },
                    ));
                    queue.going.push((id, Going::Go));
                }
            }
            if !queue.going.is_empty() {
                return false;
            }
            self.outcome.settle(std::mem::take(&mut queue.reached));
            let Some(happening) = queue.happenings.pop_front() else { return true };
            if let Some(want) = self.begin(person, queue, happening) {
                wants.push((person, want));
                return false;
            }
        }
    }

    /// Begins with what happens next, or says what has to be known for it: then it is next again.
    fn begin(&mut self, person: u32, queue: &mut Queue, happening: Happening) -> Option<Want> {
        match happening {
            Happening::Event(event) => {
                let is_wanted = |slot: &Slot| slot.plan.as_ref().is_some_and(|plan| plan.wants_event(&event.name));
                self.let_go(queue, is_wanted, &Going::Event(event.clone()));
                for entrant in entrants(&self.definitions, &event, self.now_us).into_iter().rev() {
                    queue.happenings.push_front(Happening::Enter(entrant));
                }
            }
            Happening::Moved { audience, entered, held_out, time_us } => {
                let is_wanted = |slot: &Slot| slot.plan.as_ref().is_some_and(|plan| plan.wants_audience(&audience));
                self.let_go(queue, is_wanted, &Going::Moved { audience: audience.clone(), entered });
                let moved = (&*audience, entered, time_us);
                let entrants = if held_out { Vec::new() } else { entrants_by(&self.definitions, moved, self.now_us) };
                for entrant in entrants.into_iter().rev() {
                    queue.happenings.push_front(Happening::Enter(entrant));
                }
            }
            Happening::Enter(entrant) => return self.enter(person, queue, entrant),
            Happening::Go(run) => {
                if self.slots.get(&run).is_some_and(Slot::may_go) {
                    queue.going.push((run, Going::Go));
                }
            }
            Happening::End(run, reason) => queue.going.push((run, Going::End(reason))),
            Happening::Exit { scenario, entry_key } => {
                let is_meant = |slot: &Slot| {
                    slot.run.scenario == scenario && entry_key.as_ref().is_none_or(|entry_key| slot.run.entry_key == *entry_key)
                };
                self.let_go(queue, is_meant, &Going::End(EndReason::ExitCall));
            }
            Happening::Fill(filling) => return self.fill(person, queue, filling),
        }
        None
    }

    fn let_go(&self, queue: &mut Queue, is_meant: impl Fn(&Slot) -> bool, input: &Going) {
        let meant = queue.runs.iter().filter(|run| self.slots.get(*run).is_some_and(&is_meant));
        queue.going.extend(meant.map(|run| (*run, input.clone())));
    }

    /// Sets a trait to what its template says.
    fn fill(&mut self, person: u32, queue: &mut Queue, filling: Filling) -> Option<Want> {
        let Some(profile) = queue.profile.clone() else {
            queue.happenings.push_front(Happening::Fill(filling));
            return Some(Want::Person);
        };
        self.outcome.fill(person, &profile, filling);
        None
    }

    /// Lets somebody enter, if they may.
    fn enter(&mut self, person: u32, queue: &mut Queue, entrant: Entrant) -> Option<Want> {
        let scenario = self.definitions.get(&entrant.scenario).cloned()?;
        let is_open = !scenario.started.ended && (entrant.is_called || !scenario.started.paused);
        let plan = scenario.plans.get(&scenario.started.version).filter(|_| is_open)?;
        let compiled = &plan.compiled;
        let key: EntryKey = (person, entrant.scenario.clone(), entrant.entry_key.clone());
        let known = self.entries.get(&key).copied().unwrap_or_default();
        let is_active = known.active != 0 && self.slots.get(&known.active).is_none_or(|slot| slot.run.ended.is_none());
        let last_entered_us = (known.entry > 0).then_some(known.last_entered_us);
        if !machine::may_enter(compiled, last_entered_us, is_active, entrant.time_us) {
            return None;
        }
        let has_condition = compiled.definition.entry.as_ref().is_some_and(|entry| entry.only_if.is_some());
        if has_condition && !entrant.is_met {
            let of = (entrant.scenario.clone(), compiled.version);
            match queue.entry_met.get(&of) {
                Some(true) => {}
                Some(false) => return None,
                None => {
                    queue.happenings.push_front(Happening::Enter(entrant));
                    return Some(Want::Entry { scenario: of.0, version: of.1 });
                }
            }
        }
        self.numbers += 1;
        let salt = || Buckets::new(&format!("scenario:{}", entrant.scenario));
        let bucket = self.buckets.entry(entrant.scenario.clone()).or_insert_with(salt).bucket(person);
        let run = Run {
            id: self.numbers,
            scenario: entrant.scenario,
            version: compiled.version,
            person,
            entry_key: entrant.entry_key,
            entry: known.entry.saturating_add(1),
            entered_us: entrant.time_us,
            held_out: bucket < compiled.definition.holdout,
            state: State { event: entrant.event, ..State::default() },
            due_us: None,
            ended: None,
        };
        let entries =
            Entries { entry: run.entry, last_entered_us: run.entered_us.max(last_entered_us.unwrap_or(i64::MIN)), active: run.id };
        self.entries.insert(key, entries);
        queue.runs.push(run.id);
        queue.going.push((run.id, Going::Go));
        let slot =
            Slot { plan: Some(plan.clone()), scenario: scenario.clone(), conditions: BTreeMap::new(), is_new: true, is_changed: true, run };
        self.slots.insert(slot.run.id, slot);
        None
    }

    /// Lets a run go on; what it wants to know, if it does.
    fn go_on(&mut self, queue: &mut Queue, id: u64, input: &Going) -> Option<Ask> {
        let slot = self.slots.get_mut(&id)?;
        let Some(plan) = slot.plan.clone() else {
            // Only ending needs no plan.
            if let (Going::End(reason), None) = (input, slot.run.ended) {
                slot.run.ended = Some((self.now_us, *reason));
                slot.is_changed = true;
                self.outcome.dropped.push(id);
            }
            return None;
        };
        let (visits, before) = (slot.run.state.visits, (slot.run.ended, slot.run.due_us, slot.run.state.converted.len()));
        let was_waiting = slot.run.state.waiting;
        let passed = (slot.run.state.variants.clone(), slot.run.state.last_variant.clone());
        let mut facts = Facts { person: queue.profile.as_deref(), conditions: std::mem::take(&mut slot.conditions), ..Facts::default() };
        if let Some(assigned) = &queue.assigned {
            let own = assigned.iter().filter(|(scenario, ..)| *scenario == slot.run.scenario);
            facts.assigned = own.map(|(_, step, variant)| (step.clone(), variant.clone())).collect();
            facts.assignments_known = true;
        }
        let machine_input = match input {
            Going::Go => Input::Go,
            Going::Event(event) => Input::Event(event),
            Going::Moved { audience, entered } => Input::Audience { audience, entered: *entered },
            Going::End(reason) => Input::End(*reason),
        };
        let steps_max = if slot.may_go() { self.steps_max } else { 0 };
        let mut effects = Vec::new();
        let next = machine::advance(&plan.compiled, &mut slot.run, machine_input, &facts, self.now_us, steps_max, &mut effects);
        slot.conditions = facts.conditions;
        let after = (slot.run.ended, slot.run.due_us, slot.run.state.converted.len());
        slot.is_changed |= slot.run.state.visits != visits || before != after || was_waiting != slot.run.state.waiting;
        self.outcome.steps += u64::from(slot.run.state.visits.saturating_sub(visits));
        if before.0.is_none() && slot.run.ended.is_some_and(|(_, reason)| is_exit(reason)) {
            self.outcome.dropped.push(id);
        }
        self.outcome.take(slot, &plan, effects, passed, self.now_us, &mut queue.assigned, &mut queue.reached, &mut queue.happenings);
        match next {
            Next::Rest => None,
            Next::Ask(ask) => Some(ask),
        }
    }

    /// What is left of persons who are stuck: it is to be held back. Their runs are due.
    pub(crate) fn left(&mut self) -> Vec<(u32, Happening)> {
        let mut left = Vec::new();
        for (person, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.is_stuck) {
            self.outcome.settle(std::mem::take(&mut queue.reached));
            for (run, _) in queue.going.drain(..) {
                if let Some(slot) = self.slots.get_mut(&run).filter(|slot| slot.run.ended.is_none()) {
                    slot.run.due_us.get_or_insert(self.now_us);
                    slot.is_changed = true;
                }
            }
            left.extend(queue.happenings.drain(..).map(|happening| (*person, happening)));
        }
        left
    }
}

/// Whether what a run has planned is not to be sent any more.
fn is_exit(reason: EndReason) -> bool {
    match reason {
        EndReason::ExitRule | EndReason::ScenarioEnded | EndReason::ExitCall | EndReason::Merged => true,
        EndReason::Completed | EndReason::NoStep => false,
    }
}

/// Whom an event lets enter what.
pub(crate) fn entrants(definitions: &Definitions, event: &ResolvedEvent, now_us: i64) -> Vec<Entrant> {
    let mut entrants = Vec::new();
    for (id, scenario) in &definitions.scenarios {
        let Some(plan) = scenario.open() else { continue };
        if event.time_us < scenario.started.started_us || !plan.wants_event(&event.name) {
            continue;
        }
        if let Some(entry_key) = machine::enters(&plan.compiled, event) {
            entrants.push(Entrant {
                scenario: id.clone(),
                entry_key,
                time_us: event.time_us.min(now_us),
                event: machine::entered_by(event),
                is_met: false,
                is_called: false,
            });
        }
    }
    entrants
}

/// Whom entering or leaving an audience at a time lets enter what.
pub(crate) fn entrants_by(definitions: &Definitions, (audience, entered, time_us): (&str, bool, i64), now_us: i64) -> Vec<Entrant> {
    let is_meant = |scenario: &Scenario| {
        let plan = scenario.open().filter(|_| time_us >= scenario.started.started_us);
        plan.and_then(|plan| plan.entry()).is_some_and(|on| match on {
            On::Audience(entry) => entry.audience == audience && entry.on_leaving != entered,
            On::Event(_) | On::Schedule(_) | On::Call(_) => false,
        })
    };
    let meant = definitions.scenarios.iter().filter(|(_, scenario)| is_meant(scenario));
    meant.map(|(id, _)| entrant(id, time_us.min(now_us))).collect()
}

/// Somebody who enters without an event.
pub(crate) fn entrant(scenario: &str, time_us: i64) -> Entrant {
    let event = machine::Entered { time_us, ..machine::Entered::default() };
    Entrant { scenario: scenario.to_owned(), entry_key: String::new(), time_us, event, is_met: false, is_called: false }
}
