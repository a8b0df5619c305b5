//! A request's body on its way to upstream: streamed, counted, and kept while it is small enough to be sent again.
//!
//! One `Source` per request reads from the client; each attempt reads from it through an `Upload` of its own, and only
//! the latest one. Holds back what `Expect: 100-continue` says to hold back.

use std::cell::{OnceCell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::deadline::{Deadline, Deadlines};
use super::incoming::Incoming;
use super::mirror::Taken;
use super::respond::Fault;
use super::stay::Stay;
use super::translate::strip_trailers;
use crate::clock;
use crate::upstream::connect::Hold;

/// Largest body that is kept to be sent again.
const REPLAY_MAX: usize = 64 * 1024;
/// How long upstream may leave `Expect: 100-continue` unanswered (RFC 9110, 10.1.1: not for ever).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// What a client sends, from which attempts read.
pub(super) struct Source {
    feed: RefCell<Feed>,
    deadlines: Deadlines,
    exact: Option<u64>,
    limit: u64,
    idle: Duration,
    /// Where the answer is a stream: as long as something moves either way, the client may be silent.
    stay: OnceCell<Rc<Stay>>,
}

/// One attempt's view of the body; empty where there is none.
pub(super) struct Upload {
    source: Option<Rc<Source>>,
    hold: Option<Hold>,
    turn: u32,
    at: Place,
}

/// How much of what is kept an upload has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    bytes: usize,
    has_trailers: bool,
}

/// The limits under which a body is read: bytes (0 = none), and the longest wait for the client's next bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct UploadLimits {
    pub(super) bytes: u64,
    pub(super) idle: Duration,
}

/// How far the body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The client is being waited for, or the body is held back.
    Asking,
    /// Upstream was given the last piece then, and has not asked for another.
    Given(Instant),
    Finished(Instant),
}

/// Why a body ends early, for hyper; what it means is asked of the source.
#[derive(Debug, thiserror::Error)]
#[error("the request's body ended early")]
pub(super) struct UploadBroken(
    /// What a stream of HTTP/2 is reset with.
    #[source]
    h2::Error,
);

struct Feed {
    incoming: Incoming,
    kept: Kept,
    keeps: bool,
    /// Of data alone, for a mirror.
    copy: Option<Taken>,
    /// What the latest upload has taken of what is kept.
    taken: Place,
    received: u64,
    progress: Progress,
    fault: Option<Fault>,
    turn: u32,
    waiting: Option<Deadline>,
    held: Held,
}

/// The beginning of a body, or all of it: copied, so that however small its pieces come it is as large as it looks.
#[derive(Default)]
struct Kept {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
}

enum Held {
    No,
    /// Upstream asks for it, or has had time enough.
    Until {
        is_asked_for: bool,
        patience: Option<Deadline>,
    },
    /// The answer came first: the body is not wanted.
    ForEver,
}

// === impl Source ===

impl Source {
    /// The body of a request; `None` where it has none. `keeps` says whether it may be sent twice at all.
    pub(super) fn new(
        incoming: Incoming,
        keeps: bool,
        limits: UploadLimits,
        deadlines: &Deadlines,
    ) -> Option<Rc<Self>> {
        if incoming.is_end_stream() {
            return None;
        }
        let exact = incoming.size_hint().exact();
        let keeps = keeps && exact.is_none_or(|len| len <= REPLAY_MAX as u64);
        let feed = Feed {
            incoming,
            kept: Kept::default(),
            keeps,
            copy: None,
            taken: Place::default(),
            received: 0,
            progress: Progress::Asking,
            fault: None,
            turn: 0,
            waiting: None,
            held: Held::No,
        };
        let (limit, idle) = (limits.bytes, limits.idle);
        Some(Rc::new(Self {
            feed: RefCell::new(feed),
            deadlines: deadlines.clone(),
            exact,
            limit,
            idle,
            stay: OnceCell::new(),
        }))
    }

    /// The body for the next attempt, from its beginning; earlier ones yield nothing any more.
    pub(super) fn upload(self: &Rc<Self>, hold: Hold) -> Upload {
        let mut feed = self.feed.borrow_mut();
        feed.turn += 1;
        feed.taken = Place::default();
        Upload {
            source: Some(Rc::clone(self)),
            hold: Some(hold),
            turn: feed.turn,
            at: Place::default(),
        }
    }

    /// From now on the body is a part of a stream, whose silence is judged there.
    pub(super) fn join(&self, stay: &Rc<Stay>) {
        self.stay.get_or_init(|| Rc::clone(stay));
    }

    /// Holds the body back until it is asked for, or upstream has had time enough.
    pub(super) fn hold_back(&self) {
        self.feed.borrow_mut().held = Held::Until {
            is_asked_for: false,
            patience: None,
        };
    }

    /// Upstream asks for the body.
    pub(super) fn proceed(&self) {
        if let Held::Until { is_asked_for, .. } = &mut self.feed.borrow_mut().held {
            *is_asked_for = true;
        }
    }

    /// The answer has come: what is still held back is never asked for, and nothing is sent again.
    pub(super) fn answered(&self) {
        let mut feed = self.feed.borrow_mut();
        feed.let_go();
        if matches!(feed.held, Held::Until { .. }) {
            feed.held = Held::ForEver;
        }
    }

    /// Whether the answer came while the body was still held back.
    pub(super) fn is_unwanted(&self) -> bool {
        matches!(self.feed.borrow().held, Held::ForEver)
    }

    /// Whether an attempt that begins now can send all of it.
    pub(super) fn is_whole(&self) -> bool {
        let feed = self.feed.borrow();
        feed.fault.is_none() && (feed.keeps || feed.received == 0)
    }

    /// How many bytes it will have, where that was said.
    pub(super) fn exact(&self) -> Option<u64> {
        self.exact
    }

    /// Copies what is read from now on, up to so many bytes.
    pub(super) fn copy(&self, limit: usize) {
        self.feed.borrow_mut().copy = Some(Taken::up_to(limit));
    }

    /// What was copied, once all of it was read.
    pub(super) fn take_copy(&self) -> Option<Taken> {
        let mut feed = self.feed.borrow_mut();
        let is_finished = matches!(feed.progress, Progress::Finished(_));
        feed.copy.take().filter(|_| is_finished)
    }

    pub(super) fn progress(&self) -> Progress {
        self.feed.borrow().progress
    }

    /// What the client did wrong.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.feed.borrow().fault
    }

    // The next piece from the client.
    fn poll_next(
        &self,
        feed: &mut Feed,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_held(feed, cx) {
            return Poll::Pending;
        }
        match Pin::new(&mut feed.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                feed.waiting = None;
                Poll::Ready(Some(self.take_in(feed, &frame).map(|()| frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(Fault::BadRequest("broken body")))),
            Poll::Ready(None) => {
                feed.progress = Progress::Finished(clock::now());
                Poll::Ready(None)
            }
            Poll::Pending => {
                feed.progress = Progress::Asking;
                if self.stay.get().is_some() {
                    feed.waiting = None;
                    return Poll::Pending;
                }
                let waiting = feed
                    .waiting
                    .get_or_insert_with(|| self.deadlines.after(self.idle));
                Pin::new(waiting)
                    .poll(cx)
                    .map(|()| Some(Err(Fault::ClientTimeout)))
            }
        }
    }

    fn is_held(&self, feed: &mut Feed, cx: &mut Context<'_>) -> bool {
        let is_held = match &mut feed.held {
            Held::No => return false,
            Held::ForEver => true,
            Held::Until {
                is_asked_for,
                patience,
            } => {
                let patience =
                    patience.get_or_insert_with(|| self.deadlines.after(CONTINUE_PATIENCE));
                !*is_asked_for && Pin::new(patience).poll(cx).is_pending()
            }
        };
        if !is_held {
            feed.held = Held::No;
        }
        is_held
    }

    fn take_in(&self, feed: &mut Feed, frame: &Frame<Bytes>) -> Result<(), Fault> {
        let len = frame.data_ref().map_or(0, Bytes::len);
        if let Some(stay) = self.stay.get() {
            stay.moved();
        }
        feed.received += len as u64;
        if self.limit != 0 && feed.received > self.limit {
            return Err(Fault::BodyTooLarge);
        }
        if feed.keeps && feed.kept.data.len() + len > REPLAY_MAX {
            feed.keeps = false;
            feed.kept = Kept::default();
        }
        if feed.keeps {
            feed.kept.take_in(frame);
        }
        if let (Some(copy), Some(data)) = (&mut feed.copy, frame.data_ref()) {
            copy.take_in(data);
        }
        let now = clock::now();
        feed.progress = if feed.incoming.is_end_stream() {
            Progress::Finished(now)
        } else {
            Progress::Given(now)
        };
        Ok(())
    }
}

// === impl Upload ===

impl Upload {
    pub(super) fn none() -> Self {
        Self {
            source: None,
            hold: None,
            turn: 0,
            at: Place::default(),
        }
    }

    // What speaks of a connection is malformed in HTTP/2, in trailers too (RFC 9113, 8.2.2).
    fn outgoing(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if !frame.is_trailers() || !self.hold.as_ref().is_some_and(Hold::is_stream) {
            return frame;
        }
        frame.into_trailers().map_or_else(
            |frame| frame,
            |mut trailers| {
                strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            },
        )
    }

    fn broken(&self) -> Poll<Option<Result<Frame<Bytes>, UploadBroken>>> {
        // Before hyper closes: a part must not look like the whole.
        if let Some(hold) = &self.hold {
            hold.reset();
        }
        Poll::Ready(Some(Err(UploadBroken(h2::Reason::CANCEL.into()))))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadBroken>>> {
        let Some(source) = self.source.clone() else {
            return Poll::Ready(None);
        };
        let mut feed = source.feed.borrow_mut();
        if feed.turn != self.turn || feed.fault.is_some() {
            return self.broken();
        }
        if let Some(frame) = feed.kept.next(self.at) {
            self.at = if frame.is_data() {
                feed.kept.end_of_data()
            } else {
                feed.kept.end()
            };
            feed.taken = self.at;
            return Poll::Ready(Some(Ok(self.outgoing(frame))));
        }
        if matches!(feed.progress, Progress::Finished(_)) {
            return Poll::Ready(None);
        }
        match source.poll_next(&mut feed, cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.at = feed.kept.end();
                feed.taken = self.at;
                Poll::Ready(Some(Ok(self.outgoing(frame))))
            }
            Poll::Ready(Some(Err(fault))) => {
                feed.fault = Some(fault);
                self.broken()
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            let feed = source.feed.borrow();
            feed.turn == self.turn
                && matches!(feed.progress, Progress::Finished(_))
                && feed.kept.is_taken(self.at)
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            None => SizeHint::with_exact(0),
            Some(source) => source
                .exact
                .map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

// === impl Feed ===

impl Feed {
    // Keeps nothing any more, unless the latest upload has yet to take it.
    fn let_go(&mut self) {
        self.keeps = false;
        if self.kept.is_taken(self.taken) {
            self.kept = Kept::default();
            self.taken = Place::default();
        }
    }
}

// === impl Kept ===

impl Kept {
    fn take_in(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.data.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }

    // What follows this place; `None` where it is the end.
    fn next(&self, at: Place) -> Option<Frame<Bytes>> {
        if let Some(rest @ [_, ..]) = self.data.get(at.bytes..) {
            return Some(Frame::data(Bytes::copy_from_slice(rest)));
        }
        let trailers = self.trailers.as_ref().filter(|_| !at.has_trailers);
        trailers.map(|trailers| Frame::trailers(trailers.clone()))
    }

    // Whether nothing follows this place.
    fn is_taken(&self, at: Place) -> bool {
        at.bytes >= self.data.len() && (at.has_trailers || self.trailers.is_none())
    }

    const fn end_of_data(&self) -> Place {
        Place {
            bytes: self.data.len(),
            has_trailers: false,
        }
    }

    const fn end(&self) -> Place {
        Place {
            bytes: self.data.len(),
            has_trailers: self.trailers.is_some(),
        }
    }
}
