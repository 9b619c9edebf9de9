//! Retention reports: who comes back, and when. The rules are [`segue_engine::retention`]'s.
//!
//! The way of a request: `plan` checks it and lays the buckets out; `count` takes every person in, by sets of buckets where the
//! question allows it and by ordered events where not; `answer` ranks the groups and writes the tables.
//!
//! # What the numbers mean, beyond the contract
//!
//! - The report's filter tests start and return events alike. [`CohortEntry::FirstEver`] looks for the first event by its name alone, so that
//!   a filter chooses among persons' first events and never makes a later one the first.
//! - Returns count in the buckets of the range, each seen to its end: that of the last one may lie after the range's.
//! - Groups of equal size are in the order of their values, a missing value last.
//!
//! [`CohortEntry::FirstEver`]: segue_engine::retention::CohortEntry::FirstEver

mod answer;
mod count;
mod plan;
pub(crate) mod rows;
mod who;

use std::time::Instant;

use roaring::RoaringBitmap;
use segue_proto::analytics::v1 as pb;

use crate::leaves::Cost;
use crate::pass::{self, Gather, Values, Within};
use crate::question::time::timestamp;
use crate::question::token::Asked;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use answer::Answer;
use count::{Count, Counted};
use plan::Plan;

/// Answers the question in its context.
pub fn query(context: &Context<'_>, request: &pb::QueryRetentionRequest) -> Result<pb::QueryRetentionResponse, QueryError> {
    let started = Instant::now();
    let plan = Plan::new(context, request, None)?;
    let values = Values::default();
    let (counted, stats) = count(context, &plan, &values, None)?;
    let response = respond(context, plan, &values, &counted)?;
    Ok(pb::QueryRetentionResponse { stats: Some(Cost { stats, seconds: started.elapsed().as_secs_f64() }.message()), ..response })
}

/// The answer, without what it has cost.
fn respond(context: &Context<'_>, plan: Plan, values: &Values, counted: &Counted) -> Result<pb::QueryRetentionResponse, QueryError> {
    let answer = Answer::new(context, &plan, values, counted)?;
    Ok(pb::QueryRetentionResponse {
        total: Some(answer.total(context)),
        groups: answer.groups(context),
        groups_total: answer.groups_total(),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
        stats: None,
        persons_token: Asked::Retention(plan.resolved.clone()).token(),
        options: Some(plan.resolved),
    })
}

/// The persons behind one number of the answer.
pub fn persons(
    context: &Context<'_>,
    request: &pb::QueryRetentionRequest,
    cell: &pb::RetentionCellReference,
) -> Result<RoaringBitmap, QueryError> {
    let plan = Plan::new(context, request, None)?;
    let values = Values::default();
    let who = who::Who::new(context, &plan, &values, cell)?;
    Ok(pass::run(context, &gather(&plan), &who)?.0.found)
}

fn count(context: &Context<'_>, plan: &Plan, values: &Values, within: Within<'_>) -> Result<(Counted, ScanStats), QueryError> {
    let (counted, stats) = pass::run_within(context, &gather(plan), &Count::new(context, plan, values), within)?;
    counted.check(context)?;
    Ok((counted, stats))
}

fn gather(plan: &Plan) -> Gather<'_> {
    Gather {
        selectors: &plan.selectors,
        others: None,
        filter: &plan::ALL,
        columns: &plan.columns,
        items: &plan.items,
        payload: &plan.payload,
        persons: plan.among.as_ref(),
    }
}
