//! The HTTP API that published SDKs speak (Segment's and RudderStack's): routes, keys, answers.
//!
//! What a status makes those clients do decides which one is sent:
//!
//! | status | when | clients |
//! |---|---|---|
//! | 200 | the batch is durable | drop it |
//! | 400 | it can never be taken: unreadable, too large | drop it |
//! | 401 | the key store said that the key is unknown | drop it |
//! | 403 | an operator switched ingest off for the tenant, or a header names a tenant that is not the key's | drop it: off means that nothing is collected |
//! | 408 | the body did not arrive in time | keep it, try again |
//! | 429 | over quota or overloaded, with `Retry-After` in whole seconds | keep it, wait |
//! | 503 | keys cannot be checked, or ingest is away or slow | keep it, try again |
//!
//! Never 3xx, which they take for success, and never 501, which they drop.
//!
//! Beside it stand the routes of what comes back from messages ([`follow`]), whose clients are browsers, providers and apps.

pub(crate) mod body;
pub(crate) mod collect;
pub(crate) mod cors;
mod follow;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use segue_runtime::status::ServiceError;
use serde_json::json;

use crate::edge::Edge;
use crate::error::AccessError;

/// How long the store may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a request that is no gRPC.
pub(crate) async fn handle(edge: &Arc<Edge>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        [] if is_get => answer(StatusCode::OK, &json!({ "name": "segue", "version": env!("CARGO_PKG_VERSION") })),
        ["healthz"] if is_get => answer(StatusCode::OK, &json!({ "status": "ok" })),
        ["readyz"] if is_get => ready(edge).await,
        ["v1", "projects", key, "settings"] if is_get => {
            settings::segment(edge, key, request.uri().clone(), request.headers().clone()).await
        }
        ["sourceConfig"] if is_get => settings::rudderstack(edge, request.uri().clone(), request.headers().clone()).await,
        // RudderStack's browser client sends to the second one by sendBeacon: the key stands in the query.
        ["l", token] => follow::handle(edge, follow::Sender::Person, token, request).await,
        ["v1", "callbacks", token] => follow::handle(edge, follow::Sender::Program, token, request).await,
        ["v1", "inbox", ..] => follow::handle_inbox(edge, request).await,
        ["v1", name] | ["beacon", "v1", name @ "batch"] => match collect::find_route(name) {
            Some(_) if request.method() != Method::POST => only(request, "POST").await,
            Some(route) => collect::handle(edge, route, request).await,
            None => not_found(request).await,
        },
        [] | ["healthz" | "readyz" | "sourceConfig"] | ["v1", "projects", _, "settings"] => only(request, "GET").await,
        _ => not_found(request).await,
    }
}

async fn ready(edge: &Edge) -> Response<Body> {
    match tokio::time::timeout(PROBE_TIMEOUT, edge.store.ping()).await {
        Ok(Ok(())) => answer(StatusCode::OK, &json!({ "status": "ok" })),
        Ok(Err(_)) | Err(_) => answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "the gateway's store does not answer" })),
    }
}

async fn only(request: Request<Body>, method: &'static str) -> Response<Body> {
    body::discard(request.into_body()).await;
    let mut answer = fault(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", &format!("use {method}"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
    answer
}

async fn not_found(request: Request<Body>) -> Response<Body> {
    body::discard(request.into_body()).await;
    fault(StatusCode::NOT_FOUND, "NO_SUCH_ROUTE", "there is no such route; events go to /v1/batch and its kin, calls over gRPC to /segue.…")
}

/// JSON with a status.
pub(crate) fn answer(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    raw(status, body.to_string())
}

/// A body that is JSON already.
pub(crate) fn raw(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal, for programs (`code`) and people (`message`).
pub(crate) fn fault(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    answer(status, &json!({ "success": false, "code": code, "message": message }))
}

/// A refusal at the door.
pub(crate) fn refuse(error: &AccessError) -> Response<Body> {
    let status = match error {
        AccessError::NoKey | AccessError::UnknownKey => StatusCode::UNAUTHORIZED,
        AccessError::WriteKeyOnlyIngests | AccessError::OtherTenant { .. } | AccessError::ModuleDisabled { .. } => StatusCode::FORBIDDEN,
        AccessError::NoTenant => StatusCode::BAD_REQUEST,
        AccessError::NoSuchTenant(_) | AccessError::NoSuchCall { .. } => StatusCode::NOT_FOUND,
        AccessError::TooManyRequests { .. }
        | AccessError::TooManyBytes { .. }
        | AccessError::TooManyStreams { .. }
        | AccessError::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
        AccessError::KeyStoreDown
        | AccessError::TenantNotLoaded(_)
        | AccessError::NoPeer { .. }
        | AccessError::PeerDown { .. }
        | AccessError::ShuttingDown
        | AccessError::StreamIdle { .. }
        | AccessError::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = fault(status, error.reason(), &error.to_string());
    if let Some(delay) = error.retry_after() {
        retry_after(response.headers_mut(), delay);
    }
    response
}

/// `Retry-After` in whole seconds, at least one.
pub(crate) fn retry_after(headers: &mut HeaderMap, delay: Duration) {
    let seconds = delay.as_micros().div_ceil(1_000_000).clamp(1, 3_600);
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        headers.insert(header::RETRY_AFTER, value);
    }
}
