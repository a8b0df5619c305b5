//! One condition judged, as JSON: what was asked, what was seen, and the verdict.

use serde::{Deserialize, Serialize};

use super::{figure, words};
use crate::rollout::condition::{Metric, Op, Selector, Unit};
use crate::rollout::time::millis;
use crate::rollout::verdict::{Evaluation, Purpose, Verdict};

/// An evaluation as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    #[serde(with = "words")]
    pub purpose: Purpose,
    /// The condition as it is written in a plan: `p99 > 250ms for 5m`.
    pub condition: String,
    /// `per segment`: the segment that the rest is of, the worst one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    #[serde(with = "metric")]
    pub metric: Metric,
    #[serde(with = "words")]
    pub selector: Selector,
    #[serde(with = "words")]
    pub op: Op,
    /// In `unit`.
    pub limit: f64,
    /// In `unit`; `null` without data, `"inf"` where a baseline of 0 makes the ratio infinite.
    #[serde(with = "figure", default)]
    pub figure: Option<f64>,
    pub unit: UnitWord,
    /// All values of the figure that the data do not rule out at any time, in `unit`; left out where there is
    /// no such interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// What all of these values say together: `pass`, `fail`, or `unproven` where the limit lies among them. A percentile's
    /// limit is read by the share of requests above it. Left out where there is no interval.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "words::optional"
    )]
    pub interval_says: Option<Verdict>,
    /// Baseline's figure for the same metric and window, in the metric's own unit (never a ratio).
    #[serde(with = "figure", default)]
    pub baseline: Option<f64>,
    /// Counted requests in the window on the arm judged.
    pub requests: u64,
    pub window_ms: u64,
    #[serde(with = "words")]
    pub verdict: Verdict,
    #[serde(default)]
    pub breached_for_ms: Option<u64>,
    #[serde(default)]
    pub learners: Option<u64>,
    #[serde(default)]
    pub note: String,
}

/// What a figure's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitWord {
    /// 0.0 to 1.0; a delta may be any number from -1 on.
    Share,
    Ms,
    PerSecond,
    Count,
    /// Without a unit of ours: what a signal's source says.
    Number,
}

impl From<&Evaluation> for EvaluationRecord {
    fn from(evaluation: &Evaluation) -> Self {
        let condition = &evaluation.condition;
        let (unit, own) = (
            UnitWord::of(condition.unit()),
            UnitWord::of_metric(condition.metric),
        );
        Self {
            purpose: evaluation.purpose,
            condition: condition.to_string(),
            segment: evaluation.segment.as_ref().map(ToString::to_string),
            metric: condition.metric,
            selector: condition.selector,
            op: condition.op,
            limit: unit.published(condition.value),
            figure: evaluation.figure.map(|figure| unit.published(figure)),
            unit,
            interval: evaluation
                .interval
                .map(|(low, high)| [low, high].map(|bound| unit.published(bound))),
            interval_says: evaluation.interval_says,
            baseline: evaluation.baseline.map(|figure| own.published(figure)),
            requests: evaluation.requests,
            window_ms: millis(evaluation.window),
            verdict: evaluation.verdict,
            breached_for_ms: evaluation.breached_for.map(millis),
            learners: evaluation.learners,
            note: evaluation.note.clone(),
        }
    }
}

/// All of them, in their order.
pub(super) fn records(evaluations: &[Evaluation]) -> Vec<EvaluationRecord> {
    evaluations.iter().map(EvaluationRecord::from).collect()
}

/// A metric by its name.
mod metric {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Metric;

    pub(super) fn serialize<S: Serializer>(
        metric: &Metric,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(metric.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Metric, D::Error> {
        let name = String::deserialize(deserializer)?;
        Metric::named(&name).ok_or_else(|| D::Error::custom(format!("{name:?} is no metric")))
    }
}

impl UnitWord {
    /// The unit of a metric on one arm.
    pub fn of_metric(metric: Metric) -> Self {
        Self::of(metric.unit())
    }

    const fn of(unit: Unit) -> Self {
        match unit {
            Unit::Share => Self::Share,
            Unit::Latency => Self::Ms,
            Unit::Rate => Self::PerSecond,
            Unit::Count => Self::Count,
            Unit::Number => Self::Number,
        }
    }

    /// A number of the gate's in this unit: it counts latencies in microseconds, people read milliseconds.
    pub fn published(self, number: f64) -> f64 {
        match self {
            Self::Ms => number / 1000.0,
            Self::Share | Self::PerSecond | Self::Count | Self::Number => number,
        }
    }
}
