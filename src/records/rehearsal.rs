//! A rehearsal as JSON: the faults that were injected, and what was seen of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout::gate::Rehearsed;
use crate::rollout::rehearsal::{Fault, Injection};
use crate::rollout::time::millis;
use crate::rollout::weight::Weight;

/// What is done to a share of canary's requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    pub kind: FaultWord,
    /// Of `latency`.
    #[serde(default)]
    pub latency_ms: Option<u64>,
    pub share_ppm: u32,
    /// The same in words.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultWord {
    Latency,
    Error,
    Reset,
}

/// What a rehearsal showed; spans are milliseconds since its first fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RehearsalRecord {
    pub fault: FaultRecord,
    pub within_ms: u64,
    pub detected_ms: Option<u64>,
    pub back_ms: Option<u64>,
    pub recovered_ms: Option<u64>,
    pub passed: bool,
    /// What went wrong; empty where it passed.
    pub why: String,
}

impl From<Injection> for FaultRecord {
    fn from(injection: Injection) -> Self {
        let (kind, latency_ms) = match injection.fault {
            Fault::Latency(more) => (FaultWord::Latency, Some(millis(more))),
            Fault::Error => (FaultWord::Error, None),
            Fault::Reset => (FaultWord::Reset, None),
        };
        Self {
            kind,
            latency_ms,
            share_ppm: injection.share.ppm(),
            text: injection.to_string(),
        }
    }
}

impl FaultRecord {
    /// As the gate knows it; `None` where the share is above the whole.
    pub fn injection(&self) -> Option<Injection> {
        let latency = Duration::from_millis(self.latency_ms.unwrap_or(0));
        let fault = match self.kind {
            FaultWord::Latency => Fault::Latency(latency),
            FaultWord::Error => Fault::Error,
            FaultWord::Reset => Fault::Reset,
        };
        let share = Weight::from_ppm(self.share_ppm)?;
        Some(Injection { fault, share })
    }
}

impl From<&Rehearsed> for RehearsalRecord {
    fn from(outcome: &Rehearsed) -> Self {
        Self {
            fault: outcome.injection.into(),
            within_ms: millis(outcome.within),
            detected_ms: outcome.detected.map(millis),
            back_ms: outcome.back.map(millis),
            recovered_ms: outcome.recovered.map(millis),
            passed: outcome.fault.is_empty(),
            why: outcome.fault.clone(),
        }
    }
}
