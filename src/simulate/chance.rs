//! Dice with a seed: counts that follow the laws of chance, the same on every machine.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Poisson, StandardNormal};

/// Runs of one seed must not share a sequence: their numbers are spread by the golden ratio (Knuth, 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator of one run.
#[derive(Clone, Debug)]
pub(super) struct Dice(Xoshiro256PlusPlus);

/// What comes at random, with its constants computed once: drawn from over and over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals(Option<Poisson<f64>>);

impl Arrivals {
    /// So many are to be expected; nothing comes where that is 0.
    pub(super) fn new(mean: f64) -> Self {
        Self(Poisson::new(mean).ok())
    }

    pub(super) fn draw(&self, dice: &mut Dice) -> u64 {
        self.0.map_or(0, |law| law.sample(&mut dice.0) as u64)
    }
}

/// One of several places, each with a weight.
#[derive(Clone, Debug, Default)]
pub(super) struct Mixture {
    /// Places with the sum of the weights up to theirs.
    upto: Vec<(usize, f64)>,
}

impl Mixture {
    pub(super) fn new(weights: impl IntoIterator<Item = (usize, f64)>) -> Self {
        let mut sum = 0.0;
        let upto = weights.into_iter().map(|(place, weight)| {
            sum += weight;
            (place, sum)
        });
        Self {
            upto: upto.collect(),
        }
    }

    /// The place 0 where there is none.
    pub(super) fn draw(&self, dice: &mut Dice) -> usize {
        let Some(&(last, all)) = self.upto.last() else {
            return 0;
        };
        let at = dice.uniform() * all;
        let found = self.upto.partition_point(|(_, upto)| *upto <= at);
        self.upto.get(found).map_or(last, |(place, _)| *place)
    }
}

impl Dice {
    pub(super) fn new(seed: u64, run: u64) -> Self {
        let seed = seed ^ run.wrapping_add(1).wrapping_mul(SPREAD);
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// How many of what comes at random come, where `mean` are to be expected.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        Arrivals::new(mean).draw(self)
    }

    pub(super) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// In [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound.max(1))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence_and_runs_differ() {
        let draw = |seed, run| {
            let mut dice = Dice::new(seed, run);
            (0..20)
                .map(|_| dice.poisson(40.0) + dice.below(100))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(7, 4));
        assert_ne!(draw(7, 3), draw(8, 3));
    }

    #[test]
    fn means_are_within_five_standard_errors() {
        let mut dice = Dice::new(1, 0);
        let draws = 20_000.0;
        let mut check = |mean: f64, variance: f64, draw: &dyn Fn(&mut Dice) -> u64| {
            let sum: u64 = (0..20_000).map(|_| draw(&mut dice)).sum();
            let error = (sum as f64 / draws - mean).abs();
            assert!(
                error < 5.0 * (variance / draws).sqrt(),
                "{mean}: off by {error}"
            );
        };
        check(0.3, 0.3, &|dice| dice.poisson(0.3));
        check(990.0, 990.0, &|dice| dice.poisson(990.0));
    }

    #[test]
    fn a_mixture_has_its_weights() {
        let mut dice = Dice::new(1, 0);
        let mixture = Mixture::new([(3, 1.0), (7, 0.0), (9, 3.0)]);
        let mut drawn = [0_u32; 10];
        for _ in 0..20_000 {
            drawn[mixture.draw(&mut dice)] += 1;
        }
        // Five standard errors of a binomial count of 5,000.
        assert!((4_694..5_306).contains(&drawn[3]), "{drawn:?}");
        assert_eq!(drawn[3] + drawn[9], 20_000);
    }

    #[test]
    fn the_edges_are_certain() {
        let mut dice = Dice::new(1, 0);
        assert_eq!(dice.poisson(0.0), 0);
        assert_eq!(dice.below(0), 0);
    }
}
