//! The server: HTTP/1.1 and HTTP/2 on one listener, limits against slow and greedy peers, and a drain with an end.

mod opening;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, ServiceExt};

use self::opening::Opening;
use crate::transport::{CLUSTER_TOKEN_HEADER, ClusterToken};

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// How long open calls may go on after the stop was asked for.
    pub drain_timeout: Duration,
    /// How long a client may take to begin after it connected, and to send its headers.
    pub header_timeout: Duration,
    /// Most streams per connection.
    pub streams_max: u32,
    /// Most connections at once; more wait to be accepted.
    pub connections_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_secs(20),
            header_timeout: Duration::from_secs(15),
            streams_max: 1_000,
            connections_max: 20_000,
        }
    }
}

impl ServerLimits {
    /// The same for a listener of peers: one of them sends the calls of all its clients over one connection, and bounds them
    /// itself. With a client's limit, streams that stay open would leave no place for anybody's calls.
    pub fn internal(self) -> Self {
        Self { streams_max: 100_000, ..self }
    }
}

/// After how much silence the kernel asks whether the peer is still there, and how often it repeats that.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Serves `router` until `stopping`; then finishes open calls, up to the drain timeout.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, stopping: CancellationToken) -> anyhow::Result<()> {
    let graceful = GracefulShutdown::new();
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(limits.connections_max));
    let builder = connection_builder(&limits);
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place?,
            () = stopping.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most often: wait for some to be closed instead of spinning.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stopping.cancelled() => break,
        };
        let connection = builder.serve_connection_with_upgrades(
            prepared(stream, &limits),
            hyper_util::service::TowerToHyperService::new(with_peer(router.clone(), peer)),
        );
        let connection = graceful.watch(connection.into_owned());
        #[allow(
            clippy::disallowed_methods,
            reason = "one task per connection; its end concerns nobody else, and the drain below waits for it"
        )]
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(limit = ?limits.drain_timeout, "calls were still open when the drain timeout ended; they are cut");
    }
    Ok(())
}

fn prepared(stream: TcpStream, limits: &ServerLimits) -> TokioIo<Opening<TcpStream>> {
    // Small answers must not wait for more to come; if it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    // Peers that vanished without a word are found out also while nothing is to be sent to them; if it cannot be set, later.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    TokioIo::new(Opening::new(stream, limits.header_timeout))
}

fn connection_builder(limits: &ServerLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

fn with_peer(
    router: Router,
    peer: SocketAddr,
) -> impl Service<Request<hyper::body::Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send {
    router.map_request(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    })
}

/// Refuses calls that do not carry the installation's token; lets everything through when none is set.
#[derive(Debug, Clone)]
pub struct RequireClusterToken(pub ClusterToken);

impl<S> Layer<S> for RequireClusterToken {
    type Service = ClusterTokenChecked<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClusterTokenChecked { inner, token: self.0.clone() }
    }
}

/// Made by [`RequireClusterToken`].
#[derive(Debug, Clone)]
pub struct ClusterTokenChecked<S> {
    inner: S,
    token: ClusterToken,
}

impl<S, B> Service<Request<B>> for ClusterTokenChecked<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = futures::future::Either<S::Future, std::future::Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Probes come from the orchestrator, which has no token; they say nothing but "serving".
        let open = !self.token.is_set() || request.uri().path().starts_with("/grpc.health.v1.Health/");
        let given = request.headers().get(CLUSTER_TOKEN_HEADER).map_or(&b""[..], http::HeaderValue::as_bytes);
        if open || self.token.matches(given) {
            return futures::future::Either::Left(self.inner.call(request));
        }
        let refused =
            tonic::Status::unauthenticated("this is an internal listener; clients call the gateway, peers need peers.cluster_token")
                .into_http();
        futures::future::Either::Right(std::future::ready(Ok(refused)))
    }
}
