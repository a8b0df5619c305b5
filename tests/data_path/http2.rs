//! HTTP/2 by prior knowledge, on the port of HTTP/1: the same requests, many at once.

use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use serin::shutdown::Stage;

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, ask, connect, connect_with, fields, frame, get, run, whole,
};
use crate::support::{Proxy, Upstream, closed, only, reply, rollout, wait_for};

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "h"),
    (":path", "/"),
];

/// Fields that the library cannot even decode: it ends the whole connection for them, more than RFC 9113, 8.1.1 asks.
const ENDS_THE_CONNECTION: [(&str, &str); 7] = [
    ("Upper", "case"),
    ("x", "a\r\ny: b"),
    ("x", "a\0b"),
    ("x y", "a"),
    ("", "a"),
    (":unknown", "x"),
    (":method", "G T"),
];

#[test]
fn a_request_goes_upstream_as_one_of_http1() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: x-mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nX-A: b\r\ncontent-length: 1\r\n\r\nx",
    );
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let request = Request::get("http://h.example:81/a?b")
            .header("cookie", "one=1")
            .header("cookie", "two=2")
            .header("x-forwarded-for", "6.6.6.6")
            .header("te", "trailers")
            .header("x_serin_pool", "new")
            .body(())
            .expect("a request");
        let answer = ask(&client, request, b"").await.expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"x"[..]));
        assert_eq!(answer.headers["x-a"], "b");
        for gone in ["connection", "x-mine", "keep-alive"] {
            assert!(!answer.headers.contains_key(gone), "{gone}");
        }
    });
    let head = upstream.last_head();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "GET /a?b HTTP/1.1");
    for line in [
        "host: h.example:81",
        "cookie: one=1; two=2",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: h.example:81",
        "x-forwarded-proto: http",
        "te: trailers",
    ] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    assert!(
        !head.contains("serin") && !head.contains("6.6.6.6"),
        "{head}"
    );
    assert_eq!(proxy.attempts("base", "first", "ok"), 1);
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").status, 200);
}

#[test]
fn an_answer_has_a_date_its_own_where_it_has_one() {
    const OWN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some(head) = exchange.head() {
            let date = match head.contains("/own") {
                true => format!("date: {OWN}\r\n"),
                false => String::new(),
            };
            exchange.write(&format!(
                "HTTP/1.1 200 OK\r\n{date}content-length: 0\r\n\r\n"
            ));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let date = async |method: Method, target: &str| {
            let request = Request::builder().method(method).uri(target).body(());
            let answer = ask(&client, request.expect("a request"), b"").await;
            let answer = answer.expect("an answer");
            let date = answer.headers["date"].to_str().expect("text").to_owned();
            (answer.status, date)
        };
        let own = date(Method::GET, "http://h/own").await;
        assert_eq!(own, (200, OWN.to_owned()));
        // An upstream's that has none, and serin's own.
        for (method, status) in [(Method::GET, 200), (Method::TRACE, 405)] {
            let (found, date) = date(method, "http://h/").await;
            assert_eq!(found, status);
            let read = jiff::fmt::rfc2822::parse(&date).expect("a date");
            let age = jiff::Timestamp::now().duration_since(read.timestamp());
            assert!(age.as_secs().abs() < 60, "{date}");
        }
    });
}

#[test]
fn streams_of_one_connection_are_served_at_once_and_counted_one_by_one() {
    let (arrived, arrivals) = mpsc::channel();
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = Arc::new(Mutex::new(proceed));
    let upstream = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() {
            arrived.send(()).expect("the test listens");
            let wait = proceed.lock().expect("nobody panicked").recv();
            wait.expect("the test speaks");
            exchange.write(&reply("x"));
        }
    });
    let mut proxy = Proxy::start(
        "",
        &rollout(&[upstream.address()], &[upstream.address()], ""),
    );
    proxy.set_weight("0%");
    const MANY: usize = 40;
    run(async {
        let client = connect(proxy.address()).await;
        let asking = (0..MANY).map(|learner| {
            let request = Request::get("http://h/").header("x-learner-id", learner);
            let client = client.clone();
            tokio::task::spawn_local(async move {
                let request = request.body(()).expect("a request");
                ask(&client, request, b"").await
            })
        });
        let asking: Vec<_> = asking.collect();
        let all = tokio::task::spawn_blocking(move || {
            for _ in 0..MANY {
                arrivals.recv().expect("upstream was asked");
            }
            for _ in 0..MANY {
                go.send(()).expect("upstream waits");
            }
        });
        all.await.expect("it ends");
        for answer in asking {
            let answer = answer.await.expect("it ends").expect("an answer");
            assert_eq!(answer.status, 200);
        }
    });
    assert_eq!(proxy.arm("baseline", "ok"), MANY as u64);
    assert_eq!(proxy.arms(), MANY as u64);
}

#[test]
fn bodies_keep_their_framing_and_trailers_reach_the_client() {
    let (sent, requests) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some(head) = exchange.head() {
            let body = if head.contains("content-length") {
                exchange.exactly(5)
            } else {
                exchange.until(b"0\r\n\r\n")
            };
            let request = (head, body.expect("a body"));
            sent.send(request).expect("the test listens");
            exchange.write(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n\
                 3\r\nabc\r\n0\r\ngrpc-status: 7\r\nhost: no\r\n\r\n",
            );
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        for length in [Some("5"), None] {
            let mut request = Request::post("http://h/");
            if let Some(length) = length {
                request = request.header("content-length", length);
            }
            let request = request.body(()).expect("a request");
            let answer = ask(&client, request, b"hello").await.expect("an answer");
            assert_eq!(answer.body, b"abc");
            let trailers = answer.trailers.expect("trailers");
            assert_eq!(trailers["grpc-status"], "7");
            assert_eq!(trailers.len(), 1, "{trailers:?}");
        }
    });
    let (head, body) = requests.recv().expect("a request");
    assert!(head.contains("content-length: 5"), "{head}");
    assert!(!head.contains("chunked"), "{head}");
    assert_eq!(body, b"hello");
    let (head, body) = requests.recv().expect("a request");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, b"5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    let upstream = Upstream::scripted(|mut exchange| {
        while let Some((_, body)) = exchange.request() {
            let text = String::from_utf8(body).expect("text");
            exchange.write(&reply(&text));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    run(async {
        let client = connect(proxy.address()).await;
        let request = Request::post("http://h/").header("content-length", body.len());
        let request = request.body(()).expect("a request");
        let answer = ask(&client, request, &body).await.expect("an answer");
        assert!(answer.body == body, "{} bytes", answer.body.len());
    });
}

#[test]
fn what_http1_refuses_is_refused_with_the_same_reason() {
    let upstream = Upstream::answering(reply("x"));
    let limits = "limits = { head = \"2KiB\", headers = 20, target = \"1KiB\", body = \"1KiB\" }";
    let proxy = Proxy::start(limits, &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let check = async |request: Request<()>, body: &[u8], status: u16, reason: &str| {
            let said = format!("{request:?}");
            let answer = ask(&client, request, body).await.expect("an answer");
            let error = answer.headers.get("x-serin-error").map(|e| e.as_bytes());
            assert_eq!(
                (answer.status, error),
                (status, Some(reason.as_bytes())),
                "{said:.100}"
            );
        };
        let long = format!("http://h/{}", "x".repeat(1024));
        check(get(&long), b"", 414, "target_too_long").await;
        let of = |method: Method| {
            let request = Request::builder().method(method).uri("http://h/");
            request.body(()).expect("a request")
        };
        check(of(Method::TRACE), b"", 405, "method_not_allowed").await;
        let mut wide = get("http://h/");
        for n in 0..20 {
            let name = http::HeaderName::try_from(format!("h{n}")).expect("a name");
            wide.headers_mut()
                .insert(name, http::HeaderValue::from_static("v"));
        }
        check(wide, b"", 431, "headers_too_large").await;
        let mut big = get("http://h/");
        let value = http::HeaderValue::try_from("v".repeat(2048)).expect("a value");
        big.headers_mut().insert("x", value);
        check(big, b"", 431, "headers_too_large").await;
        let declared = Request::post("http://h/").header("content-length", 1025);
        let declared = declared.body(()).expect("a request");
        check(declared, &[b'x'; 1025], 413, "body_too_large").await;
        check(of(Method::POST), &[b'x'; 1025], 413, "body_too_large").await;
        let other = Request::get("http://h/").header("host", "other");
        check(other.body(()).expect("a request"), b"", 400, "bad_request").await;
        let answer = ask(&client, get("http://h/"), b"").await;
        assert_eq!(answer.expect("the connection lives on").status, 200);
    });
    assert_eq!(upstream.requests(), 1);
    assert_eq!(
        proxy.attempts("base", "", ""),
        1,
        "what is refused is no attempt"
    );
}

#[test]
fn a_malformed_stream_never_reaches_upstream_and_ends_alone_where_it_can_be_decoded() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    let replaced = |name: &str, value: Option<&'static str>| -> Vec<(&str, &str)> {
        let kept = GET.iter().filter_map(|&(key, old)| {
            if key == name {
                value.map(|value| (key, value))
            } else {
                Some((key, old))
            }
        });
        kept.collect()
    };
    let heads: Vec<Vec<(&str, &str)>> = vec![
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("keep-alive", "5")]),
        with(&[("proxy-connection", "close")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("Upper", "case")]),
        with(&[("x", "a\r\ny: b")]),
        with(&[("x", "a\0b")]),
        with(&[("x", " a")]),
        with(&[("x y", "a")]),
        with(&[("", "a")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "-1")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "0, 0")]),
        with(&[("host", "other")]),
        with(&[("host", "h"), ("host", "h")]),
        with(&[(":path", "/twice")]),
        with(&[(":unknown", "x")]),
        with(&[(":status", "200")]),
        with(&[(":protocol", "websocket")]),
        [&[("x", "before")][..], &GET[..]].concat(),
        replaced(":method", None),
        replaced(":scheme", None),
        replaced(":path", None),
        replaced(":authority", None),
        replaced(":path", Some("")),
        replaced(":path", Some("*")),
        replaced(":path", Some("nothing")),
        replaced(":path", Some("/a b")),
        replaced(":method", Some("G T")),
        replaced(":method", Some("CONNECT")),
        replaced(":scheme", Some("ftp")),
        replaced(":authority", Some("u@h")),
        replaced(":authority", Some("")),
        replaced(":authority", Some("h h")),
    ];
    for head in heads {
        let mut client = Frames::connect(proxy.address());
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
        let answer = client.find(&[HEADERS, RST_STREAM, GOAWAY]);
        let is_answered =
            |frame: &Frame| frame.kind == HEADERS && frame.payload.starts_with(&[0x88]);
        assert!(
            !answer.as_ref().is_some_and(is_answered),
            "{head:?}: {answer:?}"
        );
        assert_eq!(upstream.requests(), 0, "{head:?}");
        let ends_all = ENDS_THE_CONNECTION.iter().any(|field| head.contains(field));
        let has_ended = answer.is_none_or(|frame| frame.kind == GOAWAY);
        assert_eq!(has_ended, ends_all, "{head:?}");
        if !has_ended {
            client.send(PING, 0, 0, b"01234567");
            assert!(client.find(&[PING]).is_some(), "{head:?}");
        }
    }
    let mut client = Frames::connect(proxy.address());
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&GET));
    let answer = client.find(&[HEADERS, RST_STREAM]).expect("an answer");
    assert!(answer.payload.starts_with(&[0x88]), "200 is {answer:?}");
}

#[test]
fn a_body_of_another_length_than_its_head_says_is_never_a_whole_request() {
    let (ended, ends) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        let request = exchange.request();
        ended.send(request.is_some()).expect("the test listens");
        exchange.write(&reply("x"));
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", "/"),
        ("content-length", "5"),
    ];
    for (before, sent) in [&b"four"[..], b"sixsix"].into_iter().enumerate() {
        let mut client = Frames::connect(proxy.address());
        client.send(HEADERS, END_HEADERS, 1, &fields(&post));
        wait_for("the head to be there", || upstream.connections() > before);
        client.send(DATA, END_STREAM, 1, sent);
        assert!(!ends.recv().expect("a connection"), "{sent:?}");
    }
    assert_eq!(
        proxy.attempts("base", "", "failed"),
        0,
        "the client's fault"
    );
}

#[test]
fn one_client_that_does_not_read_is_reset_and_holds_up_nobody() {
    let upstream = Upstream::scripted(|mut exchange| {
        while let Some((head, _)) = exchange.request() {
            let body = if head.starts_with("GET /big") {
                4_000_000
            } else {
                5
            };
            exchange.write(&reply(&"x".repeat(body)));
        }
    });
    let proxy = Proxy::start(
        "timeouts = { write_idle = \"400ms\" }",
        &only(&[upstream.address()], ""),
    );
    run(async {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(32 * 1024)
            .initial_connection_window_size(1 << 20);
        let (client, _end) = connect_with(proxy.address(), &builder).await;
        let mut sender = client.clone().ready().await.expect("it is open");
        let (stalled, _) = sender
            .send_request(get("http://h/big"), true)
            .expect("it is sent");
        let mut stalled = stalled.await.expect("a head").into_body();
        for _ in 0..20 {
            let answer = ask(&client, get("http://h/"), b"")
                .await
                .expect("an answer");
            assert_eq!(answer.body, b"xxxxx");
        }
        // What lies in its window is read, and nothing given back.
        let reset = loop {
            match stalled.data().await.expect("no end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(reset.reason(), Some(h2::Reason::CANCEL), "{reset}");
        let answer = ask(&client, get("http://h/"), b"").await;
        assert_eq!(answer.expect("its neighbours live on").status, 200);
    });
    assert_eq!(proxy.metric("serin_streams_stalled_total", &[]), 1);
    assert_eq!(
        proxy.attempts("base", "", "ok"),
        21,
        "not counted, not failed"
    );
    assert_eq!(proxy.attempts("base", "", ""), 21);
}

#[test]
fn the_connections_window_has_room_for_every_streams() {
    let proxy = Proxy::start("", &only(&[closed()], ""));
    let mut client = Frames::connect(proxy.address());
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let settings = client.find(&[SETTINGS]).expect("settings").payload;
    let setting = |id: u64| {
        let mut all = settings.chunks(6);
        let found = all.find(|entry| number(&entry[..2]) == id);
        number(&found.expect("it is set")[2..])
    };
    // RFC 9113, 6.5.2 and 6.9.2: streams at once, the window of each, and what a connection begins with.
    let (streams, window) = (setting(3), setting(4));
    let more = client.find(&[WINDOW_UPDATE]).expect("a larger window");
    let connection = 65_535 + number(&more.payload);
    assert!(
        connection >= streams * window,
        "{connection} for {streams} of {window}"
    );
}

#[test]
fn an_upstream_that_does_not_take_a_body_holds_up_no_other() {
    let (_keep, stop) = mpsc::channel::<()>();
    let stop = Arc::new(Mutex::new(stop));
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some(head) = exchange.head() {
            if head.starts_with("POST /stuck") {
                stop.lock().expect("nobody panicked").recv().unwrap_or(());
                return;
            }
            exchange.exactly(500_000);
            exchange.write(&reply("taken"));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let body = Bytes::from(vec![b'x'; 50_000_000]);
    run(async {
        let client = connect(proxy.address()).await;
        let mut stuck = Vec::new();
        for _ in 0..8 {
            let mut sender = client.clone().ready().await.expect("it is open");
            let request = Request::post("http://h/stuck").header("content-length", body.len());
            let request = request.body(()).expect("a request");
            let (answer, mut upload) = sender.send_request(request, false).expect("it is sent");
            upload.send_data(body.clone(), true).expect("it is sent");
            stuck.push((answer, upload));
        }
        let request = Request::post("http://h/").header("content-length", 500_000);
        let request = request.body(()).expect("a request");
        let answer = ask(&client, request, &body[..500_000]).await;
        assert_eq!(answer.expect("an answer").body, b"taken");
    });
}

#[test]
fn a_client_that_leaves_takes_its_requests_along() {
    let (asked, requests) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        if exchange.request().is_some() {
            asked.send(()).expect("the test listens");
            ended.send(exchange.end()).expect("the test listens");
        }
    });
    let mut proxy = Proxy::start(
        "",
        &rollout(&[upstream.address()], &[upstream.address()], ""),
    );
    proxy.set_weight("0%");
    let head = fields(&[&GET[..], &[("x-learner-id", "a")]].concat());
    // By a reset of the stream, then by the end of the connection.
    let mut client = Frames::connect(proxy.address());
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    requests.recv().expect("upstream was asked");
    client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    ends.recv().expect("upstream is told");
    client.send(HEADERS, END_HEADERS | END_STREAM, 3, &head);
    requests.recv().expect("upstream was asked");
    drop(client);
    ends.recv().expect("upstream is told");
    wait_for("both to be counted", || proxy.arms() == 2);
    let late = proxy.arm("baseline", "abandoned") + proxy.arm("baseline", "abandoned_late");
    assert_eq!(late, 2);
}

#[test]
fn draining_answers_what_was_begun_and_tells_the_client_in_two_steps() {
    let (asked, requests) = mpsc::channel();
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = Arc::new(Mutex::new(proceed));
    let upstream = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() {
            asked.send(()).expect("the test listens");
            let wait = proceed.lock().expect("nobody panicked").recv();
            wait.expect("the test speaks");
            exchange.write(&reply("x"));
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Frames::connect(proxy.address());
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&GET));
    requests.recv().expect("upstream was asked");
    proxy.advance(Stage::Draining);
    let first = client.find(&[GOAWAY]).expect("a word of warning");
    assert_eq!(first.payload[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let ping = client.find(&[PING]).expect("a question");
    // What the client sent before it heard of it is answered.
    client.send(HEADERS, END_HEADERS | END_STREAM, 3, &fields(&GET));
    client.send(PING, 1, 0, &ping.payload);
    let last = client.find(&[GOAWAY]).expect("the last word");
    assert_eq!(last.payload[..8], [0, 0, 0, 3, 0, 0, 0, 0]);
    requests.recv().expect("upstream was asked");
    for _ in 0..2 {
        go.send(()).expect("upstream waits");
    }
    for _ in 0..2 {
        let answer = client.find(&[HEADERS, RST_STREAM]).expect("an answer");
        assert!(answer.payload.starts_with(&[0x88]), "200 is {answer:?}");
    }
    while client.next().is_some() {}
    proxy.join().expect("nothing is left");
}

#[test]
fn draining_does_not_wait_for_clients_that_do_not_answer() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start(
        "timeouts = { idle_grace = \"300ms\" }",
        &only(&[upstream.address()], ""),
    );
    let mut client = Frames::connect(proxy.address());
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&GET));
    client.find(&[HEADERS]).expect("an answer");
    proxy.advance(Stage::Draining);
    proxy.join().expect("it does not wait");
}

#[test]
fn idle_connections_and_heads_that_do_not_end_are_closed_in_time() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start(
        "timeouts = { keep_alive = \"300ms\", head = \"300ms\", idle_grace = \"200ms\" }",
        &only(&[upstream.address()], ""),
    );
    let mut idle = Frames::connect(proxy.address());
    let mut slow = Frames::connect(proxy.address());
    slow.send(HEADERS, END_STREAM, 1, &fields(&GET[..2]));
    let goodbye = idle.find(&[GOAWAY]).expect("a goodbye");
    assert_eq!(goodbye.payload[4..8], [0; 4], "no error");
    while idle.next().is_some() {}
    while slow.next().is_some() {}
    assert_eq!(upstream.requests(), 0);
    wait_for("both to be over", || {
        proxy.metric("serin_connections_open", &[]) == 0
    });
}

#[test]
fn who_has_to_make_room_is_told_so() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("max_connections = 1", &only(&[upstream.address()], ""));
    let mut idle = Frames::connect(proxy.address());
    idle.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&GET));
    idle.find(&[HEADERS]).expect("an answer");
    let answer = proxy.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answer.status, 200);
    let goodbye = idle.find(&[GOAWAY]).expect("a goodbye");
    assert_eq!(goodbye.payload[4..8], [0; 4], "no error");
    while idle.next().is_some() {}
}

#[test]
fn what_waits_for_its_client_is_nobody_else_s_slowness() {
    let both = [(); 2].map(|()| Upstream::answering(reply("x")));
    let more = "retries = { per_try = \"100ms\" }\nejection = { consecutive = 1 }";
    let endpoints = both.each_ref().map(Upstream::address);
    let proxy = Proxy::start("", &only(&endpoints, more));
    run(async {
        let client = connect(proxy.address()).await;
        for _ in 0..2 {
            let mut sender = client.clone().ready().await.expect("it is open");
            let request = Request::get("http://h/").header("content-length", "0");
            let request = request.body(()).expect("a request");
            let (answer, mut upload) = sender.send_request(request, false).expect("it is sent");
            // Longer than an attempt may take.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let end = upload.send_data(Bytes::new(), true);
            end.expect("it is sent");
            assert_eq!(answer.await.expect("an answer").status(), 200);
        }
    });
    assert_eq!(proxy.attempts("base", "first", "ok"), 2);
    assert_eq!(proxy.attempts("base", "", ""), 2);
}

#[test]
fn floods_end_their_connection_and_disturb_no_other() {
    let upstream = Upstream::answering(reply("x"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let request = fields(&GET);
    let check = |name: &str, counted: bool, flood: &dyn Fn(u32) -> Vec<u8>| {
        let mut client = Frames::connect(proxy.address());
        let mut reader = Frames {
            stream: client.stream.try_clone().expect("a second handle"),
        };
        let reading = std::thread::spawn(move || while reader.next().is_some() {});
        let before = proxy.metric("serin_frame_floods_total", &[]);
        let mut sent = 0_u32;
        use std::io::Write;
        while client.stream.write_all(&flood(sent)).is_ok() {
            sent += 1;
            assert!(sent < 100_000, "{name}: nobody ends it");
        }
        reading.join().expect("it ends");
        let floods = || proxy.metric("serin_frame_floods_total", &[]) - before;
        wait_for(name, || proxy.metric("serin_connections_open", &[]) == 0);
        assert_eq!(floods(), u64::from(counted), "{name}");
        let answer = proxy.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(answer.status, 200, "{name}");
    };
    let repeat = |bytes: Vec<u8>| move |_: u32| bytes.repeat(100);
    check("ping", true, &repeat(frame(PING, 0, 0, b"01234567")));
    check("settings", true, &repeat(frame(SETTINGS, 0, 0, &[])));
    check("priority", true, &repeat(frame(2, 0, 1, &[0, 0, 0, 0, 7])));
    check("unknown", true, &repeat(frame(0x42, 0, 0, &[])));
    check("continuation", false, &|at| match at {
        0 => frame(HEADERS, END_STREAM, 1, &request),
        _ => frame(CONTINUATION, 0, 1, &fields(&[("x", "y")])),
    });
    let reset = 8_u32.to_be_bytes();
    check("rapid reset", false, &|at| {
        let one = |n: u32| {
            let stream = 2 * (100 * at + n) + 1;
            let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request);
            [head, frame(RST_STREAM, 0, stream, &reset)].concat()
        };
        (0..100).flat_map(one).collect()
    });
}

#[test]
fn an_upload_that_stops_is_answered_408_and_a_trailer_of_an_upload_is_no_fault() {
    let upstream = Upstream::scripted(|mut exchange| {
        while exchange.head().is_some() && exchange.until(b"0\r\n\r\n").is_some() {
            exchange.write(&reply("x"));
        }
    });
    let proxy = Proxy::start(
        "timeouts = { body_idle = \"200ms\" }",
        &only(&[upstream.address()], ""),
    );
    run(async {
        let client = connect(proxy.address()).await;
        let mut sender = client.clone().ready().await.expect("it is open");
        let request = || Request::post("http://h/").body(()).expect("a request");
        let (answer, mut upload) = sender.send_request(request(), false).expect("it is sent");
        upload
            .send_data(Bytes::from_static(b"half"), false)
            .expect("it is sent");
        let answer = whole(answer.await.expect("an answer"))
            .await
            .expect("all of it");
        assert_eq!(answer.status, 408);
        assert_eq!(answer.headers["x-serin-error"], "request_timeout");
        let mut sender = client.clone().ready().await.expect("it is open");
        let (answer, mut upload) = sender.send_request(request(), false).expect("it is sent");
        upload
            .send_data(Bytes::from_static(b"half"), false)
            .expect("it is sent");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        upload.send_trailers(trailers).expect("they are sent");
        assert_eq!(answer.await.expect("an answer").status(), 200);
    });
}
