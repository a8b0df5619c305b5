//! What a gate wants done, and the events it tells of.
//!
//! Effects are carried out in the order given. Events are the history: recorded, announced, replayed.

use std::fmt;
use std::time::Duration;

use super::confidence::Confidence;
use super::input::EventId;
use super::recovery::Recovered;
use super::rehearsal::Rehearsed;
use super::state::{Cause, Phase, WaitsFor};
use crate::rollout::assign::Split;
use crate::rollout::name::{RoleName, StageName};
use crate::rollout::plan::{Act, HookKind};
use crate::rollout::rehearsal::Injection;
use crate::rollout::time::{Now, WallTime};
use crate::rollout::verdict::Evaluation;
use crate::rollout::weight::Weight;

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put this split in force at once.
    Publish(Split),
    /// Write this event durably, together with the state as it is after this input.
    Record(Event),
    /// Tell the world (log, stream, notices).
    Announce(Event),
    /// Run this hook, and say how it ended.
    RunHook(Box<HookOrder>),
    /// The command is not allowed; nothing changed.
    Refuse(Refusal),
}

/// A hook that is to be run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOrder {
    pub hook: HookName,
    pub run: u64,
    /// The event of its beginning, which its end names.
    pub started: EventId,
    /// The event of its first beginning: the same where it is run again.
    pub key: EventId,
    pub act: Act,
    pub timeout: Duration,
    pub retries: u32,
}

/// Which hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookName {
    pub kind: HookKind,
    pub stage: StageName,
    pub name: String,
    /// Not the hook, but what finds out how it ended.
    pub verifies: bool,
}

/// How a hook ended, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookEnding {
    pub outcome: HookOutcome,
    pub took: Duration,
    pub attempts: u32,
    /// Exit code, or HTTP status.
    pub code: Option<i32>,
    pub why: String,
    pub output: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookOutcome {
    Passed,
    Failed,
    /// What it was to be run for is not the case.
    Skipped,
    /// It had begun, and nobody knows how it ended.
    Unknown,
}

impl HookOutcome {
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Skipped, Self::Unknown];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
        }
    }
}

impl HookEnding {
    pub(super) fn unknown(why: &str) -> Self {
        Self {
            outcome: HookOutcome::Unknown,
            took: Duration::ZERO,
            attempts: 0,
            code: None,
            why: why.to_owned(),
            output: String::new(),
        }
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verify = if self.verifies { "verify of " } else { "" };
        let (kind, stage, name) = (self.kind.as_str(), &self.stage, &self.name);
        write!(f, "{verify}{kind} hook {name} of stage {stage}")
    }
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The phase does not allow it: 409. The sentence says what would.
    Phase(String),
    /// The command itself is wrong (a reason is missing, a weight above the holdout's cap): 422.
    Invalid(String),
}

/// One entry of the history. Enough to say what happened, when, and how things stood afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: EventId,
    /// Number of the run: 1 for the first `start` of this rollout; 0 before any.
    pub run: u64,
    pub at: Now,
    /// After the event.
    pub phase: Phase,
    pub stage: Option<StageName>,
    /// The weight that is or will be in force because of it.
    pub weight: Weight,
    /// Stage time (see gate.md, "Clocks").
    pub stage_time: Duration,
    /// The token's name; `gate` for the gate's own decisions.
    pub by: String,
    pub reason: String,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A run began. The plan itself is kept with the state.
    Started {
        stages: usize,
    },
    /// A run waits for the time of its first stage.
    Scheduled {
        stages: usize,
        start_at: WallTime,
    },
    /// The first canary request after a step arrived: the warm-up, then stage time begin.
    StageBegan,
    Checkpoint {
        due: Duration,
        late: bool,
        evaluations: Vec<Evaluation>,
    },
    /// `throughout` failed in an interval.
    IntervalFailed {
        from: Duration,
        to: Duration,
        evaluations: Vec<Evaluation>,
    },
    /// The stage passed; the weight of the next one comes into force.
    Advanced {
        from: StageName,
        to: StageName,
        evaluations: Vec<Evaluation>,
        confidence: Option<Confidence>,
        forced: bool,
    },
    /// The last stage passed.
    Completed {
        evaluations: Vec<Evaluation>,
        confidence: Option<Confidence>,
        forced: bool,
    },
    /// The stage ran out undecided and goes on, at most until `until` of stage time.
    Extended {
        until: Duration,
        missing: Vec<String>,
        evaluations: Vec<Evaluation>,
    },
    Held {
        cause: Cause,
        evaluations: Vec<Evaluation>,
        /// Of a hold that criteria led to.
        confidence: Option<Confidence>,
    },
    /// One cause of a hold ended by itself or by a command; the last one to go resumes the stage.
    CauseEnded {
        cause: Cause,
    },
    Resumed,
    Retried,
    Paused,
    /// A trigger, an unmet criterion or a person took the weight down: to 0 a rollback, else a fallback. With the
    /// moment since which the condition was true, for "seen within".
    RolledBack {
        cause: RollbackCause,
        from: Weight,
        breached_since: Option<Now>,
        evaluations: Vec<Evaluation>,
        /// `None` where a person took it down.
        confidence: Option<Confidence>,
    },
    /// After a rollback: baseline's health, errors and latency are back, and every step has its time.
    Recovered(Recovered),
    /// They are not, and somebody has to look.
    NotRecovered(Recovered),
    Aborted {
        from: Weight,
    },
    WeightSet {
        from: Weight,
        guarded: bool,
    },
    Pinned {
        learner: String,
        pool: String,
    },
    Unpinned {
        learner: String,
    },
    /// By a person; from the whole where there was no ceiling.
    CeilingSet {
        segment: String,
        from: Weight,
        to: Weight,
    },
    CeilingLifted {
        segment: String,
        from: Weight,
    },
    /// A trigger `per segment` took one segment off canary; the rest goes on.
    SegmentLowered {
        segment: String,
        condition: String,
        from: Weight,
        breached_since: Now,
        evaluations: Vec<Evaluation>,
    },
    IncidentOpened {
        incident: u64,
        summary: String,
    },
    IncidentClosed {
        incident: u64,
    },
    /// A breached trigger that moved nothing, and why (proof missing, outage, nowhere to go).
    AlarmNoted {
        why: String,
        evaluations: Vec<Evaluation>,
    },
    CanaryReplaced {
        what: String,
    },
    RehearsalBegan {
        injection: Injection,
        within: Duration,
    },
    /// It is over, and what was before comes back.
    RehearsalEnded(Rehearsed),
    /// serin came back after a gap; `windows_kept` says whether it was within `max_gap`.
    Restarted {
        gap: Duration,
        windows_kept: bool,
    },
    HookStarted {
        hook: HookName,
        /// It had begun before serin ended.
        again: bool,
    },
    HookEnded {
        hook: HookName,
        ending: HookEnding,
    },
    /// Of the fleet: a member that fell silent or had gone back alone.
    FleetNoted {
        what: String,
    },
    /// The wall clock jumped by this many milliseconds against the monotonic one.
    ClockJumped {
        by_ms: i64,
    },
    /// The stage passed, and these roles are asked about what is in the evaluations.
    ApprovalAsked {
        roles: Vec<RoleName>,
        evaluations: Vec<Evaluation>,
        confidence: Option<Confidence>,
    },
    /// One role said yes to what was asked by the event `asked`, with the figures as they stood then.
    Approved {
        role: RoleName,
        asked: EventId,
        plan: String,
        missing: Vec<RoleName>,
        evaluations: Vec<Evaluation>,
    },
    /// Approvals that count no more, and why.
    ApprovalsVoided {
        roles: Vec<RoleName>,
        why: String,
    },
    /// A step that nothing but the calendar or a freeze stands in the way of.
    Waits {
        waits_for: Vec<WaitsFor>,
        evaluations: Vec<Evaluation>,
    },
    Frozen {
        until: Option<WallTime>,
    },
    Unfrozen,
    /// The stabilization is watched in another way from now on; figures are recorded every `report`.
    LevelBegan {
        level: String,
        report: Option<Duration>,
    },
    /// A day of the stabilization began, and with it evidence at this day's alpha; with how the day before was judged.
    DayBegan {
        /// 1 for the first.
        day: u64,
        days: u64,
        alpha: f64,
        evaluations: Vec<Evaluation>,
    },
    /// A day failed what the stabilization requires: it begins anew.
    StabilizationRestarted {
        after: Duration,
        evaluations: Vec<Evaluation>,
    },
    /// Nobody has acted on what has waited for a person since then.
    Reminded {
        since: Now,
        times: u32,
    },
}

/// What took the weight down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackCause {
    /// Names the condition.
    Trigger(String),
    Tripwire,
    /// `on_failure` at the stage's end.
    Criteria,
    Operator,
}
