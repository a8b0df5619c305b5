//! What may happen to a gate: a command, a tick with observations, the store's word.
//!
//! A closed list; nothing here decides anything.

use std::time::Duration;

use super::outside::Heard;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::plan::Plan;
use crate::rollout::rehearsal::Injection;
use crate::rollout::slot::Slot;
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
    /// Begins a new run of this plan; `usable_baseline` endpoints are what `baseline_min_healthy` is measured by.
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
    /// By hand. `guarded` is false only for `?guard=false`.
    SetWeight {
        weight: Weight,
        guarded: bool,
    },
    Pin {
        learner: Box<[u8]>,
        arm: Arm,
    },
    Unpin {
        learner: Box<[u8]>,
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
