//! The same reports from whatever layout the events lie in.

use proptest::strategy::Strategy;
use proptest::test_runner::TestRunner;

use super::same_as_reference::{any_event, any_request, check, knows_all};
use super::*;
use crate::every_layout::{draw, in_every_layout};
use crate::rig::{Rig, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_in_every_layout() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let events = draw(&mut runner, prop_events());
        let requests: Vec<QueryEventsRequest> = (0..60).map(|_| draw(&mut runner, any_request())).collect();
        let shop = tenant("shop");
        in_every_layout(&rig, &shop, events, &[(1, 4), (5, 2)], async |life, events, layout| {
            let (snapshot, requests) = (life.snapshot(&tenant("shop")), requests.clone());
            let compared = tokio::task::spawn_blocking(move || {
                for (number, request) in requests.iter().enumerate() {
                    let limits = QueryLimits { threads: [1, 8][number % 2], ..QueryLimits::default() };
                    let found = query_snapshot(&snapshot, limits, request).expect("a report");
                    check(&found, &events, request).unwrap_or_else(|difference| panic!("{layout}: {difference}\n{request:#?}"));
                }
            });
            compared.await.expect("no difference");
        })
        .await;
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
