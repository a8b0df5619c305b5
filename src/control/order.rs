//! What people ask of a rollout, and why it may be refused.
//!
//! An `Order` is the gate's command as far as a person can give it: the plan of a `start` is added by the driver.

use std::sync::Arc;
use std::time::Duration;

use crate::rollout::gate::{EventId, Refusal};
use crate::rollout::name::{Arm, RoleName};
use crate::rollout::rehearsal::Injection;
use crate::rollout::time::WallTime;
use crate::rollout::weight::Weight;

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
    Approve(Said),
    Reject(Said),
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
    Freeze {
        until: Option<WallTime>,
    },
    Unfreeze,
    /// Refused unless the configuration allows it.
    Rehearse {
        injection: Injection,
        within: Duration,
    },
}

/// What somebody says whose approval is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// May be left out where only one can be meant.
    pub role: Option<RoleName>,
    /// The roles of his token; `None` where no tokens are configured.
    pub holds: Option<Vec<RoleName>>,
    /// The event whose figures he saw.
    pub seen: Option<EventId>,
    /// The plan that he saw.
    pub plan_hash: Option<String>,
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
