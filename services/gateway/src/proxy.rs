//! Passing a gRPC call on as bytes, both ways at once: nothing is decoded, nothing is kept, and each side reads only as
//! fast as the other takes.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{self, HeaderName};
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body::Frame;
use parking_lot::Mutex;
use segue_model::TenantId;
use segue_runtime::status::to_status;
use segue_runtime::{Caller, PeerChannel};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tower::ServiceExt;

use crate::admit::Admission;
use crate::error::AccessError;

/// Headers that concern the connection to the client, or are secrets that services need not see.
const NOT_PASSED_ON: [HeaderName; 8] = [
    header::HOST,
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::COOKIE,
];

/// Longest wait before a quota is looked at again, since an operator may raise it meanwhile.
const QUOTA_WAIT_MAX: Duration = Duration::from_millis(500);

/// The error as the answer to a gRPC call.
pub(crate) fn refuse(error: &AccessError) -> Response<Body> {
    to_status(error).into_http()
}

/// Makes the request for a peer: without the client's connection and secrets, with the caller.
pub(crate) fn outgoing(request: Request<Body>, caller: &Caller) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    for name in &NOT_PASSED_ON {
        parts.headers.remove(name);
    }
    caller.attach(&mut parts.headers);
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map(Uri::from).unwrap_or_default();
    parts.version = Version::HTTP_2;
    parts.extensions.clear();
    Request::from_parts(parts, body)
}

/// Sends the request to `peer` and gives its answer. Ends both when `until` does; dropping the answer ends them too.
pub(crate) async fn pass_on(
    peer: PeerChannel,
    service: &'static str,
    request: Request<Body>,
    mut until: BoxFuture<'static, AccessError>,
) -> Response<Body> {
    // However the answer ends, the request ends with it: a client that goes on sending must not keep the call behind open.
    let over = CancellationToken::new();
    let end_request = over.clone().drop_guard();
    let request = request.map(|inner| Body::new(RequestBody { inner, over: Box::pin(over.cancelled_owned()) }));
    let answer = tokio::select! {
        // An answer that is there counts, even at the deadline.
        biased;
        answer = peer.oneshot(request) => answer,
        error = &mut until => return refuse(&error),
    };
    match answer {
        Ok(answer) => answer.map(|inner| Body::new(AnswerBody::new(inner, until, service, end_request))),
        Err(error) => refuse(&failure(service, Box::new(error))),
    }
}

/// The peer's transport failed.
fn failure(service: &'static str, error: Box<dyn Error + Send + Sync>) -> AccessError {
    let text = segue_runtime::status::chain(&*error);
    // The transport keeps the client's deadline too, and may be a moment ahead of ours.
    if tonic::Status::from_error(error).code() == tonic::Code::DeadlineExceeded || text.contains("Timeout expired") {
        return AccessError::DeadlineExceeded;
    }
    tracing::warn!(service, error = text, "a call to a peer failed");
    AccessError::PeerDown { service }
}

/// When a call must end: after the client's `grpc-timeout`, and after `most` at the latest.
pub(crate) fn deadline(headers: &HeaderMap, most: Option<Duration>) -> Option<Duration> {
    let asked = headers.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    asked.into_iter().chain(most).min()
}

/// gRPC over HTTP/2: at most 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// The peer's answer on its way. A break or an end from our side becomes a gRPC status, so that clients see why.
struct AnswerBody {
    passing: Arc<Mutex<Passing>>,
    service: &'static str,
    ended: bool,
    /// Waits for the end from our side. A task, since nobody polls this body while the client does not read.
    _watch: AbortOnDropHandle<()>,
}

/// What the watch takes away.
enum Passing {
    /// Dropping the peer's body tells it to stop.
    Open { inner: Body, reader: Option<Waker>, _end_request: DropGuard },
    /// The client is still to be told.
    Over(AccessError),
}

/// The client's request on its way, until the call is over.
struct RequestBody {
    inner: Body,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        if this.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(tonic::Status::cancelled("the call is over"))));
        }
        Pin::new(&mut this.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl AnswerBody {
    fn new(inner: Body, until: BoxFuture<'static, AccessError>, service: &'static str, end_request: DropGuard) -> Self {
        let passing = Arc::new(Mutex::new(Passing::Open { inner, reader: None, _end_request: end_request }));
        let watched = passing.clone();
        #[allow(clippy::disallowed_methods, reason = "one task per answer, aborted with it; its end concerns nobody else")]
        let watch = tokio::spawn(async move {
            let error = until.await;
            let before = std::mem::replace(&mut *watched.lock(), Passing::Over(error));
            if let Passing::Open { reader: Some(reader), .. } = &before {
                reader.wake_by_ref();
            }
        });
        Self { passing, service, ended: false, _watch: AbortOnDropHandle::new(watch) }
    }

    fn end_with(&mut self, error: &AccessError) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.ended = true;
        *self.passing.lock() = Passing::Over(error.clone());
        let mut trailers = HeaderMap::new();
        match to_status(error).add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(status) => Poll::Ready(Some(Err(status))),
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let polled = match &mut *this.passing.lock() {
            Passing::Open { inner, reader, .. } => {
                let polled = Pin::new(inner).poll_frame(cx);
                if polled.is_pending() {
                    *reader = Some(cx.waker().clone());
                }
                Ok(polled)
            }
            Passing::Over(error) => Err(error.clone()),
        };
        match polled {
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                this.ended = frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(Some(Err(status)))) => {
                let error = failure(this.service, Box::new(status));
                this.end_with(&error)
            }
            Ok(Poll::Ready(None)) => {
                this.ended = true;
                Poll::Ready(None)
            }
            Ok(Poll::Pending) => Poll::Pending,
            Err(error) => this.end_with(&error),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || matches!(&*self.passing.lock(), Passing::Open { inner, .. } if inner.is_end_stream())
    }
}

/// Whose quota a request body counts against, and whether it waits for it.
pub(crate) struct MeteredBody {
    inner: Body,
    admission: Admission,
    tenant: TenantId,
    delay: bool,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl MeteredBody {
    /// Charges what passes; with `delay` it passes only while there is credit.
    pub(crate) fn new(inner: Body, admission: Admission, tenant: TenantId, delay: bool) -> Self {
        Self { inner, admission, tenant, delay, waiting: None }
    }
}

impl http_body::Body for MeteredBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        while this.delay {
            if let Some(waiting) = &mut this.waiting {
                ready!(waiting.as_mut().poll(cx));
                this.waiting = None;
            }
            match this.admission.limits_now(&this.tenant).map(|limits| limits.take_bytes(0)) {
                // Not reading is what slows the sender down.
                Some(Err(wait)) => this.waiting = Some(Box::pin(tokio::time::sleep(wait.min(QUOTA_WAIT_MAX)))),
                Some(Ok(())) | None => break,
            }
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Some(limits) = this.admission.limits_now(&this.tenant)
        {
            limits.charge_bytes(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parse_timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        for text in ["", "m", "123456789S", "1", "1x", "-1S", "é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn clients_may_ask_for_earlier_deadlines_and_not_for_later_ones() {
        let most = Some(Duration::from_secs(120));
        let asked = |text: &'static str| HeaderMap::from_iter([(HeaderName::from_static("grpc-timeout"), text.parse().expect("a header"))]);
        assert_eq!(deadline(&asked("1S"), most), Some(Duration::from_secs(1)));
        assert_eq!(deadline(&asked("9H"), most), most);
        assert_eq!(deadline(&HeaderMap::new(), most), most);
        assert_eq!(deadline(&asked("9H"), None), Some(Duration::from_secs(32_400)));
        assert_eq!(deadline(&HeaderMap::new(), None), None);
    }

    #[tokio::test]
    async fn the_deadline_ends_the_call_behind_also_while_the_client_does_not_read() {
        let over = CancellationToken::new();
        let end_request = over.clone().drop_guard();
        let until = futures::FutureExt::boxed(async { AccessError::DeadlineExceeded });
        let endless = futures::stream::repeat_with(|| Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(b"more"))));
        let inner = Body::new(http_body_util::StreamBody::new(endless));
        let mut answer = AnswerBody::new(inner, until, "ingest", end_request);
        // Nobody polls the answer.
        over.cancelled().await;
        let frame = http_body_util::BodyExt::frame(&mut answer).await.expect("a last frame").expect("no error");
        assert_eq!(frame.trailers_ref().expect("trailers")["grpc-status"], "4");
        assert!(http_body_util::BodyExt::frame(&mut answer).await.is_none());
    }

    #[test]
    fn what_concerns_the_client_alone_is_not_passed_on() {
        let request = Request::post("http://gateway/segue.x.v1.X/Y")
            .header("authorization", "Bearer secret")
            .header("x-api-key", "secret")
            .header("connection", "keep-alive")
            .header("x-segue-tenant", "victim")
            .header("x-custom-bin", "AAA=")
            .body(Body::empty())
            .expect("a request");
        let caller = Caller {
            tenant: Some("shop".parse().expect("an id")),
            role: segue_runtime::Role::Analyst,
            key: "keys/1".into(),
            source: String::new(),
        };
        let sent = outgoing(request, &caller);
        let names: Vec<_> = sent.headers().keys().map(HeaderName::as_str).collect();
        assert!(!names.contains(&"authorization") && !names.contains(&"x-api-key") && !names.contains(&"connection"), "{names:?}");
        assert_eq!(sent.headers()["x-segue-tenant"], "shop");
        assert_eq!(sent.headers()["x-custom-bin"], "AAA=");
        assert_eq!(sent.uri(), "/segue.x.v1.X/Y");
    }
}
