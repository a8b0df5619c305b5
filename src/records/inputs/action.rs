//! What people ask of a gate, as a line of recorded inputs.

use serde::{Deserialize, Serialize};

use super::{InputError, bytes, fault, hex, micros};
use crate::records::plan::PlanRecord;
use crate::records::rehearsal::FaultRecord;
use crate::records::words;
use crate::rollout::gate::{Action, EventId, Say};
use crate::rollout::name::{Arm, RoleName};
use crate::rollout::plan::Plan;
use crate::rollout::time::WallTime;
use crate::rollout::weight::Weight;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(super) enum ActionLine {
    Start {
        plan: Box<PlanRecord>,
        baseline_endpoints: u32,
    },
    Pause,
    Resume,
    Retry,
    Hold,
    Advance,
    Rollback,
    Abort,
    Approve(SayLine),
    Reject(SayLine),
    SetWeight {
        weight_ppm: u32,
        guarded: bool,
        #[serde(default)]
        holdout_ppm: u32,
    },
    Pin {
        learner: String,
        #[serde(with = "words")]
        arm: Arm,
    },
    Unpin {
        learner: String,
    },
    SetCeiling {
        segment: String,
        weight_ppm: u32,
    },
    LiftCeiling {
        segment: String,
    },
    OpenIncident {
        summary: String,
    },
    CloseIncident {
        id: u64,
    },
    Rehearse {
        fault: FaultRecord,
        within_us: u64,
    },
    CanaryReplaced {
        what: String,
        version: Option<String>,
    },
    Freeze {
        until_wall_ms: Option<i64>,
    },
    Unfreeze,
}

/// A yes or a no.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SayLine {
    role: Option<String>,
    holds: Option<Vec<String>>,
    plan: String,
    seen: Option<u64>,
}

impl From<&Action> for ActionLine {
    fn from(action: &Action) -> Self {
        match action {
            Action::Start {
                plan,
                baseline_endpoints,
            } => Self::Start {
                plan: Box::new(PlanRecord::from(&**plan)),
                baseline_endpoints: *baseline_endpoints,
            },
            Action::Pause => Self::Pause,
            Action::Resume => Self::Resume,
            Action::Retry => Self::Retry,
            Action::Hold => Self::Hold,
            Action::Advance => Self::Advance,
            Action::Rollback => Self::Rollback,
            Action::Abort => Self::Abort,
            Action::Approve(say) => Self::Approve(say.into()),
            Action::Reject(say) => Self::Reject(say.into()),
            Action::SetCeiling { segment, ceiling } => Self::SetCeiling {
                segment: segment.to_string(),
                weight_ppm: ceiling.ppm(),
            },
            Action::LiftCeiling { segment } => Self::LiftCeiling {
                segment: segment.to_string(),
            },
            Action::Freeze { until } => Self::Freeze {
                until_wall_ms: until.map(WallTime::as_unix_millis),
            },
            Action::Unfreeze => Self::Unfreeze,
            Action::SetWeight {
                weight,
                guarded,
                holdout,
            } => Self::SetWeight {
                weight_ppm: weight.ppm(),
                guarded: *guarded,
                holdout_ppm: holdout.ppm(),
            },
            Action::Pin { learner, arm } => Self::Pin {
                learner: hex(learner),
                arm: *arm,
            },
            Action::Unpin { learner } => Self::Unpin {
                learner: hex(learner),
            },
            Action::OpenIncident { summary } => Self::OpenIncident {
                summary: summary.clone(),
            },
            Action::CloseIncident { id } => Self::CloseIncident { id: *id },
            Action::Rehearse { injection, within } => Self::Rehearse {
                fault: (*injection).into(),
                within_us: micros(*within),
            },
            Action::CanaryReplaced { what, version } => Self::CanaryReplaced {
                what: what.clone(),
                version: version.clone(),
            },
        }
    }
}

impl ActionLine {
    pub(super) fn meant(self) -> Result<Action, InputError> {
        Ok(match self {
            Self::Start {
                plan,
                baseline_endpoints,
            } => Action::Start {
                plan: Box::new(Plan::try_from(&*plan).map_err(fault)?),
                baseline_endpoints,
            },
            Self::Pause => Action::Pause,
            Self::Resume => Action::Resume,
            Self::Retry => Action::Retry,
            Self::Hold => Action::Hold,
            Self::Advance => Action::Advance,
            Self::Rollback => Action::Rollback,
            Self::Abort => Action::Abort,
            Self::SetWeight {
                weight_ppm,
                guarded,
                holdout_ppm,
            } => Action::SetWeight {
                weight: weight(weight_ppm)?,
                guarded,
                holdout: weight(holdout_ppm)?,
            },
            Self::Pin { learner, arm } => Action::Pin {
                learner: bytes(&learner)?.into(),
                arm,
            },
            Self::Unpin { learner } => Action::Unpin {
                learner: bytes(&learner)?.into(),
            },
            Self::Approve(say) => Action::Approve(say.meant()?),
            Self::Reject(say) => Action::Reject(say.meant()?),
            Self::SetCeiling {
                segment,
                weight_ppm,
            } => Action::SetCeiling {
                segment: segment.as_str().into(),
                ceiling: weight(weight_ppm)?,
            },
            Self::LiftCeiling { segment } => Action::LiftCeiling {
                segment: segment.as_str().into(),
            },
            Self::Freeze { until_wall_ms } => Action::Freeze {
                until: until_wall_ms.map(WallTime::from_unix_millis),
            },
            Self::Unfreeze => Action::Unfreeze,
            Self::OpenIncident { summary } => Action::OpenIncident { summary },
            Self::CloseIncident { id } => Action::CloseIncident { id },
            Self::Rehearse {
                fault: said,
                within_us,
            } => Action::Rehearse {
                injection: said
                    .injection()
                    .ok_or_else(|| fault("a share above the whole"))?,
                within: std::time::Duration::from_micros(within_us),
            },
            Self::CanaryReplaced { what, version } => Action::CanaryReplaced { what, version },
        })
    }
}

fn weight(ppm: u32) -> Result<Weight, InputError> {
    Weight::from_ppm(ppm).ok_or_else(|| fault("a weight above the whole"))
}

impl From<&Say> for SayLine {
    fn from(say: &Say) -> Self {
        let texts = |roles: &Vec<RoleName>| roles.iter().map(ToString::to_string).collect();
        Self {
            role: say.role.as_ref().map(ToString::to_string),
            holds: say.holds.as_ref().map(texts),
            plan: say.plan.clone(),
            seen: say.seen.map(|id| id.0),
        }
    }
}

impl SayLine {
    fn meant(self) -> Result<Say, InputError> {
        let role = |name: String| RoleName::parse(&name).map_err(fault);
        let roles = |names: Vec<String>| names.into_iter().map(role).collect::<Result<_, _>>();
        Ok(Say {
            role: self.role.map(role).transpose()?,
            holds: self.holds.map(roles).transpose()?,
            plan: self.plan,
            seen: self.seen.map(EventId),
        })
    }
}
