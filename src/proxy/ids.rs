//! The ids of a request: its own and that of the trace that it belongs to, as its headers say them (W3C Trace Context).
//!
//! What came from a client is believed where it is whole and said once; what is missing is made. Tells no collector.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::seen::Seen;
use crate::telemetry::TraceId;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Random bits for the ids of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice {
    pub(super) trace: u128,
    pub(super) span: u64,
}

/// Keeps the ids that a request has, and makes those that it lacks; answers with its trace's.
// Made ones are the same random number, and lie in one allocation.
pub(super) fn give(headers: &mut HeaderMap, seen: Seen, dice: Dice) -> Option<TraceId> {
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
    let mut text = *b"00-                                -                -00";
    // An id of zeros only is not valid.
    let trace = dice.trace.max(1).to_be_bytes();
    let span = dice.span.max(1).to_be_bytes();
    for (place, byte) in text[3..35].chunks_exact_mut(2).zip(trace) {
        place.copy_from_slice(&hex(byte));
    }
    for (place, byte) in text[36..52].chunks_exact_mut(2).zip(span) {
        place.copy_from_slice(&hex(byte));
    }
    Bytes::copy_from_slice(&text)
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

#[cfg(test)]
mod tests {
    use super::super::headers::tests::{DICE, parse, print};
    use super::*;

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
            let trace = give(&mut headers, seen, DICE).expect("an id").to_string();
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
