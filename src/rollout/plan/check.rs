//! Every fault of a plan at once, each with the key it stands at, and what is legal but idle.
//!
//! Reads a plan and never changes it. What one condition may say by itself is the grammar's matter.

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
    if let Some(tripwire) = &gate.tripwire {
        check_condition("gate.tripwire", tripwire, List::Tripwire, faults);
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
    for (name, list, conditions) in [
        ("advance", List::Advance, &stage.advance),
        ("hold", List::Hold, &stage.hold),
        ("rollback", List::Rollback, &stage.rollback),
    ] {
        for (place, condition) in conditions.iter().enumerate() {
            check_condition(&format!("{path}.{name}[{place}]"), condition, list, faults);
        }
    }
}

fn check_condition(path: &str, condition: &Condition, list: List, faults: &mut Faults) {
    let mut add = |why: &str| faults.add(path, format!("{condition}: {why}"));
    if list == List::Advance && !condition.sustained.is_zero() {
        add("`for` says how long a breach must last; a criterion takes `over` or `throughout`");
    }
    if list != List::Advance && condition.throughout {
        add("`throughout` belongs to `advance`");
    }
    if condition.throughout && condition.over.is_some() {
        add("`throughout` reads whole intervals, so it takes no `over`");
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
mod tests {
    use super::*;
    use crate::rollout::name::{PoolName, RolloutName, StageName};
    use crate::rollout::plan::{GateParts, Identity, OnSuccess};

    pub(super) fn conditions(texts: &[&str]) -> Vec<Condition> {
        let parse = |text: &&str| Condition::parse(text).expect(text);
        texts.iter().map(parse).collect()
    }

    fn stage(name: &str, weight: &str) -> Stage {
        Stage {
            name: StageName::parse(name).expect(name),
            weight: Weight::parse(weight).expect(weight),
            duration: Duration::from_secs(7200),
            warmup: Duration::from_secs(60),
            checkpoints: vec![Duration::from_secs(900), Duration::from_secs(7200)],
            min_requests: 1000,
            min_window_requests: 20,
            max_extension: Duration::from_secs(7200),
            advance: conditions(&["error_rate < 1%"]),
            hold: conditions(&["client_error_rate{delta} > 50% for 2m"]),
            rollback: conditions(&["p99 > 250ms for 5m"]),
            on_success: OnSuccess::Advance,
            on_failure: OnFailure::Hold,
            on_rollback: Weight::ZERO,
        }
    }

    pub(super) fn parts() -> PlanParts {
        PlanParts {
            rollout: RolloutName::parse("analyzer").expect("a name"),
            identity: Identity {
                baseline: PoolName::parse("original").expect("a name"),
                canary: PoolName::parse("ultra_fast").expect("a name"),
                salt: "s".to_owned(),
                learner: vec!["header:x-learner-id".to_owned()],
                segment: None,
            },
            version: String::new(),
            holdout: Weight::ZERO,
            gate: GateParts {
                outage_patience: Duration::from_secs(300),
                max_gap: Duration::from_secs(300),
                cooldown: Duration::from_secs(600),
                baseline_min_healthy: 0.5,
                tripwire: Condition::parse("error_rate > 50% for 0s over 1s").ok(),
                speed: 1.0,
            },
            signals: Vec::new(),
            stages: vec![
                stage("canary", "1%"),
                stage("ramp", "10%"),
                stage("rollout", "100%"),
            ],
        }
    }

    fn check(change: impl FnOnce(&mut PlanParts), path: &str, word: &str) {
        let mut parts = parts();
        change(&mut parts);
        let faults = Plan::build(parts).expect_err(path);
        let found = faults
            .iter()
            .any(|fault| fault.path == path && fault.message.contains(word));
        assert!(found && faults.len() == 1, "{path} ({word}): {faults:?}");
    }

    #[test]
    fn every_fault_has_its_place() {
        Plan::build(parts()).expect("the plan is valid as it stands");
        let weight = |text: &str| Weight::parse(text).expect(text);
        check(|p| p.stages.clear(), "stages", "no stage");
        check(
            |p| p.identity.canary = p.identity.baseline.clone(),
            "canary",
            "baseline as well",
        );
        check(
            |p| p.stages[1].name = p.stages[0].name.clone(),
            "stages[1].name",
            "twice",
        );
        check(
            |p| p.stages[1].weight = weight("1%"),
            "stages[1].weight",
            "stage order",
        );
        check(
            |p| p.stages[1].weight = weight("0.9999%"),
            "stages[1].weight",
            "stage order",
        );
        check(
            |p| p.stages[0].weight = Weight::ZERO,
            "stages[0].weight",
            "nobody",
        );
        check(
            |p| p.stages[0].min_requests = 0,
            "stages[0].min_requests",
            "1 is the least",
        );
        check(
            |p| p.stages[0].min_window_requests = 0,
            "stages[0].min_window_requests",
            "1 is the least",
        );
        check(
            |p| p.stages[0].on_rollback = weight("1%"),
            "stages[0].on_rollback.weight",
            "not below",
        );
        let fallback = |text| OnFailure::Fallback(weight(text));
        check(
            |p| p.stages[1].on_failure = fallback("10%"),
            "stages[1].on_failure.weight",
            "not below",
        );
        check(
            |p| p.stages[1].on_failure = fallback("0%"),
            "stages[1].on_failure.weight",
            "say \"rollback\"",
        );
        check(
            |p| p.gate.baseline_min_healthy = 1.01,
            "baseline_min_healthy",
            "between",
        );
        check(
            |p| p.gate.baseline_min_healthy = f64::NAN,
            "baseline_min_healthy",
            "between",
        );
        check(|p| p.gate.speed = 0.0, "gate.speed", "above 0");
    }

    #[test]
    fn times_have_an_order() {
        let seconds = |list: &[u64]| list.iter().map(|&s| Duration::from_secs(s)).collect();
        let short = Duration::from_millis(999);
        check(
            |p| {
                p.stages[0].duration = short;
                p.stages[0].checkpoints.clear();
            },
            "stages[0].duration",
            "shorter than 1s",
        );
        check(
            |p| p.stages[0].checkpoints = seconds(&[0]),
            "stages[0].checkpoints[0]",
            "not after",
        );
        check(
            |p| p.stages[0].checkpoints = seconds(&[9, 9]),
            "stages[0].checkpoints[1]",
            "not after",
        );
        check(
            |p| p.stages[0].checkpoints = seconds(&[7201]),
            "stages[0].checkpoints[0]",
            "after the stage's end",
        );
    }

    #[test]
    fn each_list_takes_what_makes_sense_in_it() {
        let at = |text: &str, place: &str, word: &str| {
            let condition = Condition::parse(text).expect(text);
            let list = place.split('[').next().expect("a list");
            check(
                |p| match list {
                    "advance" => p.stages[2].advance[0] = condition,
                    "hold" => p.stages[2].hold[0] = condition,
                    "rollback" => p.stages[2].rollback[0] = condition,
                    other => panic!("{other} is no list"),
                },
                &format!("stages[2].{place}"),
                word,
            );
        };
        at(
            "error_rate < 1% for 2m",
            "advance[0]",
            "takes `over` or `throughout`",
        );
        at(
            "error_rate > 1% throughout",
            "rollback[0]",
            "belongs to `advance`",
        );
        at(
            "error_rate < 1% over 1m throughout",
            "advance[0]",
            "takes no `over`",
        );
        at("error_rate > 1% over 999ms", "hold[0]", "shorter than 1s");
        at("error_rate > 100.1%", "rollback[0]", "between 0% and 100%");
        at("p99 > 99us", "rollback[0]", "100us");
        at("p99 > 2m1s", "rollback[0]", "2m");
        at("p95{delta} < 15%", "advance[0]", "no baseline at 100%");
        check(
            |p| p.gate.tripwire = Condition::parse("error_rate > 101%").ok(),
            "gate.tripwire",
            "between",
        );
        let mut fine = parts();
        fine.gate.tripwire = Condition::parse("p99 > 100us over 1s").ok();
        fine.stages[1].advance = conditions(&["|p95{delta}| < 150%", "incidents == 0 throughout"]);
        fine.stages[2].rollback = conditions(&["p99{delta} > 100%", "p99 > 2m for 5m"]);
        Plan::build(fine).expect("all of it is legal");
    }

    #[test]
    fn all_faults_come_at_once() {
        let mut parts = parts();
        parts.holdout = Weight::FULL;
        parts.stages[0].weight = Weight::ZERO;
        parts.stages[1].min_requests = 0;
        parts.stages[2].rollback = conditions(&["p99 > 1us"]);
        let paths: Vec<String> = Plan::build(parts)
            .expect_err("four faults")
            .into_iter()
            .map(|f| f.path)
            .collect();
        assert_eq!(
            paths,
            [
                "holdout",
                "stages[0].weight",
                "stages[1].min_requests",
                "stages[2].rollback[0]"
            ]
        );
    }

    #[test]
    fn what_is_skipped_is_said() {
        let plan = Plan::build(parts()).expect("valid");
        let notes: Vec<String> = plan.notes().iter().map(PlanFault::to_string).collect();
        assert_eq!(
            notes,
            [
                "stages[2].hold[0]: client_error_rate{delta} > 50% for 2m is skipped: there is no baseline at 100%"
            ]
        );
        let mut held_out = parts();
        held_out.holdout = Weight::parse("1%").expect("a weight");
        let plan = Plan::build(held_out).expect("valid");
        let notes: Vec<String> = plan.notes().iter().map(PlanFault::to_string).collect();
        assert_eq!(notes, ["stages[2].weight: the holdout caps it at 99%"]);
        assert_eq!(plan.stage_weight(2), Weight::parse("99%").ok());
        assert_eq!(plan.final_weight(), Weight::FULL);
    }

    #[test]
    fn the_limits_to_count_are_those_of_every_stage() {
        let mut parts = parts();
        parts.stages[0].advance = conditions(&[
            "p99 < 200ms",
            "p95{delta} < 15%",
            "p50{baseline} < 90ms over 10m",
        ]);
        let plan = Plan::build(parts).expect("valid");
        assert_eq!(plan.latency_limits_us(), [90_000, 200_000, 250_000]);
        assert_eq!(
            plan.largest_latency_limit(0),
            Some(Duration::from_millis(250))
        );
        assert_eq!(plan.largest_latency_limit(3), None);
        assert_eq!(plan.longest_window(), Duration::from_secs(600));
    }
}
