//! The answer: groups ranked, the rest taken together, totals, formulas.

use std::collections::HashSet;

use segue_proto::analytics::v1 as pb;

use super::execute::{Execution, Pass};
use super::figure::Figure;
use super::grouping::order;
use super::tally::{Groups, Which};
use crate::pass::KeyValue;
use crate::question::time::timestamp;

/// Which groups are shown.
#[derive(Debug)]
pub(super) struct Ranking {
    /// By rank.
    shown: Vec<u32>,
    /// Per range, those that are there and not shown.
    rest: Vec<Vec<u32>>,
    /// Groups of the main range before the cut.
    groups_total: u64,
}

impl Ranking {
    /// Whether any range has an `other`.
    pub(super) fn has_rest(&self) -> bool {
        self.rest.iter().any(|rest| !rest.is_empty())
    }

    /// The values of the groups that are shown.
    pub(super) fn shown_keys(&self, execution: &Execution<'_>) -> HashSet<Vec<KeyValue>> {
        self.shown.iter().map(|group| execution.grouper.keys(*group)).collect()
    }
}

/// Ranks the groups: by the first metric over the whole range, the largest first, ties by value. Without group-by, the one group,
/// also when it had no rows.
pub(super) fn rank(execution: &Execution<'_>) -> Ranking {
    let plan = execution.plan;
    let mut shown = match execution.passes.first() {
        Some(main) if !plan.group_by.is_empty() => ranked_groups(execution, main),
        Some(_) | None => vec![0],
    };
    let groups_total = shown.len() as u64;
    let mut rest = vec![shown.split_off(shown.len().min(plan.top))];
    // Groups are those of the main range; what only the earlier range had is part of its `other`.
    for pass in execution.passes.iter().skip(1) {
        let mut is_shown = vec![false; pass.seen.len()];
        for group in &shown {
            is_shown[*group as usize] = true;
        }
        rest.push(seen_groups(pass).filter(|group| !is_shown[*group as usize]).collect());
    }
    Ranking { shown, rest, groups_total }
}

fn seen_groups(pass: &Pass) -> impl Iterator<Item = u32> {
    pass.seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(group, _)| group as u32)
}

fn ranked_groups(execution: &Execution<'_>, pass: &Pass) -> Vec<u32> {
    let Some(tally) = pass.tallies.first() else { return Vec::new() };
    let mut ranked: Vec<(Figure, Vec<KeyValue>, u32)> = seen_groups(pass)
        .map(|group| {
            let figure = tally.figure(Which { groups: Groups::One(group), period: None });
            (figure, execution.grouper.keys(group), group)
        })
        .collect();
    ranked.sort_unstable_by(|(figure, keys, _), (other_figure, other_keys, _)| {
        let by_value = || keys.iter().zip(other_keys).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
        figure.rank(*other_figure).then_with(|| by_value().unwrap_or(std::cmp::Ordering::Equal))
    });
    ranked.into_iter().map(|(_, _, group)| group).collect()
}

/// The groups that are not shown, counted together: what counts by bands cannot be had of several groups otherwise.
pub(super) struct Rest<'e, 'p> {
    pub(super) execution: &'e Execution<'p>,
    /// Its metric, by the report's.
    pub(super) metrics: Vec<Option<usize>>,
}

/// Everything of the answer that comes from the rows.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Shown groups by rank, `other` last.
    pub(super) groups: Vec<pb::Group>,
    /// The same for the comparison range.
    pub(super) comparison: Vec<pb::Group>,
    /// All groups together.
    pub(super) total: pb::Group,
    /// Groups before the cut.
    pub(super) groups_total: u64,
}

/// Turns tallies into the answer.
pub(super) fn answer(execution: &Execution<'_>, ranking: &Ranking, rest: Option<&Rest<'_, '_>>) -> Answer {
    let values: Vec<Vec<pb::GroupValue>> =
        ranking.shown.iter().map(|group| execution.grouper.keys(*group).iter().map(KeyValue::group_value).collect()).collect();
    let mut ranges = execution.passes.iter().zip(&ranking.rest).enumerate().map(|(at, (pass, of_rest))| {
        let writer = Writer { execution, pass, rest: rest.map(|rest| (rest, &rest.execution.passes[at])) };
        let mut groups: Vec<pb::Group> = ranking
            .shown
            .iter()
            .zip(&values)
            .map(|(group, values)| pb::Group { values: values.clone(), ..writer.group(Groups::One(*group)) })
            .collect();
        if !of_rest.is_empty() {
            groups.push(pb::Group { other: true, ..writer.group(Groups::These(of_rest)) });
        }
        let total = (at == 0).then(|| writer.group(Groups::All));
        (groups, total)
    });
    let (groups, total) = ranges.next().unwrap_or_default();
    let (comparison, _) = ranges.next().unwrap_or_default();
    Answer { groups, comparison, total: total.unwrap_or_default(), groups_total: ranking.groups_total }
}

/// Writes the groups of one range.
struct Writer<'w, 'p> {
    execution: &'w Execution<'p>,
    pass: &'w Pass,
    rest: Option<(&'w Rest<'w, 'p>, &'w Pass)>,
}

impl Writer<'_, '_> {
    /// One group of the answer out of one or more groups of rows, without its values.
    fn group(&self, groups: Groups<'_>) -> pb::Group {
        let totals = self.numbers(Which { groups, period: None });
        let periods = if self.execution.plan.has_grain {
            let starts = self.pass.periods.starts().iter().enumerate();
            let period = |(at, start): (usize, &i64)| pb::Period {
                start: Some(timestamp(*start)),
                values: self.numbers(Which { groups, period: Some(at) }),
            };
            starts.map(period).collect()
        } else {
            Vec::new()
        };
        pb::Group { values: Vec::new(), other: false, totals, periods }
    }

    /// One number per metric, then one per formula.
    fn numbers(&self, which: Which<'_>) -> Vec<pb::Number> {
        let metrics: Vec<Figure> = (0..self.pass.tallies.len()).map(|metric| self.figure(metric, which)).collect();
        let formulas = self.execution.plan.formulas.iter().map(|formula| formula.evaluate(&metrics));
        metrics.iter().copied().chain(formulas).map(Figure::to_number).collect()
    }

    fn figure(&self, metric: usize, which: Which<'_>) -> Figure {
        if let (Groups::These(_), Some((rest, pass))) = (which.groups, self.rest)
            && let Some(tally) = rest.metrics.get(metric).copied().flatten().and_then(|metric| pass.tallies.get(metric))
        {
            return tally.figure(Which { groups: Groups::All, period: which.period });
        }
        self.pass.tallies[metric].figure(which)
    }
}
