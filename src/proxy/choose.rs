//! Which arm a request goes to: the learner's id, hashed and handed to the split. Pure, but for the dice it is given.

use std::borrow::Cow;

use super::learner::{Asker, Learner, learner, segment};
use crate::live::Rollout;
use crate::rollout::assign::{Ask, LearnerHash, Why};
use crate::rollout::name::Arm;

/// How a request's arm was chosen; enough to choose again under a newer split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) arm: Arm,
    pub(super) why: Why,
    /// Of the learner's id, or a random one.
    hash: LearnerHash,
    /// The request itself says who the learner is.
    is_identified: bool,
    forced: Option<Arm>,
}

/// Chooses the arm. `forced` is what a trusted peer asked for; `random` is used where nothing identifies the learner.
pub(super) fn choose(
    rollout: &Rollout,
    asker: Asker<'_>,
    forced: Option<Arm>,
    random: u64,
) -> Choice {
    let found = learner(&rollout.learner, asker);
    let hash = match &found {
        Learner::Id(id) => rollout.salt.hash(id),
        Learner::Address(address) => rollout.salt.hash(address.as_bytes()),
        Learner::Random | Learner::Nobody => LearnerHash::from_raw(random),
    };
    let is_identified = matches!(found, Learner::Id(_));
    assign(
        rollout,
        asker,
        &found,
        Choice {
            arm: Arm::Baseline,
            why: Why::Closed,
            hash,
            is_identified,
            forced,
        },
    )
}

/// The same choice under another split: the same learner, the same hash.
pub(super) fn again(rollout: &Rollout, asker: Asker<'_>, choice: Choice) -> Choice {
    assign(rollout, asker, &learner(&rollout.learner, asker), choice)
}

fn assign(rollout: &Rollout, asker: Asker<'_>, found: &Learner<'_>, choice: Choice) -> Choice {
    let learner: Option<&[u8]> = match found {
        Learner::Id(id) => Some(id),
        Learner::Address(address) => Some(address.as_bytes()),
        Learner::Random | Learner::Nobody => None,
    };
    // Mostly there is no ceiling, and nothing to look for.
    let segment = if rollout.split.ceilings.is_empty() {
        None
    } else {
        segment_of(rollout, asker)
    };
    let assignment = rollout.split.assign(Ask {
        learner,
        hash: Some(choice.hash),
        forced: choice.forced,
        segment: segment.as_deref().map(|name| rollout.capped_segment(name)),
    });
    Choice {
        arm: assignment.arm,
        why: assignment.why,
        ..choice
    }
}

/// Whether a stream that began under an earlier split would still be sent to its arm; `segment` is its segment's name.
pub(super) fn stays(rollout: &Rollout, choice: Choice, segment: Option<&str>) -> bool {
    let forced = match choice.why {
        Why::Pin | Why::Forced => Some(choice.arm),
        Why::Closed | Why::WeightZero | Why::BelowWeight | Why::AboveWeight | Why::Failover => None,
    };
    let assignment = rollout.split.assign(Ask {
        learner: None,
        hash: Some(choice.hash),
        forced,
        segment: segment.map(|name| rollout.capped_segment(name)),
    });
    assignment.arm == choice.arm
}

/// The request's segment, where the rollout tells segments apart.
pub(super) fn segment_of<'a>(rollout: &Rollout, asker: Asker<'a>) -> Option<Cow<'a, str>> {
    segment(rollout.segment.as_ref()?, asker)
}

impl Choice {
    /// What a ring goes by: the same learner has the same.
    pub(super) fn key(&self) -> u64 {
        self.hash.raw()
    }

    /// The learner as the statistics know him; `None` where nothing identifies him.
    pub(super) fn learner(&self) -> Option<LearnerHash> {
        self.is_identified.then_some(self.hash)
    }

    /// Whether the request enters the arm figures: pinned and forced ones do not.
    pub(super) fn counts(&self) -> bool {
        match self.why {
            Why::Pin | Why::Forced => false,
            Why::Closed | Why::WeightZero | Why::BelowWeight | Why::AboveWeight | Why::Failover => {
                true
            }
        }
    }
}
