//! The same paths from whatever layout the events lie in.

use proptest::test_runner::TestRunner;

use super::reference::expected;
use super::same_as_reference::{any_events, any_request, numbers};
use super::*;
use crate::every_layout::{draw, in_every_layout};
use crate::rig::{Rig, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_in_every_layout() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let mut events: Vec<ResolvedEvent> = (0..6).flat_map(|_| draw(&mut runner, any_events())).collect();
        for (number, event) in (0..).zip(&mut events) {
            // Events of persons that are merged later came through different partitions: between those, only time decides.
            if event.person == 30_000 || event.person == 120_000 {
                event.time_us += number;
            }
        }
        let requests: Vec<QueryPathRequest> = (0..60).map(|_| draw(&mut runner, any_request())).collect();
        let shop = tenant("shop");
        in_every_layout(&rig, &shop, events, &[(30_000, 120_000)], async |life, events, layout| {
            let (snapshot, requests) = (life.snapshot(&tenant("shop")), requests.clone());
            let compared = tokio::task::spawn_blocking(move || {
                for request in &requests {
                    let found = in_context(&snapshot, QueryLimits::default(), |context| path::query(context, request)).expect("an answer");
                    assert_eq!(numbers(found), expected(&events, request), "{layout}: {request:#?}");
                }
            });
            compared.await.expect("no difference");
        })
        .await;
    }
}
