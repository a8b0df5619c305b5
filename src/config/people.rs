//! What a plan asks of people and of the calendar, from the file as typed: approvers, schedules, the stabilization.
//!
//! The plan judges it with everything else; here is only what the rest of the file has to say about it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::Faults;
use super::word::Then;
use super::{Role, Rollout, Token, defaults, staged};
use crate::rollout::name::RolloutName;
use crate::rollout::plan::{Level, OnSuccess, Stabilization};
use crate::rollout::schedule::{Days, Hours, Schedule};

/// Approvers without effect, and approvals that no token could give.
pub(super) fn check(
    rollouts: &BTreeMap<RolloutName, Rollout>,
    tokens: &[Token],
    faults: &mut Faults,
) {
    for (name, rollout) in rollouts {
        for (index, stage) in rollout.plan.stages.iter().enumerate() {
            let OnSuccess::Approve(roles) = &stage.on_success else {
                continue;
            };
            let can = |role: &str| {
                let mut all = tokens.iter().flat_map(|token| &token.roles);
                all.any(|may| *may == Role::Approve(role.to_owned()))
            };
            let lost = roles
                .iter()
                .enumerate()
                .filter(|(_, role)| !can(role.as_str()));
            for (place, role) in lost.filter(|_| !tokens.is_empty()) {
                faults.add(
                    &format!("rollouts.{name}.stages[{index}].approvers[{place}]"),
                    format!("no token has the role approve:{role}"),
                );
            }
        }
    }
}

pub(super) fn check_stage(stage: &staged::Stage, key: &str, faults: &mut Faults) {
    if stage.on_success != Then::Approve && !stage.approvers.is_empty() {
        faults.add(
            &format!("{key}.approvers"),
            "without effect: on_success is not \"approve\"",
        );
    }
    if let Some(window) = &stage.window
        && window.days.as_ref().is_some_and(Vec::is_empty)
    {
        faults.add(&format!("{key}.window.days"), "empty: it would never open");
    }
}

pub(super) fn on_success(stage: &staged::Stage) -> OnSuccess {
    match stage.on_success {
        Then::Advance => OnSuccess::Advance,
        Then::Approve => OnSuccess::Approve(stage.approvers.clone()),
        Then::Hold => OnSuccess::Hold,
    }
}

pub(super) fn schedule(stage: &staged::Stage) -> Schedule {
    Schedule {
        start_at: stage.start_at,
        start_grace: stage.start_grace,
        window: stage.window.as_ref().and_then(hours),
    }
}

/// Levels that were not typed are cut to the duration that was.
pub(super) fn stabilization(raw: &staged::Stabilization) -> Stabilization {
    let duration = raw.duration.0;
    let levels = match &raw.levels {
        Some(typed) => typed.iter().filter_map(level).collect(),
        None => cut(defaults::levels(), duration),
    };
    Stabilization {
        duration,
        require: raw.require.clone(),
        hold: raw.hold.clone(),
        rollback: raw.rollback.clone(),
        levels,
    }
}

// `None` after a fault was added.
fn hours(window: &staged::Window) -> Option<Hours> {
    Some(Hours {
        days: window.days.as_ref()?.iter().copied().reduce(Days::and)?,
        daytime: window.hours?,
        zone: window.tz.clone(),
    })
}

fn level(raw: &staged::Level) -> Option<Level> {
    Some(Level {
        name: raw.name.clone()?,
        lasts: raw.r#for?.0,
        report: raw.report?.0,
    })
}

fn cut(levels: Vec<Level>, duration: Duration) -> Vec<Level> {
    let mut left = duration;
    let mut cut = Vec::new();
    for mut level in levels {
        level.lasts = level.lasts.min(left);
        left -= level.lasts;
        if !level.lasts.is_zero() {
            cut.push(level);
        }
    }
    cut
}
