//! What a rate may be, at a level that holds at all times together.
//!
//! An interval of a fixed sample size is left by the truth sooner or later if one looks after every batch. This one holds
//! every rate p that a two-sided beta-binomial mixture has never rejected at its present value: with k failures of n,
//!
//! ```text
//! ln E(p) = ln B(k + c p, n - k + c (1 - p)) - ln B(c p, c (1 - p)) - k ln p - (n - k) ln(1 - p)  <  ln(1 / alpha)
//! ```
//!
//! For each p, E(p) is a martingale from 1 while p is the rate, so by Ville's inequality the truth is ever left with a
//! chance of at most alpha. Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences" (2021), proposition 7; the same as `bernoulli_confidence_interval` of their library.

use super::special::ln_beta;

/// The number of requests at which the interval is tightest, at the level 95 %: a stage's first few minutes at 1 %.
const TIGHTEST_AT: f64 = 500.0;
const TIGHTEST_LEVEL: f64 = 0.05;
/// What two steps may differ by, as a share of where they are.
const DIGITS: f64 = 1e-14;
/// Far more than it takes.
const STEPS: usize = 200;

/// From `lower` to `upper`, both in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub lower: f64,
    pub upper: f64,
}

impl Interval {
    pub fn contains(&self, value: f64) -> bool {
        (self.lower..=self.upper).contains(&value)
    }
}

/// The rates that `failed` of `n` leave possible, in shares of 1. `alpha` 0.05 gives the 95 % interval.
pub fn rate(failed: u64, n: u64, alpha: f64) -> Interval {
    let failed = failed.min(n);
    if n == 0 {
        return Interval {
            lower: 0.0,
            upper: 1.0,
        };
    }
    let seen = failed as f64 / n as f64;
    let ln_limit = -alpha.ln();
    let excess = |p: f64| ln_e_against(p, failed as f64, n as f64) - ln_limit;
    Interval {
        lower: if failed == 0 {
            0.0
        } else {
            edge(seen, 0.0, excess)
        },
        upper: if failed == n {
            1.0
        } else {
            edge(seen, 1.0, excess)
        },
    }
}

/// ln E(p) of the module's head, in nats, for 0 < p < 1.
fn ln_e_against(p: f64, failed: f64, n: f64) -> f64 {
    let prior = prior_weight();
    let (prior_failed, prior_ok) = (prior * p, prior * (1.0 - p));
    ln_beta(failed + prior_failed, n - failed + prior_ok)
        - ln_beta(prior_failed, prior_ok)
        - failed * p.ln()
        - (n - failed) * (-p).ln_1p()
}

/// c of the module's head, in requests: the normal mixture's best choice for [`TIGHTEST_AT`], carried over to the beta
/// (Howard et al., section 3.5).
fn prior_weight() -> f64 {
    let twice = -2.0 * TIGHTEST_LEVEL.ln();
    TIGHTEST_AT / (twice + twice.ln_1p()) - 1.0
}

/// Between `inside`, which is not rejected, and `outside`, which is: where `excess`, negative inside, is 0. By Ridders' method
/// ("A new algorithm for computing a single root of a real continuous function", 1979): a dozen values give all digits,
/// where halving alone takes some fifty, and the gate asks for several intervals a tick.
fn edge(mut inside: f64, mut outside: f64, excess: impl Fn(f64) -> f64) -> f64 {
    // At its ends there may be none.
    let (mut at_inside, mut at_outside) = (f64::NAN, f64::NAN);
    let mut last = f64::NAN;
    for _ in 0..STEPS {
        let middle = 0.5 * (inside + outside);
        let at_middle = excess(middle);
        let spread = (at_middle * at_middle - at_inside * at_outside).sqrt();
        let point = middle - (middle - inside) * at_middle / spread;
        let mut narrow = |at: f64, value: f64| {
            if value >= 0.0 {
                (outside, at_outside) = (at, value);
            } else {
                (inside, at_inside) = (at, value);
            }
        };
        narrow(middle, at_middle);
        if !point.is_finite() {
            continue;
        }
        narrow(point, excess(point));
        if (point - last).abs() <= DIGITS * point {
            return point;
        }
        last = point;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_narrows_around_what_is_seen() {
        let mut last = 1.0;
        for n in [10, 100, 1_000, 100_000, 1_000_000_000] {
            let interval = rate(n / 10, n, 0.05);
            assert!(interval.contains(0.1), "{n}: {interval:?}");
            let width = interval.upper - interval.lower;
            assert!(width < last, "{n}: {interval:?}");
            last = width;
        }
        assert!(last < 1e-4, "{last}");
    }

    #[test]
    fn nothing_seen_leaves_everything_and_the_edges_are_reached() {
        let all = rate(0, 0, 0.05);
        assert_eq!((all.lower, all.upper), (0.0, 1.0));
        assert_eq!(rate(0, 50, 0.05).lower, 0.0);
        let failing = rate(50, 50, 0.05);
        assert_eq!(failing.upper, 1.0);
        assert!((failing.lower - (1.0 - rate(0, 50, 0.05).upper)).abs() < 1e-12);
    }
}
