//! What the calls refuse: faulty requests, with the field that is faulty; and what belongs to another tenant.

use anyhow::{Context, ensure};
use segue_proto::analytics::v1::report_cell::Cell;
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{
    CountPersonsRequest, FunnelCell, FunnelExclusion, FunnelStep, QueryEventsRequest, QueryFunnelRequest, QueryPathRequest,
    QueryRetentionRequest, QuerySessionsRequest, ReportCell, SelectPersonsRequest,
};
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::query::v1::{Behavior, Condition, Span, TimeRange, Window, condition::Node, window};
use segue_tests::events::{event, timestamp};
use segue_tests::installation::TenantKeys;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use super::words::{length, on};

const NOON_US: i64 = 1_767_268_800_000_000; // 2026-01-01T12:00:00Z

fn that_day() -> Option<TimeRange> {
    Some(TimeRange { start: Some(timestamp(NOON_US)), end: Some(timestamp(NOON_US + 86_400_000_000)) })
}

fn steps(names: &[&str]) -> Vec<FunnelStep> {
    names.iter().map(|name| FunnelStep { on: Some(on(name)), ..Default::default() }).collect()
}

/// The call was refused, for these fields.
fn refused<A>(call: &str, answer: Result<Response<A>, Status>, fields: &[&str]) -> anyhow::Result<()> {
    let status = answer.err().with_context(|| format!("{call} was answered"))?;
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let found: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    ensure!(status.code() == Code::InvalidArgument && found == fields, "{call}: {status}, fields {found:?} instead of {fields:?}");
    ensure!(violations.iter().all(|violation| !violation.description.is_empty()), "{call}: {violations:?}");
    Ok(())
}

/// Every call names the field of a faulty request.
pub async fn faulty_requests(keys: &TenantKeys) -> anyhow::Result<()> {
    refused("Track", keys.gateway.ingest().track(TrackRequest::default()).await, &["events"])?;
    let mut client = keys.gateway.analytics();
    refused("QueryEvents", client.query_events(QueryEventsRequest { range: that_day(), ..Default::default() }).await, &["metrics"])?;

    let funnel = QueryFunnelRequest { range: that_day(), steps: steps(&["a", "b"]), ..Default::default() };
    let excluded = |from_step, to_step| QueryFunnelRequest {
        exclusions: vec![FunnelExclusion { on: Some(on("x")), from_step, to_step, scope: 0 }],
        ..funnel.clone()
    };
    refused("QueryFunnel", client.query_funnel(excluded(1, 1)).await, &["exclusions[0].from_step"])?;
    refused("QueryFunnel", client.query_funnel(excluded(1, 3)).await, &["exclusions[0].to_step"])?;
    let many = QueryFunnelRequest { steps: steps(&["a"; 21]), ..funnel.clone() };
    refused("QueryFunnel", client.query_funnel(many).await, &["steps"])?;

    let retention = QueryRetentionRequest { range: that_day(), time_zone: "Mars".to_owned(), ..Default::default() };
    refused("QueryRetention", client.query_retention(retention).await, &["time_zone"])?;
    let path = QueryPathRequest { range: that_day(), nodes_max: 21, ..Default::default() };
    refused("QueryPath", client.query_path(path).await, &["nodes_max"])?;
    let sessions = QuerySessionsRequest { gap: length("25h"), ..Default::default() };
    refused("QuerySessions", client.query_sessions(sessions).await, &["range.start", "range.end", "gap"])?;

    let nothing = Some(Window { window: Some(window::Window::Last(Span { count: 0, unit: 4 })) });
    let condition = Condition { node: Some(Node::Behavior(Behavior { on: Some(on("a")), window: nothing, ..Default::default() })) };
    let select = SelectPersonsRequest { who: Some(Who::Condition(condition.clone())), ..Default::default() };
    refused("SelectPersons", client.select_persons(select).await, &["condition.behavior.window.last.count"])?;
    let count = CountPersonsRequest { condition: Some(condition), ..Default::default() };
    refused("CountPersons", client.count_persons(count).await, &["condition.behavior.window.last.count"])?;
    let cell = ReportCell { persons_token: "made up".to_owned(), cell: Some(Cell::Funnel(FunnelCell::default())) };
    let select = SelectPersonsRequest { who: Some(Who::Report(cell)), ..Default::default() };
    refused("SelectPersons", client.select_persons(select).await, &["report.persons_token"])
}

/// Three persons of the first tenant buy, one of the other. To be sent before [`another_tenants_token`].
pub async fn send(keys: &TenantKeys, persons: u32) -> anyhow::Result<()> {
    let who = |person: u32| format!("token/{person}");
    let events = (1..=persons).flat_map(|person| {
        ["token-a", "token-b"].map(|name| event(&format!("{}/{name}", who(person)), name, NOON_US, &[("user_id", &who(person))]))
    });
    let answer = keys.gateway.ingest().track(TrackRequest { events: events.collect() }).await?.into_inner();
    ensure!(answer.accepted == persons * 2, "{answer:?}");
    Ok(())
}

/// A token of one tenant's answer shows another tenant nothing but its own persons, and a key that cannot read shows nobody.
pub async fn another_tenants_token(first: &TenantKeys, other: &TenantKeys) -> anyhow::Result<()> {
    let funnel = QueryFunnelRequest { range: that_day(), steps: steps(&["token-a", "token-b"]), ..Default::default() };
    let answer = first.gateway.analytics().query_funnel(funnel).await?.into_inner();
    let counts: Vec<u64> = answer.total.iter().flat_map(|total| &total.steps).map(|step| step.count).collect();
    ensure!(counts == [3, 3], "{counts:?}");
    let cell = Cell::Funnel(FunnelCell { step: 2, ..Default::default() });
    let cell = ReportCell { persons_token: answer.persons_token, cell: Some(cell) };
    let request = SelectPersonsRequest { who: Some(Who::Report(cell)), ..Default::default() };
    let own = first.gateway.analytics().select_persons(request.clone()).await?.into_inner();
    ensure!(own.count == 3, "{own:?}");

    let theirs = other.gateway.analytics().select_persons(request.clone()).await?.into_inner();
    let who = segue_proto::identity::v1::get_person_request::Who::Identifier(segue_tests::events::identifier("user_id", "token/1"));
    let person = other.gateway.identity().get_person(segue_proto::identity::v1::GetPersonRequest { who: Some(who) }).await?.into_inner();
    ensure!(theirs.persons == [person.number], "{theirs:?} instead of {}", person.number);

    let writer = first.gateway.with_key(&first.write)?;
    let status = writer.analytics().select_persons(request).await.expect_err("a write key cannot read");
    ensure!(status.code() == Code::PermissionDenied, "{status}");
    Ok(())
}
