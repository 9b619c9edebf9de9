//! The HTTP API of published SDKs.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use segue_model::SystemClock;
use segue_proto::tenancy::v1 as proto;

use crate::start::{Gateway, OPERATOR, config};

const BATCH: &str = r#"{"batch":[{"type":"track","event":"x","anonymousId":null,"userId":"u"}]}"#;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("in memory");
    encoder.finish().expect("in memory")
}

#[tokio::test]
async fn every_route_reaches_ingest_in_its_long_form() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let routes = ["track", "identify", "page", "screen", "group", "alias", "batch", "import"];
    for (path, _) in routes.iter().zip("tipsgabm".chars()) {
        assert_eq!(gateway.post(&format!("/v1/{path}"), &key, BATCH).await.status(), 200);
    }
    for letter in "tipsgabm".chars() {
        assert_eq!(gateway.post(&format!("/v1/{letter}/"), &key, BATCH).await.status(), 200);
    }
    let seen: Vec<_> = gateway.ingest.0.collected.lock().await.iter().map(|(message, _)| message.route.clone()).collect();
    assert_eq!(seen[..8], routes);
    assert_eq!(seen[8..], routes);
    for (path, status) in [("/v1/unknown", 404), ("/elsewhere", 404)] {
        assert_eq!(gateway.post(path, &key, BATCH).await.status(), status);
    }
    assert_eq!(gateway.http(Request::get("/v1/track"), "").await.status(), 405);
    let hello = gateway.http(Request::get("/"), "").await;
    assert_eq!(hello.json()["name"], "segue");
}

#[tokio::test]
async fn bodies_are_taken_however_they_are_packed_and_labelled() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let request = || Request::post("/v1/batch").header("authorization", format!("Bearer {key}")).header("user-agent", "sdk/1");
    let forms: [(http::request::Builder, Vec<u8>); 5] = [
        (request().header("content-type", "text/plain"), BATCH.into()),
        (request().header("content-type", "application/x-www-form-urlencoded"), gzip(BATCH.as_bytes())),
        (request().header("content-encoding", "gzip"), gzip(BATCH.as_bytes())),
        (request().header("content-encoding", "gzip"), BATCH.into()),
        (request(), BATCH.into()),
    ];
    for (request, body) in forms {
        let answer = gateway.http(request, body).await;
        assert_eq!((answer.status(), answer.json()["success"].as_bool()), (200, Some(true)));
    }
    for (message, caller) in gateway.ingest.0.collected.lock().await.iter() {
        assert_eq!((&message.body[..], message.ip.as_str(), message.user_agent.as_str()), (BATCH.as_bytes(), "127.0.0.1", "sdk/1"));
        assert_eq!((caller.tenant.as_ref().map(|tenant| tenant.as_str()), caller.source.as_str()), (Some("shop"), "web"));
    }
}

#[tokio::test]
async fn the_key_may_stand_in_the_user_the_token_the_query_or_the_body() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    assert_eq!(gateway.post("/v1/t", &key, BATCH).await.status(), 200);
    let bearer = Request::post("/v1/t").header("authorization", format!("Bearer {key}"));
    assert_eq!(gateway.http(bearer, BATCH).await.status(), 200);
    assert_eq!(gateway.http(Request::post(format!("/v1/t?writeKey={key}")), BATCH).await.status(), 200);
    let in_body = format!(r#"{{"writeKey":"{key}","batch":[]}}"#);
    assert_eq!(gateway.http(Request::post("/v1/t"), gzip(in_body.as_bytes())).await.status(), 200);
    // Two, of which the first is none of ours.
    let both = Request::post(format!("/v1/t?writeKey={key}")).header("authorization", "Basic bm9ib2R5Og==");
    assert_eq!(gateway.http(both, BATCH).await.status(), 200);
    assert_eq!(gateway.http(Request::post("/v1/t"), BATCH).await.status(), 401);
    let unknown = gateway.post("/v1/t", "sgw_unknown", BATCH).await;
    assert_eq!((unknown.status(), unknown.json()["code"].as_str()), (401, Some("UNKNOWN_KEY")));
    assert_eq!(gateway.http(Request::post("/v1/t"), r#"{"writeKey":"sgw_unknown"}"#).await.status(), 401);
    assert_eq!(gateway.ingest.0.collected.lock().await.len(), 5);
}

#[tokio::test]
async fn bombs_and_giants_are_refused_with_a_reason() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let broken = gzip(BATCH.as_bytes())[..20].to_vec();
    for (body, code) in [(bomb, "TOO_LARGE"), (vec![b' '; 600_000], "TOO_LARGE"), (broken, "UNREADABLE")] {
        let answer = gateway.post("/v1/batch", &key, body).await;
        assert_eq!((answer.status(), answer.json()["code"].as_str()), (400, Some(code)));
    }
    assert!(gateway.ingest.0.collected.lock().await.is_empty());
    // As large as is allowed.
    assert_eq!(gateway.post("/v1/batch", &key, vec![b' '; 512_000]).await.status(), 200);
}

#[tokio::test]
async fn bodies_beyond_the_memory_for_them_wait_outside_and_slow_ones_keep_no_place_of_others() {
    let store = segue_testkit::TempStore::sqlite();
    // One place for those without an early key, and room for one large body.
    let small = segue_gateway::Config {
        http_requests_max: 2,
        http_body_bytes_max: 4_096,
        http_decompressed_bytes_max: 4_096,
        http_buffered_bytes_max: 4_096,
        ..config()
    };
    let gateway = Gateway::start_with(store.url(), small, Arc::new(SystemClock)).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let slow = |head: String, sent: usize| {
        let address = gateway.address;
        async move {
            use tokio::io::AsyncWriteExt;
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("the gateway listens");
            stream.write_all(format!("{head}\r\nhost: x\r\ncontent-length: 4096\r\n\r\n").as_bytes()).await.expect("sent");
            stream.write_all(&vec![b' '; sent]).await.expect("sent");
            stream
        }
    };
    let eventually = async |path: String, body: Vec<u8>, status: u16| {
        let answered = async {
            while gateway.http(Request::post(&path), body.clone()).await.status() != status {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(15), answered).await.expect("in time");
    };
    let (with_key, without_key) = (format!("/v1/t?writeKey={key}"), "/v1/t".to_owned());
    let in_body = format!(r#"{{"writeKey":"{key}","batch":[]}}"#).into_bytes();

    let keyless = slow("POST /v1/t HTTP/1.1".to_owned(), 1).await;
    eventually(without_key.clone(), in_body.clone(), 429).await;
    assert_eq!(gateway.http(Request::post(&with_key), BATCH).await.status(), 200, "the others have places of their own");
    drop(keyless);
    eventually(without_key.clone(), in_body.clone(), 200).await;

    let large = slow(format!("POST {with_key} HTTP/1.1"), 4_000).await;
    eventually(with_key.clone(), vec![b' '; 1_000], 429).await;
    let refused = gateway.http(Request::post(&with_key), vec![b' '; 1_000]).await;
    assert_eq!((refused.header("retry-after"), refused.json()["code"].as_str()), ("1", Some("OVERLOADED")));
    drop(large);
    eventually(with_key, vec![b' '; 1_000], 200).await;
    // A client that is not known, or sends too much, keeps no place while it goes on sending.
    let _strangers = [
        slow("POST /v1/t?writeKey=sgw_unknown HTTP/1.1".to_owned(), 10).await,
        slow("POST /v1/t?writeKey=sgw_unknown HTTP/1.1".to_owned(), 10).await,
    ];
    eventually(format!("/v1/t?writeKey={key}"), BATCH.into(), 200).await;
}

#[tokio::test]
async fn what_ingest_says_becomes_a_status_on_which_sdks_do_the_right_thing() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    for (asked, status) in [
        ("answer-400", 400),
        ("answer-unavailable", 503),
        ("answer-exhausted", 429),
        ("answer-unauthenticated", 503),
        ("answer-invalid", 400),
    ] {
        let answer = gateway.post("/v1/batch", &key, format!(r#"{{"x":"{asked}"}}"#)).await;
        assert_eq!(answer.status(), status, "{asked}");
        if status == 429 {
            assert_eq!((answer.header("retry-after"), answer.json()["code"].as_str()), ("3", Some("LOG_FULL")));
        }
    }
    let off = proto::DisableModuleRequest { tenant: "shop".into(), module: proto::Module::Ingest.into(), cascade: true };
    gateway.tenancy(OPERATOR).await.disable_module(off).await.expect("off");
    let answer = gateway.post("/v1/batch", &key, BATCH).await;
    assert_eq!((answer.status(), answer.json()["code"].as_str()), (403, Some("MODULE_DISABLED")));
}

#[tokio::test]
async fn browsers_may_send_from_any_page() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    let asked = "authorization,content-type,anonymousid,sentat,x-retry-count";
    let preflight = Request::options("/v1/t")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", asked);
    let answer = gateway.http(preflight, "").await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(answer.header("access-control-allow-headers"), asked);
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert!(answer.header("access-control-max-age").parse::<u32>().expect("seconds") >= 600);
    // Refusals can be read too, or the SDK would not see the status.
    let refused = gateway.http(Request::post("/v1/t").header("origin", "https://shop.example"), BATCH).await;
    assert_eq!((refused.status(), refused.header("access-control-allow-origin")), (401, "https://shop.example"));
    assert!(refused.header("access-control-expose-headers").contains("retry-after"));
}

#[tokio::test]
async fn browser_sdks_get_the_settings_they_start_with() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let settings = gateway.http(Request::get(format!("/v1/projects/{key}/settings")).header("x-forwarded-proto", "https"), "").await;
    let segment = &settings.json()["integrations"]["Segment.io"];
    assert_eq!((segment["apiKey"].as_str(), segment["protocol"].as_str()), (Some(key.as_str()), Some("https")));
    assert_eq!(segment["apiHost"], format!("{}/v1", gateway.address));
    assert_eq!(gateway.http(Request::get("/v1/projects/sgw_wrong/settings"), "").await.status(), 404);

    let config = gateway.http(Request::get(format!("/sourceConfig/?p=npm&v=3.34.1&writeKey={key}")), "").await;
    let source = &config.json()["source"];
    assert_eq!((source["enabled"].as_bool(), source["destinations"].as_array().map(Vec::len)), (Some(true), Some(0)));
    assert!(source["id"].is_string() && source["config"].is_object());
    assert_eq!(gateway.http(Request::get("/sourceConfig/"), "").await.status(), 401);
}

#[tokio::test]
async fn forwarded_addresses_count_when_proxies_are_configured() {
    let store = segue_testkit::TempStore::sqlite();
    for (trusted_proxies, ip) in [(0, "127.0.0.1"), (1, "203.0.113.7")] {
        let config = segue_gateway::Config { trusted_proxies, ..config() };
        let gateway = Gateway::start_with(store.url(), config, Arc::new(SystemClock)).await;
        if trusted_proxies == 0 {
            gateway.tenant("shop").await;
        }
        let key = gateway.write_key("shop").await;
        let request = Request::post(format!("/v1/t?writeKey={key}")).header("x-forwarded-for", "6.6.6.6, 203.0.113.7");
        assert_eq!(gateway.http(request, BATCH).await.status(), 200);
        assert_eq!(gateway.ingest.0.collected.lock().await[0].0.ip, ip);
    }
}
