//! What a plan asks of people and of the calendar, in lines and in sentences: approvals, starts, windows, the
//! stabilization.

use serde_json::{Value, json};

use super::printed;
use crate::calendar::moment_text;
use crate::rollout::name::RoleName;
use crate::rollout::plan::{Plan, ROUTINE, Stage};
use crate::rollout::time::format_duration;

pub(super) fn joined(roles: &[RoleName]) -> String {
    roles
        .iter()
        .map(RoleName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// When the stage begins and may be left; nothing where the plan says nothing.
pub(super) fn schedule(stage: &Stage) -> Vec<String> {
    let schedule = &stage.schedule;
    let start = schedule.start_at.map(|at| {
        let grace = format_duration(schedule.start_grace);
        format!(
            "It begins at {}, not before; more than {grace} later it awaits a person",
            moment_text(at)
        )
    });
    let window = schedule.window.as_ref();
    let window = window.map(|hours| format!("It is left only in {hours}"));
    start.into_iter().chain(window).collect()
}

/// The stabilization, one line a thing; nothing where the plan has none.
pub(super) fn stabilization(plan: &Plan) -> Vec<String> {
    let Some(settling) = &plan.stabilization else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "Then it is watched for {} before it is complete",
        format_duration(settling.duration)
    )];
    for level in &settling.levels {
        lines.push(format!(
            "{} for {}, a report every {}",
            level.name,
            format_duration(level.lasts),
            format_duration(level.report)
        ));
    }
    lines.push(format!("what is left is {ROUTINE}"));
    if !settling.require.is_empty() {
        lines.push(format!(
            "a day that fails {} begins it anew",
            printed(&settling.require).join(" or ")
        ));
    }
    for (what, list) in [
        ("holds", settling.hold.as_slice()),
        (
            "goes back",
            settling.rollback.as_deref().unwrap_or_else(|| {
                let last = plan.stages.last();
                last.map_or(&[], |stage| stage.rollback.as_slice())
            }),
        ),
    ] {
        if !list.is_empty() {
            lines.push(format!("it {what} when {}", printed(list).join(" or ")));
        }
    }
    lines
}

/// The same as JSON.
pub(super) fn stabilization_json(plan: &Plan) -> Value {
    plan.stabilization.as_ref().map_or(Value::Null, |settling| {
        let levels: Vec<Value> = settling
            .levels
            .iter()
            .map(|level| {
                json!({
                    "name": level.name.as_str(),
                    "for": format_duration(level.lasts),
                    "report": format_duration(level.report),
                })
            })
            .collect();
        json!({
            "duration": format_duration(settling.duration),
            "require": printed(&settling.require),
            "hold": printed(&settling.hold),
            "rollback": settling.rollback.as_deref().map(printed),
            "levels": levels,
        })
    })
}
