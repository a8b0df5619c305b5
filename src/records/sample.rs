//! What was counted in one step of time, as JSON: a point of every chart.

use serde::{Deserialize, Serialize};

use super::Moment;
use super::status::{PerArm, SpanRecord};

/// What was counted in one step, on both arms and over all segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Its beginning, a multiple of the step on the gate's clock.
    pub at: Moment,
    pub clock_ms: u64,
    /// The step, or more where only coarser slots are kept: 10 s after an hour, 60 s after a day.
    pub width_ms: u64,
    #[serde(flatten)]
    pub arms: PerArm<SpanRecord>,
}
