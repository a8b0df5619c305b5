//! What is read of an endpoint's answer, and what must hold for any bytes. Built for tests and fuzzing alone.

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode};

use super::Spelling;
use super::framing::{Framing, Piece};
use super::head::Scan;

/// What some bytes are as an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// The heads that came, the answer's last.
    pub(super) heads: Vec<(StatusCode, HeaderMap, Spelling)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// More is to come.
    #[default]
    Open,
    /// The answer is whole after so many bytes.
    After(usize),
    Fault,
}

/// A byte that says how long the pieces are, one that says what was asked, then what a server sends: as one piece it is the
/// same answer.
pub fn answer(data: &[u8]) {
    let [piece, asked, bytes @ ..] = data else {
        return;
    };
    let method = if asked & 1 == 0 {
        Method::GET
    } else {
        Method::HEAD
    };
    let whole = read(bytes, bytes.len(), &method);
    assert_eq!(whole, read(bytes, usize::from(*piece), &method));
    assert!(whole.body.len() <= bytes.len());
    if let End::After(len) = whole.end {
        assert!(len <= bytes.len());
        // What ends there ends there, whatever follows.
        let more = [bytes, b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        assert_eq!(whole, read(&more, more.len(), &method));
    }
}

/// Reads these bytes in pieces of this length.
pub(super) fn read(bytes: &[u8], piece: usize, method: &Method) -> Read {
    let mut read = Read::default();
    let (mut input, mut scan) = (BytesMut::new(), Scan::default());
    let mut framing: Option<Framing> = None;
    let mut given = 0;
    for piece in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(piece);
        given += piece.len();
        if let Err(()) = read.take(&mut input, &mut scan, &mut framing, method) {
            read.end = End::Fault;
            return read;
        }
        if framing.as_ref().is_some_and(Framing::is_over) {
            read.end = End::After(given - input.len());
            return read;
        }
    }
    read
}

impl Read {
    fn take(
        &mut self,
        input: &mut BytesMut,
        scan: &mut Scan,
        framing: &mut Option<Framing>,
        method: &Method,
    ) -> Result<(), ()> {
        while framing.is_none() {
            let Some(head) = scan.take(input, method).map_err(|_| ())? else {
                return Ok(());
            };
            let status = head.parts.status;
            self.heads.push((status, head.parts.headers, head.spelling));
            let is_early = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
            *framing = (!is_early).then_some(head.framing);
        }
        let Some(framing) = framing else {
            return Ok(());
        };
        loop {
            match framing.take(input).map_err(|_| ())? {
                Piece::Data(data) => {
                    self.body.extend_from_slice(&data);
                    framing.settle(input);
                }
                Piece::Trailers(trailers) => self.trailers = Some(trailers),
                Piece::End | Piece::More => return Ok(()),
            }
        }
    }
}
