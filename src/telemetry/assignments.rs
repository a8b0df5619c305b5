//! Learners with an id whom one worker sent to an arm between two drains: what shows whether the split is what it should be.
//!
//! Bounded: where more than `MAX_ASSIGNED` came, half of all places (`place_of`) are left out until the next drain, on both
//! arms alike and wherever else a learner asks, so that those who are held are a sample by hash.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use super::SegmentId;
use super::failing::AlreadyHashed;
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{Assigned, place_of};

const MAX_ASSIGNED: usize = 8_192;

#[derive(Debug)]
pub(super) struct Assignments {
    seen: HashMap<LearnerHash, Assigned<SegmentId>, BuildHasherDefault<AlreadyHashed>>,
    /// Only places up to this one are held.
    up_to: u64,
}

impl Assignments {
    pub(super) fn add(&mut self, new: Assigned<SegmentId>) {
        if self.up_to < u64::MAX && place_of(new.learner) > self.up_to {
            return;
        }
        match self.seen.entry(new.learner) {
            Entry::Occupied(mut known) => {
                if known.get().epoch < new.epoch {
                    known.insert(new);
                }
            }
            Entry::Vacant(free) => {
                free.insert(new);
            }
        }
        if self.seen.len() > MAX_ASSIGNED {
            let up_to = self.up_to / 2;
            self.seen.retain(|&learner, _| place_of(learner) <= up_to);
            self.up_to = up_to;
        }
    }

    /// Hands everybody over, and begins anew.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Assigned<SegmentId>> {
        self.up_to = u64::MAX;
        self.seen.drain().map(|(_, assigned)| assigned)
    }
}

impl Default for Assignments {
    fn default() -> Self {
        Self {
            seen: HashMap::default(),
            up_to: u64::MAX,
        }
    }
}
