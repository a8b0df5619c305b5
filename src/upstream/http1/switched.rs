//! A connection behind a 101: bytes of another protocol, from the first one behind the head on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Shared;

/// A connection that speaks another protocol.
#[derive(Debug)]
pub struct Switched<S> {
    pipe: Shared<S>,
    /// What came with the head.
    early: BytesMut,
}

impl<S> Switched<S> {
    pub(in crate::upstream) fn new(pipe: &Shared<S>) -> Self {
        let early = pipe.borrow_mut().take_input();
        Self {
            pipe: pipe.clone(),
            early,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Switched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(self.pipe.borrow_mut().socket()).poll_read(cx, buf);
        }
        let len = self.early.len().min(buf.remaining());
        buf.put_slice(self.early.get(..len).unwrap_or_default());
        self.early.advance(len);
        if self.early.is_empty() {
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Switched<S> {
    // A server may agree before it was asked in full: the rest of that goes first.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.borrow_mut();
        ready!(pipe.poll_output(cx))?;
        Pin::new(pipe.socket()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.borrow_mut();
        ready!(pipe.poll_output(cx))?;
        Pin::new(pipe.socket()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.borrow_mut();
        ready!(pipe.poll_output(cx))?;
        Pin::new(pipe.socket()).poll_shutdown(cx)
    }
}
