//! The I/O type below HTTP towards an upstream server.
//!
//! Knows what lies below both versions: that a connection that was given up in the middle of a message must end with a
//! reset, never with a FIN that makes a part look like the whole; and of HTTP/2 what the library does not tell: whether a
//! byte has come since a request was begun, and whether the server begins as HTTP/2 does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::wire::Wire;

/// Length of a frame's head, and where its type stands in it (RFC 9113, 4.1).
const FRAME_HEAD: u32 = 9;
const FRAME_TYPE_AT: u32 = 3;
const SETTINGS: u8 = 4;

/// What the two ends of a connection share: the driver below, the request above.
#[derive(Debug, Default)]
pub struct Link {
    reset: AtomicBool,
    /// How often bytes have come; wraps.
    arrivals: AtomicU32,
    /// Where HTTP/2 is to be spoken.
    greeting: Option<Greeting>,
}

/// The beginning of a server that speaks HTTP/2: its first frame is SETTINGS (RFC 9113, 3.4).
#[derive(Debug, Default)]
struct Greeting {
    /// Bytes of the first frame's head that have come.
    heard: AtomicU32,
    wrong: AtomicBool,
    told: Notify,
}

/// A connection to an upstream server, counted and resettable.
#[derive(Debug)]
pub struct Socket<S: Resettable> {
    stream: S,
    link: Arc<Link>,
}

/// A stream that can end with a reset.
pub trait Resettable {
    fn reset_on_close(&self);
}

impl Resettable for Wire {
    fn reset_on_close(&self) {
        if let Err(error) = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection could not be reset and is closed");
        }
    }
}

// === impl Link ===

impl Link {
    /// From now on the connection ends with a reset.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// How often bytes have come; wraps.
    pub(super) fn arrivals(&self) -> u32 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Of a connection that is to speak HTTP/2.
    pub(super) fn http2() -> Self {
        Self {
            greeting: Some(Greeting::default()),
            ..Self::default()
        }
    }

    /// Waits for the first frame; whether it is one of HTTP/2.
    pub(super) async fn greeted(&self) -> bool {
        match &self.greeting {
            Some(greeting) => greeting.wait().await,
            None => true,
        }
    }

    // No bytes: the server has ended the connection.
    fn saw(&self, bytes: &[u8]) {
        if let Some(greeting) = &self.greeting {
            greeting.hear(bytes);
        }
        if bytes.is_empty() {
            return;
        }
        self.arrivals.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl Greeting ===

impl Greeting {
    async fn wait(&self) -> bool {
        loop {
            if self.wrong.load(Ordering::Relaxed) {
                return false;
            }
            if self.heard.load(Ordering::Relaxed) >= FRAME_HEAD {
                return true;
            }
            self.told.notified().await;
        }
    }

    fn hear(&self, bytes: &[u8]) {
        let heard = self.heard.load(Ordering::Relaxed);
        if heard >= FRAME_HEAD {
            return;
        }
        let at = FRAME_TYPE_AT.checked_sub(heard);
        let kind = at.and_then(|at| bytes.get(at as usize));
        if bytes.is_empty() || kind.is_some_and(|kind| *kind != SETTINGS) {
            self.wrong.store(true, Ordering::Relaxed);
        }
        let more = u32::try_from(bytes.len()).unwrap_or(FRAME_HEAD);
        self.heard.store(
            heard.saturating_add(more).min(FRAME_HEAD),
            Ordering::Relaxed,
        );
        self.told.notify_one();
    }
}

// === impl Socket ===

impl<S: Resettable> Socket<S> {
    pub(super) fn new(stream: S, link: Arc<Link>) -> Self {
        Self { stream, link }
    }

    fn is_reset(&self) -> bool {
        self.link.reset.load(Ordering::Relaxed)
    }
}

impl<S: AsyncRead + Resettable + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.link.saw(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Resettable + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    // A shutdown is a FIN, so it is left out where the end is to be a reset.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Resettable> Drop for Socket<S> {
    fn drop(&mut self) {
        if self.is_reset() {
            self.stream.reset_on_close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_http2_begins_with_settings() {
        let check = |pieces: &[&[u8]], expected: Option<bool>| {
            let link = Link::http2();
            for piece in pieces {
                link.saw(piece);
            }
            let mut waiting = std::pin::pin!(link.greeted());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let found = match waiting.as_mut().poll(&mut cx) {
                Poll::Ready(is_http2) => Some(is_http2),
                Poll::Pending => None,
            };
            assert_eq!(found, expected, "{pieces:?}");
        };
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        check(&[settings], Some(true));
        check(&[&settings[..3], &settings[3..]], Some(true));
        check(&[&settings[..8]], None);
        check(&[&settings[..8], b""], Some(false));
        check(&[b""], Some(false));
        check(&[b"HTTP/1.1 400 Bad Request\r\n"], Some(false));
        check(&[b"HTT", b"P/1.1"], Some(false));
    }
}
