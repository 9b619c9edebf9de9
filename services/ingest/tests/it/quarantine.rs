//! Quarantine: what is set aside can be listed, counted, corrected, replayed and discarded, and is neither lost nor doubled.

use segue_ingest::Config;
use segue_ingest::config::QuarantineConfig;
use segue_model::ManualClock;
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{AcceptedEvent, Event};
use segue_proto::ingest::v1::correction_action::Action;
use segue_proto::ingest::v1::{
    CastProperty, CorrectionAction, CorrectionRule, CreateCorrectionRuleRequest, DeleteCorrectionRuleRequest, DiscardQuarantinedRequest,
    GetPipelineStatusRequest, ListCorrectionRulesRequest, ListQuarantinedRequest, Outcome, PropertyType, QuarantineSelection,
    QuarantinedEvent, ReasonCode, RenameProperty, ReplayQuarantinedRequest, ReplayQuarantinedResponse, SetProperty,
    SummarizeQuarantineRequest,
};
use tonic::{Code, Status};

use crate::harness::*;

fn named(id: &str, event: Event) -> Event {
    Event { message_id: id.to_owned(), ..event }
}

async fn list(service: &mut Service, selection: Option<QuarantineSelection>) -> Vec<QuarantinedEvent> {
    let request = service.request(ListQuarantinedRequest { selection, page_size: 1_000, page_token: String::new() });
    service.quarantine.list_quarantined(request).await.expect("a list").into_inner().events
}

async fn add_rule(service: &mut Service, event_name: &str, actions: Vec<Action>) -> Result<CorrectionRule, Status> {
    let actions = actions.into_iter().map(|action| CorrectionAction { action: Some(action) }).collect();
    let rule = CorrectionRule { name: String::new(), event_name: event_name.to_owned(), actions };
    let request = service.request(CreateCorrectionRuleRequest { correction_rule: Some(rule) });
    Ok(service.quarantine.create_correction_rule(request).await?.into_inner())
}

async fn replay(service: &mut Service, selection: Option<QuarantineSelection>) -> ReplayQuarantinedResponse {
    let request = service.request(ReplayQuarantinedRequest { selection });
    service.quarantine.replay_quarantined(request).await.expect("an answer").into_inner()
}

fn ids(accepted: &[AcceptedEvent]) -> Vec<&str> {
    let mut ids: Vec<&str> =
        accepted.iter().filter_map(|accepted| accepted.event.as_ref()).map(|event| event.message_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_aside_is_listed_newest_first_in_pages_and_counted() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        for n in 0..5 {
            service.clock.advance_us(SECOND_US);
            let nobody = Event { identifiers: vec![], ..named(&format!("m{n}"), event("df_login")) };
            assert_eq!(service.track_one(nobody).await.outcome(), Outcome::Quarantined);
        }
        let bad = with(named("m5", event("df_purchase")), &[("df_discount", text("some"))]);
        service.track_one(bad.clone()).await;

        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = service.request(ListQuarantinedRequest { selection: None, page_size: 2, page_token });
            let page = service.quarantine.list_quarantined(request).await.expect("a page").into_inner();
            found.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let order: Vec<String> = found.iter().filter_map(|entry| Some(entry.event.as_ref()?.message_id.clone())).collect();
        assert_eq!(order, ["m5", "m4", "m3", "m2", "m1", "m0"]);
        assert_eq!(found[0].event.as_ref().map(|event| (&event.properties, event.source.as_str())), Some((&bad.properties, "shop")));

        let by_reason = QuarantineSelection { reason: ReasonCode::TypeMismatch.into(), ..Default::default() };
        assert_eq!(list(&mut service, Some(by_reason)).await.len(), 1);
        let by_name = QuarantineSelection {
            event_name: "df_login".into(),
            names: vec![found[1].name.clone(), found[0].name.clone()],
            ..Default::default()
        };
        assert_eq!(list(&mut service, Some(by_name)).await, [found[1].clone()]);

        let request = service.request(SummarizeQuarantineRequest {});
        let summary = service.quarantine.summarize_quarantine(request).await.expect("a summary").into_inner();
        let counts: Vec<_> = summary.counts.iter().map(|c| (c.event_name.as_str(), c.reason(), c.field.as_str(), c.count)).collect();
        let expected = [
            ("df_login", ReasonCode::MissingIdentifier, "identifiers", 5),
            ("df_purchase", ReasonCode::TypeMismatch, "properties.df_discount", 1),
        ];
        assert_eq!((counts.as_slice(), summary.total), (expected.as_slice(), 6));
        let request = service.request(GetPipelineStatusRequest {});
        assert_eq!(service.ingest.get_pipeline_status(request).await.expect("a status").into_inner().quarantined, 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_sent_again_takes_the_place_of_its_entry() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let twice = |name: &str| named("m", Event { identifiers: vec![], ..event(name) });
        let outcomes = service.track(vec![twice("a"), twice("b")]).await.expect("an answer");
        assert!(outcomes.iter().all(|outcome| outcome.outcome() == Outcome::Quarantined));
        service.track_one(twice("c")).await;
        let entries = list(&mut service, None).await;
        assert_eq!(entries.iter().filter_map(|entry| Some(entry.event.as_ref()?.name.as_str())).collect::<Vec<_>>(), ["c"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrected_events_are_replayed_under_their_ids_and_times_and_the_rest_stays_with_new_reasons() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        service.track_one(with(event("Fitting"), &[("size", int(1))])).await;
        let sent_at = Some(segue_ingest::accept::time::timestamp(NOW_US + 60 * SECOND_US));
        let faulty = vec![
            named("cast", with(event("Fitting"), &[("size", text("40"))])),
            named("renamed", with(event("Fitting"), &[("size", text("L")), ("ssize", int(41))])),
            named("hopeless", with(event("Fitting"), &[("size", text("L"))])),
            named("other", Event { sent_at, ..with(event("Other"), &[("size", text("7"))]) }),
            named("nobody", Event { identifiers: vec![], ..event("Fitting") }),
        ];
        let outcomes = service.track(faulty).await.expect("an answer");
        assert!(outcomes.iter().all(|outcome| outcome.outcome() == Outcome::Quarantined), "{outcomes:?}");

        let cast = Action::CastProperty(CastProperty { property: "size".into(), r#type: PropertyType::Int.into() });
        add_rule(&mut service, "", vec![cast]).await.expect("added");
        let someone = Action::SetIdentifier(identifier("device_id", "shop-till-1"));
        let source = Action::SetProperty(SetProperty { property: "mended".into(), value: Some(int(1)) });
        add_rule(&mut service, "Fitting", vec![someone, source]).await.expect("added");
        service.clock.advance_us(3_600 * SECOND_US);
        assert_eq!(replay(&mut service, None).await, ReplayQuarantinedResponse { accepted: 3, still_quarantined: 2 });

        let accepted = service.accepted().await;
        let replayed: Vec<&AcceptedEvent> = accepted.iter().filter(|accepted| accepted.time_is_final).collect();
        assert_eq!(replayed.len(), 3);
        for accepted in replayed {
            let event = accepted.event.as_ref().expect("an event");
            assert_eq!(accepted.received_at_us, NOW_US);
            match event.message_id.as_str() {
                "cast" => {
                    assert_eq!((&event.properties["size"].kind, event.properties.contains_key("mended")), (&Some(Kind::IntValue(40)), true))
                }
                // Sent a minute after it happened, by a clock a minute ahead: it happened a minute before it was received.
                "other" => assert_eq!(event.time, Some(segue_ingest::accept::time::timestamp(NOW_US - 60 * SECOND_US))),
                "nobody" => assert_eq!(event.identifiers, [identifier("device_id", "shop-till-1")]),
                other => panic!("{other} was replayed"),
            }
        }
        let left = list(&mut service, None).await;
        let mut names: Vec<&str> = left.iter().filter_map(|entry| Some(entry.event.as_ref()?.message_id.as_str())).collect();
        names.sort_unstable();
        assert_eq!(names, ["hopeless", "renamed"]);

        // A further rule mends one more; what went is not replayed again.
        let drop = Action::DropProperty("size".into());
        let rename = Action::RenameProperty(RenameProperty { from: "ssize".into(), to: "size".into() });
        add_rule(&mut service, "Fitting", vec![drop, rename]).await.expect("added");
        assert_eq!(replay(&mut service, None).await, ReplayQuarantinedResponse { accepted: 2, still_quarantined: 0 });
        assert_eq!(replay(&mut service, None).await, ReplayQuarantinedResponse::default());
        let accepted = service.accepted().await;
        assert_eq!(ids(&accepted)[1..], ["cast", "hopeless", "nobody", "other", "renamed"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_out_of_time_can_take_the_time_it_was_received() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let sent_at = Some(segue_ingest::accept::time::timestamp(SECOND_US));
        let old = Event { sent_at: None, time: sent_at, ..named("old", event("df_login")) };
        service.track_one(old).await;
        add_rule(&mut service, "", vec![Action::UseReceivedTime(true)]).await.expect("added");
        assert_eq!(replay(&mut service, None).await.accepted, 1);
        let accepted = service.accepted().await.remove(0);
        assert_eq!(accepted.event.and_then(|event| event.time), Some(segue_ingest::accept::time::timestamp(NOW_US)));
        assert!(accepted.time_is_final);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_stays_a_fault_until_a_rule_replaces_it() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let (response, _) = service.collect("track", r#"{"event":"df_login","userId":"u","messageId":"m","properties":"oops"}"#).await;
        assert_eq!(response.quarantined, 1);
        assert_eq!(replay(&mut service, None).await, ReplayQuarantinedResponse { accepted: 0, still_quarantined: 1 });
        add_rule(&mut service, "", vec![Action::DropProperty("properties".into())]).await.expect("added");
        assert_eq!(replay(&mut service, None).await, ReplayQuarantinedResponse { accepted: 1, still_quarantined: 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_entries_are_replayed_and_discarded_in_steps() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let faulty: Vec<Event> = (0..1_203)
            .map(|n| Event { identifiers: vec![], ..named(&format!("{n:05}"), event(if n % 3 == 0 { "a" } else { "b" })) })
            .collect();
        service.track(faulty).await.expect("an answer");
        let only_a = || Some(QuarantineSelection { event_name: "a".into(), ..Default::default() });
        assert_eq!(replay(&mut service, only_a()).await, ReplayQuarantinedResponse { accepted: 0, still_quarantined: 401 });
        let request = service.request(DiscardQuarantinedRequest { selection: only_a() });
        assert_eq!(service.quarantine.discard_quarantined(request).await.expect("an answer").into_inner().discarded, 401);
        add_rule(&mut service, "", vec![Action::SetIdentifier(identifier("user_id", "u"))]).await.expect("added");
        assert_eq!(replay(&mut service, None).await, ReplayQuarantinedResponse { accepted: 802, still_quarantined: 0 });
        assert_eq!(list(&mut service, None).await, []);
        let accepted = service.accepted().await;
        let in_order: Vec<&str> = accepted.iter().filter_map(|a| Some(a.event.as_ref()?.message_id.as_str())).collect();
        assert!(in_order.is_sorted(), "in the order in which they came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_checked_listed_and_deleted() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        for actions in [
            vec![],
            vec![Action::DropProperty(String::new())],
            vec![Action::SetIdentifier(identifier("user_id", "null"))],
            vec![Action::SetProperty(SetProperty { property: "p".into(), value: None })],
        ] {
            assert_eq!(add_rule(&mut service, "", actions).await.expect_err("refused").code(), Code::InvalidArgument);
        }
        let mut names = Vec::new();
        for n in 0..3 {
            names.push(add_rule(&mut service, "", vec![Action::DropProperty(format!("p{n}"))]).await.expect("added").name);
        }
        let request = service.request(ListCorrectionRulesRequest { page_size: 2, ..Default::default() });
        let page = service.quarantine.list_correction_rules(request).await.expect("a page").into_inner();
        let request = service.request(ListCorrectionRulesRequest { page_size: 2, page_token: page.next_page_token });
        let rest = service.quarantine.list_correction_rules(request).await.expect("a page").into_inner();
        let listed: Vec<String> = page.correction_rules.into_iter().chain(rest.correction_rules).map(|rule| rule.name).collect();
        assert_eq!(listed, names);
        for (n, code) in [None, Some(Code::NotFound)].into_iter().enumerate() {
            let request = service.request(DeleteCorrectionRuleRequest { name: names[0].clone() });
            assert_eq!(service.quarantine.delete_correction_rule(request).await.err().map(|status| status.code()), code, "{n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quarantine_rejects_and_says_so() {
    for backends in backends() {
        let log = backends.log.open().await.expect("the log opens");
        let config = Config { quarantine: QuarantineConfig { entries_max: 2, ..Default::default() }, ..Config::default() };
        let mut service = Service::start_with(&backends, log, ManualClock::new(NOW_US), config).await;
        let nobody = |id: &str| Event { identifiers: vec![], ..named(id, event("df_login")) };
        let outcomes = service.track(vec![nobody("1"), event("df_login"), nobody("2"), nobody("3")]).await.expect("an answer");
        let found: Vec<Outcome> = outcomes.iter().map(|outcome| outcome.outcome()).collect();
        assert_eq!(found, [Outcome::Quarantined, Outcome::Accepted, Outcome::Quarantined, Outcome::Rejected]);
        assert_eq!(outcomes[3].reasons.last().map(|reason| reason.code()), Some(ReasonCode::TooMany));
        // One that is there may be sent again.
        assert_eq!(service.track_one(nobody("1")).await.outcome(), Outcome::Quarantined);
        let request = service.request(DiscardQuarantinedRequest { selection: None });
        service.quarantine.discard_quarantined(request).await.expect("discarded");
        assert_eq!(service.track_one(nobody("3")).await.outcome(), Outcome::Quarantined);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_do_not_see_each_other() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        service.track_one(Event { identifiers: vec![], ..event("df_login") }).await;
        let first = service.tenant.clone();
        service.tenant = new_tenant();
        assert_eq!(list(&mut service, None).await, []);
        let request = service.request(DiscardQuarantinedRequest { selection: None });
        assert_eq!(service.quarantine.discard_quarantined(request).await.expect("an answer").into_inner().discarded, 0);
        service.tenant = first;
        assert_eq!(list(&mut service, None).await.len(), 1);
    }
}
