//! Starting twice, draining, and the probes.

use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin::clock;
use serin::proxy;
use serin::shutdown::{self, Stage};
use serin::upstream::upkeep;

use crate::support::{Proxy, Upstream, config, only, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let upstream = Upstream::answering(reply("x"));
    let first = Proxy::start("", &only(&[upstream.address()], ""));
    let mut config = config("", &only(&[upstream.address()], ""));
    config.server.listen = vec![first.address()];
    match proxy::bind(&config.server) {
        Err(error) => assert_eq!(error.address, first.address()),
        Ok(bound) => panic!("{bound:?}"),
    }
}

#[test]
fn every_worker_answers() {
    let upstream = Upstream::answering(reply("x"));
    let mut config = config("", &only(&[upstream.address()], ""));
    config.server.workers = 4;
    let proxy = Proxy::start_with(&config);
    for _ in 0..40 {
        assert_eq!(proxy.ask(GET).status, 200);
    }
    // Each worker that had a connection opened one of its own.
    assert!(
        upstream.connections() > 1 && upstream.connections() <= 4,
        "{}",
        upstream.connections()
    );
}

#[test]
fn what_was_begun_is_answered_and_idle_connections_have_their_grace() {
    let (asked, requests) = mpsc::channel();
    let (go, proceed) = mpsc::channel::<()>();
    let proceed = Arc::new(Mutex::new(proceed));
    let upstream = Upstream::scripted(move |mut exchange| {
        while let Some((head, _)) = exchange.request() {
            if head.starts_with("GET /slow") {
                asked.send(()).expect("the test listens");
                proceed
                    .lock()
                    .expect("one thread")
                    .recv()
                    .expect("the test speaks");
            }
            exchange.write(&reply("answered"));
        }
    });
    let proxy = Proxy::start(
        "timeouts = { idle_grace = \"500ms\" }",
        &only(&[upstream.address()], ""),
    );
    let (mut idle, mut late, mut busy) = (proxy.client(), proxy.client(), proxy.client());
    for client in [&mut idle, &mut late] {
        client.send(GET);
        assert_eq!(client.answer().header("connection"), None);
    }
    busy.send(&GET.replace("/ ", "/slow "));
    requests.recv().expect("upstream was asked");

    proxy.advance(Stage::Leaving);
    assert_eq!(
        proxy.ask(GET).header("connection"),
        None,
        "leaving still serves"
    );
    let begin = clock::now();
    proxy.advance(Stage::Draining);
    let address = proxy.address();
    wait_for("the listener to close", || {
        TcpStream::connect(address).is_err()
    });

    late.send(GET);
    let answer = late.answer();
    assert_eq!(
        (answer.text().as_str(), answer.header("connection")),
        ("answered", Some("close"))
    );
    assert!(late.is_closed());
    assert!(idle.is_closed());
    assert!(
        begin.elapsed() >= Duration::from_millis(500),
        "idle lives its grace"
    );
    go.send(()).expect("upstream waits");
    let answer = busy.answer();
    assert_eq!(
        (answer.text().as_str(), answer.header("connection")),
        ("answered", Some("close"))
    );
    proxy.join().expect("an orderly end");
}

#[test]
fn the_deadline_cuts_what_is_left() {
    let hanging = Upstream::scripted(|mut exchange| _ = exchange.end());
    let proxy = Proxy::start("", &only(&[hanging.address()], ""));
    let mut client = proxy.client();
    client.send(GET);
    wait_for("the request", || hanging.connections() == 1);
    proxy.advance(Stage::Draining);
    proxy.advance(Stage::Stopped);
    assert!(client.is_closed());
    proxy.join().expect("an orderly end");
}

#[test]
fn probes_take_endpoints_out_and_bring_them_back() {
    let answer = Arc::new(Mutex::new("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let shared = Arc::clone(&answer);
    let flaky = Upstream::scripted(move |mut exchange| {
        while let Some((head, _)) = exchange.request() {
            let probe = *shared.lock().expect("nobody panicked");
            let answer = if head.starts_with("GET /health") {
                probe.to_owned()
            } else {
                reply("flaky")
            };
            exchange.write(&answer);
        }
    });
    let steady = Upstream::answering(reply("steady"));
    let checked = "health = { path = \"/health\", interval = \"20ms\", unhealthy_after = 2, healthy_after = 2 }";
    let text = only(&[flaky.address(), steady.address()], "").replace("health = false", checked);
    let proxy = Proxy::start("", &text);
    let (trigger, shutdown) = shutdown::channel();
    let mut probing = upkeep::start(proxy.live.pools(), shutdown).expect("a thread");
    let view = || proxy.live.load().pools()[0].endpoints[0].clone();
    let usable = || {
        let name = serin::rollout::name::PoolName::parse("base").expect("a name");
        proxy
            .live
            .load()
            .pool_health(&name)
            .expect("it is there")
            .usable
    };
    wait_for("a first probe", || view().probes_answered > 0);
    assert_eq!(usable(), 2);
    *answer.lock().expect("nobody panicked") = "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n";
    wait_for("it to be taken out", || usable() == 1);
    assert_eq!(view().fault.as_deref(), Some("answered 503"));
    for _ in 0..4 {
        assert_eq!(proxy.ask(GET).text(), "steady");
    }
    *answer.lock().expect("nobody panicked") = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    wait_for("it to come back", || usable() == 2);
    let view = view();
    assert!(
        view.probes_sent > view.probes_answered && view.fault.is_none(),
        "{view:?}"
    );
    trigger.advance(Stage::Draining);
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(probing.ended());
}
