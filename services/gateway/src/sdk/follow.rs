//! What comes back from messages: links (`/l/…`), providers' reports (`/v1/callbacks/…`) and the in-app feed (`/v1/inbox…`). No API
//! key: a token names the tenant, and the campaign service, which made it, says whether it is genuine. Here only places, quotas and sizes
//! are looked after.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use segue_model::{Module, TenantId, link_token};
use segue_proto::campaign::v1::message_service_client::MessageServiceClient;
use segue_proto::campaign::v1::{FollowRequest, FollowResponse};
use segue_runtime::transport::{MESSAGE_BYTES_MAX, for_tenant};

use crate::admit::bearer;
use crate::edge::Edge;
use crate::error::AccessError;
use crate::sdk::body::{self, BodyError};
use crate::sdk::collect::{KEYLESS_BODY_TIMEOUT, OVERLOAD_DELAY, refuse_body};
use crate::sdk::{fault, refuse, retry_after};

/// Largest body: a provider's report.
const BODY_BYTES_MAX: u64 = 256 << 10;
/// When to try again while the campaign service does not answer.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Headers that the campaign service gets to see.
const PASSED_ON: [&str; 6] = ["authorization", "content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"];
/// Headers of its answers that clients get to see.
const ANSWERED: [HeaderName; 4] = [header::CONTENT_TYPE, header::LOCATION, header::CACHE_CONTROL, header::RETRY_AFTER];

/// Who makes a request, which decides how a refusal looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A person with a browser.
    Person,
    /// A provider or an app.
    Program,
}

/// Why a request got no answer from the campaign service.
enum Refusal {
    /// The token names no tenant, or one that has no campaigns.
    NotFound,
    /// There is no token in a place where one has to be.
    NoToken,
    Access(AccessError),
    Body(BodyError),
    Campaign(tonic::Status),
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

/// Answers a request whose path has the token.
pub(crate) async fn handle(edge: &Arc<Edge>, sender: Sender, token: &str, request: Request<Body>) -> Response<Body> {
    let tenant = link_token::tenant_of(token).ok_or(Refusal::NotFound);
    answer(edge, sender, tenant, request).await
}

/// Answers a request of an app, which has the token in a header.
pub(crate) async fn handle_inbox(edge: &Arc<Edge>, request: Request<Body>) -> Response<Body> {
    let tenant = match bearer(request.headers()) {
        None => Err(Refusal::NoToken),
        Some(token) => link_token::tenant_of(token).ok_or(Refusal::NoToken),
    };
    answer(edge, Sender::Program, tenant, request).await
}

async fn answer(edge: &Arc<Edge>, sender: Sender, tenant: Result<TenantId, Refusal>, request: Request<Body>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let taken = match tenant {
        Ok(tenant) => pass_on(edge, tenant, &parts, &mut body).await,
        Err(refusal) => Err(refusal),
    };
    match taken {
        Ok(answer) => answer,
        Err(refusal) => {
            // When the place is free again: a slow client must not keep it from others.
            if !matches!(refusal, Refusal::Body(BodyError::TooSlow { .. } | BodyError::Broken { .. })) {
                body::discard(body).await;
            }
            refused(sender, &refusal)
        }
    }
}

async fn pass_on(edge: &Arc<Edge>, tenant: TenantId, parts: &http::request::Parts, body: &mut Body) -> Result<Response<Body>, Refusal> {
    let _place = edge.http_keyless_places.try_acquire().map_err(|_| AccessError::Overloaded { retry_after: OVERLOAD_DELAY })?;
    // Anybody can name tenants, so the store is not asked for those that are not known here.
    let known = edge.admission.directory.get(&tenant).filter(|known| known.is_on(Module::Campaign)).ok_or(Refusal::NotFound)?;
    let limits = edge.admission.limits.of(&known);
    limits.take_link().map_err(|retry_after| AccessError::TooManyRequests { retry_after })?;
    if parts.method != Method::GET && parts.method != Method::HEAD && parts.method != Method::POST {
        return Err(Refusal::Access(AccessError::NoSuchCall { path: parts.uri.path().to_owned() }));
    }
    let timeout = Duration::from_millis(edge.config.http_body_timeout_ms).min(KEYLESS_BODY_TIMEOUT);
    let (sent, _held) = body::read(body, BODY_BYTES_MAX, timeout, &edge.http_body_room).await?;
    let message = FollowRequest {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default(),
        body: sent.into(),
        headers: passed_on(&parts.headers),
    };
    let peer = edge.peers.of(Module::Campaign).ok_or(AccessError::NoPeer { module: Module::Campaign })?;
    let mut client =
        MessageServiceClient::new(peer.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let limit = Duration::from_millis(edge.config.http_collect_timeout_ms);
    let followed = tokio::time::timeout(limit, client.follow(for_tenant(&tenant, message))).await;
    let followed = followed.map_err(|_| AccessError::DeadlineExceeded)?.map_err(Refusal::Campaign)?;
    Ok(response(followed.into_inner()))
}

fn passed_on(headers: &http::HeaderMap) -> HashMap<String, String> {
    let text = |name: &str| Some((name.to_owned(), headers.get(name)?.to_str().ok()?.to_owned()));
    PASSED_ON.into_iter().filter_map(text).collect()
}

fn response(followed: FollowResponse) -> Response<Body> {
    let status = u16::try_from(followed.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(Body::from(followed.body));
    // Anything else would be a defect.
    *response.status_mut() = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    for name in ANSWERED {
        if let Some(value) = followed.headers.get(name.as_str()).and_then(|value| HeaderValue::from_str(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn refused(sender: Sender, refusal: &Refusal) -> Response<Body> {
    let answer = match refusal {
        Refusal::NotFound => {
            fault(StatusCode::NOT_FOUND, "NO_SUCH_LINK", "this link does not work; it may not have been copied as a whole")
        }
        Refusal::NoToken => {
            fault(StatusCode::UNAUTHORIZED, "NO_TOKEN", "send `authorization: Bearer <token>` with a token of CreateInboxToken")
        }
        Refusal::Access(AccessError::NoSuchCall { .. }) => fault(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "use GET or POST"),
        Refusal::Access(error) => refuse(error),
        Refusal::Body(BodyError::TooLarge { .. }) => fault(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", "send less at once"),
        Refusal::Body(error) => refuse_body(error),
        Refusal::Campaign(status) => refused_by_campaign(status),
    };
    match sender {
        Sender::Program => answer,
        Sender::Person => page(answer),
    }
}

fn refused_by_campaign(status: &tonic::Status) -> Response<Body> {
    // The module was switched off a moment ago.
    if status.code() == tonic::Code::FailedPrecondition {
        return fault(StatusCode::NOT_FOUND, "NO_SUCH_LINK", "campaigns are switched off");
    }
    tracing::warn!(code = ?status.code(), message = status.message(), "the campaign service did not answer a link");
    let mut answer = fault(StatusCode::SERVICE_UNAVAILABLE, "TRY_AGAIN", "this does not work right now; try again");
    retry_after(answer.headers_mut(), RETRY_DELAY);
    answer
}

/// The same refusal for people.
fn page(answer: Response<Body>) -> Response<Body> {
    let (mut parts, _) = answer.into_parts();
    let text = match parts.status {
        StatusCode::NOT_FOUND => "This link does not work. Perhaps it was not copied as a whole. / 링크가 올바르지 않습니다.",
        _ => "This does not work right now. Please try again in a moment. / 잠시 후 다시 시도해 주세요.",
    };
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{0}</title></head><body><p>{text}</p></body></html>",
        parts.status.canonical_reason().unwrap_or_default()
    );
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Response::from_parts(parts, Body::from(html))
}
