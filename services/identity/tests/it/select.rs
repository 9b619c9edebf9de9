//! Many persons at once: by numbers, by identifiers, by what they have.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use roaring::RoaringBitmap;
use segue_identity::Config;
use segue_proto::events::v1::Identifier;
use segue_proto::identity::v1::{
    BatchGetPersonsRequest, GetPersonRequest, ListPersonsRequest, LookupIdentifiersRequest, MergePersonsRequest, SelectIdentifiedRequest,
    SelectSurvivorsRequest, SelectSurvivorsResponse, get_person_request::Who,
};
use segue_runtime::transport::for_tenant;
use segue_store::{Run, on_writer};
use segue_testkit::stores;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Process, identifier, log, other, shop};

fn bytes(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    RoaringBitmap::from_iter(numbers).serialize_into(&mut bytes).expect("memory takes it");
    bytes
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    RoaringBitmap::deserialize_from(bytes).expect("a bitmap").iter().collect()
}

async fn identified(process: &Process, kinds: &[&str], within: Vec<u8>) -> Result<Vec<Vec<u32>>, Status> {
    let request = SelectIdentifiedRequest { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(), within };
    let answer = process.client.clone().select_identified(for_tenant(&shop(), request)).await?.into_inner();
    Ok(answer.persons.iter().map(|persons| numbers(persons)).collect())
}

async fn survivors(process: &Process, of: Vec<u8>) -> Result<SelectSurvivorsResponse, Status> {
    let request = SelectSurvivorsRequest { numbers: of };
    Ok(process.client.clone().select_survivors(for_tenant(&shop(), request)).await?.into_inner())
}

async fn lookup(process: &Process, identifiers: Vec<Identifier>) -> Result<Vec<u32>, Status> {
    let request = LookupIdentifiersRequest { identifiers };
    Ok(process.client.clone().lookup_identifiers(for_tenant(&shop(), request)).await?.into_inner().persons)
}

fn faulty_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    details.bad_request().map_or(Vec::new(), |bad| bad.field_violations.iter().map(|fault| fault.field.clone()).collect())
}

#[tokio::test]
async fn persons_come_in_the_order_asked_for_merged_as_survivors_and_unknown_ones_empty() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A e:m plan=free @100", "d:x plan=pro @50", "u:B p:t", "u:A d:x @2000"]).await?;
        let request = BatchGetPersonsRequest { numbers: vec![3, 2, 99, 1, 3, 0, u32::MAX] };
        let found = process.client.clone().batch_get_persons(for_tenant(&shop(), request)).await?.into_inner().persons;
        assert_eq!(found.iter().map(|person| person.number).collect::<Vec<_>>(), [3, 1, 0, 1, 3, 0, 0]);
        for person in &found {
            if person.number == 0 {
                assert_eq!(*person, Default::default());
            } else {
                let request = GetPersonRequest { who: Some(Who::Number(person.number)) };
                assert_eq!(*person, process.client.clone().get_person(for_tenant(&shop(), request)).await?.into_inner());
            }
        }
        let request = BatchGetPersonsRequest { numbers: vec![1, 2] };
        let found = process.client.clone().batch_get_persons(for_tenant(&other(), request)).await?.into_inner().persons;
        assert_eq!(found, [Default::default(), Default::default()], "another tenant has nobody");
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn identifiers_are_looked_up_in_the_order_asked_for_and_create_nobody() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 1, &["u:A e:m", "d:x", "u:A d:x", "u:B d:y", "logout u:B d:y", "own:\"'\\;--"]).await?;
        let asked = vec![
            identifier("d", "x"),
            identifier("e", "m"),
            identifier("e", "nobody"),
            identifier("u", "B"),
            identifier("d", "y"),
            identifier("u", "m"),
            identifier("u", "A\0"),
            identifier("nul\0", "A"),
            identifier("own", "\"'\\;--"),
            identifier("e", "m"),
            identifier("u", "null"),
            identifier("", ""),
        ];
        assert_eq!(lookup(&process, asked).await?, [1, 1, 0, 3, 0, 0, 0, 0, 4, 1, 0, 0]);
        let page = process.client.clone().list_persons(for_tenant(&shop(), ListPersonsRequest::default())).await?.into_inner();
        assert_eq!(page.persons.len(), 3);
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_has_an_identifier_counts_the_survivor_of_whoever_had_it() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        // 1: user, mail; 2: a device with a token, merged into 1; 3: user; 4: mail alone; 5: a device that was logged out.
        process.resolve("s", 1, &["u:A e:m", "d:x p:t", "u:B", "e:n", "u:A d:x", "u:B d:z", "logout u:B d:z"]).await?;
        let all = identified(&process, &["email", "push_token", "user_id", "device_id", "phone"], Vec::new()).await?;
        assert_eq!(all, [vec![1, 4], vec![1], vec![1, 3], vec![1], vec![]]);
        let of_two = identified(&process, &["email", "push_token", "email"], bytes([2, 3, 900])).await?;
        assert_eq!(of_two, [vec![1], vec![1], vec![1]], "2 means 1");
        assert_eq!(identified(&process, &["email"], bytes([])).await?, [Vec::<u32>::new()], "an empty set is not everybody");
        let answer = survivors(&process, bytes([2, 3, 900])).await?;
        assert_eq!((numbers(&answer.survivors), answer.merged, answer.merged_into), (vec![1, 3], vec![2], vec![1]));
        process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_beyond_the_limits_name_the_field() -> Result<()> {
    let store = segue_testkit::TempStore::sqlite();
    let (_place, log) = log().await?;
    let process = Process::start(&store, &log, Config::default()).await?;
    let mut client = process.client.clone();
    for numbers in [vec![], vec![1; 1_001]] {
        let status = client.batch_get_persons(for_tenant(&shop(), BatchGetPersonsRequest { numbers })).await.expect_err("limit");
        assert_eq!((status.code(), faulty_fields(&status)), (Code::InvalidArgument, vec!["numbers".to_owned()]));
    }
    for count in [0, 10_001] {
        let status = lookup(&process, vec![identifier("u", "A"); count]).await.expect_err("limit");
        assert_eq!(faulty_fields(&status), ["identifiers"]);
    }
    assert_eq!(lookup(&process, vec![identifier("u", "A"); 10_000]).await?.len(), 10_000);
    assert_eq!(faulty_fields(&identified(&process, &[], Vec::new()).await.expect_err("no kinds")), ["kinds"]);
    assert_eq!(faulty_fields(&identified(&process, &["email"; 21], Vec::new()).await.expect_err("kinds")), ["kinds"]);
    let odd = identified(&process, &["email", "E-Mail", "a\0"], Vec::new()).await.expect_err("no kinds");
    assert_eq!(faulty_fields(&odd), ["kinds[1]", "kinds[2]"]);
    for damaged in [vec![0], b"no bitmap".to_vec(), [bytes([1]), vec![0]].concat(), vec![0; (8 << 20) + 1]] {
        assert_eq!(faulty_fields(&identified(&process, &["email"], damaged.clone()).await.expect_err("damaged")), ["within"]);
        assert_eq!(faulty_fields(&survivors(&process, damaged).await.expect_err("damaged")), ["numbers"]);
    }
    assert_eq!(faulty_fields(&survivors(&process, Vec::new()).await.expect_err("nothing")), ["numbers"]);
    let mut everybody = RoaringBitmap::full();
    everybody.optimize();
    let mut wide = Vec::new();
    everybody.serialize_into(&mut wide)?;
    assert_eq!(faulty_fields(&survivors(&process, wide.clone()).await.expect_err("too many")), ["numbers"]);
    assert_eq!(identified(&process, &["email"], wide).await?, [Vec::<u32>::new()]);
    process.stop().await
}

/// Who is who after some events and merges, found out one by one.
async fn holds_for_all_ways(process: &Process, picked: &BTreeSet<u32>) -> Result<()> {
    let (mut root_of, mut having) = (vec![0u32], vec![BTreeSet::new(); 3]);
    const KINDS: [&str; 3] = ["user_id", "email", "device_id"];
    for number in 1.. {
        let request = GetPersonRequest { who: Some(Who::Number(number)) };
        let Ok(person) = process.client.clone().get_person(for_tenant(&shop(), request)).await else { break };
        let person = person.into_inner();
        root_of.push(person.number);
        for identifier in person.identifiers.iter().filter_map(|linked| linked.identifier.as_ref()) {
            if let Some(at) = KINDS.iter().position(|kind| *kind == identifier.kind) {
                having[at].insert(person.number);
            }
        }
    }
    let root = |number: &u32| root_of.get(*number as usize).copied().filter(|root| *root != 0);
    let roots: BTreeSet<u32> = picked.iter().filter_map(root).collect();
    // Enough numbers that nobody has make it read everything instead of looking persons up.
    let many = || picked.iter().copied().chain(1_000_000..1_030_000);
    let all = identified(process, &KINDS, Vec::new()).await?;
    let few = identified(process, &KINDS, bytes(picked.iter().copied())).await?;
    let of_many = identified(process, &KINDS, bytes(many())).await?;
    for (at, having) in having.iter().enumerate() {
        assert_eq!(all[at], having.iter().copied().collect::<Vec<_>>());
        assert_eq!(few[at], having.intersection(&roots).copied().collect::<Vec<_>>());
    }
    assert_eq!(few, of_many);
    let answer = survivors(process, bytes(many())).await?;
    assert_eq!(numbers(&answer.survivors), roots.iter().copied().collect::<Vec<_>>());
    let merged: Vec<(u32, u32)> = answer.merged.into_iter().zip(answer.merged_into).collect();
    let expected = (1u32..).zip(root_of.iter().skip(1).copied()).filter(|(number, root)| number != root && roots.contains(root));
    assert_eq!(merged, expected.collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn every_way_of_asking_finds_the_same_after_random_merges() -> Result<()> {
    let word = prop_oneof![
        (0..6u8).prop_map(|id| format!("u:u{id}")),
        (0..8u8).prop_map(|id| format!("d:d{id}")),
        (0..5u8).prop_map(|id| format!("e:e{id}")),
        Just("logout".to_owned()),
    ];
    let line = prop::collection::vec(word, 1..4).prop_map(|words| words.join(" "));
    let merge = (1..20u32, 1..20u32);
    let case = (prop::collection::vec(line, 1..30), prop::collection::vec(merge, 0..6), prop::collection::btree_set(0..25u32, 0..10));
    for store in stores() {
        let mut runner = TestRunner::deterministic();
        for _ in 0..8 {
            let (_place, log) = log().await?;
            let place = match store.kind() {
                segue_store::DbKind::Sqlite => segue_testkit::TempStore::sqlite(),
                segue_store::DbKind::Postgres => segue_testkit::TempStore::postgres().expect("as before"),
            };
            let process = Process::start(&place, &log, Config::default()).await?;
            let (lines, merges, picked) = case.new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
            process.resolve("s", 1, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            for (from, into) in merges {
                let request = MergePersonsRequest { from, into, force: true, ..MergePersonsRequest::default() };
                let _ = process.client.clone().merge_persons(for_tenant(&shop(), request)).await;
            }
            holds_for_all_ways(&process, &picked).await?;
            process.stop().await?;
        }
    }
    Ok(())
}

const MANY_PERSONS: &str = "INSERT INTO persons (tenant, number, root, first_seen_us, last_seen_us)
    WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
    SELECT 'shop', i, CASE WHEN i % 5 = 0 THEN i - 1 ELSE i END, 1, 1 FROM n";
const MANY_COUNTED: &str = "UPDATE tenants SET persons = 1000000 WHERE tenant = 'shop'";
const MANY_IDENTIFIERS: &str = "INSERT INTO identifiers (tenant, kind, value, person, device, noted, linked_at_us)
    WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
    SELECT 'shop', k.kind, 'somebody' || ((i * 7919) % 1000003) || '@example.com', i, 0, 0, 1 FROM n, (SELECT 'email' AS kind UNION ALL SELECT 'user_id') k";

#[tokio::test]
#[ignore = "a measurement: a million persons, a fifth of them merged"]
async fn a_million_persons_are_selected_in_reasonable_time() -> Result<()> {
    for store in stores() {
        let (_place, log) = log().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        let db = store.open("identity", segue_identity::store::MIGRATIONS).await?;
        process.resolve_for(&shop(), "s", 1, vec![]).await?;
        for sql in [MANY_PERSONS, MANY_IDENTIFIERS, MANY_COUNTED] {
            on_writer!(db, pool => sqlx::query(sql).run(pool).await)?;
        }
        if store.kind() == segue_store::DbKind::Sqlite {
            // Ordinary writes are small and leave no long log behind.
            on_writer!(db, pool => sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").run(pool).await)?;
        }
        let started = Instant::now();
        let found = identified(&process, &["email"], Vec::new()).await?;
        assert_eq!(found[0].len(), 800_000);
        println!("{:?}: all: {:?}", store.kind(), started.elapsed());
        for count in [1_000u32, 1_000, 20_000, 20_000, 100_000, 100_000] {
            let within = bytes((1..=count).map(|at| at * 9 + 1));
            let started = Instant::now();
            let found = identified(&process, &["email"], within.clone()).await?;
            println!("{:?}: {count}: {} in {:?}", store.kind(), found[0].len(), started.elapsed());
            let started = Instant::now();
            let answer = survivors(&process, within).await?;
            println!("{:?}: survivors of {count}, {} merged: {:?}", store.kind(), answer.merged.len(), started.elapsed());
        }
        let asked = (1..=10_000u32).map(|at| identifier("e", &format!("somebody{}@example.com", at * 50))).collect();
        let started = Instant::now();
        assert_eq!(lookup(&process, asked).await?.iter().filter(|person| **person != 0).count(), 10_000);
        println!("{:?}: lookup of 10,000: {:?}", store.kind(), started.elapsed());
        process.stop().await?;
    }
    Ok(())
}
