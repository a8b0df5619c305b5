//! What /metrics shows is what docs/METRICS.md lists, in both of its forms.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Answer, Connection, Place, Serin, StopOnDrop, certificates, eventually, free_port,
    get, pause, post, repository_file, send, two_pools,
};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A family as the page or the program says it.
#[derive(Debug, PartialEq)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Everything that has a metric at once: TLS, a mirror, a pool by name, segments, signals, results, a channel of notices and a
/// collector of traces that nobody listens on.
fn configuration(
    place: &Place,
    analyzers: [SocketAddr; 2],
    secured: SocketAddr,
    nats: &str,
) -> String {
    let folder = place.folder.path();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    format!(
        r#"[server]
listen = ["{proxy}", {{ address = "{secured}", tls = {{ cert = {cert:?}, key = {key:?} }} }}]
workers = 1
[admin]
listen = "{admin}"
[state]
path = {state:?}
deployment_logs = {logs:?}
[tracing]
endpoint = "http://127.0.0.1:9/"
[fleet]
servers = ["{nats}"]
name = "alone"
[[notify]]
kind = "webhook"
name = "pager"
url = "http://127.0.0.1:9/"
[pools.original]
endpoints = ["{original}"]
[pools.ultra_fast]
endpoints = ["{ultra_fast}"]
[pools.named]
dns = "localhost:{port}"
[[routes]]
path = "/"
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
learner = ["header:x-learner-id"]
segment = "header:x-learner-segment"
[rollouts.analyzer.mirror]
share = "100%"
[[rollouts.analyzer.signals]]
name = "churn"
source = "push"
interval = "1m"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "50%"
duration = "1h"
warmup = "0s"
advance = ["churn < 5%", "|revenue_impact| < 3%"]
"#,
        proxy = place.proxy,
        admin = place.admin,
        state = folder.join("state/serin.db"),
        logs = folder.join("deployment-logs"),
        original = analyzers[0],
        ultra_fast = analyzers[1],
        port = analyzers[0].port(),
    )
}

/// Learners of two segments, of whom the first request of each carries a trace, and their results.
fn ask(serin: &Serin, stop: &AtomicBool) {
    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let request = format!(
            "GET /work HTTP/1.1\r\nhost: test\r\nx-learner-id: learner-{}\r\nx-learner-segment: s{}\r\ntraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\r\n",
            turn % 600,
            turn % 2
        );
        connection.exchange(request.as_bytes()).expect("an answer");
        pause();
    }
}

fn post_results(serin: &Serin) {
    let reading =
        json!({"rollout": "analyzer", "name": "churn", "pool": "ultra_fast", "value": 0.03});
    let pushed = post(serin.admin, "/api/signals", &reading.to_string());
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    let result = |learner: usize| {
        let value = 10 + learner % 3;
        json!({"rollout": "analyzer", "learner": format!("learner-{learner}"), "name": "revenue", "value": value})
    };
    let results: Vec<Value> = (0..600).map(result).collect();
    let taken = post(serin.admin, "/api/outcomes", &json!(results).to_string());
    assert_eq!(taken.status, 200, "{}", taken.text());
}

fn scrape(admin: SocketAddr, accept: &str) -> Answer {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: {admin}\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
    );
    send(admin, &request)
}

/// The families of a text, each with the labels that its samples have.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            name.clone_into(&mut last);
            let family = Family {
                kind: String::new(),
                help: help.to_owned(),
                labels: BTreeSet::new(),
            };
            assert!(found.insert(last.clone(), family).is_none(), "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            let family = found.get_mut(name).expect("a type behind its help");
            kind.clone_into(&mut family.kind);
        } else {
            let family = found.get_mut(&last).expect("a sample behind its type");
            family.labels.extend(labels(line));
            family.labels.remove("le");
            // Shown by a sample that none of the labels is missing on.
            family.labels.insert("(sampled)".to_owned());
        }
    }
    found
}

/// The names of a sample's labels. No value here has a quote in it.
fn labels(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once('{') else {
        return Vec::new();
    };
    let parts: Vec<&str> = rest.split('"').collect();
    let names = parts.iter().step_by(2).filter_map(|part| {
        let name = part.strip_suffix('=')?;
        Some(name.trim_start_matches(',').to_owned())
    });
    names.collect()
}

/// The rows of the page: name, type, labels, unit, meaning.
fn listed() -> BTreeMap<String, (Family, String)> {
    let page = repository_file("docs/METRICS.md");
    // The first table is of labels.
    let rows = page.lines().filter(|line| {
        let name = line.strip_prefix("| `");
        name.is_some_and(|name| name.starts_with("serin_") || name.starts_with("process_"))
    });
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, unit, help] = cells[..] else {
            panic!("a row has five cells: {line}");
        };
        let labels = labels.split(", ").filter(|label| *label != "-");
        let labels = labels.map(|label| label.trim_matches('`').to_owned());
        let family = Family {
            kind: kind.to_owned(),
            help: help.to_owned(),
            labels: labels.collect(),
        };
        (name.trim_matches('`').to_owned(), (family, unit.to_owned()))
    };
    rows.map(row).collect()
}

fn assert_units(name: &str, kind: &str, unit: &str) {
    let base = name.strip_suffix("_total");
    assert_eq!(base.is_some(), kind == "counter", "{name} is a {kind}");
    for word in ["seconds", "bytes"] {
        let ends = base.unwrap_or(name).ends_with(&format!("_{word}"));
        assert_eq!(ends, unit == word, "{name} is in {unit}");
    }
}

fn assert_listed(text: &str) {
    let (shown, listed) = (families(text), listed());
    let names = |of: BTreeSet<&String>, not: BTreeSet<&String>| -> Vec<String> {
        of.difference(&not).map(ToString::to_string).collect()
    };
    let (have, want): (BTreeSet<_>, BTreeSet<_>) =
        (shown.keys().collect(), listed.keys().collect());
    let undocumented = names(have.clone(), want.clone());
    assert!(undocumented.is_empty(), "not in the page: {undocumented:?}");
    let gone = names(want, have);
    assert!(gone.is_empty(), "in the page alone: {gone:?}");
    for (name, mut family) in shown {
        let (wanted, unit) = &listed[&name];
        assert!(family.labels.remove("(sampled)"), "{name} has no sample");
        assert_eq!(family, *wanted, "{name}");
        assert_units(&name, &family.kind, unit);
        let prefixed = ["serin_", "process_"]
            .iter()
            .any(|part| name.starts_with(part));
        assert!(prefixed, "{name}");
    }
    assert!(listed.len() >= 40, "{} metrics", listed.len());
}

/// `promtool check metrics`, whose every remark is a fault.
fn assert_conventional(text: &str) {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus");
    let mut input = tool.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = tool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_page_lists_every_metric_and_no_other_and_open_metrics_leads_to_a_trace() {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    certificates(&folder);
    let analyzers = ["original", "ultra_fast"].map(|pool| Analyzer::start(&folder, pool));
    let secured = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let nats = crate::nats::start("");
    let text = configuration(
        &place,
        [analyzers[0].addr, analyzers[1].addr],
        secured,
        &nats.url(),
    );
    std::fs::write(place.config(), text).expect("a configuration");
    let serin = place.start();
    eventually("it leads its fleet of one", || {
        (serin.get("/api/fleet")["role"] == "leads").then_some(())
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serin = &serin;
        assert_eq!(serin.act("analyzer", "start").status, 200);
        scope.spawn(|| ask(serin, &stop));
        let _stop = StopOnDrop(&stop);
        post_results(serin);
        eventually("figures of both arms", || {
            let text = get(serin.admin, "/metrics").text();
            let has = |part: &str| text.lines().any(|line| line.starts_with(part));
            let all = [
                "serin_segment_error_rate{",
                "serin_outcome_impact{",
                "serin_rollout_latency_quantile_seconds{",
                "serin_segment_latency_quantile_seconds{",
                "serin_rollout_uptime{",
                "serin_signal_age_seconds{",
                "serin_rollout_evidence{",
                "serin_rollout_evidence_process{",
                "serin_rollout_error_rate{rollout=\"analyzer\",arm=\"canary\"}",
                "serin_answers_total{",
            ];
            all.into_iter().all(has).then_some(())
        });
        let text = get(serin.admin, "/metrics").text();
        assert_listed(&text);
        assert_conventional(&text);

        let open = eventually("an exemplar", || {
            let open = scrape(serin.admin, OPEN_METRICS);
            open.text().contains(TRACE).then_some(open)
        });
        assert_open(&open, &text);
    });
}

/// The other form says the same, ends as it has to, and names the trace in the buckets of the arms and the pools.
fn assert_open(open: &Answer, text: &str) {
    let expected = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(expected));
    let body = open.text();
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    let body = body.trim_end_matches("# EOF\n");
    let units = body.lines().filter(|line| line.starts_with("# UNIT "));
    assert!(units.clone().count() > 5);
    for unit in units {
        let (name, unit) = unit["# UNIT ".len()..].split_once(' ').expect("two words");
        assert!(name.ends_with(&format!("_{unit}")), "{name} {unit}");
    }
    let samples = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned());
        names.collect()
    };
    assert_eq!(
        samples(body),
        samples(text),
        "the same samples in both forms"
    );
    let counters = families(text)
        .into_iter()
        .filter(|(_, one)| one.kind == "counter");
    for (name, _) in counters {
        let family = name.trim_end_matches("_total");
        assert!(
            body.contains(&format!("# TYPE {family} counter\n")),
            "{name}"
        );
    }
    for name in [
        "serin_rollout_latency_seconds",
        "serin_pool_latency_seconds",
    ] {
        let start = format!("{name}_bucket{{");
        let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
        let found = body.lines().find_map(|line| {
            let (_, shown) = line.split_once(&exemplar)?;
            line.starts_with(&start).then_some(shown)
        });
        let shown = found.unwrap_or_else(|| panic!("no exemplar of {name}:\n{body}"));
        let numbers: Vec<f64> = shown
            .split(' ')
            .filter_map(|part| part.parse().ok())
            .collect();
        assert!(
            numbers.len() == 2 && numbers[0] < 30.0 && numbers[1] > 1.7e9,
            "{shown}"
        );
    }
    assert!(
        !text.contains("trace_id"),
        "the text format knows no exemplars"
    );
}

#[test]
fn what_went_wrong_outside_of_requests_is_counted() {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    let analyzer = Analyzer::start(&folder, "original");
    let stage =
        "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
    place.write(1, &two_pools(&[analyzer.addr], &[analyzer.addr], stage));
    let config = place.config();
    let good = std::fs::read_to_string(&config).expect("the configuration");
    let serin = place.start();
    let shows = |line: &str| {
        eventually(line, || {
            let text = get(serin.admin, "/metrics").text();
            text.lines().any(|have| have == line).then_some(())
        });
    };
    shows("serin_ready 1");
    shows("serin_config_last_reload_successful 1");
    std::fs::write(&config, format!("{good}\nunknown = 1\n")).expect("a configuration");
    assert_eq!(post(serin.admin, "/api/reload", "").status, 422);
    shows("serin_config_last_reload_successful 0");
    shows("serin_config_reloads_total{result=\"refused\"} 1");
    std::fs::write(&config, good).expect("a configuration");
    assert_eq!(post(serin.admin, "/api/reload", "").status, 200);
    shows("serin_config_last_reload_successful 1");
    shows("serin_config_reloads_total{result=\"taken\"} 1");
    shows("serin_admin_answers_total{status=\"4xx\"} 1");
    shows("serin_rollout_events_total{rollout=\"analyzer\",event=\"started\"} 0");
    assert_eq!(serin.act("analyzer", "start").status, 200);
    shows("serin_rollout_events_total{rollout=\"analyzer\",event=\"started\"} 1");
    shows("serin_store_unwritten_events 0");
    let figure = |name: &str| -> f64 {
        let text = get(serin.admin, "/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}:\n{text}"))
    };
    let ticks = figure("serin_gate_tick_seconds_count");
    eventually("ticks go on", || {
        (figure("serin_gate_tick_seconds_count") > ticks).then_some(())
    });
    assert!(figure("serin_store_size_bytes") > 4096.0);
    assert!(figure("serin_store_write_seconds_count") >= 1.0);
    assert!(figure("process_resident_memory_bytes") > 1e6);
}
