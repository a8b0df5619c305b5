//! What a rollout knows from outside, as JSON: signals with their age, business results with their interval.

use serde::{Deserialize, Serialize};

use super::PerArm;
use crate::rollout::gate::{OutcomeFigures, SignalFigure};
use crate::rollout::name::{Arm, PoolName};
use crate::rollout::time::millis;

/// A signal on one pool as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalFigureRecord {
    pub name: String,
    pub pool: String,
    /// `null` for all learners together.
    pub segment: Option<String>,
    /// The last value, in its source's own unit, fresh or not.
    pub value: Option<f64>,
    pub count: u64,
    pub age_ms: Option<u64>,
    /// Older than three intervals, failed, or never read: no data, and why in `note`.
    pub stale: bool,
    pub note: String,
}

/// Business results of learners since the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    pub name: String,
    pub counted: PerArm<u64>,
    /// Per result.
    pub mean: PerArm<Option<f64>>,
    /// Mean on canary / mean on baseline - 1.
    pub impact: Option<f64>,
    /// All values of the impact that are not ruled out at any time (95 %); `null` while there are too few results.
    pub interval: Option<[f64; 2]>,
}

impl SignalFigureRecord {
    pub(super) fn new(figure: &SignalFigure, pools: [&PoolName; 2]) -> Self {
        Self {
            name: figure.of.name.to_string(),
            pool: pools[figure.of.arm.index()].to_string(),
            segment: figure.of.segment.as_ref().map(ToString::to_string),
            value: figure.value,
            count: figure.count,
            age_ms: figure.age.map(millis),
            stale: figure.lack.is_some(),
            note: figure.lack.clone().unwrap_or_default(),
        }
    }
}

impl From<&OutcomeFigures> for OutcomeRecord {
    fn from(figures: &OutcomeFigures) -> Self {
        let [baseline, canary] = Arm::ALL.map(Arm::index);
        Self {
            name: figures.name.to_string(),
            counted: PerArm {
                baseline: figures.counted[baseline],
                canary: figures.counted[canary],
            },
            mean: PerArm {
                baseline: figures.means[baseline],
                canary: figures.means[canary],
            },
            impact: figures.impact,
            interval: figures.interval.map(|(low, high)| [low, high]),
        }
    }
}
