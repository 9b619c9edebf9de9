//! The persons behind the numbers of an answer.

use segue_model::Code;
use segue_runtime::status::ServiceError;

use super::*;

/// Persons behind a cell, as a list.
pub(super) fn persons(events: &[ResolvedEvent], request: &QueryPathRequest, cell: &PathCell) -> Result<Vec<u32>, QueryError> {
    let found = in_context(&snapshot(events), QueryLimits::default(), |context| path::persons(context, request, cell))?;
    Ok(found.iter().collect())
}

pub(super) fn cell(step: u32, from: &str, to: &str) -> PathCell {
    PathCell { step, from: from.to_owned(), to: to.to_owned() }
}

/// Persons 1 to 3 go from a to b, 4 to c, 5 to d; 6 stays.
fn events() -> Vec<ResolvedEvent> {
    let mut events = Vec::new();
    for (person, to) in [(1, "b"), (2, "b"), (3, "b"), (4, "c"), (5, "d"), (6, "")] {
        events.push(event("a", person, 0));
        if !to.is_empty() {
            events.push(event(to, person, MINUTE));
        }
    }
    events
}

#[test]
fn every_number_has_its_persons() {
    let request = QueryPathRequest { top: 1, nodes_max: 2, ..november() };
    for (cell, expected) in [
        (cell(1, "", ""), vec![1, 2, 3, 4, 5, 6]),
        (cell(1, "a", ""), vec![1, 2, 3, 4, 5, 6]),
        (cell(1, "a", "b"), vec![1, 2, 3]),
        (cell(1, "a", "$other"), vec![4, 5]),
        (cell(1, "a", "$exit"), vec![6]),
        (cell(2, "b", ""), vec![1, 2, 3]),
        (cell(2, "$other", ""), vec![4, 5]),
        // One of those that the answer does not show by itself.
        (cell(1, "a", "c"), vec![4]),
        (cell(1, "b", ""), vec![]),
        (cell(1, "nowhere", ""), vec![]),
        (cell(1, "a", "nowhere"), vec![]),
        (cell(1, "...", ""), vec![]),
    ] {
        assert_eq!(persons(&events(), &request, &cell).expect("persons"), expected, "{cell:?}");
    }
}

#[test]
fn a_stretch_that_is_left_out_has_its_persons_too() {
    let walk = |person: u32, names: &[&str]| -> Vec<ResolvedEvent> {
        names.iter().zip(0..).map(|(name, minute)| event(name, person, minute * MINUTE)).collect()
    };
    let events = [walk(1, &["s", "a", "b", "e"]), walk(2, &["s", "a", "e"]), walk(3, &["s", "e"])].concat();
    let request = QueryPathRequest { start: "s".to_owned(), end: "e".to_owned(), nodes_max: 2, ..november() };
    for (cell, expected) in [
        (cell(1, "s", "..."), vec![1, 2]),
        (cell(2, "...", "e"), vec![1, 2]),
        (cell(2, "e", "$exit"), vec![3]),
        (cell(3, "e", ""), vec![1, 2]),
    ] {
        assert_eq!(persons(&events, &request, &cell).expect("persons"), expected, "{cell:?}");
    }
}

#[test]
fn cells_that_no_answer_has_are_refused() {
    let request = QueryPathRequest { nodes_max: 3, ..november() };
    for (cell, path) in [
        (cell(0, "a", ""), "report.path.step"),
        (cell(4, "a", ""), "report.path.step"),
        (cell(3, "a", "b"), "report.path.step"),
        (cell(1, "$exit", ""), "report.path.from"),
    ] {
        let error = persons(&events(), &request, &cell).expect_err("a fault");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.field_violations()[0].field, path, "{cell:?}");
    }
    let faulty = QueryPathRequest { top: 1_000, ..request };
    assert_eq!(persons(&events(), &faulty, &cell(1, "a", "")).expect_err("a fault").field_violations()[0].field, "top");
}
