//! The HTTP/2 connections of one worker: opened once for all who wait, shared as streams, kept while idle.
//!
//! A connection takes as many streams as its server allows, and at most `STREAMS`; then another one is opened. What one
//! connection is and how it ends is `line`'s.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::connect::{ById, Patience};
use super::endpoint::{Endpoint, EndpointId};
use super::line::{Line, STREAMS, Stream};
use super::transport::{ConnectError, Transport};
use crate::clock;

/// The HTTP/2 connections of one worker. `B` is the body of its requests.
pub(super) struct Multiplex<B> {
    endpoints: RefCell<ById<Lines<B>>>,
}

/// The connections to one endpoint.
struct Lines<B> {
    open: Vec<Rc<Line<B>>>,
    /// Connections on their way.
    connecting: usize,
    /// Who waits for one of them, the longest first.
    waiting: VecDeque<oneshot::Sender<Told<B>>>,
    /// How many streams the last connection took.
    expected: usize,
}

/// What those who wait are told: a stream, that there was room for others only, or why there is none.
type Told<B> = Result<Option<Stream<B>>, ConnectError>;

// === impl Multiplex ===

impl<B> Multiplex<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    /// A stream to the endpoint, on a connection that is open already or opened now.
    pub(super) async fn obtain(
        this: &Rc<Self>,
        transport: &Arc<Transport>,
        endpoint: &Arc<Endpoint>,
        patience: Patience,
    ) -> Result<Stream<B>, ConnectError> {
        loop {
            if let Some(stream) = this.take(endpoint.id(), clock::now(), patience.max_idle) {
                return Ok(stream);
            }
            let told = Self::await_line(this, transport, endpoint, patience);
            match told.await {
                Ok(Ok(Some(stream))) => return Ok(stream),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                // Nobody tells any more: the worker is ending.
                Err(_) => {
                    return Err(ConnectError::Timeout {
                        address: endpoint.address().to_owned(),
                    });
                }
            }
        }
    }

    // Waits for the connections on their way, or opens one more where they will not do for all who wait.
    fn await_line(
        this: &Rc<Self>,
        transport: &Arc<Transport>,
        endpoint: &Arc<Endpoint>,
        patience: Patience,
    ) -> oneshot::Receiver<Told<B>> {
        let mut endpoints = this.endpoints.borrow_mut();
        let lines = endpoints.entry(endpoint.id()).or_default();
        let (tell, told) = oneshot::channel();
        lines.waiting.retain(|waiting| !waiting.is_closed());
        lines.waiting.push_back(tell);
        if lines.waiting.len() > lines.connecting * lines.expected {
            lines.connecting += 1;
            let (this, transport) = (Rc::clone(this), Arc::clone(transport));
            let endpoint = Arc::clone(endpoint);
            // A task of its own: the request that began it may leave before the others.
            spawn_local(async move { this.open(transport, endpoint, patience).await });
        }
        told
    }

    async fn open(
        self: Rc<Self>,
        transport: Arc<Transport>,
        endpoint: Arc<Endpoint>,
        patience: Patience,
    ) {
        let opening = Line::open(&transport, &endpoint, patience.idle);
        let opened = match tokio::time::timeout(patience.connect, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::Timeout {
                address: endpoint.address().to_owned(),
            }),
        };
        let mut endpoints = self.endpoints.borrow_mut();
        let lines = endpoints.entry(endpoint.id()).or_default();
        lines.connecting = lines.connecting.saturating_sub(1);
        let opened = opened.map(Rc::new);
        if let Ok(line) = &opened {
            lines.expected = line.limit();
            lines.open.push(Rc::clone(line));
        }
        for waiting in lines.waiting.drain(..) {
            let told = match &opened {
                Ok(line) => Ok(line.has_room().then(|| line.lend())),
                Err(error) => Err(error.clone()),
            };
            // Who does not wait any more gives its stream back by that.
            waiting.send(told).ok();
        }
    }
}

impl<B: Body + 'static> Multiplex<B> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            endpoints: RefCell::default(),
        })
    }

    /// A stream on the first connection that has room and was not idle for longer than `max_idle`.
    pub(super) fn take(
        &self,
        endpoint: EndpointId,
        now: Instant,
        max_idle: Duration,
    ) -> Option<Stream<B>> {
        let mut endpoints = self.endpoints.borrow_mut();
        let lines = endpoints.get_mut(&endpoint)?;
        if lines.open.iter().any(|line| line.is_over()) {
            lines.open.retain(|line| !line.is_over());
        }
        let fits = |line: &&Rc<Line<B>>| line.has_room() && line.idle(now) <= max_idle;
        lines.open.iter().find(fits).map(Line::lend)
    }

    /// Lets go of what has been idle for as long as its pool allows, and of idle ones to endpoints that no table has
    /// any more.
    pub(super) fn sweep(&self, now: Instant) {
        self.endpoints.borrow_mut().retain(|_, lines| {
            lines
                .open
                .retain(|line| !line.is_over() && line.is_kept(now));
            !lines.open.is_empty() || lines.connecting > 0 || !lines.waiting.is_empty()
        });
    }

    /// Lets go of every connection; those with streams end with the last of them.
    pub(super) fn close_idle(&self) {
        for lines in self.endpoints.borrow_mut().values_mut() {
            lines.open.clear();
        }
    }
}

// === impl Lines ===

impl<B> Default for Lines<B> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            connecting: 0,
            waiting: VecDeque::new(),
            expected: STREAMS,
        }
    }
}
