//! What the records of one run say, in the order of the report. The JSON report is this, as it stands.

use serde::{Serialize, Serializer};

use super::ReportInput;
use super::decision::{decision, next_steps};
use super::people::{ApprovalFindings, HookFindings, approvals, hooks};
use super::sample::sample;
use super::series::{SeriesFindings, wall};
use super::stages::{StageFindings, add_counted, stages};
use super::wanted::Wanted;
use super::wording::sentence;
use crate::records::Moment;
use crate::records::confidence::ConfidenceRecord;
use crate::records::event::EventRecord;
use crate::records::plan::PlanRecord;
use crate::records::recovery::RecoveryRecord;
use crate::records::status::{
    FiguresRecord, IncidentRecord, OutcomeRecord, PerArm, SegmentRecord, SignalFigureRecord,
};
use crate::rollout::gate::Phase;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Findings {
    pub(super) rollout: String,
    pub(super) run: u64,
    #[serde(serialize_with = "phase_word")]
    pub(super) phase: Phase,
    /// When the status was read that this rests on.
    pub(super) at: Moment,
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
    /// Business results of learners, and figures from outside; likewise.
    pub(super) outcomes: Vec<OutcomeRecord>,
    pub(super) signals: Vec<SignalFigureRecord>,
    /// Those that are open.
    pub(super) incidents: Vec<IncidentRecord>,
    /// `None` without events of the present or last run.
    pub(super) series: Option<SeriesFindings>,
    pub(super) approvals: Vec<ApprovalFindings>,
    pub(super) hooks: Vec<HookFindings>,
    pub(super) timeline: Vec<Entry>,
    pub(super) actions: Vec<Entry>,
    pub(super) sample: Vec<String>,
    pub(super) next_steps: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WeightStep {
    pub(super) at: Moment,
    pub(super) clock_ms: u64,
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
        let mut stages = stages(status, events, current);
        let wanted = Wanted::of(status, events);
        if let Some(wanted) = &wanted {
            let wall = |clock_ms| wall(events, clock_ms);
            add_counted(&mut stages, &wanted.stages, &input.measured, wall);
        }
        Self {
            rollout: input.rollout.to_string(),
            run,
            phase,
            at: status.at,
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
            segments: of_run(&status.segments, current),
            outcomes: of_run(&status.outcomes, current),
            signals: of_run(&status.signals, current),
            incidents: of_run(&status.incidents, current),
            series: wanted.map(|wanted| {
                SeriesFindings::of(&wanted, &input.measured, status.plan.as_ref(), events)
            }),
            approvals: approvals(events),
            hooks: hooks(events),
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

fn phase_word<S: Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(phase.as_str())
}

// What a status says of another run says nothing of this one.
fn of_run<T: Clone>(records: &[T], current: bool) -> Vec<T> {
    match current {
        true => records.to_vec(),
        false => Vec::new(),
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
                clock_ms: event.clock_ms,
                weight: event.weight,
                weight_ppm: event.weight_ppm,
                because: sentence(event),
            });
        }
    }
    steps
}
