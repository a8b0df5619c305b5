//! Stabilization: the days after the last stage, watched ever less closely, before a rollout is complete.
//!
//! Owns its levels, its days, and how it reads as a stage. Decides nothing.

use std::time::Duration;

use super::{Hooks, OnFailure, OnSuccess, Plan, PlanParts, Stage};
use crate::rollout::condition::Condition;
use crate::rollout::name::StageName;
use crate::rollout::schedule::Schedule;
use crate::rollout::weight::Weight;

/// What the stabilization is called where a stage's name is shown.
pub(super) const NAME: &str = "stabilization";
/// What follows the last level.
pub const ROUTINE: &str = "routine";
/// On the client's clock; a plan at another speed has shorter days.
const DAY: Duration = Duration::from_secs(86_400);
/// Nothing of a plan is shorter.
const SHORTEST: Duration = Duration::from_secs(1);

/// As a person writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stabilization {
    pub duration: Duration,
    /// A day that fails one of these begins the whole anew.
    pub require: Vec<Condition>,
    /// To investigate, not to roll back.
    pub hold: Vec<Condition>,
    /// The last stage's where it is `None`.
    pub rollback: Option<Vec<Condition>>,
    /// In order from the beginning; what is left of the duration is routine.
    pub levels: Vec<Level>,
}

/// How closely a part of the stabilization is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub name: StageName,
    /// How long it lasts.
    pub lasts: Duration,
    /// How often all figures are recorded.
    pub report: Duration,
}

impl Plan {
    /// How long a day of the stabilization is.
    pub fn day(&self) -> Duration {
        day(self)
    }

    /// How many days the stabilization has, a begun one counted whole; at least 1.
    pub fn days(&self) -> u64 {
        let settling = self.stabilization.as_ref();
        let duration = settling.map_or(Duration::ZERO, |settling| settling.duration);
        let days = duration.as_nanos().div_ceil(self.day().as_nanos());
        u64::try_from(days).unwrap_or(u64::MAX).max(1)
    }

    /// The place of the level at a time of the stabilization, and how it is called.
    pub fn level_at(&self, time: Duration) -> Option<(usize, &str)> {
        let levels = &self.stabilization.as_ref()?.levels;
        let mut end = Duration::ZERO;
        for (place, level) in levels.iter().enumerate() {
            end = end.saturating_add(level.lasts);
            if time < end {
                return Some((place, level.name.as_str()));
            }
        }
        Some((levels.len(), ROUTINE))
    }
}

/// The stabilization of these parts as the stage after the last: its reports are checkpoints, its `require` the
/// criteria, and a day more is how long an undecided day may go on.
pub(super) fn as_stage(parts: &PlanParts) -> Option<Stage> {
    let (last, settling) = (parts.stages.last()?, parts.stabilization.as_ref()?);
    let rollback = settling.rollback.as_ref().unwrap_or(&last.rollback);
    Some(Stage {
        name: StageName::parse(NAME).ok()?,
        weight: last.weight,
        duration: settling.duration,
        // The same canary at the same weight is warm.
        warmup: Duration::ZERO,
        checkpoints: reports(settling),
        min_requests: last.min_requests,
        min_window_requests: last.min_window_requests,
        max_extension: day(parts),
        advance: settling.require.clone(),
        hold: settling.hold.clone(),
        rollback: rollback.clone(),
        on_success: OnSuccess::Advance,
        on_failure: OnFailure::Hold,
        on_rollback: Weight::ZERO,
        schedule: Schedule::default(),
        hooks: Hooks::default(),
    })
}

// A demo's clock runs faster, and so do its days.
fn day(parts: &PlanParts) -> Duration {
    DAY.div_f64(parts.gate.speed.max(1.0)).max(SHORTEST)
}

fn reports(settling: &Stabilization) -> Vec<Duration> {
    let mut due = Vec::new();
    let mut begin = Duration::ZERO;
    for level in &settling.levels {
        let end = begin.saturating_add(level.lasts).min(settling.duration);
        let mut next = begin.saturating_add(level.report);
        while next <= end {
            due.push(next);
            next = next.saturating_add(level.report);
        }
        begin = end;
    }
    due
}
