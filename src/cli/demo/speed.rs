//! The client's plan on a faster clock: stages, checkpoints, `for` and `over` divided when the plan is built.
//!
//! Slots, ticks, probes and latencies stay real. Nothing but the demo runs a plan at another speed.

use std::time::Duration;

use crate::rollout::condition::Condition;
use crate::rollout::plan::{Plan, PlanFault, PlanParts, Stabilization, Stage};

/// Nothing of a plan becomes shorter than this: the gate observes in seconds.
const SHORTEST: Duration = Duration::from_secs(1);
/// The warm-up of a demo's stage, whatever the speed: real connections need real time.
const WARM_UP: Duration = Duration::from_secs(2);

/// The same plan, `factor` times as fast (1 or more).
pub(super) fn sped_up(plan: &Plan, factor: f64) -> Result<Plan, Vec<PlanFault>> {
    let mut parts: PlanParts = (**plan).clone();
    parts.gate.speed = factor;
    parts.gate.outage_patience = divided(parts.gate.outage_patience, factor);
    parts
        .stages
        .iter_mut()
        .for_each(|stage| speed_up(stage, factor));
    if let Some(settling) = &mut parts.stabilization {
        speed_up_stabilization(settling, factor);
    }
    Plan::build(parts)
}

fn speed_up(stage: &mut Stage, factor: f64) {
    stage.duration = divided(stage.duration, factor);
    stage.max_extension = divided(stage.max_extension, factor);
    stage.warmup = WARM_UP;
    for checkpoint in &mut stage.checkpoints {
        *checkpoint = divided(*checkpoint, factor);
    }
    // Checkpoints that would fall together at this speed are one.
    stage.checkpoints.dedup();
    let conditions = [&mut stage.advance, &mut stage.hold, &mut stage.rollback];
    conditions
        .into_iter()
        .flatten()
        .for_each(|condition| speed_up_condition(condition, factor));
}

fn speed_up_stabilization(settling: &mut Stabilization, factor: f64) {
    settling.duration = divided(settling.duration, factor);
    for level in &mut settling.levels {
        level.lasts = divided(level.lasts, factor);
        level.report = divided(level.report, factor);
    }
    let rollback = settling.rollback.iter_mut().flatten();
    let others = settling.require.iter_mut().chain(&mut settling.hold);
    others
        .chain(rollback)
        .for_each(|condition| speed_up_condition(condition, factor));
}

fn speed_up_condition(condition: &mut Condition, factor: f64) {
    condition.sustained = divided(condition.sustained, factor);
    condition.over = condition.over.map(|over| divided(over, factor));
}

/// Divided by the factor to the millisecond, not below a second; nothing stays nothing.
fn divided(span: Duration, factor: f64) -> Duration {
    if span.is_zero() {
        return span;
    }
    let millis = (span.as_secs_f64() * 1_000.0 / factor).round();
    Duration::from_millis(millis as u64).max(SHORTEST)
}
