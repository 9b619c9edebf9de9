//! The same funnels over a running index: tail, files, both, and with merged persons.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::same_as_reference::{any_plain_request, any_request, check};
use super::*;
use crate::report::same_as_reference::{any_event, knows_all};
use crate::rig::{Life, Rig, eventually, tenant};

fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

/// Runs requests over the index's snapshot and compares each with the reference over `events`.
async fn compare_all(life: &Life, events: &[ResolvedEvent], requests: &[QueryFunnelRequest], stage: &str) {
    let snapshot = life.snapshot(&tenant("shop"));
    let (events, requests, stage) = (events.to_vec(), requests.to_vec(), stage.to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        for request in &requests {
            let found = ask(&snapshot, request).expect("an answer");
            check(&found, &events, request).unwrap_or_else(|difference| panic!("{stage}: {difference}\n{request:#?}"));
        }
    });
    compared.await.expect("no difference");
}

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
async fn funnels_are_the_same_from_the_tail_from_files_and_after_merges_of_persons() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let mut events = events(&mut runner);
        let mut requests: Vec<QueryFunnelRequest> = (0..50).map(|_| draw(&mut runner, any_request())).collect();
        requests.extend((0..20).map(|_| draw(&mut runner, any_plain_request())));
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
        let everybody = QueryFunnelRequest {
            range: Some(TimeRange { start: Some(timestamp(0)), end: Some(timestamp(us("2030-01-01T00:00:00Z"))) }),
            steps: vec![FunnelStep::default()],
            ..QueryFunnelRequest::default()
        };
        let wanted = {
            let mut persons: Vec<u32> = events.iter().map(|event| event.person).collect();
            persons.sort_unstable();
            persons.dedup();
            persons.len() as u64
        };
        eventually("merged persons are one", || async {
            let snapshot = life.snapshot(&tenant("shop"));
            let everybody = everybody.clone();
            let found = tokio::task::spawn_blocking(move || ask(&snapshot, &everybody));
            total(&found.await.expect("no panic").expect("an answer")) == [wanted]
        })
        .await;
        compare_all(&life, &events, &requests, "merged persons").await;
        life.crash().await;
    }
}
