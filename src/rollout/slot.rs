//! What the data path counted in one span of time: the unit that is drained, merged and stored.
//!
//! Owns the frozen histogram layout and how two counts become one. Never reads a clock and never
//! judges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::assign::LearnerHash;
use super::name::Arm;
use super::time::Timestamp;

/// Number of the histogram layout below; part of every stored or sent copy.
pub const LAYOUT_VERSION: u8 = 1;
/// Shortest latency told apart, in microseconds.
pub const LATENCY_MIN_US: u64 = 100;
/// Longest latency told apart, in microseconds: what is longer counts as this.
pub const LATENCY_MAX_US: u64 = 120_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;
/// Upper edges of the exact latency counters: 2^0 to 2^14 ms.
pub const LATENCY_EDGES: usize = 15;
/// Most failing learners kept by hash in one cell and second.
pub const MAX_FAILING_LEARNERS: usize = 1024;

/// Latencies in the frozen layout: 2 significant digits, 100 us to 120 s. 32-bit counts while
/// recording; sums of many cells are `LatencySum`.
pub type LatencyCounts = Histogram<u32>;
/// The same layout with 64-bit counts, for sums over a stage or a run.
pub type LatencySum = Histogram<u64>;

/// The outcome of one learner's request on one arm (gate.md, "What counts").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    pub class: Class,
    /// `None` where the table says "not recorded".
    pub latency: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Below 400 and 1xx to 3xx: all well.
    Ok,
    /// An answer 4xx: well for the pool, counted for `client_error_rate`.
    ClientError,
    /// An answer 5xx that does not say "unavailable": an error, but available.
    Error,
    /// 502, 503, 504, refused, reset, cut short, timed out, no endpoint: an error and unavailable.
    Failed,
    /// The client left before the head, having waited no longer than the stage's largest limit: counted as
    /// `abandoned` only.
    Abandoned,
    /// The same after a longer wait: abandoned, an error and unavailable.
    AbandonedLate,
}

/// Counts of one arm and segment. Sums of cells are cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub counted: u64,
    pub errors: u64,
    pub failed: u64,
    pub client_errors: u64,
    /// All that left before the head, whether they also counted as an error or not.
    pub abandoned: u64,
    /// How many recorded latencies were above each limit of the plan in microseconds (exact, kept as recorded).
    pub over_limit: BTreeMap<u64, u64>,
    /// `over_edge[i]` = how many recorded latencies were above 2^i ms.
    pub over_edge: [u64; LATENCY_EDGES],
    pub latency: LatencySum,
    /// Failures per learner, at most `MAX_FAILING_LEARNERS` of them.
    pub failing: BTreeMap<LearnerHash, u64>,
    /// Failures of learners beyond that bound, and of requests that nothing identifies.
    pub failing_others: u64,
}

/// One span of observations. Several for the same second are merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    pub start: Timestamp,
    pub width: Duration,
    pub cells: BTreeMap<CellKey, Cell>,
}

/// Whose counts: which split was in force when the attempt began, arm, and segment (`None` = none was said).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// Split epoch at the attempt's start: what began before a step counts for the stage it began in.
    pub epoch: u64,
    pub arm: Arm,
    pub segment: Option<Arc<str>>,
}

/// An empty histogram of the frozen layout.
pub fn latency_counts() -> LatencyCounts {
    Histogram::new_with_bounds(LATENCY_MIN_US, LATENCY_MAX_US, SIGNIFICANT_DIGITS)
        .expect("the bounds of the frozen layout are valid")
}

/// An empty sum of the frozen layout.
pub fn latency_sum() -> LatencySum {
    Histogram::new_with_bounds(LATENCY_MIN_US, LATENCY_MAX_US, SIGNIFICANT_DIGITS)
        .expect("the bounds of the frozen layout are valid")
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            counted: 0,
            errors: 0,
            failed: 0,
            client_errors: 0,
            abandoned: 0,
            over_limit: BTreeMap::new(),
            over_edge: [0; LATENCY_EDGES],
            latency: latency_sum(),
            failing: BTreeMap::new(),
            failing_others: 0,
        }
    }
}

impl Cell {
    /// Adds another cell's counts.
    pub fn merge(&mut self, other: &Self) {
        self.counted += other.counted;
        self.errors += other.errors;
        self.failed += other.failed;
        self.client_errors += other.client_errors;
        self.abandoned += other.abandoned;
        for (&limit, &over) in &other.over_limit {
            *self.over_limit.entry(limit).or_default() += over;
        }
        for (mine, theirs) in self.over_edge.iter_mut().zip(other.over_edge) {
            *mine += theirs;
        }
        self.latency
            .add(&other.latency)
            .expect("both have the frozen layout");
        for (&learner, &failures) in &other.failing {
            if self.failing.len() < MAX_FAILING_LEARNERS || self.failing.contains_key(&learner) {
                *self.failing.entry(learner).or_default() += failures;
            } else {
                self.failing_others += failures;
            }
        }
        self.failing_others += other.failing_others;
    }
}

impl Slot {
    pub fn empty(start: Timestamp, width: Duration) -> Self {
        Self {
            start,
            width,
            cells: BTreeMap::new(),
        }
    }

    /// Adds another slot's cells; the time of this one stays.
    pub fn merge(&mut self, other: &Self) {
        for (key, cell) in &other.cells {
            match self.cells.get_mut(key) {
                Some(mine) => mine.merge(cell),
                None => {
                    self.cells.insert(key.clone(), cell.clone());
                }
            }
        }
    }

    /// The sum over every epoch and segment of one arm.
    pub fn arm(&self, arm: Arm) -> Cell {
        let mut sum = Cell::default();
        for (key, cell) in &self.cells {
            if key.arm == arm {
                sum.merge(cell);
            }
        }
        sum
    }
}
