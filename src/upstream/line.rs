//! One HTTP/2 connection of a worker: opened, shared as streams, and the way it ends.
//!
//! A connection counts as made when the server's SETTINGS have come: until then nothing was sent, and a server that
//! speaks something else is found out. What a server says of its end (GOAWAY) is obeyed by the library: a retired
//! connection is given no new stream, and closes when the last one on it is over.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, spawn_local};

use super::endpoint::Endpoint;
use super::socket::{Link, Socket};
use super::transport::{ConnectError, Transport};
use crate::clock;

/// Streams of one connection at a time: what servers allow at least (RFC 9113, 6.5.2), and most allow exactly.
pub(super) const STREAMS: usize = 100;
/// What a server may send on one stream before its client takes it.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Enough for every stream at once: one whose client does not read must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAMS as u32 * STREAM_WINDOW;
/// What is kept of a request's body for a server that is slow to take it.
const SEND_BUFFER: usize = 64 * 1024;
/// Longest header list of an answer; trailers of gRPC carry messages and stack traces.
const HEADER_LIST_MAX: u32 = 256 * 1024;
/// How long a connection with open streams may be silent before it is asked whether it is still there. Servers of gRPC
/// take more than one question in five minutes for an attack (gRFC A8).
const PING_AFTER: Duration = Duration::from_secs(310);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(super) struct Line<B> {
    sender: RefCell<SendRequest<B>>,
    link: Arc<Link>,
    endpoint: Arc<Endpoint>,
    load: Rc<Load>,
    /// As many streams as the server allows, at most `STREAMS`.
    limit: Rc<Cell<usize>>,
    idle_limit: Duration,
    carried: Cell<bool>,
    /// Takes no new stream.
    is_retired: Cell<bool>,
    /// May be dead: it is reset, not closed.
    is_suspect: Cell<bool>,
    /// The task that reads and writes.
    pump: Pump,
}

/// How busy a connection is.
#[derive(Debug)]
struct Load {
    streams: Cell<usize>,
    /// Since when there is no stream.
    idle_since: Cell<Instant>,
    is_closed: Cell<bool>,
    endpoint: Arc<Endpoint>,
}

#[derive(Debug)]
struct Taken(Rc<Load>);

/// Spawns hyper's tasks on the worker; the first is the one that reads and writes.
#[derive(Clone, Default)]
pub(super) struct Pump(Rc<RefCell<Option<AbortHandle>>>);

/// A stream lent to one request.
pub(super) struct Stream<B> {
    slot: Slot,
    line: Rc<Line<B>>,
    is_reused: bool,
}

/// The place that one stream takes on its connection.
#[derive(Clone, Debug)]
pub struct Slot {
    _taken: Rc<Taken>,
}

// === impl Line ===

impl<B> Line<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    pub(super) async fn open(
        transport: &Transport,
        endpoint: &Arc<Endpoint>,
        idle_limit: Duration,
    ) -> Result<Self, ConnectError> {
        let failed = |why: String| ConnectError::Handshake {
            address: endpoint.address().to_owned(),
            why,
        };
        // It is shared: it speaks for nobody.
        let wire = transport.open(endpoint, None).await?;
        let link = Arc::new(Link::http2());
        let io = TokioIo::new(Socket::new(wire, Arc::clone(&link)));
        let pump = Pump::default();
        let handshake = builder(pump.clone()).handshake(io);
        let (sender, mut driver) = handshake.await.map_err(|why| failed(why.to_string()))?;
        if !link.greeted().await {
            return Err(failed("it does not speak HTTP/2".to_owned()));
        }
        let allowed = |streams: usize| streams.clamp(1, STREAMS);
        let limit = Rc::new(Cell::new(allowed(driver.current_max_send_streams())));
        let latest = Rc::clone(&limit);
        spawn_local(async move {
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut driver).poll(cx);
                latest.set(allowed(driver.current_max_send_streams()));
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        endpoint.idle_added();
        Ok(Self {
            sender: RefCell::new(sender),
            link,
            endpoint: Arc::clone(endpoint),
            load: Rc::new(Load {
                streams: Cell::new(0),
                idle_since: Cell::new(clock::now()),
                is_closed: Cell::new(false),
                endpoint: Arc::clone(endpoint),
            }),
            limit,
            idle_limit,
            carried: Cell::new(false),
            is_retired: Cell::new(false),
            is_suspect: Cell::new(false),
            pump,
        })
    }
}

impl<B> Line<B> {
    /// How many streams it takes.
    pub(super) fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Whether no further stream can be made.
    pub(super) fn is_over(&self) -> bool {
        self.is_retired.get() || self.sender.borrow().is_closed()
    }

    pub(super) fn has_room(&self) -> bool {
        self.load.streams.get() < self.limit.get()
    }

    /// How long there has been no stream.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        if self.load.streams.get() > 0 {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.load.idle_since.get())
    }

    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.load.streams.get() > 0 || self.endpoint.is_in_use() && self.idle(now) < self.idle_limit
    }

    pub(super) fn lend(self: &Rc<Self>) -> Stream<B> {
        Stream {
            line: Rc::clone(self),
            slot: Slot {
                _taken: Rc::new(Taken::of(&self.load)),
            },
            is_reused: self.carried.replace(true),
        }
    }
}

impl<B> Drop for Line<B> {
    // No answer is awaited on it; bodies of requests may still be on their way.
    fn drop(&mut self) {
        self.load.is_closed.set(true);
        if self.load.streams.get() == 0 {
            self.endpoint.idle_removed();
        }
        if self.is_suspect.get()
            && let Some(pump) = self.pump.0.borrow_mut().take()
        {
            self.link.reset();
            pump.abort();
        }
    }
}

// === impl Stream ===

impl<B: Body + 'static> Stream<B> {
    pub(super) fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + use<B> {
        self.line.sender.borrow_mut().try_send_request(request)
    }
}

impl<B> Stream<B> {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.line.link
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.line.endpoint
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot.clone()
    }

    /// Whether its connection carried a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(super) fn retire(&self) {
        self.line.is_retired.set(true);
    }

    pub(super) fn suspect(&self) {
        self.line.is_suspect.set(true);
        self.retire();
    }
}

// === impl Taken ===

impl Taken {
    fn of(load: &Rc<Load>) -> Self {
        let streams = load.streams.get();
        if streams == 0 {
            load.endpoint.idle_removed();
        }
        load.streams.set(streams + 1);
        Self(Rc::clone(load))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let left = self.0.streams.get().saturating_sub(1);
        self.0.streams.set(left);
        if left == 0 && !self.0.is_closed.get() {
            self.0.idle_since.set(clock::now());
            self.0.endpoint.idle_added();
        }
    }
}

// === impl Pump ===

impl<F: Future + 'static> Executor<F> for Pump {
    fn execute(&self, future: F) {
        let task = spawn_local(async move {
            future.await;
        });
        self.0.borrow_mut().get_or_insert(task.abort_handle());
    }
}

fn builder(pump: Pump) -> http2::Builder<Pump> {
    let mut builder = http2::Builder::new(pump);
    builder
        .timer(TokioTimer::new())
        .initial_max_send_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST_MAX)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_PATIENCE);
    builder
}
