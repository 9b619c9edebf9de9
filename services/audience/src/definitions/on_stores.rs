//! Definitions on every store there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use futures::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use segue_model::{ManualClock, TenantId};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Behavior, BehaviorAggregate, Condition, Window};
use segue_runtime::Tenant;
use segue_runtime::transport::local;
use segue_testkit::{TempStore, stores};

use super::change::Content;
use super::tests::{all, any, audience, bucket, has, list, not, segment};
use super::{Definitions, Mode, graph};
use crate::config::Config;
use crate::error::{AudienceError, Kind};
use crate::peers::Peers;
use crate::store::{MIGRATIONS, NAMESPACE};

/// One process with definitions; nobody answers it.
pub(crate) async fn definitions(store: &TempStore, config: Config) -> Result<(Definitions, ManualClock)> {
    let db = store.open(NAMESPACE, MIGRATIONS).await?;
    let nobody = || local(tonic::service::Routes::default());
    let clock = ManualClock::new(1_000_000);
    Ok((Definitions::new(Arc::new(config), db, Peers::new(nobody(), nobody()), Arc::new(clock.clone())), clock))
}

pub(crate) fn tenant(id: &str) -> Tenant {
    Tenant::new(id.parse().expect("a tenant id"), segue_model::module::ModuleSet::default())
}

pub(crate) fn content(condition: Condition) -> Content {
    Content { name: "a name".to_owned(), description: String::new(), condition, mode: Mode::Live, holdout: 0, time_zone: String::new() }
}

/// Counts days.
fn days() -> Condition {
    let aggregate = BehaviorAggregate::DistinctDays.into();
    Condition { node: Some(Node::Behavior(Behavior { window: Some(Window::default()), aggregate, ..Behavior::default() })) }
}

fn said(error: &AudienceError) -> Vec<(String, String)> {
    match error {
        AudienceError::Invalid(faults) => faults.iter().map(|fault| (fault.field.clone(), fault.description.clone())).collect(),
        other => panic!("not invalid: {other}"),
    }
}

async fn changes(definitions: &Definitions, tenant: &TenantId) -> Result<u64> {
    Ok(definitions.changes().await?.get(tenant).copied().unwrap_or_default())
}

#[tokio::test]
async fn creating_the_same_again_answers_what_there_is_and_anything_else_is_refused() -> Result<()> {
    for store in stores() {
        let (definitions, clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop");
        let created = definitions.create(&shop, Kind::Segment, "s", content(bucket("a", 0, 5))).await?;
        assert_eq!((created.version, created.revision, created.archived, created.created_us), (1, 1, false, 1_000_000));
        clock.set_us(2_000_000);
        assert_eq!(definitions.create(&shop, Kind::Segment, "s", content(bucket("a", 0, 5))).await?, created);
        let error = definitions.create(&shop, Kind::Segment, "s", content(bucket("a", 0, 6))).await.expect_err("another one");
        assert!(matches!(error, AudienceError::AlreadyExists { .. }));
        assert_eq!(changes(&definitions, &shop.id).await?, 1, "what changed nothing is no change");
        assert_eq!(definitions.find(&shop.id, Kind::Segment, "s").await?.as_ref(), Some(&created));
        assert_eq!(definitions.find(&shop.id, Kind::Audience, "s").await?, None);
        assert_eq!(definitions.find(&tenant("other").id, Kind::Segment, "s").await?, None, "another tenant has none");
        for id in ["", "S", "s\0", "' OR 1=1 --"] {
            assert_eq!(definitions.find(&shop.id, Kind::Segment, id).await?, None, "{id:?}");
        }
        definitions.archive(&shop.id, Kind::Segment, "s", "").await?;
        let error = definitions.create(&shop, Kind::Segment, "s", content(bucket("a", 0, 5))).await.expect_err("archived");
        assert!(matches!(error, AudienceError::Archived { .. }));
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_condition_is_a_version_and_a_changed_name_is_none() -> Result<()> {
    for store in stores() {
        let (definitions, clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop");
        let first = definitions.create(&shop, Kind::Audience, "a", content(has("email"))).await?;
        clock.set_us(2_000_000);
        let renamed = definitions.update(&shop, Kind::Audience, "a", &first.etag(), |content| content.name = "b".to_owned()).await?;
        assert_eq!((renamed.version, renamed.revision, renamed.updated_us), (1, 2, 2_000_000));
        assert_ne!(renamed.etag(), first.etag());
        let error = definitions.update(&shop, Kind::Audience, "a", &first.etag(), |content| content.holdout = 1).await;
        assert!(matches!(error.expect_err("an old etag"), AudienceError::EtagMismatch { .. }));
        let same = definitions.update(&shop, Kind::Audience, "a", "", |content| content.name = "b".to_owned()).await?;
        assert_eq!(same, renamed, "no change, no revision");
        for (at, change) in [
            (|content: &mut Content| content.condition = has("phone")) as fn(&mut Content),
            |content| content.holdout = 500,
            |content| content.time_zone = "Asia/Seoul".to_owned(),
        ]
        .into_iter()
        .enumerate()
        {
            let changed = definitions.update(&shop, Kind::Audience, "a", "", change).await?;
            assert_eq!(changed.version as usize, at + 2);
        }
        let snapshot = definitions.update(&shop, Kind::Audience, "a", "", |content| content.mode = Mode::Snapshot).await?;
        assert_eq!((snapshot.version, snapshot.revision), (4, 6));
        assert_eq!(definitions.find(&shop.id, Kind::Audience, "a").await?.as_ref(), Some(&snapshot));
        let versions = definitions.versions(&shop.id, Kind::Audience, "a", u32::MAX, 3).await?;
        let told: Vec<_> = versions.iter().map(|v| (v.version, v.condition.clone(), v.holdout, v.time_zone.as_str())).collect();
        assert_eq!(told, [(4, has("phone"), 500, "Asia/Seoul"), (3, has("phone"), 500, ""), (2, has("phone"), 0, "")]);
        assert_eq!(definitions.versions(&shop.id, Kind::Audience, "a", 2, 3).await?.len(), 1);
        let error = definitions.update(&shop, Kind::Audience, "b", "", |_| ()).await.expect_err("there is none");
        assert!(matches!(error, AudienceError::NotFound { .. }));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_in_use_is_not_archived_and_what_is_archived_is_not_used() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop");
        definitions.create(&shop, Kind::Segment, "s", content(bucket("a", 0, 5))).await?;
        definitions.create(&shop, Kind::Segment, "t", content(not(segment("s")))).await?;
        definitions.create(&shop, Kind::Audience, "a", content(all(vec![segment("s"), segment("t")]))).await?;
        let AudienceError::InUse { by, .. } = definitions.archive(&shop.id, Kind::Segment, "s", "").await.expect_err("in use") else {
            panic!("another error")
        };
        assert_eq!(by, ["segment t", "audience a"]);
        let archived = definitions.archive(&shop.id, Kind::Audience, "a", "").await?;
        assert!(archived.archived);
        assert_eq!(definitions.archive(&shop.id, Kind::Audience, "a", "an old one").await?, archived, "it is archived already");
        assert!(definitions.kept(&shop.id).await?.is_empty());
        assert!(matches!(definitions.kept_one(&shop.id, "a").await.expect_err("archived"), AudienceError::Archived { .. }));
        assert!(matches!(definitions.kept_one(&shop.id, "b").await.expect_err("none"), AudienceError::NotFound { .. }));
        definitions.archive(&shop.id, Kind::Segment, "t", "").await?;
        let error = definitions.create(&shop, Kind::Audience, "b", content(segment("t"))).await.expect_err("archived");
        assert_eq!(said(&error)[0], ("audience.condition.member_of.segment".to_owned(), "the segment `t` is archived".to_owned()));
        let error = definitions.restore(&shop, Kind::Audience, "a").await.expect_err("it refers to what is archived");
        assert_eq!(said(&error)[0].0, "audience.condition.all.conditions[1].member_of.segment");
        let error = definitions.update(&shop, Kind::Audience, "a", "", |content| content.holdout = 1).await.expect_err("archived");
        assert!(matches!(error, AudienceError::Archived { .. }));
        definitions.restore(&shop, Kind::Segment, "t").await?;
        let restored = definitions.restore(&shop, Kind::Audience, "a").await?;
        assert_eq!((restored.archived, restored.version), (false, 1));
        assert_eq!(definitions.restore(&shop, Kind::Audience, "a").await?, restored);
        let kept = definitions.kept(&shop.id).await?;
        assert_eq!(kept.iter().map(|kept| (kept.id.as_str(), kept.expanded.nodes)).collect::<Vec<_>>(), [("a", 4)]);
    }
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_no_more_than_it_may() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config { segments_max: 2, audiences_max: 1, ..Config::default() }).await?;
        let shop = tenant("shop");
        for id in ["s1", "s2"] {
            definitions.create(&shop, Kind::Segment, id, content(bucket("a", 0, 5))).await?;
        }
        definitions.create(&shop, Kind::Audience, "a", content(segment("s1"))).await?;
        let error = definitions.create(&shop, Kind::Segment, "s3", content(bucket("a", 0, 5))).await.expect_err("a third");
        assert!(matches!(error, AudienceError::TooMany { what: "segments", max: 2, .. }));
        definitions.archive(&shop.id, Kind::Segment, "s2", "").await?;
        definitions.create(&shop, Kind::Segment, "s3", content(bucket("a", 0, 5))).await?;
        assert!(matches!(definitions.restore(&shop, Kind::Segment, "s2").await, Err(AudienceError::TooMany { .. })));
        definitions.create(&tenant("other"), Kind::Segment, "s4", content(bucket("a", 0, 5))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_that_would_break_what_refers_to_it_is_refused_with_the_name_of_it() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config { condition_nodes_max: 10, ..Config::default() }).await?;
        let shop = tenant("shop");
        definitions.create(&shop, Kind::Segment, "s", content(bucket("a", 0, 5))).await?;
        definitions.create(&shop, Kind::Audience, "a", content(any(vec![segment("s"), segment("s"), segment("s")]))).await?;
        let four = all(vec![bucket("a", 0, 5); 3]);
        let error = definitions.update(&shop, Kind::Segment, "s", "", |content| content.condition = four).await.expect_err("13 nodes");
        let expected = "the audience `a` refers to it: with everything that it refers to in place, the condition has more than 10 nodes";
        assert_eq!(said(&error), [("segment.condition".to_owned(), expected.to_owned())]);
        let three = all(vec![bucket("a", 0, 5); 2]);
        let before = definitions.kept_one(&shop.id, "a").await?;
        definitions.update(&shop, Kind::Segment, "s", "", |content| content.condition = three).await?;
        let after = definitions.kept_one(&shop.id, "a").await?;
        assert_eq!((before.version, after.version, after.expanded.nodes), (1, 1, 10));
        assert_ne!(before.fingerprint, after.fingerprint, "it follows the segment");

        let error = definitions.update(&shop, Kind::Segment, "s", "", |content| content.condition = audience("a")).await;
        let cycle = "refers to itself: segment `s` → audience `a` → segment `s`";
        assert_eq!(said(&error.expect_err("a cycle"))[0], ("segment.condition.member_of.audience".to_owned(), cycle.to_owned()));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_kept_follows_the_changes_of_every_process() -> Result<()> {
    for store in stores() {
        let (here, _clock) = definitions(&store, Config::default()).await?;
        let (there, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop");
        assert!(here.kept(&shop.id).await?.is_empty());
        there.create(&shop, Kind::Segment, "s", content(has("email"))).await?;
        there.create(&shop, Kind::Audience, "a", content(segment("s"))).await?;
        let first = here.kept_one(&shop.id, "a").await?;
        there.update(&shop, Kind::Segment, "s", "", |content| content.condition = has("phone")).await?;
        let second = here.kept_one(&shop.id, "a").await?;
        assert_eq!((first.expanded.condition.clone(), second.expanded.condition.clone()), (has("email"), has("phone")));
        there.update(&shop, Kind::Audience, "a", "", |content| content.time_zone = "Asia/Seoul".to_owned()).await?;
        let third = here.kept_one(&shop.id, "a").await?;
        let fingerprints = BTreeSet::from([&first.fingerprint, &second.fingerprint, &third.fingerprint]);
        assert_eq!(fingerprints.len(), 3);
        there.update(&shop, Kind::Audience, "a", "", |content| content.holdout = 7).await?;
        let fourth = here.kept_one(&shop.id, "a").await?;
        assert_eq!((&fourth.fingerprint, fourth.holdout, fourth.version), (&third.fingerprint, 7, 3), "a holdout is no other condition");
        there.archive(&shop.id, Kind::Audience, "a", "").await?;
        assert!(here.kept(&shop.id).await?.is_empty());
        assert_eq!(here.changes().await?, there.changes().await?);
    }
    Ok(())
}

#[tokio::test]
async fn days_of_one_zone_are_not_put_in_place_of_those_of_another() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let mut shop = tenant("shop");
        shop.time_zone = chrono_tz::Asia::Seoul;
        let in_zone = |condition: Condition, time_zone: &str| Content { time_zone: time_zone.to_owned(), ..content(condition) };
        definitions.create(&shop, Kind::Audience, "days", content(days())).await?;
        definitions.create(&shop, Kind::Audience, "timeless", content(has("email"))).await?;
        definitions.create(&shop, Kind::Segment, "s", content(not(audience("days")))).await?;
        definitions.create(&shop, Kind::Audience, "same", in_zone(segment("s"), "Asia/Seoul")).await?;
        definitions.create(&shop, Kind::Audience, "mixed", in_zone(all(vec![audience("timeless"), days()]), "UTC")).await?;
        let error = definitions.create(&shop, Kind::Audience, "odd", in_zone(segment("s"), "UTC")).await.expect_err("other days");
        let (field, description) = said(&error).remove(0);
        assert_eq!(field, "audience.time_zone");
        assert!(
            description.starts_with("the days and months of the audience `days` are those of Asia/Seoul, these would be"),
            "{description}"
        );
        let error = definitions.update(&shop, Kind::Audience, "days", "", |content| content.time_zone = "UTC".to_owned()).await;
        let (field, description) = said(&error.expect_err("others refer to it")).remove(0);
        assert_eq!(field, "audience.condition");
        assert!(description.starts_with("the audience `same` refers to it: the days and months"), "{description}");
        let error = definitions.update(&shop, Kind::Audience, "timeless", "", |content| content.condition = days()).await;
        assert_eq!(said(&error.expect_err("now it counts days"))[0].0, "audience.condition");
    }
    Ok(())
}

#[tokio::test]
async fn pages_follow_one_another_by_id() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop");
        for id in ["b", "a", "d", "c", "a-1", "a_1"] {
            definitions.create(&shop, Kind::Segment, id, content(bucket("a", 0, 5))).await?;
        }
        definitions.create(&shop, Kind::Audience, "b", content(bucket("a", 0, 5))).await?;
        definitions.archive(&shop.id, Kind::Segment, "c", "").await?;
        let ids = async |with_archived: bool| -> Result<Vec<String>> {
            let (mut ids, mut after) = (Vec::new(), String::new());
            loop {
                let page = definitions.page(&shop.id, Kind::Segment, &after, with_archived, 2).await?;
                let Some(last) = page.last() else { return Ok(ids) };
                after = last.id.clone();
                ids.extend(page.into_iter().map(|stored| stored.id));
            }
        };
        let sorted: BTreeSet<String> = ids(true).await?.into_iter().collect();
        assert_eq!(sorted.len(), 6);
        assert_eq!(ids(true).await?.len(), 6, "each once");
        assert_eq!(ids(false).await?.len(), 5);
    }
    Ok(())
}

#[tokio::test]
async fn a_ring_is_kept_for_who_comes_to_wait() -> Result<()> {
    let store = TempStore::sqlite();
    let (definitions, _clock) = definitions(&store, Config::default()).await?;
    let changed = definitions.changed();
    definitions.create(&tenant("shop"), Kind::Segment, "s", content(bucket("a", 0, 5))).await?;
    changed.notified().await;
    Ok(())
}

/// Several processes at once make random definitions refer to one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_the_same_time_never_make_a_cycle_nor_use_what_is_archived() -> Result<()> {
    const IDS: [&str; 4] = ["a", "b", "c", "d"];
    for store in stores() {
        let shop = tenant("shop");
        let mut processes = Vec::new();
        for _ in 0..4 {
            processes.push(definitions(&store, Config::default()).await?.0);
        }
        for id in IDS {
            processes[0].create(&shop, Kind::Segment, id, content(bucket("a", 0, 5))).await?;
        }
        let mut runner = TestRunner::deterministic();
        let step = (0..4usize, 0..4usize, prop::collection::vec(0..4usize, 0..3), 0..10u8);
        let steps = prop::collection::vec(step, 200).new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        for batch in steps.chunks(8) {
            let act = async |(process, id, refers, kind): &(usize, usize, Vec<usize>, u8)| {
                let (definitions, id) = (&processes[*process], IDS[*id]);
                let condition = all(refers.iter().map(|at| segment(IDS[*at])).collect());
                match kind {
                    0 => definitions.archive(&shop.id, Kind::Segment, id, "").await.map(drop),
                    1 => definitions.restore(&shop, Kind::Segment, id).await.map(drop),
                    _ => definitions.update(&shop, Kind::Segment, id, "", |content| content.condition = condition).await.map(drop),
                }
            };
            for outcome in join_all(batch.iter().map(act)).await {
                match outcome {
                    Ok(()) | Err(AudienceError::Invalid(_) | AudienceError::InUse { .. } | AudienceError::Archived { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let graph = processes[0].graph(&shop.id).await?;
            for ((kind, id), definition) in graph.definitions.iter().filter(|(_, definition)| !definition.archived) {
                let expanded = super::expand::expand(&graph, processes[0].limits(), &definition.condition, "c", Some((*kind, id)));
                assert!(expanded.is_ok(), "{id}: {expanded:?}");
                assert!(!graph.dependents_of(*kind, id).contains(&(*kind, id.as_str())), "{id} depends on itself");
            }
        }
        let counted = changes(&processes[0], &shop.id).await?;
        let revisions = processes[0].page(&shop.id, Kind::Segment, "", true, 10).await?;
        assert_eq!(counted, revisions.iter().map(|stored| stored.revision).sum::<u64>(), "every change is counted once");
    }
    Ok(())
}

#[tokio::test]
async fn lists_and_kinds_stay_in_what_is_kept_and_unknown_lists_are_refused() -> Result<()> {
    for store in stores() {
        let (definitions, _clock) = definitions(&store, Config::default()).await?;
        let shop = tenant("shop");
        let condition = all(vec![list("vip"), has("email")]);
        let error = definitions.create(&shop, Kind::Audience, "a", content(condition.clone())).await.expect_err("no list");
        assert_eq!(
            said(&error)[0],
            ("audience.condition.all.conditions[0].member_of.list".to_owned(), "there is no list `vip`".to_owned())
        );
        definitions.create_list(&shop.id, "vip", "VIP", "", &[1, 2].into_iter().collect()).await?;
        definitions.create(&shop, Kind::Audience, "a", content(condition.clone())).await?;
        let kept = definitions.kept_one(&shop.id, "a").await?;
        assert_eq!(kept.expanded.condition, condition);
        assert!(kept.expanded.lists.contains("vip") && kept.expanded.identifier_kinds.contains("email"));
        assert_eq!(graph::references(&condition), BTreeSet::from([(Kind::List, "vip")]));
        let AudienceError::InUse { by, .. } = definitions.archive_list(&shop.id, "vip", "").await.expect_err("in use") else {
            panic!("another error")
        };
        assert_eq!(by, ["audience a"]);
    }
    Ok(())
}
