//! A rollout as it stands: what the driver publishes after each input, and everybody else reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::events::EventLog;
use super::fleet::FleetView;
use super::vitals::Vitals;
use crate::config;
use crate::rollout::assign::{Salt, Split};
use crate::rollout::gate::Status;
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::plan::Plan;
use crate::store::{Notified, Store};

/// One rollout at one moment. Immutable.
#[derive(Clone, Debug)]
pub struct RolloutView {
    pub rollout: RolloutName,
    pub status: Status,
    /// What the data path goes by now; `status.weight` may be on its way.
    pub split: Split,
    /// The plan of the present or last run; the file's where none ever ran.
    pub plan: Arc<Plan>,
    /// By `Arm::index`, as the file has them now: an ended run may have had others.
    pub pools: [PoolName; 2],
    /// The file has another plan, which waits for the next `start`.
    pub plan_pending: bool,
    /// Why the journal cannot be written, while it cannot.
    pub store_fault: Option<String>,
    pub(super) salt: Salt,
    pub(super) events: Arc<EventLog>,
}

/// What the driver shows, read without waiting.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) views: ArcSwap<BTreeMap<RolloutName, Arc<RolloutView>>>,
    pub(super) config: ArcSwap<config::Config>,
    pub(super) admin: ArcSwap<config::Admin>,
    pub(super) notify: ArcSwap<Vec<config::Channel>>,
    /// Up to which event of each rollout the channels of notices were told by this process.
    pub(super) notified: ArcSwap<BTreeMap<RolloutName, Notified>>,
    pub(super) vitals: Vitals,
    /// `None` where this serin is alone.
    pub(super) fleet: ArcSwapOption<FleetView>,
    /// `None` where there is no journal.
    pub(super) store: Option<Store>,
}

impl RolloutView {
    /// How often each kind of event happened since the gates started.
    pub fn event_counts(&self) -> Vec<(&'static str, u64)> {
        self.events.counts()
    }

    pub fn pool(&self, arm: Arm) -> &PoolName {
        &self.pools[arm.index()]
    }

    /// The arm that a pool is, if it is one of this rollout's.
    pub fn arm(&self, pool: &str) -> Option<Arm> {
        Arm::ALL
            .into_iter()
            .find(|&arm| self.pool(arm).as_str() == pool)
    }

    /// The canary's share in force, 0.0 to 1.0, and the baseline's.
    pub fn shares(&self) -> [f64; 2] {
        if self.split.closed {
            return [1.0, 0.0];
        }
        [
            self.split.weight.baseline_share(),
            self.split.weight.share(),
        ]
    }
}
