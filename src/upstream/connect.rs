//! The connections of one worker to the endpoints: opened, lent to one request at a time, kept while idle.
//!
//! A connection's driver is a task of its own on the same worker. Idle ones lie in a stack per endpoint, the last
//! used on top, and go back there only when hyper says that they can take another request. Whoever drops a connection
//! in the middle of a message resets it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::endpoint::{Address, Endpoint, EndpointId};
pub use super::socket::Link;
use super::socket::Socket;

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Refused { address: String, source: io::Error },
    #[error("no HTTP connection to {address}: {source}")]
    Handshake {
        address: String,
        source: hyper::Error,
    },
}

/// The connections of one worker. `B` is the body of its requests.
pub struct Connections<B> {
    stacks: RefCell<HashMap<EndpointId, Vec<Idle<B>>, BuildHasherDefault<IdHasher>>>,
}

/// A connection lent to one request. Dropped before its answer was read whole, it is reset.
pub struct Connection<B> {
    sender: SendRequest<B>,
    link: Arc<Link>,
    driver: AbortHandle,
    endpoint: Arc<Endpoint>,
    /// Whether it carried a request before.
    reused: bool,
    /// How long it is kept idle.
    idle_limit: Duration,
    /// It speaks another protocol: what is left here has nothing to say about its end.
    is_switched: bool,
}

struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
}

/// Endpoint ids are small distinct numbers: they are their own hash.
#[derive(Default)]
struct IdHasher(u64);

// === impl Connections ===

impl<B> Connections<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    pub fn new() -> Self {
        Self {
            stacks: RefCell::default(),
        }
    }

    /// The connection to `endpoint` that was used last, if it has been idle for at most `max_idle`.
    pub fn take(
        &self,
        endpoint: &Endpoint,
        now: Instant,
        max_idle: Duration,
    ) -> Option<Connection<B>> {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(&endpoint.id())?;
        while let Some(top) = stack.last() {
            if now.saturating_duration_since(top.since) > max_idle {
                return None;
            }
            let Idle { mut connection, .. } = stack.pop()?;
            endpoint.idle_removed();
            if connection.sender.is_ready() {
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Opens a connection that is kept idle for at most `idle_limit`. Names are resolved now.
    pub async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        idle_limit: Duration,
    ) -> Result<Connection<B>, ConnectError> {
        let stream = open(endpoint)
            .await
            .map_err(|source| ConnectError::Refused {
                address: endpoint.address().to_owned(),
                source,
            })?;
        let link = Arc::new(Link::default());
        let io = TokioIo::new(Socket::new(stream, Arc::clone(&link)));
        let (sender, driver) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(io)
            .await
            .map_err(|source| ConnectError::Handshake {
                address: endpoint.address().to_owned(),
                source,
            })?;
        let driver = tokio::task::spawn_local(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        let endpoint = Arc::clone(endpoint);
        Ok(Connection {
            sender,
            link,
            driver: driver.abort_handle(),
            endpoint,
            reused: false,
            idle_limit,
            is_switched: false,
        })
    }

    /// Takes a connection back whose answer was read whole. One that is not ready for another request is dropped.
    pub fn give_back(&self, connection: Connection<B>, now: Instant) {
        if !connection.sender.is_ready() {
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
                let Connection {
                    endpoint,
                    idle_limit,
                    ..
                } = &idle.connection;
                endpoint.is_in_use() && now.saturating_duration_since(idle.since) < *idle_limit
            };
            // The oldest lie at the bottom.
            let keep_from = stack.iter().position(is_kept).unwrap_or(stack.len());
            for idle in stack.drain(..keep_from) {
                idle.connection.endpoint.idle_removed();
            }
            !stack.is_empty()
        });
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        for (_, stack) in self.stacks.borrow_mut().drain() {
            for idle in stack {
                idle.connection.endpoint.idle_removed();
            }
        }
    }
}

impl<B> Default for Connections<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn default() -> Self {
        Self::new()
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match endpoint.destination() {
        Address::Socket(address) => TcpStream::connect(address).await?,
        Address::Name(name) => TcpStream::connect(name.as_str()).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

// === impl Connection ===

impl<B: Body + 'static> Connection<B> {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether it carried a request before this one.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether it can take another request now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it can, when everything that the kernel knows by now has been looked at: a server that closes an idle
    /// connection is noticed one turn of the event loop earlier.
    pub async fn is_still_ready(&self) -> bool {
        tokio::task::yield_now().await;
        self.is_ready()
    }

    /// Sends a request; the answer's head, or why there is none, with the request where it was not sent at all.
    pub fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + use<B> {
        self.link.begin();
        self.sender.try_send_request(request)
    }

    /// Lets go of a connection whose answer was 101: it belongs to who takes it from the answer, and is reset only
    /// where the link says so.
    pub fn switch(mut self) -> Arc<Link> {
        self.is_switched = true;
        Arc::clone(&self.link)
    }

    /// Waits until it can take another request; false if it ended instead.
    pub async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        if !self.is_switched && !self.sender.is_ready() {
            self.link.reset();
            self.driver.abort();
        }
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
