//! A rollout as it stands, as JSON: what the API, the terminal and the report show.

mod outside;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use outside::{OutcomeRecord, SignalFigureRecord};

use super::confidence::ConfidenceRecord;
use super::evaluation::{EvaluationRecord, records};
use super::evidence::EvidenceRecord;
use super::people::PeopleRecord;
use super::plan::PlanRecord;
use super::{Moment, words};
use crate::rollout::gate::{ArmFigures, Cause, HoldCause, Incident, Phase, SegmentFigures, Status};
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::plan::Plan;
use crate::rollout::time::millis;
use crate::rollout::weight::Weight;

/// The state of one rollout as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusRecord {
    pub rollout: String,
    pub at: Moment,
    /// The gate's own monotonic time.
    pub clock_ms: u64,
    #[serde(with = "words")]
    pub phase: Phase,
    pub run: u64,
    pub started: Option<Moment>,
    pub started_clock_ms: Option<u64>,
    pub ended: Option<Moment>,
    pub ended_clock_ms: Option<u64>,
    pub stage: Option<String>,
    /// 0 = the first.
    pub stage_index: Option<usize>,
    /// The canary's share, 0 to 1, and the same in parts per million, exact.
    pub weight: f64,
    pub weight_ppm: u32,
    /// Share of each pool, by its name.
    pub weights: BTreeMap<String, f64>,
    pub epoch: u64,
    /// The two pools' names.
    pub pools: PerArm<String>,
    /// The event that a step waits for to be on disk.
    pub awaiting_store: Option<u64>,
    /// False after `?guard=false`: no trigger watches a weight set by hand.
    pub guarded: bool,
    /// Nobody goes to canary, pinned or not.
    pub closed: bool,
    pub stage_time_ms: u64,
    /// Stage time at which the stage is judged: its duration, or its extension.
    pub stage_ends_at_ms: Option<u64>,
    pub warming_up: bool,
    /// Faults are injected, or what came of them is looked at: the phase is the rehearsal's and not the run's.
    #[serde(default)]
    pub rehearsing: bool,
    /// Why it is held; empty where it is not.
    pub causes: Vec<CauseRecord>,
    pub incidents: Vec<IncidentRecord>,
    pub pins: Vec<PinRecord>,
    pub figures: PerArm<FiguresRecord>,
    /// Of the present or last run.
    #[serde(default)]
    pub evidence: Option<EvidenceRecord>,
    /// Of the run's last decision.
    #[serde(default)]
    pub confidence: Option<ConfidenceRecord>,
    /// Figures from outside, by name, pool and segment.
    #[serde(default)]
    pub signals: Vec<SignalFigureRecord>,
    /// Business results of the run, by name.
    #[serde(default)]
    pub outcomes: Vec<OutcomeRecord>,
    /// Those seen in the run or with a ceiling, by name.
    #[serde(default)]
    pub segments: Vec<SegmentRecord>,
    /// Every condition of the stage, judged now.
    pub evaluations: Vec<EvaluationRecord>,
    pub checkpoints_done: usize,
    #[serde(flatten)]
    pub people: PeopleRecord,
    /// What would be decided now and why.
    pub outlook: String,
    pub last_event: u64,
    pub plan_hash: Option<String>,
    /// The plan of the present or last run.
    pub plan: Option<PlanRecord>,
}

/// One thing for each arm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerArm<T> {
    pub baseline: T,
    pub canary: T,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseRecord {
    #[serde(with = "words")]
    pub cause: Cause,
    pub since: Moment,
    pub why: String,
    pub ends_by_itself: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentRecord {
    pub id: u64,
    pub summary: String,
    pub opened: Moment,
}

/// A learner forced to one pool. Bytes of an id that are not UTF-8 are shown as `\xNN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    pub learner: String,
    pub pool: String,
}

/// One segment of learners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    pub segment: String,
    /// Its highest weight, 0 to 1, as last decided; `null` where it has none.
    pub max_weight: Option<f64>,
    pub max_weight_ppm: Option<u32>,
    /// The trigger that lowered it in this run.
    pub lowered_by: Option<String>,
    /// Canary's success rate in the stage against baseline's, relative to it: what `segment_variance` compares.
    pub delta: Option<f64>,
    pub baseline: SegmentFiguresRecord,
    pub canary: SegmentFiguresRecord,
}

/// Figures of one arm of a segment over two spans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SegmentFiguresRecord {
    /// Since the stage began, after its warm-up.
    pub stage: SpanRecord,
    /// Since the run began, without latencies.
    pub run: SpanRecord,
}

/// Figures of one arm over three spans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FiguresRecord {
    /// The last 60 s.
    pub recent: SpanRecord,
    /// Since the stage began, after its warm-up.
    pub stage: SpanRecord,
    /// Since the run began.
    pub run: SpanRecord,
}

/// Figures of one arm over one span; `null` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanRecord {
    pub requests: u64,
    pub errors: u64,
    pub failed: u64,
    pub client_errors: u64,
    pub abandoned: u64,
    /// Shares, 0 to 1.
    pub error_rate: Option<f64>,
    pub client_error_rate: Option<f64>,
    pub availability: Option<f64>,
    pub uptime: Option<f64>,
    /// In milliseconds.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p999_ms: Option<f64>,
    /// Requests per second.
    pub throughput: f64,
    /// Distinct, estimated within about 1 %.
    pub learners: Option<u64>,
    /// Errors of the learner who caused most of them, at least; `null` where learners are not told apart, or none failed.
    #[serde(default)]
    pub errors_of_one_learner: Option<u64>,
}

impl StatusRecord {
    /// `pools` are the names of baseline and canary.
    pub fn new(
        rollout: &RolloutName,
        pools: [&PoolName; 2],
        status: &Status,
        plan: Option<&Plan>,
    ) -> Self {
        let [baseline, canary] = pools;
        let plan = plan.map(PlanRecord::from);
        Self {
            rollout: rollout.to_string(),
            at: status.at.wall.into(),
            clock_ms: status.at.mono.as_millis(),
            phase: status.phase,
            run: status.run,
            started: status.started.map(|at| at.wall.into()),
            started_clock_ms: status.started.map(|at| at.mono.as_millis()),
            ended: status.ended.map(|at| at.wall.into()),
            ended_clock_ms: status.ended.map(|at| at.mono.as_millis()),
            stage: status.stage.as_ref().map(ToString::to_string),
            stage_index: status.stage_index,
            weight: status.weight.share(),
            weight_ppm: status.weight.ppm(),
            weights: BTreeMap::from([
                (baseline.to_string(), status.weight.baseline_share()),
                (canary.to_string(), status.weight.share()),
            ]),
            epoch: status.epoch,
            pools: PerArm {
                baseline: baseline.to_string(),
                canary: canary.to_string(),
            },
            awaiting_store: status.awaiting_store.map(|id| id.0),
            guarded: status.guarded,
            closed: status.closed,
            stage_time_ms: millis(status.stage_time),
            stage_ends_at_ms: status.stage_ends_at.map(millis),
            warming_up: status.warming_up,
            rehearsing: status.rehearsing,
            causes: status.causes.iter().map(CauseRecord::from).collect(),
            incidents: status.incidents.iter().map(IncidentRecord::from).collect(),
            pins: status
                .pins
                .iter()
                .map(|(learner, arm)| PinRecord::new(learner, pools[arm.index()]))
                .collect(),
            figures: PerArm {
                baseline: FiguresRecord::of(status, Arm::Baseline),
                canary: FiguresRecord::of(status, Arm::Canary),
            },
            evidence: status.evidence.as_ref().map(EvidenceRecord::from),
            confidence: status.confidence.as_ref().map(ConfidenceRecord::from),
            signals: status
                .signals
                .iter()
                .map(|figure| SignalFigureRecord::new(figure, pools))
                .collect(),
            outcomes: status.outcomes.iter().map(OutcomeRecord::from).collect(),
            segments: status.segments.iter().map(SegmentRecord::from).collect(),
            evaluations: records(&status.evaluations),
            checkpoints_done: status.checkpoints_done,
            people: PeopleRecord::from(&status.people),
            outlook: status.outlook.clone(),
            last_event: status.last_event.0,
            plan_hash: plan.as_ref().map(PlanRecord::hash),
            plan,
        }
    }
}

impl<T> PerArm<T> {
    pub const fn of(&self, arm: Arm) -> &T {
        match arm {
            Arm::Baseline => &self.baseline,
            Arm::Canary => &self.canary,
        }
    }
}

impl From<&HoldCause> for CauseRecord {
    fn from(hold: &HoldCause) -> Self {
        Self {
            cause: hold.cause,
            since: hold.since.wall.into(),
            why: hold.why.clone(),
            ends_by_itself: hold.ends_by_itself,
        }
    }
}

impl From<&Incident> for IncidentRecord {
    fn from(incident: &Incident) -> Self {
        Self {
            id: incident.id,
            summary: incident.summary.clone(),
            opened: incident.opened.wall.into(),
        }
    }
}

impl PinRecord {
    fn new(learner: &[u8], pool: &PoolName) -> Self {
        let learner = match std::str::from_utf8(learner) {
            Ok(text) => text.to_owned(),
            Err(_) => learner.escape_ascii().to_string(),
        };
        Self {
            learner,
            pool: pool.to_string(),
        }
    }
}

impl From<&SegmentFigures> for SegmentRecord {
    fn from(segment: &SegmentFigures) -> Self {
        let of = |arm: Arm| SegmentFiguresRecord {
            stage: SpanRecord::from(&segment.stage[arm.index()]),
            run: SpanRecord::from(&segment.run[arm.index()]),
        };
        Self {
            segment: segment.name.clone(),
            max_weight: segment.ceiling.map(Weight::share),
            max_weight_ppm: segment.ceiling.map(Weight::ppm),
            lowered_by: segment.failed.clone(),
            // JSON has no infinity.
            delta: segment.delta.filter(|delta| delta.is_finite()),
            baseline: of(Arm::Baseline),
            canary: of(Arm::Canary),
        }
    }
}

impl SegmentRecord {
    /// The figures of one arm.
    pub const fn of(&self, arm: Arm) -> &SegmentFiguresRecord {
        match arm {
            Arm::Baseline => &self.baseline,
            Arm::Canary => &self.canary,
        }
    }
}

impl FiguresRecord {
    fn of(status: &Status, arm: Arm) -> Self {
        let index = arm.index();
        Self {
            recent: SpanRecord::from(&status.recent[index]),
            stage: SpanRecord::from(&status.stage_figures[index]),
            run: SpanRecord::from(&status.run_figures[index]),
        }
    }
}

impl From<&ArmFigures> for SpanRecord {
    fn from(figures: &ArmFigures) -> Self {
        Self {
            requests: figures.requests,
            errors: figures.errors,
            failed: figures.failed,
            client_errors: figures.client_errors,
            abandoned: figures.abandoned,
            error_rate: figures.error_rate,
            client_error_rate: figures.client_error_rate,
            availability: figures.availability,
            uptime: figures.uptime,
            p50_ms: figures.p50.map(ms),
            p95_ms: figures.p95.map(ms),
            p99_ms: figures.p99.map(ms),
            p999_ms: figures.p999.map(ms),
            throughput: figures.throughput,
            learners: figures.learners,
            errors_of_one_learner: figures.errors_of_one,
        }
    }
}

// Through whole microseconds, so that 46 ms is 46 and not 46.00000000000001.
fn ms(latency: Duration) -> f64 {
    latency.as_micros() as f64 / 1000.0
}
