//! One owner per state path and port; nobody else's web page changes anything.

use std::net::TcpListener;

use crate::support::{Analyzer, Place, Process, Serin, send, two_pools};

fn start() -> (Serin, Analyzer) {
    let place = Place::new();
    let analyzer = Analyzer::start(place.folder.path(), "original");
    let stage =
        "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
    place.write(1, &two_pools(&[analyzer.addr], &[analyzer.addr], stage));
    (place.start(), analyzer)
}

#[test]
fn a_second_serin_on_one_state_path_is_told_who_holds_it() {
    let (serin, _analyzer) = start();
    let mut command = std::process::Command::new(crate::support::binary());
    command
        .arg("run")
        .arg("--config")
        .arg(serin.folder.path().join("proxy.toml"));
    let mut second = Process::spawn(command, serin.folder.path().join("second.log"));
    assert_eq!(second.wait(), 1);
    let pid = serin.process.child.id().to_string();
    assert!(
        second.log().contains(&pid) && second.log().contains("serin.db.lock"),
        "{}",
        second.log()
    );
    assert_eq!(serin.phase("analyzer"), "idle");
}

#[test]
fn a_port_in_use_is_named() {
    for admin in [false, true] {
        let place = Place::new();
        let taken = if admin { place.admin } else { place.proxy };
        let _holder = TcpListener::bind(taken).expect("free a moment ago");
        let stage =
            "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
        place.write(
            2,
            &two_pools(
                &["127.0.0.1:1".parse().expect("an address")],
                &["127.0.0.1:2".parse().expect("an address")],
                stage,
            ),
        );
        let mut process = Process::spawn(place.command(), place.folder.path().join("serin.log"));
        assert_eq!(process.wait(), 1);
        assert!(
            process.log().contains(&taken.to_string()),
            "{}",
            process.log()
        );
    }
}

#[test]
fn a_page_of_another_origin_cannot_change_the_weights() {
    let (serin, _analyzer) = start();
    let body = r#"{"original": 0, "ultra_fast": 1}"#;
    let request = |host: &str, extra: &str| {
        format!(
            "POST /api/traffic-weights HTTP/1.1\r\nhost: {host}\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let own = serin.admin.to_string();
    for (host, extra, status) in [
        (own.as_str(), "origin: http://evil.example\r\n", 403),
        (own.as_str(), "sec-fetch-site: cross-site\r\n", 403),
        ("evil.example", "", 421),
        ("evil.example:9901", "", 421),
    ] {
        let answer = send(serin.admin, &request(host, extra));
        assert_eq!(answer.status, status, "{host} {extra}: {}", answer.text());
        assert_eq!(
            serin.get("/api/traffic-weights")["ultra_fast"],
            0.0,
            "{host} {extra}"
        );
    }
    assert_eq!(
        send(
            serin.admin,
            &request(&own, &format!("origin: http://{own}\r\n"))
        )
        .status,
        200
    );
    assert_eq!(serin.get("/api/traffic-weights")["ultra_fast"], 1.0);
}
