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
