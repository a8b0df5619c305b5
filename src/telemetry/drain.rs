//! Takes what the workers counted and makes one slot per rollout of it.
//!
//! Each shard is swapped for an empty one under its lock; all merging happens outside of it, so a
//! drain holds up no request. Nothing is counted twice and nothing is left: what a write did before
//! the swap is in this drain, what it does after is in the next.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::meters::{KnownRollout, Registry};
use super::recorder::Recorder;
use super::shard::{RolloutShard, Shard};
use super::totals::{RolloutTotals, Totals};
use super::{Drained, SegmentId, lock};
use crate::clock;
use crate::rollout::evidence::{Assigned, Sight};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::slot::{CellKey, Slot};
use crate::rollout::time::{Timestamp, WallTime};

#[derive(Debug, Default)]
pub(super) struct Drainer {
    workers: Vec<Worker>,
    pub(super) totals: Totals,
}

/// A worker's shard, and the one it is swapped for: they take turns, so that cells live on.
#[derive(Debug)]
struct Worker {
    hot: Arc<Mutex<Shard>>,
    spare: Shard,
    /// No recorder is left that could write to it after this swap.
    gone: bool,
}

// === impl Drainer ===

impl Drainer {
    pub(super) fn recorder(&mut self) -> Recorder {
        let shard = Arc::new(Mutex::new(Shard::default()));
        self.workers.push(Worker {
            hot: Arc::clone(&shard),
            spare: Shard::default(),
            gone: false,
        });
        Recorder { shard }
    }

    pub(super) fn drain(
        &mut self,
        registry: &Mutex<Registry>,
        at: Timestamp,
        width: Duration,
    ) -> Vec<Drained> {
        for worker in &mut self.workers {
            worker.swap();
        }
        let seen_at = clock::wall();
        // Read after the swap: whatever the shards counted is known by name by now.
        let rollouts = {
            let registry = lock(registry);
            self.totals.know(&registry);
            registry.rollouts.clone()
        };
        let drained = rollouts
            .iter()
            .filter_map(|known| self.drain_rollout(known, at, width, seen_at))
            .collect();
        for worker in &mut self.workers {
            self.totals.take(&mut worker.spare, seen_at);
        }
        self.workers.retain(|worker| !worker.gone);
        drained
    }

    fn drain_rollout(
        &mut self,
        known: &Arc<KnownRollout>,
        at: Timestamp,
        width: Duration,
        seen_at: WallTime,
    ) -> Option<Drained> {
        let mut drained = Drained {
            rollout: known.name.clone(),
            slot: Slot::empty(at, width),
            handed: Slot::empty(at, width),
            learners: Default::default(),
            sights: Vec::new(),
            assigned: Vec::new(),
        };
        let mut written = false;
        let totals = &mut self.totals.rollouts[known.index];
        for worker in &mut self.workers {
            if let Some(Some(shard)) = worker.spare.rollouts.get_mut(known.index) {
                written |= take_cells(shard, known, &mut drained.slot);
                take_sights(shard, known, &mut drained.sights);
                take_assigned(shard, known, &mut drained.assigned);
                written |= take_learners(shard, &mut drained.learners, totals);
                totals.take_outcomes(shard, seen_at);
            }
        }
        (written || known.is_used()).then_some(drained)
    }
}

// === impl Worker ===

impl Worker {
    fn swap(&mut self) {
        // Asked before the swap: a recorder that goes meanwhile is found gone next time.
        self.gone = Arc::strong_count(&self.hot) == 1;
        mem::swap(&mut *lock(&self.hot), &mut self.spare);
    }
}

fn take_cells(shard: &mut RolloutShard, known: &KnownRollout, slot: &mut Slot) -> bool {
    let mut written = false;
    let at = slot.start;
    shard.drain_cells(at, |epoch, arm, segment, cell| {
        let segment = known.segments.name(segment);
        let key = CellKey {
            epoch,
            arm,
            segment,
        };
        cell.add_to(slot.cells.entry(key).or_default());
        written = true;
    });
    written
}

fn take_sights(shard: &mut RolloutShard, known: &KnownRollout, sights: &mut Vec<Sight>) {
    let mut names = Names::of(known);
    let drained = shard.sights.drain();
    sights.extend(drained.map(|sight| {
        let name = names.name(sight.segment);
        sight.with_segment(name)
    }));
}

fn take_assigned(shard: &mut RolloutShard, known: &KnownRollout, assigned: &mut Vec<Assigned>) {
    let mut names = Names::of(known);
    let drained = shard.assignments.drain();
    assigned.extend(drained.map(|one| {
        let name = names.name(one.segment);
        one.with_segment(name)
    }));
}

/// Names of segments. Neighbours mostly say the same.
struct Names<'a> {
    known: &'a KnownRollout,
    last: SegmentId,
    name: Option<Arc<str>>,
}

impl<'a> Names<'a> {
    fn of(known: &'a KnownRollout) -> Self {
        Self {
            known,
            last: SegmentId::default(),
            name: None,
        }
    }

    fn name(&mut self, segment: SegmentId) -> Option<Arc<str>> {
        if segment != self.last {
            (self.last, self.name) = (segment, self.known.segments.name(segment));
        }
        self.name.clone()
    }
}

fn take_learners(
    shard: &mut RolloutShard,
    learners: &mut [LearnerSketch; 2],
    totals: &mut RolloutTotals,
) -> bool {
    let mut written = false;
    for arm in Arm::ALL.map(Arm::index) {
        shard.learners[arm].drain(|sketch| {
            learners[arm].merge(sketch);
            totals.learners[arm].merge(sketch);
            written = true;
        });
    }
    written
}
