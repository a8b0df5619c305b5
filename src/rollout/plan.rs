//! A plan: stages, criteria, triggers and limits of one rollout. A `Plan` exists only if it is valid.
//!
//! `PlanParts` is the same as typed, `Plan::build` finds every fault in it at once. Knows nothing
//! of where the parts came from.

mod check;
mod hook;
mod stabilization;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::condition::Condition;
use super::evidence::Limit;
use super::name::{PoolName, RoleName, RolloutName, SignalName, StageName};
use super::schedule::Schedule;
use super::signal::{
    ArmsRead, MIRROR_DIFFERENCE, MIRROR_INTERVAL, REVENUE_IMPACT, SignalKind, SignalSpec,
};
use super::weight::Weight;

pub use hook::{Act, Hook, HookKind, HookMethod, Hooks, Verify, When};
pub use stabilization::{Level, ROUTINE, Stabilization};

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
    /// What follows the last stage before `complete`; nothing where it is `None`.
    pub stabilization: Option<Stabilization>,
}

/// Settings of the gate that hold for every stage.
#[derive(Clone, Debug, PartialEq)]
pub struct GateParts {
    pub outage_patience: Duration,
    pub max_gap: Duration,
    pub cooldown: Duration,
    /// How long an approval counts.
    pub approval_ttl: Duration,
    /// After how long without anybody acting a rollout that waits for a person reminds of it, again and again.
    pub escalate_after: Duration,
    /// Share of baseline's endpoints at `start` that must be usable before a step up, 0.0 to 1.0.
    pub baseline_min_healthy: f64,
    /// From which a segment is compared, and judged `per segment` in `advance` and `hold`.
    pub min_segment_requests: u64,
    /// How many are told apart; the rest is one more, `other`. Evidence has a share of alpha for each.
    pub max_segments: u64,
    /// When more were lowered by triggers, everybody is rolled back.
    pub max_failed_segments: u64,
    /// `None` where switched off.
    pub tripwire: Option<Condition>,
    pub evidence: EvidenceParts,
    pub mode: Mode,
    /// `demo --speed`: how many times faster than the client's clock this plan runs; 1 otherwise. Only for display.
    pub speed: f64,
}

/// What evidence is judged by, over the whole rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvidenceParts {
    /// The chance of a false alarm in the whole rollout that is put up with.
    pub alpha: f64,
    /// How many times baseline's odds of failing canary's may be.
    pub odds_margin: f64,
}

/// What a rollout is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Rollout,
    /// Two pools that are the same: everything runs, nothing is rolled back, alarms are faults of the measurement.
    Aa,
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
    pub schedule: Schedule,
    pub hooks: Hooks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    Advance,
    /// Advance when each of these roles has approved.
    Approve(Vec<RoleName>),
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
pub struct Plan {
    parts: PlanParts,
    /// The stabilization as a stage after the last, so that it is watched and judged as one.
    settling: Option<Stage>,
    known: Known,
}

/// What follows from a plan and is asked for at every tick.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    longest_window: Duration,
    reads_segments: bool,
    /// Of each stage, the limits that evidence watches.
    limits: Vec<Vec<Limit>>,
}

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
            let settling = stabilization::as_stage(&parts);
            let known = Known::of(&parts, settling.as_ref());
            Ok(Self {
                parts,
                settling,
                known,
            })
        } else {
            Err(faults)
        }
    }

    /// What is legal but will not do what it seems to, as sentences for `serin check`.
    pub fn notes(&self) -> Vec<PlanFault> {
        check::notes(self)
    }

    /// A stage by its place; the stabilization is the one after the last.
    pub fn stage(&self, index: usize) -> Option<&Stage> {
        match self.parts.stages.get(index) {
            None if self.settles_at(index) => self.settling.as_ref(),
            stage => stage,
        }
    }

    /// Whether the stabilization has this place.
    pub fn settles_at(&self, index: usize) -> bool {
        self.settling.is_some() && index == self.parts.stages.len()
    }

    /// Every stage in order, the stabilization with them.
    pub fn all_stages(&self) -> impl Iterator<Item = &Stage> {
        self.parts.stages.iter().chain(&self.settling)
    }

    /// The weight of a stage under the holdout.
    pub fn stage_weight(&self, index: usize) -> Option<Weight> {
        let cap = Weight::from_ppm(Weight::FULL.ppm() - self.parts.holdout.ppm())?;
        self.stage(index).map(|stage| stage.weight.min(cap))
    }

    /// The weight after the last stage passed: the holdout ends there.
    pub fn final_weight(&self) -> Weight {
        self.parts
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
        let conditions = self.stage(index)?.conditions();
        let largest = conditions.filter_map(Condition::latency_limit_us).max()?;
        Some(Duration::from_micros(largest))
    }

    /// Every latency limit in microseconds that a condition of any stage compares with, ascending.
    pub fn latency_limits_us(&self) -> Vec<u64> {
        let stages = self.all_stages().flat_map(Stage::conditions);
        let limits: BTreeSet<u64> = stages
            .chain(&self.parts.gate.tripwire)
            .filter_map(Condition::latency_limit_us)
            .collect();
        limits.into_iter().collect()
    }

    /// The longest window that any condition on a signal reads; zero where the latest value is enough.
    pub fn longest_signal_window(&self) -> Duration {
        self.signal_conditions()
            .filter_map(|condition| condition.over)
            .fold(Duration::ZERO, Duration::max)
    }

    /// Every condition that reads a signal.
    pub fn signal_conditions(&self) -> impl Iterator<Item = &Condition> {
        let stages = self.all_stages().flat_map(Stage::conditions);
        stages
            .chain(&self.parts.gate.tripwire)
            .filter(|condition| condition.metric.signal().is_some())
    }

    /// Whether any condition needs segments told apart in its window.
    pub const fn reads_segments(&self) -> bool {
        self.known.reads_segments
    }

    /// The longest window that any condition reads, at least `DEFAULT_OVER`.
    pub const fn longest_window(&self) -> Duration {
        self.known.longest_window
    }

    /// The limits of a stage's triggers that evidence watches, each once; none of the stabilization.
    pub fn limits(&self, index: usize) -> &[Limit] {
        self.known.limits.get(index).map_or(&[], Vec::as_slice)
    }
}

impl Known {
    fn of(parts: &PlanParts, settling: Option<&Stage>) -> Self {
        let stages = parts.stages.iter().chain(settling);
        let conditions = stages.flat_map(Stage::conditions);
        let windows = conditions.clone().chain(&parts.gate.tripwire);
        Self {
            longest_window: windows
                // Readings are kept by themselves, so that their windows make none of the slots' longer.
                .filter(|condition| condition.metric.signal().is_none())
                .filter_map(|condition| condition.over)
                .fold(DEFAULT_OVER, Duration::max),
            reads_segments: conditions.clone().any(Condition::reads_segments),
            limits: parts.stages.iter().map(Limit::of_stage).collect(),
        }
    }
}

impl EvidenceParts {
    /// One false alarm in a hundred rollouts of a healthy canary; and below half as much again a regression is not worth
    /// a rollback, because two equal pools differ as well.
    pub const DEFAULT: Self = Self {
        alpha: 0.01,
        odds_margin: 1.5,
    };
}

impl Default for EvidenceParts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl PlanParts {
    /// What it says of a signal; `revenue_impact` and `mirror_difference` are there without being declared.
    pub fn signal(&self, name: SignalName) -> Option<SignalSpec> {
        let declared = self.signals.iter().find(|spec| spec.name == name);
        let given = || {
            let kind = match name.as_str() {
                REVENUE_IMPACT => SignalKind::Outcomes,
                MIRROR_DIFFERENCE => SignalKind::Read {
                    interval: MIRROR_INTERVAL,
                    arms: ArmsRead::Canary,
                },
                _ => return None,
            };
            Some(SignalSpec {
                name,
                kind,
                unproven_passes: false,
            })
        };
        declared.copied().or_else(given)
    }
}

impl Stage {
    /// Criteria, hold conditions and triggers, in this order.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> + Clone {
        self.advance.iter().chain(&self.hold).chain(&self.rollback)
    }

    /// Whether a trigger can lower a segment by itself.
    pub fn lowers_segments(&self) -> bool {
        self.rollback.iter().any(|condition| condition.per_segment)
    }
}

impl Deref for Plan {
    type Target = PlanParts;

    fn deref(&self) -> &PlanParts {
        &self.parts
    }
}

impl fmt::Display for PlanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
