//! Filters mean the same over stored events and over one event as it comes in: `segue_query::matches`, which scenarios act on, is held
//! against the engine on random events and filters.
//!
//! Values are such as their property's type holds, as they come or converted: ingest sees to that for registered properties. What it cannot
//! hold is missing to analytics, while whoever acts on one event does not know the tenant's types.

mod drawn;

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_analytics::timeline;
use segue_proto::analytics::v1::GetPersonTimelineRequest;
use segue_proto::events::v1::ResolvedEvent;
use segue_proto::query::v1::EventSelector;
use tokio_util::sync::CancellationToken;

use self::drawn::{any_event, any_selector, knows_all};
use crate::events::START_US;
use crate::rig::tenant;

/// Which of the person's events the engine finds. None: it refuses to ask so.
fn found(snapshot: &Snapshot, selector: &EventSelector) -> Option<BTreeSet<String>> {
    let cancel = CancellationToken::new();
    let context = Context { snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    let request =
        GetPersonTimelineRequest { person: 1, on: Some(selector.clone()), page_size: 1_000, ..GetPersonTimelineRequest::default() };
    match timeline::query(&context, &request) {
        Ok(answer) => Some(answer.events.into_iter().map(|event| event.message_id).collect()),
        Err(QueryError::Invalid(_)) => None,
        Err(error) => panic!("{error}: {selector:#?}"),
    }
}

#[test]
fn an_event_is_meant_by_a_selector_as_it_comes_in_and_when_it_is_stored_alike() {
    let events = prop::collection::vec(any_event(), 1..30);
    let selectors = prop::collection::vec(any_selector(), 20);
    let (asked, refused, passed, held_back) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
    let mut runner = TestRunner::new(Config { cases: 192, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&(events, selectors), |(mut events, selectors)| {
        for (number, event) in events.iter_mut().enumerate() {
            event.message_id = number.to_string();
            event.time_us = START_US + number as i64;
        }
        let stored: Vec<ResolvedEvent> = std::iter::once(knows_all()).chain(events.iter().cloned()).collect();
        let snapshot = Snapshot::of_events(&tenant("shop"), START_US, &stored).expect("a snapshot");
        for selector in &selectors {
            count(&asked);
            let Some(found) = found(&snapshot, selector) else {
                count(&refused);
                continue;
            };
            for event in &events {
                let is_meant = segue_query::matches(selector, event);
                count(if is_meant { &passed } else { &held_back });
                let is_found = found.contains(&event.message_id);
                prop_assert_eq!(is_meant, is_found, "as it comes in, and stored: {:#?}\n{:#?}", selector, event);
            }
        }
        Ok(())
    });
    ran.unwrap_or_else(|difference| panic!("{difference}"));
    let (asked, refused) = (asked.get(), refused.get());
    assert!(refused * 2 < asked, "{refused} of {asked} selectors could not be asked");
    assert!(passed.get() > 10_000 && held_back.get() > 10_000, "{} and {}", passed.get(), held_back.get());
}
