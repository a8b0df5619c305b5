//! The plan, or the faults, as JSON.

use serde_json::{Value, json};

use super::people::stabilization_json;
use super::{detects, notes, printed, rate_needed, weight_of};
use crate::calendar::moment_text;
use crate::config::{Config, Fault, How, Origin};
use crate::rollout::name::RoleName;
use crate::rollout::plan::{OnSuccess, Plan};
use crate::rollout::stats::detectable::CHANCE;
use crate::rollout::time::format_duration;

pub(super) fn faults(file: &str, faults: &[Fault]) -> String {
    let faults: Vec<Value> = faults
        .iter()
        .map(|fault| json!({ "file": fault.file, "line": fault.line, "key": fault.key, "message": fault.message }))
        .collect();
    let shown = json!({ "file": file, "valid": false, "faults": faults });
    format!("{shown:#}\n")
}

pub(super) fn plans(file: &str, config: &Config) -> String {
    let rollouts: Vec<Value> = config
        .rollouts
        .values()
        .map(|rollout| {
            let mirror = rollout.mirror.as_ref().map(ToString::to_string);
            let mut shown = plan_json(&rollout.plan);
            shown["mirror"] = json!(mirror);
            shown
        })
        .collect();
    let environment: Vec<Value> = config
        .environment
        .iter()
        .map(|Origin { key, variable, how }| {
            let how = match how {
                How::Override => "override",
                How::Template => "template",
                How::Default => "default",
            };
            json!({ "key": key, "variable": variable, "how": how })
        })
        .collect();
    let shown = json!({
        "file": file,
        "valid": true,
        "rollouts": rollouts,
        "environment": environment,
        "notes": notes(config),
    });
    format!("{shown:#}\n")
}

fn plan_json(plan: &Plan) -> Value {
    let stages: Vec<Value> = (0..plan.stages.len())
        .map(|index| stage_json(plan, index))
        .collect();
    json!({
        "rollout": plan.rollout.as_str(),
        "baseline": plan.identity.baseline.as_str(),
        "canary": plan.identity.canary.as_str(),
        "salt": plan.identity.salt,
        "learner": plan.identity.learner,
        "tripwire": plan.gate.tripwire.as_ref().map(ToString::to_string),
        "stages": stages,
        "stabilization": stabilization_json(plan),
    })
}

fn stage_json(plan: &Plan, index: usize) -> Value {
    let stage = &plan.stages[index];
    let weight = weight_of(plan, index);
    let checkpoints: Vec<String> = stage
        .checkpoints
        .iter()
        .map(|at| format_duration(*at))
        .collect();
    let approvers: Vec<&str> = match &stage.on_success {
        OnSuccess::Approve(roles) => roles.iter().map(RoleName::as_str).collect(),
        OnSuccess::Advance | OnSuccess::Hold => Vec::new(),
    };
    json!({
        "name": stage.name.as_str(),
        "weight": weight.share(),
        "duration": format_duration(stage.duration),
        "warmup": format_duration(stage.warmup),
        "max_extension": format_duration(stage.max_extension),
        "checkpoints": checkpoints,
        "min_requests": stage.min_requests,
        "requests_per_second_needed": rate_needed(stage, weight),
        "detectable": detectable_json(plan, index),
        "advance": printed(&stage.advance),
        "hold": printed(&stage.hold),
        "rollback": printed(&stage.rollback),
        "approvers": approvers,
        "start_at": stage.schedule.start_at.map(moment_text),
        "window": stage.schedule.window.as_ref().map(ToString::to_string),
    })
}

/// `null` where the stage sees nothing against baseline.
fn detectable_json(plan: &Plan, index: usize) -> Value {
    detects::of_stage(plan, index).map_or(Value::Null, |found| {
        json!({
            "baseline_error_rate": detects::BASE_RATE,
            "error_rate": found.rate,
            "ratio": found.ratio,
            "odds_ratio": found.odds_ratio,
            "chance": CHANCE,
        })
    })
}
