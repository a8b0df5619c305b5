//! What a message looks like on the other side.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Proxy, Upstream, only, pool, reply, rollout, wait_for};

// Sends one request and answers with the head that upstream saw, in lower case.
fn seen(server: &str, request: &str) -> String {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start(server, &only(&[upstream.address()], ""));
    assert_eq!(proxy.ask(request).status, 200, "{request}");
    upstream.last_head().to_lowercase()
}

#[test]
fn hop_by_hop_headers_stay_behind_and_forwarded_ones_are_set() {
    let head = seen(
        "",
        "GET http://h.example:81/a?b HTTP/1.1\r\nHost: h.example:81\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\n\
         Keep-Alive: 5\r\nProxy-Authorization: p\r\nUpgrade: h2c\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
         X-Request-Id: forged\r\nX_Serin_Pool: new\r\nAccept: a\r\nAccept: b\r\n\r\n",
    );
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "get /a?b http/1.1");
    for line in [
        "host: h.example:81",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: h.example:81",
    ] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    for gone in [
        "connection",
        "x-mine",
        "keep-alive",
        "proxy-auth",
        "upgrade",
        "6.6.6.6",
        "forged",
        "serin",
    ] {
        assert!(!head.contains(gone), "{gone} is in {head}");
    }
    let accepts: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("accept"))
        .collect();
    assert_eq!(
        accepts,
        [&"accept: a", &"accept: b"],
        "values of one name keep their order"
    );
    let id = lines
        .iter()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .expect("an id");
    assert_eq!(id.len(), 32);
    assert!(head.contains(&format!("traceparent: 00-{id}-")), "{head}");
}

#[test]
fn a_trusted_peer_is_believed() {
    let head = seen(
        "trusted = [\"127.0.0.0/8\"]",
        "GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-request-id: theirs\r\n\r\n",
    );
    for line in [
        "x-forwarded-for: 192.0.2.7, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-request-id: theirs",
    ] {
        assert!(
            head.lines().any(|have| have == line),
            "{line} is not in {head}"
        );
    }
}

#[test]
fn header_case_is_kept_both_ways() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nX-CaSe: Up\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHOST: h\r\nX-cAsE: Down\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(client.rest()).expect("text");
    assert!(answer.contains("X-CaSe: Up"), "{answer}");
    assert!(
        upstream.last_head().contains("X-cAsE: Down"),
        "{}",
        upstream.last_head()
    );
}

#[test]
fn each_of_pipelined_heads_keeps_its_own_case() {
    let is_ours = |line: &&str| line.to_lowercase().starts_with("x-case:");
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some((head, _)) = exchange.request() {
            let line = head.lines().find(is_ours).unwrap_or_default();
            exchange.write(&format!(
                "HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 0\r\n\r\n"
            ));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    let names = ["X-Case", "x-case", "X-CASE", "x-cASE"];
    let ask = |name: &str| format!("GET / HTTP/1.1\r\nhost: h\r\n{name}: 1\r\n");
    let all = names.map(ask).join("\r\n");
    client.send(&format!("{all}connection: close\r\n\r\n"));
    let answers = String::from_utf8(client.rest()).expect("text");
    let seen: Vec<&str> = answers.lines().filter(is_ours).collect();
    assert_eq!(seen, names.map(|name| format!("{name}: 1")), "{answers}");
}

#[test]
fn pools_set_their_headers_and_nobody_else_does() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let more = "request_headers = { x-cohort = \"phase8\" }";
    let text = rollout(&[base.address()], &[new.address()], "").replace(
        &pool("new", &[new.address()], ""),
        &pool("new", &[new.address()], more),
    );
    let mut proxy = Proxy::start("", &text);
    let request = "GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: a\r\nx_cohort: forged\r\nX-Cohort: forged\r\n\r\n";
    proxy.set_weight("100%");
    assert_eq!(proxy.ask(request).text(), "new");
    assert!(
        new.last_head().to_lowercase().contains("x-cohort: phase8"),
        "{}",
        new.last_head()
    );
    proxy.set_weight("0%");
    assert_eq!(proxy.ask(request).text(), "base");
    for head in [new.last_head(), base.last_head()] {
        assert!(!head.contains("forged"), "{head}");
    }
    assert!(!base.last_head().contains("cohort"), "{}", base.last_head());
}

#[test]
fn head_has_a_length_and_no_body() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nhost: h\r\n\r\n");
        let head = client.head();
        assert!(head.contains("content-length: 5"), "{head}");
        assert!(client.is_silent());
    }
    assert_eq!(upstream.connections(), 1, "its connection is kept");
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let (sent, bodies) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        let head = exchange.head().expect("a request");
        let body = exchange.until(b"x-sum: 1\r\n\r\n").expect("trailers");
        sent.send((head, body)).expect("the test listens");
        exchange.write(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 2\r\n\r\n",
        );
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let answer = proxy.ask(
        "GET / HTTP/1.1\r\nhost: h\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    let (head, body) = bodies.recv().expect("a request");
    let head = head.to_lowercase();
    assert!(
        head.contains("transfer-encoding: chunked") && head.contains("te: trailers"),
        "{head}"
    );
    assert_eq!(
        String::from_utf8_lossy(&body),
        "2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n"
    );
    assert_eq!(answer.text(), "3\r\nabc\r\n0\r\nx-sum: 2\r\n\r\n");
}

#[test]
fn old_clients_are_served() {
    let upstream = Upstream::scripted(|mut exchange| {
        while exchange.request().is_some() {
            exchange.write(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let answer = String::from_utf8(client.rest()).expect("text");
    assert!(
        answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
    assert!(
        !answer.contains("chunked") && answer.ends_with("\r\n\r\nabc"),
        "{answer}"
    );
    let head = upstream.last_head().to_lowercase();
    assert!(
        head.contains(&format!("host: {}", upstream.address())),
        "{head}"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::scripted(|mut exchange| {
        while let Some((head, _)) = exchange.request() {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            exchange.write(&reply(&path));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send(
        &["/1", "/2", "/3"]
            .map(|path| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"))
            .concat(),
    );
    assert_eq!(
        [
            client.answer().text(),
            client.answer().text(),
            client.answer().text()
        ],
        ["/1", "/2", "/3"]
    );
}

const EXPECT: &str =
    "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";

#[test]
fn the_body_waits_for_upstreams_100() {
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = std::sync::Mutex::new(proceed);
    let upstream = Upstream::scripted(move |mut exchange| {
        let head = exchange.head().expect("a head");
        assert!(
            head.to_lowercase().contains("expect: 100-continue"),
            "{head}"
        );
        proceed
            .lock()
            .expect("one thread")
            .recv()
            .expect("the test speaks");
        exchange.write("HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.exactly(2).expect("a body");
        exchange.write(&reply(&String::from_utf8_lossy(&body)));
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send(EXPECT);
    wait_for("the head", || upstream.requests() == 1);
    assert!(client.is_silent(), "not before upstream says so");
    go.send(()).expect("upstream waits");
    assert!(client.head().starts_with("http/1.1 100"));
    client.send("hi");
    assert_eq!(client.answer().text(), "hi");
}

#[test]
fn a_body_that_is_not_wanted_is_never_asked_for() {
    let (ended, ends) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        exchange.head();
        exchange.write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno");
        ended.send(exchange.exactly(1)).expect("the test listens");
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send(EXPECT);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    let body = ends.recv_timeout(crate::support::PATIENCE);
    assert_eq!(
        body,
        Ok(None),
        "the connection ended, and no byte of a body came"
    );
}

#[test]
fn an_upstream_that_ignores_the_expectation_gets_the_body_all_the_same() {
    let upstream = Upstream::answering(reply("done"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send(EXPECT);
    assert!(client.head().starts_with("http/1.1 100"), "after a second");
    client.send("hi");
    assert_eq!(client.answer().text(), "done");
}

#[test]
fn early_heads_are_not_mistaken_for_the_answer() {
    let upstream = Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        exchange.write(&reply("answer"));
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    assert_eq!(
        proxy.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").text(),
        "answer"
    );
    assert_eq!(proxy.metric("serin_informational_dropped_total", &[]), 1);
}

#[test]
fn a_client_that_does_not_read_is_not_read_for() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let upstream = Upstream::scripted(move |mut exchange| {
        exchange.request();
        exchange.write(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n"
        ));
        let chunk = [7_u8; 64 * 1024];
        while counter.load(Ordering::SeqCst) < TOTAL && exchange.stream.write_all(&chunk).is_ok() {
            counter.fetch_add(chunk.len(), Ordering::SeqCst);
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    client.head();
    // Written bytes stand still once every buffer on the way is full.
    let (mut seen, mut since) = (0, serin::clock::now());
    wait_for("the flow to stop", || {
        let now = written.load(Ordering::SeqCst);
        if now != seen {
            (seen, since) = (now, serin::clock::now());
        }
        seen > 0 && since.elapsed() > Duration::from_millis(300)
    });
    // The kernel's own buffers take up to some 6 MiB on each of the two connections.
    assert!(seen < TOTAL / 2, "{seen} bytes were taken from upstream");
    assert_eq!(client.exactly(TOTAL).len(), TOTAL);
    assert_eq!(proxy.attempts("base", "first", "ok"), 1);
}

#[test]
fn a_cancelled_upload_is_reset_and_never_reused() {
    let (ended, ends) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        exchange.head();
        exchange.exactly(3);
        ended.send(exchange.end()).expect("the test listens");
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    for head in [
        "content-length: 100\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = proxy.client();
        client.send(&format!("POST / HTTP/1.1\r\nhost: h\r\n{head}"));
        wait_for("the head", || upstream.requests() > 0);
        client.leave();
        let end = ends
            .recv_timeout(crate::support::PATIENCE)
            .expect("the connection ends");
        assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset), "{head}");
    }
    assert_eq!(upstream.connections(), 2);
}
