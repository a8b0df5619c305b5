//! How many requests that canary already saw may be sent to baseline as well.
//!
//! Canary's requests are extra load for baseline at the worst moment, so they are bounded by what baseline carries
//! anyway: 20 % of its present rate, and 50 a second so that small services fail over whole. A token bucket; each
//! worker keeps one per rollout with its part of the 50.

use std::time::{Duration, Instant};

const SHARE: f64 = 0.2;
/// Per second, for the whole process.
const FLOOR: f64 = 50.0;
/// How long unused tokens are kept.
const DEPTH: f64 = 1.0;

#[derive(Clone, Debug)]
pub struct FailoverBudget {
    floor: f64,
    tokens: f64,
    refilled: Instant,
    /// What baseline earned in the second that runs, and in the one before.
    earned: f64,
    earned_before: f64,
    second: Instant,
}

impl FailoverBudget {
    /// A full budget of one of `workers` workers.
    pub fn new(workers: usize, now: Instant) -> Self {
        let floor = FLOOR / workers.max(1) as f64;
        Self {
            floor,
            tokens: floor.max(1.0),
            refilled: now,
            earned: 0.0,
            earned_before: 0.0,
            second: now,
        }
    }

    /// A request of baseline's own.
    pub fn baseline_request(&mut self, now: Instant) {
        self.turn(now);
        self.earned += SHARE;
        self.tokens = (self.tokens + SHARE).min(self.depth());
    }

    /// Takes one; false where none is left.
    pub fn take(&mut self, now: Instant) -> bool {
        self.turn(now);
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + passed * self.floor).min(self.depth());
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    fn depth(&self) -> f64 {
        (DEPTH * (self.floor + self.earned.max(self.earned_before))).max(1.0)
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.second);
        if passed >= Duration::from_secs(1) {
            self.earned_before = if passed < Duration::from_secs(2) {
                self.earned
            } else {
                0.0
            };
            self.earned = 0.0;
            self.second = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    // How many of `asked` per second are granted over ten seconds beside `baseline` requests a second.
    fn granted(workers: usize, baseline: u32, asked: u32) -> u32 {
        let begin = clock::now();
        let mut budget = FailoverBudget::new(workers, begin);
        let mut granted = 0;
        for millis in 0..10_000_u32 {
            let now = begin + Duration::from_millis(millis.into());
            let due = |rate: u32| (millis + 1) * rate / 1000 - millis * rate / 1000;
            (0..due(baseline)).for_each(|_| budget.baseline_request(now));
            granted += (0..due(asked)).filter(|_| budget.take(now)).count() as u32;
        }
        granted
    }

    #[test]
    fn a_fifth_of_baseline_and_fifty_a_second() {
        let check = |workers, baseline, asked, expected: u32| {
            let granted = granted(workers, baseline, asked);
            let slack = expected / 10 + 60;
            assert!(
                granted.abs_diff(expected) <= slack,
                "{baseline}/s, {asked}/s: {granted}, not {expected}"
            );
        };
        check(1, 0, 1000, 500);
        check(1, 0, 20, 200);
        check(1, 1000, 1000, 2500);
        check(1, 1000, 100, 1000);
        check(4, 0, 1000, 125);
    }
}
