//! What happens to headers on their way through, both ways: pure functions.
//!
//! Hop-by-hop headers go; what only serin may say is removed from what came and said anew; the rest is left as it is.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::ids::{self, Dice};
use super::respond::{Fault, X_SERIN_ERROR};
use super::seen::Seen;
use crate::live::Rules;
use crate::telemetry::TraceId;

pub(super) const X_SERIN_POOL: HeaderName = HeaderName::from_static("x-serin-pool");
/// On copies of requests, whose answers nobody waits for.
pub(super) const X_SERIN_MIRROR: HeaderName = HeaderName::from_static("x-serin-mirror");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What a `Connection` header may not name: without these the request would mean something else.
const PROTECTED: [&str; 9] = [
    "host",
    "content-length",
    "authorization",
    "cookie",
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "traceparent",
    "tracestate",
];

/// What belongs to a client's connection beside `Connection` itself.
const HOPS: [HeaderName; 6] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    TE,
];

/// Where one of them may be, and `Connection`.
const ANY_HOP: Seen = Seen::HOP.and(Seen::TE);

/// Headers that serin says of a request, at most.
const SAID: usize = 6;

/// The peer of a connection as forwarded headers name it, made once per connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: HeaderValue,
    /// The same as a node of `Forwarded`: quoted and in brackets where it is IPv6 (RFC 7239, 6).
    pub(super) node: String,
    /// What it speaks to us: `http` or `https`.
    pub(super) scheme: &'static str,
}

/// Removes what belongs to the client's connection alone. `TE: trailers` stays.
pub(super) fn strip_request_hops(headers: &mut HeaderMap, seen: Seen) {
    if !seen.any(ANY_HOP) {
        return;
    }
    if seen.any(Seen::CONNECTION) {
        for name in named_by(headers, &CONNECTION) {
            if name != TE {
                headers.remove(&name);
            }
        }
        headers.remove(CONNECTION);
    }
    let wants_trailers = headers.get_all(TE).iter().any(says_trailers);
    for hop in &HOPS {
        headers.remove(hop);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes sure that a connection does not claim as its own what belongs to the request (RFC 9110, 7.6.1).
pub(super) fn check_hops(headers: &HeaderMap, seen: Seen) -> Result<(), Fault> {
    let is_claimed =
        seen.any(Seen::CONNECTION) && named_by(headers, &CONNECTION).iter().any(is_protected);
    if is_claimed {
        return Err(Fault::BadRequest(
            "connection names a header that is not its own",
        ));
    }
    Ok(())
}

/// Makes sure that no trailer is announced which would be taken for what a head alone may say (RFC 9110, 6.5.1). What is
/// not announced is not passed on.
pub(super) fn check_trailer(headers: &HeaderMap, seen: Seen, rules: &Rules) -> Result<(), Fault> {
    if !seen.any(Seen::TRAILER) {
        return Ok(());
    }
    let belongs_in_head = |name: &HeaderName| {
        HOPS.contains(name)
            || matches!(*name, CONNECTION | CONTENT_TYPE | TRAILER)
            || is_protected(name)
            || is_forwarded(name.as_str())
            || is_claimed(name.as_str(), rules)
    };
    if named_by(headers, &TRAILER).iter().any(belongs_in_head) {
        return Err(Fault::BadRequest("a trailer that belongs in the head"));
    }
    Ok(())
}

/// Whether an answer's end can be found in two ways (RFC 9112, 6.1 and 6.3), or is coded in what the client is not told of.
pub(super) fn is_ambiguous(answer: &Parts) -> bool {
    let mut codings = answer.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return false;
    };
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    !is_chunked || answer.version != Version::HTTP_11 || answer.headers.contains_key(CONTENT_LENGTH)
}

/// Removes what belongs to the upstream's connection alone, and what only serin may say.
pub(super) fn strip_answer_hops(headers: &mut HeaderMap) {
    let seen = Seen::of(headers);
    if !seen.any(ANY_HOP.and(Seen::OURS)) {
        return;
    }
    if seen.any(Seen::CONNECTION) {
        for name in named_by(headers, &CONNECTION) {
            if !is_protected(&name) {
                headers.remove(&name);
            }
        }
        headers.remove(CONNECTION);
    }
    for hop in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        TRANSFER_ENCODING,
        UPGRADE,
        X_SERIN_ERROR,
        X_SERIN_POOL,
    ] {
        headers.remove(hop);
    }
}

/// Whether a body of this type is a stream: it may be silent for long, and goes on for as long as it likes.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let starts_as = |value: &HeaderValue, prefix: &[u8]| {
        let start = value.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        starts_as(value, b"text/event-stream") || starts_as(value, b"application/grpc")
    })
}

/// Removes what learners may not say: `x-serin-*`, what any pool sets, and of an untrusted peer the forwarded headers
/// and its request id.
pub(super) fn strip_claims(headers: &mut HeaderMap, rules: &Rules, trusted: bool) {
    let forbidden = |name: &HeaderName| {
        let name = name.as_str();
        is_ours(name) || is_claimed(name, rules) || !trusted && is_forwarded(name)
    };
    // Almost always none, so nothing is collected.
    while let Some(name) = headers.keys().find(|name| forbidden(name)).cloned() {
        headers.remove(name);
    }
}

/// Says who asked, by which name, over what, and gives the request its ids; answers with that of its trace. After
/// `strip_claims`.
pub(super) fn forward(headers: &mut HeaderMap, peer: &Peer, dice: Dice) -> Option<TraceId> {
    let seen = Seen::of(headers);
    headers.reserve(SAID);
    forwarded_for(headers, seen, peer);
    if !seen.any(Seen::FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme));
    }
    let host = headers.get(HOST).cloned();
    if let Some(host) = &host
        && !seen.any(Seen::FORWARDED_HOST)
    {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if seen.any(Seen::FORWARDED) {
        forwarded(headers, peer, host.as_ref());
    }
    ids::give(headers, seen, dice)
}

// What a trusted peer said is extended; what any other said is gone by now.
fn forwarded_for(headers: &mut HeaderMap, seen: Seen, peer: &Peer) {
    if !seen.any(Seen::FORWARDED_FOR) {
        headers.insert(X_FORWARDED_FOR, peer.address.clone());
        return;
    }
    let joined = join(headers, &X_FORWARDED_FOR, peer.address.as_bytes());
    headers.insert(
        X_FORWARDED_FOR,
        joined.unwrap_or_else(|| peer.address.clone()),
    );
}

fn forwarded(headers: &mut HeaderMap, peer: &Peer, host: Option<&HeaderValue>) {
    let mut element = format!("for={};proto={}", peer.node, peer.scheme).into_bytes();
    if let Some(host) = host {
        element.extend_from_slice(b";host=\"");
        element.extend(
            host.as_bytes()
                .iter()
                .filter(|byte| !matches!(byte, b'"' | b'\\')),
        );
        element.push(b'"');
    }
    if let Some(joined) = join(headers, &FORWARDED, &element) {
        headers.insert(FORWARDED, joined);
    }
}

fn join(headers: &HeaderMap, name: &HeaderName, last: &[u8]) -> Option<HeaderValue> {
    let mut joined = Vec::new();
    for line in headers.get_all(name) {
        joined.extend_from_slice(line.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(last);
    HeaderValue::from_bytes(&joined).ok()
}

fn named_by(headers: &HeaderMap, list: &HeaderName) -> Vec<HeaderName> {
    let lines = headers.get_all(list).iter();
    let tokens = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    tokens
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect()
}

fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    PROTECTED.contains(&name) || is_ours(name) || starts_as(name, "x-forwarded-")
}

fn says_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|&byte| byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn is_ours(name: &str) -> bool {
    starts_as(name, "x-serin-")
}

fn is_forwarded(name: &str) -> bool {
    starts_as(name, "x-forwarded-")
        || same(name, "forwarded")
        || same(name, "x-request-id")
        || same(name, "x-real-ip")
}

fn is_claimed(name: &str, rules: &Rules) -> bool {
    rules.claimed_lengths & (1 << name.len().min(63)) != 0
        && rules.claimed.iter().any(|claimed| same(name, claimed))
}

// Header names are in lower case; `_` counts as `-`, as it does for servers that put them into variables.
fn starts_as(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && same(&name[..prefix.len()], prefix)
}

fn same(name: &str, dashed: &str) -> bool {
    let dash = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == dashed.len()
        && name
            .bytes()
            .zip(dashed.bytes())
            .all(|(have, want)| dash(have) == want)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::ids::{TRACEPARENT, X_REQUEST_ID};
    use super::*;
    use crate::config::{AccessLog, Limits, Overload, Parents, ServerTimeouts, Tracing};
    use crate::rollout::weight::Weight;
    use crate::upstream::admission::Admission;

    pub(in crate::proxy) const DICE: Dice = Dice {
        trace: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        span: 1,
    };

    pub(in crate::proxy) fn parse(text: &str) -> HeaderMap {
        let line = |line: &str| {
            let (name, value) = line.split_once(':').expect("name: value");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_str(value.trim()).expect("a value"))
        };
        text.split('|')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(line)
            .collect()
    }

    pub(in crate::proxy) fn print(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        lines.sort();
        lines.join(" | ")
    }

    fn rules(claimed: &[&str]) -> Rules {
        let second = Duration::from_secs(1);
        let overload = Overload {
            in_flight: 0,
            queued: 0,
            wait: Duration::from_secs(1),
            adaptive: false,
        };
        Rules {
            admission: Arc::new(Admission::starting(&overload)),
            trusted: Vec::new(),
            limits: Limits {
                head_bytes: 0,
                headers: 0,
                target_bytes: 0,
                body_bytes: 0,
            },
            timeouts: ServerTimeouts {
                first_byte: second,
                head: second,
                body_idle: second,
                write_idle: second,
                keep_alive: second,
                stream_idle: second,
                drain_delay: second,
                idle_grace: second,
                drain: second,
            },
            access: AccessLog::Off,
            tracing: Tracing {
                collector: None,
                share: Weight::ZERO,
                parents: Parents::All,
            },
            claimed: claimed.iter().map(|&name| name.into()).collect(),
            claimed_lengths: claimed
                .iter()
                .fold(0, |bits, name| bits | 1 << name.len().min(63)),
        }
    }

    fn peer() -> Peer {
        Peer {
            address: HeaderValue::from_static("192.0.2.1"),
            node: "192.0.2.1".to_owned(),
            scheme: "http",
        }
    }

    #[test]
    fn hop_by_hop_headers_stay_behind() {
        let check = |before: &str, after: &str| {
            let mut headers = parse(before);
            let seen = Seen::of(&headers);
            check_hops(&headers, seen).expect(before);
            strip_request_hops(&mut headers, seen);
            assert_eq!(print(&headers), after, "{before}");
        };
        check("a: 1 | connection: close", "a: 1");
        check(
            "a: 1 | connection: keep-alive, a | keep-alive: timeout=5",
            "",
        );
        check("a: 1 | b: 2 | connection: A | connection: b", "");
        check(
            "proxy-connection: x | proxy-authorization: y | upgrade: h2c | connection: upgrade",
            "",
        );
        check("transfer-encoding: chunked | trailer: x", "trailer: x");
        check("te: trailers, deflate | connection: te", "te: trailers");
        check("te: deflate", "");
    }

    #[test]
    fn connection_may_not_name_what_is_not_its_own() {
        for name in [
            "host",
            "Content-Length",
            "x-forwarded-for",
            "X_Forwarded_Proto",
            "forwarded",
            "x-serin-pool",
            "cookie",
        ] {
            let headers = parse(&format!("connection: close, {name}"));
            assert!(check_hops(&headers, Seen::of(&headers)).is_err(), "{name}");
        }
        let mut headers = parse(
            "connection: content-length, a | content-length: 3 | a: 1 | keep-alive: x | x-serin-error: y",
        );
        strip_answer_hops(&mut headers);
        assert_eq!(print(&headers), "content-length: 3");
    }

    #[test]
    fn a_trailer_is_nothing_that_a_head_alone_may_say() {
        let rules = rules(&["x-cohort"]);
        let check = |trailer: &str, expected: bool| {
            let headers = parse(&format!("trailer: x-sum, {trailer}"));
            assert_eq!(
                check_trailer(&headers, Seen::of(&headers), &rules).is_ok(),
                expected,
                "{trailer}"
            );
        };
        check("grpc-status", true);
        check("", true);
        for name in [
            "Content-Length",
            "transfer-encoding",
            "host",
            "te",
            "authorization",
            "cookie",
            "x-forwarded-for",
            "X_Forwarded_For",
            "x-real-ip",
            "x-serin-pool",
            "x_cohort",
            "trailer",
        ] {
            check(name, false);
        }
    }

    #[test]
    fn what_learners_may_not_say_is_removed() {
        let rules = rules(&["x-cohort"]);
        let check = |trusted: bool, before: &str, after: &str| {
            let mut headers = parse(before);
            strip_claims(&mut headers, &rules, trusted);
            assert_eq!(print(&headers), after, "{before}");
        };
        check(
            true,
            "x-serin-pool: a | x_serin_pool: b | x-cohort: c | x_cohort: d | x-cohorts: e",
            "x-cohorts: e",
        );
        check(
            false,
            "x-forwarded-for: 1 | x_forwarded_for: 2 | forwarded: 3 | x-forwarded-prefix: 4 | x-request-id: 5",
            "",
        );
        check(
            true,
            "x-forwarded-for: 1 | x-request-id: 5",
            "x-forwarded-for: 1 | x-request-id: 5",
        );
        check(false, "x-real-ip: 1 | accept: 2", "accept: 2");
    }

    #[test]
    fn forwarded_headers_say_who_asked() {
        let check = |before: &str, after: &str| {
            let mut headers = parse(before);
            headers.insert(X_REQUEST_ID, HeaderValue::from_static("id"));
            forward(&mut headers, &peer(), DICE);
            headers.remove(TRACEPARENT);
            headers.remove(X_REQUEST_ID);
            assert_eq!(print(&headers), after, "{before}");
        };
        check(
            "host: a",
            "host: a | x-forwarded-for: 192.0.2.1 | x-forwarded-host: a | x-forwarded-proto: http",
        );
        check(
            "host: a | x-forwarded-for: 1, 2 | x-forwarded-for: 3 | x-forwarded-proto: https | x-forwarded-host: b",
            "host: a | x-forwarded-for: 1, 2, 3, 192.0.2.1 | x-forwarded-host: b | x-forwarded-proto: https",
        );
        check(
            "host: a | forwarded: for=1",
            "forwarded: for=1, for=192.0.2.1;proto=http;host=\"a\" | host: a | x-forwarded-for: 192.0.2.1 | \
             x-forwarded-host: a | x-forwarded-proto: http",
        );
    }
}
