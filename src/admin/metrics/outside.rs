//! Signals and business results in the Prometheus text.

use crate::control::RolloutView;
use crate::rollout::gate::SignalFigure;
use crate::rollout::name::Arm;
use crate::telemetry::prometheus::Exposition;

use super::truth;

/// What a gauge of a signal shows; left out where there is nothing to show.
type OfSignal = fn(&SignalFigure) -> Option<f64>;

const SIGNAL_GAUGES: [(&str, &str, OfSignal); 3] = [
    (
        "serin_signal_value",
        "The last value of a signal, fresh or not.",
        |figure| figure.value,
    ),
    (
        "serin_signal_age_seconds",
        "Age of the last value of a signal.",
        |figure| figure.age.map(|age| age.as_secs_f64()),
    ),
    (
        "serin_signal_stale",
        "1 where a signal is no data: older than three of its intervals, failed or never read.",
        |figure| Some(truth(figure.lack.is_some())),
    ),
];

pub(super) fn show(views: &[&RolloutView], out: &mut Exposition) {
    for (name, help, read) in SIGNAL_GAUGES {
        let mut family = out.gauge(name, help);
        for view in views {
            for figure in &view.status.signals {
                let labels = [
                    ("rollout", view.rollout.as_str()),
                    ("signal", figure.of.name.as_str()),
                    ("arm", figure.of.arm.as_str()),
                    ("segment", figure.of.segment.as_deref().unwrap_or_default()),
                ];
                if let Some(value) = read(figure) {
                    family.sample(&labels, value);
                }
            }
        }
    }
    outcomes(views, out);
}

fn outcomes(views: &[&RolloutView], out: &mut Exposition) {
    let each = || {
        views.iter().flat_map(|view| {
            view.status
                .outcomes
                .iter()
                .map(move |figures| (*view, figures))
        })
    };
    let mut counted = out.gauge(
        "serin_outcome_results",
        "Business results of learners that were counted in the run, by arm.",
    );
    for (view, figures) in each() {
        for arm in Arm::ALL {
            let labels = [
                ("rollout", view.rollout.as_str()),
                ("outcome", figures.name.as_str()),
                ("arm", arm.as_str()),
            ];
            counted.sample(&labels, figures.counted[arm.index()] as f64);
        }
    }
    let mut impact = out.gauge(
        "serin_outcome_impact",
        "Mean on canary / mean on baseline - 1 over the run: the figure and the bounds of its 95 % interval.",
    );
    for (view, figures) in each() {
        let (low, high) = figures.interval.unzip();
        for (bound, value) in [("figure", figures.impact), ("low", low), ("high", high)] {
            let labels = [
                ("rollout", view.rollout.as_str()),
                ("outcome", figures.name.as_str()),
                ("bound", bound),
            ];
            if let Some(value) = value {
                impact.sample(&labels, value);
            }
        }
    }
}
