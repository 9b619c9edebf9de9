//! Who gets in: keys, kinds of keys, tenants, pretenders, and what happens while the store is away.

use http::Request;
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::ingest::v1::{CollectRequest, GetPipelineStatusRequest, TrackRequest};
use segue_proto::tenancy::v1 as proto;
use segue_runtime::Role;
use tonic::Code;

use crate::start::{Gateway, OPERATOR, config, refusal};

#[tokio::test]
async fn only_known_keys_get_in_and_services_learn_whose_they_are() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let (name, key) = gateway.key("shop", proto::KeyKind::Secret, proto::Role::Editor).await;
    let nobody = gateway.ingest("").await.track(TrackRequest::default()).await;
    assert_eq!(refusal(nobody), (Code::Unauthenticated, "NO_KEY".to_owned()));
    let stranger = gateway.ingest("sgs_rubbish").await.track(TrackRequest::default()).await;
    assert_eq!(refusal(stranger), (Code::Unauthenticated, "UNKNOWN_KEY".to_owned()));

    let mut request = tonic::Request::new(TrackRequest::default());
    for (header, value) in
        [("x-segue-tenant", "victim"), ("x-segue-role", "operator"), ("x-segue-act-as-tenant", "shop"), ("x-other", "kept")]
    {
        request.metadata_mut().insert(header, value.parse().expect("a header"));
    }
    gateway.ingest(&key).await.track(request).await.expect("known");
    let foreign = gateway.ingest_as(&key, "victim").await.track(TrackRequest::default()).await;
    assert_eq!(refusal(foreign), (Code::PermissionDenied, "OTHER_TENANT".to_owned()));
    let mut by_header = gateway.ingest("").await;
    let mut request = tonic::Request::new(TrackRequest::default());
    request.metadata_mut().insert("x-api-key", key.parse().expect("a header"));
    by_header.track(request).await.expect("known by the other header");

    let seen = gateway.ingest.0.seen.lock().await.clone();
    assert_eq!(seen.len(), 2, "refused calls never reach the service");
    for seen in &seen {
        assert_eq!(seen.caller.tenant.as_ref().map(|tenant| tenant.as_str()), Some("shop"));
        assert_eq!((seen.caller.role, seen.caller.key.as_str(), seen.caller.source.as_str()), (Role::Editor, name.as_str(), "web"));
        assert!(seen.metadata.get("authorization").is_none() && seen.metadata.get("x-api-key").is_none());
        assert!(seen.metadata.get("x-segue-act-as-tenant").is_none());
    }
    assert_eq!(seen[0].metadata.get("x-other").map(|value| value.to_str().expect("text")), Some("kept"));
}

#[tokio::test]
async fn a_write_key_sends_events_and_nothing_else() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let mut ingest = gateway.ingest(&key).await;
    ingest.track(TrackRequest::default()).await.expect("may");
    let denied = (Code::PermissionDenied, "WRITE_KEY_ONLY_INGESTS".to_owned());
    assert_eq!(refusal(ingest.get_pipeline_status(GetPipelineStatusRequest::default()).await), denied);
    assert_eq!(refusal(gateway.tenancy(&key).await.get_tenant(proto::GetTenantRequest::default()).await), denied);
    let mut channel = IdentityServiceClient::new(gateway.channel().await);
    let mut request = tonic::Request::new(segue_proto::identity::v1::GetPersonRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("a header"));
    assert_eq!(refusal(channel.get_person(request).await), denied);
}

#[tokio::test]
async fn internal_and_unknown_calls_do_not_exist_for_anybody() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let expected = (Code::Unimplemented, "NO_SUCH_CALL".to_owned());
    for key in [gateway.secret_key("shop", proto::Role::Admin).await.as_str(), OPERATOR, ""] {
        assert_eq!(refusal(gateway.ingest_as(key, "shop").await.collect(CollectRequest::default()).await), expected);
        let watched = gateway.tenancy(key).await.watch_tenants(proto::WatchTenantsRequest::default()).await;
        assert_eq!(refusal(watched.map(|_| ())), expected);
        let mut identity = IdentityServiceClient::new(gateway.channel().await);
        assert_eq!(refusal(identity.resolve_batch(segue_proto::identity::v1::ResolveBatchRequest::default()).await), expected);
    }
    assert!(gateway.ingest.0.collected.lock().await.is_empty());
}

#[tokio::test]
async fn operators_act_on_the_tenant_they_name() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let call = GetPipelineStatusRequest::default;
    assert_eq!(refusal(gateway.ingest(OPERATOR).await.get_pipeline_status(call()).await), (Code::InvalidArgument, "NO_TENANT".to_owned()));
    let nowhere = gateway.ingest_as(OPERATOR, "nowhere").await.get_pipeline_status(call()).await;
    assert_eq!(refusal(nowhere), (Code::NotFound, "NO_SUCH_TENANT".to_owned()));
    gateway.ingest_as(OPERATOR, "shop").await.get_pipeline_status(call()).await.expect("may");
    let seen = gateway.ingest.0.seen.lock().await.clone();
    assert_eq!((seen[0].caller.role, seen[0].caller.tenant.as_ref().map(|tenant| tenant.as_str())), (Role::Operator, Some("shop")));
}

#[tokio::test]
async fn a_service_that_the_installation_lacks_is_said_so() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start(store.url()).await;
    gateway.tenant("shop").await;
    let mut identity = IdentityServiceClient::new(gateway.channel().await);
    let mut request = tonic::Request::new(segue_proto::identity::v1::GetPersonRequest::default());
    let key = gateway.secret_key("shop", proto::Role::Analyst).await;
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("a header"));
    assert_eq!(refusal(identity.get_person(request).await), (Code::Unimplemented, "NO_SUCH_SERVICE".to_owned()));
}

#[tokio::test]
async fn while_the_store_is_away_nobody_is_told_that_a_key_is_wrong() {
    for store in segue_testkit::stores() {
        let gateway = Gateway::start(store.url()).await;
        gateway.tenant("shop").await;
        let key = gateway.write_key("shop").await;
        assert_eq!(gateway.http(Request::get("/readyz"), "").await.status(), 200);
        gateway.closing.close().await;
        let answer = gateway.ingest(&key).await.track(TrackRequest::default()).await;
        assert_eq!(refusal(answer), (Code::Unavailable, "KEY_STORE_DOWN".to_owned()));
        assert_eq!(gateway.post("/v1/batch", &key, r#"{"batch":[]}"#).await.status(), 503);
        assert_eq!(gateway.http(Request::get("/readyz"), "").await.status(), 503);
        assert_eq!(gateway.http(Request::get("/healthz"), "").await.status(), 200);
        // Pages still start: the settings hold nothing that must be checked.
        assert_eq!(gateway.http(Request::get(format!("/v1/projects/{key}/settings")), "").await.status(), 200);
    }
}

#[tokio::test]
async fn a_key_that_was_checked_goes_on_for_as_long_as_it_is_remembered() {
    let store = segue_testkit::TempStore::sqlite();
    let gateway = Gateway::start_with(
        store.url(),
        segue_gateway::Config { key_cache_ms: 4_500, ..config() },
        std::sync::Arc::new(segue_model::SystemClock),
    )
    .await;
    gateway.tenant("shop").await;
    let key = gateway.write_key("shop").await;
    let mut ingest = gateway.ingest(&key).await;
    ingest.track(TrackRequest::default()).await.expect("checked");
    gateway.closing.close().await;
    ingest.track(TrackRequest::default()).await.expect("remembered");
}
