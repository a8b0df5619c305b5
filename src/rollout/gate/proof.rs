//! What proves a threshold's breach: so many on the wrong side, too many to be chance, and not one learner's doing.
//!
//! gate.md, "Windows and data". A breach that is not proven is shown and holds; it never rolls back.

use super::Gate;
use super::judge::names_learners;
use super::snapshot::Breach;
use crate::rollout::condition::{Condition, Metric, Op, Selector};
use crate::rollout::name::Arm;
use crate::rollout::plan::DEFAULT_OVER;
use crate::rollout::stats::binomial::tail_at_least;
use crate::rollout::time::Now;
use crate::rollout::verdict::Sample;
use crate::rollout::window::{Measured, View};

/// How many must be on the wrong side: a single bot that always fails is no release fault.
const PROOF: u64 = 3;
/// The chance that so many are on the wrong side although the limit is kept.
const CHANCE: f64 = 0.01;

/// What a condition's requests are told apart by: wrong side, and the share of them that its limit allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    wrong: Wrong,
    allowed: f64,
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Errors,
    Failed,
    ClientErrors,
    Abandoned,
    SlowerThan(u64),
}

/// Requests of one arm, and those of them on the wrong side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) wrong: u64,
    pub(super) seen: u64,
}

impl Bound {
    /// `None` for a condition that counts no share of requests: its data is proof enough.
    pub(super) fn of(condition: &Condition, sample: &Sample<'_>) -> Option<Self> {
        let above_is_wrong = match condition.op {
            Op::Greater | Op::GreaterOrEqual => true,
            Op::Less | Op::LessOrEqual => false,
            Op::Equal => return None,
        };
        // Of a magnitude, what is above its limit is tested: what is as far below it is better, and holds.
        if above_is_wrong == (condition.metric == Metric::Availability) {
            return None;
        }
        // For a comparison: the limit that it comes to by baseline's figure.
        let limit = match condition.selector {
            Selector::Canary | Selector::Baseline => condition.value,
            Selector::Delta => {
                let baseline = Condition {
                    selector: Selector::Baseline,
                    ..condition.clone()
                };
                baseline.figure(sample)? * (1.0 + condition.value)
            }
        };
        let (wrong, allowed) = match condition.metric {
            Metric::ErrorRate => (Wrong::Errors, limit),
            Metric::Availability => (Wrong::Failed, 1.0 - limit),
            Metric::ClientErrorRate => (Wrong::ClientErrors, limit),
            Metric::Abandoned => (Wrong::Abandoned, limit),
            Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => {
                let one_in = condition.metric.one_above_in()?;
                (Wrong::SlowerThan(limit as u64), 1.0 / one_in as f64)
            }
            Metric::Uptime
            | Metric::Throughput
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_) => return None,
        };
        Some(Self { wrong, allowed })
    }

    pub(super) fn tally(self, arm: Arm, measured: &dyn Measured) -> Tally {
        let counts = measured.counts(arm);
        let (wrong, seen) = match self.wrong {
            Wrong::Errors => (counts.errors, counts.counted),
            Wrong::Failed => (counts.failed, counts.counted),
            Wrong::ClientErrors => (counts.client_errors, counts.counted),
            Wrong::Abandoned => (counts.abandoned, counts.counted + counts.abandoned),
            Wrong::SlowerThan(limit_us) => (measured.above(arm, limit_us), counts.timed),
        };
        Tally { wrong, seen }
    }
}

impl Tally {
    /// Of the requests in a view, by what a condition tells them apart by; nothing where it counts none.
    pub(super) fn of(condition: &Condition, sample: &Sample<'_>, view: &View<'_>) -> Self {
        Bound::of(condition, sample)
            .map_or_else(Self::default, |bound| bound.tally(condition.arm(), view))
    }

    fn is_no_chance(self, allowed: f64) -> bool {
        // What left late is counted with what was seen a moment later; all is the most that can be wrong.
        tail_at_least(self.wrong.min(self.seen), self.seen, allowed) < CHANCE
    }
}

impl Breach {
    fn tally(&self) -> Tally {
        Tally {
            wrong: self.wrong,
            seen: self.seen,
        }
    }
}

impl Gate {
    /// What is missing to prove a trigger's breach, in numbers; `None` if nothing is.
    pub(super) fn unproven(&self, now: Now, breach: &Breach) -> Option<String> {
        let condition = self.condition(breach.purpose, breach.index)?;
        if let Some(which) = condition.regression() {
            return self.unproven_regression(which);
        }
        let view = self.breach_view(now, breach, condition);
        if condition.metric.is_impact() {
            let (_, since) = self.guard_span(breach.purpose, condition);
            let sample = self.sample_since(&view, now, since);
            return unproven_impact(condition, &sample);
        }
        let bound = Bound::of(condition, &self.sample(&view))?;
        if names_learners(condition.metric) {
            let seen = breach.learners.len() as u64 + breach.others;
            if seen < PROOF {
                return Some(format!("{seen} of {PROOF} failing learners"));
            }
        } else if breach.wrong < PROOF {
            let seen = breach.wrong;
            return Some(format!("{seen} of {PROOF} requests on the wrong side"));
        }
        // A breach begins with a window that was half well, so a young one is judged by its window as well.
        let mut counts = vec![breach.tally()];
        if breach.stands() < condition.over.unwrap_or(DEFAULT_OVER) {
            counts.push(bound.tally(condition.arm(), &view));
        }
        if !counts.iter().any(|tally| tally.is_no_chance(bound.allowed)) {
            let Breach { wrong, seen, .. } = breach;
            return Some(format!(
                "{wrong} of {seen} on the wrong side may be chance under the limit"
            ));
        }
        match names_learners(condition.metric) {
            true => one_learners_doing(condition.arm(), &view, bound),
            false => None,
        }
    }
}

// Only his failures are known by learner, so his other requests stay in and speak for the canary.
fn one_learners_doing(arm: Arm, view: &View<'_>, bound: Bound) -> Option<String> {
    let worst = view.most_failures(arm).unwrap_or(0);
    let Tally { wrong, seen } = bound.tally(arm, view);
    let (rest, others) = (wrong.saturating_sub(worst), seen.saturating_sub(worst));
    let holds = others > 0 && rest as f64 > bound.allowed * others as f64;
    (!holds).then(|| {
        let worst = worst.min(wrong);
        format!("one learner caused {worst} of {wrong} failures, and without him the limit is kept")
    })
}

// A business figure takes the weight down only when its whole interval lies on the limit's side of 0 (gate.md,
// "Evidence", 7). One that is read, and not counted here, has none: its source's word is proof enough.
fn unproven_impact(condition: &Condition, sample: &Sample<'_>) -> Option<String> {
    let (low, high) = condition.interval(sample)?;
    (low <= 0.0 && high >= 0.0).then(|| {
        let show = |bound| condition.unit().show(bound);
        format!("its interval from {} to {} holds 0", show(low), show(high))
    })
}
