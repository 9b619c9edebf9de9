//! Paths: which way sessions take. The rules are `segue_engine::path`'s; here the events get their nodes.
//!
//! The way of a request: `plan` checks it; `nodes` gives every event a node's code; `tally` is the question that the pass
//! asks about each person; `answer` writes the numbers; `who` finds the persons behind one of them.
//!
//! # What the numbers mean, beside the rules
//!
//! - Sessions are cut among the events that `on` selects in the range; those without a value of `node` are hidden.
//! - A value that is no text has the node of its plain form: `5`, `12.5000`, `true`, `2026-11-10T12:00:00Z`.
//! - The empty text, which is not *missing*, has the node `(empty)`, as has what is empty without its query.
//! - An event's node depends on nothing but its value and the rules; two values of one name are one node.
//! - Counting persons, every number is of distinct persons, and so are `entrants`.
//! - `...` is the stretch that a path with both anchors leaves out. It takes no place of `top`. The time to it is the time to the first
//!   node it stands for, and the time from it is the rest.
//! - A path that ends before the last step that paths of the question can have leads to `$exit`; nothing is said about what
//!   follows the last step.

mod answer;
mod nodes;
mod plan;
pub(crate) mod rows;
mod tally;
mod who;

use std::sync::Arc;
use std::time::Instant;

use roaring::RoaringBitmap;
use segue_engine::path::{Paths, Question};
use segue_proto::analytics::v1 as pb;

use crate::leaves::Cost;
use crate::pass::{self, Gather};
use crate::question::time::timestamp;
use crate::question::token::Asked;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use nodes::Nodes;
use plan::Plan;
pub(crate) use rows::Round;
use tally::Tallying;

/// Answers the question.
pub fn query(context: &Context<'_>, request: &pb::QueryPathRequest) -> Result<pb::QueryPathResponse, QueryError> {
    let started = Instant::now();
    let plan = Plan::new(context, request, None)?;
    let nodes = Nodes::new(context.snapshot, &plan);
    let (paths, stats) = paths(context, &plan, &nodes)?;
    let names = nodes.names();
    let response = respond(context, plan.resolved.clone(), &paths, &names);
    Ok(pb::QueryPathResponse { stats: Some(Cost { stats, seconds: started.elapsed().as_secs_f64() }.message()), ..response })
}

/// The answer, without what it has cost.
fn respond(context: &Context<'_>, resolved: pb::QueryPathRequest, paths: &Paths, names: &[Arc<str>]) -> pb::QueryPathResponse {
    let (steps, edges) = answer::answer(paths, names);
    pb::QueryPathResponse {
        persons_token: Asked::Path(resolved.clone()).token(),
        options: Some(resolved),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
        entrants: paths.profiles.unwrap_or(paths.sessions),
        steps,
        edges,
        stats: None,
    }
}

/// The persons behind one number of the answer. Faults are reported under `report.path`, which is where the cell stands in a
/// request.
pub fn persons(context: &Context<'_>, request: &pb::QueryPathRequest, cell: &pb::PathCell) -> Result<RoaringBitmap, QueryError> {
    let plan = Plan::new(context, request, None)?;
    let nodes = Nodes::new(context.snapshot, &plan);
    let wanted = who::Wanted::new(cell, &plan)?;
    let (paths, _) = paths(context, &plan, &nodes)?;
    let Some(through) = wanted.through(&plan, &nodes, &paths.top) else { return Ok(RoaringBitmap::new()) };
    Ok(pass::run(context, &gather(&plan), &through)?.0.persons)
}

/// Everything that is said about one person of the pass.
fn gather(plan: &Plan) -> Gather<'_> {
    Gather {
        selectors: std::slice::from_ref(&plan.selector),
        others: None,
        filter: &plan::NO_FILTER,
        columns: &plan.columns,
        items: &plan.items,
        payload: &plan.payload,
        persons: plan.among.as_ref(),
    }
}

/// Passes over the persons as often as the rules need.
fn paths(context: &Context<'_>, plan: &Plan, nodes: &Nodes<'_>) -> Result<(Paths, ScanStats), QueryError> {
    let rules = plan.rules(nodes);
    let mut question = Question::new(rules, nodes.most(), plan.top);
    let mut stats = ScanStats::default();
    loop {
        let (tally, of_pass) = pass::run(context, &gather(plan), &Tallying { question: &question, nodes, range: plan.selector.range })?;
        stats.rows += of_pass.rows;
        stats.tail_rows += of_pass.tail_rows;
        stats.files = stats.files.max(of_pass.files);
        let names = nodes.names();
        if let Some(paths) = question.take(tally, |a, b| names.get(a as usize).cmp(&names.get(b as usize))) {
            return Ok((paths, stats));
        }
    }
}
