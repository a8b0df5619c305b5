//! The I/O type below hyper towards a client, and the phases of its connection.
//!
//! Sees the bytes before hyper does: when a head begins, the preface of HTTP/2, a client that does not read. An answer
//! that hyper would make by itself to an unreadable head never leaves; the connection's task writes ours instead.
//! Judges no head and closes nothing: `connection` does, by what is noted here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::respond::Fault;

const PREFACE_BEGIN: &[u8] = b"PRI * HTTP/2";

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
/// because what lies below hyper has to be `Send`.
#[derive(Debug)]
pub(super) struct Meter {
    clock: Arc<CoarseClock>,
    phase: AtomicU8,
    /// Coarse milliseconds.
    phase_since: AtomicU32,
    /// Coarse milliseconds, plus one; 0 = not blocked.
    write_blocked_since: AtomicU32,
    /// Index into `REFUSALS`, plus one; 0 = none.
    refusal: AtomicU8,
    /// The answer went out before the request's body was read whole.
    unread: AtomicBool,
}

/// Milliseconds since the worker began, as its last sweep saw them.
#[derive(Debug, Default)]
pub(super) struct CoarseClock(AtomicU32);

/// A client's connection below hyper. `S` is the transport.
#[derive(Debug)]
pub(super) struct Accepted<S> {
    stream: S,
    meter: Arc<Meter>,
}

/// The refusals that are decided below hyper.
const REFUSALS: [Fault; 4] = [
    Fault::VersionNotSupported,
    Fault::TargetTooLong,
    Fault::HeadersTooLarge,
    Fault::BadRequest("unreadable head"),
];

// === impl CoarseClock ===

impl CoarseClock {
    pub(super) fn set(&self, millis: u32) {
        self.0.store(millis, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
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
            write_blocked_since: AtomicU32::new(0),
            refusal: AtomicU8::new(0),
            unread: AtomicBool::new(false),
        })
    }

    pub(super) fn phase(&self) -> Phase {
        let number = usize::from(self.phase.load(Ordering::Relaxed));
        Phase::ALL.get(number).copied().unwrap_or(Phase::Busy)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase.number(), Ordering::Relaxed);
        self.phase_since.store(self.clock.now(), Ordering::Relaxed);
    }

    /// Coarse milliseconds spent in the present phase.
    pub(super) fn phase_age(&self) -> u32 {
        self.clock
            .now()
            .saturating_sub(self.phase_since.load(Ordering::Relaxed))
    }

    /// Coarse milliseconds for which the client has not read what waits for it; `None` where nothing waits.
    pub(super) fn write_blocked(&self) -> Option<u32> {
        let since = self
            .write_blocked_since
            .load(Ordering::Relaxed)
            .checked_sub(1)?;
        Some(self.clock.now().saturating_sub(since))
    }

    /// What must be answered because hyper could not read the head.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let index = self.refusal.load(Ordering::Relaxed).checked_sub(1)?;
        REFUSALS.get(usize::from(index)).copied()
    }

    pub(super) fn set_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    fn refuse(&self, fault: Fault) -> io::Error {
        let index = REFUSALS
            .iter()
            .position(|&known| known == fault)
            .unwrap_or(REFUSALS.len() - 1);
        self.refusal.store(index as u8 + 1, Ordering::Relaxed);
        io::ErrorKind::InvalidData.into()
    }

    fn note_read(&self, bytes: &[u8]) -> io::Result<()> {
        match self.phase() {
            Phase::Fresh if bytes.starts_with(PREFACE_BEGIN) => {
                Err(self.refuse(Fault::VersionNotSupported))
            }
            Phase::Fresh | Phase::Idle if !bytes.is_empty() => {
                self.enter(Phase::Head);
                Ok(())
            }
            Phase::Fresh | Phase::Head | Phase::Busy | Phase::Finishing | Phase::Idle => Ok(()),
        }
    }

    // Outside a request only hyper itself has something to say: that it could not read the head.
    fn note_write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.phase() {
            Phase::Busy | Phase::Finishing => Ok(()),
            Phase::Fresh | Phase::Head | Phase::Idle => {
                let status = bytes.get(9..12).unwrap_or_default();
                Err(self.refuse(Fault::of_unreadable_head(status)))
            }
        }
    }

    fn note_written(&self, polled: &Poll<io::Result<usize>>) {
        let blocked = self.write_blocked_since.load(Ordering::Relaxed);
        if polled.is_pending() {
            if blocked == 0 {
                self.write_blocked_since
                    .store(self.clock.now() + 1, Ordering::Relaxed);
            }
        } else if blocked != 0 {
            self.write_blocked_since.store(0, Ordering::Relaxed);
        }
    }
}

// === impl Accepted ===

impl<S> Accepted<S> {
    pub(super) fn new(stream: S, meter: Arc<Meter>) -> Self {
        Self { stream, meter }
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(self.meter.note_read(&buf.filled()[before..])),
            Poll::Ready(Err(_)) | Poll::Pending => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.meter.note_write(buf)?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.meter.note_written(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.meter
            .note_write(bufs.first().map_or(&[], |first| first))?;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.meter.note_written(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // hyper flushes below itself only when all it had is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.phase() == Phase::Finishing {
            self.meter.enter(Phase::Idle);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    // What is refused gets our answer first.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.refusal().is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_hyper_is_send() {
        fn is_send<T: Send>() {}
        is_send::<Accepted<tokio::net::TcpStream>>();
    }

    #[test]
    fn phases_follow_the_bytes() {
        let clock = Arc::new(CoarseClock::default());
        let meter = Meter::new(Arc::clone(&clock));
        meter.note_read(b"").expect("an end is no fault");
        assert_eq!(meter.phase(), Phase::Fresh);
        clock.set(500);
        meter.note_read(b"GET").expect("a head");
        assert_eq!((meter.phase(), meter.phase_age()), (Phase::Head, 0));
        clock.set(800);
        meter.note_read(b" / ").expect("more of it");
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

    #[test]
    fn http2_is_refused_by_its_preface() {
        let meter = Meter::new(Arc::default());
        meter
            .note_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect_err("refused");
        assert_eq!(meter.refusal(), Some(Fault::VersionNotSupported));
    }
}
