//! The access log tells each request once, with what became of it, and as much as the configuration asks for.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{
    Analyzer, Connection, PATIENCE, Place, Serin, eventually, eventually_within, get, post, send,
    try_get, two_pools,
};

const STAGE: &str =
    "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const MALFORMED: &str = "GET /bad HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";

/// A process that is killed when dropped.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            self.0.wait().expect("our own child");
        }
    }
}

fn lines(serin: &Serin) -> Vec<Value> {
    let log = serin.process.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["status"].is_u64())
        .collect()
}

fn write(place: &Place, analyzers: [&Analyzer; 2], access: &str) {
    let pools = two_pools(&[analyzers[0].addr], &[analyzers[1].addr], STAGE);
    let log = format!("[server.log]\nformat = \"json\"\naccess = {access}\n");
    place.write(1, &(pools + &log));
}

#[test]
fn a_request_is_told_once_with_what_became_of_it_and_without_its_query() {
    let place = Place::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let analyzers = ["original", "ultra_fast"].map(|pool| Analyzer::start(folder.path(), pool));
    let both = [&analyzers[0], &analyzers[1]];
    write(&place, both, "\"all\"");
    let config = place.config();
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let serin = place.start();

    let request = format!(
        "GET /analyze?learner_id=somebody HTTP/1.1\r\nhost: {}\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\nconnection: close\r\n\r\n",
        serin.proxy
    );
    let answer = send(serin.proxy, &request);
    assert_eq!(answer.status, 200);
    let malformed = send(serin.proxy, MALFORMED);
    assert_eq!(malformed.status, 400);
    let told = eventually("two lines", || {
        let lines = lines(&serin);
        (lines.len() == 2).then_some(lines)
    });
    let line = &told[0];
    let expected = [
        ("client", Value::from("127.0.0.1")),
        ("protocol", "HTTP/1.1".into()),
        ("method", "GET".into()),
        ("host", serin.proxy.to_string().into()),
        ("path", "/analyze".into()),
        ("status", 200.into()),
        ("rollout", "analyzer".into()),
        ("arm", "baseline".into()),
        ("pool", "original".into()),
        ("endpoint", analyzers[0].addr.to_string().into()),
        ("bytes", answer.body.len().into()),
        ("whole", true.into()),
        ("trace_id", TRACE.into()),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key} of {line}");
    }
    assert!(line["error"].is_null(), "{line}");
    assert_eq!(
        (&told[1]["status"], &told[1]["error"]),
        (&400.into(), &"bad_request".into())
    );
    assert!(!serin.process.log().contains("somebody"));

    // A reload changes what is told; what went well is told no more.
    std::fs::write(
        &config,
        text.replace("access = \"all\"", "access = \"errors\""),
    )
    .expect("a configuration");
    let reloaded = post(serin.admin, "/api/reload", "");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(get(serin.proxy, "/analyze").status, 200);
    assert_eq!(send(serin.proxy, MALFORMED).status, 400);
    let told = eventually("the third line", || {
        let lines = lines(&serin);
        (lines.len() >= 3).then_some(lines)
    });
    assert_eq!((told.len(), &told[2]["status"]), (3, &400.into()));
    let metrics = get(serin.admin, "/metrics").text();
    assert!(
        metrics.contains("serin_access_log_dropped_total 0"),
        "{metrics}"
    );
}

#[test]
fn nobody_waits_for_who_does_not_read_the_log_and_what_is_dropped_is_counted() {
    let place = Place::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let analyzers = ["original", "ultra_fast"].map(|pool| Analyzer::start(folder.path(), pool));
    write(&place, [&analyzers[0], &analyzers[1]], "\"all\"");
    // Answered without an endpoint, as fast as can be.
    let text = std::fs::read_to_string(place.config()).expect("the configuration");
    let text = text.replace("path = \"/\"", "path = \"/elsewhere\"");
    std::fs::write(place.config(), text).expect("a configuration");
    let mut command = place.command();
    // A pipe whose other end nobody reads: it takes 64 KiB.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Unread(command.spawn().expect("the binary starts"));
    let unread = running.0.stdout.take().expect("a pipe");
    eventually("it is ready", || {
        try_get(place.admin, "/readyz").filter(|answer| answer.status == 200)
    });
    let dropped = || -> u64 {
        let metrics = get(place.admin, "/metrics").text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("serin_access_log_dropped_total "));
        line.and_then(|count| count.parse().ok()).expect("a count")
    };
    assert_eq!(dropped(), 0);
    // More lines than wait for standard output, and more than the pipe holds: refused at once, on kept connections.
    let mut connection = Connection::open(place.proxy).expect("it accepts");
    let mut ask = || {
        for _ in 0..500 {
            let answer = connection.learner("anna").expect("an answer");
            assert_eq!(answer.status, 404);
        }
        (dropped() > 0).then_some(())
    };
    eventually_within(PATIENCE * 4, "lines are dropped", &mut ask);
    drop(unread);
}
