//! Exact chances of a binomial count.
//!
//! One term by Loader's saddle-point form (2000), which keeps its digits at any size; from it the sum away from the mean,
//! where each term is smaller than the one before. `X` is the number of failures of n independent tries, each failing
//! with chance p.

use std::f64::consts::TAU;
use std::ops::Range;

use super::special::{deviance, stirling_error};

/// A term this much smaller than the sum no longer changes it.
const NEGLIGIBLE: f64 = 1e-17;

/// P(X >= k): how likely at least so many failures are when the true rate is p. What proves a breach is below 1 %.
pub fn tail_at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        1.0
    } else if k > n || p <= 0.0 {
        0.0
    } else if p >= 1.0 {
        1.0
    } else if k as f64 > n as f64 * p {
        upper_sum(k, n, p)
    } else {
        1.0 - lower_sum(k - 1, n, p)
    }
}

/// P(X <= k).
pub fn tail_at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        1.0
    } else if p >= 1.0 {
        0.0
    } else if (k as f64) < n as f64 * p {
        lower_sum(k, n, p)
    } else {
        1.0 - upper_sum(k + 1, n, p)
    }
}

/// P(X in counts), term by term, for 0 < p < 1 and counts of at most n.
pub fn chance_within(counts: Range<u64>, n: u64, p: f64) -> f64 {
    let (odds, n_) = (p / (1.0 - p), n as f64);
    let mut term = ln_chance(counts.start, n, p).exp();
    let mut sum = 0.0;
    for k in counts {
        sum += term;
        term *= (n_ - k as f64) / (k as f64 + 1.0) * odds;
    }
    sum
}

/// ln P(X = k) for 0 <= k <= n and 0 < p < 1, in nats.
pub fn ln_chance(k: u64, n: u64, p: f64) -> f64 {
    let (k, n) = (k as f64, n as f64);
    let rest = n - k;
    if k == 0.0 {
        return n * (-p).ln_1p();
    }
    if rest == 0.0 {
        return n * p.ln();
    }
    stirling_error(n)
        - stirling_error(k)
        - stirling_error(rest)
        - deviance(k, n * p)
        - deviance(rest, n * (1.0 - p))
        + 0.5 * (n / (TAU * k * rest)).ln()
}

/// P(X >= k) for k above the mean, where the terms shrink from k up to n.
fn upper_sum(k: u64, n: u64, p: f64) -> f64 {
    let (odds, n_) = (p / (1.0 - p), n as f64);
    let (mut term, mut sum, mut i) = (1.0, 1.0, k as f64);
    while i < n_ && term > NEGLIGIBLE * sum {
        term *= (n_ - i) / (i + 1.0) * odds;
        sum += term;
        i += 1.0;
    }
    (ln_chance(k, n, p).exp() * sum).min(1.0)
}

/// P(X <= k) for k below the mean, where the terms shrink from k down to 0.
fn lower_sum(k: u64, n: u64, p: f64) -> f64 {
    let (odds, n_) = (p / (1.0 - p), n as f64);
    let (mut term, mut sum, mut i) = (1.0, 1.0, k as f64);
    while i > 0.0 && term > NEGLIGIBLE * sum {
        term *= i / (n_ - i + 1.0) / odds;
        sum += term;
        i -= 1.0;
    }
    (ln_chance(k, n, p).exp() * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tails_are_the_exact_ones() {
        // Summed with mpmath at 60 digits.
        for (k, n, p, expected) in [
            (1, 1, 0.3, 0.3),
            (3, 50, 0.005, 0.002_055_544_109_558_606),
            (3, 20, 0.015, 0.003_178_082_791_260_844_5),
            (10, 1000, 0.015, 0.931_606_813_100_395_2),
            (15, 1000, 0.015, 0.535_121_231_683_200_9),
            (31, 1000, 0.015, 0.000_173_500_847_171_011_67),
            (5, 5, 0.2, 0.000_32),
            (900, 1000, 0.95, 0.999_999_999_960_917_9),
            (990, 1000, 0.95, 2.797_798_561_485_665_6e-12),
            (15_200, 1_000_000, 0.015, 0.050_603_429_991_118_94),
            (15_000, 1_000_000, 0.015, 0.501_110_430_061_969_9),
            (60, 380, 0.01, 2.270_440_044_040_553_5e-51),
            (1, 1_000_000, 1e-9, 0.000_999_500_167_124_508_6),
        ] {
            let seen = tail_at_least(k, n, p);
            assert!(
                (seen - expected).abs() <= 1e-12 * expected,
                "P(X >= {k} | {n}, {p}) = {seen} is not {expected}"
            );
            let below = tail_at_most(k - 1, n, p);
            assert!(
                (below + expected - 1.0).abs() <= 1e-12,
                "{k} of {n}: {below}"
            );
        }
    }

    #[test]
    fn what_lies_between_two_tails_is_their_difference() {
        for (from, to, n, p) in [
            (0, 3, 50, 0.005),
            (10, 31, 1000, 0.015),
            (900, 990, 1000, 0.95),
            (7, 7, 9, 0.5),
        ] {
            let between = tail_at_least(from, n, p) - tail_at_least(to, n, p);
            let seen = chance_within(from..to, n, p);
            assert!(
                (seen - between).abs() < 1e-13,
                "{from} to {to}: {seen} is not {between}"
            );
        }
    }

    #[test]
    fn the_edges_are_certain() {
        assert_eq!(tail_at_least(0, 0, 0.5), 1.0);
        assert_eq!(tail_at_least(1, 0, 0.5), 0.0);
        assert_eq!(tail_at_least(1, 10, 0.0), 0.0);
        assert_eq!(tail_at_least(10, 10, 1.0), 1.0);
        assert_eq!(tail_at_least(11, 10, 1.0), 0.0);
        assert_eq!(tail_at_most(0, 10, 0.0), 1.0);
        assert_eq!(tail_at_most(9, 10, 1.0), 0.0);
        assert_eq!(tail_at_most(10, 10, 0.5), 1.0);
    }
}
