//! Streams of requests on which nothing comes: half-dead clients must not keep a place for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// A client's request stream. Tells `over` when it was waited for a frame for longer than the limit; time in which nobody asks
/// for a frame (the quota, a service that does not read) does not count.
pub(crate) struct IdleBody {
    inner: Body,
    limit: Duration,
    over: CancellationToken,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl IdleBody {
    pub(crate) fn new(inner: Body, limit: Duration, over: CancellationToken) -> Self {
        Self { inner, limit, over, timer: Box::pin(tokio::time::sleep(limit)), waiting: false }
    }
}

impl http_body::Body for IdleBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        // First, so that what arrived while nobody asked counts.
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        if frame.is_ready() {
            this.waiting = false;
            return frame;
        }
        if !this.waiting {
            this.waiting = true;
            this.timer.as_mut().reset(Instant::now() + this.limit);
        }
        if this.timer.as_mut().poll(cx).is_ready() {
            // The call ends by it, with a status for the client; this body is dropped then.
            this.over.cancel();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
