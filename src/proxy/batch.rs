//! What an HTTP/2 connection writes, gathered until the others have had their turn.
//!
//! The library writes whenever one stream has something to say. Answers that come in the same rounds of the worker leave in one
//! write instead: a flush waits until the tasks that were ready before it have run, and again as long as they brought more.
//! Large pieces pass by, uncopied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Most that is gathered: a few dozen heads with short bodies. Longer pieces are not worth the copy.
const MOST: usize = 16 * 1024;
/// So often a flush waits at most: longer, and the first answer pays for the others.
const ROUNDS: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// How many of them are written.
    written: usize,
    /// How often the flush that is under way has let the others go first, and what there was when it last did.
    rounds: u8,
    seen: usize,
}

impl Batch {
    /// Takes what fits; nothing where it has to be written first.
    pub(super) fn gather(&mut self, pieces: &[IoSlice<'_>]) -> Option<usize> {
        let more: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.bytes.len() + more > MOST {
            return None;
        }
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        Some(more)
    }

    /// Whether a flush is to be asked for again, when the others have had their turn: its waker was told.
    pub(super) fn waits(&mut self, cx: &Context<'_>) -> bool {
        if self.bytes.len() == self.seen || self.rounds == ROUNDS {
            return false;
        }
        self.rounds += 1;
        self.seen = self.bytes.len();
        cx.waker().wake_by_ref();
        true
    }

    /// Writes what was gathered.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: impl AsyncWrite + Unpin,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            match ready!(Pin::new(&mut stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.written += len,
            }
        }
        // An idle connection keeps no buffer.
        *self = Self::default();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn of(bytes: &[u8]) -> [IoSlice<'_>; 1] {
        [IoSlice::new(bytes)]
    }

    #[test]
    fn a_flush_waits_as_long_as_there_is_more_and_then_writes_all_of_it_in_order() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut batch = Batch::default();
        assert!(!batch.waits(&cx), "nothing to write");
        assert_eq!(batch.gather(&of(b"one ")), Some(4));
        assert!(batch.waits(&cx));
        assert_eq!(batch.gather(&of(b"two")), Some(3));
        assert!(batch.waits(&cx), "there was more");
        assert!(!batch.waits(&cx), "and no more");
        let mut out = Vec::new();
        let written = batch.poll_write(&mut cx, io::Cursor::new(&mut out));
        assert!(matches!(written, Poll::Ready(Ok(()))));
        assert_eq!(out, b"one two");
        assert_eq!(batch.gather(&of(b"three")), Some(5));
        assert!(batch.waits(&cx), "the next one waits again");
    }

    #[test]
    fn a_flush_does_not_wait_for_ever() {
        let cx = Context::from_waker(Waker::noop());
        let mut batch = Batch::default();
        let rounds = (0..100).take_while(|_| {
            batch.gather(&of(b"more"));
            batch.waits(&cx)
        });
        assert_eq!(rounds.count(), usize::from(ROUNDS));
    }

    #[test]
    fn what_is_too_long_is_written_by_itself_behind_what_came_before() {
        let long = vec![0; MOST];
        let mut batch = Batch::default();
        assert_eq!(batch.gather(&of(&long)), Some(MOST));
        assert_eq!(batch.gather(&of(b"x")), None);
        let mut batch = Batch::default();
        assert_eq!(batch.gather(&of(b"x")), Some(1));
        assert_eq!(batch.gather(&of(&long)), None);
    }
}
