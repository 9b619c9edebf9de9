//! What happens to many persons at once, dealt with in parts: large moves between audiences, and entries that come of time.

use super::deck::{Deck, entrant};
use super::gather::Work;
use super::happening::{Entrant, Happening};
use super::schedules;
use super::store::work::{self, Wave, WaveBody};
use super::worker::Worker;
use crate::error::CampaignError;

/// Waves that one round looks at.
const WAVES_MAX: i64 = 256;

/// A part of what happened to many at once.
pub(crate) async fn go_on(
    worker: &mut Worker,
    deck: &Deck,
    work: &mut Work,
    reaching: &mut Vec<(u32, Happening)>,
) -> Result<(), CampaignError> {
    if !worker.has_waves {
        return Ok(());
    }
    let waves = work::waves(&worker.shared.db, &worker.tenant, WAVES_MAX).await?;
    worker.has_waves = !waves.is_empty();
    let mut room = worker.shared.config.round_inputs_max.saturating_sub(reaching.len()).max(1);
    for wave in waves {
        let happening = match &wave.body {
            WaveBody::Moved { audience, entered, held_out, time_us } => {
                Happening::Moved { audience: audience.as_str().into(), entered: *entered, held_out: *held_out, time_us: *time_us }
            }
            WaveBody::Enter { scenario, time_us } => match deck.definitions.get(scenario) {
                Some(found) if found.started.paused => continue,
                _ => Happening::Enter(Entrant { is_met: true, ..entrant(scenario, *time_us) }),
            },
        };
        let behind = wave.persons.range(wave.after_person.saturating_add(1)..);
        let some: Vec<u32> = behind.take(room).collect();
        room -= some.len();
        let last = some.last().copied().filter(|last| wave.persons.max().is_some_and(|max| max > *last));
        work.moved_waves.push((wave.number, last));
        reaching.extend(some.into_iter().map(|person| (person, happening.clone())));
        work.is_more = true;
        if room == 0 {
            break;
        }
    }
    Ok(())
}

/// Looks at schedules, and at scenarios that were started with who is a member already. What everyone has to be asked for becomes a wave.
pub(crate) async fn begin_waves(worker: &Worker, deck: &mut Deck, work: &mut Work) -> Result<(), CampaignError> {
    let sources = worker.sources();
    for (id, scenario) in &deck.definitions.scenarios.clone() {
        let Some(plan) = scenario.open() else { continue };
        let mut row = schedules::row_of(scenario, worker.scenario_rows.get(id));
        let mut wanted = Vec::new();
        if worker.is_schedule_due(id, deck.now_us) {
            wanted.extend(schedules::due(plan, &row, deck.now_us).map(|condition| (condition, deck.now_us)));
            row.after_us = row.after_us.max(deck.now_us);
        }
        let started = &scenario.started;
        if started.enter_present_members && row.present != started.starts {
            let whom = schedules::present_members(plan);
            wanted.extend(whom.map(|condition| (condition, deck.now_us.max(started.started_us))));
            row.present = started.starts;
        }
        let mut is_put_off = false;
        for (condition, time_us) in wanted {
            match super::facts::everyone(&sources, condition, plan.compiled.time_zone.name()).await {
                Ok(persons) if persons.is_empty() => {}
                Ok(persons) => {
                    deck.numbers += 1;
                    let body = WaveBody::Enter { scenario: id.clone(), time_us };
                    work.waves.push(Wave { number: deck.numbers, body, persons, after_person: 0 });
                }
                Err(error) => {
                    work.problem = Some(error);
                    is_put_off = true;
                }
            }
        }
        if is_put_off {
            // What was found for it already is found again.
            work.waves.retain(|wave| !matches!(&wave.body, WaveBody::Enter { scenario, .. } if scenario == id));
        } else if worker.scenario_rows.get(id) != Some(&row) {
            work.scenarios.push(row);
        }
    }
    Ok(())
}
