//! How the names of one head were written, for whoever writes it on: the map of headers knows them in lower case alone.
//!
//! Names that are in lower case already are not kept. Pure.

/// The names of one head as they were written, in their order; those in lower case are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelling {
    /// Each name behind its length.
    names: Vec<u8>,
}

/// Looks names up in a spelling, those of several values one after the other: each then has its own.
#[derive(Debug)]
pub struct Spellings<'a> {
    names: &'a [u8],
    /// The name that was found last, and the place behind it.
    last: &'a [u8],
    at: usize,
}

/// Room for the names of a usual head, so that it is made once.
const ROOM: usize = 192;
/// Longer names are not kept: their length has to fit into a byte.
const LONGEST: usize = u8::MAX as usize;

// === impl Spelling ===

impl Spelling {
    /// Keeps a name, unless it is in lower case.
    pub fn note(&mut self, name: &[u8]) {
        let Ok(len) = u8::try_from(name.len()) else {
            return;
        };
        if !name.iter().any(u8::is_ascii_uppercase) {
            return;
        }
        if self.names.capacity() == 0 {
            self.names.reserve(ROOM);
        }
        self.names.push(len);
        self.names.extend_from_slice(name);
    }

    /// Whether every name was in lower case.
    pub const fn is_plain(&self) -> bool {
        self.names.is_empty()
    }

    pub fn names(&self) -> Spellings<'_> {
        Spellings {
            names: &self.names,
            last: b"",
            at: 0,
        }
    }

    /// Writes the head, or heads, of `plain` behind `written`, with names as they were spelled. The first line is none.
    pub fn write(&self, plain: &[u8], written: &mut Vec<u8>) {
        let from = written.len();
        written.extend_from_slice(plain);
        let mut names = self.names();
        let mut line = 0;
        while let Some(len) = plain
            .get(line..)
            .and_then(|rest| memchr::memchr(b'\n', rest))
        {
            line += len + 1;
            let rest = plain.get(line..).unwrap_or_default();
            let Some(len) = memchr::memchr(
                b':',
                rest.get(..LONGEST.min(rest.len())).unwrap_or_default(),
            ) else {
                continue;
            };
            let place = from + line..from + line + len;
            let spelled = rest.get(..len).and_then(|name| names.find(name));
            if let (Some(spelled), Some(place)) = (spelled, written.get_mut(place)) {
                place.copy_from_slice(spelled);
            }
        }
    }
}

// === impl Spellings ===

impl<'a> Spellings<'a> {
    /// How a name was written; `None` where it was in lower case, or has had every way in which it was.
    pub fn find(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        if self.names.is_empty() {
            return None;
        }
        // Heads are mostly written in the order in which they were read.
        let mut found = self.search(self.at, self.names.len(), name);
        if found.is_none() && !self.last.eq_ignore_ascii_case(name) {
            found = self.search(0, self.at, name);
        }
        (self.at, self.last) = found?;
        Some(self.last)
    }

    fn search(&self, from: usize, to: usize, name: &[u8]) -> Option<(usize, &'a [u8])> {
        let mut at = from;
        while at < to {
            let len = usize::from(*self.names.get(at)?);
            let spelled = self.names.get(at + 1..at + 1 + len)?;
            at += 1 + len;
            if spelled.eq_ignore_ascii_case(name) {
                return Some((at, spelled));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(names: &[&str]) -> Spelling {
        let mut spelling = Spelling::default();
        names.iter().for_each(|name| spelling.note(name.as_bytes()));
        spelling
    }

    #[test]
    fn names_are_found_as_they_were_written_in_whatever_order() {
        let spelling = spelling(&["Host", "accept", "X-A", "x-A", "COOKIE"]);
        let mut names = spelling.names();
        let mut find = |name: &str| names.find(name.as_bytes());
        assert_eq!(find("host"), Some(&b"Host"[..]));
        assert_eq!(find("accept"), None, "it is in lower case");
        assert_eq!(find("cookie"), Some(&b"COOKIE"[..]));
        assert_eq!(find("x-a"), Some(&b"X-A"[..]));
        assert_eq!(find("x-a"), Some(&b"x-A"[..]), "the second of one name");
        assert_eq!(find("x-a"), None, "there is no third");
        assert_eq!(find("x-forwarded-for"), None);
        assert_eq!(find("host"), Some(&b"Host"[..]));
        assert!(Spelling::default().is_plain());
        let long = "X".repeat(256);
        assert!(self::spelling(&["a", "b-c", &long]).is_plain());
    }

    #[test]
    fn a_head_is_written_as_it_was_spelled_and_nothing_else_is_touched() {
        let spelling = spelling(&["X-CaSe", "Content-Length", "Set-Cookie", "SET-COOKIE"]);
        let plain = b"HTTP/1.1 200 content-length: \r\nset-cookie: set-cookie\r\nset-cookie: b\r\nx-case: x-case: a\r\ndate: x-case\r\ncontent-length: 3\r\n\r\n";
        let mut written = b"x-case: ".to_vec();
        spelling.write(plain, &mut written);
        let expected = b"x-case: HTTP/1.1 200 content-length: \r\nSet-Cookie: set-cookie\r\nSET-COOKIE: b\r\nX-CaSe: x-case: a\r\ndate: x-case\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            written.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}
