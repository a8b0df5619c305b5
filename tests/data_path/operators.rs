//! TLS of the admin port, through the built program: whom it believes, and who believes it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::certificates::Ca;
use crate::support::program::{Place, run};
use crate::support::{Client, Upstream, reply, wait_for};

fn upstream() -> Upstream {
    Upstream::answering(reply("x"))
}

/// A place whose admin port has the certificate `a` of this CA.
fn place(ca: &Ca, more: &str, admin: &str) -> Place {
    let keys = format!("tls = {}\n{admin}", ca.keys("a", more));
    Place::new(&upstream(), "workers = 1", &keys)
}

fn curl(ca: &Path, more: &[&str], url: &str) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--cacert"]);
    let output = command.arg(ca).args(more).arg(url).output();
    output.expect("curl, which tests/run installs")
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    format!("{out}{err}")
}

#[test]
fn operators_come_over_tls_alone() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1,DNS:localhost", 30);
    let place = place(&ca, "", "");
    let running = place.start();
    wait_for("the admin port", || TcpStream::connect(place.admin).is_ok());
    let url = format!("https://{}", place.admin);
    let trusted = ca.path("ca.pem");
    // A client that could speak HTTP/2 is told that HTTP/1.1 is spoken.
    let output = curl(
        &trusted,
        &["--http2", "--write-out", " %{http_code} %{http_version}"],
        &format!("{url}/readyz"),
    );
    assert!(said(&output).ends_with(" 200 1.1"), "{}", said(&output));

    let mut plain = Client::connect(place.admin);
    plain.send("GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(!plain.rest().starts_with(b"HTTP"));

    let localhost = format!("https://localhost:{}", place.admin.port());
    for admin in [&url, &localhost] {
        let status = ["status", "--json", "--admin", admin];
        let output = run(&status, &[("SERIN_ADMIN_CA", trusted.clone())]);
        assert!(output.status.success(), "{}", said(&output));
    }
    let status = ["status", "--json", "--admin", &url];
    // A file of our own authorities for all that serin calls is believed too.
    let output = run(&status, &[("SSL_CERT_FILE", trusted.clone())]);
    assert!(output.status.success(), "{}", said(&output));

    let output = run(&status, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("UnknownIssuer"), "{}", said(&output));
    let nowhere = PathBuf::from("/nowhere.pem");
    let output = run(&status, &[("SERIN_ADMIN_CA", nowhere)]);
    let expected = "SERIN_ADMIN_CA: /nowhere.pem: cannot be read";
    assert!(said(&output).contains(expected), "{}", said(&output));
    let plain = format!("http://{}", place.admin);
    let output = run(&["status", "--admin", &plain], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    drop(running);
}

#[test]
fn a_client_certificate_is_wanted_where_the_file_names_its_ca() {
    let (ca, others) = (Ca::new(), Ca::new());
    ca.sign("a", "IP:127.0.0.1", 30);
    ca.sign("client", "DNS:client", 30);
    others.sign("client", "DNS:client", 30);
    let more = format!(", client_ca = {:?}", ca.path("ca.pem"));
    let place = place(&ca, &more, "");
    let _running = place.start();
    wait_for("the admin port", || TcpStream::connect(place.admin).is_ok());
    let url = format!("https://{}", place.admin);
    let status = ["status", "--json", "--admin", &url];
    let trusted = ("SERIN_ADMIN_CA", ca.path("ca.pem"));
    for (own, welcome) in [(None, false), (Some(&others), false), (Some(&ca), true)] {
        let mut variables = vec![trusted.clone()];
        if let Some(own) = own {
            variables.push(("SERIN_ADMIN_CERT", own.path("client.pem")));
            variables.push(("SERIN_ADMIN_KEY", own.path("client.key")));
        }
        let output = run(&status, &variables);
        assert_eq!(output.status.success(), welcome, "{}", said(&output));
    }
    let half = ("SERIN_ADMIN_CERT", ca.path("client.pem"));
    let output = run(&status, &[trusted, half]);
    assert!(
        said(&output).contains("belong together"),
        "{}",
        said(&output)
    );
}

#[test]
fn tls_of_the_admin_port_follows_the_file() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let secured = place(&ca, "", "open_metrics = true");
    let running = secured.start();
    wait_for("the admin port", || {
        TcpStream::connect(secured.admin).is_ok()
    });
    let (url, trusted) = (format!("https://{}", secured.admin), ca.path("ca.pem"));
    let metrics = || said(&curl(&trusted, &[], &format!("{url}/metrics")));
    let expected = |ca: &Ca| {
        let end: jiff::Timestamp = ca.end_of("a").parse().expect("a moment");
        format!(" {}\n", end.as_second())
    };
    let shown = metrics();
    let family = shown
        .split_once("serin_certificate_not_after_seconds{")
        .expect("the certificate is told of")
        .1;
    assert!(family.contains(&expected(&ca)), "{family}");

    ca.sign("a", "IP:127.0.0.1", 60);
    running.signal(Signal::HUP);
    wait_for("the new certificate", || metrics().contains(&expected(&ca)));

    let text = fs::read_to_string(secured.path("proxy.toml")).expect("it is there");
    let without: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("tls = "))
        .collect();
    fs::write(secured.path("proxy.toml"), without.join("\n")).expect("it is written");
    running.signal(Signal::HUP);
    let ready = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    wait_for("no TLS any more", || {
        let mut client = Client::connect(secured.admin);
        client.try_send(ready.as_bytes()) && client.rest().starts_with(b"HTTP/1.1 200 ")
    });
}

#[test]
fn tokens_that_pass_in_the_clear_are_warned_of() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let token = "tokens = [{ name = \"ci\", sha256 = \"SUM\" }]".replace("SUM", &"0".repeat(64));
    let warning = "served without TLS";
    let secured = place(&ca, "", &token);
    let plain = Place::new(&upstream(), "workers = 1", &token);
    for (place, is_warned) in [(&secured, false), (&plain, true)] {
        let text = fs::read_to_string(place.path("proxy.toml")).expect("it is there");
        let open = format!("listen = \"0.0.0.0:{}\"", place.admin.port());
        let text = text.replace(&format!("listen = \"{}\"", place.admin), &open);
        fs::write(place.path("proxy.toml"), text).expect("it is written");
        let running = place.start();
        wait_for("the start", || {
            running.log().contains("serin carries traffic")
        });
        assert_eq!(
            running.log().contains(warning),
            is_warned,
            "{}",
            running.log()
        );
    }
}

#[test]
fn every_fault_of_its_files_is_told_with_its_place() {
    let ca = Ca::new();
    ca.sign("a", "IP:127.0.0.1", 30);
    let tls = format!(
        "[admin]\ntls = {{ cert = {:?}, key = {:?}, client_ca = {:?} }}\n",
        ca.path("a.pem"),
        ca.path("ca.key"),
        ca.path("nowhere.pem"),
    );
    let faults = serin::config::parse("test.toml", &tls, &|_| None).expect_err("faults");
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let found = found.join("\n");
    assert!(found.contains("test.toml:2: admin.tls.key: "), "{found}");
    assert!(found.contains("not the key of"), "{found}");
    assert!(
        found.contains("test.toml:2: admin.tls.client_ca: "),
        "{found}"
    );
    assert_eq!(faults.len(), 2, "{found}");
}

// What development needs, by the command that makes it.
#[test]
fn the_certificates_of_development_serve_learners_and_operators() {
    let folder = tempfile::tempdir().expect("a folder");
    let make = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make");
    let made = Command::new(make)
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", said(&made));
    let path = |name: &str| folder.path().join(name);
    let again = fs::read(path("ca.pem")).expect("it was made");
    let made = Command::new(make)
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(
        fs::read(path("ca.pem")).expect("it is there"),
        again,
        "an authority stays"
    );
    let tls = format!(
        "tls = {{ cert = {:?}, key = {:?}, client_ca = {:?} }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
    );
    let place = Place::new(&upstream(), "workers = 1", &tls);
    let text = fs::read_to_string(place.path("proxy.toml")).expect("it is there");
    let plain = format!("listen = [\"{}\"]", place.listen);
    let secured = format!("listen = [{{ address = \"{}\", {tls} }}]", place.listen);
    fs::write(place.path("proxy.toml"), text.replace(&plain, &secured)).expect("it is written");
    let _running = place.start();
    wait_for("the admin port", || TcpStream::connect(place.admin).is_ok());
    wait_for("the listener", || TcpStream::connect(place.listen).is_ok());
    let text = |name: &str| path(name).to_str().expect("text").to_owned();
    let (cert, key) = (text("client.pem"), text("client.key"));
    let own = ["--fail", "--cert", &cert, "--key", &key];
    for (port, target) in [(place.listen.port(), "/"), (place.admin.port(), "/readyz")] {
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}{target}");
            let output = curl(&path("ca.pem"), &own, &url);
            assert!(output.status.success(), "{url}: {}", said(&output));
        }
        let url = format!("https://localhost:{port}{target}");
        let output = curl(&path("ca.pem"), &["--fail"], &url);
        assert!(!output.status.success(), "{url} without a certificate");
    }
}
