//! Process 1: one arm against a fixed limit p0 on its rate of failing.
//!
//! H0: the chance of failing is at most p0. Against it stand the rates `g_j = p0 M_j`, those of 0.95 and above left out;
//! for k failures of n,
//!
//! ```text
//! ln LR_j = k ln(g_j / p0) + (n - k) [ln(1 - g_j) - ln(1 - p0)]
//! ```
//!
//! E[LR_j] = 1 at p0 and less below it, so the mean over j of the product over blocks is an e-process: Wald's likelihood
//! ratio under a mixture of alternatives (Robbins, "Statistical methods related to the law of the iterated logarithm",
//! 1970; Lindon, Sanden & Shirikian, "Rapid regression detection in software deployments through sequential testing",
//! 2022). "p99 <= L" is this with p0 = 0.01 and k the requests slower than L.

use std::sync::Arc;

use super::{MULTIPLIERS, Onset};

/// A rate that an alternative may not reach: beyond it the canary is dead, and a smaller one sees that as well.
const HIGHEST_ALTERNATIVE: f64 = 0.95;
/// Blocks of fewer requests, none of which failed, have their LR in a table. None is below e^-192: one request says
/// at most ln(1 - 0.95).
const TABLE: usize = 64;

/// The alternatives' rates for the limit `p0`, ascending; none where p0 is 0, below, or too high for any.
pub fn alternatives(p0: f64) -> impl Iterator<Item = f64> {
    let within = move |rate: &f64| p0 > 0.0 && *rate < HIGHEST_ALTERNATIVE;
    MULTIPLIERS
        .into_iter()
        .map(move |multiplier| p0 * multiplier)
        .filter(within)
}

/// How many alternatives there are for `p0`: the width of its [`Onset`](super::Onset).
pub fn width(p0: f64) -> usize {
    alternatives(p0).count()
}

/// ln LR of a block with `failed` of `n`, in nats, one for each alternative of `p0`. Adds up over blocks.
pub fn ln_lrs(p0: f64, failed: u64, n: u64) -> Vec<f64> {
    Steps::of(p0).ln_lrs(failed, n).collect()
}

/// How far one request moves the ln LR of each alternative, in nats: constants of `p0`, computed once for all blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    each: Vec<Step>,
    /// LR of blocks of 0, 1, 2, ... requests that are all well: of each block one for each alternative.
    well: Arc<[f64]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    /// ln(g_j / p0)
    failed: f64,
    /// ln(1 - g_j) - ln(1 - p0)
    well: f64,
}

impl Steps {
    pub fn of(p0: f64) -> Self {
        let step = |rate: f64| Step {
            failed: (rate / p0).ln(),
            well: (-rate).ln_1p() - (-p0).ln_1p(),
        };
        let each: Vec<Step> = alternatives(p0).map(step).collect();
        let row = |n: usize| each.iter().map(move |step| (n as f64 * step.well).exp());
        let well = (0..TABLE).flat_map(row).collect();
        Self { each, well }
    }

    /// How many alternatives there are: the width of their [`Onset`](super::Onset).
    pub fn width(&self) -> usize {
        self.each.len()
    }

    /// ln LR of a block with `failed` of `n`, in nats, one for each alternative.
    pub fn ln_lrs(&self, failed: u64, n: u64) -> impl ExactSizeIterator<Item = f64> + Clone {
        let (failed, well) = (failed as f64, n.saturating_sub(failed) as f64);
        let steps = self.each.iter();
        steps.map(move |step| failed * step.failed + well * step.well)
    }

    /// One more block for their process.
    pub fn take_in(&self, onset: &mut Onset, failed: u64, n: u64) {
        if n == 0 || self.each.is_empty() {
            onset.add_idle();
        } else if failed == 0 && n < TABLE as u64 {
            let mut rows = self.well.chunks_exact(self.width());
            if let Some(row) = rows.nth(n as usize) {
                onset.add_ratios(row);
            }
        } else {
            onset.add_each(self.ln_lrs(failed, n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_end_below_a_dead_canary() {
        assert_eq!(width(0.005), 9);
        assert_eq!(width(0.0095), 8, "0.0095 x 100 is 0.95");
        assert_eq!(width(0.5), 1);
        for p0 in [0.0, -0.1, 0.64, 1.0, 2.0, f64::NAN] {
            assert_eq!(width(p0), 0, "{p0}");
            assert!(ln_lrs(p0, 3, 10).is_empty());
        }
    }

    #[test]
    fn blocks_taken_in_by_the_table_are_those_of_the_formula() {
        let steps = Steps::of(0.015);
        let (mut onset, mut by_formula) = (Onset::new(steps.width()), Onset::new(steps.width()));
        for i in 0..2_000_u64 {
            let (failed, n) = (
                u64::from(i % 37 == 0 && i > 0),
                i % 250 + u64::from(i % 37 == 0),
            );
            steps.take_in(&mut onset, failed, n);
            by_formula.add_each(steps.ln_lrs(failed, n));
            assert_eq!(onset, by_formula, "{i}");
        }
    }

    #[test]
    fn blocks_add_up() {
        let (a, b, both) = (
            ln_lrs(0.01, 1, 40),
            ln_lrs(0.01, 3, 60),
            ln_lrs(0.01, 4, 100),
        );
        for ((a, b), both) in a.iter().zip(&b).zip(&both) {
            assert!((a + b - both).abs() < 1e-12);
        }
    }
}
