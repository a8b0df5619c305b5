//! Lines of a head: the request line, headers, and what they say of the body.
//!
//! Each line is judged once, when it is whole, so that a head that comes byte by byte costs no more than one that comes
//! at once. Owns what a line may hold; which host is meant and what may be proxied is `check`'s matter.

use http::Uri;

use super::super::respond::Fault;
use crate::config::Limits;
use crate::upstream::http1::Spelling;

/// Empty lines in front of a request, as old clients send them after a body (RFC 9112, 2.2).
const EMPTY_LINES: u8 = 2;

/// A head that is coming in.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Bytes looked at already, from the head's beginning.
    scanned: usize,
    /// Where the line begins that is not whole yet.
    line: usize,
    empty_lines: u8,
    headers: usize,
    version: Option<Minor>,
    length: Option<u64>,
    coding: Option<Coding>,
    has_upgrade: bool,
    spelling: Spelling,
}

/// HTTP/1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minor {
    Zero,
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

/// How the body behind a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes; 0 without a body.
    Sized(u64),
    Chunked,
}

// === impl Head ===

impl Head {
    /// Looks at a head's bytes, from its first on: how many they are and what follows, once it is whole.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, Framing)>, Fault> {
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default())
        {
            let end = self.scanned + found;
            self.scanned = end + 1;
            self.is_worth_more(bytes, limits)?;
            let line = bytes.get(self.line..end).unwrap_or_default();
            let line = line
                .strip_suffix(b"\r")
                .ok_or(Fault::BadRequest("a line does not end with CR LF"))?;
            let is_last = self.judge(line, limits)?;
            self.line = end + 1;
            if is_last {
                return Ok(Some((self.scanned, self.framing()?)));
            }
        }
        self.scanned = bytes.len();
        self.is_worth_more(bytes, limits)?;
        Ok(None)
    }

    /// Whether it asks for another protocol, which only HTTP/1.1 can.
    pub(super) fn asks_upgrade(&self) -> bool {
        self.has_upgrade && self.version == Some(Minor::One)
    }

    /// How its names were written.
    pub(super) fn take_spelling(&mut self) -> Spelling {
        std::mem::take(&mut self.spelling)
    }

    // What can be said of a line before its end has come; said first of a whole one, too, so that the same bytes are refused
    // for the same reason however they come.
    fn is_worth_more(&self, bytes: &[u8], limits: &Limits) -> Result<(), Fault> {
        // What is no HTTP at all has no lines to wait for.
        let begins = bytes.get(self.line).copied();
        let is_odd = |byte: u8| !is_token(byte) && !matches!(byte, b'\r' | b'\n');
        if self.version.is_none() && begins.is_some_and(is_odd) {
            return Err(Fault::BadRequest("the method is no token"));
        }
        self.within(self.scanned, limits)
    }

    fn within(&self, len: usize, limits: &Limits) -> Result<(), Fault> {
        let over = |len: usize, limit: usize| limit != 0 && len > limit;
        match self.version {
            // Beside a target that is just within its limit there is room for any method of the registry.
            None if over(len, limits.target_bytes.saturating_add(METHOD_ROOM))
                && limits.target_bytes != 0 =>
            {
                Err(Fault::TargetTooLong)
            }
            None | Some(_) if over(len, limits.head_bytes) => Err(Fault::HeadersTooLarge),
            None | Some(_) => Ok(()),
        }
    }

    /// Takes one line without its end; true where it ends the head.
    fn judge(&mut self, line: &[u8], limits: &Limits) -> Result<bool, Fault> {
        match (self.version, line) {
            (None, []) => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES {
                    return Err(Fault::BadRequest("empty lines before the request"));
                }
                Ok(false)
            }
            (None, line) => {
                self.version = Some(request_line(line, limits)?);
                Ok(false)
            }
            (Some(_), []) => Ok(true),
            (Some(_), line) => {
                self.headers += 1;
                if limits.headers != 0 && self.headers > limits.headers {
                    return Err(Fault::HeadersTooLarge);
                }
                let (name, value) = header(line)?;
                self.spelling.note(name);
                self.note(name, value)?;
                Ok(false)
            }
        }
    }

    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value).ok_or(Fault::BadRequest("malformed content-length"))?;
            if self.length.replace(length).is_some() {
                return Err(Fault::BadRequest("two content-lengths"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let coding = if value.eq_ignore_ascii_case(b"chunked") {
                Coding::Chunked
            } else {
                Coding::Other
            };
            if self.coding.replace(coding).is_some() {
                return Err(Fault::BadRequest("two transfer-encodings"));
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.has_upgrade = true;
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Fault> {
        match (self.coding, self.length, self.version) {
            (None, length, _) => Ok(Framing::Sized(length.unwrap_or(0))),
            (Some(_), Some(_), _) => Err(Fault::BadRequest(
                "content-length beside a transfer-encoding",
            )),
            (Some(_), None, Some(Minor::One)) if self.coding == Some(Coding::Chunked) => {
                Ok(Framing::Chunked)
            }
            (Some(_), None, Some(Minor::One)) => Err(Fault::NotImplemented),
            (Some(_), None, Some(Minor::Zero) | None) => {
                Err(Fault::BadRequest("a transfer-encoding in HTTP/1.0"))
            }
        }
    }
}

/// A request line has room for a method, two blanks and the version beside its target.
const METHOD_ROOM: usize = 64;

fn request_line(line: &[u8], limits: &Limits) -> Result<Minor, Fault> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let (method, target, version) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Fault::BadRequest("the method is no token"));
    }
    self::target(target)?;
    if limits.target_bytes != 0 && target.len() > limits.target_bytes {
        return Err(Fault::TargetTooLong);
    }
    match version {
        b"HTTP/1.1" => Ok(Minor::One),
        b"HTTP/1.0" => Ok(Minor::Zero),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Fault::VersionNotSupported)
        }
        _ => Err(Fault::BadRequest("malformed version")),
    }
}

fn target(target: &[u8]) -> Result<(), Fault> {
    let fault = target.iter().find_map(|&byte| match byte {
        b'#' => Some("the target has a fragment"),
        0x80.. => Some("the target is not ASCII"),
        0x21..=0x7e => None,
        _ => Some("the target has a control character"),
    });
    match fault {
        Some(why) => Err(Fault::BadRequest(why)),
        None if target.is_empty() => Err(Fault::BadRequest("no target")),
        None if target.starts_with(b"/") || Uri::try_from(target).is_ok() => Ok(()),
        None => Err(Fault::BadRequest("malformed target")),
    }
}

/// Name and value of a header's line, the value without the blanks around it.
pub(super) fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::BadRequest("a folded header"));
    }
    let colon = memchr::memchr(b':', line).ok_or(Fault::BadRequest("a header without a colon"))?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|&byte| TOKENS[usize::from(byte)]) {
        return Err(Fault::BadRequest("malformed header name"));
    }
    // Without a way out in between, so that many bytes are looked at at once.
    let has_control = |found: bool, &byte: &u8| found | !is_text(byte);
    if value.iter().fold(false, has_control) {
        return Err(Fault::BadRequest("a control character in a header"));
    }
    Ok((name, trimmed(value)))
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

// Digits alone: no sign, no list, and within 64 bits.
fn number(text: &[u8]) -> Option<u64> {
    let digit = |number: u64, &byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0, digit)
}

/// `is_token` of every byte.
const TOKENS: [bool; 256] = {
    let mut tokens = [false; 256];
    let mut byte = 0;
    while byte < tokens.len() {
        tokens[byte] = is_token(byte as u8);
        byte += 1;
    }
    tokens
};

/// Bytes of a token (RFC 9110, 5.6.2).
pub(in crate::proxy) const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

/// Bytes of a field's value (RFC 9110, 5.5): visible, blank, tab, and what is not ASCII.
pub(super) const fn is_text(byte: u8) -> bool {
    (byte >= 0x20) & (byte != 0x7f) | (byte == b'\t')
}
