//! What a client's bytes must look like: who guesses, smuggles.

use crate::support::{Proxy, Upstream, only, reply};

fn any() -> (Upstream, Proxy) {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    (upstream, proxy)
}

const GET: &str = "GET /first HTTP/1.1\r\nhost: a\r\n\r\n";

/// Bytes that are refused, the status, and the reason.
const REFUSED: &[(&str, u16, &str)] = &[
    ("GET / HTTP/1.1\nhost: a\n\n", 400, "bad_request"),
    ("GET / HTTP/1.1\r\nhost: a\n\r\n", 400, "bad_request"),
    ("GET /#f HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad_request"),
    (
        "GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r2\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        505,
        "version_not_supported",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        400,
        "bad_request",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx",
        400,
        "bad_request",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        400,
        "bad_request",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "not_implemented",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
];

#[test]
fn what_is_ambiguous_is_refused_and_never_reaches_upstream() {
    let (upstream, proxy) = any();
    for &(bytes, status, reason) in REFUSED {
        let mut client = proxy.client();
        client.send(bytes);
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (status, Some(reason)),
            "{bytes:?}"
        );
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn what_came_whole_before_it_is_answered_first() {
    let (upstream, proxy) = any();
    for (nth, &(bytes, status, reason)) in REFUSED.iter().enumerate() {
        let mut client = proxy.client();
        client.send(&format!("{GET}{bytes}"));
        assert_eq!(client.answer().status, 200, "{bytes:?}");
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (status, Some(reason)),
            "{bytes:?}"
        );
        assert!(client.is_closed(), "{bytes:?}");
        assert_eq!(upstream.requests(), nth + 1, "{bytes:?}");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_the_same_head() {
    let (upstream, proxy) = any();
    let mut client = proxy.client();
    let request = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab";
    for byte in format!("{GET}{request}").as_bytes() {
        client.send_bytes(&[*byte]);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 200);
    assert_eq!(upstream.requests(), 2);
    assert!(upstream.last_head().starts_with("POST /a "));
}

#[test]
fn a_body_that_breaks_off_its_framing_is_the_clients_fault_and_nothing_behind_it_is_a_request() {
    let (upstream, proxy) = any();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "1\nx\r\n0\r\n\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "1;\r\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\r\n0\r\nhost: b\r\n\r\n",
        "11111111111111111\r\nx",
    ] {
        let mut client = proxy.client();
        client.send(&format!("{head}{body}{GET}"));
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (400, Some("bad_request")),
            "{body:?}"
        );
        assert!(client.is_closed(), "{body:?}");
    }
    // The request had begun; what follows its broken body never was one.
    assert!(!upstream.last_head().starts_with("GET /first "));
}
