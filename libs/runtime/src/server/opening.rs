//! A connection on which the peer must begin in time.
//!
//! Before a server knows whether the peer speaks HTTP/1.1 or HTTP/2 it waits for up to 24 bytes, and hyper has no timer for
//! that: a peer that sends nothing, or no more than the beginning of HTTP/2's preface, would keep its place for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads fail once the time has passed, until the version is told; then it is the stream itself.
pub(super) struct Opening<S> {
    stream: S,
    awaited: Option<Awaited>,
}

struct Awaited {
    until: Pin<Box<Sleep>>,
    /// How much of the preface has come.
    matched: usize,
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, awaited: Some(Awaited { until: Box::pin(tokio::time::sleep(limit)), matched: 0 }) }
    }

    fn note(&mut self, new: &[u8]) {
        let Some(awaited) = &mut self.awaited else { return };
        let rest = &PREFACE[awaited.matched..];
        let common = rest.iter().zip(new).take_while(|(a, b)| a == b).count();
        awaited.matched += common;
        // The first byte that differs tells HTTP/1.1.
        if awaited.matched == PREFACE.len() || common < new.len() {
            self.awaited = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            this.note(&buffer.filled()[before..]);
            return Poll::Ready(read);
        }
        let Some(awaited) = &mut this.awaited else { return Poll::Pending };
        ready!(awaited.until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer connected and did not begin to speak in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::PREFACE;
    use crate::server::{ServerLimits, serve};

    const LIMIT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn whoever_connects_and_does_not_begin_is_cut_off_and_whoever_begins_is_served() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let (address, stop) = (listener.local_addr().expect("bound"), CancellationToken::new());
        let router = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
        let limits = ServerLimits { header_timeout: LIMIT, ..ServerLimits::default() };
        #[allow(clippy::disallowed_methods, reason = "ends with the test")]
        let server = tokio::spawn(serve(listener, router, limits, stop.clone()));
        for begin in [&b""[..], b"P", &PREFACE[..20], b"GET / HTT"] {
            let began = Instant::now();
            let mut peer = TcpStream::connect(address).await.expect("it listens");
            peer.write_all(begin).await.expect("sent");
            let mut answer = Vec::new();
            // However it is closed: it is.
            let _ = tokio::time::timeout(Duration::from_secs(10), peer.read_to_end(&mut answer)).await.expect("closed");
            assert!(began.elapsed() >= LIMIT - Duration::from_millis(20), "{begin:?}");
        }
        let mut peer = TcpStream::connect(address).await.expect("it listens");
        peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        let mut peer = TcpStream::connect(address).await.expect("it listens");
        peer.write_all(PREFACE).await.expect("sent");
        peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("empty settings");
        let mut frames = [0; 9];
        peer.read_exact(&mut frames).await.expect("the server's settings");
        // A connection whose version is known outlives the time: a ping is answered still.
        tokio::time::sleep(LIMIT * 2).await;
        peer.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.expect("the connection is open");
        let mut seen = Vec::new();
        let answered = async {
            let mut part = [0; 256];
            while !seen.ends_with(&[1, 2, 3, 4, 5, 6, 7, 8]) {
                let read = peer.read(&mut part).await.expect("open");
                assert!(read > 0, "closed: {seen:?}");
                seen.extend_from_slice(&part[..read]);
            }
        };
        tokio::time::timeout(Duration::from_secs(10), answered).await.expect("an answer");
        drop(peer);
        stop.cancel();
        server.await.expect("no panic").expect("a good end");
    }
}
