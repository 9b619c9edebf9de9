//! The same answers from the tail, from files, from merged files, and with merged persons; and only the tenant's own rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use segue_analytics::scan::Snapshot;
use segue_proto::events::v1::ResolvedEvent;

use super::table;
use crate::events::events;
use crate::rig::{Rig, eventually, tenant};

type Cells = Vec<Vec<String>>;

/// Answers of SQL, and the same computed from the events by hand.
async fn check(snapshot: &Arc<Snapshot>, events: &[ResolvedEvent], survivor: impl Fn(u32) -> u32, stage: &str) {
    let by_event = "SELECT event, count(*), count(DISTINCT person), count(DISTINCT device), count(DISTINCT origin) \
                    FROM events GROUP BY event ORDER BY event";
    let mut groups: BTreeMap<&str, (usize, [BTreeSet<u32>; 3])> = BTreeMap::new();
    for event in events {
        let (rows, [persons, devices, origins]) = groups.entry(&event.name).or_default();
        *rows += 1;
        persons.insert(survivor(event.person));
        origins.insert(event.person);
        if event.device != 0 {
            devices.insert(event.device);
        }
    }
    let wanted: Cells = groups
        .into_iter()
        .map(|(name, (rows, [persons, devices, origins]))| {
            let numbers = [rows, persons.len(), devices.len(), origins.len()].map(|number| number.to_string());
            std::iter::once(name.to_owned()).chain(numbers).collect()
        })
        .collect();
    assert_eq!(table(snapshot, by_event).await, wanted, "{stage}");

    let by_person = "SELECT person, count(*), min(ts) = p_first, max(ts) = p_last FROM events \
                     JOIN (SELECT person AS p, first_seen AS p_first, last_seen AS p_last FROM persons) ON p = person \
                     GROUP BY person, p_first, p_last ORDER BY person";
    let mut persons: BTreeMap<u32, usize> = BTreeMap::new();
    for event in events {
        *persons.entry(survivor(event.person)).or_default() += 1;
    }
    let truth = || "true".to_owned();
    let wanted: Cells = persons.iter().map(|(person, rows)| vec![person.to_string(), rows.to_string(), truth(), truth()]).collect();
    assert_eq!(table(snapshot, by_person).await, wanted, "{stage}");

    let devices = "SELECT p.person, p.events, p.devices FROM persons AS p ORDER BY p.person";
    let mut used: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for event in events {
        let devices = used.entry(survivor(event.person)).or_default();
        if event.device != 0 {
            devices.insert(event.device);
        }
    }
    let wanted: Cells =
        persons.iter().map(|(person, rows)| vec![person.to_string(), rows.to_string(), used[person].len().to_string()]).collect();
    assert_eq!(table(snapshot, devices).await, wanted, "{stage}");

    // Every column of every row.
    let whole = "SELECT * FROM events WHERE event LIKE '%_%' ORDER BY message_id";
    let filtered = "SELECT * FROM events WHERE event LIKE '%_%' AND concat(event, '') <> '' ORDER BY message_id";
    let rows = table(snapshot, whole).await;
    assert_eq!(rows.len(), events.len(), "{stage}");
    assert_eq!(rows, table(snapshot, filtered).await, "{stage}");
}

/// Every row of both tables as text, without what depends on where rows lie.
async fn contents(snapshot: &Arc<Snapshot>) -> (Cells, Cells) {
    let persons = table(snapshot, "SELECT * FROM persons ORDER BY person").await;
    (table(snapshot, "SELECT * FROM events ORDER BY message_id").await, persons)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_from_the_tail_from_files_from_merged_files_and_with_merged_persons() {
    for rig in Rig::each(&[("shop", true), ("other", true)]) {
        let (shop, other) = (tenant("shop"), tenant("other"));
        let all = events(21, 900);
        let sent: Vec<_> = all.iter().map(|event| (shop.clone(), event.clone())).collect();
        let noise: Vec<_> = events(22, 40).into_iter().map(|event| (other.clone(), event)).collect();
        let life = rig.start().await;
        life.send(&sent[..300], 7).await;
        life.send(&noise, 7).await;
        life.settled(&shop).await;
        life.settled(&other).await;
        let same = |person| person;
        check(&life.snapshot(&shop), &all[..300], same, "tail").await;
        let tail = contents(&life.snapshot(&shop)).await;

        life.index().flush(&shop).await.expect("a flush");
        check(&life.snapshot(&shop), &all[..300], same, "files").await;
        assert_eq!(contents(&life.snapshot(&shop)).await, tail, "files");
        for part in [&sent[300..600], &sent[600..]] {
            life.send(part, 20).await;
            life.settled(&shop).await;
            check(&life.snapshot(&shop), &all[..life.rows(&shop).await.len()], same, "files and tail").await;
            life.index().flush(&shop).await.expect("a flush");
        }
        let files = contents(&life.snapshot(&shop)).await;
        assert!(life.index().merge(&shop).await.expect("merges") > 0);
        check(&life.snapshot(&shop), &all, same, "merged files").await;
        assert_eq!(contents(&life.snapshot(&shop)).await, files, "merged files");

        let merges: HashMap<u32, u32> = [(1, 50_001), (5_001, 10_001), (195_001, 3)].into();
        let steps: Vec<(u32, u32)> = merges.iter().map(|(from, into)| (*from, *into)).collect();
        life.merge_persons(&shop, 1, &steps).await;
        let survivor = |person: u32| merges.get(&person).copied().unwrap_or(person);
        eventually("merged persons are redirected", || async {
            table(&life.snapshot(&shop), "SELECT count(*) FROM persons WHERE person IN (1, 5001, 195001)").await == [["0"]]
        })
        .await;
        check(&life.snapshot(&shop), &all, survivor, "merged persons").await;

        // The other tenant's rows are its own.
        assert_eq!(table(&life.snapshot(&other), "SELECT count(*) FROM events").await, [["40"]]);
        life.crash().await;
    }
}
