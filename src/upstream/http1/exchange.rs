//! One request until its answer's head: written and read at the same time, in the task that waits for it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::response;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};

use super::pipe::{Arrived, Stopped};
use super::{Error, RequestHead, Shared, Spelling};

/// An answer's head, with what of the request's body is still to go up.
#[derive(Debug)]
pub(in crate::upstream) struct Answered<B> {
    pub(in crate::upstream) parts: response::Parts,
    pub(in crate::upstream) spelling: Spelling,
    pub(in crate::upstream) rest: Option<B>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::upstream) struct Unanswered {
    pub(in crate::upstream) error: Error,
    /// Not a byte of the request has left.
    pub(in crate::upstream) was_unsent: bool,
}

/// How far the request is.
enum Sending {
    Going,
    Gone,
    /// The server takes no more of it; it may have answered all the same.
    Refused(io::Error),
}

/// Sends a request, and reads the head of its answer. `proceed` is called where the server asks for the body.
pub(in crate::upstream) async fn exchange<S, B>(
    pipe: &Shared<S>,
    request: RequestHead<'_>,
    mut body: B,
    mut proceed: impl FnMut(),
) -> Result<Answered<B>, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    pipe.borrow_mut().begin(&request, &body);
    let mut sending = Sending::Going;
    let head = poll_fn(|cx| poll(cx, pipe, &mut body, &mut sending, &mut proceed)).await;
    match head {
        Ok((parts, spelling)) => {
            let rest = matches!(sending, Sending::Going).then_some(body);
            Ok(Answered {
                parts,
                spelling,
                rest,
            })
        }
        Err(error) => {
            let pipe = pipe.borrow();
            Err(Unanswered {
                error,
                was_unsent: !pipe.has_said() && !pipe.has_heard(),
            })
        }
    }
}

fn poll<S, B>(
    cx: &mut Context<'_>,
    pipe: &Shared<S>,
    body: &mut B,
    sending: &mut Sending,
    proceed: &mut impl FnMut(),
) -> Poll<Result<(response::Parts, Spelling), Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    let mut pipe = pipe.borrow_mut();
    loop {
        if matches!(sending, Sending::Going) {
            match pipe.poll_request(cx, body) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => *sending = Sending::Gone,
                Poll::Ready(Err(Stopped::Io(error))) => *sending = Sending::Refused(error),
                Poll::Ready(Err(Stopped::Body)) => return Poll::Ready(Err(Error::Body)),
            }
        }
        match pipe.poll_head(cx) {
            Poll::Ready(Ok(Arrived::Answer(parts, spelling))) => {
                return Poll::Ready(Ok((parts, spelling)));
            }
            // The body may be what is waited for.
            Poll::Ready(Ok(Arrived::Continue)) => proceed(),
            Poll::Ready(Ok(Arrived::Early)) => {}
            Poll::Ready(Err(error)) => {
                let refused = std::mem::replace(sending, Sending::Gone);
                return Poll::Ready(Err(match refused {
                    Sending::Refused(first) => first.into(),
                    Sending::Going | Sending::Gone => error,
                }));
            }
            Poll::Pending => {
                let waiting = std::mem::replace(sending, Sending::Gone);
                let Sending::Refused(error) = waiting else {
                    *sending = waiting;
                    return Poll::Pending;
                };
                return Poll::Ready(Err(error.into()));
            }
        }
    }
}

/// Writes what is left of a request behind its answer's head.
pub(in crate::upstream) async fn carry_on<S, B>(pipe: Shared<S>, mut body: B)
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    match poll_fn(|cx| pipe.borrow_mut().poll_request(cx, &mut body)).await {
        Ok(()) => {}
        // The answer goes on for as long as the server likes.
        Err(Stopped::Io(error)) => tracing::debug!(%error, "a body was not taken whole"),
        Err(Stopped::Body) => pipe.borrow_mut().break_off(),
    }
}
