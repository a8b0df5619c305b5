//! Which headers a head has, of those that serin looks for: one look at every name, in place of a look-up for each.
//!
//! Nearly every head has nearly none of them, and a look-up hashes a name to find that out. Judges nothing.

use http::HeaderMap;

/// A set of names. What is not among the constants is in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u32);

impl Seen {
    pub(super) const NONE: Self = Self(0);
    pub(super) const CONNECTION: Self = Self(1);
    pub(super) const TE: Self = Self(1 << 1);
    pub(super) const UPGRADE: Self = Self(1 << 2);
    pub(super) const TRAILER: Self = Self(1 << 3);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 4);
    pub(super) const CONTENT_LENGTH: Self = Self(1 << 5);
    pub(super) const CONTENT_TYPE: Self = Self(1 << 6);
    pub(super) const FORWARDED: Self = Self(1 << 7);
    pub(super) const FORWARDED_FOR: Self = Self(1 << 8);
    pub(super) const FORWARDED_PROTO: Self = Self(1 << 9);
    pub(super) const FORWARDED_HOST: Self = Self(1 << 10);
    pub(super) const REQUEST_ID: Self = Self(1 << 11);
    pub(super) const TRACEPARENT: Self = Self(1 << 12);
    /// Any other that belongs to one connection alone, a client's or an upstream's.
    pub(super) const OTHER_HOP: Self = Self(1 << 13);
    /// What only serin says to clients.
    pub(super) const OURS: Self = Self(1 << 14);
    pub(super) const COOKIE: Self = Self(1 << 15);
    /// What speaks of a connection, beside `TE`.
    pub(super) const HOP: Self = Self::CONNECTION
        .and(Self::OTHER_HOP)
        .and(Self::TRANSFER_ENCODING)
        .and(Self::UPGRADE);

    /// Of all names of a head.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let each = headers.keys().map(|name| Self::named(name.as_str()));
        each.fold(Self::NONE, Self::and)
    }

    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of these is among them.
    pub(super) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    fn named(name: &str) -> Self {
        match name {
            "te" => Self::TE,
            "cookie" => Self::COOKIE,
            "upgrade" => Self::UPGRADE,
            "trailer" => Self::TRAILER,
            "forwarded" => Self::FORWARDED,
            "connection" => Self::CONNECTION,
            "keep-alive" | "proxy-connection" | "proxy-authorization" | "proxy-authenticate" => {
                Self::OTHER_HOP
            }
            "traceparent" => Self::TRACEPARENT,
            "content-type" => Self::CONTENT_TYPE,
            "x-request-id" => Self::REQUEST_ID,
            "x-serin-pool" | "x-serin-error" => Self::OURS,
            "content-length" => Self::CONTENT_LENGTH,
            "x-forwarded-for" => Self::FORWARDED_FOR,
            "x-forwarded-host" => Self::FORWARDED_HOST,
            "x-forwarded-proto" => Self::FORWARDED_PROTO,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            _ => Self::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn it_is_what_look_ups_would_find() {
        let names = [
            "te",
            "cookie",
            "upgrade",
            "trailer",
            "forwarded",
            "connection",
            "keep-alive",
            "traceparent",
            "content-type",
            "x-request-id",
            "x-serin-pool",
            "content-length",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "transfer-encoding",
            "host",
        ];
        let mut all = HeaderMap::new();
        let mut seen = Vec::new();
        for name in names {
            let name = HeaderName::from_static(name);
            let mut one = HeaderMap::new();
            one.insert(name.clone(), HeaderValue::from_static("a"));
            all.insert(name, HeaderValue::from_static("a"));
            seen.push(Seen::of(&one));
        }
        let bits: u32 = seen.iter().map(|seen| seen.0.count_ones()).sum();
        assert_eq!(bits, 16, "each its own, but for host");
        let together = seen.into_iter().fold(Seen::NONE, Seen::and);
        assert_eq!(Seen::of(&all), together);
        assert_eq!(Seen::of(&HeaderMap::new()), Seen::NONE);
    }
}
