//! The public port: gRPC, gRPC-Web and the HTTP API of published SDKs, told apart by content type and path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, header};
use segue_model::Module;
use segue_runtime::PeerChannel;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Layer, ServiceExt, service_fn};

use crate::Peers;
use crate::admit::Admission;
use crate::calls::{Call, Calls, Destination, Metering};
use crate::config::Config;
use crate::error::AccessError;
use crate::idle::IdleBody;
use crate::limits::StreamPlace;
use crate::proxy::{self, MeteredBody};
use crate::sdk::cors;
use crate::store::Store;

/// How long streams may go on after the process was asked to end: services close theirs within it.
const STREAM_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What requests need. Shared by all.
pub(crate) struct Edge {
    pub(crate) config: Config,
    pub(crate) admission: Admission,
    pub(crate) calls: Calls,
    pub(crate) peers: Peers,
    /// Our own service, behind the same door as the others.
    pub(crate) tenancy: PeerChannel,
    /// Told when the process is to end.
    pub(crate) draining: CancellationToken,
    pub(crate) store: Store,
    /// Places for requests of the HTTP API.
    pub(crate) http_places: Semaphore,
    /// The same for requests that show no key before their body: anybody can send those.
    pub(crate) http_keyless_places: Semaphore,
    /// Bytes of bodies of the HTTP API that may be in memory.
    pub(crate) http_body_room: Semaphore,
}

/// One application for everything that may come in.
pub(crate) fn router(edge: Arc<Edge>) -> Router {
    Router::new().fallback_service(service_fn(move |request: Request<axum::body::Body>| {
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(edge.handle(request).await) }
    }))
}

impl Edge {
    async fn handle(self: Arc<Self>, request: Request<axum::body::Body>) -> Response<axum::body::Body> {
        // Browsers ask before they send a key.
        if request.method() == Method::OPTIONS {
            return cors::answer_preflight(request.headers());
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut answer = if is_grpc(request.headers()) {
            self.handle_grpc(request).await.map(axum::body::Body::new)
        } else {
            crate::sdk::handle(&self, request).await
        };
        cors::allow(origin.as_ref(), answer.headers_mut());
        answer
    }

    /// gRPC and gRPC-Web; the layer turns the latter into the former and back.
    async fn handle_grpc(self: Arc<Self>, request: Request<axum::body::Body>) -> Response<Body> {
        let call = service_fn(move |request: Request<Body>| {
            let edge = self.clone();
            async move { Ok::<_, Infallible>(edge.call(request).await) }
        });
        match tonic_web::GrpcWebLayer::new().layer(call).oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.route(request).await {
            Ok(answer) => answer,
            Err(error) => proxy::refuse(&error),
        }
    }

    async fn route(&self, request: Request<Body>) -> Result<Response<Body>, AccessError> {
        let path = request.uri().path();
        let call = self.calls.find(path).ok_or_else(|| AccessError::NoSuchCall { path: path.to_owned() })?;
        let admitted = self.admission.admit_call(call, request.headers()).await?;
        let (peer, service) = self.peer(call.destination)?;
        let place = match &admitted.limits {
            Some(limits) if call.is_stream => Some(self.admission.limits.take_stream(limits)?),
            Some(_) | None => None,
        };
        let idle = call.sends_stream.then(|| (Duration::from_millis(self.config.stream_idle_ms), CancellationToken::new()));
        let until = self.until(call, request.headers(), idle.clone(), place);
        let mut request = proxy::outgoing(request, &admitted.caller);
        if let Some((limit, over)) = idle {
            // Innermost: a wait for the quota or for the service is none of the client.
            request = request.map(|body| Body::new(IdleBody::new(body, limit, over)));
        }
        if call.metering != Metering::None
            && let (Some(limits), Some(tenant)) = (&admitted.limits, &admitted.caller.tenant)
        {
            let delay = call.metering == Metering::Delay;
            if !delay {
                limits.take_bytes(0).map_err(|retry_after| AccessError::TooManyBytes { retry_after })?;
            }
            let (admission, tenant) = (self.admission.clone(), tenant.clone());
            request = request.map(|body| Body::new(MeteredBody::new(body, admission, tenant, delay)));
        }
        Ok(proxy::pass_on(peer, service, request, until).await)
    }

    fn peer(&self, destination: Destination) -> Result<(PeerChannel, &'static str), AccessError> {
        match destination {
            Destination::Tenancy => Ok((self.tenancy.clone(), "gateway")),
            Destination::Module(module) => {
                let peer = self.peers.of(module).ok_or(AccessError::NoPeer { module })?;
                Ok((peer.clone(), module.name()))
            }
        }
    }

    /// When the call must end: at its deadline; a stream also when its client is idle, or its key or its module is withdrawn.
    /// Keeps the stream's place for as long.
    fn until(
        &self,
        call: Call,
        headers: &HeaderMap,
        idle: Option<(Duration, CancellationToken)>,
        place: Option<StreamPlace>,
    ) -> BoxFuture<'static, AccessError> {
        let default = (!call.is_stream).then(|| Duration::from_millis(self.config.call_timeout_ms));
        let deadline = proxy::deadline(headers, default);
        let deadline = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline).await,
                None => std::future::pending().await,
            }
            AccessError::DeadlineExceeded
        };
        if !call.is_stream {
            return deadline.boxed();
        }
        let withdrawn = self.admission.clone().until_withdrawn(call, headers.clone());
        let draining = self.draining.clone();
        let shut_down = async move {
            draining.cancelled().await;
            tokio::time::sleep(STREAM_DRAIN_TIMEOUT).await;
            AccessError::ShuttingDown
        };
        let idle = async move {
            let Some((limit, over)) = idle else { return std::future::pending().await };
            over.cancelled().await;
            AccessError::StreamIdle { limit }
        };
        async move {
            let _place = place;
            tokio::select! {
                error = deadline => error,
                error = idle => error,
                error = withdrawn => error,
                error = shut_down => error,
            }
        }
        .boxed()
    }
}

impl Peers {
    /// The peer that serves `module`.
    pub(crate) fn of(&self, module: Module) -> Option<&PeerChannel> {
        match module {
            Module::Ingest => self.ingest.as_ref(),
            Module::Identity => self.identity.as_ref(),
            Module::Analytics => self.analytics.as_ref(),
            Module::Audience => self.audience.as_ref(),
            Module::Campaign => self.campaign.as_ref(),
        }
    }
}

/// `application/grpc`, `application/grpc-web`, `application/grpc-web-text`, each with or without `+proto`.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
