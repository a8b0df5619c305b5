//! The record of a rollout in the fleet's bucket: the state in force, and up to where the members' messages are in it.
//!
//! JSON, deflated. Whoever leads next goes on from it: what lies behind `Marks` in the stream is not in the state yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use super::{FleetFault, fault};
use crate::records::event::EventRecord;
use crate::records::hexadecimal::hex;
use crate::records::inputs::{SlotLine, slots, snapshot};
use crate::records::state;
use crate::rollout::gate::Snapshot;
use crate::rollout::slot::Slot;

const FORMAT: u32 = 1;
/// No state is as large; what claims to be is not inflated.
const LARGEST: u64 = 256 * 1024 * 1024;

/// The words of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetRecord {
    pub format: u32,
    /// Version of the serin that wrote it.
    pub serin: String,
    /// The fencing number of the leader that wrote it.
    pub term: u64,
    /// Its name.
    pub leader: String,
    /// Hash of the plan that the leader's file has: who has another one has no vote.
    pub file_plan: String,
    pub weight_ppm: u32,
    pub epoch: u64,
    pub marks: Marks,
    /// Orders that are carried out already, the latest last.
    pub orders: Vec<String>,
    /// Local retreats of members that were judged: true where the fleet went back too.
    pub judged: BTreeMap<String, bool>,
    /// Up to which event each channel of notices was told by the leader.
    #[serde(default)]
    pub notified: BTreeMap<String, u64>,
    /// Whose seconds are in the figures at the moment: members, and regions that add up for theirs.
    pub heard: Vec<String>,
    /// Of each of those regions, how many of its members are heard there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, u64>,
    /// The latest events, oldest first.
    pub events: Vec<EventRecord>,
}

/// Which messages of the members are in the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Every message up to this position of the stream is in the state.
    pub low: u64,
    /// No message beyond this one is.
    pub high: u64,
    /// Between the two: those of seconds up to this one are, in whole seconds since 1970.
    pub closed: u64,
    /// Of each member, its last message up to `high`: what comes again has no greater number.
    pub taken: BTreeMap<String, u64>,
}

/// A record with the state that it is of.
#[derive(Clone, Debug)]
pub struct Stated {
    pub record: FleetRecord,
    pub snapshot: Box<Snapshot>,
    /// Seconds that were closed since the record before.
    pub seconds: Vec<Slot>,
}

#[derive(Serialize, Deserialize)]
struct Whole {
    #[serde(flatten)]
    record: FleetRecord,
    seconds: Vec<SlotLine>,
    state: String,
    counts: String,
}

impl FleetRecord {
    pub const fn format() -> u32 {
        FORMAT
    }

    /// A record of nothing yet, by this member.
    pub fn by(leader: &str, term: u64) -> Self {
        Self {
            format: FORMAT,
            serin: env!("CARGO_PKG_VERSION").to_owned(),
            term,
            leader: leader.to_owned(),
            file_plan: String::new(),
            weight_ppm: 0,
            epoch: 0,
            marks: Marks::default(),
            orders: Vec::new(),
            judged: BTreeMap::new(),
            notified: BTreeMap::new(),
            heard: Vec::new(),
            regions: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// How many members are heard, by themselves or by the word of their region.
    pub fn members(&self) -> usize {
        let direct = self.heard.len().saturating_sub(self.regions.len());
        let others: u64 = self.regions.values().sum();
        direct.saturating_add(usize::try_from(others).unwrap_or(usize::MAX))
    }
}

impl Stated {
    pub fn encode(&self) -> Vec<u8> {
        let bytes = state::encode(&self.snapshot);
        let whole = Whole {
            record: self.record.clone(),
            seconds: self.seconds.iter().map(SlotLine::from).collect(),
            state: bytes.json,
            counts: hex(&bytes.counts),
        };
        let text = serde_json::to_vec(&whole).expect("numbers, texts and lists of them are JSON");
        let mut out = DeflateEncoder::new(Vec::new(), Compression::fast());
        let written = out.write_all(&text).and_then(|()| out.finish());
        written.expect("memory takes what is written")
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FleetFault> {
        let mut text = Vec::new();
        let mut inflated = DeflateDecoder::new(bytes).take(LARGEST);
        inflated.read_to_end(&mut text).map_err(fault)?;
        let whole: Whole = serde_json::from_slice(&text).map_err(fault)?;
        if whole.record.format != FORMAT {
            let found = whole.record.format;
            return Err(fault(format!(
                "a record of format {found}; this serin knows {FORMAT}"
            )));
        }
        Ok(Self {
            snapshot: snapshot(&whole.state, &whole.counts).map_err(fault)?,
            seconds: slots(whole.seconds).map_err(fault)?,
            record: whole.record,
        })
    }

    /// Ids of the events in it.
    pub fn event_ids(&self) -> BTreeSet<u64> {
        self.record.events.iter().map(|event| event.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::assign::Split;

    #[test]
    fn a_record_comes_back_and_what_is_none_is_refused() {
        let stated = Stated {
            record: FleetRecord {
                marks: Marks {
                    low: 4,
                    high: 9,
                    closed: 100,
                    taken: [("a-1".to_owned(), 3)].into(),
                },
                ..FleetRecord::by("a", 7)
            },
            snapshot: Box::new(Snapshot::at_rest(Split::baseline_only())),
            seconds: Vec::new(),
        };
        let bytes = stated.encode();
        let back = Stated::decode(&bytes).expect("as written");
        assert_eq!(back.record, stated.record);
        assert_eq!(back.snapshot, stated.snapshot);
        assert!(Stated::decode(&bytes[..bytes.len() / 2]).is_err());
        assert!(Stated::decode(b"no record").is_err());
    }
}
