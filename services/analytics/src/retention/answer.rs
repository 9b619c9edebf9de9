//! The answer: groups ranked by size, the rest taken together, tables.

use std::cmp::Reverse;

use segue_engine::retention::{Cohort, Counts, Table};
use segue_proto::analytics::v1 as pb;

use super::count::Counted;
use super::plan::Plan;
use crate::pass::{KeyValue, Values};
use crate::question::time::timestamp;
use crate::question::{Context, QueryError};

/// What was counted, ranked.
pub(super) struct Answer<'a> {
    plan: &'a Plan,
    /// Groups by rank.
    ranked: Vec<Ranked<'a>>,
    total: Counts,
}

struct Ranked<'a> {
    size: u64,
    value: KeyValue,
    code: u32,
    counts: &'a Counts,
}

impl<'a> Answer<'a> {
    /// Ranks the groups. Fails if the answer would have more cells than the limit.
    pub(super) fn new(context: &Context<'_>, plan: &'a Plan, values: &Values, counted: &'a Counted) -> Result<Self, QueryError> {
        let retention = &plan.retention;
        let mut total = counted.total.clone();
        let mut ranked = Vec::new();
        for (code, counts) in counted.groups.groups() {
            total.merge(retention, counts);
            ranked.push(Ranked { size: counts.entries(retention), value: values.value(*code), code: *code, counts });
        }
        ranked.sort_unstable_by(|a, b| {
            let key = |ranked: &Ranked<'_>| (Reverse(ranked.size), ranked.value == KeyValue::Missing);
            key(a).cmp(&key(b)).then_with(|| a.value.cmp(&b.value))
        });
        let answer = Answer { plan, ranked, total };
        let shown = answer.shown().count();
        let tables = 1 + shown + usize::from(shown < answer.ranked.len());
        let cells_max = context.limits.report.cells_max;
        if tables.saturating_mul(retention.cells()) > cells_max {
            return Err(QueryError::TooManyGroups { groups: tables, periods: retention.cells(), cells_max });
        }
        Ok(answer)
    }

    /// The codes of the groups that are shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = u32> {
        self.ranked.iter().take(self.plan.top).map(|group| group.code)
    }

    /// How many groups there are.
    pub(super) fn groups_total(&self) -> u64 {
        self.ranked.len() as u64
    }

    /// Everybody.
    pub(super) fn total(&self, context: &Context<'_>) -> pb::RetentionGroup {
        self.group(context, &self.total, pb::GroupKey::default())
    }

    /// The groups that are shown, and the others as one.
    pub(super) fn groups(&self, context: &Context<'_>) -> Vec<pb::RetentionGroup> {
        let (shown, rest) = self.ranked.split_at(self.ranked.len().min(self.plan.top));
        let key = |value: &KeyValue| pb::GroupKey { values: vec![value.group_value()], other: false };
        let mut groups: Vec<_> = shown.iter().map(|group| self.group(context, group.counts, key(&group.value))).collect();
        if !rest.is_empty() {
            let mut together = Counts::default();
            rest.iter().for_each(|group| together.merge(&self.plan.retention, group.counts));
            groups.push(self.group(context, &together, pb::GroupKey { values: Vec::new(), other: true }));
        }
        groups
    }

    fn group(&self, context: &Context<'_>, counts: &Counts, key: pb::GroupKey) -> pb::RetentionGroup {
        let Table { cohorts, averages } = self.plan.retention.table(counts, context.snapshot.watermark_us());
        let average =
            averages.iter().map(|average| pb::RetentionAverage { rate: average.rate(), returned: average.returned, size: average.size });
        pb::RetentionGroup { key: Some(key), cohorts: cohorts.iter().map(cohort).collect(), average: average.collect() }
    }
}

fn cohort(cohort: &Cohort) -> pb::RetentionCohort {
    let cell = |cell: &segue_engine::retention::Cell| pb::RetentionCell {
        returned: cell.complete.then_some(cell.returned),
        provisional: cell.returned,
        rate: (cell.complete && cohort.size > 0).then(|| cell.returned as f64 / cohort.size as f64),
    };
    pb::RetentionCohort { start: Some(timestamp(cohort.start_us)), size: cohort.size, cells: cohort.cells.iter().map(cell).collect() }
}
