//! Bytes both ways between two connections that speak another protocol than HTTP.
//!
//! A side is read from only while the other takes what came, and the end of one direction is passed on while the other
//! goes on. Holds bytes only while somebody does not take them. Knows nothing of HTTP, and judges nobody.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once: what TLS and HTTP/2 put into a record or a frame.
pub(super) const PIECE: usize = 16 * 1024;
/// Pieces of one direction in a row, before others of the worker have their turn.
const TURNS: usize = 16;

/// A client's side and an endpoint's side.
pub(super) struct Tunnel<C, E> {
    pub(super) client: C,
    pub(super) endpoint: E,
    up: Flow,
    down: Flow,
}

/// Whose connection failed.
#[derive(Debug)]
pub(super) enum Lost {
    Client(io::Error),
    Endpoint(io::Error),
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    at: At,
    /// What was read and not taken yet.
    waiting: Vec<u8>,
    is_unflushed: bool,
    /// Bytes that were taken.
    moved: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Open,
    /// All was read; the other side has to be told.
    Ending,
    Ended,
}

enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl<C, E> Tunnel<C, E>
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(client: C, endpoint: E) -> Self {
        Self {
            client,
            endpoint,
            up: Flow::default(),
            down: Flow::default(),
        }
    }

    /// Moves what can be moved; ready once both sides have said all they had, or one is lost. `scratch` holds nothing
    /// between two calls.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<(), Lost>> {
        let Self {
            client,
            endpoint,
            up,
            down,
        } = self;
        let up = up.poll(cx, client, endpoint, scratch);
        let up = up.map_err(|broken| broken.at(Lost::Client, Lost::Endpoint))?;
        let down = down.poll(cx, endpoint, client, scratch);
        let down = down.map_err(|broken| broken.at(Lost::Endpoint, Lost::Client))?;
        match (up, down) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// Tells both sides that nothing more comes; waits for nobody.
    pub(super) fn close(&mut self, cx: &mut Context<'_>) {
        let client = Pin::new(&mut self.client).poll_shutdown(cx);
        let endpoint = Pin::new(&mut self.endpoint).poll_shutdown(cx);
        tracing::trace!(?client, ?endpoint, "a tunnel is closed");
    }

    /// Bytes that were carried: from the client, and from the endpoint.
    pub(super) fn moved(&self) -> (u64, u64) {
        (self.up.moved, self.down.moved)
    }

    /// Whether something waits that the client does not take.
    pub(super) fn is_unread(&self) -> bool {
        !self.down.waiting.is_empty()
    }
}

// === impl Flow ===

impl Flow {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        scratch: &mut [u8],
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            match self.at {
                At::Open if !self.waiting.is_empty() => ready!(self.poll_waiting(cx, to))?,
                At::Open => {
                    let mut piece = ReadBuf::new(scratch);
                    if Pin::new(&mut *from)
                        .poll_read(cx, &mut piece)
                        .map_err(Broken::Reading)?
                        .is_pending()
                    {
                        return self.poll_flush(cx, to).map_ok(|never| match never {});
                    }
                    self.pass(cx, to, piece.filled())?;
                }
                At::Ending => {
                    // Whom it cannot be told is gone, which reading from him shows.
                    if let Err(error) = ready!(Pin::new(&mut *to).poll_shutdown(cx)) {
                        tracing::debug!(%error, "a tunnel's end was not told");
                    }
                    self.at = At::Ended;
                }
                At::Ended => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    // What was just read: written at once, or kept until it is taken.
    fn pass<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        if bytes.is_empty() {
            self.at = At::Ending;
            return Ok(());
        }
        let written = Pin::new(to).poll_write(cx, bytes);
        let taken = match written.map_err(Broken::Writing)? {
            Poll::Ready(0) => return Err(Broken::Writing(io::ErrorKind::WriteZero.into())),
            Poll::Ready(len) => len,
            Poll::Pending => 0,
        };
        self.took(taken);
        self.waiting
            .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    fn poll_waiting<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<(), Broken>> {
        let written = Pin::new(to).poll_write(cx, &self.waiting);
        let taken = ready!(written.map_err(Broken::Writing))?;
        if taken == 0 {
            return Poll::Ready(Err(Broken::Writing(io::ErrorKind::WriteZero.into())));
        }
        self.took(taken);
        self.waiting.drain(..taken);
        Poll::Ready(Ok(()))
    }

    // Nothing to read for now: what was written has to leave, and memory is given back.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<std::convert::Infallible, Broken>> {
        self.waiting = Vec::new();
        if self.is_unflushed {
            ready!(Pin::new(to).poll_flush(cx).map_err(Broken::Writing))?;
            self.is_unflushed = false;
        }
        Poll::Pending
    }

    fn took(&mut self, len: usize) {
        self.moved += len as u64;
        self.is_unflushed |= len > 0;
    }
}

// === impl Broken ===

impl Broken {
    fn at(self, reading: fn(io::Error) -> Lost, writing: fn(io::Error) -> Lost) -> Lost {
        match self {
            Self::Reading(error) => reading(error),
            Self::Writing(error) => writing(error),
        }
    }
}
