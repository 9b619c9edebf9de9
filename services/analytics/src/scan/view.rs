//! What a snapshot shows: the runs of files and of the tail, and whose rows they are now.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use segue_model::TenantId;
use tokio_util::sync::CancellationToken;

use super::select::{Rows, Wanted, choose};
use super::{Column, PropertyScope, PropertyType, ScanError, StoredProperty, TRAITS, column_of};
use crate::index::files::{FileHandle, add_persons};
use crate::index::having::{Few, Having, Holders};
use crate::index::redirects::{Redirects, Specials};
use crate::index::run::{Piece, Span};

static NOTHING_SPECIAL: Specials = Specials { numbers: Vec::new(), by_person: Vec::new() };

/// The files of a tenant with the persons of the moment. Kept for as long as neither changes, so that what is found out about a
/// file is found out once.
#[derive(Debug)]
pub(crate) struct StoredView {
    pub(crate) files: Arc<Vec<Arc<FileHandle>>>,
    pub(crate) redirects: Arc<Redirects>,
    /// Events before this moment are no longer shown.
    pub(crate) kept_from_us: i64,
    /// By file.
    specials: Vec<OnceLock<Specials>>,
    persons: Mutex<Option<Arc<RoaringBitmap>>>,
}

impl StoredView {
    pub(crate) fn new(files: Arc<Vec<Arc<FileHandle>>>, redirects: Arc<Redirects>, kept_from_us: i64) -> Self {
        let specials = files.iter().map(|_| OnceLock::new()).collect();
        Self { files, redirects, kept_from_us, specials, persons: Mutex::default() }
    }
}

impl Default for StoredView {
    /// No files.
    fn default() -> Self {
        Self::new(Arc::default(), Arc::default(), i64::MIN)
    }
}

/// What a snapshot shows; shared by all that are taken while nothing changes.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) tenant: TenantId,
    pub(crate) watermark_us: i64,
    pub(crate) stored: Arc<StoredView>,
    pub(crate) pieces: Vec<Arc<Piece>>,
    pub(crate) properties: Arc<[StoredProperty]>,
    /// By piece.
    specials: Vec<OnceLock<Specials>>,
    persons: Mutex<Option<Arc<RoaringBitmap>>>,
}

/// One event's rows in one row group of a file or in one piece of the tail, sorted by (person, ts, sequence).
#[derive(Debug, Clone)]
pub(crate) enum Run {
    Memory {
        piece: Arc<Piece>,
        /// Which of its runs.
        at: usize,
        /// Which of the view's pieces.
        place: usize,
    },
    File {
        file: Arc<FileHandle>,
        group: usize,
        /// Which of the view's files.
        place: usize,
    },
}

impl Run {
    pub(crate) fn event(&self) -> &Arc<str> {
        match self {
            Run::Memory { piece, at, .. } => &piece.runs[*at].event,
            Run::File { file, group, .. } => &file.entry.groups[*group].event,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Run::Memory { piece, at, .. } => piece.runs[*at].batch.num_rows(),
            Run::File { file, group, .. } => file.entry.groups[*group].rows as usize,
        }
    }

    /// Smallest and largest person number stored.
    pub(crate) fn persons(&self) -> Span<u32> {
        match self {
            Run::Memory { piece, at, .. } => piece.runs[*at].persons,
            Run::File { file, group, .. } => file.entry.groups[*group].persons,
        }
    }

    pub(crate) fn ts(&self) -> Span<i64> {
        match self {
            Run::Memory { piece, at, .. } => piece.runs[*at].ts,
            Run::File { file, group, .. } => file.entry.groups[*group].ts,
        }
    }

    /// Columns by name; `None` where the run stores none.
    pub(crate) fn columns(&self, names: &[Arc<str>]) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        self.columns_of(names, None)
    }

    /// The same of these rows alone.
    pub(crate) fn columns_of(&self, names: &[Arc<str>], few: Option<&Few>) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        match self {
            Run::Memory { piece, at, .. } => {
                let batch = &piece.runs[*at].batch;
                let columns = names.iter().map(|name| match (column_of(name, |name| batch.column_by_name(name))?, few) {
                    (Some(column), Some(few)) => few.of(&column).map(Some),
                    (column, _) => Ok(column),
                });
                Ok(columns.collect::<Result<_, ArrowError>>()?)
            }
            Run::File { file, group, .. } => file.columns(*group, names, few),
        }
    }

    /// Which rows have a value in one of the columns.
    pub(crate) fn holders(&self, having: &Having) -> Result<Holders, ScanError> {
        match self {
            Run::Memory { piece, at, .. } => {
                let batch = &piece.runs[*at].batch;
                Ok(having.holders(having.names.iter().filter_map(|name| batch.column_by_name(name))))
            }
            Run::File { file, group, .. } => file.holders(*group, having),
        }
    }
}

impl View {
    pub(crate) fn new(
        tenant: TenantId,
        watermark_us: i64,
        stored: Arc<StoredView>,
        pieces: Vec<Arc<Piece>>,
        properties: Arc<[StoredProperty]>,
    ) -> Self {
        let specials = pieces.iter().map(|_| OnceLock::new()).collect();
        Self { tenant, watermark_us, stored, pieces, properties, specials, persons: Mutex::default() }
    }

    /// The earliest time of an event that is shown. Traits of persons hold however long ago they were stated.
    pub(crate) fn kept_from_us(&self, event: &str) -> i64 {
        if event == TRAITS { i64::MIN } else { self.stored.kept_from_us }
    }

    /// Canonical names of all events that are stored, sorted.
    pub(crate) fn event_names(&self) -> Vec<Arc<str>> {
        let kept_from_us = self.stored.kept_from_us;
        let mut names: BTreeSet<&Arc<str>> = BTreeSet::new();
        let mut last = None;
        for group in self.stored.files.iter().flat_map(|file| &file.entry.groups).filter(|group| group.ts.1 >= kept_from_us) {
            // Groups of one event follow each other.
            if last != Some(&group.event) {
                names.insert(&group.event);
                last = Some(&group.event);
            }
        }
        names.extend(self.pieces.iter().flat_map(|piece| &piece.runs).filter(|run| run.ts.1 >= kept_from_us).map(|run| &run.event));
        names.into_iter().filter(|name| name.as_ref() != TRAITS).cloned().collect()
    }

    /// The runs that may hold rows of these events in this range of time, ordered by event.
    pub(crate) fn runs(&self, events: Option<&[String]>, range_us: (i64, i64)) -> Vec<Run> {
        let mut runs = Vec::new();
        match events {
            Some(events) => {
                let names: BTreeSet<&str> = events.iter().map(String::as_str).collect();
                names.into_iter().for_each(|name| self.runs_of(name, range_us, &mut runs));
            }
            None => self.event_names().iter().for_each(|name| self.runs_of(name, range_us, &mut runs)),
        }
        runs
    }

    fn runs_of(&self, event: &str, (from_us, to_us): (i64, i64), runs: &mut Vec<Run>) {
        let from_us = from_us.max(self.kept_from_us(event));
        let is_wanted = |ts: Span<i64>| ts.0 < to_us && ts.1 >= from_us;
        for (place, file) in self.stored.files.iter().enumerate() {
            for group in file.groups_of(event).filter(|group| is_wanted(file.entry.groups[*group].ts)) {
                runs.push(Run::File { file: file.clone(), group, place });
            }
        }
        for (place, piece) in self.pieces.iter().enumerate() {
            let found = piece.runs.binary_search_by(|run| run.event.as_ref().cmp(event));
            if let Some(at) = found.ok().filter(|at| is_wanted(piece.runs[*at].ts)) {
                runs.push(Run::Memory { piece: piece.clone(), at, place });
            }
        }
    }

    /// What is special among the rows of the file or piece that a run is in. Blocks while the persons of a file are read.
    pub(crate) fn specials(&self, run: &Run) -> Result<&Specials, ScanError> {
        match run {
            Run::Memory { place, .. } => self.specials_of_piece(*place),
            Run::File { place, .. } => self.specials_of_file(*place),
        }
    }

    fn specials_of_piece(&self, place: usize) -> Result<&Specials, ScanError> {
        let redirects = &self.stored.redirects;
        if redirects.is_empty() {
            return Ok(&NOTHING_SPECIAL);
        }
        let (slot, piece) = (&self.specials[place], &self.pieces[place]);
        if let Some(known) = slot.get() {
            return Ok(known);
        }
        let specials = redirects.among(&*piece.persons()?);
        Ok(slot.get_or_init(|| specials))
    }

    fn specials_of_file(&self, place: usize) -> Result<&Specials, ScanError> {
        let stored = &self.stored;
        let (slot, file) = (&stored.specials[place], &stored.files[place]);
        if !stored.redirects.may_concern(file.persons_span()) {
            return Ok(&NOTHING_SPECIAL);
        }
        if let Some(known) = slot.get() {
            return Ok(known);
        }
        let specials = stored.redirects.among(&*file.persons()?);
        Ok(slot.get_or_init(|| specials))
    }

    /// See [`Snapshot::persons`](super::Snapshot::persons).
    pub(crate) fn persons(&self, cancelled: &CancellationToken) -> Result<Arc<RoaringBitmap>, ScanError> {
        let mut known = self.persons.lock();
        if let Some(known) = known.as_ref() {
            return Ok(known.clone());
        }
        let of_files = {
            let mut known = self.stored.persons.lock();
            match known.as_ref() {
                Some(known) => known.clone(),
                None => {
                    let mut persons = RoaringBitmap::new();
                    for (place, file) in self.stored.files.iter().enumerate() {
                        if cancelled.is_cancelled() {
                            return Err(ScanError::Cancelled);
                        }
                        persons |= self.persons_of_file(place, file)?;
                    }
                    known.insert(Arc::new(persons)).clone()
                }
            }
        };
        let mut persons = RoaringBitmap::new();
        for (place, piece) in self.pieces.iter().enumerate() {
            persons |= self.persons_of_piece(place, piece)?;
        }
        let all = match persons.is_empty() {
            true => of_files,
            false => Arc::new(persons | &*of_files),
        };
        Ok(known.insert(all).clone())
    }

    fn persons_of_file(&self, place: usize, file: &Arc<FileHandle>) -> Result<RoaringBitmap, ScanError> {
        let specials = self.specials_of_file(place)?;
        let all_kept = file.entry.groups.iter().all(|group| group.ts.0 >= self.kept_from_us(&group.event));
        if all_kept && !self.has_mixed(specials) {
            return Ok(now_of(&*file.persons()?, specials));
        }
        let runs = (0..file.entry.groups.len()).map(|group| Run::File { file: file.clone(), group, place });
        self.persons_of_runs(runs, specials)
    }

    fn persons_of_piece(&self, place: usize, piece: &Arc<Piece>) -> Result<RoaringBitmap, ScanError> {
        let specials = self.specials_of_piece(place)?;
        let all_kept = piece.runs.iter().all(|run| run.ts.0 >= self.kept_from_us(&run.event));
        if all_kept && !self.has_mixed(specials) {
            return Ok(now_of(&*piece.persons()?, specials));
        }
        let runs = (0..piece.runs.len()).map(|at| Run::Memory { piece: piece.clone(), at, place });
        self.persons_of_runs(runs, specials)
    }

    fn has_mixed(&self, specials: &Specials) -> bool {
        specials.numbers.iter().any(|number| self.stored.redirects.is_mixed(*number))
    }

    /// The persons of rows that have to be looked at one by one.
    fn persons_of_runs(&self, runs: impl Iterator<Item = Run>, specials: &Specials) -> Result<RoaringBitmap, ScanError> {
        let mut persons = RoaringBitmap::new();
        for run in runs {
            let kept_from_us = self.kept_from_us(run.event());
            if run.ts().1 < kept_from_us {
                continue;
            }
            let wanted = Wanted { persons: (0, u64::from(u32::MAX) + 1), times: (kept_from_us, i64::MAX), only: None };
            let load = |column: &Column| Ok(run.columns(&[column.name().into()])?.pop().flatten());
            let Some(chosen) = choose(&run, run.rows(), &self.stored.redirects, specials, wanted, load)? else { continue };
            let stored = run.columns(&[Column::Person.name().into()])?.pop().flatten();
            let kept = stored.map(|column| match &chosen.kept {
                Rows::Slice(rows) => Ok(column.slice(rows.start, rows.len())),
                Rows::Picked(rows) => arrow::compute::take(&column, rows, None),
            });
            add_persons(&mut persons, kept.transpose()?.as_ref())?;
            if let Some(moved) = chosen.moved {
                persons.extend(moved.persons.values().iter().copied());
            }
        }
        Ok(persons)
    }

    pub(crate) fn property_type(&self, scope: PropertyScope, name: &str) -> Option<PropertyType> {
        let at = self.properties.binary_search_by(|known| (known.scope, known.name.as_str()).cmp(&(scope, name))).ok()?;
        Some(self.properties[at].kind)
    }

    /// The largest person number that a row may have.
    pub(crate) fn persons_max(&self) -> u32 {
        let files = self.stored.files.iter().map(|file| file.persons_span().1);
        let tail = self.pieces.iter().flat_map(|piece| &piece.runs).map(|run| run.persons.1);
        // A survivor may have no rows of its own.
        files.chain(tail).max().unwrap_or(0).max(self.stored.redirects.most())
    }
}

/// Persons as they are stored, none of them mixed, made persons as they are now.
fn now_of(stored: &RoaringBitmap, specials: &Specials) -> RoaringBitmap {
    let mut persons = stored.clone();
    for number in &specials.numbers {
        persons.remove(*number);
    }
    persons.extend(specials.by_person.iter().map(|(person, _)| *person));
    persons
}
