//! The connections of one worker to the endpoints: opened, lent to one request at a time, kept while idle.
//!
//! A connection of HTTP/1 is written and read by the request that it is lent to (`http1`). Idle ones lie in `idle`, and go
//! back there only where both messages ended and nothing came behind them; what comes on an idle one, most likely its end,
//! is heard at once. Whoever drops a connection in the middle of a message resets it. Where HTTP/2 is spoken a request is
//! lent a stream instead (see `multiplex`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use tokio::task::{AbortHandle, JoinHandle, spawn_local};

use super::answer::{Answer, AnswerBody, Unanswered};
use super::endpoint::{Endpoint, EndpointId};
use super::http1::{self, Pipe, RequestHead, Shared};
use super::idle::Idle;
use super::line::{Slot, Stream};
use super::multiplex::Multiplex;
use super::sentry::{Bell, Sentry};
pub use super::socket::Link;
use super::socket::Socket;
pub use super::transport::ConnectError;
use super::transport::Transport;
use crate::clock;
use crate::config::PoolTimeouts;
use crate::proxy_protocol::Introduction;
use crate::wire::Wire;

/// The connections of one worker. `B` is the body of its requests.
pub struct Connections<B> {
    idle: Rc<RefCell<Idle<B>>>,
    multiplex: Rc<Multiplex<B>>,
    bell: Bell,
    /// The task that hears the bell, once there is a connection that may ring it.
    watch: RefCell<Option<AbortHandle>>,
}

/// A request in whichever form a connection wants it. It may be asked for more than once, each time for another attempt.
pub trait Outgoing<B> {
    /// For HTTP/1.
    fn head(&self) -> RequestHead<'_>;

    /// For HTTP/1, once for each head.
    fn body(&self) -> B;

    /// The server asks for the body. HTTP/1 alone.
    fn proceed(&self) {}

    /// For HTTP/2.
    fn request(&self) -> Request<B>;
}

/// By endpoint.
pub(super) type ById<T> = HashMap<EndpointId, T, BuildHasherDefault<IdHasher>>;

/// What may not be sent twice takes no connection that was idle for longer (RFC 9110, 9.2.2).
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// Nor one that has just answered: a server that closes behind its answers, and does not say so in them, has closed by then.
const RESTED_ENOUGH: Duration = Duration::from_millis(5);

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
    /// How often bytes had come when the request was begun. HTTP/2 alone.
    arrivals: u32,
}

enum Lent<B> {
    Whole(Whole),
    Stream(Stream<B>),
}

/// A connection of HTTP/1.
struct Whole {
    pipe: Shared<Socket<Wire>>,
    link: Arc<Link>,
    sentry: Sentry,
    /// Where a request's body still goes up behind its answer's head.
    upload: Option<JoinHandle<()>>,
    /// How long it is kept idle.
    idle_limit: Duration,
    /// What fails to be written has not left: TLS keeps what it did not write yet.
    is_plain: bool,
    /// It speaks another protocol: what is left here has nothing to say about its end.
    is_switched: bool,
}

/// A connection that speaks another protocol.
pub type Switched = http1::Switched<Socket<Wire>>;

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
            idle: Rc::new(RefCell::new(Idle::new())),
            multiplex: Multiplex::new(),
            bell: Bell::default(),
            watch: RefCell::default(),
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
        self.keep_watch();
        let whole = Whole {
            is_plain: matches!(wire, Wire::Plain(_)),
            pipe: Rc::new(RefCell::new(Pipe::new(Socket::new(
                wire,
                Arc::clone(&link),
            )))),
            link: Arc::clone(&link),
            sentry: Sentry::new(&self.bell),
            upload: None,
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

    // Idle connections are looked at when they stir.
    fn keep_watch(&self) {
        let mut watch = self.watch.borrow_mut();
        watch.get_or_insert_with(|| {
            let (idle, bell) = (Rc::downgrade(&self.idle), self.bell.clone());
            let watching = spawn_local(async move {
                loop {
                    bell.rung().await;
                    let Some(idle) = idle.upgrade() else {
                        return;
                    };
                    idle.borrow_mut().hear(clock::now());
                }
            });
            watching.abort_handle()
        });
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
        match &self.lent {
            Lent::Whole(whole) => whole.pipe.borrow().has_heard(),
            Lent::Stream(_) => self.link.arrivals() != self.arrivals,
        }
    }

    /// 1xx heads, but 100 and 101, that came before the answer; told once.
    pub fn take_informational(&self) -> u32 {
        match &self.lent {
            Lent::Whole(whole) => whole.pipe.borrow_mut().take_informational(),
            Lent::Stream(_) => 0,
        }
    }

    /// Whether it can take another request now.
    pub fn is_ready(&self) -> bool {
        match &self.lent {
            Lent::Whole(whole) => whole.pipe.borrow().is_ready(),
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

    /// Whether nothing came while it was idle; from now on it is heard of.
    pub(super) fn is_quiet(&mut self) -> bool {
        match &mut self.lent {
            Lent::Whole(whole) => whole.is_quiet(),
            Lent::Stream(_) => true,
        }
    }

    /// Whether something came since it was last known to be quiet.
    pub(super) fn has_stirred(&self) -> bool {
        match &self.lent {
            Lent::Whole(whole) => whole.sentry.has_stirred(),
            Lent::Stream(_) => false,
        }
    }

    /// Whether it can, when everything that the kernel knows by now has been looked at: a server that closes an idle
    /// connection is noticed one turn of the event loop earlier.
    pub async fn is_still_ready(&mut self) -> bool {
        tokio::task::yield_now().await;
        self.is_ready() && self.is_quiet()
    }

    /// Sends a request; the answer's head, or why there is none.
    ///
    /// # Errors
    /// Why there is no answer, and whether the request was sent at all.
    pub async fn send(&mut self, outgoing: &impl Outgoing<B>) -> Result<Answer, Unanswered>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match &mut self.lent {
            Lent::Whole(whole) => whole.send(outgoing).await,
            Lent::Stream(stream) => {
                self.arrivals = self.link.arrivals();
                // On the heap: HTTP/1 needs no room for it.
                let sent = Box::pin(stream.send(outgoing.request())).await;
                let answer = sent.map_err(|mut error| Unanswered {
                    was_unsent: error.take_message().is_some(),
                    error: error.into_error().into(),
                })?;
                let (head, body) = answer.into_parts();
                Ok(Answer {
                    head,
                    spelling: http1::Spelling::default(),
                    body: AnswerBody::Http2(body),
                })
            }
        }
    }

    /// Lets go of a connection whose answer was 101, for who speaks another protocol over it; it is reset only where the
    /// link says so. `None` where a stream was lent.
    pub fn switch(mut self) -> Option<(Arc<Link>, Switched)> {
        let Lent::Whole(whole) = &mut self.lent else {
            return None;
        };
        whole.is_switched = true;
        let switched = Switched::new(&whole.pipe);
        Some((Arc::clone(&self.link), switched))
    }

    /// Waits until it can take another request; false if it cannot any more.
    pub async fn ready(&mut self) -> bool {
        match &mut self.lent {
            Lent::Whole(whole) => poll_fn(|cx| whole.poll_ready(cx)).await,
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

impl Whole {
    async fn send<B>(&mut self, outgoing: &impl Outgoing<B>) -> Result<Answer, Unanswered>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let sending = http1::exchange(&self.pipe, outgoing.head(), outgoing.body(), || {
            outgoing.proceed()
        });
        let answered = sending.await.map_err(|unanswered| Unanswered {
            error: unanswered.error.into(),
            was_unsent: unanswered.was_unsent && self.is_plain,
        })?;
        if let Some(rest) = answered.rest {
            let carrying = http1::carry_on(Rc::clone(&self.pipe), rest);
            self.upload = Some(spawn_local(carrying));
        }
        Ok(Answer {
            head: answered.parts,
            spelling: answered.spelling,
            body: AnswerBody::Http1(http1::Body::new(&self.pipe)),
        })
    }

    fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(self.sentry.waker());
        self.pipe.borrow_mut().poll_stir(&mut cx).is_pending()
    }

    // Ready once the request's body is through as well, or the server has ended the connection before that.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(upload) = &mut self.upload {
            let is_through = Pin::new(upload).poll(cx).is_ready();
            if !is_through {
                return self.pipe.borrow_mut().poll_stir(cx).map(|()| false);
            }
            self.upload = None;
        }
        Poll::Ready(self.pipe.borrow().is_ready())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        if self.is_switched {
            return;
        }
        let mut pipe = self.pipe.borrow_mut();
        if pipe.is_between() {
            pipe.close();
        } else {
            self.link.reset();
        }
    }
}

impl<B> Drop for Connections<B> {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get_mut() {
            watch.abort();
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
