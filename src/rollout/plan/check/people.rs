//! Faults of what a plan asks of people and of the calendar: approvers, starts, the stabilization.
//!
//! Reads a plan and never changes it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Faults, List, SHORTEST, check_condition};
use crate::rollout::condition::Condition;
use crate::rollout::plan::stabilization::{NAME, ROUTINE};
use crate::rollout::plan::{OnSuccess, PlanParts, Stabilization, Stage};
use crate::rollout::time::format_duration;
use crate::rollout::weight::Weight;

/// Reports of one level: every few seconds for weeks is what the samples are for.
const MOST_REPORTS: u128 = 10_000;

pub(super) fn check(parts: &PlanParts, faults: &mut Faults) {
    for (index, stage) in parts.stages.iter().enumerate() {
        check_approvers(&format!("stages[{index}].approvers"), stage, faults);
    }
    check_starts(&parts.stages, faults);
    if let Some(settling) = &parts.stabilization {
        check_stabilization(parts, settling, faults);
    }
}

/// Starts that the stages before them cannot be ready for.
pub(super) fn note(parts: &PlanParts, notes: &mut Faults) {
    let mut ready: Option<i64> = None;
    for (index, stage) in parts.stages.iter().enumerate() {
        let start = stage.schedule.start_at.map(|at| at.as_unix_millis());
        if let (Some(start), Some(at)) = (start, ready)
            && start < at
        {
            let late = format_duration(Duration::from_millis((at - start).unsigned_abs()));
            let why = format!("the stages before it pass {late} later at the earliest");
            notes.add(&format!("stages[{index}].start_at"), why);
        }
        let takes = i64::try_from((stage.duration + stage.warmup).as_millis()).unwrap_or(i64::MAX);
        let begins = start.into_iter().chain(ready).max();
        ready = begins.map(|begins| begins.saturating_add(takes));
    }
}

fn check_approvers(path: &str, stage: &Stage, faults: &mut Faults) {
    let OnSuccess::Approve(roles) = &stage.on_success else {
        return;
    };
    if roles.is_empty() {
        faults.add(path, "empty: nobody could approve");
    }
    let mut seen = BTreeSet::new();
    for (place, role) in roles.iter().enumerate() {
        if !seen.insert(role) {
            faults.add(
                &format!("{path}[{place}]"),
                format!("{:?} stands twice", role.as_str()),
            );
        }
    }
}

fn check_starts(stages: &[Stage], faults: &mut Faults) {
    let mut before = None;
    for (index, stage) in stages.iter().enumerate() {
        let Some(start) = stage.schedule.start_at else {
            continue;
        };
        let path = format!("stages[{index}].start_at");
        if before.is_some_and(|before| start <= before) {
            faults.add(&path, "it is not after that of a stage before");
        }
        let left = index.checked_sub(1).and_then(|index| stages.get(index));
        if let Some(hours) = left.and_then(|stage| stage.schedule.window.as_ref())
            && !hours.is_open(start)
        {
            faults.add(
                &path,
                format!("the window of the stage before is closed then ({hours})"),
            );
        }
        before = Some(start);
    }
}

fn check_stabilization(parts: &PlanParts, settling: &Stabilization, faults: &mut Faults) {
    let path = "stabilization";
    if settling.duration < SHORTEST {
        faults.add(
            "stabilization.duration",
            format!("{} is shorter than 1s", format_duration(settling.duration)),
        );
    }
    if parts.stages.iter().any(|stage| stage.name.as_str() == NAME) {
        faults.add(path, "a stage has its name");
    }
    let rollback = settling.rollback.as_deref().unwrap_or_default();
    for (name, list, conditions) in [
        ("require", List::Advance, settling.require.as_slice()),
        ("hold", List::Hold, &settling.hold),
        ("rollback", List::Rollback, rollback),
    ] {
        for (place, condition) in conditions.iter().enumerate() {
            check_condition(&format!("{path}.{name}[{place}]"), condition, list, faults);
        }
    }
    let full = parts.stages.last().map(|stage| stage.weight) == Some(Weight::FULL);
    let alone = full && parts.holdout.is_zero();
    for (place, condition) in settling.require.iter().enumerate() {
        check_required(
            &format!("{path}.require[{place}]"),
            condition,
            alone,
            faults,
        );
    }
    check_levels(settling, faults);
}

fn check_required(path: &str, condition: &Condition, alone: bool, faults: &mut Faults) {
    if condition.throughout {
        faults.add(
            path,
            format!("{condition}: every day is judged by itself, so it takes no `throughout`"),
        );
    }
    if alone && condition.needs_baseline_traffic() {
        faults.add(
            path,
            format!("{condition}: there is no baseline at 100% without a holdout"),
        );
    }
}

fn check_levels(settling: &Stabilization, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    let mut total = Duration::ZERO;
    for (place, level) in settling.levels.iter().enumerate() {
        let path = format!("stabilization.levels[{place}]");
        if !seen.insert(level.name.as_str()) || level.name.as_str() == ROUTINE {
            faults.add(
                &format!("{path}.name"),
                format!("{:?} is taken", level.name.as_str()),
            );
        }
        for (key, span) in [("for", level.lasts), ("report", level.report)] {
            if span < SHORTEST {
                let shown = format_duration(span);
                faults.add(
                    &format!("{path}.{key}"),
                    format!("{shown} is shorter than 1s"),
                );
            }
        }
        if level.lasts.as_millis() / level.report.as_millis().max(1) > MOST_REPORTS {
            faults.add(
                &format!("{path}.report"),
                format!("more than {MOST_REPORTS} reports"),
            );
        }
        total = total.saturating_add(level.lasts);
    }
    if total > settling.duration {
        faults.add(
            "stabilization.levels",
            format!(
                "together they last {} of {}",
                format_duration(total),
                format_duration(settling.duration)
            ),
        );
    }
}
