//! Starting gateways for tests, and talking to them.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use segue_gateway::{Closing, Config, Deps, Peers, Started};
use segue_model::{Clock, SystemClock};
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_proto::tenancy::v1 as proto;
use segue_proto::tenancy::v1::tenancy_service_client::TenancyServiceClient;
use segue_runtime::server::{ServerLimits, serve};
use segue_runtime::transport::{self, ClusterToken};
use segue_runtime::{PeerChannel, Tasks};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::ingest::SmallIngest;

/// Holds in every test, beside the stored one.
pub(crate) const OPERATOR: &str = "an-operator-key-for-tests-0123456789";

/// A gateway on a socket, with an ingest service on another.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) ingest: SmallIngest,
    pub(crate) internal: PeerChannel,
    pub(crate) closing: Closing,
    tasks: Tasks,
    stop: CancellationToken,
}

/// Puts a key into every call.
#[derive(Clone)]
pub(crate) struct WithKey {
    authorization: Option<MetadataValue<Ascii>>,
    tenant: Option<MetadataValue<Ascii>>,
}

impl Interceptor for WithKey {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        if let Some(value) = &self.tenant {
            request.metadata_mut().insert("x-segue-act-as-tenant", value.clone());
        }
        Ok(request)
    }
}

pub(crate) type Keyed = InterceptedService<Channel, WithKey>;

pub(crate) fn config() -> Config {
    Config { operator_key: OPERATOR.to_owned(), key_cache_ms: 200, tenants_poll_ms: 20, ..Config::default() }
}

async fn listen(router: axum::Router, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("bound");
    #[allow(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(serve(listener, router, ServerLimits::default(), stop.clone()));
    address
}

impl Gateway {
    pub(crate) async fn start(store_url: &str) -> Gateway {
        Self::start_with(store_url, config(), Arc::new(SystemClock)).await
    }

    pub(crate) async fn start_with(store_url: &str, config: Config, clock: Arc<dyn Clock>) -> Gateway {
        let (ingest, stop) = (SmallIngest::new(), CancellationToken::new());
        let ingest_address = listen(ingest.routes().into_axum_router(), &stop).await;
        let channel = transport::remote(&format!("http://{ingest_address}"), &ClusterToken::default()).expect("an address");
        Self::start_on(store_url, config, clock, ingest, channel, stop).await
    }

    /// With ingest in the same process, or wherever `channel` leads.
    pub(crate) async fn start_on(
        store_url: &str,
        config: Config,
        clock: Arc<dyn Clock>,
        ingest: SmallIngest,
        channel: PeerChannel,
        stop: CancellationToken,
    ) -> Gateway {
        Self::start_before(store_url, config, clock, ingest, Peers { ingest: Some(channel), ..Peers::default() }, stop).await
    }

    /// With these services behind it.
    pub(crate) async fn start_before(
        store_url: &str,
        config: Config,
        clock: Arc<dyn Clock>,
        ingest: SmallIngest,
        peers: Peers,
        stop: CancellationToken,
    ) -> Gateway {
        let tasks = Tasks::new();
        let deps = Deps { config, store_url: store_url.to_owned(), clock, peers, tasks: tasks.clone() };
        let Started { edge, internal_routes, closing, .. } = segue_gateway::start(deps).await.expect("the gateway starts");
        let address = listen(edge, &stop).await;
        Gateway { address, ingest, internal: transport::local(internal_routes), closing, tasks, stop }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("an address").connect().await.expect("the gateway listens")
    }

    async fn keyed(&self, key: &str, tenant: Option<&str>) -> Keyed {
        let authorization = (!key.is_empty()).then(|| format!("Bearer {key}").parse().expect("a header"));
        let tenant = tenant.map(|tenant| tenant.parse().expect("a header"));
        InterceptedService::new(self.channel().await, WithKey { authorization, tenant })
    }

    pub(crate) async fn tenancy(&self, key: &str) -> TenancyServiceClient<Keyed> {
        TenancyServiceClient::new(self.keyed(key, None).await)
    }

    pub(crate) async fn ingest(&self, key: &str) -> IngestServiceClient<Keyed> {
        IngestServiceClient::new(self.keyed(key, None).await)
    }

    pub(crate) async fn ingest_as(&self, key: &str, tenant: &str) -> IngestServiceClient<Keyed> {
        IngestServiceClient::new(self.keyed(key, Some(tenant)).await)
    }

    /// Makes a tenant with the default modules.
    pub(crate) async fn tenant(&self, id: &str) {
        let tenant = proto::Tenant { id: id.to_owned(), ..proto::Tenant::default() };
        self.tenancy(OPERATOR).await.create_tenant(proto::CreateTenantRequest { tenant: Some(tenant) }).await.expect("the tenant is made");
    }

    pub(crate) async fn set_limits(&self, id: &str, requests_per_second: u32, ingest_bytes_per_second: u64) {
        let limits = Some(proto::Limits { requests_per_second, ingest_bytes_per_second });
        let request = proto::UpdateTenantRequest {
            tenant: Some(proto::Tenant { id: id.to_owned(), limits, ..proto::Tenant::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["limits".to_owned()] }),
        };
        self.tenancy(OPERATOR).await.update_tenant(request).await.expect("the limits are set");
    }

    /// Makes a key: its name and its text.
    pub(crate) async fn key(&self, tenant: &str, kind: proto::KeyKind, role: proto::Role) -> (String, String) {
        let key = proto::Key {
            tenant: tenant.to_owned(),
            kind: kind.into(),
            role: role.into(),
            source: "web".to_owned(),
            ..proto::Key::default()
        };
        let made = self.tenancy(OPERATOR).await.create_key(proto::CreateKeyRequest { key: Some(key) }).await.expect("the key is made");
        let made = made.into_inner();
        (made.key.expect("a key").name, made.secret)
    }

    pub(crate) async fn write_key(&self, tenant: &str) -> String {
        self.key(tenant, proto::KeyKind::Write, proto::Role::Unspecified).await.1
    }

    pub(crate) async fn secret_key(&self, tenant: &str, role: proto::Role) -> String {
        self.key(tenant, proto::KeyKind::Secret, role).await.1
    }

    /// One request over HTTP/1.1, on a connection of its own.
    pub(crate) async fn http(&self, request: http::request::Builder, body: impl Into<bytes::Bytes>) -> Answer {
        let stream = tokio::net::TcpStream::connect(self.address).await.expect("the gateway listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        #[allow(clippy::disallowed_methods, reason = "ends with the connection")]
        tokio::spawn(connection);
        let request: Request<Full<bytes::Bytes>> =
            request.header("host", self.address.to_string()).body(Full::new(body.into())).expect("a request");
        let response: Response<_> = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        Answer { head, body: body.collect().await.expect("a whole body").to_bytes() }
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: impl Into<bytes::Bytes>) -> Answer {
        use base64::Engine;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{key}:"));
        self.http(Request::post(path).header("authorization", format!("Basic {basic}")), body).await
    }

    /// Ends background work, as a process would.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.stop(std::time::Duration::from_secs(10)).await.expect("background work ends");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.stopping().cancel();
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: bytes::Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Code and machine-readable reason of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    use tonic_types::StatusExt;
    let status = result.expect_err("refused");
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    (status.code(), reason)
}
