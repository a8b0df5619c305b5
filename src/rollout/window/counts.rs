//! Plain counts: requests of one arm, and health checks.

use std::time::Duration;

use super::super::slot::Cell;
use super::super::time::{Timestamp, millis};

/// Width of a bucket of probes.
pub const PROBE_BUCKET: Duration = Duration::from_secs(5);

/// Plain counts of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub counted: u64,
    pub errors: u64,
    pub failed: u64,
    pub client_errors: u64,
    pub abandoned: u64,
    /// Those with a recorded latency.
    pub timed: u64,
}

/// Health checks sent and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    pub sent: u64,
    pub answered: u64,
}

/// Probes of both pools in `PROBE_BUCKET` of time, by `Arm::index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeBucket {
    /// A multiple of `PROBE_BUCKET`.
    pub start: Timestamp,
    pub pools: [Probes; 2],
}

// === impl Probes ===

impl Probes {
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
    }

    /// Adds to the bucket that `at` lies in, and drops the buckets that ended before `keep_from`.
    pub fn push(
        buckets: &mut Vec<ProbeBucket>,
        at: Timestamp,
        pools: [Self; 2],
        keep_from: Timestamp,
    ) {
        let width = millis(PROBE_BUCKET);
        let start = Timestamp::from_millis(at.as_millis() / width * width);
        buckets.retain(|bucket| bucket.start.after(PROBE_BUCKET) > keep_from);
        if pools.iter().all(|probes| *probes == Self::default()) {
            return;
        }
        match buckets.last_mut().filter(|last| last.start == start) {
            Some(last) => {
                for (sum, probes) in last.pools.iter_mut().zip(pools) {
                    sum.add(probes);
                }
            }
            None => buckets.push(ProbeBucket { start, pools }),
        }
    }
}

// === impl Counts ===

impl Counts {
    pub fn of(cell: &Cell) -> Self {
        Self {
            counted: cell.counted,
            errors: cell.errors,
            failed: cell.failed,
            client_errors: cell.client_errors,
            abandoned: cell.abandoned,
            timed: cell.latency.len(),
        }
    }

    /// Adds them to a cell; its latencies say how many are timed.
    pub fn add_to(self, cell: &mut Cell) {
        cell.counted += self.counted;
        cell.errors += self.errors;
        cell.failed += self.failed;
        cell.client_errors += self.client_errors;
        cell.abandoned += self.abandoned;
    }

    pub fn add(&mut self, other: Self) {
        self.counted += other.counted;
        self.errors += other.errors;
        self.failed += other.failed;
        self.client_errors += other.client_errors;
        self.abandoned += other.abandoned;
        self.timed += other.timed;
    }

    /// Takes out what was added before.
    pub fn take_away(&mut self, other: Self) {
        self.counted = self.counted.saturating_sub(other.counted);
        self.errors = self.errors.saturating_sub(other.errors);
        self.failed = self.failed.saturating_sub(other.failed);
        self.client_errors = self.client_errors.saturating_sub(other.client_errors);
        self.abandoned = self.abandoned.saturating_sub(other.abandoned);
        self.timed = self.timed.saturating_sub(other.timed);
    }
}
