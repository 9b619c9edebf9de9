//! [`Snapshot`]: files and tail of one tenant as of one moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use segue_model::TenantId;
use segue_proto::events::v1::ResolvedEvent;
use tokio_util::sync::CancellationToken;

use super::{PropertyScope, PropertyType, Scan, ScanError, ScanRequest, StoredProperty};
use crate::index::builder::Builder;
use crate::index::files::FileHandle;
use crate::index::property::Properties;
use crate::index::redirects::Redirects;
use crate::index::run::{MemoryRun, Piece, Span};

/// Persons of one chunk: the unit in which work is cut, and one container of a Roaring bitmap.
pub const PERSONS_PER_CHUNK: u32 = 65_536;

/// One consistent view of what is indexed. Cheap to take and to hold; nothing in it changes. Files that are replaced meanwhile
/// stay readable until the last snapshot that names them is dropped.
#[derive(Debug, Clone)]
pub struct Snapshot {
    view: Arc<View>,
    cancelled: CancellationToken,
}

/// What a snapshot shows; shared by all that are taken while nothing changes.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) tenant: TenantId,
    pub(crate) watermark_us: i64,
    pub(crate) files: Arc<Vec<Arc<FileHandle>>>,
    pub(crate) pieces: Vec<Arc<Piece>>,
    pub(crate) redirects: Arc<Redirects>,
    pub(crate) properties: Arc<[StoredProperty]>,
}

/// One event's rows in one row group of a file or in one piece of the tail, sorted by (person, ts, sequence).
#[derive(Debug, Clone)]
pub(crate) enum Run {
    Memory(MemoryRun),
    File { file: Arc<FileHandle>, group: usize },
}

impl Run {
    pub(crate) fn event(&self) -> &Arc<str> {
        match self {
            Run::Memory(run) => &run.event,
            Run::File { file, group } => &file.entry.groups[*group].event,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Run::Memory(run) => run.batch.num_rows(),
            Run::File { file, group } => file.entry.groups[*group].rows as usize,
        }
    }

    /// Smallest and largest person number stored (before redirects).
    pub(crate) fn persons(&self) -> Span<u32> {
        match self {
            Run::Memory(run) => run.persons,
            Run::File { file, group } => file.entry.groups[*group].persons,
        }
    }

    pub(crate) fn ts(&self) -> Span<i64> {
        match self {
            Run::Memory(run) => run.ts,
            Run::File { file, group } => file.entry.groups[*group].ts,
        }
    }

    /// Columns by name; `None` where the run stores none.
    pub(crate) fn columns(&self, names: &[Arc<str>]) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        match self {
            Run::Memory(run) => Ok(names.iter().map(|name| run.batch.column_by_name(name).cloned()).collect()),
            Run::File { file, group } => file.columns(*group, names),
        }
    }
}

impl View {
    /// The runs that may hold rows of these events in this range of time, ordered by event.
    pub(crate) fn runs(&self, events: Option<&[String]>, (from_us, to_us): (i64, i64)) -> Vec<Run> {
        let wanted = |event: &str, ts: Span<i64>| {
            ts.0 < to_us && ts.1 >= from_us && events.is_none_or(|events| events.iter().any(|name| name == event))
        };
        let mut runs = Vec::new();
        for file in self.files.iter() {
            for (group, info) in file.entry.groups.iter().enumerate() {
                if wanted(&info.event, info.ts) {
                    runs.push(Run::File { file: file.clone(), group });
                }
            }
        }
        for run in self.pieces.iter().flat_map(|piece| &piece.runs) {
            if wanted(&run.event, run.ts) {
                runs.push(Run::Memory(run.clone()));
            }
        }
        runs.sort_by(|one, other| one.event().cmp(other.event()));
        runs
    }

    pub(crate) fn property_type(&self, scope: PropertyScope, name: &str) -> Option<PropertyType> {
        let at = self.properties.binary_search_by(|known| (known.scope, known.name.as_str()).cmp(&(scope, name))).ok()?;
        Some(self.properties[at].kind)
    }
}

impl Snapshot {
    pub(crate) fn new(view: Arc<View>, cancelled: CancellationToken) -> Self {
        Self { view, cancelled }
    }

    /// A snapshot of these events alone, without an index: for computations that are tried on a few events. Events take their
    /// sequence from their place in the slice.
    pub fn of_events(tenant: &TenantId, watermark_us: i64, events: &[ResolvedEvent]) -> Result<Self, ScanError> {
        let mut builder = Builder::default();
        let mut properties = Properties::default();
        for (sequence, event) in (0..).zip(events) {
            builder.append(event, sequence, &mut properties)?;
        }
        let view = View {
            tenant: tenant.clone(),
            watermark_us,
            files: Arc::default(),
            pieces: vec![Arc::new(Piece::new(builder.finish()?))],
            redirects: Arc::default(),
            properties: properties.list(),
        };
        Ok(Self::new(Arc::new(view), CancellationToken::new()))
    }

    /// Whose events.
    pub fn tenant(&self) -> &TenantId {
        &self.view.tenant
    }

    /// Everything that reached analytics' log before this moment (microseconds UTC) is in the snapshot.
    pub fn watermark_us(&self) -> i64 {
        self.view.watermark_us
    }

    /// Canonical names of all events that are stored, sorted.
    pub fn event_names(&self) -> Vec<Arc<str>> {
        let files = self.view.files.iter().flat_map(|file| &file.entry.groups).map(|group| &group.event);
        let tail = self.view.pieces.iter().flat_map(|piece| &piece.runs).map(|run| &run.event);
        let names: BTreeSet<&Arc<str>> = files.chain(tail).collect();
        names.into_iter().cloned().collect()
    }

    /// Every property that events have ever carried, with the type of its column, sorted by scope and name.
    pub fn properties(&self) -> &[StoredProperty] {
        &self.view.properties
    }

    /// Type of [`Column::Property`](super::Column::Property) under this name: as registered, else as first sent. `None` if no
    /// event ever carried it.
    pub fn property_type(&self, name: &str) -> Option<PropertyType> {
        let of = |scope| self.view.property_type(scope, name);
        of(PropertyScope::Event).or_else(|| of(PropertyScope::Unregistered))
    }

    /// Largest person number that occurs; with [`PERSONS_PER_CHUNK`] it gives the chunks to spread work over.
    pub fn persons_max(&self) -> u32 {
        let files = self.view.files.iter().flat_map(|file| &file.entry.groups).map(|group| group.persons.1);
        let tail = self.view.pieces.iter().flat_map(|piece| &piece.runs).map(|run| run.persons.1);
        // A survivor may have no rows of its own.
        let survivors = self.view.redirects.merged_into(0, u32::MAX).last().map(|(survivor, _)| *survivor);
        files.chain(tail).chain(survivors).max().unwrap_or(0)
    }

    /// How many rows the runs have that may hold rows of these events in this range of time: an upper bound, known without reading.
    pub fn rows_max(&self, events: Option<&[String]>, range_us: (i64, i64)) -> u64 {
        self.view.runs(events, range_us).iter().map(|run| run.rows() as u64).sum()
    }

    /// The number under which this person lives on: its own, unless it was merged.
    pub fn survivor(&self, person: u32) -> u32 {
        self.view.redirects.survivor(person)
    }

    /// Walks the rows that the request names. Blocks while reading files.
    pub fn scan(&self, request: ScanRequest) -> Scan {
        Scan::new(self.view.clone(), self.cancelled.clone(), request)
    }
}
