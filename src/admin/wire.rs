//! The JSON forms of the admin port that are not records: what calls take, and what they answer.
//!
//! Shared with the command line. Bodies refuse what they do not know, so that a typing error changes nothing.

pub mod mirror;
pub mod outside;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::records::Moment;
use crate::records::fleet::MemberRecord;
use crate::records::sample::SampleRecord;
use crate::records::status::{SegmentRecord, StatusRecord};
use crate::records::told::ToldEvent;
use crate::rollout::weight::{Weight, WeightError};

/// Body of `POST /api/rollouts/R/ACTION`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActionBody {
    pub reason: String,
    pub force: bool,
}

/// Body of `POST …/approve` and `…/reject`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SayBody {
    /// May be left out where only one role can be meant.
    pub role: Option<String>,
    pub reason: String,
    /// The event whose figures were looked at (`approval.asked` of the state): 409 where others are asked about by now.
    pub seen: Option<u64>,
    /// The plan that was looked at: 409 where another one runs.
    pub plan_hash: Option<String>,
}

/// Body of `PUT …/freeze`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeBody {
    /// When it ends by itself.
    pub until: Option<Moment>,
    pub reason: String,
}

/// Body of `POST …/incidents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentBody {
    pub summary: String,
}

/// Body of `POST /api/rehearsals`. What is left out is the client's rehearsal: 800 ms on half of canary's requests,
/// over within 2 minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RehearsalBody {
    /// May be left out where there is one rollout.
    pub rollout: Option<String>,
    pub fault: RehearsalKind,
    /// A duration, of the fault `latency`.
    pub latency: Option<String>,
    /// Of canary's requests.
    pub share: Option<String>,
    /// A duration.
    pub within: Option<String>,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RehearsalKind {
    #[default]
    Latency,
    Errors,
    Resets,
}

/// Answer of `POST /api/rehearsals`: it has begun, and what comes of it is an event `rehearsal_ended` after `after`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RehearsalAnswer {
    pub rollout: String,
    pub fault: crate::records::rehearsal::FaultRecord,
    pub after: u64,
}

/// Body of `PUT …/pins/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    pub pool: String,
    #[serde(default)]
    pub reason: String,
}

/// Body of `PUT …/segments/S`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CeilingBody {
    pub max_weight: ShareText,
    #[serde(default)]
    pub reason: String,
}

/// A share as a person writes it: `"5%"` or `0.05`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ShareText {
    Number(f64),
    Percent(String),
}

/// Answer of `GET …/segments`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentsAnswer {
    pub segments: Vec<SegmentRecord>,
}

/// Answer of `PUT …/segments/S` and of its `DELETE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CeilingAnswer {
    pub segment: String,
    /// The ceiling that the data path goes by now, 0 to 1; `null` where there is none.
    pub max_weight: Option<f64>,
    /// As decided; it differs while a raise waits for the journal.
    pub decided: Option<f64>,
}

/// Numbers by pool, in the order written: the traffic weights, as asked for (any sum) and as answered (summing to 1).
/// A pool named twice is refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(pub Vec<(String, f64)>);

/// Answer of `GET /api/rollouts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutsAnswer {
    pub rollouts: Vec<RolloutAnswer>,
}

/// Answer of `GET /api/rollouts/R` and of every action on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutAnswer {
    #[serde(flatten)]
    pub status: StatusRecord,
    /// What the data path goes by now; `weight` may be on its way.
    pub weights_in_force: Weights,
    /// The file has another plan, which waits for the next `start`.
    pub plan_pending: bool,
    /// Why the journal cannot be written, while it cannot.
    pub store_fault: Option<String>,
    /// What the phase allows now.
    #[serde(default)]
    pub allowed: Vec<AllowedRecord>,
}

/// A command of operators that the phase allows, and what it does there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedRecord {
    pub action: String,
    pub does: String,
}

/// Answer of `GET /api/whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoamiAnswer {
    /// The token's name; `local` where no tokens are configured, `nobody` where some are and none was shown.
    pub by: String,
    /// Whether tokens are configured.
    pub tokens: bool,
    /// Whether the caller may read anything.
    pub read: bool,
    /// Whether the caller may change a rollout.
    pub operate: bool,
    /// The roles that the caller may approve for; `null` where no tokens are configured: for each.
    pub approves: Option<Vec<String>>,
}

/// Answer of `GET /api/fleet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetAnswer {
    /// This member, and where it stands.
    pub name: String,
    pub region: String,
    /// `leads`, `follows`, or `alone` where it is cut off.
    pub role: String,
    /// Why it is alone, or why the servers are out of reach.
    pub why: Option<String>,
    /// Since when it has been alone, in seconds.
    pub alone_s: Option<f64>,
    /// Time alone since its start, in seconds.
    pub isolated_s: f64,
    /// `null` where nobody is known to lead.
    pub leader: Option<String>,
    /// The fencing number of the leader.
    pub term: u64,
    /// Whether this member may lead: its version and its plans are those of most members.
    pub may_lead: bool,
    /// How many members there are.
    #[serde(default)]
    pub count: usize,
    /// What they say of themselves. In a fleet of more than 64 the member that leads knows them all, and every other one
    /// itself.
    pub members: Vec<FleetMember>,
    /// Of each rollout: whose seconds are in the figures: members, and regions that add up for theirs.
    pub heard: BTreeMap<String, Vec<String>>,
    /// Of each rollout and each of those regions: how many of its members are heard there.
    #[serde(default)]
    pub regions: BTreeMap<String, BTreeMap<String, u64>>,
    /// Whether this member adds up for its region; `None` where that does not aggregate.
    #[serde(default)]
    pub adds_up: Option<bool>,
}

/// One member of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetMember {
    pub name: String,
    pub leads: bool,
    /// Its version and its plans are those of the member that was asked.
    pub agrees: bool,
    #[serde(flatten)]
    pub says: MemberRecord,
}

/// Answer of `GET …/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventsAnswer {
    pub events: Vec<ToldEvent>,
    /// `after` of the next call; `null` where there is nothing more now.
    pub next: Option<u64>,
}

/// Answer of `GET …/samples`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplesAnswer {
    pub rollout: String,
    pub from: Moment,
    pub to: Moment,
    pub step_ms: u64,
    /// Oldest first; a step in which nothing was counted is left out.
    pub samples: Vec<SampleRecord>,
}

/// Answer of `POST …/incidents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentAnswer {
    pub id: u64,
    pub summary: String,
}

/// Answer of `GET /api/assign`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignAnswer {
    pub rollout: String,
    pub learner: String,
    /// 0 to 999,999.
    pub bucket: Option<u32>,
    /// `baseline` or `canary`: the side of his hash.
    pub arm: String,
    /// The pool that answers him.
    pub pool: String,
    pub why: String,
    /// The row of the order of precedence that decided, 1 to 7.
    pub row: u8,
}

/// Answer of `GET /api/pools`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolsAnswer {
    pub pools: Vec<PoolRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolRecord {
    pub name: String,
    /// No endpoint ever passed a probe: it is used all the same.
    pub never_healthy: bool,
    /// The name that its endpoints are looked up by.
    pub dns: Option<String>,
    /// Why that failed the last time.
    pub dns_fault: Option<String>,
    /// Requests that may be under way now; 0 = no limit.
    pub limit: usize,
    /// Requests that wait for a place.
    pub queued: usize,
    pub endpoints: Vec<EndpointRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointRecord {
    pub address: String,
    pub healthy: bool,
    pub fault: Option<String>,
    pub drained: bool,
    pub in_flight: u64,
    pub connections_idle: u64,
    pub probes_sent: u64,
    pub probes_answered: u64,
    pub requests: u64,
    pub weight: u32,
    pub zone: Option<String>,
    /// Up to 1: how much of its weight it may carry now; less while it warms up.
    pub warmth: f64,
    /// Moving average of the time to an answer's head.
    pub latency_ms: Option<f64>,
    /// Left out because it failed its requests.
    pub ejected: Option<EjectionRecord>,
    /// How often it was, since start.
    pub ejections: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectionRecord {
    pub reason: String,
    /// How much longer.
    pub left_ms: u64,
}

/// An error, by RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRecord {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// Of a configuration that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    pub file: String,
    pub line: Option<usize>,
    pub key: String,
    pub message: String,
}

/// Reads a body; the error is a sentence for its author.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // A list would be taken for the fields of a struct in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err("the body is a list and not an object".to_owned());
    }
    serde_json::from_slice(body)
        .map_err(|error| format!("the body is not what this call takes: {error}"))
}

// === impl ShareText ===

impl ShareText {
    pub fn weight(&self) -> Result<Weight, WeightError> {
        match self {
            Self::Number(share) => Weight::from_share(*share),
            Self::Percent(text) => Weight::parse(text),
        }
    }
}

// === impl Weights ===

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (pool, weight) in &self.0 {
            map.serialize_entry(pool, weight)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightsVisitor)
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = Weights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object like {\"original\": 0.99, \"ultra_fast\": 0.01}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Weights, A::Error> {
        let mut weights: Vec<(String, f64)> = Vec::new();
        while let Some((pool, weight)) = map.next_entry::<String, f64>()? {
            if weights.iter().any(|(known, _)| *known == pool) {
                return Err(A::Error::custom(format!("{pool:?} is named twice")));
            }
            weights.push((pool, weight));
        }
        Ok(Weights(weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_in_order_and_refused_by_reason() {
        let read = |text: &str| read::<Weights>(text.as_bytes());
        let both = |a, b| {
            Weights(vec![
                ("original".to_owned(), a),
                ("ultra_fast".to_owned(), b),
            ])
        };
        assert_eq!(
            read(r#"{"original": 1, "ultra_fast": 0}"#),
            Ok(both(1.0, 0.0))
        );
        assert_eq!(
            serde_json::to_string(&both(0.99, 0.01)).ok().as_deref(),
            Some(r#"{"original":0.99,"ultra_fast":0.01}"#)
        );
        for (text, part) in [
            ("", "EOF"),
            ("[1, 0]", "not an object"),
            ("1", "invalid type"),
            ("null", "invalid type"),
            (r#"{"original": "1"}"#, "invalid type"),
            (r#"{"original": null}"#, "invalid type"),
            (r#"{"original": NaN}"#, "expected value"),
            (r#"{"original": 1e999}"#, "out of range"),
            (r#"{"original": 1, "original": 0}"#, "named twice"),
            (r#"{"original": 1} x"#, "trailing"),
            ("original=1&ultra_fast=0", "expected value"),
        ] {
            let refused = read(text).expect_err(text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }

    #[test]
    fn an_action_may_say_nothing_but_no_nonsense() {
        let read = |text: &str| read::<ActionBody>(text.as_bytes());
        assert_eq!(read("{}"), Ok(ActionBody::default()));
        assert_eq!(
            read(r#"{"reason": "x", "force": true}"#),
            Ok(ActionBody {
                reason: "x".to_owned(),
                force: true
            })
        );
        for text in [
            r#"{"forec": true}"#,
            r#"{"force": 1}"#,
            "[]extra",
            "[]",
            " [\"x\", true]",
            r#"{"reason": "a", "reason": "b"}"#,
        ] {
            assert!(read(text).is_err(), "{text} was accepted");
        }
    }
}
