//! Which rows of a run belong to the persons asked for, and lie in the range of time.
//!
//! A run is sorted by the person numbers that were valid when it was written. Rows of merged and mixed numbers are taken out of
//! their places and given apart, sorted by the persons that they belong to now, so that each part stays in the order of persons.

use std::ops::Range;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use roaring::RoaringBitmap;

use super::view::Run;
use super::{Column, ScanError};
use crate::index::redirects::{Redirects, Specials};

/// Which rows of a run.
#[derive(Debug)]
pub(crate) enum Rows {
    Slice(Range<usize>),
    Picked(UInt32Array),
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Slice(range) => range.len(),
            Rows::Picked(rows) => rows.len(),
        }
    }

    /// These rows of a column.
    pub(crate) fn of(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self {
            Rows::Slice(range) if range.start == 0 && range.end == column.len() => Ok(column.clone()),
            Rows::Slice(range) => Ok(column.slice(range.start, range.len())),
            Rows::Picked(rows) => take(column, rows, None),
        }
    }

    /// Rows in ascending order, as a slice where they follow each other.
    fn picked(rows: Vec<u32>) -> Self {
        match (rows.first(), rows.last()) {
            (Some(first), Some(last)) if (last - first) as usize + 1 == rows.len() => Rows::Slice(*first as usize..*last as usize + 1),
            (None, _) => Rows::Slice(0..0),
            _ => Rows::Picked(rows.into()),
        }
    }
}

/// Rows that are stored under another number than their person's.
#[derive(Debug)]
pub(crate) struct Moved {
    /// Whose they are, ascending.
    pub(crate) persons: UInt32Array,
    /// Where they are, sorted by (person, ts, sequence).
    pub(crate) rows: UInt32Array,
}

/// The rows that were asked for.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Those under their own number.
    pub(crate) kept: Rows,
    /// Those of merged and mixed numbers.
    pub(crate) moved: Option<Moved>,
}

impl Chosen {
    /// Leaves those that are among these rows of the run.
    pub(crate) fn retain(&mut self, among: &BooleanBuffer) {
        self.kept = Rows::picked(match &self.kept {
            Rows::Slice(range) => {
                let start = range.start as u32;
                among.slice(range.start, range.len()).set_indices_u32().map(|row| start + row).collect()
            }
            Rows::Picked(rows) => rows.values().iter().copied().filter(|row| among.value(*row as usize)).collect(),
        });
        self.moved = self.moved.take().and_then(|moved| {
            let pairs = moved.persons.values().iter().zip(moved.rows.values()).filter(|(_, row)| among.value(**row as usize));
            let (persons, rows): (Vec<u32>, Vec<u32>) = pairs.map(|(person, row)| (*person, *row)).unzip();
            (!rows.is_empty()).then(|| Moved { persons: persons.into(), rows: rows.into() })
        });
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'w> {
    /// From (inclusive), to (exclusive).
    pub(crate) persons: (u64, u64),
    /// From (inclusive), to (exclusive).
    pub(crate) times: (i64, i64),
    /// These persons alone.
    pub(crate) only: Option<&'w RoaringBitmap>,
}

impl Wanted<'_> {
    fn is_in_time(&self, ts: i64) -> bool {
        self.times.0 <= ts && ts < self.times.1
    }
}

/// Chooses rows of a run; `None`: there are none. `specials` are those of the file or piece that the run is in; `load` gives a whole
/// column, and is asked for what is needed to decide only. Columns have so many rows: all of the run, or the few that are looked at.
pub(crate) fn choose(
    run: &Run,
    len: usize,
    redirects: &Redirects,
    specials: &Specials,
    wanted: Wanted<'_>,
    load: impl Fn(&Column) -> Result<Option<ArrayRef>, ScanError>,
) -> Result<Option<Chosen>, ScanError> {
    let (least, most) = run.persons();
    let (from, to) = wanted.persons;
    let (first, end) = (from.max(u64::from(least)), to.min(u64::from(most) + 1));
    let holes = specials.within(first, end.max(first));
    let arrivals = specials.of_persons(from, to);
    let is_asked = |person: u32| wanted.only.is_none_or(|only| only.contains(person));
    let arrivals = || arrivals.iter().copied().filter(|(person, number)| (least..=most).contains(number) && is_asked(*person));
    let has_arrivals = arrivals().next().is_some();
    let bounds = u32::try_from(first).unwrap_or(u32::MAX)..=most;
    let has_own = first < end && wanted.only.is_none_or(|only| only.range(bounds).next().is_some_and(|person| u64::from(person) < end));
    if !has_own && !has_arrivals {
        return Ok(None);
    }
    let (earliest, latest) = run.ts();
    let all_times = wanted.is_in_time(earliest) && wanted.is_in_time(latest);
    let all_persons = from <= u64::from(least) && u64::from(most) < to;
    if all_persons && all_times && holes.is_empty() && !has_arrivals && wanted.only.is_none() {
        return Ok(Some(Chosen { kept: Rows::Slice(0..len), moved: None }));
    }

    let column = |column: Column| -> Result<ArrayRef, ScanError> {
        let found = load(&column)?.filter(|array| column.data_type().as_ref() == Some(array.data_type()));
        found.ok_or_else(|| ArrowError::SchemaError(format!("a run of `{}` has no usable column `{}`", run.event(), column.name())).into())
    };
    let persons = column(Column::Person)?;
    let persons = values::<UInt32Type>(&persons);
    let ts = if all_times { None } else { Some(column(Column::Ts)?) };
    let ts = ts.as_ref().map(values::<Int64Type>);
    let is_in_time = |row: usize| ts.is_none_or(|ts| wanted.is_in_time(ts[row]));

    let start = persons.partition_point(|person| u64::from(*person) < first);
    let end = start + persons[start..].partition_point(|person| u64::from(*person) < end);
    let mut parts = Vec::new();
    let mut at = start;
    for number in holes {
        let rows = rows_of(persons, at..end, *number);
        parts.push(at..rows.start);
        at = rows.end;
    }
    parts.push(at..end);
    parts.retain(|part| !part.is_empty());
    let kept = match (parts.as_slice(), all_times, wanted.only) {
        ([], _, _) => Rows::Slice(0..0),
        (parts, _, Some(only)) => {
            let rows = parts.iter().flat_map(|part| rows_of_few(persons, part.clone(), only));
            Rows::picked(rows.filter(|row| is_in_time(*row)).map(|row| row as u32).collect())
        }
        ([part], true, None) => Rows::Slice(part.clone()),
        _ => Rows::picked(parts.into_iter().flatten().filter(|row| is_in_time(*row)).map(|row| row as u32).collect()),
    };
    let found = arrivals().map(|(person, number)| (person, number, rows_of(persons, 0..persons.len(), number)));
    let found: Vec<(u32, u32, Range<usize>)> = found.filter(|(_, _, rows)| !rows.is_empty()).collect();
    let mut moved: Vec<(u32, u32)> = Vec::new();
    if !found.is_empty() {
        let (times, sequences) = (column(Column::Ts)?, column(Column::Sequence)?);
        let (times, sequences) = (values::<Int64Type>(&times), values::<UInt64Type>(&sequences));
        let judge = match found.iter().any(|(_, number, _)| redirects.is_mixed(*number)) {
            true => Some((column(Column::Origin)?, column(Column::ReceivedAt)?)),
            false => None,
        };
        let judge = judge.as_ref().map(|(origins, received)| (values::<UInt32Type>(origins), values::<Int64Type>(received)));
        for (person, number, rows) in found {
            let judge = judge.filter(|_| redirects.is_mixed(number));
            let is_of = |row: usize| {
                judge.is_none_or(|(origins, received)| {
                    redirects.survivor(origins[row]) == person && !redirects.is_deleted(origins[row], received[row])
                })
            };
            moved.extend(rows.filter(|row| wanted.is_in_time(times[*row]) && is_of(*row)).map(|row| (person, row as u32)));
        }
        moved.sort_by_key(|(person, row)| (*person, times[*row as usize], sequences[*row as usize]));
    }
    if kept.len() == 0 && moved.is_empty() {
        return Ok(None);
    }
    let moved = (!moved.is_empty()).then(|| {
        let (persons, rows): (Vec<u32>, Vec<u32>) = moved.into_iter().unzip();
        Moved { persons: persons.into(), rows: rows.into() }
    });
    Ok(Some(Chosen { kept, moved }))
}

/// The rows of a person within a part of a sorted column.
fn rows_of(persons: &[u32], part: Range<usize>, number: u32) -> Range<usize> {
    let offset = part.start;
    let part = &persons[part];
    let start = part.partition_point(|person| *person < number);
    let end = start + part[start..].partition_point(|person| *person == number);
    offset + start..offset + end
}

/// The rows of these persons within a part of a sorted column, one person after the other.
fn rows_of_few<'r>(persons: &'r [u32], part: Range<usize>, few: &'r RoaringBitmap) -> impl Iterator<Item = usize> + 'r {
    let column = persons.get(..part.end).unwrap_or_default();
    let bounds = column.get(part.start).copied().zip(column.last().copied());
    let mut at = part.start;
    bounds.into_iter().flat_map(move |(least, most)| few.range(least..=most)).flat_map(move |person| {
        let start = at + count_while(&column[at..], |other| other < person);
        at = start + count_while(&column[start..], |other| other == person);
        start..at
    })
}

/// How many values the test holds for, of which it holds for the first ones and no others: in steps that grow, since they are few.
fn count_while(values: &[u32], holds: impl Fn(u32) -> bool) -> usize {
    let mut step = 1;
    while values.get(step - 1).is_some_and(|value| holds(*value)) {
        step *= 2;
    }
    let (known, end) = (step / 2, (step - 1).min(values.len()));
    known + values[known..end].partition_point(|value| holds(*value))
}

fn values<T: ArrowPrimitiveType>(column: &ArrayRef) -> &[T::Native] {
    column.as_primitive::<T>().values()
}
