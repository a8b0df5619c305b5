//! The plan as a table: stages with what each needs, then the conditions of each.

use super::people::{joined, schedule, stabilization};
use super::{detects, environment_text, headline, needs, notes_text, outside, printed, weight_of};
use crate::config::Config;
use crate::rollout::plan::{OnFailure, OnSuccess, Plan, Stage};
use crate::rollout::time::format_duration;

pub(super) fn plans(file: &str, config: &Config) -> String {
    let mut text = headline(file, config);
    for rollout in config.rollouts.values() {
        let plan = &rollout.plan;
        let identity = &plan.identity;
        text += &format!(
            "\nrollout {}: {} -> {}\n",
            plan.rollout, identity.baseline, identity.canary
        );
        text += &format!(
            "  learners by {}; salt {:?}\n",
            identity.learner.join(", "),
            identity.salt
        );
        text += &format!("  tripwire {}\n", tripwire(plan));
        for signal in outside::signals(&rollout.signals) {
            text += &format!("  signal {signal}\n");
        }
        if let Some(mirror) = &rollout.mirror {
            text += &format!("  mirror {mirror}\n");
        }
        text.push('\n');
        text += &stage_rows(plan);
        for (index, stage) in plan.stages.iter().enumerate() {
            text += &condition_rows(stage, detects::text(plan, index));
        }
        if let [first, rest @ ..] = stabilization(plan).as_slice() {
            text += &format!("\n  {first}\n");
            text.extend(rest.iter().map(|line| format!("    {line}\n")));
        }
    }
    if let Some(channels) = outside::channels(config) {
        text += &format!("\ntold: {channels}\n");
    }
    text + &environment_text(config) + &notes_text(config)
}

fn stage_rows(plan: &Plan) -> String {
    let mut rows = vec![["stage", "weight", "duration", "warm-up", "needs"].map(str::to_owned)];
    for (index, stage) in plan.stages.iter().enumerate() {
        rows.push([
            stage.name.to_string(),
            weight_of(plan, index).to_string(),
            format_duration(stage.duration),
            format_duration(stage.warmup),
            needs(stage, weight_of(plan, index)),
        ]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .fold(String::new(), |line, (cell, width)| {
                format!("{line}  {cell:width$}")
            });
        text += &format!("{}\n", cells.trim_end());
    }
    text
}

fn condition_rows(stage: &Stage, detects: String) -> String {
    let mut text = format!("\n  {}\n", stage.name);
    let met = match &stage.on_success {
        OnSuccess::Advance => "met: advance".to_owned(),
        OnSuccess::Approve(roles) => format!("met: ask for the approval of {}", joined(roles)),
        OnSuccess::Hold => "met: hold".to_owned(),
    };
    let unmet = match stage.on_failure {
        OnFailure::Hold => "hold".to_owned(),
        OnFailure::Rollback => "roll back".to_owned(),
        OnFailure::Fallback(weight) => format!("go to {weight} and hold"),
    };
    let checkpoints: Vec<String> = stage
        .checkpoints
        .iter()
        .map(|at| format_duration(*at))
        .collect();
    for (name, lines) in [
        ("checkpoints", checkpoints),
        ("advance", printed(&stage.advance)),
        ("hold", printed(&stage.hold)),
        ("rollback", printed(&stage.rollback)),
        ("calendar", schedule(stage)),
        ("hooks", outside::hooks(stage)),
        ("can see", vec![detects]),
        (
            "at the end",
            vec![format!(
                "{met}; not met: up to {} more, then {unmet}",
                format_duration(stage.max_extension)
            )],
        ),
    ] {
        if matches!(name, "calendar" | "hooks") && lines.is_empty() {
            continue;
        }
        let lines = if lines.is_empty() {
            vec!["none".to_owned()]
        } else {
            lines
        };
        let separator = if name == "checkpoints" {
            ", ".to_owned()
        } else {
            format!("\n    {:13}", "")
        };
        text += &format!("    {name:13}{}\n", lines.join(&separator));
    }
    text
}

fn tripwire(plan: &Plan) -> String {
    plan.gate
        .tripwire
        .as_ref()
        .map_or_else(|| "off".to_owned(), ToString::to_string)
}
