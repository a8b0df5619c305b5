//! What an action will do, in sentences with the numbers of this rollout: what is confirmed is read first.

use super::action::{Action, Order};
use crate::admin::wire::RolloutAnswer;
use crate::cli::figures::{percent, span};
use crate::records::plan::{OnSuccessRecord, StageRecord};
use crate::records::status::StatusRecord;
use crate::rollout::gate::Phase;
use crate::rollout::verdict::{Purpose, Verdict};

pub(super) fn sentences(order: &Order, answer: &RolloutAnswer) -> Vec<String> {
    let status = &answer.status;
    let mut lines = match order.action {
        Action::Rollback => vec![back(status), again(status)],
        Action::Abort => vec![
            back(status),
            "The run ends and its plan is let go.".to_owned(),
        ],
        Action::Hold => vec![
            format!(
                "The rollout stays at {}; the next step waits for a person.",
                weight(status)
            ),
            ARMED.to_owned(),
        ],
        Action::Pause => vec![
            format!("The stage's clock stops; {} stays.", weight(status)),
            ARMED.to_owned(),
        ],
        Action::Resume => vec![format!(
            "Every cause of the hold ends, and the windows of figures begin anew: {}.",
            to_stage(status)
        )],
        Action::Retry => vec![format!(
            "Stage {} begins again, {} into it: {}.",
            status.stage.as_deref().unwrap_or("-"),
            span(status.stage_time_ms),
            to_stage(status)
        )],
        Action::Advance => advance(order, status),
        Action::Start => start(order, answer),
        Action::Approve => approve(order, status),
        Action::Reject => vec![format!("The rollout is held at {}.", weight(status))],
        Action::Freeze => vec![
            format!(
                "Nothing goes towards {} until somebody ends it.",
                status.pools.canary
            ),
            ARMED.to_owned(),
        ],
        Action::Unfreeze => vec!["The freeze ends: what waited for that goes on.".to_owned()],
    };
    lines.retain(|line| !line.is_empty());
    lines
}

const ARMED: &str = "Triggers stay armed: a bad canary is still rolled back.";

/// `ultra_fast at 10%`.
fn weight(status: &StatusRecord) -> String {
    format!("{} at {}", status.pools.canary, percent(status.weight))
}

fn back(status: &StatusRecord) -> String {
    let (baseline, canary) = (&status.pools.baseline, &status.pools.canary);
    match status.weight_ppm {
        0 => format!(
            "Everybody is on {baseline} already; {canary} is closed to pinned learners, too."
        ),
        _ => format!(
            "Everybody goes to {baseline} at once: {canary} {} -> 0%.",
            percent(status.weight)
        ),
    }
}

fn again(status: &StatusRecord) -> String {
    match &status.plan {
        Some(plan) if status.phase.is_in_a_run() => format!(
            "The run is over; for {} a new start needs force.",
            plan.gate.cooldown
        ),
        Some(_) | None => String::new(),
    }
}

/// `ultra_fast 5% -> 10%`, or that it stays.
fn to_stage(status: &StatusRecord) -> String {
    match stage(status, 0) {
        Some(stage) => moved(status, stage),
        None => format!("{} stays", weight(status)),
    }
}

fn moved(status: &StatusRecord, stage: &StageRecord) -> String {
    let (canary, now) = (&status.pools.canary, percent(status.weight));
    match now == stage.weight {
        true => format!("{canary} stays at {now}"),
        false => format!("{canary} {now} -> {}", stage.weight),
    }
}

/// The stage in force, or the one so many after it.
fn stage(status: &StatusRecord, after: usize) -> Option<&StageRecord> {
    status
        .plan
        .as_ref()?
        .stages
        .get(status.stage_index? + after)
}

fn next(status: &StatusRecord) -> String {
    let stabilizes = status
        .plan
        .as_ref()
        .is_some_and(|plan| plan.stabilization.is_some());
    match stage(status, 1) {
        _ if status.phase == Phase::Scheduled => match stage(status, 0) {
            Some(first) => format!("Stage {} begins now: {}.", first.name, moved(status, first)),
            None => "The first stage begins now.".to_owned(),
        },
        _ if status.phase == Phase::Stabilizing => "The rollout is complete.".to_owned(),
        Some(next) => format!("Goes on to stage {}: {}.", next.name, moved(status, next)),
        None if stabilizes => "The last stage is over; the stabilization begins.".to_owned(),
        None => format!("The rollout is complete, {}.", weight(status)),
    }
}

fn advance(order: &Order, status: &StatusRecord) -> Vec<String> {
    let mut lines = vec![next(status)];
    let unmet = unmet(status);
    if !unmet.is_empty() {
        lines.push(format!("NOT MET now: {}.", unmet.join("; ")));
    }
    lines.push(match order.force {
        true => "FORCED: over unmet criteria, missing approvals and the time left.".to_owned(),
        false => "The gate refuses it while criteria, approvals or time are missing.".to_owned(),
    });
    lines
}

/// Criteria of the stage that have not passed.
fn unmet(status: &StatusRecord) -> Vec<String> {
    let unmet = status
        .evaluations
        .iter()
        .filter(|one| one.purpose == Purpose::Advance && one.verdict != Verdict::Pass);
    unmet
        .map(|one| {
            let figure = crate::cli::figures::value(one.figure, one.unit);
            format!("{} ({figure})", one.condition)
        })
        .collect()
}

fn start(order: &Order, answer: &RolloutAnswer) -> Vec<String> {
    let status = &answer.status;
    let mut lines = Vec::new();
    match status.plan.as_ref().filter(|_| !answer.plan_pending) {
        Some(plan) => {
            let first = plan.stages.first();
            let first = first.map_or_else(String::new, |first| {
                format!(", the first at {} for {}", first.weight, first.duration)
            });
            lines.push(format!(
                "A new run from {} to {} begins: {} stages{first}.",
                plan.baseline,
                plan.canary,
                plan.stages.len()
            ));
        }
        None => lines.push(
            "A new run begins with the plan of the file, which differs from the one shown: `serin check --explain` tells it.".to_owned(),
        ),
    }
    if order.force {
        lines.push("FORCED: over the cooldown after a rollback.".to_owned());
    }
    lines
}

fn approve(order: &Order, status: &StatusRecord) -> Vec<String> {
    let role = order.role.as_deref().unwrap_or("-");
    let missing = status
        .people
        .approval
        .iter()
        .flat_map(|asked| &asked.missing);
    let others: Vec<&str> = missing
        .map(String::as_str)
        .filter(|one| *one != role)
        .collect();
    let seen = order.seen.map_or_else(String::new, |seen| {
        format!(" to the figures of event {seen}")
    });
    let mut lines = vec![format!("You say yes for {role}{seen}.")];
    if !others.is_empty() {
        lines.push(format!("Still missing: {}.", others.join(", ")));
        return lines;
    }
    let wait = match status.people.waits_for.is_empty() {
        true => "Nobody else is missing.",
        false => "Nobody else is missing, but the calendar or a freeze may keep it.",
    };
    lines.extend([wait.to_owned(), next(status)]);
    lines
}

/// The roles that a stage's end asks, where it asks any.
pub(super) fn roles(status: &StatusRecord) -> Vec<String> {
    if let Some(asked) = &status.people.approval {
        return asked.missing.clone();
    }
    match stage(status, 0).map(|stage| &stage.on_success) {
        Some(OnSuccessRecord::Approve(roles)) => roles.clone(),
        Some(OnSuccessRecord::Advance | OnSuccessRecord::Hold) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, order};
    use super::*;

    fn check(answer: &RolloutAnswer, order: &Order, expected: &[&str]) {
        assert_eq!(sentences(order, answer), expected, "{:?}", order.action);
    }

    #[test]
    fn the_effect_is_told_with_the_numbers_of_the_rollout() {
        let mut answer = answer();
        let plain = |action| order(action, "x");
        check(
            &answer,
            &plain(Action::Rollback),
            &[
                "Everybody goes to original at once: ultra_fast 10% -> 0%.",
                "The run is over; for 10m a new start needs force.",
            ],
        );
        check(
            &answer,
            &plain(Action::Pause),
            &["The stage's clock stops; ultra_fast at 10% stays.", ARMED],
        );
        check(
            &answer,
            &plain(Action::Advance),
            &[
                "Goes on to stage rollout: ultra_fast 10% -> 100%.",
                "NOT MET now: p99 < 200ms (231ms).",
                "The gate refuses it while criteria, approvals or time are missing.",
            ],
        );
        let forced = Order {
            force: true,
            ..plain(Action::Advance)
        };
        assert!(sentences(&forced, &answer)[2].starts_with("FORCED"));
        check(
            &answer,
            &plain(Action::Retry),
            &["Stage ramp begins again, 43m into it: ultra_fast stays at 10%."],
        );
        answer.status.weight = 0.05;
        check(
            &answer,
            &plain(Action::Resume),
            &[
                "Every cause of the hold ends, and the windows of figures begin anew: ultra_fast 5% -> 10%.",
            ],
        );
        answer.status.stage_index = Some(2);
        assert_eq!(
            sentences(&plain(Action::Advance), &answer)[0],
            "The rollout is complete, ultra_fast at 5%."
        );
    }

    #[test]
    fn a_start_says_which_plan_it_begins() {
        let mut answer = answer();
        answer.status.phase = Phase::RolledBack;
        let start = order(Action::Start, "mended");
        check(
            &answer,
            &start,
            &["A new run from original to ultra_fast begins: 3 stages, the first at 1% for 2h."],
        );
        answer.plan_pending = true;
        assert!(sentences(&start, &answer)[0].contains("which differs from the one shown"));
    }

    #[test]
    fn an_approval_says_who_is_still_missing() {
        let mut answer = answer();
        answer.status.phase = Phase::AwaitingApproval;
        answer.status.people.approval = Some(super::super::examples::approval());
        let mut yes = order(Action::Approve, "read");
        (yes.role, yes.seen) = (Some("finance".to_owned()), Some(12));
        check(
            &answer,
            &yes,
            &[
                "You say yes for finance to the figures of event 12.",
                "Still missing: engineering.",
            ],
        );
        if let Some(asked) = &mut answer.status.people.approval {
            asked.missing = vec!["finance".to_owned()];
        }
        check(
            &answer,
            &yes,
            &[
                "You say yes for finance to the figures of event 12.",
                "Nobody else is missing.",
                "Goes on to stage rollout: ultra_fast 10% -> 100%.",
            ],
        );
    }
}
