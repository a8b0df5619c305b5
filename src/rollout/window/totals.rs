//! Sums over a span that only grows.

use std::sync::Arc;
use std::time::Duration;

use super::super::assign::Ceilings;
use super::super::name::Arm;
use super::super::segments::{SegmentTotals, is_left_out};
use super::super::slot::Cell;
use super::{Counts, Measured, Part, Probes, add_each};

/// Sums over a span that only grows: a stage, an interval of it, a run. Arrays by `Arm::index`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub cells: [Cell; 2],
    pub probes: [Probes; 2],
    /// Observed time.
    pub span: Duration,
    /// Counted requests of segments that are left out of the cells.
    pub apart: [u64; 2],
    /// Each segment by itself, where they are told apart; those left out too.
    pub segments: SegmentTotals,
}

impl Totals {
    /// Adds one cell's counts to an arm.
    pub fn add(&mut self, arm: Arm, cell: &Cell) {
        self.cells[arm.index()].merge(cell);
    }

    /// Adds what a part holds, which is cheaper than its cells one by one.
    pub fn add_part(&mut self, part: &Part) {
        for (cell, more) in self.cells.iter_mut().zip(part.arms()) {
            cell.merge(more);
        }
        add_each(&mut self.apart, part.apart());
    }

    /// Adds everything that a part holds, the segments that it leaves out of its arms too.
    pub fn add_everything(&mut self, part: &Part, ceilings: &Ceilings) {
        for (cell, more) in self.cells.iter_mut().zip(part.arms()) {
            cell.merge(more);
        }
        for (name, arms) in part.segments() {
            if is_left_out(ceilings, name) {
                for (cell, more) in self.cells.iter_mut().zip(arms) {
                    cell.merge(more);
                }
            }
        }
    }

    /// Takes a segment out of the cells, as if it had never been in them, but for who failed; it stays among the segments.
    pub fn leave_out(&mut self, segment: &str) {
        let Some(arms) = self.segments.get(segment) else {
            return;
        };
        for ((cell, less), apart) in self.cells.iter_mut().zip(arms).zip(&mut self.apart) {
            cell.take_away(less);
            *apart += less.counted;
        }
    }
}

impl Measured for Totals {
    fn counts(&self, arm: Arm) -> Counts {
        Counts::of(&self.cells[arm.index()])
    }

    fn above(&self, arm: Arm, limit_us: u64) -> u64 {
        self.cells[arm.index()].above(limit_us)
    }

    fn percentile_us(&self, arm: Arm, one_above_in: u64) -> Option<u64> {
        self.cells[arm.index()].latency.percentile_us(one_above_in)
    }

    fn probes(&self, arm: Arm) -> Probes {
        self.probes[arm.index()]
    }

    fn span(&self) -> Duration {
        self.span
    }

    fn most_failures(&self, arm: Arm) -> Option<u64> {
        self.cells[arm.index()].failing.values().max().copied()
    }

    fn apart(&self, arm: Arm) -> u64 {
        self.apart[arm.index()]
    }

    fn segments(&self) -> Vec<(Arc<str>, [Counts; 2])> {
        let counts = |arms: &[Cell; 2]| arms.each_ref().map(Counts::of);
        self.segments
            .iter()
            .map(|(name, arms)| (Arc::clone(name), counts(arms)))
            .collect()
    }
}
