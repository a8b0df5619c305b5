//! How sure a decision was, as JSON.

use serde::{Deserialize, Serialize};

use super::words;
use crate::rollout::gate::{Confidence, Level, Sensitivity};
use crate::rollout::stats::detectable::{CHANCE, Detectable};

/// The confidence of one decision as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceRecord {
    #[serde(with = "words")]
    pub level: Level,
    /// What the stage's requests could have seen; `null` where an arm had none.
    pub sensitivity: Option<SensitivityRecord>,
    /// What keeps it from being higher; empty at `high`.
    pub why: Vec<String>,
}

/// The smallest regression of errors that is seen with a chance of `chance`. Rates are shares, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRecord {
    /// Baseline's in the stage; supposed to be 0.001 where it had no error.
    pub base_rate: f64,
    pub chance: f64,
    /// `null` where not even a canary that always fails would be seen.
    pub error_rate: Option<f64>,
    /// `error_rate` / `base_rate`.
    pub ratio: Option<f64>,
    pub odds_ratio: Option<f64>,
}

impl ConfidenceRecord {
    /// `medium (errors of less than 4.2 times baseline's would not have been seen)`.
    pub fn in_words(&self) -> String {
        let level = self.level.as_str();
        match self.why.is_empty() {
            true => level.to_owned(),
            false => format!("{level} ({})", self.why.join("; ")),
        }
    }
}

impl From<&Confidence> for ConfidenceRecord {
    fn from(confidence: &Confidence) -> Self {
        Self {
            level: confidence.level,
            sensitivity: confidence.sensitivity.map(SensitivityRecord::from),
            why: confidence.why.clone(),
        }
    }
}

impl From<ConfidenceRecord> for Confidence {
    fn from(record: ConfidenceRecord) -> Self {
        Self {
            level: record.level,
            sensitivity: record.sensitivity.map(Sensitivity::from),
            why: record.why,
        }
    }
}

impl From<Sensitivity> for SensitivityRecord {
    fn from(sensitivity: Sensitivity) -> Self {
        let found = sensitivity.smallest;
        Self {
            base_rate: sensitivity.base_rate,
            chance: CHANCE,
            error_rate: found.map(|found| found.rate),
            ratio: found.map(|found| found.ratio),
            odds_ratio: found.map(|found| found.odds_ratio),
        }
    }
}

impl From<SensitivityRecord> for Sensitivity {
    fn from(record: SensitivityRecord) -> Self {
        let found = || {
            Some(Detectable {
                rate: record.error_rate?,
                ratio: record.ratio?,
                odds_ratio: record.odds_ratio?,
            })
        };
        Self {
            base_rate: record.base_rate,
            smallest: found(),
        }
    }
}
