//! The persons behind one number of the answer.

use std::collections::HashSet;

use roaring::RoaringBitmap;
use segue_engine::Hit;
use segue_engine::retention::Scratch;
use segue_proto::analytics::v1 as pb;

use super::answer::Answer;
use super::count::codes;
use super::plan::Plan;
use crate::filter::cells::BatchCells;
use crate::pass::{KeyValue, Question, Values};
use crate::question::time::bound_us;
use crate::question::{Context, QueryError};

/// Finds who is in one cell.
pub(super) struct Who<'w> {
    plan: &'w Plan,
    values: &'w Values,
    row: usize,
    part: Part,
    group: Group,
    groups_max: usize,
}

/// Who of the cohort.
#[derive(Clone, Copy)]
enum Part {
    All,
    In(u32),
    NotIn(u32),
}

/// Whose entries.
enum Group {
    Everybody,
    Of(u32),
    /// All groups but those that are shown.
    NotOf(HashSet<u32>),
}

/// What is found among some persons.
#[derive(Default)]
pub(super) struct Found {
    pub(super) found: RoaringBitmap,
    scratch: Scratch,
}

impl<'w> Who<'w> {
    /// Finds the cell that is meant.
    pub(super) fn new(
        context: &Context<'_>,
        plan: &'w Plan,
        values: &'w Values,
        cell: &pb::RetentionCellReference,
    ) -> Result<Self, QueryError> {
        let retention = &plan.retention;
        let start = cell.cohort.as_ref().and_then(bound_us);
        let row = (0..retention.rows()).find(|row| Some(retention.row_start_us(*row)) == start);
        let wrong = |field: &str, description: String| QueryError::invalid(format!("report.retention.{field}"), description);
        let row = row.ok_or_else(|| wrong("cohort", "no cohort of the answer starts then: take its `start`".to_owned()))?;
        let cells = retention.cells_of(row);
        let part = match (cell.size, cell.cell, cell.missing) {
            (true, 0, false) => Part::All,
            (true, ..) => return Err(wrong("size", "means everybody of the cohort: leave out `cell` and `missing`".to_owned())),
            (false, at, _) if at as usize >= cells => {
                return Err(wrong("cell", format!("the cohort has {cells} cells, counted from 0; for all of it set `size`")));
            }
            (false, at, false) => Part::In(at),
            (false, at, true) => Part::NotIn(at),
        };
        let group = match &cell.group {
            None => Group::Everybody,
            Some(key) => match (plan.breakdown.is_some(), key.other, key.values.as_slice()) {
                (_, false, []) => Group::Everybody,
                (true, true, []) => {
                    let (counted, _) = super::count(context, plan, values, None)?;
                    Group::NotOf(Answer::new(context, plan, values, &counted)?.shown().collect())
                }
                (true, false, [value]) => {
                    let value = KeyValue::of_group_value(value);
                    Group::Of(values.code(value.ok_or_else(|| wrong("group.values[0]", "no group has such a value".to_owned()))?))
                }
                _ => return Err(wrong("group", "take the `key` of a group of the answer, or none for everybody".to_owned())),
            },
        };
        let groups_max = context.limits.report.cells_max;
        Ok(Who { plan, values, row, part, group, groups_max })
    }

    fn means(&self, group: u32) -> bool {
        match &self.group {
            Group::Everybody => true,
            Group::Of(wanted) => *wanted == group,
            Group::NotOf(shown) => !shown.contains(&group),
        }
    }
}

impl Question for Who<'_> {
    type Payload = u32;
    type Partial = Found;

    fn partial(&self) -> Found {
        Found::default()
    }

    fn payload(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) -> Result<(), QueryError> {
        codes(self.plan, self.values, self.groups_max, batch, rows, out)
    }

    fn has_payload(&self) -> bool {
        !matches!(self.group, Group::Everybody)
    }

    fn person(&self, partial: &mut Found, person: u32, hits: &[Hit<u32>]) {
        let Found { found, scratch } = partial;
        self.plan.retention.entries(hits, scratch, |entry| {
            let is_in = match self.part {
                Part::All => true,
                Part::In(cell) => entry.cells.contains(&cell),
                Part::NotIn(cell) => !entry.cells.contains(&cell),
            };
            if entry.row == self.row && is_in && self.means(entry.start.payload) {
                found.insert(person);
            }
        });
    }

    fn merge(&self, into: &mut Found, from: Found) {
        into.found |= from.found;
    }
}
