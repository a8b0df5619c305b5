//! Evidence of a change that begins at a moment nobody knows.
//!
//! A process that has run through a healthy hour stands deep below 1 and has to climb back. This one bets a share
//! `1 / (s (s + 1))` of its wealth on each block s as the first bad one; the shares sum to 1, and what begins later than
//! now is not yet bet:
//!
//! ```text
//! S_j <- (S_j + 1 / (t (t + 1))) LR_j(block t),   S_j = 0 at first
//! E_t  = 1 / (t + 1) + mean over j of S_j
//! ```
//!
//! A mixture of e-processes over the start is one again (Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework
//! for sequential change detection", 2023, with the weights of a probability). S_j is kept in a unit that moves with the
//! largest of them, because plain it overflows: logarithms of each would cost four times as much, and what is e^-400
//! of the largest says nothing beside it.
//!
//! A block that says nothing (LR = 1 for every j) changes no E: what S_j gains, `1/(t(t+1))`, is what `1/(t+1)` loses.
//! Such blocks are only counted; the next that says something bets the shares of all of them at once, whose sum
//! telescopes to `1/(t0+1) - 1/(t+1)`.

use super::combine::ln_add;

/// Beyond these the unit is moved, in units: far from where a number ends, so that one block cannot reach it.
const LARGE: f64 = 1e100;
const SMALL: f64 = 1e-100;
/// A block with a ln LR beyond this is taken in by logarithms, in nats.
const FAR: f64 = 200.0;

/// The state of one such process. Plain values: what is saved and read back goes on bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Onset {
    /// Blocks with both arms so far.
    pub t: u64,
    /// How many of them are in `s`: those after it said nothing.
    pub folded: u64,
    /// S_j after `folded` blocks in units of `e^ln_unit`, one for each alternative.
    pub s: Vec<f64>,
    /// In nats, 0 until an S_j grows large.
    pub ln_unit: f64,
    /// ln E, which follows from the others: it is asked for several times a block.
    ln_e: f64,
}

impl Onset {
    /// For `width` alternatives. Of width 0 its E stays 1.
    pub fn new(width: usize) -> Self {
        Self::of(0, 0, vec![0.0; width], 0.0)
    }

    /// As it was saved: `t` blocks, of which `folded` are in `s`.
    pub fn of(t: u64, folded: u64, s: Vec<f64>, ln_unit: f64) -> Self {
        let mut onset = Self {
            t,
            folded: folded.min(t),
            s,
            ln_unit,
            ln_e: 0.0,
        };
        onset.ln_e = onset.computed();
        onset
    }

    /// The same from ln S_j in nats.
    pub fn of_ln(t: u64, folded: u64, ln_s: &[f64]) -> Self {
        let folded = folded.min(t);
        // Before the first block that says something they stand at 0 and mean nothing.
        if folded == 0 {
            return Self::of(t, 0, vec![0.0; ln_s.len()], 0.0);
        }
        let ln_unit = most(ln_s).max(0.0);
        let s = ln_s.iter().map(|ln_s| (ln_s - ln_unit).exp()).collect();
        Self::of(t, folded, s, ln_unit)
    }

    /// One more block with its ln LR for each alternative, in nats. Blocks that cannot be judged are not added.
    pub fn add(&mut self, block_ln_lrs: &[f64]) {
        debug_assert_eq!(block_ln_lrs.len(), self.s.len(), "one for each alternative");
        self.add_each(block_ln_lrs.iter().copied());
    }

    /// The same, computed as they are asked for: more than once.
    pub fn add_each(&mut self, block_ln_lrs: impl Iterator<Item = f64> + Clone) {
        self.t += 1;
        if block_ln_lrs.clone().all(|ln_lr| ln_lr == 0.0) {
            return;
        }
        let share = self.unstaked();
        if block_ln_lrs.clone().any(|ln_lr| ln_lr.abs() > FAR) {
            self.stake_by_logarithms(share.ln(), block_ln_lrs);
        } else {
            self.stake(share, block_ln_lrs.map(f64::exp));
        }
        self.folded = self.t;
        self.ln_e = self.computed();
    }

    /// One more block with its LR itself for each alternative, not all of them 1: for those that can be had without a
    /// logarithm. Each must be within e^-300 and e^300.
    pub fn add_ratios(&mut self, block_lrs: &[f64]) {
        debug_assert_eq!(block_lrs.len(), self.s.len(), "one for each alternative");
        self.t += 1;
        let share = self.unstaked();
        self.stake(share, block_lrs.iter().copied());
        self.folded = self.t;
        self.ln_e = self.computed();
    }

    /// One more block that says nothing.
    pub fn add_idle(&mut self) {
        self.t += 1;
    }

    /// ln E_t in nats.
    pub const fn ln_e(&self) -> f64 {
        self.ln_e
    }

    // What the blocks since the last that said something were bet on, and this one: 1 / (before + 1) - 1 / (t + 1).
    fn unstaked(&self) -> f64 {
        let (t, before) = (self.t as f64, self.folded as f64);
        (t - before) / ((before + 1.0) * (t + 1.0))
    }

    fn stake(&mut self, share: f64, lrs: impl Iterator<Item = f64>) {
        let staked = if self.ln_unit > 0.0 {
            share * (-self.ln_unit).exp()
        } else {
            share
        };
        for (s, lr) in self.s.iter_mut().zip(lrs) {
            *s = (*s + staked) * lr;
        }
        let most = most(&self.s);
        if most > LARGE || self.ln_unit > 0.0 && most < SMALL {
            let ln_unit = (self.ln_unit + most.ln()).max(0.0);
            if most > 0.0 {
                let factor = (self.ln_unit - ln_unit).exp();
                self.s.iter_mut().for_each(|s| *s *= factor);
            }
            self.ln_unit = ln_unit;
        }
    }

    fn stake_by_logarithms(&mut self, ln_share: f64, ln_lrs: impl Iterator<Item = f64>) {
        let staked = |s: f64| match s > 0.0 {
            true => ln_add(self.ln_unit + s.ln(), ln_share),
            false => ln_share,
        };
        let pairs = self.s.iter().zip(ln_lrs);
        let ln_s: Vec<f64> = pairs.map(|(s, ln_lr)| staked(*s) + ln_lr).collect();
        *self = Self::of_ln(self.t, self.t, &ln_s);
    }

    fn computed(&self) -> f64 {
        if self.folded == 0 || self.s.is_empty() {
            return 0.0;
        }
        let not_yet_bet = 1.0 / (self.folded as f64 + 1.0);
        let mean = self.s.iter().sum::<f64>() / self.s.len() as f64;
        if self.ln_unit > 0.0 {
            ln_add(not_yet_bet.ln(), self.ln_unit + mean.ln())
        } else {
            (not_yet_bet + mean).ln()
        }
    }
}

fn most(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_one_and_without_evidence_stays_there() {
        let mut onset = Onset::new(9);
        assert_eq!(onset.ln_e(), 0.0);
        for _ in 0..1_000_000 {
            onset.add(&[0.0; 9]);
        }
        // 1 / (t + 1) + the sum of 1 / (s (s + 1)) up to t is 1, and the rounding of a million steps stays small.
        assert!(onset.ln_e().abs() < 1e-9, "{:e}", onset.ln_e());
    }

    #[test]
    fn it_neither_overflows_nor_sinks_for_good() {
        let mut onset = Onset::new(1);
        for _ in 0..1_000_000 {
            onset.add(&[-0.5]);
        }
        // Wealth not yet bet is left: 1 / (t + 1), and of the rest only the last few stakes.
        assert!((onset.ln_e() + 1_000_001_f64.ln()).abs() < 1e-5);
        for _ in 0..1_000_000 {
            onset.add(&[2.0]);
        }
        // Every stake was about e^-27.6. Those before the change had shrunk by e^-0.5 a block, those after it began later.
        let before = (-0.5_f64).exp() / (1.0 - (-0.5_f64).exp());
        let after = 1.0 / (1.0 - (-2_f64).exp());
        let expected = 2e6 - 2.0 * 1e6_f64.ln() + (before + after).ln();
        assert!((onset.ln_e() - expected).abs() < 1e-3, "{}", onset.ln_e());
    }

    #[test]
    fn what_is_saved_and_read_goes_on_bit_for_bit() {
        let step = |onset: &mut Onset, i: u32| {
            let x = f64::from(i % 17) * 0.37 - 2.9;
            onset.add(&[x, 0.5 * x]);
        };
        let (mut through, mut resumed) = (Onset::new(2), Onset::new(2));
        for i in 0..1000 {
            step(&mut through, i);
            step(&mut resumed, i);
            let bits: Vec<u64> = resumed.s.iter().map(|s| s.to_bits()).collect();
            let (t, folded, ln_unit) = (resumed.t, resumed.folded, resumed.ln_unit);
            let s = bits.into_iter().map(f64::from_bits).collect();
            resumed = Onset::of(t, folded, s, f64::from_bits(ln_unit.to_bits()));
        }
        assert_eq!(through, resumed);
        assert_eq!(through.ln_e().to_bits(), resumed.ln_e().to_bits());
    }

    #[test]
    fn blocks_that_say_nothing_are_counted_and_bet_on_all_the_same() {
        // Step by step, as the formula is written.
        let (mut plain, mut onset) = ([0.0_f64; 2], Onset::new(2));
        for i in 1..=3000_u64 {
            let ln_lrs = match (i * 7919) % 11 {
                0 => [0.7, -0.2],
                1 => [-0.3, 1.1],
                _ => [0.0, 0.0],
            };
            let t = i as f64;
            for (s, ln_lr) in plain.iter_mut().zip(ln_lrs) {
                *s = (*s + 1.0 / (t * (t + 1.0))) * f64::exp(ln_lr);
            }
            if ln_lrs == [0.0, 0.0] && i % 2 == 0 {
                onset.add_idle();
            } else {
                onset.add(&ln_lrs);
            }
            let e = 1.0 / (t + 1.0) + plain.iter().sum::<f64>() / 2.0;
            assert!((onset.ln_e() - e.ln()).abs() < 1e-9, "{i}");
        }
        assert_eq!(onset.t, 3000);
    }

    /// Ups and downs far beyond what a plain number holds.
    fn steps() -> impl Iterator<Item = f64> {
        let stretches = [
            (300, 1.7),
            (300, -2.9),
            (40, 60.0),
            (5, -500.0),
            (3, 900.0),
            (400, -7.0),
        ];
        let each = stretches.into_iter();
        each.flat_map(|(blocks, step)| std::iter::repeat_n(step, blocks))
    }

    /// ln E after each block, of the process and of the formula in logarithms, with alternatives that gain so much of a step.
    fn beside_the_formula(gains: [f64; 3]) -> Vec<(f64, f64)> {
        use super::super::combine::ln_mean;
        let (mut ln_s, mut onset) = ([f64::NEG_INFINITY; 3], Onset::new(3));
        let mut found = Vec::new();
        for (i, step) in (1..).zip(steps()) {
            let (t, ln_lrs) = (f64::from(i), gains.map(|gain| gain * step));
            for (ln_s, ln_lr) in ln_s.iter_mut().zip(ln_lrs) {
                *ln_s = ln_lr + ln_add(*ln_s, -(t * (t + 1.0)).ln());
            }
            onset.add(&ln_lrs);
            found.push((onset.ln_e(), ln_add(-t.ln_1p(), ln_mean(&ln_s))));
            let saved = Onset::of_ln(onset.t, onset.folded, &ln_s);
            assert!(saved.ln_e() >= onset.ln_e() - 1e-9 * onset.ln_e().abs().max(1.0));
        }
        found
    }

    #[test]
    fn it_is_the_formula_in_logarithms_however_far_it_goes() {
        for (i, (ln_e, expected)) in beside_the_formula([1.0, 0.99, 1.01])
            .into_iter()
            .enumerate()
        {
            let apart = (ln_e - expected).abs();
            assert!(
                apart < 1e-9 * expected.abs().max(1.0),
                "{i}: {ln_e} {expected}"
            );
        }
    }

    #[test]
    fn what_falls_far_behind_is_let_go_which_only_makes_it_smaller() {
        for (i, (ln_e, expected)) in beside_the_formula([1.0, 0.5, -0.25])
            .into_iter()
            .enumerate()
        {
            assert!(
                ln_e < expected + 1e-9 * expected.abs().max(1.0),
                "{i}: {ln_e} {expected}"
            );
        }
    }

    #[test]
    fn of_no_alternatives_it_says_nothing() {
        let mut onset = Onset::new(0);
        onset.add(&[]);
        assert_eq!(onset.ln_e(), 0.0);
    }
}
