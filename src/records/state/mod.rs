//! A gate's saved state as bytes: JSON for what is said in words and numbers, compact bytes for what is counted.
//!
//! The two are written together and belong together. They are one row that is replaced four times a second, so the
//! counts (histograms, sketches, hashes, pins) are not in the JSON. Reading checks everything: a plan that is not
//! valid, a weight above the whole, or counts cut short are an error, never a guess.

mod counts;
mod evidence;
mod mirror;
mod outcomes;
mod people;
mod recovery;

use super::compact::DecodeError;
use super::plan::PlanRecordError;
use crate::rollout::gate::Snapshot;
use crate::rollout::plan::Plan;
use crate::rollout::time::Timestamp;

/// A snapshot as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateBytes {
    pub json: String,
    pub counts: Vec<u8>,
}

/// Why saved bytes are not a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the saved state cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the saved counts cannot be read: {0}")]
    Counts(#[from] DecodeError),
    #[error("the saved plan is {0}")]
    Plan(#[from] PlanRecordError),
    #[error("the saved weight of {0} ppm is above the whole")]
    Weight(u32),
    #[error("the saved signal {0}")]
    Signal(String),
    #[error("a saved name is none: {0}")]
    Name(String),
}

pub fn encode(snapshot: &Snapshot) -> StateBytes {
    let json = serde_json::to_string(&mirror::State::from(snapshot))
        .expect("numbers, texts and lists of them are JSON");
    let mut counts = counts::encode(snapshot);
    if let Some(rehearsal) = &snapshot.rehearsal {
        let kept = encode(&rehearsal.kept);
        counts::put_kept(&mut counts, &kept);
    }
    StateBytes { json, counts }
}

pub fn decode(json: &str, counts: &[u8]) -> Result<Snapshot, StateError> {
    let state: mirror::State = serde_json::from_str(json)?;
    let mut snapshot = state.into_snapshot()?;
    let kept = counts::decode_into(counts, &mut snapshot)?;
    if let (Some(rehearsal), Some(kept)) = (&mut snapshot.rehearsal, kept) {
        *rehearsal.kept = decode(&kept.json, &kept.counts)?;
    }
    Ok(snapshot)
}

/// The plan of the present or last run.
pub fn plan(snapshot: &Snapshot) -> Option<&Plan> {
    snapshot.run.as_ref().map(|run| &run.plan)
}

/// When it was taken, in gate time.
pub const fn saved(snapshot: &Snapshot) -> Timestamp {
    snapshot.saved.mono
}
