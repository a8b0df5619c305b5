//! Who is counted: the rollouts and pools known by name, and the handles the table holds on them.
//!
//! A name keeps its number, and so its counters, for the life of the process, whatever is reloaded.
//! Counts nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::SegmentId;
use super::segments::Segments;
use crate::rollout::name::{PoolName, RolloutName};

/// A rollout as the recorder knows it: made once per table, held by the table.
#[derive(Clone, Debug)]
pub struct RolloutMeter {
    pub(super) known: Arc<KnownRollout>,
}

/// A pool as the recorder knows it.
#[derive(Clone, Debug)]
pub struct PoolMeter {
    pub(super) index: usize,
}

#[derive(Debug)]
pub(super) struct KnownRollout {
    pub(super) index: usize,
    pub(super) name: RolloutName,
    pub(super) segments: Segments,
    limits_us: ArcSwap<Vec<u64>>,
    /// Raised after each change of the limits; never 0.
    limits_version: AtomicU64,
}

/// Every name seen since start, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) rollouts: Vec<Arc<KnownRollout>>,
    pub(super) pools: Vec<PoolName>,
}

// === impl Registry ===

impl Registry {
    pub(super) fn rollout(
        &mut self,
        name: &RolloutName,
        limits_us: &[u64],
        max_segments: usize,
    ) -> RolloutMeter {
        if let Some(known) = self.rollouts.iter().find(|known| known.name == *name) {
            known.set_limits(limits_us);
            known.segments.set_max(max_segments);
            let known = Arc::clone(known);
            return RolloutMeter { known };
        }
        let known = Arc::new(KnownRollout {
            index: self.rollouts.len(),
            name: name.clone(),
            segments: Segments::new(max_segments),
            limits_us: ArcSwap::from_pointee(ascending(limits_us)),
            limits_version: AtomicU64::new(1),
        });
        self.rollouts.push(Arc::clone(&known));
        RolloutMeter { known }
    }

    pub(super) fn pool(&mut self, name: &PoolName) -> PoolMeter {
        if let Some(index) = self.pools.iter().position(|known| known == name) {
            return PoolMeter { index };
        }
        self.pools.push(name.clone());
        PoolMeter {
            index: self.pools.len() - 1,
        }
    }
}

// === impl KnownRollout ===

impl KnownRollout {
    /// The number of the limits in force. What was counted under another number adopts `limits_us`.
    pub(super) fn limits_version(&self) -> u64 {
        self.limits_version.load(Ordering::Acquire)
    }

    /// The limits, ascending, each once.
    pub(super) fn limits_us(&self) -> arc_swap::Guard<Arc<Vec<u64>>> {
        self.limits_us.load()
    }

    /// Whether a meter of it is held by anybody: beside those only the registry, and the drain that asks, hold it.
    pub(super) fn is_used(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 2
    }

    // Called under the registry's lock, so that no two changes cross.
    fn set_limits(&self, limits_us: &[u64]) {
        let limits = ascending(limits_us);
        if **self.limits_us.load() != limits {
            self.limits_us.store(Arc::new(limits));
            self.limits_version.fetch_add(1, Ordering::Release);
        }
    }
}

// === impl RolloutMeter ===

impl RolloutMeter {
    /// The number of a segment by its name, `other` once `max_segments` are known. An empty name is none.
    pub fn segment(&self, name: &str) -> SegmentId {
        self.known.segments.id(name)
    }

    /// The name of a segment's number; `None` where none was said.
    pub fn segment_name(&self, id: SegmentId) -> Option<Arc<str>> {
        self.known.segments.name(id)
    }

    /// The latency limits counted exactly now, in microseconds, ascending.
    pub fn latency_limits_us(&self) -> Vec<u64> {
        self.known.limits_us().to_vec()
    }

    /// Whether a segment is counted as `other` now.
    pub fn counts_as_other(&self, name: &str) -> bool {
        self.known.segments.is_other(name)
    }
}

fn ascending(limits: &[u64]) -> Vec<u64> {
    let mut sorted = limits.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
