//! Lists on every store there is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use futures::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use roaring::RoaringBitmap;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, PersonSet};
use segue_testkit::stores;

use super::members::Change;
use super::{chunks, store as lists};
use crate::config::Config;
use crate::definitions::numbers::Persons;
use crate::definitions::on_stores::{definitions, tenant};
use crate::definitions::tests::{all, list, not};
use crate::definitions::{Definitions, SET_BYTES_MAX, forget_list_changes};
use crate::error::AudienceError;

fn set(numbers: impl IntoIterator<Item = u32>) -> RoaringBitmap {
    numbers.into_iter().collect()
}

fn change(add: &[u32], remove: &[u32]) -> Change {
    let (add, remove) = (set(add.iter().copied()), set(remove.iter().copied()));
    let persons = Persons { survivors: &add | &remove, merged: BTreeMap::new() };
    Change { add, remove, replace: false, persons }
}

async fn persons(definitions: &Definitions, list: &str) -> Result<Vec<u32>> {
    Ok(lists::persons(&definitions.db, &tenant("shop").id, list).await?.iter().collect())
}

async fn changed(definitions: &Definitions) -> Result<Vec<(String, u64, Vec<u32>)>> {
    let changes = definitions.list_changes(&tenant("shop").id).await?;
    Ok(changes.into_iter().map(|change| (change.list, change.revision, change.persons.iter().collect())).collect())
}

#[tokio::test]
async fn a_list_is_changed_and_live_membership_is_told_whom_it_concerns() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop").id;
        let created = definitions.create_list(&shop, "vip", "VIP", "", &set([1, 70_000])).await?;
        assert_eq!(created.size, 2);
        assert_eq!(definitions.create_list(&shop, "vip", "VIP", "", &set([])).await?, created, "made by the same words");
        assert!(matches!(definitions.create_list(&shop, "vip", "V", "", &set([])).await, Err(AudienceError::AlreadyExists { .. })));
        definitions.create_list(&shop, "empty", "Empty", "", &set([])).await?;

        let (list, outcome) = definitions.change_list(&shop, "vip", &change(&[1, 2, u32::MAX], &[70_000, 9])).await?;
        assert_eq!((list.size, list.revision, outcome.added, outcome.removed), (3, 2, 2, 1));
        assert_eq!(persons(&definitions, "vip").await?, [1, 2, u32::MAX]);
        let counted = definitions.changes().await?;
        let (same, outcome) = definitions.change_list(&shop, "vip", &change(&[2], &[9])).await?;
        assert_eq!((same, outcome.added, outcome.removed), (list, 0, 0));
        assert_eq!(definitions.changes().await?, counted, "what changed nothing is no change");
        definitions.change_list(&shop, "vip", &change(&[5], &[])).await?;
        definitions.change_list(&shop, "empty", &change(&[7], &[])).await?;
        let expected = [("empty".to_owned(), 2, vec![7]), ("vip".to_owned(), 3, vec![2, 5, 70_000, u32::MAX])];
        assert_eq!(changed(&definitions).await?, expected);

        // What came in after the look is kept.
        definitions.change_list(&shop, "vip", &change(&[6], &[])).await?;
        let mut tx = definitions.db.begin().await?;
        forget_list_changes(&mut tx, &shop, &[("empty".to_owned(), 2), ("vip".to_owned(), 3)]).await?;
        tx.commit().await?;
        assert_eq!(changed(&definitions).await?, [("vip".to_owned(), 4, vec![6])]);

        let replaced = Change { replace: true, ..change(&[2, 100_000], &[]) };
        let (list, outcome) = definitions.change_list(&shop, "vip", &replaced).await?;
        assert_eq!((list.size, outcome.added, outcome.removed), (2, 1, 4));
        assert_eq!(persons(&definitions, "vip").await?, [2, 100_000]);
        let archived = definitions.archive_list(&shop, "vip", &list.etag()).await?;
        assert_eq!(definitions.archive_list(&shop, "vip", "an old one").await?, archived);
        assert!(matches!(definitions.change_list(&shop, "vip", &change(&[2], &[])).await, Err(AudienceError::Archived { .. })));
        assert!(matches!(definitions.change_list(&shop, "none", &change(&[2], &[])).await, Err(AudienceError::NotFound { .. })));
        assert!(matches!(definitions.archive_list(&shop, "empty", "0-0").await, Err(AudienceError::EtagMismatch { .. })));
    }
    Ok(())
}

#[tokio::test]
async fn changes_that_nobody_looks_at_become_one() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop").id;
        definitions.create_list(&shop, "vip", "VIP", "", &set([])).await?;
        for person in 1..=100 {
            definitions.change_list(&shop, "vip", &change(&[person], &[])).await?;
        }
        assert_eq!(changed(&definitions).await?, [("vip".to_owned(), 101, (1..=100).collect())]);
        let mut tx = definitions.db.begin().await?;
        forget_list_changes(&mut tx, &shop, &[("vip".to_owned(), 90)]).await?;
        tx.commit().await?;
        let (_, revision, left) = changed(&definitions).await?.remove(0);
        assert!(revision == 101 && (91..=100).all(|person| left.contains(&person)), "{left:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_takes_no_more_than_analytics_does() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config { lists_max: 2, ..Config::default() }).await?;
        let shop = tenant("shop").id;
        // Every second number: as much as a chunk can take.
        let chunks = (SET_BYTES_MAX / 8_192) as u32;
        let wide = (0..chunks + 1).fold(set([]), |wide, chunk| wide | RoaringBitmap::from_lsb0_bytes(chunk << 16, &[0x55; 8_192]));
        let error = definitions.create_list(&shop, "wide", "Wide", "", &wide).await.expect_err("too wide");
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
        definitions.create_list(&shop, "narrow", "Narrow", "", &set([1])).await?;
        let all = Change { replace: true, ..Change::default() };
        let too_wide = Change { add: wide.clone(), persons: Persons { survivors: wide, merged: BTreeMap::new() }, ..all };
        assert!(definitions.change_list(&shop, "narrow", &too_wide).await.is_err());
        assert_eq!(persons(&definitions, "narrow").await?, [1], "nothing of it is left");
        definitions.create_list(&shop, "second", "Second", "", &set([])).await?;
        assert!(matches!(definitions.create_list(&shop, "third", "Third", "", &set([])).await, Err(AudienceError::TooMany { .. })));
    }
    Ok(())
}

#[tokio::test]
async fn a_list_in_place_of_its_node_is_whole_or_right_about_who_is_asked() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop").id;
        definitions.create_list(&shop, "vip", "VIP", "", &set([1, 70_000, 200_000])).await?;
        definitions.create_list(&shop, "empty", "Empty", "", &set([])).await?;
        let condition = all(vec![not(list("vip")), list("empty")]);
        let expanded = definitions.expand(&shop, &condition, "c").await?;
        let placed = |numbers: RoaringBitmap, label: &str| Condition {
            node: Some(Node::Persons(PersonSet { numbers: chunks::encode(&numbers), label: label.to_owned() })),
        };
        let whole = all(vec![not(placed(set([1, 70_000, 200_000]), "list vip")), placed(set([]), "list empty")]);
        assert_eq!(definitions.resolve(&shop, &expanded, None).await?, whole);
        assert_eq!(definitions.resolve(&shop, &expanded, Some(&set([5]))).await?, whole, "a small list is not cut");
        let nobody = all(vec![not(placed(set([]), "list vip")), placed(set([]), "list empty")]);
        assert_eq!(definitions.resolve(&shop, &expanded, Some(&set([]))).await?, nobody, "nobody is asked about");
        let cut = lists::persons_among(&definitions.db, &shop, "vip", &set([1, 2, 70_001, 200_000])).await?;
        assert_eq!(cut, set([1, 200_000]));
    }
    Ok(())
}

/// Random changes from several processes at once against a plain set.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_the_same_time_are_all_there_and_the_size_is_right() -> Result<()> {
    for store in stores() {
        let shop = tenant("shop").id;
        let mut processes = Vec::new();
        for _ in 0..3 {
            processes.push(definitions(&store, Config::default()).await?.0);
        }
        processes[0].create_list(&shop, "vip", "VIP", "", &set([])).await?;
        let mut runner = TestRunner::deterministic();
        let number = prop_oneof![0..50u32, 65_500..65_600u32, Just(u32::MAX)];
        let numbers = prop::collection::vec(number, 0..20);
        let steps = prop::collection::vec((0..3usize, numbers), 60).new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        let mut expected = BTreeSet::new();
        for batch in steps.chunks(6) {
            let add =
                async |(process, numbers): &(usize, Vec<u32>)| processes[*process].change_list(&shop, "vip", &change(numbers, &[])).await;
            let outcomes = join_all(batch.iter().map(add)).await;
            let added: u64 = outcomes.into_iter().map(|outcome| outcome.map(|(_, outcome)| outcome.added)).sum::<Result<u64, _>>()?;
            let before = expected.len();
            expected.extend(batch.iter().flat_map(|(_, numbers)| numbers.iter().copied()));
            assert_eq!(added as usize, expected.len() - before, "each person is added once");
            let gone: Vec<u32> = expected.iter().copied().step_by(3).collect();
            let (list, outcome) = processes[0].change_list(&shop, "vip", &change(&[], &gone)).await?;
            expected.retain(|person| !gone.contains(person));
            assert_eq!((list.size as usize, outcome.removed as usize), (expected.len(), gone.len()));
            assert_eq!(persons(&processes[1], "vip").await?, expected.iter().copied().collect::<Vec<_>>());
        }
    }
    Ok(())
}
