//! What a member of the fleet says of itself, each second, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FleetFault, fault};

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its version.
    pub serin: String,
    #[serde(default)]
    pub region: String,
    /// Hash of the plan of each rollout in its file.
    #[serde(default)]
    pub plans: BTreeMap<String, String>,
    /// What of each rollout is in force there.
    #[serde(default)]
    pub applied: BTreeMap<String, Applied>,
    /// The last event of each rollout that it has.
    #[serde(default)]
    pub events: BTreeMap<String, u64>,
    /// Seconds since its start in which it was cut off.
    #[serde(default)]
    pub isolated_s: f64,
    /// Messages of each rollout that found no room while it was cut off, and never reached the fleet.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    /// Rollouts that it took to baseline alone, while it was cut off.
    #[serde(default)]
    pub retreats: BTreeMap<String, RetreatRecord>,
}

/// The split that is in force on a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Of the record in the bucket.
    pub revision: u64,
    pub epoch: u64,
    pub weight_ppm: u32,
}

/// A member that was cut off took its learners back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetreatRecord {
    /// Names this retreat.
    pub id: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    pub why: String,
}

impl MemberRecord {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, texts and lists of them are JSON")
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FleetFault> {
        serde_json::from_slice(bytes).map_err(fault)
    }
}
