//! Funnels: how far persons get through steps, how fast, and where they stop.
//!
//! The rules are `segue_engine::funnel`'s, which says what every word means. Here `plan` checks a request and resolves its names, `pass`
//! reads what an attempt needs of each event and applies the rules to person after person, `collect` adds attempts up or
//! lists their persons, `answer` writes the numbers.
//!
//! # What is read
//!
//! - Events from the start of the range to its end and the window after it. Every selector that several steps or exclusions share is read once.
//! - Strict order and sessions need all events of a person. Under strict order the report's filter decides which events are there at all;
//!   sessions are cut over all events, whatever the filter, unless the order is strict.
//! - A group of a breakdown is the value of the attempt; attempts without one are in the group *missing*. In any order the event
//!   of step k is the k-th in time.

mod answer;
mod collect;
mod pass;
mod plan;
pub(crate) mod rows;

use std::time::Instant;

use roaring::RoaringBitmap;
use segue_proto::analytics::v1 as pb;

use crate::leaves::Cost;
use crate::pass::KeyValue;
use crate::question::token::Asked;
use crate::question::{Context, QueryError, time};
use crate::scan::ScanStats;
use collect::{Chosen, Persons, Tallies, Wanted};
use pass::FunnelQuestion;
use plan::Plan;

/// Computes the funnel over the context's snapshot.
pub fn query(context: &Context<'_>, request: &pb::QueryFunnelRequest) -> Result<pb::QueryFunnelResponse, QueryError> {
    let started = Instant::now();
    let plan = Plan::new(context, request, None)?;
    let (answer, stats) = count(context, &plan)?;
    Ok(respond(context, plan, answer, Cost { stats, seconds: started.elapsed().as_secs_f64() }))
}

fn respond(context: &Context<'_>, plan: Plan, answer: answer::Answer, cost: Cost) -> pb::QueryFunnelResponse {
    pb::QueryFunnelResponse {
        options: Some(plan.resolved.clone()),
        watermark: Some(time::timestamp(context.snapshot.watermark_us())),
        total: Some(answer.total),
        groups: answer.groups,
        groups_total: answer.groups_total,
        stats: Some(cost.message()),
        persons_token: Asked::Funnel(plan.resolved).token(),
    }
}

fn count(context: &Context<'_>, plan: &Plan) -> Result<(answer::Answer, ScanStats), QueryError> {
    let tallies = Tallies::new(plan, context.limits.report);
    let question = FunnelQuestion::new(plan, &tallies, context.limits.report.bytes_max);
    let (found, stats) = question.run(context, None)?;
    let found = tallies.checked(found)?;
    Ok((answer::answer(plan, &found, question.values()), stats))
}

/// The persons behind one number of the answer to a request.
pub(crate) fn persons(context: &Context<'_>, request: &pb::QueryFunnelRequest, cell: &pb::FunnelCell) -> Result<RoaringBitmap, QueryError> {
    let plan = Plan::new(context, request, None)?;
    let wanted = Wanted::new(&plan, cell)?;
    let chosen = match &wanted.group {
        None => Chosen::All,
        Some(group) if group.other => {
            let (answer, _) = count(context, &plan)?;
            let shown = answer.groups.iter().filter_map(|group| group.key.as_ref()).filter(|key| !key.other);
            Chosen::Except(shown.filter_map(|key| KeyValue::of_group_value(key.values.first()?)).collect())
        }
        Some(group) => Chosen::Only(group.values.first().and_then(KeyValue::of_group_value).unwrap_or(KeyValue::Missing)),
    };
    let persons = Persons::new(&wanted, &chosen);
    let question = FunnelQuestion::new(&plan, &persons, context.limits.report.bytes_max);
    persons.use_codes_of(question.values());
    Ok(question.run(context, None)?.0)
}
