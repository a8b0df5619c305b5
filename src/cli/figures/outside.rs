//! Figures that a rollout knows from outside, in lines: signals with their age, business results with their interval.

use super::{rate, span};
use crate::records::status::StatusRecord;

/// Figures from outside, a line each.
pub(in crate::cli) fn outside(status: &StatusRecord) -> String {
    let mut text = String::new();
    for signal in &status.signals {
        let value = signal
            .value
            .map_or_else(|| "-".to_owned(), |value| value.to_string());
        let age = signal.age_ms.map_or_else(
            || "never read".to_owned(),
            |age| format!("{} old", span(age)),
        );
        let of = signal
            .segment
            .as_ref()
            .map_or_else(String::new, |segment| format!(" segment {segment}"));
        text.push_str(&format!(
            "signal {} on {}{of}: {value}, {age}",
            signal.name, signal.pool
        ));
        if signal.stale {
            text.push_str(&format!(", NO DATA: {}", signal.note));
        }
        text.push('\n');
    }
    for outcome in &status.outcomes {
        let interval = outcome.interval.map_or_else(
            || "too few results for an interval".to_owned(),
            |[low, high]| format!("{} to {}", rate(Some(low)), rate(Some(high))),
        );
        let (name, impact) = (&outcome.name, rate(outcome.impact));
        let (canary, baseline) = (outcome.counted.canary, outcome.counted.baseline);
        text.push_str(&format!("outcome {name}: impact {impact} ({interval}), {canary} results on canary, {baseline} on baseline\n"));
    }
    text
}
