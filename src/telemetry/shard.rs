//! What one worker counted since the last drain.
//!
//! Laid out for the write: everything is found by index (rollout, then epoch, then segment and
//! arm), nothing is hashed but a failing learner, and nothing is allocated once a cell is there.
//! Owns the counting of one record; never locks and never merges over workers.

use std::time::Duration;

use super::assignments::Assignments;
use super::buckets::Buckets;
use super::hot_cell::HotCell;
use super::sights::{Sights, Took};
use super::{
    ArmRecord, Attempt, AttemptRecord, CLASSES, PoolMeter, SegmentId, Tally, TraceId, TunnelEvent,
    class_index, recorded_ns,
};
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::Assigned;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::slot::Class;
use crate::rollout::time::Timestamp;

/// A cell of the epoch in force that nobody wrote to for this long gives its memory back.
const IDLE_CELL: Duration = Duration::from_secs(60);
/// Kinds of `record_answer` told apart at most. There are as many as status classes and reasons in
/// the code, so the bound is never met; it is here so that a mistake could not eat memory.
const MAX_ANSWERS: usize = 256;

/// All counts of one worker.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) rollouts: Vec<Option<Box<RolloutShard>>>,
    pub(super) pools: Vec<PoolCounts>,
    pub(super) answers: Answers,
    pub(super) tallies: [u64; Tally::COUNT],
}

/// Counts of one rollout.
#[derive(Debug, Default)]
pub(super) struct RolloutShard {
    epochs: Vec<EpochCells>,
    pub(super) arms: [Outcomes; 2],
    pub(super) learners: [Learners; 2],
    pub(super) sights: Sights,
    pub(super) assignments: Assignments,
}

/// The cells of one split epoch, by `cell_place`.
#[derive(Debug)]
struct EpochCells {
    epoch: u64,
    cells: Vec<Option<Box<HotCell>>>,
}

/// Distinct learners since the last drain.
#[derive(Debug, Default)]
pub(super) struct Learners {
    sketch: Option<LearnerSketch>,
    touched: bool,
}

/// How outcomes were spread, for Prometheus.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcomes {
    pub(super) classes: [u64; CLASSES.len()],
    pub(super) latency: Buckets,
}

/// Attempts on one pool: classes by `Attempt::index`, latencies of all together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PoolCounts {
    pub(super) attempts: [[u64; CLASSES.len()]; Attempt::ALL.len()],
    pub(super) latency: Buckets,
    pub(super) tunnels: Tunnels,
}

/// Tunnels of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tunnels {
    pub(super) opened: u64,
    pub(super) closed: u64,
    /// Bytes from clients.
    pub(super) up: u64,
    /// Bytes from endpoints.
    pub(super) down: u64,
}

/// Answers by the first digit of their status and by serin's own reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answers(pub(super) Vec<(AnswerKind, u64)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerKind {
    /// First digit of the status, 1 to 5 where the status is a valid one.
    pub(super) class: u16,
    pub(super) reason: Option<&'static str>,
}

// === impl Shard ===

impl Shard {
    pub(super) fn record(&mut self, record: &ArmRecord<'_>) {
        let latency_ns = recorded_ns(record.outcome);
        let took = latency_ns.map_or(Took::Unknown, Took::Nanos);
        self.add(record, latency_ns, took);
    }

    pub(super) fn record_timeout(&mut self, record: &ArmRecord<'_>) {
        self.add(record, recorded_ns(record.outcome), Took::TooLong);
    }

    fn add(&mut self, record: &ArmRecord<'_>, latency_ns: Option<u64>, took: Took) {
        let known = &*record.rollout.known;
        let rollout = self.rollout(known.index);
        let arm = &mut rollout.arms[record.arm.index()];
        arm.add(record.outcome.class, latency_ns, record.trace);
        let cell = rollout.cell(record.epoch, record.segment, record.arm);
        cell.adopt_limits(known);
        cell.add(record.outcome.class, latency_ns, record.learner);
        rollout.sights.add(record, took);
    }

    pub(super) fn record_attempt(&mut self, record: &AttemptRecord<'_>) {
        self.pool(record.pool).add(record);
    }

    pub(super) fn record_tunnel(&mut self, pool: &PoolMeter, event: TunnelEvent) {
        let tunnels = &mut self.pool(pool).tunnels;
        match event {
            TunnelEvent::Opened => tunnels.opened += 1,
            TunnelEvent::Closed => tunnels.closed += 1,
            TunnelEvent::Moved { up, down } => {
                tunnels.up += up;
                tunnels.down += down;
            }
        }
    }

    pub(super) fn record_learner(&mut self, rollout: usize, assigned: Assigned<SegmentId>) {
        let rollout = self.rollout(rollout);
        rollout.learners[assigned.arm.index()].insert(assigned.learner);
        rollout.assignments.add(assigned);
    }

    fn pool(&mut self, pool: &PoolMeter) -> &mut PoolCounts {
        if self.pools.len() <= pool.index {
            self.pools.resize_with(pool.index + 1, PoolCounts::default);
        }
        &mut self.pools[pool.index]
    }

    fn rollout(&mut self, index: usize) -> &mut RolloutShard {
        if self.rollouts.len() <= index {
            self.rollouts.resize_with(index + 1, || None);
        }
        self.rollouts[index].get_or_insert_default()
    }
}

// === impl RolloutShard ===

impl RolloutShard {
    /// Hands each cell that was written to, with its place, to `take`, empties it, and lets go of what is no longer
    /// needed: cells of past epochs at once, others after a minute without use.
    pub(super) fn drain_cells(
        &mut self,
        at: Timestamp,
        mut take: impl FnMut(u64, Arm, SegmentId, &HotCell),
    ) {
        let newest = self.epochs.iter().map(|cells| cells.epoch).max();
        for EpochCells { epoch, cells } in &mut self.epochs {
            let current = Some(*epoch) == newest;
            for (place, kept) in cells.iter_mut().enumerate() {
                let Some(cell) = kept else { continue };
                if !cell.is_empty() {
                    let (segment, arm) = cell_at(place);
                    take(*epoch, arm, segment, cell);
                    cell.clear(at);
                } else if !current || at.since(cell.last_used) >= IDLE_CELL {
                    *kept = None;
                }
            }
        }
        self.epochs
            .retain(|epoch| epoch.cells.iter().any(Option::is_some));
    }

    fn cell(&mut self, epoch: u64, segment: SegmentId, arm: Arm) -> &mut HotCell {
        // The epoch in force is the one that was added last, but for a request begun before a step.
        let known = self.epochs.iter().rposition(|cells| cells.epoch == epoch);
        let index = known.unwrap_or_else(|| {
            let cells = Vec::new();
            self.epochs.push(EpochCells { epoch, cells });
            self.epochs.len() - 1
        });
        let cells = &mut self.epochs[index].cells;
        let place = cell_place(segment, arm);
        if cells.len() <= place {
            cells.resize_with(place + 1, || None);
        }
        cells[place].get_or_insert_with(HotCell::boxed)
    }
}

fn cell_place(segment: SegmentId, arm: Arm) -> usize {
    usize::from(segment.0) * Arm::ALL.len() + arm.index()
}

fn cell_at(place: usize) -> (SegmentId, Arm) {
    let segment = u16::try_from(place / Arm::ALL.len()).expect("places come from 16-bit numbers");
    (SegmentId(segment), Arm::ALL[place % Arm::ALL.len()])
}

// === impl Learners ===

impl Learners {
    fn insert(&mut self, learner: LearnerHash) {
        self.touched = true;
        self.sketch.get_or_insert_default().insert(learner);
    }

    /// Hands the sketch to `take` if anybody was seen, and empties it.
    pub(super) fn drain(&mut self, take: impl FnOnce(&LearnerSketch)) {
        if let Some(sketch) = self.sketch.as_mut().filter(|_| self.touched) {
            take(sketch);
            sketch.clear();
        }
        self.touched = false;
    }
}

// === impl Outcomes ===

impl Outcomes {
    fn add(&mut self, class: Class, latency_ns: Option<u64>, trace: Option<TraceId>) {
        self.classes[class_index(class)] += 1;
        if let Some(latency_ns) = latency_ns {
            self.latency.record(latency_ns, trace);
        }
    }
}

// === impl PoolCounts ===

impl PoolCounts {
    fn add(&mut self, record: &AttemptRecord<'_>) {
        self.attempts[record.attempt.index()][class_index(record.outcome.class)] += 1;
        if let Some(latency_ns) = recorded_ns(record.outcome) {
            self.latency.record(latency_ns, record.trace);
        }
    }
}

// === impl Answers ===

impl Answers {
    pub(super) fn add(&mut self, kind: AnswerKind, count: u64) {
        if let Some((_, sum)) = self.0.iter_mut().find(|(known, _)| *known == kind) {
            *sum += count;
        } else if self.0.len() < MAX_ANSWERS {
            self.0.push((kind, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::name::RolloutName;
    use crate::rollout::slot::Outcome;
    use crate::telemetry::Telemetry;

    #[test]
    fn memory_is_given_back_when_an_epoch_is_past_or_a_cell_is_idle() {
        let telemetry = Telemetry::new();
        let name = RolloutName::parse("analyzer").expect("a name");
        let rollout = &telemetry.rollout(&name, &[], 8);
        let (eu, none) = (rollout.segment("eu"), SegmentId(0));
        let mut shard = Shard::default();
        let written = |shard: &mut Shard, second: u64, cells: &[(u64, SegmentId)]| {
            for &(epoch, segment) in cells {
                let (arm, learner) = (Arm::Canary, None);
                let (class, latency) = (Class::Ok, None);
                let outcome = Outcome { class, latency };
                shard.record(&ArmRecord {
                    rollout,
                    arm,
                    segment,
                    epoch,
                    outcome,
                    learner,
                    trace: None,
                });
            }
            let rollout = shard.rollouts[0].as_mut().expect("it was written to");
            let mut taken = 0;
            rollout.drain_cells(Timestamp::from_millis(second * 1_000), |_, _, _, _| {
                taken += 1
            });
            let epochs = rollout.epochs.iter();
            let kept = epochs
                .flat_map(|epoch| epoch.cells.iter().flatten())
                .count();
            (taken, kept)
        };
        assert_eq!(written(&mut shard, 0, &[(1, none), (1, eu)]), (2, 2));
        assert_eq!(
            written(&mut shard, 59, &[(1, none)]),
            (1, 2),
            "idle for less than a minute"
        );
        assert_eq!(
            written(&mut shard, 60, &[(1, none)]),
            (1, 1),
            "idle for a minute"
        );
        assert_eq!(written(&mut shard, 61, &[(2, none), (3, none)]), (2, 2));
        assert_eq!(
            written(&mut shard, 62, &[]),
            (0, 1),
            "a past epoch's is let go"
        );
        assert_eq!(written(&mut shard, 121, &[]), (0, 0));
        assert!(
            shard.rollouts[0]
                .as_ref()
                .is_some_and(|rollout| rollout.epochs.is_empty())
        );
    }
}
