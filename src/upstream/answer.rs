//! An endpoint's answer, whichever version of HTTP it came by, and why there is none.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::{self, Spelling};
use super::socket::Socket;
use crate::wire::Wire;

/// An answer whose head has come.
#[derive(Debug)]
pub struct Answer {
    pub head: response::Parts,
    /// How the names of its headers were written.
    pub spelling: Spelling,
    pub body: AnswerBody,
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    Http1(http1::Body<Socket<Wire>>),
    Http2(Incoming),
    /// Given up before its end.
    GivenUp,
}

/// Why an answer ends early, or never begins.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

/// Why a request has no answer.
#[derive(Debug)]
pub struct Unanswered {
    pub error: AnswerError,
    /// Nothing of it was sent.
    pub was_unsent: bool,
}

// === impl AnswerBody ===

impl AnswerBody {
    /// Reads no more of it.
    pub fn give_up(&mut self) {
        *self = Self::GivenUp;
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.get_mut() {
            Self::Http1(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(AnswerError::from)))
            }
            Self::Http2(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(AnswerError::from)))
            }
            Self::GivenUp => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::GivenUp => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::GivenUp => SizeHint::new(),
        }
    }
}
