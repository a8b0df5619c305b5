//! An answer's head, from bytes to values, and what it says of its body and its connection. Pure.
//!
//! Takes what the library towards clients would take of a server (RFC 9112, with an empty line before the head and a bare
//! LF at a line's end let through), and nothing else: the tests give both the same bytes.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, response};
use hyper::ext::ReasonPhrase;

use super::framing::Framing;
use super::{Error, Spelling};

/// Headers of one answer, at most.
pub(super) const HEADERS_MAX: usize = 100;
/// Room for the headers of most heads: an answer's map becomes that of its client's next request, which is added to.
const ROOM: usize = 20;
/// Larger lengths mean nothing.
const LENGTH_MAX: u64 = u64::MAX - 2;

/// The head of an answer, or one that came before it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) spelling: Spelling,
    pub(super) framing: Framing,
    /// The connection may carry another request behind this one.
    pub(super) keeps_alive: bool,
}

/// How far a head has come: each of its bytes is looked at once until it is whole.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Bytes looked at already.
    scanned: usize,
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Lines of the head so far; none while it has not begun.
    lines: usize,
}

/// How a body is said to end, beside what the method and the status say.
#[derive(Debug, Default)]
struct Said {
    has_coding: bool,
    has_length: bool,
    is_closing: bool,
    is_kept: bool,
}

// === impl Scan ===

impl Scan {
    /// Takes a head off the front of what has come, once it is whole. `method` is that of its request.
    pub(super) fn take(
        &mut self,
        input: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<Head>, Error> {
        let Some(end) = self.end(input)? else {
            return Ok(None);
        };
        let lines = std::mem::take(self).lines;
        if lines > HEADERS_MAX + 1 {
            return Err(Error::Malformed("too many headers"));
        }
        parse(&input.split_to(end).freeze(), lines, method).map(Some)
    }

    // Behind the empty line that ends the head; a fault in what has come, where that is not there yet.
    fn end(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        let (first, has_begun) = (self.line, self.lines > 0);
        while let Some(found) = input
            .get(self.scanned..)
            .and_then(|rest| memchr::memchr(b'\n', rest))
        {
            let end = self.scanned + found;
            let is_empty = matches!(input.get(self.line..end), Some([] | [b'\r']));
            self.scanned = end + 1;
            self.line = end + 1;
            match (is_empty, self.lines) {
                (true, 0) => {}
                (true, _) => return Ok(Some(end + 1)),
                (false, _) => self.lines += 1,
            }
        }
        self.scanned = input.len();
        self.judge(input, first, has_begun)?;
        Ok(None)
    }

    // What can be said of a head that is not whole: a server that speaks something else may never send an empty line.
    fn judge(&self, input: &[u8], first: usize, has_begun: bool) -> Result<(), Error> {
        let new = input.get(first..self.line).unwrap_or_default();
        let mut is_begun = has_begun;
        for line in new.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if !is_begun {
                status_line(line)?;
            } else {
                let (name, value) = header(line)?;
                HeaderName::from_bytes(name).map_err(|_| BAD_NAME)?;
                HeaderValue::from_bytes(value).map_err(|_| BAD_VALUE)?;
            }
            is_begun = true;
        }
        let partial = input.get(self.line..).unwrap_or_default();
        if self.lines == 0 {
            return begins_well(partial);
        }
        if self.lines > HEADERS_MAX + 1 {
            return Err(Error::Malformed("too many headers"));
        }
        partial_header(partial)
    }
}

const BAD_NAME: Error = Error::Malformed("a header's name");
const BAD_VALUE: Error = Error::Malformed("a header's value");
const BAD_STATUS: Error = Error::Malformed("the status line");

// Whether these may be the first bytes of a status line, or of an empty one.
fn begins_well(bytes: &[u8]) -> Result<(), Error> {
    const VERSION: &[u8] = b"HTTP/1.";
    if bytes == b"\r" {
        return Ok(());
    }
    let is_well = |(at, byte): (usize, &u8)| match (at, *byte) {
        (0..7, byte) => VERSION.get(at) == Some(&byte),
        (7, byte) => matches!(byte, b'0' | b'1'),
        (8, byte) => byte == b' ',
        (9..12, byte) => byte.is_ascii_digit(),
        // Its end has begun.
        (_, b'\r') => at + 1 == bytes.len(),
        (12, byte) => byte == b' ',
        (_, byte) => is_text(&byte),
    };
    if bytes.iter().enumerate().all(is_well) {
        Ok(())
    } else {
        Err(BAD_STATUS)
    }
}

// The same of a header, or of the empty line that ends the head.
fn partial_header(bytes: &[u8]) -> Result<(), Error> {
    if matches!(bytes, [] | [b'\r']) {
        return Ok(());
    }
    let colon = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
    let (name, value) = bytes.split_at(colon);
    HeaderName::from_bytes(name).map_err(|_| BAD_NAME)?;
    // Its end may have begun.
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    if value.iter().all(is_text) {
        Ok(())
    } else {
        Err(BAD_VALUE)
    }
}

fn parse(head: &Bytes, lines: usize, method: &Method) -> Result<Head, Error> {
    let mut rest = Lines { head, at: 0 };
    let mut first = b"".as_slice();
    while first.is_empty() {
        let (_, line) = rest.next().ok_or(BAD_STATUS)?;
        first = line;
    }
    let (version, status, reason) = status_line(first)?;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.version = version;
    parts.status = status;
    if status.canonical_reason().map(str::as_bytes) != Some(reason) {
        let reason = ReasonPhrase::try_from(reason).map_err(|_| BAD_STATUS)?;
        parts.extensions.insert(reason);
    }
    let mut spelling = Spelling::default();
    let mut said = Said::default();
    parts.headers.reserve(lines.max(ROOM));
    while let Some((at, line)) = rest.next().filter(|(_, line)| !line.is_empty()) {
        let (name, value) = header(line)?;
        // The value is the line's end, but for blanks.
        let colon = name.len() + 1;
        let blanks = line.get(colon..).unwrap_or_default();
        let blanks = blanks.iter().take_while(|&&byte| is_blank(byte)).count();
        let from = at + colon + if value.is_empty() { 0 } else { blanks };
        spelling.note(name);
        let name = HeaderName::from_bytes(name).map_err(|_| BAD_NAME)?;
        let value = head.slice(from..from + value.len());
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BAD_VALUE)?;
        said.note(&name, &value);
        parts.headers.append(name, value);
    }
    let keeps_alive = !said.is_closing && (version == Version::HTTP_11 || said.is_kept);
    let framing = framing(&parts, &said, method)?;
    Ok(Head {
        parts,
        spelling,
        framing,
        keeps_alive,
    })
}

// RFC 9112, 6.3.
fn framing(parts: &response::Parts, said: &Said, method: &Method) -> Result<Framing, Error> {
    let is_bodiless = parts.status.is_informational()
        || matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    if is_bodiless || *method == Method::HEAD {
        return Ok(Framing::Sized(0));
    }
    if said.has_coding {
        if parts.version == Version::HTTP_10 {
            return Err(Error::Malformed("a transfer-encoding in HTTP/1.0"));
        }
        let last = parts.headers.get_all(TRANSFER_ENCODING).iter().next_back();
        return Ok(if last.is_some_and(ends_chunked) {
            Framing::chunked()
        } else {
            Framing::UntilClose
        });
    }
    if !said.has_length {
        return Ok(Framing::UntilClose);
    }
    length(&parts.headers)
        .map(Framing::Sized)
        .ok_or(Error::Malformed("the content-length"))
}

fn ends_chunked(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let last = text.rsplit(',').next().unwrap_or_default();
    last.trim().eq_ignore_ascii_case("chunked")
}

// One length, however often it is said.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for said in line.to_str().ok()?.split(',') {
            let said = number(said.trim().as_bytes())?;
            if *length.get_or_insert(said) != said {
                return None;
            }
        }
    }
    length.filter(|len| *len <= LENGTH_MAX)
}

/// Digits alone: no sign, no list, and within 64 bits.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

// Version, status and reason.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode, &[u8]), Error> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(BAD_STATUS)?;
    let (version, rest) = match rest {
        [b'1', b' ', rest @ ..] => (Version::HTTP_11, rest),
        [b'0', b' ', rest @ ..] => (Version::HTTP_10, rest),
        _ => return Err(BAD_STATUS),
    };
    let (code, rest) = rest.split_at_checked(3).ok_or(BAD_STATUS)?;
    let status = StatusCode::from_bytes(code).map_err(|_| BAD_STATUS)?;
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return Err(BAD_STATUS),
    };
    if !reason.iter().all(is_text) {
        return Err(BAD_STATUS);
    }
    // What is not ASCII says nothing that can be passed on.
    let reason = if reason.is_ascii() { reason } else { b"" };
    Ok((version, status, reason))
}

/// Name and value of a header's line, the value without the blanks around it. Neither is judged.
pub(super) fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let colon = memchr::memchr(b':', line).ok_or(Error::Malformed("a header without a colon"))?;
    let (name, value) = line.split_at(colon);
    let mut value = value.get(1..).unwrap_or_default();
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Ok((name, value))
}

// What a value may hold (RFC 9110, 5.5).
const fn is_text(byte: &u8) -> bool {
    matches!(*byte, b'\t' | 0x20..=0x7e | 0x80..)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Lines with the places where they begin.
struct Lines<'a> {
    head: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        let at = self.at;
        let rest = self.head.get(at..)?;
        let line = rest.get(..memchr::memchr(b'\n', rest)?)?;
        self.at += line.len() + 1;
        Some((at, line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

// === impl Said ===

impl Said {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            CONTENT_LENGTH => self.has_length = true,
            TRANSFER_ENCODING => self.has_coding = true,
            CONNECTION => {
                let text = value.to_str().unwrap_or_default();
                for token in text.split(',').map(str::trim) {
                    self.is_closing |= token.eq_ignore_ascii_case("close");
                    self.is_kept |= token.eq_ignore_ascii_case("keep-alive");
                }
            }
            _ => {}
        }
    }
}
