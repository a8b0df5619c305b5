//! How many distinct learners were seen: a HyperLogLog sketch, for display only.
//!
//! Owns the sketch and its estimate (error about 0.8 %). Never keeps an id, and no decision reads it.

use super::assign::LearnerHash;

/// log2 of the number of registers: 2^14 gives a standard error of 1.04 / sqrt(2^14) = 0.81 %.
const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// Leading zeros of the other 50 bits, and one.
const HIGHEST_RANK: usize = 64 - PRECISION as usize + 1;

/// The registers of nobody.
static EMPTY: [u8; REGISTERS] = [0; REGISTERS];

/// A mergeable sketch of a set of learners. Without a learner it holds no memory: most ticks of most gates see nobody.
#[derive(Clone)]
pub struct LearnerSketch {
    /// `None` until the first learner.
    registers: Option<Box<[u8]>>,
}

impl LearnerSketch {
    pub const fn new() -> Self {
        Self { registers: None }
    }

    pub fn insert(&mut self, learner: LearnerHash) {
        // Assignment reads the high bits of the hash, and within one arm those are not uniform, so
        // the sketch reads a remix of all bits (the finalizer of MurmurHash3).
        let mut h = learner.raw();
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^= h >> 33;
        let index = (h >> (64 - PRECISION)) as usize;
        let rank = ((h << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1;
        let register = &mut self.registers_mut()[index];
        *register = (*register).max(rank);
    }

    pub fn merge(&mut self, other: &Self) {
        let Some(theirs) = &other.registers else {
            return;
        };
        for (mine, &theirs) in self.registers_mut().iter_mut().zip(theirs) {
            *mine = (*mine).max(theirs);
        }
    }

    pub fn clear(&mut self) {
        self.registers = None;
    }

    pub fn is_empty(&self) -> bool {
        let nobody = |registers: &[u8]| *registers == EMPTY;
        self.registers.as_deref().is_none_or(nobody)
    }

    /// The 16,384 registers, for storing.
    pub fn registers(&self) -> &[u8] {
        self.registers.as_deref().unwrap_or(&EMPTY)
    }

    /// From stored registers; `None` if there are not 16,384 or one is out of range.
    pub fn from_registers(registers: &[u8]) -> Option<Self> {
        let in_range = |&register: &u8| usize::from(register) <= HIGHEST_RANK;
        let valid = registers.len() == REGISTERS && registers.iter().all(in_range);
        valid.then(|| Self {
            registers: Some(registers.into()),
        })
    }

    /// The estimated number of distinct learners: Ertl, "New cardinality estimation algorithms for
    /// HyperLogLog sketches" (2017), algorithm 6. Unlike the original estimator it needs no switch
    /// between ranges, and has no bias where the switch would be (about 40,000 here).
    pub fn estimate(&self) -> u64 {
        let m = REGISTERS as f64;
        let mut counts = [0_u32; HIGHEST_RANK + 1];
        for &register in self.registers() {
            counts[usize::from(register)] += 1;
        }
        let mut z = m * tau(1.0 - f64::from(counts[HIGHEST_RANK]) / m);
        for &count in counts[1..HIGHEST_RANK].iter().rev() {
            z = 0.5 * (z + f64::from(count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    fn registers_mut(&mut self) -> &mut [u8] {
        self.registers
            .get_or_insert_with(|| vec![0; REGISTERS].into_boxed_slice())
    }
}

impl PartialEq for LearnerSketch {
    fn eq(&self, other: &Self) -> bool {
        self.registers() == other.registers()
    }
}

impl Eq for LearnerSketch {}

/// `x + sum of x^(2^k) 2^(k-1)` over k = 1, 2, ..., for the empty registers.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// `(1 - x - sum of (1 - x^(2^-k))^2 2^-k) / 3` over k = 1, 2, ..., for the registers at the highest rank.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

impl Default for LearnerSketch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for LearnerSketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LearnerSketch(about {})", self.estimate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::Salt;

    #[test]
    fn the_estimate_is_within_three_standard_errors() {
        let salt = Salt::new("sketch");
        let mut sketch = LearnerSketch::new();
        let mut next = 0_u32;
        for target in [0_u32, 1, 10, 100, 5_000, 40_000, 200_000] {
            while next < target {
                sketch.insert(salt.hash(&next.to_le_bytes()));
                next += 1;
            }
            let error = (sketch.estimate() as f64 - f64::from(target)).abs();
            assert!(
                error <= 1.0 + 0.0243 * f64::from(target),
                "{target}: {}",
                sketch.estimate()
            );
        }
    }

    #[test]
    fn merging_counts_nobody_twice() {
        let salt = Salt::new("sketch");
        let (mut a, mut b, mut both) = (
            LearnerSketch::new(),
            LearnerSketch::new(),
            LearnerSketch::new(),
        );
        for i in 0..30_000_u32 {
            let hash = salt.hash(&i.to_le_bytes());
            if i < 20_000 {
                a.insert(hash)
            }
            if i >= 10_000 {
                b.insert(hash)
            }
            both.insert(hash);
        }
        a.merge(&b);
        assert_eq!(a, both);
        assert_eq!(LearnerSketch::from_registers(a.registers()), Some(a));
        assert_eq!(LearnerSketch::from_registers(&[0; 3]), None);
    }
}
