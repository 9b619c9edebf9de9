//! Session reports: how many, how long, how deep. The rules are [`segue_engine::session`]'s.
//!
//! The way of a request: `plan` checks it; `cut` takes every person's events, cuts them into sessions and hands over those that start in the
//! range; `count` adds them up; `answer` ranks the groups and writes the figures.
//!
//! # What the numbers mean, beyond the contract
//!
//! - A session is in the range and period that its first event is in, with all its events, also those after the range. What came before the
//!   range only decides whether a session starts in it.
//! - The median of an even number of sessions is the mean of the two in the middle.
//! - Groups of equally many sessions are in the order of their values, missing values last.

mod answer;
mod count;
mod cut;
mod plan;
pub(crate) mod rows;
mod who;

use std::time::Instant;

use roaring::RoaringBitmap;
use segue_engine::session::Tally;
use segue_proto::analytics::v1 as pb;

use crate::leaves::Cost;
use crate::question::time::timestamp;
use crate::question::token::Asked;
use crate::question::{Context, QueryError};
use answer::Answer;
use cut::Groups;
use plan::Plan;

/// Answers the question in its context.
pub fn query(context: &Context<'_>, request: &pb::QuerySessionsRequest) -> Result<pb::QuerySessionsResponse, QueryError> {
    let started = Instant::now();
    let plan = Plan::new(context, request, None)?;
    let groups = plan.groups(context);
    let (counted, stats) = count::count(context, &plan, &groups, None)?;
    let response = respond(context, plan, &groups, &counted)?;
    Ok(pb::QuerySessionsResponse { stats: Some(Cost { stats, seconds: started.elapsed().as_secs_f64() }.message()), ..response })
}

/// The answer, without what it has cost.
fn respond(context: &Context<'_>, plan: Plan, groups: &Groups, counted: &Tally<u32>) -> Result<pb::QuerySessionsResponse, QueryError> {
    let answer = Answer::new(context, &plan, groups, counted)?;
    Ok(pb::QuerySessionsResponse {
        total: Some(answer.total()),
        groups: answer.groups(),
        groups_total: answer.groups_total(),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
        stats: None,
        persons_token: Asked::Sessions(plan.resolved.clone()).token(),
        options: Some(plan.resolved),
    })
}

/// The persons behind one number of the answer.
pub fn persons(context: &Context<'_>, request: &pb::QuerySessionsRequest, cell: &pb::SessionCell) -> Result<RoaringBitmap, QueryError> {
    let plan = Plan::new(context, request, None)?;
    let groups = plan.groups(context);
    let who = who::Who::new(context, &plan, &groups, cell)?;
    Ok(cut::run(context, &plan, &groups, &who, None)?.0)
}
