//! What a member tells of a rollout: a second as it was counted there, or what was posted to it.
//!
//! Compact bytes with a version in front: some 14 for each learner, a hundred or two for each arm and segment. A second is one
//! of the wall clock, which the members share to within what their clocks differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FleetFault, Posted, Sum, fault};
use crate::records::compact::{
    DecodeError, Reader, decode_cell, decode_sketch, encode_cell, encode_sketch, put,
};
use crate::records::inputs::block::{assigned, put_assigned, put_sight, sight};
use crate::rollout::assign::LearnerHash;
use crate::rollout::evidence::{Assigned, Sight};
use crate::rollout::gate::PoolHealth;
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::slot::{Cell, CellKey};

const VERSION: u8 = 1;
const SECOND: u8 = 0;
const POSTED: u8 = 1;
const SUM: u8 = 2;

/// One message of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Second(Box<Second>),
    Posted(Box<Posted>),
    /// Of a region, in the place of its members.
    Sum(Box<Sum>),
}

/// What one member counted of one rollout in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Second {
    /// Whole seconds since 1970.
    pub second: u64,
    pub cells: BTreeMap<CellKey, Cell>,
    /// As this member sees them, by `Arm::index`.
    pub pools: [PoolHealth; 2],
    /// Learners with an id, in order of their hashes. Where there were too many, those of a sample by hash, the same on
    /// both arms.
    pub sights: Vec<Sight>,
    /// Learners who were sent to an arm and were not told before.
    pub assigned: Vec<Assigned>,
    /// By `Arm::index`; for display.
    pub learners: [LearnerSketch; 2],
}

// === impl Told ===

impl Told {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::Second(second) => {
                out.push(SECOND);
                second.put(&mut out);
            }
            Self::Posted(posted) => {
                out.push(POSTED);
                posted.put(&mut out);
            }
            Self::Sum(sum) => {
                out.push(SUM);
                sum.put(&mut out);
            }
        }
        out
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FleetFault> {
        let mut reader = Reader::new(bytes);
        match reader.byte().map_err(fault)? {
            VERSION => {}
            other => return Err(fault(format!("a message of version {other}"))),
        }
        match reader.byte().map_err(fault)? {
            SECOND => {
                let second = Second::read(&mut reader).map_err(fault)?;
                reader.end().map_err(fault)?;
                Ok(Self::Second(Box::new(second)))
            }
            POSTED => {
                let posted = Posted::read(&mut reader).map_err(fault)?;
                reader.end().map_err(fault)?;
                Ok(Self::Posted(Box::new(posted)))
            }
            SUM => {
                let sum = Sum::read(&mut reader).map_err(fault)?;
                reader.end().map_err(fault)?;
                Ok(Self::Sum(Box::new(sum)))
            }
            other => Err(fault(format!("a message of kind {other}"))),
        }
    }
}

// === impl Second ===

impl Second {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, self.second);
        put(out, self.cells.len() as u64);
        for (key, cell) in &self.cells {
            put(out, key.epoch);
            out.push(key.arm.index() as u8);
            match &key.segment {
                Some(name) => {
                    out.push(1);
                    piece(out, name.as_bytes());
                }
                None => out.push(0),
            }
            piece(out, &encode_cell(cell));
        }
        for pool in &self.pools {
            put(out, u64::from(pool.endpoints));
            put(out, u64::from(pool.usable));
            put(out, pool.probes_sent);
            put(out, pool.probes_answered);
        }
        let mut segments = Vec::new();
        let mut learners = Vec::new();
        let mut last = 0;
        for sight in &self.sights {
            // In order of their hashes, so that only the distance is written; wrapping, so that any order comes back.
            put(&mut learners, sight.learner.raw().wrapping_sub(last));
            last = sight.learner.raw();
            put_sight(&mut learners, sight, &mut segments);
        }
        let mut sent = Vec::new();
        for one in &self.assigned {
            put_assigned(&mut sent, one, &mut segments);
        }
        put(out, segments.len() as u64);
        for name in &segments {
            piece(out, name.as_bytes());
        }
        put(out, self.sights.len() as u64);
        out.extend_from_slice(&learners);
        put(out, self.assigned.len() as u64);
        out.extend_from_slice(&sent);
        for sketch in &self.learners {
            match sketch.is_empty() {
                true => piece(out, &[]),
                false => piece(out, &encode_sketch(sketch)),
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let second = reader.number()?;
        let mut cells = BTreeMap::new();
        for _ in 0..reader.count()? {
            let key = CellKey {
                epoch: reader.number()?,
                arm: arm(reader)?,
                segment: match reader.byte()? {
                    0 => None,
                    1 => Some(name(reader)?),
                    _ => return Err(DecodeError::Range("whether there is a segment")),
                },
            };
            cells.insert(key, decode_cell(next(reader)?)?);
        }
        let mut pools = [PoolHealth::default(); 2];
        for pool in &mut pools {
            *pool = PoolHealth {
                endpoints: small(reader)?,
                usable: small(reader)?,
                probes_sent: reader.number()?,
                probes_answered: reader.number()?,
            };
        }
        let mut segments = Vec::new();
        for _ in 0..reader.count()? {
            segments.push(name(reader)?);
        }
        let mut sights = Vec::new();
        let mut last = 0_u64;
        for _ in 0..reader.count()? {
            last = last.wrapping_add(reader.number()?);
            sights.push(sight(reader, LearnerHash::from_raw(last), &segments)?);
        }
        let mut sent = Vec::new();
        for _ in 0..reader.count()? {
            sent.push(assigned(reader, &segments)?);
        }
        let mut learners: [LearnerSketch; 2] = Default::default();
        for sketch in &mut learners {
            let bytes = next(reader)?;
            if !bytes.is_empty() {
                *sketch = decode_sketch(bytes)?;
            }
        }
        Ok(Self {
            second,
            cells,
            pools,
            sights,
            assigned: sent,
            learners,
        })
    }
}

pub(super) fn piece(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.count()?;
    reader.take(len)
}

pub(super) fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let text = std::str::from_utf8(next(reader)?);
    text.map_err(|_| DecodeError::Range("a text"))
}

fn name(reader: &mut Reader<'_>) -> Result<Arc<str>, DecodeError> {
    text(reader).map(Arc::from)
}

fn arm(reader: &mut Reader<'_>) -> Result<Arm, DecodeError> {
    let arm = Arm::ALL.get(usize::from(reader.byte()?)).copied();
    arm.ok_or(DecodeError::Range("an arm"))
}

fn small(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(reader.number()?).map_err(|_| DecodeError::Range("a number of endpoints"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::fleet::{Marks, Parting};
    use crate::rollout::evidence::First;
    use crate::rollout::gate::Heard;

    fn second() -> Second {
        let cell = Cell {
            counted: 3,
            errors: 1,
            ..Cell::default()
        };
        let sight = |hash: u64, segment: Option<&str>| Sight {
            learner: LearnerHash::from_raw(hash),
            arm: Arm::Canary,
            segment: segment.map(Arc::from),
            epoch: 7,
            first: First {
                error: true,
                failed: false,
                latency_us: Some(u64::MAX),
            },
            error: true,
            client_error: false,
            edges: Some(15),
        };
        let mut sketch = LearnerSketch::new();
        sketch.insert(LearnerHash::from_raw(1 << 40));
        Second {
            second: 1_762_005_600,
            cells: [None, Some(Arc::from("school"))]
                .map(|segment| {
                    let key = CellKey {
                        epoch: 7,
                        arm: Arm::Canary,
                        segment,
                    };
                    (key, cell.clone())
                })
                .into(),
            pools: [
                PoolHealth {
                    endpoints: 3,
                    usable: 2,
                    probes_sent: 5,
                    probes_answered: 4,
                },
                PoolHealth::default(),
            ],
            sights: vec![
                sight(3, None),
                sight(u64::MAX, Some("eu")),
                sight(9, Some("us")),
            ],
            assigned: vec![Assigned {
                learner: LearnerHash::from_raw(5),
                arm: Arm::Baseline,
                segment: Some(Arc::from("us")),
                epoch: 7,
            }],
            learners: [LearnerSketch::new(), sketch],
        }
    }

    fn sum() -> Sum {
        let member = "a-1".to_owned();
        Sum {
            second: second(),
            late: vec![Second {
                second: 9,
                ..Second::default()
            }],
            posted: vec![Posted {
                sent_ms: 5,
                sent_clock_ms: 6,
                heard: Heard::default(),
            }],
            partings: vec![
                Parting::FellSilent {
                    member: member.clone(),
                    second: 3,
                },
                Parting::IsAnother { member, second: 4 },
            ],
            heard: vec!["b".to_owned()],
            marks: Marks {
                low: 1,
                high: 9,
                closed: 7,
                taken: [("b/1".to_owned(), 8)].into(),
            },
        }
    }

    #[test]
    fn what_is_told_comes_back() {
        let heard = Told::Posted(Box::new(Posted {
            sent_ms: 1_762_005_600_123,
            sent_clock_ms: 77,
            heard: Heard::default(),
        }));
        let sum = Told::Sum(Box::new(sum()));
        for told in [Told::Second(Box::new(second())), heard, sum] {
            assert_eq!(Told::decode(&told.encode()).as_ref(), Ok(&told));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        let sum = Told::Sum(Box::new(sum())).encode();
        let whole = Told::Second(Box::new(second())).encode();
        for whole in [&sum, &whole] {
            for len in 0..whole.len() {
                assert!(Told::decode(&whole[..len]).is_err(), "{len} bytes");
            }
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(Told::decode(&longer).is_err());
        let newer = [&[VERSION + 1], &whole[1..]].concat();
        assert!(Told::decode(&newer).is_err());
    }
}
