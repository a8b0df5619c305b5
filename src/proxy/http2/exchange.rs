//! One stream: its request is served, its answer is sent as its client takes it, and a reset ends both.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use http_body::Body;

use super::streams::Lane;
use super::tunnel;
use crate::proxy::answer::Answer;
use crate::proxy::download::Broken;
use crate::proxy::translate;

/// An answer is handed over in pieces of a frame's size, so that a stream is seen to move.
const PIECE: usize = 16 * 1024;

/// One stream from its request to the end of its answer. Small: the runtime moves a task some ten times.
pub(super) struct Exchange<F> {
    at: At<F>,
    respond: SendResponse<Bytes>,
    /// What the client sends where it asked for a tunnel.
    receiving: Option<RecvStream>,
    lane: Lane,
}

enum At<F> {
    /// The service has the request.
    Handling(Pin<Box<F>>),
    Sending(Sending),
    Tunnel(Pin<Box<dyn Future<Output = ()>>>),
}

/// An answer's body on its way to the client.
struct Sending {
    stream: SendStream<Bytes>,
    answer: Answer,
    /// The next piece, for which the client has to make room.
    piece: Option<Bytes>,
    /// What is left of a frame that was longer than a piece.
    rest: Bytes,
}

// === impl Exchange ===

impl<F> Exchange<F>
where
    F: Future<Output = Result<Response<Answer>, Infallible>>,
{
    /// Begins it; `receiving` is what the client sends where it asked for a tunnel.
    pub(super) fn new(
        handling: Pin<Box<F>>,
        respond: SendResponse<Bytes>,
        receiving: Option<RecvStream>,
        lane: Lane,
    ) -> Self {
        Self {
            at: At::Handling(handling),
            respond,
            receiving,
            lane,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.at {
                At::Handling(handling) => {
                    let Poll::Ready(Ok(response)) = handling.as_mut().poll(cx) else {
                        return self
                            .respond
                            .poll_reset(cx)
                            .map(|reset| Err(error_of(reset)));
                    };
                    match self.answer(response)? {
                        Some(next) => self.at = next,
                        None => return Poll::Ready(Ok(())),
                    }
                }
                At::Sending(sending) => return sending.poll(&mut self.lane, cx),
                At::Tunnel(carrying) => return carrying.as_mut().poll(cx).map(Ok),
            }
        }
    }

    // Sends the head; what follows it, if anything does.
    fn answer(&mut self, response: Response<Answer>) -> Result<Option<At<F>>, h2::Error> {
        let (head, answer) = response.into_parts();
        let mut head = Response::from_parts(head, ());
        let answer = match (answer.into_tunnel(), self.receiving.take()) {
            (Err(answer), _) => answer,
            (Ok((passage, turn)), Some(receiving)) => {
                let sending = self.send_head(head, false)?;
                let carrying = tunnel::carry(passage, turn, receiving, sending);
                return Ok(Some(At::Tunnel(Box::pin(carrying))));
            }
            // Nobody is asked for a tunnel where the client did not ask.
            (Ok(_), None) => {
                self.respond.send_reset(Reason::INTERNAL_ERROR);
                return Ok(None);
            }
        };
        if answer.is_end_stream() {
            self.send_head(head, true)?;
            return Ok(None);
        }
        if let Some(len) = answer.size_hint().exact() {
            let length = head.headers_mut().entry(CONTENT_LENGTH);
            length.or_insert_with(|| HeaderValue::from(len));
        }
        Ok(Some(At::Sending(Sending {
            stream: self.send_head(head, false)?,
            answer,
            piece: None,
            rest: Bytes::new(),
        })))
    }

    fn send_head(
        &mut self,
        head: Response<()>,
        is_last: bool,
    ) -> Result<SendStream<Bytes>, h2::Error> {
        let sent = self.respond.send_response(head, is_last);
        if sent.is_err() {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
        sent
    }
}

impl<F> Future for Exchange<F>
where
    F: Future<Output = Result<Response<Answer>, Infallible>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a client's stream ended");
            }
        })
    }
}

fn error_of(reset: Result<Reason, h2::Error>) -> h2::Error {
    reset.map_or_else(|error| error, h2::Error::from)
}

// What a stream is reset with: what its upstream's was, where that was one.
fn reason_of(broken: &Broken) -> Reason {
    let mut cause: Option<&(dyn Error + 'static)> = Some(broken);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

// === impl Sending ===

impl Sending {
    fn poll(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            // Asked for first, so that a reset wakes whoever waits below.
            if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
                return Poll::Ready(Err(error_of(reset)));
            }
            if self.piece.is_some() {
                let polled = poll_room(&mut self.stream, cx);
                lane.set_blocked(polled.is_pending());
                ready!(polled)?;
            }
            if let Some(piece) = self.piece.take() {
                let is_last = self.rest.is_empty() && self.answer.is_end_stream();
                self.stream.send_data(piece, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            if !self.rest.is_empty() {
                self.put();
                continue;
            }
            let frame = match ready!(Pin::new(&mut self.answer).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(broken)) => {
                    self.stream.send_reset(reason_of(&broken));
                    tracing::debug!(%broken, "an answer ended early");
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
            };
            match frame.into_data() {
                // Needs no room, and says nothing.
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.rest = data;
                    self.put();
                }
                Err(frame) => {
                    if let Ok(mut trailers) = frame.into_trailers() {
                        translate::strip_trailers(&mut trailers);
                        // No more data: what room there is is others'.
                        self.stream.reserve_capacity(0);
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                }
            }
        }
    }

    // Takes the next piece off what is left, and asks for room: for the least, which holds back nobody else's while the client
    // gives none. The library asks for the rest of the piece once it has it.
    fn put(&mut self) {
        self.piece = Some(self.rest.split_to(self.rest.len().min(PIECE)));
        self.stream.reserve_capacity(1);
    }
}

/// Waits until the client takes something.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(room) => _ = room?,
            // Nothing can be sent on it any more.
            None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
        }
    }
    Poll::Ready(Ok(()))
}
