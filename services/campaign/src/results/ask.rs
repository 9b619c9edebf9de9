//! What analytics is asked: events of one scenario as they came back through ingest.

use std::time::Duration;

use segue_model::TenantId;
use segue_proto::analytics::v1::{
    Aggregation, CountPersonsRequest, CountPersonsResponse, Group, Metric, Number, QueryEventsRequest, QueryEventsResponse, Unit, number,
};
use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::{
    Behavior, Comparison, Condition, ConditionList, EventSelector, Field, Filter, FilterList, Operator, TimeRange, condition, field, filter,
};
use segue_runtime::peers::{PeerError, request};

use crate::error::CampaignError;
use crate::peers::Peers;

/// How long analytics may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Groups of one report; a scenario has at most 100 steps with 10 variants each.
const GROUPS_MAX: u32 = 10_000;

/// Named by a built-in dimension.
pub(super) fn dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

/// Named by a property.
pub(super) fn property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

/// A field has this text.
pub(super) fn is(field: Field, text: &str) -> Filter {
    let values = vec![Value { kind: Some(value::Kind::StringValue(text.to_owned())) }];
    let compare = Comparison { field: Some(field), operator: Operator::In.into(), values, ..Comparison::default() };
    Filter { node: Some(filter::Node::Compare(compare)) }
}

/// All of these.
pub(super) fn all(filters: Vec<Filter>) -> Filter {
    Filter { node: Some(filter::Node::All(FilterList { filters })) }
}

/// Did such an event, ever.
pub(super) fn did(event: &str, filter: Filter) -> Condition {
    let on = EventSelector { events: vec![event.to_owned()], filter: Some(filter) };
    Condition { node: Some(condition::Node::Behavior(Behavior { on: Some(on), ..Behavior::default() })) }
}

/// Meets both.
pub(super) fn both(a: Condition, b: Condition) -> Condition {
    Condition { node: Some(condition::Node::All(ConditionList { conditions: vec![a, b] })) }
}

/// How often an event happened.
pub(super) fn total(name: &str, event: &str) -> Metric {
    Metric { name: name.to_owned(), events: vec![event.to_owned()], aggregation: Aggregation::Total.into(), ..Metric::default() }
}

/// To how many persons.
pub(super) fn unique(name: &str, event: &str) -> Metric {
    Metric { aggregation: Aggregation::Unique.into(), unit: Unit::Profile.into(), ..total(name, event) }
}

/// Σ of the value of conversions.
pub(super) fn value_sum(name: &str) -> Metric {
    Metric { aggregation: Aggregation::Sum.into(), field: Some(property("df_message_value")), ..total(name, "df_message_converted") }
}

/// A report over a range without periods.
pub(super) fn report(range: TimeRange, filter: Filter, metrics: Vec<Metric>, group_by: Vec<Field>) -> QueryEventsRequest {
    QueryEventsRequest { range: Some(range), metrics, filter: Some(filter), group_by, top: GROUPS_MAX, ..QueryEventsRequest::default() }
}

/// Asks for a report.
pub(super) async fn query(peers: &Peers, tenant: &TenantId, asked: QueryEventsRequest) -> Result<QueryEventsResponse, CampaignError> {
    let answer = peers.analytics().query_events(request(tenant, asked, TIMEOUT)).await;
    Ok(answer.map_err(PeerError::analytics)?.into_inner())
}

/// Asks how many persons meet a condition.
pub(super) async fn count(peers: &Peers, tenant: &TenantId, condition: Condition) -> Result<CountPersonsResponse, CampaignError> {
    let asked = CountPersonsRequest { condition: Some(condition), ..CountPersonsRequest::default() };
    let answer = peers.analytics().count_persons(request(tenant, asked, TIMEOUT)).await;
    Ok(answer.map_err(PeerError::analytics)?.into_inner())
}

/// The text of a group's value; empty when it is missing.
pub(super) fn text_of(group: &Group, at: usize) -> String {
    match group.values.get(at).and_then(|value| value.value.as_ref()).and_then(|value| value.kind.as_ref()) {
        Some(value::Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

/// A metric of a group that counts.
pub(super) fn count_of(group: &Group, at: usize) -> u64 {
    match group.totals.get(at).and_then(|number| number.kind.as_ref()) {
        Some(number::Kind::Count(count)) => *count,
        _ => 0,
    }
}

/// A metric of a group that is a decimal.
pub(super) fn decimal_of(group: &Group, at: usize) -> String {
    match group.totals.get(at) {
        Some(Number { kind: Some(number::Kind::Decimal(text)) }) => text.clone(),
        Some(Number { kind: Some(number::Kind::Int(whole)) }) => format!("{whole}.0000"),
        _ => "0.0000".to_owned(),
    }
}
