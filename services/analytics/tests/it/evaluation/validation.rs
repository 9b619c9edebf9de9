//! What is refused, with the path of what is wrong.

use segue_model::Code;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{HasIdentifier, Membership, TimeUnit, membership};
use segue_runtime::status::ServiceError;

use super::*;
use crate::condition::{all_of, behavior, condition, did, event, last, snapshot};

fn faults(request: &EvaluateConditionsRequest) -> Vec<String> {
    let snapshot = snapshot(&[event("a", "2026-11-01T00:00:00Z", 1)]);
    let error = run(&snapshot, request).expect_err("a fault");
    assert_eq!(error.code(), Code::InvalidArgument);
    error.field_violations().into_iter().map(|violation| violation.field).collect()
}

#[test]
fn every_faulty_item_is_named() {
    let wrong = all_of(vec![did(behavior("a")), did(segue_proto::query::v1::Behavior { window: last(0, TimeUnit::Day), ..behavior("a") })]);
    let good = did(behavior("a"));
    let request = of(vec![
        item(&good, &[1]),
        item(&wrong, &[]),
        EvaluationItem { time_zone: "Nowhere".to_owned(), ..item(&good, &[1]) },
        item(&wrong, &[1]),
        EvaluationItem { whom: Some(Whom::Persons(vec![1, 2, 3])), ..item(&good, &[]) },
        EvaluationItem { whom: None, ..item(&good, &[]) },
        EvaluationItem { condition: None, ..item(&good, &[1]) },
    ]);
    let window = "condition.all.conditions[1].behavior.window.last.count";
    let wanted = [
        format!("items[1].{window}"),
        "items[2].time_zone".to_owned(),
        format!("items[3].{window}"),
        "items[4].persons".to_owned(),
        "items[5].persons".to_owned(),
        "items[6].condition".to_owned(),
    ];
    assert_eq!(faults(&request), wanted);
    assert_eq!(faults(&of(vec![item(&good, &[]); 1_001])), ["items"]);
    let later = EvaluationItem { as_of_us: 11, ..item(&good, &[1]) };
    assert_eq!(faults(&EvaluateConditionsRequest { as_of_us: 10, ..of(vec![later]) }), ["items[0].as_of_us"]);
}

#[test]
fn what_only_the_audience_service_knows_is_refused() {
    let member = condition(Node::MemberOf(Membership { of: Some(membership::Of::Audience("a".to_owned())) }));
    let known = condition(Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() }));
    let wanted = ["items[0].condition.member_of", "items[1].condition.has_identifier"];
    assert_eq!(faults(&of(vec![item(&member, &[1]), item(&known, &[])])), wanted);
}
