//! Committing a round: everything that it did, in one transaction that begins with the claim on the tenant.

use segue_model::TenantId;
use segue_proto::campaign::v1::SendReason;
use segue_store::{Db, Tx};

use super::deck::{Deck, Slot};
use super::gather::Work;
use super::happening::Happening;
use super::machine::{self, EndReason, Run};
use super::merges::Merges;
use super::store::persons::{self, Held};
use super::store::runs::{self, Written};
use super::store::{TenantRow, advance, work};
use crate::error::CampaignError;
use crate::{outbox, scenarios, sends};

/// Ended runs that are removed at once.
const OLD_MAX: usize = 1_000;

fn written(slot: &Slot) -> Written<'_> {
    let run = &slot.run;
    let goals_until_us = match (&slot.plan, run.ended) {
        (Some(plan), Some(_)) => machine::goals_until_us(&plan.compiled, run.entered_us),
        _ => run.entered_us,
    };
    Written { run, goals_until_us }
}

/// Writes a round down. `row` is where the tenant is after it.
pub(crate) async fn commit(
    db: &Db,
    tenant: &TenantId,
    row: &TenantRow,
    deck: &Deck,
    work: &Work,
    held: &[Held],
) -> Result<(), CampaignError> {
    let mut tx = db.begin().await?;
    advance(&mut tx, tenant, row).await?;
    // By id: rows are touched in the same order by whoever touches them.
    let mut slots: Vec<&Slot> = deck.slots.values().filter(|slot| slot.is_changed).collect();
    slots.sort_unstable_by_key(|slot| slot.run.id);
    let of = |is_new: bool| slots.iter().filter(|slot| slot.is_new == is_new).map(|slot| written(slot)).collect::<Vec<_>>();
    // Who has ended makes room for who enters again.
    runs::put(&mut tx, tenant, &of(false)).await?;
    runs::put(&mut tx, tenant, &of(true)).await?;
    let outcome = &deck.outcome;
    persons::assign(&mut tx, tenant, &outcome.assignments).await?;
    persons::free(&mut tx, tenant, &work.freed).await?;
    persons::hold(&mut tx, tenant, held).await?;
    write_work(&mut tx, tenant, work).await?;
    sends::plan(&mut tx, tenant, &outcome.sends).await?;
    sends::drop_of_runs(&mut tx, tenant, &outcome.dropped, SendReason::Exited, deck.now_us).await?;
    outbox::put(&mut tx, tenant, &outcome.told).await?;
    tx.commit().await?;
    Ok(())
}

async fn write_work(tx: &mut Tx, tenant: &TenantId, done: &Work) -> Result<(), CampaignError> {
    for (wave, after_person) in &done.moved_waves {
        work::move_wave(tx, tenant, *wave, *after_person).await?;
    }
    for wave in &done.waves {
        work::put_wave(tx, tenant, wave).await?;
    }
    for (command, rest) in &done.commands {
        work::move_command(tx, tenant, *command, rest.as_ref()).await?;
    }
    for row in &done.scenarios {
        work::put_scenario(tx, tenant, row).await?;
    }
    if let Some(up_to) = done.calls {
        scenarios::forget_calls(tx, tenant, up_to).await?;
    }
    Ok(())
}

/// What is left to be held back, numbered.
pub(crate) fn numbered(left: Vec<(u32, Happening)>, numbers: &mut u64) -> Result<Vec<Held>, CampaignError> {
    left.into_iter()
        .map(|(person, happening)| {
            *numbers += 1;
            Ok(Held { number: *numbers, person, body: happening.to_text()? })
        })
        .collect()
}

/// Gives survivors what the merged persons had. Doing it again does nothing.
pub(crate) async fn merge(
    db: &Db,
    tenant: &TenantId,
    row: &TenantRow,
    merges: &Merges,
    runs_of_all: Vec<Run>,
    now_us: i64,
) -> Result<(), CampaignError> {
    let losers = merges.losers(&runs_of_all);
    let mut ended: Vec<Run> = runs_of_all.into_iter().filter(|run| losers.contains(&run.id)).collect();
    for run in &mut ended {
        // Ending is the same in every version, and needs none.
        run.ended = Some((now_us, EndReason::Merged));
        run.due_us = None;
        run.state.waiting = false;
    }
    let ids: Vec<u64> = ended.iter().map(|run| run.id).collect();
    let pairs = merges.pairs();
    let unmerged: Vec<u32> = merges.unmerged.iter().copied().collect();
    let mut tx = db.begin().await?;
    advance(&mut tx, tenant, row).await?;
    let ended: Vec<Written<'_>> = ended.iter().map(|run| Written { run, goals_until_us: run.entered_us }).collect();
    runs::put(&mut tx, tenant, &ended).await?;
    if !unmerged.is_empty() {
        sends::unmerge_persons(&mut tx, tenant, &unmerged).await?;
        persons::unmerge(&mut tx, tenant, &unmerged).await?;
    }
    persons::merge(&mut tx, tenant, &pairs).await?;
    sends::drop_of_runs(&mut tx, tenant, &ids, SendReason::Exited, now_us).await?;
    sends::move_persons(&mut tx, tenant, &pairs).await?;
    tx.commit().await?;
    Ok(())
}

/// Removes some ended runs that nobody needs any more. Whether there may be more.
pub(crate) async fn remove_old(db: &Db, tenant: &TenantId, row: &TenantRow, before_us: i64) -> Result<bool, CampaignError> {
    let old = runs::old(db, tenant, before_us, OLD_MAX).await?;
    if old.is_empty() {
        return Ok(false);
    }
    let ids: Vec<i64> = old.iter().map(|run| run.id).collect();
    let mut tx = db.begin().await?;
    advance(&mut tx, tenant, row).await?;
    persons::put_entries(&mut tx, tenant, &old).await?;
    runs::delete(&mut tx, tenant, &ids).await?;
    tx.commit().await?;
    Ok(old.len() == OLD_MAX)
}
