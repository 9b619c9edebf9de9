//! Appending: order, positions, idempotence, concurrency, limits.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::try_join_all;
use segue_log::{Bounds, Log, LogConfig, LogError, NewBatch};
use segue_testkit::logs;

use crate::{EVENTS, NOW, OTHER, batch, noise, read_all, sequenced, texts};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_keeps_the_order_of_appends_and_counts_positions_from_one() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        assert_eq!(log.bounds(EVENTS, 1).await?, Bounds { first: 1, last: 0 });
        for n in 1..=50u64 {
            assert_eq!(log.append(EVENTS, 1, batch(n.to_string())).await?.position, n);
        }
        log.append(OTHER, 1, batch("other")).await?;
        let all = read_all(&log, EVENTS, 1, 0).await?;
        assert_eq!(all.iter().map(|b| b.position).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
        assert_eq!(texts(&all), (1..=50).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(all.is_sorted_by_key(|b| b.appended_at_us) && all[0].appended_at_us > 1_600_000_000_000_000);
        assert!(read_all(&log, EVENTS, 0, 0).await?.is_empty(), "another partition is untouched");
        assert_eq!(log.bounds(EVENTS, 1).await?, Bounds { first: 1, last: 50 });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_said_of_a_batch_comes_back_also_after_reopening() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let new = NewBatch { events: 77, traceparent: Some(traceparent.to_owned()), ..sequenced("p", 9) };
        log.append(EVENTS, 0, new.clone()).await?;
        log.append(EVENTS, 0, batch(Vec::new())).await?;
        log.close().await?;
        assert!(matches!(log.append(EVENTS, 0, batch("x")).await, Err(LogError::Closed)), "a closed log says so");

        let log = temp.open().await?;
        let read = read_all(&log, EVENTS, 0, 0).await?;
        assert_eq!((read[0].events, read[0].traceparent.as_deref(), &read[0].payload), (77, Some(traceparent), &new.payload));
        assert_eq!((read[1].position, read[1].payload.len(), &read[1].traceparent), (2, 0, &None));
        assert_eq!(log.append(EVENTS, 0, batch("more")).await?.position, 3);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_writes_a_sequence_once_also_after_reopening() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        assert_eq!(log.last_sequence(EVENTS, 2, "a").await?, None);
        assert!(!log.append(EVENTS, 2, sequenced("a", 5)).await?.duplicate);
        assert!(!log.append(EVENTS, 2, sequenced("b", 5)).await?.duplicate, "producers do not know each other");
        assert!(!log.append(EVENTS, 3, sequenced("a", 5)).await?.duplicate, "nor do partitions");
        let again = log.append(EVENTS, 2, sequenced("a", 5)).await?;
        assert!(again.duplicate && again.position == 1);
        assert!(log.append(EVENTS, 2, sequenced("a", 4)).await?.duplicate, "an older one counts as written");
        log.close().await?;

        let log = temp.open().await?;
        assert!(log.append(EVENTS, 2, sequenced("a", 5)).await?.duplicate);
        assert!(!log.append(EVENTS, 2, sequenced("a", 6)).await?.duplicate);
        assert_eq!(log.last_sequence(EVENTS, 2, "a").await?, Some(6));
        assert_eq!(texts(&read_all(&log, EVENTS, 2, 0).await?), ["a 5", "b 5", "a 6"]);
        // Within one call as well.
        let twice = log.append_all(vec![(EVENTS, 2, sequenced("a", 7)), (EVENTS, 2, sequenced("a", 7))]).await?;
        assert_eq!(twice.iter().map(|a| a.duplicate).collect::<Vec<_>>(), [false, true]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_producers_and_plain_senders_lose_nothing_and_keep_their_own_order() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        let senders = (0..8u64).map(|sender| {
            let log = log.clone();
            async move {
                for n in 1..=40u64 {
                    let new = if sender % 2 == 0 { sequenced(&format!("s{sender}"), n) } else { batch(format!("s{sender} {n}")) };
                    log.append(EVENTS, 0, new).await?;
                }
                Ok::<_, LogError>(())
            }
        });
        try_join_all(senders).await?;
        let all = read_all(&log, EVENTS, 0, 0).await?;
        assert_eq!(all.len(), 320);
        for sender in 0..8 {
            let own: Vec<String> = texts(&all).into_iter().filter(|text| text.starts_with(&format!("s{sender} "))).collect();
            assert_eq!(own, (1..=40).map(|n| format!("s{sender} {n}")).collect::<Vec<_>>());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_producer_twice_at_once_writes_each_sequence_once() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        // On NATS two processes: two connections that know nothing of each other. Embedded has one process.
        let second = if temp.folder().is_none() { temp.open().await? } else { log.clone() };
        let run = |log: Log| async move {
            let mut fresh = 0;
            for n in 1..=60 {
                fresh += u32::from(!log.append(EVENTS, 0, sequenced("zombie", n)).await?.duplicate);
            }
            Ok::<_, LogError>(fresh)
        };
        let (one, two) = tokio::try_join!(run(log.clone()), run(second))?;
        assert_eq!(one + two, 60);
        let expected: Vec<String> = (1..=60).map(|n| format!("zombie {n}")).collect();
        assert_eq!(texts(&read_all(&log, EVENTS, 0, 0).await?), expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_appends_at_once_are_all_written_and_one_call_keeps_its_order() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        let appended = try_join_all((0..1000u32).map(|n| log.append(EVENTS, 0, batch(n.to_string())))).await?;
        let positions: BTreeSet<u64> = appended.iter().map(|a| a.position).collect();
        assert_eq!(positions, (1..=1000).collect());

        let call = (0..200u32).map(|n| (if n % 2 == 0 { EVENTS } else { OTHER }, (n % 4) as u16, batch(format!("call {n}")))).collect();
        let appended = log.append_all(call).await?;
        for partition in 0..4u16 {
            let topic = if partition % 2 == 0 { EVENTS } else { OTHER };
            let read = texts(&read_all(&log, topic, partition, 0).await?);
            let own: Vec<&String> = read.iter().filter(|text| text.starts_with("call")).collect();
            let expected: Vec<String> = (0..200).filter(|n| n % 4 == u32::from(partition)).map(|n| format!("call {n}")).collect();
            assert_eq!(own, expected.iter().collect::<Vec<_>>());
        }
        assert_eq!(appended[1].position, 1, "answers stand in the order of the batches");
        assert_eq!(appended[196].position, 1050);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_come_back_whole_and_too_large_ones_are_refused() -> anyhow::Result<()> {
    for temp in logs() {
        let log = Log::open(LogConfig { payload_bytes_max: 6 << 20, ..temp.config() }).await?;
        let payloads = [noise(1, 700 << 10), vec![b'x'; 6 << 20], noise(2, 800 << 10)];
        for payload in &payloads {
            log.append(EVENTS, 0, batch(payload.clone())).await?;
        }
        let read = read_all(&log, EVENTS, 0, 0).await?;
        assert!(read.iter().map(|b| &b.payload[..]).eq(payloads.iter().map(|p| &p[..])));
        let small = segue_log::ReadLimits { bytes_max: 1, ..NOW };
        for after in 0..3 {
            let one = log.read(EVENTS, 0, after, small).await?;
            assert_eq!(one.len(), 1, "the first batch is returned however large it is");
            assert_eq!(one[0].position, after + 1);
        }
        let error = log.append(EVENTS, 0, batch(vec![0; (6 << 20) + 1])).await.unwrap_err();
        assert!(matches!(error, LogError::TooLarge { bytes_max, .. } if bytes_max == 6 << 20), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_cannot_be_used_are_refused_with_a_reason() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        let error = log.append(EVENTS, 4, batch("x")).await.unwrap_err();
        assert!(matches!(error, LogError::NoSuchPartition { partition: 4, partitions: 4, .. }), "{error}");
        for name in ["", "a.b", "a b", "*", &"x".repeat(65)] {
            assert!(matches!(log.append(EVENTS, 0, sequenced(name, 1)).await, Err(LogError::InvalidName { .. })), "{name}");
            assert!(matches!(log.hold(EVENTS, 0, name, 1).await, Err(LogError::InvalidName { .. })), "{name}");
        }
        assert!(matches!(log.append(EVENTS, 0, sequenced("a", u64::MAX)).await, Err(LogError::InvalidName { .. })));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_partition_count_is_refused_and_the_log_is_left_as_it_was() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        log.append(EVENTS, 0, batch("x")).await?;
        log.close().await?;
        let error = Log::open(LogConfig { partitions: 8, ..temp.config() }).await.unwrap_err();
        assert!(matches!(error, LogError::PartitionsMismatch { stored: 4, configured: 8 }), "{error}");
        assert!(error.to_string().contains("log.partitions"));
        let log = tokio::time::timeout(Duration::from_secs(20), temp.open()).await??;
        assert_eq!(texts(&read_all(&log, EVENTS, 0, 0).await?), ["x"]);
    }
    Ok(())
}
