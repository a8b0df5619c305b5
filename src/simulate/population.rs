//! Learners of a simulation: numbered in the order of their buckets, so that an arm is a range of numbers.
//!
//! The high bits of a learner's hash are his place in that order, the low bits are mixed: who is on canary at a weight
//! stays there as it grows, as in a real rollout, and nothing has to be hashed while drawing.

use super::chance::Dice;
use crate::rollout::assign::LearnerHash;
use crate::rollout::name::Arm;
use crate::rollout::weight::Weight;

/// Everybody, and who of them always fails or is always slow.
#[derive(Clone, Debug)]
pub(super) struct Population {
    learners: u64,
    salt: u64,
    slow_share: f64,
    failing_share: f64,
    misassigned_share: f64,
    /// Numbers of those who always fail, and of those who are always slow, ascending.
    failing: Vec<u64>,
    slow: Vec<u64>,
    /// The share of each segment and those before it.
    segments: Vec<f64>,
}

impl Population {
    pub(super) fn new(learners: u64, failing_share: f64, slow_share: f64, dice: &mut Dice) -> Self {
        let mut population = Self {
            learners: learners.max(1),
            salt: dice.bits(),
            slow_share,
            failing_share,
            misassigned_share: 0.0,
            failing: Vec::new(),
            slow: Vec::new(),
            segments: Vec::new(),
        };
        if failing_share > 0.0 {
            population.failing = (0..population.learners)
                .filter(|&learner| population.always_fails(learner))
                .collect();
        }
        if slow_share > 0.0 {
            population.slow = (0..population.learners)
                .filter(|&learner| population.is_always_slow(learner))
                .collect();
        }
        population
    }

    /// The same in segments of these shares; who is in none of them has none.
    pub(super) fn in_segments(mut self, shares: impl Iterator<Item = f64>) -> Self {
        let mut upto = 0.0;
        self.segments = shares
            .map(|share| {
                upto += share;
                upto
            })
            .collect();
        self
    }

    /// The same with so many of canary's learners where they do not belong.
    pub(super) const fn with_misassigned(mut self, share: f64) -> Self {
        self.misassigned_share = share;
        self
    }

    /// The place of a learner's segment.
    pub(super) fn segment(&self, learner: u64) -> Option<usize> {
        if self.segments.is_empty() {
            return None;
        }
        let place = mix(learner.wrapping_add(mix(self.salt ^ 3))) as f64 / 2_f64.powi(64);
        self.segments.iter().position(|&upto| place < upto)
    }

    pub(super) fn hash(&self, learner: u64) -> LearnerHash {
        let place = ((u128::from(learner) << 64) | (1 << 63)) / u128::from(self.learners);
        let low = mix(learner ^ self.salt) & 0xffff_ffff;
        LearnerHash::from_raw((place as u64 & !0xffff_ffff) | low)
    }

    /// The numbers of an arm: from, to (exclusive).
    pub(super) fn arm(&self, arm: Arm, weight: Weight) -> (u64, u64) {
        let share = u128::from(self.learners) * u128::from(weight.ppm());
        let border = u64::try_from(share.div_ceil(1_000_000)).unwrap_or(self.learners);
        match arm {
            Arm::Canary => (0, border),
            Arm::Baseline => (border, self.learners),
        }
    }

    pub(super) fn someone(&self, dice: &mut Dice) -> u64 {
        dice.below(self.learners)
    }

    /// The numbers of those who always fail, ascending.
    pub(super) fn failing(&self) -> &[u64] {
        &self.failing
    }

    /// The numbers of those who are always slow, ascending.
    pub(super) fn slow(&self) -> &[u64] {
        &self.slow
    }

    pub(super) fn always_fails(&self, learner: u64) -> bool {
        self.is_among(self.failing_share, learner, 1)
    }

    pub(super) fn is_always_slow(&self, learner: u64) -> bool {
        self.is_among(self.slow_share, learner, 2)
    }

    pub(super) fn is_misassigned(&self, learner: u64) -> bool {
        self.is_among(self.misassigned_share, learner, 4)
    }

    fn is_among(&self, share: f64, learner: u64, group: u64) -> bool {
        let place = mix(learner.wrapping_add(mix(self.salt ^ group)));
        share > 0.0 && (place as f64) < share * 2_f64.powi(64)
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_where_the_hash_puts_them() {
        let population = Population::new(50_000, 0.005, 0.0, &mut Dice::new(1, 0));
        for ppm in [0, 1, 10_000, 123_457, 999_999, 1_000_000] {
            let weight = Weight::from_ppm(ppm).expect("a share");
            for arm in Arm::ALL {
                let (from, to) = population.arm(arm, weight);
                // One learner at the border shares his bucket with it.
                for learner in [from + 1, (from + to) / 2, to.saturating_sub(2)] {
                    if learner > from && learner + 1 < to {
                        let on_canary = population.hash(learner).bucket() < ppm;
                        assert_eq!(on_canary, arm == Arm::Canary, "{learner} at {ppm}");
                    }
                }
            }
        }
    }

    #[test]
    fn who_always_fails_is_a_share_of_each_arm() {
        let population = Population::new(500_000, 0.005, 0.0, &mut Dice::new(1, 0));
        assert!((2_250..2_750).contains(&population.failing.len()));
        let half = Weight::parse("50%").expect("a share");
        let counts = Arm::ALL.map(|arm| {
            let (from, to) = population.arm(arm, half);
            let failing = population.failing().iter();
            failing.filter(|number| (from..to).contains(number)).count()
        });
        assert_eq!(counts[0] + counts[1], population.failing.len());
        assert!(counts.iter().all(|&count| count > 1_000), "{counts:?}");
    }
}
