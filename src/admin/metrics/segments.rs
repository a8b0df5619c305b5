//! Segments of learners in the Prometheus text: what each met in the stage so far, and its ceiling.

use std::time::Duration;

use super::OfArm;
use crate::control::RolloutView;
use crate::rollout::name::Arm;
use crate::telemetry::prometheus::Exposition;

const SEGMENT_GAUGES: [(&str, &str, OfArm); 4] = [
    (
        "serin_segment_requests",
        "Counted requests of a segment in the stage so far.",
        |figures| Some(figures.requests as f64),
    ),
    (
        "serin_segment_errors",
        "Errors of a segment in the stage so far.",
        |figures| Some(figures.errors as f64),
    ),
    (
        "serin_segment_error_rate",
        "Errors / counted requests of a segment in the stage so far.",
        |figures| figures.error_rate,
    ),
    (
        "serin_segment_availability",
        "1 - unavailable / counted requests of a segment in the stage so far.",
        |figures| figures.availability,
    ),
];

// As many as the rollout tells apart: `max_segments` and the rest.
pub(super) fn show(views: &[&RolloutView], out: &mut Exposition) {
    let segments = || {
        views.iter().flat_map(|view| {
            let each = view.status.segments.iter();
            each.map(|segment| (view.rollout.as_str(), segment))
        })
    };
    let arms = || segments().flat_map(|(name, segment)| Arm::ALL.map(|arm| (name, segment, arm)));
    for (name, help, read) in SEGMENT_GAUGES {
        let mut family = out.gauge(name, help);
        for (rollout, segment, arm) in arms() {
            if let Some(figure) = read(&segment.stage[arm.index()]) {
                let labels = [
                    ("rollout", rollout),
                    ("segment", segment.name.as_str()),
                    ("arm", arm.as_str()),
                ];
                family.sample(&labels, figure);
            }
        }
    }
    let mut latency = out.gauge(
        "serin_segment_latency_quantile_seconds",
        "Latency of a segment in the stage so far, by percentile.",
    );
    for (rollout, segment, arm) in arms() {
        let figures = &segment.stage[arm.index()];
        let percentiles = [
            ("p50", figures.p50),
            ("p95", figures.p95),
            ("p99", figures.p99),
        ];
        for (percentile, value) in percentiles {
            let labels = [
                ("rollout", rollout),
                ("segment", segment.name.as_str()),
                ("arm", arm.as_str()),
                ("percentile", percentile),
            ];
            if let Some(seconds) = value.as_ref().map(Duration::as_secs_f64) {
                latency.sample(&labels, seconds);
            }
        }
    }
    let mut ceilings = out.gauge(
        "serin_segment_ceiling",
        "Highest weight of a segment, 0 to 1; 1 where it has no ceiling.",
    );
    for (rollout, segment) in segments() {
        let ceiling = segment.ceiling.map_or(1.0, |ceiling| ceiling.share());
        let labels = [("rollout", rollout), ("segment", segment.name.as_str())];
        ceilings.sample(&labels, ceiling);
    }
}
