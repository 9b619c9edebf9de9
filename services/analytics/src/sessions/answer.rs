//! The answer: groups ranked by sessions, the rest taken together, figures.

use std::cmp::Reverse;
use std::collections::HashMap;

use segue_engine::session::{Figures, Summary, Tally};
use segue_proto::analytics::v1 as pb;

use super::cut::Groups;
use super::plan::Plan;
use crate::pass::KeyValue;
use crate::question::time::timestamp;
use crate::question::{Context, QueryError};

/// What was counted, ranked.
pub(super) struct Answer<'a> {
    plan: &'a Plan,
    counted: &'a Tally<u32>,
    /// Groups by rank.
    ranked: Vec<Ranked>,
}

struct Ranked {
    sessions: u64,
    key: Vec<KeyValue>,
    number: u32,
}

impl<'a> Answer<'a> {
    /// Ranks the groups. Fails if the answer would have more figures than the limit.
    pub(super) fn new(context: &Context<'_>, plan: &'a Plan, groups: &Groups, counted: &'a Tally<u32>) -> Result<Self, QueryError> {
        let mut sizes: HashMap<u32, u64> = HashMap::new();
        for (group, _, figures) in counted.cells() {
            *sizes.entry(*group).or_insert(0) += figures.sessions();
        }
        let mut ranked = Vec::new();
        if !plan.group_by.is_empty() {
            ranked.extend(sizes.into_iter().map(|(number, sessions)| Ranked { sessions, key: groups.key(plan, number), number }));
        }
        // A missing value comes after all others.
        let order = |ranked: &Ranked| -> Vec<(bool, KeyValue)> {
            ranked.key.iter().map(|value| (*value == KeyValue::Missing, value.clone())).collect()
        };
        ranked.sort_by_cached_key(|ranked| (Reverse(ranked.sessions), order(ranked)));
        let answer = Answer { plan, counted, ranked };
        let shown = answer.shown().count();
        let rows = 1 + shown + usize::from(shown < answer.ranked.len());
        let periods = if plan.has_grain { plan.periods.len() } else { 1 };
        let cells_max = context.limits.report.cells_max;
        if rows.saturating_mul(periods) > cells_max {
            return Err(QueryError::TooManyGroups { groups: rows, periods, cells_max });
        }
        Ok(answer)
    }

    /// The numbers of the groups that are shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = u32> {
        self.ranked.iter().take(self.plan.top).map(|group| group.number)
    }

    /// How many groups there are.
    pub(super) fn groups_total(&self) -> u64 {
        self.ranked.len() as u64
    }

    /// Everybody.
    pub(super) fn total(&self) -> pb::SessionGroup {
        self.row(pb::GroupKey::default(), self.counted.cells().map(|(_, period, figures)| (period, figures)))
    }

    /// The groups that are shown, and the others as one.
    pub(super) fn groups(&self) -> Vec<pb::SessionGroup> {
        let rank: HashMap<u32, usize> = self.shown().zip(0..).collect();
        let mut cells: Vec<Vec<(u32, &Figures)>> = vec![Vec::new(); rank.len() + 1];
        for (group, period, figures) in self.counted.cells() {
            if let Some(cells) = cells.get_mut(rank.get(group).copied().unwrap_or(rank.len())) {
                cells.push((period, figures));
            }
        }
        let rest = cells.pop().unwrap_or_default();
        let key = |ranked: &Ranked| pb::GroupKey { values: ranked.key.iter().map(KeyValue::group_value).collect(), other: false };
        let mut groups: Vec<_> = self.ranked.iter().zip(cells).map(|(ranked, cells)| self.row(key(ranked), cells.into_iter())).collect();
        if !self.ranked.is_empty() && !rest.is_empty() {
            groups.push(self.row(pb::GroupKey { values: Vec::new(), other: true }, rest.into_iter()));
        }
        groups
    }

    fn row<'c>(&self, key: pb::GroupKey, cells: impl Iterator<Item = (u32, &'c Figures)>) -> pb::SessionGroup {
        let mut total = Figures::default();
        let mut periods: Vec<Figures> = Vec::new();
        if self.plan.has_grain {
            periods.resize(self.plan.periods.len(), Figures::default());
        }
        for (period, figures) in cells {
            total.merge(figures);
            if let Some(period) = periods.get_mut(period as usize) {
                period.merge(figures);
            }
        }
        let starts = self.plan.periods.starts().iter();
        let periods = starts
            .zip(periods)
            .map(|(start, period)| pb::SessionPeriod { start: Some(timestamp(*start)), figures: Some(figures(&period.summary())) });
        pb::SessionGroup { key: Some(key), periods: periods.collect(), total: Some(figures(&total.summary())) }
    }
}

fn figures(summary: &Summary) -> pb::SessionFigures {
    let per = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
    pb::SessionFigures {
        sessions: summary.sessions,
        persons: summary.persons,
        events: summary.events,
        bounces: summary.bounces,
        bounce_rate: per(summary.bounces as f64, summary.sessions),
        duration_mean_seconds: per(summary.duration_us as f64 / 1e6, summary.sessions),
        duration_median_seconds: summary.median_us.map(|us| us / 1e6),
        events_mean: per(summary.events as f64, summary.sessions),
        sessions_per_person: per(summary.sessions as f64, summary.persons),
        still_open: summary.still_open,
    }
}
