//! PROXY headers in: whose connection it is, where the listener's balancer says it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use rustls::version::TLS13;
use serin::live::Table;
use serin::rollout::name::Arm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::certificates::{Ca, secure_over};
use crate::support::http2::{ask, get, run};
use crate::support::peers::Haproxy;
use crate::support::{Answer, Client, Proxy, Upstream, only, reply, rollout, wait_for};

const LISTEN: &str = "{ address = \"127.0.0.1:0\", proxy_protocol = true }";
const GET: &str = "GET / HTTP/1.1\r\nhost: h.example\r\n\r\n";
const V4: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V6: &str = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
const NAMELESS: &str = "PROXY UNKNOWN\r\n";
const REFUSED: &str = "serin_proxy_headers_refused_total";

/// A header of version 2, as the specification has it.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A".to_vec();
    header.extend([command, family]);
    let length = u16::try_from(block.len()).expect("it is short");
    header.extend(length.to_be_bytes());
    header.extend(block);
    header
}

/// From 192.0.2.7:4711, with an extension behind it.
fn binary_v4() -> Vec<u8> {
    let block = b"\xC0\x00\x02\x07\xC6\x33\x64\x01\x12\x67\x01\xBB\x04\x00\x03abc";
    binary(0x21, 0x11, block)
}

fn start(server: &str, upstream: &Upstream) -> Proxy {
    let rest = only(&[upstream.address()], "");
    Proxy::start_listening(LISTEN, &format!("{server}\n{rest}"))
}

fn upstream() -> Upstream {
    Upstream::answering(reply("x"))
}

fn ask_behind(proxy: &Proxy, header: impl AsRef<[u8]>, request: &str) -> Answer {
    let mut client = proxy.client();
    client.send_bytes(&[header.as_ref(), request.as_bytes()].concat());
    client.answer()
}

/// What the last request was said to come from.
fn forwarded_for(upstream: &Upstream) -> String {
    let head = upstream.last_head().to_lowercase();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("x-forwarded-for: "));
    line.expect("it is always said").to_owned()
}

#[test]
fn the_header_names_the_client() {
    let upstream = upstream();
    let proxy = start("", &upstream);
    let mapped = b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:198.51.100.1 4711 443\r\n";
    for (header, expected) in [
        (V4.as_bytes(), "192.0.2.7"),
        (V6.as_bytes(), "2001:db8::7"),
        (&mapped[..], "192.0.2.9"),
        (NAMELESS.as_bytes(), "127.0.0.1"),
        (&binary_v4(), "192.0.2.7"),
        (&binary(0x20, 0x00, b""), "127.0.0.1"),
        (&binary(0x20, 0x11, &[9; 12]), "127.0.0.1"),
        (&binary(0x21, 0x00, b""), "127.0.0.1"),
        (&binary(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
    ] {
        let answer = ask_behind(&proxy, header, GET);
        assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
        let shown = header.escape_ascii();
        assert_eq!(forwarded_for(&upstream), expected, "{shown}");
    }
    assert_eq!(proxy.metric(REFUSED, &[]), 0);
}

#[test]
fn no_byte_is_lost_however_they_come() {
    let upstream = upstream();
    let proxy = start("", &upstream);
    for header in [V4.as_bytes(), &binary_v4()] {
        let all = [header, GET.as_bytes()].concat();
        for at in [
            1,
            5,
            12,
            15,
            16,
            header.len() - 1,
            header.len(),
            header.len() + 1,
        ] {
            let mut client = proxy.client();
            client.send_bytes(&all[..at]);
            client.send_bytes(&all[at..]);
            client.send(GET);
            assert_eq!((client.answer().status, client.answer().status), (200, 200));
            assert_eq!(forwarded_for(&upstream), "192.0.2.7");
        }
        let mut client = proxy.client();
        for byte in &all {
            client.send_bytes(&[*byte]);
        }
        assert_eq!(client.answer().status, 200);
    }
    // The longest that is taken is more than is looked at in one go.
    let mut block = binary_v4()[16..28].to_vec();
    block.resize(4080, 0);
    let long = binary(0x21, 0x11, &block);
    assert_eq!(ask_behind(&proxy, long, GET).status, 200);
    assert_eq!(forwarded_for(&upstream), "192.0.2.7");
}

#[test]
fn a_learner_by_address_is_the_one_that_is_named() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let text = rollout(&[base.address()], &[new.address()], "")
        .replace("header:x-learner-id", "client_ip");
    let mut proxy = Proxy::start_listening(LISTEN, &text);
    proxy.publish("r", |split| {
        let pins = Arc::new([(b"192.0.2.7".as_slice().into(), Arm::Canary)].into());
        serin::rollout::assign::Split {
            pins,
            closed: false,
            ..split
        }
    });
    assert_eq!(ask_behind(&proxy, V4, GET).text(), "new");
    assert_eq!(ask_behind(&proxy, V6, GET).text(), "base");
    assert_eq!(ask_behind(&proxy, NAMELESS, GET).text(), "base");
}

// The balancer is trusted with naming the client, and its clients' own claims are not believed for that.
#[test]
fn trust_is_of_the_address_that_is_named() {
    let (base, new) = (
        Upstream::answering(reply("base")),
        Upstream::answering(reply("new")),
    );
    let rest = rollout(&[base.address()], &[new.address()], "");
    let claims =
        "GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 203.0.113.9\r\nx-serin-pool: new\r\n\r\n";
    let trusting = |networks: &str| {
        let text = format!("trusted = [{networks:?}]\n{rest}");
        let mut proxy = Proxy::start_listening(LISTEN, &text);
        proxy.set_weight("0%");
        proxy
    };
    let proxy = trusting("127.0.0.0/8");
    assert_eq!(ask_behind(&proxy, V4, claims).text(), "base");
    assert_eq!(forwarded_for(&base), "192.0.2.7");
    assert_eq!(ask_behind(&proxy, NAMELESS, claims).text(), "new");
    assert_eq!(forwarded_for(&new), "203.0.113.9, 127.0.0.1");
    let proxy = trusting("192.0.2.0/24");
    assert_eq!(ask_behind(&proxy, V4, claims).text(), "new");
    assert_eq!(forwarded_for(&new), "203.0.113.9, 192.0.2.7");
    assert_eq!(ask_behind(&proxy, NAMELESS, claims).text(), "base");
}

#[test]
fn http2_and_tls_begin_behind_the_header() {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    let upstream = upstream();
    let rest = only(&[upstream.address()], "");
    let plain = start("", &upstream);
    let tls = format!(
        "{{ address = \"127.0.0.1:0\", tls = {}, proxy_protocol = true }}",
        ca.keys("a", "")
    );
    let secured = Proxy::start_listening(&tls, &rest);
    run(async {
        for header in [V4.as_bytes(), &binary_v4()] {
            let mut stream = connect(plain.address()).await;
            stream.write_all(header).await.expect("it is read");
            let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            tokio::task::spawn_local(connection);
            let answer = ask(&sender, get("http://a.example/"), b"").await;
            assert_eq!(answer.expect("an answer").status, 200);
            assert_eq!(forwarded_for(&upstream), "192.0.2.7");

            for protocol in ["http/1.1", "h2"] {
                let mut stream = connect(secured.address()).await;
                stream.write_all(header).await.expect("it is read");
                let config = ca.client(&[protocol], &[&TLS13], None);
                let mut stream = secure_over(stream, &config, "a.example")
                    .await
                    .expect("a handshake");
                if protocol == "h2" {
                    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
                    tokio::task::spawn_local(connection);
                    let answer = ask(&sender, get("https://a.example/"), b"").await;
                    assert_eq!(answer.expect("an answer").status, 200);
                } else {
                    let request = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
                    let sent = stream.write_all(request.as_bytes()).await;
                    sent.expect("it is read");
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await.expect("an answer");
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                }
                assert_eq!(forwarded_for(&upstream), "192.0.2.7");
                let head = upstream.last_head().to_lowercase();
                assert!(head.contains("x-forwarded-proto: https"), "{head}");
            }
        }
    });
    assert_eq!(secured.metric("serin_tls_handshakes_failed_total", &[]), 0);
}

async fn connect(address: SocketAddr) -> tokio::net::TcpStream {
    let stream = tokio::net::TcpStream::connect(address).await;
    stream.expect("it listens")
}

#[test]
fn what_comes_without_a_header_is_closed_and_counted() {
    let upstream = upstream();
    let proxy = start("", &upstream);
    for (bytes, reason) in [
        (GET.as_bytes(), "missing"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "missing"),
        (b"\x16\x03\x01\x02\x00\x01", "missing"),
        (b"\r\n\r\nGET", "missing"),
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\nGET",
            "malformed",
        ),
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\nGET",
            "malformed",
        ),
        (&binary(0x31, 0x11, &[1; 12]), "malformed"),
        (&binary(0x21, 0x11, &[1; 11]), "malformed"),
        (&binary(0x21, 0x11, &[1; 4081]), "malformed"),
        (
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
            "malformed",
        ),
    ] {
        let before = proxy.metric(REFUSED, &[]);
        let mut client = proxy.client();
        client.send_bytes(bytes);
        assert!(client.is_closed(), "{}", bytes.escape_ascii());
        wait_for("it to be counted", || {
            proxy.metric(REFUSED, &[]) == before + 1
        });
        let label = format!("reason=\"{reason}\"");
        assert!(proxy.metric(REFUSED, &[&label]) > 0, "{reason}");
    }
    assert_eq!(proxy.metric(REFUSED, &["reason=\"missing\""]), 4);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_header_has_its_time_and_an_end() {
    let upstream = upstream();
    let timeouts = "timeouts = { first_byte = \"300ms\", head = \"300ms\" }";
    let proxy = start(timeouts, &upstream);
    let mut silent = proxy.client();
    let mut slow = proxy.client();
    slow.send(&V4[..20]);
    let mut binary = proxy.client();
    binary.send_bytes(&binary_v4()[..20]);
    let mut trickling = proxy.client();
    trickling.send(&V4[..10]);
    for client in [&mut silent, &mut slow, &mut binary, &mut trickling] {
        assert!(client.is_closed());
    }
    wait_for("each to be counted", || {
        proxy.metric(REFUSED, &["reason=\"timeout\""]) == 4
    });
    // One that ends within its header, and one that only looked whether the port is open.
    let mut ended = proxy.client();
    ended.send(&V4[..20]);
    ended.finish();
    assert!(ended.is_closed());
    wait_for("it to be counted", || {
        proxy.metric(REFUSED, &["reason=\"incomplete\""]) == 1
    });
    let mut looking = proxy.client();
    looking.finish();
    assert!(looking.is_closed());
    // Behind a whole header a first byte has its time as well.
    let mut silent = proxy.client();
    silent.send(V4);
    assert!(silent.is_closed());
    wait_for("all to be gone", || {
        proxy.metric("serin_connections_open", &[]) == 0
    });
    assert_eq!(proxy.metric(REFUSED, &[]), 5);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_header_that_nobody_asked_for_is_a_bad_request() {
    let upstream = upstream();
    let proxy = Proxy::start("", &only(&[upstream.address()], ""));
    for header in [V4.as_bytes(), NAMELESS.as_bytes(), &binary_v4()] {
        let answer = ask_behind(&proxy, header, GET);
        let shown = header.escape_ascii();
        let found = (answer.status, answer.header("x-serin-error"));
        assert_eq!(found, (400, Some("bad_request")), "{shown}");
    }
    assert_eq!(upstream.requests(), 0);
    assert_eq!(proxy.metric(REFUSED, &[]), 0);
}

#[test]
fn a_reload_changes_it_for_new_connections() {
    let upstream = upstream();
    let rest = only(&[upstream.address()], "");
    let proxy = Proxy::start("", &rest);
    let mut kept = proxy.client();
    kept.send(GET);
    assert_eq!(kept.answer().status, 200);
    let mut next = crate::support::config("", &rest);
    next.server.proxy_protocol = next.server.listen.iter().copied().collect();
    let table = Table::build(
        &next,
        &Default::default(),
        &proxy.telemetry,
        Some(&proxy.live.load()),
    );
    proxy.live.publish(table);
    assert_eq!(ask_behind(&proxy, V4, GET).status, 200);
    assert_eq!(forwarded_for(&upstream), "192.0.2.7");
    let mut bare = proxy.client();
    bare.send(GET);
    assert!(bare.is_closed());
    kept.send(GET);
    assert_eq!(kept.answer().status, 200);
}

#[test]
fn curl_and_haproxy_are_understood() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let upstream = upstream();
    let plain = start("", &upstream);
    let tls = format!(
        "{{ address = \"127.0.0.1:0\", tls = {}, proxy_protocol = true }}",
        ca.keys("a", "")
    );
    let secured = Proxy::start_listening(&tls, &only(&[upstream.address()], ""));
    for url in [
        format!("http://{}/", plain.address()),
        format!("https://{}/", secured.address()),
    ] {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--haproxy-protocol"]);
        let output = command.arg("--cacert").arg(ca.path("ca.pem")).arg(&url);
        let output = output.output().expect("curl, which tests/run installs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"x", "{url}: {said}");
    }
    for word in ["send-proxy", "send-proxy-v2"] {
        let haproxy = Haproxy::in_front_of(plain.address(), word);
        let named: IpAddr = "127.0.0.2".parse().expect("an address");
        let mut client = Client::connect_from(named, haproxy.address());
        client.send(GET);
        assert_eq!(client.answer().status, 200, "{word}");
        assert_eq!(forwarded_for(&upstream), "127.0.0.2", "{word}");
    }
    assert_eq!(plain.metric(REFUSED, &[]), 0);
}
