//! The plan in words, for a person who has to say yes to it.

use super::people::{joined, schedule, stabilization};
use super::{detects, environment_text, headline, needs, notes_text, outside, printed, weight_of};
use crate::config::Config;
use crate::rollout::condition::Condition;
use crate::rollout::name::RolloutName;
use crate::rollout::plan::{OnFailure, OnSuccess, Plan, Stage};
use crate::rollout::time::format_duration;
use crate::rollout::weight::Weight;

pub(super) fn plans(file: &str, config: &Config) -> String {
    let mut text = headline(file, config);
    for (name, rollout) in &config.rollouts {
        text += &format!("\n{}", plan_words(name, &rollout.plan));
        for signal in outside::signals(&rollout.signals) {
            text += &format!("Read: {signal}.\n");
        }
        if let Some(mirror) = &rollout.mirror {
            let canary = &rollout.plan.identity.canary;
            text += &format!("Copied to {canary}, in the background: {mirror}.\n");
        }
    }
    if let Some(channels) = outside::channels(config) {
        text += &format!("\nTold of it: {channels}.\n");
    }
    text + &environment_text(config) + &notes_text(config)
}

fn plan_words(name: &RolloutName, plan: &Plan) -> String {
    let identity = &plan.identity;
    let mut text = format!(
        "Rollout {name} moves learners from {} to {}. A learner is known by the first of {} that a request has; \
         a hash of that id and the salt {:?} says who goes first, and a growing share moves nobody back.\n",
        identity.baseline,
        identity.canary,
        identity.learner.join(", "),
        identity.salt,
    );
    if !plan.holdout.is_zero() {
        text += &format!(
            "{} of the learners stay on {} to the end.\n",
            plan.holdout, identity.baseline
        );
    }
    if let Some(tripwire) = &plan.gate.tripwire {
        text += &format!("In every phase {tripwire} goes back at once.\n");
    }
    text += &regression_words(plan);
    for (index, stage) in plan.stages.iter().enumerate() {
        text += &format!("\n{}", stage_words(plan, index, stage));
    }
    let settles = stabilization(plan);
    if !settles.is_empty() {
        text += &format!("\n{}.\n", settles.join("; "));
    }
    text
}

/// What a condition without a number means.
fn regression_words(plan: &Plan) -> String {
    let lists = plan
        .stages
        .iter()
        .flat_map(|stage| [&stage.hold, &stage.rollback]);
    if !lists
        .flatten()
        .any(|condition| condition.regression().is_some())
    {
        return String::new();
    }
    let identity = &plan.identity;
    format!(
        "A regression is evidence that learners on {} fail, or wait, more than those on {} by a factor of {} in the odds; \
         of {} rollouts without one it stops 1 at most.\n",
        identity.canary,
        identity.baseline,
        plan.gate.evidence.odds_margin,
        (1.0 / plan.gate.evidence.alpha).floor(),
    )
}

fn stage_words(plan: &Plan, index: usize, stage: &Stage) -> String {
    let weight = weight_of(plan, index);
    let mut text = format!(
        "Stage {} of {}, {}: {weight} of the learners go to {} for {}, after {} to warm up.\n",
        index + 1,
        plan.stages.len(),
        stage.name,
        plan.identity.canary,
        format_duration(stage.duration),
        format_duration(stage.warmup),
    );
    for line in schedule(stage) {
        text += &format!("{line}.\n");
    }
    for line in outside::hooks(stage) {
        text += &format!("Hooks {line}.\n");
    }
    text += &format!("It needs {}.\n", needs(stage, weight));
    text += &format!(
        "With that many it can see {}.\n",
        detects::text(plan, index)
    );
    if !stage.checkpoints.is_empty() {
        let times: Vec<String> = stage
            .checkpoints
            .iter()
            .map(|at| format_duration(*at))
            .collect();
        text += &format!(
            "It is judged, and that is recorded, at {}.\n",
            times.join(", ")
        );
    }
    text += &sentence(
        "It passes when",
        " and ",
        &stage.advance,
        "Nothing is asked of it but time and requests.\n",
    );
    text += &sentence("It is held when", " or ", &stage.hold, "");
    let retreat = match stage.on_rollback {
        Weight::ZERO => "Everybody goes back when".to_owned(),
        fallback => format!("It falls back to {fallback} and is held when"),
    };
    text += &sentence(&retreat, " or ", &stage.rollback, "");
    text + &end_words(stage)
}

fn end_words(stage: &Stage) -> String {
    let unmet = match stage.on_failure {
        OnFailure::Hold => "the rollout is held for a person".to_owned(),
        OnFailure::Rollback => "everybody goes back".to_owned(),
        OnFailure::Fallback(weight) => {
            format!("the weight goes to {weight} and the rollout is held for a person")
        }
    };
    let met = match &stage.on_success {
        OnSuccess::Advance => String::new(),
        OnSuccess::Approve(roles) => format!(
            "When it has passed, {} have to approve before it goes on. ",
            joined(roles)
        ),
        OnSuccess::Hold => "When it has passed, a person says when to go on. ".to_owned(),
    };
    format!(
        "{met}If it has not passed {} after its time, {unmet}.\n",
        format_duration(stage.max_extension)
    )
}

fn sentence(begin: &str, between: &str, conditions: &[Condition], none: &str) -> String {
    if conditions.is_empty() {
        return none.to_owned();
    }
    format!("{begin} {}.\n", printed(conditions).join(between))
}
