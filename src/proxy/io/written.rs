//! The way out of a client's connection: what HTTP/2 writes is gathered, heads of HTTP/1 go in the spelling of those who said
//! them, and what is refused is not answered by hyper. Reads nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::{Accepted, Protocol};
use crate::proxy::meter::Phase;

impl<S> Accepted<S> {
    // What HTTP/2 writes outside of a request are frames of its own.
    fn note_write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.protocol {
            Protocol::Http2(_) | Protocol::Tunnel => Ok(()),
            Protocol::Unknown | Protocol::Http1 => self.meter.note_write(bytes),
        }
    }

    fn note_written<T>(&mut self, polled: &Poll<io::Result<T>>) {
        self.meter.note_written(polled);
    }
}

impl<S: AsyncWrite + Unpin> Accepted<S> {
    // Writes what HTTP/2 has gathered.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Protocol::Http2(http2) = &mut self.protocol else {
            return Poll::Ready(Ok(()));
        };
        let polled = http2.batch.poll_write(cx, &mut self.stream);
        self.note_written(&polled);
        polled
    }

    // Of HTTP/2: gathers these, or says that they have to be written, with all that came before.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let Protocol::Http2(http2) = &mut self.protocol else {
            return Poll::Ready(Ok(None));
        };
        let Some(len) = http2.batch.gather(bufs) else {
            ready!(self.poll_batch(cx))?;
            return Poll::Ready(Ok(None));
        };
        http2.frames.wrote(len);
        Poll::Ready(Ok(Some(len)))
    }

    // Of HTTP/1: writes heads in the spelling of those who said them. hyper has heads in front of all other pieces, whole, and
    // puts none behind a body that is not written.
    fn poll_spelled(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (first, rest) = bufs
            .split_first()
            .map_or((&[][..], bufs), |(first, rest)| (&**first, rest));
        let fresh = first.get(self.spelled.len()..).unwrap_or_default();
        if self.meter.spellings().is_spelled() {
            self.meter.spellings().write(fresh, &mut self.spelled);
        } else {
            self.spelled.extend_from_slice(fresh);
        }
        let stream = Pin::new(&mut self.stream);
        let polled = match rest {
            [] => stream.poll_write(cx, &self.spelled),
            [only] => {
                let pieces = [io::IoSlice::new(&self.spelled), io::IoSlice::new(only)];
                stream.poll_write_vectored(cx, &pieces)
            }
            more => {
                let head = std::iter::once(&*self.spelled);
                let all = head.chain(more.iter().map(|piece| &**piece));
                let all: Vec<io::IoSlice<'_>> = all.map(io::IoSlice::new).collect();
                stream.poll_write_vectored(cx, &all)
            }
        };
        if let Poll::Ready(Ok(len)) = polled {
            self.spelled.drain(..len.min(self.spelled.len()));
        }
        polled
    }

    // Where something is half written, the client would not understand it, and just sees the end.
    pub(super) fn say_goodbye(&mut self, cx: &mut Context<'_>, frame: &[u8]) {
        if let Poll::Ready(Err(error)) = self.poll_batch(cx) {
            tracing::debug!(%error, "a client was gone before it was told why");
        }
        if self.meter.write_blocked().is_none()
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream)
                .poll_write(cx, frame)
                .map(|written| written.map(|_| ()))
        {
            tracing::debug!(%error, "a client was gone before it was told why");
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx) {
            tracing::debug!(%error, "a client was gone before it was told why");
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_write(bufs.first().map_or(&[], |first| first))?;
        if let Some(gathered) = ready!(self.poll_gather(cx, bufs))? {
            return Poll::Ready(Ok(gathered));
        }
        let is_http1 = matches!(self.protocol, Protocol::Http1);
        let polled =
            if is_http1 && (self.meter.spellings().is_spelled() || !self.spelled.is_empty()) {
                self.poll_spelled(cx, bufs)
            } else {
                Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
            };
        self.note_written(&polled);
        if let (Protocol::Http2(http2), Poll::Ready(Ok(len))) = (&mut self.protocol, &polled) {
            http2.frames.wrote(*len);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // hyper flushes below itself only when all it had is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.phase() == Phase::Finishing {
            // The next head may have begun behind the request that was served.
            let next = if self.held.is_empty() {
                Phase::Idle
            } else {
                Phase::Head
            };
            self.meter.enter(next);
            if let Some(waker) = self.waiting.take() {
                waker.wake();
            }
        }
        if let Protocol::Http2(http2) = &mut self.protocol {
            if http2.batch.waits(cx) {
                return Poll::Pending;
            }
            ready!(self.poll_batch(cx))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    // What is refused gets our answer first, and what speaks HTTP/2 goes on.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_changing = matches!(self.protocol, Protocol::Unknown) && self.meter.is_http2();
        if is_changing || self.meter.refusal().is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_batch(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
