//! What a process that was taken over and the one that took over tell each other: splits one way, counts the other.
//!
//! Reading checks everything: a weight above the whole, a name that is none, or counts cut short are an error, never a
//! guess.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::compact::{decode_sketch, encode_sketch};
use super::counted::CellLine;
use super::hexadecimal::{bytes, hex};
use super::words;
use crate::rollout::assign::Split;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::slot::{Cell, CellKey};
use crate::rollout::weight::Weight;

/// The split of one rollout, with its pins.
#[derive(Debug, Serialize, Deserialize)]
pub struct SplitLine {
    rollout: String,
    epoch: u64,
    weight_ppm: u32,
    closed: bool,
    ceilings_ppm: BTreeMap<String, u32>,
    /// Ids in hexadecimal: they are any bytes.
    pinned_to_baseline: Vec<String>,
    pinned_to_canary: Vec<String>,
}

/// What was counted of one arm, segment and epoch.
#[derive(Debug, Serialize, Deserialize)]
pub struct CountedLine {
    rollout: String,
    #[serde(flatten)]
    counted: CellLine,
}

/// Learners of one arm.
#[derive(Debug, Serialize, Deserialize)]
pub struct LearnersLine {
    rollout: String,
    #[serde(with = "words")]
    arm: Arm,
    /// The compact form in hexadecimal.
    sketch: String,
}

/// Why a line is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HandedError(String);

// === impl SplitLine ===

impl SplitLine {
    pub fn new(rollout: &RolloutName, split: &Split) -> Self {
        let pinned = |to: Arm| {
            let pins = split.pins.iter().filter(|(_, arm)| **arm == to);
            pins.map(|(learner, _)| hex(learner)).collect()
        };
        let ceilings = split.ceilings.iter();
        Self {
            rollout: rollout.to_string(),
            epoch: split.epoch,
            weight_ppm: split.weight.ppm(),
            closed: split.closed,
            ceilings_ppm: ceilings
                .map(|(name, ceiling)| (name.to_string(), ceiling.ppm()))
                .collect(),
            pinned_to_baseline: pinned(Arm::Baseline),
            pinned_to_canary: pinned(Arm::Canary),
        }
    }

    /// # Errors
    /// What is wrong with it.
    pub fn read(self) -> Result<(RolloutName, Split), HandedError> {
        let mut pins = HashMap::new();
        for (arm, learners) in [
            (Arm::Baseline, self.pinned_to_baseline),
            (Arm::Canary, self.pinned_to_canary),
        ] {
            for learner in learners {
                pins.insert(of_hex(&learner)?.into(), arm);
            }
        }
        let ceilings = self.ceilings_ppm.into_iter();
        let split = Split {
            epoch: self.epoch,
            weight: weight(self.weight_ppm)?,
            closed: self.closed,
            ceilings: ceilings
                .map(|(name, ppm)| Ok((Arc::from(name), weight(ppm)?)))
                .collect::<Result<_, HandedError>>()?,
            pins: Arc::new(pins),
        };
        Ok((name(&self.rollout)?, split))
    }
}

// === impl CountedLine ===

impl CountedLine {
    pub fn new(rollout: &RolloutName, key: &CellKey, cell: &Cell) -> Self {
        Self {
            rollout: rollout.to_string(),
            counted: CellLine::new(key, cell),
        }
    }

    /// # Errors
    /// What is wrong with it.
    pub fn read(self) -> Result<(RolloutName, CellKey, Cell), HandedError> {
        let (key, cell) = self.counted.read().map_err(fault)?;
        Ok((name(&self.rollout)?, key, cell))
    }
}

// === impl LearnersLine ===

impl LearnersLine {
    pub fn new(rollout: &RolloutName, arm: Arm, sketch: &LearnerSketch) -> Self {
        Self {
            rollout: rollout.to_string(),
            arm,
            sketch: hex(&encode_sketch(sketch)),
        }
    }

    /// # Errors
    /// What is wrong with it.
    pub fn read(self) -> Result<(RolloutName, Arm, LearnerSketch), HandedError> {
        let sketch = decode_sketch(&of_hex(&self.sketch)?).map_err(fault)?;
        Ok((name(&self.rollout)?, self.arm, sketch))
    }
}

fn name(text: &str) -> Result<RolloutName, HandedError> {
    RolloutName::parse(text).map_err(fault)
}

fn weight(ppm: u32) -> Result<Weight, HandedError> {
    Weight::from_ppm(ppm).ok_or_else(|| fault(format!("{ppm} ppm are above the whole")))
}

fn of_hex(text: &str) -> Result<Vec<u8>, HandedError> {
    bytes(text).ok_or_else(|| fault("bytes that are not in hexadecimal"))
}

fn fault(why: impl std::fmt::Display) -> HandedError {
    HandedError(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::LearnerHash;

    fn rollout() -> RolloutName {
        RolloutName::parse("analyzer").expect("a name")
    }

    fn again<T: Serialize + for<'a> Deserialize<'a>>(line: &T) -> T {
        let text = serde_json::to_string(line).expect("JSON");
        serde_json::from_str(&text).expect("the same")
    }

    #[test]
    fn a_split_comes_back_as_it_was() {
        let pins = [
            (Box::from(*b"\x00\xff any"), Arm::Canary),
            (Box::from(*b"b"), Arm::Baseline),
        ];
        let split = Split {
            epoch: 7,
            weight: Weight::parse("12.5%").expect("a weight"),
            closed: false,
            ceilings: [(Arc::from("school"), Weight::ZERO)].into(),
            pins: Arc::new(pins.into()),
        };
        let line = again(&SplitLine::new(&rollout(), &split));
        assert_eq!(line.read().expect("whole"), (rollout(), split));
    }

    #[test]
    fn counts_come_back_as_they_were() {
        let mut cell = Cell {
            counted: 3,
            errors: 1,
            ..Cell::default()
        };
        cell.failing.insert(LearnerHash::from_raw(5), 1);
        let key = CellKey {
            epoch: 2,
            arm: Arm::Canary,
            segment: Some(Arc::from("school")),
        };
        let line = again(&CountedLine::new(&rollout(), &key, &cell));
        assert_eq!(line.read().expect("whole"), (rollout(), key, cell));
        let mut sketch = LearnerSketch::new();
        sketch.insert(LearnerHash::from_raw(1 << 40));
        let line = again(&LearnersLine::new(&rollout(), Arm::Baseline, &sketch));
        assert_eq!(
            line.read().expect("whole"),
            (rollout(), Arm::Baseline, sketch)
        );
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let good = SplitLine::new(&rollout(), &Split::baseline_only());
        let good = serde_json::to_value(good).expect("JSON");
        for (key, wrong) in [
            ("weight_ppm", serde_json::json!(1_000_001)),
            ("rollout", serde_json::json!("no name")),
            ("pinned_to_canary", serde_json::json!(["0"])),
            ("pinned_to_canary", serde_json::json!(["zz"])),
            ("ceilings_ppm", serde_json::json!({ "a": 2_000_000 })),
        ] {
            let mut bad = good.clone();
            bad[key] = wrong;
            let line: SplitLine = serde_json::from_value(bad).expect("the right types");
            assert!(line.read().is_err(), "{key}");
        }
    }
}
