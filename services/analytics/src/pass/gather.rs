//! Which rows a question looks at: selectors, and the parts of runs that match them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, UInt32Array, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use roaring::RoaringBitmap;

use super::Question;
use crate::filter::cells::BatchCells;
use crate::filter::fields::{ItemColumn, Place};
use crate::filter::matching::mask;
use crate::filter::predicate::Predicate;
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::{Column, ScanBatch, ScanError, ScanRequest, ScanStats};

/// Events that mean something to a question. Its number is its place in [`Gather::selectors`], and the bit in a hit's matches.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    /// Canonical names; `None` is every event.
    pub(crate) events: Option<Vec<String>>,
    pub(crate) filter: Predicate,
    pub(crate) range: RangeUs,
}

/// What to gather.
#[derive(Debug, Clone)]
pub(crate) struct Gather<'g> {
    /// At most 32.
    pub(crate) selectors: &'g [Selector],
    /// Also events in this range that match no selector, as hits without matches: what neighbours are seen by.
    pub(crate) others: Option<RangeUs>,
    /// Tested besides each selector's filter, and on `others`.
    pub(crate) filter: &'g Predicate,
    /// The columns that places of filters and payloads mean.
    pub(crate) columns: &'g [Column],
    /// The fields of items that places of filters mean.
    pub(crate) items: &'g [ItemColumn],
    /// Places in `columns` that the payload is read from.
    pub(crate) payload: &'g [usize],
    /// Only these persons.
    pub(crate) persons: Option<&'g RoaringBitmap>,
}

/// Which selectors the rows of a part match.
#[derive(Debug)]
pub(super) enum Matches {
    /// These, all rows.
    All(u32),
    /// One entry per hit.
    Each(Vec<u32>),
}

/// What the hits of a part carry.
#[derive(Debug)]
pub(super) enum Payloads<P> {
    /// All the same.
    All(P),
    /// One entry per hit.
    Each(Vec<P>),
}

/// Hits of one batch.
#[derive(Debug)]
pub(crate) struct Part<P> {
    pub(super) person: UInt32Array,
    pub(super) ts: Int64Array,
    /// What decides between hits of equal time, if it was asked for: sequence, then origin. (Persons merged across partitions of the log
    /// may share a sequence, but then they have different origins.)
    pub(super) order: Option<(UInt64Array, UInt32Array)>,
    /// Rows of the columns that are hits; `None`: all.
    pub(super) rows: Option<Vec<u32>>,
    pub(super) matches: Matches,
    pub(super) payload: Payloads<P>,
}

impl<P> Part<P> {
    /// How many hits.
    pub(super) fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.person.len(), Vec::len)
    }

    /// The selectors that every hit matches, if they are the same for all.
    pub(crate) fn same_matches(&self) -> Option<u32> {
        match self.matches {
            Matches::All(matches) => Some(matches),
            Matches::Each(_) => None,
        }
    }

    /// Calls `each` with person, time and matches of every hit: persons ascend, and times within a person.
    #[inline]
    pub(crate) fn each(&self, mut each: impl FnMut(u32, i64, u32)) {
        let (persons, times) = (self.person.values(), self.ts.values());
        match (&self.rows, &self.matches) {
            (None, Matches::All(matches)) => persons.iter().zip(times).for_each(|(person, ts)| each(*person, *ts, *matches)),
            (Some(rows), Matches::All(matches)) => rows.iter().for_each(|row| each(persons[*row as usize], times[*row as usize], *matches)),
            (Some(rows), Matches::Each(matches)) => {
                rows.iter().zip(matches).for_each(|(row, matches)| each(persons[*row as usize], times[*row as usize], *matches));
            }
            (None, Matches::Each(matches)) => {
                persons.iter().zip(times).zip(matches).for_each(|((person, ts), matches)| each(*person, *ts, *matches));
            }
        }
    }
}

/// One scan: events that the same selectors look at.
struct Group {
    /// `None` is every event.
    events: Option<Vec<String>>,
    selectors: Vec<usize>,
    range: RangeUs,
}

impl Gather<'_> {
    /// Events by the selectors that look at them, so that a scan reads no column that is of no use.
    fn groups(&self, all_names: impl FnOnce() -> Vec<String>) -> Vec<Group> {
        let looks_at_all = self.others.is_some() || self.selectors.iter().any(|selector| selector.events.is_none());
        let mut names: BTreeSet<String> = self.selectors.iter().filter_map(|selector| selector.events.clone()).flatten().collect();
        // With a mixture, each name has to be told apart.
        if looks_at_all && names.is_empty() {
            let selectors: Vec<usize> = (0..self.selectors.len()).collect();
            return self.group(None, selectors).into_iter().collect();
        }
        if looks_at_all {
            names.extend(all_names());
        }
        let mut by_selectors: BTreeMap<Vec<usize>, Vec<String>> = BTreeMap::new();
        for name in names {
            let applies = |selector: &Selector| selector.events.as_ref().is_none_or(|events| events.contains(&name));
            let selectors = (0..self.selectors.len()).filter(|at| applies(&self.selectors[*at])).collect();
            by_selectors.entry(selectors).or_default().push(name);
        }
        by_selectors.into_iter().filter_map(|(selectors, names)| self.group(Some(names), selectors)).collect()
    }

    fn group(&self, events: Option<Vec<String>>, selectors: Vec<usize>) -> Option<Group> {
        let ranges = selectors.iter().map(|at| self.selectors[*at].range).chain(self.others);
        let range = ranges.reduce(|a, b| RangeUs { start: a.start.min(b.start), end: a.end.max(b.end) })?;
        Some(Group { events, selectors, range })
    }

    /// The places in `columns` that a group reads.
    fn places(&self, group: &Group, payload: bool) -> Vec<usize> {
        let mut places: BTreeSet<usize> = BTreeSet::new();
        let items_list = self.columns.iter().position(Column::is_of_items);
        let mut note = |place: Place| match place {
            Place::Column(at) => {
                places.insert(at);
            }
            Place::Item(_) => places.extend(items_list),
            Place::EventName | Place::Absent => {}
        };
        self.filter.places(&mut note);
        group.selectors.iter().for_each(|at| self.selectors[*at].filter.places(&mut note));
        if payload {
            places.extend(self.payload);
        }
        places.into_iter().collect()
    }

    /// The persons asked about in this range, when they are so few that their rows are better searched for than read through.
    fn few(&self, range: &Range<u32>) -> Option<Arc<RoaringBitmap>> {
        const SPARSITY: u64 = 16;
        let persons = self.persons?;
        let few = persons.range_cardinality(range.clone()).saturating_mul(SPARSITY) < range.len() as u64;
        few.then(|| Arc::new(persons.range(range.clone()).collect()))
    }

    /// The hits of these persons; `None` when there are more than `hits_max`.
    pub(super) fn parts<Q: Question>(
        &self,
        context: &Context<'_>,
        question: &Q,
        persons: Range<u32>,
        sequences: bool,
        hits_max: usize,
        stats: &mut ScanStats,
    ) -> Result<Option<Vec<Part<Q::Payload>>>, QueryError> {
        let mut parts = Vec::new();
        let mut hits = 0;
        let all_names = || context.snapshot.event_names().iter().map(|name| name.to_string()).collect();
        for group in self.groups(all_names) {
            let places = self.places(&group, question.has_payload());
            let mut columns: Vec<Column> = places.iter().map(|at| self.columns[*at].clone()).collect();
            let keys = columns.len();
            columns.extend([Column::Person, Column::Ts]);
            if sequences {
                columns.extend([Column::Sequence, Column::Origin]);
            }
            let request = ScanRequest {
                events: group.events.clone(),
                range_us: (group.range.start, group.range.end),
                columns,
                persons: Some(persons.clone()),
            };
            let mut scan = context.snapshot.scan(request);
            if let Some(few) = self.few(&persons) {
                scan = scan.only(few);
            }
            for batch in scan.by_ref() {
                context.check()?;
                let reading = Reading { gather: self, question, group: &group, places: &places, keys, sequences };
                let Some(part) = reading.part(&batch?)? else { continue };
                hits += part.len();
                if hits > hits_max {
                    return Ok(None);
                }
                parts.push(part);
            }
            let of_scan = scan.stats();
            stats.rows += of_scan.rows;
            stats.tail_rows += of_scan.tail_rows;
            stats.files = stats.files.max(of_scan.files);
        }
        Ok(Some(parts))
    }
}

/// Reading the batches of one scan.
struct Reading<'r, 'g, Q: Question> {
    gather: &'r Gather<'g>,
    question: &'r Q,
    group: &'r Group,
    places: &'r [usize],
    /// Where the key columns start in a batch.
    keys: usize,
    sequences: bool,
}

impl<Q: Question> Reading<'_, '_, Q> {
    fn part(&self, batch: &ScanBatch) -> Result<Option<Part<Q::Payload>>, QueryError> {
        let column = |at: usize| batch.batch.columns().get(self.keys + at);
        let person = column(0).and_then(|column| column.as_primitive_opt::<UInt32Type>());
        let ts = column(1).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(person), Some(ts)) = (person.cloned(), ts.cloned()) else { return Err(lacking(batch)) };
        let order = match self.sequences {
            true => {
                let sequence = column(2).and_then(|column| column.as_primitive_opt::<UInt64Type>());
                let origin = column(3).and_then(|column| column.as_primitive_opt::<UInt32Type>());
                Some(sequence.cloned().zip(origin.cloned()).ok_or_else(|| lacking(batch))?)
            }
            false => None,
        };
        let cells = BatchCells::sparse(batch, self.gather.columns, self.places, self.gather.items)?;
        let (rows, matches) = self.matches(&cells, &person, &ts);
        let mut part = Part { person, ts, order, rows, matches, payload: Payloads::All(Q::Payload::default()) };
        if part.len() == 0 {
            return Ok(None);
        }
        if self.question.has_payload() {
            part.payload = match (self.question.batch_payload(&cells)?, &part.rows) {
                (Some(payload), _) => Payloads::All(payload),
                (None, Some(rows)) => self.payloads(&cells, rows)?,
                (None, None) => self.payloads(&cells, &(0..part.person.len() as u32).collect::<Vec<u32>>())?,
            };
        }
        Ok(Some(part))
    }

    fn payloads(&self, cells: &BatchCells<'_>, rows: &[u32]) -> Result<Payloads<Q::Payload>, QueryError> {
        let mut payloads = Vec::new();
        self.question.payload(cells, rows, &mut payloads)?;
        Ok(Payloads::Each(payloads))
    }

    /// Which rows are hits, and of which selectors.
    fn matches(&self, cells: &BatchCells<'_>, person: &UInt32Array, ts: &Int64Array) -> (Option<Vec<u32>>, Matches) {
        let len = cells.len;
        let in_range = |range: RangeUs| {
            // The scan has cut to the group's range.
            (range != self.group.range).then(|| {
                let times = ts.values();
                BooleanBuffer::collect_bool(len, |row| range.start <= times[row] && times[row] < range.end)
            })
        };
        let mut common = self.gather.persons.map(|persons| members(persons, person));
        if !matches!(self.gather.filter, Predicate::Always(true)) {
            and(&mut common, mask(self.gather.filter, cells));
        }
        // Per selector, the rows that match; none: all.
        let mut own: Vec<(u32, Option<BooleanBuffer>)> = Vec::with_capacity(self.group.selectors.len());
        for at in &self.group.selectors {
            let selector = &self.gather.selectors[*at];
            let mut rows = in_range(selector.range);
            if !matches!(selector.filter, Predicate::Always(true)) {
                and(&mut rows, mask(&selector.filter, cells));
            }
            own.push((1 << at, rows));
        }
        let others = self.gather.others.map(in_range);
        let all: u32 = own.iter().map(|(bit, _)| bit).sum();
        if own.iter().all(|(_, rows)| rows.is_none()) && others.as_ref().is_none_or(Option::is_none) {
            return (common.map(|rows| rows.set_indices_u32().collect()), Matches::All(all));
        }
        if let ([(bit, Some(rows))], None) = (own.as_slice(), &others) {
            let rows = common.map_or_else(|| rows.clone(), |common| &common & rows);
            return (Some(rows.set_indices_u32().collect()), Matches::All(*bit));
        }
        let mut rows = Vec::new();
        let mut matches = Vec::new();
        let is_in = |rows: &Option<BooleanBuffer>, row: usize| rows.as_ref().is_none_or(|rows| rows.value(row));
        for row in 0..len {
            if !is_in(&common, row) {
                continue;
            }
            let bits: u32 = own.iter().filter(|(_, rows)| is_in(rows, row)).map(|(bit, _)| bit).sum();
            if bits != 0 || others.as_ref().is_some_and(|rows| is_in(rows, row)) {
                rows.push(row as u32);
                matches.push(bits);
            }
        }
        (Some(rows), Matches::Each(matches))
    }
}

fn and(rows: &mut Option<BooleanBuffer>, further: BooleanBuffer) {
    *rows = Some(match rows.take() {
        Some(rows) => &rows & &further,
        None => further,
    });
}

/// Which rows are of these persons; rows of one person are adjacent.
pub(crate) fn members(persons: &RoaringBitmap, column: &UInt32Array) -> BooleanBuffer {
    let mut last = None;
    let values = column.values();
    BooleanBuffer::collect_bool(values.len(), |row| {
        let person = values[row];
        match last {
            Some((known, is_in)) if known == person => is_in,
            _ => {
                let is_in = persons.contains(person);
                last = Some((person, is_in));
                is_in
            }
        }
    })
}

fn lacking(batch: &ScanBatch) -> QueryError {
    let what = format!("a run of `{}` lacks person, ts, sequence or origin", batch.event);
    QueryError::Scan(ScanError::Arrow(arrow::error::ArrowError::SchemaError(what)))
}
