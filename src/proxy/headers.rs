//! What happens to headers on their way through, both ways: pure functions.
//!
//! Hop-by-hop headers go; what only serin may say is removed from what came and said anew; the rest is left as it is.

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

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
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
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
const ANY_HOP: Seen = Seen::CONNECTION
    .and(Seen::OTHER_HOP)
    .and(Seen::TRANSFER_ENCODING)
    .and(Seen::UPGRADE)
    .and(Seen::TE);

/// The peer of a connection as forwarded headers name it, made once per connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: HeaderValue,
    /// The same as a node of `Forwarded`: quoted and in brackets where it is IPv6 (RFC 7239, 6).
    pub(super) node: String,
    /// What it speaks to us: `http` or `https`.
    pub(super) scheme: &'static str,
}

/// Random bits for the ids of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice {
    pub(super) trace: u128,
    pub(super) span: u64,
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
    ids(headers, seen, dice)
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

// The request id and the trace id are the same random number, and lie in one allocation.
fn ids(headers: &mut HeaderMap, seen: Seen, dice: Dice) -> Option<TraceId> {
    let known = seen
        .any(Seen::TRACEPARENT)
        .then(|| known_trace(headers))
        .flatten();
    let known_id = seen.any(Seen::REQUEST_ID);
    if known.is_some() && known_id {
        return known;
    }
    // https://www.w3.org/TR/trace-context/: version 00, trace id, parent id, flags 00 (not sampled).
    let text = traceparent(dice);
    if !known_id && let Ok(id) = HeaderValue::from_maybe_shared(text.slice(3..35)) {
        headers.insert(X_REQUEST_ID, id);
    }
    if known.is_none()
        && let Ok(trace) = HeaderValue::from_maybe_shared(text)
    {
        headers.insert(TRACEPARENT, trace);
        headers.remove(TRACESTATE);
    }
    known.or_else(|| TraceId::new(dice.trace.max(1)))
}

// What the request belongs to already.
fn known_trace(headers: &HeaderMap) -> Option<TraceId> {
    let mut said = headers.get_all(TRACEPARENT).iter();
    let (first, more) = (said.next()?, said.next());
    let is_valid = more.is_none() && is_traceparent(first);
    TraceId::parse(first.as_bytes().get(3..35).filter(|_| is_valid)?)
}

/// What a client says of the trace that its request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) trace: u128,
    pub(super) parent: u64,
    pub(super) is_sampled: bool,
}

/// `None` where it says nothing, says it twice, or says what is no trace.
pub(super) fn said_trace(headers: &HeaderMap) -> Option<Said> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (line, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    let text = line.to_str().ok().filter(|_| is_traceparent(line))?;
    let number = |digits: Option<&str>| u128::from_str_radix(digits?, 16).ok();
    Some(Said {
        trace: number(text.get(3..35))?,
        parent: u64::try_from(number(text.get(36..52))?).ok()?,
        is_sampled: number(text.get(53..55))? & 1 == 1,
    })
}

fn traceparent(dice: Dice) -> Bytes {
    let mut text = BytesMut::with_capacity(55);
    text.extend_from_slice(b"00-");
    // An id of zeros only is not valid.
    for byte in dice.trace.max(1).to_be_bytes() {
        text.extend_from_slice(&hex(byte));
    }
    text.extend_from_slice(b"-");
    for byte in dice.span.max(1).to_be_bytes() {
        text.extend_from_slice(&hex(byte));
    }
    text.extend_from_slice(b"-00");
    text.freeze()
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]
}

fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let dashes = [2, 35, 52];
    bytes.len() >= 55
        && bytes
            .iter()
            .take(55)
            .enumerate()
            .all(|(at, byte)| match byte {
                b'-' => dashes.contains(&at),
                b'0'..=b'9' | b'a'..=b'f' => !dashes.contains(&at),
                _ => false,
            })
        && &bytes[..2] != b"ff"
        && (bytes.len() == 55 || &bytes[..2] != b"00" && bytes[55] == b'-')
        && bytes[3..35].iter().any(|&byte| byte != b'0')
        && bytes[36..52].iter().any(|&byte| byte != b'0')
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
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::{AccessLog, Limits, Overload, Parents, ServerTimeouts, Tracing};
    use crate::rollout::weight::Weight;
    use crate::upstream::admission::Admission;

    const DICE: Dice = Dice {
        trace: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
        span: 1,
    };

    fn parse(text: &str) -> HeaderMap {
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

    fn print(headers: &HeaderMap) -> String {
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

    #[test]
    fn ids_are_kept_or_made() {
        let made_id = "x-request-id: 0123456789abcdef0123456789abcdef";
        let made = format!(
            "traceparent: 00-0123456789abcdef0123456789abcdef-0000000000000001-00 | {made_id}"
        );
        let good = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let check = |before: &str, after: &str| {
            let mut headers = parse(before);
            let seen = Seen::of(&headers);
            let trace = ids(&mut headers, seen, DICE).expect("an id").to_string();
            assert_eq!(print(&headers), after, "{before}");
            assert!(after.contains(&format!("-{trace}-")), "{trace} of {after}");
        };
        check("", &made);
        check(
            &format!("{good} | tracestate: a=1"),
            &format!("{good} | tracestate: a=1 | {made_id}"),
        );
        check(
            &format!("{good} | x-request-id: mine"),
            &format!("{good} | x-request-id: mine"),
        );
        check(
            "x-request-id: mine",
            &made.replace(made_id, "x-request-id: mine"),
        );
        check(&format!("{good} | {good}"), &made);
        for bad in [
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "x",
        ] {
            check(&format!("traceparent: {bad} | tracestate: a=1"), &made);
        }
    }
}
