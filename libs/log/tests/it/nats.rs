//! What is particular to NATS: several processes, consumers that the server loses.

use std::time::Duration;

use futures::TryStreamExt;
use segue_log::{LogError, ReadLimits};
use segue_testkit::TempLog;

use crate::{EVENTS, NOW, batch, read_all, texts};

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_a_log_and_each_others_holds() -> anyhow::Result<()> {
    let Some(temp) = TempLog::nats() else { return Ok(()) };
    let (one, two) = tokio::try_join!(temp.open(), temp.open())?;
    let waiting = two.read(EVENTS, 0, 0, ReadLimits { wait: Duration::from_secs(20), ..NOW });
    let append = one.append(EVENTS, 0, batch("from one"));
    let (read, _) = tokio::try_join!(waiting, append)?;
    assert_eq!(texts(&read), ["from one"]);
    two.append(EVENTS, 0, batch("from two")).await?;
    two.hold(EVENTS, 0, "consumer-of-two", 1).await?;
    one.trim_now(i64::MAX / 2).await?;
    assert_eq!(one.bounds(EVENTS, 0).await?.first, 2, "one knows how far two's consumer got");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_when_the_server_has_lost_its_consumer() -> anyhow::Result<()> {
    let Some(temp) = TempLog::nats() else { return Ok(()) };
    let log = temp.open().await?;
    log.append_all((1..=4u32).map(|n| (EVENTS, 0, batch(n.to_string()))).collect()).await?;
    assert_eq!(log.read(EVENTS, 0, 0, ReadLimits { batches_max: 2, ..NOW }).await?.len(), 2);

    let jetstream = async_nats::jetstream::new(async_nats::connect(&temp.config().url).await?);
    let stream = jetstream.get_stream(format!("{}-events-0", temp.config().prefix)).await?;
    let consumers: Vec<String> = stream.consumer_names().try_collect().await?;
    assert_eq!(consumers.len(), 1, "one consumer serves all calls of a reader");
    stream.delete_consumer(&consumers[0]).await?;

    assert_eq!(texts(&read_all(&log, EVENTS, 0, 2).await?), ["3", "4"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_batch_or_is_missing_is_named() -> anyhow::Result<()> {
    let Some(temp) = TempLog::nats() else { return Ok(()) };
    let log = temp.open().await?;
    log.append(EVENTS, 0, batch("1")).await?;
    let prefix = temp.config().prefix;
    let jetstream = async_nats::jetstream::new(async_nats::connect(&temp.config().url).await?);
    jetstream.publish(format!("{prefix}.events.0.="), "not a batch".into()).await?.await?;
    log.append_all((3..=5u32).map(|n| (EVENTS, 0, batch(n.to_string()))).collect()).await?;
    jetstream.get_stream(format!("{prefix}-events-0")).await?.delete_message(4).await?;

    assert_eq!(texts(&log.read(EVENTS, 0, 0, NOW).await?), ["1"]);
    let error = log.read(EVENTS, 0, 1, NOW).await.unwrap_err();
    assert!(matches!(error, LogError::Corrupt { position: 2, .. }), "{error}");
    assert_eq!(texts(&log.read(EVENTS, 0, 2, NOW).await?), ["3"]);
    let error = log.read(EVENTS, 0, 3, NOW).await.unwrap_err();
    assert!(matches!(error, LogError::Corrupt { position: 4, .. }), "{error}");
    assert_eq!(texts(&log.read(EVENTS, 0, 4, NOW).await?), ["5"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_a_retryable_error() {
    let config = segue_log::LogConfig::new(format!("nats://127.0.0.1:{}", segue_testkit::free_port()));
    let error = segue_log::Log::open(config).await.unwrap_err();
    assert!(matches!(error, LogError::Unavailable { .. }) && error.is_retryable(), "{error}");
}
