//! Which arm a request goes to: the stable hash of (salt, learner), and the order of precedence.
//!
//! The same salt, learner and weight give the same arm in every process, on every machine, for
//! ever; a growing weight never moves a learner back. Knows nothing of pools' health (row 7 of the
//! order is decided where the endpoint is chosen) and nothing of HTTP.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::name::Arm;
use super::weight::{WHOLE_PPM, Weight};

/// XXH3-64 of the salt, a zero byte and the learner's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LearnerHash(u64);

/// The salt of a rollout with its closing zero byte, ready to be hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salt(Arc<[u8]>);

/// Highest weight per segment; a segment not named has none.
pub type Ceilings = BTreeMap<Arc<str>, Weight>;

/// Everything that decides an arm beside the learner: immutable, replaced whole at each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Raised at every change; an attempt compares it before it starts.
    pub epoch: u64,
    pub weight: Weight,
    /// Row 1: nobody goes to canary, pinned or not.
    pub closed: bool,
    /// Row 5.
    pub ceilings: Ceilings,
    /// Row 2: learners forced to one arm, by id.
    pub pins: Arc<HashMap<Box<[u8]>, Arm>>,
}

/// What is known of one request when its arm is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The learner's id; `None` where no source had one.
    pub learner: Option<&'a [u8]>,
    /// The id's hash, or a random one where there is no id.
    pub hash: Option<LearnerHash>,
    /// The arm that a trusted peer asked for by `x-serin-pool`.
    pub forced: Option<Arm>,
    pub segment: Option<&'a str>,
}

/// The row of contract.md's order that decided. Row 7, `Failover`, is set where the endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Closed,
    Pin,
    Forced,
    WeightZero,
    BelowWeight,
    AboveWeight,
    Failover,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub arm: Arm,
    pub why: Why,
}

// === impl LearnerHash ===

impl LearnerHash {
    /// A hash made elsewhere: a random number for requests that nothing identifies, or a recorded one.
    pub const fn from_raw(hash: u64) -> Self {
        Self(hash)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The bucket, 0 to 999,999: `(h * 1_000_000) >> 64`, so that the buckets differ in size by at
    /// most one part in 1.8e13.
    pub const fn bucket(self) -> u32 {
        ((self.0 as u128 * WHOLE_PPM as u128) >> 64) as u32
    }
}

// === impl Salt ===

impl Salt {
    pub fn new(salt: &str) -> Self {
        Self(salt.bytes().chain([0]).collect())
    }

    /// Hashes one learner id. Ids up to some 190 bytes are hashed in one go from the stack.
    pub fn hash(&self, learner: &[u8]) -> LearnerHash {
        let mut buffer = [0_u8; 256];
        let (salt_len, total) = (self.0.len(), self.0.len() + learner.len());
        if let Some(input) = buffer.get_mut(..total) {
            input[..salt_len].copy_from_slice(&self.0);
            input[salt_len..].copy_from_slice(learner);
            return LearnerHash(xxh3_64(input));
        }
        let mut hasher = Xxh3Default::new();
        hasher.update(&self.0);
        hasher.update(learner);
        LearnerHash(hasher.digest())
    }
}

// === impl Split ===

impl Split {
    /// A split that sends everybody to baseline, as it stands before anything was decided.
    pub fn baseline_only() -> Self {
        Self {
            epoch: 0,
            weight: Weight::ZERO,
            closed: true,
            ceilings: BTreeMap::new(),
            pins: Arc::default(),
        }
    }

    /// Rows 1 to 6 of the order of precedence, first that applies.
    pub fn assign(&self, ask: Ask<'_>) -> Assignment {
        let decided = |arm, why| Assignment { arm, why };
        if self.closed {
            return decided(Arm::Baseline, Why::Closed);
        }
        if let Some(&arm) = ask.learner.and_then(|id| self.pins.get(id)) {
            return decided(arm, Why::Pin);
        }
        if let Some(arm) = ask.forced {
            return decided(arm, Why::Forced);
        }
        if self.weight.is_zero() {
            return decided(Arm::Baseline, Why::WeightZero);
        }
        let ceiling = ask
            .segment
            .and_then(|segment| self.ceilings.get(segment))
            .copied()
            .unwrap_or(Weight::FULL);
        match ask.hash {
            Some(hash) if hash.bucket() < self.weight.min(ceiling).ppm() => {
                decided(Arm::Canary, Why::BelowWeight)
            }
            _ => decided(Arm::Baseline, Why::AboveWeight),
        }
    }
}

// === impl Why ===

impl Why {
    /// The number of the row in the contract's order.
    pub const fn row(self) -> u8 {
        match self {
            Self::Closed => 1,
            Self::Pin => 2,
            Self::Forced => 3,
            Self::WeightZero => 4,
            Self::BelowWeight => 5,
            Self::AboveWeight => 6,
            Self::Failover => 7,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Pin => "pin",
            Self::Forced => "forced",
            Self::WeightZero => "weight_zero",
            Self::BelowWeight => "below_weight",
            Self::AboveWeight => "above_weight",
            Self::Failover => "failover",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(weight: &str) -> Split {
        Split {
            weight: Weight::parse(weight).expect("a weight"),
            closed: false,
            ..Split::baseline_only()
        }
    }

    fn ask<'a>(salt: &Salt, learner: &'a str) -> Ask<'a> {
        Ask {
            learner: Some(learner.as_bytes()),
            hash: Some(salt.hash(learner.as_bytes())),
            ..Ask::default()
        }
    }

    #[test]
    fn long_ids_hash_as_short_ones_do() {
        let salt = Salt::new("s");
        for len in [0, 1, 253, 254, 255, 256, 5000] {
            let id = vec![b'x'; len];
            let whole: Vec<u8> = [b"s\0".as_slice(), &id].concat();
            assert_eq!(salt.hash(&id).raw(), xxh3_64(&whole), "{len}");
        }
    }

    #[test]
    fn the_edge_of_a_weight_is_exact() {
        // The first hash of bucket b is ceil(b * 2^64 / 10^6).
        let first_of =
            |bucket: u128| LearnerHash::from_raw(((bucket << 64).div_ceil(1_000_000)) as u64);
        let split = split("1%");
        let arm = |hash| {
            split
                .assign(Ask {
                    hash: Some(hash),
                    ..Ask::default()
                })
                .arm
        };
        assert_eq!(arm(first_of(9_999)), Arm::Canary);
        assert_eq!(
            arm(LearnerHash::from_raw(first_of(10_000).raw() - 1)),
            Arm::Canary
        );
        assert_eq!(arm(first_of(10_000)), Arm::Baseline);
        assert_eq!(LearnerHash::from_raw(u64::MAX).bucket(), 999_999);
    }

    #[test]
    fn a_growing_weight_moves_nobody_back() {
        let salt = Salt::new("ramp");
        let steps = ["0.5%", "1%", "10%", "50%", "100%"].map(split);
        for learner in 0..20_000 {
            let id = learner.to_string();
            let on_canary = steps
                .each_ref()
                .map(|s| s.assign(ask(&salt, &id)).arm == Arm::Canary);
            assert!(
                on_canary.is_sorted(),
                "learner {id} moved back: {on_canary:?}"
            );
            assert!(on_canary[4]);
        }
    }

    #[test]
    fn the_first_row_that_applies_decides() {
        let salt = Salt::new("order");
        let pins: HashMap<Box<[u8]>, Arm> = [
            (b"pinned".as_slice().into(), Arm::Canary),
            (b"kept".as_slice().into(), Arm::Baseline),
        ]
        .into();
        let pinned = |weight: &str| Split {
            pins: Arc::new(pins.clone()),
            ..split(weight)
        };
        let check = |split: &Split, ask: Ask<'_>, arm: Arm, why: Why| {
            assert_eq!(split.assign(ask), Assignment { arm, why });
        };
        let forced = |learner| Ask {
            forced: Some(Arm::Canary),
            ..ask(&salt, learner)
        };

        let closed = Split {
            closed: true,
            ..pinned("100%")
        };
        check(&closed, ask(&salt, "pinned"), Arm::Baseline, Why::Closed);
        check(&closed, forced("x"), Arm::Baseline, Why::Closed);
        check(&pinned("0%"), ask(&salt, "pinned"), Arm::Canary, Why::Pin);
        check(&pinned("100%"), forced("kept"), Arm::Baseline, Why::Pin);
        check(&pinned("0%"), forced("x"), Arm::Canary, Why::Forced);
        check(
            &pinned("0%"),
            ask(&salt, "x"),
            Arm::Baseline,
            Why::WeightZero,
        );
        check(
            &pinned("100%"),
            ask(&salt, "x"),
            Arm::Canary,
            Why::BelowWeight,
        );
        check(
            &pinned("100%"),
            Ask::default(),
            Arm::Baseline,
            Why::AboveWeight,
        );
    }

    #[test]
    fn a_segment_ceiling_caps_the_weight_of_that_segment_alone() {
        let salt = Salt::new("segments");
        let mut split = split("100%");
        split.ceilings.insert(Arc::from("eu"), Weight::ZERO);
        let arm = |segment| {
            split
                .assign(Ask {
                    segment,
                    ..ask(&salt, "x")
                })
                .arm
        };
        assert_eq!(arm(Some("eu")), Arm::Baseline);
        assert_eq!(arm(Some("us")), Arm::Canary);
        assert_eq!(arm(None), Arm::Canary);
    }
}
