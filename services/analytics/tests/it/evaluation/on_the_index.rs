//! The same on a running index, wherever the events lie and whoever was merged.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;

use super::law::ZONES;
use super::*;
use crate::condition::same_as_reference::{PERSONS, any_condition, any_event, any_now, knows_all};
use crate::condition::us;
use crate::every_layout::{draw, in_every_layout};
use crate::rig::{Rig, tenant};

const MERGES: [(u32, u32); 3] = [(1, 70_001), (65_536, 2), (3_000_000_000, 300_000)];

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_their_edges_are_the_same_in_every_layout() {
    for mut rig in Rig::each(&[("shop", true)]) {
        rig.clock = std::sync::Arc::new(segue_model::ManualClock::new(us("2027-01-01T00:00:00Z")));
        let mut runner = TestRunner::deterministic();
        let mut events = draw(&mut runner, prop::collection::vec(any_event(), 300));
        events.insert(0, knows_all());
        for (number, event) in events.iter_mut().enumerate() {
            // All of them are rows.
            event.kind = 0;
            // No two events of one person at one time: the order of logs of merged persons is not the order here.
            event.time_us += number as i64;
        }
        let conditions: Vec<Condition> = (0..40).map(|_| draw(&mut runner, any_condition())).collect();
        let items: Vec<EvaluationItem> = (0..120)
            .map(|_| {
                let condition = &conditions[draw(&mut runner, 0..conditions.len())];
                let as_of_us = draw(&mut runner, any_now());
                let time_zone = draw(&mut runner, select(&ZONES[..])).name().to_owned();
                let persons = draw(&mut runner, subsequence(PERSONS.to_vec(), 0..8));
                let item = if persons.len() > 6 { of_everyone(condition) } else { item(condition, &persons) };
                EvaluationItem { as_of_us, time_zone, ..item }
            })
            .collect();
        let moments: Vec<(i64, i64)> = conditions.iter().map(|_| draw(&mut runner, (any_now(), any_now()))).collect();
        let shop = tenant("shop");
        in_every_layout(&rig, &shop, events, &MERGES, async |life, _, layout| {
            let snapshot = life.snapshot(&tenant("shop"));
            let (items, conditions, moments) = (items.clone(), conditions.clone(), moments.clone());
            let compared = tokio::task::spawn_blocking(move || {
                let answer = run(&snapshot, &of(items.clone())).expect("an answer");
                for (item, answer) in items.iter().zip(&answer.items) {
                    assert_eq!(set(&answer.met), selected(&snapshot, item), "{layout}: {item:#?}");
                    check_survivors(&snapshot, item, answer);
                }
                for (condition, (one, two)) in conditions.iter().zip(moments) {
                    check_law(&snapshot, condition, ZONES[1], (one.min(two), one.max(two)));
                }
            });
            compared.await.expect("no difference");
        })
        .await;
    }
}

/// Survivors are told of where they differ from what was asked.
fn check_survivors(snapshot: &Snapshot, item: &EvaluationItem, answer: &EvaluatedItem) {
    let Some(Whom::Persons(persons)) = &item.whom else { return assert!(answer.survivors.is_empty()) };
    let asked = set(persons);
    let survivors: BTreeSet<u32> = asked.iter().map(|person| snapshot.survivor(*person)).collect();
    if survivors.iter().eq(&asked) {
        assert!(answer.survivors.is_empty());
    } else {
        assert!(set(&answer.survivors).iter().eq(&survivors));
    }
}
