//! Where the body of an answer ends: after so many bytes, after its last chunk, or with its connection. Pure.
//!
//! A fault in a chunk's size, its extension or its end is told as soon as it is there (RFC 9112, 7.1).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Error;
use super::head::{HEADERS_MAX, header};

/// Extensions of all chunks of a body together, in bytes.
const EXTENSIONS_MAX: usize = 16 * 1024;
/// Trailers of a body, in bytes.
const TRAILERS_MAX: usize = 16 * 1024;

/// What is left of a body.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes; 0 = none.
    Sized(u64),
    Chunked(Chunks),
    UntilClose,
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// More bytes have to come first.
    More,
}

/// Where a body of chunks is.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of the chunk that are still to come, or its size so far.
    left: u64,
    extensions: usize,
    trailers: Vec<u8>,
    lines: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a chunk's size.
    #[default]
    Begin,
    Size,
    /// Blanks behind the size.
    Blank,
    Extension,
    /// The LF behind the size.
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer, or of the line that ends them.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

// === impl Framing ===

impl Framing {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks::default())
    }

    /// Whether all of the body was taken. One that ends with its connection never knows.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Sized(left) => *left == 0,
            Self::Chunked(chunks) => chunks.at == At::End,
            Self::UntilClose => false,
        }
    }

    /// How many bytes are left, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Sized(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether the body may end with its connection here.
    pub(super) const fn may_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// Takes the next piece off the front of what has come.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Piece, Error> {
        match self {
            Self::Sized(0) => Ok(Piece::End),
            _ if input.is_empty() && !self.is_over() => Ok(Piece::More),
            Self::Sized(left) => Ok(Piece::Data(up_to(left, input))),
            Self::Chunked(chunks) => chunks.take(input),
            Self::UntilClose => Ok(Piece::Data(input.split().freeze())),
        }
    }

    /// Takes what follows the last piece and is not data, where it has come already: the end is then known with the piece.
    pub(super) fn settle(&mut self, input: &mut BytesMut) {
        const LAST: &[u8] = b"\r\n0\r\n\r\n";
        if let Self::Chunked(chunks) = self
            && chunks.at == At::DataCr
            && input.starts_with(LAST)
        {
            bytes::Buf::advance(input, LAST.len());
            chunks.at = At::End;
        }
    }
}

// So many bytes, or what there is of them.
fn up_to(left: &mut u64, input: &mut BytesMut) -> Bytes {
    let len = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= len as u64;
    input.split_to(len).freeze()
}

// === impl Chunks ===

impl Chunks {
    fn take(&mut self, input: &mut BytesMut) -> Result<Piece, Error> {
        loop {
            match self.at {
                At::End => return Ok(Piece::End),
                At::Data if input.is_empty() => return Ok(Piece::More),
                At::Data => {
                    let data = up_to(&mut self.left, input);
                    if self.left == 0 {
                        self.at = At::DataCr;
                    }
                    return Ok(Piece::Data(data));
                }
                _ => {}
            }
            if !self.pass(input)? {
                return Ok(Piece::More);
            }
            if self.at == At::End && self.lines > 0 {
                return self.trailers().map(Piece::Trailers);
            }
        }
    }

    // Takes what lies between data; false where more has to come.
    fn pass(&mut self, input: &mut BytesMut) -> Result<bool, Error> {
        let mut taken = 0;
        for &byte in input.iter() {
            if matches!(self.at, At::Data | At::End) {
                break;
            }
            self.step(byte)?;
            taken += 1;
        }
        bytes::Buf::advance(input, taken);
        Ok(matches!(self.at, At::Data | At::End))
    }

    fn step(&mut self, byte: u8) -> Result<(), Error> {
        self.at = match (self.at, byte) {
            (At::Begin | At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                let left = self.left.checked_mul(16);
                self.left = left
                    .and_then(|left| left.checked_add(digit))
                    .ok_or(Error::Malformed("a chunk's size is too large"))?;
                At::Size
            }
            (At::Size | At::Blank, b' ' | b'\t') => At::Blank,
            (At::Size | At::Blank, b';') => At::Extension,
            (At::Size | At::Blank | At::Extension, b'\r') => At::SizeEnd,
            (At::Extension, b'\n') => return Err(Error::Malformed("a chunk's extension")),
            (At::Extension, _) => {
                self.extensions += 1;
                if self.extensions >= EXTENSIONS_MAX {
                    return Err(Error::Malformed("extensions of chunks without end"));
                }
                At::Extension
            }
            (At::SizeEnd, b'\n') if self.left == 0 => At::Line,
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Begin,
            (At::Line, b'\r') => At::LastLf,
            (At::LastLf, b'\n') => At::End,
            (At::Line | At::Trailer, _) => self.trailer(byte)?,
            (At::TrailerLf, b'\n') => {
                self.keep(byte)?;
                self.lines += 1;
                if self.lines > HEADERS_MAX {
                    return Err(Error::Malformed("too many trailers"));
                }
                At::Line
            }
            _ => return Err(Error::Malformed("a chunk's frame")),
        };
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<At, Error> {
        if byte == b'\r' {
            return Ok(At::TrailerLf);
        }
        self.keep(byte)?;
        Ok(At::Trailer)
    }

    // Bytes of trailers, their lines ended by LF.
    fn keep(&mut self, byte: u8) -> Result<(), Error> {
        self.trailers.push(byte);
        if self.trailers.len() + self.lines >= TRAILERS_MAX {
            return Err(Error::Malformed("trailers without end"));
        }
        Ok(())
    }

    fn trailers(&mut self) -> Result<HeaderMap, Error> {
        const MALFORMED: Error = Error::Malformed("a trailer");
        let block = std::mem::take(&mut self.trailers);
        let mut trailers = HeaderMap::new();
        let mut lines = 0;
        for line in block
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let (name, value) = header(line)?;
            let name = HeaderName::from_bytes(name).map_err(|_| MALFORMED)?;
            let value = HeaderValue::from_bytes(value).map_err(|_| MALFORMED)?;
            trailers.append(name, value);
            lines += 1;
        }
        // A bare LF within one of them makes two of it.
        if lines == std::mem::take(&mut self.lines) {
            Ok(trailers)
        } else {
            Err(MALFORMED)
        }
    }
}
