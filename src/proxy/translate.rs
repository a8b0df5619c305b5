//! One canonical request from what HTTP/2 said: pure.
//!
//! What HTTP/1 says in one way HTTP/2 says in two: a host, a list of cookies. Afterwards the head reads as one of
//! HTTP/1 does, and everything behind judges it alike. The form of frames and pseudo-headers is the library's.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::respond::Fault;
use super::seen::Seen;

/// What speaks of a connection, which HTTP/2 does by frames (RFC 9113, 8.2.2).
const OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Turns a head of HTTP/2 into what HTTP/1 would have said, or tells why that would be two requests in one.
///
/// `:authority` and `host` have to agree, of which `check` makes sure: here the host is filled in where only
/// `:authority` was sent. `seen` is what the headers have.
pub(super) fn canonical(parts: &mut Parts, seen: Seen) -> Result<(), Fault> {
    let headers = &mut parts.headers;
    if seen.any(Seen::HOP)
        && OF_A_CONNECTION
            .iter()
            .any(|name| headers.contains_key(name))
    {
        return Err(Fault::BadRequest("a connection's header in HTTP/2"));
    }
    if seen.any(Seen::TE) && headers.get_all(TE).iter().any(|te| te != "trailers") {
        return Err(Fault::BadRequest("te is not trailers in HTTP/2"));
    }
    if seen.any(Seen::CONTENT_LENGTH) {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        // The library takes a length without digits for zero, and would pass it on.
        if lengths.next().is_some_and(|length| !is_number(length)) {
            return Err(Fault::BadRequest("malformed content-length"));
        }
        if lengths.next().is_some() {
            return Err(Fault::BadRequest("two lengths"));
        }
    }
    if headers.values().any(is_padded) {
        return Err(Fault::BadRequest("a value begins or ends with a blank"));
    }
    if seen.any(Seen::COOKIE) {
        join_crumbs(headers);
    }
    if let Some(authority) = parts.uri.authority()
        && let Entry::Vacant(place) = headers.entry(HOST)
    {
        let host = HeaderValue::from_str(authority.as_str());
        place.insert(host.map_err(|_| Fault::BadRequest("malformed authority"))?);
    }
    Ok(())
}

/// Removes from trailers what is no trailer.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    for name in &OF_A_CONNECTION {
        trailers.remove(name);
    }
    for name in [TE, HOST, CONTENT_LENGTH] {
        trailers.remove(name);
    }
}

// RFC 9113, 8.2.1.
fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    blank(bytes.first()) || blank(bytes.last())
}

fn is_number(value: &HeaderValue) -> bool {
    !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)
}

// RFC 9113, 8.2.3.
fn join_crumbs(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Every crumb is a value already, so that the whole is one.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(target: &str, headers: &[(&str, &str)], expected: Result<&[(&str, &str)], ()>) {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        let seen = Seen::of(&parts.headers);
        let found = canonical(&mut parts, seen).map(|()| {
            let all = parts.headers.iter();
            let mut all: Vec<_> = all
                .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
                .collect();
            all.sort_unstable();
            all
        });
        assert_eq!(
            found.as_deref().map_err(|_| ()),
            expected,
            "{target} {headers:?}"
        );
    }

    #[test]
    fn the_host_is_the_authority_and_crumbs_are_one_cookie() {
        check("http://a:81/", &[], Ok(&[("host", "a:81")]));
        check("http://a/", &[("host", "b")], Ok(&[("host", "b")]));
        check("/", &[("host", "b")], Ok(&[("host", "b")]));
        check(
            "http://a/",
            &[("cookie", "x=1"), ("te", "trailers"), ("cookie", "y=2")],
            Ok(&[("cookie", "x=1; y=2"), ("host", "a"), ("te", "trailers")]),
        );
        check(
            "http://a/",
            &[("cookie", "x=1")],
            Ok(&[("cookie", "x=1"), ("host", "a")]),
        );
    }

    #[test]
    fn what_means_two_things_is_refused() {
        for header in [
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
            ("x", " 1"),
            ("x", "1\t"),
            ("content-length", ""),
            ("content-length", "+1"),
            ("content-length", "1, 1"),
        ] {
            check("http://a/", &[header], Err(()));
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        check("http://a/", &twice, Err(()));
    }

    #[test]
    fn trailers_are_no_head() {
        let names = ["grpc-status", "content-length", "connection", "te", "host"];
        let mut trailers: HeaderMap = names
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("0")))
            .into_iter()
            .collect();
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["grpc-status"]);
    }
}
