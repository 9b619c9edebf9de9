//! What a round deals with: what came in, what was called for, what is due, and what was held back; with the runs that it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use segue_proto::events::v1::ResolvedEvent;

use super::deck::{Deck, entrants, entrants_by};
use super::happening::{Entrant, Happening};
use super::incoming::Incoming;
use super::machine::{EndReason, Run};
use super::store::persons::EntryKey;
use super::store::runs::{self, NEVER_US};
use super::store::work::{self, Command, CommandBody, ScenarioRow, Wave, WaveBody};
use super::store::{self};
use super::waves::go_on;
use super::worker::Worker;
use crate::error::CampaignError;
use crate::scenarios;

/// Persons who move between audiences at once and are dealt with at once; more are a wave.
const MOVED_MAX: u64 = 1_000;
/// Commands that one round carries out.
const COMMANDS_MAX: i64 = 256;
/// Late events count for goals of runs that ended up to so long before their windows closed.
const LATE_US: i64 = 24 * 3_600 * 1_000_000;

/// What a round deals with beside persons and runs.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// New.
    pub(crate) waves: Vec<Wave>,
    /// Up to which person waves were dealt with; None: all.
    pub(crate) moved_waves: Vec<(u64, Option<u32>)>,
    /// Calls up to this one were.
    pub(crate) calls: Option<i64>,
    /// What is left of commands.
    pub(crate) commands: Vec<(i64, Option<CommandBody>)>,
    pub(crate) scenarios: Vec<ScenarioRow>,
    /// What was held back and is dealt with now.
    pub(crate) freed: Vec<u64>,
    /// Scenarios of which every due run is here.
    pub(crate) all_due: BTreeSet<String>,
    /// Ended scenarios of which every active run is here.
    pub(crate) all_ended: BTreeSet<String>,
    /// There is more than a round takes.
    pub(crate) is_more: bool,
    /// Something is put off until what it needs can be reached.
    pub(crate) problem: Option<CampaignError>,
}

impl Work {
    /// Whether nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.waves.is_empty()
            && self.moved_waves.is_empty()
            && self.calls.is_none()
            && self.commands.is_empty()
            && self.scenarios.is_empty()
            && self.freed.is_empty()
    }
}

/// Puts everything that a round deals with into the deck.
pub(crate) async fn gather(worker: &mut Worker, deck: &mut Deck) -> Result<Work, CampaignError> {
    let mut work = Work::default();
    let mut reaching: Vec<(u32, Happening)> = Vec::new();
    incoming(worker, deck, &mut work, &mut reaching);
    go_on(worker, deck, &mut work, &mut reaching).await?;
    calls(worker, &mut work, &mut reaching).await?;
    let moves = commands(worker, &mut work, &mut reaching).await?;
    redirect(worker, &mut reaching).await?;
    held(worker, deck, &mut work, &reaching).await?;
    load_runs(worker, deck, &reaching).await?;
    for command in moves {
        move_runs(worker, deck, &mut work, command).await?;
    }
    for (person, happening) in reaching {
        deck.add(person, happening);
    }
    ended(worker, deck, &mut work).await?;
    // What came in is dealt with first: an event in time is not to be overtaken by the end of the wait for it.
    if worker.may_follow_time() {
        due(worker, deck, &mut work).await?;
    } else {
        work.is_more = true;
    }
    load_entries(worker, deck).await?;
    Ok(work)
}

/// What the log brought; merges were dealt with before.
fn incoming(worker: &Worker, deck: &mut Deck, work: &mut Work, reaching: &mut Vec<(u32, Happening)>) {
    for happened in &worker.pending {
        match happened {
            Incoming::Event(event) => reaching.push((event.person, Happening::Event(event.clone()))),
            Incoming::Moved(moved) if worker.has_waves || !work.waves.is_empty() || moved.persons.len() > MOVED_MAX => {
                deck.numbers += 1;
                let body = WaveBody::Moved {
                    audience: moved.audience.to_string(),
                    entered: moved.entered,
                    held_out: moved.held_out,
                    time_us: moved.time_us,
                };
                work.waves.push(Wave { number: deck.numbers, body, persons: moved.persons.clone(), after_person: 0 });
            }
            Incoming::Moved(moved) => {
                let (entered, held_out, time_us) = (moved.entered, moved.held_out, moved.time_us);
                let happening = || Happening::Moved { audience: moved.audience.clone(), entered, held_out, time_us };
                reaching.extend(moved.persons.iter().map(|person| (person, happening())));
            }
            Incoming::Merged { .. } | Incoming::Unmerged { .. } => {}
        }
    }
}

async fn calls(worker: &Worker, work: &mut Work, reaching: &mut Vec<(u32, Happening)>) -> Result<(), CampaignError> {
    let most = worker.shared.config.round_runs_max;
    let calls = scenarios::calls(&worker.shared.db, &worker.tenant, worker.row.calls, most).await?;
    work.is_more |= calls.len() == most;
    work.calls = calls.last().map(|call| call.sequence);
    for call in calls {
        let entrant = Entrant {
            scenario: call.scenario,
            entry_key: call.entry_key,
            time_us: call.event.time_us,
            event: call.event,
            is_met: false,
            is_called: true,
        };
        reaching.push((call.person, Happening::Enter(entrant)));
    }
    Ok(())
}

/// Commands about persons happen to them; the others are answered with.
async fn commands(worker: &Worker, work: &mut Work, reaching: &mut Vec<(u32, Happening)>) -> Result<Vec<Command>, CampaignError> {
    let mut moves = Vec::new();
    for command in work::commands(&worker.shared.db, &worker.tenant, COMMANDS_MAX).await? {
        work.is_more = true;
        match command.body {
            CommandBody::Exit { scenario, person, entry_key } => {
                reaching.push((person, Happening::Exit { scenario, entry_key }));
                work.commands.push((command.number, None));
            }
            CommandBody::Move { .. } => moves.push(command),
        }
    }
    // One after the other: what one moves, the next may move on.
    moves.truncate(1);
    Ok(moves)
}

/// What comes under the number of somebody who was merged is the survivor's.
async fn redirect(worker: &Worker, reaching: &mut [(u32, Happening)]) -> Result<(), CampaignError> {
    let persons: BTreeSet<u32> = reaching.iter().map(|(person, _)| *person).collect();
    let survivors = store::persons::survivors(&worker.shared.db, &worker.tenant, &persons).await?;
    if !survivors.is_empty() {
        for (person, _) in reaching {
            *person = survivors.get(person).copied().unwrap_or(*person);
        }
    }
    Ok(())
}

/// What was held back comes before what is new, and the runs that it waited for come first.
async fn held(worker: &mut Worker, deck: &mut Deck, work: &mut Work, reaching: &[(u32, Happening)]) -> Result<(), CampaignError> {
    if !worker.has_held {
        return Ok(());
    }
    let db = &worker.shared.db;
    let most = worker.shared.config.round_runs_max;
    let (mut persons, last) = store::persons::held_persons(db, &worker.tenant, worker.held_after, most).await?;
    if persons.is_empty() && !worker.due.is_stuck() {
        worker.has_held = false;
        worker.held_after = 0;
        return Ok(());
    }
    work.is_more |= !persons.is_empty();
    worker.held_after = last;
    persons.extend(reaching.iter().map(|(person, _)| *person));
    let held = store::persons::held(db, &worker.tenant, &persons).await?;
    let whose: BTreeSet<u32> = held.iter().map(|held| held.person).collect();
    let now_us = deck.now_us;
    for row in runs::of_persons(db, &worker.tenant, &whose, now_us.saturating_sub(LATE_US)).await? {
        let (run, _) = row.read()?;
        let is_due = run.ended.is_none() && run.due_us.is_some_and(|due_us| due_us <= now_us);
        let (id, person) = (run.id, run.person);
        deck.add_run(run, false);
        if is_due {
            deck.add(person, Happening::Go(id));
        }
    }
    for held in held {
        work.freed.push(held.number);
        deck.add(held.person, Happening::of_text(&held.body)?);
    }
    Ok(())
}

/// The runs of everybody whom something reaches that may concern them.
async fn load_runs(worker: &Worker, deck: &mut Deck, reaching: &[(u32, Happening)]) -> Result<(), CampaignError> {
    let plans = || deck.definitions.scenarios.values().flat_map(|scenario| scenario.plans.values());
    let mut of_audience: HashMap<&str, bool> = HashMap::new();
    let concerns = |happening: &Happening, known: &mut HashMap<&str, bool>| match happening {
        Happening::Event(_) | Happening::Exit { .. } => true,
        Happening::Moved { audience, .. } => match known.get(&**audience) {
            Some(known) => *known,
            None => plans().any(|plan| plan.wants_audience(audience)),
        },
        Happening::Enter(_) | Happening::Go(_) | Happening::End(..) | Happening::Fill(_) => false,
    };
    for (_, happening) in reaching {
        if let Happening::Moved { audience, .. } = happening {
            of_audience.entry(audience).or_insert_with(|| plans().any(|plan| plan.wants_audience(audience)));
        }
    }
    let persons: BTreeSet<u32> =
        reaching.iter().filter(|(_, happening)| concerns(happening, &mut of_audience)).map(|(person, _)| *person).collect();
    let watched_after_us = deck.now_us.saturating_sub(LATE_US);
    for row in runs::of_persons(&worker.shared.db, &worker.tenant, &persons, watched_after_us).await? {
        deck.add_run(row.read()?.0, false);
    }
    Ok(())
}

/// Moves some runs to another version.
async fn move_runs(worker: &Worker, deck: &mut Deck, work: &mut Work, command: Command) -> Result<(), CampaignError> {
    let CommandBody::Move { scenario, from, to, steps, after_run, until_run } = command.body else { return Ok(()) };
    let most = worker.shared.config.round_runs_max;
    let until_run = if until_run == 0 { worker.row.numbers } else { until_run };
    let rows = runs::of_scenario(&worker.shared.db, &worker.tenant, &scenario, after_run, most).await?;
    let is_all = rows.len() < most;
    let mut last = after_run;
    let target = deck.definitions.get(&scenario).and_then(|scenario| scenario.plans.get(&to)).cloned();
    for row in rows {
        let (run, _) = row.read()?;
        last = run.id;
        let Some(step) = steps.get(&run.state.step).filter(|_| run.version == from && run.ended.is_none() && run.id <= until_run) else {
            continue;
        };
        let (id, person) = (run.id, run.person);
        deck.add_run(run, false);
        let Some(slot) = deck.slots.get_mut(&id).filter(|slot| slot.run.ended.is_none()) else { continue };
        slot.run.version = to;
        slot.run.state.step.clone_from(step);
        slot.run.state.waiting = false;
        slot.run.due_us = None;
        slot.plan = target.clone();
        slot.is_changed = true;
        if !slot.may_go() {
            slot.run.due_us = Some(deck.now_us);
        }
        deck.add(person, Happening::Go(id));
    }
    let is_done = is_all || last >= until_run;
    let rest = CommandBody::Move { scenario, from, to, steps, after_run: last, until_run };
    work.commands.push((command.number, (!is_done).then_some(rest)));
    Ok(())
}

/// Runs of scenarios that were ended.
async fn ended(worker: &Worker, deck: &mut Deck, work: &mut Work) -> Result<(), CampaignError> {
    let scenarios: Vec<String> = worker.to_end().collect();
    let mut room = worker.shared.config.round_runs_max;
    for scenario in scenarios {
        if room == 0 {
            work.is_more = true;
            break;
        }
        let rows = runs::due(&worker.shared.db, &worker.tenant, &scenario, (i64::MIN, 0), NEVER_US, room).await?;
        if rows.len() < room {
            work.all_ended.insert(scenario);
        } else {
            work.is_more = true;
        }
        room -= rows.len();
        for row in rows {
            let (run, _) = row.read()?;
            let (id, person) = (run.id, run.person);
            deck.add_run(run, false);
            deck.add(person, Happening::End(id, EndReason::ScenarioEnded));
        }
    }
    Ok(())
}

/// Runs whose time has come, scenario by scenario.
async fn due(worker: &mut Worker, deck: &mut Deck, work: &mut Work) -> Result<(), CampaignError> {
    let mut room = worker.shared.config.round_runs_max;
    for (scenario, after) in worker.due_scenarios(deck.now_us) {
        if room == 0 {
            work.is_more = true;
            break;
        }
        let rows = runs::due(&worker.shared.db, &worker.tenant, &scenario, after, deck.now_us, room).await?;
        if rows.len() < room {
            work.all_due.insert(scenario);
        } else {
            work.is_more = true;
        }
        room -= rows.len();
        for row in rows {
            let (run, _) = row.read()?;
            let (id, person) = (run.id, run.person);
            deck.add_run(run, false);
            deck.add(person, Happening::Go(id));
        }
    }
    Ok(())
}

/// What is known of the entries of everybody who may enter something.
async fn load_entries(worker: &Worker, deck: &mut Deck) -> Result<(), CampaignError> {
    let mut keys: BTreeSet<EntryKey> = BTreeSet::new();
    let mut of_audience: BTreeMap<(&str, bool, i64), Vec<Entrant>> = BTreeMap::new();
    for (person, queue) in &deck.queues {
        for happening in &queue.happenings {
            match happening {
                Happening::Event(event) => keys.extend(keys_of(deck, *person, event)),
                Happening::Moved { audience, entered, held_out: false, time_us } => {
                    let moved = (&**audience, *entered, *time_us);
                    let entrants = of_audience.entry(moved).or_insert_with(|| entrants_by(&deck.definitions, moved, deck.now_us));
                    keys.extend(entrants.iter().map(|entrant| (*person, entrant.scenario.clone(), entrant.entry_key.clone())));
                }
                Happening::Enter(entrant) => drop(keys.insert((*person, entrant.scenario.clone(), entrant.entry_key.clone()))),
                Happening::Moved { .. } | Happening::Go(_) | Happening::End(..) | Happening::Exit { .. } | Happening::Fill(_) => {}
            }
        }
    }
    deck.entries = store::persons::entries(&worker.shared.db, &worker.tenant, &keys).await?;
    Ok(())
}

fn keys_of(deck: &Deck, person: u32, event: &ResolvedEvent) -> Vec<EntryKey> {
    let entrants = entrants(&deck.definitions, event, deck.now_us);
    entrants.into_iter().map(|entrant| (person, entrant.scenario, entrant.entry_key)).collect()
}

/// Active runs of a person, to see what a merge does to them.
pub(crate) fn read_all(rows: Vec<runs::RunRow>) -> Result<Vec<Run>, CampaignError> {
    rows.into_iter().map(|row| row.read().map(|(run, _)| run)).collect()
}
