//! Plays a case of HTTP/1: writes its bytes, reads every answer.

use std::time::Duration;

use super::corpus::{Case, Step, bytes};
use super::{Got, Wire, find, read};

/// What the client sends behind each case.
pub(crate) const BEHIND: &[u8] = b"GET /behind HTTP/1.1\r\nhost: a\r\n\r\n";

/// How the bytes are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    ByteByByte,
}

/// What the client heard.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) answers: Vec<Answer>,
    pub(crate) is_closed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What `x-serin-error` says.
    pub(crate) reason: Option<String>,
}

/// A case's bytes.
pub(crate) fn request(case: &Case) -> Vec<u8> {
    let sent = case.steps.iter().filter_map(|step| match step {
        Step::Send(text) => Some(bytes(text)),
        Step::Expect(_) => None,
    });
    sent.collect::<Vec<_>>().concat()
}

/// How long a client listens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// So many answers are there.
    Answers(usize),
    End,
}

/// Writes, and reads as long as it is told to, but never waits longer than `patience` for the next byte.
pub(crate) fn play(
    wire: &mut dyn Wire,
    bytes: &[u8],
    pace: Pace,
    until: Until,
    patience: Duration,
) -> Heard {
    let step = match pace {
        Pace::AtOnce => bytes.len().max(1),
        Pace::ByteByByte => 1,
    };
    for piece in bytes.chunks(step) {
        // A server that refused already may have stopped to read.
        if wire.write_all(piece).is_err() {
            break;
        }
    }
    _ = wire.flush();
    wire.set_patience(patience);
    let (mut buffer, mut answers) = (Vec::new(), Vec::new());
    let is_closed = loop {
        while let Some((answer, len)) = answer(&buffer) {
            buffer.drain(..len);
            if answer.status >= 200 {
                answers.push(answer);
            }
        }
        if matches!(until, Until::Answers(wanted) if answers.len() >= wanted) {
            break false;
        }
        match read(wire, &mut buffer) {
            Got::Bytes => {}
            Got::End => break true,
            Got::Nothing => break false,
        }
    };
    Heard { answers, is_closed }
}

/// The first answer and its length on the wire, once it is whole.
fn answer(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status: u16 = head.get(9..12)?.parse().ok()?;
    let value = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| {
            Some(
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim()
                    .to_owned(),
            )
        })
    };
    let body = match value("content-length") {
        Some(length) => length.parse().ok()?,
        None if head.contains("transfer-encoding: chunked") => {
            find(&bytes[end..], b"0\r\n\r\n")? + 5
        }
        None => 0,
    };
    let reason = value("x-serin-error");
    (bytes.len() >= end + body).then_some((Answer { status, reason }, end + body))
}
