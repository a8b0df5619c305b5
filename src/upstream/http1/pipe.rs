//! One connection of HTTP/1.1: a request on its way up and an answer on its way down, over one socket.
//!
//! What is ready leaves in as few writes as there can be: the head with the first piece of the body, each further piece
//! with its frame. A server may answer before it has read everything, and may end its connection then: what cannot be
//! written is no reason not to read. Holds at most `BUFFER` of an answer, and of a request a piece at a time.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, response};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::encode::{self, Encoded, Extent, Outgoing, RequestHead};
use super::framing::{Framing, Piece};
use super::head::{Head, Scan};
use super::{Error, Spelling};

/// What a connection holds at most of an answer; an answer's head is no longer. Small enough that a few hundred answers that
/// nobody reads neither fill the memory nor keep the others waiting.
const BUFFER: usize = 128 * 1024;
/// Room for reading, at first and where little comes.
const READ_MIN: usize = 8 * 1024;
/// Pieces up to this length are copied behind what goes before them.
const SMALL: usize = 4 * 1024;
/// What is gathered of small pieces before it is written.
const GATHERED: usize = 16 * 1024;
/// Bytes that may come before an answer's head is read: 1xx heads have no limit of their own, and reading them without end
/// keeps the whole worker busy.
const BEFORE_HEAD_MAX: usize = 1024 * 1024;

/// A connection, between two requests or with one.
#[derive(Debug)]
pub(in crate::upstream) struct Pipe<S> {
    socket: S,
    input: BytesMut,
    /// Room for the next read.
    room: usize,
    output: Output,
    reading: Reading,
    writing: Writing,
    keeps_alive: bool,
    /// Of the request under way.
    method: Method,
    scan: Scan,
    /// Bytes that have come since the request was begun, as long as its answer's head has not.
    before_head: usize,
    /// Bytes have come since the request was begun.
    has_heard: bool,
    /// Bytes have left since the request was begun.
    has_said: bool,
    /// 1xx heads that came before the answer, but 100.
    informational: u32,
    /// Who reads the answer, while its request's body is carried on by somebody else.
    reader: Option<Waker>,
    /// The request's body broke off behind its answer's head.
    is_broken_off: bool,
}

#[derive(Debug)]
enum Reading {
    /// No answer is under way.
    Nothing,
    Head,
    Body(Framing),
    /// There is nothing more to be read, or nothing that makes sense.
    Closed,
}

#[derive(Debug)]
enum Writing {
    /// No request is under way, or all of it was taken from its body.
    Nothing,
    Body(Outgoing),
    /// It did not go out whole.
    Broken,
}

/// What is not written yet, in the order of its fields.
#[derive(Debug, Default)]
struct Output {
    /// Heads, frames and small pieces.
    gathered: Vec<u8>,
    /// So much of them is written.
    written: usize,
    piece: Bytes,
    after: &'static [u8],
    is_unflushed: bool,
}

/// A head that came.
#[derive(Debug)]
pub(super) enum Arrived {
    /// 100, which says that the body may come.
    Continue,
    /// Another one that comes before the answer.
    Early,
    Answer(response::Parts, Spelling),
}

/// Why a request went no further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its body ended early.
    Body,
    Io(io::Error),
}

// === impl Pipe ===

impl<S> Pipe<S> {
    pub(in crate::upstream) fn new(socket: S) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            room: READ_MIN,
            output: Output::default(),
            reading: Reading::Nothing,
            writing: Writing::Nothing,
            keeps_alive: true,
            method: Method::GET,
            scan: Scan::default(),
            before_head: 0,
            has_heard: false,
            has_said: false,
            informational: 0,
            reader: None,
            is_broken_off: false,
        }
    }

    /// Begins a request: its head is the first of what is to be written.
    pub(super) fn begin<B: Body>(&mut self, request: &RequestHead<'_>, body: &B) {
        let extent = if body.is_end_stream() {
            Extent::None
        } else {
            let exact = body.size_hint().exact();
            exact.map_or(Extent::Unknown, Extent::Known)
        };
        self.method = request.method.clone();
        self.scan = Scan::default();
        self.reading = Reading::Head;
        self.before_head = 0;
        self.has_heard = false;
        self.has_said = false;
        self.informational = 0;
        let outgoing = encode::head(request, extent, &mut self.output.gathered);
        self.writing = if outgoing.is_over() {
            Writing::Nothing
        } else {
            Writing::Body(outgoing)
        };
    }

    /// Whether any byte has come since the request was begun.
    pub(in crate::upstream) const fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Whether any byte has left since the request was begun.
    pub(super) const fn has_said(&self) -> bool {
        self.has_said
    }

    /// 1xx heads, but 100 and 101, that came before the answer; told once.
    pub(in crate::upstream) fn take_informational(&mut self) -> u32 {
        std::mem::take(&mut self.informational)
    }

    /// Whether the answer was read whole and its request is through, so that nobody owes anybody a byte.
    pub(in crate::upstream) fn is_between(&self) -> bool {
        self.is_read() && self.is_written()
    }

    /// How many bytes of the answer's body are left, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.reading {
            Reading::Nothing => Some(0),
            Reading::Body(framing) => framing.left(),
            Reading::Head | Reading::Closed => None,
        }
    }

    /// Whether it may carry another request.
    pub(in crate::upstream) fn is_ready(&self) -> bool {
        let is_open = matches!(self.reading, Reading::Nothing);
        is_open && self.is_written() && self.keeps_alive && self.input.is_empty()
    }

    /// Whether the answer's body was read whole.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.reading, Reading::Nothing | Reading::Closed)
    }

    fn is_written(&self) -> bool {
        matches!(self.writing, Writing::Nothing) && self.output.is_empty()
    }

    /// The request's body broke off: nothing of its answer is to be believed.
    pub(super) fn break_off(&mut self) {
        self.is_broken_off = true;
        self.writing = Writing::Broken;
        self.keeps_alive = false;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// What came behind the last head, for who speaks another protocol from now on.
    pub(super) fn take_input(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    pub(super) fn socket(&mut self) -> &mut S {
        &mut self.socket
    }
}

impl<S: AsyncWrite + Unpin> Pipe<S> {
    /// Writes what there is of a request; ready once all of it has left.
    pub(super) fn poll_request<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut B,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            if self.output.is_full() {
                ready!(self.poll_output(cx))?;
            }
            let Writing::Body(outgoing) = &mut self.writing else {
                return self.poll_output(cx).map_err(Stopped::Io);
            };
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let is_last = body.is_end_stream();
                    let taken = self.output.take(outgoing, frame, is_last);
                    taken.map_err(|_| self.too_short())?;
                }
                Poll::Ready(None) => {
                    let taken = self.output.take(outgoing, Frame::data(Bytes::new()), true);
                    taken.map_err(|_| self.too_short())?;
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Stopped::Body)),
                Poll::Pending => {
                    // What has come so far does not wait for the rest.
                    ready!(self.poll_output(cx))?;
                    return Poll::Pending;
                }
            }
            if matches!(&self.writing, Writing::Body(outgoing) if outgoing.is_over()) {
                self.writing = Writing::Nothing;
            }
        }
    }

    fn too_short(&mut self) -> Stopped {
        self.writing = Writing::Broken;
        Stopped::Body
    }

    /// Writes what was gathered.
    pub(super) fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(self.output.poll_write(cx, &mut self.socket));
            match written {
                Ok(0) => return Poll::Ready(Err(self.broken(io::ErrorKind::WriteZero.into()))),
                Ok(_) => self.has_said = true,
                Err(error) => return Poll::Ready(Err(self.broken(error))),
            }
        }
        if self.output.is_unflushed {
            if let Err(error) = ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
                return Poll::Ready(Err(self.broken(error)));
            }
            self.output.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn broken(&mut self, error: io::Error) -> io::Error {
        self.writing = Writing::Broken;
        self.keeps_alive = false;
        error
    }
}

impl<S: AsyncRead + Unpin> Pipe<S> {
    /// The next head. Behind the answer's the body is to be read.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived, Error>> {
        loop {
            if !self.input.is_empty()
                && let Some(head) = self.scan.take(&mut self.input, &self.method)?
            {
                return Poll::Ready(Ok(self.arrived(head)));
            }
            if self.input.len() >= BUFFER {
                return Poll::Ready(Err(Error::Malformed("a head without end")));
            }
            let len = ready!(self.poll_fill(cx))?;
            if len == 0 {
                self.reading = Reading::Closed;
                return Poll::Ready(Err(Error::Ended));
            }
            self.before_head += len;
            if self.before_head > BEFORE_HEAD_MAX {
                return Poll::Ready(Err(Error::Malformed("more than any head")));
            }
        }
    }

    fn arrived(&mut self, head: Head) -> Arrived {
        let status = head.parts.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            if status == StatusCode::CONTINUE {
                return Arrived::Continue;
            }
            self.informational += 1;
            return Arrived::Early;
        }
        self.keeps_alive &= head.keeps_alive && status != StatusCode::SWITCHING_PROTOCOLS;
        self.reading = if head.framing.is_over() {
            Reading::Nothing
        } else {
            Reading::Body(head.framing)
        };
        Arrived::Answer(head.parts, head.spelling)
    }

    /// The next frame of the answer's body; `None` once there is no more.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_broken_off {
            return self.failed(Error::Body);
        }
        let polled = self.poll_frame(cx);
        let is_carried_on = matches!(self.writing, Writing::Body(_));
        self.reader = (polled.is_pending() && is_carried_on).then(|| cx.waker().clone());
        polled
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let Reading::Body(framing) = &mut self.reading else {
                return Poll::Ready(None);
            };
            match framing.take(&mut self.input) {
                Ok(Piece::Data(data)) => {
                    framing.settle(&mut self.input);
                    if framing.is_over() {
                        self.reading = Reading::Nothing;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    self.reading = Reading::Nothing;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => {
                    self.reading = Reading::Nothing;
                    return Poll::Ready(None);
                }
                Ok(Piece::More) => {}
                Err(error) => return self.failed(error),
            }
            let may_close = framing.may_close();
            match ready!(self.poll_fill(cx)) {
                Ok(0) if may_close => {
                    self.reading = Reading::Closed;
                    return Poll::Ready(None);
                }
                Ok(0) => return self.failed(Error::Ended),
                Ok(_) => {}
                Err(error) => return self.failed(error.into()),
            }
        }
    }

    fn failed(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // What was not read whole is left as it is, so that nobody takes it for an end.
        self.keeps_alive = false;
        Poll::Ready(Some(Err(error)))
    }

    /// Watches a connection on which nothing is to come: ready once something has, be it the end.
    pub(in crate::upstream) fn poll_stir(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; 1];
        let mut piece = ReadBuf::new(&mut piece);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut piece);
        polled.map(|_| {
            self.reading = Reading::Closed;
            self.keeps_alive = false;
        })
    }

    // Reads what there is; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let spare = self.input.capacity() - self.input.len();
        if spare < self.room / 2 {
            self.input.reserve(
                self.room
                    .min(BUFFER.saturating_sub(self.input.len()))
                    .max(1),
            );
        }
        let spare = self.input.capacity() - self.input.len();
        let reading = pin!(self.socket.read_buf(&mut self.input));
        let len = ready!(reading.poll(cx))?;
        self.has_heard |= len > 0;
        if len >= spare {
            self.room = (self.room * 2).min(BUFFER);
        } else if len < self.room / 4 {
            self.room = (self.room / 2).max(READ_MIN);
        }
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncWrite + Unpin> Pipe<S> {
    /// Says that nothing more comes, as far as that can be said without waiting.
    pub(in crate::upstream) fn close(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.socket).poll_shutdown(&mut cx) {
            tracing::debug!(%error, "an endpoint was gone before its connection was closed");
        }
    }
}

// === impl Output ===

impl Output {
    fn is_empty(&self) -> bool {
        self.written == self.gathered.len() && self.piece.is_empty() && self.after.is_empty()
    }

    // Whether what is there is to leave before more is taken.
    fn is_full(&self) -> bool {
        !self.piece.is_empty() || self.gathered.len() - self.written >= GATHERED
    }

    // Takes a frame of the body. Nothing is taken behind a piece that was not copied.
    fn take(
        &mut self,
        outgoing: &mut Outgoing,
        frame: Frame<Bytes>,
        is_last: bool,
    ) -> Result<(), encode::TooShort> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return outgoing.trailers(&trailers, &mut self.gathered);
            }
        };
        let Encoded { data, after } = outgoing.piece(data, is_last, &mut self.gathered)?;
        if data.len() <= SMALL {
            self.gathered.extend_from_slice(&data);
            self.gathered.extend_from_slice(after);
        } else {
            (self.piece, self.after) = (data, after);
        }
        Ok(())
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<usize>> {
        let gathered = self.gathered.get(self.written..).unwrap_or_default();
        let socket = Pin::new(socket);
        let polled = if self.piece.is_empty() && self.after.is_empty() {
            socket.poll_write(cx, gathered)
        } else {
            let pieces = [gathered, &self.piece, self.after].map(IoSlice::new);
            let first = usize::from(gathered.is_empty());
            socket.poll_write_vectored(cx, pieces.get(first..).unwrap_or_default())
        };
        let len = ready!(polled)?;
        self.wrote(len);
        Poll::Ready(Ok(len))
    }

    fn wrote(&mut self, len: usize) {
        self.is_unflushed = true;
        let of_gathered = len.min(self.gathered.len() - self.written);
        self.written += of_gathered;
        let of_piece = (len - of_gathered).min(self.piece.len());
        self.piece.advance(of_piece);
        let of_after = (len - of_gathered - of_piece).min(self.after.len());
        self.after = self.after.get(of_after..).unwrap_or_default();
        if self.written == self.gathered.len() {
            self.gathered.clear();
            self.gathered.shrink_to(SMALL);
            self.written = 0;
        }
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
