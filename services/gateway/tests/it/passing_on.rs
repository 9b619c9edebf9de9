//! Calls on their way through: metadata, streams, deadlines, cancellation, breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use segue_model::SystemClock;
use segue_proto::events::v1::Event;
use segue_proto::ingest::v1::{GetPipelineStatusRequest, TrackRequest, TrackStreamRequest};
use segue_proto::tenancy::v1 as proto;
use segue_runtime::transport::{self, ClusterToken};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use crate::ingest::SmallIngest;
use crate::start::{Gateway, OPERATOR, config, refusal};
use crate::web;

const LIMIT: Duration = Duration::from_secs(20);

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

fn asking(what: &str) -> Request<TrackRequest> {
    let mut request = Request::new(TrackRequest { events: vec![Event::default(); 3] });
    request.metadata_mut().insert("x-test", what.parse().expect("a header"));
    request
}

#[tokio::test]
async fn metadata_answers_and_errors_pass_unchanged_both_ways() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let mut ingest = gateway.ingest(&key).await;
    let answer = ingest.track(asking("echo")).await.expect("an answer");
    assert_eq!(answer.metadata().get("x-test-back").and_then(|value| value.to_str().ok()), Some("echo"));
    assert_eq!(answer.into_inner().accepted, 3);
    let status = ingest.track(asking("fail")).await.expect_err("as asked");
    assert_eq!((status.code(), status.message()), (Code::Aborted, "as asked: ü"));
    assert_eq!(tonic_types::StatusExt::get_details_error_info(&status).expect("details").reason, "OWN_REASON");
    // Compressed messages are not looked into.
    let mut compressed = gateway.ingest(&key).await.send_compressed(tonic::codec::CompressionEncoding::Gzip);
    assert_eq!(refusal(compressed.track(asking("echo")).await).0, Code::Unimplemented, "this service takes none; its own word");
}

#[tokio::test]
async fn a_stream_goes_only_as_fast_as_the_service_reads() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let reads = &gateway.ingest.0.reads;
    reads.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let (sender, receiver) = mpsc::channel(1);
    let mut ingest = gateway.ingest(&gateway.write_key("shop").await).await;
    let mut answers = within(ingest.track_stream(ReceiverStream::new(receiver))).await.expect("a stream").into_inner();

    // 64 KiB each: the windows on the way hold a few hundred of them, not thousands.
    let message = |sequence| TrackStreamRequest { sequence, events: vec![Event { name: "x".repeat(64 << 10), ..Event::default() }] };
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(1), sender.send(message(sent + 1))).await.is_ok() {
        sent += 1;
        assert!(sent < 2_000, "nobody reads, yet the sender was never stopped");
    }
    assert_eq!(gateway.ingest.0.messages_read.load(Ordering::SeqCst), 0);
    // Once the service reads, everything arrives in order, both ways at once.
    reads.add_permits(1_000_000);
    for sequence in 1..=sent {
        let answer = within(answers.message()).await.expect("no error").expect("an answer");
        assert_eq!(answer.acknowledged_sequence, sequence);
    }
    drop(sender);
    assert!(within(answers.message()).await.expect("a good end").is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_behind() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let mut ingest = gateway.ingest(&gateway.write_key("shop").await).await;
    {
        let call = ingest.track(asking("hang"));
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("it hangs"),
            () = gateway.ingest.0.hanging.notified() => {}
        }
    }
    within(gateway.ingest.0.dropped.raised()).await;
}

#[tokio::test]
async fn deadlines_of_clients_hold_here_and_behind() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    // By hand, since the generated client keeps the deadline itself.
    let began = Instant::now();
    let answer = within(web::track(&gateway, &key, &[("x-test", "hang"), ("grpc-timeout", "200m")])).await;
    assert_eq!(answer.header("grpc-status"), "4", "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(190));
    within(gateway.ingest.0.dropped.raised()).await;

    let impatient = segue_gateway::Config { call_timeout_ms: 100, ..config() };
    let gateway = Gateway::start_with(store.url(), impatient, Arc::new(SystemClock)).await;
    let mut ingest = gateway.ingest(&gateway.write_key("shop").await).await;
    let status = within(ingest.track(asking("hang"))).await.expect_err("the default deadline");
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked_or_its_module_switched_off() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let (name, key) = gateway.key("shop", proto::KeyKind::Write, proto::Role::Unspecified).await;
    let mut tenancy = gateway.tenancy(OPERATOR).await;
    let gateway = &gateway;
    let open = |key: String| async move {
        let (sender, receiver) = mpsc::channel(1);
        let mut ingest = gateway.ingest(&key).await;
        let mut answers = within(ingest.track_stream(ReceiverStream::new(receiver))).await.expect("a stream").into_inner();
        sender.send(TrackStreamRequest { sequence: 1, events: Vec::new() }).await.expect("sent");
        within(answers.message()).await.expect("no error").expect("an answer");
        (sender, answers)
    };
    let (_sender, mut answers) = open(key).await;
    tenancy.revoke_key(proto::RevokeKeyRequest { name }).await.expect("revoked");
    assert_eq!(refusal(within(answers.message()).await), (Code::Unauthenticated, "UNKNOWN_KEY".to_owned()));

    let (_sender, mut answers) = open(gateway.write_key("shop").await).await;
    let off = proto::DisableModuleRequest { tenant: "shop".into(), module: proto::Module::Ingest.into(), cascade: true };
    tenancy.disable_module(off).await.expect("off");
    assert_eq!(refusal(within(answers.message()).await), (Code::FailedPrecondition, "MODULE_DISABLED".to_owned()));
    within(gateway.ingest.0.dropped.raised()).await;
}

#[tokio::test]
async fn a_service_that_is_down_is_unavailable() {
    let store = segue_testkit::TempStore::sqlite();
    let nobody =
        transport::remote(&format!("http://127.0.0.1:{}", segue_testkit::free_port()), &ClusterToken::default()).expect("an address");
    let gateway =
        Gateway::start_on(store.url(), config(), Arc::new(SystemClock), SmallIngest::new(), nobody, CancellationToken::new()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let answer = within(gateway.ingest(&key).await.track(asking("echo"))).await;
    assert_eq!(refusal(answer), (Code::Unavailable, "SERVICE_UNREACHABLE".to_owned()));
    assert_eq!(gateway.post("/v1/batch", &key, r#"{"batch":[]}"#).await.status(), 503);
}

#[tokio::test]
async fn a_service_in_the_same_process_is_called_the_same_way() {
    let store = segue_testkit::TempStore::sqlite();
    let ingest = SmallIngest::new();
    let local = transport::local(ingest.routes());
    let gateway = Gateway::start_on(store.url(), config(), Arc::new(SystemClock), ingest, local, CancellationToken::new()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let mut client = gateway.ingest(&key).await;
    assert_eq!(client.track(asking("echo")).await.expect("an answer").into_inner().accepted, 3);
    let answer = within(web::track(&gateway, &key, &[("x-test", "hang"), ("grpc-timeout", "100m")])).await;
    assert_eq!(answer.header("grpc-status"), "4", "{answer:?}");
    within(gateway.ingest.0.dropped.raised()).await;
    assert_eq!(gateway.post("/v1/batch", &key, r#"{"batch":[]}"#).await.status(), 200);
}

/// Not a test of behaviour: `cargo test -p segue-gateway -- --ignored --nocapture what_a_call_costs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, to be read by people"]
async fn what_a_call_costs() {
    let store = segue_testkit::TempStore::sqlite();
    let ingest = SmallIngest::new();
    let gateway = Gateway::start_with(store.url(), config(), Arc::new(SystemClock)).await;
    gateway.tenant("shop").await;
    let key = gateway.secret_key("shop", proto::Role::Editor).await;
    let mut through = gateway.ingest(&key).await;
    let local = transport::local(ingest.routes());
    let in_process = Gateway::start_on(store.url(), config(), Arc::new(SystemClock), ingest, local, CancellationToken::new()).await;
    let mut through_local = in_process.ingest(&key).await;
    let address = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let routes = SmallIngest::new().routes().into_axum_router();
        #[allow(clippy::disallowed_methods, reason = "ends with the test")]
        tokio::spawn(segue_runtime::server::serve(listener, routes, Default::default(), CancellationToken::new()));
        address
    };
    let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("up");
    let caller = segue_runtime::Caller {
        tenant: Some("shop".parse().expect("an id")),
        role: segue_runtime::Role::Editor,
        key: "keys/1".into(),
        source: String::new(),
    };
    let mut direct = segue_proto::ingest::v1::ingest_service_client::IngestServiceClient::new(channel);
    let plain = || {
        let mut headers = http::HeaderMap::new();
        caller.attach(&mut headers);
        let mut request = Request::new(GetPipelineStatusRequest::default());
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        request
    };
    const CALLS: u32 = 3_000;
    let began = Instant::now();
    for _ in 0..CALLS {
        direct.get_pipeline_status(plain()).await.expect("an answer");
    }
    let without = began.elapsed() / CALLS;
    let began = Instant::now();
    for _ in 0..CALLS {
        through.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("an answer");
    }
    let with = began.elapsed() / CALLS;
    let began = Instant::now();
    for _ in 0..CALLS {
        through_local.get_pipeline_status(GetPipelineStatusRequest::default()).await.expect("an answer");
    }
    let with_local = began.elapsed() / CALLS;
    println!("direct {without:?}, through the gateway {with:?}, through the gateway with the service in its process {with_local:?}");
}
