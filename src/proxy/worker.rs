//! One worker: a thread with its own runtime, listeners, upstream connections and recorder.
//!
//! Accepts until the drain begins, then finishes what was begun. Shares nothing on the request's way with another
//! worker but the table and atomic counters.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinSet, spawn_local};

use super::balance::{Balance, Handed};
use super::body::Upload;
use super::coarse::CoarseClock;
use super::connection;
use super::date::Date;
use super::deadline::{Deadlines, Elapsed};
use super::listen::Bound;
use super::registry::{Place as Seat, Registry};
use super::stay::Stays;
use super::tunnel::PIECE;
use crate::clock;
use crate::live::{Entrance, Held, Live, PoolIndex, Reader, RolloutIndex};
use crate::shutdown::{Shutdown, Stage};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::spans::Spans;
use crate::telemetry::{Recorder, Tally};
use crate::upstream::admission::{Admission, Entry, Overloaded, Place};
use crate::upstream::budget::Budget;
use crate::upstream::connect::Connections;

/// How often connections are looked over.
const SWEEP: Duration = Duration::from_millis(100);
/// Connections that begin or end before the others have their turn: a crowd that comes or goes at once keeps nobody waiting.
const TURN: usize = 2;
/// Tasks that run before the kernel is asked what else has come: among a crowd's, that is how long a learner waits unseen.
const TASKS_PER_POLL: u32 = 16;
/// How long accepting pauses when files or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// From one warning to the next of what may happen with every connection.
const WARN_AGAIN: Duration = Duration::from_secs(10);

/// How long the ends of tunnels may take to leave at the very end.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a worker is made of; all of it can be sent to its thread.
pub(super) struct WorkerParts {
    pub(super) live: Arc<Live>,
    pub(super) recorder: Recorder,
    pub(super) listeners: Vec<Bound>,
    pub(super) balance: Balance,
    pub(super) handed: UnboundedReceiver<Handed>,
    /// How many workers there are.
    pub(super) workers: usize,
    /// Connections of this worker; never 0.
    pub(super) max_connections: usize,
    pub(super) shutdown: Shutdown,
    /// `None` where nobody wants to read one.
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// `None` where nobody takes them.
    pub(super) spans: Option<Arc<Spans>>,
}

/// What the requests of one worker share.
pub(super) struct Worker {
    pub(super) recorder: Recorder,
    pub(super) connections: Connections<Upload>,
    /// Of copies of requests: no learner's request shares a connection with one.
    pub(super) mirrors: Connections<Full<Bytes>>,
    /// Answers are compared one after the other, so that they take little from those who answer learners.
    pub(super) comparing: Semaphore,
    pub(super) deadlines: Deadlines,
    pub(super) registry: Registry,
    pub(super) balance: Balance,
    pub(super) clock: Arc<CoarseClock>,
    pub(super) date: Date,
    pub(super) stays: Stays,
    /// Where bytes of tunnels lie between being read and being written.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Told when a connection has ended.
    pub(super) left: Notify,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) spans: Option<Arc<Spans>>,
    reader: RefCell<Reader>,
    /// By the rollout's place in the table.
    failovers: RefCell<Vec<Budget>>,
    /// By the pool's place in the table.
    retries: RefCell<Vec<Budget>>,
    workers: usize,
    max_connections: usize,
    began: Instant,
    draining: Cell<Option<Instant>>,
    /// When a connection without a PROXY header was last told of.
    warned: Cell<Option<Instant>>,
}

/// One listener of a worker.
struct Door {
    worker: Rc<Worker>,
    /// Its address in the configuration.
    configured: SocketAddr,
    /// As last configured: what is listened on outlives the line that named it, and never loses its TLS.
    entrance: RefCell<Entrance>,
}

/// How many connections have begun or ended since the others had their turn.
#[derive(Default)]
struct Turn {
    taken: usize,
}

/// Runs a worker until it is drained.
pub(super) fn run(parts: WorkerParts) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_PER_POLL)
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(parts))
}

async fn serve(parts: WorkerParts) -> io::Result<()> {
    let worker = Rc::new(Worker {
        recorder: parts.recorder,
        connections: Connections::new(),
        mirrors: Connections::new(),
        comparing: Semaphore::new(1),
        deadlines: Deadlines::new(),
        registry: Registry::default(),
        balance: parts.balance,
        clock: Arc::default(),
        date: Date::default(),
        stays: Stays::default(),
        scratch: RefCell::new(vec![0; PIECE].into()),
        left: Notify::new(),
        access_log: parts.access_log,
        spans: parts.spans,
        reader: RefCell::new(parts.live.reader()),
        failovers: RefCell::default(),
        retries: RefCell::default(),
        workers: parts.workers,
        max_connections: parts.max_connections,
        began: clock::now(),
        draining: Cell::new(None),
        warned: Cell::new(None),
    });
    let sweeping = spawn_local(sweep(Rc::clone(&worker)));
    let mut accepting = JoinSet::new();
    let mut doors = Vec::new();
    for socket in parts.listeners {
        let entrance = worker.table().entrance(socket.configured).cloned();
        let door = Rc::new(Door {
            worker: Rc::clone(&worker),
            configured: socket.configured,
            entrance: RefCell::new(entrance.unwrap_or_default()),
        });
        doors.push(Rc::clone(&door));
        let listener = TcpListener::from_std(socket.listener)?;
        accepting.spawn_local(accept(door, listener, parts.shutdown.clone()));
    }
    accepting.spawn_local(receive(doors, parts.handed, parts.shutdown.clone()));
    let (mut shutdown, mut leaving) = (parts.shutdown.clone(), parts.shutdown.clone());
    loop {
        tokio::select! {
            ended = accepting.join_next() => match ended {
                Some(ended) => ended.map_err(io::Error::other)??,
                None => break,
            },
            // Not the doors' to say: one may wait for room.
            () = leaving.reached(Stage::Draining), if !worker.is_draining() => worker.drain(),
            () = shutdown.reached(Stage::Stopped) => break,
        }
    }
    accepting.abort_all();
    worker.leave(parts.shutdown).await;
    sweeping.abort();
    Ok(())
}

// Accepts until the drain begins, then what the kernel had accepted already.
async fn accept(door: Rc<Door>, listener: TcpListener, mut shutdown: Shutdown) -> io::Result<()> {
    let mut turn = Turn::default();
    loop {
        tokio::select! {
            biased;
            () = shutdown.reached(Stage::Draining) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    door.admit_or_hand(stream, peer).await;
                    turn.pass().await;
                }
                Err(error) => door.worker.pause(&error).await,
            },
        }
    }
    door.worker.drain();
    let listener = listener.into_std()?;
    loop {
        match listener.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        }) {
            Ok((stream, peer)) => door.admit(stream, peer).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => door.worker.pause(&error).await,
        }
    }
}

// Takes what other workers hand until the drain begins, then what they had handed already: what comes later stays with them.
async fn receive(
    doors: Vec<Rc<Door>>,
    mut handed: UnboundedReceiver<Handed>,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    let mut turn = Turn::default();
    loop {
        let next = tokio::select! {
            biased;
            () = shutdown.reached(Stage::Draining), if !handed.is_closed() => {
                handed.close();
                continue;
            }
            next = handed.recv() => next,
        };
        let Some(next) = next else { return Ok(()) };
        // Every worker listens on every address.
        let door = doors.iter().find(|door| door.configured == next.configured);
        if let Some(door) = door {
            door.take(next).await;
            door.worker.balance.ended();
        }
        turn.pass().await;
    }
}

async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = clock::now();
        worker
            .clock
            .set(now.saturating_duration_since(worker.began));
        let table = worker.table();
        let draining = worker
            .draining
            .get()
            .map(|since| now.saturating_duration_since(since));
        let timeouts = &table.rules().timeouts;
        let mut turn = Turn::default();
        let mut place = Some(0);
        while let Some(from) = place {
            let look = worker.registry.sweep(from, timeouts, draining, &worker);
            for slot in look.over {
                slot.end_if_due(timeouts, draining);
                turn.pass().await;
            }
            for slot in look.idle {
                slot.rest();
                turn.pass().await;
            }
            if look.next.is_some() {
                tokio::task::yield_now().await;
            }
            place = look.next;
        }
        worker.stays.sweep(&table, &worker.recorder);
        worker.connections.sweep(now);
        worker.mirrors.sweep(now);
    }
}

fn gone(error: &io::Error) {
    tracing::debug!(%error, "a client was gone before it was served");
}

// === impl Turn ===

impl Turn {
    // One more has begun or ended.
    async fn pass(&mut self) {
        self.taken += 1;
        if self.taken == TURN {
            self.taken = 0;
            tokio::task::yield_now().await;
        }
    }
}

// === impl Door ===

impl Door {
    /// Serves a connection, or hands it to a worker that has fewer.
    async fn admit_or_hand(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(other) = self.worker.balance.better() else {
            return self.admit(stream, peer).await;
        };
        let handed = match stream.into_std() {
            Ok(stream) => Handed {
                stream,
                peer,
                configured: self.configured,
            },
            Err(error) => return gone(&error),
        };
        match self.worker.balance.hand(other, handed) {
            Ok(()) => self.worker.recorder.tally(Tally::ConnectionHanded),
            Err(kept) => self.take(kept).await,
        }
    }

    /// Serves a connection that is no runtime's yet.
    async fn take(&self, handed: Handed) {
        match TcpStream::from_std(handed.stream) {
            Ok(stream) => self.admit(stream, handed.peer).await,
            Err(error) => gone(&error),
        }
    }

    async fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        self.worker.make_room().await;
        if let Err(error) = stream.set_nodelay(true) {
            return gone(&error);
        }
        let place = Seat::take(&self.worker);
        spawn_local(connection::serve(place, stream, peer, self.entrance()));
    }

    fn entrance(&self) -> Entrance {
        if let Some(entrance) = self.worker.table().entrance(self.configured) {
            self.entrance.borrow_mut().clone_from(entrance);
        }
        self.entrance.borrow().clone()
    }
}

// === impl Worker ===

impl Worker {
    /// The table in force.
    pub(super) fn table(&self) -> Held {
        Rc::clone(self.reader.borrow_mut().load())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// A request of baseline's own, which canary's failures may be measured by.
    pub(super) fn earn_failover(&self, rollout: RolloutIndex, now: Instant) {
        self.failover(rollout, now, |budget| budget.earn(now));
    }

    /// Whether a request that canary saw may be sent to baseline as well; takes it from the budget.
    pub(super) fn take_failover(&self, rollout: RolloutIndex, now: Instant) -> bool {
        self.failover(rollout, now, |budget| budget.take(now))
    }

    /// A request to a pool, which its retries may be measured by. `share` is the pool's.
    pub(super) fn earn_retry(&self, pool: PoolIndex, share: f64, now: Instant) {
        self.retry(pool, share, now, |budget| budget.earn(now));
    }

    /// Whether a request that was sent may be sent once more; takes it from the budget.
    pub(super) fn take_retry(&self, pool: PoolIndex, share: f64, now: Instant) -> bool {
        self.retry(pool, share, now, |budget| budget.take(now))
    }

    fn failover<T>(
        &self,
        rollout: RolloutIndex,
        now: Instant,
        act: impl FnOnce(&mut Budget) -> T,
    ) -> T {
        let mut budgets = self.failovers.borrow_mut();
        if budgets.len() <= rollout.0 {
            budgets.resize(rollout.0 + 1, Budget::failover(self.workers, now));
        }
        act(&mut budgets[rollout.0])
    }

    fn retry<T>(
        &self,
        pool: PoolIndex,
        share: f64,
        now: Instant,
        act: impl FnOnce(&mut Budget) -> T,
    ) -> T {
        let mut budgets = self.retries.borrow_mut();
        if budgets.len() <= pool.0 {
            budgets.resize(pool.0 + 1, Budget::retries(share, self.workers, now));
        }
        let budget = &mut budgets[pool.0];
        // Another table may have another pool at this place.
        if budget.share() != share {
            *budget = Budget::retries(share, self.workers, now);
        }
        act(budget)
    }

    /// Takes a place, or waits for one in the queue, `at_most` so long; `None` where there is no limit. Whether it waited.
    pub(super) async fn admit(
        &self,
        admission: &Admission,
        at_most: Option<Duration>,
    ) -> Result<(Option<Place>, bool), Overloaded> {
        match admission.enter()? {
            None => Ok((None, false)),
            Some(Entry::Free(place)) => Ok((Some(place), false)),
            Some(Entry::Wait(waiting)) => {
                let wait = admission.wait();
                let wait = at_most.map_or(wait, |most| most.min(wait));
                if wait.is_zero() {
                    return Err(Overloaded);
                }
                match self.deadlines.within(wait, waiting.place()).await {
                    Ok(place) => Ok((Some(place?), true)),
                    Err(Elapsed) => Err(Overloaded),
                }
            }
        }
    }

    /// Whether it is time to warn once more of what may happen with every connection.
    pub(super) fn warns_again(&self) -> bool {
        let now = clock::now();
        let warned = self.warned.get();
        let is_due = warned.is_none_or(|at| now.saturating_duration_since(at) >= WARN_AGAIN);
        if is_due {
            self.warned.set(Some(now));
        }
        is_due
    }

    // Waits until there is room for one more connection.
    async fn make_room(&self) {
        while self.registry.len() >= self.max_connections {
            let mut left = pin!(self.left.notified());
            // Those who left before are known of.
            if left.as_mut().enable() {
                continue;
            }
            if self.registry.evict() {
                self.recorder.tally(Tally::ConnectionEvicted);
            }
            // Where all are busy, the kernel keeps the next ones until one ends, or is idle at the next look.
            let left = self.deadlines.within(SWEEP, left);
            left.await.unwrap_or_default();
        }
    }

    async fn pause(&self, error: &io::Error) {
        use rustix::io::Errno;
        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
        let code = error.raw_os_error().unwrap_or_default();
        if exhausted.iter().any(|errno| errno.raw_os_error() == code) {
            self.recorder.tally(Tally::AcceptPaused);
            tracing::warn!(%error, "accepting pauses");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        } else {
            tracing::debug!(%error, "a connection was gone before it was accepted");
        }
    }

    async fn all_left(&self) {
        while self.registry.len() > 0 {
            self.left.notified().await;
        }
    }

    fn drain(&self) {
        if self.draining.get().is_none() {
            self.draining.set(Some(clock::now()));
        }
    }

    // Waits until every connection has ended, or the time is up and the rest is cut.
    async fn leave(&self, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.all_left() => return,
            () = shutdown.reached(Stage::Stopped) => {}
        }
        if !self.stays.is_empty() {
            self.stays.end_all();
            self.deadlines
                .within(LAST_WORDS, self.all_left())
                .await
                .unwrap_or_default();
        }
        self.registry.cut_all();
        self.all_left().await;
        self.connections.close_idle();
        self.mirrors.close_idle();
    }
}
