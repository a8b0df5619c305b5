//! Who is asking: the learner's id, the segment, and the client's address. Pure.
//!
//! Exactly as the contract writes it under "Assignment". Never hashes and never assigns.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::COOKIE;
use http::{HeaderMap, Uri};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use crate::config::LearnerSource;

/// What the first source that has something gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learner<'a> {
    /// An id that the request carries.
    Id(Cow<'a, [u8]>),
    /// The client's address: it assigns, but identifies nobody.
    Address(&'a str),
    /// A new choice for each request.
    Random,
    /// No source had anything.
    Nobody,
}

/// The parts of a request that a source may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) uri: &'a Uri,
    /// The client's address in its one text form.
    pub(super) address: &'a str,
}

/// The first source that has an id.
pub(super) fn learner<'a>(sources: &[LearnerSource], asker: Asker<'a>) -> Learner<'a> {
    let found = |source| match source {
        &LearnerSource::ClientIp => Some(Learner::Address(asker.address)),
        &LearnerSource::Random => Some(Learner::Random),
        carried => carried_by(carried, asker).map(Learner::Id),
    };
    sources.iter().find_map(found).unwrap_or(Learner::Nobody)
}

/// The request's segment; none where it is absent or not UTF-8.
pub(super) fn segment<'a>(source: &LearnerSource, asker: Asker<'a>) -> Option<Cow<'a, str>> {
    match carried_by(source, asker)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// The client's address: the peer's, or for a trusted peer the rightmost address of x-forwarded-for that is not
/// trusted. Where all of them are, the leftmost; where one cannot be read, the last one before it.
pub(super) fn client_address(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let said = lines
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    for entry in said {
        let Some(address) = read_address(entry.trim_ascii()) else {
            return client;
        };
        client = address;
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

fn carried_by<'a>(source: &LearnerSource, asker: Asker<'a>) -> Option<Cow<'a, [u8]>> {
    let id = match source {
        LearnerSource::Header(name) => {
            Cow::Borrowed(asker.headers.get(name)?.as_bytes().trim_ascii())
        }
        LearnerSource::Cookie(name) => Cow::Borrowed(cookie(asker.headers, name)?),
        LearnerSource::Query(name) => query(asker.uri, name)?,
        LearnerSource::ClientIp => Cow::Borrowed(asker.address.as_bytes()),
        LearnerSource::Random => return None,
    };
    (!id.is_empty()).then_some(id)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let value = pairs.filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        (key == name.as_bytes()).then_some(value)
    });
    let value = value.into_iter().next()?;
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    Some(unquoted.unwrap_or(value))
}

fn query<'a>(uri: &'a Uri, name: &str) -> Option<Cow<'a, [u8]>> {
    let pairs = uri
        .query()?
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let decoded = |text: &'a str| -> Cow<'a, [u8]> { percent_decode_str(text).into() };
    let mut values = pairs.filter(|(key, _)| *key == name || *decoded(key) == *name.as_bytes());
    values.next().map(|(_, value)| decoded(value))
}

// An address, with or without a port.
fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
        let line = |(name, value): &(&str, &[u8])| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_bytes(value).expect("a value"))
        };
        lines.iter().map(line).collect()
    }

    fn check(
        source: LearnerSource,
        target: &str,
        lines: &[(&str, &[u8])],
        expected: Option<&[u8]>,
    ) {
        let headers = headers(lines);
        let uri: Uri = target.parse().expect("a target");
        let asker = Asker {
            headers: &headers,
            uri: &uri,
            address: "192.0.2.1",
        };
        let expected = expected.map_or(Learner::Nobody, |id| Learner::Id(Cow::Borrowed(id)));
        assert_eq!(learner(&[source], asker), expected, "{target} {lines:?}");
    }

    #[test]
    fn a_header_is_its_first_line_trimmed() {
        let check = |lines: &[(&str, &[u8])], expected| {
            check(
                LearnerSource::Header(HeaderName::from_static("x-id")),
                "/",
                lines,
                expected,
            );
        };
        check(&[("x-id", b"7")], Some(b"7"));
        check(&[("x-id", b" \t7 8\t ")], Some(b"7 8"));
        check(&[("x-id", b"7"), ("x-id", b"8")], Some(b"7"));
        check(&[("x-id", b""), ("x-id", b"8")], None);
        check(&[("x-id", b"  ")], None);
        check(&[("x-id", "日本".as_bytes())], Some("日本".as_bytes()));
        check(&[], None);
    }

    #[test]
    fn a_cookie_is_the_first_of_its_name_unquoted_and_not_decoded() {
        let check = |lines: &[&[u8]], expected| {
            let lines: Vec<_> = lines.iter().map(|&line| ("cookie", line)).collect();
            check(
                LearnerSource::Cookie("id".to_owned()),
                "/",
                &lines,
                expected,
            );
        };
        check(&[b"id=7"], Some(b"7"));
        check(&[b"a=1; id=7;id=8"], Some(b"7"));
        check(&[b"a=1", b"id=7"], Some(b"7"));
        check(&[b"id=\"7\""], Some(b"7"));
        check(&[b"id=\"\"7\"\""], Some(b"\"7\""));
        check(&[b"id=\"7"], Some(b"\"7"));
        check(&[b"id=\""], Some(b"\""));
        check(&[b"id=a%20b=c"], Some(b"a%20b=c"));
        check(&[b"xid=7; ID=8; id"], None);
        check(&[b"id=; id=8"], None);
        check(&[b"id=\"\""], None);
    }

    #[test]
    fn a_query_value_is_percent_decoded_and_keeps_its_plus() {
        let check = |target: &str, expected| {
            check(LearnerSource::Query("id".to_owned()), target, &[], expected)
        };
        check("/?id=7", Some(b"7"));
        check("/?a=1&id=7&id=8", Some(b"7"));
        check("/?id=a%20b+c%2B", Some(b"a b+c+"));
        check("/?id=a=b", Some(b"a=b"));
        check("/?id=%FF", Some(b"\xff"));
        check("/?id=%4", Some(b"%4"));
        check("/?%69d=7", Some(b"7"));
        check("/?id=&id=8", None);
        check("/?id", None);
        check("/?xid=7", None);
        check("/", None);
    }

    #[test]
    fn the_first_source_that_has_an_id_wins() {
        let sources = [
            LearnerSource::Header(HeaderName::from_static("x-id")),
            LearnerSource::Cookie("id".to_owned()),
            LearnerSource::ClientIp,
            LearnerSource::Random,
        ];
        let uri = Uri::from_static("/");
        let find = |lines| {
            let headers = headers(lines);
            let asker = Asker {
                headers: &headers,
                uri: &uri,
                address: "192.0.2.1",
            };
            match learner(&sources, asker) {
                Learner::Id(id) => String::from_utf8_lossy(&id).into_owned(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(find(&[("x-id", b"h"), ("cookie", b"id=c")]), "h");
        assert_eq!(find(&[("x-id", b""), ("cookie", b"id=c")]), "c");
        assert_eq!(find(&[]), "Address(\"192.0.2.1\")");
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_not_trusted() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .map(|net| net.parse().expect("a net"))
            .to_vec();
        let check = |peer: &str, lines: &[&str], expected: &str| {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", line.as_bytes()))
                .collect();
            let found = client_address(
                peer.parse().expect("an address"),
                &trusted,
                &headers(&lines),
            );
            assert_eq!(found.to_string(), expected, "{peer} {lines:?}");
        };
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check(
            "10.0.0.1",
            &["203.0.113.9, 198.51.100.7, 10.2.3.4"],
            "198.51.100.7",
        );
        check("10.0.0.1", &["203.0.113.9", "198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["10.9.9.9, 10.2.3.4"], "10.9.9.9");
        check("10.0.0.1", &["203.0.113.9, nonsense, 10.2.3.4"], "10.2.3.4");
        check("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7");
        check("fd00::1", &["[2001:DB8:0:0::1]:443"], "2001:db8::1");
        check("fd00::1", &["[2001:db8::1]"], "2001:db8::1");
    }
}
