//! A process that dies in the middle of appending: this binary runs itself as the victim.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use segue_log::{Log, LogConfig, LogError};
use segue_testkit::logs;

use crate::{EVENTS, batch, read_all, sequenced, texts};

const URL: &str = "SEGUE_LOG_VICTIM_URL";
const PREFIX: &str = "SEGUE_LOG_VICTIM_PREFIX";
const PRODUCERS: u64 = 8;

/// Appends until it is killed, and says what was acknowledged. Only run by the test below.
#[test]
#[ignore = "the victim of the test below"]
#[allow(clippy::disallowed_methods, reason = "its parent speaks to it through the environment")]
fn victim() {
    let (Ok(url), Ok(prefix)) = (std::env::var(URL), std::env::var(PREFIX)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Log::open(LogConfig { partitions: 4, prefix, ..LogConfig::new(url) }).await.unwrap();
        let senders = (0..PRODUCERS).map(|producer| {
            let log = log.clone();
            async move {
                for n in 1.. {
                    let (name, partition) = (format!("v{producer}"), (producer % 2) as u16);
                    log.append(EVENTS, partition, sequenced(&name, n)).await.unwrap();
                    println!("ACK {producer} {n}");
                }
            }
        });
        futures::future::join_all(senders).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_before_a_kill_is_there_once_and_in_order() -> anyhow::Result<()> {
    for temp in logs() {
        for round in 1..=3usize {
            let mut child = Command::new(std::env::current_exe()?)
                .args(["--exact", "crash::victim", "--ignored", "--nocapture", "--test-threads=1"])
                .env(URL, &temp.config().url)
                .env(PREFIX, &temp.config().prefix)
                .stdout(Stdio::piped())
                .spawn()?;
            let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
            let mut acknowledged = vec![0u64; PRODUCERS as usize];
            let mut count = 0;
            for line in lines {
                // The kill may cut the last line short.
                let line = line.unwrap_or_default();
                let Some(rest) = line.split("ACK ").nth(1) else { continue };
                let mut numbers = rest.split(' ').map(str::parse::<u64>);
                if let (Some(Ok(producer)), Some(Ok(n))) = (numbers.next(), numbers.next()) {
                    acknowledged[producer as usize] = acknowledged[producer as usize].max(n);
                    count += 1;
                    if count == 150 * round {
                        child.kill()?; // SIGKILL; what it said before is still in the pipe
                    }
                }
            }
            child.wait()?;
            assert!(count >= 150 * round, "the victim worked until it was killed ({count})");

            let log = tokio::time::timeout(Duration::from_secs(30), temp.open()).await??;
            for producer in 0..PRODUCERS {
                let name = format!("v{producer}");
                let partition = (producer % 2) as u16;
                let last = log.last_sequence(EVENTS, partition, &name).await?.unwrap_or(0);
                assert!(last >= acknowledged[producer as usize], "{name}: {last} < {}", acknowledged[producer as usize]);
                // A restarted producer repeats from where it thinks it was, and then goes on.
                for n in last.saturating_sub(3).max(1)..=last {
                    assert!(log.append(EVENTS, partition, sequenced(&name, n)).await?.duplicate);
                }
                let all = texts(&read_all(&log, EVENTS, partition, 0).await?);
                let own: Vec<&String> = all.iter().filter(|text| text.starts_with(&format!("{name} "))).collect();
                let expected: Vec<String> = (1..=last).map(|n| format!("{name} {n}")).collect();
                assert_eq!(own, expected.iter().collect::<Vec<_>>());
            }
            log.append(EVENTS, 0, batch("after")).await?;
            log.close().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_log_is_open_in_one_process_at_a_time() -> anyhow::Result<()> {
    let temp = segue_testkit::TempLog::embedded();
    let log = temp.open().await?;
    let error = temp.open().await.unwrap_err();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    log.close().await?;
    temp.open().await?;
    Ok(())
}
