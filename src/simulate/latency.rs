//! Laws of latency: a curve through the quantiles that a person knows, and its classes for drawing whole seconds.
//!
//! The logarithm of the latency is a broken line over the standard normal: median and p99 alone make a log-normal law,
//! p95 and p999 bend it into a heavier tail.

use super::chance::Dice;
use crate::rollout::latencies::Bucket;
use crate::rollout::slot::LATENCY_EDGES;

/// Where the standard normal has its 50, 95, 99 and 99.9 % quantile.
const Z: [f64; 4] = [
    0.0,
    1.644_853_626_951_472_2,
    2.326_347_874_040_841,
    3.090_232_306_167_813,
];
/// Steps of a class: a quarter of an octave. Limits and edges are class borders, so what is above them is exact.
const STEPS_PER_OCTAVE: i32 = 4;
/// 2^-4 ms, below what is told apart, to 2^17 ms, above it.
const OCTAVES: std::ops::RangeInclusive<i32> = -4..=17;

/// ln of milliseconds at each of `Z`, ascending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Law([f64; 4]);

/// A class of latencies that are counted as one.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// What its requests are recorded as, in microseconds.
    pub(super) latency_us: u64,
    pub(super) bucket: Bucket,
    pub(super) chance: f64,
    /// How many of the limits, ascending, it lies above.
    pub(super) limits_below: usize,
    /// How many of the edges 2^0, 2^1, ... ms it lies above.
    pub(super) edges_below: usize,
}

impl Law {
    /// From quantiles in milliseconds; what is left out continues the line. `None` if they do not ascend.
    pub(super) fn new(p50: f64, p95: Option<f64>, p99: f64, p999: Option<f64>) -> Option<Self> {
        let (ln50, ln99) = (p50.ln(), p99.ln());
        let ln95 = p95.map_or(ln50 + (ln99 - ln50) * Z[1] / Z[2], f64::ln);
        let slope = (ln99 - ln95) / (Z[2] - Z[1]);
        let ln999 = p999.map_or(ln99 + slope * (Z[3] - Z[2]), f64::ln);
        let law = [ln50, ln95, ln99, ln999];
        let ascends = law.iter().all(|ln| ln.is_finite()) && law.is_sorted_by(|a, b| a < b);
        ascends.then_some(Self(law))
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self(self.0.map(|ln| ln + factor.ln()))
    }

    /// Between this law (at 0) and another (at 1).
    pub(super) fn towards(self, other: Self, progress: f64) -> Self {
        let mut law = self.0;
        for (mine, theirs) in law.iter_mut().zip(other.0) {
            *mine += (theirs - *mine) * progress;
        }
        Self(law)
    }

    pub(super) fn is_slower_than(self, other: Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .any(|(&mine, theirs)| mine > theirs + 1e-9)
    }

    /// One latency in microseconds.
    pub(super) fn draw(self, dice: &mut Dice) -> u64 {
        (self.ln_ms_at(dice.normal()).exp() * 1000.0) as u64
    }

    /// The chance of a latency of at most so many milliseconds.
    pub(super) fn at_most(self, ms: f64) -> f64 {
        let ln = ms.ln();
        let section = (0..2).find(|&i| ln < self.0[i + 1]).unwrap_or(2);
        let slope = (self.0[section + 1] - self.0[section]) / (Z[section + 1] - Z[section]);
        normal_at_most(Z[section] + (ln - self.0[section]) / slope)
    }

    fn ln_ms_at(self, z: f64) -> f64 {
        let section = (0..2).find(|&i| z < Z[i + 1]).unwrap_or(2);
        let slope = (self.0[section + 1] - self.0[section]) / (Z[section + 1] - Z[section]);
        self.0[section] + (z - Z[section]) * slope
    }
}

/// The classes of a mixture of laws (`at_most` is its distribution over milliseconds), with limits in microseconds.
pub(super) fn classes(at_most: impl Fn(f64) -> f64, limits_us: &[u64]) -> Vec<Class> {
    let grid = OCTAVES.start() * STEPS_PER_OCTAVE..=OCTAVES.end() * STEPS_PER_OCTAVE;
    let mut borders: Vec<f64> = grid
        .map(|step| 1000.0 * 2_f64.powf(f64::from(step) / f64::from(STEPS_PER_OCTAVE)))
        .chain(limits_us.iter().map(|&limit| limit as f64))
        .collect();
    borders.sort_by(f64::total_cmp);
    borders.dedup_by(|a, b| (*a - *b).abs() < 1.0);
    let mut classes = Vec::new();
    let mut below = 0.0;
    let mut low = borders[0] / 2.0;
    for high in borders {
        let upto = at_most(high / 1000.0);
        let limits_below = limits_us.partition_point(|&limit| limit as f64 <= low + 1.0);
        let edges =
            (0..LATENCY_EDGES).take_while(|&edge| 1000.0 * 2_f64.powi(edge as i32) <= low + 1.0);
        if upto - below > 1e-12 {
            let latency_us = (low * high).sqrt() as u64;
            classes.push(Class {
                latency_us,
                bucket: Bucket::of(latency_us),
                chance: upto - below,
                limits_below,
                edges_below: edges.count(),
            });
        }
        (low, below) = (high, upto);
    }
    classes
}

/// The standard normal distribution (Marsaglia 2004): a series that reaches the last digits for |z| < 7.
fn normal_at_most(z: f64) -> f64 {
    if z < -7.0 {
        return 0.0;
    }
    if z > 7.0 {
        return 1.0;
    }
    let (mut sum, mut term, mut i) = (z, z, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        i += 2.0;
        term *= z * z / i;
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_goes_through_its_quantiles() {
        let law = Law::new(145.0, Some(385.0), 720.0, Some(2000.0)).expect("ascending");
        for (ms, share) in [(145.0, 0.5), (385.0, 0.95), (720.0, 0.99), (2000.0, 0.999)] {
            assert!((law.at_most(ms) - share).abs() < 1e-9, "{ms}");
        }
        assert_eq!(Law::new(100.0, None, 100.0, None), None);
        assert_eq!(Law::new(100.0, Some(90.0), 200.0, None), None);
        assert_eq!(Law::new(0.0, None, 200.0, None), None);
    }

    #[test]
    fn the_normal_distribution_is_the_table_s() {
        // Abramowitz and Stegun, table 26.1.
        for (z, p) in [
            (0.0, 0.5),
            (1.0, 0.841344746068543),
            (-2.0, 0.022750131948179),
            (3.5, 0.999767370920964),
        ] {
            assert!((normal_at_most(z) - p).abs() < 1e-14, "{z}");
        }
    }

    #[test]
    fn classes_hold_everything_and_part_at_limits_and_edges() {
        let law = Law::new(15.0, None, 46.0, None).expect("ascending");
        let limits = [30_000, 200_000];
        let classes = classes(|ms| law.at_most(ms), &limits);
        let all: f64 = classes.iter().map(|class| class.chance).sum();
        assert!((all - 1.0).abs() < 1e-9, "{all}");
        for (place, &limit) in limits.iter().enumerate() {
            let above = classes.iter().filter(|class| class.limits_below > place);
            let above: f64 = above.map(|class| class.chance).sum();
            assert!(
                (above - (1.0 - law.at_most(limit as f64 / 1000.0))).abs() < 1e-9,
                "{limit}"
            );
        }
        for class in &classes {
            let over = (0..LATENCY_EDGES).filter(|&edge| class.latency_us > 1000 << edge);
            assert_eq!(over.count(), class.edges_below, "{class:?}");
        }
    }

    #[test]
    fn single_draws_follow_the_law() {
        let law = Law::new(15.0, None, 46.0, None).expect("ascending");
        let mut dice = Dice::new(1, 0);
        let above = (0..100_000)
            .filter(|_| law.draw(&mut dice) > 46_000)
            .count();
        // Five standard errors of a binomial count of 1,000.
        assert!((843..1_158).contains(&above), "{above}");
    }
}
