//! Do the arms hold the learners that the weight sends them: counted exactly, on a sample by hash.
//!
//! gate.md, "Evidence", 8. In the sample are learners whose place, a second hash of their id, lies in a range common to
//! both arms; once `MAX_SAMPLED` of them are held the range is halved. Who is in it is kept in memory alone: a saved state
//! has the counts. Whoever goes on from one counts on in a range of which nobody was counted yet, so that nobody counts
//! twice. Half of all places lie in the first range, to leave such ranges. The odds are in `stats::ratio_mismatch`.

use std::collections::BTreeMap;

use super::block::Assigned;
use crate::rollout::assign::LearnerHash;
use crate::rollout::name::Arm;
use crate::rollout::stats::ratio_mismatch::{Split, ln_odds};
use crate::rollout::weight::Weight;

/// So many learners of the open range are held at most.
pub const MAX_SAMPLED: usize = 65_536;

/// Beyond any odds, and a number that every reader of JSON knows.
const CERTAIN: f64 = 1e6;

/// Distinct learners by arm, since the weight, a ceiling or a pin last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Of the split: who was sent by an older one does not count.
    pub epoch: u64,
    /// Counted in ranges that are closed, by `Arm::index`.
    pub closed: [u64; 2],
    /// Counted in the open range.
    pub open: [u64; 2],
    /// The first place of the open range.
    pub from: u64,
    /// How many places it has.
    pub width: u64,
}

/// Who was counted in the open range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    arms: BTreeMap<u64, Arm>,
}

/// A learner's place: the finalizer of SplitMix64 over his hash. His arm follows from the high bits of the hash itself, and
/// says nothing about it.
pub const fn place_of(learner: LearnerHash) -> u64 {
    let mut h = learner.raw().wrapping_add(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

// === impl Shares ===

impl Shares {
    /// Nobody was counted yet.
    pub const fn new(epoch: u64) -> Self {
        Self {
            epoch,
            closed: [0; 2],
            open: [0; 2],
            from: 0,
            width: 1 << 63,
        }
    }

    /// Counts whoever was sent to an arm by this split or a later one. `sampled` are those who are in the counts; where it
    /// knows nobody, because the process is another one, the range is closed and the next one begins.
    pub fn add<'a>(
        &mut self,
        sampled: &mut Sampled,
        assigned: impl IntoIterator<Item = &'a Assigned>,
    ) {
        if self.open.iter().sum::<u64>() != sampled.arms.len() as u64 {
            self.begin_range(sampled);
        }
        for one in assigned {
            let place = place_of(one.learner);
            let is_in = one.epoch >= self.epoch && self.holds(place);
            if is_in && sampled.arms.insert(place, one.arm).is_none() {
                self.open[one.arm.index()] += 1;
            }
            while sampled.arms.len() >= MAX_SAMPLED && self.width > 1 {
                self.halve(sampled);
            }
        }
    }

    /// By `Arm::index`.
    pub fn counts(&self) -> [u64; 2] {
        [0, 1].map(|arm: usize| self.closed[arm] + self.open[arm])
    }

    /// ln of the odds that learners are not split as this weight says, in nats; `CERTAIN` where somebody stands where
    /// nobody should.
    pub fn ln_odds(&self, weight: Weight) -> f64 {
        let [baseline, canary] = self.counts();
        let split = Split {
            baseline,
            canary,
            canary_share: weight.share(),
        };
        ln_odds(split).min(CERTAIN)
    }

    const fn holds(&self, place: u64) -> bool {
        place >= self.from && place - self.from < self.width
    }

    // Half of what no range has touched.
    fn begin_range(&mut self, sampled: &mut Sampled) {
        sampled.arms.clear();
        if self.open != [0; 2] {
            self.closed = self.counts();
            self.open = [0; 2];
            self.from = self.from.saturating_add(self.width);
            self.width = (u64::MAX - self.from) / 2;
        }
    }

    fn halve(&mut self, sampled: &mut Sampled) {
        self.width /= 2;
        let end = self.from.saturating_add(self.width);
        drop(sampled.arms.split_off(&end));
        self.open = [0; 2];
        for arm in sampled.arms.values() {
            self.open[arm.index()] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(learner: u64, arm: Arm) -> Assigned {
        Assigned {
            learner: LearnerHash::from_raw(learner),
            arm,
            segment: None,
            epoch: 1,
        }
    }

    #[test]
    fn a_learner_counts_once_also_over_a_restart() {
        let (mut shares, mut sampled) = (Shares::new(1), Sampled::default());
        let all: Vec<Assigned> = (0..20_000)
            .map(|learner| {
                let on_canary = learner % 4 == 0;
                sent(
                    learner,
                    if on_canary {
                        Arm::Canary
                    } else {
                        Arm::Baseline
                    },
                )
            })
            .collect();
        shares.add(&mut sampled, &all);
        shares.add(&mut sampled, &all);
        let first = shares.counts();
        // Half of the places, and three standard deviations of that.
        assert!(
            (9_788..=10_212).contains(&(first[0] + first[1])),
            "{first:?}"
        );
        // Another process: a quarter of the places follows, then an eighth.
        for (round, expected) in [(1, 15_000.0), (2, 17_500.0_f64)] {
            let mut forgotten = Sampled::default();
            for _ in 0..2 {
                shares.add(&mut forgotten, &all);
            }
            let [baseline, canary] = shares.counts().map(|count| count as f64);
            assert!(
                (baseline + canary - expected).abs() < 212.0,
                "round {round}"
            );
            assert!((canary / (baseline + canary) - 0.25).abs() < 0.01);
        }
    }

    #[test]
    fn older_splits_do_not_count() {
        let (mut shares, mut sampled) = (Shares::new(2), Sampled::default());
        let all: Vec<Assigned> = (0..100).map(|id| sent(id, Arm::Canary)).collect();
        shares.add(&mut sampled, &all);
        assert_eq!(shares.counts(), [0, 0]);
    }

    #[test]
    fn the_sample_is_bounded_and_keeps_the_shares() {
        let (mut shares, mut sampled) = (Shares::new(1), Sampled::default());
        for learner in 0..400_000 {
            let on_canary = learner % 10 == 0;
            let arm = if on_canary {
                Arm::Canary
            } else {
                Arm::Baseline
            };
            shares.add(&mut sampled, &[sent(learner, arm)]);
            assert!(sampled.arms.len() < MAX_SAMPLED);
        }
        assert_eq!(shares.width, 1 << 61, "200,000 in the first half");
        let [baseline, canary] = shares.counts();
        assert_eq!(baseline + canary, sampled.arms.len() as u64);
        // A tenth within four standard deviations.
        let apart = canary as f64 / (baseline + canary) as f64 - 0.1;
        assert!(
            apart.abs() < 4.0 * (0.09 / (baseline + canary) as f64).sqrt(),
            "{apart}"
        );
    }
}
