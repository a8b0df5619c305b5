//! A request's body as its client's protocol gives it: one type for HTTP/1 and HTTP/2. Judges nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

/// What a client sends behind a head.
pub(super) enum Incoming {
    /// Nothing: what follows is a tunnel's.
    None,
    Http1(hyper::body::Incoming),
    Http2(Stream),
}

/// What comes on a stream of HTTP/2.
pub(super) struct Stream {
    stream: RecvStream,
    /// Bytes that are to come, where that was said.
    left: Option<u64>,
    /// Only trailers may follow.
    has_data: bool,
}

/// Why a body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum IncomingError {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

// === impl Incoming ===

impl Incoming {
    /// The body of a request that came by HTTP/2, under this head.
    pub(super) fn of_stream(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok());
        Self::Http2(Stream {
            stream,
            left: length.and_then(|length| length.parse().ok()),
            has_data: false,
        })
    }
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(incoming: hyper::body::Incoming) -> Self {
        Self::Http1(incoming)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match &mut *self {
            Self::None => Poll::Ready(None),
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Self::Http2(stream) => match ready!(stream.poll_frame(cx)) {
                // RFC 9113, 8.1: the client needs no more of an answer; what it sent is not broken for that.
                Err(error) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
                Err(error) => Poll::Ready(Some(Err(error.into()))),
                Ok(frame) => Poll::Ready(frame.map(Ok)),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(stream) => stream.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(stream) => stream.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

// === impl Stream ===

impl Stream {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        if !self.has_data {
            if let Some(data) = ready!(self.stream.poll_data(cx)).transpose()? {
                self.stream.flow_control().release_capacity(data.len())?;
                let len = data.len() as u64;
                self.left = self.left.map(|left| left.saturating_sub(len));
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.has_data = true;
        }
        self.stream
            .poll_trailers(cx)
            .map_ok(|trailers| trailers.map(Frame::trailers))
    }
}
