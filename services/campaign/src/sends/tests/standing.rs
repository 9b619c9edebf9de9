//! Scenarios that are paused or end while messages wait, decisions made twice, and what queues until quiet hours.

use std::time::{Duration, Instant};

use segue_proto::campaign::v1::{
    CallEntry, CreateScenarioRequest, EndScenarioRequest, EndStep, Entry, PauseScenarioRequest, Scenario, ScenarioDefinition, SendReason,
    SendState, StartScenarioRequest, Step, entry, step,
};

use super::*;
use crate::sends::prepare::Batch;
use crate::sends::{commit, unmerge_persons, worker};

impl World {
    /// A scenario that runs.
    async fn scenario(&self, id: &str) {
        let definition = ScenarioDefinition {
            entry: Some(Entry { on: Some(entry::On::Call(CallEntry {})), only_if: None }),
            steps: vec![Step { id: "a".to_owned(), kind: Some(step::Kind::End(EndStep {})), ..Step::default() }],
            ..ScenarioDefinition::default()
        };
        let scenario = Scenario { id: id.to_owned(), name: id.to_owned(), definition: Some(definition), ..Scenario::default() };
        self.service.create_scenario_of(&self.shop, CreateScenarioRequest { scenario: Some(scenario) }).await.expect("a good one");
        self.start(id).await;
    }

    async fn start(&self, id: &str) {
        let request = StartScenarioRequest { id: id.to_owned(), ..StartScenarioRequest::default() };
        self.service.start_scenario_of(&self.shop, request).await.expect("it can be started");
    }

    async fn pause(&self, id: &str) {
        let request = PauseScenarioRequest { id: id.to_owned(), ..PauseScenarioRequest::default() };
        self.service.pause_scenario_of(&self.shop, request).await.expect("it runs");
    }

    async fn end(&self, id: &str) {
        let request = EndScenarioRequest { id: id.to_owned(), ..EndScenarioRequest::default() };
        self.service.end_scenario_of(&self.shop, request).await.expect("it runs");
    }
}

#[tokio::test]
async fn nothing_of_a_paused_scenario_is_sent_until_it_is_started_again() {
    for world in worlds().await {
        world.scenario("cart").await;
        world.scenario("other").await;
        world.provider.answers(|_, _| retry(None));
        let tried = new_send(1, 1);
        world.plan(std::slice::from_ref(&tried)).await;
        world.drain().await;
        let (planned, other) = (new_send(2, 1), NewSend { scenario: "other".to_owned(), ..new_send(3, 1) });
        let late = NewSend { expires_us: NOW_US + 60 * SECOND_US, ..new_send(4, 1) };
        world.plan(&[planned.clone(), other.clone(), late.clone()]).await;
        // It is paused while a worker holds all of them.
        world.clock.advance_us(10 * SECOND_US);
        let taken = world.sender.take().await.expect("takes");
        assert_eq!(taken.work.iter().map(|work| work.sends.len()).sum::<usize>(), 4);
        world.pause("cart").await;
        world.provider.answers(|_, _| Outcome::Sent { provider_message_id: String::new() });
        for work in taken.work {
            world.sender.work(work).await;
        }
        world.drain().await;
        assert_eq!(world.provider.keys(), [key(&tried), key(&other)]);
        assert_eq!((world.get(&planned).await.state(), world.get(&tried).await.state()), (SendState::Planned, SendState::Sending));
        assert!(world.get(&planned).await.addresses.is_empty(), "to whom it goes is seen when it goes");
        assert_eq!(world.decisions(&planned).await.last(), Some(&("scenario".to_owned(), "waits".to_owned())));
        world.clock.advance_us(60 * SECOND_US);
        world.drain().await;
        let shown = world.get(&late).await;
        assert_eq!((shown.state(), shown.reason()), (SendState::Suppressed, SendReason::TooLate));
        assert_eq!(world.provider.keys().len(), 2);
        world.start("cart").await;
        world.drain().await;
        assert_eq!((world.get(&planned).await.state(), world.get(&tried).await.state()), (SendState::Sent, SendState::Sent));
    }
}

#[tokio::test]
async fn what_nobody_has_begun_to_send_is_dropped_with_its_scenario_also_of_runs_that_are_over() {
    for world in worlds().await {
        world.scenario("cart").await;
        world.scenario("other").await;
        world.provider.answers(|_, _| retry(None));
        let begun = new_send(1, 1);
        world.plan(std::slice::from_ref(&begun)).await;
        world.drain().await;
        // The channel rests after a failure.
        world.clock.advance_us(10 * SECOND_US);
        let evening = TimeRule {
            name: "evening".to_owned(),
            from: "18:00".to_owned(),
            to: "20:00".to_owned(),
            time_zone: "Asia/Seoul".to_owned(),
            purpose: Purpose::Advertising.into(),
            ..TimeRule::default()
        };
        world.policy(Vec::new(), vec![evening]).await;
        let (waiting, other) = (new_send(2, 1), NewSend { scenario: "other".to_owned(), ..new_send(3, 1) });
        world.plan(&[waiting.clone(), other.clone()]).await;
        world.drain().await;
        let held = NewSend { purpose: Purpose::Transactional, ..new_send(4, 1) };
        world.plan(std::slice::from_ref(&held)).await;
        let taken = world.sender.take().await.expect("takes");
        world.end("cart").await;
        world.provider.answers(|_, _| Outcome::Sent { provider_message_id: String::new() });
        for work in taken.work {
            world.sender.work(work).await;
        }
        world.drain().await;
        for send in [&waiting, &held] {
            let shown = world.get(send).await;
            assert_eq!(
                (shown.state(), shown.reason(), shown.due_at),
                (SendState::Suppressed, SendReason::Exited, None),
                "{} {:?}",
                send.run,
                world.decisions(send).await
            );
        }
        assert_eq!(world.get(&other).await.state(), SendState::Planned);
        world.clock.advance_us(HOUR_US);
        world.drain().await;
        assert_eq!(world.get(&other).await.state(), SendState::Sent);
        assert_eq!(world.get(&begun).await.state(), SendState::Sent, "it was under way");
        let told = world.told().await;
        for send in [&waiting, &held] {
            assert_eq!(told.iter().filter(|id| **id == format!("{}:suppressed", key(send))).count(), 1);
        }
    }
}

#[tokio::test]
async fn a_decision_whose_commit_nobody_heard_of_is_made_again_and_counts_once() {
    for world in worlds().await {
        world.policy(vec![FrequencyCap { count: 1, days: 1, kinds: Vec::new() }], Vec::new()).await;
        let (send, capped) = (new_send(1, 1), new_send(2, 1));
        world.plan(&[send.clone(), capped.clone()]).await;
        let work = world.sender.take().await.expect("takes").work.pop().expect("something is due");
        let shop = &world.shop.id;
        let batch = Batch::load(&world.service, &*world.given, shop, "mail", work.sends).await.expect("loads");
        let mut ready = Vec::new();
        for _ in 0..2 {
            let prepared = batch.prepare(&world.service, NOW_US).await.expect("prepares");
            let decided = commit::decide(&world.service, &batch, prepared, NOW_US).await.expect("decides");
            ready.push(decided.into_iter().map(|one| one.send.id).collect::<Vec<_>>());
        }
        assert_eq!((ready[0].len(), &ready[0]), (1, &ready[1]));
        let counted: Vec<i64> =
            on_db!(&world.service.db, pool => sqlx::query_scalar("SELECT count FROM cap_count").fetch_all(pool).await).expect("reads");
        assert_eq!(counted, [1]);
        let sent = if ready[0][0] == key(&send) { &send } else { &capped };
        let checks: Vec<String> = world.decisions(sent).await.into_iter().map(|decision| decision.0).collect();
        assert_eq!(checks, ["planned", "holdout", "consent", "quiet_hours", "address", "template", "cap"]);
        assert_eq!(world.told().await.len(), 1, "that the other is suppressed, once");
    }
}

#[tokio::test]
async fn what_queues_for_its_provider_until_quiet_hours_begin_waits_for_their_end() {
    for world in worlds().await {
        let night = TimeRule {
            name: "night".to_owned(),
            from: "19:01".to_owned(),
            to: "20:00".to_owned(),
            time_zone: "Asia/Seoul".to_owned(),
            purpose: Purpose::Advertising.into(),
            ..TimeRule::default()
        };
        world.policy(Vec::new(), vec![night]).await;
        // The second goes when the first has gone, as seldom as the channel allows; by then the clock shows 19:01:05.
        world.channel("mail", ChannelKind::Email, |channel| channel.rate_per_second = 5);
        world.clock.set_us(NOW_US + 40 * SECOND_US);
        let clock = world.clock.clone();
        world.provider.answers(move |_, _| {
            clock.set_us(NOW_US + 65 * SECOND_US);
            Outcome::Sent { provider_message_id: String::new() }
        });
        let ads = [new_send(1, 1), new_send(2, 1)];
        world.plan(&ads).await;
        world.drain().await;
        assert_eq!(world.provider.keys().len(), 1);
        let mut states = Vec::new();
        for ad in &ads {
            let shown = world.get(ad).await;
            states.push((shown.state(), shown.due_at));
        }
        states.sort_by_key(|(_, due_at)| due_at.is_some());
        let end = crate::store::timestamp(NOW_US + HOUR_US);
        assert_eq!((states[0], states[1].1), ((SendState::Sent, None), Some(end)));
        let order = NewSend { purpose: Purpose::Transactional, ..new_send(3, 1) };
        world.plan(std::slice::from_ref(&order)).await;
        world.drain().await;
        assert_eq!(world.get(&order).await.state(), SendState::Sent);
        world.clock.set_us(NOW_US + HOUR_US);
        world.drain().await;
        assert_eq!(world.provider.keys().len(), 3);
    }
}

#[tokio::test]
async fn who_unsubscribed_while_they_were_taken_for_another_is_not_messaged_as_themselves_either() {
    for world in worlds().await {
        let send = new_send(1, 2);
        world.plan(std::slice::from_ref(&send)).await;
        world.drain().await;
        world.run("INSERT INTO flow_merged (tenant, person, into_person) VALUES ('shop', 1, 2), ('cafe', 3, 2)").await;
        let report = crate::sends::Report {
            send: key(&send),
            address: 0,
            kind: crate::sends::ReportKind::Unsubscribed,
            time_us: NOW_US,
            detail: String::new(),
        };
        assert!(world.service.report(&world.shop.id, &report).await.expect("notes"));
        let mut tx = world.service.db.begin().await.expect("begins");
        unmerge_persons(&mut tx, &world.shop.id, &[1, 3]).await.expect("copies");
        tx.commit().await.expect("commits");
        let sends = [new_send(2, 1), new_send(3, 2), new_send(4, 3)];
        world.plan(&sends).await;
        world.drain().await;
        let reasons = [SendReason::Unsubscribed, SendReason::Unsubscribed, SendReason::Unspecified];
        for (send, reason) in sends.iter().zip(reasons) {
            assert_eq!(world.get(send).await.reason(), reason, "person {}", send.person);
        }
    }
}

#[tokio::test]
async fn a_grant_that_is_dated_to_the_future_does_not_outlast_unsubscribing() {
    for world in worlds().await {
        let first = new_send(1, 1);
        let mut early = person(1);
        early.consents[0].time = Some(crate::store::timestamp(NOW_US + 1_000 * HOUR_US));
        world.given.persons.lock().insert(1, Arc::new(early));
        world.plan(std::slice::from_ref(&first)).await;
        world.drain().await;
        assert_eq!(world.get(&first).await.state(), SendState::Sent);
        world.run("INSERT INTO unsubscribed (tenant, person, channel, time_us) VALUES ('shop', 1, 'email', 1748426400000000)").await;
        let second = new_send(2, 1);
        world.plan(std::slice::from_ref(&second)).await;
        world.drain().await;
        assert_eq!(world.get(&second).await.reason(), SendReason::Unsubscribed);
    }
}

#[tokio::test]
async fn a_channel_gets_as_many_messages_a_second_as_it_allows_and_holds_up_no_other() {
    const RATE: usize = 20;
    for world in worlds().await {
        world.channel("mail", ChannelKind::Email, |channel| channel.rate_per_second = RATE as u32);
        let (mails, pushes) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::<Mutex<Vec<Instant>>>::default());
        let (noted, noted_too) = (mails.clone(), pushes.clone());
        world.provider.answers(move |message, _| {
            let of_kind = if message.parts.contains_key("title") { &noted_too } else { &noted };
            of_kind.lock().push(Instant::now());
            Outcome::Sent { provider_message_id: String::new() }
        });
        let sends: Vec<NewSend> = (0..60).flat_map(|run| [new_send(run, 1), by_push(new_send(100 + run, 2))]).collect();
        world.plan(&sends).await;
        let (tasks, began) = (Tasks::new(), Instant::now());
        let sender = Sender::new(world.service.clone(), world.given.clone(), tasks.stopping());
        tasks.spawn("messages", worker::run(sender, tasks.clone()));
        let until = began + Duration::from_secs(30);
        while (mails.lock().len() < 60 || pushes.lock().len() < 120) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tasks.stop(Duration::from_secs(10)).await.expect("stops");
        let (mails, pushes) = (mails.lock().clone(), pushes.lock().clone());
        assert_eq!((mails.len(), pushes.len()), (60, 120));
        for (at, moment) in mails.iter().enumerate() {
            let (after, least) = (moment.duration_since(began), Duration::from_secs(1) / RATE as u32 * at as u32);
            assert!(after + Duration::from_millis(5) >= least, "the {at}th after {after:?}");
        }
        assert!(pushes[119] < mails[59], "what has no rate does not wait");
    }
}
