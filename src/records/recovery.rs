//! What a rollback led to, as JSON: each step with its time since the alarm.

use serde::{Deserialize, Serialize};

use super::Moment;
use crate::rollout::gate::{Recovered, RecoveryStep};
use crate::rollout::time::millis;

/// What was seen after a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryRecord {
    /// The event of the rollback.
    pub rollback: u64,
    /// Since when its condition was true; where there was none, when it was decided.
    pub alarm: Moment,
    /// The same on the gate's clock.
    pub alarm_clock_ms: u64,
    /// In the order of the sequence.
    pub steps: Vec<StepRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// `decided`, `weights`, `hook NAME`, `health`, `errors` or `latency`.
    pub step: String,
    /// Since the alarm; `null` for what is not back.
    pub after_ms: Option<u64>,
    /// How a hook ended, or what is asked of baseline.
    pub note: String,
}

impl From<&Recovered> for RecoveryRecord {
    fn from(recovered: &Recovered) -> Self {
        Self {
            rollback: recovered.rollback.0,
            alarm: recovered.alarm.wall.into(),
            alarm_clock_ms: recovered.alarm.mono.as_millis(),
            steps: recovered.steps.iter().map(StepRecord::from).collect(),
        }
    }
}

impl From<&RecoveryStep> for StepRecord {
    fn from(step: &RecoveryStep) -> Self {
        Self {
            step: step.step.clone(),
            after_ms: step.after.map(millis),
            note: step.note.clone(),
        }
    }
}
