//! Each reason that `x-serin-error` can give is given by something that a client or an upstream can do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use crate::support::certificates::Ca;
use crate::support::{Proxy, Upstream, closed, only, reply};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// The reasons as `src/proxy/respond.rs` has them.
fn reasons() -> Vec<String> {
    let code = std::fs::read_to_string("src/proxy/respond.rs").expect("the code is there");
    let (_, rest) = code.split_once("fn reason(").expect("the list of reasons");
    let (list, _) = rest.split_once("fn closes(").expect("its end");
    let quoted = list.split("=> \"").skip(1);
    let names = quoted.map(|rest| rest.split('"').next().unwrap_or_default());
    names.map(str::to_owned).collect()
}

#[test]
fn each_reason_in_the_code_is_produced_by_a_request() {
    let reasons = reasons();
    assert!(reasons.len() >= 17, "{reasons:?}");
    for reason in &reasons {
        let (said, proxy) = produce(reason);
        assert_eq!(&said, reason);
        let label = format!("reason=\"{reason}\"");
        assert!(
            proxy.metric("serin_answers_total", &[&label]) > 0,
            "{reason}"
        );
    }
}

// Does what has this answer; the reason that the answer names.
fn produce(reason: &str) -> (String, Proxy) {
    let limits = "limits = { head = \"2KiB\", headers = 20, target = \"1KiB\", body = \"1KiB\" }";
    let limited = |request: &str| {
        let upstream = Upstream::answering(reply("x"));
        asked(
            Proxy::start(limits, &only(&[upstream.address()], "")),
            request,
        )
    };
    let behind = |upstream: &Upstream, more: &str| {
        asked(Proxy::start("", &only(&[upstream.address()], more)), GET)
    };
    let saying = |answer: &'static str| {
        Upstream::scripted(move |mut exchange| {
            exchange.request();
            exchange.write(answer);
        })
    };
    match reason {
        "bad_request" => limited("GET / HTTP/1.1\r\n\r\n"),
        "method_not_allowed" => limited(&GET.replace("GET", "TRACE")),
        "body_too_large" => limited("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1025\r\n\r\n"),
        "target_too_long" => limited(&GET.replace("GET /", &format!("GET /{}", "x".repeat(1024)))),
        "headers_too_large" => {
            limited(&GET.replace("host: a", &format!("host: a\r\nx: {}", "y".repeat(2048))))
        }
        "version_not_supported" => limited(&GET.replace("1.1", "1.2")),
        "not_implemented" => limited(&GET.replace("host: a", "host: a\r\ntransfer-encoding: gzip")),
        "request_timeout" => {
            let upstream = Upstream::answering(reply("x"));
            let timeouts = "timeouts = { head = \"100ms\" }";
            let proxy = Proxy::start(timeouts, &only(&[upstream.address()], ""));
            asked(proxy, "GET / HTTP/1.1\r\n")
        }
        "no_route" => {
            let text = only(&[closed()], "").replace("path = \"/\"", "path = \"/api\"");
            asked(Proxy::start("", &text), GET)
        }
        "no_healthy_endpoint" => {
            let proxy = Proxy::start("", &only(&[closed()], ""));
            let pool = serin::rollout::name::PoolName::parse("base").expect("a name");
            let address = proxy.live.load().pools()[0].endpoints[0].address.clone();
            assert!(proxy.live.load().set_drained(&pool, &address, true));
            asked(proxy, GET)
        }
        "tls_failed" => {
            let plain = Upstream::scripted(|mut exchange| {
                exchange.write("no TLS here");
                exchange.end();
            });
            behind(&plain, "tls = {}")
        }
        "connect_failed" => asked(Proxy::start("", &only(&[closed()], "")), GET),
        "reset" => behind(&saying(""), ""),
        "bad_answer" => behind(&saying("garbage\r\n\r\n"), ""),
        "timeout" => {
            let hanging = Upstream::scripted(|mut exchange| _ = exchange.end());
            behind(&hanging, "timeouts = { answer_head = \"100ms\" }")
        }
        "overloaded" => overloaded(),
        "wrong_host" => misdirected(),
        _ => panic!("no request here is answered {reason:?}: add one"),
    }
}

fn asked(proxy: Proxy, request: &str) -> (String, Proxy) {
    let answer = proxy.ask(request);
    let said = answer.header("x-serin-error").unwrap_or_default();
    (said.to_owned(), proxy)
}

// A request beside one that takes the only place and gives it back when the test is over.
fn overloaded() -> (String, Proxy) {
    let (arrived, come) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        exchange.request();
        // Where the test is over, nobody waits for it.
        arrived.send(()).ok();
        exchange.end();
    });
    let one = "overload = { in_flight = 1, queued = 0 }";
    let proxy = Proxy::start("", &only(&[upstream.address()], one));
    let mut first = proxy.client();
    first.send(GET);
    come.recv().expect("the first request arrives");
    asked(proxy, GET)
}

// A request over TLS for a host that the connection is not for.
fn misdirected() -> (String, Proxy) {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    let upstream = Upstream::answering(reply("x"));
    let listen = format!(
        "{{ address = \"127.0.0.1:0\", tls = {} }}",
        ca.keys("a", "")
    );
    let proxy = Proxy::start_listening(&listen, &only(&[upstream.address()], ""));
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    let mut stream = ca.secure_blocking(stream, "a.example", &[]);
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: b.example\r\nconnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let said = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-serin-error: "));
    (said.unwrap_or_default().to_owned(), proxy)
}
