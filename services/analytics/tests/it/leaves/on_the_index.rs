//! Questions by plans over a running index, wherever the events lie.

use proptest::strategy::ValueTree;
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1::{EventSelector, Field, TimeRange, field};

use super::session_questions::{any_event, any_question};
use super::*;
use crate::every_layout::in_every_layout;
use crate::rig::Rig;

/// A funnel, retention and paths over the events of sessions.
fn others() -> [Asked; 4] {
    let range = Some(TimeRange { start: Some(timestamp(START_US - DAY_US)), end: Some(timestamp(START_US + 2 * DAY_US)) });
    let on = |name: &str| Some(EventSelector { events: vec![name.to_owned()], filter: None });
    let platform = || Some(Field { field: Some(field::Field::Dimension("platform".to_owned())) });
    let step = |name: &str| pb::FunnelStep { on: on(name), ..pb::FunnelStep::default() };
    let funnel = pb::QueryFunnelRequest { range, steps: vec![step("view"), step("buy")], ..pb::QueryFunnelRequest::default() };
    let breakdown = Some(pb::FunnelBreakdown { field: platform(), top: 2, ..pb::FunnelBreakdown::default() });
    let retention = pb::QueryRetentionRequest {
        range,
        start: on("view"),
        returning: on("buy"),
        grain: pb::Grain::Hour as i32,
        among: Some(did("buy")),
        ..pb::QueryRetentionRequest::default()
    };
    let paths = pb::QueryPathRequest { range, node: platform(), top: 1, keep_repeats: true, ..pb::QueryPathRequest::default() };
    [
        Asked::Funnel(pb::QueryFunnelRequest { breakdown, ..funnel.clone() }),
        Asked::Funnel(funnel),
        Asked::Retention(retention),
        Asked::Path(paths),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_by_plans_are_those_of_one_pass_in_every_layout() {
    let mut runner = TestRunner::deterministic();
    let drawn = (prop::collection::vec(any_event(), 200), prop::collection::vec(any_question(), 20)).new_tree(&mut runner);
    let (events, questions) = drawn.expect("a value").current();
    let mut events = far_apart(events);
    // Partitions of the log have their own sequences: the order at equal times is theirs, so there are none.
    events.iter_mut().zip(0..).for_each(|(event, number)| event.time_us += number * 10);
    let asked: Vec<Asked> = questions.iter().map(|question| Asked::Sessions(question.request())).chain(others()).collect();
    let shop = tenant("shop");
    let merges = [(40_000, 160_000), (200_000, 80_000)];
    in_every_layout(&Rig::embedded(&[("shop", true)]), &shop, events, &merges, async |life, _, layout| {
        let snapshot = life.snapshot(&shop);
        for asked in &asked {
            let case = (snapshot.clone(), asked.clone());
            let found = answer(&in_parts(&snapshot, 3), inquiry(&case)).await.expect("an answer");
            let expected = tokio::task::spawn_blocking(move || alone(&case.0, &case.1)).await.expect("no panic");
            assert_eq!(untimed(found), expected.expect("an answer"), "{layout}");
        }
    })
    .await;
}
