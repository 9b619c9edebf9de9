//! The steps of a round: take in, ask, compare, explain, commit, apply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;
use segue_log::feed::{Followed, advance};
use segue_model::Code;
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{EvaluateConditionsRequest, EvaluateConditionsResponse, EvaluationItem, LogPosition};
use segue_proto::events::v1::TransitionReason;
use segue_runtime::peers::{PeerError, request};
use segue_runtime::status::ServiceError;

use super::adopt::{begin, condition_of};
use super::audience::Standing;
use super::causes::Causes;
use super::changes::{Changes, bitmap_of, bytes_of};
use super::feed::{Positions, Stream};
use super::round::{Answered, Ask, Explained, Moved, Purpose, add_at_once, add_explained, compare, decide, explain, moments, positions_of};
use super::view::View;
use super::whom::{Pending, Touched};
use super::worker::{Failure, Worker};
use crate::error::AudienceError;

/// Audiences that begin in one round: others go on meanwhile.
const BEGIN_MAX: usize = 16;
/// Audits of one round.
const AUDITS_MAX: usize = 2;
/// Analytics is asked at least so often whether events were removed.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(10);
/// How long analytics may take.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// How long analytics may wait for what was read here.
const WAIT_MS: u32 = 2_000;

/// Makes a round.
pub(crate) async fn round(worker: &mut Worker) -> Result<(), Failure> {
    let begun = Instant::now();
    take_in(worker).await?;
    if worker.redefine {
        worker.follow_definitions().await?;
        take_lists(worker).await?;
        worker.redefine = false;
        if !worker.redefined.is_empty() || !worker.gone.is_empty() || !worker.holdouts.is_empty() {
            let as_of_us = worker.row.as_of_us;
            settle(worker, &Touched::default(), as_of_us, Settled::default()).await?;
        }
    }
    let is_known_complete = worker.is_known_complete();
    let touched = Touched::of(&worker.pending, |person| !is_known_complete || !worker.known.contains(person));
    let limit_us = limit(worker);
    // What came in is dealt with as of the moment up to which it was read: edges that are not known so far come first.
    let extent = if limit_us < worker.delivered_us { Extent::Time } else { Extent::Everything };
    let touched = if extent == Extent::Time { Touched::default() } else { touched };
    let asks = asks(worker, &touched, extent, limit_us).await?;
    let is_quiet = asks.is_empty() && worker.pending.removed.is_empty() && worker.asked_at.elapsed() < QUIET_MAX && worker.pokes.is_empty();
    if is_quiet {
        // Whatever came in concerns nobody: membership is as true now as it was.
        return settle(worker, &touched, limit_us, Settled { extent, ..Settled::default() }).await;
    }
    let response = match ask(worker, limit_us, &asks).await {
        Err(error) => return Err(Failure::Repeat(refused(worker, &asks, error))),
        Ok(response) => response,
    };
    worker.asked_at = Instant::now();
    let mut settled = answered(worker, &asks, &response).await?;
    settled.seconds = begun.elapsed().as_secs_f64();
    settled.extent = extent;
    settle(worker, &touched, response.as_of_us, settled).await
}

/// Empties the inbox.
async fn take_in(worker: &mut Worker) -> Result<(), AudienceError> {
    let read_us = worker.shared.feed.barrier(None).await?;
    let delivery = worker.inbox.take(&worker.shared.feed.positions());
    if delivery.overflowed {
        tracing::warn!(tenant = %worker.tenant, "more came in than live membership could deal with: audiences are evaluated in full");
        worker.pending = Pending::default();
        worker.catch_up();
        // Who is new is not known any more either.
        worker.take(delivery);
        worker.learn_known().await?;
    } else {
        worker.take(delivery);
    }
    worker.delivered_us = worker.delivered_us.max(read_us);
    Ok(())
}

/// Takes in which lists were changed: changing them rings as changing definitions does.
async fn take_lists(worker: &mut Worker) -> Result<(), AudienceError> {
    for change in worker.shared.deps.definitions.list_changes(&worker.tenant).await? {
        let mark = (change.list.clone(), change.revision);
        if !worker.list_marks.contains(&mark) {
            *worker.pending.listed.entry(change.list).or_default() |= change.persons;
            worker.list_marks.push(mark);
        }
    }
    Ok(())
}

/// Up to where this round may go: what was read, and what is known of edges.
fn limit(worker: &Worker) -> i64 {
    let followed = worker.audiences.values().filter(|audience| audience.is_followed());
    let known_us = followed.map(|audience| audience.timers.until_us()).min().unwrap_or(i64::MAX);
    worker.delivered_us.min(known_us).max(worker.row.as_of_us)
}

/// What to ask analytics.
async fn asks(worker: &mut Worker, touched: &Touched, extent: Extent, limit_us: i64) -> Result<Vec<Ask>, AudienceError> {
    let now_us = worker.shared.deps.clock.now_us();
    let audit_us = i64::try_from(worker.shared.deps.config.live.audit_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    let (mut begins, mut audits) = (0, 0);
    let mut wanted: Vec<(String, Purpose, i64)> = Vec::new();
    for (id, audience) in &mut worker.audiences {
        match audience.standing {
            Standing::ToEvaluate(reason) if begins < BEGIN_MAX && extent == Extent::Everything => {
                begins += 1;
                let horizon_us = audience.timers.wanted_until(limit_us).unwrap_or(limit_us);
                wanted.push((id.clone(), Purpose::Begin(reason), horizon_us));
            }
            Standing::Current if audience.is_live() => {
                let mut whom =
                    if extent == Extent::Everything { touched.whom(&audience.interest, &worker.pending) } else { RoaringBitmap::new() };
                whom.extend(audience.timers.due(limit_us).map(|(_, person)| person));
                let is_ready = extent == Extent::Everything && audience.audit.is_ready(&worker.delivered);
                let suspects = if is_ready { &audience.audit.suspects - &whom } else { RoaringBitmap::new() };
                whom |= &suspects;
                if !whom.is_empty() || is_ready {
                    wanted.push((id.clone(), Purpose::Touched { whom, suspects }, 0));
                }
                let is_late = audit_us > 0 && now_us.saturating_sub(audience.audit.audited_us) >= audit_us;
                if audits < AUDITS_MAX && !audience.audit.is_open && (audience.audit.is_wanted || is_late) {
                    audits += 1;
                    wanted.push((id.clone(), Purpose::Audit, 0));
                }
                // From what was read on, not from where the edges end: after a pause there is much to catch up with.
                if let Some(horizon_us) = audience.timers.wanted_until(worker.delivered_us.max(limit_us)) {
                    wanted.push((id.clone(), Purpose::Edges, horizon_us));
                }
            }
            Standing::ToEvaluate(_) | Standing::Current | Standing::AtRest | Standing::Refused => {}
        }
    }
    let mut asks = Vec::with_capacity(wanted.len());
    for (id, purpose, horizon_us) in wanted {
        let Some(audience) = worker.audiences.get(&id) else { continue };
        let within = match &purpose {
            Purpose::Touched { whom, .. } => Some(whom),
            Purpose::Begin(_) | Purpose::Audit | Purpose::Edges => None,
        };
        let condition = condition_of(worker, audience, within).await?;
        asks.push(Ask::new(&id, audience, condition, purpose, horizon_us));
    }
    Ok(asks)
}

/// Asks analytics, which has to know what is dealt with here.
async fn ask(worker: &Worker, limit_us: i64, asks: &[Ask]) -> Result<EvaluateConditionsResponse, AudienceError> {
    worker
        .evaluate(EvaluateConditionsRequest {
            items: asks.iter().map(|ask| ask.item.clone()).collect(),
            at_least: worker.at_least(),
            wait_ms: WAIT_MS,
            as_of_us: limit_us,
            removed_since_us: worker.row.as_of_us,
        })
        .await
}

/// If analytics refuses conditions, their audiences are left out until they are changed.
fn refused(worker: &mut Worker, asks: &[Ask], error: AudienceError) -> AudienceError {
    if error.code() != Code::InvalidArgument {
        return error;
    }
    for fault in error.field_violations() {
        let place = fault.field.strip_prefix("items[").and_then(|rest| rest.split(']').next()).and_then(|at| at.parse::<usize>().ok());
        let Some(ask) = place.and_then(|at| asks.get(at)) else { continue };
        let Some(audience) = worker.audiences.get_mut(&ask.audience) else { continue };
        tracing::warn!(tenant = %worker.tenant, audience = ask.audience, fault = fault.description, field = fault.field,
            "the condition of an audience is refused: its members stay as they are until it is changed");
        audience.standing = Standing::Refused;
        for reply in audience.replies.drain(..) {
            // Whoever asked may have gone away.
            let _ = reply.send(Err(error.clone()));
        }
    }
    error
}

/// What a round deals with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// That time has passed: what came in stays pending.
    #[default]
    Time,
    /// What came in, too.
    Everything,
}

/// What a round comes to.
#[derive(Default)]
pub(crate) struct Settled {
    pub(crate) extent: Extent,
    pub(crate) changes: Changes,
    /// What each ask was answered.
    pub(crate) answers: Vec<(Ask, Answered)>,
    /// Persons whose events were removed.
    pub(crate) removed: RoaringBitmap,
    /// What analytics knew.
    pub(crate) positions: Positions,
    /// Persons who changed and were named by an audit alone.
    pub(crate) repaired: BTreeMap<String, u64>,
    pub(crate) seconds: f64,
}

/// Compares answers with who is in, and says why they differ.
async fn answered(worker: &mut Worker, asks: &[Ask], response: &EvaluateConditionsResponse) -> Result<Settled, AudienceError> {
    let mut settled = Settled { positions: positions_of(response), ..Settled::default() };
    if !response.removed.is_empty() {
        settled.removed = bitmap_of(&response.removed).ok_or(AudienceError::Corrupt { what: "an answer of analytics" })?;
    }
    {
        let mut view = worker.view.write();
        for ask in asks {
            if let (Purpose::Begin(_), Some(audience)) = (&ask.purpose, worker.audiences.get(&ask.audience)) {
                let members = view.members.entry(ask.audience.clone()).or_insert_with(|| begin(audience, response.as_of_us));
                members.version = audience.kept.version;
            }
        }
    }
    let nobody = RoaringBitmap::new();
    for (ask, item) in asks.iter().zip(&response.items) {
        let matched = worker.view.read().members.get(&ask.audience).map(|members| members.matched.clone());
        let answer = compare(ask, item, matched.as_deref().unwrap_or(&nobody))?;
        settled.answers.push((ask.clone(), answer));
    }
    let explained = explained(worker, &settled.answers, response.as_of_us).await?;
    let view = worker.view.read();
    add_explained(&mut settled.changes, &explained, &worker.pending, &view);
    for (audience, _, _, cause) in &explained.decided {
        if cause.reason == TransitionReason::Repair {
            *settled.repaired.entry(audience.clone()).or_default() += 1;
        }
    }
    for (ask, answer) in &settled.answers {
        if let Purpose::Begin(reason) = ask.purpose {
            let moved = (answer.entered.clone(), answer.left.clone());
            add_at_once(&mut settled.changes, &ask.audience, response.as_of_us, reason, moved, &view);
        }
    }
    drop(view);
    Ok(settled)
}

/// Why the persons who were touched changed. Where only evaluating once more at moments in between tells, that is done.
async fn explained(worker: &Worker, answers: &[(Ask, Answered)], as_of_us: i64) -> Result<Explained, AudienceError> {
    let mut changed = RoaringBitmap::new();
    let mut moved = Vec::new();
    for (ask, answer) in answers {
        let (Purpose::Touched { suspects, .. }, Some(audience)) = (&ask.purpose, worker.audiences.get(&ask.audience)) else { continue };
        if answer.entered.is_empty() && answer.left.is_empty() {
            continue;
        }
        let of = &answer.entered | &answer.left;
        let mut edges: HashMap<u32, Vec<i64>> = HashMap::new();
        for (time, person) in audience.timers.due(as_of_us).filter(|(_, person)| of.contains(*person)) {
            edges.entry(person).or_default().push(time);
        }
        changed |= of;
        moved.push(Moved { id: &ask.audience, audience, suspects, entered: &answer.entered, left: &answer.left, edges });
    }
    let causes = Causes::new(&worker.pending, &changed, (worker.row.as_of_us, as_of_us));
    let mut explained = explain(&causes, &moved);
    let undecided = std::mem::take(&mut explained.undecided);
    if undecided.is_empty() {
        return Ok(explained);
    }
    let wanted = moments(&undecided);
    let mut items = Vec::with_capacity(wanted.len());
    for ((id, time), persons) in &wanted {
        let Some(audience) = worker.audiences.get(id) else { continue };
        let condition = Some(condition_of(worker, audience, Some(persons)).await?);
        let time_zone = audience.time_zone.clone();
        let whom = Some(Whom::Persons(bytes_of(persons)));
        items.push(EvaluationItem { condition, time_zone, whom, as_of_us: *time, ..EvaluationItem::default() });
    }
    let request = EvaluateConditionsRequest { items, at_least: worker.at_least(), wait_ms: WAIT_MS, as_of_us, removed_since_us: 0 };
    let response = worker.evaluate(request).await?;
    let mut met = BTreeMap::new();
    for (key, item) in wanted.into_keys().zip(&response.items) {
        let persons = if item.met.is_empty() { Some(RoaringBitmap::new()) } else { bitmap_of(&item.met) };
        met.insert(key, persons.ok_or(AudienceError::Corrupt { what: "an answer of analytics" })?);
    }
    decide(&causes, undecided, &met, &mut explained);
    Ok(explained)
}

/// Commits what a round came to, then puts it into memory.
async fn settle(worker: &mut Worker, touched: &Touched, as_of_us: i64, mut settled: Settled) -> Result<(), Failure> {
    let redefined = std::mem::take(&mut worker.redefined);
    for (key, persons) in redefined.groups() {
        settled.changes.add(key.clone(), persons.clone());
    }
    let begun: BTreeSet<String> = settled.begun().collect();
    super::commit::commit(worker, &settled, &begun, as_of_us).await.map_err(Failure::Reload)?;
    let is_changed = !settled.changes.is_empty();
    {
        let mut view = worker.view.write();
        let View { status, .. } = &mut *view;
        status.rounds += 1;
        status.round_seconds = settled.seconds;
        status.persons_evaluated += settled.answers.iter().map(|(_, answer)| answer.looked_at).sum::<u64>();
        (status.audits, status.repaired) = (worker.row.audits, worker.row.repaired);
        view.apply_all(&settled.changes, &mut worker.dirty);
        for (id, holdout) in std::mem::take(&mut worker.holdouts) {
            if let Some(members) = view.members.get_mut(&id) {
                members.holdout = holdout;
            }
        }
        (view.as_of_us, view.sequence) = (as_of_us, worker.row.sequence);
        for id in worker.gone.drain(..) {
            view.members.remove(&id);
        }
        for id in &begun {
            if let Some(members) = view.members.get_mut(id) {
                members.evaluated_us = as_of_us;
            }
        }
    }
    let extent = settled.extent;
    follow(worker, settled, as_of_us);
    if extent == Extent::Everything {
        worker.known |= touched.everybody();
        worker.pending.seen.clear();
        worker.pending.merged.clear();
        worker.pending.listed.clear();
        worker.list_marks.clear();
    }
    let timer_bytes = worker.audiences.values().map(|audience| audience.timers.bytes() as u64).sum();
    worker.view.write().status.timer_bytes = timer_bytes;
    let is_complete =
        extent == Extent::Everything && worker.audiences.values().all(|audience| !matches!(audience.standing, Standing::ToEvaluate(_)));
    if is_complete {
        for poke in worker.pokes.drain(..) {
            // Whoever asked may have gone away.
            let _ = poke.send(());
        }
    }
    if is_changed {
        worker.shared.committed.notify_one();
    }
    Ok(())
}

/// Moves timers, audits and standings on.
fn follow(worker: &mut Worker, settled: Settled, as_of_us: i64) {
    for audience in worker.audiences.values_mut().filter(|audience| audience.is_followed()) {
        audience.timers.forget(as_of_us);
    }
    let view = worker.view.clone();
    let view = view.read();
    let is_asked = !settled.positions.is_empty();
    for (ask, answer) in settled.answers {
        let Some(audience) = worker.audiences.get_mut(&ask.audience) else { continue };
        let size = view.members.get(&ask.audience).map_or((0, 0), |members| (members.size(), members.held_out));
        match ask.purpose {
            Purpose::Touched { .. } => {
                audience.timers.add(answer.edges.into_iter());
                if audience.close_audit(&settled.repaired, size, as_of_us, &worker.delivered) {
                    worker.row.audits += 1;
                }
            }
            Purpose::Begin(_) => {
                audience.timers = super::timers::Timers::new(as_of_us, audience.timers.span_us());
                audience.timers.extend(answer.edges.into_iter(), answer.edges_until_us.max(as_of_us));
                audience.begun(size, (answer.entered.len(), answer.left.len()), as_of_us);
            }
            Purpose::Edges => audience.timers.extend(answer.edges.into_iter(), answer.edges_until_us),
            Purpose::Audit => {
                let looked_at = view.members.get(&ask.audience).map(|members| members.matched.clone());
                audience.open_audit(answer, looked_at.as_deref(), &settled.changes, &settled.positions);
            }
        }
    }
    if settled.extent == Extent::Everything {
        worker.pending.removed.clear();
    }
    if is_asked {
        // Analytics says more than once whose events were removed lately.
        let removed = &settled.removed - &worker.removed;
        worker.known -= &removed;
        worker.pending.removed |= removed;
        worker.removed = settled.removed;
    }
}

impl Settled {
    /// The audiences that were evaluated in full.
    fn begun(&self) -> impl Iterator<Item = String> {
        let begun = self.answers.iter().filter(|(ask, _)| matches!(ask.purpose, Purpose::Begin(_)));
        begun.map(|(ask, _)| ask.audience.clone())
    }
}

impl Worker {
    /// Asks analytics.
    pub(crate) async fn evaluate(&self, message: EvaluateConditionsRequest) -> Result<EvaluateConditionsResponse, AudienceError> {
        let items = message.items.len();
        let mut analytics = self.shared.deps.peers.analytics();
        let response = analytics.evaluate_conditions(request(&self.tenant, message, ANSWER_MAX)).await;
        let response = response.map_err(PeerError::analytics)?.into_inner();
        if response.items.len() != items {
            return Err(AudienceError::Corrupt { what: "an answer of analytics" });
        }
        Ok(response)
    }

    /// What analytics must know: everything that is dealt with here.
    pub(crate) fn at_least(&self) -> Vec<LogPosition> {
        let position = |((stream, partition), position): (&(Stream, u16), &u64)| LogPosition {
            topic: stream.topic().name().to_owned(),
            partition: u32::from(*partition),
            position: *position,
        };
        self.delivered.iter().map(position).collect()
    }

    /// Where the next commit gets to.
    pub(crate) fn advance_row(&mut self, extent: Extent, as_of_us: i64, transitions: u64) {
        if extent == Extent::Everything {
            advance(&mut self.row.positions, &self.delivered);
        }
        self.row.as_of_us = as_of_us;
        self.row.sequence += transitions;
    }
}
