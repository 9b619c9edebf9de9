//! Calls between services. A caller holds a [`PeerChannel`] and never asks whether the peer runs in this process: a local
//! call goes through the same routes and layers as a remote one, only the socket is missing.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use segue_model::{Code, TenantId};
use tonic::body::Body;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};

use crate::caller::Caller;
use crate::status::ServiceError;
use crate::trace;

/// A call did not reach its peer. A concrete type around any error, since the compiler cannot see through a boxed one
/// when it proves that a client's future may move between threads.
#[derive(Debug, thiserror::Error)]
#[error("the peer could not be reached")]
pub struct Unreachable(#[source] Box<dyn Error + Send + Sync>);

/// A transport for every generated client: `IngestServiceClient::new(channel)`. Cheap to clone.
pub type PeerChannel = BoxCloneSyncService<Request<Body>, Response<Body>, Unreachable>;

/// Header that proves to a service's internal listener that the caller belongs to the same installation.
pub const CLUSTER_TOKEN_HEADER: &str = "x-segue-cluster-token";

/// Largest message between services, in bytes: a batch of events with its answer fits several times.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The secret that the processes of one installation share. Empty: none is asked for (one process, or a closed network).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClusterToken(String);

impl ClusterToken {
    /// A token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Whether a token is set.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Compares in constant time.
    pub fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        own.len() == given.len() && own.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok().filter(|_| self.is_set())?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl std::fmt::Debug for ClusterToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() { "ClusterToken(set)" } else { "ClusterToken(none)" })
    }
}

/// A peer cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is not one.
    #[error("{url:?} is not an address of a peer; write it like http://identity:7172")]
    Address {
        /// What was given.
        url: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
}

impl ServiceError for TransportError {
    fn code(&self) -> Code {
        match self {
            TransportError::Address { .. } => Code::InvalidArgument,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            TransportError::Address { .. } => "INVALID_PEER_ADDRESS",
        }
    }
}

/// A peer in this process.
pub fn local(routes: tonic::service::Routes) -> PeerChannel {
    let service = ServiceBuilder::new()
        .map_request(|mut request: Request<Body>| {
            trace::inject(request.headers_mut());
            request
        })
        .map_err(|never: std::convert::Infallible| match never {})
        .service(routes.prepare());
    BoxCloneSyncService::new(service)
}

/// A peer elsewhere. Connects at the first call and again after every loss.
pub fn remote(url: &str, token: &ClusterToken) -> Result<PeerChannel, TransportError> {
    let address = |source| TransportError::Address { url: url.to_owned(), source };
    let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(address)?;
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_enabled_roots()).map_err(address)?;
    }
    let channel = endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_lazy();
    let token = token.header();
    let service = channel.map_err(|error| Unreachable(Box::new(error))).map_request(move |mut request: Request<Body>| {
        trace::inject(request.headers_mut());
        if let Some(token) = &token {
            request.headers_mut().insert(CLUSTER_TOKEN_HEADER, token.clone());
        }
        request
    });
    Ok(BoxCloneSyncService::new(service))
}

/// A peer that is not started yet, and how to name it once it is: services of one process know each other in a ring.
/// Calls before that fail as if the peer were down.
pub fn deferred() -> (PeerChannel, Deferred) {
    let target = Arc::new(OnceLock::new());
    let service = tower::service_fn({
        let target = Arc::clone(&target);
        move |request: Request<Body>| {
            let target: Option<PeerChannel> = target.get().cloned();
            async move {
                match target {
                    Some(channel) => channel.oneshot(request).await,
                    None => Err(Unreachable("it has not started yet".into())),
                }
            }
        }
    });
    (BoxCloneSyncService::new(service), Deferred(target))
}

/// Names the peer of a [`deferred`] channel.
#[derive(Clone)]
pub struct Deferred(Arc<OnceLock<PeerChannel>>);

impl Deferred {
    /// Calls go to `channel` from now on. Only the first call counts.
    pub fn resolve(&self, channel: PeerChannel) {
        let _ = self.0.set(channel);
    }
}

/// A request from one service to another, on behalf of `tenant`.
pub fn for_tenant<T>(tenant: &TenantId, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let mut headers = std::mem::take(request.metadata_mut()).into_headers();
    Caller::service(tenant.clone()).attach(&mut headers);
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_token_matches_only_itself_and_never_shows() {
        let token = ClusterToken::new("s3cret");
        assert!(token.matches(b"s3cret"));
        assert!(!token.matches(b"s3creT") && !token.matches(b"s3cre") && !token.matches(b""));
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
