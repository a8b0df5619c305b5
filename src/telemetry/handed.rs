//! What a process that was taken over counted while it finished its requests: kept here until the next drain.
//!
//! Grows with the cells of one interval only. What is of a rollout that nobody counts here any more is let go.

use std::collections::BTreeMap;

use super::Drained;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::slot::{Cell, CellKey};

#[derive(Debug, Default)]
pub(super) struct Handed(BTreeMap<RolloutName, Counts>);

#[derive(Debug, Default)]
struct Counts {
    cells: BTreeMap<CellKey, Cell>,
    /// By `Arm::index`.
    learners: [Option<LearnerSketch>; 2],
}

impl Handed {
    pub(super) fn add(&mut self, rollout: RolloutName, key: CellKey, cell: &Cell) {
        let cells = &mut self.0.entry(rollout).or_default().cells;
        cells.entry(key).or_default().merge(cell);
    }

    pub(super) fn add_learners(&mut self, rollout: RolloutName, arm: Arm, more: &LearnerSketch) {
        let learners = &mut self.0.entry(rollout).or_default().learners;
        learners[arm.index()].get_or_insert_default().merge(more);
    }

    /// Hands everything over to what a drain found.
    pub(super) fn give(&mut self, drained: &mut [Drained]) {
        if self.0.is_empty() {
            return;
        }
        let mut handed = std::mem::take(&mut self.0);
        for part in drained {
            let Some(counts) = handed.remove(&part.rollout) else {
                continue;
            };
            part.handed.cells = counts.cells;
            for (mine, theirs) in part.learners.iter_mut().zip(&counts.learners) {
                if let Some(theirs) = theirs {
                    mine.merge(theirs);
                }
            }
        }
        for rollout in handed.keys() {
            tracing::debug!(%rollout, "counts of a rollout that is not counted here any more");
        }
    }
}
