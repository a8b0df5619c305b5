//! Tunnels in streams of HTTP/2: the extended CONNECT of RFC 8441, to servers of HTTP/1.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use serin::shutdown::Stage;

use crate::support::http2::{ask, connect, connect_with, extended, get, is_ended, run};
use crate::support::{Proxy, Upstream, only, reply, rollout, wait_for};

const AGREE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: foo/1\r\nx-own: 1\r\n\r\n";

/// Agrees, and echoes; says 200 to what asks for nothing.
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

fn foo() -> Request<()> {
    let request = extended("foo/1", "http://h/chat").header("x-learner-id", "l");
    request.body(()).expect("a request")
}

/// The answer to a request whose stream stays open.
async fn open(
    client: &h2::client::SendRequest<Bytes>,
    request: Request<()>,
) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
    let mut sender = client.clone().ready().await?;
    let (answer, up) = sender.send_request(request, false)?;
    Ok((answer.await?, up))
}

/// Sends text, and reads as much.
async fn echoes(up: &mut SendStream<Bytes>, down: &mut RecvStream, text: &'static str) -> bool {
    if up
        .send_data(Bytes::from_static(text.as_bytes()), false)
        .is_err()
    {
        return false;
    }
    let mut back = Vec::new();
    while back.len() < text.len() {
        match down.data().await {
            Some(Ok(piece)) => back.extend(piece),
            Some(Err(_)) | None => return false,
        }
    }
    back == text.as_bytes()
}

#[test]
fn a_protocol_of_any_name_is_asked_in_the_words_of_http1() {
    let upstream = echo();
    let server = "timeouts = { keep_alive = \"200ms\", head = \"200ms\", body_idle = \"200ms\" }";
    let proxy = Proxy::start(server, &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        // An answer is behind the settings.
        ask(&client, get("http://h/"), b"")
            .await
            .expect("an answer");
        assert!(client.is_extended_connect_protocol_enabled());
        let (answer, mut up) = open(&client, foo()).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-own"], "1");
        let mut down = answer.into_body();
        assert!(echoes(&mut up, &mut down, "one").await);
        // For longer than an idle connection lives: a tunnel is none.
        let (_idle, ended) = connect_with(proxy.address(), &h2::client::Builder::new()).await;
        ended.await.expect("no panic").unwrap_or_default();
        assert!(echoes(&mut up, &mut down, "two").await);
        assert_eq!(proxy.metric("serin_pool_tunnels_open", &[]), 1);
        up.send_data(Bytes::new(), true).expect("it is sent");
        assert!(is_ended(&mut down).await, "an end in order");
    });
    let head = upstream.last_head().to_lowercase();
    assert!(head.starts_with("get /chat http/1.1\r\n"), "{head}");
    for line in [
        "host: h",
        "connection: upgrade",
        "upgrade: foo/1",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    assert!(!head.contains("sec-websocket-key"), "{head}");
    wait_for("its end", || proxy.attempts("base", "first", "ok") == 2);
}

#[test]
fn much_passes_both_ways_within_the_windows() {
    const LEN: usize = 3 * 1024 * 1024;
    let upstream = echo();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let (answer, mut up) = open(&client, foo()).await.expect("an answer");
        let sending = tokio::task::spawn_local(async move {
            let mut left = LEN;
            while left > 0 {
                up.reserve_capacity(left.min(16 * 1024));
                let granted = std::future::poll_fn(|cx| up.poll_capacity(cx)).await;
                let len = granted.expect("it is open").expect("no fault").min(left);
                let at = LEN - left;
                let piece: Vec<u8> = (at..at + len).map(|at| (at % 251) as u8).collect();
                left -= len;
                up.send_data(piece.into(), left == 0).expect("it is sent");
            }
        });
        let mut down = answer.into_body();
        let mut read = 0;
        while let Some(piece) = down.data().await {
            let piece = piece.expect("no fault");
            assert!(
                piece
                    .iter()
                    .enumerate()
                    .all(|(at, &byte)| usize::from(byte) == (read + at) % 251)
            );
            read += piece.len();
            down.flow_control()
                .release_capacity(piece.len())
                .expect("it was taken");
        }
        assert_eq!(read, LEN);
        sending.await.expect("all was sent");
    });
    assert_eq!(
        proxy.metric("serin_pool_tunnel_bytes_total", &["direction=\"out\""]),
        LEN as u64
    );
}

#[test]
fn a_reset_goes_through_as_one_both_ways() {
    let (ended, has_ended) = mpsc::channel();
    let upstream = Upstream::scripted(move |mut exchange| {
        if exchange.head().is_none() {
            return;
        }
        exchange.write(AGREE);
        let first = exchange.exactly(1).expect("a byte");
        if first == b"x" {
            let socket = socket2::Socket::from(exchange.stream);
            socket
                .set_linger(Some(Duration::ZERO))
                .expect("it can be set");
        } else {
            exchange.write_bytes(&first);
            ended.send(exchange.end()).expect("the test listens");
        }
    });
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let (answer, mut up) = open(&client, foo()).await.expect("an answer");
        up.send_data(Bytes::from_static(b"x"), false)
            .expect("it is sent");
        let end = answer.into_body().data().await.expect("no end in order");
        assert_eq!(end.expect_err("a reset").reason(), Some(Reason::CANCEL));

        let (answer, mut up) = open(&client, foo()).await.expect("the connection goes on");
        let mut down = answer.into_body();
        assert!(echoes(&mut up, &mut down, "y").await);
        up.send_reset(Reason::CANCEL);
        // The connection has to be driven meanwhile.
        let waiting = tokio::task::spawn_blocking(move || has_ended.recv());
        assert_eq!(
            waiting.await.expect("no panic"),
            Ok(Some(ErrorKind::ConnectionReset))
        );
    });
    wait_for("the ends", || {
        proxy.metric("serin_pool_tunnels_open", &[]) == 0
    });
    assert_eq!(proxy.attempts("base", "first", "failed"), 1);
    assert_eq!(proxy.attempts("base", "", ""), 1);
}

#[test]
fn a_refusal_passes_and_a_success_that_is_no_tunnel_does_not() {
    let check = |answer: &'static str, status: u16, reason: Option<&str>, body: &str| {
        let upstream = Upstream::answering(answer);
        let proxy = Proxy::start(
            "",
            &only(&[upstream.address()], "retries = { attempts = 0 }"),
        );
        run(async {
            let client = connect(proxy.address()).await;
            for request in [
                foo(),
                extended("websocket", "http://h/")
                    .body(())
                    .expect("a request"),
            ] {
                let whole = ask(&client, request, b"").await.expect("an answer");
                assert_eq!(whole.status, status, "{answer}");
                let said = whole
                    .headers
                    .get("x-serin-error")
                    .map(|it| it.to_str().expect("text"));
                assert_eq!(said, reason, "{answer}");
                assert_eq!(whole.body, body.as_bytes(), "{answer}");
            }
        });
    };
    check(
        "HTTP/1.1 403 X\r\ncontent-length: 2\r\n\r\nno",
        403,
        None,
        "no",
    );
    check(
        "HTTP/1.1 302 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
        302,
        None,
        "",
    );
    let bad = Some("bad_answer");
    check(
        "HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nno",
        502,
        bad,
        "bad_answer",
    );
    check("HTTP/1.1 204 X\r\n\r\n", 502, bad, "bad_answer");
    // Granted, but another protocol; or a WebSocket without the word that it was meant.
    check(
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: bar\r\n\r\n",
        502,
        bad,
        "bad_answer",
    );
    let unmeant = "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    check(
        Box::leak(format!("{unmeant}\r\n").into_boxed_str()),
        502,
        bad,
        "bad_answer",
    );
    check(
        Box::leak(
            format!("{unmeant}sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
                .into_boxed_str(),
        ),
        502,
        bad,
        "bad_answer",
    );
}

#[test]
fn a_connect_that_is_no_upgrade_stays_refused() {
    let upstream = echo();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let check = async |request: Request<()>, status: u16, reason: &str| {
            let whole = ask(&client, request, b"").await.expect("an answer");
            assert_eq!(
                (whole.status, whole.body),
                (status, reason.as_bytes().to_vec())
            );
        };
        let plain = Request::connect("h:443").body(()).expect("a request");
        check(plain, 405, "method_not_allowed").await;
        for http in ["h2c", "HTTP/2.0", "h2"] {
            let request = extended(http, "http://h/").body(()).expect("a request");
            check(request, 501, "not_implemented").await;
        }
        for malformed in ["a b", "a/", "a/b/c", ""] {
            let request = extended(malformed, "http://h/")
                .body(())
                .expect("a request");
            check(request, 400, "bad_request").await;
        }
    });
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_retreat_and_the_drains_end_close_streams_in_order() {
    let (base, new) = (echo(), echo());
    let text = rollout(
        &[base.address()],
        &[new.address()],
        "stream_grace = \"300ms\"",
    );
    let mut proxy = Proxy::start("", &text);
    run(async {
        let (client, connection) = connect_with(proxy.address(), &h2::client::Builder::new()).await;
        let (answer, mut up_base) = open(&client, foo()).await.expect("an answer");
        let mut down_base = answer.into_body();
        proxy.set_weight("100%");
        let (answer, mut up) = open(&client, foo()).await.expect("an answer");
        let mut down = answer.into_body();
        assert!(echoes(&mut up, &mut down, "x").await);
        assert_eq!(new.requests(), 1);
        proxy.publish("r", |split| split);
        assert!(echoes(&mut up, &mut down, "x").await, "it has its grace");
        assert!(is_ended(&mut down).await, "an end in order");
        assert!(
            echoes(&mut up_base, &mut down_base, "x").await,
            "baseline's goes on"
        );

        proxy.advance(Stage::Draining);
        assert!(
            echoes(&mut up_base, &mut down_base, "x").await,
            "it lives through the drain"
        );
        proxy.advance(Stage::Stopped);
        assert!(is_ended(&mut down_base).await, "an end in order");
        drop(client);
        connection.await.expect("no panic").unwrap_or_default();
    });
    proxy.join().expect("an orderly end");
}
