//! The answer: groups by entrants, the rest taken together, conversions and times.

use segue_engine::funnel::{Conversion, Since, Tally};
use segue_proto::analytics::v1 as pb;

use super::collect::Groups;
use super::plan::Plan;
use crate::pass::{KeyValue, Values};

/// Everything of the answer that comes from the events.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) total: pb::FunnelGroup,
    /// Shown groups by entrants, `other` last.
    pub(super) groups: Vec<pb::FunnelGroup>,
    /// Groups before the cut.
    pub(super) groups_total: u64,
}

/// Turns tallies into the answer.
pub(super) fn answer(plan: &Plan, found: &Groups, values: &Values) -> Answer {
    let mut ranked: Vec<(KeyValue, &Tally)> = found.iter().map(|(code, tally)| (values.value(code), tally)).collect();
    ranked.sort_unstable_by(|(value, tally), (other, others)| others.reached(1).cmp(&tally.reached(1)).then_with(|| value.cmp(other)));
    let all: Vec<&Tally> = ranked.iter().map(|(_, tally)| *tally).collect();
    let total = group(plan, &all, pb::GroupKey::default());
    let Some(breakdown) = plan.breakdown else { return Answer { total, groups: Vec::new(), groups_total: 0 } };
    let (shown, rest) = ranked.split_at(ranked.len().min(breakdown.top));
    let mut groups: Vec<pb::FunnelGroup> = shown
        .iter()
        .map(|(value, tally)| group(plan, &[*tally], pb::GroupKey { values: vec![value.group_value()], other: false }))
        .collect();
    if !rest.is_empty() {
        let rest: Vec<&Tally> = rest.iter().map(|(_, tally)| *tally).collect();
        groups.push(group(plan, &rest, pb::GroupKey { values: Vec::new(), other: true }));
    }
    Answer { total, groups, groups_total: ranked.len() as u64 }
}

/// The numbers of these tallies together.
fn group(plan: &Plan, tallies: &[&Tally], key: pb::GroupKey) -> pb::FunnelGroup {
    let reached = |number: usize| tallies.iter().map(|tally| tally.reached(number)).sum::<u64>();
    let steps = &plan.rule.spec().steps;
    let results = plan.names.iter().zip(1..).map(|(name, number): (&String, usize)| {
        let time = |since| Tally::conversion(tallies.iter().copied(), number, since).map(conversion_time);
        // The nearest step before that everybody had to do.
        let before = (1..number).rev().find(|before| steps.get(before - 1).is_some_and(|step| !step.optional));
        pb::FunnelStepResult {
            name: name.clone(),
            count: reached(number),
            conversion: ratio(reached(number), reached(1)),
            conversion_from_previous: before.and_then(|before| ratio(reached(number), reached(before))),
            still_open: tallies.iter().map(|tally| tally.still_open(number)).sum(),
            time_from_previous: time(Since::Previous),
            time_from_start: time(Since::First),
        }
    });
    pb::FunnelGroup { key: Some(key), steps: results.collect() }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn conversion_time(found: Conversion) -> pb::ConversionTime {
    let seconds = |us: u64| us as f64 / 1e6;
    pb::ConversionTime {
        mean_seconds: found.mean_seconds(),
        median_seconds: found.median_seconds(),
        min_seconds: seconds(found.min_us),
        max_seconds: seconds(found.max_us),
        distribution: found
            .distribution
            .iter()
            .map(|bucket| pb::DurationBucket {
                start_seconds: seconds(bucket.start_us),
                end_seconds: seconds(bucket.end_us),
                count: bucket.count,
            })
            .collect(),
    }
}
