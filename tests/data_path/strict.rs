//! What a client's bytes must look like: who guesses, smuggles. The cases are `tests/data/strictness/http*.txt`.
//!
//! Promised of every case: upstream sees no request that the client did not send as one.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::certificates::Ca;
use crate::support::strictness::corpus::{Case, Step, Upstream, Wanted, load};
use crate::support::strictness::http1::{Answer, BEHIND, Pace, Until, play, request};
use crate::support::strictness::http2::{Session, What};
use crate::support::strictness::recorder::{Message, Recorder, Seen};
use crate::support::strictness::{Wire, find};
use crate::support::{PATIENCE, Proxy, only};

const HTTP1: &str = "http1.txt";
const HTTP2: &str = "http2.txt";
const CONFORMANCE: &str = "http2_conformance.txt";

/// Longer cases are not sent byte by byte.
const SHORT: usize = 2_000;

fn any() -> (Recorder, Proxy) {
    let recorder = Recorder::start();
    let proxy = Proxy::start("", &only(&[recorder.address()], ""));
    (recorder, proxy)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("it can be set");
    stream
}

#[test]
fn the_corpus_is_large_and_says_what_upstream_may_see_and_where_it_deviates() {
    let (http1, http2) = (load(HTTP1), load(HTTP2));
    assert!(http1.len() + http2.len() >= 150);
    for case in http1.iter().chain(&http2) {
        assert!(case.upstream.is_some(), "{}", case.name);
    }
    let told = std::fs::read_to_string("docs/STRICTNESS.md").expect("the page is there");
    for case in http1.iter().chain(&http2) {
        let is_told = case.deviates.is_none() || told.contains(&format!("- {} (", case.name));
        assert!(is_told, "{}: docs/STRICTNESS.md does not tell", case.name);
    }
    for cases in [http1, http2, load(CONFORMANCE)] {
        let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "names are told apart");
    }
}

#[test]
fn each_request_of_http1_gets_its_answer_and_upstream_what_was_sent() {
    check_http1(b"", Pace::AtOnce);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_the_same_request() {
    check_http1(b"", Pace::ByteByByte);
}

#[test]
fn what_came_whole_before_it_is_answered_first() {
    check_http1(b"GET /first HTTP/1.1\r\nhost: a\r\n\r\n", Pace::AtOnce);
}

fn check_http1(before: &[u8], pace: Pace) {
    let (recorder, proxy) = any();
    let mut faults = Vec::new();
    for case in load(HTTP1) {
        let bytes = [before, &request(&case), BEHIND].concat();
        if pace == Pace::ByteByByte && bytes.len() > SHORT {
            continue;
        }
        let mut expected = answers(&case);
        if !before.is_empty() {
            expected.insert(0, ok());
        }
        let stays = !ends(&case, "closed");
        let until = if stays {
            expected.push(ok());
            Until::Answers(expected.len())
        } else {
            Until::End
        };
        let mut wire = connect(proxy.address());
        let heard = play(&mut wire, &bytes, pace, until, PATIENCE);
        let is_right = heard.answers == expected && heard.is_closed != stays;
        drop(wire);
        let mut wanted = Vec::new();
        if !before.is_empty() {
            wanted.push(get("/first"));
        }
        if stays {
            wanted.push(get("/behind"));
        }
        let seen = recorder.take(PATIENCE);
        if !is_right {
            faults.push(format!("{}: {heard:?}", case.name));
        }
        faults.extend(judge(&case, &seen, &wanted));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_request_of_http2_gets_its_answer_and_upstream_what_was_sent() {
    check_http2(HTTP2);
}

#[test]
fn frames_and_header_blocks_are_read_as_the_standards_say() {
    check_http2(CONFORMANCE);
}

fn check_http2(corpus: &str) {
    let ca = Ca::new();
    ca.sign("a", "DNS:a", 30);
    let recorder = Recorder::start();
    let secured = format!(
        "{{ address = \"127.0.0.2:0\", tls = {} }}",
        ca.keys("a", "")
    );
    let listen = format!("\"127.0.0.1:0\", {secured}");
    let proxy = Proxy::start_listening(&listen, &only(&[recorder.address()], ""));
    let mut faults = Vec::new();
    for case in load(corpus) {
        for (address, scheme) in proxy.addresses().iter().zip(["http", "https"]) {
            let stream = connect(*address);
            let mut wire: Box<dyn Wire> = match scheme {
                "http" => Box::new(stream),
                _ => Box::new(ca.secure_blocking(stream, "a", &["h2"])),
            };
            let said = play_http2(&mut *wire, scheme, &case);
            drop(wire);
            let seen = recorder.take(PATIENCE);
            let found = said.into_iter().chain(judge(&case, &seen, &[]));
            faults.extend(found.map(|fault| format!("{scheme}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

// What went wrong, if anything did.
fn play_http2(wire: &mut dyn Wire, scheme: &'static str, case: &Case) -> Option<String> {
    let mut session = Session::new(wire, scheme, Duration::from_secs(3));
    if let Err(why) = session.play(case) {
        return Some(format!("{}: {why}", case.name));
    }
    let is_over = session.has(|what| matches!(what, What::GoAway(_) | What::Closed));
    if is_over {
        let open = !session.is_closed();
        return open.then(|| format!("{}: it does not end: {:?}", case.name, session.heard));
    }
    let silent = !session.is_alive();
    silent.then(|| format!("{}: no PING is answered: {:?}", case.name, session.heard))
}

fn ok() -> Answer {
    Answer {
        status: 200,
        reason: None,
    }
}

fn get(target: &str) -> Wanted {
    Wanted {
        line: format!("GET {target}"),
        body: Vec::new(),
    }
}

// The answers that a case of HTTP/1 expects, in their order.
fn answers(case: &Case) -> Vec<Answer> {
    let said = case.steps.iter().filter_map(|step| match step {
        Step::Expect(text) if !matches!(text.as_str(), "closed" | "open") => Some(text),
        Step::Expect(_) | Step::Send(_) => None,
    });
    said.map(|text| {
        let (status, reason) = text.split_once(' ').unwrap_or((text, ""));
        Answer {
            status: status.parse().expect("a status"),
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        }
    })
    .collect()
}

fn ends(case: &Case, with: &str) -> bool {
    matches!(case.steps.last(), Some(Step::Expect(text)) if text == with)
}

// What upstream saw that it may not see, or did not see; `beside` are whole requests around the case.
fn judge(case: &Case, seen: &[Seen], beside: &[Wanted]) -> Vec<String> {
    let mut wanted = beside.to_vec();
    match &case.upstream {
        None => return Vec::new(),
        Some(Upstream::Requests(requests)) => wanted.extend(requests.iter().cloned()),
        Some(Upstream::Nothing | Upstream::Begun) => {}
    }
    let mut faults = Vec::new();
    let mut last = None;
    // A connection that was never used says nothing.
    for seen in seen.iter().filter(|seen| !seen.bytes.is_empty()) {
        let request = match &seen.message {
            Message::Whole(request) => request,
            Message::Partial if case.upstream == Some(Upstream::Begun) => continue,
            Message::Partial | Message::Ambiguous => {
                let bytes = seen.bytes.escape_ascii().to_string();
                faults.push(format!("{}: upstream saw {bytes:.300}", case.name));
                continue;
            }
        };
        let found = wanted
            .iter()
            .position(|wanted| wanted.line == request.line && wanted.body == request.body);
        match found {
            Some(at) => {
                let wanted = wanted.swap_remove(at);
                if !beside.contains(&wanted) {
                    last = Some(request);
                }
            }
            None => faults.push(format!("{}: upstream saw {request:?}", case.name)),
        }
    }
    for wanted in wanted {
        faults.push(format!("{}: upstream did not see {wanted:?}", case.name));
    }
    for line in &case.sees {
        let has = last.is_some_and(|request| {
            let mut lines = request.head.lines();
            lines.any(|have| have.trim_end() == line)
        });
        if !has {
            faults.push(format!("{}: no {line:?} in {last:?}", case.name));
        }
    }
    for text in &case.lacks {
        if seen
            .iter()
            .any(|seen| find(&seen.bytes.to_ascii_lowercase(), text.as_bytes()).is_some())
        {
            faults.push(format!("{}: upstream saw {text:?}", case.name));
        }
    }
    faults
}
