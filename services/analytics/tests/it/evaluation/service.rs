//! The call itself: who may make it, what it waits for, and what it says of removed persons.

use std::sync::Arc;

use segue_model::{Clock, ManualClock, TenantId};
use segue_proto::analytics::v1::LogPosition;
use segue_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use segue_proto::events::v1::ResolvedEvent;
use segue_runtime::Tenant;
use segue_runtime::caller::{Caller, Role};
use segue_runtime::transport::local;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::*;
use crate::condition::{behavior, did, event, not, us};
use crate::events::DAY_US;
use crate::rig::{Life, Rig, eventually, switched, tenant};

async fn call(life: &Life, role: Role, request: EvaluateConditionsRequest) -> Result<EvaluateConditionsResponse, Status> {
    let mut client = AnalyticsServiceClient::new(local(life.started.routes.clone()));
    let mut request = Request::new(request);
    Caller { role, ..Caller::service(tenant("shop")) }.attach(request.metadata_mut().as_mut());
    client.evaluate_conditions(request).await.map(|response| response.into_inner())
}

async fn ask(life: &Life, request: EvaluateConditionsRequest) -> EvaluateConditionsResponse {
    call(life, Role::Service, request).await.expect("an answer")
}

async fn send(life: &Life, shop: &TenantId, events: &[ResolvedEvent]) {
    let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
    life.send(&sent, 20).await;
}

/// The last batches on the log.
async fn log_positions(life: &Life) -> Vec<LogPosition> {
    let mut positions = Vec::new();
    for topic in [segue_log::Topic::new("resolved"), segue_log::Topic::new("identity")] {
        for partition in 0..life.log.partitions() {
            let position = life.log.bounds(topic, partition).await.expect("bounds").last;
            positions.push(LogPosition { topic: topic.name().to_owned(), partition: u32::from(partition), position });
        }
    }
    positions
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_holds_what_the_caller_has_read() {
    for mut rig in Rig::each(&[("shop", true)]) {
        // A snapshot that was taken before is not good enough.
        rig.config.snapshot_age_ms_max = 60_000;
        let shop = tenant("shop");
        let life = rig.start().await;
        let condition = did(behavior("a"));
        for round in 1..=10_u32 {
            let person = 70_000 * round;
            send(&life, &shop, &[event("a", "2020-01-01T00:00:00Z", person), event("b", "2020-01-01T00:00:00Z", person + 1)]).await;
            life.merge_persons(&shop, u64::from(round), &[(person + 1, person)]).await;
            let at_least = log_positions(&life).await;
            let items = vec![item(&condition, &[person + 1]), item(&not(condition.clone()), &[person, person + 1])];
            let answer = ask(&life, EvaluateConditionsRequest { at_least: at_least.clone(), wait_ms: 10_000, ..of(items) }).await;
            assert_eq!(met(&answer), [vec![person], vec![]]);
            assert!(answer.items.iter().all(|item| set(&item.survivors) == [person]));
            for wanted in at_least {
                let same = |one: &&LogPosition| (&one.topic, one.partition) == (&wanted.topic, wanted.partition);
                assert!(answer.positions.iter().find(same).expect("a position").position >= wanted.position, "{wanted:?}");
            }
            assert_eq!(answer.as_of_us, answer.watermark_us);
        }
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_indexed_is_to_be_asked_for_again() {
    let mut rig = Rig::embedded(&[("shop", true), ("off", false)]);
    let clock = ManualClock::new(us("2100-01-01T00:00:00Z"));
    rig.clock = Arc::new(clock.clone());
    let shop = tenant("shop");
    let life = rig.start().await;
    send(&life, &shop, &[event("a", "2020-01-01T00:00:00Z", 1)]).await;
    life.settled(&shop).await;
    let items = vec![item(&did(behavior("a")), &[1])];
    let (now, wait_ms) = (clock.now_us(), 20);
    let refused = async |request: EvaluateConditionsRequest| {
        let status = call(&life, Role::Service, EvaluateConditionsRequest { wait_ms, ..request }).await.expect_err("not yet");
        let details = status.get_error_details();
        assert_eq!((status.code(), details.error_info().expect("a reason").reason.as_str()), (Code::Unavailable, "NOT_INDEXED_YET"));
        assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{status:?}");
    };
    let ahead = |topic: &str| vec![LogPosition { topic: topic.to_owned(), partition: 0, position: 1_000 }];
    refused(EvaluateConditionsRequest { at_least: ahead("resolved"), ..of(items.clone()) }).await;
    refused(EvaluateConditionsRequest { at_least: ahead("identity"), ..of(items.clone()) }).await;

    // Whoever names a moment says what it is that is known until then.
    let ahead_of_it = EvaluateConditionsRequest { as_of_us: now + 5, wait_ms: 10_000, ..of(items.clone()) };
    let answer = ask(&life, ahead_of_it).await;
    assert_eq!((answer.as_of_us, met(&answer)), (now + 5, vec![vec![1]]));
    let later = EvaluationItem { as_of_us: now + 6, ..items[0].clone() };
    let wrong = call(&life, Role::Service, EvaluateConditionsRequest { as_of_us: now + 5, ..of(vec![later]) }).await;
    assert_eq!(wrong.expect_err("after now").code(), Code::InvalidArgument);
    let earlier = EvaluateConditionsRequest { as_of_us: us("2019-01-01T00:00:00Z"), ..of(items.clone()) };
    let answer = ask(&life, earlier).await;
    assert_eq!((answer.as_of_us, met(&answer)), (us("2019-01-01T00:00:00Z"), vec![vec![]]));

    for wrong in [
        EvaluateConditionsRequest { at_least: ahead("raw"), ..of(items.clone()) },
        EvaluateConditionsRequest { at_least: vec![LogPosition { partition: 70_000, ..ahead("resolved").remove(0) }], ..of(items.clone()) },
        EvaluateConditionsRequest { wait_ms: 10_001, ..of(items.clone()) },
    ] {
        assert_eq!(call(&life, Role::Service, wrong).await.expect_err("wrong").code(), Code::InvalidArgument);
    }
    assert_eq!(call(&life, Role::Operator, of(items)).await.expect_err("internal").code(), Code::PermissionDenied);
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_events_were_removed_is_said() {
    for mut rig in Rig::each(&[("shop", true)]) {
        let clock = ManualClock::new(us("2100-01-10T12:00:00Z"));
        rig.clock = Arc::new(clock.clone());
        let shop = tenant("shop");
        let life = rig.start().await;
        let mut events = vec![
            event("a", "2100-01-01T12:00:00Z", 1),
            event("a", "2100-01-02T12:00:00Z", 2),
            event("a", "2100-01-03T12:00:00Z", 3),
            event("a", "2100-01-09T12:00:00Z", 2),
            event("a", "2100-01-09T12:00:00Z", 4),
            event("a", "2100-01-09T12:00:00Z", 5),
        ];
        events.iter_mut().for_each(|event| event.received_at_us = event.time_us);
        send(&life, &shop, &events).await;
        life.settled(&shop).await;
        life.merge_persons(&shop, 1, &[(5, 4)]).await;
        eventually("merged persons are one", || async { life.snapshot(&shop).survivor(5) == 4 }).await;
        let everybody = || vec![of_everyone(&did(behavior("a")))];
        let asked = async |removed_since_us: i64| {
            let as_of_us = clock.now_us();
            ask(&life, EvaluateConditionsRequest { removed_since_us, as_of_us, wait_ms: 10_000, ..of(everybody()) }).await
        };
        let since = clock.now_us();
        let answer = asked(since).await;
        assert_eq!((met(&answer), set(&answer.removed)), (vec![vec![1, 2, 3, 4]], vec![]));
        assert!(ask(&life, of(everybody())).await.removed.is_empty());

        clock.advance_us(1_000_000);
        life.index().delete_person(&shop, 5, "").await.expect("a deletion");
        let answer = asked(since).await;
        assert_eq!((met(&answer), set(&answer.removed)), (vec![vec![1, 2, 3]], vec![4]));
        assert_eq!(set(&asked(since + DAY_US).await.removed), [] as [u32; 0], "known long before");

        // Nine days are kept from now on, of ten.
        let keep = |days: u32| {
            let tenants = switched(&[("shop", true)]).into_iter();
            rig.tenants.replace(tenants.map(|tenant| Tenant { event_retention_days: days, ..tenant }).collect());
        };
        let before = clock.now_us() + 100_000_000;
        clock.advance_us(200_000_000);
        keep(8);
        life.index().flush(&shop).await.expect("a flush");
        let answer = asked(before).await;
        assert_eq!((met(&answer), set(&answer.removed)), (vec![vec![2, 3]], vec![1]));
        let before = clock.now_us();
        assert_eq!(set(&asked(before).await.removed), [] as [u32; 0]);
        // Another day passes, and the file is rewritten before anybody asks.
        clock.advance_us(DAY_US);
        life.index().purge(&shop).await.expect("a purge");
        let answer = asked(before).await;
        assert_eq!((met(&answer), set(&answer.removed)), (vec![vec![2, 3]], vec![2]));
        life.crash().await;
    }
}
