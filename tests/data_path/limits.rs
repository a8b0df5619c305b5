//! Limits, timeouts, and the reason of every answer that serin makes itself.

use std::time::Duration;

use serin::clock;

use crate::support::{Proxy, Upstream, closed, hole, only, reply, rest, wait_for};

fn any() -> (Upstream, Proxy) {
    let upstream = Upstream::answering(reply("x"));
    let limits = "limits = { head = \"2KiB\", headers = 20, target = \"1KiB\", body = \"1KiB\" }";
    let proxy = Proxy::start(limits, &only(&[upstream.address()], ""));
    (upstream, proxy)
}

#[test]
fn what_is_refused_names_its_reason_and_never_reaches_upstream() {
    let (upstream, proxy) = any();
    let check = |request: String, status: u16, reason: &str| {
        let answer = proxy.ask(&request);
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (status, Some(reason)),
            "{request:.100}"
        );
        let labels = [format!("reason=\"{reason}\"")];
        assert!(
            proxy.metric(
                "serin_answers_total",
                &labels.each_ref().map(String::as_str)
            ) > 0,
            "{reason}"
        );
    };
    let get = |rest: &str| format!("GET / HTTP/1.1\r\n{rest}\r\n");
    check(get(""), 400, "bad_request");
    check(get("host: a\r\nhost: a\r\n"), 400, "bad_request");
    check(get("host: a b\r\n"), 400, "bad_request");
    check(
        "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n".to_owned(),
        400,
        "bad_request",
    );
    check(get("host: a\r\nconnection: host\r\n"), 400, "bad_request");
    check(
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n".to_owned(),
        405,
        "method_not_allowed",
    );
    check(
        "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        405,
        "method_not_allowed",
    );
    check(
        format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(1024)),
        414,
        "target_too_long",
    );
    check(
        get(&format!("host: a\r\n{}", "x: y\r\n".repeat(20))),
        431,
        "headers_too_large",
    );
    check(
        get(&format!("host: a\r\nx: {}\r\n", "y".repeat(2048))),
        431,
        "headers_too_large",
    );
    check(
        get(&format!("host: a\r\n{}", "x: y\r\n".repeat(200))),
        431,
        "headers_too_large",
    );
    check(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1025\r\n\r\n".to_owned(),
        413,
        "body_too_large",
    );
    check("nonsense\r\n\r\n".to_owned(), 400, "bad_request");
    check(
        "GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n".to_owned(),
        400,
        "bad_request",
    );
    check(
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned(),
        505,
        "version_not_supported",
    );
    assert_eq!(upstream.requests(), 0);
    assert_eq!(proxy.ask(&get("host: a\r\n")).status, 200);
    assert_eq!(
        proxy.attempts("base", "", ""),
        1,
        "refused requests are no attempts"
    );
}

#[test]
fn a_body_that_grows_over_the_limit_or_breaks_is_the_clients_fault() {
    let (_upstream, proxy) = any();
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let long = format!("{chunked}800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800));
    for (request, status, reason) in [
        (long, 413, "body_too_large"),
        (format!("{chunked}zz\r\n"), 400, "bad_request"),
    ] {
        let answer = proxy.ask(&request);
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (status, Some(reason))
        );
    }
    assert_eq!(
        proxy.attempts("base", "", ""),
        0,
        "not counted against the pool"
    );
}

#[test]
fn routes_and_upstreams_that_are_not_there() {
    let text = only(&[closed()], "").replace("path = \"/\"", "path = \"/api\"");
    let proxy = Proxy::start("", &text);
    let ask = |path: &str| proxy.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    let check = |path: &str, status: u16, reason: &str| {
        let answer = ask(path);
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (status, Some(reason)),
            "{path}"
        );
    };
    check("/", 404, "no_route");
    check("/apix", 404, "no_route");
    check("/api", 502, "connect_failed");
    let pool = serin::rollout::name::PoolName::parse("base").expect("a name");
    let address = proxy.live.load().pools()[0].endpoints[0].address.clone();
    assert!(proxy.live.load().set_drained(&pool, &address, true));
    check("/api/x", 503, "no_healthy_endpoint");
    assert_eq!(ask("/api").header("retry-after"), Some("1"));
}

#[test]
fn an_answer_of_our_own_keeps_the_connection_where_it_can() {
    let proxy = Proxy::start("", &only(&[closed()], ""));
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.answer().status, 502);
    }
}

#[test]
fn a_silent_client_is_closed_without_a_word() {
    let (_upstream, proxy) = timed("first_byte = \"200ms\"");
    let mut client = proxy.client();
    assert!(client.is_closed());
}

#[test]
fn a_head_that_does_not_end_is_answered_408() {
    let (upstream, proxy) = timed("head = \"200ms\"");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (408, Some("request_timeout"))
    );
    assert!(client.is_closed());
    // Trickled bytes do not buy time.
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\n");
    // A byte each millisecond: so slow that the time is up long before the head is too large.
    let mut sent = clock::now();
    wait_for("the end of a trickle", || {
        if sent.elapsed() < Duration::from_millis(1) {
            return !client.is_silent();
        }
        sent = clock::now();
        !client.try_send(b"x") || !client.is_silent()
    });
    assert_eq!(client.answer().status, 408);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn idle_connections_are_kept_beyond_the_head_timeout_and_closed_in_the_end() {
    let (_upstream, proxy) =
        timed("head = \"100ms\", first_byte = \"100ms\", keep_alive = \"600ms\"");
    let mut client = proxy.client();
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send(request);
    assert_eq!(client.answer().status, 200);
    let begin = clock::now();
    wait_for("the head timeout to pass", || {
        begin.elapsed() > Duration::from_millis(350)
    });
    client.send(request);
    assert_eq!(client.answer().status, 200, "idle is not a slow head");
    let begin = clock::now();
    assert!(client.is_closed());
    assert!(
        begin.elapsed() >= Duration::from_millis(450),
        "closed after {:?}",
        begin.elapsed()
    );
}

#[test]
fn a_client_that_stops_sending_its_body_is_answered_408() {
    let (_upstream, proxy) = timed("body_idle = \"200ms\"");
    let answer = proxy.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab");
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (408, Some("request_timeout"))
    );
    assert_eq!(proxy.attempts("base", "", ""), 0);
}

#[test]
fn an_upstream_that_is_too_slow_is_answered_504() {
    let hanging = Upstream::scripted(|mut exchange| _ = exchange.end());
    for timeouts in ["answer_head = \"200ms\"", "request = \"200ms\""] {
        let proxy = Proxy::start(
            "",
            &only(
                &[hanging.address()],
                &format!("timeouts = {{ {timeouts} }}"),
            ),
        );
        let begin = clock::now();
        let answer = proxy.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (504, Some("timeout")),
            "{timeouts}"
        );
        assert!(begin.elapsed() >= Duration::from_millis(200));
        assert_eq!(proxy.attempts("base", "first", "failed"), 1);
    }
}

#[test]
fn a_client_that_sends_slowly_uses_none_of_upstreams_time() {
    let upstream = Upstream::answering(reply("done"));
    let proxy = Proxy::start(
        "",
        &only(
            &[upstream.address()],
            "timeouts = { answer_head = \"200ms\" }",
        ),
    );
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab");
    let begin = clock::now();
    wait_for("more than answer_head", || {
        begin.elapsed() > Duration::from_millis(400)
    });
    client.send("cd");
    assert_eq!(client.answer().text(), "done");
}

#[test]
fn an_upstream_that_stops_within_its_body_is_cut_and_counted() {
    let stalling = Upstream::scripted(|mut exchange| {
        exchange.request();
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        exchange.end();
    });
    let proxy = Proxy::start(
        "",
        &only(
            &[stalling.address()],
            "timeouts = { body_idle = \"200ms\" }",
        ),
    );
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    assert_eq!(client.rest(), b"half");
    assert_eq!(proxy.attempts("base", "first", "failed"), 1);
}

#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let big = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n{}",
        "x".repeat(1 << 25)
    );
    let upstream = Upstream::answering(big);
    let proxy = Proxy::start(
        "timeouts = { write_idle = \"300ms\" }",
        &only(&[upstream.address()], ""),
    );
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    wait_for("the connection's end", || {
        proxy.metric("serin_connections_closed_total", &[]) == 1
    });
    assert!(client.rest().len() < 1 << 25);
    assert_eq!(
        proxy.attempts("base", "", ""),
        0,
        "leaving after the head is not counted"
    );
}

#[test]
fn the_oldest_idle_connection_makes_room() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("max_connections = 2", &only(&[upstream.address()], ""));
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut oldest = proxy.client();
    oldest.send(request);
    assert_eq!(oldest.answer().status, 200);
    // Ages are told apart by the sweep's tick.
    let begin = clock::now();
    wait_for("a tick", || begin.elapsed() > Duration::from_millis(250));
    let mut newer = proxy.client();
    newer.send(request);
    assert_eq!(newer.answer().status, 200);
    let mut third = proxy.client();
    third.send(request);
    assert_eq!(third.answer().status, 200);
    assert!(oldest.is_closed());
    newer.send(request);
    assert_eq!(newer.answer().status, 200);
    assert_eq!(proxy.metric("serin_connections_evicted_total", &[]), 1);
}

#[test]
fn who_is_idle_for_a_while_is_heard_again_in_whatever_pieces_he_asks() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let rested = || proxy.metric("serin_connections_rested_total", &[]);
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut client = proxy.client();
    let two = request.repeat(2);
    // At once, piece by piece, and two in one.
    for (turn, pieces) in [
        &[request][..],
        &["G", "ET / HTTP/1.1\r\nho", "st: a\r\n\r\n"],
        &[&two],
    ]
    .into_iter()
    .enumerate()
    {
        for piece in pieces {
            client.send(piece);
        }
        for _ in 0..pieces.concat().matches("GET").count() {
            assert_eq!(client.answer().status, 200, "{pieces:?}");
        }
        wait_for("it to rest", || rested() == turn as u64 + 1);
    }
    // The end is heard, too.
    client.leave();
    wait_for("it to be gone", || {
        proxy.metric("serin_connections_closed_total", &[]) == 1
    });
}

#[test]
fn room_is_made_by_who_becomes_idle_later() {
    let (upstream, go) = Upstream::told();
    let proxy = Proxy::start("max_connections = 1", &only(&[upstream.address()], ""));
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut busy = proxy.client();
    busy.send(request);
    wait_for("the first request", || upstream.requests() == 1);
    // The kernel takes it; serin has no room yet, and nobody idle.
    let mut next = proxy.client();
    next.send(request);
    rest();
    go.send(()).expect("it waits");
    assert_eq!(busy.answer().status, 200);
    go.send(()).expect("it will wait");
    assert_eq!(next.answer().status, 200);
    assert!(busy.is_closed());
}

#[test]
fn a_request_has_its_time_for_connecting_too() {
    // Its queue of connections is full: the kernel drops what comes.
    let (address, _queue) = hole();
    let more = "timeouts = { connect = \"60s\", request = \"300ms\" }";
    let proxy = Proxy::start("", &only(&[address], more));
    let answer = proxy.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(
        (answer.status, answer.header("x-serin-error")),
        (504, Some("timeout"))
    );
    let endpoint = proxy.live.load().pools()[0].endpoints[0].clone();
    assert!(endpoint.ejected.is_none(), "it had no time of its own");
}

#[test]
fn a_body_that_comes_behind_its_answer_is_no_head() {
    let upstream = Upstream::scripted(|mut exchange| {
        while exchange.head().is_some() {
            exchange.write(&reply("early"));
            if exchange.exactly(3).is_none() {
                return;
            }
        }
    });
    let proxy = Proxy::start(
        "timeouts = { head = \"200ms\" }",
        &only(&[upstream.address()], ""),
    );
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na");
    assert_eq!(client.answer().text(), "early");
    client.send("b");
    let begin = clock::now();
    wait_for("more than a head may take", || {
        begin.elapsed() > Duration::from_millis(500)
    });
    assert!(client.is_silent(), "no 408 behind the answer");
    client.send("c");
    rest();
    assert!(client.is_silent());
    assert_eq!(
        proxy.metric("serin_answers_total", &["reason=\"request_timeout\""]),
        0
    );
}

#[test]
fn an_answer_reaches_who_is_still_sending() {
    let upstream = Upstream::scripted(|mut exchange| {
        if exchange.head().is_some() {
            exchange.write(
                "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig",
            );
            exchange.end();
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..5 {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n");
        // As a client does that reads only when it has sent all, or cannot.
        let sent = (0..300).take_while(|_| client.try_send(&piece)).count();
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (413, "big"),
            "{sent}"
        );
    }
}

fn timed(timeouts: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start(
        &format!("timeouts = {{ {timeouts} }}"),
        &only(&[upstream.address()], ""),
    );
    (upstream, proxy)
}
