//! Failures per learner between two drains, for at most `MAX_FAILING_LEARNERS` of them.
//!
//! Beyond that bound failures are only counted: so many learners at once are no single bot. Keeps
//! hashes, never ids.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::rollout::assign::LearnerHash;
use crate::rollout::slot::{Cell, MAX_FAILING_LEARNERS};

#[derive(Debug, Default)]
pub(super) struct FailingLearners {
    failures: HashMap<LearnerHash, u64, BuildHasherDefault<AlreadyHashed>>,
    others: u64,
}

/// A learner's hash needs no second one: a turn puts its even low bits where the map looks first
/// (one arm's high bits are all alike).
#[derive(Debug, Default)]
pub(super) struct AlreadyHashed(u64);

impl FailingLearners {
    pub(super) fn add(&mut self, learner: Option<LearnerHash>) {
        let Some(learner) = learner else {
            self.others += 1;
            return;
        };
        if let Some(failures) = self.failures.get_mut(&learner) {
            *failures += 1;
        } else if self.failures.len() < MAX_FAILING_LEARNERS {
            self.failures.insert(learner, 1);
        } else {
            self.others += 1;
        }
    }

    /// Adds to a cell, within the same bound.
    pub(super) fn add_to(&self, cell: &mut Cell) {
        cell.failing_others += self.others;
        for (learner, failures) in &self.failures {
            if let Some(sum) = cell.failing.get_mut(learner) {
                *sum += failures;
            } else if cell.failing.len() < MAX_FAILING_LEARNERS {
                cell.failing.insert(*learner, *failures);
            } else {
                cell.failing_others += failures;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.failures.clear();
        self.others = 0;
    }
}

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        // `LearnerHash` hashes as one u64 and takes the road below; this is here for completeness.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_keeps_no_more_than_the_bound_and_begins_anew_after_a_drain() {
        let most = MAX_FAILING_LEARNERS as u64;
        let mut failing = FailingLearners::default();
        for _ in 0..2 {
            for id in 0..most + 3 {
                failing.add(Some(LearnerHash::from_raw(id)));
            }
            assert_eq!(failing.failures.len(), MAX_FAILING_LEARNERS);
            assert_eq!(failing.others, 3);
            failing.clear();
        }
    }
}
