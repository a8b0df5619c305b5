//! What the records of one run say, in the order of the report. The JSON report is this, as it stands.

use serde::Serialize;

use super::ReportInput;
use super::decision::{decision, next_steps};
use super::sample::sample;
use super::wording::{sentence, span};
use crate::records::Moment;
use crate::records::confidence::ConfidenceRecord;
use crate::records::evaluation::EvaluationRecord;
use crate::records::event::{Detail, EventRecord};
use crate::records::plan::PlanRecord;
use crate::records::recovery::RecoveryRecord;
use crate::records::status::{FiguresRecord, PerArm, SegmentRecord, StatusRecord};
use crate::rollout::verdict::Purpose;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Findings {
    pub(super) rollout: String,
    pub(super) run: u64,
    pub(super) phase: &'static str,
    pub(super) pools: PerArm<String>,
    pub(super) version: String,
    pub(super) plan_hash: Option<String>,
    pub(super) started: Option<Moment>,
    pub(super) ended: Option<Moment>,
    /// Wall time from the first event to the end, or to the moment of the report.
    pub(super) took_ms: Option<u64>,
    pub(super) weight_ppm: u32,
    pub(super) decision: String,
    /// Of the last decision that the gate made or was asked for.
    pub(super) confidence: Option<ConfidenceRecord>,
    /// What followed the last rollback to 0; `None` while it is watched, and where there was none.
    pub(super) recovery: Option<RecoveryRecord>,
    pub(super) plan: Option<PlanRecord>,
    pub(super) stages: Vec<StageFindings>,
    pub(super) weights: Vec<WeightStep>,
    /// `None` where the status is of another run than the events.
    pub(super) figures: Option<PerArm<FiguresRecord>>,
    /// Likewise; empty where the rollout tells no segments apart.
    pub(super) segments: Vec<SegmentRecord>,
    pub(super) timeline: Vec<Entry>,
    pub(super) actions: Vec<Entry>,
    pub(super) sample: Vec<String>,
    pub(super) next_steps: Vec<String>,
}

/// What is known of one stage: its criteria as they were judged last, and its checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StageFindings {
    pub(super) name: String,
    /// How it stands, or how it ended.
    pub(super) outcome: String,
    /// Of its last decision.
    pub(super) confidence: Option<ConfidenceRecord>,
    pub(super) criteria: Vec<EvaluationRecord>,
    pub(super) checkpoints: Vec<CheckpointFindings>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CheckpointFindings {
    pub(super) at: Moment,
    pub(super) due_ms: u64,
    pub(super) late: bool,
    pub(super) evaluations: Vec<EvaluationRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WeightStep {
    pub(super) at: Moment,
    pub(super) weight: f64,
    pub(super) weight_ppm: u32,
    pub(super) because: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) at: Moment,
    pub(super) by: String,
    pub(super) what: String,
    pub(super) reason: String,
}

impl Findings {
    pub(super) fn of(input: &ReportInput) -> Self {
        let (status, events) = (&input.status, &input.events);
        let run = events.last().map_or(status.run, |event| event.run);
        let current = run == status.run;
        let started = events.first().map(|event| event.at).or(status.started);
        let ended = if current {
            status.ended
        } else {
            events.last().map(|event| event.at)
        };
        let phase = if current {
            status.phase
        } else {
            events.last().map_or(status.phase, |event| event.phase)
        };
        let until = ended.unwrap_or(status.at);
        let stages = stages(status, events, current);
        Self {
            rollout: input.rollout.to_string(),
            run,
            phase: phase.as_str(),
            pools: status.pools.clone(),
            version: status
                .plan
                .as_ref()
                .map(|plan| plan.version.clone())
                .unwrap_or_default(),
            plan_hash: status.plan_hash.clone().filter(|_| current),
            started,
            ended,
            took_ms: started
                .and_then(|from| u64::try_from(until.unix_millis() - from.unix_millis()).ok()),
            weight_ppm: if current {
                status.weight_ppm
            } else {
                events.last().map_or(0, |event| event.weight_ppm)
            },
            decision: decision(status, events, phase, current),
            confidence: last(events, |event| event.confidence().cloned()),
            recovery: last(events, |event| event.recovery().cloned()),
            plan: status.plan.clone().filter(|_| current),
            sample: sample(status, &stages, current),
            stages,
            weights: weights(events),
            figures: current.then(|| status.figures.clone()),
            segments: match current {
                true => status.segments.clone(),
                false => Vec::new(),
            },
            timeline: events.iter().map(Entry::of).collect(),
            actions: events
                .iter()
                .filter(|event| event.by != "gate")
                .map(Entry::of)
                .collect(),
            next_steps: next_steps(phase, status),
        }
    }
}

impl Entry {
    fn of(event: &EventRecord) -> Self {
        Self {
            id: event.id,
            at: event.at,
            by: event.by.clone(),
            what: sentence(event),
            reason: event.reason.clone(),
        }
    }
}

// === stages and weights ===

fn stages(status: &StatusRecord, events: &[EventRecord], current: bool) -> Vec<StageFindings> {
    let mut stages: Vec<StageFindings> = Vec::new();
    if let Some(plan) = status.plan.as_ref().filter(|_| current) {
        stages.extend(
            plan.stages
                .iter()
                .map(|stage| StageFindings::not_reached(&stage.name)),
        );
    }
    let mut now: Option<String> = None;
    for event in events {
        let judged = if let Detail::Advanced { from, .. } = &event.detail {
            Some(from.clone())
        } else {
            now.clone().or_else(|| event.stage.clone())
        };
        if let Some(name) = judged {
            find(&mut stages, &name).take(event);
        }
        now = event.stage.clone().or(now);
        if let Some(name) = &now {
            find(&mut stages, name).enter();
        }
    }
    if let Some(name) = status
        .stage
        .as_ref()
        .filter(|_| current && !status.phase.is_ended())
    {
        find(&mut stages, name).judge_now(status);
    }
    stages
}

fn find<'a>(stages: &'a mut Vec<StageFindings>, name: &str) -> &'a mut StageFindings {
    let place = stages
        .iter()
        .position(|stage| stage.name == name)
        .unwrap_or_else(|| {
            stages.push(StageFindings::not_reached(name));
            stages.len() - 1
        });
    &mut stages[place]
}

const NOT_REACHED: &str = "not reached";
const ENTERED: &str = "entered";

impl StageFindings {
    fn not_reached(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            outcome: NOT_REACHED.to_owned(),
            confidence: None,
            criteria: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    fn enter(&mut self) {
        if self.outcome == NOT_REACHED {
            self.outcome = ENTERED.to_owned();
        }
    }

    fn take(&mut self, event: &EventRecord) {
        let criteria: Vec<EvaluationRecord> = event
            .evaluations()
            .iter()
            .filter(|one| one.purpose == Purpose::Advance)
            .cloned()
            .collect();
        if !criteria.is_empty() {
            self.criteria = criteria;
        }
        if let Some(confidence) = event.confidence() {
            self.confidence = Some(confidence.clone());
        }
        match &event.detail {
            Detail::Checkpoint {
                due_ms,
                late,
                evaluations,
            } => self.checkpoints.push(CheckpointFindings {
                at: event.at,
                due_ms: *due_ms,
                late: *late,
                evaluations: evaluations
                    .iter()
                    .filter(|one| one.purpose == Purpose::Advance)
                    .cloned()
                    .collect(),
            }),
            Detail::Advanced { forced: true, .. } | Detail::Completed { forced: true, .. } => {
                self.outcome = format!("passed by force ({})", event.by);
            }
            Detail::Advanced { .. } | Detail::Completed { .. } => {
                self.outcome = "passed".to_owned()
            }
            Detail::RolledBack(_)
            | Detail::Aborted { .. }
            | Detail::Held { .. }
            | Detail::ApprovalAsked { .. }
            | Detail::Waits { .. }
            | Detail::StabilizationRestarted { .. }
            | Detail::Extended { .. } => {
                self.outcome = sentence(event);
            }
            Detail::Retried | Detail::Resumed => self.outcome = ENTERED.to_owned(),
            Detail::Started { .. }
            | Detail::StageBegan
            | Detail::IntervalFailed { .. }
            | Detail::CauseEnded { .. }
            | Detail::Paused
            | Detail::RehearsalBegan { .. }
            | Detail::RehearsalEnded(_)
            | Detail::WeightSet { .. }
            | Detail::Pinned { .. }
            | Detail::Unpinned { .. }
            | Detail::CeilingSet { .. }
            | Detail::CeilingLifted { .. }
            | Detail::SegmentLowered(_)
            | Detail::IncidentOpened { .. }
            | Detail::IncidentClosed { .. }
            | Detail::AlarmNoted { .. }
            | Detail::CanaryReplaced { .. }
            | Detail::Restarted { .. }
            | Detail::ClockJumped { .. }
            | Detail::Scheduled { .. }
            | Detail::Approved { .. }
            | Detail::ApprovalsVoided { .. }
            | Detail::Frozen { .. }
            | Detail::Unfrozen
            | Detail::LevelBegan { .. }
            | Detail::DayBegan { .. }
            | Detail::Recovered(_)
            | Detail::NotRecovered(_)
            | Detail::Reminded { .. }
            | Detail::HookStarted { .. }
            | Detail::HookEnded { .. }
            | Detail::Unknown => {}
        }
    }

    fn judge_now(&mut self, status: &StatusRecord) {
        let criteria: Vec<EvaluationRecord> = status
            .evaluations
            .iter()
            .filter(|one| one.purpose == Purpose::Advance)
            .cloned()
            .collect();
        if !criteria.is_empty() {
            self.criteria = criteria;
        }
        self.outcome = format!(
            "{} at {} of stage time",
            status.phase.as_str(),
            span(status.stage_time_ms)
        );
    }
}

fn last<T>(events: &[EventRecord], of: impl Fn(&EventRecord) -> Option<T>) -> Option<T> {
    events.iter().rev().find_map(of)
}

fn weights(events: &[EventRecord]) -> Vec<WeightStep> {
    let mut steps: Vec<WeightStep> = Vec::new();
    for event in events {
        if steps
            .last()
            .is_none_or(|last| last.weight_ppm != event.weight_ppm)
        {
            steps.push(WeightStep {
                at: event.at,
                weight: event.weight,
                weight_ppm: event.weight_ppm,
                because: sentence(event),
            });
        }
    }
    steps
}
