//! What a sample could have seen: the smallest regression that it would reveal.
//!
//! For process 2 with late onset, a regression that is there from the first of these requests on, and a split of the arms
//! that does not change. The ln LR of `compare` then adds up to one of the totals, `k_c a_j - k_b b_j`: how the requests fall
//! into blocks is of no matter, and the chance of an alarm by the end of the sample is a sum over the two binomial counts. It
//! is computed as such, not by a normal law, because what is asked for lies at a handful of failures.
//!
//! What late onset stakes on the first d of the sample's blocks, with t blocks before them, is `1/(t+1) - 1/(t+d+1)`, and all of
//! it has seen at least the sample without its first d - 1 blocks. That is what is reckoned with, for the best of a few d; what is
//! left of stakes from before is not. Requests stand for learners: one who fails twice counts once in the gate, so that
//! it sees a little less.
//!
//! However large the sample, nothing is revealed whose expected ln LR is not above 0 for the smallest multiplier. With
//! psi0 = 1.5 and a small canary that is `r ln 1.5 > 1.5 (1.5 - 1)`: below 1.85 times baseline's rate nothing is ever claimed.

use super::combine::{Part, ln_limit, ln_mean};
use super::compare::Steps;
use super::{LnLrs, binomial};

/// The chance with which a regression has to be seen to be called detectable.
pub const CHANCE: f64 = 0.9;
/// A canary that fails more often than this is dead; the search ends there.
const HIGHEST_RATE: f64 = 0.999_999;
/// Counts of baseline that are looked at: where there are more, every so many-th stands for its neighbours.
const NODES: u64 = 128;
/// Standard deviations of baseline's count to each side; what lies beyond has a chance below 1e-9.
const REACH: f64 = 6.0;
/// The ratio is found to a thousandth.
const PRECISION: f64 = 1e-3;
/// The shares of the sample that may pass while stakes are laid. The first block alone is the best choice where the evidence is
/// young, more where it is old and a single block's stake is small.
const LEADS: [f64; 3] = [0.0, 0.1, 0.25];

/// The test whose power is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    /// The odds margin that is forgiven.
    pub psi0: f64,
    /// The share of alpha that this process has: w alpha.
    pub alpha: f64,
}

impl Test {
    /// Errors, by `regression(any)` with nothing else in evidence, or by `regression(errors)`: which is the same.
    pub fn of_errors(psi0: f64, alpha: f64) -> Self {
        Self {
            psi0,
            alpha: Part::Errors.weight() * alpha,
        }
    }
}

/// A sample that was, or is to be, taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub baseline: u64,
    pub canary: u64,
    /// Baseline's rate of failing.
    pub base_rate: f64,
    /// The blocks with both arms that it falls into.
    pub blocks: u64,
    /// Such blocks that the evidence had seen before.
    pub blocks_before: u64,
}

/// The smallest regression that is revealed with a chance of [`CHANCE`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detectable {
    /// Canary's rate of failing.
    pub rate: f64,
    /// That rate / baseline's.
    pub ratio: f64,
    pub odds_ratio: f64,
}

/// The smallest regression that the sample reveals; `None` if not even a dead canary would be seen, or if an arm is empty or
/// baseline's rate is not between 0 and 1.
pub fn smallest(test: Test, sample: Sample) -> Option<Detectable> {
    let rate = sample.base_rate;
    if sample.baseline == 0 || sample.canary == 0 || rate <= 0.0 || rate >= HIGHEST_RATE {
        return None;
    }
    LEADS
        .into_iter()
        .filter_map(|lead| after_lead(test, sample, lead))
        .min_by(|a, b| a.odds_ratio.total_cmp(&b.odds_ratio))
}

/// The same, by what is staked on the first blocks: one, or the share `lead` of them.
fn after_lead(test: Test, sample: Sample, lead: f64) -> Option<Detectable> {
    let rate = sample.base_rate;
    let blocks = sample.blocks.max(1) as f64;
    let (d, before) = (
        (lead * blocks).floor().max(1.0),
        sample.blocks_before as f64,
    );
    let ln_stake = (d / ((before + 1.0) * (before + d + 1.0))).ln();
    let kept = (blocks - d + 1.0) / blocks;
    let sample = Sample {
        baseline: (kept * sample.baseline as f64) as u64,
        canary: (kept * sample.canary as f64) as u64,
        ..sample
    };
    if sample.baseline == 0 || sample.canary == 0 {
        return None;
    }
    let nodes = nodes(test, ln_stake, sample);
    let seen_at = |odds_ratio: f64| chance(&nodes, sample.canary, rate_at(odds_ratio, rate));
    let base_odds = rate / (1.0 - rate);
    let highest = HIGHEST_RATE / (1.0 - HIGHEST_RATE) / base_odds;
    if seen_at(highest) < CHANCE {
        return None;
    }
    // The chance grows with the ratio, so that the logarithm of the smallest is found by halving.
    let (mut unseen, mut seen) = (0.0, highest.ln());
    while seen - unseen > PRECISION {
        let middle = 0.5 * (seen + unseen);
        if seen_at(middle.exp()) < CHANCE {
            unseen = middle
        } else {
            seen = middle
        }
    }
    let odds_ratio = seen.exp();
    let canary_rate = rate_at(odds_ratio, rate);
    Some(Detectable {
        rate: canary_rate,
        ratio: canary_rate / rate,
        odds_ratio,
    })
}

/// So many failures on canary raise an alarm with this chance: that of the counts of baseline's failures beside which
/// they are needed.
struct Node {
    chance: f64,
    needed: u64,
}

/// Ascending in what is needed, each once. Where no number of failures raises an alarm there is none.
fn nodes(test: Test, ln_stake: f64, sample: Sample) -> Vec<Node> {
    let (m, p) = (sample.baseline as f64, sample.base_rate);
    let spread = REACH * (m * p * (1.0 - p)).sqrt() + REACH;
    let from = (m * p - spread).max(0.0) as u64;
    let to = ((m * p + spread) as u64).min(sample.baseline);
    let step = ((to - from) / NODES).max(1);
    let alarm = Alarm {
        limit: ln_limit(test.alpha) - ln_stake,
        steps: Steps::of(test.psi0, sample.baseline, sample.canary),
        canary: sample.canary,
    };
    let (mut nodes, mut all, mut least): (Vec<Node>, _, _) = (Vec::new(), 0.0, 1);
    for failed in (from..=to).step_by(step as usize) {
        let chance = binomial::ln_chance(failed, sample.baseline, p).exp();
        all += chance;
        let Some(needed) = alarm.needed(failed, least) else {
            continue;
        };
        least = needed;
        match nodes.last_mut().filter(|last| last.needed == needed) {
            Some(last) => last.chance += chance,
            None => nodes.push(Node { chance, needed }),
        }
    }
    for node in &mut nodes {
        node.chance /= all;
    }
    nodes
}

/// What raises an alarm on totals of these arms.
struct Alarm {
    limit: f64,
    steps: Steps,
    canary: u64,
}

impl Alarm {
    fn is_raised(&self, baseline_failed: u64, canary_failed: u64) -> bool {
        let ln_lrs: LnLrs = self.steps.ln_lrs(baseline_failed, canary_failed);
        ln_mean(&ln_lrs) >= self.limit
    }

    /// The fewest failures on canary that raise it beside so many of baseline, at least `least`; `None` where no number
    /// of them does. Each ln LR grows with canary's and shrinks with baseline's, so that what is needed beside fewer is
    /// not enough beside more.
    fn needed(&self, baseline_failed: u64, least: u64) -> Option<u64> {
        let alarms = |canary_failed| self.is_raised(baseline_failed, canary_failed);
        if !alarms(self.canary) {
            return None;
        }
        let (mut too_few, mut enough, mut reach) = (least - 1, least.min(self.canary), 1);
        while enough < self.canary && !alarms(enough) {
            too_few = enough;
            enough = (enough + reach).min(self.canary);
            reach *= 2;
        }
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if alarms(middle) {
                enough = middle
            } else {
                too_few = middle
            }
        }
        Some(enough)
    }
}

/// The chance of an alarm when canary fails at `rate`.
fn chance(nodes: &[Node], canary: u64, rate: f64) -> f64 {
    let Some(last) = nodes.last() else {
        return 0.0;
    };
    // From the highest down: each tail is the one above it and what lies between, term by term.
    let mut tail = binomial::tail_at_least(last.needed, canary, rate);
    let mut sum = last.chance * tail;
    for pair in nodes.windows(2).rev() {
        tail += binomial::chance_within(pair[0].needed..pair[1].needed, canary, rate);
        sum += pair[0].chance * tail;
    }
    sum
}

fn rate_at(odds_ratio: f64, base_rate: f64) -> f64 {
    let odds = odds_ratio * base_rate / (1.0 - base_rate);
    odds / (1.0 + odds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Test = Test {
        psi0: 1.5,
        alpha: 0.003,
    };

    fn ratio(canary: u64, base_rate: f64) -> Option<f64> {
        let baseline = canary * 99;
        smallest(
            TEST,
            Sample {
                baseline,
                canary,
                base_rate,
                blocks: canary.min(7_200),
                blocks_before: 0,
            },
        )
        .map(|found| found.ratio)
    }

    #[test]
    fn more_requests_see_smaller_regressions_down_to_what_the_margin_forgives() {
        let mut last = f64::INFINITY;
        for canary in [20, 1_000, 20_000, 500_000, 5_000_000] {
            let ratio = ratio(canary, 0.001).expect("a dead canary at least is seen");
            assert!(ratio < last, "{canary}: {ratio}");
            last = ratio;
        }
        // 1.5 x 0.5 / ln 1.5, a little more at a share of 1 %.
        assert!((1.849..2.0).contains(&last), "{last}");
    }

    #[test]
    fn old_evidence_sees_less_of_what_begins_now() {
        let seen = |blocks_before| {
            let sample = Sample {
                baseline: 99_000,
                canary: 1_000,
                base_rate: 0.001,
                blocks: 1_000,
                blocks_before,
            };
            smallest(TEST, sample)
                .expect("a dead canary at least is seen")
                .ratio
        };
        let (young, hour, day) = (seen(0), seen(3_600), seen(86_400));
        assert!(
            young < hour && hour < day && day < 2.0 * young,
            "{young} {hour} {day}"
        );
    }

    #[test]
    fn what_cannot_be_seen_is_not_claimed() {
        assert_eq!(ratio(1, 0.001), None);
        assert_eq!(ratio(0, 0.001), None);
        assert_eq!(ratio(1000, 0.0), None);
        assert_eq!(ratio(1000, 1.0), None);
        // Nothing fails twice as often as half of the time.
        assert!(ratio(1000, 0.7).is_none_or(|ratio| ratio < 1.43));
    }
}
