//! What happened over time: samples of both arms, the limits of the plan where they stood, and the decisions.
//!
//! Positions are on the gate's clock, which is never set; labels are wall time.

use serde::Serialize;

use super::wanted::{Measured, StageSpan, Wanted};
use super::wording::sentence;
use crate::records::Moment;
use crate::records::evaluation::UnitWord;
use crate::records::event::{Detail, EventRecord};
use crate::records::plan::{PlanRecord, StageRecord};
use crate::records::sample::SampleRecord;
use crate::rollout::condition::{Condition, Metric, Selector};
use crate::rollout::time::WallTime;

/// The run over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SeriesFindings {
    pub(super) from: Moment,
    pub(super) to: Moment,
    pub(super) from_clock_ms: u64,
    pub(super) to_clock_ms: u64,
    pub(super) step_ms: u64,
    /// Oldest first; a step in which nothing was counted is left out.
    pub(super) samples: Vec<SampleRecord>,
    /// The same in longer steps, for reading.
    pub(super) overview_step_ms: u64,
    pub(super) overview: Vec<SampleRecord>,
    /// Of the canary, where a stage with them stood.
    pub(super) limits: Vec<LimitFindings>,
    pub(super) decisions: Vec<DecisionFindings>,
}

/// A limit on one metric of the canary while a stage stood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LimitFindings {
    pub(super) metric: String,
    /// `advance` or `rollback`.
    pub(super) list: LimitList,
    pub(super) condition: String,
    /// In `unit`.
    pub(super) limit: f64,
    pub(super) unit: UnitWord,
    pub(super) stage: String,
    pub(super) from_clock_ms: u64,
    pub(super) to_clock_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LimitList {
    Advance,
    Rollback,
}

/// An event that moved the weight, or kept it from moving.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DecisionFindings {
    pub(super) event: u64,
    pub(super) at: Moment,
    pub(super) clock_ms: u64,
    pub(super) what: String,
}

impl SeriesFindings {
    pub(super) fn of(
        wanted: &Wanted,
        measured: &Measured,
        plan: Option<&PlanRecord>,
        events: &[EventRecord],
    ) -> Self {
        Self {
            from: wall(events, wanted.from_ms),
            to: wall(events, wanted.to_ms),
            from_clock_ms: wanted.from_ms,
            to_clock_ms: wanted.to_ms,
            step_ms: wanted.fine_ms,
            samples: measured.fine.clone(),
            overview_step_ms: wanted.coarse_ms,
            overview: measured.coarse.clone(),
            limits: wanted
                .stages
                .iter()
                .filter_map(|span| Some((span, stage_of(plan?, span)?)))
                .flat_map(|(span, stage)| limits(span, stage))
                .collect(),
            decisions: events.iter().filter_map(DecisionFindings::of).collect(),
        }
    }
}

/// The wall clock at a moment of the gate's, by the first event's two.
pub(super) fn wall(events: &[EventRecord], clock_ms: u64) -> Moment {
    let Some(first) = events.first() else {
        return Moment::default();
    };
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let since = signed(clock_ms).saturating_sub(signed(first.clock_ms));
    Moment(WallTime::from_unix_millis(
        first.at.unix_millis().saturating_add(since),
    ))
}

fn stage_of<'a>(plan: &'a PlanRecord, span: &StageSpan) -> Option<&'a StageRecord> {
    plan.stages.iter().find(|stage| stage.name == span.stage)
}

fn limits<'a>(
    span: &'a StageSpan,
    stage: &'a StageRecord,
) -> impl Iterator<Item = LimitFindings> + 'a {
    let of = move |list: LimitList, texts: &'a [String]| {
        texts
            .iter()
            .filter_map(move |text| LimitFindings::of(list, text, span))
    };
    of(LimitList::Advance, &stage.advance).chain(of(LimitList::Rollback, &stage.rollback))
}

impl LimitFindings {
    /// What a chart can show as a line: a limit on the whole canary's errors or latencies.
    fn of(list: LimitList, text: &str, span: &StageSpan) -> Option<Self> {
        let condition = Condition::parse(text).ok()?;
        let shown = matches!(
            condition.metric,
            Metric::ErrorRate | Metric::P50 | Metric::P99
        );
        if !shown || condition.selector != Selector::Canary || condition.per_segment {
            return None;
        }
        let unit = UnitWord::of_metric(condition.metric);
        Some(Self {
            metric: condition.metric.as_str().to_owned(),
            list,
            condition: text.to_owned(),
            limit: unit.published(condition.value),
            unit,
            stage: span.stage.clone(),
            from_clock_ms: span.from_ms,
            to_clock_ms: span.to_ms,
        })
    }
}

impl DecisionFindings {
    fn of(event: &EventRecord) -> Option<Self> {
        is_decision(&event.detail).then(|| Self {
            event: event.id,
            at: event.at,
            clock_ms: event.clock_ms,
            what: sentence(event),
        })
    }
}

const fn is_decision(detail: &Detail) -> bool {
    match detail {
        Detail::Started { .. }
        | Detail::Advanced { .. }
        | Detail::Completed { .. }
        | Detail::Extended { .. }
        | Detail::Held { .. }
        | Detail::Resumed
        | Detail::Retried
        | Detail::Paused
        | Detail::RolledBack(_)
        | Detail::Aborted { .. }
        | Detail::WeightSet { .. }
        | Detail::SegmentLowered(_)
        | Detail::ApprovalAsked { .. }
        | Detail::CanaryReplaced { .. }
        | Detail::Restarted { .. }
        | Detail::RehearsalBegan { .. }
        | Detail::StabilizationRestarted { .. } => true,
        Detail::StageBegan
        | Detail::Checkpoint { .. }
        | Detail::IntervalFailed { .. }
        | Detail::CauseEnded { .. }
        | Detail::Recovered(_)
        | Detail::NotRecovered(_)
        | Detail::Pinned { .. }
        | Detail::Unpinned { .. }
        | Detail::CeilingSet { .. }
        | Detail::CeilingLifted { .. }
        | Detail::IncidentOpened { .. }
        | Detail::IncidentClosed { .. }
        | Detail::AlarmNoted { .. }
        | Detail::RehearsalEnded(_)
        | Detail::FleetNoted { .. }
        | Detail::ClockJumped { .. }
        | Detail::Scheduled { .. }
        | Detail::Approved { .. }
        | Detail::ApprovalsVoided { .. }
        | Detail::Waits { .. }
        | Detail::Frozen { .. }
        | Detail::Unfrozen
        | Detail::LevelBegan { .. }
        | Detail::DayBegan { .. }
        | Detail::Reminded { .. }
        | Detail::HookStarted { .. }
        | Detail::HookEnded { .. }
        | Detail::Unknown => false,
    }
}
