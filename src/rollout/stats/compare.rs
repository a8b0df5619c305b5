//! Process 2: canary against baseline, in the same second.
//!
//! H0: canary's odds of failing are at most psi0 times baseline's, whatever baseline's are and however they drift. Given
//! a block's margins (n_c and n_b active, K failures in all), canary's failures k_c are then noncentral hypergeometric
//! with odds ratio at most psi0. Of K failures the share th = psi n_c / (psi n_c + n_b) would fall on canary at the odds
//! ratio psi if failures were drawn with replacement, which gives
//!
//! ```text
//! ln LR_j = k_c ln(th_j / th_0) + k_b [ln(1 - th_j) - ln(1 - th_0)],   psi_j = psi0 M_j
//!         = k_c ln M_j - (k_c + k_b) ln(d_j / d_0),                     d_j  = psi_j n_c + n_b
//! ```
//!
//! The hypergeometric spreads less than this binomial, so E[LR_j] <= 1 exactly: `tests/statistics.rs` enumerates it. Since
//! only margins and their split enter, neither a change of weight between blocks nor an outage that both arms share is
//! evidence. Sources: Turner, Ly & Gruenwald, "Generic E-variables for exact sequential k-sample tests that allow for
//! optional stopping" (2024); Lindon, Sanden & Shirikian (2022).

use super::{LnLrs, MULTIPLIERS, Onset};

/// Of a block with so few failures the ratios themselves stay numbers: none is beyond 100^64 or below its inverse.
const FEW: u64 = 64;

/// What a block counted: learners or requests, and those of them that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    pub baseline_failed: u64,
    pub baseline: u64,
    pub canary_failed: u64,
    pub canary: u64,
}

impl BlockCounts {
    /// Both arms were there, so that they can be compared.
    pub const fn has_both_arms(&self) -> bool {
        self.baseline > 0 && self.canary > 0
    }
}

/// One more block for a process. With few failures, as most blocks have, its ratios are powers of a few numbers and no
/// logarithm is taken; it says nothing where an arm is empty.
pub fn take_in(onset: &mut Onset, psi0: f64, block: BlockCounts) {
    if !block.has_both_arms() {
        return;
    }
    match block.canary_failed + block.baseline_failed {
        0 => onset.add_idle(),
        failed if failed <= FEW => onset.add_ratios(&lrs(psi0, block)),
        _ => onset.add(&MULTIPLIERS.map(|multiplier| ln_lr(psi0, multiplier, block))),
    }
}

/// LR of a block, one for each multiplier: `M_j^k_c (d_0 / d_j)^(k_c + k_b)`.
fn lrs(psi0: f64, block: BlockCounts) -> LnLrs {
    let canary_odds = psi0 * block.canary as f64;
    let share = canary_odds / (canary_odds + block.baseline as f64);
    let on_baseline = MULTIPLIERS.map(|multiplier| 1.0 / (1.0 + (multiplier - 1.0) * share));
    let mut ratios = powers(on_baseline, block.canary_failed + block.baseline_failed);
    if block.canary_failed > 0 {
        let on_canary = powers(MULTIPLIERS, block.canary_failed);
        for (ratio, power) in ratios.iter_mut().zip(on_canary) {
            *ratio *= power;
        }
    }
    ratios
}

/// What failures of blocks with these arms say: how far one of baseline and one of canary move each ln LR, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    ln_multipliers: LnLrs,
    /// ln(d_j / d_0)
    ln_growths: LnLrs,
}

impl Steps {
    /// Of arms that are not empty.
    pub fn of(psi0: f64, baseline: u64, canary: u64) -> Self {
        let canary_odds = psi0 * canary as f64;
        let d_0 = canary_odds + baseline as f64;
        let ln_growth = |multiplier: f64| ((multiplier - 1.0) * canary_odds / d_0).ln_1p();
        Self {
            ln_multipliers: MULTIPLIERS.map(f64::ln),
            ln_growths: MULTIPLIERS.map(ln_growth),
        }
    }

    /// ln LR of a block with so many failures, in nats, one for each multiplier.
    pub fn ln_lrs(&self, baseline_failed: u64, canary_failed: u64) -> LnLrs {
        let canary_failed = canary_failed as f64;
        let failed = canary_failed + baseline_failed as f64;
        std::array::from_fn(|j| {
            canary_failed * self.ln_multipliers[j] - failed * self.ln_growths[j]
        })
    }
}

// By squaring, for all of them at once.
fn powers(mut base: LnLrs, mut exponent: u64) -> LnLrs {
    let mut powers = [1.0; MULTIPLIERS.len()];
    while exponent > 0 {
        if exponent & 1 == 1 {
            powers
                .iter_mut()
                .zip(base)
                .for_each(|(power, base)| *power *= base);
        }
        base.iter_mut().for_each(|base| *base *= *base);
        exponent >>= 1;
    }
    powers
}

/// ln LR of a block, in nats, one for each multiplier; `None` where an arm is empty. Adds up over blocks.
pub fn ln_lrs(psi0: f64, block: BlockCounts) -> Option<LnLrs> {
    let says_something = block.canary_failed + block.baseline_failed > 0;
    block.has_both_arms().then(|| match says_something {
        true => MULTIPLIERS.map(|multiplier| ln_lr(psi0, multiplier, block)),
        false => [0.0; MULTIPLIERS.len()],
    })
}

/// ln LR of a block against `multiplier` times the odds margin `psi0`, in nats. Says nothing (0) of a block with no failure
/// in it, and must not be asked of one where an arm is empty.
pub fn ln_lr(psi0: f64, multiplier: f64, block: BlockCounts) -> f64 {
    let canary_odds = psi0 * block.canary as f64;
    let d_0 = canary_odds + block.baseline as f64;
    let canary_failed = block.canary_failed as f64;
    let failed = canary_failed + block.baseline_failed as f64;
    // d_j / d_0 = 1 + (M_j - 1) psi0 n_c / d_0, near 1 where canary is small.
    canary_failed * multiplier.ln() - failed * ((multiplier - 1.0) * canary_odds / d_0).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: BlockCounts = BlockCounts {
        baseline_failed: 3,
        baseline: 990,
        canary_failed: 1,
        canary: 10,
    };

    #[test]
    fn it_is_the_ratio_of_the_two_binomials() {
        let ln_lrs = ln_lrs(1.5, BLOCK).expect("both arms are there");
        for (multiplier, ln_lr) in MULTIPLIERS.into_iter().zip(ln_lrs) {
            let share = |psi: f64| psi * 10.0 / (psi * 10.0 + 990.0);
            let (th, th_0) = (share(1.5 * multiplier), share(1.5));
            let expected = (th / th_0).ln() + 3.0 * ((1.0 - th).ln() - (1.0 - th_0).ln());
            assert!((ln_lr - expected).abs() < 1e-12, "{multiplier}");
        }
    }

    #[test]
    fn ratios_taken_in_are_those_of_their_logarithms() {
        let (mut onset, mut by_logarithms) = (Onset::new(9), Onset::new(9));
        for i in 0..5_000_u64 {
            let block = BlockCounts {
                baseline_failed: (i * 7919) % 67,
                baseline: 70 + i % 900,
                canary_failed: if i % 5 == 0 { (i * 31) % 13 } else { 0 },
                canary: i % 40,
            };
            take_in(&mut onset, 1.5, block);
            if let Some(ln_lrs) = ln_lrs(1.5, block) {
                by_logarithms.add(&ln_lrs);
            }
            let (ln_e, expected) = (onset.ln_e(), by_logarithms.ln_e());
            let apart = (ln_e - expected).abs();
            assert!(
                apart <= 1e-10 * expected.abs().max(1.0),
                "{i}: {ln_e} {expected}"
            );
        }
        assert_eq!(
            (onset.t, onset.folded),
            (by_logarithms.t, by_logarithms.folded)
        );
    }

    #[test]
    fn a_block_without_an_arm_or_without_failures_says_nothing() {
        assert_eq!(ln_lrs(1.5, BlockCounts { canary: 0, ..BLOCK }), None);
        assert_eq!(
            ln_lrs(
                1.5,
                BlockCounts {
                    baseline: 0,
                    ..BLOCK
                }
            ),
            None
        );
        let calm = BlockCounts {
            baseline_failed: 0,
            canary_failed: 0,
            ..BLOCK
        };
        assert_eq!(ln_lrs(1.5, calm), Some([0.0; 9]));
    }
}
