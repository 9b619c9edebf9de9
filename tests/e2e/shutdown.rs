//! Ending: the first signal drains, so that what is under way is finished, and the process says that all went well.

use std::time::Duration;

use anyhow::ensure;
use segue_proto::ingest::v1::TrackStreamRequest;
use segue_tests::events::{by_event, counts, event};
use segue_tests::installation::Installation;
use tokio_stream::wrappers::ReceiverStream;

const NOON_US: i64 = 1_767_268_800_000_000;

#[tokio::test]
async fn a_signal_drains_open_streams_and_nothing_acknowledged_is_lost() {
    super::for_every_shape(drain).await;
}

async fn drain(mut installation: Installation) -> anyhow::Result<()> {
    let keys = installation.tenant("shop").await?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut answers = keys.gateway.ingest().track_stream(ReceiverStream::new(receiver)).await?.into_inner();
    let mut acknowledged = 0;
    for sequence in 1..=5u64 {
        let events = (0..10).map(|n| event(&format!("{sequence}-{n}"), "tick", NOON_US, &[("user_id", "u1")])).collect();
        sender.send(TrackStreamRequest { sequence, events }).await?;
    }
    while acknowledged < 5 {
        acknowledged = answers.message().await?.map_or(u64::MAX, |answer| answer.acknowledged_sequence);
    }
    ensure!(acknowledged == 5, "the stream ended before the last acknowledgement");
    // The stream is still open; that must not keep any process from ending.
    for at in 0..installation.len() {
        let status = installation.terminate(at, Duration::from_secs(30)).await?;
        ensure!(status.success(), "process {at} ended with {status}:\n{}", installation.log_tail(at));
    }
    for at in 0..installation.len() {
        installation.start_again(at).await.or_else(|error| if at + 1 < installation.len() { Ok(()) } else { Err(error) })?;
    }
    let gateway = segue_node::client::Gateway::connect(&installation.url(), &keys.secret, None).await?;
    gateway.wait_until_indexed().await?;
    let counts = counts(&gateway.analytics().query_events(by_event()).await?.into_inner());
    ensure!(counts == [("tick".to_owned(), (50, 1))].into(), "{counts:?}");
    Ok(())
}
