//! Whatever lies where: the same rows from tail, files and merged files, across crashes, while persons are merged, split off again
//! and deleted, and while events become too old to be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use segue_analytics::scan::{Column, PERSONS_PER_CHUNK, ScanRequest, Snapshot, TRAITS};
use segue_model::{Clock, ManualClock, TenantId};
use segue_proto::analytics::v1::{DeletePersonEventsRequest, analytics_service_client::AnalyticsServiceClient};
use segue_proto::events::v1::{EventKind, PersonMerged, PersonUnmerged, ResolvedEvent, identity_change::Change};
use segue_runtime::Tenant;
use segue_runtime::transport::{for_tenant, local};
use segue_testkit::{TempLog, TempStore};

use crate::events::{DAY_US, Dice, START_US, events};
use crate::rig::{ALL_TIMES, Life, Rig, Row, all_rows, events_of, eventually, expected, rows_by_chunks, switched, tenant};

/// What was done, and what should therefore be read.
struct World {
    shop: TenantId,
    clock: ManualClock,
    sent: Vec<ResolvedEvent>,
    steps: BTreeMap<u32, u32>,
    deleted: BTreeMap<u32, i64>,
    days_kept: u32,
    links: u64,
}

impl World {
    fn survivor(&self, mut person: u32) -> u32 {
        while let Some(next) = self.steps.get(&person) {
            person = *next;
        }
        person
    }

    fn expected(&self) -> Vec<Row> {
        let is_deleted = |event: &&ResolvedEvent| self.deleted.get(&event.person).is_some_and(|until| event.received_at_us <= *until);
        let rows = expected(self.sent.iter().filter(|event| !is_deleted(event)), |person| self.survivor(person));
        let kept_from = match self.days_kept {
            0 => i64::MIN,
            days => (self.clock.now_us() / DAY_US - i64::from(days)) * DAY_US,
        };
        let is_kept = |row: &Row| row["event"] == TRAITS || row["ts"].parse::<i64>().expect("a number") >= kept_from;
        rows.into_iter().filter(is_kept).collect()
    }

    async fn check(&self, life: &Life, what: &str) {
        let want = self.expected();
        let now_right = || async {
            let snapshot = life.snapshot(&self.shop);
            tokio::task::spawn_blocking(move || all_rows(&snapshot).expect("rows")).await.expect("no panic") == want
        };
        // Changes of persons come over a log of their own, which nothing tells the end of.
        eventually(what, now_right).await;
        let snapshot = life.snapshot(&self.shop);
        let (what, want) = (what.to_owned(), want.clone());
        let checked = tokio::task::spawn_blocking(move || {
            assert_eq!(rows_by_chunks(&snapshot, ALL_TIMES).expect("rows"), events_of(&want), "{what}");
            let persons: BTreeSet<u32> = want.iter().map(|row| row["person"].parse().expect("a number")).collect();
            let known: BTreeSet<u32> = snapshot.persons().expect("persons").iter().collect();
            assert_eq!(known, persons, "{what}: persons");
        });
        checked.await.expect("no panic");
    }

    /// Someone who is nobody's part.
    fn anybody(&self, dice: &mut Dice) -> u32 {
        self.survivor(1 + dice.below(40) as u32 * 5_000)
    }

    /// Whether it can be seen of rows when something happens to this person.
    fn is_seen(&self, person: u32) -> bool {
        let mut origins: BTreeSet<u32> = self.expected().iter().map(|row| row["origin"].parse().expect("a number")).collect();
        while let Some(origin) = origins.pop_first() {
            if origin == person {
                return true;
            }
            origins.extend(self.steps.get(&origin));
        }
        false
    }

    async fn merge(&mut self, life: &Life, dice: &mut Dice) {
        let (from, into) = (self.anybody(dice), self.anybody(dice));
        if from != into && self.is_seen(from) {
            self.links += 1;
            self.steps.insert(from, into);
            life.change_persons(&self.shop, self.links, vec![Change::Merged(PersonMerged { from, into })]).await;
        }
    }

    async fn unmerge(&mut self, life: &Life, dice: &mut Dice) {
        let known: Vec<(u32, u32)> = self.steps.iter().map(|(from, into)| (*from, *into)).filter(|(from, _)| self.is_seen(*from)).collect();
        if let Some((from, into)) = known.get(dice.below(known.len().max(1) as u64) as usize).copied() {
            self.links += 1;
            self.steps.remove(&from);
            life.change_persons(&self.shop, self.links, vec![Change::Unmerged(PersonUnmerged { from, into })]).await;
        }
    }

    async fn delete(&mut self, life: &Life, dice: &mut Dice) {
        let person = self.anybody(dice);
        let deletion = life.index().delete_person(&self.shop, person, "").await.expect("a deletion");
        assert_eq!((deletion.person, deletion.deleted_us), (person, self.clock.now_us()));
        let parts: Vec<u32> = self.steps.keys().copied().filter(|part| self.survivor(*part) == person).collect();
        self.deleted.extend(parts.into_iter().chain([person]).map(|origin| (origin, deletion.deleted_us)));
    }

    fn keep(&mut self, rig: &Rig, days: u32) {
        self.days_kept = days;
        let tenants = switched(&[("shop", true)]).into_iter();
        rig.tenants.replace(tenants.map(|tenant| Tenant { event_retention_days: days, ..tenant }).collect());
    }

    async fn send(&mut self, life: &Life, mut events: Vec<ResolvedEvent>, dice: &mut Dice) {
        for event in &mut events {
            // Some were on their way for long.
            let delay = if dice.one_in(5) { dice.below(20) as i64 * 3_600_000_000 } else { 0 };
            event.received_at_us = self.clock.now_us() - delay;
            if dice.one_in(10) {
                event.kind = EventKind::Identify as i32;
                (event.items, event.properties, event.unregistered) = Default::default();
            }
        }
        let batch: Vec<_> = events.iter().map(|event| (self.shop.clone(), event.clone())).collect();
        life.send(&batch, 20).await;
        life.settled(&self.shop).await;
        self.sent.extend(events);
    }
}

async fn start(rig: &Rig, shop: &TenantId) -> Life {
    let life = rig.start().await;
    life.index().load(shop).await.expect("the tenant loads");
    life.settled(shop).await;
    life
}

async fn live(mut rig: Rig, seed: u64, steps: usize) {
    let clock = ManualClock::new(START_US + 30 * DAY_US);
    rig.clock = Arc::new(clock.clone());
    rig.config.month_after_days = 0;
    let mut dice = Dice(seed);
    let shop = tenant("shop");
    let mut all = events(seed, 40 * steps);
    let mut world =
        World { shop: shop.clone(), clock, sent: vec![], steps: BTreeMap::new(), deleted: BTreeMap::new(), days_kept: 0, links: 0 };
    let mut life = start(&rig, &shop).await;
    for step in 0..steps {
        world.clock.advance_us(dice.below(30) as i64 * 3_600_000_000);
        let what = match dice.below(12) {
            0..=3 => {
                let some = all.split_off(all.len() - dice.below(60).min(all.len() as u64) as usize);
                world.send(&life, some, &mut dice).await;
                "events were sent"
            }
            4 => {
                life.index().flush(&shop).await.expect("a flush");
                "the tail was written"
            }
            5 => {
                life.index().flush(&shop).await.expect("a flush");
                life.index().merge(&shop).await.expect("merges");
                "files were merged"
            }
            6 | 7 => {
                world.merge(&life, &mut dice).await;
                "persons were merged"
            }
            8 => {
                world.unmerge(&life, &mut dice).await;
                "a merge was undone"
            }
            9 => {
                world.delete(&life, &mut dice).await;
                "a person was deleted"
            }
            10 => {
                life.index().purge(&shop).await.expect("a purge");
                "files were purged"
            }
            _ if dice.one_in(2) => {
                // Shorter and shorter: what was removed from files does not come back.
                world.keep(
                    &rig,
                    match world.days_kept {
                        0 => 31,
                        31 => 29,
                        _ => 10,
                    },
                );
                "less is kept"
            }
            _ => {
                life.crash().await;
                life = start(&rig, &shop).await;
                "the process was started anew"
            }
        };
        world.check(&life, &format!("step {step} of {seed}: {what}")).await;
    }
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_come_from_every_layout_whatever_happens_to_persons() {
    let shop = [("shop", true)];
    for seed in [3, 5] {
        for partitions in [1, 8] {
            live(Rig::new(TempStore::sqlite(), TempLog::embedded().with_partitions(partitions), &shop), seed, 40).await;
        }
    }
    for (rig, seed) in Rig::each(&shop).into_iter().zip(7..) {
        live(rig, seed, 40).await;
    }
    let mut cramped = Rig::embedded(&shop);
    (cramped.config.cache_bytes_max, cramped.config.pass_bytes_max) = (0, 20_000);
    live(cramped, 11, 40).await;
}

/// Rows in files and tail, also those that are not shown.
async fn stored(life: &Life, shop: &TenantId) -> u64 {
    life.index().status(shop).await.expect("a status").rows
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_did_is_hidden_when_the_deletion_is_answered_and_gone_after_a_purge() {
    for mut rig in Rig::each(&[("shop", true)]) {
        let clock = ManualClock::new(START_US + 10 * DAY_US);
        rig.clock = Arc::new(clock.clone());
        let shop = tenant("shop");
        let received = |events: &mut Vec<ResolvedEvent>, at: i64| events.iter_mut().for_each(|event| event.received_at_us = at);
        let mut all = events(23, 600);
        received(&mut all, clock.now_us());
        let of = |events: &[ResolvedEvent]| events.iter().map(|event| (shop.clone(), event.clone())).collect::<Vec<_>>();
        let life = start(&rig, &shop).await;
        life.send(&of(&all[..400]), 20).await;
        life.settled(&shop).await;
        // 5001 is part of 10001, which files show under its own number, and the tail under its old one.
        life.merge_persons(&shop, 1, &[(5_001, 10_001)]).await;
        let merged = |person| if person == 5_001 { 10_001 } else { person };
        let want = expected(all[..400].iter(), merged);
        eventually("persons are merged", || async { life.rows_with_traits(&shop).await == want }).await;
        life.index().flush(&shop).await.expect("a flush");
        life.send(&of(&all[400..500]), 20).await;
        life.settled(&shop).await;

        let mut client = AnalyticsServiceClient::new(local(life.started.routes.clone()));
        let request = |person: u32, id: &str| DeletePersonEventsRequest { person, request_id: id.to_owned() };
        let answer = client.delete_person_events(for_tenant(&shop, request(5_001, "r1"))).await.expect("an answer").into_inner();
        assert_eq!(answer.person, 10_001);
        let is_left = |event: &&ResolvedEvent| ![5_001, 10_001].contains(&event.person);
        let want = expected(all[..500].iter().filter(is_left), merged);
        assert_eq!(life.rows_with_traits(&shop).await, want, "hidden at once");
        assert!(stored(&life, &shop).await > events_of(&want).len() as u64);

        // The same request again, later, is the same deletion; under another person it is a mistake.
        clock.advance_us(3_600_000_000);
        let again = client.delete_person_events(for_tenant(&shop, request(5_001, "r1"))).await.expect("an answer").into_inner();
        assert_eq!(again, answer);
        for wrong in [request(7, "r1"), request(0, "r2"), request(1, &"r".repeat(200))] {
            let refused = client.delete_person_events(for_tenant(&shop, wrong)).await.expect_err("a mistake");
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
        life.crash().await;

        // What comes in later stays, and what was on its way goes.
        let life = start(&rig, &shop).await;
        assert_eq!(life.rows_with_traits(&shop).await, want, "after a crash");
        received(&mut all, clock.now_us() - 3_600_000_000);
        life.send(&of(&all[500..550]), 20).await;
        received(&mut all, clock.now_us());
        life.send(&of(&all[550..]), 20).await;
        life.settled(&shop).await;
        received(&mut all, clock.now_us() - 3_600_000_000);
        let mut late = all.split_off(550);
        received(&mut late, clock.now_us());
        let mut want = expected(all.iter().filter(is_left).chain(&late), merged);
        want.sort();
        // (The first 500 were received at the first hour, as these now say.)
        assert_eq!(life.rows_with_traits(&shop).await, want, "a new consent");
        life.index().flush(&shop).await.expect("a flush");
        assert!(life.index().purge(&shop).await.expect("a purge") > 0);
        assert_eq!(stored(&life, &shop).await, events_of(&want).len() as u64, "gone from files");
        assert_eq!(life.rows_with_traits(&shop).await, want, "purged");
        assert_eq!(life.index().purge(&shop).await.expect("a purge"), 0);
        eventually("replaced files are deleted", || async {
            rig.files().len() == life.index().status(&shop).await.expect("a status").files as usize
        })
        .await;
        // The record of the deletion goes when the log has none of it any more.
        clock.advance_us(31 * DAY_US);
        life.index().purge(&shop).await.expect("a purge");
        let mut ghost = events(29, 1);
        (ghost[0].person, ghost[0].received_at_us) = (5_001, START_US);
        life.send(&of(&ghost), 1).await;
        life.settled(&shop).await;
        assert_eq!(life.rows_with_traits(&shop).await.len(), want.len() + expected(ghost.iter(), merged).len());
        life.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_administers_a_tenant_deletes_persons() {
    use segue_runtime::caller::{Caller, Role};
    let rig = Rig::embedded(&[("shop", true)]);
    let shop = tenant("shop");
    let life = start(&rig, &shop).await;
    let mut client = AnalyticsServiceClient::new(local(life.started.routes.clone()));
    for (role, is_allowed) in [(Role::Editor, false), (Role::Admin, true)] {
        let mut request = tonic::Request::new(DeletePersonEventsRequest { person: 1, request_id: String::new() });
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        Caller { tenant: Some(shop.clone()), role, key: String::new(), source: String::new() }.attach(&mut headers);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        assert_eq!(client.delete_person_events(request).await.is_ok(), is_allowed, "{role:?}");
    }
    life.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_kept_no_longer_are_hidden_at_once_and_their_files_dropped_or_rewritten() {
    for mut rig in Rig::each(&[("shop", true)]) {
        let clock = ManualClock::new(START_US + 20 * DAY_US);
        rig.clock = Arc::new(clock.clone());
        let shop = tenant("shop");
        let mut all = events(37, 400);
        all.iter_mut().for_each(|event| event.time_us = START_US + (event.time_us - START_US) % (10 * DAY_US));
        // Days 0 and 1 have events alone; their files go as a whole.
        all.iter_mut().filter(|event| event.time_us < START_US + 2 * DAY_US).for_each(|event| event.traits.clear());
        let life = start(&rig, &shop).await;
        life.send(&all.iter().map(|event| (shop.clone(), event.clone())).collect::<Vec<_>>(), 20).await;
        life.settled(&shop).await;
        life.index().flush(&shop).await.expect("a flush");
        let files = rig.files().len();
        let keep = |days: u32| {
            let tenants = switched(&[("shop", true)]).into_iter();
            rig.tenants.replace(tenants.map(|tenant| Tenant { event_retention_days: days, ..tenant }).collect());
        };
        let kept = |from: i64| -> Vec<Row> {
            let is_kept = |row: &Row| row["event"] == TRAITS || row["ts"].parse::<i64>().expect("a number") >= START_US + from * DAY_US;
            expected(all.iter(), |person| person).into_iter().filter(is_kept).collect()
        };
        keep(18);
        assert_eq!(life.rows_with_traits(&shop).await, kept(2), "hidden at once");
        assert!(life.index().purge(&shop).await.expect("a purge") > 0);
        assert_eq!(life.rows_with_traits(&shop).await, kept(2), "purged");
        assert_eq!(stored(&life, &shop).await, events_of(&kept(1)).len() as u64, "gone from files but for the last day");
        eventually("files are dropped", || async { rig.files().len() < files }).await;
        // As time goes on, without a change of what is wanted.
        clock.advance_us(DAY_US);
        assert_eq!(life.rows_with_traits(&shop).await, kept(3));
        life.index().purge(&shop).await.expect("a purge");
        assert_eq!(stored(&life, &shop).await, events_of(&kept(2)).len() as u64);
        keep(0);
        assert_eq!(life.rows_with_traits(&shop).await, kept(2), "what is removed does not come back");
        life.crash().await;
        let life = start(&rig, &shop).await;
        assert_eq!(life.rows_with_traits(&shop).await, kept(2), "after a crash");
        life.crash().await;
    }
}

/// Rows, Σ persons, Σ times, and rows of one person; checks the order of each batch.
fn figures(snapshot: &Snapshot, person: u32) -> [i128; 4] {
    let columns = vec![Column::Person, Column::Ts, Column::Sequence];
    let pass = snapshot.pass(ScanRequest { events: None, range_us: ALL_TIMES, columns, persons: None });
    let mut figures = [0; 4];
    for chunk in 0..=snapshot.persons_max() / PERSONS_PER_CHUNK {
        let persons = chunk * PERSONS_PER_CHUNK..(chunk + 1) * PERSONS_PER_CHUNK;
        for batch in pass.scan(persons.clone()) {
            let batch = batch.expect("a batch").batch;
            let of_person = batch.column(0).as_primitive::<UInt32Type>().values();
            let times = batch.column(1).as_primitive::<Int64Type>().values();
            let sequences = batch.column(2).as_primitive::<UInt64Type>().values();
            assert!(
                (1..batch.num_rows()).all(|row| {
                    (of_person[row - 1], times[row - 1], sequences[row - 1]) <= (of_person[row], times[row], sequences[row])
                })
            );
            assert!(of_person.iter().all(|person| persons.contains(person)));
            figures[0] += batch.num_rows() as i128;
            figures[1] += of_person.iter().map(|person| i128::from(*person)).sum::<i128>();
            figures[2] += times.iter().map(|ts| i128::from(*ts)).sum::<i128>();
            figures[3] += of_person.iter().filter(|known| **known == person).count() as i128;
        }
    }
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_files_with_many_row_groups_keeps_every_row_in_the_order_of_persons() {
    let mut rig = Rig::embedded(&[("shop", true)]);
    rig.config.flush_rows_max = 90_000;
    let shop = tenant("shop");
    let life = start(&rig, &shop).await;
    let event = |number: u64| ResolvedEvent {
        person: 1 + (number * 7_919 % 260_000) as u32,
        name: if number.is_multiple_of(5) { "rare".to_owned() } else { "e".to_owned() },
        message_id: number.to_string(),
        time_us: START_US + (number * 104_729 % 86_400_000_000) as i64,
        ..ResolvedEvent::default()
    };
    const ROWS: u64 = 360_000;
    life.index().import(&shop, 0, (0..ROWS).map(move |number| Ok(event(number)))).await.expect("an import");
    // A few persons at the one end become part of somebody at the other.
    let merges: Vec<(u32, u32)> = (2..300).map(|person| (person, 259_000)).collect();
    life.merge_persons(&shop, 1, &merges).await;
    let survivor = |person: u32| if (2..300).contains(&person) { 259_000 } else { person };
    let mut want = [i128::from(ROWS), 0, 0, 0];
    for number in 0..ROWS {
        let person = survivor(event(number).person);
        want[1] += i128::from(person);
        want[2] += i128::from(event(number).time_us);
        want[3] += i128::from(person == 259_000);
    }
    let read = || async {
        let snapshot = life.snapshot(&shop);
        tokio::task::spawn_blocking(move || figures(&snapshot, 259_000)).await.expect("no panic")
    };
    eventually("persons are merged", || async { read().await == want }).await;
    let before = life.index().status(&shop).await.expect("a status").files;
    assert!(life.index().merge(&shop).await.expect("merges") > 0);
    assert!(life.index().status(&shop).await.expect("a status").files < before);
    assert_eq!(read().await, want, "merged");
    life.index().forget_columns();
    assert_eq!(read().await, want, "decoded anew");
    life.crash().await;
}
