//! The answer: groups ranked, the rest taken together, totals, formulas.

use segue_proto::analytics::v1 as pb;

use super::execute::{Execution, Pass};
use super::figure::Figure;
use super::grouping::GroupKey;
use super::plan::Plan;
use crate::question::time::timestamp;

/// Everything of the answer that comes from the rows.
#[derive(Debug)]
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
pub(super) fn answer(execution: &Execution<'_>) -> Answer {
    let plan = execution.plan;
    let Some(main) = execution.passes.first() else {
        return Answer { groups: Vec::new(), comparison: Vec::new(), total: pb::Group::default(), groups_total: 0 };
    };
    let ranked = ranked_groups(execution, main);
    let (shown, rest) = ranked.split_at(ranked.len().min(plan.top));
    let values: Vec<Vec<pb::GroupValue>> =
        shown.iter().map(|group| execution.grouper.keys(*group).iter().map(GroupKey::to_value).collect()).collect();
    let rows = |pass: &Pass, rest: &[u32]| {
        let mut groups: Vec<pb::Group> =
            shown.iter().zip(&values).map(|(group, values)| together(plan, pass, &[*group], values.clone(), false)).collect();
        if !rest.is_empty() {
            groups.push(together(plan, pass, rest, Vec::new(), true));
        }
        groups
    };
    let comparison = execution.passes.get(1).map(|pass| {
        // Groups are those of the main range; what only the earlier range had is part of its `other`.
        let mut is_shown = vec![false; pass.seen.len()];
        for group in shown {
            is_shown[*group as usize] = true;
        }
        let rest: Vec<u32> = seen_groups(pass).filter(|group| !is_shown[*group as usize]).collect();
        rows(pass, &rest)
    });
    let everything: Vec<u32> = if plan.group_by.is_empty() { vec![0] } else { ranked.clone() };
    Answer {
        groups: rows(main, rest),
        comparison: comparison.unwrap_or_default(),
        total: together(plan, main, &everything, Vec::new(), false),
        groups_total: ranked.len() as u64,
    }
}

fn seen_groups(pass: &Pass) -> impl Iterator<Item = u32> {
    pass.seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(group, _)| group as u32)
}

/// All groups by the first metric over the whole range, the largest first, ties by value. Without group-by, the one group,
/// also when it had no rows.
fn ranked_groups(execution: &Execution<'_>, pass: &Pass) -> Vec<u32> {
    let plan = execution.plan;
    if plan.group_by.is_empty() {
        return vec![0];
    }
    let (Some(tally), Some(metric)) = (pass.tallies.first(), plan.metrics.first()) else { return Vec::new() };
    let periods = pass.periods.len();
    let mut ranked: Vec<(Figure, Vec<GroupKey>, u32)> = seen_groups(pass)
        .map(|group| {
            let first = group as usize * periods;
            (tally.figure(first..first + periods, metric.finish), execution.grouper.keys(group), group)
        })
        .collect();
    ranked.sort_unstable_by(|(figure, keys, _), (other_figure, other_keys, _)| {
        let by_value = || keys.iter().zip(other_keys).map(|(a, b)| a.order(b)).find(|order| order.is_ne());
        figure.rank(*other_figure).then_with(|| by_value().unwrap_or(std::cmp::Ordering::Equal))
    });
    ranked.into_iter().map(|(_, _, group)| group).collect()
}

/// One group of the answer out of one or more groups of rows.
fn together(plan: &Plan, pass: &Pass, groups: &[u32], values: Vec<pb::GroupValue>, other: bool) -> pb::Group {
    let periods = pass.periods.len();
    let first_cells = groups.iter().map(|group| *group as usize * periods);
    let all_cells = first_cells.clone().flat_map(|first| first..first + periods);
    let totals = numbers(plan, pass, all_cells);
    let periods = if plan.has_grain {
        let starts = pass.periods.starts().iter().enumerate();
        starts
            .map(|(at, start)| pb::Period {
                start: Some(timestamp(*start)),
                values: numbers(plan, pass, first_cells.clone().map(|first| first + at)),
            })
            .collect()
    } else {
        Vec::new()
    };
    pb::Group { values, other, totals, periods }
}

/// One number per metric, then one per formula.
fn numbers(plan: &Plan, pass: &Pass, cells: impl Iterator<Item = usize> + Clone) -> Vec<pb::Number> {
    let metrics: Vec<Figure> =
        plan.metrics.iter().zip(&pass.tallies).map(|(metric, tally)| tally.figure(cells.clone(), metric.finish)).collect();
    let formulas = plan.formulas.iter().map(|formula| formula.evaluate(&metrics));
    metrics.iter().copied().chain(formulas).map(Figure::to_number).collect()
}
