//! The same reports over a running index: tail, files, both, and with merged persons.

use chrono_tz::Tz;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::same_as_reference::{any_event, any_request, check, knows_all};
use super::*;
use crate::rig::{Life, Rig, eventually, tenant};

fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

/// Runs requests over the index's snapshot and compares each with the reference over `events`.
async fn compare_all(life: &Life, events: &[ResolvedEvent], requests: &[QueryEventsRequest], stage: &str) {
    let snapshot = life.snapshot(&tenant("shop"));
    let (events, requests, stage) = (events.to_vec(), requests.to_vec(), stage.to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        for request in &requests {
            let found = query_snapshot(&snapshot, QueryLimits::default(), request).expect("a report");
            check(&found, &events, request).unwrap_or_else(|difference| panic!("{stage}: {difference}\n{request:#?}"));
        }
    });
    compared.await.expect("no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_the_same_from_the_tail_from_files_and_after_merges_of_persons() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let mut events = draw(&mut runner, prop_events());
        let requests: Vec<QueryEventsRequest> = (0..60).map(|_| draw(&mut runner, any_request())).collect();
        let shop = tenant("shop");
        let life = rig.start().await;
        let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
        let half = sent.len() / 2;
        life.send(&sent[..half], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events[..half], &requests, "tail").await;
        life.index().flush(&shop).await.expect("a flush");
        compare_all(&life, &events[..half], &requests, "files").await;
        life.send(&sent[half..], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events, &requests, "files and tail").await;

        life.merge_persons(&shop, 1, &[(1, 4), (5, 2)]).await;
        for event in &mut events {
            event.person = match event.person {
                1 => 4,
                5 => 2,
                person => person,
            };
        }
        let persons = QueryEventsRequest {
            range: Some(TimeRange { start: Some(timestamp(0)), end: Some(timestamp(us("2030-01-01T00:00:00Z"))) }),
            ..november(vec![unique(Unit::Profile, &[])])
        };
        let wanted = reference::expected(&events, &persons, Tz::UTC).total.totals;
        eventually("merged persons are one", || async {
            let snapshot = life.snapshot(&tenant("shop"));
            let persons = persons.clone();
            let found = tokio::task::spawn_blocking(move || query_snapshot(&snapshot, QueryLimits::default(), &persons));
            found.await.expect("no panic").expect("a report").total.is_some_and(|total| total.totals == wanted)
        })
        .await;
        compare_all(&life, &events, &requests, "merged persons").await;
        life.crash().await;
    }
}

fn prop_events() -> impl Strategy<Value = Vec<ResolvedEvent>> {
    proptest::collection::vec(any_event(), 300).prop_map(|mut events| {
        events.insert(0, knows_all());
        for (number, event) in events.iter_mut().enumerate() {
            event.message_id = number.to_string();
            // Which of two events of merged persons at one time came first is arbitrary.
            event.time_us += number as i64;
        }
        events
    })
}
