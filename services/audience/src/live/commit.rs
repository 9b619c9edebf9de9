//! Making a round durable: transitions, positions, sizes, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::audience::{Audience, Audit};
use super::changes::Changes;
use super::feed::Positions;
use super::round::Answered;
use super::steps::{Extent, Settled};
use super::store::{self, AudienceRow, Hour};
use super::worker::Worker;
use crate::error::AudienceError;

use roaring::RoaringBitmap;
use segue_proto::audience::v1::EvaluateAudienceResponse;

/// How far positions may be ahead of what is stored while nobody moves.
const IDLE_COMMIT: Duration = Duration::from_secs(1);
const HOUR_US: i64 = 3_600_000_000;

/// How many moved.
#[derive(Debug, Default, Clone, Copy)]
struct Moved {
    entered: u64,
    left: u64,
    held_in: u64,
    held_out: u64,
}

fn moved(changes: &Changes) -> BTreeMap<&str, Moved> {
    let mut moved: BTreeMap<&str, Moved> = BTreeMap::new();
    for (key, persons) in changes.groups() {
        let of = moved.entry(key.audience.as_str()).or_default();
        let count = match (key.held_out, key.entered) {
            (false, true) => &mut of.entered,
            (false, false) => &mut of.left,
            (true, true) => &mut of.held_in,
            (true, false) => &mut of.held_out,
        };
        *count += persons.len();
    }
    moved
}

/// Commits. Nothing is written when nobody moved and little time has passed: reading the log again from there comes to the same.
pub(crate) async fn commit(worker: &mut Worker, settled: &Settled, begun: &BTreeSet<String>, as_of_us: i64) -> Result<(), AudienceError> {
    let sequence = worker.row.sequence;
    let batches = settled.changes.batches(worker.tenant.as_str(), sequence, as_of_us);
    worker.advance_row(settled.extent, as_of_us, settled.changes.len());
    worker.row.repaired += settled.repaired.values().sum::<u64>();
    let moved = moved(&settled.changes);
    let concerned: BTreeSet<&str> =
        moved.keys().copied().chain(begun.iter().map(String::as_str)).chain(worker.holdouts.keys().map(String::as_str)).collect();
    let is_idle = concerned.is_empty() && worker.gone.is_empty() && worker.list_marks.is_empty();
    if is_idle && worker.committed_at.elapsed() < IDLE_COMMIT {
        return Ok(());
    }
    let rows = rows(worker, &concerned, &moved, begun, as_of_us);
    let mut tx = worker.shared.deps.db.begin().await?;
    store::advance(&mut tx, &worker.tenant, &worker.row, sequence).await?;
    store::put_batches(&mut tx, &worker.tenant, &batches).await?;
    for (row, of) in &rows {
        store::put_audience(&mut tx, &worker.tenant, row).await?;
        if of.entered + of.left + of.held_in + of.held_out > 0 {
            let hour_us = as_of_us.div_euclid(HOUR_US) * HOUR_US;
            let hour = Hour { hour_us, size: row.size, held_out: row.held_out, entered: of.entered, left: of.left };
            store::put_hour(&mut tx, &worker.tenant, &row.audience, &hour).await?;
        }
    }
    for gone in &worker.gone {
        store::delete_audience(&mut tx, &worker.tenant, gone).await?;
    }
    if settled.extent == Extent::Everything && !worker.list_marks.is_empty() {
        crate::definitions::forget_list_changes(&mut tx, &worker.tenant, &worker.list_marks).await?;
    }
    tx.commit().await?;
    worker.committed_at = Instant::now();
    Ok(())
}

/// The rows of audiences as they are after the round.
fn rows(
    worker: &Worker,
    concerned: &BTreeSet<&str>,
    moved: &BTreeMap<&str, Moved>,
    begun: &BTreeSet<String>,
    as_of_us: i64,
) -> Vec<(AudienceRow, Moved)> {
    let view = worker.view.read();
    let row = |id: &&str| {
        let (members, audience) = (view.members.get(*id)?, worker.audiences.get(*id)?);
        let of = moved.get(id).copied().unwrap_or_default();
        let has_begun = begun.contains(*id);
        let fingerprint = if has_begun { Audience::fingerprint(&audience.kept, &audience.time_zone) } else { audience.of.clone() };
        let row = AudienceRow {
            audience: (*id).to_owned(),
            version: members.version,
            fingerprint,
            holdout: worker.holdouts.get(*id).unwrap_or(&members.holdout).below(),
            evaluated_us: if has_begun { as_of_us } else { members.evaluated_us },
            audited_us: if has_begun { as_of_us } else { audience.audit.audited_us },
            size: (members.size() + of.entered).saturating_sub(of.left),
            held_out: (members.held_out + of.held_in).saturating_sub(of.held_out),
        };
        Some((row, of))
    };
    concerned.iter().filter_map(row).collect()
}

impl Audience {
    /// It was evaluated in full.
    pub(crate) fn begun(&mut self, (size, held_out): (u64, u64), (entered, left): (u64, u64), as_of_us: i64) {
        use super::audience::Standing;
        self.of = Audience::fingerprint(&self.kept, &self.time_zone);
        self.standing = if self.is_live() { Standing::Current } else { Standing::AtRest };
        self.audit = Audit { audited_us: as_of_us, ..Audit::default() };
        let as_of = Some(crate::store::timestamp(as_of_us));
        for reply in self.replies.drain(..) {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(EvaluateAudienceResponse { size, held_out, entered, left, as_of, repaired: 0 }));
        }
    }

    /// It was evaluated in full to be compared: who differs is looked at once more, when everything that analytics had seen is dealt with.
    pub(crate) fn open_audit(&mut self, answer: Answered, matched: Option<&RoaringBitmap>, changes: &Changes, after: &Positions) {
        let mut suspects = answer.entered | answer.left;
        // Who moved in this very round is settled by that.
        for (key, persons) in changes.groups().filter(|(key, _)| key.audience == self.kept.id) {
            let settled = |person: &u32| matched.is_some_and(|matched| matched.contains(*person)) == key.entered;
            let settled: RoaringBitmap = persons.iter().filter(settled).collect();
            suspects -= settled;
        }
        self.audit.suspects = suspects;
        self.audit.after.clone_from(after);
        self.audit.is_open = true;
        self.audit.is_wanted = false;
        self.audit.repaired = 0;
    }

    /// The suspects were looked at, if it was time to.
    pub(crate) fn close_audit(
        &mut self,
        repaired: &BTreeMap<String, u64>,
        (size, held_out): (u64, u64),
        as_of_us: i64,
        delivered: &Positions,
    ) -> bool {
        if !self.audit.is_ready(delivered) {
            return false;
        }
        let repaired = repaired.get(&self.kept.id).copied().unwrap_or(0);
        self.audit = Audit { audited_us: as_of_us, ..Audit::default() };
        let as_of = Some(crate::store::timestamp(as_of_us));
        for reply in self.replies.drain(..) {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(EvaluateAudienceResponse { size, held_out, entered: 0, left: 0, as_of, repaired }));
        }
        true
    }
}
