//! The keys of a person's newest events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};

use super::request::Page;
use crate::filter::cells::BatchCells;
use crate::filter::matching::mask;
use crate::question::{Context, QueryError};
use crate::scan::{Column, ScanBatch, ScanError, ScanRequest};

/// What orders the events of one person, and tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) ts: i64,
    pub(crate) sequence: u64,
    pub(crate) origin: u32,
}

/// An event, to be read in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keyed {
    pub(crate) key: Key,
    /// Its canonical name.
    pub(crate) event: Arc<str>,
}

/// The newest events of many, in bounded memory.
#[derive(Debug)]
pub(crate) struct Newest {
    /// The oldest on top, which is the first to go.
    heap: BinaryHeap<Reverse<Keyed>>,
    most: usize,
}

impl Newest {
    pub(crate) fn new(most: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(most + 1), most }
    }

    pub(crate) fn add(&mut self, key: Key, event: &Arc<str>) {
        if self.heap.len() < self.most || self.heap.peek().is_some_and(|oldest| oldest.0.key < key) {
            self.heap.push(Reverse(Keyed { key, event: event.clone() }));
            if self.heap.len() > self.most {
                self.heap.pop();
            }
        }
    }

    /// Newest first.
    pub(crate) fn finish(self) -> Vec<Keyed> {
        // Ascending in what is reversed.
        self.heap.into_sorted_vec().into_iter().map(|Reverse(keyed)| keyed).collect()
    }
}

/// The columns of a key.
pub(super) const KEY_COLUMNS: [Column; 3] = [Column::Ts, Column::Sequence, Column::Origin];

/// At most `most` of the newest events that the page may show, newest first.
pub(super) fn newest(context: &Context<'_>, page: &Page, most: usize) -> Result<Vec<Keyed>, QueryError> {
    let filter_columns = page.columns.len();
    let columns = page.columns.iter().cloned().chain(KEY_COLUMNS).collect();
    let request = ScanRequest {
        events: page.events.names.clone(),
        range_us: (page.range.start, page.range.end),
        columns,
        persons: Some(page.person..page.person.saturating_add(1)),
    };
    let places: Vec<usize> = (0..filter_columns).collect();
    let mut newest = Newest::new(most);
    for batch in context.snapshot.scan(request) {
        context.check()?;
        let batch = batch?;
        let keys = Keys::new(&batch, filter_columns)?;
        let cells = BatchCells::sparse(&batch, &page.columns, &places, &page.items)?;
        for row in mask(&page.events.filter, &cells).set_indices() {
            if let Some(key) = keys.key(row).filter(|key| page.before.is_none_or(|before| *key < before)) {
                newest.add(key, &batch.event);
            }
        }
    }
    Ok(newest.finish())
}

/// The key columns of a batch.
pub(crate) struct Keys<'b> {
    ts: &'b [i64],
    sequence: &'b [u64],
    origin: &'b [u32],
}

impl<'b> Keys<'b> {
    /// Reads [`KEY_COLUMNS`], which start at this column of the batch.
    pub(crate) fn new(batch: &'b ScanBatch, first: usize) -> Result<Keys<'b>, QueryError> {
        let column = |at: usize| batch.batch.columns().get(first + at);
        let ts = column(0).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let sequence = column(1).and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let origin = column(2).and_then(|column| column.as_primitive_opt::<UInt32Type>());
        match (ts, sequence, origin) {
            (Some(ts), Some(sequence), Some(origin)) => Ok(Keys { ts: ts.values(), sequence: sequence.values(), origin: origin.values() }),
            _ => {
                let what = format!("a run of `{}` lacks ts, sequence or origin", batch.event);
                Err(ScanError::Arrow(arrow::error::ArrowError::SchemaError(what)).into())
            }
        }
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: usize) -> Option<Key> {
        Some(Key { ts: *self.ts.get(row)?, sequence: *self.sequence.get(row)?, origin: *self.origin.get(row)? })
    }
}
