//! Track and TrackStream: outcomes, limits, durability, order, back-pressure.

use std::time::Duration;

use futures::future::join_all;
use proptest::prelude::*;
use segue_ingest::config::{AcceptConfig, QuarantineConfig, TaxonomyConfig};
use segue_ingest::taxonomy::Taxonomies;
use segue_ingest::{Accept, IngestError, Origin, store};
use segue_model::{Clock, ManualClock};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Context, Event, EventKind, Item, Value};
use segue_proto::ingest::v1::{Outcome, ReasonCode, TrackRequest, TrackStreamRequest};
use segue_runtime::caller::Role;
use segue_runtime::tasks::Tasks;
use tonic::Code;

use crate::harness::*;

const DAY_US: i64 = 86_400 * SECOND_US;

fn at(mut event: Event, us: i64) -> Event {
    event.time = Some(segue_ingest::accept::time::timestamp(us));
    event
}

fn changed(change: impl FnOnce(&mut Event)) -> Event {
    let mut changed = event("df_login");
    change(&mut changed);
    changed
}

/// What it is, the event, its outcome, and the reasons with their fields.
type Case = (&'static str, Event, Outcome, Vec<(ReasonCode, &'static str)>);

/// Every reason that does not depend on the taxonomy, each with the field that it names.
fn faulty() -> Vec<Case> {
    use Outcome::{Quarantined, Rejected};
    use ReasonCode as R;
    let one = |code, field| vec![(code, field)];
    vec![
        ("no name", changed(|e| e.name.clear()), Quarantined, one(R::MissingField, "name")),
        ("a long name", changed(|e| e.name = "가".repeat(129)), Quarantined, one(R::TooLong, "name")),
        ("a reserved name", changed(|e| e.name = "$traits".into()), Quarantined, one(R::InvalidValue, "name")),
        ("a name with NUL", changed(|e| e.name = "a\0b".into()), Quarantined, one(R::InvalidValue, "name")),
        ("no time", changed(|e| e.time = None), Quarantined, one(R::MissingField, "time")),
        ("too old", at(event("df_login"), 0), Quarantined, one(R::TimeOutOfRange, "time")),
        ("too far ahead", at(event("df_login"), NOW_US + DAY_US + 1), Quarantined, one(R::TimeOutOfRange, "time")),
        (
            "no time at all",
            changed(|e| e.time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })),
            Quarantined,
            one(R::Unreadable, "time"),
        ),
        ("nobody", changed(|e| e.identifiers.clear()), Quarantined, one(R::MissingIdentifier, "identifiers")),
        (
            "names that name nobody",
            changed(|e| e.identifiers = vec![identifier("user_id", "0000"), identifier("email", "null")]),
            Quarantined,
            one(R::MissingIdentifier, "identifiers"),
        ),
        (
            "a kind with spaces",
            changed(|e| e.identifiers[0].kind = "user id".into()),
            Quarantined,
            one(R::InvalidValue, "identifiers[0].kind"),
        ),
        ("a long identifier", changed(|e| e.identifiers[0].value = "x".repeat(513)), Quarantined, one(R::TooLong, "identifiers[0].value")),
        (
            "many identifiers",
            changed(|e| e.identifiers = (0..21).map(|n| identifier("email", &format!("{n}@x"))).collect()),
            Quarantined,
            one(R::TooMany, "identifiers"),
        ),
        (
            "many properties",
            changed(|e| e.properties = (0..101).map(|n| (format!("p{n}"), int(n))).collect()),
            Quarantined,
            one(R::TooMany, "properties"),
        ),
        ("many items", changed(|e| e.items = vec![Item::default(); 101]), Quarantined, one(R::TooMany, "items")),
        ("a long text", with(event("df_login"), &[("p", text(&"x".repeat(1_025)))]), Quarantined, one(R::TooLong, "properties.p")),
        ("an empty value", with(event("df_login"), &[("p", Value::default())]), Quarantined, one(R::InvalidValue, "properties.p")),
        ("not a number", with(event("df_login"), &[("p", double(f64::NAN))]), Quarantined, one(R::InvalidValue, "properties.p")),
        (
            "text that is no JSON",
            with(event("df_login"), &[("p", Value { kind: Some(Kind::JsonValue("{".into())) })]),
            Quarantined,
            one(R::Unreadable, "properties.p"),
        ),
        (
            "a standard property of another type",
            with(event("df_purchase"), &[("df_total_purchase_amount", text("much"))]),
            Quarantined,
            one(R::TypeMismatch, "properties.df_total_purchase_amount"),
        ),
        (
            "an item with many categories",
            changed(|e| e.items = vec![Item { categories: vec!["c".into(); 6], ..Item::default() }]),
            Quarantined,
            one(R::TooMany, "items[0].categories"),
        ),
        (
            "a dimension that does not exist",
            changed(|e| e.context = Some(Context { dimensions: [("zodiac".into(), "leo".into())].into(), ..Context::default() })),
            Quarantined,
            one(R::InvalidValue, "context.dimensions.zodiac"),
        ),
        ("an alias of nobody", changed(|e| e.kind = EventKind::Alias.into()), Quarantined, one(R::MissingField, "previous_id")),
        ("a group without account", changed(|e| e.kind = EventKind::Group.into()), Quarantined, one(R::MissingField, "context.account_id")),
        ("a kind that does not exist", changed(|e| e.kind = 99), Quarantined, one(R::InvalidValue, "kind")),
        ("a large event", with(event("df_login"), &[("p", text(&"x".repeat(33 << 10)))]), Rejected, one(R::TooLarge, "")),
        ("a long message id", changed(|e| e.message_id = "x".repeat(129)), Rejected, one(R::TooLong, "message_id")),
        (
            "two faults",
            changed(|e| {
                e.time = None;
                e.identifiers.clear();
            }),
            Quarantined,
            vec![(R::MissingIdentifier, "identifiers"), (R::MissingField, "time")],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_reason_and_never_touches_the_neighbours() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let mut events = Vec::new();
        for (_, event, ..) in faulty() {
            events.push(crate::harness::event("df_logout"));
            events.push(event);
        }
        let outcomes = service.track(events).await.expect("an answer");
        for (pair, (what, _, outcome, reasons)) in outcomes.chunks(2).zip(faulty()) {
            assert_eq!(told(&pair[0]), (Outcome::Accepted, vec![]), "the neighbour of {what}");
            assert_eq!(told(&pair[1]), (outcome, reasons), "{what}");
            assert!(!pair[0].message_id.is_empty());
        }
        assert_eq!(service.accepted().await.len(), faulty().len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_on_the_log_as_it_was_sent_with_its_defaults_filled_in() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let sent = with(
            Event { message_id: "m1".into(), ..at(event("Order Completed"), NOW_US + 5 * DAY_US) },
            &[("df_total_purchase_amount", double(12.5)), ("df_order_id", text("o1"))],
        );
        // The sender's clock is five days ahead, and says so.
        let sent = Event { sent_at: Some(segue_ingest::accept::time::timestamp(NOW_US + 5 * DAY_US + SECOND_US)), ..sent };
        assert_eq!(told(&service.track_one(sent.clone()).await), (Outcome::Accepted, vec![]));
        let accepted = service.accepted().await;
        assert_eq!(accepted.len(), 1);
        let event = accepted[0].event.clone().expect("an event");
        assert_eq!((event.name.as_str(), event.source.as_str(), event.message_id.as_str()), ("Order Completed", "shop", "m1"));
        assert_eq!(event.properties["df_total_purchase_amount"].kind, Some(Kind::DecimalE4Value(125_000)));
        assert_eq!((event.time, event.sent_at), (sent.time, sent.sent_at));
        assert_eq!((accepted[0].received_at_us, accepted[0].time_is_final), (NOW_US, false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_user_id_leaves_the_anonymous_one() {
    let backends = backends().remove(0);
    let mut service = Service::start(&backends).await;
    let sent = changed(|e| e.identifiers = vec![identifier("user_id", "null"), identifier("anonymous_id", "a1")]);
    assert_eq!(service.track_one(sent).await.outcome(), Outcome::Accepted);
    let event = service.accepted().await.remove(0).event.expect("an event");
    assert_eq!(event.identifiers, [identifier("anonymous_id", "a1")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_events_or_with_too_many_are_refused() {
    let backends = backends().remove(0);
    let mut service = Service::start(&backends).await;
    for events in [vec![], vec![Event::default(); 5_001]] {
        let status = service.track(events).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let mut anonymous = service.ingest.clone();
    let status = anonymous.track(TrackRequest { events: vec![event("df_login")] }).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    let request = request_as(Role::Writer, &service.tenant, segue_proto::ingest::v1::GetTaxonomyRequest {});
    assert_eq!(service.taxonomy.get_taxonomy(request).await.expect_err("refused").code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_events_keep_their_order_per_identifier() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let events: Vec<Event> = (0..5_000)
            .map(|n| {
                let mut event = event("df_login");
                event.message_id = format!("{n:05}");
                event.identifiers = vec![identifier("user_id", &format!("u{}", n % 7))];
                event
            })
            .collect();
        let outcomes = service.track(events).await.expect("an answer");
        assert!(outcomes.iter().enumerate().all(|(n, o)| o.outcome() == Outcome::Accepted && o.message_id == format!("{n:05}")));
        let mut last = std::collections::HashMap::new();
        let accepted = service.accepted().await;
        assert_eq!(accepted.len(), 5_000);
        for accepted in accepted {
            let event = accepted.event.expect("an event");
            if let Some(before) = last.insert(event.identifiers[0].value.clone(), event.message_id.clone()) {
                assert!(before < event.message_id);
            }
        }
    }
}

/// Accept alone, with limits of one's own.
async fn accept_alone(backends: &Backends, log: segue_log::Log, config: AcceptConfig) -> (Accept, Tasks) {
    let db = backends.store.open("ingest", store::MIGRATIONS).await.expect("the store opens");
    let clock: std::sync::Arc<dyn Clock> = std::sync::Arc::new(ManualClock::new(NOW_US));
    let taxonomies = Taxonomies::new(db.clone(), clock, TaxonomyConfig::default());
    let tasks = Tasks::new();
    (Accept::start(config, QuarantineConfig::default(), db, log, taxonomies, &tasks), tasks)
}

fn origin() -> Origin {
    Origin { source: "s".into(), received_at_us: NOW_US, ..Origin::default() }
}

#[tokio::test]
async fn callers_at_the_same_time_share_appends() {
    let backends = backends().remove(0);
    let log = backends.log.open().await.expect("the log opens");
    let (accept, _tasks) = accept_alone(&backends, log.clone(), AcceptConfig::default()).await;
    let tenant = new_tenant();
    accept.accept(&tenant, origin(), vec![event("df_login")]).await.expect("accepted");
    let calls = (0..200).map(|_| accept.accept(&tenant, origin(), vec![event("df_login")]));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let batches = log.usage(segue_ingest::ACCEPTED).await.expect("usage").batches;
    assert!(batches < 20, "201 calls made {batches} batches");
}

#[tokio::test]
async fn more_than_may_wait_is_refused_with_a_delay_and_later_taken() {
    let backends = backends().remove(0);
    let log = backends.log.open().await.expect("the log opens");
    let config = AcceptConfig { pending_bytes_max: 100, ..AcceptConfig::default() };
    let (accept, _tasks) = accept_alone(&backends, log, config).await;
    let tenant = new_tenant();
    accept.accept(&tenant, origin(), vec![event("df_login")]).await.expect("accepted");
    let big = || vec![with(event("df_login"), &[("df_order_id", text(&"x".repeat(200)))])];
    let (first, second, waiting) = tokio::join!(
        accept.accept(&tenant, origin(), big()),
        accept.accept(&tenant, origin(), big()),
        accept.accept_waiting(&tenant, origin(), big())
    );
    assert!(first.is_ok());
    assert!(matches!(second, Err(IngestError::Busy { .. })), "{second:?}");
    assert!(waiting.is_ok());
    accept.accept(&tenant, origin(), big()).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_asks_for_patience() {
    let backends = backends().remove(0);
    let config = segue_log::LogConfig { retention_bytes: 1_000, ..backends.log.config() };
    let log = segue_log::Log::open(config).await.expect("the log opens");
    for partition in 0..log.partitions() {
        log.hold(segue_ingest::ACCEPTED, partition, "reader", 0).await.expect("held");
    }
    let mut service = Service::start_with(&backends, log, ManualClock::new(NOW_US), Default::default()).await;
    let noise = |n: u64| with(event("df_login"), &[("df_order_id", text(&format!("{:0>900}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))))]);
    let mut refused = None;
    for n in 0..1_000 {
        if let Err(status) = service.track((0..20).map(|k| noise(n * 20 + k)).collect()).await {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("a log of 1,000 bytes does not take everything");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let delay = tonic_types::StatusExt::get_details_retry_info(&status).and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| delay >= Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_writes_what_it_has_taken_and_refuses_the_rest() {
    let backends = backends().remove(0);
    let log = backends.log.open().await.expect("the log opens");
    let (accept, tasks) = accept_alone(&backends, log, AcceptConfig::default()).await;
    let tenant = new_tenant();
    let calls = join_all((0..20).map(|_| accept.accept(&tenant, origin(), vec![event("df_login")])));
    let (answers, stopped) = tokio::join!(calls, tasks.stop(Duration::from_secs(20)));
    assert_eq!(stopped, Ok(()));
    for answer in answers {
        assert!(matches!(answer, Ok(_) | Err(IngestError::Stopping | IngestError::Busy { .. })), "{answer:?}");
    }
    assert!(matches!(accept.accept(&tenant, origin(), vec![event("df_login")]).await, Err(IngestError::Stopping)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_acknowledges_in_order_and_lists_what_was_not_accepted() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let batches = (1..=30u64).map(|sequence| TrackStreamRequest {
            sequence,
            events: vec![event("df_login"), if sequence % 10 == 0 { event("") } else { event("df_logout") }],
        });
        let request = service.request(futures::stream::iter(batches.collect::<Vec<_>>()));
        let mut responses = service.ingest.track_stream(request).await.expect("a stream").into_inner();
        let (mut last, mut failures) = (None::<(u64, u64, u64, u64)>, Vec::new());
        while let Some(response) = responses.message().await.expect("no error") {
            failures.extend(response.failures.iter().map(|failure| (failure.sequence, failure.index)));
            assert!(last.as_ref().is_none_or(|(sequence, ..)| *sequence < response.acknowledged_sequence));
            last = Some((response.acknowledged_sequence, response.accepted, response.quarantined, response.rejected));
        }
        assert_eq!(last, Some((30, 57, 3, 0)));
        assert_eq!(failures, [(10, 1), (20, 1), (30, 1)]);
        assert_eq!(service.accepted().await.len(), 57);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_numbers_do_not_ascend_ends_after_acknowledging_what_came_before() {
    let backends = backends().remove(0);
    let mut service = Service::start(&backends).await;
    let batches = [1u64, 2, 2].map(|sequence| TrackStreamRequest { sequence, events: vec![event("df_login")] });
    let request = service.request(futures::stream::iter(batches));
    let mut responses = service.ingest.track_stream(request).await.expect("a stream").into_inner();
    let mut acknowledged = 0;
    let status = loop {
        match responses.message().await {
            Ok(Some(response)) => acknowledged = response.acknowledged_sequence,
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!((acknowledged, status.code()), (2, Code::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_cleanly_when_the_process_drains() {
    let backends = backends().remove(0);
    let mut service = Service::start(&backends).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let request = service.request(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut responses = service.ingest.track_stream(request).await.expect("a stream").into_inner();
    sender.send(TrackStreamRequest { sequence: 1, events: vec![event("df_login")] }).await.expect("sent");
    let first = responses.message().await.expect("no error").expect("an answer");
    assert_eq!(first.acknowledged_sequence, 1);
    service.tasks.draining().cancel();
    assert_eq!(responses.message().await.expect("no error"), None);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(None),
        any::<String>().prop_map(|text| Some(Kind::StringValue(text))),
        any::<i64>().prop_map(|whole| Some(Kind::IntValue(whole))),
        any::<f64>().prop_map(|number| Some(Kind::DoubleValue(number))),
        any::<bool>().prop_map(|truth| Some(Kind::BoolValue(truth))),
        any::<i64>().prop_map(|e4| Some(Kind::DecimalE4Value(e4))),
        (any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Some(Kind::TimestampValue(prost_types::Timestamp { seconds, nanos }))),
        any::<String>().prop_map(|text| Some(Kind::JsonValue(text))),
    ]
    .prop_map(|kind| Value { kind })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), Just("df_purchase".to_owned()), Just("purchase".to_owned()), Just("df_discount".to_owned()), "[a-c]"]
}

prop_compose! {
    fn any_item()(
        name in any::<String>(),
        price_e4 in any::<Option<i64>>(),
        quantity in any::<Option<i64>>(),
        categories in prop::collection::vec(any::<String>(), 0..7),
        properties in prop::collection::hash_map(any_name(), any_value(), 0..3),
    ) -> Item {
        Item { name, price_e4, quantity, categories, properties, ..Item::default() }
    }
}

prop_compose! {
    fn any_event()(
        message_id in prop_oneof![Just(String::new()), any::<String>()],
        kind in -1i32..8,
        name in any_name(),
        time in prop::option::of((any::<i64>(), any::<i32>())),
        sent_at in prop::option::of((1_700_000_000i64..1_900_000_000, 0i32..1_000)),
        identifiers in prop::collection::vec(("[a-z_]{0,4}|user_id", any::<String>()), 0..4),
        properties in prop::collection::hash_map(any_name(), any_value(), 0..5),
        traits in prop::collection::hash_map(any_name(), any_value(), 0..3),
        items in prop::collection::vec(any_item(), 0..3),
        texts in (any::<String>(), any::<String>(), any::<String>()),
    ) -> Event {
        let (previous_id, source, account_id) = texts;
        Event {
            message_id, kind, name, properties, traits, items, previous_id, source,
            time: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            sent_at: sent_at.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            identifiers: identifiers.iter().map(|(kind, value)| identifier(kind, value)).collect(),
            context: Some(Context { account_id, ..Context::default() }),
        }
    }
}

#[test]
fn whatever_is_sent_there_is_one_outcome_per_event_in_order() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for backends in backends() {
        let (mut service, _guard) = runtime.block_on(async { (Service::start(&backends).await, ()) });
        let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let batches = prop::collection::vec(any_event(), 1..12);
        let result = runner.run(&batches, |events| {
            let ids: Vec<String> = events.iter().map(|event| event.message_id.clone()).collect();
            let outcomes = runtime.block_on(service.accept.accept(&service.tenant, origin(), events));
            let outcomes = outcomes.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(outcomes.len(), ids.len());
            for (outcome, id) in outcomes.iter().zip(&ids) {
                prop_assert!(id.is_empty() || *id == outcome.message_id);
                prop_assert_ne!(outcome.outcome(), Outcome::Unspecified);
                prop_assert_eq!(outcome.outcome() == Outcome::Accepted, outcome.reasons.is_empty());
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        // What was set aside can be read again.
        let listed = runtime.block_on(async {
            let request = service.request(Default::default());
            service.quarantine.list_quarantined(request).await
        });
        assert!(!listed.expect("a list").into_inner().events.is_empty());
    }
}
