//! The functions of mathematics that the standard library lacks.
//!
//! All rest on one: the error of Stirling's formula, `d(x) = ln G(x) - [(x - 1/2) ln x - x + ln(2 pi) / 2]`, which is
//! small and smooth. Written with it, a beta function of millions and a binomial chance lose no digits, where differences
//! of ln gamma would.

use std::f64::consts::TAU;

/// Beyond this the series of [`stirling_error`] is exact to a double: its first left-out term is below 3e-18.
const SERIES_FROM: f64 = 15.0;

/// d(x) for x > 0: Stirling's series (Abramowitz & Stegun 6.1.41), below 15 reached by `G(x + 1) = x G(x)`.
pub fn stirling_error(x: f64) -> f64 {
    if x < SERIES_FROM {
        return ln_gamma(x) - stirling(x);
    }
    let y = 1.0 / (x * x);
    let inner = 1.0 / 1188.0 - y * (691.0 / 360_360.0);
    let inner = 1.0 / 1680.0 - y * inner;
    let inner = 1.0 / 1260.0 - y * inner;
    let inner = 1.0 / 360.0 - y * inner;
    (1.0 / 12.0 - y * inner) / x
}

/// ln of the gamma function for x > 0.
pub fn ln_gamma(x: f64) -> f64 {
    let (mut shifted, mut product) = (x, 1.0);
    while shifted < SERIES_FROM {
        product *= shifted;
        shifted += 1.0;
    }
    stirling(shifted) + stirling_error(shifted) - product.ln()
}

/// ln of the beta function for a, b > 0: `G(a) G(b) / G(a + b)`.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    (small - 0.5) * (small / sum).ln() + (large - 0.5) * (-small / sum).ln_1p() - 0.5 * sum.ln()
        + 0.5 * TAU.ln()
        + stirling_error(a)
        + stirling_error(b)
        - stirling_error(sum)
}

/// `x ln(x / mean) - x + mean`: what a count x loses against its mean, without cancellation where they are near
/// (Loader, "Fast and accurate computation of binomial probabilities", 2000).
pub fn deviance(x: f64, mean: f64) -> f64 {
    let apart = x - mean;
    if apart.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() - apart;
    }
    // ln(x / mean) = 2 (v + v^3 / 3 + v^5 / 5 + ...) with v = (x - mean) / (x + mean).
    let v = apart / (x + mean);
    let mut sum = apart * v;
    let mut power = 2.0 * x * v;
    // v is below 0.1, so that each term is a hundredth of the one before.
    for odd in (3_u32..99).step_by(2) {
        power *= v * v;
        let next = sum + power / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

fn stirling(x: f64) -> f64 {
    (x - 0.5) * x.ln() - x + 0.5 * TAU.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed with mpmath at 50 digits.

    fn check(name: &str, seen: f64, expected: f64) {
        let error = (seen - expected).abs();
        assert!(
            error <= 1e-12 * expected.abs().max(1.0),
            "{name}: {seen} is not {expected}"
        );
    }

    #[test]
    fn ln_gamma_is_right_to_twelve_digits() {
        for (x, expected) in [
            (1e-3, 6.907_178_885_383_853),
            (0.5, 0.572_364_942_924_700_1),
            (1.0, 0.0),
            (1.5, -0.120_782_237_635_245_22),
            (2.0, 0.0),
            (3.25, 0.935_801_931_108_725_3),
            (7.0, 6.579_251_212_010_101),
            (14.9, 24.924_132_002_217_277),
            (15.0, 25.191_221_182_738_682),
            (62.02, 192.821_431_503_266_8),
            (1000.5, 5_908.674_175_848_678),
            (123_456.75, 1_323_901.561_573_014_2),
            (1e9, 19_723_265_827.503_717),
        ] {
            check(&format!("ln_gamma({x})"), ln_gamma(x), expected);
        }
    }

    #[test]
    fn ln_beta_is_right_to_twelve_digits_even_of_millions() {
        for (a, b, expected) in [
            (0.5, 0.5, 1.144_729_885_849_400_2),
            (0.3, 61.7, -0.139_183_578_587_449_49),
            (2.0, 3.0, -2.484_906_649_788_000_3),
            (15.31, 1046.7, -80.537_125_521_344_25),
            (100.25, 9900.75, -562.552_909_571_917_9),
            (1500.062, 998_561.94, -11_255.542_701_036_357),
            (1e6, 1e9, -7_908_261.100_715_666),
            (1e-3, 1e8, 6.888_758_204_644_896),
        ] {
            check(&format!("ln_beta({a}, {b})"), ln_beta(a, b), expected);
            check(&format!("ln_beta({b}, {a})"), ln_beta(b, a), expected);
        }
    }

    #[test]
    fn the_deviance_is_right_far_from_the_mean_and_near() {
        for (x, mean, expected) in [
            (10.0, 10.5, 0.012_098_358_305_679_97),
            (5.0, 50.0, 33.487_074_535_029_77),
            (1.0, 0.01, 3.615_170_185_988_091_4),
            (12.0, 10.0, 0.187_858_681_527_455_5),
            (1e6, 1.001e6, 0.499_666_916_466_833_2),
            (7.0, 7.0, 0.0),
        ] {
            check(
                &format!("deviance({x}, {mean})"),
                deviance(x, mean),
                expected,
            );
        }
    }
}
