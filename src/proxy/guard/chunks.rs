//! A chunked body (RFC 9112, 7.1): sizes, extensions, data, trailers, each to the byte.
//!
//! Keeps one trailer's line at most, and passes everything else as it comes.

use super::super::respond::Fault;
use super::head::{header, is_text, is_token};
use crate::config::Limits;

/// Bytes of all extensions of a body together, as many as hyper bears.
const EXTENSIONS: u32 = 16 * 1024;
/// Bytes of a chunk's size, zeros in front included: more digits say nothing that a chunk could hold.
const SIZE_DIGITS: u8 = 16;
/// Bytes of all trailers together where the configuration bounds no head.
const TRAILERS: usize = 64 * 1024;

/// A chunked body that is coming in.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    extensions: u32,
    trailer: Vec<u8>,
    /// Bytes that trailers may still have.
    trailers_left: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size or an extension: blanks before the next `;`.
    Blank {
        size: u64,
    },
    Extension {
        size: u64,
        part: Part,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailer,
    Whole,
}

/// Where in ` ; name = value ` we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    BeforeName,
    Name,
    BehindName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    Closed,
}

impl At {
    const FIRST: Self = Self::Size { size: 0, digits: 0 };

    const fn name(size: u64) -> Self {
        Self::Extension {
            size,
            part: Part::BeforeName,
        }
    }
}

impl Chunks {
    pub(super) fn new(limits: &Limits) -> Self {
        let bound = limits.head_bytes;
        Self {
            at: At::FIRST,
            extensions: 0,
            trailer: Vec::new(),
            trailers_left: if bound == 0 { TRAILERS } else { bound },
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.at == At::Whole
    }

    /// How many of these bytes belong to the body, all but those behind its end; on a fault, how many before it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, (usize, Fault)> {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            match self.at {
                At::Whole => break,
                At::Data { left } => {
                    let there = bytes.len() - taken;
                    let len = usize::try_from(left).map_or(there, |left| left.min(there));
                    taken += len;
                    self.at = match left - len as u64 {
                        0 => At::DataCr,
                        left => At::Data { left },
                    };
                }
                _ => {
                    self.at = self.next(byte).map_err(|fault| (taken, fault))?;
                    taken += 1;
                }
            }
        }
        Ok(taken)
    }

    fn next(&mut self, byte: u8) -> Result<At, Fault> {
        match self.at {
            At::Size { size, digits } => self.size(size, digits, byte),
            At::Blank { size } => match byte {
                b' ' | b'\t' => self.extended(At::Blank { size }),
                b';' => self.extended(At::name(size)),
                _ => Err(Fault::BadRequest("malformed chunk size")),
            },
            At::Extension { size, part } => self.extension(size, part, byte),
            At::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Ok(At::Trailer),
                (b'\n', left) => Ok(At::Data { left }),
                _ => Err(Fault::BadRequest("a chunk's line does not end with CR LF")),
            },
            At::DataCr if byte == b'\r' => Ok(At::DataLf),
            At::DataLf if byte == b'\n' => Ok(At::FIRST),
            At::DataCr | At::DataLf => Err(Fault::BadRequest("a chunk is longer than its size")),
            At::Trailer => self.trailer(byte),
            At::Data { .. } | At::Whole => Ok(self.at),
        }
    }

    fn size(&mut self, size: u64, digits: u8, byte: u8) -> Result<At, Fault> {
        let malformed = Fault::BadRequest("malformed chunk size");
        let hex = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if digits == 0 => return Err(malformed),
            b'\r' => return Ok(At::SizeLf { size }),
            b' ' | b'\t' => return self.extended(At::Blank { size }),
            b';' => return self.extended(At::name(size)),
            _ => return Err(malformed),
        };
        if digits == SIZE_DIGITS {
            return Err(malformed);
        }
        Ok(At::Size {
            size: size << 4 | u64::from(hex),
            digits: digits + 1,
        })
    }

    fn extension(&mut self, size: u64, part: Part, byte: u8) -> Result<At, Fault> {
        use Part::{BeforeName, BeforeValue, BehindName, Closed, Escaped, Name, Quoted, Value};
        let next = match (part, byte) {
            (BeforeName | BeforeValue | BehindName, b' ' | b'\t') => part,
            (BeforeName | Name, _) if is_token(byte) => Name,
            (Name, b' ' | b'\t') => BehindName,
            (Name | BehindName, b'=') => BeforeValue,
            (BeforeValue | Value, _) if is_token(byte) => Value,
            (BeforeValue, b'"') => Quoted,
            (Quoted, b'"') => Closed,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, _) if is_text(byte) => Quoted,
            (Name | BehindName | Value | Closed, b';') => BeforeName,
            (Value | Closed, b' ' | b'\t') => return self.extended(At::Blank { size }),
            (Name | Value | Closed, b'\r') => return Ok(At::SizeLf { size }),
            _ => return Err(Fault::BadRequest("malformed chunk extension")),
        };
        self.extended(At::Extension { size, part: next })
    }

    fn extended(&mut self, next: At) -> Result<At, Fault> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS {
            return Err(Fault::BadRequest("chunk extensions are over the limit"));
        }
        Ok(next)
    }

    fn trailer(&mut self, byte: u8) -> Result<At, Fault> {
        self.trailers_left = self
            .trailers_left
            .checked_sub(1)
            .ok_or(Fault::HeadersTooLarge)?;
        if byte != b'\n' {
            self.trailer.push(byte);
            return Ok(At::Trailer);
        }
        let line = std::mem::take(&mut self.trailer);
        let line = line
            .strip_suffix(b"\r")
            .ok_or(Fault::BadRequest("a line does not end with CR LF"))?;
        if line.is_empty() {
            return Ok(At::Whole);
        }
        let (name, _) = header(line)?;
        let frames = [&b"content-length"[..], b"transfer-encoding", b"host"];
        if frames.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(Fault::BadRequest("a trailer that belongs in the head"));
        }
        Ok(At::Trailer)
    }
}
