//! [`Scan`]: run by run, which rows match, and their columns.
//!
//! A run is sorted by the person numbers that were valid when it was written. Rows of persons that were merged since then are
//! taken out of the run's batch and handed out as a batch of their own, sorted by their survivors, so that each batch stays in
//! the order of persons.

use std::collections::HashSet;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tokio_util::sync::CancellationToken;

use super::{Column, PropertyScope, Run, ScanBatch, ScanError, ScanRequest, ScanStats, View};
use crate::index::property::PropertyColumn;
use crate::scan::{PropertyType, decode_value, text_type};

/// Rows of a snapshot, batch by batch. See the module's documentation for the order.
#[derive(Debug)]
pub struct Scan {
    view: Arc<View>,
    cancelled: CancellationToken,
    request: ScanRequest,
    /// Names of the columns of which a row must have at least one; empty: all rows.
    having: Vec<Arc<str>>,
    types: Vec<DataType>,
    runs: std::vec::IntoIter<Run>,
    /// The second batch of a run: rows of merged persons.
    waiting: Option<ScanBatch>,
    stats: ScanStats,
    files: HashSet<String>,
    ended: bool,
}

/// Which rows of a run.
enum Selection {
    Slice(Range<usize>),
    Rows(UInt32Array),
}

/// Which rows of a run have what is asked for.
enum Wanted {
    All,
    These(BooleanBuffer),
    None,
}

impl Selection {
    /// Those that are also among these rows of the run.
    fn among(self, rows: &BooleanBuffer) -> Selection {
        Selection::Rows(match self {
            Selection::Slice(range) => {
                let start = range.start as u32;
                rows.slice(range.start, range.len()).set_indices_u32().map(|row| start + row).collect::<Vec<_>>().into()
            }
            Selection::Rows(kept) => kept.values().iter().copied().filter(|row| rows.value(*row as usize)).collect::<Vec<_>>().into(),
        })
    }

    fn len(&self) -> usize {
        match self {
            Selection::Slice(range) => range.len(),
            Selection::Rows(rows) => rows.len(),
        }
    }

    fn apply(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self {
            Selection::Slice(range) => Ok(column.slice(range.start, range.len())),
            Selection::Rows(rows) => take(column, rows, None),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<ScanBatch, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if self.cancelled.is_cancelled() {
                self.ended = true;
                return Some(Err(ScanError::Cancelled));
            }
            if let Some(batch) = self.waiting.take() {
                return Some(Ok(batch));
            }
            let Some(run) = self.runs.next() else {
                self.ended = true;
                break;
            };
            match self.read(&run) {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl FusedIterator for Scan {}

impl Scan {
    pub(super) fn new(view: Arc<View>, cancelled: CancellationToken, request: ScanRequest) -> Self {
        let types = request
            .columns
            .iter()
            .map(|column| match column {
                Column::Property(name) => {
                    let kind = |scope| view.property_type(scope, name).map(PropertyType::data_type);
                    kind(PropertyScope::Event).or_else(|| kind(PropertyScope::Unregistered)).unwrap_or_else(text_type)
                }
                other => other.data_type().unwrap_or_else(text_type),
            })
            .collect();
        let runs = view.runs(request.events.as_deref(), request.range_us).into_iter();
        Self {
            view,
            cancelled,
            request,
            having: Vec::new(),
            types,
            runs,
            waiting: None,
            stats: ScanStats::default(),
            files: HashSet::new(),
            ended: false,
        }
    }

    /// Only rows that have a value in at least one of these columns, which are not properties. Runs without any cost next to nothing.
    #[must_use]
    pub fn having(mut self, columns: &[Column]) -> Self {
        self.having = columns.iter().map(|column| column.name().into()).collect();
        self
    }

    /// What was read so far.
    pub fn stats(&self) -> ScanStats {
        ScanStats { files: self.files.len() as u32, ..self.stats }
    }

    /// The batch of a run, and the one of its merged persons put aside.
    fn read(&mut self, run: &Run) -> Result<Option<ScanBatch>, ScanError> {
        let wanted = match self.wanted(run)? {
            Wanted::All => None,
            Wanted::These(rows) => Some(rows),
            Wanted::None => return Ok(None),
        };
        let Some((mut kept, mut moved)) = self.select(run)? else { return Ok(None) };
        if let Some(wanted) = wanted {
            kept = kept.among(&wanted);
            moved.retain(|(_, row)| wanted.value(*row as usize));
        }
        if kept.len() == 0 && moved.is_empty() {
            return Ok(None);
        }
        let columns = self.load(run)?;
        let mut first = None;
        if kept.len() > 0 {
            first = Some(self.batch(run, &columns, &kept, None)?);
        }
        if !moved.is_empty() {
            let survivors: UInt32Array = moved.iter().map(|(survivor, _)| *survivor).collect::<Vec<_>>().into();
            let rows = Selection::Rows(moved.iter().map(|(_, row)| *row).collect::<Vec<_>>().into());
            let batch = self.batch(run, &columns, &rows, Some(Arc::new(survivors)))?;
            match first {
                Some(_) => self.waiting = Some(batch),
                None => first = Some(batch),
            }
        }
        let rows = (kept.len() + moved.len()) as u64;
        self.stats.rows += rows;
        match run {
            Run::Memory(_) => self.stats.tail_rows += rows,
            Run::File { file, .. } => {
                if !self.files.contains(&file.entry.name) {
                    self.files.insert(file.entry.name.clone());
                }
            }
        }
        Ok(first)
    }

    /// Which rows of the run have a value in one of the columns of `having`.
    fn wanted(&self, run: &Run) -> Result<Wanted, ScanError> {
        if self.having.is_empty() {
            return Ok(Wanted::All);
        }
        let mut wanted: Option<BooleanBuffer> = None;
        for column in run.columns(&self.having)?.into_iter().flatten() {
            match column.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
                None => return Ok(Wanted::All),
                Some(nulls) if nulls.null_count() == nulls.len() => {}
                Some(nulls) => wanted = Some(wanted.map_or_else(|| nulls.inner().clone(), |wanted| &wanted | nulls.inner())),
            }
        }
        Ok(wanted.map_or(Wanted::None, Wanted::These))
    }

    /// Which rows of the run match: those under their own number, and (survivor, row) of merged persons. `None`: no rows.
    #[allow(clippy::type_complexity, reason = "the pair is taken apart at the only call")]
    fn select(&self, run: &Run) -> Result<Option<(Selection, Vec<(u32, u32)>)>, ScanError> {
        let (least, most) = run.persons();
        let (from, to) = self.request.persons.as_ref().map_or((0, u64::from(u32::MAX) + 1), |range| (range.start, u64::from(range.end)));
        let redirects = &self.view.redirects;
        // Merged persons whose rows this run stores under their old numbers.
        let merged_here = redirects.within(least, most);
        let own_overlap = u64::from(least) < to && u64::from(most) >= u64::from(from);
        let all_persons = u64::from(least) >= u64::from(from) && u64::from(most) < to;
        let wanted_merged: Vec<(u32, u32)> = if self.request.persons.is_none() {
            merged_here.to_vec()
        } else {
            // Whichever list is shorter.
            let upper = u32::try_from(to).unwrap_or(u32::MAX);
            let into = redirects.merged_into(from, upper);
            if into.len() < merged_here.len() {
                into.iter().map(|(survivor, number)| (*number, *survivor)).filter(|(number, _)| (least..=most).contains(number)).collect()
            } else {
                merged_here.iter().copied().filter(|(_, survivor)| (from..upper).contains(survivor)).collect()
            }
        };
        if !own_overlap && wanted_merged.is_empty() {
            return Ok(None);
        }
        let (from_us, to_us) = self.request.range_us;
        let (earliest, latest) = run.ts();
        let all_times = earliest >= from_us && latest < to_us;
        if all_persons && all_times && merged_here.is_empty() {
            return Ok(Some((Selection::Slice(0..run.rows()), Vec::new())));
        }

        let needed: Vec<Arc<str>> = [Column::Person, Column::Ts, Column::Sequence].iter().map(|column| column.name().into()).collect();
        let keys = Keys::load(run, &needed, !all_times || !wanted_merged.is_empty())?;
        let person = keys.person();
        let in_time = |row: usize| all_times || keys.ts(row).is_some_and(|ts| from_us <= ts && ts < to_us);
        let range_of = |number: u32| person.partition_point(|p| *p < number)..person.partition_point(|p| *p <= number);

        let start = person.partition_point(|p| *p < from);
        let end = person.partition_point(|p| u64::from(*p) < to).max(start);
        let holes: Vec<Range<usize>> = merged_here
            .iter()
            .filter(|(number, _)| u64::from(*number) < to && *number >= from)
            .map(|(number, _)| range_of(*number))
            .filter(|rows| !rows.is_empty())
            .collect();
        let kept = if holes.is_empty() && all_times {
            Selection::Slice(start..end)
        } else {
            let mut rows = Vec::with_capacity(end - start);
            let mut at = start;
            for hole in holes.iter().cloned().chain(std::iter::once(end..end)) {
                rows.extend((at..hole.start).filter(|row| in_time(*row)).map(|row| row as u32));
                at = hole.end.max(at);
            }
            Selection::Rows(UInt32Array::from(rows))
        };

        let mut moved: Vec<(u32, u32)> = Vec::new();
        for (number, survivor) in wanted_merged {
            moved.extend(range_of(number).filter(|row| in_time(*row)).map(|row| (survivor, row as u32)));
        }
        moved.sort_by_key(|(survivor, row)| (*survivor, keys.ts(*row as usize), keys.sequence(*row as usize)));
        Ok(Some((kept, moved)))
    }

    /// The requested columns of a run, all rows; `None` where nothing is stored.
    fn load(&self, run: &Run) -> Result<Vec<Option<ArrayRef>>, ScanError> {
        let names: Vec<Arc<str>> = self.request.columns.iter().map(|column| column.name().into()).collect();
        let mut columns = run.columns(&names)?;
        let mut map: Option<Option<ArrayRef>> = None;
        for ((column, data_type), stored) in self.request.columns.iter().zip(&self.types).zip(&mut columns) {
            let Column::Property(name) = column else { continue };
            let Some(kind) = self.view.property_type(PropertyScope::Unregistered, name) else { continue };
            let map = match &map {
                Some(map) => map,
                None => map.insert(run.columns(&[Column::Unregistered.name().into()])?.pop().flatten()),
            };
            let Some(map) = map else { continue };
            let kind = self.view.property_type(PropertyScope::Event, name).unwrap_or(kind);
            let extracted = extract(map, name, kind)?;
            if extracted.null_count() == extracted.len() {
                continue;
            }
            *stored = Some(match stored.take() {
                None => extracted,
                Some(typed) => coalesce(&arrow::compute::cast(&typed, data_type)?, &extracted)?,
            });
        }
        Ok(columns)
    }

    fn batch(
        &self,
        run: &Run,
        columns: &[Option<ArrayRef>],
        rows: &Selection,
        survivors: Option<ArrayRef>,
    ) -> Result<ScanBatch, ScanError> {
        let mut fields = Vec::with_capacity(columns.len());
        let mut arrays = Vec::with_capacity(columns.len());
        for ((column, data_type), stored) in self.request.columns.iter().zip(&self.types).zip(columns) {
            let array = match (column, &survivors, stored) {
                (Column::Person, Some(survivors), _) => survivors.clone(),
                (_, _, Some(stored)) if stored.data_type() == data_type => rows.apply(stored)?,
                (_, _, Some(stored)) => arrow::compute::cast(&rows.apply(stored)?, data_type)?,
                (_, _, None) => new_null_array(data_type, rows.len()),
            };
            fields.push(Field::new(column.name(), data_type.clone(), !column.is_required()));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        Ok(ScanBatch { event: run.event().clone(), batch })
    }
}

/// The columns that decide which rows match.
struct Keys(Vec<Option<ArrayRef>>);

impl Keys {
    fn load(run: &Run, names: &[Arc<str>], times: bool) -> Result<Self, ScanError> {
        let columns = run.columns(if times { names } else { &names[..1] })?;
        let fits = |at: usize, kind: DataType| columns.get(at).is_none_or(|c| c.as_ref().is_some_and(|c| *c.data_type() == kind));
        if !fits(0, DataType::UInt32) || !fits(1, DataType::Int64) || !fits(2, DataType::UInt64) {
            return Err(ArrowError::SchemaError(format!("a run of `{}` lacks person, ts or sequence", run.event())).into());
        }
        Ok(Self(columns))
    }

    fn person(&self) -> &[u32] {
        self.0.first().and_then(Option::as_ref).map_or(&[], |column| column.as_primitive::<UInt32Type>().values())
    }

    fn ts(&self, row: usize) -> Option<i64> {
        self.0.get(1)?.as_ref()?.as_primitive::<Int64Type>().values().get(row).copied()
    }

    fn sequence(&self, row: usize) -> Option<u64> {
        self.0.get(2)?.as_ref()?.as_primitive::<UInt64Type>().values().get(row).copied()
    }
}

/// One name's values out of a map column, as a typed column.
fn extract(map: &ArrayRef, name: &str, kind: PropertyType) -> Result<ArrayRef, ArrowError> {
    let map = map.as_map_opt().ok_or_else(|| ArrowError::SchemaError(format!("unregistered properties are {}", map.data_type())))?;
    let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
    let mut column = PropertyColumn::new(kind);
    for row in (0..map.len()).filter(|row| map.is_valid(*row)) {
        let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
        let Some(at) = entries.into_iter().find(|at| keys.value(*at) == name) else { continue };
        if let Some(value) = decode_value(values.value(at)).and_then(|value| value.kind) {
            // What does not fit the type is missing, as the column's documentation says.
            let _ = column.set(row, &value);
        }
    }
    column.finish(map.len())
}

/// The first column's values, and the second's where the first has none.
fn coalesce(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let indices: Vec<(usize, usize)> = (0..first.len()).map(|row| (usize::from(first.is_null(row)), row)).collect();
    arrow::compute::interleave(&[first.as_ref(), second.as_ref()], &indices)
}
