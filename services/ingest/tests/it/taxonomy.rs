//! The taxonomy: modes, inference, races between processes, and the operations on definitions.

use prost_types::FieldMask;
use segue_model::ManualClock;
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Event, EventKind, Item, Value};
use segue_proto::ingest::v1::{
    CreateEventDefinitionRequest, CreatePropertyDefinitionRequest, EventDefinition, GetTaxonomyRequest, ListEventDefinitionsRequest,
    ListPropertyDefinitionsRequest, Outcome, PropertyDefinition, PropertyScope, PropertyType, ReasonCode, Taxonomy, TaxonomyMode,
    UpdateEventDefinitionRequest, UpdatePropertyDefinitionRequest, UpdateTaxonomyRequest,
};
use tonic::{Code, Status};

use crate::harness::*;

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

async fn set_mode(service: &mut Service, mode: TaxonomyMode) {
    update(service, Taxonomy { mode: mode.into(), ..Taxonomy::default() }, &["mode"]).await.expect("changed");
}

async fn update(service: &mut Service, taxonomy: Taxonomy, paths: &[&str]) -> Result<Taxonomy, Status> {
    let request = service.request(UpdateTaxonomyRequest { taxonomy: Some(taxonomy), update_mask: mask(paths) });
    Ok(service.taxonomy.update_taxonomy(request).await?.into_inner())
}

async fn properties(service: &mut Service) -> Vec<PropertyDefinition> {
    let request = service.request(ListPropertyDefinitionsRequest { page_size: 1_000, ..Default::default() });
    service.taxonomy.list_property_definitions(request).await.expect("a list").into_inner().property_definitions
}

async fn create_event(service: &mut Service, definition: EventDefinition) -> Result<EventDefinition, Status> {
    let request = service.request(CreateEventDefinitionRequest { event_definition: Some(definition) });
    Ok(service.taxonomy.create_event_definition(request).await?.into_inner())
}

async fn create_property(service: &mut Service, definition: PropertyDefinition) -> Result<PropertyDefinition, Status> {
    let request = service.request(CreatePropertyDefinitionRequest { property_definition: Some(definition) });
    Ok(service.taxonomy.create_property_definition(request).await?.into_inner())
}

fn property(name: &str, property_type: PropertyType) -> PropertyDefinition {
    PropertyDefinition { name: name.to_owned(), r#type: property_type.into(), ..PropertyDefinition::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_open_mode_the_first_value_fixes_the_type_in_each_scope() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let first = Event {
            items: vec![Item { properties: [("size".to_owned(), text("L"))].into(), ..Item::default() }],
            traits: [("size".to_owned(), double(1.5))].into(),
            ..with(event("Tried On"), &[("size", int(40))])
        };
        assert_eq!(told(&service.track_one(first).await), (Outcome::Accepted, vec![]));
        let second = service.track_one(with(event("Tried On"), &[("size", text("L"))])).await;
        assert_eq!(told(&second), (Outcome::Quarantined, vec![(ReasonCode::TypeMismatch, "properties.size")]));
        let identify = Event { kind: EventKind::Identify.into(), traits: [("size".to_owned(), int(2))].into(), ..event("") };
        assert_eq!(service.track_one(identify).await.outcome(), Outcome::Accepted);

        let sizes: Vec<_> = properties(&mut service).await.into_iter().filter(|p| p.name == "size").collect();
        let found: Vec<_> = sizes.iter().map(|p| (p.scope(), p.r#type(), p.inferred)).collect();
        let expected = [
            (PropertyScope::Event, PropertyType::Int, true),
            (PropertyScope::Item, PropertyType::String, true),
            (PropertyScope::Person, PropertyType::Double, true),
        ];
        assert_eq!(found, expected);
        let traits: Vec<_> = service.accepted().await.into_iter().filter_map(|a| a.event?.traits.remove("size")?.kind).collect();
        assert_eq!(traits, [Kind::DoubleValue(1.5), Kind::DoubleValue(2.0)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_see_a_name_first_agree_on_one_type() {
    for backends in backends() {
        let log = backends.log.open().await.expect("the log opens");
        let clock = ManualClock::new(NOW_US);
        let mut one = Service::start_with(&backends, log.clone(), clock.clone(), Default::default()).await;
        let mut two = Service::start_with(&backends, log, clock, Default::default()).await;
        two.tenant = one.tenant.clone();
        // Both have the empty taxonomy cached.
        one.track_one(event("df_login")).await;
        two.track_one(event("df_login")).await;
        for round in 0..10 {
            let name = format!("p{round}");
            let number = with(event("Raced"), &[(&name, int(round))]);
            let word = with(event("Raced"), &[(&name, text("word"))]);
            let (first, second) = tokio::join!(one.track(vec![number]), two.track(vec![word]));
            let outcomes = [first.expect("an answer")[0].outcome(), second.expect("an answer")[0].outcome()];
            let accepted = outcomes.iter().filter(|outcome| **outcome == Outcome::Accepted).count();
            assert_eq!(accepted, 1, "exactly one type wins: {outcomes:?}");
            let registered = properties(&mut one).await.into_iter().find(|p| p.name == name).expect("registered").r#type();
            let winner = if outcomes[0] == Outcome::Accepted { PropertyType::Int } else { PropertyType::String };
            assert_eq!(registered, winner);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_follows_a_change_of_mode_within_seconds() {
    for backends in backends() {
        let log = backends.log.open().await.expect("the log opens");
        let clock = ManualClock::new(NOW_US);
        let mut one = Service::start_with(&backends, log.clone(), clock.clone(), Default::default()).await;
        let mut two = Service::start_with(&backends, log, clock.clone(), Default::default()).await;
        two.tenant = one.tenant.clone();
        assert_eq!(two.track_one(event("df_login")).await.outcome(), Outcome::Accepted);
        set_mode(&mut one, TaxonomyMode::Strict).await;
        assert_eq!(one.track_one(event("Odd")).await.outcome(), Outcome::Quarantined, "at once where it was changed");
        clock.advance_us(5 * SECOND_US);
        assert_eq!(told(&two.track_one(event("Odd")).await), (Outcome::Quarantined, vec![(ReasonCode::UnknownEvent, "name")]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warn_and_strict_treat_unknown_and_archived_names_alike() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        create_event(&mut service, EventDefinition { name: "Old".into(), archived: true, ..Default::default() }).await.expect("created");
        create_property(&mut service, PropertyDefinition { archived: true, ..property("old", PropertyType::Int) }).await.expect("created");
        for (mode, outcome) in [(TaxonomyMode::Warn, Outcome::Accepted), (TaxonomyMode::Strict, Outcome::Quarantined)] {
            set_mode(&mut service, mode).await;
            for (name, property) in [("Odd", "odd"), ("Old", "old")] {
                let answer = service.track_one(with(event(name), &[(property, int(1))])).await;
                let field = format!("properties.{property}");
                let reasons = vec![(ReasonCode::UnknownEvent, "name"), (ReasonCode::UnknownProperty, field.as_str())];
                assert_eq!(told(&answer), (outcome, reasons), "{mode:?}");
            }
            assert_eq!(told(&service.track_one(event("purchase")).await), (Outcome::Accepted, vec![]), "{mode:?}");
        }
        let unregistered: Vec<_> = service.accepted().await.into_iter().flat_map(|accepted| accepted.unregistered).collect();
        assert_eq!(unregistered, ["odd", "old"]);
        assert!(!properties(&mut service).await.iter().any(|p| p.name == "odd"), "warn does not register");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_names_are_kept_but_not_registered() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let limits = Taxonomy { inferred_properties_max: 2, inferred_events_max: 1, ..Taxonomy::default() };
        update(&mut service, limits, &["inferred_properties_max", "inferred_events_max"]).await.expect("changed");
        for n in 0..4 {
            let sent = with(event(&format!("E{n}")), &[(&format!("p{n}"), int(n))]);
            assert_eq!(told(&service.track_one(sent).await), (Outcome::Accepted, vec![]));
        }
        let inferred: Vec<_> = properties(&mut service).await.into_iter().filter(|p| p.inferred).map(|p| p.name).collect();
        assert_eq!(inferred, ["p0", "p1"]);
        let mut unregistered: Vec<_> = service.accepted().await.into_iter().flat_map(|accepted| accepted.unregistered).collect();
        unregistered.sort();
        assert_eq!(unregistered, ["p2", "p3"]);
        let request = service.request(ListEventDefinitionsRequest { page_size: 1_000, ..Default::default() });
        let events = service.taxonomy.list_event_definitions(request).await.expect("a list").into_inner().event_definitions;
        assert_eq!(events.iter().filter(|event| event.inferred).map(|event| event.name.as_str()).collect::<Vec<_>>(), ["E0"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_held_against_events_by_name_and_alias() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let definition = EventDefinition {
            name: "booked".into(),
            aliases: vec!["Booking Made".into()],
            required_properties: vec!["room".into()],
            ..Default::default()
        };
        let created = create_event(&mut service, definition.clone()).await.expect("created");
        assert_eq!((created.aliases, created.required_properties), (definition.aliases.clone(), definition.required_properties.clone()));
        create_property(&mut service, PropertyDefinition { string_bytes_max: 2_000, ..property("room", PropertyType::String) })
            .await
            .expect("created");

        for name in ["booked", "Booking Made"] {
            let missing = service.track_one(event(name)).await;
            assert_eq!(told(&missing), (Outcome::Quarantined, vec![(ReasonCode::MissingProperty, "properties.room")]));
            let long = service.track_one(with(event(name), &[("room", text(&"x".repeat(2_000)))])).await;
            assert_eq!(long.outcome(), Outcome::Accepted);
        }
        let too_long = service.track_one(with(event("booked"), &[("room", text(&"x".repeat(2_001)))])).await;
        assert_eq!(told(&too_long), (Outcome::Quarantined, vec![(ReasonCode::TooLong, "properties.room")]));

        for taken in ["booked", "Booking Made", "purchase", "df_purchase"] {
            let again = EventDefinition { name: taken.into(), ..Default::default() };
            assert_eq!(create_event(&mut service, again).await.expect_err("taken").code(), Code::AlreadyExists, "{taken}");
            let alias = EventDefinition { name: "fresh".into(), aliases: vec![taken.into()], ..Default::default() };
            assert_eq!(create_event(&mut service, alias).await.expect_err("taken").code(), Code::AlreadyExists, "{taken}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_events_can_be_given_required_properties() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let wanted =
            EventDefinition { name: "Order Completed".into(), required_properties: vec!["df_order_id".into()], ..Default::default() };
        let request = UpdateEventDefinitionRequest { event_definition: Some(wanted), update_mask: mask(&["required_properties"]) };
        let updated = service.taxonomy.update_event_definition(service.request(request)).await.expect("updated").into_inner();
        assert_eq!((updated.name.as_str(), updated.standard, updated.inferred), ("df_purchase", true, false));
        assert!(updated.aliases.contains(&"purchase".to_owned()) && !updated.description.is_empty());
        let answer = service.track_one(event("abx:purchase")).await;
        assert_eq!(told(&answer), (Outcome::Quarantined, vec![(ReasonCode::MissingProperty, "properties.df_order_id")]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_never_changes() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        create_property(&mut service, property("paid_at", PropertyType::Timestamp)).await.expect("created");
        let same = create_property(&mut service, property("paid_at", PropertyType::Timestamp)).await.expect_err("there");
        assert_eq!(same.code(), Code::AlreadyExists);
        let other = create_property(&mut service, property("paid_at", PropertyType::Int)).await.expect_err("fixed");
        assert_eq!(other.code(), Code::FailedPrecondition);
        let info = tonic_types::StatusExt::get_details_error_info(&other).expect("error info");
        assert_eq!(info.reason, "PROPERTY_TYPE_FIXED");
        for update_mask in [None, mask(&["type"])] {
            let wanted = property("paid_at", PropertyType::Int);
            let request = UpdatePropertyDefinitionRequest { property_definition: Some(wanted), update_mask };
            let status = service.taxonomy.update_property_definition(service.request(request)).await.expect_err("fixed");
            assert_eq!(status.code(), Code::FailedPrecondition);
        }
        let wanted = PropertyDefinition { description: "When it was paid".into(), ..property("paid_at", PropertyType::Timestamp) };
        let request = UpdatePropertyDefinitionRequest { property_definition: Some(wanted), update_mask: None };
        let updated = service.taxonomy.update_property_definition(service.request(request)).await.expect("updated").into_inner();
        assert_eq!((updated.description.as_str(), updated.r#type()), ("When it was paid", PropertyType::Timestamp));

        let sent = with(event("df_login"), &[("paid_at", text("2026-11-22T09:00:00+09:00"))]);
        assert_eq!(service.track_one(sent).await.outcome(), Outcome::Accepted);
        let accepted = service.accepted().await.remove(0).event.expect("an event");
        assert!(matches!(accepted.properties["paid_at"], Value { kind: Some(Kind::TimestampValue(_)) }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etag_that_is_old_and_a_field_that_does_not_exist_are_refused() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let request = service.request(GetTaxonomyRequest {});
        let before = service.taxonomy.get_taxonomy(request).await.expect("a taxonomy").into_inner();
        assert_eq!((before.mode(), before.inferred_properties_max), (TaxonomyMode::Open, 1_000));
        let strict = Taxonomy { mode: TaxonomyMode::Strict.into(), etag: before.etag.clone(), ..Taxonomy::default() };
        let after = update(&mut service, strict.clone(), &["mode"]).await.expect("changed");
        assert_ne!(after.etag, before.etag);
        assert_eq!(update(&mut service, strict, &["mode"]).await.expect_err("old etag").code(), Code::Aborted);
        let other = update(&mut service, Taxonomy::default(), &["colour"]).await.expect_err("no such field");
        assert_eq!(other.code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_that_join_without_gap_or_overlap() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let whole = properties(&mut service).await;
        let (mut paged, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = service.request(ListPropertyDefinitionsRequest { page_size: 7, page_token });
            let page = service.taxonomy.list_property_definitions(request).await.expect("a page").into_inner();
            paged.extend(page.property_definitions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, whole);
        let request = service.request(ListPropertyDefinitionsRequest { page_size: 7, page_token: "nonsense".into() });
        assert_eq!(service.taxonomy.list_property_definitions(request).await.expect_err("no token").code(), Code::InvalidArgument);
    }
}
