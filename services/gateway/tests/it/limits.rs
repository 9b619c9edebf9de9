//! Quotas: calls are refused, streams slowed down; the clock is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use segue_model::ManualClock;
use segue_proto::events::v1::Event;
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_proto::ingest::v1::{GetPipelineStatusRequest, TrackRequest, TrackStreamRequest, TrackStreamResponse};
use segue_proto::tenancy::v1 as proto;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt;

use crate::start::{Gateway, Keyed, config, refusal};

const START_US: i64 = 1_700_000_000_000_000;

async fn start(store: &segue_testkit::TempStore) -> (Gateway, ManualClock) {
    let clock = ManualClock::new(START_US);
    (Gateway::start_with(store.url(), config(), Arc::new(clock.clone())).await, clock)
}

fn batch(bytes: usize) -> TrackRequest {
    TrackRequest { events: vec![Event { name: "x".repeat(bytes), ..Event::default() }] }
}

#[tokio::test]
async fn calls_over_the_quota_are_refused_with_the_time_to_wait() {
    let store = segue_testkit::TempStore::sqlite();
    let (gateway, clock) = start(&store).await;
    gateway.tenant("shop").await;
    gateway.tenant("rival").await;
    gateway.set_limits("shop", 2, 0).await;
    let key = gateway.secret_key("shop", proto::Role::Analyst).await;
    let write_key = gateway.write_key("shop").await;
    let mut ingest = gateway.ingest(&key).await;
    for _ in 0..2 {
        ingest.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("within the quota");
    }
    let status = ingest.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect_err("used up");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("how long");
    assert!(delay > Duration::from_millis(490) && delay < Duration::from_millis(510), "{delay:?}");
    // The quota is the tenant's, whatever the key and the door.
    let answer = gateway.post("/v1/track", &write_key, "{}").await;
    assert_eq!((answer.status(), answer.header("retry-after")), (429, "1"));
    assert_eq!(answer.json()["code"], "TOO_MANY_REQUESTS");
    // Others have their own.
    let mut other = gateway.ingest(&gateway.secret_key("rival", proto::Role::Analyst).await).await;
    other.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("another quota");
    clock.advance_us(500_001);
    ingest.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("one came back");
    // A higher quota holds at once.
    gateway.set_limits("shop", 1_000, 0).await;
    for _ in 0..100 {
        ingest.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("within the new quota");
    }
}

#[tokio::test]
async fn ingestion_over_the_quota_of_bytes_is_refused_until_the_debt_is_paid() {
    let store = segue_testkit::TempStore::sqlite();
    let (gateway, clock) = start(&store).await;
    gateway.tenant("shop").await;
    gateway.set_limits("shop", 0, 1_000).await;
    let key = gateway.secret_key("shop", proto::Role::Editor).await;
    let mut ingest = gateway.ingest(&key).await;
    ingest.track(batch(5_000)).await.expect("larger than a second's worth, and there was credit");
    assert_eq!(refusal(ingest.track(batch(1)).await), (Code::ResourceExhausted, "TOO_MANY_BYTES".to_owned()));
    ingest.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("only ingestion counts bytes");
    let answer = gateway.post("/v1/batch", &key, r#"{"batch":[]}"#).await;
    assert_eq!((answer.status(), answer.json()["code"].as_str()), (429, Some("TOO_MANY_BYTES")));
    let seconds: u64 = answer.header("retry-after").parse().expect("whole seconds");
    assert!((4..=6).contains(&seconds), "{seconds}");
    clock.advance_us(6_000_000);
    assert_eq!(gateway.post("/v1/batch", &key, r#"{"batch":[]}"#).await.status(), 200);
}

#[tokio::test]
async fn a_stream_over_the_quota_waits_instead_of_failing() {
    let store = segue_testkit::TempStore::sqlite();
    let (gateway, clock) = start(&store).await;
    gateway.tenant("shop").await;
    gateway.set_limits("shop", 0, 10_000).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let mut ingest = gateway.ingest(&gateway.write_key("shop").await).await;
    let mut answers = ingest.track_stream(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
    let message = |sequence, bytes| TrackStreamRequest { sequence, events: batch(bytes).events };
    sender.send(message(1, 15_000)).await.expect("sent");
    assert_eq!(answers.message().await.expect("no error").expect("an answer").acknowledged_sequence, 1);
    // In debt now: the next message stays outside while the clock stands still, and nothing fails.
    sender.send(message(2, 10)).await.expect("sent");
    let early = tokio::time::timeout(Duration::from_millis(1_500), answers.message()).await;
    assert!(early.is_err(), "{early:?}");
    clock.advance_us(1_000_000);
    let answer = tokio::time::timeout(Duration::from_secs(10), answers.message()).await.expect("let through").expect("no error");
    assert_eq!(answer.expect("an answer").acknowledged_sequence, 2);
}

type Stream = (tokio::sync::mpsc::Sender<TrackStreamRequest>, tonic::Streaming<TrackStreamResponse>);

async fn open(ingest: &mut IngestServiceClient<Keyed>) -> Result<Stream, tonic::Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    Ok((sender, ingest.track_stream(ReceiverStream::new(receiver)).await?.into_inner()))
}

#[tokio::test]
async fn open_streams_are_counted_per_tenant_and_in_all_and_their_places_come_back() {
    let store = segue_testkit::TempStore::sqlite();
    let limits = segue_gateway::Config { streams_per_tenant_max: 2, streams_max: 3, ..config() };
    let gateway = Gateway::start_with(store.url(), limits, Arc::new(segue_model::SystemClock)).await;
    gateway.tenant("shop").await;
    gateway.tenant("rival").await;
    let mut shop = gateway.ingest(&gateway.write_key("shop").await).await;
    let mut rival = gateway.ingest(&gateway.write_key("rival").await).await;
    let first = open(&mut shop).await.expect("a place");
    let _second = open(&mut shop).await.expect("a place");
    let status = open(&mut shop).await.expect_err("the tenant has two");
    assert!(status.get_details_retry_info().is_some() && status.message().contains("the tenant"), "{status}");
    assert_eq!(refusal::<()>(Err(status)), (Code::ResourceExhausted, "TOO_MANY_STREAMS".to_owned()));
    // Calls without streams need no place.
    shop.track(batch(1)).await.expect("no stream");
    let _third = open(&mut rival).await.expect("a place");
    let status = open(&mut rival).await.expect_err("three are open");
    assert!(status.message().contains("this process"), "{status}");
    drop(first);
    let opened = async {
        loop {
            match open(&mut rival).await {
                Ok(stream) => return stream,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
            }
            tokio::task::yield_now().await;
        }
    };
    let _fourth = tokio::time::timeout(Duration::from_secs(10), opened).await.expect("the place came back");
}

#[tokio::test]
async fn a_stream_on_which_nothing_is_sent_ends_and_a_used_one_goes_on() {
    let store = segue_testkit::TempStore::sqlite();
    let limits = segue_gateway::Config { stream_idle_ms: 600, ..config() };
    let gateway = Gateway::start_with(store.url(), limits, Arc::new(segue_model::SystemClock)).await;
    gateway.tenant("shop").await;
    let mut ingest = gateway.ingest(&gateway.write_key("shop").await).await;
    let (sender, mut answers) = open(&mut ingest).await.expect("a stream");
    // Together longer than the limit.
    for sequence in 1..=8 {
        sender.send(TrackStreamRequest { sequence, events: Vec::new() }).await.expect("sent");
        assert_eq!(answers.message().await.expect("open").expect("an answer").acknowledged_sequence, sequence);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), answers.message()).await.expect("ended");
    assert_eq!(refusal(ended), (Code::Unavailable, "STREAM_IDLE".to_owned()));
    tokio::time::timeout(Duration::from_secs(10), gateway.ingest.0.dropped.raised()).await.expect("the call behind ends too");
}
