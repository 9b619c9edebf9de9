//! Definitions as the worker follows them: which audiences there are, which of them have to be evaluated anew, who is held out.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{EvaluateConditionsRequest, EvaluationItem};
use segue_proto::events::v1::TransitionReason;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, ConditionList};

use super::audience::{Audience, Audit, Reply, Standing};
use super::changes::{GroupKey, bitmap_of, reason};
use super::interest::Interest;
use super::round::{add_at_once, positions_of};
use super::store::{self, AudienceRow};
use super::timers::Timers;
use super::view::{Holdout, Members};
use super::worker::{Stored, Worker};
use crate::definitions::{Kept, Mode};
use crate::error::AudienceError;

impl Audience {
    /// Takes a request for a full evaluation.
    pub(crate) fn ask(&mut self, reply: Reply) {
        self.replies.push(reply);
        match self.standing {
            Standing::Current if self.is_live() => self.audit.is_wanted = true,
            // What was refused is tried once more.
            Standing::Current | Standing::AtRest | Standing::Refused => self.standing = Standing::ToEvaluate(TransitionReason::Definition),
            Standing::ToEvaluate(_) => {}
        }
    }
}

impl Worker {
    /// Takes over what is stored. `caught_up`: since then, nothing was missed.
    pub(crate) async fn adopt(&mut self, stored: Stored, caught_up: bool) -> Result<(), AudienceError> {
        let rows = store::audiences(&self.shared.deps.db, &self.tenant).await?;
        let mut rows: BTreeMap<String, AudienceRow> = rows.into_iter().map(|row| (row.audience.clone(), row)).collect();
        {
            let mut view = self.view.write();
            (view.as_of_us, view.sequence) = (self.row.as_of_us, self.row.sequence);
            (view.status.audits, view.status.repaired) = (self.row.audits, self.row.repaired);
            view.members.clear();
            for (id, matched) in stored {
                match rows.get(&id) {
                    Some(row) => {
                        let members = Members::new(matched, Holdout::new(&id, row.holdout), row.version, row.evaluated_us);
                        view.members.insert(id, members);
                    }
                    // Of an audience that is gone: its chunks are to go too.
                    None => drop(self.dirty.entry(id)),
                }
            }
            for row in rows.values() {
                let empty = || Members::new(RoaringBitmap::new(), Holdout::new(&row.audience, row.holdout), row.version, row.evaluated_us);
                view.members.entry(row.audience.clone()).or_insert_with(empty);
            }
        }
        self.redefine(&mut rows, caught_up).await?;
        // What is stored and in no definition was archived while nobody worked here.
        for id in rows.into_keys() {
            if self.gone_for_good(&id).await?.is_some() {
                self.end(&id);
            }
        }
        Ok(())
    }

    /// How an audience that is not followed any more is gone; none if it is still there, and only what it refers to cannot be put in place:
    /// then its members stay as they are.
    async fn gone_for_good(&self, id: &str) -> Result<Option<AudienceError>, AudienceError> {
        match self.shared.deps.definitions.kept_one(&self.tenant, id).await {
            Err(gone @ (AudienceError::NotFound { .. } | AudienceError::Archived { .. })) => Ok(Some(gone)),
            Ok(_) | Err(AudienceError::Invalid(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows changed definitions.
    pub(crate) async fn follow_definitions(&mut self) -> Result<(), AudienceError> {
        self.redefine(&mut BTreeMap::new(), true).await
    }

    async fn redefine(&mut self, rows: &mut BTreeMap<String, AudienceRow>, caught_up: bool) -> Result<(), AudienceError> {
        let kept = self.shared.deps.definitions.kept(&self.tenant).await?;
        let zone = self.shared.deps.tenants.get(&self.tenant).map_or(chrono_tz::UTC, |tenant| tenant.time_zone);
        let mut before = std::mem::take(&mut self.audiences);
        for kept in kept {
            let id = kept.id.clone();
            let time_zone = if kept.time_zone.is_empty() { zone.name().to_owned() } else { kept.time_zone.clone() };
            let audience = match before.remove(&id) {
                Some(audience) => self.changed(audience, kept, time_zone),
                None => self.added(kept, time_zone, rows.remove(&id), caught_up),
            };
            self.hold_out(&audience);
            self.audiences.insert(id, audience);
        }
        for (id, mut audience) in before {
            let Some(gone) = self.gone_for_good(&id).await? else {
                audience.standing = Standing::Refused;
                self.audiences.insert(id, audience);
                continue;
            };
            for reply in audience.replies {
                // Whoever asked may have gone away.
                let _ = reply.send(Err(gone.clone()));
            }
            self.end(&id);
        }
        Ok(())
    }

    fn added(&self, kept: Kept, time_zone: String, row: Option<AudienceRow>, caught_up: bool) -> Audience {
        let fingerprint = Audience::fingerprint(&kept, &time_zone);
        let is_same = row.as_ref().is_some_and(|row| row.fingerprint == fingerprint);
        let standing = match (kept.mode, is_same, caught_up) {
            (Mode::Snapshot, ..) => Standing::AtRest,
            (Mode::Live, true, true) => Standing::Current,
            (Mode::Live, true, false) => Standing::ToEvaluate(TransitionReason::CatchUp),
            (Mode::Live, false, _) => Standing::ToEvaluate(TransitionReason::Definition),
        };
        let audited_us = row.as_ref().map_or(0, |row| row.audited_us);
        let interest = Interest::of(&kept.expanded.condition);
        let of = row.map_or_else(String::new, |row| row.fingerprint);
        Audience {
            kept,
            time_zone,
            interest,
            standing,
            of,
            timers: self.new_timers(),
            audit: Audit { audited_us, ..Audit::default() },
            replies: Vec::new(),
        }
    }

    fn changed(&self, mut audience: Audience, kept: Kept, time_zone: String) -> Audience {
        let fingerprint = Audience::fingerprint(&kept, &time_zone);
        let was_live = audience.is_live();
        let is_same = Audience::fingerprint(&audience.kept, &audience.time_zone) == fingerprint;
        audience.interest = Interest::of(&kept.expanded.condition);
        (audience.kept, audience.time_zone) = (kept, time_zone);
        match (audience.is_live(), was_live) {
            (true, true) if is_same => {}
            (true, _) => {
                audience.standing = Standing::ToEvaluate(TransitionReason::Definition);
                audience.timers = self.new_timers();
                audience.audit = Audit { audited_us: audience.audit.audited_us, ..Audit::default() };
            }
            (false, true) => audience.standing = Standing::AtRest,
            (false, false) => {}
        }
        audience
    }

    fn new_timers(&self) -> Timers {
        let span_us = i64::try_from(self.shared.deps.config.live.horizon_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        Timers::new(self.row.as_of_us, span_us)
    }

    /// Brings who is held out in line with the definition: those concerned go from the members to the others, or back.
    fn hold_out(&mut self, audience: &Audience) {
        let id = audience.kept.id.as_str();
        let mut view = self.view.write();
        let Some(members) = view.members.get_mut(id) else { return };
        if !audience.of.is_empty() && audience.of == Audience::fingerprint(&audience.kept, &audience.time_zone) {
            members.version = audience.kept.version;
        }
        if members.holdout.below() == audience.kept.holdout {
            return;
        }
        let holdout = Holdout::new(id, audience.kept.holdout);
        let (before, after) = (members.holdout.of(&members.matched), holdout.of(&members.matched));
        let key = |entered: bool, held_out: bool| GroupKey {
            time_us: self.row.as_of_us,
            entered,
            audience: id.to_owned(),
            held_out,
            version: members.version,
            reason: reason(TransitionReason::Definition),
            event_name: String::new(),
            message_id: String::new(),
        };
        let (held, freed) = (&after - &before, &before - &after);
        self.redefined.add(key(false, false), held.clone());
        self.redefined.add(key(true, true), held);
        self.redefined.add(key(false, true), freed.clone());
        self.redefined.add(key(true, false), freed);
        self.holdouts.insert(id.to_owned(), holdout);
    }

    /// Everybody leaves an audience that is gone.
    fn end(&mut self, id: &str) {
        let view = self.view.read();
        if let Some(members) = view.members.get(id) {
            let matched = RoaringBitmap::clone(&members.matched);
            let moved = (RoaringBitmap::new(), matched);
            add_at_once(&mut self.redefined, id, self.row.as_of_us, TransitionReason::Archived, moved, &view);
        }
        drop(view);
        self.gone.push(id.to_owned());
    }

    /// Learns who is known by now, so that whoever is new can be told.
    pub(crate) async fn learn_known(&mut self) -> Result<(), AudienceError> {
        let condition = Condition { node: Some(Node::All(ConditionList::default())) };
        let item = EvaluationItem { condition: Some(condition), whom: Some(Whom::Everyone(true)), ..EvaluationItem::default() };
        let as_of_us = self.shared.deps.clock.now_us();
        let request =
            EvaluateConditionsRequest { items: vec![item], at_least: self.at_least(), wait_ms: 10_000, as_of_us, removed_since_us: 0 };
        let response = self.evaluate(request).await?;
        let met = response.items.first().map_or(&[][..], |item| &item.met);
        self.known = if met.is_empty() {
            RoaringBitmap::new()
        } else {
            bitmap_of(met).ok_or(AudienceError::Corrupt { what: "an answer of analytics" })?
        };
        self.known_at = positions_of(&response);
        Ok(())
    }

    /// Who was not known before: while what analytics knew is still ahead of what was dealt with, everybody may be new.
    pub(crate) fn is_known_complete(&self) -> bool {
        self.known_at.iter().all(|(at, position)| self.delivered.get(at).is_some_and(|delivered| delivered >= position))
    }

    /// Everything that is followed has to be evaluated in full: something was missed.
    pub(crate) fn catch_up(&mut self) {
        let timers = self.new_timers();
        for audience in self.audiences.values_mut().filter(|audience| audience.is_followed()) {
            audience.standing = Standing::ToEvaluate(TransitionReason::CatchUp);
            audience.timers = timers.clone();
        }
    }
}

/// The view's members of an audience that begins.
pub(crate) fn begin(audience: &Audience, evaluated_us: i64) -> Members {
    Members::new(RoaringBitmap::new(), Holdout::new(&audience.kept.id, audience.kept.holdout), audience.kept.version, evaluated_us)
}

/// A condition that analytics can take.
pub(crate) async fn condition_of(worker: &Worker, audience: &Audience, within: Option<&RoaringBitmap>) -> Result<Condition, AudienceError> {
    let expanded = Arc::clone(&audience.kept.expanded);
    if expanded.lists.is_empty() && expanded.identifier_kinds.is_empty() {
        return Ok(expanded.condition.clone());
    }
    worker.shared.deps.definitions.resolve(&worker.tenant, &expanded, within).await
}
