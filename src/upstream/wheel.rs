//! Turns by weight: in as many turns as the weights sum to, each endpoint has exactly its weight, spread evenly.
//!
//! The turns are visited in steps that share no divisor with their number, near its golden section, so that an
//! endpoint of weight 5 is not asked five times in a row. Equal endpoints simply follow each other.

#[derive(Debug)]
pub(super) struct Wheel {
    /// Where each endpoint's stretch ends.
    ends: Vec<u64>,
    step: u64,
}

impl Wheel {
    pub(super) fn build(weights: impl Iterator<Item = u32>) -> Self {
        let mut total = 0;
        let ends: Vec<u64> = weights
            .map(|weight| {
                total += u64::from(weight);
                total
            })
            .collect();
        let is_even = ends.len() as u64 == total;
        let step = if is_even { 1 } else { step_of(total) };
        Self { ends, step }
    }

    /// Whose turn it is; `None` where there is nobody.
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        // Both factors are below 2^32: weights go to 1000, and nobody has four million endpoints.
        let place = (turn % total).wrapping_mul(self.step) % total;
        if self.step == 1 && total == self.ends.len() as u64 {
            return usize::try_from(place).ok();
        }
        Some(self.ends.partition_point(|end| *end <= place))
    }

    /// How many turns there are.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

fn step_of(total: u64) -> u64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let near = ((total as f64 * GOLDEN) as u64).max(1);
    (near..total)
        .find(|step| greatest_common_divisor(*step, total) == 1)
        .unwrap_or(1)
}

const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32]) -> Vec<usize> {
        let wheel = Wheel::build(weights.iter().copied());
        (0..wheel.total())
            .map(|turn| wheel.at(turn).expect("somebody"))
            .collect()
    }

    #[test]
    fn equals_follow_each_other_and_weights_are_exact() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        for weights in [&[5, 1, 1][..], &[3, 2], &[1, 10, 100], &[7], &[2, 2]] {
            let turns = turns(weights);
            for (index, weight) in weights.iter().enumerate() {
                let count = turns.iter().filter(|turn| **turn == index).count();
                assert_eq!(count, *weight as usize, "{weights:?}: {turns:?}");
            }
        }
        assert_eq!(Wheel::build(std::iter::empty()).at(3), None);
    }

    #[test]
    fn a_heavy_one_does_not_keep_the_light_ones_waiting() {
        let turns = turns(&[10, 5, 5]);
        let longest = |index| {
            let wait = |(waited, most): (usize, usize), turn: &usize| {
                let waited = if *turn == index { 0 } else { waited + 1 };
                (waited, most.max(waited))
            };
            turns.iter().chain(&turns).fold((0, 0), wait).1
        };
        assert!(longest(1) <= 8 && longest(2) <= 8, "{turns:?}");
        assert!(longest(0) <= 3, "{turns:?}");
    }
}
