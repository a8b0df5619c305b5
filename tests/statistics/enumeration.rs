//! That evidence is worth at most 1 in expectation while nothing is wrong: every outcome, with its chance.

use serin::rollout::stats::compare::BlockCounts;
use serin::rollout::stats::{MULTIPLIERS, Onset, compare, fixed};

/// What is given of a block before its failures fall on the arms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Margins {
    pub(crate) canary: u64,
    pub(crate) baseline: u64,
    pub(crate) failed: u64,
}

impl Margins {
    /// Every way the failures can fall, with its chance where canary's odds are `psi` times baseline's: Fisher's noncentral
    /// hypergeometric law, by its definition.
    fn outcomes(self, psi: f64) -> Vec<(BlockCounts, f64)> {
        let least = self.failed.saturating_sub(self.baseline);
        let most = self.failed.min(self.canary);
        let mut outcomes: Vec<(BlockCounts, f64)> = Vec::new();
        let mut weight = 1.0;
        for canary_failed in least..=most {
            let block = BlockCounts {
                baseline_failed: self.failed - canary_failed,
                baseline: self.baseline,
                canary_failed,
                canary: self.canary,
            };
            outcomes.push((block, weight));
            // C(n_c, k + 1) C(n_b, K - k - 1) / C(n_c, k) C(n_b, K - k), times psi.
            let kept = self.baseline + canary_failed + 1 - self.failed;
            weight *= psi * (self.canary - canary_failed) as f64 * block.baseline_failed as f64
                / ((canary_failed + 1) as f64 * kept as f64);
        }
        let all: f64 = outcomes.iter().map(|(_, weight)| weight).sum();
        outcomes.iter_mut().for_each(|(_, weight)| *weight /= all);
        outcomes
    }

    pub(crate) fn expectation(self, psi: f64, ln_e: impl Fn(BlockCounts) -> f64) -> f64 {
        let outcomes = self.outcomes(psi);
        outcomes
            .iter()
            .map(|(block, chance)| chance * ln_e(*block).exp())
            .sum()
    }
}

/// All margins with up to 20 in each arm, and lopsided ones as at 1 % of the traffic.
fn all_margins() -> Vec<Margins> {
    let mut all = Vec::new();
    for canary in 1..=20 {
        for baseline in 1..=20 {
            all.extend((0..=canary + baseline).map(|failed| Margins {
                canary,
                baseline,
                failed,
            }));
        }
    }
    for (canary, baseline) in [(1, 99), (2, 198), (10, 990), (90, 10)] {
        all.extend((0..=canary + baseline).map(|failed| Margins {
            canary,
            baseline,
            failed,
        }));
    }
    all
}

#[test]
fn comparing_arms_is_worth_at_most_one_in_expectation_for_every_margin() {
    let all = all_margins();
    assert!(all.len() > 9_000, "{}", all.len());
    for psi0 in [1.0, 1.5, 3.0] {
        let mut largest = 0.0_f64;
        for &margins in &all {
            for multiplier in MULTIPLIERS {
                // At the margin itself and, which must be less, below it.
                let at = |psi: f64| {
                    margins.expectation(psi, |block| compare::ln_lr(psi0, multiplier, block))
                };
                let (at_limit, below) = (at(psi0), at(psi0 / 1.3));
                assert!(
                    at_limit <= 1.0 + 1e-12,
                    "{margins:?} {psi0} {multiplier}: {at_limit}"
                );
                assert!(
                    below <= at_limit + 1e-12,
                    "{margins:?} {psi0} {multiplier}: {below}"
                );
                largest = largest.max(at_limit);
            }
        }
        assert!(
            (largest - 1.0).abs() < 1e-12,
            "no more than 1, and no less: {largest}"
        );
    }
}

#[test]
fn beyond_the_margin_the_expectation_is_above_one() {
    let margins = Margins {
        canary: 10,
        baseline: 90,
        failed: 5,
    };
    let seen = margins.expectation(3.0, |block| compare::ln_lr(1.5, 2.0, block));
    assert!(seen > 1.1, "{seen}");
}

#[test]
fn a_fixed_limit_is_worth_one_in_expectation_at_the_limit_and_less_below() {
    for p0 in [0.001, 0.01, 0.05, 0.2, 0.6] {
        for n in 0..=60_u64 {
            for rate in [p0, 0.5 * p0] {
                let mut expectations = vec![0.0; fixed::width(p0)];
                let mut chance = (1.0 - rate).powi(n as i32);
                for failed in 0..=n {
                    let ln_lrs = fixed::ln_lrs(p0, failed, n);
                    expectations
                        .iter_mut()
                        .zip(ln_lrs)
                        .for_each(|(sum, ln_lr)| *sum += chance * ln_lr.exp());
                    chance *= (n - failed) as f64 / (failed + 1) as f64 * rate / (1.0 - rate);
                }
                for seen in expectations {
                    assert!(seen <= 1.0 + 1e-9, "{p0} {rate} {n}: {seen}");
                    assert!(rate < p0 || (seen - 1.0).abs() < 1e-9, "{p0} {n}: {seen}");
                }
            }
        }
    }
}

#[test]
fn late_onset_is_worth_at_most_one_in_expectation_after_every_block() {
    fn walk(onset: &Onset, chance: f64, blocks: &[Margins], expectations: &mut [f64]) {
        let (Some((margins, rest)), Some((sum, later))) =
            (blocks.split_first(), expectations.split_first_mut())
        else {
            return;
        };
        for (block, here) in margins.outcomes(1.5) {
            let mut next = onset.clone();
            next.add(&compare::ln_lrs(1.5, block).expect("both arms are there"));
            *sum += chance * here * next.ln_e().exp();
            walk(&next, chance * here, rest, later);
        }
    }
    // With one failure in each a block's E[LR] is exactly 1, and so then is the whole.
    for (failed, exact) in [(1, true), (3, false)] {
        let blocks = [(2, 9), (3, 3), (1, 20), (5, 2), (4, 7)].map(|(canary, baseline)| Margins {
            canary,
            baseline,
            failed,
        });
        let mut expectations = [0.0; 5];
        walk(
            &Onset::new(MULTIPLIERS.len()),
            1.0,
            &blocks,
            &mut expectations,
        );
        for seen in expectations {
            assert!(seen <= 1.0 + 1e-12, "{expectations:?}");
            assert!(!exact || seen > 1.0 - 1e-12, "{expectations:?}");
        }
    }
}
