//! What is a fault of a plan and what is none.

use super::*;
use crate::rollout::name::{PoolName, RolloutName, StageName};
use crate::rollout::plan::{EvidenceParts, GateParts, Identity, Mode, OnSuccess};
use crate::rollout::schedule::Schedule;

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
        schedule: Schedule::default(),
        hooks: Default::default(),
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
            segment: Some("header:x-learner-segment".to_owned()),
        },
        version: String::new(),
        holdout: Weight::ZERO,
        gate: GateParts {
            outage_patience: Duration::from_secs(300),
            max_gap: Duration::from_secs(300),
            cooldown: Duration::from_secs(600),
            approval_ttl: Duration::from_secs(43_200),
            escalate_after: Duration::from_secs(1800),
            baseline_min_healthy: 0.5,
            min_segment_requests: 100,
            max_segments: 64,
            max_failed_segments: 2,
            tripwire: Condition::parse("error_rate > 50% for 0s over 1s").ok(),
            evidence: EvidenceParts::default(),
            mode: Mode::Rollout,
            speed: 1.0,
        },
        signals: Vec::new(),
        stages: vec![
            stage("canary", "1%"),
            stage("ramp", "10%"),
            stage("rollout", "100%"),
        ],
        stabilization: None,
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
    check(
        |p| p.gate.min_segment_requests = 0,
        "gate.min_segment_requests",
        "1 is the least",
    );
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
    at("segment_variance < 5%", "advance[0]", "no baseline at 100%");
    at(
        "uptime < 99% for 1m per segment",
        "rollback[0]",
        "told apart by segment",
    );
    at(
        "segment_variance > 5% per segment",
        "rollback[0]",
        "told apart by segment",
    );
    check(
        |p| p.gate.tripwire = Condition::parse("error_rate > 50% over 1s per segment").ok(),
        "gate.tripwire",
        "for everybody",
    );
    for text in ["p99 > 1s for 1m per segment", "segment_variance > 5%"] {
        check(
            |p| {
                p.identity.segment = None;
                p.stages[1].hold = conditions(&[text]);
            },
            "stages[1].hold[0]",
            "tells no segments apart",
        );
    }
    check(
        |p| p.stages[0].advance[0] = Condition::parse("regression(any)").expect("evidence"),
        "stages[0].advance[0]",
        "belongs to `hold` and `rollback`",
    );
    check(
        |p| p.gate.tripwire = Condition::parse("regression(any)").ok(),
        "gate.tripwire",
        "belongs to `hold` and `rollback`",
    );
    check(|p| p.gate.evidence.alpha = 0.0, "gate.alpha", "above 0");
    check(|p| p.gate.evidence.alpha = 0.51, "gate.alpha", "at most");
    check(
        |p| p.gate.evidence.odds_margin = 0.99,
        "gate.odds_margin",
        "between",
    );
    check(
        |p| p.gate.evidence.odds_margin = f64::NAN,
        "gate.odds_margin",
        "between",
    );
    check(
        |p| p.gate.tripwire = Condition::parse("error_rate > 101%").ok(),
        "gate.tripwire",
        "between",
    );
    let mut fine = parts();
    fine.gate.tripwire = Condition::parse("p99 > 100us over 1s").ok();
    fine.stages[1].advance = conditions(&["|p95{delta}| < 150%", "incidents == 0 throughout"]);
    fine.stages[1].hold = conditions(&["segment_variance > 5% for 10m"]);
    fine.stages[2].rollback = conditions(&[
        "p99{delta} > 100%",
        "p99 > 2m for 5m",
        "p99 > 1s per segment",
    ]);
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
