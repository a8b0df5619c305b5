//! A block: who was sent where in one second, who was active, and how he fared. What evidence is made of.
//!
//! Owns how sights of one learner become one. A block is closed by its second alone, never by what
//! happened in it. Counts nothing and judges nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rollout::assign::{Ceilings, LearnerHash};
use crate::rollout::name::Arm;
use crate::rollout::segments::is_left_out;
use crate::rollout::slot::{LATENCY_EDGES, Slot};
use crate::rollout::time::Timestamp;

/// One learner with an id in one block. Requests that enter no arm figure, or that are not counted
/// (gone before the answer's head), are no sight.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight<Segment = Option<Arc<str>>> {
    pub learner: LearnerHash,
    pub arm: Arm,
    /// As his first request said it; the recorder numbers segments.
    pub segment: Segment,
    /// Of the split under which that request began.
    pub epoch: u64,
    pub first: First,
    /// Whether any of his requests was an error.
    pub error: bool,
    /// Whether any was answered 4xx.
    pub client_error: bool,
    /// How many of the edges 2^0 .. 2^14 ms his slowest request exceeded, a timeout all; `None` where
    /// no latency was recorded.
    pub edges: Option<u8>,
}

/// A learner's first request of a block: one per learner, so that who asks more often weighs no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First {
    pub error: bool,
    /// An error that says "unavailable".
    pub failed: bool,
    /// Rounded up, so that "above a limit in whole microseconds" is exact; a timeout is above any limit.
    pub latency_us: Option<u64>,
}

/// A learner with an id who was sent to an arm by his hash, before anything came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned<Segment = Option<Arc<str>>> {
    pub learner: LearnerHash,
    pub arm: Arm,
    pub segment: Segment,
    /// Of the split that sent him.
    pub epoch: u64,
}

/// Counted requests of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub errors: u64,
    pub counted: u64,
}

/// Learners of one second who need not be told apart, because each fared well and had done so before. The data path
/// names everybody; a simulation that draws whole seconds does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// By `Arm::index`.
    pub learners: [u64; 2],
    /// Of baseline: how many exceeded each edge 2^0 .. 2^14 ms. None exceeds an edge that evidence watches.
    pub over: [u64; LATENCY_EDGES],
}

/// Requests by the split's epoch and the segment, then `Arm::index`: learners or not.
pub type RequestsBy = BTreeMap<(u64, Option<Arc<str>>), [Requests; 2]>;

/// One second of observations.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub start: Timestamp,
    /// In order of their hashes, each once.
    sights: Vec<Sight>,
    requests: RequestsBy,
    assigned: Vec<Assigned>,
    /// By the split's epoch.
    crowds: Vec<(u64, Crowd)>,
}

impl Block {
    pub fn new(start: Timestamp) -> Self {
        Self {
            start,
            sights: Vec::new(),
            requests: BTreeMap::new(),
            assigned: Vec::new(),
            crowds: Vec::new(),
        }
    }

    /// As it was taken apart by `sights(0)`, `requests_by` and `assigned`.
    pub fn of(
        start: Timestamp,
        sights: impl IntoIterator<Item = Sight>,
        requests: RequestsBy,
        assigned: Vec<Assigned>,
    ) -> Self {
        let mut block = Self {
            requests,
            assigned,
            ..Self::new(start)
        };
        block.add_sights(sights);
        block
    }

    /// Takes in what a part of its second counted. Sights of one learner come in order of time.
    pub fn add(&mut self, slot: &Slot, sights: impl IntoIterator<Item = Sight>) {
        for (key, cell) in &slot.cells {
            let place = (key.epoch, key.segment.clone());
            let arms = self.requests.entry(place).or_default();
            let sum = &mut arms[key.arm.index()];
            sum.errors += cell.errors;
            sum.counted += cell.counted;
        }
        self.add_sights(sights);
    }

    /// Adds those who are not named, of the split of this epoch.
    pub fn add_crowd(&mut self, epoch: u64, crowd: Crowd) {
        self.crowds.push((epoch, crowd));
    }

    // The sort is stable, so that sights of one learner stay in order of time.
    fn add_sights(&mut self, sights: impl IntoIterator<Item = Sight>) {
        self.sights.extend(sights);
        self.sights.sort_by_key(|sight| sight.learner);
        self.sights.dedup_by(|later, mine| {
            let same = later.learner == mine.learner;
            if same {
                mine.merge(later.clone());
            }
            same
        });
    }

    /// Those whose first request began under `epoch` or later, in order of their hashes.
    pub fn sights(&self, epoch: u64) -> impl Iterator<Item = &Sight> {
        let sights = self.sights.iter();
        sights.filter(move |sight| sight.epoch >= epoch)
    }

    /// How many there are, of every split.
    pub const fn sights_len(&self) -> usize {
        self.sights.len()
    }

    /// Those who are not named, of a split of `epoch` or later.
    pub fn crowd(&self, epoch: u64) -> Crowd {
        let mut sum = Crowd::default();
        for (_, crowd) in self.crowds.iter().filter(|(of, _)| *of >= epoch) {
            add_each(&mut sum.learners, &crowd.learners);
            add_each(&mut sum.over, &crowd.over);
        }
        sum
    }

    /// Requests by the epoch of their split and their segment.
    pub const fn requests_by(&self) -> &RequestsBy {
        &self.requests
    }

    /// Requests that began under `epoch` or later, by `Arm::index`, without the segments whose ceiling is 0.
    pub fn requests(&self, epoch: u64, ceilings: &Ceilings) -> [Requests; 2] {
        let mut sums = [Requests::default(); 2];
        for ((_, segment), arms) in self.requests.range((epoch, None)..) {
            let name = segment.as_ref();
            if name.is_some_and(|name| is_left_out(ceilings, name)) {
                continue;
            }
            for (sum, more) in sums.iter_mut().zip(arms) {
                sum.errors += more.errors;
                sum.counted += more.counted;
            }
        }
        sums
    }

    /// Takes in who was sent where in a part of its second; the same learner may come again.
    pub fn assign(&mut self, assigned: impl IntoIterator<Item = Assigned>) {
        self.assigned.extend(assigned);
    }

    /// Everybody who was sent to an arm.
    pub fn assigned(&self) -> &[Assigned] {
        &self.assigned
    }
}

impl<Segment> Assigned<Segment> {
    /// The same with its segment said another way.
    pub fn with_segment<Other>(self, segment: Other) -> Assigned<Other> {
        Assigned {
            learner: self.learner,
            arm: self.arm,
            segment,
            epoch: self.epoch,
        }
    }
}

fn add_each(sums: &mut [u64], more: &[u64]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

impl<Segment> Sight<Segment> {
    /// The same with its segment said another way.
    pub fn with_segment<Other>(self, segment: Other) -> Sight<Other> {
        Sight {
            learner: self.learner,
            arm: self.arm,
            segment,
            epoch: self.epoch,
            first: self.first,
            error: self.error,
            client_error: self.client_error,
            edges: self.edges,
        }
    }

    /// Takes in a later sight of the same learner. Where he stands elsewhere since a new split, only that
    /// counts; elsewhere under the same split (another segment was said), the first stands.
    pub fn merge(&mut self, later: Self) {
        if later.epoch > self.epoch && later.arm != self.arm {
            *self = later;
        } else if later.arm == self.arm {
            self.epoch = self.epoch.max(later.epoch);
            self.error |= later.error;
            self.client_error |= later.client_error;
            self.edges = self.edges.max(later.edges);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::slot::{Cell, CellKey};
    use std::time::Duration;

    fn sight(learner: u64, arm: Arm, epoch: u64) -> Sight {
        Sight {
            learner: LearnerHash::from_raw(learner),
            arm,
            segment: None,
            epoch,
            first: First::default(),
            error: false,
            client_error: false,
            edges: Some(3),
        }
    }

    #[test]
    fn sights_of_one_learner_are_one_and_his_first_request_stays_the_first() {
        let mut block = Block::new(Timestamp::default());
        let empty = Slot::empty(Timestamp::default(), Duration::from_millis(250));
        let failed = Sight {
            error: true,
            edges: Some(5),
            first: First {
                error: true,
                ..First::default()
            },
            ..sight(7, Arm::Canary, 1)
        };
        block.add(
            &empty,
            [sight(7, Arm::Canary, 1), sight(8, Arm::Baseline, 1)],
        );
        block.add(&empty, [failed]);
        let seen: Vec<&Sight> = block.sights(1).collect();
        assert_eq!(seen.len(), 2);
        assert!(seen[0].error && !seen[0].first.error);
        assert_eq!(seen[0].edges, Some(5));
    }

    #[test]
    fn who_is_moved_within_a_block_counts_where_he_stands() {
        let mut block = Block::new(Timestamp::default());
        let mut slot = Slot::empty(Timestamp::default(), Duration::from_millis(250));
        for (epoch, arm, counted) in [(1, Arm::Baseline, 4), (2, Arm::Canary, 2)] {
            let key = CellKey {
                epoch,
                arm,
                segment: None,
            };
            let cell = Cell {
                counted,
                errors: 1,
                ..Cell::default()
            };
            slot.cells.insert(key, cell);
        }
        let before = Sight {
            error: true,
            ..sight(7, Arm::Baseline, 1)
        };
        block.add(&slot, [before.clone(), sight(7, Arm::Canary, 2)]);
        block.add(&slot, [before]);
        let seen: Vec<&Sight> = block.sights(2).collect();
        assert_eq!(
            (seen.len(), seen[0].arm, seen[0].error),
            (1, Arm::Canary, false)
        );
        let all = Ceilings::new();
        assert_eq!(block.requests(2, &all)[Arm::Baseline.index()].counted, 0);
        assert_eq!(block.requests(1, &all)[Arm::Baseline.index()].counted, 8);
        assert_eq!(block.requests(1, &all)[Arm::Canary.index()].errors, 2);
    }
}
