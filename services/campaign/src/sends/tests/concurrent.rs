//! Several senders at once, holds that run out, turns, and how fast it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use segue_proto::campaign::v1::{SendReason, SendState};

use super::*;
use crate::sends::claim::{self, Wanted};
use crate::sends::worker;

/// Senders as other processes would have them: with a store of their own.
async fn senders(world: &World, count: usize) -> Vec<Sender> {
    let mut senders = Vec::new();
    for _ in 0..count {
        let db = world.place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
        let service = service_on(db, world.service.log.clone(), &world.clock, world.service.tenants.clone()).await;
        senders.push(Sender::new(service, world.given.clone(), Tasks::new().stopping()));
    }
    senders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn caps_hold_whoever_sends_and_no_two_hold_the_same_send() {
    for world in worlds().await {
        let mut seed = 7_u64;
        for (round, (count, days)) in [(1_u32, 1_u32), (3, 2), (7, 31)].into_iter().enumerate() {
            world.run("DELETE FROM cap_count").await;
            world.provider.got.lock().clear();
            let caps = vec![
                FrequencyCap { count, days, kinds: Vec::new() },
                FrequencyCap { count: count + 1, days: days.min(31), kinds: vec![ChannelKind::Email.into()] },
            ];
            world.policy(caps, Vec::new()).await;
            let sends: Vec<NewSend> = (0..240)
                .map(|run| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let send = new_send(round as u64 * 1_000 + run, 1 + (seed >> 33) as u32 % 5);
                    if seed >> 40 & 1 == 0 { by_push(send) } else { send }
                })
                .collect();
            world.plan(&sends).await;
            let senders = senders(&world, 8).await;
            futures::future::join_all(senders.iter().map(drain)).await;
            let mut by_person: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
            for message in world.provider.got.lock().iter() {
                let send = message.idempotency_key.split('.').next().unwrap_or_default().to_owned();
                by_person.entry(message.person).or_default().insert(send);
            }
            let messages: Vec<usize> = by_person.values().map(BTreeSet::len).collect();
            assert_eq!(messages, vec![count as usize; 5], "exactly as many as the cap allows");
            let mut states: BTreeMap<(SendState, SendReason), usize> = BTreeMap::new();
            for send in &sends {
                let shown = world.get(send).await;
                *states.entry((shown.state(), shown.reason())).or_default() += 1;
            }
            let sent = 5 * count as usize;
            let expected = [((SendState::Sent, SendReason::Unspecified), sent), ((SendState::Suppressed, SendReason::Capped), 240 - sent)];
            assert_eq!(states, expected.into());
            for sender in senders {
                sender.service.db.close().await;
            }
        }
        assert_eq!(*world.provider.given_at_once.lock(), Vec::<String>::new());
        let mut keys = world.provider.keys();
        keys.sort_unstable();
        let sent = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), sent, "nothing twice");
    }
}

#[tokio::test]
async fn a_hold_that_ran_out_is_taken_up_again_with_the_same_key_and_counted_once() {
    for world in worlds().await {
        world.policy(vec![FrequencyCap { count: 1, days: 1, kinds: Vec::new() }], Vec::new()).await;
        let send = new_send(1, 1);
        world.plan(std::slice::from_ref(&send)).await;
        // The provider takes it, and the process ends before it writes that down.
        let (clock, lease_us) = (world.clock.clone(), 61 * SECOND_US);
        world.provider.answers(move |_, before| {
            if before == 0 {
                clock.advance_us(lease_us);
                return retry(None);
            }
            Outcome::Sent { provider_message_id: String::new() }
        });
        let mut first = world.sender.take().await.expect("takes").work;
        let other = senders(&world, 1).await;
        assert!(other[0].take().await.expect("looks").work.is_empty(), "it is held");
        world.clock.advance_us(61 * SECOND_US);
        let mut second = other[0].take().await.expect("takes").work;
        assert_eq!((first.len(), second.len()), (1, 1));
        // Who held it before changes nothing any more.
        world.sender.work(first.remove(0)).await;
        assert!(world.provider.keys().is_empty());
        other[0].work(second.remove(0)).await;
        assert_eq!(world.provider.keys(), [key(&send)]);
        drain(&other[0]).await;
        world.clock.advance_us(10 * SECOND_US);
        drain(&other[0]).await;
        assert_eq!(world.provider.keys(), [key(&send), key(&send)]);
        let shown = world.get(&send).await;
        assert_eq!((shown.state(), shown.reason()), (SendState::Sent, SendReason::Unspecified), "its own count does not cap it");
    }
}

#[tokio::test]
async fn two_claims_never_get_the_same_send() {
    for world in worlds().await {
        let sends: Vec<NewSend> = (0..400).map(|run| new_send(run, 1)).collect();
        world.plan(&sends).await;
        let shop = &world.shop.id;
        let wanted = |owner| Wanted {
            tenant: shop,
            channel: "mail",
            limit: 60,
            only_expired: false,
            now_us: NOW_US,
            until_us: NOW_US + HOUR_US,
            owner,
        };
        let db = &world.service.db;
        let claims = (0..10).map(|_| async { claim::claim(db, &wanted("a")).await.expect("claims") });
        let mut ids: Vec<String> = futures::future::join_all(claims).await.into_iter().flatten().map(|send| send.id).collect();
        assert_eq!(ids.len(), 400);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 400);
        assert_eq!(claim::due(db).await.expect("looks").len(), 1);
    }
}

#[tokio::test]
async fn tenants_and_channels_take_turns() {
    for world in worlds().await {
        let many: Vec<NewSend> = (0..1_000).map(|run| new_send(run, 1)).collect();
        world.plan(&many).await;
        world.plan(&[by_push(new_send(2_000, 1))]).await;
        let cafe: TenantId = "cafe".parse().expect("an id");
        let few: Vec<NewSend> = (0..60).map(|run| new_send(run, 1)).collect();
        plan_for(&world.service.db, &cafe, &few).await;
        let off: TenantId = "bank".parse().expect("an id");
        plan_for(&world.service.db, &off, &few).await;
        let taken = world.sender.take().await.expect("takes");
        let order: Vec<(&str, &str, usize)> =
            taken.work.iter().map(|work| (work.tenant.as_str(), work.channel.as_str(), work.sends.len())).collect();
        let rank = |tenant: &str, channel: &str| order.iter().position(|one| (one.0, one.1) == (tenant, channel)).expect("it had a turn");
        assert!(rank("cafe", "mail") < 2 && rank("shop", "push") < 4, "{order:?}");
        assert_eq!(order.iter().filter(|one| one.0 == "cafe").map(|one| one.2).sum::<usize>(), 60);
        assert!(order.iter().all(|one| one.0 != "bank"), "its module is off");
        assert!(taken.work.iter().filter(|work| work.channel == "mail" && work.tenant.as_str() == "shop").count() <= 4);
    }
}

#[tokio::test]
async fn the_worker_sends_what_is_planned_when_it_is_due_and_ends_when_told() {
    for world in worlds().await {
        let tasks = Tasks::new();
        let sender = Sender::new(world.service.clone(), world.given.clone(), tasks.stopping());
        tasks.spawn("messages", worker::run(sender, tasks.clone()));
        let later = NewSend { planned_us: NOW_US + HOUR_US, ..new_send(2, 2) };
        world.plan(&[new_send(1, 1), later.clone()]).await;
        world.service.bells.sends.notify_one();
        let sent = async |count: usize| {
            let until = Instant::now() + Duration::from_secs(20);
            while world.provider.got.lock().len() < count && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(world.provider.got.lock().len(), count);
        };
        sent(1).await;
        world.clock.advance_us(HOUR_US);
        sent(2).await;
        assert_eq!(tasks.stop(Duration::from_secs(10)).await, Ok(()));
        assert_eq!(world.get(&later).await.state(), SendState::Sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_many_messages_a_second() {
    const SENDS: u64 = 40_000;
    for world in worlds().await {
        world.policy(vec![FrequencyCap { count: 900, days: 7, kinds: Vec::new() }], Vec::new()).await;
        world.given.persons.lock().extend((1..=20_000).map(|number| (number, Arc::new(person(number)))));
        let sends: Vec<NewSend> = (0..SENDS).map(|run| new_send(run, 1 + run as u32 % 20_000)).collect();
        let began = Instant::now();
        for some in sends.chunks(20_000) {
            world.plan(some).await;
        }
        let planned = began.elapsed();
        let config = Arc::new(Config { send: SendConfig::default(), ..Config::default() });
        let tasks = Tasks::new();
        let service = Service { config, ..world.service.clone() };
        let began = Instant::now();
        let sender = Sender::new(service, world.given.clone(), tasks.stopping());
        tasks.spawn("messages", worker::run(sender, tasks.clone()));
        loop {
            let left: i64 = on_db!(&world.service.db, pool => sqlx::query_scalar("SELECT count(*) FROM send WHERE due_us IS NOT NULL")
                .fetch_one(pool).await)
            .expect("counts");
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sent = began.elapsed();
        let per_second = |took: Duration| SENDS as f64 / took.as_secs_f64();
        println!("{:?}: planned {:.0}/s, sent {:.0}/s", world.service.db.kind(), per_second(planned), per_second(sent));
        tasks.stop(Duration::from_secs(10)).await.expect("stops");
    }
}
