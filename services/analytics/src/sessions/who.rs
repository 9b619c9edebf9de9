//! The persons behind one number of the answer.

use std::collections::HashSet;

use roaring::RoaringBitmap;
use segue_proto::analytics::v1 as pb;

use super::answer::Answer;
use super::count;
use super::cut::{Filed, Groups, Sink};
use super::plan::Plan;
use crate::pass::KeyValue;
use crate::question::time::bound_us;
use crate::question::{Context, QueryError};

/// Finds who has a session in one cell.
pub(super) struct Who {
    group: Group,
    /// Unset: any.
    period: Option<u32>,
    bounced: bool,
}

/// Whose sessions.
enum Group {
    Everybody,
    Of(u32),
    /// All groups but those that are shown.
    NotOf(HashSet<u32>),
}

impl Who {
    /// Finds the cell that is meant.
    pub(super) fn new(context: &Context<'_>, plan: &Plan, groups: &Groups, cell: &pb::SessionCell) -> Result<Self, QueryError> {
        let wrong = |field: &str, description: &str| QueryError::invalid(format!("report.session.{field}"), description);
        let period = match &cell.period {
            None => None,
            Some(start) => {
                let start = bound_us(start).filter(|_| plan.has_grain);
                let at = start.and_then(|start| plan.periods.starts().binary_search(&start).ok());
                Some(at.ok_or_else(|| wrong("period", "no period of the answer starts then: take its `start`"))? as u32)
            }
        };
        let group = match &cell.group {
            None => Group::Everybody,
            Some(key) if !key.other && key.values.is_empty() => Group::Everybody,
            Some(key) if key.other && key.values.is_empty() && !plan.group_by.is_empty() => {
                let (counted, _) = count::count(context, plan, groups, None)?;
                Group::NotOf(Answer::new(context, plan, groups, &counted)?.shown().collect())
            }
            Some(key) if !key.other && key.values.len() == plan.group_by.len() => {
                let values: Option<Vec<KeyValue>> = key.values.iter().map(KeyValue::of_group_value).collect();
                let values = values.ok_or_else(|| wrong("group.values", "no group has such values"))?;
                Group::Of(groups.number(values.into_iter()))
            }
            Some(_) => return Err(wrong("group", "take the `key` of a group of the answer, or none for everybody")),
        };
        Ok(Who { group, period, bounced: cell.bounced })
    }

    fn means(&self, group: u32) -> bool {
        match &self.group {
            Group::Everybody => true,
            Group::Of(wanted) => *wanted == group,
            Group::NotOf(shown) => !shown.contains(&group),
        }
    }
}

impl Sink for Who {
    type Partial = RoaringBitmap;

    fn partial(&self) -> RoaringBitmap {
        RoaringBitmap::new()
    }

    fn has_groups(&self) -> bool {
        !matches!(self.group, Group::Everybody)
    }

    fn person(&self, partial: &mut RoaringBitmap, person: u32, mut sessions: impl Iterator<Item = Filed>) {
        let is_meant = |Filed { period, group, session }: Filed| {
            self.period.is_none_or(|wanted| wanted == period) && (!self.bounced || session.is_bounce()) && self.means(group)
        };
        if sessions.any(is_meant) {
            partial.insert(person);
        }
    }

    fn merge(&self, into: &mut RoaringBitmap, from: RoaringBitmap) {
        *into |= from;
    }
}
