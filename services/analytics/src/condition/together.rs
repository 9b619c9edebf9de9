//! Leaves over the same events, read together: the rows of few persons are searched for once, and every leaf takes its own from them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, UInt32Type};
use chrono_tz::Tz;
use roaring::RoaringBitmap;

use super::plan::Rows;
use super::rows::{Reading, Tally, columns_of, key};
use super::slots::Slots;
use crate::question::{Context, QueryError};
use crate::scan::{Column, ScanBatch, ScanRequest};

/// A leaf, and when it is asked.
pub(super) struct Leaf<'l> {
    pub(super) rows: &'l Rows,
    pub(super) now_us: i64,
    pub(super) zone: Tz,
}

/// A leaf while it is read.
struct Open<'l> {
    rows: &'l Rows,
    /// From (inclusive), to (exclusive).
    times: (i64, i64),
    /// Where its columns are in a batch.
    places: Vec<usize>,
    tally: Tally<'l>,
}

/// Of each leaf, who of these persons meets it. The leaves name the same events, and rows of them must have the same columns.
pub(super) fn evaluate(context: &Context<'_>, leaves: &[Leaf<'_>], persons: &Arc<RoaringBitmap>) -> Result<Vec<RoaringBitmap>, QueryError> {
    let (Some(first), Some(least), Some(most)) = (leaves.first(), persons.min(), persons.max()) else {
        return Ok(vec![RoaringBitmap::new(); leaves.len()]);
    };
    let slots = Slots::of_few(persons);
    // Whose rows, and when: for all leaves.
    let mut columns = vec![Column::Person, Column::Ts];
    let mut open: Vec<Open<'_>> = leaves.iter().map(|leaf| Open::new(leaf, &slots, &mut columns)).collect();
    let hull = open.iter().filter(|leaf| leaf.rows.may_match(leaf.times)).map(|leaf| leaf.times);
    if let Some(range_us) = hull.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))) {
        let range = Some(least..most.saturating_add(1));
        let request = ScanRequest { events: first.rows.events.clone(), range_us, columns, persons: range };
        let bytes_max = context.limits.hits_bytes_max / leaves.len();
        for batch in context.snapshot.scan(request).having(&first.rows.having).only(persons.clone()) {
            context.check()?;
            let batch = batch?;
            let (of_rows, offset) = slots.of_rows(key::<UInt32Type>(&batch, 0)?.values());
            for leaf in &mut open {
                leaf.add(&batch, (&of_rows, offset))?;
                leaf.tally.check(bytes_max)?;
            }
        }
    }
    Ok(open.into_iter().map(|leaf| leaf.tally.finish(&slots, persons)).collect())
}

impl<'l> Open<'l> {
    /// Adds what the leaf reads to the columns.
    fn new(leaf: &Leaf<'l>, slots: &Slots, columns: &mut Vec<Column>) -> Self {
        let place = |column: Column| match columns.iter().position(|known| *known == column) {
            Some(place) => place,
            None => {
                columns.push(column);
                columns.len() - 1
            }
        };
        Self {
            rows: leaf.rows,
            times: leaf.rows.window.bounds(leaf.now_us, leaf.zone),
            places: columns_of(leaf.rows).into_iter().map(place).collect(),
            tally: Tally::new(&leaf.rows.measure, slots.len(), leaf.zone),
        }
    }

    fn add(&mut self, batch: &ScanBatch, (slots, offset): (&[u32], u32)) -> Result<(), QueryError> {
        let ((from, to), (earliest, latest)) = (self.times, batch.span_us);
        if !self.rows.may_match(self.times) || latest < from || to <= earliest {
            return Ok(());
        }
        let among = if from <= earliest && latest < to {
            None
        } else {
            let ts = key::<Int64Type>(batch, 1)?.values();
            let among = BooleanBuffer::collect_bool(ts.len(), |row| from <= ts[row] && ts[row] < to);
            if among.count_set_bits() == 0 {
                return Ok(());
            }
            Some(among)
        };
        let own = batch.batch.project(&self.places).map_err(crate::scan::ScanError::Arrow)?;
        let own = ScanBatch { event: batch.event.clone(), span_us: batch.span_us, batch: own };
        let reading = Reading::new(self.rows, &own, (Cow::Borrowed(slots), offset), among)?;
        self.tally.add(&reading)
    }
}
