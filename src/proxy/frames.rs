//! HTTP/2 frames as a client sends them, judged below the library: pure.
//!
//! Cuts the bytes into frames, and tells what the library does not bound, and faults for which it names another error than
//! the standard, or none. Knows when something begun, a frame or a block of headers, has not ended. What a frame means
//! is the library's.
//!
//! Reading order: `allowance` (frames that carry no request), `begun` (the streams, and who has ended), `block` (headers over
//! several frames), `hpack` (whether they can be decoded).

mod allowance;
mod begun;
mod block;
mod hpack;
#[cfg(test)]
mod tests;

use allowance::Allowance;
use begun::Begun;
use block::Blocks;
use hpack::Undecodable;

/// The client's connection preface (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest payload of a frame, as our settings say it (RFC 9113, 6.5.2: the least there is).
pub(super) const PAYLOAD_MAX: u32 = 16 * 1024;

/// A stream's number has 31 bits; the other one is reserved.
const STREAM_BITS: u32 = u32::MAX >> 1;

const HEAD: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;

/// A setting, its value with it, and the one whose values have an error of their own (RFC 9113, 6.5).
const SETTING_LEN: usize = 6;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const WINDOW_MAX: u32 = u32::MAX >> 1;

/// What a client's bytes have been so far.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    head: [u8; HEAD],
    head_len: usize,
    payload_left: u32,
    /// The frame that the payload belongs to is DATA: it is timed as a body.
    in_data: bool,
    /// What has come of a payload that is judged whole.
    part: Vec<u8>,
    blocks: Blocks,
    begun: Begun,
    allowance: Allowance,
}

/// Why a client's frames are read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// More control frames than any client needs.
    Flood,
    /// A length that its kind of frame cannot have.
    FrameSize,
    /// A block of headers that is cut into, or holds what it may not.
    Protocol,
    /// A block of headers that cannot be decoded.
    Compression,
    /// A frame on a stream that the client itself has ended.
    StreamClosed,
    /// A window larger than any may be.
    FlowControl,
}

// === impl Ending ===

impl Ending {
    // RFC 9113, 7.
    const fn code(self) -> u8 {
        match self {
            Self::Protocol => 0x1,
            Self::FlowControl => 0x3,
            Self::StreamClosed => 0x5,
            Self::FrameSize => 0x6,
            Self::Compression => 0x9,
            Self::Flood => 0xb,
        }
    }
}

impl From<Undecodable> for Ending {
    fn from(_: Undecodable) -> Self {
        Self::Compression
    }
}

// === impl Frames ===

impl Frames {
    /// Before the preface, at `now` in coarse milliseconds.
    pub(super) fn new(now: u32) -> Self {
        Self {
            preface_left: PREFACE.len(),
            head: [0; HEAD],
            head_len: 0,
            payload_left: 0,
            in_data: false,
            part: Vec::new(),
            blocks: Blocks::new(),
            begun: Begun::default(),
            allowance: Allowance::new(now),
        }
    }

    /// Takes what was read.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: u32) -> Result<(), Ending> {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let len = bytes.len().min(self.payload_left as usize);
                let (payload, rest) = bytes.split_at(len);
                bytes = rest;
                self.payload_left -= len as u32;
                self.take(payload)?;
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else {
                break;
            };
            if let Some(place) = self.head.get_mut(self.head_len) {
                *place = *first;
            }
            self.head_len += 1;
            bytes = rest;
            if self.head_len == HEAD {
                self.head_len = 0;
                self.begin(now)?;
            }
        }
        Ok(())
    }

    /// Takes how much was written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.allowance.earn(bytes);
    }

    /// Whether a frame other than DATA, or a block of headers, has begun and not ended.
    pub(super) const fn is_partial(&self) -> bool {
        self.preface_left > 0
            || self.head_len > 0
            || self.blocks.open().is_some()
            || self.payload_left > 0 && !self.in_data
    }

    /// Whether it is the others' turn; it is ours again then.
    pub(super) fn gives_way(&mut self) -> bool {
        self.allowance.gives_way()
    }

    /// The last frame of a connection that ends so.
    pub(super) const fn goodbye(&self, ending: Ending) -> [u8; HEAD + 8] {
        let [a, b, c, d] = self.begun.last().to_be_bytes();
        let code = ending.code();
        [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code]
    }

    // A frame's head is whole.
    fn begin(&mut self, now: u32) -> Result<(), Ending> {
        let [len0, len1, len2, kind, flags, stream @ ..] = self.head;
        self.payload_left = u32::from_be_bytes([0, len0, len1, len2]);
        if !is_possible(kind, flags, self.payload_left) {
            return Err(Ending::FrameSize);
        }
        let stream = u32::from_be_bytes(stream) & STREAM_BITS;
        // RFC 9113, 6.10: nothing comes between the frames of a block, and no part of one without its beginning.
        let continued = (kind == CONTINUATION).then_some(stream);
        if self.blocks.open() != continued {
            return Err(Ending::Protocol);
        }
        self.in_data = kind == DATA;
        let ends = flags & END_STREAM != 0;
        let cost = match kind {
            DATA => {
                self.begun.go_on(stream, ends)?;
                u32::from(self.payload_left == 0 && !ends)
            }
            HEADERS => {
                let is_trailers = !self.begun.begin(stream);
                self.begun.go_on(stream, ends)?;
                self.blocks.begin(stream, is_trailers);
                0
            }
            RST_STREAM => allowance::RESET_COST,
            _ => 1,
        };
        self.allowance.spend(cost, now)?;
        if self.payload_left == 0 {
            return self.take(&[]);
        }
        Ok(())
    }

    // A piece of a frame's payload: the last one where nothing is left.
    fn take(&mut self, payload: &[u8]) -> Result<(), Ending> {
        let [_, _, _, kind, ..] = self.head;
        if !matches!(kind, HEADERS | CONTINUATION | SETTINGS) {
            return Ok(());
        }
        if self.payload_left == 0 && self.part.is_empty() {
            return self.end(payload);
        }
        self.part.extend_from_slice(payload);
        if self.payload_left == 0 {
            let part = std::mem::take(&mut self.part);
            return self.end(&part);
        }
        Ok(())
    }

    // The payload of a frame that is judged whole.
    fn end(&mut self, payload: &[u8]) -> Result<(), Ending> {
        let [_, _, _, kind, flags, ..] = self.head;
        match kind {
            SETTINGS if payload.chunks_exact(SETTING_LEN).any(is_too_wide) => {
                Err(Ending::FlowControl)
            }
            HEADERS => self.blocks.add(block::fragment(payload, flags)?, flags),
            CONTINUATION => self.blocks.add(payload, flags),
            _ => Ok(()),
        }
    }
}

fn is_too_wide(setting: &[u8]) -> bool {
    match setting {
        [a, b, value @ ..] if u16::from_be_bytes([*a, *b]) == INITIAL_WINDOW_SIZE => value
            .try_into()
            .is_ok_and(|value| u32::from_be_bytes(value) > WINDOW_MAX),
        _ => false,
    }
}

// RFC 9113, 4.2 and 6: what is wrong with a length is so for the whole connection, whichever stream it is of.
const fn is_possible(kind: u8, flags: u8, len: u32) -> bool {
    if len > PAYLOAD_MAX {
        return false;
    }
    match kind {
        PRIORITY => len == 5,
        RST_STREAM | WINDOW_UPDATE => len == 4,
        SETTINGS if flags & ACK != 0 => len == 0,
        SETTINGS => len.is_multiple_of(6),
        PING => len == 8,
        GOAWAY => len >= 8,
        _ => true,
    }
}
