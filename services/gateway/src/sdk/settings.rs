//! What browser SDKs fetch before they send: the least that lets `@segment/analytics-next` 1.84 and
//! `@rudderstack/analytics-js` 3.34 start, with nothing loaded from elsewhere.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode, Uri, header};
use serde_json::json;

use crate::edge::Edge;
use crate::error::AccessError;
use crate::sdk::{answer, collect, fault};

/// `/v1/projects/{key}/settings`.
pub(crate) async fn segment(edge: &Arc<Edge>, key: &str, uri: Uri, headers: HeaderMap) -> Response<Body> {
    if let Some(refused) = refuse_unknown(edge, key).await {
        return refused;
    }
    let (protocol, host) = own_address(&uri, &headers);
    let body = json!({
        // With a second integration here the SDK would load code from Segment.
        "integrations": {
            "Segment.io": {
                "apiKey": key,
                "apiHost": format!("{host}/v1"),
                "protocol": protocol,
                "unbundledIntegrations": [],
                "addBundledMetadata": true,
                "maybeBundledConfigIds": {},
                "versionSettings": { "version": "4.4.7", "componentTypes": ["browser"] },
            }
        },
        "plan": {},
        "edgeFunction": {},
        "analyticsNextEnabled": true,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "remotePlugins": [],
        "legacyVideoPluginsEnabled": false,
        // The SDK reports its own metrics to Segment otherwise.
        "metrics": { "sampleRate": 0 },
    });
    answer(StatusCode::OK, &body)
}

/// `/sourceConfig/?writeKey=…`, with the key in the Basic user too.
pub(crate) async fn rudderstack(edge: &Arc<Edge>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let keys = collect::keys_outside_body(&headers, &uri);
    let Some(key) = keys.first() else { return crate::sdk::refuse(&AccessError::NoKey) };
    if let Some(refused) = refuse_unknown(edge, key).await {
        return refused;
    }
    let body = json!({
        "source": {
            "id": "segue",
            "name": "segue",
            "writeKey": key,
            "workspaceId": "segue",
            "enabled": true,
            "destinations": [],
            "dataplanes": {},
            // The SDK reports its own errors and metrics to RudderStack otherwise.
            "config": { "statsCollection": { "errors": { "enabled": false }, "metrics": { "enabled": false } } },
        },
        "consentManagementMetadata": { "providers": [] },
    });
    answer(StatusCode::OK, &body)
}

/// A wrong key is told early, where a developer sees it. While keys cannot be checked, pages start all the same.
async fn refuse_unknown(edge: &Edge, key: &str) -> Option<Response<Body>> {
    match edge.admission.keys.check(key).await {
        Err(AccessError::UnknownKey) => {
            Some(fault(StatusCode::NOT_FOUND, "UNKNOWN_KEY", "the write key is unknown or revoked; ask the operator for a new one"))
        }
        Ok(_) | Err(_) => None,
    }
}

/// Protocol and host under which the client sees us.
fn own_address<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> (&'static str, &'a str) {
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).and_then(|text| text.split(',').next());
    let protocol = match forwarded.map(str::trim) {
        Some("https") => "https",
        Some(_) | None => "http",
    };
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    // HTTP/2 has the host in the address.
    (protocol, host.or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost"))
}
