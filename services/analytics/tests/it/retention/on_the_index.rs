//! The same answers over a running index: tail, files, both, and with merged persons.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::same_as_reference::{Question, any_event, any_question};
use super::*;
use crate::rig::{Life, Rig, eventually, tenant};

fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

async fn compare_all(life: &Life, events: &[ResolvedEvent], questions: &[Question], stage: &str) {
    let snapshot = life.snapshot(&tenant("shop"));
    let (events, questions, stage) = (events.to_vec(), questions.to_vec(), stage.to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        for (number, question) in questions.iter().enumerate() {
            let request = question.request();
            let threads = [1, 8][number % 2];
            let found = with_context(&snapshot, threads, |context| retention::query(context, &request)).expect("an answer");
            let persons = |cell: &RetentionCellReference| persons(&snapshot, &request, cell).expect("persons");
            let watermark = snapshot.watermark_us();
            question.check(&found, persons, &events, watermark).unwrap_or_else(|difference| panic!("{stage}: {difference}\n{request:#?}"));
        }
    });
    compared.await.expect("no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_from_the_tail_from_files_and_after_merges_of_persons() {
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
        let life = rig.start().await;
        let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
        let half = sent.len() / 2;
        life.send(&sent[..half], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events[..half], &questions, "tail").await;
        life.index().flush(&shop).await.expect("a flush");
        compare_all(&life, &events[..half], &questions, "files").await;
        life.send(&sent[half..], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events, &questions, "files and tail").await;

        life.merge_persons(&shop, 1, &[(40_000, 160_000), (200_000, 80_000)]).await;
        for event in &mut events {
            event.person = match event.person {
                40_000 => 160_000,
                200_000 => 80_000,
                person => person,
            };
        }
        let everything = QueryRetentionRequest {
            range: range(0, us("2029-01-01T00:00:00Z")),
            start: Some(selector(&[])),
            grain: Grain::Month as i32,
            entry: CohortEntry::FirstMatching as i32,
            ..QueryRetentionRequest::default()
        };
        eventually("merged persons are one", || async {
            let snapshot = life.snapshot(&tenant("shop"));
            let everything = everything.clone();
            let found = tokio::task::spawn_blocking(move || ask(&snapshot, &everything)).await.expect("no panic");
            let sizes: u64 = found.iter().flat_map(|found| &found.total).flat_map(|total| &total.cohorts).map(|cohort| cohort.size).sum();
            sizes == 3
        })
        .await;
        compare_all(&life, &events, &questions, "merged persons").await;
        life.crash().await;
    }
}
