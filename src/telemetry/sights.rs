//! Learners with an id that one worker saw between two drains, and how each fared: what blocks are made of.
//!
//! Bounded: of each arm at most `MAX_SIGHTS` learners are held between two drains. A learner who comes later than
//! they did is left out until the next drain, whichever way he fares, so that evidence is made of fewer learners and
//! not of other ones. At four drains a second that is more learners than one worker can serve.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::failing::AlreadyHashed;
use super::hot_cell::edges_exceeded;
use super::{ArmRecord, SegmentId};
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{First, Sight};
use crate::rollout::slot::{Class, LATENCY_EDGES};

const MAX_SIGHTS: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Sights {
    seen: HashMap<LearnerHash, Sight<SegmentId>, BuildHasherDefault<AlreadyHashed>>,
    /// By `Arm::index`.
    held: [usize; 2],
}

/// How long a request took, as blocks know it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Took {
    /// No latency is recorded.
    Unknown,
    Nanos(u64),
    /// A deadline ended it: longer than any limit.
    TooLong,
}

impl Sights {
    pub(super) fn add(&mut self, record: &ArmRecord<'_>, took: Took) {
        let Some(new) = sight(record, took) else {
            return;
        };
        let held = &mut self.held[new.arm.index()];
        match self.seen.get_mut(&new.learner) {
            Some(mine) => mine.merge(new),
            None if *held < MAX_SIGHTS => {
                *held += 1;
                self.seen.insert(new.learner, new);
            }
            None => {}
        }
    }

    /// Hands every sight over, and begins anew.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Sight<SegmentId>> {
        self.held = [0; 2];
        self.seen.drain().map(|(_, sight)| sight)
    }
}

// `None` for who has no id, and for what is not counted.
fn sight(record: &ArmRecord<'_>, took: Took) -> Option<Sight<SegmentId>> {
    let (error, failed) = match record.outcome.class {
        Class::Abandoned => return None,
        Class::Ok | Class::ClientError => (false, false),
        Class::Error => (true, false),
        Class::Failed | Class::AbandonedLate => (true, true),
    };
    let (latency_us, edges) = match took {
        Took::Unknown => (None, None),
        Took::Nanos(ns) => (Some(ns.div_ceil(1_000)), Some(edges_exceeded(ns))),
        Took::TooLong => (Some(u64::MAX), Some(LATENCY_EDGES)),
    };
    Some(Sight {
        learner: record.learner?,
        arm: record.arm,
        segment: record.segment,
        epoch: record.epoch,
        first: First {
            error,
            failed,
            latency_us,
        },
        error,
        client_error: record.outcome.class == Class::ClientError,
        edges: edges.and_then(|edges| u8::try_from(edges).ok()),
    })
}
