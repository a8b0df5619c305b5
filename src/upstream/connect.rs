//! The connections of one worker to the endpoints: opened, lent to one request at a time, kept while idle.
//!
//! A connection's driver is a task of its own on the same worker. Idle ones lie in a stack per endpoint, the last
//! used on top, and go back there only when hyper says that they can take another request. Whoever drops a connection
//! in the middle of a message resets it. Where HTTP/2 is spoken a request is lent a stream instead (see `multiplex`).

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
use super::line::{Slot, Stream};
use super::multiplex::Multiplex;
pub use super::socket::Link;
use super::socket::Socket;
pub use super::transport::ConnectError;
use super::transport::Transport;

/// The connections of one worker. `B` is the body of its requests.
pub struct Connections<B> {
    stacks: RefCell<ById<Vec<Idle<B>>>>,
    multiplex: Rc<Multiplex<B>>,
}

/// By endpoint.
pub(super) type ById<T> = HashMap<EndpointId, T, BuildHasherDefault<IdHasher>>;

/// How long a connection may be waited for, and be idle.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To a connection.
    pub connect: Duration,
    /// What a request may find a connection idle for.
    pub max_idle: Duration,
    /// How long one is kept idle.
    pub idle: Duration,
}

/// A connection lent to one request, or a stream of one. Dropped before its answer was read whole, it is reset.
pub struct Connection<B> {
    lent: Lent<B>,
    link: Arc<Link>,
    endpoint: Arc<Endpoint>,
    /// Whether it carried a request before.
    reused: bool,
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

struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
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
            stacks: RefCell::default(),
            multiplex: Multiplex::new(),
        }
    }

    /// The connection to `endpoint` that was used last, if it has been idle for at most `max_idle`.
    pub fn take(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        now: Instant,
        max_idle: Duration,
    ) -> Option<Connection<B>> {
        if transport.is_http2() {
            let stream = self.multiplex.take(endpoint.id(), now, max_idle)?;
            return Some(Connection::of_stream(stream));
        }
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(&endpoint.id())?;
        while let Some(top) = stack.last() {
            if now.saturating_duration_since(top.since) > max_idle {
                return None;
            }
            let Idle { mut connection, .. } = stack.pop()?;
            endpoint.idle_removed();
            if connection.is_ready() {
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Opens a connection, or finds that another request did meanwhile. Names are resolved now.
    ///
    /// # Errors
    /// Why there is none; nothing was sent.
    pub async fn connect(
        &self,
        transport: &Arc<Transport>,
        endpoint: &Arc<Endpoint>,
        patience: Patience,
    ) -> Result<Connection<B>, ConnectError> {
        if transport.is_http2() {
            let stream = Multiplex::obtain(&self.multiplex, transport, endpoint, patience).await?;
            return Ok(Connection::of_stream(stream));
        }
        let wire = transport.open(endpoint).await?;
        let link = Arc::new(Link::default());
        let io = TokioIo::new(Socket::new(wire, Arc::clone(&link)));
        let (sender, driver) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(io)
            .await
            .map_err(|why| ConnectError::Handshake {
                address: endpoint.address().to_owned(),
                why: why.to_string(),
            })?;
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended");
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
            reused: false,
            arrivals: 0,
        })
    }

    /// Takes a connection back whose answer was read whole. One that is not ready for another request is dropped.
    pub fn give_back(&self, connection: Connection<B>, now: Instant) {
        if connection.is_shared() || !connection.is_ready() {
            return;
        }
        let mut stacks = self.stacks.borrow_mut();
        connection.endpoint.idle_added();
        stacks
            .entry(connection.endpoint.id())
            .or_default()
            .push(Idle {
                connection,
                since: now,
            });
    }

    /// Closes what has been idle for as long as its pool allows, and all to endpoints that no table has any more.
    pub fn sweep(&self, now: Instant) {
        self.stacks.borrow_mut().retain(|_, stack| {
            let is_kept = |idle: &Idle<B>| {
                let connection = &idle.connection;
                let age = now.saturating_duration_since(idle.since);
                connection.endpoint.is_in_use() && connection.may_idle(age)
            };
            // The oldest lie at the bottom.
            let keep_from = stack.iter().position(is_kept).unwrap_or(stack.len());
            for idle in stack.drain(..keep_from) {
                idle.connection.endpoint.idle_removed();
            }
            !stack.is_empty()
        });
        self.multiplex.sweep(now);
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        for (_, stack) in self.stacks.borrow_mut().drain() {
            for idle in stack {
                idle.connection.endpoint.idle_removed();
            }
        }
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
            reused: stream.is_reused(),
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

    /// Whether other requests use the connection at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.lent, Lent::Stream(_))
    }

    /// Whether it carried a request before this one.
    pub fn reused(&self) -> bool {
        self.reused
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

    fn may_idle(&self, age: Duration) -> bool {
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
