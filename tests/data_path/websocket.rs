//! WebSocket, as a library of its own speaks it: through serin everything is as it is without.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;

use crate::support::certificates::{Ca, secure};
use crate::support::http2::{connect, extended, is_ended, run};
use crate::support::{Proxy, only, wait_for};

/// Cases of tests/python/websocket_cases.py.
const CASES: usize = 42;
/// A masked text frame that says Hello, and what a server sends for it (RFC 6455, 5.7).
const HELLO: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
const HELLO_BACK: &[u8] = b"\x81\x05Hello";

/// The echo server, as long as this lives.
struct Echo {
    process: Child,
    address: SocketAddr,
}

fn python(script: &str) -> Command {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(python.exists(), "tests/run makes {}", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/python").join(script));
    command
}

impl Echo {
    fn start() -> Self {
        let mut command = python("websocket_echo.py");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("python");
        let mut port = String::new();
        let said = process.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut port).expect("its port");
        let port = port.trim().parse().expect("a port");
        Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().expect("it ends with its input");
    }
}

fn cases(address: SocketAddr) -> Vec<String> {
    let mut command = python("websocket_cases.py");
    let output = command.arg(address.to_string()).output().expect("python");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_case_is_as_it_is_without_the_proxy() {
    let echo = Echo::start();
    let proxy = Proxy::start("", &only(&[echo.address], ""));
    let (direct, through) = (cases(echo.address), cases(proxy.address()));
    for (direct, through) in direct.iter().zip(&through) {
        assert_eq!(through, direct);
    }
    assert_eq!((direct.len(), through.len()), (CASES, CASES));
    let surprises = direct.iter().filter(|line| line.contains("Error"));
    assert_eq!(surprises.count(), 0, "{direct:#?}");
    wait_for("the ends", || {
        proxy.metric("serin_pool_tunnels_open", &[]) == 0
    });
    // Every case but the refused one was a tunnel; nothing is counted twice.
    assert_eq!(
        proxy.metric("serin_pool_tunnels_total", &[]),
        CASES as u64 - 1
    );
    assert_eq!(proxy.attempts("base", "", "client_error"), 1);
}

#[test]
fn a_stream_of_http2_becomes_a_websocket_of_http1() {
    let echo = Echo::start();
    let proxy = Proxy::start("", &only(&[echo.address], ""));
    run(async {
        let client = connect(proxy.address()).await;
        let ask = || {
            extended("websocket", "http://h/chat")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-protocol", "other")
                .header("sec-websocket-key", "bm90IG91cnMgdG8gdXNlIQ==")
                .body(())
                .expect("a request")
        };
        let mut sender = client.clone().ready().await.expect("a stream");
        let (answer, mut up) = sender.send_request(ask(), false).expect("it is sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "other");
        for gone in [
            "sec-websocket-accept",
            "connection",
            "upgrade",
            "content-length",
        ] {
            assert!(!answer.headers().contains_key(gone), "{gone}");
        }
        let mut down = answer.into_body();
        for _ in 0..3 {
            up.send_data(Bytes::from_static(HELLO), false)
                .expect("it is sent");
            let mut back = Vec::new();
            while back.len() < HELLO_BACK.len() {
                back.extend(down.data().await.expect("more").expect("no fault"));
            }
            assert_eq!(back, HELLO_BACK);
        }
        // Streams of one connection do not wait for each other.
        let plain = crate::support::http2::get("http://h/");
        let plain = crate::support::http2::ask(&client, plain, b"").await;
        assert_eq!(
            plain.expect("an answer").status,
            426,
            "the server speaks nothing else"
        );
        // A close frame of 1000, both ways, and the end of the stream.
        up.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xe8"), false)
            .expect("it is sent");
        let close = down.data().await.expect("a close").expect("no fault");
        assert_eq!(&close[..], b"\x88\x02\x03\xe8");
        assert!(is_ended(&mut down).await, "an end in order");
        up.send_data(Bytes::new(), true).expect("it is sent");
        // The connection has to be driven until that is heard.
        while proxy.attempts("base", "first", "ok") != 1 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn tls_carries_a_websocket_like_anything() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let echo = Echo::start();
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    let listen = format!(
        "{{ address = \"127.0.0.1:0\", tls = {} }}",
        ca.keys("a", "")
    );
    let proxy = Proxy::start_listening(&listen, &only(&[echo.address], ""));
    run(async {
        let config = ca.client(&["http/1.1"], rustls::ALL_VERSIONS, None);
        let mut client = secure(proxy.address(), &config, "a.example")
            .await
            .expect("TLS");
        client
            .write_all(
                b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .await
            .expect("it is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text").to_lowercase();
        // RFC 6455, 1.3.
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        client.write_all(HELLO).await.expect("it is sent");
        let mut back = [0; HELLO_BACK.len()];
        client.read_exact(&mut back).await.expect("an echo");
        assert_eq!(back, HELLO_BACK);
        // An end of one direction, which the server answers with its own.
        client.shutdown().await.expect("it is told");
        let mut rest = Vec::new();
        client
            .read_to_end(&mut rest)
            .await
            .expect("an end in order");
    });
}
