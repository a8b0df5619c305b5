//! One server of a pool, as every worker and probe sees it.
//!
//! Owns its counters: all atomic, shared by the workers, kept over reloads. Decides nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::closing::Closing;
use super::eject::Conduct;
use super::latency::PeakEwma;
use super::moment::AtomicMoment;
use crate::clock;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number that no other endpoint of this process has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u64);

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Socket(SocketAddr),
    /// Resolved anew for each connection.
    Name(String),
}

#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    typed: String,
    address: Address,
    healthy: AtomicBool,
    ever_passed: AtomicBool,
    /// Probes in a row that spoke against the present state.
    pub(super) streak: AtomicU32,
    drained: AtomicBool,
    /// Some table in force has it.
    in_use: AtomicBool,
    in_flight: AtomicU64,
    idle: AtomicU64,
    requests: AtomicU64,
    /// Of the time to the answer's head.
    latency: PeakEwma,
    /// Since when it is new or back, for a slow start.
    warming: AtomicMoment,
    probes_sent: AtomicU64,
    probes_answered: AtomicU64,
    /// How its requests went.
    conduct: Conduct,
    closing: Closing,
    fault: Mutex<Option<String>>,
}

/// One attempt in flight, counted for as long as this lives.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(typed: &str) -> Self {
        let address = typed
            .parse()
            .map_or_else(|_| Address::Name(typed.to_owned()), Address::Socket);
        Self {
            id: EndpointId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            typed: typed.to_owned(),
            address,
            healthy: AtomicBool::new(true),
            ever_passed: AtomicBool::new(false),
            streak: AtomicU32::new(0),
            drained: AtomicBool::new(false),
            in_use: AtomicBool::new(true),
            in_flight: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            latency: PeakEwma::default(),
            warming: AtomicMoment::default(),
            probes_sent: AtomicU64::new(0),
            probes_answered: AtomicU64::new(0),
            conduct: Conduct::default(),
            closing: Closing::default(),
            fault: Mutex::new(None),
        }
    }

    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// `host:port` as configured.
    pub fn address(&self) -> &str {
        &self.typed
    }

    pub(super) fn destination(&self) -> &Address {
        &self.address
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub fn ever_passed(&self) -> bool {
        self.ever_passed.load(Ordering::Relaxed)
    }

    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Takes it out of use, or back: then it warms up.
    pub fn set_drained(&self, drained: bool) {
        let was_drained = self.drained.swap(drained, Ordering::Relaxed);
        if was_drained && !drained {
            self.warm_up(clock::now());
        }
    }

    /// Whether the table in force has this endpoint.
    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    pub fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn connections_idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn probes_sent(&self) -> u64 {
        self.probes_sent.load(Ordering::Relaxed)
    }

    pub fn probes_answered(&self) -> u64 {
        self.probes_answered.load(Ordering::Relaxed)
    }

    /// Why the last probe failed; `None` after one that passed.
    pub fn fault(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Peak-sensitive average of the time to the answer's head; `None` before the first.
    pub fn ewma(&self, now: Instant) -> Option<Duration> {
        self.latency.at(now)
    }

    /// Takes in one time to the answer's head: a slower one counts at once, a faster one by and by.
    pub fn observe(&self, latency: Duration, now: Instant) {
        self.latency.observe(latency, now);
    }

    /// Whether it is left out because it failed its requests.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.conduct.is_out(now)
    }

    pub(super) fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    pub(super) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// It is new, or back: from `at` on it warms up.
    pub(super) fn warm_up(&self, at: Instant) {
        self.warming.store(at);
    }

    /// How long it has been warming up; `None` where it never had to.
    pub(super) fn warming_for(&self, now: Instant) -> Option<Duration> {
        self.warming.age(now)
    }

    /// Counts an attempt that begins now.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn idle_added(&self) {
        self.idle.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn idle_removed(&self) {
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn probe_sent(&self) {
        self.probes_sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn probe_passed(&self) {
        self.probes_answered.fetch_add(1, Ordering::Relaxed);
        self.ever_passed.store(true, Ordering::Relaxed);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn probe_failed(&self, why: String) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }
}

// === impl InFlight ===

impl InFlight {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_in_flight_as_long_as_it_lives() {
        let endpoint = Arc::new(Endpoint::new("host.example:80"));
        let attempt = endpoint.begin();
        assert_eq!((endpoint.in_flight(), endpoint.requests()), (1, 1));
        drop(attempt);
        assert_eq!((endpoint.in_flight(), endpoint.requests()), (0, 1));
    }
}
