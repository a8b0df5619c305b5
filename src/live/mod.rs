//! The one table that the data path reads and the control path writes.
//!
//! A `Table` is immutable; `publish` swaps it whole. Nobody else tells the workers what to do. Once another process took over,
//! what that one publishes is written here instead.

mod build;
mod routes;
mod table;

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache, Guard};
use tokio::sync::watch;

use crate::rollout::assign::Split;
use crate::rollout::name::{PoolName, StageName};
use crate::rollout::rehearsal::Injection;
use crate::upstream::pool::Pool;

pub use crate::tls::CertificateView;
pub use table::{
    Entrance, Matched, Mirror, PoolIndex, Rollout, RolloutIndex, Rules, Table, Target,
};

/// The table in force.
#[derive(Debug)]
pub struct Live {
    table: ArcSwap<Table>,
    pools: watch::Sender<Pools>,
    /// Moves with each table.
    published: watch::Sender<u64>,
}

/// The pools of one table.
pub type Pools = Arc<[Arc<Pool>]>;

/// A table that one request holds to its end. Counted without atomics, so it stays on its worker.
pub type Held = Rc<Arc<Table>>;

/// One worker's view of the table: a load costs a comparison while nothing changes.
#[derive(Debug)]
pub struct Reader {
    cache: Cache<Swap, Arc<Table>>,
    held: Held,
}

/// What the gate of a rollout wants the data path to know.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutSettings {
    pub split: Split,
    /// Latency limits that are counted exactly, in microseconds.
    pub latency_limits_us: Vec<u64>,
    /// A learner who left before the head after a longer wait counts as an error.
    pub patience: Duration,
    /// Ends a canary attempt that could still be answered by baseline.
    pub failover_after: Option<Duration>,
    /// Faults that a rehearsal puts into canary's requests.
    pub injection: Option<Injection>,
    /// That the rollout is in, or ended in; `None` before any run.
    pub stage: Option<StageName>,
}

/// A pool as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolView {
    pub name: PoolName,
    pub endpoints: Vec<EndpointView>,
    /// No endpoint ever passed a probe: it is used all the same.
    pub never_healthy: bool,
    /// The name that its endpoints are looked up by.
    pub dns: Option<String>,
    /// Why that failed the last time.
    pub dns_fault: Option<String>,
    /// How often it failed, since start.
    pub dns_failures: u64,
    /// Requests that may be under way now; 0 = no limit.
    pub limit: usize,
    /// Requests that wait for a place.
    pub queued: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndpointView {
    pub address: String,
    pub healthy: bool,
    /// Why it is not healthy, in the words of the last failed probe.
    pub fault: Option<String>,
    /// Taken out by an operator.
    pub drained: bool,
    pub in_flight: u64,
    pub connections_idle: u64,
    pub probes_sent: u64,
    pub probes_answered: u64,
    pub requests: u64,
    /// Its share of the pool's requests beside the other endpoints' weights.
    pub weight: u32,
    pub zone: Option<String>,
    /// How much of its weight it may carry now, up to 1: less while it warms up.
    pub warmth: f64,
    /// Moving average of the time to an answer's head; `None` before the first answer.
    pub latency: Option<Duration>,
    /// Left out because it failed its requests.
    pub ejected: Option<EjectionView>,
    /// How often it was, since start.
    pub ejections: u64,
}

/// Why an endpoint is left out, and for how much longer.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionView {
    /// One word: `consecutive` or `share`.
    pub kind: &'static str,
    pub reason: String,
    pub left: Duration,
}

#[derive(Clone, Debug)]
struct Swap(Arc<Live>);

// === impl Live ===

impl Live {
    pub fn new(table: Table) -> Arc<Self> {
        for rollout in table.rollouts() {
            rollout.epoch.store(rollout.split.epoch, Ordering::Release);
        }
        let pools = watch::Sender::new(Arc::clone(table.pool_list()));
        Arc::new(Self {
            table: ArcSwap::from_pointee(table),
            pools,
            published: watch::Sender::new(0),
        })
    }

    pub fn load(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Puts a table in force for every request that begins from now on, then raises the epochs: who sees the new
    /// epoch finds the new table.
    pub fn publish(&self, table: Table) {
        let table = Arc::new(table);
        self.table.store(Arc::clone(&table));
        for rollout in table.rollouts() {
            rollout.epoch.store(rollout.split.epoch, Ordering::Release);
        }
        self.pools.send_if_modified(|pools| {
            let changed = !Arc::ptr_eq(pools, table.pool_list());
            if changed {
                mark_in_use(pools, false);
                *pools = Arc::clone(table.pool_list());
                mark_in_use(pools, true);
            }
            changed
        });
        self.published.send_modify(|tables| *tables += 1);
    }

    /// Moves whenever a table was put in force.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// The pools in force and every later change of them: what the health checks follow.
    pub fn pools(&self) -> watch::Receiver<Pools> {
        self.pools.subscribe()
    }

    /// A worker's own view.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let cache = Cache::new(Swap(Arc::clone(self)));
        let held = Rc::new(self.table.load_full());
        Reader { cache, held }
    }
}

// Workers close idle connections to endpoints that are in no table.
fn mark_in_use(pools: &Pools, in_use: bool) {
    for endpoint in pools.iter().flat_map(|pool| pool.endpoints()) {
        endpoint.set_in_use(in_use);
    }
}

// === impl Reader ===

impl Reader {
    /// The table in force.
    pub fn load(&mut self) -> &Held {
        let current = self.cache.load();
        if !Arc::ptr_eq(current, &self.held) {
            self.held = Rc::new(Arc::clone(current));
        }
        &self.held
    }
}

// === impl Swap ===

impl Deref for Swap {
    type Target = ArcSwap<Table>;

    fn deref(&self) -> &ArcSwap<Table> {
        &self.0.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::build::tests::{config, settings};
    use crate::rollout::weight::Weight;
    use crate::telemetry::Telemetry;

    #[test]
    fn the_epoch_is_raised_after_the_table_is_in_force() {
        let telemetry = Telemetry::new();
        let live = Live::new(Table::build(
            &config(&["a:1"]),
            &settings(3, "1%"),
            &telemetry,
            None,
        ));
        let mut reader = live.reader();
        let before = Rc::clone(reader.load());
        let rollout = before.rollout(RolloutIndex(0));
        assert_eq!(rollout.epoch_now(), 3);
        let next = before.with_settings(
            &rollout.name,
            settings(4, "2%")
                .remove(&rollout.name)
                .expect("it is there"),
        );
        live.publish(next);
        assert_eq!(rollout.epoch_now(), 4, "an old table sees that it is old");
        let after = Rc::clone(reader.load());
        assert_eq!(
            after.rollout(RolloutIndex(0)).split.weight,
            Weight::parse("2%").expect("a weight")
        );
        assert_eq!(
            before.rollout(RolloutIndex(0)).split.epoch,
            3,
            "who holds a table keeps it"
        );
    }

    #[test]
    fn the_probes_are_told_of_changed_pools_only() {
        let telemetry = Telemetry::new();
        let first = Table::build(&config(&["a:1"]), &settings(1, "1%"), &telemetry, None);
        let live = Live::new(first);
        let watched = live.pools();
        let table = live.load();
        let name = table.rollout(RolloutIndex(0)).name.clone();
        live.publish(
            table.with_settings(&name, settings(2, "1%").remove(&name).expect("it is there")),
        );
        assert!(!watched.has_changed().expect("live is there"));
        live.publish(Table::build(
            &config(&["a:1", "b:1"]),
            &settings(2, "1%"),
            &telemetry,
            Some(&live.load()),
        ));
        assert!(watched.has_changed().expect("live is there"));
    }
}
