//! One part of time: what both arms counted in it, and each segment by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::assign::Ceilings;
use super::super::name::Arm;
use super::super::segments::is_left_out;
use super::super::slot::{Cell, CellKey, Slot};
use super::super::time::Timestamp;
use super::add_each;

/// Counts of both arms over one part of time.
#[derive(Clone, Debug, Default)]
pub struct Part {
    start: Timestamp,
    width: Duration,
    /// The width without the holes between the parts it was folded from.
    observed: Duration,
    arms: [Cell; 2],
    /// Counted requests of segments that are left out of `arms`.
    apart: [u64; 2],
    /// Each segment by itself, those left out too; empty where they need not be told apart.
    segments: BTreeMap<Arc<str>, [Cell; 2]>,
}

impl Part {
    /// The cells of a slot that began under `epoch` or later.
    pub fn of(slot: &Slot, epoch: u64) -> Self {
        Self::without(slot, epoch, &Ceilings::new())
    }

    /// The same with the segments at a ceiling of 0 left out of both arms.
    pub fn without(slot: &Slot, epoch: u64, ceilings: &Ceilings) -> Self {
        let mut part = Self {
            start: slot.start,
            width: slot.width,
            observed: slot.width,
            ..Self::default()
        };
        for (key, cell) in &slot.cells {
            if key.epoch >= epoch {
                part.add_cell(key, cell, ceilings);
            }
        }
        part
    }

    /// The same, taken out of the slot: what began earlier stays in it.
    pub fn take(slot: &mut Slot, epoch: u64, ceilings: &Ceilings) -> Self {
        let mut part = Self {
            start: slot.start,
            width: slot.width,
            observed: slot.width,
            ..Self::default()
        };
        for (key, cell) in std::mem::take(&mut slot.cells) {
            if key.epoch < epoch {
                slot.cells.insert(key, cell);
            } else if key.segment.is_none() && part.arms[key.arm.index()].is_empty() {
                part.arms[key.arm.index()] = cell;
            } else {
                part.add_cell(&key, &cell, ceilings);
            }
        }
        part
    }

    fn add_cell(&mut self, key: &CellKey, cell: &Cell, ceilings: &Ceilings) {
        let arm = key.arm.index();
        let Some(name) = &key.segment else {
            self.arms[arm].merge(cell);
            return;
        };
        if is_left_out(ceilings, name) {
            self.apart[arm] += cell.counted;
        } else {
            self.arms[arm].merge(cell);
        }
        let arms = self.segments.entry(Arc::clone(name)).or_default();
        arms[arm].merge(cell);
    }

    /// Each segment by itself, by `Arm::index`.
    pub fn segments(&self) -> impl Iterator<Item = (&Arc<str>, &[Cell; 2])> {
        self.segments.iter()
    }

    /// For those who need not tell segments apart.
    pub fn forget_segments(&mut self) {
        self.segments.clear();
    }

    pub(super) fn leave_out(&mut self, segment: &str) {
        let Some(arms) = self.segments.get(segment) else {
            return;
        };
        for ((whole, less), apart) in self.arms.iter_mut().zip(arms).zip(&mut self.apart) {
            whole.take_away(less);
            *apart += less.counted;
        }
    }

    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Its time without the holes between the parts it was folded from.
    pub(super) const fn observed(&self) -> Duration {
        self.observed
    }

    /// Counted requests, by `Arm::index`, of segments that are left out of the arms.
    pub(super) const fn apart(&self) -> [u64; 2] {
        self.apart
    }

    pub(super) const fn arms(&self) -> &[Cell; 2] {
        &self.arms
    }

    /// One segment by itself, by `Arm::index`.
    pub(super) fn segment(&self, name: &str) -> Option<&[Cell; 2]> {
        self.segments.get(name)
    }

    pub fn arm(&self, arm: Arm) -> &Cell {
        &self.arms[arm.index()]
    }

    pub(super) fn end(&self) -> Timestamp {
        self.start.after(self.width)
    }

    /// Takes in a later one.
    pub(super) fn merge(&mut self, later: &Self) {
        let end = self.end().max(later.end());
        self.width = end.since(self.start);
        self.observed += later.observed;
        for (mine, theirs) in self.arms.iter_mut().zip(&later.arms) {
            mine.merge(theirs);
        }
        add_each(&mut self.apart, later.apart);
        for (name, arms) in &later.segments {
            let mine = self.segments.entry(Arc::clone(name)).or_default();
            for (mine, theirs) in mine.iter_mut().zip(arms) {
                mine.merge(theirs);
            }
        }
    }
}
