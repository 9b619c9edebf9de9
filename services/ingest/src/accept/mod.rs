//! Accepting events: every event gets an outcome, and what is kept is on disk before the answer.
//!
//! The way of a call: room is reserved for its bytes (`lanes`); every event is checked for shape (`shape`) and against
//! the taxonomy (`typing`); names seen for the first time are registered and those events checked again; accepted events
//! are encoded once, straight into the bytes that go to their partition; quarantined ones are stored; then it answers.
//! To add a rule: `shape` when it holds for every tenant, `typing` when the taxonomy decides it.

mod ids;
mod lanes;
pub mod shape;
pub mod skew;
pub mod time;
pub mod typing;
pub mod who;

use std::sync::Arc;

use prost::Message;
use segue_log::Log;
use segue_model::{TenantId, partition};
use segue_proto::events::v1::{AcceptedEvent, Event};
use segue_proto::ingest::v1::{EventOutcome, Outcome, Reason, ReasonCode};
use segue_runtime::tasks::Tasks;
use segue_store::Db;

use crate::config::{AcceptConfig, QuarantineConfig};
use crate::store::quarantine::{self as quarantine_store, NewEntry};
use crate::taxonomy::{NewNames, Snapshot, Taxonomies};
use crate::{ACCEPTED, IngestError};
use lanes::{Lanes, Parcel, Receipts, Reservation};

/// Events of one call.
pub const EVENTS_MAX: usize = 5_000;
/// Bytes of one event, as protobuf.
pub const EVENT_BYTES_MAX: usize = 32 << 10;

/// Where events of a call come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Source of events that name none: that of the API key.
    pub source: String,
    /// Address of the caller where it is the sender's (HTTP); taken when an event has none.
    pub ip: String,
    /// User agent of the caller, likewise.
    pub user_agent: String,
    /// When the call came in.
    pub received_at_us: i64,
    /// The events' times are taken as they are: no clock skew is corrected, here or later (files, replays).
    pub trusted_time: bool,
}

/// An event on its way in, with what its reader found wrong with it.
#[derive(Debug, Default)]
pub struct Candidate {
    /// What could be read.
    pub event: Event,
    /// Faults found while reading; any of them keeps the event from being accepted.
    pub faults: Vec<Reason>,
    /// Nothing useful could be read: the event is rejected instead of quarantined.
    pub unreadable: bool,
}

impl From<Event> for Candidate {
    fn from(event: Event) -> Self {
        Candidate { event, faults: Vec::new(), unreadable: false }
    }
}

/// What the checks say about an event.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Good, with warnings of mode `warn` and the names that the taxonomy does not know.
    Accepted { warnings: Vec<Reason>, unregistered: Vec<String> },
    /// To be set aside.
    Quarantined(Vec<Reason>),
    /// Not to be kept.
    Rejected(Vec<Reason>),
    /// Has names that are to be registered first; check again afterwards.
    Unknown,
}

/// Accepts events. Cheap to clone.
#[derive(Clone)]
pub struct Accept {
    inner: Arc<Inner>,
}

struct Inner {
    quarantine: QuarantineConfig,
    batch_bytes_max: usize,
    db: Db,
    taxonomies: Taxonomies,
    lanes: Lanes,
}

impl Accept {
    /// Starts one writer per partition of the log. They stop when the tasks stop and no call is under way any more.
    pub fn start(config: AcceptConfig, quarantine: QuarantineConfig, db: Db, log: Log, taxonomies: Taxonomies, tasks: &Tasks) -> Accept {
        let batch_bytes_max = config.batch_bytes_max as usize;
        let lanes = Lanes::start(&config, ACCEPTED, log, tasks);
        Accept { inner: Arc::new(Inner { quarantine, batch_bytes_max, db, taxonomies, lanes }) }
    }

    /// Accepts 1 to 5,000 events of a tenant. Answers when all that is kept is on disk: one outcome per event, in order.
    ///
    /// Safe to repeat as a whole for events with message ids. [`IngestError::Busy`] when too much is waiting; see
    /// [`Accept::accept_waiting`].
    pub async fn accept(&self, tenant: &TenantId, origin: Origin, events: Vec<Event>) -> Result<Vec<EventOutcome>, IngestError> {
        self.accept_candidates(tenant, origin, events.into_iter().map(Candidate::from).collect()).await
    }

    /// Like [`Accept::accept`], but waits for room instead of refusing; for imports, which can hold back their work.
    pub async fn accept_waiting(&self, tenant: &TenantId, origin: Origin, events: Vec<Event>) -> Result<Vec<EventOutcome>, IngestError> {
        self.admit_waiting(tenant, origin, events).await?.durable().await
    }

    /// Like [`Accept::accept`], with faults that a reader found before.
    pub async fn accept_candidates(
        &self,
        tenant: &TenantId,
        origin: Origin,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<EventOutcome>, IngestError> {
        let sizes = sizes(&candidates)?;
        let reservation = self.inner.lanes.try_reserve(sizes.iter().sum())?;
        self.admit(tenant, origin, candidates, &sizes, reservation).await?.durable().await
    }

    /// The first half of accepting, for streams: waits for room, checks, and puts the events in line, so that calls one after
    /// the other keep their order. They are durable when [`Admitted::durable`] says so.
    pub(crate) async fn admit_waiting(&self, tenant: &TenantId, origin: Origin, events: Vec<Event>) -> Result<Admitted, IngestError> {
        let candidates: Vec<Candidate> = events.into_iter().map(Candidate::from).collect();
        let sizes = sizes(&candidates)?;
        let reservation = self.inner.lanes.reserve(sizes.iter().sum()).await?;
        self.admit(tenant, origin, candidates, &sizes, reservation).await
    }

    async fn admit(
        &self,
        tenant: &TenantId,
        origin: Origin,
        mut candidates: Vec<Candidate>,
        sizes: &[usize],
        reservation: Reservation,
    ) -> Result<Admitted, IngestError> {
        let mut snapshot = self.inner.taxonomies.snapshot(tenant).await?;
        let mut verdicts = Vec::with_capacity(candidates.len());
        let mut ids = ids::MessageIds::new(origin.received_at_us);
        let mut new = NewNames::default();
        for (candidate, size) in candidates.iter_mut().zip(sizes) {
            verdicts.push(check(candidate, *size, &origin, &snapshot, &mut ids, Some(&mut new)));
        }
        if !new.is_empty() {
            snapshot = self.inner.taxonomies.register(tenant, new).await?;
            for (candidate, verdict) in candidates.iter_mut().zip(&mut verdicts) {
                if matches!(verdict, Verdict::Unknown) {
                    *verdict = typing_verdict(&mut candidate.event, &snapshot, Vec::new(), None);
                }
            }
        }
        self.keep(tenant, &origin, candidates, verdicts, reservation).await
    }

    /// Puts good events in line and stores faulty ones.
    async fn keep(
        &self,
        tenant: &TenantId,
        origin: &Origin,
        candidates: Vec<Candidate>,
        verdicts: Vec<Verdict>,
        reservation: Reservation,
    ) -> Result<Admitted, IngestError> {
        let mut parcels = self.parcels(tenant);
        let mut outcomes = Vec::with_capacity(candidates.len());
        let mut entries = Vec::new();
        for (Candidate { event, .. }, verdict) in candidates.into_iter().zip(verdicts) {
            let (outcome, reasons, message_id) = match verdict {
                Verdict::Accepted { warnings, unregistered } => {
                    let message_id = event.message_id.clone();
                    parcels.add(tenant, event, origin.received_at_us, unregistered, origin.trusted_time);
                    (Outcome::Accepted, warnings, message_id)
                }
                Verdict::Quarantined(reasons) => {
                    let message_id = event.message_id.clone();
                    let entry = NewEntry::new(event, reasons.clone(), origin.received_at_us, origin.trusted_time);
                    entries.push((outcomes.len(), entry));
                    (Outcome::Quarantined, reasons, message_id)
                }
                Verdict::Rejected(reasons) => (Outcome::Rejected, reasons, event.message_id),
                // Lasts only until the names are registered, and no longer than the second round of checks.
                Verdict::Unknown => (Outcome::Rejected, Vec::new(), event.message_id),
            };
            outcomes.push(EventOutcome { outcome: outcome.into(), message_id, reasons });
        }
        // In line first: the log is written while the store is.
        let receipts = self.inner.lanes.enqueue(tenant, parcels.into_parcels(), reservation);
        for at in self.set_aside(tenant, entries).await? {
            let outcome = &mut outcomes[at];
            outcome.outcome = Outcome::Rejected.into();
            let most = self.inner.quarantine.entries_max;
            let message = format!("the quarantine holds {most} events, its limit: correct and replay them, or discard them");
            outcome.reasons.push(reason(ReasonCode::TooMany, "", message));
        }
        Ok(Admitted { outcomes, receipts })
    }

    /// Stores faulty events; answers which (by their place in the call) the quarantine has no room for.
    async fn set_aside(&self, tenant: &TenantId, entries: Vec<(usize, NewEntry)>) -> Result<Vec<usize>, IngestError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        quarantine_store::insert(&self.inner.db, tenant, entries, i64::from(self.inner.quarantine.entries_max)).await
    }

    fn parcels(&self, tenant: &TenantId) -> Parcels {
        let envelope = tenant.as_str().len() + 64;
        let partitions = self.inner.lanes.partitions();
        Parcels {
            open: (0..partitions).map(|_| Parcel::default()).collect(),
            full: Vec::new(),
            bytes_max: self.inner.batch_bytes_max.saturating_sub(envelope),
        }
    }

    /// Checks one event again, as it stands in quarantine. A name that is unknown is reported in `new`.
    pub(crate) fn check_again(
        &self,
        candidate: &mut Candidate,
        origin: &Origin,
        snapshot: &Snapshot,
        new: Option<&mut NewNames>,
    ) -> Verdict {
        // Its size was checked when it came in; what was filled in since must not keep it out.
        let size = 0;
        check(candidate, size, origin, snapshot, &mut ids::MessageIds::new(origin.received_at_us), new)
    }

    /// Appends events that were checked; returns when they are on disk. For replays: each with its own time of receipt.
    pub(crate) async fn append_checked(&self, tenant: &TenantId, events: Vec<AcceptedEvent>) -> Result<(), IngestError> {
        let bytes = events.iter().map(Message::encoded_len).sum();
        let reservation = self.inner.lanes.reserve(bytes).await?;
        let mut parcels = self.parcels(tenant);
        for accepted in events {
            let AcceptedEvent { event, received_at_us, unregistered, time_is_final } = accepted;
            parcels.add(tenant, event.unwrap_or_default(), received_at_us, unregistered, time_is_final);
        }
        self.inner.lanes.enqueue(tenant, parcels.into_parcels(), reservation).durable().await
    }
}

/// Events that were checked and are in line.
pub(crate) struct Admitted {
    outcomes: Vec<EventOutcome>,
    receipts: Receipts,
}

impl Admitted {
    /// Waits until all that is kept is on disk.
    pub(crate) async fn durable(self) -> Result<Vec<EventOutcome>, IngestError> {
        self.receipts.durable().await?;
        Ok(self.outcomes)
    }
}

/// Sizes of the events, whose number must be allowed.
fn sizes(candidates: &[Candidate]) -> Result<Vec<usize>, IngestError> {
    if (1..=EVENTS_MAX).contains(&candidates.len()) {
        return Ok(candidates.iter().map(|candidate| candidate.event.encoded_len()).collect());
    }
    Err(IngestError::invalid("events", format!("there are {}: send 1 to {EVENTS_MAX} in one call", candidates.len())))
}

/// Checks one event against a taxonomy, without keeping it and without registering names: what is wrong with it. Brings its
/// values to their types, as accepting it would.
pub fn check_alone(event: &mut Event, snapshot: &Snapshot, received_at_us: i64) -> Vec<Reason> {
    let mut candidate = Candidate::from(std::mem::take(event));
    let size = candidate.event.encoded_len();
    let origin = Origin { received_at_us, ..Origin::default() };
    let verdict = check(&mut candidate, size, &origin, snapshot, &mut ids::MessageIds::new(received_at_us), None);
    *event = candidate.event;
    match verdict {
        Verdict::Quarantined(reasons) | Verdict::Rejected(reasons) => reasons,
        Verdict::Accepted { .. } | Verdict::Unknown => Vec::new(),
    }
}

/// All checks of one event. Fills in what the origin knows and the event does not say.
fn check(
    candidate: &mut Candidate,
    size: usize,
    origin: &Origin,
    snapshot: &Snapshot,
    ids: &mut ids::MessageIds,
    new: Option<&mut NewNames>,
) -> Verdict {
    let event = &mut candidate.event;
    let mut faults = std::mem::take(&mut candidate.faults);
    if candidate.unreadable {
        return Verdict::Rejected(faults);
    }
    if size > EVENT_BYTES_MAX {
        let message = format!("the event has {size} bytes: send at most {EVENT_BYTES_MAX}");
        return Verdict::Rejected(vec![reason(ReasonCode::TooLarge, "", message)]);
    }
    if let Some(fault) = shape::message_id(&event.message_id) {
        return Verdict::Rejected(vec![fault]);
    }
    if event.message_id.is_empty() {
        event.message_id = ids.next();
    }
    if event.source.is_empty() {
        event.source.clone_from(&origin.source);
    }
    if !origin.ip.is_empty() || !origin.user_agent.is_empty() {
        let context = event.context.get_or_insert_default();
        if context.ip.is_empty() {
            context.ip.clone_from(&origin.ip);
        }
        if context.user_agent.is_empty() {
            context.user_agent.clone_from(&origin.user_agent);
        }
    }
    shape::check(event, &mut faults);
    time::check(event, origin.received_at_us, origin.trusted_time, &mut faults);
    // An event that is set aside anyway registers nothing, but is told everything that is wrong with it.
    let new = if faults.is_empty() { new } else { None };
    typing_verdict(event, snapshot, faults, new)
}

fn typing_verdict(event: &mut Event, snapshot: &Snapshot, faults: Vec<Reason>, new: Option<&mut NewNames>) -> Verdict {
    let typing::Findings { mut faults, warnings, unregistered, is_new } = typing::check(event, snapshot, faults, new);
    if !faults.is_empty() {
        // Maps have no order of their own; answers should not differ between two runs.
        faults.sort_by(|a, b| a.field.cmp(&b.field));
        return Verdict::Quarantined(faults);
    }
    if is_new { Verdict::Unknown } else { Verdict::Accepted { warnings, unregistered } }
}

/// The encoded events of one call, by partition.
struct Parcels {
    open: Vec<Parcel>,
    full: Vec<(u16, Parcel)>,
    bytes_max: usize,
}

impl Parcels {
    fn add(&mut self, tenant: &TenantId, event: Event, received_at_us: i64, unregistered: Vec<String>, time_is_final: bool) {
        let at = partition_of(tenant, &event, self.open.len() as u16);
        let accepted = AcceptedEvent { event: Some(event), received_at_us, unregistered, time_is_final };
        let parcel = &mut self.open[usize::from(at)];
        // An event is at most 32 KiB and a little; looking before each one would compute its length once more.
        if parcel.bytes() + EVENT_BYTES_MAX * 2 > self.bytes_max && parcel.bytes() > 0 {
            self.full.push((at, std::mem::take(parcel)));
        }
        self.open[usize::from(at)].add(&accepted);
    }

    fn into_parcels(self) -> Vec<(u16, Parcel)> {
        let open = self.open.into_iter().enumerate().filter(|(_, parcel)| parcel.bytes() > 0);
        // Full ones first: they hold the earlier events of their partition.
        self.full.into_iter().chain(open.map(|(at, parcel)| (at as u16, parcel))).collect()
    }
}

/// Partition of an event, by its strongest identifier.
pub fn partition_of(tenant: &TenantId, event: &Event, partitions: u16) -> u16 {
    let (kind, value) = who::strongest(&event.identifiers).map_or(("", ""), |id| (id.kind.as_str(), id.value.as_str()));
    partition::of_identifier(tenant.as_str(), kind, value, partitions)
}

/// A reason of an outcome.
pub fn reason(code: ReasonCode, field: impl Into<String>, message: impl Into<String>) -> Reason {
    Reason { code: code.into(), field: field.into(), message: message.into() }
}
