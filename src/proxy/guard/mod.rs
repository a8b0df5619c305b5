//! The head guard: frames a client's HTTP/1 messages below hyper, byte by byte, and lets through only what is exact.
//!
//! hyper hides what must be refused: it takes a Content-Length away beside a Transfer-Encoding, cuts a fragment off a
//! target, takes a bare LF for the end of a line. Here each head is judged before hyper sees a byte of it (RFC 9112 and
//! 9110, without what they let a lenient reader do), and each length and chunk is counted along. Guard and hyper agree on
//! where a message ends: the tests give both the same bytes. Behind a head that asks for another protocol nothing passes
//! until that is decided. Pure; reads no socket and answers nobody: `io` does.
//!
//! Reading order: `head` (lines to the end of a head, and how its body is framed), `chunks` (a chunked body).

mod chunks;
mod head;

use chunks::Chunks;
pub(super) use head::is_token;
use head::{Framing, Head};

use std::collections::VecDeque;

use super::respond::Fault;
use crate::config::Limits;
use crate::upstream::http1::Spelling;

/// Framing of one connection's messages, from its first byte on.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    state: State,
    heads: u32,
    /// Of heads that passed, until they are taken.
    spellings: VecDeque<Spelling>,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// So many may go to hyper. The others are to be given again, with more behind them.
    pub(super) passed: usize,
    /// What is wrong with the byte behind those that passed. Nothing more is to be given then.
    pub(super) refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) fault: Fault,
    /// The head of this message went to hyper already.
    pub(super) within_body: bool,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// So many bytes of a body are still to come.
    Sized(u64),
    Chunked(Chunks),
    /// The last head asked for another protocol: what follows is of this one or of that, as upstream decides.
    Paused,
}

impl Guard {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head(Head::default()),
            heads: 0,
            spellings: VecDeque::new(),
        }
    }

    /// Heads that passed whole.
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// How the names of the next head that passed were written.
    pub(super) fn take_spelling(&mut self) -> Option<Spelling> {
        self.spellings.pop_front()
    }

    /// Whether the next byte belongs to a message whose head has passed.
    pub(super) fn is_within_body(&self) -> bool {
        matches!(self.state, State::Sized(_) | State::Chunked(_))
    }

    /// Whether nothing passes because the last head asked for another protocol.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused)
    }

    /// The other protocol was refused: what follows the last head is the next one.
    pub(super) fn resume(&mut self) {
        if self.is_paused() {
            self.state = State::Head(Head::default());
        }
    }

    /// Judges the bytes that follow those that passed before.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Taken {
        let mut passed = 0;
        while let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) {
            let within_body = self.is_within_body();
            match self.step(rest) {
                Ok(0) => break,
                Ok(more) => passed += more,
                Err((more, fault)) => {
                    return Taken {
                        passed: passed + more,
                        refused: Some(Refused { fault, within_body }),
                    };
                }
            }
        }
        Taken {
            passed,
            refused: None,
        }
    }

    /// How many of these bytes pass; none where a head is not whole yet. On a fault, how many before it.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, (usize, Fault)> {
        match &mut self.state {
            State::Paused => Ok(0),
            State::Head(head) => {
                let whole = head.take(bytes, &self.limits).map_err(|fault| (0, fault))?;
                let Some((len, framing)) = whole else {
                    return Ok(0);
                };
                self.heads = self.heads.wrapping_add(1);
                let asks_upgrade = head.asks_upgrade();
                self.spellings.push_back(head.take_spelling());
                self.state = match framing {
                    Framing::Sized(0) if asks_upgrade => State::Paused,
                    Framing::Sized(0) => State::Head(Head::default()),
                    Framing::Sized(len) => State::Sized(len),
                    Framing::Chunked => State::Chunked(Chunks::new(&self.limits)),
                };
                Ok(len)
            }
            State::Sized(left) => {
                let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= len as u64;
                if *left == 0 {
                    self.state = State::Head(Head::default());
                }
                Ok(len)
            }
            State::Chunked(chunks) => {
                let len = chunks.take(bytes)?;
                if chunks.is_whole() {
                    self.state = State::Head(Head::default());
                }
                Ok(len)
            }
        }
    }
}

#[cfg(test)]
mod tests;
