//! The same answers from whatever layout the events lie in.

use proptest::test_runner::TestRunner;

use super::same_as_reference::{Question, any_event, any_question};
use super::*;
use crate::every_layout::{draw, in_every_layout};
use crate::rig::{Rig, tenant};

fn compare(snapshot: &Snapshot, events: &[ResolvedEvent], questions: &[Question], layout: &str) {
    for (number, question) in questions.iter().enumerate() {
        let request = question.request();
        let threads = [1, 8][number % 2];
        let found = with_context(snapshot, threads, |context| sessions::query(context, &request)).expect("an answer");
        let persons = |cell: &SessionCell| persons(snapshot, &request, cell).expect("persons");
        let compared = question.check(&found, persons, events, snapshot.watermark_us());
        compared.unwrap_or_else(|difference| panic!("{layout}: {difference}\n{request:#?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_in_every_layout() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut runner = TestRunner::deterministic();
        let mut events: Vec<ResolvedEvent> = draw(&mut runner, proptest::collection::vec(any_event(), 200));
        for (number, event) in events.iter_mut().enumerate() {
            event.message_id = number.to_string();
            // Persons far apart are in chunks of their own.
            event.person *= 40_000;
            // Partitions of the log have their own sequences: the order at equal times is theirs, so there are none.
            event.time_us += number as i64 * 10;
        }
        let questions: Vec<Question> = (0..60).map(|_| draw(&mut runner, any_question())).collect();
        let shop = tenant("shop");
        in_every_layout(&rig, &shop, events, &[(40_000, 160_000), (200_000, 80_000)], async |life, events, layout| {
            let (snapshot, questions) = (life.snapshot(&tenant("shop")), questions.clone());
            let compared = tokio::task::spawn_blocking(move || compare(&snapshot, &events, &questions, layout));
            compared.await.expect("no difference");
        })
        .await;
    }
}
