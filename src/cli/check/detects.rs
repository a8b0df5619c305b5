//! What each stage could see: the smallest regression of errors that its fewest requests reveal.

use super::weight_of;
use crate::cli::figures::percent;
use crate::rollout::plan::Plan;
use crate::rollout::stats::detectable::{CHANCE, Detectable, Sample, Test, smallest};

/// Baseline's error rate that is supposed, because before a rollout nobody has measured it here.
pub(super) const BASE_RATE: f64 = 0.001;

/// The smallest regression that a stage's `min_requests` reveal, beginning with the stage and spread evenly over it; the evidence
/// goes on from the stages before it. `None` if not even a dead canary is seen, or nobody is left on baseline.
pub(super) fn of_stage(plan: &Plan, index: usize) -> Option<Detectable> {
    let share = weight_of(plan, index).share();
    if share <= 0.0 || share >= 1.0 {
        return None;
    }
    let canary = plan.stages.get(index)?.min_requests;
    let sample = Sample {
        baseline: (canary as f64 * (1.0 - share) / share) as u64,
        canary,
        base_rate: BASE_RATE,
        blocks: blocks(plan, index),
        blocks_before: (0..index).map(|before| blocks(plan, before)).sum(),
    };
    let evidence = plan.gate.evidence;
    let test = Test::of_errors(evidence.odds_margin, evidence.alpha);
    smallest(test, sample)
}

/// Seconds of a stage in which canary has a request, when `min_requests` come as they like.
fn blocks(plan: &Plan, index: usize) -> u64 {
    plan.stages.get(index).map_or(0, |stage| {
        let seconds = stage.duration.as_secs_f64();
        let canary_a_second = stage.min_requests as f64 / seconds;
        (seconds * -(-canary_a_second).exp_m1()).round() as u64
    })
}

/// `1.4% errors (14 x baseline's 0.1%) with 90% chance`, or why nothing is seen.
pub(super) fn text(plan: &Plan, index: usize) -> String {
    match of_stage(plan, index) {
        Some(found) => format!(
            "{} errors or more ({} x a baseline of {}) with {} chance",
            percent(to_two_digits(found.rate)),
            to_two_digits(found.ratio),
            percent(BASE_RATE),
            percent(CHANCE),
        ),
        None if plan.lacks_baseline(index) => {
            "nothing against baseline: nobody is left on it".to_owned()
        }
        None => "nothing against baseline: too few requests even for a dead canary".to_owned(),
    }
}

/// Up, so that what is said suffices.
fn to_two_digits(number: f64) -> f64 {
    // A positive power is exact, a negative one would not be.
    let digits = 1 - number.log10().floor() as i32;
    if digits >= 0 {
        let scale = 10_f64.powi(digits);
        (number * scale).ceil() / scale
    } else {
        let scale = 10_f64.powi(-digits);
        (number / scale).ceil() * scale
    }
}
