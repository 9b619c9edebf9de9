//! Telling real neighbours, while some of them are away.

use segue_proto::identity::v1::{ConsentState, GetPersonRequest, get_person_request::Who};
use segue_runtime::transport::for_tenant;
use segue_testkit::stores;

use super::super::world::{NOW_US, World, wait};
use super::super::{Told, put};
use segue_runtime::Tenant;

use super::*;

fn event(n: usize, person: u32) -> Told {
    Told::Event {
        message_id: format!("m{n}"),
        name: "df_message_sent",
        time_us: NOW_US + n as i64,
        person,
        properties: Vec::new(),
        items: Vec::new(),
    }
}

async fn tell(world: &World, tenant: &TenantId, told: &[Told]) {
    let mut tx = world.service.db.begin().await.expect("a transaction");
    put(&mut tx, tenant, told).await.expect("written");
    tx.commit().await.expect("committed");
}

async fn waiting(world: &World, destination: Destination) -> Vec<TenantId> {
    store::tenants(&world.service.db, destination).await.expect("listed")
}

async fn rows(world: &World, tenant: &TenantId) -> usize {
    store::page(&world.service.db, Destination::Ingest, tenant, 0, 100_000).await.expect("read").len()
}

#[tokio::test]
async fn what_cannot_be_told_is_kept_and_told_later_and_what_is_told_again_counts_once() {
    for place in stores() {
        let world = World::new(place).await;
        let (shop, rival) = (world.shop.id.clone(), world.rival.id.clone());
        let persons = world.persons(&shop, &["a", "b", "c"]).await;
        let others = world.persons(&rival, &["a"]).await;
        let mut told: Vec<Told> = (0..2_500).map(|n| event(n, persons[n % 3])).collect();
        told.push(event(2_500, 999));
        tell(&world, &shop, &told).await;
        tell(&world, &rival, &(0..10).map(|n| event(n, others[0])).collect::<Vec<_>>()).await;
        let consent =
            Told::Consent { person: persons[0], channel: "push", time_us: NOW_US, source: "unsubscribe_link", proof: "s".to_owned() };
        // Somebody whom there never was keeps nothing from being told about others.
        let nobody = Told::Consent { person: 999, channel: "push", time_us: NOW_US, source: "callback", proof: "s".to_owned() };
        tell(&world, &shop, &[nobody, consent, Told::List { person: persons[1], list: "vips".to_owned(), remove: false }]).await;

        let teller = Teller::new(&world.service, &world.tasks);
        teller.take_on().await.expect("looks");
        wait("every task has ended", async || teller.at_work.lock().is_empty()).await;
        let failing: Vec<Key> = {
            let mut failing: Vec<Key> = teller.failing.lock().keys().cloned().collect();
            failing.sort();
            failing
        };
        // Ingest and audiences are away; identity is not.
        let wanted = [(Destination::Ingest, rival.clone()), (Destination::Ingest, shop.clone()), (Destination::Audience, shop.clone())];
        assert_eq!(failing, wanted);
        assert_eq!((rows(&world, &shop).await, rows(&world, &rival).await), (2_501, 10), "nothing is lost");
        assert_eq!(waiting(&world, Destination::Identity).await, []);
        let person = GetPersonRequest { who: Some(Who::Number(persons[0])) };
        let person = world.identity.clone().get_person(for_tenant(&shop, person)).await.expect("somebody").into_inner();
        let consents: Vec<_> = person.consents.iter().map(|one| (one.channel.as_str(), one.purpose.as_str(), one.state())).collect();
        assert_eq!(consents, [("push", "advertising", ConsentState::Refused)]);

        world.let_ingest_in();
        let run = world.tasks.clone();
        world.tasks.spawn("outbox", super::run(teller.clone(), run.stopping()));
        wait("events are told", async || waiting(&world, Destination::Ingest).await.is_empty()).await;
        wait("all of one tenant are resolved", async || world.ingested(&shop).await.resolved == 2_500).await;
        wait("all of the other are resolved", async || world.ingested(&rival).await.resolved == 10).await;
        assert_eq!(waiting(&world, Destination::Audience).await, std::slice::from_ref(&shop), "what audiences are to be told waits alone");

        // A process ended between telling and deleting.
        tell(&world, &shop, &told[..1_500]).await;
        world.service.bells.outbox.notify_one();
        wait("events are told again", async || waiting(&world, Destination::Ingest).await.is_empty()).await;
        wait("they are known", async || world.ingested(&shop).await.duplicates == 1_500).await;
        let status = world.ingested(&shop).await;
        assert_eq!((status.resolved, status.quarantined), (2_500, 0));
        world.stop().await;
    }
}

#[tokio::test]
async fn a_tenant_whose_module_is_off_is_left_alone_until_it_is_on() {
    for place in stores() {
        let world = World::new(place).await;
        world.let_ingest_in();
        let (shop, rival) = (world.shop.clone(), world.rival.clone());
        let persons = world.persons(&shop.id, &["a"]).await;
        tell(&world, &shop.id, &[event(1, persons[0])]).await;
        let off = Tenant::new(shop.id.clone(), [Module::Ingest, Module::Identity].into_iter().collect());
        world.service.tenants.replace(vec![off, rival.clone()]);
        let teller = Teller::new(&world.service, &world.tasks);
        teller.take_on().await.expect("looks");
        assert!(teller.at_work.lock().is_empty());
        world.service.tenants.replace(vec![shop.clone(), rival]);
        teller.take_on().await.expect("looks");
        wait("it is told", async || waiting(&world, Destination::Ingest).await.is_empty()).await;
        wait("it is resolved", async || world.ingested(&shop.id).await.resolved == 1).await;
        world.stop().await;
    }
}
