//! What the data path counts: one recorder per worker, drained by the control path.
//!
//! Owns the hot write (`recorder`, `shard`, `hot_cell`), who is counted (`meters`, `segments`), the drain into
//! slots (`drain`), the totals since start (`totals`) and the Prometheus text (`prometheus`,
//! `expose`); lends the others a histogram of theirs (`durations`). Never knows who writes to it, never judges a number.

pub mod access_log;
mod assignments;
mod buckets;
mod drain;
mod durations;
mod expose;
mod failing;
mod handed;
mod hot_cell;
mod meters;
mod mirrors;
mod notices;
pub mod prometheus;
mod recorder;
mod segments;
mod shard;
mod sights;
pub mod spans;
mod totals;
mod trace;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{Assigned, Sight};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::slot::{Cell, CellKey, Class, Outcome, Slot};
use crate::rollout::time::Timestamp;

pub use durations::Durations;
pub use meters::{PoolMeter, RolloutMeter};
pub use mirrors::{MirrorDifference, MirrorMeter, MirrorSample, MirrorTicket, Mirrored};
pub use notices::ChannelMeter;
pub use recorder::Recorder;
pub use trace::TraceId;

use access_log::AccessLog;
use drain::Drainer;
use handed::Handed;
use meters::Registry;
use mirrors::Mirrors;
use notices::Channels;
use prometheus::Exposition;
use spans::{Span, Spans};

/// All counters of the process. Shared by every thread; workers write through their own `Recorder`.
pub struct Telemetry {
    registry: Mutex<Registry>,
    drainer: Mutex<Drainer>,
    channels: Mutex<Channels>,
    mirrors: Mutex<Mirrors>,
    handed: Mutex<Handed>,
    /// Open connections of each worker, which the workers count themselves.
    workers: OnceLock<Arc<[AtomicUsize]>>,
    access_log: OnceLock<Arc<AccessLog>>,
    spans: OnceLock<Arc<Spans>>,
}

/// A segment's number within its rollout; 0 = none was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SegmentId(pub u16);

/// One learner request on its own arm: exactly one per request that the gate counts.
#[derive(Clone, Copy, Debug)]
pub struct ArmRecord<'a> {
    pub rollout: &'a RolloutMeter,
    pub arm: Arm,
    pub segment: SegmentId,
    /// Epoch of the split under which its first attempt began.
    pub epoch: u64,
    pub outcome: Outcome,
    /// `None` where nothing identifies the learner (`client_ip`, `random`).
    pub learner: Option<LearnerHash>,
    pub trace: Option<TraceId>,
}

/// One attempt on an endpoint of a pool.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRecord<'a> {
    pub pool: &'a PoolMeter,
    pub attempt: Attempt,
    pub outcome: Outcome,
    pub trace: Option<TraceId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    First,
    Retry,
    Failover,
}

/// What happens to tunnels: connections that changed their protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEvent {
    Opened,
    Closed,
    /// Bytes from the client, and bytes from the endpoint.
    Moved {
        up: u64,
        down: u64,
    },
}

/// Things counted one by one that are no outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tally {
    ConnectionAccepted,
    ConnectionClosed,
    /// Accepting paused because descriptors or memory ran out.
    AcceptPaused,
    /// An idle connection was closed because `max_connections` was reached.
    ConnectionEvicted,
    /// An idle connection of HTTP/1 gave back what only a request needs.
    ConnectionRested,
    /// A new connection was handed to another worker, which had fewer.
    ConnectionHanded,
    /// A reused upstream connection was found closed before the first byte of the answer.
    StaleConnection,
    /// A 1xx other than 101 from upstream that could not be passed on.
    InformationalDropped,
    /// A connection was ended because it sent more control frames of HTTP/2 than any client needs.
    FrameFlood,
    /// A stream of HTTP/2 was reset because its client did not read.
    StreamStalled,
    /// A client's TLS handshake failed, or did not end in time.
    HandshakeFailed,
    /// A request was not sent again because the budget for retries was used up.
    RetryRefused,
    /// A stream or tunnel was ended because nothing moved on it for `stream_idle`.
    StreamIdle,
    /// A stream or tunnel was ended `stream_grace` after its arm was retreated from.
    StreamRetreated,
    /// An attempt ended because there was no TLS with the endpoint.
    UpstreamTlsFailed,
    /// A connection was refused because it began without a PROXY header.
    ProxyHeaderMissing,
    /// The same because of a malformed one.
    ProxyHeaderMalformed,
    /// The same because it ended within one.
    ProxyHeaderIncomplete,
    /// The same because none was whole in time.
    ProxyHeaderLate,
}

/// What one drain found for one rollout: counts since the last drain.
#[derive(Clone, Debug)]
pub struct Drained {
    pub rollout: RolloutName,
    pub slot: Slot,
    /// What the process that was taken over counted meanwhile: figures, and no evidence, because its learners are not
    /// told one by one.
    pub handed: Slot,
    /// By `Arm::index`.
    pub learners: [LearnerSketch; 2],
    /// Learners with an id, worker by worker.
    pub sights: Vec<Sight>,
    /// Learners with an id who were sent to an arm by their hash, worker by worker.
    pub assigned: Vec<Assigned>,
}

// === impl Telemetry ===

impl Telemetry {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            registry: Mutex::default(),
            drainer: Mutex::default(),
            channels: Mutex::default(),
            mirrors: Mutex::default(),
            handed: Mutex::default(),
            workers: OnceLock::new(),
            access_log: OnceLock::new(),
            spans: OnceLock::new(),
        })
    }

    /// The recorder of one worker. What it wrote is still drained when it is gone.
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        lock(&self.drainer).recorder()
    }

    /// The meter of a rollout. The same name gives the same counters over reloads, whichever meter of it is written
    /// through. `latency_limits_us` are the limits counted exactly from now on; `max_segments` bounds the segments
    /// told apart (the rest are `other`), and a lower bound forgets none that is known.
    pub fn rollout(
        self: &Arc<Self>,
        name: &RolloutName,
        latency_limits_us: &[u64],
        max_segments: usize,
    ) -> RolloutMeter {
        lock(&self.registry).rollout(name, latency_limits_us, max_segments)
    }

    /// The meter of a pool. The same name gives the same counters over reloads.
    pub fn pool(self: &Arc<Self>, name: &PoolName) -> PoolMeter {
        lock(&self.registry).pool(name)
    }

    /// The meter of a channel of notices. The same name gives the same counters over reloads.
    pub fn channel(&self, name: &str) -> Arc<ChannelMeter> {
        lock(&self.channels).channel(name)
    }

    /// The meter of a rollout's mirror. The same name gives the same counters over reloads.
    pub fn mirror(&self, rollout: &RolloutName) -> Arc<MirrorMeter> {
        lock(&self.mirrors).meter(rollout)
    }

    /// The same; `None` where the rollout never had a mirror.
    pub fn known_mirror(&self, rollout: &RolloutName) -> Option<Arc<MirrorMeter>> {
        lock(&self.mirrors).known(rollout)
    }

    /// Learns where the workers count their open connections. A second call changes nothing.
    pub fn know_workers(&self, open: Arc<[AtomicUsize]>) {
        self.workers.get_or_init(|| open);
    }

    /// Starts the access log, for workers that start later. A second call changes nothing.
    pub fn start_access_log(&self, format: access_log::Format) {
        self.access_log
            .get_or_init(|| Arc::new(AccessLog::start(format)));
    }

    /// `None` where none was started.
    pub fn access_log(&self) -> Option<Arc<AccessLog>> {
        self.access_log.get().cloned()
    }

    /// Makes a line for so many spans, for workers that start later, and gives its other end; `None` where there was one.
    pub fn start_spans(&self, length: usize) -> Option<(Arc<Spans>, Receiver<Span>)> {
        let (spans, end) = Spans::new(length);
        let spans = Arc::new(spans);
        self.spans.set(Arc::clone(&spans)).ok()?;
        Some((spans, end))
    }

    /// `None` where nobody takes spans.
    pub fn spans(&self) -> Option<Arc<Spans>> {
        self.spans.get().cloned()
    }

    /// Takes everything recorded since the last drain. `at` is the start of the part of a second that
    /// the slots are given, `width` its length. One entry for each rollout that still has a meter or that was written
    /// to, also where its slot is empty: that time passed without requests is an observation too.
    pub fn drain(&self, at: Timestamp, width: Duration) -> Vec<Drained> {
        let mut drained = lock(&self.drainer).drain(&self.registry, at, width);
        lock(&self.handed).give(&mut drained);
        drained
    }

    /// Adds what a process that was taken over counted: it is in the next drain.
    pub fn absorb(&self, rollout: RolloutName, key: CellKey, cell: &Cell) {
        lock(&self.handed).add(rollout, key, cell);
    }

    /// Adds learners whom a process that was taken over saw.
    pub fn absorb_learners(&self, rollout: RolloutName, arm: Arm, learners: &LearnerSketch) {
        lock(&self.handed).add_learners(rollout, arm, learners);
    }

    /// Writes the totals since start, as of the last drain, as Prometheus families.
    pub fn expose(&self, out: &mut Exposition) {
        expose::expose(&lock(&self.drainer).totals, out);
        lock(&self.channels).expose(out);
        lock(&self.mirrors).expose(out);
        if let Some(open) = self.workers.get() {
            expose::workers(open, out);
        }
        if let Some(log) = self.access_log.get() {
            expose::access_log(log, out);
        }
        if let Some(spans) = self.spans.get() {
            spans.expose(out);
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

// === impl Attempt ===

impl Attempt {
    const ALL: [Self; 3] = [Self::First, Self::Retry, Self::Failover];

    const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Retry => 1,
            Self::Failover => 2,
        }
    }

    /// The value of the `attempt` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Failover => "failover",
        }
    }
}

// === impl Tally ===

impl Tally {
    const COUNT: usize = 19;

    const fn index(self) -> usize {
        match self {
            Self::ConnectionAccepted => 0,
            Self::ConnectionClosed => 1,
            Self::AcceptPaused => 2,
            Self::ConnectionEvicted => 3,
            Self::StaleConnection => 4,
            Self::InformationalDropped => 5,
            Self::FrameFlood => 6,
            Self::StreamStalled => 7,
            Self::HandshakeFailed => 8,
            Self::RetryRefused => 9,
            Self::StreamIdle => 10,
            Self::StreamRetreated => 11,
            Self::UpstreamTlsFailed => 12,
            Self::ProxyHeaderMissing => 13,
            Self::ProxyHeaderMalformed => 14,
            Self::ProxyHeaderIncomplete => 15,
            Self::ProxyHeaderLate => 16,
            Self::ConnectionRested => 17,
            Self::ConnectionHanded => 18,
        }
    }
}

// How many classes of outcome there are, and the place of each in an array of counters.
const CLASSES: [Class; 6] = [
    Class::Ok,
    Class::ClientError,
    Class::Error,
    Class::Failed,
    Class::Abandoned,
    Class::AbandonedLate,
];

const fn class_index(class: Class) -> usize {
    match class {
        Class::Ok => 0,
        Class::ClientError => 1,
        Class::Error => 2,
        Class::Failed => 3,
        Class::Abandoned => 4,
        Class::AbandonedLate => 5,
    }
}

// The value of the `outcome` label.
const fn class_label(class: Class) -> &'static str {
    match class {
        Class::Ok => "ok",
        Class::ClientError => "client_error",
        Class::Error => "error",
        Class::Failed => "failed",
        Class::Abandoned => "abandoned",
        Class::AbandonedLate => "abandoned_late",
    }
}

// The latency of an outcome in whole nanoseconds, where the table of outcomes says it is recorded.
fn recorded_ns(outcome: Outcome) -> Option<u64> {
    match outcome.class {
        Class::Abandoned => None,
        Class::Ok | Class::ClientError | Class::Error | Class::Failed | Class::AbandonedLate => {
            let latency = outcome.latency?;
            Some(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))
        }
    }
}

// Counters stay usable when a thread died while holding them: each write leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
