//! What happened, by the kind of event: the fields that each kind has beside those of every event.

use serde::{Deserialize, Serialize};

use crate::records::confidence::ConfidenceRecord;
use crate::records::evaluation::EvaluationRecord;
use crate::records::hook::{HookEndingRecord, HookNameRecord};
use crate::records::people::WaitsForWord;
use crate::records::recovery::RecoveryRecord;
use crate::records::rehearsal::{FaultRecord, RehearsalRecord};
use crate::records::{Moment, words};
use crate::rollout::gate::Cause;

/// What happened; the field `event` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Detail {
    Started {
        stages: usize,
    },
    StageBegan,
    Checkpoint {
        due_ms: u64,
        late: bool,
        evaluations: Vec<EvaluationRecord>,
    },
    IntervalFailed {
        from_ms: u64,
        to_ms: u64,
        evaluations: Vec<EvaluationRecord>,
    },
    Advanced {
        from: String,
        to: String,
        forced: bool,
        evaluations: Vec<EvaluationRecord>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confidence: Option<ConfidenceRecord>,
    },
    Completed {
        forced: bool,
        evaluations: Vec<EvaluationRecord>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confidence: Option<ConfidenceRecord>,
    },
    Extended {
        until_ms: u64,
        missing: Vec<String>,
        evaluations: Vec<EvaluationRecord>,
    },
    Held {
        #[serde(with = "words")]
        cause: Cause,
        evaluations: Vec<EvaluationRecord>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confidence: Option<ConfidenceRecord>,
    },
    CauseEnded {
        #[serde(with = "words")]
        cause: Cause,
    },
    Resumed,
    Retried,
    Paused,
    RolledBack(RolledBack),
    Recovered(RecoveryRecord),
    NotRecovered(RecoveryRecord),
    Aborted {
        from_weight: f64,
        from_weight_ppm: u32,
    },
    WeightSet {
        from_weight: f64,
        from_weight_ppm: u32,
        guarded: bool,
    },
    Pinned {
        learner: String,
        pool: String,
    },
    Unpinned {
        learner: String,
    },
    CeilingSet {
        segment: String,
        /// The whole where there was none.
        from_ceiling: f64,
        from_ceiling_ppm: u32,
        ceiling: f64,
        ceiling_ppm: u32,
    },
    CeilingLifted {
        segment: String,
        from_ceiling: f64,
        from_ceiling_ppm: u32,
    },
    SegmentLowered(SegmentLowered),
    IncidentOpened {
        incident: u64,
        summary: String,
    },
    IncidentClosed {
        incident: u64,
    },
    AlarmNoted {
        why: String,
        evaluations: Vec<EvaluationRecord>,
    },
    CanaryReplaced {
        what: String,
    },
    RehearsalBegan {
        fault: FaultRecord,
        within_ms: u64,
    },
    RehearsalEnded(RehearsalRecord),
    Restarted {
        gap_ms: u64,
        windows_kept: bool,
    },
    /// Of the fleet: a member that fell silent or had gone back alone.
    FleetNoted {
        what: String,
    },
    ClockJumped {
        by_ms: i64,
    },
    Scheduled {
        stages: usize,
        start_at: Moment,
    },
    ApprovalAsked {
        roles: Vec<String>,
        evaluations: Vec<EvaluationRecord>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confidence: Option<ConfidenceRecord>,
    },
    Approved {
        role: String,
        /// The event with the figures that were asked about.
        asked: u64,
        plan_hash: String,
        missing: Vec<String>,
        /// As they stood when it was said.
        evaluations: Vec<EvaluationRecord>,
    },
    ApprovalsVoided {
        roles: Vec<String>,
        why: String,
    },
    Waits {
        waits_for: Vec<WaitsForWord>,
        evaluations: Vec<EvaluationRecord>,
    },
    Frozen {
        until: Option<Moment>,
    },
    Unfrozen,
    LevelBegan {
        level: String,
        report_ms: Option<u64>,
    },
    DayBegan {
        day: u64,
        days: u64,
        /// The chance of a false alarm that the evidence of this day may spend.
        alpha: f64,
        /// How the day before was judged; empty for the first.
        evaluations: Vec<EvaluationRecord>,
    },
    StabilizationRestarted {
        after_ms: u64,
        evaluations: Vec<EvaluationRecord>,
    },
    Reminded {
        since: Moment,
        since_clock_ms: u64,
        times: u32,
    },
    HookStarted {
        hook: HookNameRecord,
        /// It had begun before serin ended.
        again: bool,
    },
    HookEnded {
        hook: HookNameRecord,
        #[serde(flatten)]
        ending: HookEndingRecord,
    },
    /// An event that only a newer serin knows.
    #[serde(other)]
    Unknown,
}

/// The weight was taken down: to 0 a rollback, else a fallback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolledBack {
    pub cause: RollbackWord,
    /// The condition, where a trigger was the cause.
    pub trigger: Option<String>,
    pub from_weight: f64,
    pub from_weight_ppm: u32,
    /// Since when the condition was true.
    pub breached_since: Option<Moment>,
    /// The same moment on the gate's clock: `clock_ms - breached_since_clock_ms` is how long it took to be seen.
    pub breached_since_clock_ms: Option<u64>,
    pub evaluations: Vec<EvaluationRecord>,
    /// Left out where a person took it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<ConfidenceRecord>,
}

/// A trigger `per segment` took one segment to a ceiling of 0; the rest goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentLowered {
    pub segment: String,
    pub trigger: String,
    pub from_ceiling: f64,
    pub from_ceiling_ppm: u32,
    /// Since when the condition was true for this segment.
    pub breached_since: Moment,
    pub breached_since_clock_ms: u64,
    pub evaluations: Vec<EvaluationRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackWord {
    Trigger,
    Tripwire,
    Criteria,
    Operator,
}

impl Detail {
    /// The word of the field `event`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::StageBegan => "stage_began",
            Self::Checkpoint { .. } => "checkpoint",
            Self::IntervalFailed { .. } => "interval_failed",
            Self::Advanced { .. } => "advanced",
            Self::Completed { .. } => "completed",
            Self::Extended { .. } => "extended",
            Self::Held { .. } => "held",
            Self::CauseEnded { .. } => "cause_ended",
            Self::Resumed => "resumed",
            Self::Retried => "retried",
            Self::Paused => "paused",
            Self::RolledBack(_) => "rolled_back",
            Self::Recovered(_) => "recovered",
            Self::NotRecovered(_) => "not_recovered",
            Self::Aborted { .. } => "aborted",
            Self::WeightSet { .. } => "weight_set",
            Self::Pinned { .. } => "pinned",
            Self::Unpinned { .. } => "unpinned",
            Self::CeilingSet { .. } => "ceiling_set",
            Self::CeilingLifted { .. } => "ceiling_lifted",
            Self::SegmentLowered(_) => "segment_lowered",
            Self::IncidentOpened { .. } => "incident_opened",
            Self::IncidentClosed { .. } => "incident_closed",
            Self::AlarmNoted { .. } => "alarm_noted",
            Self::CanaryReplaced { .. } => "canary_replaced",
            Self::RehearsalBegan { .. } => "rehearsal_began",
            Self::RehearsalEnded(_) => "rehearsal_ended",
            Self::Restarted { .. } => "restarted",
            Self::FleetNoted { .. } => "fleet_noted",
            Self::ClockJumped { .. } => "clock_jumped",
            Self::Scheduled { .. } => "scheduled",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::Approved { .. } => "approved",
            Self::ApprovalsVoided { .. } => "approvals_voided",
            Self::Waits { .. } => "waits",
            Self::Frozen { .. } => "frozen",
            Self::Unfrozen => "unfrozen",
            Self::LevelBegan { .. } => "level_began",
            Self::DayBegan { .. } => "day_began",
            Self::StabilizationRestarted { .. } => "stabilization_restarted",
            Self::Reminded { .. } => "reminded",
            Self::HookStarted { .. } => "hook_started",
            Self::HookEnded { .. } => "hook_ended",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn evaluations(&self) -> &[EvaluationRecord] {
        match self {
            Self::Checkpoint { evaluations, .. }
            | Self::IntervalFailed { evaluations, .. }
            | Self::Advanced { evaluations, .. }
            | Self::Completed { evaluations, .. }
            | Self::Extended { evaluations, .. }
            | Self::Held { evaluations, .. }
            | Self::RolledBack(RolledBack { evaluations, .. })
            | Self::SegmentLowered(SegmentLowered { evaluations, .. })
            | Self::AlarmNoted { evaluations, .. }
            | Self::ApprovalAsked { evaluations, .. }
            | Self::Approved { evaluations, .. }
            | Self::Waits { evaluations, .. }
            | Self::DayBegan { evaluations, .. }
            | Self::StabilizationRestarted { evaluations, .. } => evaluations,
            Self::Started { .. }
            | Self::StageBegan
            | Self::CauseEnded { .. }
            | Self::Resumed
            | Self::Retried
            | Self::Paused
            | Self::Recovered(_)
            | Self::NotRecovered(_)
            | Self::Aborted { .. }
            | Self::WeightSet { .. }
            | Self::Pinned { .. }
            | Self::Unpinned { .. }
            | Self::CeilingSet { .. }
            | Self::CeilingLifted { .. }
            | Self::IncidentOpened { .. }
            | Self::IncidentClosed { .. }
            | Self::CanaryReplaced { .. }
            | Self::RehearsalBegan { .. }
            | Self::RehearsalEnded(_)
            | Self::Restarted { .. }
            | Self::FleetNoted { .. }
            | Self::ClockJumped { .. }
            | Self::Scheduled { .. }
            | Self::ApprovalsVoided { .. }
            | Self::Frozen { .. }
            | Self::Unfrozen
            | Self::LevelBegan { .. }
            | Self::Reminded { .. }
            | Self::HookStarted { .. }
            | Self::HookEnded { .. }
            | Self::Unknown => &[],
        }
    }
}
