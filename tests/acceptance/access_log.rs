//! The access log tells each request once, with what became of it, and as much as the configuration asks for.

use serde_json::Value;

use crate::support::{Analyzer, Place, Serin, eventually, get, post, send, two_pools};

const STAGE: &str =
    "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
const MALFORMED: &str = "GET /bad HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";

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

    let answer = get(serin.proxy, "/analyze?learner_id=somebody");
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
