//! What a share of failures could still be, given how few were seen.
//!
//! The exact one-sided upper bound (95 %, or as asked) for a binomial share (Clopper and Pearson, 1934): the share p at which seeing
//! k failures or fewer in n requests has a chance of 5 %. For k = 0 that is 1 - 0.05^(1/n).

use crate::rollout::stats::binomial::tail_at_most;

/// Chance that the true share lies above the bound.
const BEYOND: f64 = 0.05;

/// The bound for `failures` among `requests`; 1 where nothing was seen, or only failures.
pub(super) fn upper_bound(failures: u64, requests: u64) -> f64 {
    upper_bound_beyond(BEYOND, failures, requests)
}

/// The same where `beyond` is the chance that the true share lies above the bound: 0.01 for 99 %.
pub fn upper_bound_beyond(beyond: f64, failures: u64, requests: u64) -> f64 {
    if requests == 0 || failures >= requests {
        return 1.0;
    }
    let n = requests as f64;
    if failures == 0 {
        return -(beyond.ln() / n).exp_m1();
    }
    let (mut low, mut high) = (failures as f64 / n, 1.0);
    // The interval halves each time: 60 times leaves less than a double can tell apart.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if tail_at_most(failures, requests, middle) > beyond {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_exact_one() {
        // Computed with Python's fractions and decimal at 50 digits, by bisection of the binomial sum.
        let check = |failures: u64, requests: u64, bound: f64| {
            let seen = upper_bound(failures, requests);
            assert!(
                (seen - bound).abs() < 1e-9,
                "{failures} of {requests}: {seen} is not {bound}"
            );
        };
        check(0, 1, 0.950000000000);
        check(0, 20, 0.139108340668);
        check(0, 380, 0.007852512649);
        check(0, 1_000_000, 0.000002995728);
        check(1, 2, 0.974679434481);
        check(1, 100, 0.046559811454);
        check(3, 380, 0.020277048625);
        check(15, 1_000, 0.023003548851);
        check(25, 50, 0.623754108791);
        check(150, 10_000, 0.017157718182);
        check(999, 1_000, 0.999948708021);
    }

    #[test]
    fn a_smaller_chance_makes_a_wider_bound() {
        // 1 - 0.01^(1/380), by the same program.
        assert!((upper_bound_beyond(0.01, 0, 380) - 0.012045731166).abs() < 1e-9);
        assert!(upper_bound_beyond(0.01, 3, 380) > upper_bound(3, 380));
    }

    #[test]
    fn the_edges_say_that_nothing_is_known() {
        assert_eq!(upper_bound(0, 0), 1.0);
        assert_eq!(upper_bound(5, 5), 1.0);
        assert_eq!(upper_bound(9, 5), 1.0);
    }
}
