//! The same conditions over a running index: tail, files, both, and with merged persons.

use chrono_tz::Tz;
use proptest::strategy::Strategy;
use proptest::test_runner::TestRunner;

use super::reference::World;
use super::same_as_reference::{PERSONS, any_condition, any_event, check, knows_all};
use super::*;
use crate::every_layout::draw;
use crate::rig::{Life, Rig, eventually, tenant};

/// Asks the index's snapshot and compares each answer with the reference over `events`.
async fn compare_all(life: &Life, events: &[ResolvedEvent], conditions: &[Condition], stage: &str) {
    let snapshot = life.snapshot(&tenant("shop"));
    let (events, conditions, stage) = (events.to_vec(), conditions.to_vec(), stage.to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        let world = World { events: &events, now_us: us("2026-11-10T00:00:00Z"), zone: Tz::UTC };
        for condition in &conditions {
            check(&snapshot, &world, condition, &PERSONS[1..5]).unwrap_or_else(|why| panic!("{stage}: {why}\n{condition:#?}"));
        }
    });
    compared.await.expect("no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_the_same_from_the_tail_from_files_and_after_merges_of_persons() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let mut events = draw(&mut runner, prop_events());
        let conditions: Vec<Condition> = (0..150).map(|_| draw(&mut runner, any_condition())).collect();
        let shop = tenant("shop");
        let life = rig.start().await;
        let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
        let half = sent.len() / 2;
        life.send(&sent[..half], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events[..half], &conditions, "tail").await;
        life.index().flush(&shop).await.expect("a flush");
        compare_all(&life, &events[..half], &conditions, "files").await;
        life.send(&sent[half..], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events, &conditions, "files and tail").await;

        life.merge_persons(&shop, 1, &[(1, 70_001), (65_536, 2), (3_000_000_000, 300_000)]).await;
        for event in &mut events {
            event.person = match event.person {
                1 => 70_001,
                65_536 => 2,
                3_000_000_000 => 300_000,
                person => person,
            };
        }
        let merged = [2, 3, 9, 65_535, 70_001, 300_000];
        eventually("merged persons are one", || async {
            let snapshot = life.snapshot(&tenant("shop"));
            snapshot.persons().expect("persons").iter().eq(merged)
        })
        .await;
        // Sets of persons name who is merged by the old number; the reference knows survivors alone.
        let conditions: Vec<Condition> = conditions.into_iter().map(with_survivors).collect();
        compare_all(&life, &events, &conditions, "merged persons").await;
        life.index().flush(&shop).await.expect("a flush");
        life.index().merge(&shop).await.expect("merges");
        compare_all(&life, &events, &conditions, "merged persons in merged files").await;
        life.crash().await;
    }
}

fn with_survivors(mut asked: Condition) -> Condition {
    match asked.node.as_mut() {
        Some(Node::All(list) | Node::Any(list)) => list.conditions = list.conditions.drain(..).map(with_survivors).collect(),
        Some(Node::Not(inner)) => **inner = with_survivors(std::mem::take(inner)),
        Some(Node::Persons(set)) => {
            let mut persons = roaring::RoaringBitmap::deserialize_from(set.numbers.as_slice()).expect("a bitmap");
            for (from, into) in [(1, 70_001), (65_536, 2), (3_000_000_000, 300_000)] {
                if persons.remove(from) {
                    persons.insert(into);
                }
            }
            set.numbers.clear();
            persons.serialize_into(&mut set.numbers).expect("bytes");
        }
        Some(_) | None => {}
    }
    asked
}

/// A set that names a merged person means the survivor.
#[tokio::test(flavor = "multi_thread")]
async fn sets_of_persons_and_within_follow_merges() {
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let life = rig.start().await;
    let events = [event("a", "2026-11-01T00:00:00Z", 1), event("b", "2026-11-01T00:00:00Z", 2), event("b", "2026-11-01T00:00:00Z", 3)];
    let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
    life.send(&sent, 20).await;
    life.settled(&shop).await;
    life.merge_persons(&shop, 1, &[(1, 2)]).await;
    eventually("merged persons are one", || async { life.snapshot(&shop).persons().expect("persons").iter().eq([2, 3]) }).await;
    let snapshot = life.snapshot(&shop);
    let asked = tokio::task::spawn_blocking(move || {
        let set = query::PersonSet { numbers: super::same_as_reference::bytes_of(&[1, 77]), label: String::new() };
        let of_set = select_of(&snapshot, &at_now(&condition(Node::Persons(set)))).expect("an answer").persons;
        let within = super::same_as_reference::bytes_of(&[1, 3]);
        let both = all_of(vec![did(behavior("a")), did(behavior("b"))]);
        let of_within = select_of(&snapshot, &SelectPersonsRequest { within, ..at_now(&both) }).expect("an answer").persons;
        (of_set, of_within)
    });
    assert_eq!(asked.await.expect("no panic"), (vec![2], vec![2]));
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_calls_answer_over_grpc_and_say_what_is_wrong_with_a_request() {
    use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
    use segue_runtime::transport::{for_tenant, local};

    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let life = rig.start().await;
    let sent = [event("a", "2026-11-01T00:00:00Z", 1), event("b", "2026-11-01T00:00:00Z", 2)].map(|event| (shop.clone(), event));
    life.send(&sent, 20).await;
    life.settled(&shop).await;
    let mut client = AnalyticsServiceClient::new(local(life.started.routes.clone()));
    let asked = at_now(&not(did(behavior("a"))));
    let found = client.select_persons(for_tenant(&shop, asked)).await.expect("an answer").into_inner();
    assert_eq!((found.count, found.persons), (1, vec![2]));
    let asked = CountPersonsRequest { condition: Some(did(behavior("a"))), as_of: Some(timestamp(us(NOW))), ..Default::default() };
    let counted = client.count_persons(for_tenant(&shop, asked)).await.expect("an answer").into_inner();
    assert_eq!((counted.count, counted.persons_total, counted.node_counts), (1, 2, vec![1]));
    let wrong = at_now(&did(Behavior { window: last(0, TimeUnit::Day), ..behavior("a") }));
    let refused = client.select_persons(for_tenant(&shop, wrong)).await.expect_err("no such window");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("condition.behavior.window.last.count"), "{}", refused.message());
    life.crash().await;
}

fn at_now(condition: &Condition) -> SelectPersonsRequest {
    SelectPersonsRequest { as_of: Some(timestamp(us(NOW))), ..request(condition) }
}

fn prop_events() -> impl Strategy<Value = Vec<ResolvedEvent>> {
    proptest::collection::vec(any_event(), 300).prop_map(|mut events| {
        events.insert(0, knows_all());
        for (number, event) in events.iter_mut().enumerate() {
            event.message_id = number.to_string();
            // No two events of one person at one time: the order of logs of merged persons is not the order here.
            event.time_us += number as i64;
        }
        events
    })
}
