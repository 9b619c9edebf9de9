//! When time alone may change a condition: the moments at which rows that match a leaf enter its window or leave it.
//!
//! A leaf is true or false by the matching rows that are in its window. Those that enter between two moments are the ones with a time in
//! between (within the bounds of a window that has some); those that leave are the ones between the begin of the window as seen from the
//! one moment and from the other. So both are slices of time, and few files overlap them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type};
use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_engine::condition::Window;

use super::once::{LeafKeys, PERSONS_FEW};
use super::plan::{Kind, Node, Plan};
use super::rows::matching;
use super::slots::are_few;
use crate::filter::cells::BatchCells;
use crate::filter::fields::{ItemColumn, Place};
use crate::filter::predicate::Predicate;
use crate::question::{Context, QueryError, threads};
use crate::scan::{Column, ScanBatch, ScanError, ScanRequest};

/// Edges of one condition,
const EDGES_MAX: usize = 200_000;
/// and of all conditions of one call, who share them equally: a message has room for so many.
const EDGES_OF_ALL_MAX: usize = 3_000_000;
/// The end of the year 9999, behind which calendars know nothing.
pub(crate) const LATEST_US: i64 = 253_402_300_799_999_999;
/// Edges that are gathered before the latest of them are let go.
const GATHERED_MAX: usize = 4 * EDGES_MAX;
/// Edges of all leaves that are kept for the conditions that have them.
const OF_LEAVES_MAX: usize = 8_000_000;

/// Whose edges, of which condition, and when: after the one moment, up to and including the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgesAsk<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) keys: &'a LeafKeys,
    pub(crate) after_us: i64,
    pub(crate) until_us: i64,
    /// Known survivors; `None` is everybody.
    pub(crate) persons: Option<&'a RoaringBitmap>,
}

/// The first edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edges {
    /// (moment, person), ascending.
    pub(crate) moments: Vec<(i64, u32)>,
    /// Up to and including this moment, there are no others.
    pub(crate) until_us: i64,
}

/// The edges of many conditions; equal leaves are read once.
pub(crate) fn edges_of_all(context: &Context<'_>, asks: &[EdgesAsk<'_>]) -> Result<Vec<Edges>, QueryError> {
    let mut leaves: Vec<(&Node, EdgesAsk<'_>, RoaringBitmap)> = Vec::new();
    let mut places: HashMap<(&[u8], Tz, i64, i64), usize> = HashMap::new();
    let few = |ask: &EdgesAsk<'_>| ask.persons.is_some_and(|persons| persons.len() <= PERSONS_FEW);
    for ask in asks.iter().filter(|ask| few(ask)) {
        for node in ask.plan.leaves() {
            let (Some(key), Some(persons)) = (ask.keys.get(node.number), ask.persons.filter(|persons| !persons.is_empty())) else {
                continue;
            };
            let place = *places.entry((key, ask.plan.zone, ask.after_us, ask.until_us)).or_insert_with(|| {
                leaves.push((node, *ask, RoaringBitmap::new()));
                leaves.len() - 1
            });
            leaves[place].2 |= persons;
        }
    }
    let threads = context.limits.threads;
    let of_leaves = threads::each(threads, leaves.len(), |at| {
        let (node, ask, persons) = &leaves[at];
        let mut listing = Listing::new(ask.until_us, OF_LEAVES_MAX / leaves.len());
        listing.add_leaf(context, node, ask.plan.zone, ask.after_us, Some(persons))?;
        Ok(listing.finish())
    })?;
    let most = EDGES_MAX.min(EDGES_OF_ALL_MAX / asks.len().max(1));
    threads::each(threads, asks.len(), |at| {
        let ask = &asks[at];
        let mut listing = Listing::new(ask.until_us, most);
        for node in ask.plan.leaves() {
            let key = ask.keys.get(node.number).map(|key| (key, ask.plan.zone, ask.after_us, ask.until_us));
            let known = key.filter(|_| few(ask)).and_then(|key| places.get(&key)).and_then(|place| of_leaves.get(*place));
            match (known.filter(|known| known.until_us == ask.until_us), ask.persons) {
                (_, Some(persons)) if persons.is_empty() => {}
                (Some(known), Some(persons)) => {
                    known.moments.iter().filter(|(_, person)| persons.contains(*person)).for_each(|(at, person)| listing.add(*at, *person));
                }
                _ => listing.add_leaf(context, node, ask.plan.zone, ask.after_us, ask.persons)?,
            }
        }
        Ok(listing.finish())
    })
}

/// The first moment after *now* at which the leaf with this number may change of a person; none: never.
pub(crate) fn next_change(
    context: &Context<'_>,
    plan: &Plan,
    number: usize,
    (person, now_us): (u32, i64),
) -> Result<Option<i64>, QueryError> {
    let Some(node) = plan.leaves().into_iter().find(|node| node.number == number) else { return Ok(None) };
    let mut listing = Listing::new(LATEST_US, EDGES_MAX);
    listing.add_leaf(context, node, plan.zone, now_us, Some(&RoaringBitmap::from([person])))?;
    Ok(listing.finish().moments.first().map(|(at, _)| *at))
}

/// Rows that a leaf counts.
struct Source<'p> {
    events: Option<&'p [String]>,
    filter: &'p Predicate,
    items: Option<&'p Predicate>,
    having: &'p [Column],
    columns: &'p [Column],
    item_columns: &'p [ItemColumn],
    window: Window,
}

fn sources(node: &Node) -> Vec<Source<'_>> {
    match &node.kind {
        Kind::Rows(rows) => vec![Source {
            events: rows.events.as_deref(),
            filter: &rows.filter,
            items: rows.items.as_ref(),
            having: &rows.having,
            columns: &rows.columns,
            item_columns: &rows.item_columns,
            window: rows.window,
        }],
        Kind::Sequence(sequence) => {
            let steps = sequence.steps.iter().chain(&sequence.not_between);
            let sources = steps.map(|step| Source {
                events: step.events.as_deref(),
                filter: &step.filter,
                items: None,
                having: &[],
                columns: &sequence.columns,
                item_columns: &sequence.item_columns,
                window: sequence.window,
            });
            sources.collect()
        }
        Kind::All(_) | Kind::Any(_) | Kind::Not(_) | Kind::Bucket { .. } | Kind::Persons(_) => Vec::new(),
    }
}

/// Edges as they are found.
struct Listing {
    moments: Vec<(i64, u32)>,
    /// Later ones are not wanted, or there are too many before them.
    until_us: i64,
    most: usize,
    /// So many are gathered before they are cut.
    cut_at: usize,
}

impl Listing {
    fn new(until_us: i64, most: usize) -> Self {
        Self { moments: Vec::new(), until_us, most, cut_at: GATHERED_MAX.max(2 * most) }
    }

    fn add(&mut self, at: i64, person: u32) {
        if at > self.until_us {
            return;
        }
        self.moments.push((at, person));
        if self.moments.len() >= self.cut_at {
            self.cut();
            // At one moment there may be any number.
            self.cut_at = self.cut_at.max(2 * self.moments.len());
        }
    }

    /// Leaves the first ones, but all of a moment or none.
    fn cut(&mut self) {
        self.moments.sort_unstable();
        self.moments.dedup();
        let (Some((first, _)), Some((over, _))) = (self.moments.first().copied(), self.moments.get(self.most).copied()) else { return };
        let next = |moments: &[(i64, u32)]| moments.get(moments.partition_point(|(at, _)| *at <= first)).map(|(at, _)| *at);
        let end = if over > first { Some(over) } else { next(&self.moments) };
        if let Some(end) = end {
            self.until_us = end - 1;
            self.moments.truncate(self.moments.partition_point(|(at, _)| *at < end));
        }
    }

    fn finish(mut self) -> Edges {
        self.cut();
        self.moments.shrink_to_fit();
        Edges { moments: self.moments, until_us: self.until_us }
    }

    /// Adds the edges of a leaf after a moment.
    fn add_leaf(
        &mut self,
        context: &Context<'_>,
        node: &Node,
        zone: Tz,
        after_us: i64,
        persons: Option<&RoaringBitmap>,
    ) -> Result<(), QueryError> {
        for source in sources(node) {
            let (enter_from, enter_to) = (after_us.saturating_add(1), self.until_us.saturating_add(1));
            let entering = match source.window {
                Window::Ever | Window::Last(_) => (enter_from, enter_to),
                Window::Absolute(from, to) => (enter_from.max(from), enter_to.min(to)),
            };
            source.read(context, entering, persons, |ts, person| self.add(ts, person))?;
            if let Window::Last(_) = source.window {
                let begin = |now: i64| source.window.bounds(now, zone).0;
                let leaving = (begin(after_us), begin(self.until_us));
                // Working out by calendars when an event leaves takes longer than seeing that it leaves too late.
                let (mut end, mut until_us, mut last) = (leaving.1, self.until_us, None);
                source.read(context, leaving, persons, |ts, person| {
                    if until_us != self.until_us {
                        (until_us, end) = (self.until_us, begin(self.until_us));
                    }
                    if ts >= end {
                        return;
                    }
                    let leaves = match last {
                        Some((known, leaves)) if known == ts => leaves,
                        _ => source.window.leaves_at(ts, zone),
                    };
                    last = Some((ts, leaves));
                    if let Some(at) = leaves {
                        self.add(at, person);
                    }
                })?;
            }
        }
        Ok(())
    }
}

impl Source<'_> {
    /// Calls `each(ts, person)` for every matching row in a range of time, from (inclusive), to (exclusive).
    fn read(
        &self,
        context: &Context<'_>,
        range_us: (i64, i64),
        persons: Option<&RoaringBitmap>,
        mut each: impl FnMut(i64, u32),
    ) -> Result<(), QueryError> {
        if range_us.0 >= range_us.1 || matches!(self.filter, Predicate::Always(false)) {
            return Ok(());
        }
        let places = self.places();
        let mut columns: Vec<Column> = places.iter().filter_map(|place| self.columns.get(*place).cloned()).collect();
        let keys = columns.len();
        columns.extend([Column::Person, Column::Ts]);
        let range = match persons.map(|persons| (persons.min(), persons.max())) {
            None => None,
            Some((Some(least), Some(most))) => Some(least..most.saturating_add(1)),
            Some(_) => return Ok(()),
        };
        let request = ScanRequest { events: self.events.map(<[String]>::to_vec), range_us, columns, persons: range.clone() };
        let mut scan = context.snapshot.scan(request).having(self.having);
        if let (Some(persons), Some(range)) = (persons, &range)
            && are_few(persons, range)
        {
            scan = scan.only(Arc::new(persons.clone()));
        }
        for batch in scan {
            context.check()?;
            let batch = batch?;
            let (of_rows, times) = keys_of(&batch, keys)?;
            let cells = BatchCells::sparse(&batch, self.columns, &places, self.item_columns)?;
            let (selected, _) = matching(self.filter, self.items, &cells);
            for (row, (person, ts)) in of_rows.iter().zip(times).enumerate() {
                let is_asked = selected.as_ref().is_none_or(|rows| rows.value(row)) && persons.is_none_or(|all| all.contains(*person));
                if is_asked {
                    each(*ts, *person);
                }
            }
        }
        Ok(())
    }

    /// The places of columns that decide which rows match.
    fn places(&self) -> Vec<usize> {
        let list = self.columns.iter().position(Column::is_of_items);
        let mut places = Vec::new();
        let mut note = |place: Place| match place {
            Place::Column(at) => places.push(at),
            Place::Item(_) => places.extend(list),
            Place::EventName | Place::Absent => {}
        };
        self.filter.places(&mut note);
        if let Some(items) = self.items {
            items.places(&mut note);
            places.extend(list);
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// Persons and times of a batch's rows.
fn keys_of(batch: &ScanBatch, first: usize) -> Result<(&[u32], &[i64]), QueryError> {
    let column = |at: usize| batch.batch.columns().get(first + at);
    let persons = column(0).and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let times = column(1).and_then(|column| column.as_primitive_opt::<Int64Type>());
    match (persons, times) {
        (Some(persons), Some(times)) => Ok((persons.values(), times.values())),
        _ => {
            let what = format!("a run of `{}` lacks person or ts", batch.event);
            Err(ScanError::Arrow(arrow::error::ArrowError::SchemaError(what)).into())
        }
    }
}
