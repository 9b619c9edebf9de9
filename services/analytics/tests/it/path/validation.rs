//! What is refused, with the path of the faulty field.

use segue_model::Code;
use segue_proto::query::v1::{Comparison, Condition, Filter, filter};
use segue_runtime::status::ServiceError;

use super::*;

fn known() -> Vec<ResolvedEvent> {
    vec![with_property(event("x", 1, 0), "list", Kind::JsonValue("[]".to_owned()))]
}

/// The faults of a request, as `path: description`.
fn faults(request: &QueryPathRequest) -> Vec<String> {
    let error = run(&known(), request).expect_err("a fault");
    assert_eq!(error.code(), Code::InvalidArgument);
    error.field_violations().into_iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect()
}

fn assert_fault(request: &QueryPathRequest, path: &str, part: &str) {
    let faults = faults(request);
    assert!(
        faults.len() == 1 && faults[0].starts_with(&format!("{path}: ")) && faults[0].contains(part),
        "no fault at {path} with {part:?} in {faults:#?}"
    );
}

#[test]
fn every_field_is_checked_and_its_path_is_named() {
    let base = november;
    let gap = |seconds, nanos| QueryPathRequest { session_gap: Some(Duration { seconds, nanos }), ..base() };
    let long = "x".repeat(1_025);
    let range = TimeRange { start: Some(timestamp(0)), end: Some(timestamp(0)) };
    assert_fault(&QueryPathRequest { range: Some(range), ..base() }, "range.end", "after the start");
    assert_fault(&gap(86_400, 1_000), "session_gap", "86400 s");
    assert_fault(&gap(0, 0), "session_gap", "between 0.000001 s");
    assert_fault(&QueryPathRequest { node: Some(Field { field: None }), ..base() }, "node", "set one of");
    assert_fault(&QueryPathRequest { node: Some(dimension("page_pth")), ..base() }, "node.dimension", "`page_path`");
    assert_fault(&QueryPathRequest { node: Some(property("list")), ..base() }, "node", "arrays or objects");
    let item = Field { field: Some(field::Field::ItemProperty("item_name".to_owned())) };
    assert_fault(&QueryPathRequest { node: Some(item), ..base() }, "node.item_property", "several items");
    assert_fault(&QueryPathRequest { nodes_max: 1, ..base() }, "nodes_max", "between 2 and 20");
    assert_fault(&QueryPathRequest { nodes_max: 21, ..base() }, "nodes_max", "between 2 and 20");
    assert_fault(&QueryPathRequest { top: 101, ..base() }, "top", "at most 100");
    assert_fault(&QueryPathRequest { counting: 9, ..base() }, "counting", "not a way");
    assert_fault(&QueryPathRequest { start: long.clone(), ..base() }, "start", "at most 1024");
    assert_fault(&QueryPathRequest { end: long.clone(), ..base() }, "end", "at most 1024");
    assert_fault(&QueryPathRequest { rules: vec![rule("x", None); 51], ..base() }, "rules", "at most 50");
    assert_fault(&QueryPathRequest { rules: vec![rule("x", None), rule("", None)], ..base() }, "rules[1].pattern", "1 to 1024");
    assert_fault(&QueryPathRequest { rules: vec![rule(&long, None)], ..base() }, "rules[0].pattern", "1 to 1024");
    assert_fault(&QueryPathRequest { rules: vec![rule("x", called(""))], ..base() }, "rules[0].name", "1 to 1024");
    let on = |events: &[&str], filter| Some(EventSelector { events: events.iter().map(|name| (*name).to_owned()).collect(), filter });
    assert_fault(&QueryPathRequest { on: on(&[""], None), ..base() }, "on.events[0]", "characters");
    let nothing = Filter { node: Some(filter::Node::Compare(Comparison { field: Some(dimension("event")), ..Comparison::default() })) };
    assert_fault(&QueryPathRequest { on: on(&[], Some(nothing)), ..base() }, "on.filter.compare.operator", "");
    for fits in [gap(86_400, 0), gap(0, 1_000), QueryPathRequest { nodes_max: 20, top: 100, ..base() }] {
        run(&known(), &fits).expect("an answer");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let request = QueryPathRequest {
        node: Some(property("never")),
        nodes_max: 99,
        top: 999,
        rules: vec![rule("", called(""))],
        ..QueryPathRequest::default()
    };
    let faults = faults(&request);
    let paths: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
    assert_eq!(paths, ["range.start", "range.end", "node.property", "rules[0].pattern", "rules[0].name", "nodes_max", "top"]);
}

#[test]
fn a_condition_without_a_node_is_refused() {
    let request = QueryPathRequest { among: Some(Condition { node: None }), ..november() };
    assert!(faults(&request)[0].starts_with("among"));
}
