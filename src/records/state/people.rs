//! The saved form of what people said and of what is waited for.

use serde::{Deserialize, Serialize};

use super::StateError;
use super::mirror::Moments;
use crate::records::people::WaitsForWord;
use crate::rollout::gate::{Approval, Ask, EventId, Freeze, Reminder};
use crate::rollout::name::RoleName;
use crate::rollout::time::WallTime;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FreezeState {
    since: Moments,
    until_wall_ms: Option<i64>,
    by: String,
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReminderState {
    since: Moments,
    told: u32,
}

/// The part of a stage's progress that has to do with its end.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PassageState {
    pub(super) ask: Option<AskState>,
    pub(super) waits_for: Vec<WaitsForWord>,
    pub(super) levels_told: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AskState {
    event: u64,
    since: Moments,
    approvals: Vec<ApprovalState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ApprovalState {
    role: String,
    by: String,
    reason: String,
    at: Moments,
}

impl From<&Freeze> for FreezeState {
    fn from(freeze: &Freeze) -> Self {
        Self {
            since: freeze.since.into(),
            until_wall_ms: freeze.until.map(WallTime::as_unix_millis),
            by: freeze.by.clone(),
            reason: freeze.reason.clone(),
        }
    }
}

impl From<FreezeState> for Freeze {
    fn from(state: FreezeState) -> Self {
        Self {
            since: state.since.into(),
            until: state.until_wall_ms.map(WallTime::from_unix_millis),
            by: state.by,
            reason: state.reason,
        }
    }
}

impl From<Reminder> for ReminderState {
    fn from(reminder: Reminder) -> Self {
        Self {
            since: reminder.since.into(),
            told: reminder.told,
        }
    }
}

impl From<ReminderState> for Reminder {
    fn from(state: ReminderState) -> Self {
        Self {
            since: state.since.into(),
            told: state.told,
        }
    }
}

impl From<&Ask> for AskState {
    fn from(ask: &Ask) -> Self {
        Self {
            event: ask.event.0,
            since: ask.since.into(),
            approvals: ask.approvals.iter().map(ApprovalState::from).collect(),
        }
    }
}

impl AskState {
    pub(super) fn into_ask(self) -> Result<Ask, StateError> {
        let approvals = self.approvals.into_iter().map(ApprovalState::into_approval);
        Ok(Ask {
            event: EventId(self.event),
            since: self.since.into(),
            approvals: approvals.collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Approval> for ApprovalState {
    fn from(approval: &Approval) -> Self {
        Self {
            role: approval.role.to_string(),
            by: approval.by.clone(),
            reason: approval.reason.clone(),
            at: approval.at.into(),
        }
    }
}

impl ApprovalState {
    fn into_approval(self) -> Result<Approval, StateError> {
        Ok(Approval {
            role: RoleName::parse(&self.role).map_err(|why| StateError::Name(why.to_string()))?,
            by: self.by,
            reason: self.reason,
            at: self.at.into(),
        })
    }
}
