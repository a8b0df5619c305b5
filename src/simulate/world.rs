//! What the world is like at a moment of a scenario, and until when it stays so.
//!
//! Time counts from the rollout's start. Draws nothing.

use std::time::Duration;

use super::scenario::{Change, Conduct, Scenario};
use crate::rollout::name::Arm;

/// What changes little by little is looked at again so often.
const LOOK: Duration = Duration::from_secs(10);

/// The world as it is for a while.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    /// By `Arm::index`.
    pub(super) arms: [Conduct; 2],
    pub(super) rate_per_minute: f64,
    /// Whether canary does to its segments what they say.
    pub(super) segments_are_ill: bool,
    /// The first moment at which it may be different.
    pub(super) until: Duration,
}

/// The world so long after the start, and so long after the last step up.
pub(super) fn at(scenario: &Scenario, since_start: Duration, since_step: Duration) -> Moment {
    let mut moment = Moment {
        arms: scenario.arms,
        rate_per_minute: scenario.rate_per_minute,
        segments_are_ill: since_start >= scenario.segments_at,
        until: Duration::MAX,
    };
    if !moment.segments_are_ill {
        moment.until = scenario.segments_at;
    }
    for change in &scenario.changes {
        let bounds = [Some(change.at), change.until];
        for bound in bounds
            .into_iter()
            .flatten()
            .filter(|&bound| bound > since_start)
        {
            moment.until = moment.until.min(bound);
        }
        let over = change.until.is_some_and(|until| since_start >= until);
        if since_start < change.at || over {
            continue;
        }
        let progress = progress(change, since_start);
        if progress < 1.0 {
            moment.until = moment.until.min(since_start + LOOK);
        }
        for arm in Arm::ALL.into_iter().filter(|&arm| change.concerns(arm)) {
            moment.arms[arm.index()].change(change, progress);
        }
        if let Some(rate) = change.rate_per_minute {
            moment.rate_per_minute += (rate - moment.rate_per_minute) * progress;
        }
    }
    if let Some(cold) = scenario.cold_start
        && since_step < cold.lasts
    {
        let canary = &mut moment.arms[Arm::Canary.index()];
        canary.latency = canary.latency.times(cold.factor);
        moment.until = moment.until.min(since_start + (cold.lasts - since_step));
    }
    moment
}

fn progress(change: &Change, since_start: Duration) -> f64 {
    if change.over.is_zero() {
        return 1.0;
    }
    let passed = since_start.saturating_sub(change.at).as_secs_f64();
    (passed / change.over.as_secs_f64()).min(1.0)
}

impl Conduct {
    fn change(&mut self, change: &Change, progress: f64) {
        let towards =
            |from: f64, to: Option<f64>| to.map_or(from, |to| from + (to - from) * progress);
        self.errors = towards(self.errors, change.errors);
        self.client_errors = towards(self.client_errors, change.client_errors);
        if let Some(law) = change.latency {
            self.latency = self.latency.towards(law, progress);
        }
        if let Some(factor) = change.latency_factor {
            self.latency = self.latency.times(factor.powf(progress));
        }
        if let Some(down) = change.down {
            self.down = down;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_change_begins_drifts_and_ends() {
        let scenario = Scenario::parse(
            "[baseline]\nerror_rate = 0.0\n[[change]]\nat = \"100s\"\nfor = \"100s\"\nover = \"50s\"\narm = \"canary\"\nerror_rate = 0.5",
        )
        .expect("valid");
        let check = |at_s: u64, errors: f64, until_s: Option<u64>| {
            let moment = at(&scenario, seconds(at_s), seconds(at_s));
            assert!(
                (moment.arms[1].errors - errors).abs() < 1e-12,
                "{at_s}: {moment:?}"
            );
            assert_eq!(moment.arms[0].errors, 0.0);
            assert_eq!(
                moment.until,
                until_s.map_or(Duration::MAX, seconds),
                "{at_s}"
            );
        };
        check(0, 0.0, Some(100));
        check(100, 0.0, Some(110));
        check(125, 0.25, Some(135));
        check(150, 0.5, Some(200));
        check(199, 0.5, Some(200));
        check(200, 0.0, None);
    }

    #[test]
    fn a_cold_canary_is_slow_after_each_step() {
        let scenario =
            Scenario::parse("cold_start = { for = \"30s\", factor = 2.0 }").expect("valid");
        let cold = at(&scenario, seconds(7_000), seconds(10));
        assert_eq!(cold.arms[1].latency, cold.arms[0].latency.times(2.0));
        assert_eq!(cold.until, seconds(7_020));
        let warm = at(&scenario, seconds(7_020), seconds(30));
        assert_eq!(warm.arms[1], warm.arms[0]);
    }
}
