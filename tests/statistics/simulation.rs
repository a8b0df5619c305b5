//! That intervals cover, and that what is called detectable is detected, by seeded simulation.

use serin::rollout::stats::compare::BlockCounts;
use serin::rollout::stats::detectable::{self, Sample, Test};
use serin::rollout::stats::ratio_interval::{GROUPS, Group, ratio_interval};
use serin::rollout::stats::{MULTIPLIERS, Onset, combine, compare, interval};

/// SplitMix64 (Steele, Lea & Flood, 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// How many of `n` fail at `rate`, by the gaps between failures.
    fn binomial(&mut self, n: u64, rate: f64) -> u64 {
        let (mut failed, mut at) = (0, 0.0);
        loop {
            at += (self.exponential() / -(-rate).ln_1p()).floor() + 1.0;
            if at > n as f64 {
                return failed;
            }
            failed += 1;
        }
    }
}

/// The most that a share of alpha may come to in so many runs: three standard errors above it.
fn at_most(alpha: f64, runs: u32) -> u32 {
    let runs = f64::from(runs);
    (runs * alpha + 3.0 * (runs * alpha * (1.0 - alpha)).sqrt()) as u32
}

#[test]
fn the_interval_for_a_rate_is_left_by_the_truth_in_at_most_alpha_of_runs_looked_at_all_the_time() {
    const RUNS: u32 = 400;
    for (seed, rate) in [(1, 0.001), (2, 0.02), (3, 0.4)] {
        let mut dice = Dice(seed);
        let mut left = 0;
        for _ in 0..RUNS {
            let (mut failed, mut n) = (0, 0);
            let mut inside = true;
            for _ in 0..100 {
                failed += dice.binomial(30, rate);
                n += 30;
                inside &= interval::rate(failed, n, 0.1).contains(rate);
            }
            left += u32::from(!inside);
        }
        assert!(
            left <= at_most(0.1, RUNS),
            "seed {seed}, rate {rate}: {left} of {RUNS}"
        );
    }
}

/// Learners come one after another; a third of them is worth something, exponentially, and each has a share of canary.
fn business_run(dice: &mut Dice, effect: f64, share: f64, each_look: &mut dyn FnMut(&[Group])) {
    let mut groups = vec![Group::default(); GROUPS];
    let mut learners = 0_u32;
    for look in 0..40 {
        // From 1,000 learners to 20,000, and the weight grows on the way.
        let until = 1_000.0 * 1.08_f64.powi(look);
        let share = if look < 20 { share } else { 2.0 * share };
        while f64::from(learners) < until {
            learners += 1;
            let group = &mut groups[(dice.uniform() * GROUPS as f64) as usize];
            let on_canary = dice.uniform() < share;
            let worth = if dice.uniform() < 1.0 / 3.0 {
                dice.exponential()
            } else {
                0.0
            };
            let (total, factor) = if on_canary {
                (&mut group.canary, 1.0 + effect)
            } else {
                (&mut group.baseline, 1.0)
            };
            total.learners += 1;
            total.sum += worth * factor;
        }
        each_look(&groups);
    }
}

#[test]
fn the_interval_for_a_ratio_of_means_covers_it_at_all_looks_together() {
    const RUNS: u32 = 300;
    for (seed, effect, share) in [(11, 0.0, 0.25), (12, -0.1, 0.1), (13, 0.3, 0.4)] {
        let mut dice = Dice(seed);
        let (mut left, mut looks) = (0, 0);
        for _ in 0..RUNS {
            let mut inside = true;
            business_run(&mut dice, effect, share, &mut |groups| {
                if let Some(seen) = ratio_interval(groups, 0.1) {
                    looks += 1;
                    inside &= seen.interval.contains(effect);
                }
            });
            left += u32::from(!inside);
        }
        assert!(looks > 20 * RUNS, "seed {seed}: {looks} looks had data");
        assert!(
            left <= at_most(0.1, RUNS),
            "seed {seed}, effect {effect}: {left} of {RUNS}"
        );
    }
}

#[test]
fn an_interval_for_one_look_would_be_left_far_more_often() {
    // That the simulation can fail: the same runs judged by +-1.645 standard errors at each look.
    const RUNS: u32 = 100;
    let mut dice = Dice(14);
    let mut left = 0;
    for _ in 0..RUNS {
        let mut inside = true;
        business_run(&mut dice, 0.0, 0.25, &mut |groups| {
            // As wide as an alpha that makes the time-uniform one narrow as a fixed one.
            if let Some(seen) = ratio_interval(groups, 1.0) {
                inside &= seen.interval.contains(0.0);
            }
        });
        left += u32::from(!inside);
    }
    assert!(left > 20, "{left} of {RUNS}");
}

#[test]
fn what_is_called_detectable_is_detected_in_nine_of_ten_runs() {
    const RUNS: u32 = 600;
    let test = Test {
        psi0: 1.5,
        alpha: 0.003,
    };
    for (seed, before, seconds, canary, baseline, base_rate) in [
        (21, 0, 100, 10, 990, 0.001),
        (22, 0, 200, 50, 950, 0.002),
        (23, 0, 30, 100, 100, 0.05),
        (24, 2_000, 100, 10, 990, 0.001),
    ] {
        let sample = Sample {
            baseline: seconds * baseline,
            canary: seconds * canary,
            base_rate,
            blocks: seconds,
            blocks_before: before,
        };
        let found = detectable::smallest(test, sample).expect("a dead canary is seen");
        let share_seen = |dice: &mut Dice, rate: f64| {
            let seen = (0..RUNS).filter(|_| {
                let mut onset = Onset::new(MULTIPLIERS.len());
                (0..before + seconds).any(|second| {
                    let healthy = second < before;
                    let block = BlockCounts {
                        baseline_failed: dice.binomial(baseline, base_rate),
                        baseline,
                        canary_failed: dice
                            .binomial(canary, if healthy { base_rate } else { rate }),
                        canary,
                    };
                    onset.add(&compare::ln_lrs(test.psi0, block).expect("both arms are there"));
                    onset.ln_e() >= combine::ln_limit(test.alpha)
                })
            });
            seen.count() as f64 / f64::from(RUNS)
        };
        let mut dice = Dice(seed);
        let at = share_seen(&mut dice, found.rate);
        let below = share_seen(&mut dice, base_rate + 0.6 * (found.rate - base_rate));
        println!("seed {seed}: {at} at {found:?}, {below} below");
        // Seen at any second up to the end, so a little more often than at the end alone; three standard errors are 0.037.
        assert!((0.863..0.99).contains(&at), "seed {seed}, {found:?}: {at}");
        assert!(below < 0.75, "seed {seed}, {found:?}: {below}");
    }
}

// === the arithmetic alone ===

/// What canary's learners meet, against a baseline with 0.1 % errors and a log-normal latency of median 15 ms and p99 46 ms.
#[derive(Clone, Copy, Debug)]
enum Ill {
    Errors(f64),
    /// A share of requests takes so many times as long.
    Slow(f64, f64),
}

const BASE_RATE: f64 = 0.001;
/// Baseline requests for each of canary at 1 %.
const BASELINE_FOR_ONE: u64 = 99;
/// Edges of 2^5 ms and more: those below are exceeded by more than a fifth of baseline.
const FIRST_EDGE: i32 = 5;
const LAST_EDGE: i32 = 14;

/// P(a log-normal of median 15 ms and p99 46 ms > `ms`), by the complement of the standard normal.
fn slower_than(ms: f64) -> f64 {
    let sigma = (46.0_f64 / 15.0).ln() / 2.326_347_874_040_841;
    let z = (ms / 15.0).ln() / sigma;
    // Abramowitz and Stegun 26.2.17: off by less than 7.5e-8.
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = poly * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    if z >= 0.0 { tail } else { 1.0 - tail }
}

/// Canary requests until the mean of the likelihood ratios reaches 1 / alpha: one block for each canary request.
fn requests_until_found(dice: &mut Dice, ill: Ill) -> u64 {
    // Of each process what an ill canary, and baseline, do: one for errors, one for each edge of latency.
    let edges = (FIRST_EDGE..=LAST_EDGE).map(|edge| 2_f64.powi(edge));
    let edges: Vec<f64> = edges.collect();
    let processes = match ill {
        Ill::Errors(_) => 1,
        Ill::Slow(..) => edges.len(),
    };
    let mut sums = vec![[0.0; MULTIPLIERS.len()]; processes];
    for request in 1..100_000 {
        // One latency for every edge; baseline's few that exceed the lowest, each with a latency of its own.
        let slow = |share: f64, factor: f64, dice: &mut Dice| match dice.uniform() < share {
            true => factor,
            false => 1.0,
        };
        let exceeds = |factor: f64, dice: &mut Dice| {
            let place = dice.uniform();
            edges
                .iter()
                .filter(|&&ms| place < slower_than(ms / factor))
                .count()
        };
        let mut failed = vec![(0_u64, 0_u64); processes];
        match ill {
            Ill::Errors(rate) => {
                failed[0] = (
                    dice.binomial(BASELINE_FOR_ONE, BASE_RATE),
                    u64::from(dice.uniform() < rate),
                );
            }
            Ill::Slow(share, factor) => {
                for _ in 0..BASELINE_FOR_ONE {
                    for process in &mut failed[..exceeds(1.0, dice)] {
                        process.0 += 1;
                    }
                }
                let factor = slow(share, factor, dice);
                for process in &mut failed[..exceeds(factor, dice)] {
                    process.1 += 1;
                }
            }
        }
        for (sum, (baseline_failed, canary_failed)) in sums.iter_mut().zip(failed) {
            let block = BlockCounts {
                baseline_failed,
                baseline: BASELINE_FOR_ONE,
                canary_failed,
                canary: 1,
            };
            let ln_lrs = compare::ln_lrs(1.0, block).expect("both arms are there");
            for (sum, ln_lr) in sum.iter_mut().zip(ln_lrs) {
                *sum += ln_lr;
            }
        }
        let all: Vec<f64> = sums.iter().flatten().copied().collect();
        if combine::ln_mean(&all) >= combine::ln_limit(0.01) {
            return request;
        }
    }
    100_000
}

/// gate.md, "Targets": margin 1, full alpha, by request, without late onset; medians within 1.3 times of these.
#[test]
fn formulas_alone_find_what_is_wrong_within_so_many_canary_requests() {
    const RUNS: usize = 401;
    println!("| formulas alone | target | measured | runs | seed |\n|---|---|---|---|---|");
    // 3 % of requests take 14.1 times as long: a third of those exceed 260 ms, which makes that the p99.
    for (seed, what, ill, wanted) in [
        (41, "errors 0.1 to 1.5 %", Ill::Errors(0.015), 220),
        (42, "dead canary", Ill::Errors(1.0), 3),
        (
            43,
            "p99 46 to 260 ms by 3 % slow requests",
            Ill::Slow(0.03, 14.1),
            110,
        ),
        (
            44,
            "p99 46 to 260 ms by a uniform slowdown",
            Ill::Slow(1.0, 260.0 / 46.0),
            11,
        ),
    ] {
        let mut dice = Dice(seed);
        let mut requests: Vec<u64> = (0..RUNS)
            .map(|_| requests_until_found(&mut dice, ill))
            .collect();
        requests.sort_unstable();
        let median = requests[RUNS / 2];
        println!("| {what} | {wanted} x 1.3 | median {median} | {RUNS} | {seed} |");
        assert!(
            median as f64 <= 1.3 * f64::from(wanted),
            "seed {seed}, {what}: {median} canary requests, not about {wanted}"
        );
    }
}
