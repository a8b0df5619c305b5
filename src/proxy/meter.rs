//! What a connection is doing and since when: its phase, what its client has not read, why it is refused.
//!
//! Written as bytes pass and requests begin and end, read by the sweep. Judges nothing: `registry` does.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use super::coarse::{CoarseClock, Since};
use super::respond::Fault;
use super::spellings::Spellings;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted; no byte yet.
    Fresh,
    /// A head has begun.
    Head,
    /// A request is being served.
    Busy,
    /// The answer's body ended; its last bytes are being written.
    Finishing,
    /// Between two requests.
    Idle,
}

/// What the I/O type, the service and the sweep of one connection tell each other. All on one worker; atomic only
/// because what lies below the libraries has to be `Send`.
#[derive(Debug)]
pub(super) struct Meter {
    clock: Arc<CoarseClock>,
    phase: AtomicU8,
    /// Coarse milliseconds.
    phase_since: AtomicU32,
    /// The client does not take what is written.
    write_blocked: Since,
    refusal: OnceLock<Fault>,
    /// Requests that were begun.
    begun: AtomicU32,
    /// The answer went out before the request's body was read whole.
    unread: AtomicBool,
    /// The client began with the preface of HTTP/2.
    is_http2: AtomicBool,
    /// Streams of HTTP/2 that are being served.
    streams: AtomicU32,
    /// A frame of HTTP/2, or a block of its headers, is open.
    partial: Since,
    /// More control frames than any client needs.
    is_flood: AtomicBool,
    spellings: Spellings,
}

// === impl Phase ===

impl Phase {
    const ALL: [Self; 5] = [
        Self::Fresh,
        Self::Head,
        Self::Busy,
        Self::Finishing,
        Self::Idle,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::Fresh => 0,
            Self::Head => 1,
            Self::Busy => 2,
            Self::Finishing => 3,
            Self::Idle => 4,
        }
    }
}

// === impl Meter ===

impl Meter {
    pub(super) fn new(clock: Arc<CoarseClock>) -> Arc<Self> {
        let phase_since = AtomicU32::new(clock.now());
        Arc::new(Self {
            clock,
            phase: AtomicU8::new(Phase::Fresh.number()),
            phase_since,
            write_blocked: Since::default(),
            refusal: OnceLock::new(),
            begun: AtomicU32::new(0),
            unread: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            streams: AtomicU32::new(0),
            partial: Since::default(),
            is_flood: AtomicBool::new(false),
            spellings: Spellings::default(),
        })
    }

    /// How the names of heads of HTTP/1 are written.
    pub(super) const fn spellings(&self) -> &Spellings {
        &self.spellings
    }

    pub(super) fn phase(&self) -> Phase {
        let number = usize::from(self.phase.load(Ordering::Relaxed));
        Phase::ALL.get(number).copied().unwrap_or(Phase::Busy)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase.number(), Ordering::Relaxed);
        self.phase_since.store(self.clock.now(), Ordering::Relaxed);
    }

    /// A request is served from now on.
    pub(super) fn begin_turn(&self) {
        let begun = self.begun.load(Ordering::Relaxed);
        self.begun.store(begun.wrapping_add(1), Ordering::Relaxed);
        if !self.is_http2() || self.streams.fetch_add(1, Ordering::Relaxed) == 0 {
            self.enter(Phase::Busy);
        }
    }

    /// Its answer is over. Of HTTP/2's streams the last one leaves the connection idle.
    pub(super) fn end_turn(&self) {
        if !self.is_http2() {
            self.enter(Phase::Finishing);
        } else if self.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Phase::Idle);
        }
    }

    /// Whether the client began with the preface of HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    pub(super) fn set_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    /// Whether the connection ended for its control frames.
    pub(super) fn is_flood(&self) -> bool {
        self.is_flood.load(Ordering::Relaxed)
    }

    pub(super) fn set_flood(&self) {
        self.is_flood.store(true, Ordering::Relaxed);
    }

    /// Requests that were begun, wrapping.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Coarse milliseconds for which a frame of HTTP/2 that is no body has not ended; `None` where none is open.
    pub(super) fn partial_age(&self) -> Option<u32> {
        self.partial.age(&self.clock)
    }

    pub(super) fn clock(&self) -> &CoarseClock {
        &self.clock
    }

    /// Coarse milliseconds spent in the present phase.
    pub(super) fn phase_age(&self) -> u32 {
        self.clock.age(self.phase_since.load(Ordering::Relaxed))
    }

    /// Coarse milliseconds for which the client has not read what waits for it; `None` where nothing waits.
    pub(super) fn write_blocked(&self) -> Option<u32> {
        self.write_blocked.age(&self.clock)
    }

    /// What must be answered because the head, or what follows it, was not let through to hyper.
    pub(super) fn refusal(&self) -> Option<Fault> {
        self.refusal.get().copied()
    }

    pub(super) fn set_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, fault: Fault) -> io::Error {
        self.refusal.get_or_init(|| fault);
        io::ErrorKind::InvalidData.into()
    }

    pub(super) fn note_read(&self, bytes: &[u8]) {
        if matches!(self.phase(), Phase::Fresh | Phase::Idle) && !bytes.is_empty() {
            self.enter(Phase::Head);
        }
    }

    /// A part of a body came, perhaps behind the answer: the connection is not as idle as it looks.
    pub(super) fn note_body(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    // Outside a request only hyper itself has something to say: that it could not read the head.
    pub(super) fn note_write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.phase() {
            Phase::Busy | Phase::Finishing => Ok(()),
            Phase::Fresh | Phase::Head | Phase::Idle => {
                let status = bytes.get(9..12).unwrap_or_default();
                Err(self.refuse(Fault::of_unreadable_head(status)))
            }
        }
    }

    pub(super) fn note_partial(&self, is_partial: bool) {
        if is_partial {
            self.partial.begin(&self.clock);
        } else {
            self.partial.end();
        }
    }

    pub(super) fn note_written<T>(&self, polled: &Poll<io::Result<T>>) {
        if polled.is_pending() {
            self.write_blocked.begin(&self.clock);
        } else {
            self.write_blocked.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn phases_follow_the_bytes() {
        let clock = Arc::new(CoarseClock::default());
        let meter = Meter::new(Arc::clone(&clock));
        meter.note_read(b"");
        assert_eq!(meter.phase(), Phase::Fresh);
        clock.set(Duration::from_millis(500));
        meter.note_read(b"GET");
        assert_eq!((meter.phase(), meter.phase_age()), (Phase::Head, 0));
        clock.set(Duration::from_millis(800));
        meter.note_read(b" / ");
        assert_eq!(
            (meter.phase(), meter.phase_age()),
            (Phase::Head, 300),
            "the head's age counts from its first byte"
        );
        meter.enter(Phase::Busy);
        meter.note_write(b"HTTP/1.1 200 OK").expect("our answer");
        assert_eq!(meter.refusal(), None);
        meter.enter(Phase::Idle);
        meter
            .note_write(b"HTTP/1.1 431 Request Header Fields Too Large")
            .expect_err("not our answer");
        assert_eq!(meter.refusal(), Some(Fault::HeadersTooLarge));
    }
}
