//! Plays a case of HTTP/2: writes its frames, waits for what is to come.
//!
//! Knows just enough of HPACK to say anything: fields go out as literals without a table, or as bytes of the case's own.

use std::time::Duration;

use serin::clock;

use super::corpus::{Case, Step, bytes};
use super::{Got, Wire, read};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const KINDS: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];
const FLAGS: [(&str, u8); 5] = [
    ("end_stream", 0x1),
    ("ack", 0x1),
    ("end_headers", 0x4),
    ("padded", 0x8),
    ("priority", 0x20),
];
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A connection under test.
pub(crate) struct Session<'a> {
    wire: &'a mut dyn Wire,
    scheme: &'static str,
    buffer: Vec<u8>,
    /// What came and was not asked for yet.
    waiting: Vec<Event>,
    /// All that came.
    pub(crate) heard: Vec<Event>,
    patience: Duration,
}

/// What came from the server, in the words of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// 0 for the connection.
    pub(crate) stream: u32,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Status(String),
    Data(Vec<u8>),
    /// A block of headers that is none of a status: trailers.
    Trailers,
    End,
    Reset(String),
    Settings,
    SettingsAck,
    PingAck(Vec<u8>),
    GoAway(String),
    Closed,
    Other(u8),
}

impl<'a> Session<'a> {
    /// `scheme` is what `:scheme` says.
    pub(crate) fn new(wire: &'a mut dyn Wire, scheme: &'static str, patience: Duration) -> Self {
        wire.set_patience(Duration::from_millis(20).min(patience));
        Self {
            wire,
            scheme,
            buffer: Vec::new(),
            waiting: Vec::new(),
            heard: Vec::new(),
            patience,
        }
    }

    /// Plays a case's steps; what was waited for in vain.
    pub(crate) fn play(&mut self, case: &Case) -> Result<(), String> {
        if !matches!(case.steps.first(), Some(Step::Send(text)) if text.starts_with("BARE")) {
            self.greet();
        }
        for step in &case.steps {
            match step {
                Step::Send(text) => self.send(text),
                Step::Expect(text) => self.expect(text)?,
            }
        }
        Ok(())
    }

    /// Whether the connection still answers.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.send("PING 0: \\xffalive!!");
        self.expect("PING ack \\xffalive!!").is_ok()
    }

    /// Whether the connection has ended, or does so in time.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.has(|what| *what == What::Closed) || self.expect("closed").is_ok()
    }

    /// Whether a word of this kind came.
    pub(crate) fn has(&self, of_kind: impl Fn(&What) -> bool) -> bool {
        self.heard.iter().any(|event| of_kind(&event.what))
    }

    fn greet(&mut self) {
        let hello = [PREFACE, &frame(4, 0, 0, &[])].concat();
        self.write(&hello);
    }

    // A server that ended is found when its word is waited for.
    fn write(&mut self, bytes: &[u8]) {
        _ = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
    }

    /// Writes `[N x] KIND STREAM [flags]: payload`, or `BARE bytes`.
    pub(crate) fn send(&mut self, text: &str) {
        if let Some(raw) = text.strip_prefix("BARE") {
            let raw = bytes(raw.trim_start());
            self.write(&raw);
            return;
        }
        let (times, text) = match text.split_once("x ") {
            Some((times, rest)) if times.bytes().all(|byte| byte.is_ascii_digit()) => {
                (times.parse().expect("a number"), rest)
            }
            _ => (1, text),
        };
        let (head, payload) = text.split_once(':').expect("KIND STREAM flags: payload");
        let mut words = head.split(' ');
        let kind = kind(words.next().expect("a kind"));
        let stream = words.next().expect("a stream");
        let (first, step) = stream.split_once('+').unwrap_or((stream, "0"));
        let (first, step): (u32, u32) = (
            first.parse().expect("a stream"),
            step.parse().expect("a step"),
        );
        let flags = words.fold(0, |flags, word| flags | flag(word));
        let payload = self.payload(kind, payload.strip_prefix(' ').unwrap_or_default());
        let mut all = Vec::new();
        for turn in 0..times {
            all.extend(frame(kind, flags, first + turn * step, &payload));
        }
        self.write(&all);
    }

    // Items between ` | `: fields of a block of headers, or `hex 00 ff`, or `raw bytes`; of other frames, bytes.
    fn payload(&self, kind: u8, text: &str) -> Vec<u8> {
        let has_fields = matches!(kind, 1 | 5 | 9);
        let items = text.split(" | ").filter(|item| !item.is_empty());
        let item = |item: &str| -> Vec<u8> {
            if let Some(digits) = item.strip_prefix("hex ") {
                return digits
                    .split_whitespace()
                    .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
                    .collect();
            }
            if let Some(raw) = item.strip_prefix("raw ") {
                return bytes(raw);
            }
            if !has_fields {
                return bytes(item);
            }
            if matches!(item, "GET" | "POST" | "HEAD") {
                let head = [
                    (":method", item),
                    (":scheme", self.scheme),
                    (":authority", "a"),
                    (":path", "/"),
                ];
                let fields = head.map(|(name, value)| field(name.as_bytes(), value.as_bytes()));
                return fields.concat();
            }
            let (name, value) = item.split_once('=').expect("name=value");
            let value = if value == "SCHEME" {
                self.scheme
            } else {
                value
            };
            field(&bytes(name), &bytes(value))
        };
        items.flat_map(item).collect()
    }

    /// Waits for one of the words between ` or `, over whatever else comes.
    pub(crate) fn expect(&mut self, text: &str) -> Result<(), String> {
        let begin = clock::now();
        let wanted: Vec<&str> = text.split(" or ").collect();
        loop {
            let found = self.waiting.iter().position(|event| {
                let said = event.to_string();
                wanted.iter().any(|wanted| matches(&said, wanted))
            });
            if let Some(at) = found {
                // What came before it was passed over.
                self.waiting.drain(..=at);
                return Ok(());
            }
            let is_over = self.waiting.iter().any(|event| event.what == What::Closed);
            if is_over || begin.elapsed() > self.patience {
                let said: Vec<String> = self.heard.iter().map(ToString::to_string).collect();
                return Err(format!("no {text:?} in {said:?}"));
            }
            self.listen();
        }
    }

    /// Reads what is there.
    pub(crate) fn listen(&mut self) {
        let got = read(self.wire, &mut self.buffer);
        while let Some((kind, flags, stream, payload)) = cut(&mut self.buffer) {
            if kind == 4 && flags & 1 == 0 {
                self.write(&frame(4, 1, 0, &[]));
            }
            for what in events(kind, flags, &payload) {
                self.note(Event { stream, what });
            }
        }
        if got == Got::End && !self.has(|what| *what == What::Closed) {
            self.note(Event {
                stream: 0,
                what: What::Closed,
            });
        }
    }

    fn note(&mut self, event: Event) {
        self.waiting.push(event.clone());
        self.heard.push(event);
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stream = self.stream;
        match &self.what {
            What::Status(status) => write!(f, "{stream}: {status}"),
            What::Data(data) => match std::str::from_utf8(data) {
                Ok(text) if text.len() < 40 => write!(f, "{stream}: DATA {} {text}", data.len()),
                _ => write!(f, "{stream}: DATA {}", data.len()),
            },
            What::Trailers => write!(f, "{stream}: trailers"),
            What::End => write!(f, "{stream}: end"),
            What::Reset(error) => write!(f, "{stream}: RST {error}"),
            What::Settings => f.write_str("SETTINGS"),
            What::SettingsAck => f.write_str("SETTINGS ack"),
            What::PingAck(data) => write!(f, "PING ack {}", data.escape_ascii()),
            What::GoAway(error) => write!(f, "GOAWAY {error}"),
            What::Closed => f.write_str("closed"),
            What::Other(kind) => write!(f, "{stream}: frame {kind:#x}"),
        }
    }
}

// A wanted word may leave out the end of what was said.
fn matches(said: &str, wanted: &str) -> bool {
    said.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn events(kind: u8, flags: u8, payload: &[u8]) -> Vec<What> {
    let error = |at: usize| {
        let code = payload.get(at..at + 4).map_or(u32::MAX, |bytes| {
            bytes
                .iter()
                .fold(0, |code, &byte| code << 8 | u32::from(byte))
        });
        let known = ERRORS.get(code as usize);
        known.map_or_else(|| format!("{code:#x}"), |name| (*name).to_owned())
    };
    let first = match kind {
        0 => What::Data(payload.to_vec()),
        1 => status(payload).map_or(What::Trailers, What::Status),
        3 => What::Reset(error(0)),
        4 if flags & 1 == 0 => What::Settings,
        4 => What::SettingsAck,
        6 if flags & 1 != 0 => What::PingAck(payload.to_vec()),
        7 => What::GoAway(error(4)),
        other => What::Other(other),
    };
    let is_end = matches!(kind, 0 | 1) && flags & 1 != 0;
    [Some(first), is_end.then_some(What::End)]
        .into_iter()
        .flatten()
        .collect()
}

// The status is the first field of an answer (RFC 9113, 8.3): an entry of the static table, or a literal whose name is one
// (RFC 7541, 6.1, 6.2, appendices A and B).
fn status(block: &[u8]) -> Option<String> {
    const INDEXED: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    let mut block = block;
    // A table size update may come first.
    while block.first()? & 0xe0 == 0x20 {
        let more = block[0] & 0x1f == 0x1f;
        let len = 1 + if more {
            1 + block[1..]
                .iter()
                .take_while(|byte| **byte & 0x80 != 0)
                .count()
        } else {
            0
        };
        block = &block[len..];
    }
    match *block.first()? {
        first @ 0x88..=0x8e => Some(INDEXED[usize::from(first - 0x88)].to_owned()),
        // Learnt before: the newest entry is most likely, but which number it is nobody told us.
        0xbe..=0xff => Some("known".to_owned()),
        0x48 | 0x08 | 0x18 => {
            let len = block.get(1)?;
            let value = block.get(2..2 + usize::from(len & 0x7f))?;
            if len & 0x80 == 0 {
                Some(String::from_utf8_lossy(value).into_owned())
            } else {
                digits(value)
            }
        }
        _ => None,
    }
}

// Three digits in the code of Huffman: 0, 1, 2 have five bits, the others six.
fn digits(coded: &[u8]) -> Option<String> {
    let bits: Vec<u8> = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u8, |number, bit| number << 1 | bit);
    let (mut text, mut at) = (String::new(), 0);
    for _ in 0..3 {
        let short = number(bits.get(at..at + 5)?);
        if short < 3 {
            text.push((b'0' + short) as char);
            at += 5;
        } else {
            let long = number(bits.get(at..at + 6)?);
            text.push((b'3' + long.checked_sub(0b01_1001)?) as char);
            at += 6;
        }
    }
    Some(text)
}

fn kind(word: &str) -> u8 {
    let known = KINDS.iter().position(|kind| *kind == word);
    known.map_or_else(|| number(word), |at| at as u8)
}

fn flag(word: &str) -> u8 {
    let known = FLAGS.iter().find(|(name, _)| *name == word);
    known.map_or_else(|| number(word), |(_, flag)| *flag)
}

fn number(word: &str) -> u8 {
    let digits = word
        .strip_prefix("0x")
        .unwrap_or_else(|| panic!("what is {word:?}?"));
    u8::from_str_radix(digits, 16).expect("hexadecimal")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

// A literal without indexing, its name spelt out (RFC 7541, 6.2.2 and 5.1).
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        let mut len = text.len();
        if len < 127 {
            bytes.push(len as u8);
        } else {
            bytes.push(127);
            len -= 127;
            while len >= 128 {
                bytes.push(0x80 | (len & 0x7f) as u8);
                len >>= 7;
            }
            bytes.push(len as u8);
        }
        bytes.extend(text);
    }
    bytes
}

fn cut(buffer: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let head = buffer.get(..9)?;
    let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let (kind, flags) = (head[3], head[4]);
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let payload = buffer.get(9..9 + len)?.to_vec();
    buffer.drain(..9 + len);
    Some((kind, flags, stream, payload))
}
