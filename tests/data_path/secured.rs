//! TLS towards learners: versions, names, certificates of clients, and certificates that change.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use serin::config::{self, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certificates::{Ca, secure};
use crate::support::http2::{ask, get, run};
use crate::support::{Client, Proxy, Upstream, only, reply, wait_for};

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn configured(tls: &str, server: &str, rest: &str) -> Result<Config, Vec<config::Fault>> {
    let listen = format!("listen = [{{ address = \"127.0.0.1:0\", tls = {tls} }}]");
    let text = format!("[server]\nworkers = 1\n{listen}\n{server}\n{rest}");
    config::parse("test.toml", &text, &|_| None)
}

fn start(tls: &str, server: &str, upstream: &Upstream) -> Proxy {
    let config = configured(tls, server, &only(&[upstream.address()], ""));
    Proxy::start_with(&config.expect("no fault"))
}

// One request of HTTP/1 over a connection of its own: the answer as text, and how the handshake went.
async fn ask_http1(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
    host: &str,
) -> std::io::Result<(String, HandshakeKind)> {
    let mut stream = secure(address, config, name).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let kind = stream.get_ref().1.handshake_kind().expect("it is made");
    Ok((answer, kind))
}

/// One certificate, of a.example, and an upstream behind it.
fn plain() -> (Ca, Upstream, Proxy) {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    let upstream = Upstream::answering(reply("x"));
    let proxy = start(&ca.keys("a", ""), "", &upstream);
    (ca, upstream, proxy)
}

#[test]
fn a_request_that_comes_with_the_last_words_of_the_handshake_is_heard() {
    let (ca, _upstream, proxy) = plain();
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    let mut stream = ca.secure_blocking(stream, "a.example", &["http/1.1"]);
    // Said before the hands are shaken, it leaves in one piece with their end.
    let request = b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    stream
        .conn
        .writer()
        .write_all(request)
        .expect("there is room");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_connection_that_rests_goes_on_over_tls() {
    let (ca, _upstream, proxy) = plain();
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    let mut stream = ca.secure_blocking(stream, "a.example", &["http/1.1"]);
    for turn in 1..=2 {
        let request = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
        stream.write_all(request).expect("it listens");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nx") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.extend(byte);
        }
        wait_for("it to rest", || {
            proxy.metric("serin_connections_rested_total", &[]) == turn
        });
    }
}

#[test]
fn both_versions_of_tls_and_of_http_are_spoken() {
    let (ca, upstream, proxy) = plain();
    run(async {
        for version in BOTH {
            for protocols in [&["http/1.1"][..], &[], &["h2", "http/1.1"]] {
                let client = ca.client(protocols, &[version], None);
                if protocols.first() == Some(&"h2") {
                    let stream = secure(proxy.address(), &client, "a.example").await;
                    let stream = stream.expect("a handshake");
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
                    tokio::task::spawn_local(connection);
                    let answer = ask(&sender, get("https://a.example/b"), b"").await;
                    assert_eq!(answer.expect("an answer").body, b"x");
                } else {
                    let asked = ask_http1(proxy.address(), &client, "a.example", "a.example");
                    let (answer, _) = asked.await.expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                }
                let head = upstream.last_head().to_lowercase();
                assert!(head.contains("x-forwarded-proto: https"), "{head}");
                assert!(head.contains("host: a.example"), "{head}");
            }
        }
    });
    assert_eq!(upstream.requests(), 6);
    assert_eq!(proxy.metric("serin_tls_handshakes_failed_total", &[]), 0);
}

#[test]
fn each_name_has_its_certificate_and_no_other_host_comes_over_it() {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    ca.sign("b", "DNS:b.example,DNS:*.c.example", 30);
    let upstream = Upstream::answering(reply("x"));
    let more = format!(", sni = [{}]", ca.keys("b", ""));
    let proxy = start(&ca.keys("a", &more), "", &upstream);
    run(async {
        let client = ca.client(&[], &BOTH, None);
        for (name, expected) in [
            ("a.example", "a"),
            ("b.example", "b"),
            ("x.c.example", "b"),
            ("B.Example", "b"),
        ] {
            let stream = secure(proxy.address(), &client, name).await;
            let stream = stream.expect("a handshake");
            let shown = stream.get_ref().1.peer_certificates().expect("a chain");
            assert_eq!(shown[0], ca.der(expected), "{name}");
        }
        // A name that no certificate is for gets the first one, which its client refuses.
        let unknown = secure(proxy.address(), &client, "unknown.example").await;
        let refusal = unknown.expect_err("not for this name").to_string();
        assert!(refusal.contains("not valid for name"), "{refusal}");
        for (host, expected) in [
            ("a.example", "200"),
            ("A.EXAMPLE:443", "200"),
            ("y.c.example", "200"),
            ("unknown.example", "421"),
        ] {
            let asked = ask_http1(proxy.address(), &client, "a.example", host).await;
            let (answer, _) = asked.expect("an answer");
            assert_eq!(&answer[9..12], expected, "{host}");
        }
    });
    assert_eq!(upstream.requests(), 3);
}

#[test]
fn clients_show_a_certificate_of_the_ca_where_one_is_wanted() {
    let (ca, others) = (Ca::new(), Ca::new());
    ca.sign("a", "DNS:a.example", 30);
    ca.sign("client", "DNS:client", 30);
    others.sign("client", "DNS:client", 30);
    let upstream = Upstream::answering(reply("x"));
    let more = format!(", client_ca = {:?}", ca.path("ca.pem"));
    let proxy = start(&ca.keys("a", &more), "", &upstream);
    fs::copy(others.path("client.pem"), ca.path("other.pem")).expect("it is copied");
    fs::copy(others.path("client.key"), ca.path("other.key")).expect("it is copied");
    run(async {
        for version in BOTH {
            for (own, welcome) in [
                (None, false),
                (Some("other"), false),
                (Some("client"), true),
            ] {
                let client = ca.client(&[], &[version], own);
                let asked = ask_http1(proxy.address(), &client, "a.example", "a.example").await;
                assert_eq!(asked.is_ok(), welcome, "{own:?}: {asked:?}");
            }
        }
    });
    assert_eq!(upstream.requests(), 2);
    wait_for("every refusal to be counted", || {
        proxy.metric("serin_tls_handshakes_failed_total", &[]) == 4
    });
}

#[test]
fn sessions_are_resumed() {
    let (ca, _upstream, proxy) = plain();
    run(async {
        for version in BOTH {
            let client = ca.client(&[], &[version], None);
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let asked = ask_http1(proxy.address(), &client, "a.example", "a.example").await;
                assert_eq!(asked.expect("an answer").1, expected, "{version:?}");
            }
        }
    });
}

#[test]
fn new_certificates_serve_new_handshakes_and_touch_no_connection() {
    let (ca, _upstream, proxy) = plain();
    let listener = proxy.live.load().tls_listeners().remove(0);
    assert_eq!(listener.refresh(), Ok(false), "nothing changed");
    let old = ca.der("a");
    run(async {
        let client = ca.client(&[], &BOTH, None);
        let shown = async || {
            let stream = secure(proxy.address(), &client, "a.example").await;
            let stream = stream.expect("a handshake");
            stream.get_ref().1.peer_certificates().expect("a chain")[0].clone()
        };
        let mut kept = secure(proxy.address(), &client, "a.example")
            .await
            .expect("a handshake");
        ca.sign("a", "DNS:a.example", 60);
        assert_eq!(shown().await, old, "not before it is read");
        assert_eq!(listener.refresh(), Ok(true));
        let client = ca.client(&[], &BOTH, None);
        let stream = secure(proxy.address(), &client, "a.example")
            .await
            .expect("a handshake");
        let new = stream.get_ref().1.peer_certificates().expect("a chain")[0].clone();
        assert_eq!(new, ca.der("a"));
        assert_ne!(new, old);
        kept.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n")
            .await
            .expect("it is open");
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        // A half-written file changes nothing, and is told once.
        fs::write(ca.path("a.pem"), "-----BEGIN CERTIFICATE-----\n").expect("it is written");
        let faults = listener.refresh().expect_err("a fault");
        let said = faults[0].to_string();
        assert!(said.contains("a.pem"), "{said}");
        assert_eq!(listener.refresh(), Ok(false));
        let client = ca.client(&[], &BOTH, None);
        assert!(
            ask_http1(proxy.address(), &client, "a.example", "a.example")
                .await
                .is_ok()
        );
    });
}

#[test]
fn handshakes_have_their_time_and_garbage_disturbs_nobody() {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    let upstream = Upstream::answering(reply("x"));
    let timeouts = "timeouts = { first_byte = \"300ms\" }";
    let proxy = start(&ca.keys("a", ""), timeouts, &upstream);
    let mut silent = Client::connect(proxy.address());
    let mut slow = Client::connect(proxy.address());
    slow.send_bytes(&[22, 3, 1, 2]);
    let mut plain = Client::connect(proxy.address());
    plain.send("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
    for client in [&mut silent, &mut slow, &mut plain] {
        let rest = client.rest();
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    wait_for("each to be counted", || {
        proxy.metric("serin_tls_handshakes_failed_total", &[]) == 3
    });
    run(async {
        let client = ca.client(&[], &BOTH, None);
        let asked = ask_http1(proxy.address(), &client, "a.example", "a.example").await;
        assert!(asked.expect("an answer").0.starts_with("HTTP/1.1 200 "));
    });
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn every_fault_of_a_file_is_told_with_its_place() {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    ca.sign("b", "DNS:b.example", 30);
    fs::write(ca.path("empty.pem"), "").expect("it is written");
    let faults = |tls: &str| -> Vec<String> {
        let faults = configured(
            tls,
            "",
            &only(&["127.0.0.1:1".parse().expect("an address")], ""),
        );
        let faults = faults.expect_err("faults").into_iter();
        faults
            .map(|fault| format!("{}: {}", fault.key, fault.message))
            .collect()
    };
    let tls = format!(
        "{{ cert = {:?}, key = {:?}, client_ca = {:?}, sni = [{{ cert = {:?}, key = {:?} }}] }}",
        ca.path("nowhere.pem"),
        ca.path("a.pem"),
        ca.path("empty.pem"),
        ca.path("a.pem"),
        ca.path("b.key"),
    );
    let found = faults(&tls).join("\n");
    for (key, what) in [
        ("server.listen[0].tls.cert", "nowhere.pem: cannot be read"),
        ("server.listen[0].tls.key", "a.pem: no private key in PEM"),
        (
            "server.listen[0].tls.client_ca",
            "empty.pem: no certificate in PEM",
        ),
        ("server.listen[0].tls.sni[0].key", "b.key: not the key of"),
    ] {
        let is_told = |line: &str| line.starts_with(&format!("{key}: ")) && line.contains(what);
        assert!(
            found.lines().any(is_told),
            "{key}: {what} is not in {found}"
        );
    }
    assert_eq!(found.lines().count(), 4, "{found}");
    let found = faults("{ cert = \"x\" }").join("\n");
    assert!(found.starts_with("server.listen[0].tls.key: "), "{found}");
}

#[test]
fn the_end_of_a_certificates_days_is_known() {
    let ca = Ca::new();
    let upstream = Upstream::answering(reply("x"));
    // The second one ends after 2050, which certificates write in another form.
    for days in [10, 12_000] {
        ca.sign("a", "DNS:a.example", days);
        let proxy = start(&ca.keys("a", ""), "", &upstream);
        let listener = proxy.live.load().tls_listeners().remove(0);
        let views = listener.certificates();
        let expected: jiff::Timestamp = ca.end_of("a").parse().expect("a moment");
        assert_eq!(views.len(), 1);
        assert_eq!(views[0].not_after, expected.as_second(), "{expected}");
        assert_eq!(views[0].cert, ca.path("a.pem"));
    }
}
