//! What a gate wants done, and the events it tells of.
//!
//! Effects are carried out in the order given. Events are the history: recorded, announced, replayed.

use std::time::Duration;

use super::input::EventId;
use super::rehearsal::Rehearsed;
use super::state::Cause;
use super::state::Phase;
use crate::rollout::assign::Split;
use crate::rollout::name::StageName;
use crate::rollout::rehearsal::Injection;
use crate::rollout::time::Now;
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
    /// The command is not allowed; nothing changed.
    Refuse(Refusal),
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
        forced: bool,
    },
    /// The last stage passed.
    Completed {
        evaluations: Vec<Evaluation>,
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
    },
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
    /// The wall clock jumped by this many milliseconds against the monotonic one.
    ClockJumped {
        by_ms: i64,
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
