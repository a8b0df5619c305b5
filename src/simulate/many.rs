//! Thousands of runs of one seed on every core, and what they say together. The order of threads changes nothing.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::run::{End, Found, run};
use super::scenario::Scenario;
use crate::rollout::plan::Plan;

/// The 97.5 % quantile of the standard normal: 95 % lie within it on both sides.
const Z_975: f64 = 1.959_963_984_540_054;

/// What many runs say together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub scenario: String,
    pub seed: u64,
    pub runs: u64,
    pub completed: u64,
    pub rolled_back: u64,
    pub held: u64,
    pub aborted: u64,
    pub unfinished: u64,
    /// Runs in which the gate took weight back although canary was no worse than baseline.
    pub false_rollbacks: u64,
    pub false_rollback_rate: f64,
    /// 95 % interval of that rate (Wilson 1927).
    pub false_rollback_interval: [f64; 2],
    /// Runs in which one segment was lowered, and nothing else was.
    pub lowered_alone: u64,
    /// Runs in which a worse canary was found by the gate.
    pub found: u64,
    /// From the fault, or canary's first request after it, to the retreat; `null` where none was found.
    pub detection_seconds: Option<Spread>,
    pub canary_requests_to_detection: Option<Spread>,
    /// Requests of learners that failed because of canary.
    pub harmed: Spread,
    pub canary_requests: Spread,
}

/// How a number is spread over the runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub p90: f64,
    pub most: f64,
}

// What is kept of a run.
struct Brief {
    number: u64,
    end: End,
    false_alarm: bool,
    found: Option<Found>,
    harmed: u64,
    canary_requests: u64,
    lowered_alone: bool,
}

/// Plays runs 0 to `runs - 1` of a seed.
pub fn many(plan: &Plan, scenario: &Scenario, seed: u64, runs: u64) -> Summary {
    let next = AtomicU64::new(0);
    let play = || {
        let mut briefs = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= runs {
                return briefs;
            }
            let ran = run(plan, scenario, seed, number);
            briefs.push(Brief {
                number,
                end: ran.end,
                false_alarm: ran.false_alarm,
                found: ran.found,
                harmed: ran.harmed,
                canary_requests: ran.requests[1],
                lowered_alone: ran.lowered.len() == 1 && ran.end != End::RolledBack,
            });
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut briefs: Vec<Brief> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(play)).collect();
        let mut briefs = play();
        for other in others {
            match other.join() {
                Ok(more) => briefs.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        briefs
    });
    briefs.sort_by_key(|brief| brief.number);
    summary(&scenario.name, seed, &briefs)
}

fn summary(scenario: &str, seed: u64, briefs: &[Brief]) -> Summary {
    let count =
        |is: &dyn Fn(&Brief) -> bool| briefs.iter().filter(|brief| is(brief)).count() as u64;
    let ended = |end: End| count(&|brief| brief.end == end);
    let spread =
        |of: &dyn Fn(&Brief) -> Option<f64>| Spread::of(briefs.iter().filter_map(of).collect());
    let runs = briefs.len() as u64;
    let false_rollbacks = count(&|brief| brief.false_alarm);
    Summary {
        scenario: scenario.to_owned(),
        seed,
        runs,
        completed: ended(End::Completed),
        rolled_back: ended(End::RolledBack),
        held: ended(End::Held),
        aborted: ended(End::Aborted),
        unfinished: ended(End::Unfinished),
        false_rollbacks,
        false_rollback_rate: false_rollbacks as f64 / runs.max(1) as f64,
        false_rollback_interval: wilson(false_rollbacks, runs),
        lowered_alone: count(&|brief| brief.lowered_alone),
        found: count(&|brief| brief.found.is_some()),
        detection_seconds: spread(&|brief| Some(seconds(brief.found?.after))),
        canary_requests_to_detection: spread(&|brief| Some(brief.found?.canary_requests as f64)),
        harmed: spread(&|brief| Some(brief.harmed as f64)).unwrap_or(Spread::NOTHING),
        canary_requests: spread(&|brief| Some(brief.canary_requests as f64))
            .unwrap_or(Spread::NOTHING),
    }
}

impl Spread {
    const NOTHING: Self = Self {
        median: 0.0,
        p90: 0.0,
        most: 0.0,
    };

    fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let most = *numbers.last()?;
        // The smallest number that at least this share does not exceed.
        let quantile = |share: f64| {
            let place = (share * numbers.len() as f64).ceil() as usize;
            numbers[place.saturating_sub(1)]
        };
        Some(Self {
            median: quantile(0.5),
            p90: quantile(0.9),
            most,
        })
    }
}

/// The 95 % interval of a share (Wilson 1927): stays within 0 and 1, and says something at 0 of n too.
fn wilson(hits: u64, of: u64) -> [f64; 2] {
    if of == 0 {
        return [0.0, 1.0];
    }
    let (n, share, z2) = (of as f64, hits as f64 / of as f64, Z_975 * Z_975);
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let reach = Z_975 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    [(middle - reach).max(0.0), (middle + reach).min(1.0)]
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilson_s() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        let check = |hits, of, low: f64, high: f64| {
            let [a, b] = wilson(hits, of);
            assert!(
                (a - low).abs() < 5e-5 && (b - high).abs() < 5e-5,
                "{hits} of {of}: {a} {b}"
            );
        };
        check(81, 263, 0.2553, 0.3662);
        check(15, 148, 0.0624, 0.1605);
        check(0, 20, 0.0000, 0.1611);
        check(1, 29, 0.0061, 0.1718);
    }

    #[test]
    fn quantiles_are_of_what_was_seen() {
        let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]).expect("some");
        assert_eq!((spread.median, spread.p90, spread.most), (3.0, 5.0, 5.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
