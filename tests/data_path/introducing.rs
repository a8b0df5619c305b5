//! PROXY headers out: endpoints are told whose each connection is, and never of anybody else.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use serin::live::Table;
use serin::shutdown::{self, Stage};
use serin::upstream::upkeep;

use crate::support::certificates::Ca;
use crate::support::http2::{ask, connect, get, run};
use crate::support::peers::Nginx;
use crate::support::upstream::Exchange;
use crate::support::{Client, Proxy, Upstream, closed, config, only, pool, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h.example\r\n\r\n";
/// Whose connection nginx was told it is.
const SAW: &str = "return 200 \"$proxy_protocol_addr:$proxy_protocol_port \
                   $proxy_protocol_server_addr:$proxy_protocol_server_port $scheme\";";

fn from(source: &str, proxy: &Proxy) -> (Client, SocketAddr) {
    let source: IpAddr = source.parse().expect("an address");
    let client = Client::connect_from(source, proxy.address());
    let own = client.local_addr();
    (client, own)
}

/// An upstream that keeps the line that each connection begins with, and answers requests behind it.
struct Told {
    server: Upstream,
    lines: Arc<Mutex<Vec<String>>>,
    ended: Arc<Mutex<Vec<String>>>,
}

impl Told {
    fn start() -> Self {
        let (lines, ended) = (Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let (told, gone) = (Arc::clone(&lines), Arc::clone(&ended));
        let server = Upstream::scripted(move |mut exchange: Exchange| {
            let Some(line) = exchange.until(b"\r\n") else {
                return;
            };
            let line = String::from_utf8(line).expect("a line is text");
            told.lock().expect("nobody panicked").push(line.clone());
            while exchange.request().is_some() {
                exchange.write(&reply(&line));
            }
            let gone: &Mutex<Vec<String>> = &gone;
            gone.lock().expect("nobody panicked").push(line);
        });
        Self {
            server,
            lines,
            ended,
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panicked").clone()
    }

    fn ended(&self) -> usize {
        self.ended.lock().expect("nobody panicked").len()
    }
}

#[test]
fn nginx_is_told_in_both_versions_and_before_tls() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let certificate = Nginx::certificate(&ca.path("a.pem"), &ca.path("a.key"));
    let plain = Nginx::start("proxy_protocol", SAW);
    let secured = Nginx::start("ssl proxy_protocol", &format!("{certificate}{SAW}"));
    let tls = format!("tls = {{ ca = {:?} }}", ca.path("ca.pem"));
    for version in ["v1", "v2"] {
        for (address, scheme, keys) in [
            (plain.address(), "http", ""),
            (secured.address(), "https", &tls),
        ] {
            let keys = format!("proxy_protocol = \"{version}\"\n{keys}");
            let proxy = Proxy::start("", &only(&[address], &keys));
            for source in ["127.0.0.2", "127.0.0.3"] {
                let (mut client, own) = from(source, &proxy);
                let expected = format!("{own} {} {scheme}", proxy.address());
                for _ in 0..2 {
                    client.send(GET);
                    assert_eq!(client.answer().text(), expected, "{version}");
                }
            }
        }
    }
}

#[test]
fn each_client_has_connections_of_his_own() {
    let told = Told::start();
    // Nothing but the client's leaving ends a connection.
    let keys = "proxy_protocol = \"v1\"\ntimeouts = { idle = \"1h\" }";
    let proxy = Proxy::start("", &only(&[told.server.address()], keys));
    let (mut one, own) = from("127.0.0.2", &proxy);
    let (mut other, others) = from("127.0.0.3", &proxy);
    let line = |of: SocketAddr| {
        let to = proxy.address();
        format!(
            "PROXY TCP4 {} {} {} {}\r\n",
            of.ip(),
            to.ip(),
            of.port(),
            to.port()
        )
    };
    for _ in 0..3 {
        one.send(GET);
        assert_eq!(one.answer().text(), line(own));
        other.send(GET);
        assert_eq!(other.answer().text(), line(others));
    }
    assert_eq!(told.lines(), [line(own), line(others)]);
    let idle = || proxy.live.load().pools()[0].endpoints[0].connections_idle;
    assert_eq!(idle(), 2);
    one.leave();
    wait_for("what was his to be closed", || told.ended() == 1);
    assert_eq!(idle(), 1);
    other.send(GET);
    assert_eq!(other.answer().text(), line(others));
    assert_eq!(told.lines().len(), 2);
}

#[test]
fn the_streams_of_one_client_may_share() {
    let told = Told::start();
    let keys = "proxy_protocol = \"v1\"";
    let proxy = Proxy::start("", &only(&[told.server.address()], keys));
    run(async {
        let client = connect(proxy.address()).await;
        for _ in 0..3 {
            let answer = ask(&client, get("http://h/"), b"").await;
            assert_eq!(answer.expect("an answer").status, 200);
        }
    });
    assert_eq!(told.lines().len(), 1);
}

#[test]
fn who_was_named_to_us_is_named_to_the_endpoint() {
    let listen = "{ address = \"127.0.0.1:0\", proxy_protocol = true }";
    let told = Told::start();
    let keys = "proxy_protocol = \"v1\"";
    let proxy = Proxy::start_listening(listen, &only(&[told.server.address()], keys));
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n",
    ] {
        let mut client = proxy.client();
        client.send(line);
        client.send(GET);
        assert_eq!(client.answer().text(), line);
    }
}

#[test]
fn a_retry_and_a_tunnel_are_told_as_well() {
    let told = Told::start();
    let keys = "proxy_protocol = \"v1\"\nejection = false";
    let proxy = Proxy::start("", &only(&[closed(), told.server.address()], keys));
    for _ in 0..2 {
        assert!(proxy.ask(GET).text().starts_with("PROXY TCP4 127.0.0.1 "));
    }
    let tunnel = Upstream::scripted(|mut exchange| {
        let line = exchange.until(b"\r\n").expect("a line");
        exchange.head();
        exchange.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
        );
        exchange.write_bytes(&line);
        exchange.echo();
    });
    let proxy = Proxy::start("", &only(&[tunnel.address()], keys));
    let (mut client, own) = from("127.0.0.2", &proxy);
    client.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n");
    assert!(client.head().starts_with("http/1.1 101 "));
    let to = proxy.address();
    let line = format!(
        "PROXY TCP4 127.0.0.2 127.0.0.1 {} {}\r\n",
        own.port(),
        to.port()
    );
    assert_eq!(client.exactly(line.len()), line.as_bytes());
}

#[test]
fn probes_speak_for_nobody() {
    for (version, expected) in [
        ("v1", &b"PROXY UNKNOWN\r\n"[..]),
        (
            "v2",
            b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x20\x00\x00\x00",
        ),
    ] {
        let begun = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let seen = Arc::clone(&begun);
        let scripted = Upstream::scripted(move |mut exchange| {
            let Some(header) = exchange.exactly(expected.len()) else {
                return;
            };
            seen.lock().expect("nobody panicked").push(header);
            if exchange.request().is_some() {
                exchange.write(&reply("well"));
            }
        });
        let nginx = Nginx::start("proxy_protocol", "return 200 \"well\";");
        for kind in ["http", "tcp"] {
            let keys = format!("proxy_protocol = \"{version}\"");
            let text = only(&[scripted.address(), nginx.address()], &keys);
            let health = format!("health = {{ kind = \"{kind}\", interval = \"50ms\" }}");
            let proxy = Proxy::start("", &text.replace("health = false", &health));
            let (trigger, shutdown) = shutdown::channel();
            let probes = upkeep::start(proxy.live.pools(), shutdown).expect("a thread");
            wait_for("probes", || {
                let endpoints = &proxy.live.load().pools()[0].endpoints;
                let asked = |endpoint: &serin::live::EndpointView| endpoint.probes_answered >= 2;
                endpoints.iter().all(asked)
            });
            let pools = proxy.live.load().pools();
            assert!(
                pools[0].endpoints.iter().all(|one| one.healthy),
                "{version} {kind}"
            );
            trigger.advance(Stage::Draining);
            assert!(probes.join());
        }
        let begun = begun.lock().expect("nobody panicked");
        assert!(begun.len() >= 2);
        assert!(begun.iter().all(|header| header == expected), "{begun:?}");
    }
}

#[test]
fn a_pool_that_tells_from_now_on_or_no_more_uses_no_connection_of_before() {
    let plain = Upstream::scripted(|mut exchange| {
        while let Some((head, _)) = exchange.request() {
            let first = head.lines().next().unwrap_or_default().to_owned();
            exchange.write(&reply(&first));
        }
    });
    let text = |keys: &str| only(&[plain.address()], keys);
    let proxy = Proxy::start("", &text(""));
    let mut client = proxy.client();
    client.send(GET);
    assert_eq!(client.answer().text(), "GET / HTTP/1.1");
    for (typed, expected) in [("\"v1\"", "PROXY TCP4 "), ("false", "GET / ")] {
        let next = config("", &text(&format!("proxy_protocol = {typed}")));
        let table = Table::build(
            &next,
            &Default::default(),
            &proxy.telemetry,
            Some(&proxy.live.load()),
        );
        proxy.live.publish(table);
        client.send(GET);
        let begun = client.answer().text();
        assert!(begun.starts_with(expected), "{typed}: {begun}");
    }
    assert_eq!(plain.connections(), 3);
}

#[test]
fn a_pool_that_is_not_told_shares_as_before() {
    let (told, plain) = (Told::start(), Upstream::answering(reply("plain")));
    let text = format!(
        "{}{}[[routes]]\npath = \"/\"\npool = \"told\"\n[[routes]]\npath = \"/plain\"\npool = \"plain\"\n",
        pool("told", &[told.server.address()], "proxy_protocol = \"v1\""),
        pool("plain", &[plain.address()], ""),
    );
    let proxy = Proxy::start("", &text);
    for _ in 0..3 {
        let mut client = proxy.client();
        client.send(GET);
        assert!(client.answer().text().starts_with("PROXY "));
        client.send(&GET.replace("GET /", "GET /plain"));
        assert_eq!(client.answer().text(), "plain");
    }
    assert_eq!((told.lines().len(), plain.connections()), (3, 1));
}
