//! The body of an answer of HTTP/1.1, read from its connection when it is asked for.
//!
//! Lets go of the connection with the last byte, so that another request may have it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::AsyncRead;

use super::{Error, Shared};

/// The body of an answer.
#[derive(Debug)]
pub struct Body<S> {
    /// `None` once nothing more is to be read.
    pipe: Option<Shared<S>>,
    /// Whether all of it was handed over.
    is_over: bool,
    /// What is wrong with the rest of it.
    fault: Option<Error>,
}

impl<S> Body<S> {
    pub(in crate::upstream) fn new(pipe: &Shared<S>) -> Self {
        let is_over = pipe.borrow().is_read();
        Self {
            pipe: (!is_over).then(|| pipe.clone()),
            is_over,
            fault: None,
        }
    }
}

impl<S: AsyncRead + Unpin> http_body::Body for Body<S> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(pipe) = &self.pipe else {
            return Poll::Ready(self.fault.take().map(Err));
        };
        let mut reading = pipe.borrow_mut();
        let polled = reading.poll_body(cx);
        let is_over = reading.is_read();
        drop(reading);
        self.is_over = is_over;
        if is_over {
            self.pipe = None;
        }
        if let Poll::Ready(Some(Err(fault))) = polled {
            // Told a turn later: who hears of it gives up what he has not written yet, and the beginning came well.
            self.pipe = None;
            self.fault = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        match &self.pipe {
            None => SizeHint::with_exact(0),
            Some(pipe) => {
                let left = pipe.borrow().left();
                left.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}
