//! Streams: answers that are silent for long, and end when somebody says so.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serin::clock;

use crate::support::http2::{connect, is_ended, run};
use crate::support::{Client, PATIENCE, Proxy, Upstream, only, rollout, wait_for};

const EVENTS: &str = "text/event-stream";
const GRPC: &str = "application/grpc+proto";

/// Sends a head of this type with the first words, and further words when it is told to.
fn told(content_type: &'static str) -> (Upstream, Sender<&'static str>) {
    let (say, words) = mpsc::channel::<&'static str>();
    let words = Arc::new(Mutex::new(words));
    let upstream = Upstream::scripted(move |mut exchange| {
        while exchange.head().is_some() {
            exchange.write(&format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n{}",
                chunk("first")
            ));
            while let Ok(words) = hear(&words) {
                if !exchange.write(&chunk(words)) || words.is_empty() {
                    break;
                }
            }
        }
    });
    (upstream, say)
}

fn hear(words: &Mutex<Receiver<&'static str>>) -> Result<&'static str, mpsc::RecvTimeoutError> {
    words
        .lock()
        .expect("nobody panicked")
        .recv_timeout(PATIENCE)
}

fn chunk(words: &str) -> String {
    let len = words.len();
    if len == 0 {
        "0\r\n\r\n".to_owned()
    } else {
        format!("{len:x}\r\n{words}\r\n")
    }
}

fn get(proxy: &Proxy, learner: &str) -> Client {
    let mut client = proxy.client();
    client.send(&format!(
        "GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: {learner}\r\n\r\n"
    ));
    assert!(client.head().starts_with("http/1.1 200 "));
    assert_eq!(client.exactly(10), chunk("first").as_bytes());
    client
}

#[test]
fn a_stream_may_be_silent_for_stream_idle_and_a_body_for_body_idle() {
    for content_type in [
        "text/event-stream; charset=utf-8",
        EVENTS,
        GRPC,
        "Application/GRPC",
    ] {
        let (upstream, say) = told(content_type);
        let proxy = Proxy::start(
            "timeouts = { stream_idle = \"1s\" }",
            &only(
                &[upstream.address()],
                "timeouts = { body_idle = \"200ms\" }",
            ),
        );
        let (plain, _say_nothing) = told("text/plain");
        let bodies = Proxy::start(
            "timeouts = { stream_idle = \"1s\" }",
            &only(&[plain.address()], "timeouts = { body_idle = \"200ms\" }"),
        );
        let mut stream = get(&proxy, "l");
        let mut body = get(&bodies, "l");
        assert!(body.is_closed(), "a body is cut");
        assert_eq!(bodies.attempts("base", "first", "failed"), 1);
        say.send("more").expect("upstream listens");
        assert_eq!(
            stream.exactly(9),
            chunk("more").as_bytes(),
            "{content_type}"
        );
        let begin = clock::now();
        assert!(stream.is_closed(), "a stream is cut as well, later");
        assert!(
            begin.elapsed() >= Duration::from_millis(800),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(proxy.metric("serin_streams_idle_total", &[]), 1);
        // Its silence is no failure, and no latency.
        wait_for("its count", || proxy.attempts("base", "first", "ok") == 1);
        let fast = ["le=\"0.1\"", "pool=\"base\""];
        assert_eq!(proxy.metric("serin_pool_latency_seconds_bucket", &fast), 1);
    }
}

#[test]
fn a_stream_that_ends_by_itself_keeps_its_connection() {
    let (upstream, say) = told(EVENTS);
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    for _ in 0..2 {
        let mut client = get(&proxy, "l");
        say.send("more").expect("upstream listens");
        say.send("").expect("upstream listens");
        assert_eq!(client.exactly(9), chunk("more").as_bytes());
        assert_eq!(client.exactly(5), b"0\r\n\r\n");
    }
    assert_eq!(upstream.connections(), 1);
    wait_for("the count", || proxy.attempts("base", "first", "ok") == 2);
}

#[test]
fn a_client_of_a_stream_both_ways_may_be_silent_while_the_server_speaks() {
    let (say, words) = mpsc::channel::<&'static str>();
    let words = Arc::new(Mutex::new(words));
    let (hear_from, heard) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        if exchange.head().is_none() {
            return;
        }
        exchange.write(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {GRPC}\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
        while let Ok(words) = hear(&words) {
            exchange.write(&chunk(words));
            if words.is_empty() {
                break;
            }
        }
        hear_from
            .send(exchange.until(b"0\r\n\r\n"))
            .expect("the test listens");
    });
    let proxy = Proxy::start(
        "timeouts = { stream_idle = \"800ms\", body_idle = \"200ms\" }",
        &only(
            &[upstream.address()],
            "timeouts = { body_idle = \"200ms\" }",
        ),
    );
    run(async {
        let mut client = connect(proxy.address())
            .await
            .ready()
            .await
            .expect("a stream");
        let request = Request::post("http://h/call")
            .header("content-type", GRPC)
            .header("te", "trailers");
        let (answer, mut up) = client
            .send_request(request.body(()).expect("a request"), false)
            .expect("it is sent");
        up.send_data(Bytes::from_static(b"hello"), false)
            .expect("it is sent");
        let mut down = answer.await.expect("an answer").into_body();
        // The client says nothing for twice as long as both of them may.
        let begin = clock::now();
        while begin.elapsed() < Duration::from_millis(1600) {
            say.send("word").expect("upstream listens");
            let piece = down.data().await.expect("more").expect("no fault");
            assert_eq!(&piece[..], b"word");
            let flow = down.flow_control();
            flow.release_capacity(piece.len()).expect("it was taken");
        }
        up.send_data(Bytes::from_static(b"bye"), true)
            .expect("it is heard still");
        say.send("").expect("upstream listens");
        assert!(is_ended(&mut down).await);
    });
    let heard = heard
        .recv_timeout(PATIENCE)
        .expect("it is told")
        .expect("all of it");
    assert_eq!(heard, b"5\r\nhello\r\n3\r\nbye\r\n0\r\n\r\n");
}

#[test]
fn a_retreat_ends_streams_on_canary_after_the_grace_and_lets_bodies_finish() {
    let ((base, _base_says), (new, say)) = (told(EVENTS), told(EVENTS));
    let text = rollout(
        &[base.address()],
        &[new.address()],
        "stream_grace = \"300ms\"",
    );
    let mut proxy = Proxy::start("", &text);
    let mut on_base = get(&proxy, "early");
    proxy.set_weight("100%");
    let mut stream = get(&proxy, "l");
    let begin = clock::now();
    proxy.publish("r", |split| split);
    say.send("more").expect("upstream listens");
    assert_eq!(
        stream.exactly(9),
        chunk("more").as_bytes(),
        "it has its grace"
    );
    assert!(stream.is_closed(), "then it is cut");
    assert!(
        begin.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(proxy.metric("serin_streams_retreated_total", &[]), 1);
    wait_for("its count", || proxy.arm("canary", "ok") == 1);
    assert!(on_base.is_silent(), "baseline's goes on");

    let ((base, _base_says), (new, say)) = (told("text/plain"), told("text/plain"));
    let text = rollout(
        &[base.address()],
        &[new.address()],
        "stream_grace = \"100ms\"",
    );
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("100%");
    let mut body = get(&proxy, "l");
    proxy.publish("r", |split| split);
    let begin = clock::now();
    wait_for("more than the grace", || {
        begin.elapsed() > Duration::from_millis(400)
    });
    say.send("more").expect("upstream listens");
    assert_eq!(
        body.exactly(9),
        chunk("more").as_bytes(),
        "an answer that has begun is finished"
    );
}

#[test]
fn a_long_poll_waits_as_long_as_its_pool_says() {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Arc::new(Mutex::new(may_go));
    let upstream = Upstream::scripted(move |mut exchange| {
        while exchange.request().is_some() {
            let waiting = may_go.lock().expect("nobody panicked");
            waiting.recv_timeout(PATIENCE).expect("the test speaks");
            exchange.write(&crate::support::reply("news"));
        }
    });
    let timeouts = "timeouts = { answer_head = \"10m\", body_idle = \"50ms\" }";
    let server = "timeouts = { body_idle = \"50ms\", keep_alive = \"50ms\", head = \"50ms\" }";
    let proxy = Proxy::start(server, &only(&[upstream.address()], timeouts));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let begin = clock::now();
    wait_for("more than any other limit", || {
        begin.elapsed() > Duration::from_millis(400)
    });
    assert!(client.is_silent());
    go.send(()).expect("upstream waits");
    assert_eq!(client.answer().text(), "news");
}
