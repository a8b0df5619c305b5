//! The stub analyzer: a small HTTP/1.1 server that answers learners, and misbehaves on command.
//!
//! `GET /health` says 200, or 503 when it was told to be sick; `GET` and `POST /behaviour` show and
//! change how it behaves; `GET /counts` what it did, `GET /metrics` how it is, for Prometheus. Everything else is a learner's request. Owns
//! the listener, the connections and the counts; what is answered lives in `answer`.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answer::answer;
use super::behaviour::{Behaviour, BehaviourError, Change};
use super::chance::Chance;
use super::lock;
use super::wire::{End, Wire};
use crate::clock;

/// Connections that may wait to be accepted: a whole pool of a proxy may come back at once.
const BACKLOG: i32 = 1024;
/// Pause after a failed accept or bind (no descriptors left; the address not free yet).
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct AnalyzerSettings {
    /// Port 0 for any that is free.
    pub listen: SocketAddr,
    /// Told in every answer. Visible ASCII.
    pub pool: String,
    pub behaviour: Behaviour,
    /// Of the latencies and faults drawn.
    pub seed: u64,
}

/// A running analyzer. Clones are handles on the same one; it runs until `stop`, or until its
/// runtime ends.
#[derive(Clone, Debug)]
pub struct Analyzer {
    inner: Arc<Inner>,
}

/// What an analyzer did since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Learners' requests begun, whatever became of them.
    pub requests: u64,
    /// Of these, answered as told by `error_rate`.
    pub errors: u64,
    pub hung: u64,
    pub reset: u64,
    pub cut: u64,
    /// Probes of `/health`.
    pub probes: u64,
    pub connections: u64,
    /// When the last learner's request began, in milliseconds since 1970; `None` before the first.
    pub last_request_unix_ms: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pool: String,
    pub(super) pool_header: HeaderValue,
    pub(super) chance: Chance,
    pub(super) counters: Counters,
    addr: SocketAddr,
    /// The listener that every serving runtime has a copy of; none while refusing.
    door: Mutex<Option<StdListener>>,
    told: watch::Sender<Told>,
    began: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) hung: AtomicU64,
    pub(super) reset: AtomicU64,
    pub(super) cut: AtomicU64,
    pub(super) probes: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    connections: AtomicU64,
    /// Nanoseconds from `began` to the last learner's request, and one: 0 is none.
    last_request: AtomicU64,
}

/// What the analyzer was last told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) behaviour: Behaviour,
    pub(super) since: Instant,
    /// How many times it was told something.
    times: u64,
    stopped: bool,
}

// === impl Analyzer ===

impl Analyzer {
    /// Binds, and serves on the calling runtime.
    pub async fn start(settings: AnalyzerSettings) -> io::Result<Self> {
        let analyzer = Self::bind(settings)?;
        let serving = analyzer.clone();
        let told = analyzer.inner.told.subscribe();
        tokio::spawn(async move { serving.serve_told(told).await });
        Ok(analyzer)
    }

    /// Binds only: connections wait until somebody calls `serve`.
    pub fn bind(settings: AnalyzerSettings) -> io::Result<Self> {
        let pool_header = HeaderValue::from_str(&settings.pool).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the pool's name is no header value",
            )
        })?;
        let listener = listen(settings.listen)?;
        let began = clock::now();
        let (told, _) = watch::channel(Told {
            behaviour: settings.behaviour,
            since: began,
            times: 0,
            stopped: false,
        });
        let inner = Inner {
            pool: settings.pool,
            pool_header,
            chance: Chance {
                seed: settings.seed,
            },
            counters: Counters::default(),
            addr: listener.local_addr()?,
            door: Mutex::new(Some(listener)),
            told,
            began,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Serves on the calling runtime until `stop`. Several runtimes may do so at once.
    pub async fn serve(&self) {
        self.serve_told(self.inner.told.subscribe()).await;
    }

    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    pub fn behaviour(&self) -> Behaviour {
        self.inner.told().behaviour
    }

    /// Requests that begin from now on meet this behaviour.
    pub fn set(&self, behaviour: Behaviour) {
        self.inner.tell(behaviour);
    }

    /// The same for some of it.
    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        let mut behaviour = self.behaviour();
        change(&mut behaviour);
        self.set(behaviour);
    }

    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// When the last learner's request began; probes are none.
    pub fn last_request(&self) -> Option<Instant> {
        self.inner.last_request()
    }

    /// Tells every serving runtime to close the listener and to cut every connection.
    pub fn stop_soon(&self) {
        self.inner.told.send_modify(|told| told.stopped = true);
    }

    /// The same, and ends when all runtimes have stopped serving.
    pub async fn stop(&self) {
        self.stop_soon();
        // Each serving runtime holds one receiver.
        self.inner.told.closed().await;
    }

    async fn serve_told(&self, mut told: watch::Receiver<Told>) {
        let mut connections = JoinSet::new();
        loop {
            let now = *told.borrow_and_update();
            if now.stopped || now.behaviour.refuse {
                self.inner.shut();
                connections.shutdown().await;
            }
            if now.stopped {
                return;
            }
            let changed = told.changed();
            if now.behaviour.refuse {
                if changed.await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = self.accept(&mut connections) => {}
                changed = changed => if changed.is_err() { return },
            }
        }
    }

    // Accepts until it is dropped; ends early only where there is no listener to be had.
    async fn accept(&self, connections: &mut JoinSet<()>) {
        let listener = match self.inner.open() {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!("analyzer cannot listen on {}: {error}", self.inner.addr);
                return tokio::time::sleep(PAUSE).await;
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(Arc::clone(&self.inner), stream));
                }
                Err(error) => {
                    tracing::debug!("analyzer cannot accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn serve_connection(inner: Arc<Inner>, stream: TcpStream) {
    inner.counters.connections.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("analyzer cannot set TCP_NODELAY: {error}");
    }
    let end = End::default();
    let wire = Wire::new(stream, end.clone());
    let service = service_fn(move |request| answer(Arc::clone(&inner), end.clone(), request));
    let served = http1::Builder::new().serve_connection(wire, service).await;
    if let Err(error) = served {
        tracing::trace!("a connection of an analyzer ended: {error}");
    }
}

/// A past moment of the process's clock on the wall's.
fn unix_ms(moment: Instant) -> i64 {
    let ago = clock::now().saturating_duration_since(moment);
    clock::wall().as_unix_millis() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)
}

// === impl Inner ===

impl Inner {
    pub(super) fn told(&self) -> Told {
        *self.told.borrow()
    }

    /// Counts a learner's request that begins now, and answers with its number, from 1.
    pub(super) fn begin(&self) -> u64 {
        let after = clock::now().saturating_duration_since(self.began);
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX - 1);
        self.counters
            .last_request
            .fetch_max(nanos + 1, Ordering::Relaxed);
        self.counters.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.counters.requests),
            errors: read(&self.counters.errors),
            hung: read(&self.counters.hung),
            reset: read(&self.counters.reset),
            cut: read(&self.counters.cut),
            probes: read(&self.counters.probes),
            connections: read(&self.counters.connections),
            last_request_unix_ms: self.last_request().map(unix_ms),
        }
    }

    fn last_request(&self) -> Option<Instant> {
        let nanos = self.counters.last_request.load(Ordering::Relaxed);
        let nanos = nanos.checked_sub(1)?;
        Some(self.began + Duration::from_nanos(nanos))
    }

    /// Makes a change, and takes it back after the time it says. Must be called on a runtime.
    pub(super) fn apply(self: &Arc<Self>, change: &Change) -> Result<Behaviour, BehaviourError> {
        let before = self.told().behaviour;
        let behaviour = before.with(change)?;
        let lasts = change.lasts()?;
        let times = self.tell(behaviour);
        if let Some(lasts) = lasts {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                if inner.told().times == times {
                    inner.tell(before);
                }
            });
        }
        Ok(behaviour)
    }

    fn tell(&self, behaviour: Behaviour) -> u64 {
        let mut times = 0;
        self.told.send_modify(|told| {
            told.behaviour = behaviour;
            told.since = clock::now();
            told.times += 1;
            times = told.times;
        });
        times
    }

    fn open(&self) -> io::Result<TcpListener> {
        let mut door = lock(&self.door);
        if door.is_none() {
            *door = Some(listen(self.addr)?);
        }
        let listener = door.as_ref().expect("it was opened above").try_clone()?;
        TcpListener::from_std(listener)
    }

    fn shut(&self) {
        *lock(&self.door) = None;
    }
}

fn listen(addr: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier life may still stand in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
