//! TLS to the pools: whom we believe, whom we ask for, what we show, and what becomes of a handshake that fails.

use std::fs;
use std::net::SocketAddr;

use bytes::Bytes;
use serin::config::{self, Config};
use serin::live::Table;
use serin::shutdown::{self, Stage};
use serin::upstream::upkeep;

use crate::support::certificates::Ca;
use crate::support::http2::{ask, connect, get, run};
use crate::support::peers::Nginx;
use crate::support::{Proxy, Upstream, only, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h.example\r\n\r\n";
/// What nginx saw of a request and its connection.
const SAW: &str = "return 200 \"$server_protocol host=$http_host sni=$ssl_server_name verify=$ssl_client_verify \
                   resumed=$ssl_session_reused $ssl_protocol alpn=$ssl_alpn_protocol\";";

/// nginx with the certificate `name`, and more lines.
fn nginx(ca: &Ca, name: &str, parameters: &str, lines: &str) -> Nginx {
    let cert = ca.path(&format!("{name}.pem"));
    let key = ca.path(&format!("{name}.key"));
    let lines = format!("{}{lines}\n{SAW}", Nginx::certificate(&cert, &key));
    Nginx::start(parameters, &lines)
}

/// Keys of a pool: `tls` with this CA and more keys, and no more.
fn trusting(ca: &Ca, more: &str) -> String {
    format!("tls = {{ ca = {:?}{more} }}", ca.path("ca.pem"))
}

fn start(address: SocketAddr, keys: &str) -> Proxy {
    Proxy::start("", &only(&[address], keys))
}

#[test]
fn nginx_is_spoken_to_in_both_versions_of_http_and_of_tls() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1,DNS:a.example", 30);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let lines = format!("ssl_protocols {version};");
        let server = nginx(&ca, "a", "ssl http2", &lines);
        for (protocol, spoken, alpn) in [
            ("http1", "HTTP/1.1", "http/1.1"),
            ("http2", "HTTP/2.0", "h2"),
        ] {
            let keys = format!("protocol = \"{protocol}\"\n{}", trusting(&ca, ""));
            let proxy = start(server.address(), &keys);
            let text = proxy.ask(GET).text();
            for said in [
                spoken,
                "host=h.example",
                "verify=NONE",
                version,
                &format!("alpn={alpn}"),
            ] {
                assert!(text.contains(said), "{said} is not in {text:?}");
            }
            assert!(
                text.contains("sni= "),
                "an address is no server name: {text:?}"
            );
            assert_eq!(proxy.attempts("base", "first", "ok"), 1);
        }
    }
}

#[test]
fn a_server_name_is_asked_for_and_must_be_the_certificates() {
    let (ca, others) = (Ca::new(), Ca::new());
    ca.sign("a", "DNS:a.example", 30);
    let server = nginx(&ca, "a", "ssl", "");
    let named = ", server_name = \"A.example\"";
    let proxy = start(server.address(), &trusting(&ca, named));
    let text = proxy.ask(GET).text();
    assert!(text.contains("sni=a.example"), "{text}");
    assert_eq!(proxy.metric("serin_upstream_tls_failed_total", &[]), 0);
    for keys in [
        trusting(&ca, ""),
        trusting(&ca, ", server_name = \"b.example\""),
        trusting(&others, named),
        "tls = { server_name = \"a.example\" }".to_owned(),
    ] {
        let proxy = start(server.address(), &keys);
        let answer = proxy.ask(GET);
        let found = (answer.status, answer.header("x-serin-error"));
        assert_eq!(found, (502, Some("tls_failed")), "{keys}");
        // One retry of what was not sent.
        assert_eq!(proxy.attempts("base", "", "failed"), 2, "{keys}");
        assert_eq!(
            proxy.metric("serin_upstream_tls_failed_total", &[]),
            2,
            "{keys}"
        );
    }
}

#[test]
fn our_certificate_is_shown_where_it_is_asked_for() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    ca.sign("us", "DNS:serin", 30);
    let lines = format!(
        "ssl_client_certificate {}; ssl_verify_client optional;",
        ca.path("ca.pem").display()
    );
    let server = nginx(&ca, "a", "ssl http2", &lines);
    let own = format!(
        ", cert = {:?}, key = {:?}",
        ca.path("us.pem"),
        ca.path("us.key")
    );
    for (more, expected) in [("", "verify=NONE"), (&own[..], "verify=SUCCESS")] {
        for protocol in ["http1", "http2"] {
            let keys = format!("protocol = \"{protocol}\"\n{}", trusting(&ca, more));
            let proxy = start(server.address(), &keys);
            let text = proxy.ask(GET).text();
            assert!(text.contains(expected), "{text}");
        }
    }
    let proxy = start(server.address(), &trusting(&ca, &own));
    let views: Vec<_> = proxy
        .live
        .load()
        .tls_watched()
        .iter()
        .flat_map(|watched| watched.certificates())
        .collect();
    let expected: jiff::Timestamp = ca.end_of("us").parse().expect("a moment");
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].not_after, expected.as_second());
}

#[test]
fn a_server_that_wants_a_certificate_and_gets_none_is_no_connection() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    for version in ["-tls1_2", "-tls1_3"] {
        let server = OpensslServer::start(&ca, &[version, "-Verify", "1"]);
        let proxy = start(server.address, &trusting(&ca, ""));
        let answer = proxy.ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi");
        let found = (answer.status, answer.header("x-serin-error"));
        assert_eq!(found, (502, Some("tls_failed")), "{version}");
    }
}

#[test]
fn sessions_are_resumed() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let lines =
            format!("ssl_protocols {version}; ssl_session_cache shared:a:1m; keepalive_timeout 0;");
        let server = nginx(&ca, "a", "ssl", &lines);
        let proxy = start(server.address(), &trusting(&ca, ""));
        for expected in ["resumed=. ", "resumed=r "] {
            let text = proxy.ask(GET).text();
            assert!(text.contains(expected), "{version}: {text}");
        }
    }
}

#[test]
fn http2_is_not_guessed() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    // The one refuses what it is offered, the other does not know ALPN.
    let (refuses, ignores) = (nginx(&ca, "a", "ssl", ""), OpensslServer::start(&ca, &[]));
    for address in [refuses.address(), ignores.address] {
        let keys = format!("protocol = \"http2\"\n{}", trusting(&ca, ""));
        let proxy = start(address, &keys);
        let answer = proxy.ask(GET);
        let found = (answer.status, answer.header("x-serin-error"));
        assert_eq!(found, (502, Some("tls_failed")));
    }
}

#[test]
fn a_server_that_speaks_no_tls_fails_the_handshake() {
    let ca = Ca::new();
    let plain = Upstream::scripted(|mut exchange| {
        exchange.write("HTTP/1.1 400 Bad Request\r\n\r\n");
        exchange.end();
    });
    let proxy = start(plain.address(), &trusting(&ca, ""));
    let answer = proxy.ask(GET);
    let found = (answer.status, answer.header("x-serin-error"));
    assert_eq!(found, (502, Some("tls_failed")));
    assert_eq!(plain.requests(), 0);
}

#[test]
fn large_bodies_pass_whole_over_http2_and_tls() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let folder = tempfile::tempdir().expect("a folder");
    let body: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(folder.path().join("large"), &body).expect("it is written");
    let (cert, key) = (ca.path("a.pem"), ca.path("a.key"));
    let lines = format!(
        "{}root {}; client_max_body_size 0;\nlocation /eat {{ return 200 \"$content_length\"; }}",
        Nginx::certificate(&cert, &key),
        folder.path().display()
    );
    let server = Nginx::start("ssl http2", &lines);
    let keys = format!("protocol = \"http2\"\n{}", trusting(&ca, ""));
    let proxy = start(server.address(), &keys);
    run(async {
        let client = connect(proxy.address()).await;
        let answer = ask(&client, get("http://h/large"), b"").await;
        let answer = answer.expect("an answer");
        assert!(answer.body == body, "{} bytes", answer.body.len());
        let upload = http::Request::post("http://h/eat").header("content-length", body.len());
        let upload = upload.body(()).expect("a request");
        let body = Bytes::from(body.clone());
        let answer = ask(&client, upload, &body).await.expect("an answer");
        assert_eq!(answer.body, b"5000000");
    });
}

#[test]
fn new_files_serve_new_connections() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let others = Ca::new();
    let trusted = ca.path("trusted.pem");
    fs::copy(others.path("ca.pem"), &trusted).expect("it is copied");
    let server = nginx(&ca, "a", "ssl", "");
    let proxy = start(server.address(), &format!("tls = {{ ca = {trusted:?} }}"));
    assert_eq!(proxy.ask(GET).status, 502);
    let watched = proxy.live.load().tls_watched().remove(0);
    assert_eq!(watched.refresh(), Ok(false));
    fs::copy(ca.path("ca.pem"), &trusted).expect("it is copied");
    assert_eq!(watched.refresh(), Ok(true));
    assert_eq!(proxy.ask(GET).status, 200);
    fs::write(&trusted, "").expect("it is written");
    let faults = watched.refresh().expect_err("a fault");
    assert!(faults[0].to_string().contains("trusted.pem"), "{faults:?}");
    assert_eq!(watched.refresh(), Ok(false), "it is told once");
    assert_eq!(proxy.ask(GET).status, 200);
}

#[test]
fn probes_speak_what_the_pool_speaks() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let others = Ca::new();
    let server = nginx(&ca, "a", "ssl http2", "");
    for (protocol, kind, ca, healthy) in [
        ("http1", "http", &ca, true),
        ("http2", "http", &ca, true),
        ("http1", "tcp", &ca, true),
        ("http1", "http", &others, false),
        ("http2", "tcp", &others, false),
    ] {
        let keys = format!("protocol = \"{protocol}\"\n{}", trusting(ca, ""));
        let text = only(&[server.address()], &keys);
        let health = format!("health = {{ kind = \"{kind}\", interval = \"50ms\" }}");
        let proxy = Proxy::start("", &text.replace("health = false", &health));
        let (trigger, shutdown) = shutdown::channel();
        let probes = upkeep::start(proxy.live.pools(), shutdown).expect("a thread");
        let view = || proxy.live.load().pools()[0].endpoints[0].clone();
        wait_for("a probe", || match healthy {
            true => view().probes_answered >= 1,
            false => !view().healthy,
        });
        assert_eq!(
            view().healthy,
            healthy,
            "{protocol} {kind}: {:?}",
            view().fault
        );
        if !healthy {
            let fault = view().fault.expect("a fault");
            assert!(fault.contains("no TLS with"), "{fault}");
        }
        trigger.advance(Stage::Draining);
        assert!(probes.join());
    }
}

#[test]
fn a_pool_that_changes_what_it_speaks_uses_no_connection_of_before() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let server = nginx(&ca, "a", "ssl http2", "");
    let keys = |protocol: &str| format!("protocol = \"{protocol}\"\n{}", trusting(&ca, ""));
    let proxy = start(server.address(), &keys("http1"));
    assert!(proxy.ask(GET).text().contains("HTTP/1.1"));
    let next = crate::support::config("", &only(&[server.address()], &keys("http2")));
    let table = Table::build(
        &next,
        &Default::default(),
        &proxy.telemetry,
        Some(&proxy.live.load()),
    );
    proxy.live.publish(table);
    assert!(proxy.ask(GET).text().contains("HTTP/2.0"));
}

#[test]
fn every_fault_is_told_with_its_place() {
    let ca = Ca::new();
    ca.sign("a", "DNS:a.example", 30);
    ca.sign("b", "DNS:b.example", 30);
    let parse = |keys: &str| -> Result<Config, Vec<config::Fault>> {
        let address = "127.0.0.1:1".parse().expect("an address");
        config::parse("test.toml", &only(&[address], keys), &|_| None)
    };
    let check = |keys: &str, expected: &[(&str, &str)]| {
        let faults = parse(keys).expect_err("faults");
        let found: Vec<String> = faults
            .iter()
            .map(|fault| format!("{}: {}", fault.key, fault.message))
            .collect();
        let said = found.join("\n");
        for (key, what) in expected {
            let is_told =
                |line: &String| line.starts_with(&format!("{key}: ")) && line.contains(what);
            assert!(found.iter().any(is_told), "{key}: {what} is not in {said}");
        }
        assert_eq!(found.len(), expected.len(), "{said}");
    };
    let path = |name: &str| format!("{:?}", ca.path(name));
    check(
        &format!(
            "tls = {{ ca = {}, cert = {}, key = {} }}",
            path("nowhere.pem"),
            path("a.pem"),
            path("b.key")
        ),
        &[
            ("pools.base.tls.ca", "nowhere.pem: cannot be read"),
            ("pools.base.tls.key", "b.key: not the key of"),
        ],
    );
    check(
        &format!("tls = {{ cert = {} }}", path("a.pem")),
        &[("pools.base.tls.key", "missing")],
    );
    check(
        &format!(
            "tls = {{ key = {}, server_name = \"a..b\" }}",
            path("a.key")
        ),
        &[
            ("pools.base.tls.cert", "missing"),
            ("pools.base.tls.server_name", "a..b"),
        ],
    );
    check(
        "protocol = \"http2\"",
        &[("pools.base.protocol", "has no tls")],
    );
    check(
        "protocol = \"h2c\"\ntls = {}",
        &[("pools.base.protocol", "in the clear")],
    );
    check("protocol = \"h3\"", &[("pools.base.protocol", "h3")]);
    assert!(parse("tls = {}").is_ok(), "the roots that browsers ship");
}

/// `openssl s_server`, which can want a certificate of its client.
struct OpensslServer {
    process: std::process::Child,
    address: SocketAddr,
}

impl OpensslServer {
    fn start(ca: &Ca, more: &[&str]) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let mut command = std::process::Command::new("openssl");
        command.args([
            "s_server",
            "-quiet",
            "-www",
            "-accept",
            &address.to_string(),
        ]);
        command.arg("-cert").arg(ca.path("a.pem"));
        command.arg("-key").arg(ca.path("a.key"));
        command.arg("-CAfile").arg(ca.path("ca.pem")).args(more);
        command.args(["-verify_return_error"]);
        let process = command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl");
        wait_for("openssl", || std::net::TcpStream::connect(address).is_ok());
        Self { process, address }
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        self.process.wait().expect("it was started");
    }
}
