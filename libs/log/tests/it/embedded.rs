//! What is particular to the embedded backend: its files.

use std::time::Duration;

use anyhow::Context;
use segue_log::{Log, LogConfig, LogError};
use segue_testkit::TempLog;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::{EVENTS, NOW, batch, noise, read_all, texts};

async fn change(temp: &TempLog, sql: &'static str) -> anyhow::Result<()> {
    let file = temp.folder().expect("it has a folder").join("log/events.sqlite");
    let mut conn = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await?;
    sqlx::query(sql).execute(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_batch_is_named_and_the_others_can_be_read() -> anyhow::Result<()> {
    const DAMAGES: [&str; 4] = [
        // Partition 1, position 3: its id is 1 << 48 | 3.
        "UPDATE batch SET payload = substr(payload, 1, 900) || x'00ff00ff' || substr(payload, 905) WHERE id = (1 << 48) + 3",
        "UPDATE batch SET payload = x'' WHERE id = (1 << 48) + 3",
        "UPDATE batch SET size = size * 1000000 WHERE id = (1 << 48) + 3",
        "DELETE FROM batch WHERE id = (1 << 48) + 3",
    ];
    for damage in DAMAGES {
        let temp = TempLog::embedded();
        let log = temp.open().await?;
        for n in 1..=5 {
            log.append(EVENTS, 1, batch(noise(n, 2_000))).await?;
        }
        log.close().await?;
        change(&temp, damage).await?;

        let log = temp.open().await?;
        assert_eq!(log.read(EVENTS, 1, 0, NOW).await?.len(), 2, "what comes before it: {damage}");
        let error = log.read(EVENTS, 1, 2, NOW).await.unwrap_err();
        assert!(matches!(&error, LogError::Corrupt { topic, partition: 1, position: 3, .. } if topic == "events"), "{damage}: {error}");
        assert!(!error.is_retryable());
        assert_eq!(read_all(&log, EVENTS, 1, 3).await?.len(), 2, "what comes after it: {damage}");
        assert_eq!(log.append(EVENTS, 1, batch("on")).await?.position, 6);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_every_handle_frees_the_log() -> anyhow::Result<()> {
    let temp = TempLog::embedded();
    for n in 1..=3u64 {
        let log = temp.open().await?;
        assert_eq!(log.append(EVENTS, 0, batch(n.to_string())).await?.position, n);
        drop(log);
    }
    let log = temp.open().await?;
    assert_eq!(texts(&read_all(&log, EVENTS, 0, 0).await?), ["1", "2", "3"]);
    Ok(())
}

/// Needs a small file system: `mount -t tmpfs -o size=3m tmpfs <folder>` and `SEGUE_TEST_SMALL_DISK=<folder>`.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
async fn a_full_disk_refuses_appends_and_damages_nothing() -> anyhow::Result<()> {
    let Ok(folder) = std::env::var("SEGUE_TEST_SMALL_DISK") else { return Ok(()) };
    let folder = tempfile::TempDir::new_in(folder)?;
    let config = LogConfig { retention_age: Duration::from_secs(3600), ..LogConfig::new(format!("embedded:{}", folder.path().display())) };
    let ballast = folder.path().join("ballast");
    // More than half: what is in the write-ahead log needs as much room again in the file before the log can shrink.
    std::fs::write(&ballast, vec![0; 1792 << 10])?;
    let log = Log::open(config.clone()).await?;
    let mut written = 0u64;
    let error = loop {
        match log.append(EVENTS, 0, batch(noise(written, 40_000))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk is small");
    };
    assert!(matches!(error, LogError::DiskFull { .. }) && error.is_retryable() && error.is_full(), "{error:?}");
    // Folding the write-ahead log into the file may free a little; then it is full again.
    loop {
        match log.append(EVENTS, 0, batch(noise(written, 40_000))).await {
            Ok(_) => written += 1,
            Err(error) => break assert!(error.is_retryable(), "{error:?}"),
        }
    }
    assert_eq!(log.bounds(EVENTS, 0).await?.last, written);
    // The operator frees a little, and the same handle works again; then a restart.
    std::fs::remove_file(&ballast)?;
    log.append(EVENTS, 0, batch(noise(written, 40_000))).await?;
    written += 1;
    log.close().await?;

    let log = Log::open(config).await.context("reopening")?;
    let all = read_all(&log, EVENTS, 0, 0).await?;
    assert_eq!(all.len() as u64, written);
    assert!(all.iter().all(|b| b.payload[..] == noise(b.position - 1, 40_000)[..]));
    // Retention makes room: deleted pages are used again.
    log.trim_now(i64::MAX / 2).await.context("retention")?;
    assert_eq!(log.append(EVENTS, 0, batch(noise(1, 40_000))).await.context("after retention")?.position, written + 1);
    Ok(())
}
