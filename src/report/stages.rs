//! What the records say of each stage: how it ended, its criteria as they were judged last, its checkpoints, its figures.

use serde::Serialize;

use super::wanted::{Measured, StageSpan};
use super::wording::{sentence, span};
use crate::records::Moment;
use crate::records::confidence::ConfidenceRecord;
use crate::records::evaluation::EvaluationRecord;
use crate::records::event::{Detail, EventRecord};
use crate::records::status::{PerArm, SpanRecord, StatusRecord};
use crate::rollout::verdict::Purpose;

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
    /// Each time that its weight was in force.
    pub(super) spans: Vec<StageCounted>,
}

/// What was counted while a stage stood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StageCounted {
    pub(super) from: Moment,
    pub(super) to: Moment,
    pub(super) took_ms: u64,
    pub(super) arms: PerArm<SpanRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CheckpointFindings {
    pub(super) at: Moment,
    pub(super) due_ms: u64,
    pub(super) late: bool,
    pub(super) evaluations: Vec<EvaluationRecord>,
}

/// Every stage: of the plan in its order, then others that the events name.
pub(super) fn stages(
    status: &StatusRecord,
    events: &[EventRecord],
    current: bool,
) -> Vec<StageFindings> {
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

/// Gives each stage what was counted while it stood.
pub(super) fn add_counted(
    stages: &mut Vec<StageFindings>,
    spans: &[StageSpan],
    measured: &Measured,
    wall: impl Fn(u64) -> Moment,
) {
    for (span, arms) in spans.iter().zip(&measured.stages) {
        let stage = find(stages, &span.stage);
        stage.enter();
        stage.spans.push(StageCounted {
            from: wall(span.from_ms),
            to: wall(span.to_ms),
            took_ms: span.to_ms.saturating_sub(span.from_ms),
            arms: arms.clone(),
        });
    }
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
            spans: Vec::new(),
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
            | Detail::FleetNoted { .. }
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
