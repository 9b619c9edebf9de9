//! The behavioural figures of the shop file, through the public calls.

use anyhow::{Context, ensure};
use segue_model::catalogue;
use segue_proto::analytics::v1::{
    CohortEntry, FunnelCell, FunnelOrder, FunnelOutcome, FunnelStep, Grain, QueryFunnelRequest, QueryPathRequest, QueryRetentionRequest,
    ReportCell, SelectPersonsRequest, report_cell, select_persons_request::Who,
};
use segue_proto::query::v1::{EventSelector, TimeRange};
use segue_tests::events::timestamp;
use segue_tests::installation::TenantKeys;
use serde_json::Value;

/// 2024-01-01 to 2024-07-01, whole weeks.
fn range() -> Option<TimeRange> {
    Some(TimeRange { start: Some(timestamp(1_704_067_200_000_000)), end: Some(timestamp(1_719_792_000_000_000)) })
}

fn of(event: &str) -> Option<EventSelector> {
    Some(EventSelector { events: vec![event.to_owned()], filter: None })
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// The funnel, retention and paths are as the reference computed them.
pub async fn check(keys: &TenantKeys, expected: &Value) -> anyhow::Result<()> {
    let ordered = FunnelOrder::Ordered;
    funnel(keys, &expected["funnel_ordered_7d"], ordered, &["product_view", "add_to_cart", "cart", "purchase"]).await?;
    // Many events of the file share a time; which of them are neighbours is as in the file.
    funnel(keys, &expected["funnel_strict_1d"], FunnelOrder::Strict, &["add_to_cart", "cart"]).await?;
    retention(keys, &expected["retention_weekly_monday_utc_first_any_to_any"]["rows_0_to_3"]).await?;
    path(keys, &expected["path_top_edges_max4"]).await
}

async fn funnel(keys: &TenantKeys, expected: &Value, order: FunnelOrder, steps: &[&str]) -> anyhow::Result<()> {
    let window = expected["window_s"].as_i64().context("a window")?;
    let request = QueryFunnelRequest {
        range: range(),
        steps: steps.iter().map(|event| FunnelStep { on: of(event), ..Default::default() }).collect(),
        window: Some(prost_types::Duration { seconds: window, nanos: 0 }),
        order: order.into(),
        ..Default::default()
    };
    let answer = keys.gateway.analytics().query_funnel(request).await?.into_inner();
    let found: Vec<u64> = answer.total.iter().flat_map(|group| &group.steps).map(|step| step.count).collect();
    let wanted = numbers(&expected["profiles"]);
    ensure!(!wanted.is_empty() && found == wanted, "funnel {steps:?}: {found:?} instead of {wanted:?}");

    // Each count is the size of a set of persons that can be listed.
    for (step, count) in (1..).zip(&wanted) {
        let cell = FunnelCell { step, outcome: FunnelOutcome::Reached.into(), ..Default::default() };
        let cell = ReportCell { persons_token: answer.persons_token.clone(), cell: Some(report_cell::Cell::Funnel(cell)) };
        let request = SelectPersonsRequest { who: Some(Who::Report(cell)), page_size: 10_000, ..Default::default() };
        let listed = keys.gateway.analytics().select_persons(request).await?.into_inner();
        ensure!(listed.count == *count && listed.persons.len() as u64 == *count, "step {step}: {} listed of {count}", listed.count);
    }
    Ok(())
}

async fn retention(keys: &TenantKeys, expected: &Value) -> anyhow::Result<()> {
    let request = QueryRetentionRequest {
        range: range(),
        time_zone: "UTC".to_owned(),
        grain: Grain::Week.into(),
        entry: CohortEntry::FirstMatching.into(),
        ..Default::default()
    };
    let answer = keys.gateway.analytics().query_retention(request).await?.into_inner();
    let cohorts = answer.total.context("a total")?.cohorts;
    let rows = expected.as_array().context("rows")?;
    ensure!(!rows.is_empty());
    for (at, row) in rows.iter().enumerate() {
        let wanted = numbers(row);
        let cohort = cohorts.get(at).context("a cohort")?;
        let found: Vec<u64> = cohort.cells.iter().take(wanted.len()).map(|cell| cell.provisional).collect();
        ensure!(found == wanted && cohort.size == wanted[0], "cohort {at}: {found:?} instead of {wanted:?}");
    }
    Ok(())
}

async fn path(keys: &TenantKeys, expected: &Value) -> anyhow::Result<()> {
    let request = QueryPathRequest { range: range(), nodes_max: 4, top: 100, ..Default::default() };
    let answer = keys.gateway.analytics().query_path(request).await?.into_inner();
    let edges = expected.as_array().context("edges")?;
    ensure!(!edges.is_empty());
    for edge in edges {
        let node = |field: &str| -> anyhow::Result<(u32, String)> {
            let (step, name) = edge[field].as_str().and_then(|node| node.split_once('_')).context("step_name")?;
            Ok((step.parse()?, catalogue::canonical_event(name).unwrap_or(name).to_owned()))
        };
        let ((step, from), (_, to)) = (node("from")?, node("to")?);
        let found = answer.edges.iter().find(|edge| (edge.step, &edge.from, &edge.to) == (step, &from, &to)).map(|edge| edge.value);
        ensure!(found == edge["sessions"].as_u64(), "{step}:{from} → {to}: {found:?} instead of {}", edge["sessions"]);
    }
    Ok(())
}
