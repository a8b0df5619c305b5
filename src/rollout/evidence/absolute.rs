//! Canary alone against the limits that its stages' triggers name: process 1.
//!
//! Owns which limits there are, fixed when the evidence begins, and when a second is left out because
//! baseline breaks the limit too: else a shared outage would roll a healthy canary back after it is over.

use std::collections::VecDeque;
use std::time::Duration;

use super::block::{Crowd, First, Sight};
use super::bursts::Bursts;
use super::erred::Erred;
use crate::rollout::condition::{Condition, Metric, Op, Selector};
use crate::rollout::name::Arm;
use crate::rollout::plan::{Plan, Stage};
use crate::rollout::stats::Onset;
use crate::rollout::stats::fixed::{self, Steps};
use crate::rollout::time::Timestamp;

/// From so many learners on, one block of baseline speaks for itself.
const BLOCK_NEEDS: u64 = 20;
/// Else it is judged together with so much of what went before.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// What a learner's first request of a block is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error,
    Unavailable,
    /// Slower than this many microseconds.
    Slower(u64),
}

/// A limit on the share of learners with the fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub fault: Fault,
    pub p0: f64,
}

/// One limit's process.
#[derive(Clone, Debug, PartialEq)]
pub struct Absolute {
    pub limit: Limit,
    /// Of the limit.
    pub steps: Steps,
    pub onset: Onset,
    /// For latencies; errors are told by the set of the errors' process.
    pub erred: Erred,
    pub bursts: Bursts,
    /// Baseline's recent blocks.
    pub baseline: VecDeque<Recent>,
}

/// Learners of baseline in one block, and those of them with the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    pub start: Timestamp,
    pub faulty: u64,
    pub learners: u64,
}

impl Fault {
    /// Whether it is told by the set of the errors' process, and by segment.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Error | Self::Unavailable => true,
            Self::Slower(_) => false,
        }
    }

    // `None` for who cannot be judged.
    pub(super) fn of(self, first: First) -> Option<bool> {
        match self {
            Self::Error => Some(first.error),
            Self::Unavailable => Some(first.failed),
            Self::Slower(limit_us) => first.latency_us.map(|latency| latency > limit_us),
        }
    }
}

impl Limit {
    /// The limit of a trigger; `None` for one that is no share of canary's learners, or that no
    /// alternative lies above.
    pub fn of(trigger: &Condition) -> Option<Self> {
        if trigger.selector != Selector::Canary || trigger.absolute {
            return None;
        }
        let above = match trigger.op {
            Op::Greater | Op::GreaterOrEqual => true,
            Op::Less | Op::LessOrEqual => false,
            Op::Equal => return None,
        };
        let (fault, p0) = match (trigger.metric, above) {
            (Metric::ErrorRate, true) => (Fault::Error, trigger.value),
            (Metric::Availability, false) => (Fault::Unavailable, 1.0 - trigger.value),
            (Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999, true) => {
                let one_in = trigger.metric.one_above_in()?;
                (
                    Fault::Slower(trigger.latency_limit_us()?),
                    1.0 / one_in as f64,
                )
            }
            // Comparisons within one arm's own figures, shares that no process is fed with, and the other direction.
            (
                Metric::ErrorRate
                | Metric::Availability
                | Metric::P50
                | Metric::P95
                | Metric::P99
                | Metric::P999
                | Metric::ClientErrorRate
                | Metric::Abandoned
                | Metric::Uptime
                | Metric::Throughput
                | Metric::Incidents
                | Metric::SegmentVariance
                | Metric::Regression(_)
                | Metric::Signal(_),
                _,
            ) => return None,
        };
        (fixed::width(p0) > 0).then_some(Self { fault, p0 })
    }

    /// The limits of one stage, each once.
    pub fn of_stage(stage: &Stage) -> Vec<Self> {
        once(stage.rollback.iter().filter_map(Self::of))
    }

    /// The limits of every stage, each once.
    pub fn of_plan(plan: &Plan) -> Vec<Self> {
        once(plan.stages.iter().flat_map(Self::of_stage))
    }
}

impl Absolute {
    pub fn new(limit: Limit) -> Self {
        let steps = Steps::of(limit.p0);
        Self {
            onset: Onset::new(steps.width()),
            steps,
            erred: Erred::default(),
            bursts: Bursts::default(),
            baseline: VecDeque::new(),
            limit,
        }
    }

    /// Takes in a block, and answers whether it was judged. `errors` is the set of those who had an error before this block.
    pub fn add(&mut self, start: Timestamp, sights: &[&Sight], errors: &Erred) -> bool {
        self.add_beside(&Crowd::default(), start, sights, errors)
    }

    /// The same with those who are not named.
    pub fn add_beside(
        &mut self,
        crowd: &Crowd,
        start: Timestamp,
        sights: &[&Sight],
        errors: &Erred,
    ) -> bool {
        let fault = self.limit.fault;
        self.look_back(crowd, start, sights);
        let (failed, learners) = match fault {
            Fault::Slower(_) => {
                self.erred.turn(start);
                let sights = sights.iter().copied();
                let counts = self
                    .erred
                    .count_beside(crowd, sights, |sight| fault.of(sight.first));
                (counts.canary_failed, counts.canary)
            }
            Fault::Error | Fault::Unavailable => {
                let on_canary = sights.iter().filter(|sight| sight.arm == Arm::Canary);
                let fresh = on_canary.filter(|sight| errors.is_fresh(sight));
                let of_crowd = (0, crowd.learners[Arm::Canary.index()]);
                fresh.fold(of_crowd, |(failed, learners), sight| {
                    let is_faulty = fault.of(sight.first) == Some(true);
                    (failed + u64::from(is_faulty), learners + 1)
                })
            }
        };
        let is_judged = learners > 0 && !self.baseline_breaks_it();
        if is_judged {
            let before = self.onset.ln_e();
            self.steps.take_in(&mut self.onset, failed, learners);
            self.bursts.note(before, self.onset.ln_e());
        }
        is_judged
    }

    // What baseline's learners of this block say joins those of the last minute.
    fn look_back(&mut self, crowd: &Crowd, start: Timestamp, sights: &[&Sight]) {
        let mut now = Recent {
            start,
            faulty: 0,
            learners: crowd.learners[Arm::Baseline.index()],
        };
        for sight in sights.iter().filter(|sight| sight.arm == Arm::Baseline) {
            if let Some(is_faulty) = self.limit.fault.of(sight.first) {
                now.learners += 1;
                now.faulty += u64::from(is_faulty);
            }
        }
        self.baseline.push_back(now);
        let is_old = |recent: &Recent| start.since(recent.start) >= LOOK_BACK;
        while self.baseline.front().is_some_and(is_old) {
            self.baseline.pop_front();
        }
    }

    fn baseline_breaks_it(&self) -> bool {
        let over = |faulty: u64, learners: u64| faulty as f64 > self.limit.p0 * learners as f64;
        match self.baseline.back() {
            Some(last) if last.learners >= BLOCK_NEEDS => over(last.faulty, last.learners),
            Some(_) | None => {
                let faulty = self.baseline.iter().map(|recent| recent.faulty).sum();
                let learners = self.baseline.iter().map(|recent| recent.learners).sum();
                over(faulty, learners)
            }
        }
    }
}

fn once(limits: impl Iterator<Item = Limit>) -> Vec<Limit> {
    let mut kept: Vec<Limit> = Vec::new();
    for limit in limits {
        if !kept.contains(&limit) {
            kept.push(limit);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::LearnerHash;

    #[test]
    fn limits_are_those_of_triggers_on_shares_of_canary() {
        let check = |text: &str, limit: Option<(Fault, f64)>| {
            let found = Limit::of(&Condition::parse(text).expect(text));
            assert_eq!(
                found.map(|limit| limit.fault),
                limit.map(|(fault, _)| fault),
                "{text}"
            );
            let apart = found
                .zip(limit)
                .map(|(found, (_, p0))| (found.p0 - p0).abs());
            assert!(apart.is_none_or(|apart| apart < 1e-12), "{text}");
        };
        check("error_rate > 1.5% for 2m", Some((Fault::Error, 0.015)));
        check(
            "availability < 99% for 5m",
            Some((Fault::Unavailable, 0.01)),
        );
        check("p99 > 250ms for 5m", Some((Fault::Slower(250_000), 0.01)));
        check("p95 >= 90ms", Some((Fault::Slower(90_000), 0.05)));
        for none in [
            "error_rate < 1%",
            "error_rate{delta} > 50%",
            "error_rate{baseline} > 1%",
            "error_rate > 70%",
            "error_rate > 0%",
            "throughput < 5",
            "client_error_rate > 5%",
        ] {
            check(none, None);
        }
    }

    #[test]
    fn a_second_in_which_baseline_breaks_the_limit_is_left_out() {
        let learners = |arm: Arm, from: u64, faulty: u64| {
            (from..from + 50).map(move |learner| Sight {
                learner: LearnerHash::from_raw(learner),
                arm,
                segment: None,
                epoch: 1,
                first: First {
                    error: learner < from + faulty,
                    ..First::default()
                },
                error: learner < from + faulty,
                client_error: false,
                edges: None,
            })
        };
        let check = |baseline: u64, blocks: u64| {
            let limit = Limit {
                fault: Fault::Error,
                p0: 0.1,
            };
            let mut process = Absolute::new(limit);
            let all: Vec<Sight> = learners(Arm::Baseline, 0, baseline)
                .chain(learners(Arm::Canary, 100, 20))
                .collect();
            let sights: Vec<&Sight> = all.iter().collect();
            process.add(Timestamp::default(), &sights, &Erred::default());
            assert_eq!(process.onset.t, blocks, "{baseline} of 50 on baseline");
        };
        check(5, 1);
        check(6, 0);
    }
}
