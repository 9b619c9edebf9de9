//! What comes back from messages: links, providers' reports, the in-app feed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use segue_gateway::Peers;
use segue_model::{ManualClock, SystemClock};
use segue_proto::campaign::v1::message_service_server::{MessageService, MessageServiceServer};
use segue_proto::campaign::v1::*;
use segue_proto::tenancy::v1 as proto;
use segue_runtime::transport;
use segue_runtime::{Caller, Role};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::ingest::SmallIngest;
use crate::start::{Gateway, OPERATOR, config};

/// A small campaign service: it tells what reached it, and answers as the path asks.
#[derive(Debug, Clone, Default)]
struct SmallCampaign(Arc<Mutex<Vec<(FollowRequest, Caller)>>>);

fn none<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl MessageService for SmallCampaign {
    async fn follow(&self, request: tonic::Request<FollowRequest>) -> Result<Response<FollowResponse>, Status> {
        let caller = Caller::of(&request).map_err(|error| Status::unauthenticated(error.to_string()))?;
        let message = request.into_inner();
        let path = message.path.clone();
        self.0.lock().await.push((message, caller));
        if path.contains("away") {
            return Err(Status::unavailable("away"));
        }
        if path.contains("off") {
            return Err(Status::failed_precondition("off"));
        }
        let headers = [
            ("content-type", "text/plain"),
            ("cache-control", "no-store"),
            ("location", "https://shop.example/a"),
            ("set-cookie", "a=b"),
            ("x-segue-tenant", "shop"),
        ];
        let headers: HashMap<String, String> = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let status = if path.contains("odd") { 99 } else { 302 };
        Ok(Response::new(FollowResponse { status, headers, body: b"hello".to_vec() }))
    }

    async fn list_sends(&self, _: tonic::Request<ListSendsRequest>) -> Result<Response<ListSendsResponse>, Status> {
        none()
    }
    async fn get_send(&self, _: tonic::Request<GetSendRequest>) -> Result<Response<Send>, Status> {
        none()
    }
    async fn explain_send(&self, _: tonic::Request<ExplainSendRequest>) -> Result<Response<ExplainSendResponse>, Status> {
        none()
    }
    async fn create_inbox_token(&self, _: tonic::Request<CreateInboxTokenRequest>) -> Result<Response<CreateInboxTokenResponse>, Status> {
        none()
    }
    async fn list_inbox(&self, _: tonic::Request<ListInboxRequest>) -> Result<Response<ListInboxResponse>, Status> {
        none()
    }
}

/// A gateway with a tenant `shop` that has campaigns, and `rival` that has none.
async fn start(store_url: &str, config: segue_gateway::Config, clock: Arc<dyn segue_model::Clock>) -> (Gateway, SmallCampaign) {
    let campaign = SmallCampaign::default();
    let channel = transport::local(Routes::new(MessageServiceServer::new(campaign.clone())));
    let peers = Peers { campaign: Some(channel), ..Peers::default() };
    let gateway = Gateway::start_before(store_url, config, clock, SmallIngest::new(), peers, CancellationToken::new()).await;
    for tenant in ["shop", "rival"] {
        gateway.tenant(tenant).await;
    }
    let on = proto::EnableModuleRequest { tenant: "shop".into(), module: proto::Module::Campaign.into(), with_dependencies: true };
    gateway.tenancy(OPERATOR).await.enable_module(on).await.expect("on");
    let off = proto::DisableModuleRequest { tenant: "rival".into(), module: proto::Module::Ingest.into(), cascade: true };
    gateway.tenancy(OPERATOR).await.disable_module(off).await.expect("off");
    (gateway, campaign)
}

#[tokio::test]
async fn requests_reach_the_campaign_service_of_the_tokens_tenant_with_the_headers_that_matter() {
    let store = segue_testkit::TempStore::sqlite();
    let (gateway, campaign) = start(store.url(), config(), Arc::new(SystemClock)).await;
    let headers = |request: http::request::Builder| {
        request
            .header("user-agent", "mail/1")
            .header("webhook-id", "m1")
            .header("webhook-timestamp", "1")
            .header("webhook-signature", "v1,x")
            .header("cookie", "a=b")
            .header("x-segue-tenant", "victim")
            .header("x-segue-role", "operator")
            .header("content-type", "application/x-www-form-urlencoded")
    };
    let bearer = |request: http::request::Builder| headers(request).header("authorization", "Bearer shop.inbox");
    for (request, body) in [
        (headers(Request::get("/l/shop.abc?utm_source=x")), ""),
        (headers(Request::head("/l/shop.abc")), ""),
        (headers(Request::post("/l/shop.abc")), "List-Unsubscribe=One-Click"),
        (headers(Request::post("/v1/callbacks/shop.abc")), r#"{"events":[]}"#),
        (bearer(Request::get("/v1/inbox?page_size=5")), ""),
        (bearer(Request::post("/v1/inbox/m1/read")), "{}"),
    ] {
        let answer = gateway.http(request.header("origin", "https://shop.example"), body).await;
        assert_eq!(answer.status(), 302);
        let told = ["content-type", "cache-control", "location"].map(|name| answer.header(name).to_owned());
        assert_eq!(told, ["text/plain", "no-store", "https://shop.example/a"]);
        assert!(!answer.head.headers.contains_key("set-cookie") && !answer.head.headers.contains_key("x-segue-tenant"));
        assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    }
    let seen = campaign.0.lock().await;
    let told: Vec<_> = seen.iter().map(|(message, _)| (message.method.as_str(), message.path.as_str(), message.body.len())).collect();
    let wanted = [
        ("GET", "/l/shop.abc?utm_source=x", 0),
        ("HEAD", "/l/shop.abc", 0),
        ("POST", "/l/shop.abc", 26),
        ("POST", "/v1/callbacks/shop.abc", 13),
        ("GET", "/v1/inbox?page_size=5", 0),
        ("POST", "/v1/inbox/m1/read", 2),
    ];
    assert_eq!(told, wanted);
    for (message, caller) in seen.iter() {
        assert_eq!((caller.tenant.as_ref().map(|tenant| tenant.as_str()), caller.role), (Some("shop"), Role::Service));
        let mut names: Vec<_> = message.headers.keys().map(String::as_str).filter(|name| *name != "authorization").collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "user-agent", "webhook-id", "webhook-signature", "webhook-timestamp"]);
    }
    assert_eq!(seen[4].0.headers["authorization"], "Bearer shop.inbox");
}

#[tokio::test]
async fn tokens_of_nobody_and_of_tenants_without_campaigns_lead_nowhere() {
    let store = segue_testkit::TempStore::sqlite();
    let (gateway, campaign) = start(store.url(), config(), Arc::new(SystemClock)).await;
    for path in ["/l/rival.abc", "/l/stranger.abc", "/l/shop", "/l/shop.", "/l/.abc", "/l/%00.abc", "/l/SHOP.abc"] {
        let answer = gateway.http(Request::get(path), "").await;
        assert_eq!((answer.status(), answer.header("content-type")), (404, "text/html; charset=utf-8"), "{path}");
    }
    for path in ["/v1/callbacks/rival.abc", "/v1/callbacks/abc"] {
        let answer = gateway.http(Request::post(path), "{}").await;
        assert_eq!((answer.status(), answer.json()["code"].as_str()), (404, Some("NO_SUCH_LINK")), "{path}");
    }
    for (token, status) in [(None, 401), (Some("Basic shop.abc"), 401), (Some("Bearer abc"), 401), (Some("Bearer rival.abc"), 404)] {
        let request = token.into_iter().fold(Request::get("/v1/inbox"), |request, token| request.header("authorization", token));
        assert_eq!(gateway.http(request, "").await.status(), status, "{token:?}");
    }
    for path in ["/l", "/l/shop.abc/more", "/v1/callbacks", "/v1/callbacks/shop.abc/more"] {
        assert_eq!(gateway.http(Request::post(path), "").await.status(), 404, "{path}");
    }
    assert_eq!(gateway.http(Request::delete("/l/shop.abc"), "").await.status(), 405);
    assert!(campaign.0.lock().await.is_empty());
}

#[tokio::test]
async fn what_the_campaign_service_cannot_do_now_can_be_tried_again() {
    let store = segue_testkit::TempStore::sqlite();
    let (gateway, _) = start(store.url(), config(), Arc::new(SystemClock)).await;
    let page = gateway.http(Request::post("/l/shop.away"), "").await;
    assert_eq!((page.status(), page.header("content-type"), page.header("retry-after")), (503, "text/html; charset=utf-8", "5"));
    let report = gateway.http(Request::post("/v1/callbacks/shop.away"), "{}").await;
    assert_eq!((report.status(), report.json()["code"].as_str()), (503, Some("TRY_AGAIN")));
    assert_eq!(gateway.http(Request::get("/l/shop.off"), "").await.status(), 404);
    assert_eq!(gateway.http(Request::get("/l/shop.odd"), "").await.status(), 503);
    // No campaign service at all.
    let without = Gateway::start_with(store.url(), config(), Arc::new(SystemClock)).await;
    assert_eq!(without.http(Request::get("/l/shop.abc"), "").await.status(), 503);
}

#[tokio::test]
async fn bodies_places_and_quotas_are_those_of_requests_without_a_key() {
    let store = segue_testkit::TempStore::sqlite();
    // One place for requests without a key.
    let small = segue_gateway::Config { http_requests_max: 2, ..config() };
    let (gateway, campaign) = start(store.url(), small, Arc::new(ManualClock::new(1_748_426_400_000_000))).await;
    let report = |bytes: usize| gateway.http(Request::post("/v1/callbacks/shop.abc"), vec![b' '; bytes]);
    assert_eq!(report(256 << 10).await.status(), 302);
    let large = report((256 << 10) + 1).await;
    assert_eq!((large.status(), large.json()["code"].as_str()), (413, Some("TOO_LARGE")));

    let mut slow = tokio::net::TcpStream::connect(gateway.address).await.expect("the gateway listens");
    slow.write_all(b"POST /v1/callbacks/shop.abc HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").await.expect("sent");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(4);
    loop {
        let answer = gateway.http(Request::get("/l/shop.abc"), "").await;
        if answer.status() == 429 {
            assert_eq!(answer.header("retry-after"), "1");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the slow one takes no place");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(slow);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while gateway.http(Request::get("/l/shop.abc"), "").await.status() != 302 {
        assert!(tokio::time::Instant::now() < deadline, "the place does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    gateway.set_limits("shop", 1, 0).await;
    let before = campaign.0.lock().await.len();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(gateway.http(Request::get("/l/shop.abc"), "").await.status());
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(campaign.0.lock().await.len() - before, statuses.iter().filter(|status| **status == 302).count());
    // Whoever makes up links does not use up the calls of those with keys.
    let key = gateway.write_key("shop").await;
    assert_ne!(gateway.post("/v1/track", &key, "{}").await.status(), 429);
}
