//! Chance by number: what the n-th request of a seed meets, without a state to share.
//!
//! The same seed and number give the same draw on every thread and in every run.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::behaviour::Latency;

/// The 99 % quantile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874_040_841;
/// The longest latency drawn, in seconds: the tail of a log-normal has no end.
const LATENCY_MAX_S: f64 = 3_600.0;

/// What a draw is for. Each has a sequence of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draw {
    Latency,
    Error,
    Hang,
    Reset,
    CutBody,
    CacheHit,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    pub(super) seed: u64,
}

impl Chance {
    /// Whether the n-th request is among this share of all.
    pub(super) fn hits(self, draw: Draw, n: u64, share: f64) -> bool {
        // 53 bits make a number in [0, 1): below 1 always, below 0 never.
        let uniform = (self.bits(draw, n) >> 11) as f64 / (1_u64 << 53) as f64;
        uniform < share
    }

    /// The latency of the n-th request: log-normal with this median and 99 % quantile.
    pub(super) fn latency(self, n: u64, latency: Latency) -> Duration {
        let (median, p99) = (latency.median.as_secs_f64(), latency.p99.as_secs_f64());
        if median == 0.0 {
            return Duration::ZERO;
        }
        let sigma = (p99.max(median) / median).ln() / Z_99;
        let seconds = median * (sigma * self.normal(n)).exp();
        Duration::from_secs_f64(seconds.min(LATENCY_MAX_S))
    }

    // Box and Muller (1958), from the two halves of one draw: reaches 6.7 standard deviations.
    fn normal(self, n: u64) -> f64 {
        let bits = self.bits(Draw::Latency, n);
        let unit = |half: u64| (half as f64 + 0.5) / 2_f64.powi(32);
        let (radius, angle) = (unit(bits >> 32), unit(bits & 0xffff_ffff));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    fn bits(self, draw: Draw, n: u64) -> u64 {
        let mut input = [0; 9];
        input[..8].copy_from_slice(&n.to_le_bytes());
        input[8] = draw as u8;
        xxh3_64_with_seed(&input, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 100_000;

    #[test]
    fn latencies_have_the_median_and_the_tail_that_were_asked_for() {
        let check = |median_ms: u64, p99_ms: u64, seed: u64| {
            let [median, p99] = [median_ms, p99_ms].map(Duration::from_millis);
            let latency = Latency { median, p99 };
            let chance = Chance { seed };
            let mut drawn: Vec<_> = (0..DRAWS).map(|n| chance.latency(n, latency)).collect();
            drawn.sort_unstable();
            for (quantile, asked) in [(0.5, median), (0.99, p99)] {
                let found = drawn[(quantile * DRAWS as f64) as usize].as_secs_f64();
                let ratio = found / asked.as_secs_f64();
                assert!(
                    (ratio - 1.0).abs() < 0.03,
                    "seed {seed}: {quantile} is {found} s"
                );
            }
        };
        check(40, 120, 1);
        check(5, 500, 2);
        check(40, 40, 3);
        let none = Latency {
            median: Duration::ZERO,
            p99: Duration::from_secs(1),
        };
        assert_eq!(Chance { seed: 4 }.latency(9, none), Duration::ZERO);
    }

    #[test]
    fn a_share_is_met_and_its_ends_are_exact() {
        let chance = Chance { seed: 5 };
        let count = |share| {
            (0..DRAWS)
                .filter(|&n| chance.hits(Draw::Error, n, share))
                .count()
        };
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), DRAWS as usize);
        // Four standard deviations of a binomial count: 4 * sqrt(100,000 * 0.01 * 0.99) = 126.
        assert!(count(0.01).abs_diff(1_000) <= 126, "{}", count(0.01));
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let hits = |seed, draw| -> Vec<bool> {
            (0..64)
                .map(|n| Chance { seed }.hits(draw, n, 0.5))
                .collect()
        };
        assert_eq!(hits(1, Draw::Hang), hits(1, Draw::Hang));
        assert_ne!(hits(1, Draw::Hang), hits(2, Draw::Hang));
        assert_ne!(hits(1, Draw::Hang), hits(1, Draw::Reset));
    }
}
