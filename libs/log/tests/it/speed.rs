//! Not a test but a measurement: `cargo test -p segue-log --test it speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use segue_log::{LogError, NewBatch, ReadLimits};
use segue_testkit::logs;

use crate::{EVENTS, batch, noise};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn appends_and_reads_per_second() -> anyhow::Result<()> {
    for temp in logs() {
        let log = temp.open().await?;
        for (events, senders, each) in [(10u32, 64u64, 200u64), (100, 64, 50), (1000, 16, 20)] {
            // About 150 bytes an event, half of it compressible.
            let payload = [noise(1, 75 * events as usize), vec![b'a'; 75 * events as usize]].concat();
            let from: Vec<u64> = try_join_all((0..4).map(|p| log.bounds(EVENTS, p))).await?.iter().map(|b| b.last).collect();
            let started = Instant::now();
            let appending = try_join_all((0..senders).map(|sender| {
                let (log, payload) = (log.clone(), payload.clone());
                async move {
                    for _ in 0..each {
                        log.append(EVENTS, (sender % 4) as u16, NewBatch { events, ..batch(payload.clone()) }).await?;
                    }
                    Ok::<_, LogError>(())
                }
            }));
            appending.await?;
            let wrote = started.elapsed();
            let batches = senders * each;
            let started = Instant::now();
            try_join_all((0..16u16).map(|reader| {
                let (log, mut position) = (log.clone(), from[usize::from(reader % 4)]);
                async move {
                    let end = position + batches / 4;
                    while position < end {
                        let read = log.read(EVENTS, reader % 4, position, ReadLimits::default()).await?;
                        position = read.last().map_or(position, |b| b.position);
                    }
                    Ok::<_, LogError>(())
                }
            }))
            .await?;
            let per_second = |count: u64, time: Duration| (count as f64 / time.as_secs_f64()) as u64;
            println!(
                "{:?}: {events} events a batch: wrote {} batches/s = {} events/s; 4 readers per partition read {} events/s",
                temp.kind(),
                per_second(batches, wrote),
                per_second(batches * u64::from(events), wrote),
                per_second(4 * batches * u64::from(events), started.elapsed()),
            );
        }
    }
    Ok(())
}
