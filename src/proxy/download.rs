//! Upstream's answer on its way to the client: streamed, timed, and at its end recorded once.
//!
//! Upstream is asked for more only when the client takes more. Time in which our side asked and nothing was there is
//! upstream's; time in which the client did not read is nobody's.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{Progress, Source, Upload};
use super::deadline::Deadline;
use super::grpc::Call;
use super::kept::keep;
use super::mirror::Shadow;
use super::outcome::Trial;
use super::stay::{OnCanary, Over, Seat};
use super::worker::Worker;
use crate::clock;
use crate::rollout::slot::Class;
use crate::upstream::admission::Place;
use crate::upstream::answer::{AnswerBody, AnswerError};
use crate::upstream::connect::Connection;
use crate::upstream::endpoint::Endpoint;

/// Bytes of one answer after which other requests have their turn.
const TURN: usize = 256 * 1024;

/// The body of an upstream's answer.
pub(super) struct Download {
    incoming: AnswerBody,
    connection: Option<Connection<Upload>>,
    worker: Rc<Worker>,
    trial: Trial,
    source: Option<Rc<Source>>,
    class: Class,
    /// Where it answers a call of gRPC.
    call: Option<Call>,
    latency: Duration,
    /// Since when our side waits for more.
    asked: Option<Instant>,
    /// The last moment known.
    now: Instant,
    idle_limit: Duration,
    idle: Option<Deadline>,
    /// Taken among all requests, to the end of this.
    place: Option<Place>,
    stream: Option<Box<Stream>>,
    /// What becomes a copy for canary when this has ended.
    shadow: Option<Box<Shadow>>,
    /// Bytes since the other requests had their turn.
    moved: usize,
    done: bool,
}

/// What an answer is beside its bytes where it is a stream: `stream_idle` is its limit, and its latency ends with its
/// first bytes.
pub(super) struct Stream {
    canary: Option<OnCanary>,
    seat: Option<Seat>,
    has_begun: bool,
}

/// What an answer's head told.
pub(super) struct Opening {
    pub(super) incoming: AnswerBody,
    pub(super) connection: Connection<Upload>,
    pub(super) trial: Trial,
    pub(super) source: Option<Rc<Source>>,
    pub(super) class: Class,
    pub(super) call: Option<Call>,
    pub(super) latency: Duration,
    pub(super) now: Instant,
    pub(super) idle_limit: Duration,
    pub(super) stream: Option<Box<Stream>>,
    pub(super) shadow: Option<Box<Shadow>>,
}

/// Why an answer's body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] AnswerError),
    #[error("the upstream sent nothing for too long")]
    Idle,
    #[error("the stream was ended: {0:?}")]
    Over(Over),
    #[error("the upstream stopped in the middle")]
    Cut,
}
// === impl Download ===

impl Download {
    pub(super) fn new(worker: &Rc<Worker>, opening: Opening) -> Self {
        Self {
            incoming: opening.incoming,
            connection: Some(opening.connection),
            worker: Rc::clone(worker),
            trial: opening.trial,
            source: opening.source,
            class: opening.class,
            call: opening.call,
            latency: opening.latency,
            asked: None,
            now: opening.now,
            idle_limit: opening.idle_limit,
            idle: None,
            place: None,
            stream: opening.stream,
            shadow: opening.shadow,
            moved: 0,
            done: false,
        }
    }

    /// That gives it; `None` once it was read.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.connection.as_ref().map(Connection::endpoint)
    }

    /// Whether all of it was handed over.
    pub(super) fn is_over(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// Whether the request's body is not whole yet.
    pub(super) fn is_early(&self) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|source| !matches!(source.progress(), Progress::Finished(_)))
    }

    /// Keeps a place among all requests until it ends.
    pub(super) fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// The next frame, when the client takes one.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Poll::Ready(over) = self.poll_over(cx) {
            self.cut_off(over);
            return Poll::Ready(Some(Err(Broken::Over(over))));
        }
        if self.moved >= TURN {
            self.moved = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.note_arrival();
                self.moved += frame.data_ref().map_or(0, Bytes::len);
                if let Some(call) = &mut self.call {
                    call.take_in(&frame);
                }
                if let (Some(shadow), Some(data)) = (&mut self.shadow, frame.data_ref()) {
                    shadow.take_in(data);
                }
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // HTTP/2 lets a server stop with a reset that tells of no error; what it stops in the middle of is not whole.
            Poll::Ready(None) if self.is_cut() => {
                self.note_arrival();
                self.fail(None);
                Poll::Ready(Some(Err(Broken::Cut)))
            }
            Poll::Ready(None) => {
                self.note_arrival();
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.note_arrival();
                self.fail(None);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => {
                self.moved = 0;
                self.wait(cx)
            }
        }
    }

    // Whether a stream that has begun is to end.
    fn poll_over(&mut self, cx: &Context<'_>) -> Poll<Over> {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.has_begun) else {
            return Poll::Pending;
        };
        stream
            .seat(&self.worker, self.source.as_deref())
            .poll_over(cx)
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(stream) = &mut self.stream
            && !stream.has_begun
        {
            // So that its end is heard from now on.
            let seat = stream.seat(&self.worker, self.source.as_deref());
            if let Poll::Ready(over) = seat.poll_over(cx) {
                self.cut_off(over);
                return Poll::Ready(Some(Err(Broken::Over(over))));
            }
        }
        if self.asked.is_none() {
            self.asked = Some(clock::now());
        }
        if self.stream.is_some() {
            return Poll::Pending;
        }
        let idle = self
            .idle
            .get_or_insert_with(|| self.worker.deadlines.after(self.idle_limit));
        if Pin::new(idle).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.note_arrival();
        self.fail(Some(self.latency));
        Poll::Ready(Some(Err(Broken::Idle)))
    }

    fn note_arrival(&mut self) {
        let has_begun = self.stream.as_ref().is_some_and(|stream| stream.has_begun)
            || self.call.is_some_and(|call| call.has_begun());
        if let Some(asked) = self.asked.take() {
            self.now = clock::now();
            if !has_begun {
                self.latency += self.now.saturating_duration_since(asked);
            }
            self.idle = None;
        }
        if let Some(stream) = &mut self.stream {
            stream.has_begun = true;
            if let Some(seat) = &stream.seat {
                seat.stay().moved();
            }
        }
    }

    // A stream is ended by us: so far it was as it said, but for a call, which owes its status and fell silent.
    fn cut_off(&mut self, over: Over) {
        if over == Over::Idle && self.call.is_some() {
            self.fail(Some(self.latency));
            return;
        }
        self.done = true;
        self.trial
            .conclude(self.class, Some(self.latency), self.now);
        self.let_go();
    }

    // Ends the connection now, and not when the client has taken what it was given.
    fn let_go(&mut self) {
        self.connection = None;
        self.incoming.give_up();
    }

    fn is_cut(&self) -> bool {
        let shared = self.connection.as_ref();
        shared.is_some_and(Connection::is_shared) && !self.incoming.is_end_stream()
    }

    fn fail(&mut self, latency: Option<Duration>) {
        self.done = true;
        // A body that the client broke off is not upstream's failure, whatever it did to the answer.
        if self
            .source
            .as_ref()
            .is_some_and(|source| source.fault().is_some())
        {
            self.trial.withdraw();
        } else {
            self.trial.fail(latency);
        }
        self.let_go();
    }

    fn end(&mut self) {
        if self.done {
            return;
        }
        self.done = true;
        let class = self.call.map_or(self.class, |call| call.class());
        self.trial.conclude(class, Some(self.latency), self.now);
        let unwanted = self
            .source
            .as_ref()
            .is_some_and(|source| source.is_unwanted());
        if let Some(connection) = self.connection.take().filter(|_| !unwanted) {
            keep(&self.worker, connection, self.now);
        }
        if let Some(shadow) = self.shadow.take() {
            shadow.follow(self.source.as_deref());
        }
    }
}

impl Drop for Download {
    // The whole answer may have been handed over already; else the client went away after the head, which is not
    // counted, and the connection is reset as it is dropped.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if self.incoming.is_end_stream() {
            self.end();
        } else {
            self.trial.withdraw();
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(canary: Option<OnCanary>) -> Box<Self> {
        Box::new(Self {
            canary,
            seat: None,
            has_begun: false,
        })
    }

    // Taken when it is first waited for: a short answer needs none.
    fn seat(&mut self, worker: &Rc<Worker>, source: Option<&Source>) -> &Seat {
        let canary = &mut self.canary;
        self.seat.get_or_insert_with(|| {
            let seat = Seat::take(worker, canary.take());
            if let Some(source) = source {
                source.join(seat.stay());
            }
            seat
        })
    }
}
