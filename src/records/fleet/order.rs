//! An order that any member took from an operator for the one that leads, and what came of it, as JSON.

use serde::{Deserialize, Serialize};

use super::{FleetFault, fault};
use crate::records::inputs;
use crate::rollout::gate::Command;

/// A command on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    pub rollout: String,
    /// Who took it.
    pub member: String,
    /// When, in milliseconds since 1970: what is old is not carried out any more.
    pub at_ms: i64,
    /// The command as recorded inputs have it.
    command: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum OutcomeRecord {
    /// Carried out; what followed from it is in the state with this event.
    Done {
        event: u64,
    },
    /// The phase does not allow it.
    Phase {
        why: String,
    },
    Invalid {
        why: String,
    },
}

impl OrderRecord {
    pub fn new(rollout: &str, member: &str, at_ms: i64, command: &Command) -> Self {
        Self {
            rollout: rollout.to_owned(),
            member: member.to_owned(),
            at_ms,
            command: inputs::command_text(command),
        }
    }

    /// # Errors
    /// What is wrong with the command.
    pub fn command(&self) -> Result<Command, FleetFault> {
        inputs::read_command(&self.command).map_err(fault)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts are JSON")
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FleetFault> {
        serde_json::from_slice(bytes).map_err(fault)
    }
}

impl OutcomeRecord {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts are JSON")
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FleetFault> {
        serde_json::from_slice(bytes).map_err(fault)
    }
}
