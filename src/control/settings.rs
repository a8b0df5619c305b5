//! What the data path needs to know of a rollout, from its gate and its configuration.

use std::time::Duration;

use crate::config::{Config, Rollout};
use crate::live::RolloutSettings;
use crate::rollout::assign::Split;
use crate::rollout::condition::{Metric, Selector};
use crate::rollout::gate::Gate;
use crate::rollout::plan::Stage;

/// How many times the stage's p99 limit a canary attempt may take before baseline answers instead.
const FAILOVER_AFTER_LIMITS: u32 = 4;

/// The settings of a rollout under a split. Outside a run they follow the first stage.
pub(super) fn settings(
    config: &Config,
    rollout: &Rollout,
    gate: &Gate,
    split: Split,
) -> RolloutSettings {
    let plan = gate.plan().unwrap_or(&rollout.plan);
    let index = gate.stage_index();
    let stage = plan.stage(index.unwrap_or(0));
    let answer_head = config
        .pools
        .get(&rollout.plan.identity.canary)
        .map(|pool| pool.timeouts.answer_head);
    let derived = || failover_after(stage, answer_head.filter(|limit| !limit.is_zero()));
    RolloutSettings {
        split,
        latency_limits_us: gate.latency_limits_us(),
        patience: gate.patience(),
        failover_after: rollout.failover_after.or_else(derived),
        injection: gate.injection(),
        stage: index
            .and_then(|index| plan.stage(index))
            .map(|stage| stage.name.clone()),
    }
}

/// 4 times the stage's p99 limit, at most half of `answer_head`, so that baseline has as long again. `None` where
/// neither says anything.
fn failover_after(stage: Option<&Stage>, answer_head: Option<Duration>) -> Option<Duration> {
    let by_limit = stage
        .and_then(p99_limit)
        .map(|limit| limit * FAILOVER_AFTER_LIMITS);
    let by_head = answer_head.map(|whole| whole / 2);
    by_limit.into_iter().chain(by_head).min()
}

/// The largest absolute p99 limit among a stage's criteria and triggers: what the plan still bears is not cut short.
fn p99_limit(stage: &Stage) -> Option<Duration> {
    stage
        .advance
        .iter()
        .chain(&stage.hold)
        .chain(&stage.rollback)
        .filter(|condition| {
            condition.metric == Metric::P99 && condition.selector == Selector::Canary
        })
        .map(|condition| Duration::from_micros(condition.value as u64))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::condition::{Condition, Op};
    use crate::rollout::name::StageName;
    use crate::rollout::plan::{OnFailure, OnSuccess};
    use crate::rollout::schedule::Schedule;
    use crate::rollout::weight::Weight;

    fn p99(value_ms: u64, selector: Selector) -> Condition {
        Condition {
            metric: Metric::P99,
            selector,
            absolute: false,
            op: Op::Greater,
            value: (value_ms * 1000) as f64,
            sustained: Duration::ZERO,
            over: None,
            throughout: false,
            per_segment: false,
        }
    }

    fn stage(advance: Vec<Condition>, rollback: Vec<Condition>) -> Stage {
        Stage {
            name: StageName::parse("canary").expect("a name"),
            weight: Weight::FULL,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            checkpoints: Vec::new(),
            min_requests: 1,
            min_window_requests: 1,
            max_extension: Duration::ZERO,
            advance,
            hold: Vec::new(),
            rollback,
            on_success: OnSuccess::Advance,
            on_failure: OnFailure::Hold,
            on_rollback: Weight::ZERO,
            schedule: Schedule::default(),
            hooks: Default::default(),
        }
    }

    #[test]
    fn failover_comes_after_four_limits_but_leaves_baseline_as_long_again() {
        let check = |stage: Option<&Stage>, head_ms: Option<u64>, expected_ms: Option<u64>| {
            let after = failover_after(stage, head_ms.map(Duration::from_millis));
            assert_eq!(after, expected_ms.map(Duration::from_millis));
        };
        let client = stage(
            vec![p99(200, Selector::Canary)],
            vec![p99(250, Selector::Canary)],
        );
        check(Some(&client), Some(30_000), Some(1000));
        check(Some(&client), Some(1_500), Some(750));
        check(Some(&client), None, Some(1000));
        let relative = stage(vec![p99(900, Selector::Delta)], Vec::new());
        check(Some(&relative), Some(30_000), Some(15_000));
        check(None, Some(30_000), Some(15_000));
        check(None, None, None);
    }
}
