//! The same funnels from whatever layout the events lie in.

use proptest::test_runner::TestRunner;

use super::same_as_reference::{any_plain_request, any_request, check};
use super::*;
use crate::every_layout::{draw, in_every_layout};
use crate::report::same_as_reference::{any_event, knows_all};
use crate::rig::{Rig, tenant};

/// No two events at the same time: the order in the log, by partition, is not the one in which they are listed.
fn events(runner: &mut TestRunner) -> Vec<ResolvedEvent> {
    let mut events = draw(runner, proptest::collection::vec(any_event(), 300));
    events.insert(0, knows_all());
    for (number, event) in (0..).zip(&mut events) {
        event.message_id = number.to_string();
        event.time_us += number;
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_in_every_layout() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let events = events(&mut runner);
        let mut requests: Vec<QueryFunnelRequest> = (0..50).map(|_| draw(&mut runner, any_request())).collect();
        requests.extend((0..20).map(|_| draw(&mut runner, any_plain_request())));
        let shop = tenant("shop");
        in_every_layout(&rig, &shop, events, &[(1, 4), (5, 2)], async |life, events, layout| {
            let (snapshot, requests) = (life.snapshot(&tenant("shop")), requests.clone());
            let compared = tokio::task::spawn_blocking(move || {
                for request in &requests {
                    let found = ask(&snapshot, request).expect("an answer");
                    check(&found, &events, request).unwrap_or_else(|difference| panic!("{layout}: {difference}\n{request:#?}"));
                }
            });
            compared.await.expect("no difference");
        })
        .await;
    }
}
