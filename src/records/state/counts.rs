//! The counted part of a state: sums and sketches of the run, failing learners of each breach, pins.
//!
//! Pieces with their lengths, in one fixed order; an own version in front.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::super::compact::{
    DecodeError, Reader, decode_cell, decode_sketch, encode_cell, encode_sketch, put,
};
use super::{StateBytes, outcomes};
use crate::rollout::assign::LearnerHash;
use crate::rollout::gate::{Breach, Run, Snapshot};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::slot::{Cell, MAX_FAILING_LEARNERS};

/// 2 has business results of learners.
const VERSION: u8 = 2;
/// Without them, and read all the same.
const WITHOUT_OUTCOMES: u8 = 1;

pub(super) fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut out = vec![VERSION];
    encode_pins(&mut out, &snapshot.split.pins);
    for breach in &snapshot.watch.breaches {
        put(&mut out, breach.learners.len() as u64);
        for learner in &breach.learners {
            out.extend_from_slice(&learner.raw().to_be_bytes());
        }
    }
    if let Some(run) = &snapshot.run {
        for cell in cells(run) {
            piece(&mut out, &encode_cell(cell));
        }
        for sketch in sketches(run) {
            piece(&mut out, &encode_sketch(sketch));
        }
        outcomes::encode(&mut out, &run.outcomes);
    }
    out
}

/// Fills the counts of a snapshot that has everything else,
/// and gives back the state that a rehearsal keeps, if there is one.
pub(super) fn decode_into(
    bytes: &[u8],
    snapshot: &mut Snapshot,
) -> Result<Option<StateBytes>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let found = reader.byte()?;
    if found != VERSION && found != WITHOUT_OUTCOMES {
        return Err(DecodeError::Version {
            found,
            known: VERSION,
        });
    }
    snapshot.split.pins = Arc::new(decode_pins(&mut reader)?);
    for breach in &mut snapshot.watch.breaches {
        decode_learners(&mut reader, breach)?;
    }
    if let Some(run) = &mut snapshot.run {
        for cell in cells_mut(run) {
            *cell = decode_cell(next(&mut reader)?)?;
        }
        for sketch in sketches_mut(run) {
            *sketch = decode_sketch(next(&mut reader)?)?;
        }
        if found != WITHOUT_OUTCOMES {
            outcomes::decode_into(&mut reader, run)?;
        }
    }
    let kept = match snapshot.rehearsal {
        Some(_) => Some(StateBytes {
            json: String::from_utf8(next(&mut reader)?.to_vec())
                .map_err(|_| DecodeError::Range("the text of a kept state"))?,
            counts: next(&mut reader)?.to_vec(),
        }),
        None => None,
    };
    reader.end()?;
    Ok(kept)
}

/// Adds the state that a rehearsal keeps: the last of the pieces.
pub(super) fn put_kept(out: &mut Vec<u8>, kept: &StateBytes) {
    piece(out, kept.json.as_bytes());
    piece(out, &kept.counts);
}

fn cells(run: &Run) -> impl Iterator<Item = &Cell> {
    let stage = &run.stage;
    run.totals
        .cells
        .iter()
        .chain(&stage.totals.cells)
        .chain(&stage.interval.cells)
}

fn cells_mut(run: &mut Run) -> impl Iterator<Item = &mut Cell> {
    let stage = &mut run.stage;
    run.totals
        .cells
        .iter_mut()
        .chain(&mut stage.totals.cells)
        .chain(&mut stage.interval.cells)
}

fn sketches(run: &Run) -> impl Iterator<Item = &LearnerSketch> {
    run.learners.iter().chain(&run.stage.learners)
}

fn sketches_mut(run: &mut Run) -> impl Iterator<Item = &mut LearnerSketch> {
    run.learners.iter_mut().chain(&mut run.stage.learners)
}

pub(super) fn piece(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn next<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.count()?;
    reader.take(len)
}

// In order of the ids, so that one state has one form.
fn encode_pins(out: &mut Vec<u8>, pins: &HashMap<Box<[u8]>, Arm>) {
    let mut sorted: Vec<_> = pins.iter().collect();
    sorted.sort_unstable();
    put(out, sorted.len() as u64);
    for (learner, arm) in sorted {
        piece(out, learner);
        out.push(arm.index() as u8);
    }
}

fn decode_pins(reader: &mut Reader<'_>) -> Result<HashMap<Box<[u8]>, Arm>, DecodeError> {
    let mut pins = HashMap::new();
    for _ in 0..reader.count()? {
        let learner = next(reader)?;
        let arm = Arm::ALL
            .get(usize::from(reader.byte()?))
            .ok_or(DecodeError::Range("an arm"))?;
        pins.insert(learner.into(), *arm);
    }
    Ok(pins)
}

fn decode_learners(reader: &mut Reader<'_>, breach: &mut Breach) -> Result<(), DecodeError> {
    let count = reader.count()?;
    if count > MAX_FAILING_LEARNERS {
        return Err(DecodeError::Range("the number of failing learners"));
    }
    let mut learners = BTreeSet::new();
    for _ in 0..count {
        let raw = reader.take(8)?.try_into().map_err(|_| DecodeError::Short)?;
        learners.insert(LearnerHash::from_raw(u64::from_be_bytes(raw)));
    }
    breach.learners = learners;
    Ok(())
}
