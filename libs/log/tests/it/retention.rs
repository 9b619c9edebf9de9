//! Retention by age and size, holds, back-pressure.

use std::time::{Duration, Instant};

use segue_log::{Bounds, Log, LogConfig, LogError, ReadLimits};
use segue_model::{Clock, SystemClock};
use segue_testkit::logs;

use crate::{EVENTS, NOW, OTHER, batch, noise, read_all, sequenced};

const HOUR_US: i64 = 3_600_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn old_batches_go_once_every_consumer_has_passed_them_and_a_late_reader_is_told() -> anyhow::Result<()> {
    for temp in logs() {
        let log = Log::open(LogConfig { retention_age: Duration::from_secs(3600), ..temp.config() }).await?;
        log.append_all((1..=20u32).map(|n| (EVENTS, 0, batch(n.to_string()))).collect()).await?;
        log.hold(EVENTS, 0, "fast", 18).await?;
        log.hold(EVENTS, 0, "slow", 3).await?;
        let now_us = SystemClock.now_us();
        assert_eq!(log.trim_now(now_us).await?.batches, 0, "nothing is old yet");

        let later_us = now_us + 2 * HOUR_US;
        assert_eq!(log.trim_now(later_us).await?.batches, 3);
        assert_eq!(log.bounds(EVENTS, 0).await?, Bounds { first: 4, last: 20 });
        log.hold(EVENTS, 0, "slow", 10).await?;
        assert_eq!(log.trim_now(later_us).await?.batches, 7);
        let error = log.read(EVENTS, 0, 5, NOW).await.unwrap_err();
        assert!(matches!(error, LogError::Trimmed { after: 5, first_available: 11, .. }), "{error}");
        assert_eq!(read_all(&log, EVENTS, 0, 10).await?.len(), 10);

        // Holds outlive a restart; a consumer told off holds no longer.
        log.close().await?;
        let log = Log::open(LogConfig { retention_age: Duration::from_secs(3600), ..temp.config() }).await?;
        log.bounds(EVENTS, 0).await?; // a topic is known to retention from its first use
        assert_eq!(log.trim_now(later_us).await?.batches, 0);
        log.release(EVENTS, "slow").await?;
        assert_eq!(log.trim_now(later_us).await?.batches, 8);
        log.release(EVENTS, "fast").await?;
        log.trim_now(later_us).await?;
        assert_eq!(log.bounds(EVENTS, 0).await?, Bounds { first: 21, last: 20 });
        assert_eq!(log.usage(EVENTS).await?.batches, 0);
        assert!(read_all(&log, EVENTS, 0, 20).await?.is_empty());
        assert_eq!(log.append(EVENTS, 0, batch("next")).await?.position, 21, "positions never start again");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_remembered_after_its_batches_were_removed() -> anyhow::Result<()> {
    for temp in logs() {
        let config = LogConfig { retention_age: Duration::from_secs(3600), ..temp.config() };
        let log = Log::open(config.clone()).await?;
        for n in 1..=5 {
            log.append(EVENTS, 0, sequenced("old", n)).await?;
        }
        log.append(EVENTS, 0, sequenced("other", 9)).await?;
        for round in 0..2 {
            log.trim_now(SystemClock.now_us() + 2 * HOUR_US).await?;
            assert!(read_all(&log, EVENTS, 0, 6 + round).await?.is_empty());
            // This process knows the position of the message that is gone; another one knows nothing.
            for log in [log.clone(), if temp.folder().is_none() { Log::open(config.clone()).await? } else { log.clone() }] {
                assert!(log.append(EVENTS, 0, sequenced("old", 5 + round)).await?.duplicate);
                assert_eq!(log.last_sequence(EVENTS, 0, "other").await?, Some(9));
            }
            assert!(!log.append(EVENTS, 0, sequenced("old", 6 + round)).await?.duplicate);
        }
        assert_eq!(read_all(&log, EVENTS, 0, 7).await?.len(), 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_over_its_size_loses_its_oldest_batches_and_other_topics_none() -> anyhow::Result<()> {
    for temp in logs() {
        let log = Log::open(LogConfig { retention_bytes: 100_000, ..temp.config() }).await?;
        log.append(OTHER, 0, batch("kept")).await?;
        for n in 0..60u64 {
            log.append(EVENTS, (n % 2) as u16, batch(noise(n, 5_000))).await?;
        }
        log.trim_now(SystemClock.now_us()).await?;
        let usage = log.usage(EVENTS).await?;
        assert!(usage.bytes <= 100_000 && usage.batches >= 12, "{usage:?}");
        for partition in 0..2 {
            let bounds = log.bounds(EVENTS, partition).await?;
            assert_eq!(bounds.last, 30);
            assert!((15..=26).contains(&bounds.first), "both partitions gave their share: {bounds:?}");
            let rest = read_all(&log, EVENTS, partition, bounds.first - 1).await?;
            assert_eq!(rest.len() as u64, 31 - bounds.first);
        }
        assert_eq!(log.usage(OTHER).await?.batches, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_topic_refuses_appends_until_its_consumers_move_on() -> anyhow::Result<()> {
    for temp in logs() {
        let log = Log::open(LogConfig { retention_bytes: 50_000, ..temp.config() }).await?;
        log.hold(EVENTS, 0, "behind", 0).await?;
        let mut written = 0u64;
        let error = loop {
            match log.append(EVENTS, 0, batch(noise(written, 5_000))).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 20, "the limit holds");
        };
        assert!(error.is_retryable() && error.is_full(), "{error}");
        assert!(matches!(&error, LogError::Full { slowest: Some(slowest), .. } if slowest == "behind"), "{error:?}");
        assert!(error.to_string().contains("behind"), "{error}");
        log.append(OTHER, 0, batch("another topic has room")).await?;

        assert_eq!(read_all(&log, EVENTS, 0, 0).await?.len() as u64, written, "nothing was lost");
        log.hold(EVENTS, 0, "behind", written).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        let position = loop {
            match log.append(EVENTS, 0, batch("room again")).await {
                Ok(appended) => break appended.position,
                Err(error) if error.is_full() && Instant::now() < deadline => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        };
        assert_eq!(position, written + 1);
        let read = log.read(EVENTS, 0, written, ReadLimits::default()).await?;
        assert_eq!(&read[0].payload[..], b"room again");
    }
    Ok(())
}
