//! HTTP/2 frames as a client sends them, counted below hyper: pure.
//!
//! Reads nine bytes of each frame and nothing of what it carries. Bounds what the library does not: frames that cost
//! us work and carry no request (PING, SETTINGS, PRIORITY, resets, empty DATA), tells the lengths that no frame may have,
//! and knows when something begun, a frame or a block of headers, has not ended. What a frame means is hyper's.

/// The client's connection preface (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Control frames that may come at once. Libraries that probe their bandwidth send a few PINGs per round trip.
const BURST: u32 = 10_000;
/// Control frames a second beyond that.
const PER_SECOND: u32 = 1_000;
/// A reset costs more than its frame: a request was begun for it.
const RESET_COST: u32 = 10;
/// Bytes written that earn a client one more control frame: answers bring window updates with them.
const BYTES_EARNING: u32 = 1024;

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
const END_HEADERS: u8 = 0x4;

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
    /// A block of headers was begun and not ended.
    in_block: bool,
    /// The highest stream that a request was begun on.
    last_stream: u32,
    budget: u32,
    /// Coarse milliseconds, at the last refill.
    refilled: u32,
    written: u32,
}

/// Why a client's frames are read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// More control frames than any client needs.
    Flood,
    /// A length that its kind of frame cannot have.
    FrameSize,
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
            in_block: false,
            last_stream: 0,
            budget: BURST,
            refilled: now,
            written: 0,
        }
    }

    /// Takes what was read.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: u32) -> Result<(), Ending> {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let passed = bytes.len().min(self.payload_left as usize);
                self.payload_left -= passed as u32;
                bytes = bytes.get(passed..).unwrap_or_default();
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
        self.written = self
            .written
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let earned = self.written / BYTES_EARNING;
        self.written %= BYTES_EARNING;
        self.budget = self.budget.saturating_add(earned).min(BURST);
    }

    /// Whether a frame other than DATA, or a block of headers, has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        self.preface_left > 0
            || self.head_len > 0
            || self.in_block
            || self.payload_left > 0 && !self.in_data
    }

    /// The last frame of a connection that ends so.
    pub(super) fn goodbye(&self, ending: Ending) -> [u8; HEAD + 8] {
        // RFC 9113, 7: ENHANCE_YOUR_CALM and FRAME_SIZE_ERROR.
        let code = match ending {
            Ending::Flood => 0xb,
            Ending::FrameSize => 0x6,
        };
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code]
    }

    // A frame's head is whole.
    fn begin(&mut self, now: u32) -> Result<(), Ending> {
        let [len0, len1, len2, kind, flags, stream @ ..] = self.head;
        self.payload_left = u32::from_be_bytes([0, len0, len1, len2]);
        if !is_possible(kind, flags, self.payload_left) {
            return Err(Ending::FrameSize);
        }
        if kind == HEADERS {
            let stream = u32::from_be_bytes(stream) & STREAM_BITS;
            self.last_stream = self.last_stream.max(stream);
        }
        self.in_data = kind == DATA;
        let cost = match kind {
            DATA if self.payload_left == 0 && flags & END_STREAM == 0 => 1,
            DATA => 0,
            HEADERS | CONTINUATION => {
                self.in_block = flags & END_HEADERS == 0;
                u32::from(kind == CONTINUATION)
            }
            RST_STREAM => RESET_COST,
            _ => 1,
        };
        self.spend(cost, now)
    }

    fn spend(&mut self, cost: u32, now: u32) -> Result<(), Ending> {
        if cost == 0 {
            return Ok(());
        }
        let passed = now.saturating_sub(self.refilled);
        let refill = passed.saturating_mul(PER_SECOND / 1000);
        self.refilled = now;
        self.budget = self.budget.saturating_add(refill).min(BURST);
        self.budget = self.budget.checked_sub(cost).ok_or(Ending::Flood)?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags];
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(std::iter::repeat_n(0xff, len));
        bytes
    }

    fn begun() -> Frames {
        let mut frames = Frames::new(0);
        frames.read(PREFACE, 0).expect("a preface");
        frames
    }

    #[test]
    fn the_cut_of_reads_changes_nothing() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 18));
        bytes.extend(frame(HEADERS, 0, 300));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 16_384));
        bytes.extend(frame(DATA, END_STREAM, 0));
        for step in [1, 2, 8, 9, 10, 33, 1000, usize::MAX] {
            let mut frames = Frames::new(0);
            assert!(frames.is_partial());
            for piece in bytes.chunks(step) {
                frames.read(piece, 0).expect("few frames");
            }
            assert!(!frames.is_partial(), "{step}");
            assert_eq!(frames.budget, BURST - 2, "settings and continuation");
        }
    }

    #[test]
    fn what_has_not_ended_is_known() {
        let check = |bytes: &[u8], expected: bool| {
            let mut frames = begun();
            frames.read(bytes, 0).expect("few frames");
            assert_eq!(frames.is_partial(), expected, "{bytes:?}");
        };
        check(&[], false);
        check(&frame(PING, 0, 8)[..4], true);
        check(&frame(PING, 0, 8)[..16], true);
        check(&frame(PING, 0, 8), false);
        check(&frame(HEADERS, 0, 3), true);
        check(&frame(HEADERS, END_HEADERS, 3), false);
        check(&frame(DATA, 0, 100)[..50], false);
    }

    #[test]
    fn a_length_that_a_frame_cannot_have_ends_the_connection_with_its_own_error() {
        let check = |kind: u8, flags: u8, len: usize, expected: bool| {
            let mut frames = begun();
            let read = frames.read(&frame(kind, flags, len), 0);
            assert_eq!(read.is_ok(), expected, "{kind} {flags} {len}");
            if !expected {
                assert_eq!(read, Err(Ending::FrameSize));
            }
        };
        for (kind, flags, len) in [
            (DATA, 0, 16_384),
            (HEADERS, 0, 16_384),
            (PRIORITY, 0, 5),
            (RST_STREAM, 0, 4),
            (SETTINGS, 0, 12),
            (SETTINGS, ACK, 0),
            (PING, ACK, 8),
            (GOAWAY, 0, 8),
            (GOAWAY, 0, 9),
            (WINDOW_UPDATE, 0, 4),
            (0x42, 0, 16_384),
        ] {
            check(kind, flags, len, true);
        }
        for (kind, flags, len) in [
            (DATA, 0, 16_385),
            (0x42, 0, 16_385),
            (PRIORITY, 0, 4),
            (PRIORITY, 0, 6),
            (RST_STREAM, 0, 3),
            (SETTINGS, 0, 7),
            (SETTINGS, ACK, 6),
            (PING, 0, 0),
            (GOAWAY, 0, 7),
            (WINDOW_UPDATE, 0, 5),
        ] {
            check(kind, flags, len, false);
        }
    }

    #[test]
    fn the_last_frame_names_the_last_stream_and_the_error() {
        let mut frames = begun();
        for stream in [1, 7, 3] {
            let mut head = frame(HEADERS, END_HEADERS, 0);
            head[8] = stream;
            head[5] = 0x80;
            frames.read(&head, 0).expect("requests");
        }
        let said = frames.goodbye(Ending::FrameSize);
        assert_eq!(said[..9], [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0]);
        assert_eq!(said[9..], [0, 0, 0, 7, 0, 0, 0, 6]);
        assert_eq!(frames.goodbye(Ending::Flood)[16], 0xb);
    }

    #[test]
    fn floods_of_control_frames_end_and_calm_ones_do_not() {
        let flood = |kind: u8, len: usize, many: u32| {
            let mut frames = begun();
            (0..many).try_for_each(|_| frames.read(&frame(kind, 0, len), 0))
        };
        for (kind, len, cost) in [
            (PING, 8, 1),
            (SETTINGS, 0, 1),
            (0x2, 5, 1),
            (0x8, 4, 1),
            (DATA, 0, 1),
            (0x42, 0, 1),
            (RST_STREAM, 4, RESET_COST),
        ] {
            assert_eq!(flood(kind, len, BURST / cost), Ok(()), "{kind}");
            assert_eq!(
                flood(kind, len, BURST / cost + 1),
                Err(Ending::Flood),
                "{kind}"
            );
        }
        assert_eq!(flood(DATA, 1, 2 * BURST), Ok(()), "a body");
        assert_eq!(flood(HEADERS, 1, 2 * BURST), Ok(()), "requests");

        let mut frames = begun();
        for second in 0..60 {
            for _ in 0..PER_SECOND {
                let at = second * 1000;
                frames.read(&frame(PING, 0, 8), at).expect("a calm client");
            }
        }
        let mut frames = begun();
        for _ in 0..10 * BURST {
            frames.wrote(1024);
            frames.read(&frame(0x8, 0, 4), 0).expect("a reader");
        }
    }
}
