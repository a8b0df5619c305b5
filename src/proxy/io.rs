//! The I/O type below the libraries towards a client.
//!
//! Sees the bytes before they do: when a head begins, the preface of HTTP/2 and its frames, a client that does not
//! read. What the guard refuses never reaches hyper, and an answer that hyper would make by itself never leaves; the
//! connection's task writes ours instead. Closes nothing: `connection` does, by what is noted here. What HTTP/2 writes is
//! gathered in a `batch`; `written` is the way out.

mod written;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::batch::Batch;
use super::frames::{Ending, Frames, PREFACE};
use super::guard::{Guard, Refused};
use super::meter::{Meter, Phase};
use super::passage::ClientSide;
use crate::config::Limits;
use crate::wire::Wire;

/// A client's connection below the libraries. `S` is the transport.
#[derive(Debug)]
pub(super) struct Accepted<S> {
    stream: S,
    meter: Arc<Meter>,
    protocol: Protocol,
    /// What was read before the protocol was known, and is HTTP/2.
    early: Vec<u8>,
    guard: Guard,
    /// What was read and may not go to hyper yet: a head of HTTP/1 that is not whole.
    held: Vec<u8>,
    /// How many of them may.
    ready: usize,
    refused: Option<Refused>,
    /// Who asked for more behind a request that is being served, where what follows is refused, or may be of another
    /// protocol.
    waiting: Option<Waker>,
    has_paused: bool,
    /// Heads of answers in their own spelling, which are not written yet: what hyper gives first stands for these.
    spelled: Vec<u8>,
}

#[derive(Debug)]
enum Protocol {
    /// Nothing was read, or only what both protocols can begin with.
    Unknown,
    Http1,
    Http2(Box<Http2>),
    /// Neither any more: bytes, as they are.
    Tunnel,
}

/// What is known of HTTP/2's frames, and what of them is not written yet.
#[derive(Debug)]
struct Http2 {
    frames: Frames,
    batch: Batch,
}

/// Most that is kept of what a client says before it was told whether it may change the protocol.
const EARLY_MAX: usize = 16 * 1024;
/// Read at once while a head is not whole.
const HEAD_PIECE: usize = 4096;

// === impl Accepted ===

impl<S> Accepted<S> {
    pub(super) fn new(stream: S, meter: Arc<Meter>, limits: Limits) -> Self {
        Self {
            stream,
            meter,
            protocol: Protocol::Unknown,
            early: Vec::new(),
            guard: Guard::new(limits),
            held: Vec::new(),
            ready: 0,
            refused: None,
            waiting: None,
            has_paused: false,
            spelled: Vec::new(),
        }
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// The same connection from its first byte, spoken to in HTTP/2 from now on.
    pub(super) fn into_http2(mut self) -> Self {
        self.meter.set_http2();
        self.meter.enter(Phase::Idle);
        // The preface is to come, whole.
        self.meter.note_partial(true);
        self.protocol = Protocol::Http2(Box::new(Http2 {
            frames: Frames::new(self.meter.clock().now()),
            batch: Batch::default(),
        }));
        self
    }

    /// The same connection behind its last head, on which `rest` and what was held back are the first bytes of another
    /// protocol.
    pub(super) fn into_tunnel(mut self, rest: &[u8]) -> Self {
        self.protocol = Protocol::Tunnel;
        self.early = rest.to_vec();
        self.early.append(&mut self.held);
        self.held = Vec::new();
        self.ready = 0;
        self.refused = None;
        self
    }

    /// The same connection, as hyper leaves it between two requests: `rest` was handed over and not used.
    pub(super) fn resting(mut self, rest: &[u8]) -> Self {
        self.held.splice(..0, rest.iter().copied());
        self.ready += rest.len();
        self.spelled.shrink_to_fit();
        self
    }

    /// Whether a request on this connection asked for another protocol.
    pub(super) fn asked_upgrade(&self) -> bool {
        self.has_paused
    }

    // Gives what was read early.
    fn replay(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..len]);
        self.early.drain(..len);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
    }

    /// Judges what was read straight into hyper's buffer behind `before`, and takes back what may not stay there.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        // A body may come behind its answer, and is no head then.
        if self.guard.is_within_body() {
            self.meter.note_body();
        } else {
            self.meter.note_read(fresh);
        }
        let taken = self.guard.take(fresh);
        self.hand_on_spellings();
        self.refused = taken.refused;
        if taken.refused.is_none() {
            self.held
                .extend_from_slice(fresh.get(taken.passed..).unwrap_or_default());
        }
        buf.set_filled(before + taken.passed);
    }

    fn hand_on_spellings(&mut self) {
        while let Some(spelling) = self.guard.take_spelling() {
            self.meter.spellings().put_request(spelling);
        }
    }

    fn judge_held(&mut self) {
        let taken = self.guard.take(&self.held);
        self.hand_on_spellings();
        self.ready = taken.passed;
        self.refused = taken.refused;
    }

    /// Hands over what is ready, as much as there is room for.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.ready.min(buf.remaining());
        buf.put_slice(self.held.get(..len).unwrap_or_default());
        self.held.drain(..len);
        self.ready -= len;
    }

    /// The fault in place of the bytes that would follow. A request that is being served is answered first.
    fn poll_refused(&mut self, cx: &Context<'_>, refused: Refused) -> Poll<io::Result<()>> {
        // The request's own body: hyper breaks it off, and the answer is made where it is read.
        if refused.within_body {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if !self.is_answered() {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Err(self.meter.refuse(refused.fault)))
    }
}

impl<S> Accepted<S> {
    /// Whether every request whose head passed was answered.
    fn is_answered(&self) -> bool {
        let is_served = matches!(self.meter.phase(), Phase::Busy | Phase::Finishing);
        !is_served && self.guard.heads() == self.meter.begun()
    }
}

impl Accepted<Wire> {
    /// Waits until there is something to read, be it the end; nothing is read.
    pub(super) async fn readable(&self) {
        if self.ready > 0 || !self.held.is_empty() || self.stream.has_unread() {
            return;
        }
        let tcp = self.stream.tcp();
        // What is wrong with a socket is told where it is read.
        _ = poll_fn(|cx| tcp.poll_read_ready(cx)).await.is_ok();
    }
}

impl<S: AsyncRead + Unpin> Accepted<S> {
    // What was read early, or what comes now.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        self.replay(buf);
        Poll::Ready(Ok(()))
    }

    /// The first bytes; true where hyper has something now, be it the end. HTTP/1 is judged at once; what may become the
    /// preface of HTTP/2 is kept until that is known.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        loop {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let bytes = buf.filled().get(before..).unwrap_or_default();
            let is_end = bytes.is_empty();
            if self.early.is_empty() && !is_like_preface(bytes) {
                self.protocol = Protocol::Http1;
                self.judge(buf, before);
                return Poll::Ready(Ok(is_end || buf.filled().len() > before));
            }
            self.early.extend_from_slice(bytes);
            buf.set_filled(before);
            if self.early.starts_with(PREFACE) {
                self.meter.set_http2();
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if is_end || !is_like_preface(&self.early) {
                self.protocol = Protocol::Http1;
                self.held = std::mem::take(&mut self.early);
                self.meter.note_read(&self.held);
                self.judge_held();
                return Poll::Ready(Ok(false));
            }
            if self.meter.phase() == Phase::Fresh {
                self.meter.enter(Phase::Head);
            }
        }
    }

    /// What the guard lets through.
    fn poll_http1(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ready > 0 {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            if let Some(refused) = self.refused {
                return self.poll_refused(cx, refused);
            }
            if self.guard.is_paused() {
                self.has_paused = true;
                if !self.is_answered() {
                    return self.poll_paused(cx);
                }
                // Still here, so that the other protocol was refused.
                self.guard.resume();
                self.judge_held();
                continue;
            }
            if self.held.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
                let is_end = buf.filled().len() == before;
                self.judge(buf, before);
                if is_end || buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            } else if !ready!(self.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Behind a head that asks for another protocol: keeps a little of what comes, and hears of the client's end.
    fn poll_paused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = Some(cx.waker().clone());
        while self.held.len() < EARLY_MAX {
            let mut piece = [0; HEAD_PIECE];
            let mut more = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
            match more.filled() {
                [] if self.held.is_empty() => return Poll::Ready(Ok(())),
                // What was said before the end is to be heard first.
                [] => break,
                bytes => self.held.extend_from_slice(bytes),
            }
        }
        Poll::Pending
    }

    /// Reads on behind a head that is not whole; false at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; HEAD_PIECE];
        let mut more = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
        self.held.extend_from_slice(more.filled());
        self.judge_held();
        Poll::Ready(Ok(!more.filled().is_empty()))
    }
}

// Whether these first bytes are the preface of HTTP/2, or may become it.
fn is_like_preface(bytes: &[u8]) -> bool {
    !bytes.is_empty() && (PREFACE.starts_with(bytes) || bytes.starts_with(PREFACE))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if matches!(me.protocol, Protocol::Unknown) && ready!(me.poll_first(cx, buf))? {
            return Poll::Ready(Ok(()));
        }
        match me.protocol {
            Protocol::Http1 => return me.poll_http1(cx, buf),
            Protocol::Tunnel => return me.poll_bytes(cx, buf),
            Protocol::Http2(_) | Protocol::Unknown => {}
        }
        if let Protocol::Http2(http2) = &mut me.protocol
            && http2.frames.gives_way()
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(me.poll_bytes(cx, buf))?;
        let Protocol::Http2(http2) = &mut me.protocol else {
            return Poll::Ready(Ok(()));
        };
        let frames = &mut http2.frames;
        let bytes = buf.filled().get(before..).unwrap_or_default();
        let read = frames.read(bytes, me.meter.clock().now());
        me.meter.note_partial(frames.is_partial());
        let Err(ending) = read else {
            return Poll::Ready(Ok(()));
        };
        if ending == Ending::Flood {
            me.meter.set_flood();
        }
        let goodbye = frames.goodbye(ending);
        me.say_goodbye(cx, &goodbye);
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientSide for Accepted<S> {
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::super::respond::Fault;
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 1000,
        headers: 20,
        target_bytes: 100,
        body_bytes: 0,
    };

    #[test]
    fn what_lies_below_hyper_is_send() {
        fn is_send<T: Send>() {}
        is_send::<Accepted<tokio::net::TcpStream>>();
    }

    // Reads what comes in these pieces to its end, or to the fault.
    async fn read(pieces: &[&[u8]], step: usize) -> (io::Result<Vec<u8>>, Accepted<Mock>) {
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        let mut accepted = Accepted::new(Mock(pieces), Meter::new(Arc::default()), LIMITS);
        let mut read = Vec::new();
        let mut buffer = vec![0; step];
        loop {
            match accepted.read(&mut buffer).await {
                Ok(0) => return (Ok(read), accepted),
                Ok(len) => read.extend_from_slice(&buffer[..len]),
                Err(error) => return (Err(error), accepted),
            }
        }
    }

    #[tokio::test]
    async fn the_preface_of_http2_is_found_however_it_comes_and_lost_by_nobody() {
        for at in 0..PREFACE.len() {
            let (first, second) = PREFACE.split_at(at);
            let (outcome, accepted) = read(&[first, second, b"frames"], 7).await;
            outcome.expect_err("not for HTTP/1");
            assert!(accepted.meter.is_http2(), "{at}");
            let mut all = Vec::new();
            let mut accepted = accepted.into_http2();
            accepted.read_to_end(&mut all).await.expect("all of it");
            assert_eq!(all, [PREFACE, b"frames"].concat(), "{at}");
        }
    }

    #[tokio::test]
    async fn what_only_begins_like_the_preface_reaches_http1_whole() {
        for step in [1, 3, 1000] {
            for pieces in [
                &[&b"P"[..], b"UT / HTTP/1.1\r\n\r\n"],
                &[b"PR", b"OPFIND / HTTP/1.1\r\n\r\n"],
                &[b"PRI / HTTP/1.1\r\n\r\n", b""],
                &[b"GET", b" / HTTP/1.1\r\n\r\n"],
            ] {
                let (outcome, accepted) = read(pieces, step).await;
                assert_eq!(outcome.expect("no fault"), pieces.concat());
                assert!(!accepted.meter.is_http2());
                assert_eq!(accepted.meter.phase(), Phase::Head);
            }
        }
        let (outcome, accepted) = read(&[b"PRI * HTTP/2.0\r\n\r\nXX"], 100).await;
        outcome.expect_err("neither");
        assert_eq!(
            accepted.meter.refusal(),
            Some(Fault::VersionNotSupported),
            "another HTTP/2 than this one"
        );
    }

    #[test]
    fn a_connection_is_idle_when_its_last_stream_ended() {
        let meter = Accepted::new((), Meter::new(Arc::default()), LIMITS)
            .into_http2()
            .meter;
        assert_eq!(meter.phase(), Phase::Idle);
        meter.begin_turn();
        meter.begin_turn();
        meter.end_turn();
        assert_eq!(meter.phase(), Phase::Busy);
        meter.end_turn();
        assert_eq!(meter.phase(), Phase::Idle);
    }

    /// A stream that gives these pieces, one a read.
    #[derive(Debug)]
    struct Mock(std::collections::VecDeque<Vec<u8>>);

    impl AsyncWrite for Mock {
        fn poll_write(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Mock {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            while self.0.front().is_some_and(Vec::is_empty) {
                self.0.pop_front();
            }
            if let Some(piece) = self.0.front_mut() {
                let len = piece.len().min(buf.remaining());
                buf.put_slice(&piece[..len]);
                piece.drain(..len);
            }
            Poll::Ready(Ok(()))
        }
    }
}
