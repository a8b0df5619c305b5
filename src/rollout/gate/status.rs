//! What a gate shows of itself: its phase, clocks, figures, verdicts, and what it would decide next.
//!
//! Everything that the API, the terminal and the dashboard say comes from here. Changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Gate;
use super::confidence::Confidence;
use super::evidence::EvidenceStatus;
use super::input::EventId;
use super::outside::{OutcomeFigures, SignalFigure};
use super::people::People;
use super::stage::{unmet_criteria, whole_seconds};
use super::state::{Cause, Phase};
use crate::rollout::condition::Metric;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::{Arm, StageName};
use crate::rollout::plan::{DEFAULT_OVER, OnSuccess};
use crate::rollout::segments::{SegmentTotal, success_delta};
use crate::rollout::time::Now;
use crate::rollout::verdict::{Evaluation, Verdict};
use crate::rollout::weight::Weight;
use crate::rollout::window::{Counts, Measured, Totals};

/// A gate as it stands at one moment: everything that `status`, the API and the terminal show.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub at: Now,
    pub phase: Phase,
    pub run: u64,
    pub started: Option<Now>,
    pub ended: Option<Now>,
    pub stage_index: Option<usize>,
    pub stage: Option<StageName>,
    /// What the last decision set, in force or on its way.
    pub weight: Weight,
    pub epoch: u64,
    /// The step that waits for this event to be on disk.
    pub awaiting_store: Option<EventId>,
    /// False after `?guard=false`.
    pub guarded: bool,
    /// Nobody goes to canary, pinned or not.
    pub closed: bool,
    pub stage_time: Duration,
    /// Until the stage is judged: its duration, or its extension.
    pub stage_ends_at: Option<Duration>,
    pub warming_up: bool,
    /// Faults are injected, or what came of them is looked at: the phase is not the run's.
    pub rehearsing: bool,
    pub causes: Vec<HoldCause>,
    pub incidents: Vec<Incident>,
    pub pins: Vec<(Vec<u8>, Arm)>,
    /// Those seen in the run or with a ceiling, by name.
    pub segments: Vec<SegmentFigures>,
    /// By `Arm::index`: over the last 60 s, since the stage began (after warm-up), since the run began.
    pub recent: [ArmFigures; 2],
    pub stage_figures: [ArmFigures; 2],
    pub run_figures: [ArmFigures; 2],
    /// Of the present or last run.
    pub evidence: Option<EvidenceStatus>,
    /// Of the run's last decision.
    pub confidence: Option<Confidence>,
    /// What is known from outside: each signal by arm and segment, each outcome of the run.
    pub signals: Vec<SignalFigure>,
    pub outcomes: Vec<OutcomeFigures>,
    /// Every condition of the stage, judged now.
    pub evaluations: Vec<Evaluation>,
    pub checkpoints_done: usize,
    pub people: People,
    /// What would be decided now and why, in a sentence.
    pub outlook: String,
    pub last_event: EventId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HoldCause {
    pub cause: Cause,
    pub since: Now,
    pub why: String,
    /// Whether it ends without a person.
    pub ends_by_itself: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub id: u64,
    pub summary: String,
    pub opened: Now,
}

/// One segment as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentFigures {
    pub name: String,
    /// What the last decision set, in force or on its way; `None` where it has the weight.
    pub ceiling: Option<Weight>,
    /// The trigger that lowered it.
    pub failed: Option<String>,
    /// By `Arm::index`: since the stage began (after warm-up); since the run began, without latencies.
    pub stage: [ArmFigures; 2],
    pub run: [ArmFigures; 2],
    /// Canary's success rate in the stage against baseline's, relative to it.
    pub delta: Option<f64>,
}

/// Figures of one arm over one span. `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmFigures {
    pub requests: u64,
    pub errors: u64,
    pub failed: u64,
    pub client_errors: u64,
    pub abandoned: u64,
    pub error_rate: Option<f64>,
    pub client_error_rate: Option<f64>,
    pub availability: Option<f64>,
    /// Probes answered / probes sent.
    pub uptime: Option<f64>,
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
    pub p99: Option<Duration>,
    pub p999: Option<Duration>,
    /// Counted requests per second.
    pub throughput: f64,
    /// Distinct learners, estimated within about 1 %; `None` for spans that keep no sketch.
    pub learners: Option<u64>,
    /// Errors of the learner who caused most of them. At least so many: of learners who failed, the first 1,024 are told
    /// apart. `None` where nobody is, or nobody failed.
    pub errors_of_one: Option<u64>,
}

impl Gate {
    pub fn status(&self, now: Now) -> Status {
        let state = &self.state;
        let run = state.run.as_ref();
        let stage = self.present_stage();
        let recent = self
            .window
            .view(now.mono, DEFAULT_OVER, state.watch.since, &state.probes);
        let of_run =
            |read: &dyn Fn(&super::Run) -> [ArmFigures; 2]| run.map(read).unwrap_or_default();
        Status {
            at: now,
            phase: state.phase,
            run: state.runs,
            started: run.map(|run| run.started),
            ended: run.and_then(|run| run.ended),
            stage_index: run.map(|run| run.stage.index),
            stage: stage.map(|stage| stage.name.clone()),
            weight: state
                .awaiting
                .map_or(state.split.weight, |awaiting| awaiting.weight),
            epoch: state.split.epoch,
            awaiting_store: state.awaiting.map(|awaiting| awaiting.event),
            guarded: state.guarded,
            closed: state.split.closed,
            stage_time: run.map(|run| run.stage.time).unwrap_or_default(),
            stage_ends_at: stage
                .zip(run)
                .map(|(stage, run)| run.stage.extended_until.unwrap_or(stage.duration)),
            rehearsing: state.rehearsal.is_some(),
            warming_up: state.watch.began.is_some() && state.watch.warm_until.is_none(),
            causes: self.hold_causes(),
            incidents: state.incidents.clone(),
            pins: self.pins(),
            segments: self.segment_figures(),
            recent: Arm::ALL.map(|arm| ArmFigures::of(&recent, arm, None)),
            stage_figures: of_run(&|run| both(&run.stage.totals, &run.stage.learners)),
            run_figures: of_run(&|run| both(&run.totals, &run.learners)),
            evidence: self.evidence_status(),
            confidence: run.and_then(|run| run.confidence.clone()),
            signals: self.signal_figures(now),
            outcomes: self.outcome_figures(),
            evaluations: self.judge_all(now),
            checkpoints_done: run.map_or(0, |run| run.stage.checkpoints_done),
            people: self.people(),
            outlook: self.outlook(now),
            last_event: state.last_event,
        }
    }

    fn hold_causes(&self) -> Vec<HoldCause> {
        let cause = |held: &super::HeldFor| HoldCause {
            cause: held.cause,
            since: held.since,
            why: held.why.clone(),
            ends_by_itself: held.cause.ends_by_itself(),
        };
        self.state.causes.iter().map(cause).collect()
    }

    fn pins(&self) -> Vec<(Vec<u8>, Arm)> {
        let pins = self.state.split.pins.iter();
        let mut pins: Vec<(Vec<u8>, Arm)> = pins
            .map(|(learner, &arm)| (learner.to_vec(), arm))
            .collect();
        pins.sort_unstable();
        pins
    }

    fn segment_figures(&self) -> Vec<SegmentFigures> {
        let state = &self.state;
        let run = state.run.as_ref();
        let mut names: BTreeSet<&str> = state.split.ceilings.keys().map(|name| &**name).collect();
        names.extend(
            run.iter()
                .flat_map(|run| run.totals.segments.iter())
                .map(|(name, _)| &**name),
        );
        let figures = |totals: Option<&Totals>, name: &str| {
            let arms = totals.and_then(|totals| Some((totals.segments.get(name)?, totals.span)));
            arms.map(|(arms, span)| {
                let total = SegmentTotal::new(arms, span);
                Arm::ALL.map(|arm| ArmFigures::of(&total, arm, None))
            })
        };
        let stage = run.map(|run| &run.stage.totals);
        let counts = |name: &str| {
            let arms = stage?.segments.get(name)?;
            success_delta(arms.each_ref().map(Counts::of))
        };
        let one = |name: &str| SegmentFigures {
            name: name.to_owned(),
            ceiling: Some(self.decided_ceiling(name)).filter(|&ceiling| ceiling < Weight::FULL),
            failed: run.and_then(|run| run.failed_segments.get(name).cloned()),
            stage: figures(stage, name).unwrap_or_default(),
            run: figures(run.map(|run| &run.totals), name).unwrap_or_default(),
            delta: counts(name),
        };
        names.into_iter().map(one).collect()
    }

    // ", without eu and us": those that the weight does not reach.
    fn without_lowered(&self) -> String {
        let ceilings = self.state.split.ceilings.keys();
        let out: Vec<&str> = ceilings
            .filter(|name| self.is_left_out(name))
            .map(|name| &**name)
            .collect();
        match out.is_empty() {
            true => String::new(),
            false => format!("; without {}, whose ceiling is 0%", out.join(", ")),
        }
    }

    fn outlook(&self, now: Now) -> String {
        let state = &self.state;
        if let Some(awaiting) = state.awaiting {
            let (weight, event) = (awaiting.weight, awaiting.event.0);
            return format!("{weight} comes into force as soon as event {event} is on disk");
        }
        match state.phase {
            Phase::Idle => "no rollout runs".to_owned(),
            Phase::Manual if !state.guarded => {
                "the weight was set by hand and nothing guards it".to_owned()
            }
            Phase::Manual => "the weight was set by hand; triggers guard it".to_owned(),
            Phase::RollingBack => {
                "everybody is back on baseline; the record is on its way to disk".to_owned()
            }
            Phase::RolledBack => self.outlook_rolled_back(),
            Phase::Aborted => "aborted; nothing restarts by itself".to_owned(),
            Phase::Complete => format!("complete{}", self.without_lowered()),
            Phase::Paused => "paused by an operator; triggers stay armed".to_owned(),
            Phase::Held => self.outlook_held(),
            Phase::Running => self.outlook_running(now) + &self.without_lowered(),
            Phase::AwaitingApproval => self.outlook_asking(),
            Phase::Scheduled | Phase::Waiting => self.outlook_waiting(),
            Phase::Stabilizing => self.outlook_stabilizing(),
        }
    }

    fn outlook_rolled_back(&self) -> String {
        let not_back = self.not_back_yet();
        match (self.state.recovery.is_some(), not_back.is_empty()) {
            (false, _) => "rolled back; nothing restarts by itself".to_owned(),
            (true, true) => "rolled back; baseline is well again".to_owned(),
            (true, false) => {
                let not_back = not_back.join(", ");
                format!(
                    "rolled back; it is watched whether baseline is well again: not yet {not_back}"
                )
            }
        }
    }

    fn outlook_held(&self) -> String {
        let causes: Vec<String> = self
            .state
            .causes
            .iter()
            .map(|held| format!("{} ({})", held.cause.as_str(), held.why))
            .collect();
        let way_out = if self.hold_ends_by_itself() {
            "goes on when that is over for 1m"
        } else {
            "waits for a person"
        };
        format!("held: {}; {way_out}", causes.join("; "))
    }

    fn outlook_running(&self, now: Now) -> String {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return String::new();
        };
        let Some(_) = self.state.watch.began else {
            return "waits for the first canary request of the stage".to_owned();
        };
        let last = run.plan.stage(run.stage.index + 1).is_none();
        let next = match (&stage.on_success, last) {
            (OnSuccess::Hold, _) => "holds",
            (OnSuccess::Approve(_), _) => "asks for approval",
            (OnSuccess::Advance, true) => "completes",
            (OnSuccess::Advance, false) => "advances",
        };
        let left = stage.duration.saturating_sub(run.stage.time);
        let evaluations = self.judge_advance_at(now);
        let (mut held_up, mut sentence) = (self.breached_now(), String::new());
        held_up.extend(self.lacks_requests());
        held_up.extend(unmet_criteria(&evaluations));
        if left.is_zero() {
            let until = run
                .stage
                .extended_until
                .map(|until| whole_seconds(until.saturating_sub(run.stage.time)));
            sentence.push_str(&match until {
                Some(left) => format!(
                    "{next} as soon as every criterion passes, at the latest judged in {left}"
                ),
                None => format!("{next} as soon as nothing is breached"),
            });
        } else {
            sentence.push_str(&format!(
                "{next} in {}{}",
                whole_seconds(left),
                passing(&evaluations)
            ));
        }
        match held_up.is_empty() {
            true => sentence,
            false => format!("{sentence}; now {}", held_up.join("; ")),
        }
    }
}

impl ArmFigures {
    /// What was measured on one arm. Percentiles are shown from the first request on: the data rules
    /// are for verdicts.
    pub fn of(measured: &dyn Measured, arm: Arm, learners: Option<&LearnerSketch>) -> Self {
        let Counts {
            counted,
            errors,
            failed,
            client_errors,
            abandoned,
            ..
        } = measured.counts(arm);
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let percentile = |metric: Metric| {
            let us = measured.percentile_us(arm, metric.one_above_in()?)?;
            Some(Duration::from_micros(us))
        };
        let probes = measured.probes(arm);
        let span = measured.span().as_secs_f64();
        Self {
            requests: counted,
            errors,
            failed,
            client_errors,
            abandoned,
            error_rate: share(errors, counted),
            client_error_rate: share(client_errors, counted),
            availability: share(counted.saturating_sub(failed), counted),
            uptime: share(probes.answered.min(probes.sent), probes.sent),
            p50: percentile(Metric::P50),
            p95: percentile(Metric::P95),
            p99: percentile(Metric::P99),
            p999: percentile(Metric::P999),
            throughput: if span > 0.0 {
                counted as f64 / span
            } else {
                0.0
            },
            learners: learners.map(|sketch| {
                if sketch.is_empty() {
                    0
                } else {
                    sketch.estimate()
                }
            }),
            // Of a segment that was left out the failures are taken away, and who failed stays.
            errors_of_one: measured.most_failures(arm).map(|most| most.min(errors)),
        }
    }
}

fn both(measured: &dyn Measured, learners: &[LearnerSketch; 2]) -> [ArmFigures; 2] {
    Arm::ALL.map(|arm| ArmFigures::of(measured, arm, Some(&learners[arm.index()])))
}

// "if p99 < 200ms, error_rate < 1% go on to hold".
fn passing(evaluations: &[Evaluation]) -> String {
    let holding = evaluations
        .iter()
        .filter(|evaluation| evaluation.verdict == Verdict::Pass);
    let names: Vec<String> = holding
        .map(|evaluation| evaluation.condition.to_string())
        .collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" if {} still holds", names.join(" and ")),
    }
}
