//! A client's connection that speaks HTTP/2: its settings, its streams, and the way it ends.
//!
//! hyper runs each stream as a task of its own; the task's handle stays here, so that a stream whose client does not
//! read can be reset while its neighbours go on. Requests are served as those of HTTP/1 are.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use slab::Slab;
use tokio::task::{AbortHandle, spawn_local};

use super::connection::{Cut, Place};
use super::io::Meter;
use super::service::{Client, handle};
use super::translate;
use super::worker::Worker;
use crate::config::Limits;
use crate::rollout::time::millis;
use crate::telemetry::Tally;

/// Requests of one connection at a time; what browsers and libraries are used to.
const STREAMS: u32 = 100;
/// What a client may send on one stream before its upstream takes it.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Enough for every stream at once: one whose upstream takes nothing must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// What is kept of an answer for a client that is slow to take it.
const SEND_BUFFER: usize = 64 * 1024;
/// An answer is handed over in pieces of a frame's size, so that a stream is seen to move.
const PIECE: usize = 16 * 1024;
/// Streams that a client reset before they were accepted.
const RESETS_PENDING: usize = 20;
/// Streams that we reset for the client's faults, before the connection ends.
const RESETS_LOCAL: usize = 256;
/// What HPACK's counting adds to a field beside our own.
const FIELD_REST: usize = 32;
/// Longest header list where the configuration has no limit.
const HEADER_LIST_MAX: u32 = 16 * 1024 * 1024;

/// The streams of one connection that are being served.
pub(super) struct Streams {
    meter: Arc<Meter>,
    open: RefCell<Slab<Stream>>,
    /// The stream that is handed to its task next.
    newest: Cell<Option<usize>>,
}

#[derive(Default)]
struct Stream {
    task: Option<AbortHandle>,
    /// Coarse milliseconds, plus one, at which the client was given a piece that it has not taken; 0 = it waits for us.
    given: u32,
}

/// One request's stream; it leaves the list when its answer is over.
pub(super) struct Lane {
    streams: Rc<Streams>,
    key: usize,
    /// What is left of a frame that was longer than a piece.
    rest: Bytes,
}

/// Spawns hyper's tasks on the worker.
#[derive(Clone)]
struct Tasks(Rc<Streams>);

/// Serves a connection to its end; why it was cut, if it was.
pub(super) async fn serve<I>(
    place: &Place,
    client: Rc<Client>,
    io: I,
    limits: &Limits,
    peer: SocketAddr,
) -> Option<Cut>
where
    I: Read + Write + Unpin + 'static,
{
    let streams = place.streams();
    let service = {
        let streams = Rc::clone(&streams);
        service_fn(move |request| handle(Rc::clone(&client), request, Some(streams.open())))
    };
    let connection = builder(limits, Rc::clone(&streams)).serve_connection(io, service);
    let mut connection = pin!(connection);
    let cut = poll_fn(|cx| {
        match place.cut() {
            Some(Cut::GoAway) => {
                place.told();
                connection.as_mut().graceful_shutdown();
            }
            Some(cut) => return Poll::Ready(Some(cut)),
            None => {}
        }
        place.listen(cx.waker());
        connection.as_mut().poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a client's HTTP/2 connection ended");
            }
            None
        })
    })
    .await;
    streams.abort_all();
    cut
}

fn builder(limits: &Limits, streams: Rc<Streams>) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks(streams));
    builder
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_PENDING)
        .max_local_error_reset_streams(RESETS_LOCAL)
        .max_header_list_size(header_list(limits));
    builder
}

// Room for what is a little over our limits, so that the answer to it is our own.
fn header_list(limits: &Limits) -> u32 {
    let fields = FIELD_REST * (limits.headers + limits.headers / 4 + 8);
    match limits.head_bytes {
        0 => HEADER_LIST_MAX,
        bytes => u32::try_from(bytes.saturating_add(bytes / 4).saturating_add(fields))
            .unwrap_or(HEADER_LIST_MAX)
            .min(HEADER_LIST_MAX),
    }
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(meter: &Arc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            meter: Arc::clone(meter),
            open: RefCell::default(),
            newest: Cell::new(None),
        })
    }

    fn open(self: &Rc<Self>) -> Lane {
        let key = self.open.borrow_mut().insert(Stream::default());
        self.newest.set(Some(key));
        Lane {
            streams: Rc::clone(self),
            key,
            rest: Bytes::new(),
        }
    }

    /// Resets every stream whose client has not taken what it was given for `limit`; zero = no limit.
    pub(super) fn sweep(&self, limit: Duration, worker: &Worker) {
        if limit.is_zero() {
            return;
        }
        let now = self.meter.clock().now();
        let is_stalled = |stream: &Stream| {
            let since = stream.given.checked_sub(1);
            since.is_some_and(|since| u64::from(now.saturating_sub(since)) >= millis(limit))
        };
        for (_, stream) in self.open.borrow_mut().iter_mut() {
            if is_stalled(stream)
                && let Some(task) = stream.task.take()
            {
                task.abort();
                worker.recorder.tally(Tally::StreamStalled);
            }
        }
    }

    fn abort_all(&self) {
        for (_, stream) in self.open.borrow_mut().iter_mut() {
            if let Some(task) = stream.task.take() {
                task.abort();
            }
        }
    }

    fn note_given(&self, key: usize, given: u32) {
        if let Some(stream) = self.open.borrow_mut().get_mut(key) {
            stream.given = given;
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

// === impl Tasks ===

impl<F: Future + 'static> Executor<F> for Tasks {
    // hyper hands a stream over right after it asked the service for its future.
    fn execute(&self, future: F) {
        let newest = self.0.newest.take();
        let task = spawn_local(async move {
            future.await;
        });
        let mut open = self.0.open.borrow_mut();
        if let Some(stream) = newest.and_then(|key| open.get_mut(key)) {
            stream.task = Some(task.abort_handle());
        }
    }
}

// === impl Lane ===

impl Lane {
    /// The next piece of an answer: being asked means that the client has taken the one before.
    pub(super) fn poll_frame<E>(
        &mut self,
        more: impl FnOnce() -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let polled = if self.rest.is_empty() {
            more().map(|frame| frame.map(|frame| frame.map(|frame| self.cut(frame))))
        } else {
            let piece = self.rest.split_to(self.rest.len().min(PIECE));
            Poll::Ready(Some(Ok(Frame::data(piece))))
        };
        let given = if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.streams.meter.clock().now() + 1
        } else {
            0
        };
        self.streams.note_given(self.key, given);
        polled
    }

    /// Whether a part of the last frame is still to be handed over.
    pub(super) fn keeps(&self) -> bool {
        !self.rest.is_empty()
    }

    fn cut(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) => {
                if data.len() > PIECE {
                    self.rest = data.split_off(PIECE);
                }
                Frame::data(data)
            }
            Err(frame) => frame.into_trailers().map_or_else(
                |other| other,
                |mut trailers| {
                    translate::strip_trailers(&mut trailers);
                    Frame::trailers(trailers)
                },
            ),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.streams.open.borrow_mut().try_remove(self.key);
    }
}
