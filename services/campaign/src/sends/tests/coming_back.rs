//! What comes back, merges, and reading the ledger.

use segue_proto::campaign::v1::{ListSendsRequest, SendReason, SendState};

use super::*;
use crate::sends::{Report, ReportKind, move_persons};

fn report(send: &NewSend, kind: ReportKind) -> Report {
    Report { send: key(send), address: 0, kind, time_us: NOW_US + SECOND_US, detail: "by the adapter".to_owned() }
}

#[tokio::test]
async fn what_comes_back_is_noted_and_told_once() {
    for world in worlds().await {
        let (send, planned) = (new_send(1, 1), NewSend { planned_us: NOW_US + HOUR_US, ..new_send(2, 1) });
        world.plan(&[send.clone(), planned.clone()]).await;
        world.drain().await;
        world.clock.advance_us(2 * SECOND_US);
        let shop = &world.shop.id;
        for kind in [ReportKind::Delivered, ReportKind::Opened, ReportKind::Clicked, ReportKind::Failed, ReportKind::Unsubscribed] {
            assert!(world.service.report(shop, &report(&send, kind)).await.expect("notes"), "{kind:?}");
            assert!(!world.service.report(shop, &report(&send, kind)).await.expect("knows"), "{kind:?}");
        }
        for nothing in [
            report(&planned, ReportKind::Delivered),
            Report { address: 1, ..report(&send, ReportKind::Opened) },
            report(&new_send(3, 1), ReportKind::Opened),
        ] {
            assert!(!world.service.report(shop, &nothing).await.expect("knows better"));
        }
        let shown = world.get(&send).await;
        let at = Some(crate::store::timestamp(NOW_US + SECOND_US));
        assert_eq!((shown.delivered_at, shown.opened_at, shown.clicked_at), (at, at, at));
        assert_eq!((shown.state(), shown.addresses[0].error.as_str()), (SendState::Failed, "by the adapter"));
        assert_eq!((shown.reason(), shown.reason_detail.as_str()), (SendReason::ProviderFailed, "by the adapter"));
        let id = key(&send);
        let told: Vec<String> = ["delivered", "opened", "clicked", "failed", "unsubscribed"].map(|kind| format!("{id}:0:{kind}")).into();
        assert_eq!(world.told().await[1..], told);
    }
}

#[tokio::test]
async fn who_unsubscribes_between_planning_and_sending_or_between_two_attempts_gets_no_more_until_they_want_to() {
    for world in worlds().await {
        let (first, tried) = (new_send(1, 1), new_send(2, 1));
        world.plan(std::slice::from_ref(&first)).await;
        world.drain().await;
        world.provider.answers(|_, _| retry(None));
        world.plan(std::slice::from_ref(&tried)).await;
        world.drain().await;
        world.clock.advance_us(10 * SECOND_US);
        let planned = new_send(3, 1);
        world.plan(std::slice::from_ref(&planned)).await;
        // They unsubscribe while a worker holds both.
        let taken = world.sender.take().await.expect("takes");
        assert_eq!(taken.work.iter().map(|work| work.sends.len()).sum::<usize>(), 2);
        assert!(world.service.report(&world.shop.id, &report(&first, ReportKind::Unsubscribed)).await.expect("notes"));
        world.provider.answers(|_, _| Outcome::Sent { provider_message_id: String::new() });
        for work in taken.work {
            world.sender.work(work).await;
        }
        for send in [&tried, &planned] {
            let shown = world.get(send).await;
            assert_eq!((shown.state(), shown.reason()), (SendState::Suppressed, SendReason::Unsubscribed));
        }
        // Another channel, and the same one after they granted it anew.
        let push = by_push(new_send(4, 1));
        let mut again = person(1);
        again.consents[0].time = Some(crate::store::timestamp(NOW_US + 5 * SECOND_US));
        world.plan(std::slice::from_ref(&push)).await;
        world.drain().await;
        world.given.persons.lock().insert(1, Arc::new(again));
        let anew = new_send(5, 1);
        world.plan(std::slice::from_ref(&anew)).await;
        world.drain().await;
        assert_eq!((world.get(&push).await.state(), world.get(&anew).await.state()), (SendState::Sent, SendState::Sent));
    }
}

#[tokio::test]
async fn merged_persons_take_their_sends_counts_and_unsubscriptions_along() {
    for world in worlds().await {
        world.policy(vec![FrequencyCap { count: 2, days: 1, kinds: Vec::new() }], Vec::new()).await;
        let sends = [new_send(1, 1), new_send(2, 2), by_push(new_send(3, 3))];
        world.plan(&sends).await;
        world.drain().await;
        assert!(world.service.report(&world.shop.id, &report(&sends[1], ReportKind::Unsubscribed)).await.expect("notes"));
        let mut survivor = person(3);
        survivor.merged = vec![1, 2];
        world.given.persons.lock().insert(3, Arc::new(survivor));
        let push = by_push(new_send(4, 3));
        // Before the rows have moved, and after.
        for moved in [false, true] {
            if moved {
                let mut tx = world.service.db.begin().await.expect("begins");
                move_persons(&mut tx, &world.shop.id, &[(1, 2), (2, 3)]).await.expect("moves");
                tx.commit().await.expect("commits");
            }
            let mail = new_send(5 + u64::from(moved), 3);
            let push = NewSend { run: push.run + 10 * u64::from(moved), ..push.clone() };
            world.plan(&[mail.clone(), push.clone()]).await;
            world.drain().await;
            assert_eq!(world.get(&mail).await.reason(), SendReason::Unsubscribed, "{moved}");
            assert_eq!(world.get(&push).await.reason(), SendReason::Capped, "{moved}");
        }
        assert!(
            sends.iter().map(|send| world.get(send)).collect::<futures::future::JoinAll<_>>().await.iter().all(|send| send.person == 3)
        );
        let counted: Vec<(i64, i64)> = on_db!(&world.service.db, pool => sqlx::query_as("SELECT person, count FROM cap_count")
            .fetch_all(pool).await)
        .expect("reads");
        assert_eq!(counted, [(3, 3)]);
    }
}

#[tokio::test]
async fn the_ledger_is_listed_newest_first_by_any_of_scenario_step_person_and_state() {
    for world in worlds().await {
        let at = |run: u64, person: u32| NewSend { planned_us: NOW_US - run as i64, ..new_send(run, person) };
        let mut sends: Vec<NewSend> = (0..20).map(|run| at(run, 1 + (run % 2) as u32)).collect();
        sends[5].scenario = "other".to_owned();
        sends[6].step = "last".to_owned();
        sends[7].held_out = true;
        world.plan(&sends).await;
        plan_for(&world.service.db, &"cafe".parse().expect("an id"), &[at(50, 1)]).await;
        world.drain().await;
        let listed = async |request: ListSendsRequest| {
            let (mut runs, mut token) = (Vec::new(), String::new());
            loop {
                let request = ListSendsRequest { page_size: 3, page_token: token, ..request.clone() };
                let page = world.service.list_sends_of(&world.shop, request).await.expect("lists");
                runs.extend(page.sends.iter().map(|send| send.run));
                if page.next_page_token.is_empty() {
                    return runs;
                }
                token = page.next_page_token;
            }
        };
        let all = ListSendsRequest::default;
        assert_eq!(listed(all()).await, (0..20).collect::<Vec<u64>>());
        assert_eq!(listed(ListSendsRequest { scenario: "other".to_owned(), ..all() }).await, [5]);
        assert_eq!(listed(ListSendsRequest { step: "last".to_owned(), ..all() }).await, [6]);
        assert_eq!(listed(ListSendsRequest { person: 1, ..all() }).await, (0..20).step_by(2).collect::<Vec<u64>>());
        assert_eq!(listed(ListSendsRequest { state: SendState::Suppressed.into(), ..all() }).await, [7]);
        let both = ListSendsRequest { person: 2, scenario: "cart".to_owned(), state: SendState::Sent.into(), ..all() };
        assert_eq!(listed(both).await, [1, 3, 9, 11, 13, 15, 17, 19]);
        for bad in [ListSendsRequest { page_token: "x".to_owned(), ..all() }, ListSendsRequest { state: 9, ..all() }] {
            assert!(matches!(world.service.list_sends_of(&world.shop, bad).await, Err(CampaignError::Invalid(_))));
        }
        let nobody = world.service.get_send_of(&world.shop, GetSendRequest { id: "a\0".to_owned() }).await;
        assert!(matches!(nobody, Err(CampaignError::NotFound { .. })));
    }
}
