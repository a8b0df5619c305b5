//! Counts since the process began, for Prometheus: what every drain found, added up.
//!
//! Grows with the names of rollouts and pools only. The gate never reads it.

use super::meters::{KnownRollout, Registry};
use super::shard::{Answers, Outcomes, PoolCounts, RolloutShard, Tunnels};
use super::{Tally, shard};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::time::WallTime;

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) rollouts: Vec<RolloutTotals>,
    pub(super) pools: Vec<PoolTotals>,
    pub(super) answers: Answers,
    pub(super) tallies: [u64; Tally::COUNT],
}

/// Of one rollout, by `Arm::index`.
#[derive(Debug)]
pub(super) struct RolloutTotals {
    pub(super) name: RolloutName,
    pub(super) arms: [Outcomes; 2],
    pub(super) learners: [LearnerSketch; 2],
}

#[derive(Debug)]
pub(super) struct PoolTotals {
    pub(super) name: PoolName,
    pub(super) counts: PoolCounts,
}

// === impl Totals ===

impl Totals {
    /// Makes room for every name the registry knows.
    pub(super) fn know(&mut self, registry: &Registry) {
        for known in registry.rollouts.iter().skip(self.rollouts.len()) {
            self.rollouts.push(RolloutTotals::new(known));
        }
        for name in registry.pools.iter().skip(self.pools.len()) {
            self.pools.push(PoolTotals {
                name: name.clone(),
                counts: PoolCounts::default(),
            });
        }
    }

    /// Adds what a shard counted until `at` apart from its rollouts, and empties it there.
    pub(super) fn take(&mut self, shard: &mut shard::Shard, at: WallTime) {
        for (totals, counts) in self.pools.iter_mut().zip(&mut shard.pools) {
            totals.counts.merge(counts, at);
            *counts = PoolCounts::default();
        }
        for (kind, count) in &mut shard.answers.0 {
            self.answers.add(*kind, std::mem::take(count));
        }
        for (total, count) in self.tallies.iter_mut().zip(&mut shard.tallies) {
            *total += std::mem::take(count);
        }
    }

    pub(super) fn tally(&self, what: Tally) -> u64 {
        self.tallies[what.index()]
    }

    /// Connections accepted and not yet closed.
    pub(super) fn connections_open(&self) -> u64 {
        self.tally(Tally::ConnectionAccepted)
            .saturating_sub(self.tally(Tally::ConnectionClosed))
    }
}

// === impl RolloutTotals ===

impl RolloutTotals {
    fn new(known: &KnownRollout) -> Self {
        Self {
            name: known.name.clone(),
            arms: Default::default(),
            learners: Default::default(),
        }
    }

    /// Adds the outcomes of a shard until `at`, and empties them there.
    pub(super) fn take_outcomes(&mut self, shard: &mut RolloutShard, at: WallTime) {
        for arm in Arm::ALL.map(Arm::index) {
            self.arms[arm].merge(&shard.arms[arm], at);
            shard.arms[arm] = Outcomes::default();
        }
    }
}

// === impl Outcomes, PoolCounts, Tunnels ===

impl Outcomes {
    fn merge(&mut self, other: &Self, at: WallTime) {
        add(&mut self.classes, &other.classes);
        self.latency.merge(&other.latency, at);
    }
}

impl PoolCounts {
    fn merge(&mut self, other: &Self, at: WallTime) {
        for (mine, theirs) in self.attempts.iter_mut().zip(&other.attempts) {
            add(mine, theirs);
        }
        self.latency.merge(&other.latency, at);
        self.tunnels.merge(other.tunnels);
    }
}

impl Tunnels {
    /// Open now.
    pub(super) fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    fn merge(&mut self, other: Self) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.up += other.up;
        self.down += other.down;
    }
}

fn add<const N: usize>(sums: &mut [u64; N], counts: &[u64; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}
