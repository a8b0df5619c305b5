//! An answer's body on its way to the client: streamed, timed, and at its end recorded once.
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
use hyper::body::Incoming;

use super::body::{Source, Upload};
use super::deadline::Deadline;
use super::grpc::Call;
use super::http2::Lane;
use super::meter::Meter;
use super::mirror::Shadow;
use super::outcome::Trial;
use super::stay::{OnCanary, Over, Seat};
use super::visit::Visit;
use super::worker::Worker;
use crate::clock;
use crate::rollout::slot::Class;
use crate::upstream::admission::Place;
use crate::upstream::connect::Connection;
use crate::upstream::endpoint::Endpoint;

/// How long a connection may take to be ready again after its answer was read.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer that is read to its end only to keep the connection.
const DISCARD_MAX: u64 = 64 * 1024;
const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

/// The body of every answer to a client.
pub(super) struct Answer {
    kind: Kind,
    /// `None` where a tunnel goes on with it.
    turn: Option<Turn>,
    /// Where the access log tells of it.
    visit: Option<Box<Visit>>,
}

/// The body of an upstream's answer.
pub(super) struct Download {
    incoming: Incoming,
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
    pub(super) incoming: Incoming,
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
    Upstream(#[from] hyper::Error),
    #[error("the upstream sent nothing for too long")]
    Idle,
    #[error("the stream was ended: {0:?}")]
    Over(Over),
    #[error("the upstream stopped in the middle")]
    Cut,
}

/// One request's time on its connection, from its beginning to the end of the answer's body.
pub(super) struct Turn {
    meter: Arc<Meter>,
    /// Its stream, where the connection speaks HTTP/2.
    lane: Option<Lane>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is a download, and a box would cost each of them"
)]
enum Kind {
    Text(Bytes),
    Download(Download),
}

// === impl Answer ===

impl Answer {
    pub(super) fn text(text: Bytes, turn: Turn, visit: Option<Box<Visit>>) -> Self {
        Self {
            kind: Kind::Text(text),
            turn: Some(turn),
            visit,
        }
    }

    /// Nothing: what follows the head is a tunnel's.
    pub(super) fn switched() -> Self {
        Self {
            kind: Kind::Text(Bytes::new()),
            turn: None,
            visit: None,
        }
    }

    pub(super) fn download(download: Download, turn: Turn, visit: Option<Box<Visit>>) -> Self {
        Self {
            kind: Kind::Download(download),
            turn: Some(turn),
            visit,
        }
    }

    fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_empty(),
            Kind::Download(download) => download.incoming.is_end_stream(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_over()
            && let Some(visit) = &mut self.visit
        {
            visit.ended();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { kind, turn, visit } = &mut *self;
        let polled = match turn.as_mut().and_then(|turn| turn.lane.as_mut()) {
            None => kind.poll(cx),
            Some(lane) => lane.poll_frame(|| kind.poll(cx)),
        };
        if let (Some(visit), Poll::Ready(Some(Ok(frame)))) = (visit, &polled) {
            visit.handed_on(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let lane = self.turn.as_ref().and_then(|turn| turn.lane.as_ref());
        if lane.is_some_and(Lane::keeps) {
            return false;
        }
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Download(download) => download.incoming.size_hint(),
        }
    }
}

// === impl Kind ===

impl Kind {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Download(download) => download.poll(cx),
        }
    }
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
            done: false,
        }
    }

    /// That gives it; `None` once it was read.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.connection.as_ref().map(Connection::endpoint)
    }

    /// Keeps a place among all requests until it ends.
    pub(super) fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Poll::Ready(over) = self.poll_over(cx) {
            self.cut_off(over);
            return Poll::Ready(Some(Err(Broken::Over(over))));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.note_arrival();
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
            Poll::Pending => self.wait(cx),
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
        self.connection = None;
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
        self.connection = None;
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
    // The whole answer may lie in hyper's hands already; else the client went away after the head, which is not
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

/// Keeps a connection whose answer was read whole, now or as soon as the request's body is through as well.
fn keep(worker: &Rc<Worker>, mut connection: Connection<Upload>, now: Instant) {
    if connection.is_ready() {
        worker.connections.give_back(connection, now);
        return;
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if let Ok(true) = worker
            .deadlines
            .within(READY_PATIENCE, connection.ready())
            .await
        {
            worker.connections.give_back(connection, clock::now());
        }
    });
}

/// Reads a short answer that nobody wants to its end, to keep its connection.
pub(super) fn discard(
    worker: &Rc<Worker>,
    mut incoming: Incoming,
    connection: Connection<Upload>,
    now: Instant,
) {
    if incoming.is_end_stream() {
        keep(worker, connection, now);
        return;
    }
    if incoming
        .size_hint()
        .upper()
        .is_some_and(|len| len > DISCARD_MAX)
    {
        return;
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let read = async {
            let mut left = DISCARD_MAX;
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await
            {
                let len = frame.ok()?.data_ref().map_or(0, Bytes::len) as u64;
                left = left.checked_sub(len)?;
            }
            Some(())
        };
        if let Ok(Some(())) = worker.deadlines.within(DISCARD_PATIENCE, read).await {
            keep(&worker, connection, clock::now());
        }
    });
}

// === impl Turn ===

impl Turn {
    /// Its stream, where the connection speaks HTTP/2.
    pub(super) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    pub(super) fn begin(meter: &Arc<Meter>, lane: Option<Lane>) -> Self {
        meter.begin_turn();
        Self {
            meter: Arc::clone(meter),
            lane,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.meter.end_turn();
    }
}
