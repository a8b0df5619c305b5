//! What a region tells in the place of its members: one second of all of them, and up to where their messages are in it.
//!
//! Compact bytes. Whoever adds up next goes on from the last one that lies in the fleet's stream; what lies behind its marks in
//! the region's stream is not told yet.

use super::Marks;
use super::second::{Second, piece, text};
use crate::records::compact::{DecodeError, Reader, put};
use crate::records::inputs;
use crate::rollout::gate::Heard;

/// One second of a region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// Of all members that told it in time. Where they named too many learners, those of a sample by hash, the same on both arms.
    pub second: Second,
    /// What was told of seconds that were closed by then.
    pub late: Vec<Second>,
    /// What was posted to members.
    pub posted: Vec<Posted>,
    /// What is to be told of members.
    pub partings: Vec<Parting>,
    /// Who is heard, by name.
    pub heard: Vec<String>,
    /// Which messages of the region's stream are in the sums up to this one.
    pub marks: Marks,
}

/// Readings and results that were posted to a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// When, in milliseconds since 1970, and in that member's gate time, as their own moments are.
    pub sent_ms: u64,
    pub sent_clock_ms: u64,
    pub heard: Heard,
}

/// What is to be told of a member once, with the last second counted of it, since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    FellSilent { member: String, second: u64 },
    IsAnother { member: String, second: u64 },
}

impl Sum {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.second.put(out);
        put(out, self.late.len() as u64);
        for late in &self.late {
            late.put(out);
        }
        put(out, self.posted.len() as u64);
        for posted in &self.posted {
            posted.put(out);
        }
        put(out, self.partings.len() as u64);
        for parting in &self.partings {
            let (kind, member, second) = match parting {
                Parting::FellSilent { member, second } => (0, member, second),
                Parting::IsAnother { member, second } => (1, member, second),
            };
            out.push(kind);
            piece(out, member.as_bytes());
            put(out, *second);
        }
        put(out, self.heard.len() as u64);
        for name in &self.heard {
            piece(out, name.as_bytes());
        }
        let marks = &self.marks;
        for number in [
            marks.low,
            marks.high,
            marks.closed,
            marks.taken.len() as u64,
        ] {
            put(out, number);
        }
        for (life, n) in &marks.taken {
            piece(out, life.as_bytes());
            put(out, *n);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut sum = Self {
            second: Second::read(reader)?,
            ..Self::default()
        };
        for _ in 0..reader.count()? {
            sum.late.push(Second::read(reader)?);
        }
        for _ in 0..reader.count()? {
            sum.posted.push(Posted::read(reader)?);
        }
        for _ in 0..reader.count()? {
            let kind = reader.byte()?;
            let (member, second) = (text(reader)?.to_owned(), reader.number()?);
            sum.partings.push(match kind {
                0 => Parting::FellSilent { member, second },
                1 => Parting::IsAnother { member, second },
                _ => return Err(DecodeError::Range("what is told of a member")),
            });
        }
        for _ in 0..reader.count()? {
            sum.heard.push(text(reader)?.to_owned());
        }
        sum.marks = Marks {
            low: reader.number()?,
            high: reader.number()?,
            closed: reader.number()?,
            ..Marks::default()
        };
        for _ in 0..reader.count()? {
            let life = text(reader)?.to_owned();
            sum.marks.taken.insert(life, reader.number()?);
        }
        Ok(sum)
    }
}

impl Posted {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, self.sent_ms);
        put(out, self.sent_clock_ms);
        piece(out, inputs::heard_text(&self.heard).as_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (sent_ms, sent_clock_ms) = (reader.number()?, reader.number()?);
        let heard = inputs::read_heard(text(reader)?);
        Ok(Self {
            sent_ms,
            sent_clock_ms,
            heard: heard.map_err(|_| DecodeError::Range("what was posted"))?,
        })
    }
}
