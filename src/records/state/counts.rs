//! The counted part of a state: sums, sketches and evidence of the run, failing learners of each breach, pins.
//!
//! Pieces with their lengths, in one fixed order; an own version in front.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::super::compact::{
    DecodeError, Reader, decode_cell, decode_sketch, encode_cell, encode_sketch, put,
};
use super::{StateBytes, evidence, outcomes};
use crate::rollout::assign::LearnerHash;
use crate::rollout::gate::{Breach, Run, Snapshot};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::segments::SegmentTotals;
use crate::rollout::slot::{Cell, MAX_FAILING_LEARNERS};
use crate::rollout::window::Totals;

/// 2 has business results of learners, segments and evidence.
const VERSION: u8 = 2;
/// Without them, and read all the same: a run of it goes on with none.
const FIRST: u8 = 1;

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
        for totals in totals(run) {
            encode_segments(&mut out, &totals.segments);
        }
        piece(&mut out, &evidence::encode(&run.evidence));
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
    if found != VERSION && found != FIRST {
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
        if found != FIRST {
            outcomes::decode_into(&mut reader, run)?;
            for totals in totals_mut(run) {
                totals.segments = decode_segments(&mut reader)?;
            }
            run.evidence = evidence::decode(next(&mut reader)?)?;
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
    totals(run).into_iter().flat_map(|totals| &totals.cells)
}

fn cells_mut(run: &mut Run) -> impl Iterator<Item = &mut Cell> {
    totals_mut(run)
        .into_iter()
        .flat_map(|totals| &mut totals.cells)
}

fn totals(run: &Run) -> [&Totals; 3] {
    [&run.totals, &run.stage.totals, &run.stage.interval]
}

fn totals_mut(run: &mut Run) -> [&mut Totals; 3] {
    let stage = &mut run.stage;
    [&mut run.totals, &mut stage.totals, &mut stage.interval]
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

fn encode_segments(out: &mut Vec<u8>, segments: &SegmentTotals) {
    put(out, segments.len() as u64);
    for (name, arms) in segments.iter() {
        piece(out, name.as_bytes());
        for arm in arms {
            piece(out, &encode_cell(arm));
        }
    }
}

fn decode_segments(reader: &mut Reader<'_>) -> Result<SegmentTotals, DecodeError> {
    let mut segments = SegmentTotals::default();
    for _ in 0..reader.count()? {
        let name = std::str::from_utf8(next(reader)?)
            .map_err(|_| DecodeError::Range("the name of a segment"))?;
        let mut arms: [Cell; 2] = Default::default();
        for arm in &mut arms {
            *arm = decode_cell(next(reader)?)?;
        }
        segments.insert(Arc::from(name), arms);
    }
    Ok(segments)
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
