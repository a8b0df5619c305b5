//! Every fault of a plan at once, each with the key it stands at, and what is legal but idle.
//!
//! Reads a plan and never changes it. What one condition may say by itself is the grammar's matter.

mod people;
mod signals;

use std::collections::BTreeSet;
use std::time::Duration;

use super::{OnFailure, Plan, PlanFault, PlanParts, Stage};
use crate::rollout::condition::{Condition, Metric, Selector, Unit};
use crate::rollout::slot::{LATENCY_MAX_US, LATENCY_MIN_US};
use crate::rollout::time::format_duration;
use crate::rollout::weight::Weight;

/// Nothing shorter can be told apart by a gate that looks four times a second.
const SHORTEST: Duration = Duration::from_secs(1);

/// A false alarm in every second rollout is no alarm.
const MOST_ALPHA: f64 = 0.5;
/// A canary that fails a hundred times as often is not well by any margin.
const MOST_MARGIN: f64 = 100.0;

/// Collects faults under a path.
struct Faults(Vec<PlanFault>);

/// The list of a stage that a condition stands in, or the tripwire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Advance,
    Hold,
    Rollback,
    Tripwire,
}

pub(super) fn faults(parts: &PlanParts) -> Vec<PlanFault> {
    let mut faults = Faults(Vec::new());
    if parts.identity.baseline == parts.identity.canary {
        let pool = &parts.identity.canary;
        faults.add("canary", format!("{pool} is the baseline as well"));
    }
    if parts.holdout == Weight::FULL {
        faults.add("holdout", "100% leaves nobody for the canary");
    }
    check_gate(parts, &mut faults);
    check_segments(parts, &mut faults);
    signals::check(parts, &mut faults);
    if parts.stages.is_empty() {
        faults.add("stages", "there is no stage");
    }
    check_names(&parts.stages, &mut faults);
    check_order(&parts.stages, &mut faults);
    for (index, stage) in parts.stages.iter().enumerate() {
        check_stage(
            &format!("stages[{index}]"),
            stage,
            parts.holdout,
            &mut faults,
        );
    }
    people::check(parts, &mut faults);
    faults.0
}

/// Conditions that are skipped, and steps that move nobody.
pub(super) fn notes(plan: &Plan) -> Vec<PlanFault> {
    let mut notes = Faults(Vec::new());
    for (index, stage) in plan.stages.iter().enumerate() {
        let weight = plan.stage_weight(index);
        if weight != Some(stage.weight) {
            let capped = weight.unwrap_or_default();
            notes.add(
                &format!("stages[{index}].weight"),
                format!("the holdout caps it at {capped}"),
            );
        }
        if index > 0 && weight == plan.stage_weight(index - 1) {
            notes.add(
                &format!("stages[{index}].weight"),
                "under the holdout it is that of the stage before",
            );
        }
        if plan.lacks_baseline(index) {
            note_skipped(&format!("stages[{index}]"), stage, &mut notes);
        }
    }
    people::note(plan, &mut notes);
    notes.0
}

fn note_skipped(path: &str, stage: &Stage, notes: &mut Faults) {
    for (name, list) in [("hold", &stage.hold), ("rollback", &stage.rollback)] {
        for (place, condition) in list.iter().enumerate() {
            if condition.needs_baseline_traffic() {
                let why = format!("{condition} is skipped: there is no baseline at 100%");
                notes.add(&format!("{path}.{name}[{place}]"), why);
            }
        }
    }
}

fn check_gate(parts: &PlanParts, faults: &mut Faults) {
    let gate = &parts.gate;
    if !(0.0..=1.0).contains(&gate.baseline_min_healthy) {
        faults.add(
            "baseline_min_healthy",
            format!("{} is not between 0% and 100%", gate.baseline_min_healthy),
        );
    }
    if !(gate.speed.is_finite() && gate.speed > 0.0) {
        faults.add(
            "gate.speed",
            format!("{} is not a number above 0", gate.speed),
        );
    }
    let evidence = &gate.evidence;
    if !(evidence.alpha > 0.0 && evidence.alpha <= MOST_ALPHA) {
        let why = format!("{} is not above 0 and at most {MOST_ALPHA}", evidence.alpha);
        faults.add("gate.alpha", why);
    }
    if !(1.0..=MOST_MARGIN).contains(&evidence.odds_margin) {
        let why = format!(
            "{} is not between 1 and {MOST_MARGIN}",
            evidence.odds_margin
        );
        faults.add("gate.odds_margin", why);
    }
    if gate.min_segment_requests == 0 {
        faults.add(
            "gate.min_segment_requests",
            "0 would compare nothing; 1 is the least",
        );
    }
    if let Some(tripwire) = &gate.tripwire {
        check_condition("gate.tripwire", tripwire, List::Tripwire, faults);
    }
}

// What tells segments apart must be told what a segment is.
fn check_segments(parts: &PlanParts, faults: &mut Faults) {
    if parts.identity.segment.is_some() {
        return;
    }
    for (index, stage) in parts.stages.iter().enumerate() {
        for (name, _, conditions) in lists(stage) {
            for (place, condition) in conditions.iter().enumerate() {
                if condition.reads_segments() {
                    let why = format!("{condition}: the rollout tells no segments apart");
                    faults.add(&format!("stages[{index}].{name}[{place}]"), why);
                }
            }
        }
    }
}

fn check_names(stages: &[Stage], faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, stage) in stages.iter().enumerate() {
        if !seen.insert(&stage.name) {
            faults.add(
                &format!("stages[{index}].name"),
                format!("{:?} stands twice", stage.name.as_str()),
            );
        }
    }
}

fn check_order(stages: &[Stage], faults: &mut Faults) {
    for (index, pair) in stages.windows(2).enumerate() {
        if let [before, after] = pair
            && after.weight <= before.weight
        {
            let why = format!(
                "stage order: {} is not above {} of the stage before",
                after.weight, before.weight
            );
            faults.add(&format!("stages[{}].weight", index + 1), why);
        }
    }
}

fn check_stage(path: &str, stage: &Stage, holdout: Weight, faults: &mut Faults) {
    let mut add = |key: &str, why: String| faults.add(&format!("{path}.{key}"), why);
    if stage.weight.is_zero() {
        add("weight", "0% carries nobody".to_owned());
    }
    if stage.duration < SHORTEST {
        add(
            "duration",
            format!("{} is shorter than 1s", format_duration(stage.duration)),
        );
    }
    for (key, requests) in [
        ("min_requests", stage.min_requests),
        ("min_window_requests", stage.min_window_requests),
    ] {
        if requests == 0 {
            add(key, "0 would decide on nothing; 1 is the least".to_owned());
        }
    }
    if let OnFailure::Fallback(weight) = stage.on_failure {
        if weight.is_zero() {
            add(
                "on_failure.weight",
                "0% is a rollback: say \"rollback\"".to_owned(),
            );
        } else if weight >= stage.weight {
            add(
                "on_failure.weight",
                format!("{weight} is not below the stage's own {}", stage.weight),
            );
        }
    }
    if stage.on_rollback >= stage.weight && !stage.on_rollback.is_zero() {
        let why = format!(
            "{} is not below the stage's own {}",
            stage.on_rollback, stage.weight
        );
        add("on_rollback.weight", why);
    }
    for (key, why) in stage.hooks.faults() {
        faults.add(&format!("{path}.{key}"), why);
    }
    check_checkpoints(path, stage, faults);
    check_lists(path, stage, faults);
    if holdout.is_zero() && stage.weight == Weight::FULL {
        check_needs_baseline(path, stage, faults);
    }
}

fn check_checkpoints(path: &str, stage: &Stage, faults: &mut Faults) {
    let mut before = Duration::ZERO;
    for (place, &due) in stage.checkpoints.iter().enumerate() {
        let shown = format_duration(due);
        let path = format!("{path}.checkpoints[{place}]");
        if due <= before {
            faults.add(
                &path,
                format!("{shown} is not after {}", format_duration(before)),
            );
        }
        if due > stage.duration {
            faults.add(
                &path,
                format!(
                    "{shown} is after the stage's end at {}",
                    format_duration(stage.duration)
                ),
            );
        }
        before = before.max(due);
    }
}

fn check_lists(path: &str, stage: &Stage, faults: &mut Faults) {
    for (name, list, conditions) in lists(stage) {
        for (place, condition) in conditions.iter().enumerate() {
            check_condition(&format!("{path}.{name}[{place}]"), condition, list, faults);
        }
    }
}

fn lists(stage: &Stage) -> [(&'static str, List, &Vec<Condition>); 3] {
    [
        ("advance", List::Advance, &stage.advance),
        ("hold", List::Hold, &stage.hold),
        ("rollback", List::Rollback, &stage.rollback),
    ]
}

fn check_condition(path: &str, condition: &Condition, list: List, faults: &mut Faults) {
    let mut add = |why: &str| faults.add(path, format!("{condition}: {why}"));
    if condition.regression().is_some() && matches!(list, List::Advance | List::Tripwire) {
        add("evidence belongs to `hold` and `rollback`");
    }
    if list == List::Advance && !condition.sustained.is_zero() {
        add("`for` says how long a breach must last; a criterion takes `over` or `throughout`");
    }
    if list != List::Advance && condition.throughout {
        add("`throughout` belongs to `advance`");
    }
    if condition.throughout && condition.over.is_some() {
        add("`throughout` reads whole intervals, so it takes no `over`");
    }
    if condition.per_segment && !condition.metric.is_of_requests() {
        add("requests alone are told apart by segment");
    }
    if list == List::Tripwire && condition.reads_segments() {
        add("the tripwire is for everybody");
    }
    if condition.over.is_some_and(|over| over < SHORTEST) {
        add("a window shorter than 1s is not measured");
    }
    let value = condition.value;
    match condition.unit() {
        Unit::Share if !may_be_any(condition) && !(0.0..=1.0).contains(&value) => {
            add("a share lies between 0% and 100%");
        }
        Unit::Latency if !(LATENCY_MIN_US as f64..=LATENCY_MAX_US as f64).contains(&value) => {
            add("latencies are told apart between 100us and 2m");
        }
        Unit::Share | Unit::Latency | Unit::Rate | Unit::Count | Unit::Number => {}
    }
}

// A change may be negative, and larger than the whole.
fn may_be_any(condition: &Condition) -> bool {
    condition.selector == Selector::Delta || matches!(condition.metric, Metric::Signal(_))
}

fn check_needs_baseline(path: &str, stage: &Stage, faults: &mut Faults) {
    for (place, condition) in stage.advance.iter().enumerate() {
        if condition.needs_baseline_traffic() {
            let why = format!("{condition}: there is no baseline at 100% without a holdout");
            faults.add(&format!("{path}.advance[{place}]"), why);
        }
    }
}

impl Faults {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(PlanFault {
            path: path.to_owned(),
            message: message.into(),
            unknown: None,
        });
    }
}

#[cfg(test)]
mod tests;
