//! What one person did: every event as it was sent, newest first, page by page, wherever it is stored.

use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_analytics::timeline;
use segue_model::{Code, dimension};
use segue_proto::analytics::v1::{GetPersonTimelineRequest, GetPersonTimelineResponse, TimelineEvent};
use segue_proto::events::v1::{Item, ResolvedEvent, value::Kind};
use segue_proto::query::v1::{Comparison, EventSelector, Field, Filter, Operator, TimeRange, field, filter};
use segue_runtime::status::ServiceError;
use tokio_util::sync::CancellationToken;

use crate::events::{DAY_US, START_US, events, value};
use crate::rig::{Life, Rig, eventually, tenant};

fn timestamp(us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

fn snapshot(events: &[ResolvedEvent]) -> Snapshot {
    Snapshot::of_events(&tenant("shop"), START_US, events).expect("a snapshot")
}

fn run(snapshot: &Snapshot, request: &GetPersonTimelineRequest) -> Result<GetPersonTimelineResponse, QueryError> {
    let cancel = CancellationToken::new();
    let context = Context { snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    timeline::query(&context, request)
}

fn of(person: u32) -> GetPersonTimelineRequest {
    GetPersonTimelineRequest { person, page_size: 1_000, ..GetPersonTimelineRequest::default() }
}

/// All pages of a request, one after the other.
fn all_pages(snapshot: &Snapshot, request: &GetPersonTimelineRequest) -> Vec<TimelineEvent> {
    let mut request = request.clone();
    let mut all = Vec::new();
    loop {
        let page = run(snapshot, &request).expect("a page");
        assert!(page.events.len() <= request.page_size as usize);
        assert_eq!(page.events.is_empty(), all.is_empty() && page.events.is_empty(), "no page but the first is empty");
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

/// An event as the timeline shows it.
fn shown(event: &ResolvedEvent) -> TimelineEvent {
    let name_of = |code| dimension::by_code(code).expect("a dimension").name.to_owned();
    TimelineEvent {
        name: event.name.clone(),
        original_name: event.original_name.clone(),
        time: Some(timestamp(event.time_us)),
        received_at: Some(timestamp(event.received_at_us)),
        message_id: event.message_id.clone(),
        source: event.source.clone(),
        device: event.device,
        session_id: event.session_id.clone(),
        account_id: event.account_id.clone(),
        properties: event.properties.iter().chain(&event.unregistered).map(|(name, value)| (name.clone(), value.clone())).collect(),
        items: event.items.clone(),
        dimensions: event.dimensions.iter().map(|dimension| (name_of(dimension.code), dimension.value.clone())).collect(),
        origin: event.person,
    }
}

/// Newest first; events of one moment in the order in which they came, the last first.
fn expected(events: &[ResolvedEvent], persons: &[u32]) -> Vec<TimelineEvent> {
    let mut of_person: Vec<&ResolvedEvent> = events.iter().filter(|event| persons.contains(&event.person)).collect();
    of_person.sort_by_key(|event| event.time_us);
    of_person.into_iter().rev().map(shown).collect()
}

fn persons(events: &[ResolvedEvent]) -> Vec<u32> {
    let mut persons: Vec<u32> = events.iter().map(|event| event.person).collect();
    persons.sort_unstable();
    persons.dedup();
    persons
}

#[test]
fn a_timeline_holds_every_event_of_the_person_as_it_was_sent_newest_first() {
    let events = events(3, 400);
    let snapshot = snapshot(&events);
    for person in persons(&events) {
        let wanted = expected(&events, &[person]);
        let answer = run(&snapshot, &of(person)).expect("a timeline");
        assert_eq!((&answer.events, answer.person), (&wanted, person));
        assert_eq!((answer.next_page_token.as_str(), answer.watermark), ("", Some(timestamp(START_US))));
        for page_size in [1, 2, 3, 7] {
            assert_eq!(all_pages(&snapshot, &GetPersonTimelineRequest { page_size, ..of(person) }), wanted, "pages of {page_size}");
        }
    }
    assert_eq!(run(&snapshot, &of(77)).expect("nobody").events, []);
    assert_eq!(run(&snapshot, &of(u32::MAX)).expect("nobody").events, []);
}

#[test]
fn fifty_events_are_a_page_unless_asked_otherwise() {
    let event = |at: i64| ResolvedEvent { name: "x".to_owned(), person: 1, time_us: START_US + at / 3, ..ResolvedEvent::default() };
    let events: Vec<ResolvedEvent> = (0..120).map(event).collect();
    let snapshot = snapshot(&events);
    let first = run(&snapshot, &GetPersonTimelineRequest { page_size: 0, ..of(1) }).expect("a page");
    assert_eq!(first.events, expected(&events, &[1])[..50]);
    // The next page may be of another size.
    let rest = run(&snapshot, &GetPersonTimelineRequest { page_token: first.next_page_token, ..of(1) }).expect("a page");
    assert_eq!(rest.events, expected(&events, &[1])[50..]);
}

#[test]
fn what_does_not_fit_its_property_and_items_with_everything_come_back() {
    let item = Item {
        item_id: "i".to_owned(),
        name: "shoe".to_owned(),
        price_e4: Some(-12_345),
        quantity: Some(0),
        discount_e4: Some(1),
        categories: vec!["wide".to_owned(), "narrow".to_owned()],
        brand: "b".to_owned(),
        variant: "v".to_owned(),
        coupon: "c".to_owned(),
        properties: [("size".to_owned(), value(Kind::IntValue(43)))].into(),
    };
    let event = |size: Kind, items: Vec<Item>| ResolvedEvent {
        name: "x".to_owned(),
        person: 1,
        time_us: START_US,
        properties: [("size".to_owned(), value(size)), ("when".to_owned(), value(Kind::TimestampValue(timestamp(-1))))].into(),
        items,
        ..ResolvedEvent::default()
    };
    let events = [event(Kind::IntValue(1), vec![Item::default(), item]), event(Kind::StringValue("large".to_owned()), vec![])];
    assert_eq!(run(&snapshot(&events), &of(1)).expect("a timeline").events, expected(&events, &[1]));
}

#[test]
fn a_range_and_a_selector_choose_events() {
    let events = events(5, 400);
    let snapshot = snapshot(&events);
    let range = TimeRange { start: Some(timestamp(START_US + DAY_US)), end: Some(timestamp(START_US + 2 * DAY_US)) };
    let android = Comparison {
        field: Some(Field { field: Some(field::Field::Dimension("platform".to_owned())) }),
        operator: Operator::In as i32,
        values: vec![value(Kind::StringValue("android".to_owned()))],
        ..Comparison::default()
    };
    let filter = Filter { node: Some(filter::Node::Compare(android)) };
    // An alias of df_purchase.
    let on = EventSelector { events: vec!["Order Completed".to_owned(), "custom".to_owned()], filter: Some(filter) };
    for person in persons(&events) {
        let request = GetPersonTimelineRequest { range: Some(range), on: Some(on.clone()), page_size: 2, ..of(person) };
        let is_chosen = |event: &TimelineEvent| {
            let us = event.time.map_or(0, |time| time.seconds * 1_000_000);
            (START_US + DAY_US..START_US + 2 * DAY_US).contains(&us)
                && ["df_purchase", "custom"].contains(&event.name.as_str())
                && event.dimensions.get("platform").is_some_and(|platform| platform == "android")
        };
        let wanted: Vec<TimelineEvent> = expected(&events, &[person]).into_iter().filter(is_chosen).collect();
        assert_eq!(all_pages(&snapshot, &request), wanted);
    }
}

#[test]
fn faulty_requests_are_refused_with_every_path() {
    let snapshot = snapshot(&events(3, 50));
    let faults = |request: &GetPersonTimelineRequest| {
        let error = run(&snapshot, request).expect_err("a fault");
        assert_eq!(error.code(), Code::InvalidArgument);
        error.field_violations().into_iter().map(|violation| violation.field).collect::<Vec<String>>()
    };
    let on =
        EventSelector { events: vec![String::new()], filter: Some(Filter { node: Some(filter::Node::Compare(Comparison::default())) }) };
    let range = TimeRange { start: Some(timestamp(0)), end: None };
    let all = GetPersonTimelineRequest { person: 0, range: Some(range), on: Some(on), page_size: -1, page_token: "?".to_owned() };
    assert_eq!(
        faults(&all),
        ["person", "range.end", "on.events[0]", "on.filter.compare.field", "on.filter.compare.operator", "page_size", "page_token"]
    );
    assert_eq!(faults(&GetPersonTimelineRequest { page_size: 1_001, ..of(1) }), ["page_size"]);

    let busy = persons(&events(3, 50)).into_iter().find(|person| expected(&events(3, 50), &[*person]).len() > 1).expect("somebody");
    let first = run(&snapshot, &GetPersonTimelineRequest { page_size: 1, ..of(busy) }).expect("a page");
    let of_another = GetPersonTimelineRequest { page_token: first.next_page_token.clone(), ..of(busy + 1) };
    assert_eq!(faults(&of_another), ["page_token"], "a token goes with its request");
    let damaged = GetPersonTimelineRequest { page_token: first.next_page_token[1..].to_owned(), ..of(busy) };
    assert_eq!(faults(&damaged), ["page_token"]);
}

/// The timelines of all persons, of whom `merged` live on as one.
async fn compare_all(life: &Life, events: &[ResolvedEvent], merged: &[u32], stage: &str) {
    let snapshot = life.snapshot(&tenant("shop"));
    let (events, merged, stage) = (events.to_vec(), merged.to_vec(), stage.to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        for person in persons(&events) {
            let is_merged = merged.contains(&person);
            let wanted = if is_merged { expected(&events, &merged) } else { expected(&events, &[person]) };
            let answer = run(&snapshot, &of(person)).expect("a timeline");
            assert_eq!(answer.events, wanted, "{stage}, {person}");
            assert_eq!(answer.person, if is_merged { merged[0] } else { person });
            assert_eq!(all_pages(&snapshot, &GetPersonTimelineRequest { page_size: 4, ..of(person) }), wanted, "{stage}, {person}");
        }
    });
    compared.await.expect("no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn timelines_are_the_same_from_the_tail_from_files_and_after_merges_of_persons() {
    for rig in Rig::each(&[("shop", true)]) {
        let mut events = events(21, 500);
        // Between events of persons that are merged later, only time decides.
        for (number, event) in (0..).zip(&mut events) {
            event.time_us += number;
        }
        let shop = tenant("shop");
        let life = rig.start().await;
        let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
        life.send(&sent[..250], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events[..250], &[], "tail").await;
        life.index().flush(&shop).await.expect("a flush");
        compare_all(&life, &events[..250], &[], "files").await;
        life.send(&sent[250..], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events, &[], "files and tail").await;

        let all = persons(&events);
        let merged = [all[3], all[0], all[1]];
        life.merge_persons(&shop, 1, &[(all[0], all[1]), (all[1], all[3])]).await;
        eventually("merged persons are one", || async { life.snapshot(&shop).survivor(all[0]) == all[3] }).await;
        compare_all(&life, &events, &merged, "merged persons").await;
        life.index().flush(&shop).await.expect("a flush");
        life.index().merge(&shop).await.expect("merges");
        compare_all(&life, &events, &merged, "merged persons in merged files").await;
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_stay_put_while_events_come_in() {
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let event = |at: i64| ResolvedEvent { name: "x".to_owned(), person: 1, time_us: START_US + at, ..ResolvedEvent::default() };
    let old: Vec<ResolvedEvent> = (0..10).map(event).collect();
    let life = rig.start().await;
    let send = |events: &[ResolvedEvent]| events.iter().map(|event| (shop.clone(), event.clone())).collect::<Vec<_>>();
    life.send(&send(&old), 20).await;
    life.settled(&shop).await;
    let request = GetPersonTimelineRequest { page_size: 6, ..of(1) };
    let first = run(&life.snapshot(&shop), &request).expect("a page");
    life.send(&send(&(10..15).map(event).collect::<Vec<_>>()), 20).await;
    life.settled(&shop).await;
    let second = run(&life.snapshot(&shop), &GetPersonTimelineRequest { page_token: first.next_page_token, ..request }).expect("a page");
    assert_eq!([first.events, second.events].concat(), expected(&old, &[1]));
    life.crash().await;
}
