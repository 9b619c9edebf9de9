//! A round of a tenant: take in, let persons and runs go on, commit.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::commit::{commit, merge, numbered, remove_old};
use super::deck::Deck;
use super::facts;
use super::gather::{Work, gather, read_all};
use super::merges::Merges;
use super::store::{self, TenantRow, runs};
use super::waves::begin_waves;
use super::worker::{Failure, Worker};
use crate::error::CampaignError;

/// How often the store is told how far a tenant has followed the log in which nothing was of use.
pub(crate) const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Between looks for ended runs to remove.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Answers that a round waits for, one after the other: whoever wants more goes on in the next.
const ANSWERS_MAX: usize = 200;

/// Makes a round.
pub(crate) async fn round(worker: &mut Worker) -> Result<(), Failure> {
    // Asked before anything is looked at: what was there then is dealt with by the answer.
    let asked = store::last_asked(&worker.shared.db, &worker.tenant).await?;
    let is_asked = asked != worker.row.answered;
    worker.take_in(is_asked.then(Instant::now)).await?;
    // Time goes no further than what was read: an event is not to be overtaken by what becomes due after it.
    let now_us = worker.shared.clock.now_us().min(worker.as_of_us);
    // After taking in: whoever started a scenario before something came in has to see it.
    worker.follow_definitions().await?;
    worker.retry();
    merge_persons(worker, now_us).await?;
    let steps_max = worker.shared.config.steps_at_once_max;
    let mut deck = Deck::new(worker.definitions.clone(), now_us, steps_max, worker.row.numbers);
    let mut work = gather(worker, &mut deck).await?;
    if worker.is_any_schedule_due(now_us) && worker.due.may_try() {
        begin_waves(worker, &mut deck, &mut work).await?;
    }
    let problem = go_on(worker, &mut deck).await?.or(work.problem.clone());
    deck.outcome.render(&worker.shared.whole_config, &worker.tenant);
    finish(worker, deck, work, asked, problem).await
}

/// Survivors get what merged persons had, before anything that came in with it.
async fn merge_persons(worker: &mut Worker, now_us: i64) -> Result<(), Failure> {
    let merges = Merges::of(&worker.pending);
    if merges.is_empty() {
        return Ok(());
    }
    let shared = worker.shared.clone();
    // Only active runs get into each other's way.
    let all = runs::of_persons(&shared.db, &worker.tenant, &merges.persons(), runs::NEVER_US - 1).await?;
    let merged = merge(&shared.db, &worker.tenant, &worker.row, &merges, read_all(all)?, now_us).await;
    match merged {
        Ok(()) => Ok(()),
        Err(error @ CampaignError::Fenced) => Err(Failure::Reload(error)),
        // Doing it again does nothing.
        Err(error) => Err(Failure::Repeat(error)),
    }
}

/// Lets everybody go on until they rest or are stuck. Answers why, if anybody is.
async fn go_on(worker: &Worker, deck: &mut Deck) -> Result<Option<CampaignError>, CampaignError> {
    let mut problem = None;
    for _ in 0..ANSWERS_MAX {
        let wants = deck.sweep();
        if wants.is_empty() {
            return Ok(problem);
        }
        let stuck = facts::answer(&worker.sources(), deck, wants).await?;
        problem = stuck.or(problem);
    }
    for (person, _) in deck.sweep() {
        if let Some(queue) = deck.queues.get_mut(&person) {
            queue.is_stuck = true;
        }
    }
    Ok(problem)
}

/// Commits the round and takes note of it.
async fn finish(worker: &mut Worker, mut deck: Deck, work: Work, asked: u64, problem: Option<CampaignError>) -> Result<(), Failure> {
    let stuck: BTreeSet<u32> = deck.queues.iter().filter(|(_, queue)| queue.is_stuck).map(|(person, _)| *person).collect();
    let left = deck.left();
    let mut numbers = deck.numbers;
    let held = numbered(left, &mut numbers)?;
    let is_stuck = !stuck.is_empty() || work.problem.is_some();
    let goes_on = deck.slots.values().any(|slot| slot.is_changed && slot.is_due(deck.now_us));
    let is_done = !goes_on && !work.is_more && worker.has_caught_up() && !is_stuck && !worker.due.is_stuck() && work.waves.is_empty();
    let is_idle = work.is_empty() && held.is_empty() && !deck.slots.values().any(|slot| slot.is_changed);
    let problem = match problem {
        Some(error) => segue_runtime::status::chain(&error),
        // Whoever is stuck was not tried in this round.
        None if worker.due.is_stuck() && !worker.due.may_try() => worker.row.problem.clone(),
        None => worker.definitions.problem.clone(),
    };
    let row = TenantRow {
        positions: worker.read.clone(),
        numbers,
        calls: work.calls.unwrap_or(worker.row.calls),
        answered: if is_done { asked } else { worker.row.answered },
        done_us: if is_done { worker.row.done_us.max(worker.as_of_us.min(deck.now_us)) } else { worker.row.done_us },
        steps_done: worker.row.steps_done + deck.outcome.steps,
        rounds: worker.row.rounds + 1,
        problem,
        epoch: worker.row.epoch,
    };
    let is_news = row.answered != worker.row.answered || row.problem != worker.row.problem;
    let is_quiet = is_idle && worker.pending.is_empty() && !is_news && !worker.is_to_be_written();
    if !is_quiet {
        commit(&worker.shared.db, &worker.tenant, &row, &deck, &work, &held).await.map_err(Failure::Reload)?;
        worker.pending.clear();
        worker.row = row;
        worker.written_at = Some(Instant::now());
        note(worker, &deck, &work, !held.is_empty(), &stuck);
    }
    worker.look_ahead(&work.all_due).await.map_err(Failure::Reload)?;
    worker.due.note(deck.slots.values().filter(|slot| slot.is_changed), &stuck);
    worker.due.note_stuck(is_stuck);
    worker.is_more = work.is_more || worker.is_cut || !work.waves.is_empty();
    sweep_old(worker, deck.now_us).await
}

/// Takes note of what was committed, and rings.
fn note(worker: &mut Worker, deck: &Deck, work: &Work, is_held: bool, stuck: &BTreeSet<u32>) {
    worker.has_waves |= !work.waves.is_empty();
    worker.has_held |= is_held;
    if !stuck.is_empty() {
        worker.held_after = worker.row.numbers;
    }
    worker.note_ended(&work.all_ended);
    if !work.scenarios.is_empty() {
        worker.scenario_rows.extend(work.scenarios.iter().map(|row| (row.scenario.clone(), row.clone())));
        worker.look_at_schedules();
    }
    if !deck.outcome.sends.is_empty() {
        worker.shared.bells.sends.notify_one();
    }
    if !deck.outcome.told.is_empty() {
        worker.shared.bells.outbox.notify_one();
    }
}

/// Removes ended runs that nobody needs any more, a few at a time.
async fn sweep_old(worker: &mut Worker, now_us: i64) -> Result<(), Failure> {
    if worker.swept_at.elapsed() < SWEEP_INTERVAL {
        return Ok(());
    }
    let keep_us = i64::from(worker.shared.config.keep_ended_days).saturating_mul(24 * 3_600 * 1_000_000);
    let before_us = now_us.saturating_sub(keep_us);
    let is_more = remove_old(&worker.shared.db, &worker.tenant, &worker.row, before_us).await.map_err(Failure::Reload)?;
    if !is_more {
        worker.swept_at = Instant::now();
    }
    worker.is_more |= is_more;
    Ok(())
}
