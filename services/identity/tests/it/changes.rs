//! Merges reach the topic `identity` once each and in order, through crashes and an unreachable log.

use std::time::Duration;

use anyhow::Result;
use prost::Message;
use segue_identity::{Config, IDENTITY_CHANGES};
use segue_log::{Log, ReadLimits};
use segue_model::partition;
use segue_proto::events::v1::IdentityChangeBatch;
use segue_proto::events::v1::identity_change::Change;
use segue_testkit::{TempLog, TempStore, logs, stores};

use crate::harness::{Process, log, shop};

/// Every store with every log, each made anew.
fn combinations() -> Vec<(TempStore, TempLog)> {
    stores().into_iter().zip(0..).flat_map(|(_, nth)| logs().into_iter().map(move |log| (stores().swap_remove(nth), log))).collect()
}

/// Reads the tenant's changes until `count` have come: (sequence, from, into).
async fn read_changes(log: &Log, count: usize) -> Result<Vec<(u64, u32, u32)>> {
    let partition = partition::of_identifier(shop().as_str(), "tenant", "", log.partitions());
    let (mut found, mut position) = (Vec::new(), 0);
    while found.len() < count {
        let batches = log.read(IDENTITY_CHANGES, partition, position, ReadLimits::default()).await?;
        anyhow::ensure!(!batches.is_empty(), "only {found:?} came");
        for batch in batches {
            position = batch.position;
            let changes = IdentityChangeBatch::decode(batch.payload)?;
            assert_eq!(changes.tenant, "shop");
            for change in changes.changes {
                let Some(Change::Merged(merged)) = change.change else { anyhow::bail!("a change of no kind") };
                found.push((change.sequence, merged.from, merged.into));
            }
        }
    }
    // Nothing comes after them.
    let limits = ReadLimits { wait: Duration::ZERO, ..ReadLimits::default() };
    assert!(log.read(IDENTITY_CHANGES, partition, position, limits).await?.is_empty());
    Ok(found)
}

#[tokio::test]
async fn merges_appear_on_the_log_in_order_and_once() -> Result<()> {
    for (store, place) in combinations() {
        let log = place.open().await?;
        // Two processes relay the same outbox.
        let first = Process::start(&store, &log, Config::default()).await?;
        let second = Process::start(&store, &log, Config::default()).await?;
        first.resolve("s", 1, &["u:A", "d:x", "d:y", "u:A d:x"]).await?;
        second.resolve("s", 2, &["u:A d:y", "u:B d:z", "e:m", "u:B e:m"]).await?;
        let changes = read_changes(&log, 3).await?;
        assert_eq!(changes.iter().map(|(_, from, into)| (*from, *into)).collect::<Vec<_>>(), [(2, 1), (3, 1), (5, 4)]);
        assert!(changes.is_sorted());
        first.stop().await?;
        second.stop().await?;
        log.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_merged_while_the_log_was_away_is_relayed_later() -> Result<()> {
    for (store, place) in combinations() {
        let (_gone, gone) = log().await?;
        // Opened before it is closed: the embedded log opens a topic at its first use.
        gone.bounds(IDENTITY_CHANGES, 0).await?;
        gone.close().await?;
        let process = Process::start(&store, &gone, Config::default()).await?;
        process.resolve("s", 1, &["u:A", "d:x", "u:A d:x"]).await?;
        process.stop().await?;

        let log = place.open().await?;
        let process = Process::start(&store, &log, Config::default()).await?;
        process.resolve("s", 2, &["d:y", "u:A d:y"]).await?;
        let changes = read_changes(&log, 2).await?;
        assert_eq!(changes.iter().map(|(_, from, into)| (*from, *into)).collect::<Vec<_>>(), [(2, 1), (3, 1)]);
        process.stop().await?;
        log.close().await?;
    }
    Ok(())
}
