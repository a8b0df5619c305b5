//! How the names of the heads of one connection of HTTP/1 are written, on their way past the library, which knows them in
//! lower case alone: of requests from the guard to the service, of answers from the service to what writes them.
//!
//! A lock only because what lies below hyper has to be `Send`; all on one worker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::upstream::http1::Spelling;

/// The spellings of one connection, each kind in the order of its heads.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    requests: Mutex<VecDeque<Spelling>>,
    answers: Mutex<VecDeque<Spelling>>,
    /// Whether an answer's head is to be written that is not in lower case.
    is_spelled: AtomicBool,
}

impl Spellings {
    /// A request's head has passed.
    pub(super) fn put_request(&self, spelling: Spelling) {
        open(&self.requests).push_back(spelling);
    }

    /// Of the request that is served next.
    pub(super) fn take_request(&self) -> Spelling {
        open(&self.requests).pop_front().unwrap_or_default()
    }

    /// An answer's head is to be written next.
    pub(super) fn put_answer(&self, spelling: Spelling) {
        if spelling.is_plain() && !self.is_spelled() {
            return;
        }
        open(&self.answers).push_back(spelling);
        self.is_spelled.store(true, Ordering::Relaxed);
    }

    /// Whether a head that is to be written is not in lower case.
    pub(super) fn is_spelled(&self) -> bool {
        self.is_spelled.load(Ordering::Relaxed)
    }

    /// Writes the heads of answers behind `written`, in their own spelling.
    pub(super) fn write(&self, plain: &[u8], written: &mut Vec<u8>) {
        let mut answers = open(&self.answers);
        let mut rest = plain;
        while !rest.is_empty() {
            let len = head_len(rest);
            let (head, more) = rest.split_at_checked(len).unwrap_or((rest, b""));
            rest = more;
            // The library may say by itself that the body may come.
            let spelling = if is_early(head) {
                None
            } else {
                answers.pop_front()
            };
            match spelling {
                Some(spelling) => spelling.write(head, written),
                None => written.extend_from_slice(head),
            }
        }
        if answers.is_empty() {
            self.is_spelled.store(false, Ordering::Relaxed);
        }
    }
}

fn open(queue: &Mutex<VecDeque<Spelling>>) -> MutexGuard<'_, VecDeque<Spelling>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

// With the empty line that ends it.
fn head_len(bytes: &[u8]) -> usize {
    const END: &[u8] = b"\r\n\r\n";
    memchr::memmem::find(bytes, END).map_or(bytes.len(), |at| at + END.len())
}

fn is_early(head: &[u8]) -> bool {
    head.get(9..12) == Some(b"100")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(name: &str) -> Spelling {
        let mut spelling = Spelling::default();
        spelling.note(name.as_bytes());
        spelling
    }

    fn written(spellings: &Spellings, plain: &str) -> String {
        let mut written = Vec::new();
        spellings.write(plain.as_bytes(), &mut written);
        String::from_utf8(written).expect("text")
    }

    #[test]
    fn each_answer_is_written_as_its_own_upstream_spelled_it() {
        let spellings = Spellings::default();
        spellings.put_answer(Spelling::default());
        assert!(!spellings.is_spelled(), "nothing to be done");
        for name in ["X-A", "", "x-A"] {
            spellings.put_answer(spelling(name));
        }
        assert!(spellings.is_spelled());
        let head = "HTTP/1.1 200 OK\r\nx-a: x-a\r\n\r\n";
        let early = "HTTP/1.1 100 Continue\r\n\r\n";
        let plain = [early, head, head].concat();
        let expected = plain.replacen("x-a: ", "X-A: ", 1);
        assert_eq!(written(&spellings, &plain), expected);
        assert!(spellings.is_spelled());
        assert_eq!(written(&spellings, head), head.replace("x-a: ", "x-A: "));
        assert!(!spellings.is_spelled());
    }

    #[test]
    fn requests_keep_their_order() {
        let spellings = Spellings::default();
        spellings.put_request(spelling("X-A"));
        spellings.put_request(Spelling::default());
        assert_eq!(spellings.take_request(), spelling("X-A"));
        assert!(spellings.take_request().is_plain());
        assert!(spellings.take_request().is_plain());
    }
}
