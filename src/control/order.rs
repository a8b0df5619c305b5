//! What people ask of a rollout, and why it may be refused.
//!
//! An `Order` is the gate's command as far as a person can give it: the plan of a `start` is added by the driver.

use std::time::Duration;

use crate::rollout::gate::Refusal;
use crate::rollout::name::Arm;
use crate::rollout::rehearsal::Injection;
use crate::rollout::weight::Weight;

/// Most learners that may be pinned in one rollout (contract.md, "Assignment").
pub const MAX_PINS: usize = 10_000;

/// A command with its author.
#[derive(Clone, Debug)]
pub struct Order {
    /// The token's name, or `local`.
    pub by: String,
    /// May be empty where the gate asks for none.
    pub reason: String,
    pub force: bool,
    pub verb: Verb,
}

#[derive(Clone, Debug)]
pub enum Verb {
    /// Begins a run of the plan that the newest configuration has.
    Start,
    Pause,
    Resume,
    Retry,
    Hold,
    Advance,
    Rollback,
    Abort,
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
    /// Refused unless the configuration allows it.
    Rehearse {
        injection: Injection,
        within: Duration,
    },
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("there is no rollout {0:?}")]
    UnknownRollout(String),
    /// The phase does not allow it.
    #[error("{0}")]
    Phase(String),
    /// The order itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Accepted, but not in force within the time that an answer may take.
    #[error("{0}")]
    Waiting(String),
    /// The driver has ended.
    #[error("serin is shutting down")]
    Stopped,
}

impl From<Refusal> for OrderError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Phase(why) => Self::Phase(why),
            Refusal::Invalid(why) => Self::Invalid(why),
        }
    }
}
