//! Do the arms hold the learners they should: sample ratio mismatch.
//!
//! The counts of learners per arm against the weights, by a Bayes factor that may be looked at at any time. The
//! alternative is a Dirichlet prior around the expected shares (for two arms a beta), and the odds of a mismatch are
//!
//! ```text
//! odds = B(k th_1 + n_1, k th_2 + n_2) / B(k th_1, k th_2) / (th_1^n_1 th_2^n_2)
//! ```
//!
//! While learners fall on the arms as the weights say, it is a martingale that begins at 1: an e-process (Lindon & Malek,
//! "Anytime-valid inference for multinomial count data", 2022). At 1 / alpha the assignment is broken.

use super::special::ln_beta;

/// k of the module's head: how tightly the prior holds to the expected shares, in learners. At 1 % the share it expects is
/// off by about itself, at 50 % by a tenth: neither a trifle nor switched arms.
const CONCENTRATION: f64 = 100.0;

/// Learners of one count, and the share of them that the weight sends to canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub baseline: u64,
    pub canary: u64,
    pub canary_share: f64,
}

/// ln of the odds that the shares are not those of the weights, in nats. With a share of 0 or 1 there is nothing to weigh:
/// infinite if somebody stands where nobody should, else 0.
pub fn ln_odds(split: Split) -> f64 {
    let share = split.canary_share;
    if share <= 0.0 || share >= 1.0 {
        let astray = if share <= 0.0 {
            split.canary
        } else {
            split.baseline
        };
        return if astray > 0 { f64::INFINITY } else { 0.0 };
    }
    let (canary, baseline) = (split.canary as f64, split.baseline as f64);
    let (prior_canary, prior_baseline) = (CONCENTRATION * share, CONCENTRATION * (1.0 - share));
    ln_beta(prior_canary + canary, prior_baseline + baseline)
        - ln_beta(prior_canary, prior_baseline)
        - canary * share.ln()
        - baseline * (-share).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_yet_is_no_evidence_and_somebody_astray_is_all() {
        let split = |baseline, canary, canary_share| {
            ln_odds(Split {
                baseline,
                canary,
                canary_share,
            })
        };
        assert!(split(0, 0, 0.01).abs() < 1e-12);
        assert_eq!(split(500, 0, 0.0), 0.0);
        assert_eq!(split(500, 1, 0.0), f64::INFINITY);
        assert_eq!(split(1, 500, 1.0), f64::INFINITY);
    }

    #[test]
    fn it_is_a_martingale_where_the_shares_hold() {
        // Exactly: the expectation over the next learner is the value now.
        for (baseline, canary) in [(0, 0), (50, 1), (99, 1), (10, 10), (1000, 40)] {
            for canary_share in [0.01, 0.2, 0.5] {
                let odds = |baseline, canary| {
                    ln_odds(Split {
                        baseline,
                        canary,
                        canary_share,
                    })
                };
                let now = odds(baseline, canary);
                let on_canary = (odds(baseline, canary + 1) - now).exp();
                let on_baseline = (odds(baseline + 1, canary) - now).exp();
                let next = canary_share * on_canary + (1.0 - canary_share) * on_baseline;
                assert!((next - 1.0).abs() < 1e-11, "{baseline} {canary}: {next}");
            }
        }
    }
}
