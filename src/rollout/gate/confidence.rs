//! How sure a decision is: high, medium or low, what its stage could have seen, and what keeps it from being higher.
//!
//! gate.md, decision 5. A step is as sure as its weakest criterion and as the smallest regression that the stage's
//! requests would have shown. A way back is as sure as the strongest of what it rests on. Computed when something is
//! decided, never at a tick. Decides nothing.

use super::Gate;
use super::effect::RollbackCause;
use crate::rollout::condition::{Condition, Metric};
use crate::rollout::name::Arm;
use crate::rollout::stats::detectable::{Detectable, Sample, Test, smallest};
use crate::rollout::verdict::{Evaluation, Purpose, Verdict};
use crate::rollout::window::Measured;

/// A step is of high confidence if a regression of so many times baseline's errors would have been seen.
const HIGH_RATIO: f64 = 3.0;
/// And of medium confidence up to this.
const MEDIUM_RATIO: f64 = 10.0;
/// Baseline's error rate that is supposed where it had no error.
pub const SUPPOSED_RATE: f64 = 0.001;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Low,
    Medium,
    High,
}

/// The confidence of one decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Confidence {
    pub level: Level,
    /// `None` where an arm had no requests.
    pub sensitivity: Option<Sensitivity>,
    /// What keeps it from being higher, each as a sentence; empty at high.
    pub why: Vec<String>,
}

/// What the stage's requests could have seen of errors, with a chance of 90 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// Baseline's error rate in the stage, or what is supposed of one that had no error.
    pub base_rate: f64,
    /// `None` where not even a canary that always fails would have been seen.
    pub smallest: Option<Detectable>,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Confidence {
    /// Of a step towards canary, or of its end.
    fn of_step(evaluations: &[Evaluation], sensitivity: Option<Sensitivity>) -> Self {
        let (mut level, mut why) = of_sensitivity(sensitivity);
        for evaluation in criteria(evaluations) {
            let (most, reason) = of_criterion(evaluation);
            level = level.min(most);
            why.extend(reason);
        }
        Self {
            level,
            sensitivity,
            why,
        }
    }

    /// Of a way back or a hold, by what it rests on.
    fn against(rests_on: Vec<&Evaluation>, sensitivity: Option<Sensitivity>) -> Self {
        let levels = rests_on.iter().map(|evaluation| of_fault(evaluation));
        let level = levels.max().unwrap_or(Level::Low);
        let why = match (level, rests_on.is_empty()) {
            (Level::High, _) => Vec::new(),
            (Level::Medium | Level::Low, true) => vec!["nothing that was judged fails".to_owned()],
            (Level::Medium | Level::Low, false) => rests_on.into_iter().filter_map(doubt).collect(),
        };
        Self {
            level,
            sensitivity,
            why,
        }
    }
}

impl Gate {
    /// Of a step, or of asking people for one; remembered as the last decision's.
    pub(super) fn confidence_of_step(&mut self, evaluations: &[Evaluation]) -> Option<Confidence> {
        let confidence = Confidence::of_step(evaluations, self.sensitivity());
        self.note_confidence(confidence)
    }

    /// Of a hold whose criteria are not met, or cannot be judged.
    pub(super) fn confidence_of_hold(&mut self, evaluations: &[Evaluation]) -> Option<Confidence> {
        let fails = |evaluation: &&Evaluation| evaluation.verdict != Verdict::Pass;
        let rests_on = criteria(evaluations).filter(fails).collect();
        let confidence = Confidence::against(rests_on, self.sensitivity());
        self.note_confidence(confidence)
    }

    /// Of a way back; `None` where a person went it.
    pub(super) fn confidence_of_retreat(
        &mut self,
        cause: &RollbackCause,
        evaluations: &[Evaluation],
    ) -> Option<Confidence> {
        let is_it = |condition: &Condition| match cause {
            RollbackCause::Trigger(text) => condition.to_string() == *text,
            RollbackCause::Tripwire | RollbackCause::Criteria | RollbackCause::Operator => true,
        };
        let purpose = match cause {
            RollbackCause::Trigger(_) => Purpose::Rollback,
            RollbackCause::Tripwire => Purpose::Tripwire,
            RollbackCause::Criteria => Purpose::Advance,
            RollbackCause::Operator => return None,
        };
        let rests_on = evaluations.iter().filter(|evaluation| {
            evaluation.purpose == purpose
                && evaluation.verdict == Verdict::Fail
                && (evaluation.condition.regression().is_some() || is_it(&evaluation.condition))
        });
        let confidence = Confidence::against(rests_on.collect(), self.sensitivity());
        self.note_confidence(confidence)
    }

    /// What the stage's requests could have seen: errors, by the plan's own alpha and margin.
    pub(super) fn sensitivity(&self) -> Option<Sensitivity> {
        let run = self.state.run.as_ref()?;
        let totals = &run.stage.totals;
        let (baseline, canary) = (totals.counts(Arm::Baseline), totals.counts(Arm::Canary));
        if baseline.counted == 0 || canary.counted == 0 {
            return None;
        }
        let base_rate = match baseline.errors {
            0 => SUPPOSED_RATE,
            errors => errors as f64 / baseline.counted as f64,
        };
        let expected = blocks(canary.counted, totals.span().as_secs_f64());
        let evidence = &run.evidence;
        let seen = match evidence.learners {
            0 => evidence.requests.t,
            _ => evidence.errors.onset.t,
        };
        // Where evidence was begun anew in the stage, it saw a part of its requests.
        let blocks = expected.min(seen);
        let share = blocks as f64 / expected.max(1) as f64;
        let odds_margin = run.plan.gate.evidence.odds_margin;
        let smallest = smallest(
            Test::of_errors(odds_margin, self.alpha()?),
            Sample {
                baseline: (share * baseline.counted as f64) as u64,
                canary: (share * canary.counted as f64) as u64,
                base_rate,
                blocks,
                blocks_before: seen - blocks,
            },
        );
        Some(Sensitivity {
            base_rate,
            smallest,
        })
    }

    fn note_confidence(&mut self, confidence: Confidence) -> Option<Confidence> {
        let run = self.state.run.as_mut()?;
        run.confidence = Some(confidence.clone());
        Some(confidence)
    }
}

/// Seconds in which canary has a request, when so many come as they like within a span.
fn blocks(requests: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 {
        return 0;
    }
    (seconds * -(-(requests as f64) / seconds).exp_m1()).round() as u64
}

fn criteria(evaluations: &[Evaluation]) -> impl Iterator<Item = &Evaluation> {
    let advance = |evaluation: &&Evaluation| evaluation.purpose == Purpose::Advance;
    evaluations.iter().filter(advance)
}

// The most that a step can be, by what its stage could have seen.
fn of_sensitivity(sensitivity: Option<Sensitivity>) -> (Level, Vec<String>) {
    let Some(sensitivity) = sensitivity else {
        let why = "canary was compared with nobody on baseline";
        return (Level::Medium, vec![why.to_owned()]);
    };
    let Some(found) = sensitivity.smallest else {
        let why = "not even a canary that always fails would have been seen against baseline";
        return (Level::Low, vec![why.to_owned()]);
    };
    let why = || {
        vec![format!(
            "errors of less than {:.1} times baseline's would not have been seen",
            found.ratio
        )]
    };
    if found.ratio <= HIGH_RATIO {
        (Level::High, Vec::new())
    } else if found.ratio <= MEDIUM_RATIO {
        (Level::Medium, why())
    } else {
        (Level::Low, why())
    }
}

// The most that a step can be, by one of its criteria.
fn of_criterion(evaluation: &Evaluation) -> (Level, Option<String>) {
    let condition = &evaluation.condition;
    // A percentile is judged by its exact counter, beside which its figure is coarse.
    let holds = evaluation
        .figure
        .is_some_and(|figure| condition.holds(figure));
    if evaluation.verdict != Verdict::Pass || !(holds || condition.latency_limit_us().is_some()) {
        return (Level::Low, Some(format!("{condition} is not met")));
    }
    match evaluation.interval_says {
        Some(Verdict::Pass) => (Level::High, None),
        Some(_) => (Level::Medium, doubt(evaluation)),
        None if is_a_fact(condition) => (Level::High, None),
        None => {
            let why = format!("{condition} has no interval");
            (Level::Medium, Some(why))
        }
    }
}

// How sure a fault is: beyond doubt, by the rule that acts on it, or not at all.
fn of_fault(evaluation: &Evaluation) -> Level {
    let proven = match evaluation.interval_says {
        Some(says) => says == Verdict::Fail,
        // An alarm is never raised in more than alpha of all rollouts, however often one looks.
        None => evaluation.condition.regression().is_some() || is_a_fact(&evaluation.condition),
    };
    match (evaluation.verdict, proven) {
        (Verdict::Fail, true) => Level::High,
        (Verdict::Fail, false) => Level::Medium,
        (Verdict::Unproven | Verdict::NoData | Verdict::Pass, _) => Level::Low,
    }
}

fn doubt(evaluation: &Evaluation) -> Option<String> {
    let condition = &evaluation.condition;
    match (evaluation.interval_says, evaluation.verdict) {
        (_, Verdict::NoData) => Some(format!("{condition} has no data")),
        (Some(Verdict::Unproven), _) => {
            let bounds = evaluation.interval.map(|(low, high)| {
                let show = |bound| condition.unit().show(bound);
                format!(": it may be anything from {} to {}", show(low), show(high))
            });
            let bounds = bounds.unwrap_or_default();
            Some(format!(
                "the 95% interval of {condition} holds its limit{bounds}"
            ))
        }
        (_, Verdict::Unproven) => Some(format!("{condition} is unproven")),
        (_, Verdict::Pass | Verdict::Fail) => None,
    }
}

// What was counted whole, or is its source's own word: there is no sample that could mislead.
const fn is_a_fact(condition: &Condition) -> bool {
    match condition.metric {
        Metric::Uptime | Metric::Throughput | Metric::Incidents | Metric::Signal(_) => true,
        Metric::ErrorRate
        | Metric::ClientErrorRate
        | Metric::Abandoned
        | Metric::P50
        | Metric::P95
        | Metric::P99
        | Metric::P999
        | Metric::Availability
        | Metric::SegmentVariance
        | Metric::Regression(_) => false,
    }
}
