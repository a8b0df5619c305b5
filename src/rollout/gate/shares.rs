//! Whether learners are split as the weight says: a sample ratio mismatch holds (gate.md, "Evidence", 8).
//!
//! Owns which learners are counted and when the counts begin anew. Moves no weight.

use super::Gate;
use super::effect::Effect;
use super::input::Observed;
use super::state::Cause;
use crate::rollout::evidence::{Assigned, Shares};
use crate::rollout::name::Arm;
use crate::rollout::stats::combine::ln_limit;
use crate::rollout::time::Now;
use crate::rollout::weight::Weight;

/// Learners of a sample by arm, beside what the weight says.
#[derive(Clone, Debug, PartialEq)]
pub struct SharesStatus {
    /// By `Arm::index`.
    pub learners: [u64; 2],
    /// The weight in force.
    pub weight: Weight,
    /// ln of the odds of a mismatch; it holds from ln(1 / alpha) on.
    pub ln_odds: f64,
}

impl Gate {
    /// Counts who was sent where in the seconds that have ended, and holds where that is not what the weight says. A
    /// rehearsal is none of that.
    pub(super) fn take_shares(&mut self, now: Now, observed: &Observed, out: &mut Vec<Effect>) {
        let weight = self.state.split.weight;
        let counts = self.state.phase.is_in_a_run() && self.state.rehearsal.is_none();
        if !counts || weight.is_zero() || observed.blocks.is_empty() {
            return;
        }
        let ceilings = &self.state.split.ceilings;
        let has_the_weight = |one: &&Assigned| {
            let ceiling = one.segment.as_ref().and_then(|name| ceilings.get(name));
            ceiling.is_none_or(|&ceiling| ceiling >= weight)
        };
        for block in &observed.blocks {
            let assigned = block.assigned().iter().filter(has_the_weight);
            self.state.watch.shares.add(&mut self.sampled, assigned);
        }
        self.hold_a_mismatch(now, out);
    }

    /// Nobody is counted yet under the split in force.
    pub(super) fn begin_shares(&mut self) {
        self.state.watch.shares = Shares::new(self.state.split.epoch);
    }

    pub(super) fn shares_status(&self) -> Option<SharesStatus> {
        let weight = self.state.split.weight;
        let counts = self.state.phase.is_in_a_run() && !weight.is_zero();
        counts.then(|| SharesStatus {
            learners: self.state.watch.shares.counts(),
            weight,
            ln_odds: self.state.watch.shares.ln_odds(weight),
        })
    }

    fn hold_a_mismatch(&mut self, now: Now, out: &mut Vec<Effect>) {
        // Nobody counted is no mismatch.
        if self.state.watch.shares.counts() == [0; 2] {
            return;
        }
        let (Some(shares), Some(plan)) = (self.shares_status(), self.plan()) else {
            return;
        };
        let limit = ln_limit(plan.gate.evidence.alpha);
        if shares.ln_odds < limit {
            return;
        }
        let [baseline, canary] =
            [Arm::Baseline, Arm::Canary].map(|arm| shares.learners[arm.index()]);
        let (weight, ln_odds) = (shares.weight, shares.ln_odds);
        let why = format!(
            "assignment broken: {canary} of {} sampled learners are on canary at {weight} (ln of the odds {ln_odds:.2}, \
             the limit is {limit:.2})",
            baseline + canary
        );
        self.hold_for(now, Cause::Srm, &why, out);
    }
}
