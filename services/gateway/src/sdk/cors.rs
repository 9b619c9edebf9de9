//! Letting browsers in from any page: write keys are public, and no cookies are used, so there is nothing to protect.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// What scripts may read of an answer: the SDKs' waiting time, and gRPC-Web's status.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, grpc-status, grpc-message, grpc-status-details-bin");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
/// An hour without asking again.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("3600");
const USUAL_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, content-encoding, anonymousid, sentat, x-retry-count");

/// Answers the browser's question whether it may send: yes, with whatever headers it asked for.
pub(crate) fn answer_preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow(asked.get(header::ORIGIN), headers);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(USUAL_HEADERS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    response
}

/// Lets the page with this origin read the answer. Pages send beacons with credentials, for which `*` would not do.
pub(crate) fn allow(origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    match origin {
        Some(origin) => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        None => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
    }
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
