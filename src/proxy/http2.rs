//! A client's connection that speaks HTTP/2: its settings, its streams, and the way it ends.
//!
//! hyper runs each stream as a task of its own; the task's handle stays here, so that a stream whose client does not
//! read can be reset while its neighbours go on. Requests are served as those of HTTP/1 are.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};

use super::answer::Turn;
use super::coarse::is_over;
use super::frames::PAYLOAD_MAX;
use super::meter::Meter;
use super::passage::{ClientSide, End, Passage};
use super::registry::{Cut, Place};
use super::service::{Client, handle};
use super::stay::Over;
use super::translate;
use super::worker::Worker;
use crate::config::Limits;
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
    /// Of a tunnel: the task that sends what the client is to get.
    sending: Option<JoinHandle<()>>,
    is_tunnel: bool,
    /// The coarse moment at which the client was given a piece that it has not taken; `None` while it waits for us.
    given: Option<u32>,
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

/// A stream that became a tunnel, as bytes.
struct Piped {
    io: TokioIo<Upgraded>,
    /// Ends before its time where the client resets the stream, which reading alone takes for an end.
    sending: Option<JoinHandle<()>>,
    /// An end was read; whether it was a reset is known one turn later.
    has_ended: bool,
    /// The client was told that nothing more comes.
    is_told: bool,
}

/// Goes on with a stream as a tunnel, once its answer was handed over. To be called right before that.
pub(super) fn tunnel(passage: Box<Passage>, turn: Turn, upgrade: OnUpgrade) {
    if let Some(lane) = turn.lane() {
        lane.becomes_tunnel();
    }
    spawn_local(async move {
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        let mut piped = Piped {
            io: TokioIo::new(upgraded),
            sending: turn.lane().and_then(Lane::sending),
            has_ended: false,
            is_told: false,
        };
        let end = passage.run(&mut piped).await;
        if matches!(
            end,
            End::ClientLost | End::EndpointLost | End::Over(Over::Unread)
        ) && let Some(sending) = &piped.sending
        {
            // A stream whose sender is dropped in the middle is reset.
            sending.abort();
        }
    });
}

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
        // On the heap: hyper and the runtime move a stream's future some eight times, and this one has several KiB.
        service_fn(move |request| {
            Box::pin(handle(Rc::clone(&client), request, Some(streams.open())))
        })
    };
    let connection = builder(limits, Rc::clone(&streams)).serve_connection(io, service);
    let mut connection = pin!(connection);
    let cut = poll_fn(|cx| {
        match place.cut() {
            Some(Cut::GoAway) => {
                place.told();
                connection.as_mut().graceful_shutdown();
            }
            Some(cut) => {
                // As a last word (RFC 9113, 6.8), as far as it can be said at once.
                connection.as_mut().graceful_shutdown();
                // The first gathers it, the second writes it.
                drop(connection.as_mut().poll(cx));
                drop(connection.as_mut().poll(cx));
                return Poll::Ready(Some(cut));
            }
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
        .max_frame_size(PAYLOAD_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_PENDING)
        .max_local_error_reset_streams(RESETS_LOCAL)
        .enable_connect_protocol()
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
        let clock = self.meter.clock();
        let is_stalled = |stream: &Stream| {
            let since = stream.given;
            since.is_some_and(|since| is_over(clock.age(since), limit))
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

    fn note_given(&self, key: usize, given: Option<u32>) {
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
            if stream.is_tunnel {
                stream.sending = Some(task);
            }
        }
    }
}

// === impl Piped ===

impl ClientSide for Piped {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sending) = &mut self.sending else {
            return Poll::Pending;
        };
        if let Err(error) = ready!(Pin::new(sending).poll(cx)) {
            tracing::debug!(%error, "a tunnel's sender was cut");
        }
        self.sending = None;
        if self.is_told {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() == before && !self.has_ended {
            self.has_ended = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_told = true;
        Pin::new(&mut self.io).poll_shutdown(cx)
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
        let is_given = matches!(polled, Poll::Ready(Some(Ok(_))));
        let given = is_given.then(|| self.streams.meter.clock().now());
        self.streams.note_given(self.key, given);
        polled
    }

    // The next task of hyper's is the one that sends for this stream.
    fn becomes_tunnel(&self) {
        if let Some(stream) = self.streams.open.borrow_mut().get_mut(self.key) {
            stream.is_tunnel = true;
            self.streams.newest.set(Some(self.key));
        }
    }

    fn sending(&self) -> Option<JoinHandle<()>> {
        let mut open = self.streams.open.borrow_mut();
        open.get_mut(self.key)?.sending.take()
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
