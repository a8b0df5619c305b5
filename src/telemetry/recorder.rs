//! The hot write: what a worker calls at the end of each request.
//!
//! One lock of the worker's own shard per call, contended only while a drain swaps it (some ten
//! nanoseconds, four times a second). Never waits for another worker, never reads a clock.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::shard::{AnswerKind, Shard};
use super::{
    ArmRecord, AttemptRecord, PoolMeter, RolloutMeter, SegmentId, Tally, TunnelEvent, lock,
};
use crate::rollout::evidence::Assigned;

/// The write side of one worker. Cheap to clone within the worker; one short uncontended lock per write.
#[derive(Clone)]
pub struct Recorder {
    pub(super) shard: Arc<Mutex<Shard>>,
}

impl Recorder {
    /// Counts one learner's request for the gate. The latency of an outcome `Abandoned` is ignored.
    pub fn record(&self, record: &ArmRecord<'_>) {
        lock(&self.shard).record(record);
    }

    /// The same for a request that a deadline ended: it took longer than any limit.
    pub fn record_timeout(&self, record: &ArmRecord<'_>) {
        lock(&self.shard).record_timeout(record);
    }

    /// Counts one attempt on an endpoint.
    pub fn record_attempt(&self, record: &AttemptRecord<'_>) {
        lock(&self.shard).record_attempt(record);
    }

    /// A learner-visible answer: its status, and the reason where serin made it itself.
    pub fn record_answer(&self, status: u16, reason: Option<&'static str>) {
        let class = status / 100;
        let kind = AnswerKind { class, reason };
        lock(&self.shard).answers.add(kind, 1);
    }

    /// A learner was sent to this arm of a rollout by his hash (for the distinct learners and the shares of the arms).
    pub fn record_learner(&self, rollout: &RolloutMeter, assigned: Assigned<SegmentId>) {
        lock(&self.shard).record_learner(rollout.known.index, assigned);
    }

    /// A tunnel to an endpoint of this pool was opened or closed, or carried bytes.
    pub fn record_tunnel(&self, pool: &PoolMeter, event: TunnelEvent) {
        lock(&self.shard).record_tunnel(pool, event);
    }

    pub fn tally(&self, what: Tally) {
        lock(&self.shard).tallies[what.index()] += 1;
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
