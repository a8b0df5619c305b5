//! What the data path counted in one span of time: the unit that is drained, merged and stored.
//!
//! Never reads a clock and never judges.

mod cell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::name::Arm;
use super::time::Timestamp;

pub use super::latencies::{LATENCY_MAX_US, LATENCY_MIN_US};
pub use cell::Cell;

/// Number of the histogram layout below; part of every stored or sent copy.
pub const LAYOUT_VERSION: u8 = 1;
/// Upper edges of the exact latency counters: 2^0 to 2^14 ms.
pub const LATENCY_EDGES: usize = 15;
/// Most failing learners kept by hash in one cell and second.
pub const MAX_FAILING_LEARNERS: usize = 1024;

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
