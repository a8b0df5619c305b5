//! People and time as JSON: approvals, what is waited for, a freeze, the level of the stabilization.

use serde::{Deserialize, Serialize};

use super::{Moment, words};
use crate::rollout::gate::{Approval, ApprovalStatus, Freeze, People, WaitsFor};
use crate::rollout::name::RoleName;

/// These fields of a rollout's state stand among its others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeopleRecord {
    /// While nothing goes towards canary.
    pub frozen: Option<FreezeRecord>,
    /// While approvals are asked for, or given ones wait for the step.
    pub approval: Option<ApprovalRecord>,
    /// What the next step waits for beside people: `start_at`, `person` (that start was missed), `window`, `freeze`.
    pub waits_for: Vec<WaitsForWord>,
    /// The planned start of the stage to come.
    pub next_start: Option<Moment>,
    /// How closely the stabilization is watched.
    pub level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitsForWord(#[serde(with = "words")] pub WaitsFor);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRecord {
    pub since: Moment,
    /// When it ends by itself.
    pub until: Option<Moment>,
    pub by: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// The event with the figures that are asked about.
    pub asked: u64,
    pub since: Moment,
    pub given: Vec<GivenRecord>,
    /// Roles.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenRecord {
    pub role: String,
    pub by: String,
    pub reason: String,
    pub at: Moment,
}

/// Names as texts.
pub(super) fn texts(roles: &[RoleName]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}

impl From<&People> for PeopleRecord {
    fn from(people: &People) -> Self {
        Self {
            frozen: people.frozen.as_ref().map(FreezeRecord::from),
            approval: people.approval.as_ref().map(ApprovalRecord::from),
            waits_for: people.waits_for.iter().copied().map(WaitsForWord).collect(),
            next_start: people.next_start.map(Moment::from),
            level: people.level.clone(),
        }
    }
}

impl From<&Freeze> for FreezeRecord {
    fn from(freeze: &Freeze) -> Self {
        Self {
            since: freeze.since.wall.into(),
            until: freeze.until.map(Moment::from),
            by: freeze.by.clone(),
            reason: freeze.reason.clone(),
        }
    }
}

impl From<&ApprovalStatus> for ApprovalRecord {
    fn from(status: &ApprovalStatus) -> Self {
        Self {
            asked: status.asked.0,
            since: status.since.wall.into(),
            given: status.given.iter().map(GivenRecord::from).collect(),
            missing: texts(&status.missing),
        }
    }
}

impl From<&Approval> for GivenRecord {
    fn from(approval: &Approval) -> Self {
        Self {
            role: approval.role.to_string(),
            by: approval.by.clone(),
            reason: approval.reason.clone(),
            at: approval.at.wall.into(),
        }
    }
}
