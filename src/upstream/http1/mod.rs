//! A client of HTTP/1.1 on one connection, written and read within the task of the request that has it.
//!
//! No task and no channel stands between a request and its socket: the head goes out with what there is of the body, and
//! the answer is read where it is waited for. Only a body that still goes up when its answer has come is carried on by a
//! task. Reading order: `spelling` (how names were written), `encode` (a request's head and pieces), `head` (an answer's
//! head), `framing` (where its body ends), `pipe` (both over one socket), `exchange` (a request until its
//! answer's head), `body` (an answer's body), `switched` (what a connection is behind a 101). Which connection a request gets, and who keeps it, is not known here.

mod body;
mod encode;
mod exchange;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod head;
mod pipe;
mod spelling;
mod switched;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

pub use body::Body;
pub use encode::RequestHead;
pub(super) use exchange::{carry_on, exchange};
pub(super) use pipe::Pipe;
pub use spelling::{Spelling, Spellings};
pub use switched::Switched;

/// A connection, shared by those who write a request and read its answer; all on one worker.
pub(super) type Shared<S> = Rc<RefCell<Pipe<S>>>;

/// Why an exchange ends early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The server sent what is no answer.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("the connection ended before the answer did")]
    Ended,
    /// Ours: the request's body ended early, and the connection with it.
    #[error("the request's body ended early")]
    Body,
}
