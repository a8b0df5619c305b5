//! HTTP/2 frames as a client sends them, judged below hyper: pure.
//!
//! Bounds what the library does not: frames that cost us work and carry no request (PING, SETTINGS, PRIORITY, resets,
//! empty DATA). Tells faults for which the library names another error than the standard, or none: lengths that no frame
//! may have, blocks of headers that cannot be decoded, what comes on a stream that the client has ended, pseudo-headers
//! in trailers. Knows when something begun, a frame or a block of headers, has not ended. What a frame means is hyper's.

use super::hpack::{Table, Undecodable};

/// The client's connection preface (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Control frames that may come at once. Libraries that probe their bandwidth send a few PINGs per round trip.
const BURST: u32 = 10_000;
/// Control frames a second beyond that.
const PER_SECOND: u32 = 1_000;
/// A reset costs more than its frame: a request was begun for it.
const RESET_COST: u32 = 10;
/// Control frames after which others have their turn: they come by the thousand in one read.
const TURN: u32 = 64;
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
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

/// What says whose stream's child this one is (RFC 9113, 6.2).
const PRIORITY_LEN: usize = 5;

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
    /// The block of headers that was begun and has not ended.
    block: Option<Block>,
    table: Table,
    /// The highest stream that a request was begun on.
    last_stream: u32,
    /// Which streams the client has ended: bit n is the n-th one before the last. Of older ones nothing is known.
    ended: u128,
    budget: u32,
    /// Control frames since the others had their turn.
    turn: u32,
    /// Coarse milliseconds, at the last refill.
    refilled: u32,
    written: u32,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    is_trailers: bool,
    /// The fragments of its frames so far.
    fragments: Vec<u8>,
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
            block: None,
            table: Table::new(),
            last_stream: 0,
            ended: 0,
            budget: BURST,
            turn: 0,
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
        self.written = self
            .written
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let earned = self.written / BYTES_EARNING;
        self.written %= BYTES_EARNING;
        self.budget = self.budget.saturating_add(earned).min(BURST);
    }

    /// Whether a frame other than DATA, or a block of headers, has begun and not ended.
    pub(super) const fn is_partial(&self) -> bool {
        self.preface_left > 0
            || self.head_len > 0
            || self.block.is_some()
            || self.payload_left > 0 && !self.in_data
    }

    /// Whether it is the others' turn; it is ours again then.
    pub(super) fn gives_way(&mut self) -> bool {
        let is_over = self.turn >= TURN;
        if is_over {
            self.turn = 0;
        }
        is_over
    }

    /// The last frame of a connection that ends so.
    pub(super) const fn goodbye(&self, ending: Ending) -> [u8; HEAD + 8] {
        let [a, b, c, d] = self.last_stream.to_be_bytes();
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
        if self.block.as_ref().map(|block| block.stream) != continued {
            return Err(Ending::Protocol);
        }
        self.in_data = kind == DATA;
        let cost = match kind {
            DATA => {
                self.go_on(stream, flags)?;
                u32::from(self.payload_left == 0 && flags & END_STREAM == 0)
            }
            HEADERS => {
                self.begin_block(stream, flags)?;
                0
            }
            RST_STREAM => RESET_COST,
            _ => 1,
        };
        self.spend(cost, now)?;
        if self.payload_left == 0 {
            return self.take(&[]);
        }
        Ok(())
    }

    fn begin_block(&mut self, stream: u32, flags: u8) -> Result<(), Ending> {
        let is_trailers = stream <= self.last_stream;
        if !is_trailers {
            let newer = (stream - self.last_stream) / 2;
            self.ended = self.ended.checked_shl(newer).unwrap_or(0);
            self.last_stream = stream;
        }
        self.go_on(stream, flags)?;
        self.block = Some(Block {
            stream,
            is_trailers,
            fragments: Vec::new(),
        });
        Ok(())
    }

    // A frame of a request that may be its last one (RFC 9113, 5.1, "half-closed (remote)").
    fn go_on(&mut self, stream: u32, flags: u8) -> Result<(), Ending> {
        // A stream that no client may begin, or has not begun, is hyper's to refuse.
        let before = self.last_stream.checked_sub(stream);
        let place = before.filter(|_| stream % 2 == 1).map(|before| before / 2);
        let bit = place.and_then(|place| 1_u128.checked_shl(place));
        let bit = bit.unwrap_or(0);
        if self.ended & bit != 0 {
            return Err(Ending::StreamClosed);
        }
        if flags & END_STREAM != 0 {
            self.ended |= bit;
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
            HEADERS => self.add(fragment(payload, flags)?, flags),
            CONTINUATION => self.add(payload, flags),
            _ => Ok(()),
        }
    }

    fn add(&mut self, fragment: &[u8], flags: u8) -> Result<(), Ending> {
        let Some(mut block) = self.block.take() else {
            return Ok(());
        };
        let is_one = block.fragments.is_empty();
        let is_last = flags & END_HEADERS != 0;
        if !(is_one && is_last) {
            block.fragments.extend_from_slice(fragment);
        }
        if !is_last {
            self.block = Some(block);
            return Ok(());
        }
        let whole = if is_one { fragment } else { &block.fragments };
        let has_pseudo = self.table.take(whole)?;
        // RFC 9113, 8.1.
        if has_pseudo && block.is_trailers {
            return Err(Ending::Protocol);
        }
        Ok(())
    }

    fn spend(&mut self, cost: u32, now: u32) -> Result<(), Ending> {
        if cost == 0 {
            return Ok(());
        }
        self.turn = self.turn.saturating_add(1);
        let passed = now.wrapping_sub(self.refilled);
        let refill = passed.saturating_mul(PER_SECOND / 1000);
        self.refilled = now;
        self.budget = self.budget.saturating_add(refill).min(BURST);
        self.budget = self.budget.checked_sub(cost).ok_or(Ending::Flood)?;
        Ok(())
    }
}

// What HEADERS hold of their block (RFC 9113, 6.2).
fn fragment(payload: &[u8], flags: u8) -> Result<&[u8], Ending> {
    let (mut rest, mut padding) = (payload, 0);
    if flags & PADDED != 0 {
        let (len, padded) = rest.split_first().ok_or(Ending::FrameSize)?;
        (rest, padding) = (padded, usize::from(*len));
    }
    if flags & WITH_PRIORITY != 0 {
        rest = rest.get(PRIORITY_LEN..).ok_or(Ending::FrameSize)?;
    }
    let len = rest.len().checked_sub(padding).ok_or(Ending::Protocol)?;
    Ok(rest.split_at(len).0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags];
        bytes.extend([0, 0, 0, 1]);
        // A field of the static table, or a setting that nobody knows.
        bytes.extend(std::iter::repeat_n(0x90, len));
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

    // A request's HEADERS, whole; and how the connection goes on after them.
    fn head(stream: u8, flags: u8, block: &[u8]) -> Vec<u8> {
        let len = block.len() as u8;
        let mut bytes = vec![0, 0, len, HEADERS, flags, 0, 0, 0, stream];
        bytes.extend(block);
        bytes
    }

    #[test]
    fn what_comes_on_a_stream_that_its_client_ended_ends_the_connection() {
        let check = |then: &[u8], expected: Result<(), Ending>| {
            let mut frames = begun();
            for (stream, flags) in [(1, END_HEADERS), (3, END_HEADERS | END_STREAM)] {
                let read = frames.read(&head(stream, flags, &[0x82]), 0);
                read.expect("requests");
            }
            assert_eq!(frames.read(then, 0), expected, "{then:?}");
        };
        let data = |stream: u8, flags: u8| vec![0, 0, 0, DATA, flags, 0, 0, 0, stream];
        check(&data(1, 0), Ok(()));
        check(&data(3, 0), Err(Ending::StreamClosed));
        check(&head(3, END_HEADERS, &[0x90]), Err(Ending::StreamClosed));
        check(
            &[data(1, END_STREAM), data(1, 0)].concat(),
            Err(Ending::StreamClosed),
        );
        let trailers = head(1, END_HEADERS | END_STREAM, &[0x90]);
        check(&trailers, Ok(()));
        check(&trailers.repeat(2), Err(Ending::StreamClosed));
        // What is long ago is not known any more; what has not begun is not ours to judge.
        let far = [head(255, END_HEADERS, &[0x82]), data(3, 0)].concat();
        check(&far, Err(Ending::StreamClosed));
        let mut farther = head(3, END_HEADERS, &[0x82]);
        farther[7] = 1;
        check(&[farther, data(3, 0)].concat(), Ok(()));
        check(&data(5, 0), Ok(()));
    }

    #[test]
    fn blocks_are_judged_without_what_surrounds_them() {
        let check = |frames_of_it: &[Vec<u8>], expected: Result<(), Ending>| {
            let bytes = frames_of_it.concat();
            for step in [1, 10, usize::MAX] {
                let mut frames = begun();
                let mut pieces = bytes.chunks(step);
                let read = pieces.try_for_each(|piece| frames.read(piece, 0));
                assert_eq!(read, expected, "{bytes:?} by {step}");
            }
        };
        let continued = |stream: u8, flags: u8, block: &[u8]| {
            let mut bytes = head(stream, flags, block);
            bytes[3] = CONTINUATION;
            bytes
        };
        let padded = PADDED | WITH_PRIORITY | END_HEADERS;
        check(
            &[head(1, padded, &[2, 0, 0, 0, 0, 9, 0x82, 0x41, 0])],
            Ok(()),
        );
        check(
            &[head(1, padded, &[3, 0, 0, 0, 0, 9, 0])],
            Err(Ending::Protocol),
        );
        check(&[head(1, padded, &[0, 0, 0])], Err(Ending::FrameSize));
        check(&[head(1, END_HEADERS, &[0x41])], Err(Ending::Compression));
        // A field over three frames.
        let parts = |last: &[u8]| {
            [
                head(1, 0, &[0x82, 0x41]),
                continued(1, 0, &[]),
                continued(1, END_HEADERS, last),
            ]
        };
        check(&parts(&[1, b'a']), Ok(()));
        check(&parts(&[2, b'a']), Err(Ending::Compression));
        for cut_into in [
            continued(3, END_HEADERS, &[1, b'a']),
            head(1, END_HEADERS, &[1, b'a']),
            frame(PING, 0, 8),
        ] {
            check(
                &[head(1, 0, &[0x82, 0x41]), cut_into],
                Err(Ending::Protocol),
            );
        }
        check(&[continued(1, END_HEADERS, &[0x82])], Err(Ending::Protocol));
        // Trailers: a pseudo-header from the static table, and from the one that the request has filled.
        let begins = head(1, END_HEADERS, &[0x82, 0x41, 1, b'a', 0x40, 1, b'x', 0]);
        let ends = |field: u8| head(1, END_HEADERS | END_STREAM, &[field]);
        check(&[begins.clone(), ends(0xbe)], Ok(()));
        check(&[begins.clone(), ends(0xbf)], Err(Ending::Protocol));
        check(&[begins, ends(0x83)], Err(Ending::Protocol));
    }

    #[test]
    fn a_window_wider_than_any_ends_the_connection() {
        let check = |payload: &[u8], expected: Result<(), Ending>| {
            let mut bytes = frame(SETTINGS, 0, 0);
            bytes[2] = payload.len() as u8;
            bytes.extend(payload);
            assert_eq!(begun().read(&bytes, 0), expected, "{payload:?}");
        };
        check(&[0, 4, 0x7f, 0xff, 0xff, 0xff], Ok(()));
        check(&[0, 3, 0x80, 0, 0, 0], Ok(()));
        check(
            &[0, 3, 0, 0, 0, 1, 0, 4, 0x80, 0, 0, 0],
            Err(Ending::FlowControl),
        );
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
            // Of HEADERS the last of their block.
            let flags = if kind == HEADERS { END_HEADERS } else { 0 };
            (0..many).try_for_each(|_| frames.read(&frame(kind, flags, len), 0))
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
        let pings = frame(PING, 0, 8).repeat(TURN as usize);
        frames.read(&pings[17..], 0).expect("few frames");
        assert!(!frames.gives_way());
        frames.read(&pings[..17], 0).expect("few frames");
        assert!(frames.gives_way() && !frames.gives_way(), "once");

        let mut frames = begun();
        for _ in 0..10 * BURST {
            frames.wrote(1024);
            frames.read(&frame(0x8, 0, 4), 0).expect("a reader");
        }
    }
}
