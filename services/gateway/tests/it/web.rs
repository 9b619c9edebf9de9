//! gRPC-Web, as a browser speaks it over HTTP/1.1.

use base64::Engine;
use http::Request;
use prost::Message;
use segue_proto::events::v1::Event;
use segue_proto::ingest::v1::{TrackRequest, TrackResponse};

use crate::start::{Answer, Gateway};

const TRACK: &str = "/segue.ingest.v1.IngestService/Track";

fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(body.len()).expect("small").to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// An empty Track as a browser would call it.
pub(crate) async fn track(gateway: &Gateway, key: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::post(TRACK).header("content-type", "application/grpc-web+proto").header("x-api-key", key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway.http(request, framed(&TrackRequest::default())).await
}

/// The frames of an answer: flag and content.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [flag, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        frames.push((*flag, rest[..length].to_vec()));
        body = &rest[length..];
    }
    frames
}

#[tokio::test]
async fn a_browser_calls_over_http_1_and_reads_answers_and_refusals() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let message = TrackRequest { events: vec![Event::default(); 2] };
    let post = || {
        Request::post(TRACK)
            .header("content-type", "application/grpc-web+proto")
            .header("x-grpc-web", "1")
            .header("origin", "https://shop.example")
            .header("x-segue-tenant", "victim")
    };
    let answer = gateway.http(post().header("authorization", format!("Bearer {key}")), framed(&message)).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/grpc-web+proto"));
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    assert!(answer.header("access-control-expose-headers").contains("grpc-status"));
    let frames = frames(&answer.body);
    assert_eq!(TrackResponse::decode(&frames[0].1[..]).expect("a message").accepted, 2);
    assert_eq!(frames[1].0, 0x80, "trailers come as the last frame");
    assert!(String::from_utf8_lossy(&frames[1].1).contains("grpc-status:0"));
    let seen = gateway.ingest.0.seen.lock().await.clone();
    assert_eq!(seen[0].caller.tenant.as_ref().map(|tenant| tenant.as_str()), Some("shop"));

    let refused = gateway.http(post(), framed(&message)).await;
    assert_eq!(refused.status(), 200);
    assert!(refused.header("grpc-status") == "16" || String::from_utf8_lossy(&refused.body).contains("grpc-status:16"), "{refused:?}");
}

#[tokio::test]
async fn the_text_form_works_and_a_preflight_needs_no_key() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let engine = base64::engine::general_purpose::STANDARD;
    let request = Request::post(TRACK)
        .header("content-type", "application/grpc-web-text")
        .header("accept", "application/grpc-web-text")
        .header("x-api-key", &key);
    let answer = gateway.http(request, engine.encode(framed(&TrackRequest::default()))).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/grpc-web-text+proto"));

    let preflight = Request::options(TRACK)
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-grpc-web,authorization,content-type");
    let answer = gateway.http(preflight, "").await;
    assert_eq!((answer.status(), answer.header("access-control-allow-headers")), (204, "x-grpc-web,authorization,content-type"));
    // Plain gRPC needs HTTP/2.
    let plain = Request::post(TRACK).header("content-type", "application/grpc").header("x-api-key", &key);
    assert_eq!(gateway.http(plain, framed(&TrackRequest::default())).await.status(), 400);
}
