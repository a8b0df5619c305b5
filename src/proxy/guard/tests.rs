//! What passes and what does not, and that hyper frames what passes in the same way.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LIMITS: Limits = Limits {
    head_bytes: 1000,
    headers: 20,
    target_bytes: 100,
    body_bytes: 0,
};

/// Gives the bytes in pieces, as a reader would: what did not pass comes again with more behind it. Answers with how many
/// passed and what was refused.
fn feed(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (usize, Option<Refused>) {
    let mut guard = Guard::new(LIMITS);
    let (mut passed, mut given) = (0, 0);
    while given < bytes.len() {
        given = (given + piece()).min(bytes.len());
        let taken = guard.take(&bytes[passed..given]);
        passed += taken.passed;
        if taken.refused.is_some() {
            return (passed, taken.refused);
        }
    }
    (passed, None)
}

fn passes(text: &str) {
    for piece in [1, 7, usize::MAX] {
        assert_eq!(
            feed(text.as_bytes(), || piece),
            (text.len(), None),
            "{text:?} in pieces of {piece}"
        );
    }
}

/// `good` passes, what follows it is refused.
fn refused(good: &str, bad: &str, status: u16, why: &str) {
    for piece in [1, 7, usize::MAX] {
        let text = format!("{good}{bad}");
        let (passed, refused) = feed(text.as_bytes(), || piece);
        let refused = refused.unwrap_or_else(|| panic!("{text:?} passed"));
        assert_eq!(passed, good.len(), "{text:?} in pieces of {piece}");
        assert_eq!(refused.fault.status().as_u16(), status, "{text:?}");
        assert!(
            refused.fault.to_string().contains(why),
            "{text:?}: {}",
            refused.fault
        );
    }
}

fn head_refused(head: &str, status: u16, why: &str) {
    refused("", head, status, why);
    // The same behind a whole request, and behind one with a body.
    refused("GET / HTTP/1.1\r\nhost: a\r\n\r\n", head, status, why);
    let body = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    refused(body, head, status, why);
}

#[test]
fn behind_a_head_that_asks_for_another_protocol_nothing_passes_until_that_is_decided() {
    for upgrade in ["Upgrade: x", "UPGRADE:"] {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n\r\n");
        for next in ["\0", "GET /b HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let text = format!("{head}{next}");
            for piece in [1, 7, usize::MAX] {
                assert_eq!(
                    feed(text.as_bytes(), || piece),
                    (head.len(), None),
                    "{text:?}"
                );
            }
        }
        let mut guard = Guard::new(LIMITS);
        assert_eq!(guard.take(head.as_bytes()).passed, head.len());
        assert!(guard.is_paused());
        guard.resume();
        let next = guard.take(b"\0");
        assert!(next.passed == 0 && next.refused.is_some(), "{next:?}");
    }
    // A body comes first, and HTTP/1.0 has one protocol.
    for head in [
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: x\r\ncontent-length: 1\r\n\r\nb",
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\nupgrade: x\r\n\r\n",
    ] {
        passes(&format!("{head}GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
}

#[test]
fn exact_messages_pass_whatever_their_pieces() {
    passes("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    passes("GET / HTTP/1.0\r\n\r\n");
    passes("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    passes(
        "GET http://a/b?c=%20;d HTTP/1.1\r\nhost:a\r\nx:\r\ny: \t z z \t\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    passes("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab\r\ncGET / HTTP/1.1\r\n\r\n");
    passes(
        "PUT / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3\r\na\rb\r\n00A;x\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    passes(
        "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1 ;a = b;c=\"d\\\";\";e\r\nx\r\n0;q=\"\"\r\nx-sum: 1\r\nb:\r\n\r\n",
    );
    passes("M!#$%&'*+-.^_`|~9 / HTTP/1.1\r\n\r\n");
}

#[test]
fn every_fault_of_a_head_is_refused() {
    let line = |line: &str| format!("{line}\r\nhost: a\r\n\r\n");
    for (text, status, why) in [
        ("GET /#f HTTP/1.1", 400, "fragment"),
        ("GET / x HTTP/1.1", 400, "version"),
        ("GET  / HTTP/1.1", 400, "no target"),
        ("GET /\u{e9} HTTP/1.1", 400, "not ASCII"),
        ("GET /\u{1} HTTP/1.1", 400, "control"),
        ("GET /\t HTTP/1.1", 400, "control"),
        ("GET ;/ HTTP/1.1", 400, "malformed target"),
        ("GET x/y HTTP/1.1", 400, "malformed target"),
        ("G\u{7f}T / HTTP/1.1", 400, "token"),
        ("G(T / HTTP/1.1", 400, "token"),
        (" GET / HTTP/1.1", 400, "token"),
        ("GET /", 400, "version"),
        ("GET", 400, "no target"),
        ("GET / HTTP/1.1 ", 400, "version"),
        ("GET / http/1.1", 400, "version"),
        ("GET / HTTP/1.10", 400, "version"),
        ("GET / HTTP/1,1", 400, "version"),
        ("GET / HTTP/2.0", 505, "version"),
        ("GET / HTTP/1.2", 505, "version"),
        ("GET / HTTP/0.9", 505, "version"),
    ] {
        head_refused(&line(text), status, why);
    }
    let header = |header: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{header}\r\n\r\n");
    for (text, status, why) in [
        ("x: a\r\n b", 400, "folded"),
        ("x: a\r\n\tb: c", 400, "folded"),
        ("x", 400, "colon"),
        (": a", 400, "name"),
        ("x : a", 400, "name"),
        ("x\t: a", 400, "name"),
        ("x y: a", 400, "name"),
        ("x\u{e9}: a", 400, "name"),
        ("x: a\rb", 400, "control"),
        ("x: a\r", 400, "control"),
        ("x: a\0b", 400, "control"),
        ("x: a\u{1b}b", 400, "control"),
        ("x: a\u{7f}b", 400, "control"),
        ("content-length: 1\r\ncontent-length: 1", 400, "two content"),
        ("content-length: 1, 1", 400, "content-length"),
        ("content-length: +1", 400, "content-length"),
        ("content-length: -1", 400, "content-length"),
        ("content-length: 0x1", 400, "content-length"),
        ("content-length: 1 1", 400, "content-length"),
        ("content-length:", 400, "content-length"),
        (
            "content-length: 18446744073709551616",
            400,
            "content-length",
        ),
        (
            "content-length: 1\r\ntransfer-encoding: chunked",
            400,
            "beside",
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 0",
            400,
            "beside",
        ),
        (
            "transfer-encoding: gzip\r\ncontent-length: 0",
            400,
            "beside",
        ),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            400,
            "two transfer",
        ),
        ("transfer-encoding: gzip", 501, "coding"),
        ("transfer-encoding: identity", 501, "coding"),
        ("transfer-encoding: gzip, chunked", 501, "coding"),
        ("transfer-encoding: chunked, chunked", 501, "coding"),
        ("transfer-encoding: \"chunked\"", 501, "coding"),
        ("transfer-encoding: xchunked", 501, "coding"),
        ("transfer-encoding: \u{b}chunked", 400, "control"),
        ("transfer-encoding:", 501, "coding"),
    ] {
        head_refused(&header(text), status, why);
    }
    head_refused(
        "GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
        "HTTP/1.0",
    );
    head_refused("GET / HTTP/1.1\nhost: a\r\n\r\n", 400, "CR LF");
    head_refused("GET / HTTP/1.1\r\nhost: a\n\n", 400, "CR LF");
    head_refused("\n", 400, "CR LF");
    refused("", "\r\n\r\n\r\n", 400, "empty lines");
    head_refused("\u{16}\u{3}\u{1}", 400, "token");
}

#[test]
fn heads_over_their_limits_are_refused_before_they_end() {
    let long = "x".repeat(2_000);
    head_refused(&format!("GET /{long}"), 414, "target");
    head_refused(
        &format!("GET /{} HTTP/1.1\r\n", &long[..100]),
        414,
        "target",
    );
    passes(&format!("GET /{} HTTP/1.1\r\n\r\n", &long[..99]));
    head_refused(&format!("GET / HTTP/1.1\r\nx: {long}"), 431, "headers");
    let many = "x: y\r\n".repeat(21);
    head_refused(&format!("GET / HTTP/1.1\r\n{many}"), 431, "headers");
    passes(&format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(20)));
    // "GET / HTTP/1.1" and three ends of lines are 20 bytes, "x: " is 3.
    passes(&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", &long[..977]));
    head_refused(
        &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", &long[..978]),
        431,
        "headers",
    );
}

#[test]
fn every_fault_of_a_chunk_is_refused_at_its_byte() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (good, bad, why) in [
        ("", "\r\n", "size"),
        ("", "g\r\n", "size"),
        ("", "-1\r\n", "size"),
        ("", " 1\r\n", "size"),
        ("0", "x1\r\n", "size"),
        ("1 ", "\r\nx", "size"),
        ("1", "\n", "size"),
        ("1\r", "x", "CR LF"),
        ("1;a\r", "x", "CR LF"),
        ("1;a", "\n", "extension"),
        ("1;", "\r\n", "extension"),
        ("1;a=", "\r\n", "extension"),
        ("1;a=\"b", "\r\n", "extension"),
        ("1;a=\"b\"", "c\r\n", "extension"),
        ("1;", "\0", "extension"),
        ("0000000000000000", "0\r\n", "size"),
        ("2\r\nab", "c", "longer"),
        ("2\r\nab", "\n", "longer"),
        ("2\r\nab\r", "\r", "longer"),
        ("1\r\na\r\n", "\r\n", "size"),
        ("0\r\nx", "\n", "CR LF"),
        ("0\r\nx\r", "\n", "colon"),
        ("0\r\n x: y\r", "\n", "folded"),
        ("0\r\nx: \0\r", "\n", "control"),
        ("0\r\nContent-Length: 1\r", "\n", "belongs in the head"),
        ("0\r\ntransfer-encoding: x\r", "\n", "belongs in the head"),
    ] {
        refused(&format!("{head}{good}"), bad, 400, why);
    }
    let long = "y".repeat(1_000);
    refused(
        &format!("{head}0\r\nx: {}", &long[..997]),
        "y",
        431,
        "headers",
    );
    let extension = format!("1;{}", "x".repeat(16 * 1024 - 1));
    refused(&format!("{head}{extension}"), "x", 400, "over the limit");
    let (_, found) = feed(format!("{head}zz").as_bytes(), || usize::MAX);
    assert!(found.is_some_and(|refused| refused.within_body));
    let (_, found) = feed(b"zz", || usize::MAX);
    assert_eq!(found, None, "a method may be any token");
}

// === the same bytes for hyper ===

/// What hyper makes of bytes: of each message its target and body, `None` for a body that broke off.
async fn by_hyper(bytes: Vec<u8>) -> Vec<(String, Option<Bytes>)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (mut answers, mut requests) = tokio::io::split(theirs);
    let record = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let record = Arc::clone(&record);
        async move {
            let target = request.uri().to_string();
            let body = request.into_body().collect().await;
            let body = body.ok().map(http_body_util::Collected::to_bytes);
            record.lock().expect("not poisoned").push((target, body));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let server = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(ours), service);
    let client = async move {
        requests
            .write_all(&bytes)
            .await
            .expect("the buffer is large");
        requests.shutdown().await.expect("open");
    };
    let reader = async move {
        let mut answer = Vec::new();
        _ = answers.read_to_end(&mut answer).await;
    };
    _ = tokio::join!(server, client, reader);
    let seen = seen.lock().expect("not poisoned");
    seen.clone()
}

/// A message that a careful client could send, with where it ends up: its target and body.
fn message(dice: &mut StdRng, number: usize) -> (Vec<u8>, (String, Option<Bytes>)) {
    let body: Vec<u8> = (0..dice.random_range(0..40))
        .map(|_| dice.random())
        .collect();
    let mut bytes = format!("POST /{number} HTTP/1.1\r\nhost: a\r\n").into_bytes();
    for _ in 0..dice.random_range(0..3) {
        bytes.extend_from_slice(b"x-y:\t v \r\n");
    }
    match dice.random_range(0..3) {
        0 => {
            bytes.extend_from_slice(b"\r\n");
            return (bytes, (format!("/{number}"), Some(Bytes::new())));
        }
        1 => {
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(&body);
        }
        _ => {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            let mut rest = body.as_slice();
            while !rest.is_empty() {
                let (chunk, later) = rest.split_at(dice.random_range(1..=rest.len()));
                let extension = ["", ";a", " ; b = \"c\""][dice.random_range(0..3)];
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
                rest = later;
            }
            bytes.extend_from_slice(
                [&b"0\r\n\r\n"[..], b"0\r\nt: u\r\n\r\n"][dice.random_range(0..2)],
            );
        }
    }
    (bytes, (format!("/{number}"), Some(Bytes::from(body))))
}

const SEED: u64 = 0x5e71_0601;

#[tokio::test]
async fn hyper_and_the_guard_see_the_same_messages() {
    println!("seed {SEED}");
    let mut dice = StdRng::seed_from_u64(SEED);
    for _ in 0..300 {
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        for number in 0..dice.random_range(1..5) {
            let (message, meant) = message(&mut dice, number);
            bytes.extend(message);
            sent.push(meant);
        }
        let largest = dice.random_range(1..200);
        let mut pieces = StdRng::seed_from_u64(dice.random());
        let fed = feed(&bytes, || pieces.random_range(1..=largest));
        assert_eq!(fed, (bytes.len(), None), "{}", bytes.escape_ascii());
        assert_eq!(by_hyper(bytes).await, sent);
    }
}

#[tokio::test]
async fn what_passes_of_spoilt_bytes_is_whole_messages_or_one_that_hyper_sees_cut() {
    println!("seed {SEED}");
    let mut dice = StdRng::seed_from_u64(SEED + 1);
    let (mut refusals, mut whole) = (0, 0);
    for _ in 0..4_000 {
        let mut bytes = Vec::new();
        for number in 0..2 {
            bytes.extend(message(&mut dice, number).0);
        }
        let spoilt = dice.random_range(0..bytes.len());
        match dice.random_range(0..3) {
            0 => bytes[spoilt] = b"\r\n\0 :;,\t\"#0x"[dice.random_range(0..12)],
            1 => _ = bytes.remove(spoilt),
            _ => bytes.insert(spoilt, b"\r\n\0 :;,\t\"#0x"[dice.random_range(0..12)]),
        }
        if bytes.windows(8).any(|version| version == b"HTTP/1.0") {
            continue; // hyper reads nothing behind it.
        }
        let (passed, refused) = feed(&bytes, || usize::MAX);
        let in_body = refused.is_some_and(|refused| refused.within_body);
        refusals += usize::from(refused.is_some());
        whole += usize::from(passed == bytes.len());
        // The guard's own count of messages, from the ends it finds when it is given byte by byte.
        let mut guard = Guard::new(LIMITS);
        let (mut heads, mut start, mut open) = (0_usize, 0, false);
        for end in 1..=passed {
            let taken = guard.take(&bytes[start..end]);
            start += taken.passed;
            let now_open = !matches!(guard.state, State::Head(_));
            let head_passed = taken.passed > 0 && !open;
            heads += usize::from(head_passed);
            open = now_open;
        }
        let seen = by_hyper(bytes[..passed].to_vec()).await;
        let broken = seen.iter().filter(|(_, body)| body.is_none()).count();
        assert_eq!(seen.len(), heads, "{}", bytes[..passed].escape_ascii());
        assert_eq!(
            broken,
            usize::from(open),
            "{} {in_body}",
            bytes[..passed].escape_ascii()
        );
    }
    assert!(
        refusals > 1_000 && whole > 100,
        "{refusals} refused, {whole} whole"
    );
}
