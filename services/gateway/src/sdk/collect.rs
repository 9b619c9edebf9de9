//! One request of a published SDK: its key, its body, ingest's answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use segue_model::Module;
use segue_proto::ingest::v1::CollectRequest;
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_runtime::transport::MESSAGE_BYTES_MAX;
use serde::Deserialize;
use tonic::metadata::MetadataMap;
use tonic_types::StatusExt;

use crate::admit::{Admitted, basic_user, key_in_headers};
use crate::edge::Edge;
use crate::error::AccessError;
use crate::sdk::body::{self, BodyError};
use crate::sdk::{fault, raw, refuse, retry_after};

/// When this process is full; about the time that one batch takes.
pub(crate) const OVERLOAD_DELAY: Duration = Duration::from_secs(1);

/// How long a body may take whose request shows no key before it, if the configuration does not ask for less.
pub(crate) const KEYLESS_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The long form of the last part of a route.
pub(crate) fn find_route(name: &str) -> Option<&'static str> {
    match name {
        "track" | "t" => Some("track"),
        "identify" | "i" => Some("identify"),
        "page" | "p" => Some("page"),
        "screen" | "s" => Some("screen"),
        "group" | "g" => Some("group"),
        "alias" | "a" => Some("alias"),
        "batch" | "b" => Some("batch"),
        "import" | "m" => Some("import"),
        _ => None,
    }
}

/// Why a request got no answer from ingest.
enum Refusal {
    Access(AccessError),
    Body(BodyError),
    Ingest(tonic::Status),
}

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Self {
        Refusal::Access(error)
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Refusal::Body(error)
    }
}

/// Answers a request with a batch.
pub(crate) async fn handle(edge: &Arc<Edge>, route: &'static str, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    match take_in(edge, route, &parts, body).await {
        Ok(answer) => answer,
        Err(Refusal::Access(error)) => refuse(&error),
        Err(Refusal::Body(error)) => refuse_body(&error),
        Err(Refusal::Ingest(status)) => refuse_as_ingest_did(&status),
    }
}

/// Takes a batch in. Whatever is left of a body that is refused is read afterwards, when the place is free again: a slow client
/// must not keep it from others.
async fn take_in(edge: &Arc<Edge>, route: &'static str, parts: &http::request::Parts, mut body: Body) -> Result<Response<Body>, Refusal> {
    let taken = take_in_place(edge, route, parts, &mut body).await;
    match &taken {
        // Nothing more comes, or nothing that is worth waiting for.
        Ok(_) | Err(Refusal::Body(BodyError::TooSlow { .. } | BodyError::Broken { .. })) => {}
        Err(_) => body::discard(body).await,
    }
    taken
}

async fn take_in_place(
    edge: &Arc<Edge>,
    route: &'static str,
    parts: &http::request::Parts,
    body: &mut Body,
) -> Result<Response<Body>, Refusal> {
    let config = &edge.config;
    let keys = keys_outside_body(&parts.headers, &parts.uri);
    let places = if keys.is_empty() { &edge.http_keyless_places } else { &edge.http_places };
    let _place = places.try_acquire().map_err(|_| AccessError::Overloaded { retry_after: OVERLOAD_DELAY })?;
    let mut body_timeout = Duration::from_millis(config.http_body_timeout_ms);
    let early = if keys.is_empty() {
        body_timeout = body_timeout.min(KEYLESS_BODY_TIMEOUT);
        None
    } else {
        Some(admit(edge, &keys, &parts.headers).await?)
    };
    let room = &edge.http_body_room;
    let (sent, mut held) = body::read(body, config.http_body_bytes_max, body_timeout, room).await?;
    let sent_bytes = sent.len();
    let encoding = parts.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let plain = body::decompress(sent, encoding, config.http_decompressed_bytes_max)?;
    // What it became counts too, until ingest has it.
    held.merge(body::hold(room, plain.len().saturating_sub(sent_bytes))?);
    let admitted = match early {
        Some(admitted) => admitted,
        None => admit(edge, &[key_in_body(&plain).ok_or(AccessError::NoKey)?], &parts.headers).await?,
    };
    if let Some(limits) = &admitted.limits {
        limits.take_bytes(sent_bytes as u64).map_err(|retry_after| AccessError::TooManyBytes { retry_after })?;
    }
    let message = CollectRequest {
        route: route.to_owned(),
        body: plain,
        ip: client_address(parts, config.trusted_proxies).map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: text(&parts.headers, header::USER_AGENT).unwrap_or_default(),
    };
    collect(edge, &admitted, message).await
}

/// Tries the keys in their order; the first that is known decides.
async fn admit(edge: &Edge, keys: &[String], headers: &HeaderMap) -> Result<Admitted, AccessError> {
    for key in keys {
        match edge.admission.admit_ingestion(key, headers).await {
            Err(AccessError::UnknownKey) => {}
            decided => return decided,
        }
    }
    Err(AccessError::UnknownKey)
}

async fn collect(edge: &Edge, admitted: &Admitted, message: CollectRequest) -> Result<Response<Body>, Refusal> {
    let peer = edge.peers.of(Module::Ingest).ok_or(AccessError::NoPeer { module: Module::Ingest })?;
    let mut client =
        IngestServiceClient::new(peer.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut headers = HeaderMap::new();
    admitted.caller.attach(&mut headers);
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let limit = Duration::from_millis(edge.config.http_collect_timeout_ms);
    let collected = tokio::time::timeout(limit, client.collect(request)).await.map_err(|_| AccessError::DeadlineExceeded)?;
    let collected = collected.map_err(Refusal::Ingest)?.into_inner();
    // Ingest knows two statuses; anything else would be a defect, and must not make clients drop what they hold.
    let status = match collected.status {
        200 => StatusCode::OK,
        400 => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok(raw(status, collected.body))
}

pub(crate) fn refuse_body(error: &BodyError) -> Response<Body> {
    let (status, code) = match error {
        BodyError::TooLarge { .. } | BodyError::TooLargeDecompressed { .. } => (StatusCode::BAD_REQUEST, "TOO_LARGE"),
        BodyError::NotCompressed { .. } | BodyError::UnknownEncoding { .. } | BodyError::Broken { .. } => {
            (StatusCode::BAD_REQUEST, "UNREADABLE")
        }
        BodyError::NoRoom => return refuse(&AccessError::Overloaded { retry_after: OVERLOAD_DELAY }),
        BodyError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "TOO_SLOW"),
    };
    fault(status, code, &error.to_string())
}

/// The key was accepted here, so a refusal by ingest is never a 401; what is not the client's fault is a 5xx.
fn refuse_as_ingest_did(status: &tonic::Status) -> Response<Body> {
    let http = match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => StatusCode::BAD_REQUEST,
        tonic::Code::FailedPrecondition | tonic::Code::PermissionDenied => StatusCode::FORBIDDEN,
        tonic::Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let details = status.get_error_details();
    let reason = details.error_info().map_or("INGEST_FAILED", |info| info.reason.as_str());
    if http.is_server_error() {
        tracing::warn!(code = ?status.code(), message = status.message(), "ingest did not take a batch");
    }
    let message = if http.is_server_error() { "the batch could not be taken right now; try again" } else { status.message() };
    let mut response = fault(http, reason, message);
    if http == StatusCode::TOO_MANY_REQUESTS {
        let delay = details.retry_info().and_then(|info| info.retry_delay).unwrap_or(OVERLOAD_DELAY);
        retry_after(response.headers_mut(), delay);
    }
    response
}

/// Keys in the places where the SDKs put them, outside the body; some send two.
pub(crate) fn keys_outside_body(headers: &HeaderMap, uri: &Uri) -> Vec<String> {
    let query = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("writeKey="));
    let places = [basic_user(headers), key_in_headers(headers).map(str::to_owned), query.map(str::to_owned)];
    let mut keys: Vec<String> = Vec::new();
    for key in places.into_iter().flatten() {
        if !key.is_empty() && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// `writeKey` of the body, whatever else it holds.
fn key_in_body(body: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Keyed {
        #[serde(rename = "writeKey")]
        write_key: Option<String>,
    }
    serde_json::from_slice::<Keyed>(body).ok()?.write_key.filter(|key| !key.is_empty())
}

/// Where the request came from. The last entry of `X-Forwarded-For` was written by the nearest proxy, so with n trusted
/// proxies the n-th from the end is the one that a client cannot make up.
fn client_address(parts: &http::request::Parts, trusted_proxies: u32) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    let hops = usize::try_from(trusted_proxies).unwrap_or(usize::MAX);
    if hops == 0 {
        return peer;
    }
    let forwarded: Vec<&str> = parts
        .headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let entry = forwarded.get(forwarded.len().saturating_sub(hops)).copied().unwrap_or_default();
    let address = entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|ip: IpAddr| ip.to_canonical()).or(peer)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(forwarded: &[&str], trusted_proxies: u32) -> String {
        let mut request = Request::new(());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 9], 1_234))));
        for value in forwarded {
            request.headers_mut().append("x-forwarded-for", value.parse().expect("a header"));
        }
        client_address(&request.into_parts().0, trusted_proxies).expect("a peer").to_string()
    }

    #[test]
    fn forwarded_addresses_count_only_as_far_as_proxies_are_trusted() {
        assert_eq!(address(&["1.1.1.1"], 0), "10.0.0.9");
        assert_eq!(address(&["6.6.6.6, 1.1.1.1"], 1), "1.1.1.1");
        assert_eq!(address(&["6.6.6.6", "1.1.1.1, 10.0.0.8"], 2), "1.1.1.1");
        assert_eq!(address(&["1.1.1.1"], 2), "1.1.1.1");
        assert_eq!(address(&["[2001:db8::1]:443"], 1), "2001:db8::1");
        assert_eq!(address(&["rubbish"], 1), "10.0.0.9");
        assert_eq!(address(&[], 1), "10.0.0.9");
    }

    #[test]
    fn the_write_key_is_found_in_all_its_places() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Basic YTo=".parse().expect("a header"));
        let uri: Uri = "/v1/t?x=1&writeKey=b".parse().expect("an address");
        assert_eq!(keys_outside_body(&headers, &uri), ["a", "b"]);
        assert_eq!(key_in_body(&Bytes::from_static(br#"{"anonymousId":null,"writeKey":"c","x":1e999}"#)).as_deref(), Some("c"));
        assert_eq!(key_in_body(&Bytes::from_static(br#"{"writeKey":null}"#)), None);
        assert_eq!(key_in_body(&Bytes::from_static(b"[]")), None);
    }
}
