//! [`Snapshot`]: files and tail of one tenant as of one moment.

use std::sync::Arc;

use roaring::RoaringBitmap;
use segue_model::TenantId;
use segue_proto::events::v1::ResolvedEvent;
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::view::{StoredView, View};
use super::{Column, Pass, PropertyScope, PropertyType, Scan, ScanError, ScanRequest, StoredProperty};
use crate::index::builder::Builder;
use crate::index::files::add_persons;
use crate::index::property::Properties;
use crate::index::run::{Piece, Span};

/// Persons of one chunk: the unit in which work is cut, and one container of a Roaring bitmap.
pub const PERSONS_PER_CHUNK: u32 = 65_536;

/// One consistent view of what is indexed. Cheap to take and to hold; nothing in it changes. Files that are replaced meanwhile
/// stay readable until the last snapshot that names them is dropped.
#[derive(Debug, Clone)]
pub struct Snapshot {
    view: Arc<View>,
    watermark_us: i64,
    cancelled: CancellationToken,
    /// Decoded columns that one pass may hold.
    pass_bytes_max: usize,
}

impl Snapshot {
    pub(crate) fn new(view: Arc<View>, cancelled: CancellationToken, pass_bytes_max: usize) -> Self {
        Self { watermark_us: view.watermark_us, view, cancelled, pass_bytes_max }
    }

    /// The same events, under a watermark that is no later than this: what is known of them is judged as it was then.
    #[must_use]
    pub fn as_of(&self, watermark_us: i64) -> Self {
        Self { watermark_us: self.watermark_us.min(watermark_us), ..self.clone() }
    }

    /// A snapshot of these events alone, without an index: for computations that are tried on a few events. Events take their
    /// sequence from their place in the slice.
    pub fn of_events(tenant: &TenantId, watermark_us: i64, events: &[ResolvedEvent]) -> Result<Self, ScanError> {
        let mut builder = Builder::default();
        let mut properties = Properties::default();
        for (sequence, event) in (0..).zip(events) {
            builder.append(event, sequence, &mut properties)?;
        }
        let pieces = vec![Arc::new(Piece::new(builder.finish()?))];
        let view = View::new(tenant.clone(), watermark_us, Arc::default(), pieces, properties.list());
        Ok(Self::new(Arc::new(view), CancellationToken::new(), 0))
    }

    /// Whose events.
    pub fn tenant(&self) -> &TenantId {
        &self.view.tenant
    }

    /// Everything that reached analytics' log before this moment (microseconds UTC) is in the snapshot.
    pub fn watermark_us(&self) -> i64 {
        self.watermark_us
    }

    /// Canonical names of all events that are stored, sorted.
    pub fn event_names(&self) -> Vec<Arc<str>> {
        self.view.event_names()
    }

    /// Every property that events have ever carried, with the type of its column, sorted by scope and name.
    pub fn properties(&self) -> &[StoredProperty] {
        &self.view.properties[..self.traits_start()]
    }

    /// Every trait that was ever stated of a person, with the type of its [`Column::Trait`](super::Column::Trait), sorted by name.
    pub fn traits(&self) -> &[StoredProperty] {
        &self.view.properties[self.traits_start()..]
    }

    fn traits_start(&self) -> usize {
        self.view.properties.partition_point(|known| known.scope < PropertyScope::Trait)
    }

    /// Type of [`Column::Property`](super::Column::Property) under this name: as registered, else as first sent. `None` if no
    /// event ever carried it.
    pub fn property_type(&self, name: &str) -> Option<PropertyType> {
        let of = |scope| self.view.property_type(scope, name);
        of(PropertyScope::Event).or_else(|| of(PropertyScope::Unregistered))
    }

    /// Largest person number that may occur; with [`PERSONS_PER_CHUNK`] it gives the chunks to spread work over.
    pub fn persons_max(&self) -> u32 {
        self.view.persons_max()
    }

    /// How many rows the runs have that may hold rows of these events in this range of time: an upper bound, known without reading.
    pub fn rows_max(&self, events: Option<&[String]>, range_us: (i64, i64)) -> u64 {
        self.view.runs(events, range_us).iter().map(|run| run.rows() as u64).sum()
    }

    /// The number under which this person lives on: its own, unless it was merged.
    pub fn survivor(&self, person: u32) -> u32 {
        self.view.stored.redirects.survivor(person)
    }

    /// All known persons: the surviving numbers that have any row, be it of an event or of [`TRAITS`](super::TRAITS). Blocks while
    /// reading files, the first time that a file is seen; what was found is kept for as long as there is room in the cache.
    pub fn persons(&self) -> Result<Arc<RoaringBitmap>, ScanError> {
        self.view.persons(&self.cancelled)
    }

    /// Makes persons as they may have been known once persons as they are now: who was merged becomes the survivor.
    pub fn survivors(&self, persons: &mut RoaringBitmap) {
        self.view.stored.redirects.survivors(persons);
    }

    /// Whether none of these persons was merged into another.
    pub(crate) fn are_survivors(&self, persons: &RoaringBitmap) -> bool {
        self.view.stored.redirects.are_survivors(persons)
    }

    /// The persons whose events were deleted on request after this moment.
    pub(crate) fn deleted_since(&self, since_us: i64) -> RoaringBitmap {
        let redirects = &self.view.stored.redirects;
        redirects.deleted_since(since_us).map(|origin| redirects.survivor(origin)).collect()
    }

    /// The persons with events at or after this moment that are too old to be shown by now, as far as files still hold them.
    pub(crate) fn outdated_since(&self, kept_from_us: i64) -> Result<RoaringBitmap, ScanError> {
        let mut persons = RoaringBitmap::new();
        let kept_now_us = self.view.stored.kept_from_us;
        if kept_from_us >= kept_now_us {
            return Ok(persons);
        }
        let stored = StoredView::new(self.view.stored.files.clone(), self.view.stored.redirects.clone(), kept_from_us);
        let (pieces, properties) = (self.view.pieces.clone(), self.view.properties.clone());
        let view = View::new(self.view.tenant.clone(), self.watermark_us, Arc::new(stored), pieces, properties);
        let earlier = Self { view: Arc::new(view), ..self.clone() };
        let columns = vec![Column::Person];
        for batch in earlier.scan(ScanRequest { events: None, range_us: (kept_from_us, kept_now_us), columns, persons: None }) {
            add_persons(&mut persons, batch?.batch.columns().first())?;
        }
        Ok(persons)
    }

    /// The runs that may hold rows of these events in this range of time: smallest and largest person number (before redirects), and
    /// how many rows each has in all.
    pub(crate) fn spread(&self, events: Option<&[String]>, range_us: (i64, i64)) -> impl Iterator<Item = (Span<u32>, u64)> {
        self.view.runs(events, range_us).into_iter().map(|run| (run.persons(), run.rows() as u64))
    }

    /// Walks the rows that the request names. Blocks while reading files.
    pub fn scan(&self, mut request: ScanRequest) -> Scan {
        let persons = request.persons.take();
        Scan::new(Arc::new(Plan::new(self.view.clone(), self.cancelled.clone(), request)), None, persons, true)
    }

    /// Prepares several scans of what the request names, each over a part of its persons.
    pub fn pass(&self, mut request: ScanRequest) -> Pass {
        let persons = request.persons.take();
        Pass::new(Plan::new(self.view.clone(), self.cancelled.clone(), request), persons, self.pass_bytes_max)
    }
}
