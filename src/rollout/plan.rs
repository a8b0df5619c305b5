//! A plan: stages, criteria, triggers and limits of one rollout. A `Plan` exists only if it is valid.
//!
//! `PlanParts` is the same as typed, `Plan::build` finds every fault in it at once. Knows nothing
//! of where the parts came from.

mod check;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::condition::Condition;
use super::name::{PoolName, RolloutName, SignalName, StageName};
use super::signal::{REVENUE_IMPACT, SignalKind, SignalSpec};
use super::weight::Weight;

/// The window of a hold condition or trigger that names none.
pub const DEFAULT_OVER: Duration = Duration::from_secs(60);

/// What fixes who a learner is and where his hash puts him. It cannot change while a rollout runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub baseline: PoolName,
    pub canary: PoolName,
    pub salt: String,
    /// Sources in order, as the contract writes them: `header:x-learner-id`.
    pub learner: Vec<String>,
    pub segment: Option<String>,
}

/// Everything a plan says, before it was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanParts {
    pub rollout: RolloutName,
    pub identity: Identity,
    /// Of the canary; empty where nothing is said.
    pub version: String,
    /// The share of learners never moved to canary before `complete`.
    pub holdout: Weight,
    pub gate: GateParts,
    /// Figures from outside that conditions may name, beside `revenue_impact`.
    pub signals: Vec<SignalSpec>,
    pub stages: Vec<Stage>,
}

/// Settings of the gate that hold for every stage.
#[derive(Clone, Debug, PartialEq)]
pub struct GateParts {
    pub outage_patience: Duration,
    pub max_gap: Duration,
    pub cooldown: Duration,
    /// Share of baseline's endpoints at `start` that must be usable before a step up, 0.0 to 1.0.
    pub baseline_min_healthy: f64,
    /// `None` where switched off.
    pub tripwire: Option<Condition>,
    /// `demo --speed`: how many times faster than the client's clock this plan runs; 1 otherwise. Only for display.
    pub speed: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub name: StageName,
    pub weight: Weight,
    pub duration: Duration,
    pub warmup: Duration,
    /// Stage times, ascending, none beyond the duration.
    pub checkpoints: Vec<Duration>,
    pub min_requests: u64,
    pub min_window_requests: u64,
    pub max_extension: Duration,
    pub advance: Vec<Condition>,
    pub hold: Vec<Condition>,
    pub rollback: Vec<Condition>,
    pub on_success: OnSuccess,
    pub on_failure: OnFailure,
    /// Where a trigger goes: zero is a rollback, more is a fallback weight and a hold.
    pub on_rollback: Weight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    Advance,
    Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    Hold,
    Rollback,
    /// Go to this weight, then hold.
    Fallback(Weight),
}

/// A plan that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan(PlanParts);

/// One fault: where (`stages[1].weight`, as the keys of the rollout's table) and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFault {
    pub path: String,
    pub message: String,
    /// The word that nothing is known by, where that is the fault: whoever knows the words may suggest one.
    pub unknown: Option<String>,
}

impl Plan {
    /// Checks everything and answers with every fault at once.
    pub fn build(parts: PlanParts) -> Result<Self, Vec<PlanFault>> {
        let faults = check::faults(&parts);
        if faults.is_empty() {
            Ok(Self(parts))
        } else {
            Err(faults)
        }
    }

    /// What is legal but will not do what it seems to, as sentences for `serin check`.
    pub fn notes(&self) -> Vec<PlanFault> {
        check::notes(self)
    }

    /// The weight of a stage under the holdout.
    pub fn stage_weight(&self, index: usize) -> Option<Weight> {
        let cap = Weight::from_ppm(Weight::FULL.ppm() - self.0.holdout.ppm())?;
        self.0.stages.get(index).map(|stage| stage.weight.min(cap))
    }

    /// The weight after the last stage passed: the holdout ends there.
    pub fn final_weight(&self) -> Weight {
        self.0
            .stages
            .last()
            .map(|stage| stage.weight)
            .unwrap_or_default()
    }

    /// Whether nobody is left on baseline in this stage, so that nothing can be compared with it.
    pub fn lacks_baseline(&self, index: usize) -> bool {
        self.stage_weight(index) == Some(Weight::FULL)
    }

    /// The largest latency limit of a stage's criteria and triggers; a learner who waited longer
    /// and left counts as an error. `None` where the stage names none (then 1 s).
    pub fn largest_latency_limit(&self, index: usize) -> Option<Duration> {
        let conditions = self.0.stages.get(index)?.conditions();
        let largest = conditions.filter_map(Condition::latency_limit_us).max()?;
        Some(Duration::from_micros(largest))
    }

    /// Every latency limit in microseconds that a condition of any stage compares with, ascending.
    pub fn latency_limits_us(&self) -> Vec<u64> {
        let stages = self.0.stages.iter().flat_map(Stage::conditions);
        let limits: BTreeSet<u64> = stages
            .chain(&self.0.gate.tripwire)
            .filter_map(Condition::latency_limit_us)
            .collect();
        limits.into_iter().collect()
    }

    /// The longest window that any condition on a signal reads; zero where the latest value is enough.
    pub fn longest_signal_window(&self) -> Duration {
        let stages = self.0.stages.iter().flat_map(Stage::conditions);
        stages
            .chain(&self.0.gate.tripwire)
            .filter(|condition| condition.metric.signal().is_some())
            .filter_map(|condition| condition.over)
            .fold(Duration::ZERO, Duration::max)
    }

    /// The longest window that any condition reads, at least `DEFAULT_OVER`.
    pub fn longest_window(&self) -> Duration {
        let stages = self.0.stages.iter().flat_map(Stage::conditions);
        stages
            .chain(&self.0.gate.tripwire)
            // Readings are kept by themselves, so that their windows make none of the slots' longer.
            .filter(|condition| condition.metric.signal().is_none())
            .filter_map(|condition| condition.over)
            .fold(DEFAULT_OVER, Duration::max)
    }
}

impl PlanParts {
    /// What it says of a signal; `revenue_impact` is one of outcomes without being declared.
    pub fn signal(&self, name: SignalName) -> Option<SignalSpec> {
        let declared = self.signals.iter().find(|spec| spec.name == name);
        let given = || {
            (name.as_str() == REVENUE_IMPACT).then_some(SignalSpec {
                name,
                kind: SignalKind::Outcomes,
                unproven_passes: false,
            })
        };
        declared.copied().or_else(given)
    }
}

impl Stage {
    /// Criteria, hold conditions and triggers, in this order.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.advance.iter().chain(&self.hold).chain(&self.rollback)
    }
}

impl Deref for Plan {
    type Target = PlanParts;

    fn deref(&self) -> &PlanParts {
        &self.0
    }
}

impl fmt::Display for PlanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
