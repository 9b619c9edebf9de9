//! `EvaluateConditions`: the same as `SelectPersons` for every item, edges that nothing changes between, and waiting for the log.

mod law;
mod on_the_index;
mod service;
mod validation;

use std::collections::BTreeSet;

use chrono_tz::Tz;
use roaring::RoaringBitmap;
use segue_analytics::evaluation::evaluate;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_proto::analytics::v1::evaluation_item::Whom;
use segue_proto::analytics::v1::{
    EvaluateConditionsRequest, EvaluateConditionsResponse, EvaluatedItem, EvaluationItem, SelectPersonsRequest,
};
use segue_proto::query::v1::Condition;
use tokio_util::sync::CancellationToken;

use crate::condition::same_as_reference::bytes_of;
use crate::condition::{request as select_request, select_of, timestamp};

fn run(snapshot: &Snapshot, request: &EvaluateConditionsRequest) -> Result<EvaluateConditionsResponse, QueryError> {
    let cancel = CancellationToken::new();
    let limits = QueryLimits { threads: 2, ..QueryLimits::default() };
    evaluate(&Context { snapshot, zone: Tz::UTC, limits, cancel: &cancel }, request, i64::MIN)
}

fn of(items: Vec<EvaluationItem>) -> EvaluateConditionsRequest {
    // No item may be of a later moment than the answer.
    let as_of_us = items.iter().map(|item| item.as_of_us).max().unwrap_or(0);
    EvaluateConditionsRequest { items, as_of_us, ..EvaluateConditionsRequest::default() }
}

fn item(condition: &Condition, persons: &[u32]) -> EvaluationItem {
    EvaluationItem { condition: Some(condition.clone()), whom: Some(Whom::Persons(bytes_of(persons))), ..EvaluationItem::default() }
}

fn of_everyone(condition: &Condition) -> EvaluationItem {
    EvaluationItem { whom: Some(Whom::Everyone(true)), ..item(condition, &[]) }
}

fn set(bytes: &[u8]) -> Vec<u32> {
    RoaringBitmap::deserialize_from(bytes).expect("a bitmap").into_iter().collect()
}

fn met(answer: &EvaluateConditionsResponse) -> Vec<Vec<u32>> {
    answer.items.iter().map(|item| set(&item.met)).collect()
}

/// (moment, person), as they are meant.
fn edges(item: &EvaluatedItem) -> Vec<(i64, u32)> {
    assert_eq!(item.edge_times_us.len(), item.edge_persons.len());
    let moments = item.edge_times_us.iter().scan(0_i64, |at, difference| {
        *at += difference;
        Some(*at)
    });
    moments.zip(item.edge_persons.iter().copied()).collect()
}

/// What `SelectPersons` says of an item whose moment is set.
fn selected(snapshot: &Snapshot, item: &EvaluationItem) -> Vec<u32> {
    let condition = item.condition.as_ref().expect("a condition");
    let within = match &item.whom {
        // An empty bitmap is nobody, no bitmap is everybody.
        Some(Whom::Persons(bytes)) => bytes.clone(),
        _ => Vec::new(),
    };
    let time_zone = item.time_zone.clone();
    let asked = SelectPersonsRequest { as_of: Some(timestamp(item.as_of_us)), time_zone, within, ..select_request(condition) };
    select_of(snapshot, &asked).expect("an answer").persons
}

/// Between two moments nobody changes but at an edge; what is found out about a condition and everybody.
fn check_law(snapshot: &Snapshot, condition: &Condition, zone: Tz, (t1, t2): (i64, i64)) {
    let at = |as_of_us: i64| EvaluationItem { as_of_us, time_zone: zone.name().to_owned(), ..of_everyone(condition) };
    let answer = run(snapshot, &of(vec![EvaluationItem { edges_until_us: t2, ..at(t1) }, at(t2)])).expect("an answer");
    assert_eq!(answer.items[0].edges_until_us, t2);
    let edges = edges(&answer.items[0]);
    assert!(edges.is_sorted() && edges.windows(2).all(|pair| pair[0] != pair[1]), "{edges:?}");
    assert!(edges.iter().all(|(moment, _)| t1 < *moment && *moment <= t2), "{edges:?}");
    let (before, after) = (set(&answer.items[0].met), set(&answer.items[1].met));
    let with_edges: BTreeSet<u32> = edges.iter().map(|(_, person)| *person).collect();
    for person in before.iter().chain(&after).filter(|person| !with_edges.contains(person)) {
        assert_eq!(before.contains(person), after.contains(person), "{person} has no edge between {t1} and {t2}: {condition:#?}");
    }
    // Each moment that is named is one at which something may change: right before the first edge nothing has.
    if let Some((first, _)) = edges.first() {
        let answer = run(snapshot, &of(vec![at(first - 1)])).expect("an answer");
        assert_eq!(set(&answer.items[0].met), before, "before the first edge: {condition:#?}");
    }
}
