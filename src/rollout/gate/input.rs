//! What may happen to a gate: a command, a tick with observations, the store's word.
//!
//! A closed list; nothing here decides anything.

use std::sync::Arc;
use std::time::Duration;

use super::fleet::FleetWord;
use super::outside::Heard;
use crate::rollout::evidence::Block;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::{Arm, RoleName};
use crate::rollout::plan::Plan;
use crate::rollout::rehearsal::Injection;
use crate::rollout::slot::Slot;
use crate::rollout::time::WallTime;
use crate::rollout::weight::Weight;

/// The number of an event of one rollout: 1, 2, 3, ... without gaps, over all its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64);

#[derive(Clone, Debug)]
pub enum Input {
    Command(Command),
    /// Every 250 ms.
    Tick(Box<Observed>),
    /// What sources of signals said, and results of learners.
    Heard(Box<Heard>),
    /// Every event up to this one lies safely on disk, with the state that follows from it.
    Stored(EventId),
    /// The store cannot write (the message says why). It keeps what it was given and tries again.
    StoreFailed(String),
    /// A hook that was run came to its end.
    HookEnded(Box<HookEnd>),
    /// What is known of the other proxies of the fleet.
    Fleet(FleetWord),
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookEnd {
    /// The event of its beginning.
    pub started: EventId,
    pub passed: bool,
    /// Over all attempts.
    pub took: Duration,
    pub attempts: u32,
    /// Exit code, or HTTP status.
    pub code: Option<i32>,
    /// In words: `exit code 1`.
    pub why: String,
    /// What it said, bounded.
    pub output: String,
}

/// What an operator, or the client's script, asks for.
#[derive(Clone, Debug)]
pub struct Command {
    /// The token's name, or `local` where none is needed.
    pub by: String,
    /// May be empty, except where the transition table asks for one.
    pub reason: String,
    pub force: bool,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Begins a new run of this plan; `baseline_endpoints` are what `baseline_min_healthy` is measured by.
    Start {
        plan: Box<Plan>,
        baseline_endpoints: u32,
    },
    Pause,
    Resume,
    /// Begins the stage again.
    Retry,
    Hold,
    Advance,
    Rollback,
    Abort,
    /// Yes, for one role.
    Approve(Say),
    /// No, for one role.
    Reject(Say),
    /// By hand. `guarded` is false only for `?guard=false`. Outside a run, until one has completed, `holdout` caps it: that
    /// of the plan that would be started.
    SetWeight {
        weight: Weight,
        guarded: bool,
        holdout: Weight,
    },
    Pin {
        learner: Box<[u8]>,
        arm: Arm,
    },
    Unpin {
        learner: Box<[u8]>,
    },
    /// The highest weight of one segment; `other` is the rest.
    SetCeiling {
        segment: Arc<str>,
        ceiling: Weight,
    },
    LiftCeiling {
        segment: Arc<str>,
    },
    OpenIncident {
        summary: String,
    },
    CloseIncident {
        id: u64,
    },
    /// Injects faults into canary's requests until they are found, rolled back and gone, at most for `within`.
    Rehearse {
        injection: Injection,
        within: Duration,
    },
    /// The canary's endpoints or version (then `Some`) were replaced while running: the stage begins anew.
    CanaryReplaced {
        what: String,
        version: Option<String>,
    },
    /// Nothing goes towards canary until then, or until somebody ends it.
    Freeze {
        until: Option<WallTime>,
    },
    Unfreeze,
}

/// What somebody says whose approval is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// May be left out where only one can be meant.
    pub role: Option<RoleName>,
    /// The roles of his token; `None` where no tokens are asked for, and anybody speaks for each role.
    pub holds: Option<Vec<RoleName>>,
    /// The plan's hash as it was shown to him.
    pub plan: String,
    /// The event whose figures he saw; refused where others are asked about now.
    pub seen: Option<EventId>,
}

/// What was measured since the last tick.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Drained counts since the last tick: one or several parts of seconds, in order of time.
    pub slots: Vec<Slot>,
    /// Health of the two pools, by `Arm::index`.
    pub pools: [PoolHealth; 2],
    /// Learners seen since the last tick, per arm.
    pub learners: [LearnerSketch; 2],
    /// Seconds that have ended since the last tick, for the evidence; in order of time.
    pub blocks: Vec<Block>,
    /// Time in which nothing was observed because serin was down or stood still; zero otherwise.
    pub gap: Duration,
}

/// A pool as its health checks see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolHealth {
    pub endpoints: u32,
    /// Those that may be given requests now.
    pub usable: u32,
    /// Probes since the last tick.
    pub probes_sent: u64,
    pub probes_answered: u64,
}
