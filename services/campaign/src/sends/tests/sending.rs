//! What becomes of a planned send: decisions, addresses, attempts.

use segue_proto::campaign::v1::{Purpose, SendReason, SendState, TimeRule};

use super::*;

/// State, reason, attempts.
fn outcome(send: &Send) -> (SendState, SendReason, u32) {
    (send.state(), send.reason(), send.attempts)
}

#[tokio::test]
async fn a_planned_send_is_sent_once_and_told_however_often_it_is_planned() {
    for world in worlds().await {
        let send = new_send(u64::MAX - 1, 1);
        world.plan(&[send.clone(), new_send(2, 2)]).await;
        world.plan(std::slice::from_ref(&send)).await;
        let planned = world.get(&send).await;
        assert_eq!((outcome(&planned), planned.run), ((SendState::Planned, SendReason::Unspecified, 0), u64::MAX - 1));
        assert_eq!(planned.entry_key, format!("key\u{fffd}{}", u64::MAX - 1));
        world.drain().await;
        world.plan(std::slice::from_ref(&send)).await;
        world.drain().await;
        let mut keys = world.provider.keys();
        keys.sort_unstable();
        let mut expected = vec![key(&send), key(&new_send(2, 2))];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        let got = world.provider.got.lock().iter().find(|message| message.person == 1).cloned().expect("it came");
        assert_eq!((got.address.as_str(), got.parts["text"].as_str()), ("1@shop.example", "add\u{fffd}ed for 1"));
        let sent = world.get(&send).await;
        assert_eq!((outcome(&sent), sent.due_at), ((SendState::Sent, SendReason::Unspecified, 1), None));
        assert_eq!(
            (sent.addresses[0].state(), sent.addresses[0].provider_message_id.clone()),
            (SendState::Sent, format!("p-{}", key(&send)))
        );
        let decided: Vec<String> = world.decisions(&send).await.into_iter().map(|decision| decision.0).collect();
        assert_eq!(decided, ["planned", "holdout", "consent", "quiet_hours", "address", "template", "attempt"]);
        let mut told = world.told().await;
        told.sort_unstable();
        let mut expected: Vec<String> = expected.iter().map(|id| format!("{id}:sent")).collect();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn what_must_not_be_sent_is_suppressed_with_its_reason() {
    for world in worlds().await {
        world.template(&world.shop, "broken", ChannelKind::Email, &[("subject", "Hi"), ("text", "{{ 1 / 0 }}")]).await;
        let mut refused = person(3);
        refused.consents.clear();
        let mut nowhere = person(4);
        nowhere.identifiers.clear();
        world.given.persons.lock().extend([(3, Arc::new(refused)), (4, Arc::new(nowhere))]);
        let cases = [
            (NewSend { held_out: true, ..new_send(1, 1) }, SendReason::HeldOut),
            (new_send(2, 99), SendReason::PersonGone),
            (new_send(3, 3), SendReason::NoConsent),
            (new_send(4, 4), SendReason::NoAddress),
            (NewSend { channel: "gone".to_owned(), ..new_send(5, 1) }, SendReason::MissingDefinition),
            (NewSend { template: "gone".to_owned(), ..new_send(6, 1) }, SendReason::MissingDefinition),
            (NewSend { template: "push".to_owned(), ..new_send(7, 1) }, SendReason::MissingDefinition),
            (NewSend { template: "broken".to_owned(), ..new_send(8, 1) }, SendReason::TemplateAborted),
            (NewSend { expires_us: NOW_US - 1, ..new_send(9, 1) }, SendReason::TooLate),
        ];
        world.plan(&cases.clone().map(|case| case.0)).await;
        world.drain().await;
        assert!(world.provider.keys().is_empty());
        for (send, reason) in &cases {
            let shown = world.get(send).await;
            assert_eq!(outcome(&shown), (SendState::Suppressed, *reason, 0), "{shown:?}");
            assert!(!shown.reason_detail.is_empty());
            assert_eq!(world.decisions(send).await.last().map(|decision| decision.1.as_str()), Some("suppressed"));
        }
        assert_eq!(world.told().await.len(), cases.len());
        // What is transactional needs no consent.
        let transactional = NewSend { purpose: Purpose::Transactional, ..new_send(10, 3) };
        world.plan(std::slice::from_ref(&transactional)).await;
        world.drain().await;
        assert_eq!(outcome(&world.get(&transactional).await).0, SendState::Sent);
    }
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_later_with_the_same_key_and_only_where_it_is_not_sent_yet() {
    for world in worlds().await {
        let send = by_push(new_send(1, 1));
        world.provider.answers(|message, before| match (message.address.as_str(), before) {
            ("1-tablet", 0) => retry(None),
            ("1-tablet", 1) => retry(Some(120)),
            _ => Outcome::Sent { provider_message_id: "p".to_owned() },
        });
        world.plan(std::slice::from_ref(&send)).await;
        world.drain().await;
        let first = world.get(&send).await;
        assert_eq!((outcome(&first).0, first.due_at.is_some()), (SendState::Sent, true), "one device has it");
        assert_eq!(first.addresses.iter().map(|address| address.state()).collect::<Vec<_>>(), [SendState::Sent, SendState::Sending]);
        world.drain().await;
        assert_eq!(world.provider.got.lock().len(), 2, "not before its time");
        world.clock.advance_us(2 * SECOND_US);
        world.drain().await;
        assert_eq!(world.provider.got.lock().len(), 3);
        world.clock.advance_us(119 * SECOND_US);
        world.drain().await;
        assert_eq!(world.provider.got.lock().len(), 3, "the provider asked for two minutes");
        world.clock.advance_us(SECOND_US);
        world.drain().await;
        let id = key(&send);
        let mut keys = world.provider.keys();
        keys.sort_unstable();
        assert_eq!(keys, [format!("{id}.0"), format!("{id}.1"), format!("{id}.1"), format!("{id}.1")]);
        let last = world.get(&send).await;
        assert_eq!((outcome(&last), last.due_at), ((SendState::Sent, SendReason::Unspecified, 3), None));
        assert_eq!(world.told().await, [format!("{id}:sent")], "once");
    }
}

#[tokio::test]
async fn what_is_refused_for_good_or_tried_in_vain_until_it_is_too_late_has_failed() {
    for world in worlds().await {
        world.provider.answers(|message, _| match message.person {
            1 => Outcome::Refused { error: "550 no such box\0".to_owned() },
            2 => Outcome::Unregistered { error: "410 gone".to_owned() },
            _ => retry(None),
        });
        let vain = NewSend { expires_us: NOW_US + 30 * SECOND_US, ..new_send(3, 3) };
        let sends = [new_send(1, 1), new_send(2, 2), vain];
        world.plan(&sends).await;
        for _ in 0..100 {
            world.drain().await;
            world.clock.advance_us(SECOND_US);
        }
        for (send, error) in sends.iter().zip(["550 no such box\u{fffd}", "410 gone", "503 not now"]) {
            let shown = world.get(send).await;
            assert_eq!(
                (shown.state(), shown.reason(), shown.reason_detail.as_str()),
                (SendState::Failed, SendReason::ProviderFailed, error)
            );
            assert_eq!(shown.addresses[0].state(), SendState::Failed);
        }
        let attempts = world.get(&sends[2]).await.attempts;
        assert!((4..=7).contains(&attempts), "pauses double: {attempts}");
        assert_eq!(*world.given.unlinked.lock(), [("email".to_owned(), "2@shop.example".to_owned(), 2)]);
        let told = world.told().await;
        assert!(told.len() == 3 && told.iter().all(|id| id.ends_with(":failed")), "{told:?}");
    }
}

#[tokio::test]
async fn consent_is_asked_for_again_before_every_attempt() {
    for world in worlds().await {
        let (refusing, gone) = (new_send(1, 1), by_push(new_send(2, 2)));
        world.provider.answers(|_, _| retry(None));
        world.plan(&[refusing.clone(), gone.clone()]).await;
        world.drain().await;
        assert_eq!(world.provider.got.lock().len(), 3);
        let mut person = person(1);
        person.consents[0].state = ConsentState::Refused.into();
        let mut without = super::person(2);
        without.identifiers.retain(|(_, _, value)| value == "2-phone");
        world.given.persons.lock().extend([(1, Arc::new(person)), (2, Arc::new(without))]);
        world.provider.answers(|_, _| Outcome::Sent { provider_message_id: String::new() });
        world.clock.advance_us(10 * SECOND_US);
        world.drain().await;
        assert_eq!(outcome(&world.get(&refusing).await), (SendState::Suppressed, SendReason::NoConsent, 1));
        let kept: Vec<SendState> = world.get(&gone).await.addresses.iter().map(|address| address.state()).collect();
        assert_eq!(kept, [SendState::Sent, SendState::Suppressed], "the tablet is somebody else's now");
        assert_eq!(world.provider.got.lock().len(), 4);
    }
}

#[tokio::test]
async fn quiet_hours_are_waited_for_and_said_once() {
    for world in worlds().await {
        let quiet = |drop: bool| TimeRule {
            name: "evening".to_owned(),
            from: "18:00".to_owned(),
            to: "20:00".to_owned(),
            time_zone: "Asia/Seoul".to_owned(),
            drop,
            ..TimeRule::default()
        };
        world.policy(Vec::new(), vec![quiet(false)]).await;
        let (patient, late) = (new_send(1, 1), NewSend { expires_us: NOW_US + 60 * SECOND_US, ..new_send(2, 1) });
        world.plan(&[patient.clone(), late.clone()]).await;
        world.drain().await;
        let waiting = world.get(&patient).await;
        assert_eq!(outcome(&waiting), (SendState::Planned, SendReason::Unspecified, 0));
        assert_eq!(waiting.due_at, Some(crate::store::timestamp(NOW_US + HOUR_US)), "19:00 until 20:00");
        world.run("UPDATE send SET due_us = 1").await;
        world.drain().await;
        world.clock.advance_us(61 * SECOND_US);
        world.drain().await;
        assert_eq!(outcome(&world.get(&late).await), (SendState::Suppressed, SendReason::TooLate, 0));
        world.clock.advance_us(HOUR_US);
        world.drain().await;
        assert_eq!(outcome(&world.get(&patient).await).0, SendState::Sent);
        let waits = world.decisions(&patient).await.into_iter().filter(|decision| decision.1 == "waits").count();
        assert_eq!(waits, 1);
        world.clock.set_us(NOW_US);
        world.policy(Vec::new(), vec![quiet(true)]).await;
        let dropped = new_send(3, 1);
        world.plan(std::slice::from_ref(&dropped)).await;
        world.drain().await;
        assert_eq!(outcome(&world.get(&dropped).await), (SendState::Suppressed, SendReason::QuietHours, 0));
    }
}

#[tokio::test]
async fn runs_that_end_take_what_nobody_has_begun_to_send_with_them() {
    for world in worlds().await {
        world.provider.answers(|_, _| retry(None));
        let (begun, planned, other) = (new_send(1, 1), NewSend { step: "second".to_owned(), ..new_send(1, 1) }, new_send(2, 1));
        world.plan(std::slice::from_ref(&begun)).await;
        world.drain().await;
        world.plan(&[planned.clone(), other.clone()]).await;
        // Held by a worker that has not decided yet.
        world.clock.advance_us(10 * SECOND_US);
        let taken = world.sender.take().await.expect("takes");
        let mut tx = world.service.db.begin().await.expect("begins");
        crate::sends::drop_of_runs(&mut tx, &world.shop.id, &[1], SendReason::Exited, NOW_US + 1).await.expect("drops");
        tx.commit().await.expect("commits");
        world.provider.answers(|_, _| Outcome::Sent { provider_message_id: String::new() });
        for work in taken.work {
            world.sender.work(work).await;
        }
        assert_eq!(outcome(&world.get(&planned).await), (SendState::Suppressed, SendReason::Exited, 0));
        assert_eq!(world.decisions(&planned).await.last(), Some(&("exit".to_owned(), "suppressed".to_owned())));
        assert_eq!(outcome(&world.get(&begun).await).0, SendState::Sent);
        assert_eq!(outcome(&world.get(&other).await).0, SendState::Sent);
        let suppressed = world.told().await.into_iter().filter(|id| id.ends_with(":suppressed")).collect::<Vec<_>>();
        assert_eq!(suppressed, [format!("{}:suppressed", key(&planned))]);
    }
}

#[tokio::test]
async fn a_paused_channel_keeps_its_messages_until_they_are_too_late_and_a_provider_that_is_down_holds_up_nobody_else() {
    for world in worlds().await {
        world.channel("mail", ChannelKind::Email, |channel| channel.paused = true);
        let (kept, late) = (new_send(1, 1), NewSend { expires_us: NOW_US + 5 * SECOND_US, ..new_send(2, 1) });
        world.plan(&[kept.clone(), late.clone(), by_push(new_send(3, 2))]).await;
        world.provider.answers(|_, _| retry(None));
        world.drain().await;
        world.clock.advance_us(20 * SECOND_US);
        world.drain().await;
        assert_eq!(outcome(&world.get(&kept).await), (SendState::Planned, SendReason::Unspecified, 0));
        assert_eq!(outcome(&world.get(&late).await), (SendState::Suppressed, SendReason::TooLate, 0));
        // The provider of the pushes is resting; that of the mails is not.
        world.channel("mail", ChannelKind::Email, |_| {});
        world.provider.answers(|message, _| match message.parts.contains_key("title") {
            true => retry(Some(600)),
            false => Outcome::Sent { provider_message_id: String::new() },
        });
        world.drain().await;
        assert_eq!(outcome(&world.get(&kept).await).0, SendState::Sent);
        assert_eq!(outcome(&world.get(&by_push(new_send(3, 2))).await).0, SendState::Sending);
    }
}

#[tokio::test]
async fn a_push_goes_to_every_device_and_a_text_message_to_the_latest_number() {
    for world in worlds().await {
        world.channel("sms", ChannelKind::Sms, |channel| channel.address_kind = Some("phone"));
        world.template(&world.shop, "sms", ChannelKind::Sms, &[("text", "Hi")]).await;
        let mut owner = person(1);
        owner.identifiers.extend([(9, "phone".to_owned(), "+82102222".to_owned()), (8, "phone".to_owned(), "+82101111".to_owned())]);
        let consent = Consent { channel: "sms".to_owned(), ..owner.consents[0].clone() };
        owner.consents.push(consent);
        world.given.persons.lock().insert(1, Arc::new(owner));
        let text = NewSend { channel: "sms".to_owned(), template: "sms".to_owned(), ..new_send(1, 1) };
        let sends = [by_push(new_send(2, 1)), text];
        world.plan(&sends).await;
        world.drain().await;
        let mut addresses: Vec<String> = world.provider.got.lock().iter().map(|message| message.address.clone()).collect();
        addresses.sort_unstable();
        assert_eq!(addresses, ["+82102222", "1-phone", "1-tablet"]);
        // However many devices have it, it is one message.
        let mut told = world.told().await;
        told.sort_unstable();
        let mut expected = sends.map(|send| format!("{}:sent", key(&send)));
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}
