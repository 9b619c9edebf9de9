//! `ExplainCondition`: what decided each kind of node, and that it never disagrees with `SelectPersons`.

use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::select;
use segue_analytics::explanation::query;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_proto::analytics::v1::{ConditionExplanation, ExplainConditionRequest, ExplainConditionResponse, SelectPersonsRequest};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{ResolvedEvent, Value};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Attribute, Behavior, BehaviorAggregate, Condition, EventSequence, Operator, PersonSet, RandomBucket, Span, TimeUnit, Touch,
};
use tokio_util::sync::CancellationToken;

use crate::condition::same_as_reference::{PERSONS, any_condition, any_event, any_now, bytes_of, knows_all};
use crate::condition::{
    NOW, acquired, aggregate, all_of, any_of, behavior, between, condition, did, event, is_in, item, last, not, of_dimension, of_item,
    of_property, on, request as select_request, select_of, snapshot, text, timestamp, us, with_dimension, with_items, with_property,
};

fn run(snapshot: &Snapshot, request: &ExplainConditionRequest) -> Result<ExplainConditionResponse, QueryError> {
    let cancel = CancellationToken::new();
    query(&Context { snapshot, zone: Tz::UTC, limits: QueryLimits::default(), cancel: &cancel }, request)
}

fn of(condition: &Condition, person: u32) -> ExplainConditionRequest {
    ExplainConditionRequest { condition: Some(condition.clone()), person, ..ExplainConditionRequest::default() }
}

/// Of the root, at [`NOW`].
fn explained(events: &[ResolvedEvent], condition: &Condition, person: u32) -> ConditionExplanation {
    run(&snapshot(events), &of(condition, person)).expect("an answer").explanation.expect("an explanation")
}

fn value_of(explanation: &ConditionExplanation) -> Option<Kind> {
    explanation.value.as_ref().and_then(|value| value.kind.clone())
}

/// When the events listed were.
fn times(explanation: &ConditionExplanation) -> Vec<String> {
    let text = |time: Option<prost_types::Timestamp>| {
        let time = time.expect("a time");
        chrono::DateTime::from_timestamp(time.seconds, time.nanos as u32).expect("a time").format("%d %H:%M").to_string()
    };
    explanation.events.iter().map(|event| text(event.time)).collect()
}

fn moment(text: &str) -> Option<prost_types::Timestamp> {
    Some(timestamp(us(text)))
}

/// Purchases of person 1, of which the last has two items, and one of person 2.
fn purchases() -> Vec<ResolvedEvent> {
    let bought = |time: &str, label: &str, size: i64| {
        with_property(with_property(event("buy", time, 1), "label", text(label)), "size", Kind::IntValue(size))
    };
    vec![
        with_items(bought("2026-11-01T10:00:00Z", "x", 5), vec![item("shoes", 3, 1)]),
        with_items(bought("2026-11-20T10:00:00Z", "y", 7), vec![item("hats", 10, 2)]),
        with_items(bought("2026-11-21T10:00:00Z", "x", 2), vec![item("shoes", 4, 1), item("hats", 1, 1)]),
        with_items(bought("2026-11-23T10:00:00Z", "z", 1), vec![]),
        event("buy", "2026-11-21T11:00:00Z", 2),
        event("see", "2026-11-21T11:00:00Z", 3),
    ]
}

#[test]
fn a_count_is_told_with_its_events_newest_first_its_window_and_when_it_changes() {
    let recent = did(aggregate(
        Behavior { window: last(7, TimeUnit::Day), ..behavior("buy") },
        BehaviorAggregate::Count,
        Operator::GreaterOrEqual,
        vec![Kind::IntValue(2)],
    ));
    let found = explained(&purchases(), &recent, 1);
    assert_eq!((found.path.as_str(), found.met, value_of(&found)), ("condition.behavior", true, Some(Kind::IntValue(2))));
    assert_eq!((times(&found), found.events_total), (vec!["21 10:00".to_owned(), "20 10:00".to_owned()], 2));
    assert_eq!(found.events[0].items.len(), 2, "events are told in full");
    assert_eq!(found.window_start, Some(timestamp(us("2026-11-15T12:00:00Z") + 1)));
    assert_eq!(found.window_end, Some(timestamp(us(NOW) + 1)));
    // What is dated ahead comes in.
    assert_eq!(found.next_change, moment("2026-11-23T10:00:00Z"));
    let other = explained(&purchases(), &recent, 2);
    assert_eq!((other.met, value_of(&other), other.events_total), (false, Some(Kind::IntValue(1)), 1));
    assert_eq!(other.next_change, moment("2026-11-28T11:00:00Z"));
    let nobody = explained(&purchases(), &recent, 3);
    assert_eq!((nobody.met, value_of(&nobody), nobody.events_total, nobody.next_change), (false, Some(Kind::IntValue(0)), 0, None));
    let cut = ExplainConditionRequest { events_max: 1, ..of(&recent, 1) };
    let cut = run(&snapshot(&purchases()), &cut).expect("an answer").explanation.expect("an explanation");
    assert_eq!((times(&cut), cut.events_total), (vec!["21 10:00".to_owned()], 2));
}

#[test]
fn every_aggregate_is_told_exactly() {
    use BehaviorAggregate::{Count, DistinctCount, DistinctDays, FirstTime, FirstValue, LastTime, LastValue, Max, Min, Sum};
    let at = |text: &str| Some(Kind::TimestampValue(timestamp(us(text))));
    let decimal = |whole: i64| Some(Kind::DecimalE4Value(whole * 10_000));
    let number = |number: i64| Some(Kind::IntValue(number));
    let some = |of: &str| Some(text(of));
    for (of, field, items, wanted) in [
        (Count, None, false, number(3)),
        (Count, None, true, number(2)),
        (Sum, None, false, decimal(28)),
        (Sum, None, true, decimal(7)),
        (Sum, Some(of_property("size")), false, number(14)),
        (Sum, Some(of_item("price")), false, decimal(18)),
        (Sum, Some(of_item("quantity")), true, number(2)),
        (Min, Some(of_property("size")), false, number(2)),
        (Max, None, false, decimal(20)),
        (Max, Some(of_item("price")), true, decimal(4)),
        (DistinctDays, None, false, number(3)),
        (DistinctCount, Some(of_property("label")), false, number(2)),
        (DistinctCount, Some(of_item("category1")), false, number(2)),
        (FirstTime, None, false, at("2026-11-01T10:00:00Z")),
        (LastTime, None, false, at("2026-11-21T10:00:00Z")),
        (FirstValue, Some(of_property("label")), false, some("x")),
        (LastValue, Some(of_property("size")), false, number(2)),
        (LastValue, Some(of_item("category1")), false, some("hats")),
        (LastValue, Some(of_item("category1")), true, some("shoes")),
        (LastValue, Some(of_dimension("event")), false, some("buy")),
        (LastValue, Some(of_dimension("platform")), false, None),
    ] {
        let operator = match of {
            FirstValue | LastValue => Operator::Exists,
            FirstTime | LastTime => Operator::Exists,
            Min | Max => Operator::Exists,
            _ => Operator::Greater,
        };
        let values = if operator == Operator::Exists { vec![] } else { vec![Kind::IntValue(0)] };
        let only = items.then(|| is_in(of_item("category1"), &["shoes"]));
        let asked = Behavior { field: field.clone(), items: only, ..behavior("buy") };
        let found = explained(&purchases(), &did(aggregate(asked, of, operator, values)), 1);
        assert_eq!(value_of(&found), wanted, "{of:?} of {field:?}, of some items: {items}");
        assert_eq!(found.met, wanted.is_some(), "{of:?} of {field:?}, of some items: {items}");
    }
    // Of nothing: a sum is zero, and there is no least.
    let sum =
        |of| did(aggregate(Behavior { field: Some(of_property("size")), ..behavior("buy") }, of, Operator::Less, vec![Kind::IntValue(1)]));
    let found = explained(&purchases(), &sum(Sum), 3);
    assert_eq!((found.met, value_of(&found)), (true, Some(Kind::IntValue(0))));
    let found = explained(&purchases(), &sum(Min), 3);
    assert_eq!((found.met, value_of(&found)), (false, None));
}

#[test]
fn a_sequence_that_is_met_is_told_with_its_steps() {
    let events = [
        event("see", "2026-11-20T08:00:00Z", 1),
        event("see", "2026-11-20T09:00:00Z", 1),
        event("cancel", "2026-11-20T10:00:00Z", 1),
        event("buy", "2026-11-20T11:00:00Z", 1),
        event("see", "2026-11-21T09:00:00Z", 1),
        event("see", "2026-11-21T10:00:00Z", 1),
        event("buy", "2026-11-21T12:00:00Z", 1),
        event("see", "2026-11-21T10:00:00Z", 2),
    ];
    let sequence = |hours: u32| {
        let within = Some(Span { count: hours, unit: TimeUnit::Hour as i32 });
        let window = last(3, TimeUnit::Day);
        condition(Node::Sequence(EventSequence { steps: vec![on("see"), on("buy")], within, not_between: Some(on("cancel")), window }))
    };
    let found = explained(&events, &sequence(4), 1);
    assert_eq!((found.met, found.events_total), (true, 2));
    assert_eq!(found.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["see", "buy"]);
    assert_eq!(times(&found), ["21 10:00", "21 12:00"]);
    assert_eq!(found.next_change, moment("2026-11-23T08:00:00Z"), "the first event of any step that leaves");
    let too_slow = explained(&events, &sequence(1), 1);
    assert_eq!((too_slow.met, too_slow.events_total, too_slow.events.len()), (false, 0, 0));
    assert!(!explained(&events, &sequence(4), 2).met);
}

#[test]
fn traits_touches_draws_and_sets_are_told() {
    let stating = |time: &str, grade: &str| {
        let mut event = event("join", time, 1);
        event.traits.insert("grade".to_owned(), Value { kind: Some(text(grade)) });
        event
    };
    let from = |source: &str, time: &str| with_dimension(event("visit", time, 1), "utm_source", source);
    let events = [
        stating("2026-11-01T00:00:00Z", "silver"),
        stating("2026-11-10T00:00:00Z", "gold"),
        from("mail", "2026-11-02T00:00:00Z"),
        from("search", "2026-11-12T00:00:00Z"),
        event("visit", "2026-11-13T00:00:00Z", 1),
        event("visit", "2026-11-13T00:00:00Z", 2),
    ];
    let grade = |wanted: &str, as_of: Option<&str>| {
        let as_of = as_of.map(|text| timestamp(us(text)));
        let values = vec![Value { kind: Some(text(wanted)) }];
        condition(Node::Attribute(Attribute { r#trait: "grade".to_owned(), operator: Operator::In as i32, values, as_of }))
    };
    let found = explained(&events, &grade("gold", None), 1);
    assert_eq!((found.met, value_of(&found), found.value_time), (true, Some(text("gold")), moment("2026-11-10T00:00:00Z")));
    assert_eq!((found.events.len(), found.events_total, found.next_change), (0, 0, None));
    let found = explained(&events, &grade("gold", Some("2026-11-05T00:00:00Z")), 1);
    assert_eq!((found.met, value_of(&found), found.value_time), (false, Some(text("silver")), moment("2026-11-01T00:00:00Z")));
    assert_eq!(found.window_end, Some(timestamp(us("2026-11-05T00:00:00Z") + 1)));
    let found = explained(&events, &grade("gold", None), 2);
    assert_eq!((found.met, value_of(&found), found.value_time), (false, None, None));

    let by_mail = |touch| acquired(touch, None, is_in(of_dimension("utm_source"), &["mail"]));
    let found = explained(&events, &by_mail(Touch::First), 1);
    assert_eq!((found.met, times(&found), found.events_total), (true, vec!["02 00:00".to_owned()], 1));
    let found = explained(&events, &by_mail(Touch::Last), 1);
    assert_eq!((found.met, times(&found), value_of(&found)), (false, vec!["12 00:00".to_owned()], None));
    assert_eq!(explained(&events, &by_mail(Touch::Last), 2).events_total, 0);

    let bucket = |from, to| condition(Node::RandomBucket(RandomBucket { salt: "holdout".to_owned(), from, to }));
    let found = explained(&events, &bucket(2_000, 3_000), 1);
    assert_eq!((found.met, value_of(&found), found.window_end), (true, Some(Kind::IntValue(2_206)), None));
    assert!(!explained(&events, &bucket(0, 2_206), 1).met);
    let set = condition(Node::Persons(PersonSet { numbers: bytes_of(&[2, 9]), label: "list".to_owned() }));
    assert!(explained(&events, &set, 2).met && !explained(&events, &set, 1).met);
}

#[test]
fn operands_stand_in_their_order_and_the_first_change_counts() {
    let windowed = |name: &str, window| did(Behavior { window, ..behavior(name) });
    let tree = all_of(vec![
        any_of(vec![windowed("buy", last(30, TimeUnit::Day)), windowed("buy", between("2026-11-01T00:00:00Z", "2026-11-22T00:00:00Z"))]),
        not(did(behavior("see"))),
        all_of(vec![]),
    ]);
    let found = explained(&purchases(), &tree, 2);
    assert_eq!((found.path.as_str(), found.met, found.operands.len()), ("condition.all", true, 3));
    let paths: Vec<&str> =
        found.operands.iter().flat_map(|one| std::iter::once(one).chain(&one.operands)).map(|one| one.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "condition.all.conditions[0].any",
            "condition.all.conditions[0].any.conditions[0].behavior",
            "condition.all.conditions[0].any.conditions[1].behavior",
            "condition.all.conditions[1].not",
            "condition.all.conditions[1].not.behavior",
            "condition.all.conditions[2].all",
        ]
    );
    assert_eq!(found.operands.iter().map(|one| one.met).collect::<Vec<_>>(), [true, true, true]);
    assert!(!found.operands[1].operands[0].met);
    assert_eq!((found.next_change, found.operands[0].next_change), (moment("2026-12-21T11:00:00Z"), moment("2026-12-21T11:00:00Z")));
    assert_eq!(found.operands[1].next_change, None);
}

#[test]
fn who_is_not_known_meets_nothing_and_faulty_requests_are_refused() {
    let snapshot = snapshot(&purchases());
    let answer = run(&snapshot, &of(&not(did(behavior("buy"))), 77)).expect("an answer");
    assert_eq!((answer.known, answer.person, answer.explanation.map(|root| root.met)), (false, 77, Some(false)));
    let wrong =
        ExplainConditionRequest { person: 0, events_max: 101, time_zone: "Nowhere".to_owned(), ..ExplainConditionRequest::default() };
    let Err(QueryError::Invalid(faults)) = run(&snapshot, &wrong) else { panic!("not refused") };
    let paths: Vec<String> = faults.into_iter().map(|fault| fault.field).collect();
    assert_eq!(paths, ["person", "events_max", "time_zone", "condition"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_asks_about_a_merged_person() {
    use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
    use segue_runtime::caller::{Caller, Role};
    use segue_runtime::transport::local;

    let rig = crate::rig::Rig::embedded(&[("shop", true)]);
    let shop = crate::rig::tenant("shop");
    let life = rig.start().await;
    let sent: Vec<_> = purchases().into_iter().map(|event| (shop.clone(), event)).collect();
    life.send(&sent, 20).await;
    life.settled(&shop).await;
    life.merge_persons(&shop, 1, &[(2, 1)]).await;
    crate::rig::eventually("merged persons are one", || async { life.snapshot(&shop).survivor(2) == 1 }).await;
    let call = async |role: Role| {
        let asked = ExplainConditionRequest { as_of: moment(NOW), ..of(&did(behavior("buy")), 2) };
        let mut request = tonic::Request::new(asked);
        Caller { role, ..Caller::service(shop.clone()) }.attach(request.metadata_mut().as_mut());
        AnalyticsServiceClient::new(local(life.started.routes.clone())).explain_condition(request).await
    };
    let answer = call(Role::Analyst).await.expect("an answer").into_inner();
    let root = answer.explanation.expect("an explanation");
    assert_eq!((answer.person, answer.known, root.met, value_of(&root)), (1, true, true, Some(Kind::IntValue(4))));
    assert_eq!(root.events.iter().map(|event| event.origin).collect::<Vec<_>>(), [2, 1, 1, 1]);
    assert_eq!(call(Role::Writer).await.expect_err("too low").code(), tonic::Code::PermissionDenied);
    life.crash().await;
}

/// All nodes, each with its part of the condition.
fn nodes<'n>(condition: &'n Condition, explanation: &'n ConditionExplanation) -> Vec<(&'n Condition, &'n ConditionExplanation)> {
    let operands: &[Condition] = match condition.node.as_ref().expect("a node") {
        Node::All(list) | Node::Any(list) => &list.conditions,
        Node::Not(inner) => std::slice::from_ref(&**inner),
        _ => &[],
    };
    assert_eq!(operands.len(), explanation.operands.len());
    let below = operands.iter().zip(&explanation.operands).flat_map(|(operand, explained)| nodes(operand, explained));
    std::iter::once((condition, explanation)).chain(below).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn an_explanation_agrees_with_select_persons_now_and_until_the_next_change(
        events in prop::collection::vec(any_event(), 0..60),
        conditions in prop::collection::vec(any_condition(), 3),
        person in select(&PERSONS[..]),
        now_us in any_now(),
        zone in select(vec![Tz::UTC, chrono_tz::Europe::Berlin]),
    ) {
        let mut events = events;
        events.push(knows_all());
        let snapshot = snapshot(&events);
        let time_zone = zone.name().to_owned();
        let meets = |condition: &Condition, at: i64| {
            let (as_of, time_zone) = (Some(timestamp(at)), time_zone.clone());
            let asked = SelectPersonsRequest { as_of, time_zone, ..select_request(condition) };
            select_of(&snapshot, &asked).expect("an answer").persons.contains(&person)
        };
        for condition in &conditions {
            let asked = ExplainConditionRequest { as_of: Some(timestamp(now_us)), time_zone: time_zone.clone(), ..of(condition, person) };
            let answer = run(&snapshot, &asked).expect("an answer");
            prop_assert_eq!(answer.known, events.iter().any(|event| event.person == person));
            let root = answer.explanation.expect("an explanation");
            for (condition, explained) in nodes(condition, &root) {
                prop_assert_eq!(explained.met, meets(condition, now_us), "{:#?}", condition);
                let until = explained.next_change.map_or(us("2300-01-01T00:00:00Z"), |at| at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000);
                prop_assert!(until > now_us);
                prop_assert_eq!(explained.met, meets(condition, until - 1), "{:#?}", condition);
                prop_assert!(explained.events.len() as u64 <= explained.events_total.min(10));
                if let (Some(Node::Behavior(behavior)), Some(Kind::IntValue(count))) = (&condition.node, value_of(explained))
                    && behavior.aggregate() == BehaviorAggregate::Count
                {
                    prop_assert_eq!(count as u64, explained.events_total);
                }
            }
        }
    }
}
