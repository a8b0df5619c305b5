//! The connections of one worker to the endpoints: opened, lent to one request at a time, kept while idle.
//!
//! A connection's driver is a task of its own on the same worker. Idle ones lie in `idle`, and go back there only when
//! hyper says that they can take another request. Whoever drops a connection in the middle of a message resets it.
//! Where HTTP/2 is spoken a request is lent a stream instead (see `multiplex`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::endpoint::{Endpoint, EndpointId};
use super::idle::Idle;
use super::line::{Slot, Stream};
use super::multiplex::Multiplex;
pub use super::socket::Link;
use super::socket::Socket;
pub use super::transport::ConnectError;
use super::transport::Transport;
use crate::clock;
use crate::config::PoolTimeouts;
use crate::proxy_protocol::Introduction;

/// The connections of one worker. `B` is the body of its requests.
pub struct Connections<B> {
    idle: RefCell<Idle<B>>,
    multiplex: Rc<Multiplex<B>>,
}

/// By endpoint.
pub(super) type ById<T> = HashMap<EndpointId, T, BuildHasherDefault<IdHasher>>;

/// What may not be sent twice takes no connection that was idle for longer (RFC 9110, 9.2.2).
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// Nor one that has just answered: a server that closes behind its answers, and does not say so in them, has closed by then.
const RESTED_ENOUGH: Duration = Duration::from_millis(5);

/// What a connection holds at most of an answer, and of a request; an answer's head is no longer. Less than hyper would take,
/// so that a few hundred answers that nobody reads neither fill the memory nor keep the others waiting.
const BUFFER: usize = 128 * 1024;

/// Where a request goes, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    pub transport: &'a Arc<Transport>,
    pub endpoint: &'a Arc<Endpoint>,
    /// The client's connection, for endpoints that are told of it.
    pub whose: &'a Introduction,
}

/// How long a connection may be waited for, and be idle.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To a connection.
    pub connect: Duration,
    /// What a request may find a connection idle for, at least and at most.
    pub min_idle: Duration,
    pub max_idle: Duration,
    /// How long one is kept idle.
    pub idle: Duration,
}

impl Patience {
    /// Of a pool, with one of its requests to this endpoint: what is not safe to send twice takes no connection that only
    /// just answered, was idle for long, or for half as long as the endpoint was seen to bear, because its server may be
    /// closing it.
    pub fn of(
        timeouts: &PoolTimeouts,
        endpoint: &Endpoint,
        is_idempotent: bool,
        now: Instant,
    ) -> Self {
        let (min_idle, max_idle) = if is_idempotent {
            (Duration::ZERO, timeouts.idle)
        } else {
            let safe_age = endpoint.closing().safe_age(now).unwrap_or(FRESH_ENOUGH);
            (RESTED_ENOUGH, timeouts.idle.min(FRESH_ENOUGH).min(safe_age))
        };
        Self {
            connect: timeouts.connect,
            min_idle,
            max_idle,
            idle: timeouts.idle,
        }
    }
}

/// A connection lent to one request, or a stream of one. Dropped before its answer was read whole, it is reset.
pub struct Connection<B> {
    lent: Lent<B>,
    link: Arc<Link>,
    endpoint: Arc<Endpoint>,
    /// The client that it speaks for, where its endpoint was told.
    whose: Option<Box<Introduction>>,
    /// Whether it carried a request before.
    reused: bool,
    /// How long it had been idle when this request took it. HTTP/1 alone.
    idle_for: Duration,
    /// How often bytes had come when the request was begun.
    arrivals: u32,
}

enum Lent<B> {
    Whole(Whole<B>),
    Stream(Stream<B>),
}

/// A connection of HTTP/1.
struct Whole<B> {
    sender: SendRequest<B>,
    link: Arc<Link>,
    driver: AbortHandle,
    /// How long it is kept idle.
    idle_limit: Duration,
    /// It speaks another protocol: what is left here has nothing to say about its end.
    is_switched: bool,
}

/// What the body of a request holds of its connection.
#[derive(Clone, Debug)]
pub enum Hold {
    Whole(Arc<Link>),
    /// The stream is taken for as long as one of these lives.
    Stream(Slot),
}

/// Endpoint ids are small distinct numbers: they are their own hash.
#[derive(Default)]
pub(super) struct IdHasher(u64);

// === impl Connections ===

impl<B> Connections<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    pub fn new() -> Self {
        Self {
            idle: RefCell::new(Idle::new()),
            multiplex: Multiplex::new(),
        }
    }

    /// The connection that was used last among those that can be used here.
    pub fn take(&self, way: Way<'_>, now: Instant, patience: Patience) -> Option<Connection<B>> {
        if way.transport.is_http2() {
            let stream = self
                .multiplex
                .take(way.endpoint.id(), now, patience.max_idle)?;
            return Some(Connection::of_stream(stream));
        }
        let whose = way.transport.tells_of(way.whose);
        let mut idle = self.idle.borrow_mut();
        idle.take(way.endpoint, whose, now, patience)
    }

    /// Opens a connection, or finds that another request did meanwhile. Names are resolved now.
    ///
    /// # Errors
    /// Why there is none; nothing was sent.
    pub async fn connect(
        &self,
        way: Way<'_>,
        patience: Patience,
    ) -> Result<Connection<B>, ConnectError> {
        let Way {
            transport,
            endpoint,
            whose,
        } = way;
        if transport.is_http2() {
            let stream = Multiplex::obtain(&self.multiplex, transport, endpoint, patience).await?;
            return Ok(Connection::of_stream(stream));
        }
        let wire = transport.open(endpoint, Some(whose)).await?;
        let link = Arc::new(Link::default());
        let io = TokioIo::new(Socket::new(wire, Arc::clone(&link)));
        let (sender, driver) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(BUFFER)
            .handshake(io)
            .await
            .map_err(|why| ConnectError::Handshake {
                address: endpoint.address().to_owned(),
                why: why.to_string(),
            })?;
        let (its_link, its_endpoint) = (Arc::clone(&link), Arc::clone(endpoint));
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended");
            }
            let now = clock::now();
            if let Some(age) = its_link.idle_for(now) {
                its_endpoint.closing().note(age, now);
            }
        });
        let whole = Whole {
            sender,
            link: Arc::clone(&link),
            driver: driver.abort_handle(),
            idle_limit: patience.idle,
            is_switched: false,
        };
        Ok(Connection {
            lent: Lent::Whole(whole),
            link,
            endpoint: Arc::clone(endpoint),
            whose: transport.tells_of(whose).copied().map(Box::new),
            reused: false,
            idle_for: Duration::ZERO,
            arrivals: 0,
        })
    }

    /// Takes a connection back whose answer was read whole. One that is not ready for another request is dropped.
    pub fn give_back(&self, connection: Connection<B>, now: Instant) {
        if connection.is_shared() || !connection.is_ready() {
            return;
        }
        self.idle.borrow_mut().put(connection, now);
    }

    /// Closes what has been idle for as long as its pool allows, and all to endpoints that no table has any more.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().sweep(now);
        self.multiplex.sweep(now);
    }

    /// Closes idle connections that speak for a client who has left.
    pub fn forget(&self, whose: &Introduction) {
        self.idle.borrow_mut().forget(whose);
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        self.idle.borrow_mut().close_all();
        self.multiplex.close_idle();
    }
}

impl<B> Default for Connections<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn default() -> Self {
        Self::new()
    }
}

// === impl Connection ===

impl<B: Body + 'static> Connection<B> {
    fn of_stream(stream: Stream<B>) -> Self {
        Self {
            link: Arc::clone(stream.link()),
            endpoint: Arc::clone(stream.endpoint()),
            whose: None,
            reused: stream.is_reused(),
            idle_for: Duration::ZERO,
            arrivals: 0,
            lent: Lent::Stream(stream),
        }
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// What the request's body is to hold.
    pub fn hold(&self) -> Hold {
        match &self.lent {
            Lent::Whole(whole) => Hold::Whole(Arc::clone(&whole.link)),
            Lent::Stream(stream) => Hold::Stream(stream.slot()),
        }
    }

    /// The client that it speaks for, where its endpoint was told.
    pub(super) fn whose(&self) -> Option<&Introduction> {
        self.whose.as_deref()
    }

    /// Whether other requests use the connection at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.lent, Lent::Stream(_))
    }

    /// Whether it carried a request before this one.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Another request takes it, after it has been idle for so long.
    pub(super) fn reuse(&mut self, idle_for: Duration) {
        self.reused = true;
        self.idle_for = idle_for;
    }

    /// It was ended under its request, as idle ones are: its endpoint is known by that.
    pub fn note_stale(&self) {
        if !self.is_shared() {
            self.endpoint.closing().note(self.idle_for, clock::now());
        }
    }

    /// Whether any byte has come since the request was begun.
    pub fn answered(&self) -> bool {
        self.link.arrivals() != self.arrivals
    }

    /// Whether it can take another request now.
    pub fn is_ready(&self) -> bool {
        match &self.lent {
            Lent::Whole(whole) => whole.sender.is_ready(),
            Lent::Stream(_) => true,
        }
    }

    /// Gives no further request to a connection that others share; those on it go on.
    pub fn retire(&self) {
        if let Lent::Stream(stream) = &self.lent {
            stream.retire();
        }
    }

    /// The same for one whose server left a request unanswered for too long: it may not be there any more.
    pub fn suspect(&self) {
        if let Lent::Stream(stream) = &self.lent {
            stream.suspect();
        }
    }

    /// Whether it can, when everything that the kernel knows by now has been looked at: a server that closes an idle
    /// connection is noticed one turn of the event loop earlier.
    pub async fn is_still_ready(&self) -> bool {
        tokio::task::yield_now().await;
        self.is_ready()
    }

    /// Sends a request; the answer's head, or why there is none, with the request where it was not sent at all.
    pub async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        self.arrivals = self.link.arrivals();
        match &mut self.lent {
            Lent::Whole(whole) => {
                self.link.begin();
                whole.sender.try_send_request(request).await
            }
            Lent::Stream(stream) => stream.send(request).await,
        }
    }

    /// Lets go of a connection whose answer was 101: it belongs to who takes it from the answer, and is reset only
    /// where the link says so.
    pub fn switch(mut self) -> Arc<Link> {
        if let Lent::Whole(whole) = &mut self.lent {
            whole.is_switched = true;
        }
        Arc::clone(&self.link)
    }

    /// Waits until it can take another request; false if it ended instead.
    pub async fn ready(&mut self) -> bool {
        match &mut self.lent {
            Lent::Whole(whole) => whole.sender.ready().await.is_ok(),
            Lent::Stream(_) => true,
        }
    }

    pub(super) fn may_idle(&self, age: Duration) -> bool {
        match &self.lent {
            Lent::Whole(whole) => age < whole.idle_limit,
            Lent::Stream(_) => false,
        }
    }
}

// === impl Whole ===

impl<B> Drop for Whole<B> {
    fn drop(&mut self) {
        if !self.is_switched && !self.sender.is_ready() {
            self.link.reset();
            self.driver.abort();
        }
    }
}

// === impl Hold ===

impl Hold {
    /// The body ends early: where the end of the connection tells it, that is a reset. A stream is reset by itself.
    pub fn reset(&self) {
        if let Self::Whole(link) = self {
            link.reset();
        }
    }

    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", &self.endpoint.address())
            .finish_non_exhaustive()
    }
}

// === impl IdHasher ===

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The table takes its slots from the low bits and its tags from the high ones.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 << 8) | u64::from(byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
