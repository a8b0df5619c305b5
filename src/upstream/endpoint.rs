//! One server of a pool, as every worker and probe sees it.
//!
//! Owns its counters: all atomic, shared by the workers, kept over reloads. Decides nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How fast an old latency is forgotten: the share of a new sample that is lower than the average.
/// One in eight, as in TCP's smoothed round-trip time (RFC 6298).
const EWMA_SHIFT: u32 = 3;

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
    /// Peak-sensitive average of the time to the answer's head, in microseconds; 0 = never measured.
    ewma_us: AtomicU64,
    probes_sent: AtomicU64,
    probes_answered: AtomicU64,
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
            ewma_us: AtomicU64::new(0),
            probes_sent: AtomicU64::new(0),
            probes_answered: AtomicU64::new(0),
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

    pub fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
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

    /// Peak-sensitive average of the time to the answer's head; zero before the first.
    pub fn ewma(&self) -> Duration {
        Duration::from_micros(self.ewma_us.load(Ordering::Relaxed))
    }

    /// Takes in one time to the answer's head: a slower one counts at once, a faster one by and by. Two workers
    /// that write at one moment may lose one of the two samples.
    pub fn observe(&self, latency: Duration) {
        let sample = u64::try_from(latency.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let old = self.ewma_us.load(Ordering::Relaxed);
        let new = if sample >= old {
            sample
        } else {
            old - ((old - sample) >> EWMA_SHIFT).max(1)
        };
        self.ewma_us.store(new, Ordering::Relaxed);
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
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let endpoint = Endpoint::new("127.0.0.1:1");
        let check = |ms: u64, expected_us: u64| {
            endpoint.observe(Duration::from_millis(ms));
            assert_eq!(
                endpoint.ewma(),
                Duration::from_micros(expected_us),
                "after {ms} ms"
            );
        };
        check(8, 8_000);
        check(80, 80_000);
        check(8, 71_000);
        check(8, 63_125);
        endpoint.observe(Duration::ZERO);
        assert!(endpoint.ewma() > Duration::from_millis(50));
    }

    #[test]
    fn an_attempt_is_in_flight_as_long_as_it_lives() {
        let endpoint = Arc::new(Endpoint::new("host.example:80"));
        let attempt = endpoint.begin();
        assert_eq!((endpoint.in_flight(), endpoint.requests()), (1, 1));
        drop(attempt);
        assert_eq!((endpoint.in_flight(), endpoint.requests()), (0, 1));
    }
}
