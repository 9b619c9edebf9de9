//! Reading: resuming, waiting, limits, many readers.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use segue_log::{LogError, ReadLimits};
use segue_testkit::logs;

use crate::{EVENTS, NOW, batch, noise, read_all, texts};

#[tokio::test(flavor = "multi_thread")]
async fn reading_resumes_anywhere_and_again_from_before() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        log.append_all((1..=100u32).map(|n| (EVENTS, 0, batch(n.to_string()))).collect()).await?;
        let limits = ReadLimits { batches_max: 7, ..NOW };
        let mut position = 0;
        let mut read = Vec::new();
        loop {
            let batches = log.read(EVENTS, 0, position, limits).await?;
            assert!(batches.len() <= 7);
            let Some(last) = batches.last() else { break };
            position = last.position;
            read.extend(texts(&batches));
        }
        assert_eq!(read, (1..=100).map(|n| n.to_string()).collect::<Vec<_>>());
        for after in [99, 42, 0] {
            assert_eq!(log.read(EVENTS, 0, after, limits).await?[0].position, after + 1);
        }
        let error = log.read(EVENTS, 0, 101, NOW).await.unwrap_err();
        assert!(matches!(error, LogError::BeyondEnd { after: 101, last: 100, .. }), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_limits_split_a_read_and_nothing_is_lost_between_the_parts() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        log.append_all((0..60u64).map(|n| (EVENTS, 0, batch(noise(n, 10_000)))).collect()).await?;
        let limits = ReadLimits { bytes_max: 45_000, ..NOW };
        let mut position = 0;
        let mut reads = 0;
        while position < 60 {
            let batches = log.read(EVENTS, 0, position, limits).await?;
            assert_eq!(batches.len(), 5, "five batches are the first to reach the limit");
            for batch in &batches {
                position += 1;
                assert_eq!((batch.position, &batch.payload[..]), (position, &noise(position - 1, 10_000)[..]));
            }
            reads += 1;
        }
        assert_eq!(reads, 12);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_reader_is_woken_by_an_append_and_an_idle_one_returns_empty_in_time() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        let wait = |wait| ReadLimits { wait, ..NOW };
        let started = Instant::now();
        assert!(log.read(EVENTS, 0, 0, wait(Duration::from_millis(150))).await?.is_empty());
        assert!(started.elapsed() >= Duration::from_millis(140) && started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

        for n in 1..=5u64 {
            let reader = log.read(EVENTS, 0, n - 1, wait(Duration::from_secs(30)));
            let writer = async {
                log.append(EVENTS, 0, batch(n.to_string())).await?;
                Ok(Instant::now())
            };
            let started = Instant::now();
            let (read, _) = tokio::try_join!(reader, writer)?;
            assert_eq!(texts(&read), [n.to_string()]);
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_read_loses_nothing() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        let patient = ReadLimits { wait: Duration::from_secs(30), ..NOW };
        assert!(tokio::time::timeout(Duration::from_millis(50), log.read(EVENTS, 0, 0, patient)).await.is_err());
        log.append(EVENTS, 0, batch("one")).await?;
        assert_eq!(texts(&log.read(EVENTS, 0, 0, patient).await?), ["one"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_follow_while_it_is_written_and_all_see_the_same() -> anyhow::Result<()> {
    const BATCHES: u64 = 300;
    for temp in logs() {
        let log = temp.open().await?;
        let readers = (0..24u16).map(|reader| {
            let log = log.clone();
            async move {
                let partition = reader % 4;
                let mut position = 0;
                while position < BATCHES {
                    for batch in log.read(EVENTS, partition, position, ReadLimits::default()).await? {
                        assert_eq!(batch.position, position + 1);
                        assert_eq!(&batch.payload[..], format!("{partition} {}", batch.position).as_bytes());
                        position = batch.position;
                    }
                }
                Ok::<_, LogError>(())
            }
        });
        let writer = async {
            for n in 1..=BATCHES {
                log.append_all((0..4).map(|partition| (EVENTS, partition, batch(format!("{partition} {n}")))).collect()).await?;
            }
            Ok(())
        };
        tokio::try_join!(try_join_all(readers), writer)?;
        assert_eq!(read_all(&log, EVENTS, 3, 0).await?.len() as u64, BATCHES);
    }
    Ok(())
}
