//! Tunnels: requests of HTTP/1.1 that change the protocol, on raw sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin::clock;
use serin::rollout::assign::Salt;
use serin::shutdown::Stage;

use crate::support::http2_upstream::FrameServer;
use crate::support::upstream::Exchange;
use crate::support::{PATIENCE, Proxy, Upstream, only, reply, rollout, wait_for};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: foo/1\r\n\r\n";
const AGREE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: foo/1\r\n\r\n";
const GET: &str = "GET /plain HTTP/1.1\r\nhost: h\r\n\r\n";

/// A client's side of a tunnel.
struct Raw(TcpStream);

impl Raw {
    /// Connects, and sends these bytes.
    fn send(proxy: &Proxy, bytes: &[u8]) -> Self {
        let mut stream = TcpStream::connect(proxy.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(bytes).expect("the proxy reads");
        Self(stream)
    }

    /// Opens a tunnel.
    fn open(proxy: &Proxy, ask: &str) -> Self {
        let mut raw = Self::send(proxy, ask.as_bytes());
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    // Byte by byte, so that nothing behind it is read.
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.exactly(1));
        }
        String::from_utf8(head).expect("a head is text")
    }

    fn exactly(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }

    fn echoes(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).is_ok() && {
            let mut bytes = vec![0; text.len()];
            self.0.read_exact(&mut bytes).is_ok() && bytes == text.as_bytes()
        }
    }

    /// How it ends: what came before the end, or the kind of error.
    fn rest(&mut self) -> Result<Vec<u8>, ErrorKind> {
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        read.map(|_| rest).map_err(|error| error.kind())
    }

    fn finish(&self) {
        self.0.shutdown(Shutdown::Write).expect("it is open");
    }

    /// Ends with a reset.
    fn reset(self) {
        let socket = socket2::Socket::from(self.0);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("it can be set");
    }
}

/// Agrees to every upgrade, and echoes; to anything else says 200.
fn echo() -> Upstream {
    Upstream::scripted(|mut exchange| {
        while let Some(head) = exchange.head() {
            if head.to_lowercase().contains("upgrade: foo/1") {
                exchange.write(AGREE);
                return exchange.echo();
            }
            exchange.write(&reply("plain"));
        }
    })
}

/// An upstream that does as the test says, connection by connection, after the head of a request.
fn told(script: impl Fn(Exchange) + Send + Sync + 'static) -> Upstream {
    Upstream::scripted(move |mut exchange| {
        if exchange.head().is_some() {
            script(exchange);
        }
    })
}

fn signal<T: Send + 'static>() -> (Sender<T>, Arc<Mutex<Receiver<T>>>) {
    let (sender, receiver) = mpsc::channel();
    (sender, Arc::new(Mutex::new(receiver)))
}

fn wait<T>(signal: &Mutex<Receiver<T>>) -> T {
    let signal = signal.lock().expect("nobody panicked");
    signal.recv_timeout(PATIENCE).expect("it is told")
}

fn open_tunnels(proxy: &Proxy, pool: &str) -> u64 {
    let label = format!("pool=\"{pool}\"");
    proxy.metric("serin_pool_tunnels_open", &[&label])
}

#[test]
fn a_made_up_protocol_passes_both_ways_and_is_counted_when_it_ends() {
    let upstream = echo();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::open(&proxy, ASK);
    assert!(client.echoes("one"));
    assert!(client.echoes("\0\r\n\r\nGET / HTTP/1.1\r\n\r\n"));
    assert_eq!(open_tunnels(&proxy, "base"), 1);
    assert_eq!(proxy.attempts("base", "", ""), 0, "not before it ended");
    client.finish();
    assert_eq!(client.rest(), Ok(Vec::new()));
    wait_for("its end", || open_tunnels(&proxy, "base") == 0);
    assert_eq!(proxy.attempts("base", "first", "ok"), 1);
    assert_eq!(proxy.attempts("base", "", ""), 1);
    assert_eq!(proxy.metric("serin_pool_tunnels_total", &[]), 1);
    for direction in ["direction=\"in\"", "direction=\"out\""] {
        let bytes = proxy.metric("serin_pool_tunnel_bytes_total", &[direction]);
        assert_eq!(bytes, 3 + 23, "{direction}");
    }
    let head = upstream.last_head().to_lowercase();
    assert!(head.contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains("upgrade: foo/1\r\n"), "{head}");
    assert!(head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
}

#[test]
fn the_answers_head_is_upstreams_and_names_the_protocol() {
    let upstream = told(|mut exchange| {
        exchange.write(
            "HTTP/1.1 101 Fine\r\nConnection: keep-alive, Upgrade\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
             Upgrade: FOO/1\r\ncontent-length: 3\r\n\r\nabc",
        );
        exchange.end();
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::open(&proxy, ASK);
    // Bytes that came with the head are the other protocol's, whatever a length says.
    assert_eq!(client.exactly(3), b"abc");
    let mut again = Raw::send(&proxy, ASK.as_bytes());
    let head = again.head().to_lowercase();
    for line in ["connection: upgrade", "upgrade: foo/1", "x-own: 1"] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    for gone in ["keep-alive", "content-length", "x-serin"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
}

#[test]
fn each_side_may_end_first_and_hear_the_other_out() {
    let (ended, has_ended) = signal();
    let upstream = told(move |mut exchange| {
        exchange.write(AGREE);
        let heard = exchange.until(b"!");
        // The client's end, and then words of our own.
        assert_eq!(exchange.end(), None);
        exchange.write("heard you");
        ended.send(heard).expect("the test listens");
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::open(&proxy, ASK);
    client.0.write_all(b"all!").expect("it reads");
    client.finish();
    assert_eq!(client.rest(), Ok(b"heard you".to_vec()));
    assert_eq!(wait(&has_ended), Some(b"all!".to_vec()));

    let (told_all, has_told) = signal();
    let upstream = told(move |mut exchange| {
        exchange.write(AGREE);
        exchange.write("bye");
        exchange
            .stream
            .shutdown(Shutdown::Write)
            .expect("it is open");
        told_all
            .send(exchange.until(b"!"))
            .expect("the test listens");
        assert_eq!(exchange.end(), None);
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::open(&proxy, ASK);
    assert_eq!(client.rest(), Ok(b"bye".to_vec()));
    client.0.write_all(b"later!").expect("it is read still");
    assert_eq!(wait(&has_told), Some(b"later!".to_vec()));
    client.finish();
    wait_for("its end", || proxy.attempts("base", "first", "ok") == 1);
}

#[test]
fn what_comes_early_waits_for_the_answer_and_is_passed_to_the_byte() {
    for early in [
        &b"x"[..],
        b"GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n",
        b"\r\n\r\n\0 no HTTP at all \xff",
    ] {
        let (asked, is_asked) = signal();
        let (go, may_go) = signal::<()>();
        let len = early.len();
        let upstream = Upstream::scripted(move |mut exchange| {
            if exchange.head().is_none() {
                return;
            }
            asked.send(()).expect("the test listens");
            wait(&may_go);
            assert_eq!(exchange.buffered(), 0, "nothing before the answer");
            exchange.write(AGREE);
            let heard = exchange.exactly(2 * len + 1).expect("the early bytes");
            exchange.write_bytes(&heard);
        });
        let proxy = Proxy::start("", &only(&[upstream.address()], ""));
        // Some with the head, and some behind it.
        let mut client = Raw::send(&proxy, &[ASK.as_bytes(), early].concat());
        wait(&is_asked);
        client.0.write_all(early).expect("it is kept");
        go.send(()).expect("upstream waits");
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        client.0.write_all(b"!").expect("it reads");
        assert_eq!(client.rest(), Ok([early, early, b"!"].concat()));
        assert_eq!(upstream.requests(), 1);
    }
}

#[test]
fn an_early_end_is_heard_behind_the_early_bytes() {
    let upstream = echo();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::send(&proxy, &[ASK.as_bytes(), b"all of it"].concat());
    client.finish();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.rest(), Ok(b"all of it".to_vec()));
}

#[test]
fn a_refusal_is_a_plain_answer_and_what_follows_is_framed_again() {
    for refusal in [
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: foo/2\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let upstream = Upstream::scripted(move |mut exchange| {
            while let Some(head) = exchange.head() {
                let is_asked = head.starts_with("GET /chat");
                exchange.write(&if is_asked {
                    refusal.to_owned()
                } else {
                    reply("plain")
                });
            }
        });
        let proxy = Proxy::start("", &only(&[upstream.address()], ""));
        let status = &refusal[9..12];
        let mut client = proxy.client();
        // What follows the head is a request where it is one ...
        client.send(&format!("{ASK}{GET}"));
        let answer = client.answer();
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(client.answer().text(), "plain");
        client.send(GET);
        assert_eq!(client.answer().text(), "plain", "the connection goes on");
        // ... and is refused where it is none; upstream never sees it.
        let before = upstream.requests();
        for early in ["no HTTP at all\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n", "\0"] {
            let mut client = proxy.client();
            client.send(&format!("{ASK}{early}"));
            assert_eq!(client.answer().status.to_string(), status);
            let refused = client.answer();
            assert_eq!(
                (refused.status, refused.header("x-serin-error")),
                (400, Some("bad_request")),
                "{early:?}"
            );
            assert!(client.is_closed());
        }
        assert_eq!(upstream.requests(), before + 3);
        assert_eq!(proxy.metric("serin_pool_tunnels_total", &[]), 0);
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_upstreams_fault() {
    let check = |ask: &str, answer: &'static str| {
        let upstream = told(move |mut exchange| {
            exchange.write(answer);
            exchange.end();
        });
        let proxy = Proxy::start(
            "",
            &only(&[upstream.address()], "retries = { attempts = 0 }"),
        );
        let refused = proxy.ask(ask);
        let reason = refused.header("x-serin-error").map(str::to_owned);
        assert_eq!(
            (refused.status, reason.as_deref()),
            (502, Some("bad_answer")),
            "{ask} {answer}"
        );
        wait_for("its count", || {
            proxy.attempts("base", "first", "failed") == 1
        });
        assert_eq!(proxy.metric("serin_pool_tunnels_total", &[]), 0);
    };
    check(GET, AGREE);
    check(
        &ASK.replace("foo/1", "h2c"),
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    );
    check(
        ASK,
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: foo/2\r\n\r\n",
    );
    check(
        ASK,
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    );
    check(ASK, "HTTP/1.1 101 X\r\nconnection: upgrade\r\n\r\n");
    check(ASK, "HTTP/1.1 101 X\r\nupgrade: foo/1\r\n\r\n");
    check(
        ASK,
        "HTTP/1.0 101 X\r\nconnection: upgrade\r\nupgrade: foo/1\r\n\r\n",
    );
}

#[test]
fn what_is_no_upgrade_is_a_plain_request() {
    let upstream = Upstream::answering(reply("plain"));
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let check = |request: &str| {
        assert_eq!(proxy.ask(request).text(), "plain", "{request}");
        let head = upstream.last_head().to_lowercase();
        assert!(
            !head.contains("upgrade:") && !head.contains("connection:"),
            "{head}"
        );
    };
    check(&ASK.replace("foo/1", "h2c"));
    check(&ASK.replace("foo/1", "HTTP/2.0, h2c"));
    check(&ASK.replace("connection: upgrade\r\n", ""));
    check(&ASK.replace("HTTP/1.1", "HTTP/1.0"));
    check(&ASK.replace("\r\n\r\n", "\r\ncontent-length: 1\r\n\r\nx"));
    for malformed in ["a b", "foo/", "\"foo\"", "foo/1/2"] {
        let answer = proxy.ask(&ASK.replace("foo/1", malformed));
        assert_eq!(
            (answer.status, answer.header("x-serin-error")),
            (400, Some("bad_request")),
            "{malformed}"
        );
    }
}

#[test]
fn who_does_not_read_is_not_read_for() {
    const MOST: usize = 32 * 1024 * 1024;
    let (go, may_go) = signal::<()>();
    let upstream = told(move |mut exchange| {
        exchange.write(AGREE);
        wait(&may_go);
        exchange.echo();
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::open(&proxy, ASK);
    // Writes until nobody takes more: the system's buffers of four sockets, and a piece of the proxy's.
    let piece = vec![7; 64 * 1024];
    client
        .0
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    let mut sent = 0;
    while sent < MOST {
        match client.0.write(&piece) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < MOST, "{sent} bytes were taken that nobody reads");
    go.send(()).expect("upstream waits");
    client.finish();
    let echoed = client.rest().expect("an orderly end");
    assert_eq!(echoed.len(), sent, "all of it comes back");
}

#[test]
fn a_side_that_breaks_off_breaks_the_other_off() {
    let upstream = told(|mut exchange| {
        exchange.write(AGREE);
        exchange.exactly(1);
        let socket = socket2::Socket::from(exchange.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("it can be set");
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    let mut client = Raw::open(&proxy, ASK);
    client.0.write_all(b"x").expect("it reads");
    assert_eq!(client.rest(), Err(ErrorKind::ConnectionReset));
    wait_for("its count", || {
        proxy.attempts("base", "first", "failed") == 1
    });

    let (ended, has_ended) = signal();
    let upstream = told(move |mut exchange| {
        exchange.write(AGREE);
        ended.send(exchange.end()).expect("the test listens");
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    Raw::open(&proxy, ASK).reset();
    assert_eq!(wait(&has_ended), Some(ErrorKind::ConnectionReset));
    wait_for("its end", || open_tunnels(&proxy, "base") == 0);
    assert_eq!(
        proxy.attempts("base", "", ""),
        0,
        "the client went away, which is nobody's doing"
    );
}

#[test]
fn a_silent_tunnel_is_closed_and_one_that_speaks_is_not() {
    let upstream = echo();
    let proxy = Proxy::start(
        "timeouts = { stream_idle = \"700ms\", keep_alive = \"100ms\", head = \"100ms\", body_idle = \"100ms\" }",
        &only(
            &[upstream.address()],
            "timeouts = { body_idle = \"100ms\", answer_head = \"100ms\" }",
        ),
    );
    let mut silent = Raw::open(&proxy, ASK);
    let mut speaking = Raw::open(&proxy, ASK);
    let begin = clock::now();
    silent.0.set_nonblocking(true).expect("it can be set");
    let has_ended = |raw: &mut Raw| match raw.0.read(&mut [0]) {
        Ok(0) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        other => panic!("{other:?}"),
    };
    wait_for("the silent one's end", || {
        assert!(speaking.echoes("word"));
        has_ended(&mut silent)
    });
    assert!(
        begin.elapsed() >= Duration::from_millis(600),
        "{:?}",
        begin.elapsed()
    );
    assert!(speaking.echoes("word"), "it lives on");
    assert_eq!(proxy.metric("serin_streams_idle_total", &[]), 1);
    wait_for("its count", || proxy.attempts("base", "first", "ok") == 1);
}

#[test]
fn a_retreat_ends_tunnels_on_canary_after_the_grace_and_no_others() {
    let (base, new) = (echo(), echo());
    let text = rollout(
        &[base.address()],
        &[new.address()],
        "stream_grace = \"500ms\"",
    );
    let mut proxy = Proxy::start("", &text);
    let ask = |learner: usize| {
        ASK.replace(
            "host: h\r\n",
            &format!("host: h\r\nx-learner-id: l{learner}\r\n"),
        )
    };
    let mut early = Raw::open(&proxy, &ask(0));
    proxy.set_weight("100%");
    assert!(early.echoes("x"), "going up moves none");
    let mut on_canary: Vec<Raw> = (0..20)
        .map(|learner| Raw::open(&proxy, &ask(learner)))
        .collect();
    assert_eq!(
        (open_tunnels(&proxy, "base"), open_tunnels(&proxy, "new")),
        (1, 20)
    );

    // To half of them: those who would be sent to canary still stay there.
    let salt = Salt::new("r");
    let stays = |learner: usize| salt.hash(format!("l{learner}").as_bytes()).bucket() < 500_000;
    let staying = (0..20).filter(|&learner| stays(learner)).count();
    assert!((1..20).contains(&staying), "{staying}");
    let begin = clock::now();
    proxy.set_weight("50%");
    for (learner, tunnel) in on_canary.iter_mut().enumerate() {
        assert!(tunnel.echoes("x"), "{learner} has its grace");
    }
    for (learner, tunnel) in on_canary.iter_mut().enumerate() {
        if !stays(learner) {
            assert_eq!(
                tunnel.rest(),
                Ok(Vec::new()),
                "{learner} is closed in order"
            );
            assert!(
                begin.elapsed() >= Duration::from_millis(400),
                "{:?}",
                begin.elapsed()
            );
        }
    }
    wait_for("the count", || {
        open_tunnels(&proxy, "new") == staying as u64
    });
    assert_eq!(
        proxy.metric("serin_streams_retreated_total", &[]),
        20 - staying as u64
    );

    // Back in time is as if nothing had been; then back for good.
    proxy.publish("r", |split| split);
    proxy.set_weight("100%");
    for (learner, tunnel) in on_canary
        .iter_mut()
        .enumerate()
        .filter(|(learner, _)| stays(*learner))
    {
        assert!(tunnel.echoes("x"), "{learner}");
    }
    proxy.publish("r", |split| split);
    for (learner, tunnel) in on_canary
        .iter_mut()
        .enumerate()
        .filter(|(learner, _)| stays(*learner))
    {
        assert_eq!(tunnel.rest(), Ok(Vec::new()), "{learner}");
    }
    assert!(early.echoes("x"), "baseline's go on");
    // They count for the arm and the split that they began under.
    wait_for("the count", || proxy.arm("canary", "ok") == 20);
    assert_eq!(proxy.arms(), 20);
}

#[test]
fn a_drain_lets_tunnels_live_to_its_end_and_closes_them_then() {
    let (ended, has_ended) = signal();
    let upstream = told(move |mut exchange| {
        exchange.write(AGREE);
        while let Some(byte) = exchange.exactly(1) {
            exchange.write_bytes(&byte);
        }
        ended.send(exchange.end()).expect("the test listens");
    });
    let proxy = Proxy::start(
        "timeouts = { idle_grace = \"100ms\" }",
        &only(&[upstream.address()], ""),
    );
    let mut client = Raw::open(&proxy, ASK);
    proxy.advance(Stage::Draining);
    let address = proxy.address();
    wait_for("the listener to close", || {
        TcpStream::connect(address).is_err()
    });
    let begin = clock::now();
    while begin.elapsed() < Duration::from_millis(300) {
        assert!(client.echoes("x"), "it lives through the drain");
    }
    proxy.advance(Stage::Stopped);
    assert_eq!(client.rest(), Ok(Vec::new()), "closed, not reset");
    assert_eq!(wait(&has_ended), None, "upstream is told as well");
    proxy.join().expect("an orderly end");
}

#[test]
fn a_canary_that_fails_before_it_agrees_is_replaced_by_baseline() {
    let base = echo();
    let new = Upstream::answering("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
    let mut proxy = Proxy::start("", &rollout(&[base.address()], &[new.address()], ""));
    proxy.set_weight("100%");
    let ask = ASK.replace("host: h\r\n", "host: h\r\nx-learner-id: l\r\n");
    let mut client = Raw::open(&proxy, &ask);
    assert!(client.echoes("x"));
    wait_for("the count", || proxy.arm("canary", "error") == 1);
    client.finish();
    assert_eq!(client.rest(), Ok(Vec::new()));
    wait_for("its end", || proxy.attempts("base", "failover", "ok") == 1);
    assert_eq!(proxy.arms(), 1);
}

#[test]
fn a_pool_of_http2_opens_no_tunnel_and_baseline_opens_it_for_such_a_canary() {
    let server = FrameServer::answering(&[], b"x");
    let proxy = Proxy::start("", &only(&[server.address()], "protocol = \"h2c\""));
    let answer = proxy.ask(ASK);
    let found = (answer.status, answer.header("x-serin-error"));
    assert_eq!(found, (501, Some("not_implemented")));
    assert_eq!(proxy.ask(GET).status, 200);
    assert_eq!(server.requests(), 1, "the plain one");

    let base = echo();
    let text = rollout(&[base.address()], &[server.address()], "");
    let text = text.replace("[pools.new]", "[pools.new]\nprotocol = \"h2c\"");
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("100%");
    let ask = ASK.replace("host: h", "host: h\r\nx-learner-id: a");
    let mut client = Raw::open(&proxy, &ask);
    assert!(client.echoes("one"));
    client.finish();
    assert_eq!(client.rest(), Ok(Vec::new()));
    wait_for("its end", || open_tunnels(&proxy, "base") == 0);
    assert_eq!(
        proxy.arms(),
        0,
        "who asks for what an arm cannot do says nothing of it"
    );
    assert_eq!(server.requests(), 1);
}
