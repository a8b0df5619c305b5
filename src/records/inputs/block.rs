//! Seconds of learners as a line of recorded inputs: some 14 bytes for each learner, most of them his hash.
//!
//! Learners come in order of their hashes, so that only the distance to the one before is written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{InputError, bytes, fault, hex};
use crate::records::compact::{DecodeError, Reader, put};
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{Assigned, Block, First, Requests, RequestsBy, Sight};
use crate::rollout::name::Arm;
use crate::rollout::time::Timestamp;

// What is said of a learner in one byte.
const CANARY: u8 = 1;
const FIRST_ERROR: u8 = 1 << 1;
const FIRST_FAILED: u8 = 1 << 2;
const ERROR: u8 = 1 << 3;
const CLIENT_ERROR: u8 = 1 << 4;
const TIMED: u8 = 1 << 5;
const FIRST_TIMED: u8 = 1 << 6;
const SEGMENT: u8 = 1 << 7;

/// Epoch and segment, then errors and requests of baseline and of canary.
type RequestsLine = (u64, Option<String>, [(u64, u64); 2]);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BlockLine {
    start_ms: u64,
    requests: Vec<RequestsLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    segments: Vec<String>,
    /// The compact form in hexadecimal.
    learners: String,
    /// Who was sent to an arm, in the order in which they were, in the same form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    assigned: String,
}

impl From<&Block> for BlockLine {
    fn from(block: &Block) -> Self {
        let counts = |requests: &Requests| (requests.errors, requests.counted);
        let requests = block.requests_by().iter();
        let mut segments = Vec::new();
        let mut learners = Vec::new();
        let mut last = 0;
        for sight in block.sights(0) {
            put(&mut learners, sight.learner.raw() - last);
            last = sight.learner.raw();
            put_sight(&mut learners, sight, &mut segments);
        }
        let mut assigned = Vec::new();
        for one in block.assigned() {
            put_assigned(&mut assigned, one, &mut segments);
        }
        Self {
            start_ms: block.start.as_millis(),
            requests: requests
                .map(|((epoch, segment), arms)| {
                    let name = segment.as_ref().map(ToString::to_string);
                    (*epoch, name, arms.each_ref().map(counts))
                })
                .collect(),
            segments: segments.iter().map(ToString::to_string).collect(),
            learners: hex(&learners),
            assigned: hex(&assigned),
        }
    }
}

impl BlockLine {
    pub(super) fn meant(self) -> Result<Block, InputError> {
        let requests: RequestsBy = self
            .requests
            .into_iter()
            .map(|(epoch, segment, arms)| {
                let counts = |(errors, counted)| Requests { errors, counted };
                ((epoch, segment.map(Arc::from)), arms.map(counts))
            })
            .collect();
        let segments: Vec<Arc<str>> = self
            .segments
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        let learners = bytes(&self.learners)?;
        let mut reader = Reader::new(&learners);
        let mut sights = Vec::new();
        let mut last = 0_u64;
        while reader.end().is_err() {
            let step = reader.number().map_err(fault)?;
            last = last
                .checked_add(step)
                .ok_or_else(|| fault("a learner beyond the last"))?;
            let learner = LearnerHash::from_raw(last);
            sights.push(sight(&mut reader, learner, &segments).map_err(fault)?);
        }
        let sent = bytes(&self.assigned)?;
        let mut reader = Reader::new(&sent);
        let mut all = Vec::new();
        while reader.end().is_err() {
            all.push(assigned(&mut reader, &segments).map_err(fault)?);
        }
        let start = Timestamp::from_millis(self.start_ms);
        Ok(Block::of(start, sights, requests, all))
    }
}

pub(in crate::records) fn put_sight(
    out: &mut Vec<u8>,
    sight: &Sight,
    segments: &mut Vec<Arc<str>>,
) {
    let flags = [
        (CANARY, sight.arm == Arm::Canary),
        (FIRST_ERROR, sight.first.error),
        (FIRST_FAILED, sight.first.failed),
        (ERROR, sight.error),
        (CLIENT_ERROR, sight.client_error),
        (TIMED, sight.edges.is_some()),
        (FIRST_TIMED, sight.first.latency_us.is_some()),
        (SEGMENT, sight.segment.is_some()),
    ];
    let set = flags.into_iter().filter(|(_, is)| *is);
    out.push(set.fold(0, |all, (flag, _)| all | flag));
    put(out, sight.epoch);
    out.extend(sight.edges);
    if let Some(latency_us) = sight.first.latency_us {
        // A timeout is above every limit, and takes one byte.
        put(out, latency_us.wrapping_add(1));
    }
    if let Some(name) = &sight.segment {
        put(out, place_in(segments, name));
    }
}

pub(in crate::records) fn put_assigned(
    out: &mut Vec<u8>,
    one: &Assigned,
    segments: &mut Vec<Arc<str>>,
) {
    let flags = [
        (CANARY, one.arm == Arm::Canary),
        (SEGMENT, one.segment.is_some()),
    ];
    let set = flags.into_iter().filter(|(_, is)| *is);
    out.push(set.fold(0, |all, (flag, _)| all | flag));
    put(out, one.learner.raw());
    put(out, one.epoch);
    if let Some(name) = &one.segment {
        put(out, place_in(segments, name));
    }
}

fn place_in(segments: &mut Vec<Arc<str>>, name: &Arc<str>) -> u64 {
    let known = segments.iter().position(|known| known == name);
    let place = known.unwrap_or_else(|| {
        segments.push(Arc::clone(name));
        segments.len() - 1
    });
    place as u64
}

fn segment(reader: &mut Reader<'_>, segments: &[Arc<str>]) -> Result<Arc<str>, DecodeError> {
    let place = usize::try_from(reader.number()?).ok();
    let name = place.and_then(|place| segments.get(place));
    name.cloned().ok_or(DecodeError::Range("a segment"))
}

pub(in crate::records) fn assigned(
    reader: &mut Reader<'_>,
    segments: &[Arc<str>],
) -> Result<Assigned, DecodeError> {
    let flags = reader.byte()?;
    let is = |flag| flags & flag != 0;
    Ok(Assigned {
        arm: arm(flags),
        learner: LearnerHash::from_raw(reader.number()?),
        epoch: reader.number()?,
        segment: match is(SEGMENT) {
            true => Some(segment(reader, segments)?),
            false => None,
        },
    })
}

const fn arm(flags: u8) -> Arm {
    if flags & CANARY != 0 {
        Arm::Canary
    } else {
        Arm::Baseline
    }
}

pub(in crate::records) fn sight(
    reader: &mut Reader<'_>,
    learner: LearnerHash,
    segments: &[Arc<str>],
) -> Result<Sight, DecodeError> {
    let flags = reader.byte()?;
    let is = |flag| flags & flag != 0;
    let epoch = reader.number()?;
    let edges = if is(TIMED) {
        Some(reader.byte()?)
    } else {
        None
    };
    let latency_us = match is(FIRST_TIMED) {
        true => Some(reader.number()?.wrapping_sub(1)),
        false => None,
    };
    let segment = match is(SEGMENT) {
        true => Some(segment(reader, segments)?),
        false => None,
    };
    Ok(Sight {
        learner,
        arm: arm(flags),
        segment,
        epoch,
        first: First {
            error: is(FIRST_ERROR),
            failed: is(FIRST_FAILED),
            latency_us,
        },
        error: is(ERROR),
        client_error: is(CLIENT_ERROR),
        edges,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(learner: u64, place: u64) -> Sight {
        let is = |bit: u64| place >> bit & 1 == 1;
        Sight {
            learner: LearnerHash::from_raw(learner),
            arm: if is(0) { Arm::Canary } else { Arm::Baseline },
            segment: match place % 3 {
                0 => None,
                other => Some(Arc::from(["", "eu", "us"][other as usize])),
            },
            epoch: 1 + place % 2,
            first: First {
                error: is(1),
                failed: is(2),
                latency_us: [None, Some(0), Some(47_001), Some(u64::MAX)][place as usize % 4],
            },
            error: is(3),
            client_error: is(4),
            edges: is(5).then_some(15),
        }
    }

    #[test]
    fn a_second_of_learners_comes_back() {
        let requests = [1, 2].map(|epoch| {
            let counted = |counted| Requests { errors: 1, counted };
            let segment = (epoch == 2).then(|| Arc::from("us"));
            ((epoch, segment), [counted(5), counted(7)])
        });
        let hashes = [0, 1, 77, 1 << 40, u64::MAX - 1, u64::MAX];
        let sights = (0..64).flat_map(|place| {
            let step = place * 1_000;
            hashes.map(|hash: u64| some(hash.wrapping_add(step), place))
        });
        let block = Block::of(
            Timestamp::from_millis(8_000),
            sights,
            requests.into_iter().collect(),
            [3, u64::MAX, 3]
                .map(|hash| Assigned {
                    learner: LearnerHash::from_raw(hash),
                    arm: some(hash, 1).arm,
                    segment: (hash == 3).then(|| Arc::from("asia")),
                    epoch: 9,
                })
                .into(),
        );
        let text = serde_json::to_string(&BlockLine::from(&block)).expect("JSON");
        let line: BlockLine = serde_json::from_str(&text).expect("as written");
        assert_eq!(line.meant().expect("valid"), block);
    }

    #[test]
    fn learners_cut_short_are_refused() {
        let block = Block::of(
            Timestamp::default(),
            [some(7, 38)],
            RequestsBy::new(),
            Vec::new(),
        );
        let mut line = BlockLine::from(&block);
        line.learners.truncate(line.learners.len() - 2);
        assert!(line.meant().is_err());
    }
}
