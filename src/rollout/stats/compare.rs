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

use super::{LnLrs, MULTIPLIERS};

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
