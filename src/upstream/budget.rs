//! How many requests may be sent once more, so that what is sent again never brings down what is weak.
//!
//! A share of what is carried anyway, and some a second so that small services are helped whole. A token bucket; each
//! worker keeps its own, with its part of the floor. Retries have 20 % of their pool's requests (as configured) and 10 a
//! second; requests of canary that are sent to baseline as well have 20 % of baseline's present rate and 50 a second.

use std::time::{Duration, Instant};

const FAILOVER_SHARE: f64 = 0.2;
/// Per second, for the whole process.
const FAILOVER_FLOOR: f64 = 50.0;
/// Per second, for the whole process.
const RETRY_FLOOR: f64 = 10.0;
/// How long unused tokens are kept.
const DEPTH: f64 = 1.0;

#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    floor: f64,
    tokens: f64,
    refilled: Instant,
    /// What was earned in the second that runs, and in the one before.
    earned: f64,
    earned_before: f64,
    second: Instant,
}

impl Budget {
    /// A full budget for canary's failures, of one of `workers` workers.
    pub fn failover(workers: usize, now: Instant) -> Self {
        Self::new(FAILOVER_SHARE, FAILOVER_FLOOR, workers, now)
    }

    /// A full budget for a pool's retries, of one of `workers` workers; `share` from 0.0 to 1.0.
    pub fn retries(share: f64, workers: usize, now: Instant) -> Self {
        Self::new(share, RETRY_FLOOR, workers, now)
    }

    fn new(share: f64, floor: f64, workers: usize, now: Instant) -> Self {
        let floor = floor / workers.max(1) as f64;
        Self {
            share,
            floor,
            tokens: floor.max(1.0),
            refilled: now,
            earned: 0.0,
            earned_before: 0.0,
            second: now,
        }
    }

    /// What a request earns.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// A request that is carried anyway.
    pub fn earn(&mut self, now: Instant) {
        self.turn(now);
        self.earned += self.share;
        self.tokens = (self.tokens + self.share).min(self.depth());
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
    fn granted(
        budget: fn(usize, Instant) -> Budget,
        workers: usize,
        baseline: u32,
        asked: u32,
    ) -> u32 {
        let begin = clock::now();
        let mut budget = budget(workers, begin);
        let mut granted = 0;
        for millis in 0..10_000_u32 {
            let now = begin + Duration::from_millis(millis.into());
            let due = |rate: u32| (millis + 1) * rate / 1000 - millis * rate / 1000;
            (0..due(baseline)).for_each(|_| budget.earn(now));
            granted += (0..due(asked)).filter(|_| budget.take(now)).count() as u32;
        }
        granted
    }

    #[test]
    fn a_fifth_of_baseline_and_fifty_a_second() {
        let check = |workers, baseline, asked, expected: u32| {
            let granted = granted(Budget::failover, workers, baseline, asked);
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

    #[test]
    fn a_share_of_the_requests_and_ten_a_second() {
        let check = |requests, asked, expected: u32| {
            let granted = granted(
                |workers, now| Budget::retries(0.2, workers, now),
                1,
                requests,
                asked,
            );
            let slack = expected / 10 + 20;
            assert!(
                granted.abs_diff(expected) <= slack,
                "{requests}/s, {asked}/s: {granted}, not {expected}"
            );
        };
        check(0, 1000, 100);
        check(1000, 1000, 2100);
        check(1000, 100, 1000);
    }
}
