//! gRPC through the proxy, with the client and the server that most people use, and what its calls count as.

use http::Request;
use serin::shutdown::{self, Stage};
use serin::upstream::upkeep;

use crate::support::http2::{DATA, RST_STREAM, ask, connect, run};
use crate::support::http2_upstream::FrameServer;
use crate::support::peers::{GrpcServer, grpc_calls};
use crate::support::{Proxy, closed, only, wait_for};

const H2C: &str = "protocol = \"h2c\"";
const CALL: [(&str, &str); 1] = [("content-type", "application/grpc")];

fn call() -> Request<()> {
    let request = Request::post("http://h/test.Echo/Unary")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(()).expect("a request")
}

#[test]
fn calls_of_all_shapes_come_to_the_same_as_without_the_proxy() {
    let server = GrpcServer::start();
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    let direct = grpc_calls(server.address());
    assert_eq!(direct.len(), 17, "{direct:#?}");
    let through = grpc_calls(proxy.address());
    for (direct, through) in direct.iter().zip(&through) {
        assert_eq!(direct, through);
    }
    assert_eq!(direct.len(), through.len());
    // Seven shapes and sizes, three calls for the events, three hundred at once.
    for (outcome, count) in [("ok", 310), ("client_error", 2), ("error", 3)] {
        assert_eq!(proxy.attempts("base", "first", outcome), count, "{outcome}");
    }
}

#[test]
fn a_call_counts_as_its_status_says_wherever_that_stands() {
    for (status, outcome) in [
        (Some("0"), "ok"),
        (Some("1"), "ok"),
        (Some("2"), "error"),
        (Some("4"), "failed"),
        (Some("7"), "client_error"),
        (Some("14"), "failed"),
        (Some("99"), "error"),
        (None, "error"),
    ] {
        let server = FrameServer::scripted(&[], move |mut connection| {
            while let Some(stream) = connection.request() {
                // First with nothing but a head, then after a message.
                let mut fields = CALL.to_vec();
                fields.extend(status.map(|status| ("grpc-status", status)));
                if stream == 1 {
                    connection.only_head(stream, &fields);
                    continue;
                }
                connection.head(stream, &CALL);
                connection.send(DATA, 0, stream, &[0; 5]);
                connection.trailers(stream, &fields[1..]);
            }
        });
        let proxy = Proxy::start("", &only(&[server.address()], H2C));
        run(async {
            let client = connect(proxy.address()).await;
            for _ in 0..2 {
                let answer = ask(&client, call(), &[0; 5]).await.expect("an answer");
                let headers = answer.trailers.as_ref().unwrap_or(&answer.headers);
                let found = headers.get("grpc-status").map(|found| found.as_bytes());
                assert_eq!(found, status.map(str::as_bytes));
            }
        });
        assert_eq!(proxy.attempts("base", "first", outcome), 2, "{status:?}");
        assert_eq!(proxy.attempts("base", "", ""), 2, "{status:?}");
    }
}

#[test]
fn only_calls_are_judged_by_that_status() {
    let server = FrameServer::scripted(&[], |mut connection| {
        while let Some(stream) = connection.request() {
            connection.only_head(stream, &[("grpc-status", "14")]);
        }
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").status, 200);
    assert_eq!(proxy.attempts("base", "first", "ok"), 1);
}

#[test]
fn silence_within_a_stream_is_limited_by_stream_idle_alone() {
    let server = FrameServer::scripted(&[], |mut connection| {
        let stream = connection.request().expect("a call");
        connection.head(stream, &CALL);
        connection.send(DATA, 0, stream, &[0; 5]);
        connection.find(RST_STREAM);
    });
    let server_keys = "timeouts = { stream_idle = \"400ms\" }";
    let more = format!("{H2C}\ntimeouts = {{ body_idle = \"50ms\" }}");
    let proxy = Proxy::start(server_keys, &only(&[server.address()], &more));
    let begun = serin::clock::now();
    run(async {
        let client = connect(proxy.address()).await;
        let answer = ask(&client, call(), &[0; 5]).await;
        assert!(answer.is_err(), "{answer:?}");
    });
    assert!(begun.elapsed().as_millis() >= 400, "{:?}", begun.elapsed());
    wait_for("the reset", || server.came(RST_STREAM).len() == 1);
    assert_eq!(proxy.attempts("base", "first", "failed"), 1);
}

#[test]
fn a_code_of_the_server_reaches_the_client_in_its_reset() {
    // ENHANCE_YOUR_CALM.
    let server = FrameServer::scripted(&[], |mut connection| {
        while let Some(stream) = connection.request() {
            connection.head(stream, &CALL);
            connection.reset(stream, 11);
        }
    });
    let proxy = Proxy::start("", &only(&[server.address()], H2C));
    run(async {
        let client = connect(proxy.address()).await;
        let error = ask(&client, call(), &[0; 5]).await.expect_err("a reset");
        assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    });
    assert_eq!(proxy.attempts("base", "first", "failed"), 1);
}

#[test]
fn what_the_proxy_answers_itself_is_an_http_status_that_clients_of_grpc_translate() {
    let proxy = Proxy::start("", &only(&[closed()], H2C));
    run(async {
        let client = connect(proxy.address()).await;
        let answer = ask(&client, call(), &[0; 5]).await.expect("an answer");
        assert_eq!(answer.status, 502);
        assert_eq!(answer.headers["x-serin-error"], "connect_failed");
    });
}

#[test]
fn health_is_asked_in_the_words_of_grpc() {
    let server = GrpcServer::start();
    for (service, healthy, fault) in [
        ("", true, None),
        ("down", false, Some("not serving (status 2)")),
        ("unknown", false, Some("answered grpc-status 5")),
    ] {
        let health = format!("{{ kind = \"grpc\", service = \"{service}\", interval = \"50ms\" }}");
        let text = only(&[server.address()], H2C);
        let text = text.replace("health = false", &format!("health = {health}"));
        let proxy = Proxy::start("", &text);
        let (trigger, shutdown) = shutdown::channel();
        let probes = upkeep::start(proxy.live.pools(), shutdown).expect("a thread");
        let view = || proxy.live.load().pools()[0].endpoints[0].clone();
        wait_for("a probe", || match healthy {
            true => view().probes_answered >= 1,
            false => !view().healthy,
        });
        assert_eq!(view().healthy, healthy, "{service:?}: {:?}", view().fault);
        assert_eq!(view().fault.as_deref(), fault);
        trigger.advance(Stage::Draining);
        assert!(probes.join());
    }
}
