//! Grafana's dashboard asks a real Prometheus what a running serin told it, and every question has an answer.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use serin::stub::load::LoadSettings;

use crate::support::{
    Analyzer, Learners, Place, Process, Serin, eventually, eventually_within, free_port, get,
    repository_file, try_get, two_pools,
};

const PANELS: usize = 8;
/// Until two scrapes of everything lie in the last minute.
const SCRAPED: Duration = Duration::from_secs(60);
const STAGE: &str = "segment = \"header:x-learner-segment\"\n\
    [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"20%\"\nduration = \"1h\"\nwarmup = \"0s\"\n";

/// A Prometheus that scrapes serin as deploy/prometheus says, and evaluates its rules.
fn prometheus(folder: &Path, listen: SocketAddr, serin: SocketAddr) -> Process {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    let read = std::fs::read_to_string(deploy.join("prometheus.yml")).expect("the example");
    let rules = deploy.join("serin.rules.yml");
    let text = read
        .replace("127.0.0.1:9901", &serin.to_string())
        .replace("- serin.rules.yml", &format!("- {}", rules.display()))
        .replace("interval: 5s", "interval: 1s");
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg("--enable-feature=exemplar-storage")
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={listen}"));
    let process = Process::spawn(command, folder.join("prometheus.log"));
    eventually("Prometheus is ready", || {
        try_get(listen, "/-/ready").filter(|answer| answer.status == 200)
    });
    process
}

/// What Prometheus answers to a query; an error of its own is a failure.
fn ask(server: SocketAddr, call: &str, query: &str) -> Vec<Value> {
    let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
    let answer = get(server, &format!("/api/v1/{call}query={query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let data = &answer.json()["data"];
    let results = data.get("result").unwrap_or(data);
    results.as_array().expect("a list of results").clone()
}

/// A query with the dashboard's variables filled in.
fn filled(expr: &str, serin: &Serin) -> String {
    let instance = serin.admin.to_string();
    let filled = expr
        .replace("$instance", &instance)
        .replace("$rollout", "analyzer")
        .replace("$__rate_interval", "15s");
    assert!(!filled.contains('$'), "a variable is not known: {filled}");
    filled
}

/// Every query of every panel, with the panel's title.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    assert_eq!(panels.len(), PANELS);
    let each = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            panel["description"].is_string(),
            "{title} says what it shows"
        );
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty(), "{title}");
        targets.iter().map(move |target| {
            let expr = target["expr"].as_str().expect("a query");
            (title.to_owned(), expr.to_owned())
        })
    });
    each.collect()
}

/// The lists that the dashboard's variables offer hold what runs.
fn assert_variables(dashboard: &Value, server: SocketAddr, serin: &Serin) {
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let queried = variables
        .iter()
        .filter(|variable| variable["type"] == "query");
    let mut offered = Vec::new();
    for variable in queried {
        let definition = variable["definition"].as_str().expect("a definition");
        let inner = definition.strip_prefix("label_values(");
        let inner = inner.and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = inner
            .and_then(|rest| rest.rsplit_once(", "))
            .expect("two arguments");
        let found = ask(server, "query?", &filled(series, serin));
        let values = found.iter().filter_map(|one| one["metric"][label].as_str());
        offered.extend(values.map(str::to_owned));
    }
    assert_eq!(offered, [serin.admin.to_string(), "analyzer".to_owned()]);
}

/// All rules are evaluated without a fault, and none fires where all is well.
fn assert_quiet(server: SocketAddr) {
    let groups = eventually("every rule was evaluated", || {
        let groups = get(server, "/api/v1/rules").json()["data"]["groups"].clone();
        let rules: Vec<&Value> = groups
            .as_array()?
            .iter()
            .flat_map(|group| group["rules"].as_array().into_iter().flatten())
            .collect();
        let is_done = rules.iter().all(|rule| rule["health"] != "unknown");
        (is_done && rules.len() > 20).then(|| rules.into_iter().cloned().collect::<Vec<_>>())
    });
    for rule in groups {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}

#[test]
fn every_query_of_the_dashboard_is_answered_by_a_real_prometheus() {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    let originals = [(); 2].map(|()| Analyzer::start(&folder, "original"));
    let canary = Analyzer::start(&folder, "ultra_fast");
    let addrs = originals.each_ref().map(|analyzer| analyzer.addr);
    place.write(1, &two_pools(&addrs, &[canary.addr], STAGE));
    let serin = place.start();
    let load = Learners::start(LoadSettings {
        rate_per_s: 200.0,
        segments: ["free", "school"].map(HeaderValue::from_static).to_vec(),
        ..LoadSettings::new(serin.proxy)
    });
    assert_eq!(serin.act("analyzer", "start").status, 200);
    let server = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _running = prometheus(&folder, server, serin.admin);

    let dashboard: Value =
        serde_json::from_str(&repository_file("deploy/grafana/serin.json")).expect("JSON");
    for (title, expr) in queries(&dashboard) {
        let expr = filled(&expr, &serin);
        let answered = || {
            let found = ask(server, "query?", &expr);
            let is_number = |one: &Value| {
                let value = one["value"][1]
                    .as_str()
                    .and_then(|text| text.parse::<f64>().ok());
                value.is_some_and(f64::is_finite)
            };
            (!found.is_empty() && found.iter().all(is_number)).then_some(())
        };
        let what = format!("an answer for the panel {title:?} to {expr}");
        eventually_within(SCRAPED, &what, &mut { answered });
    }
    assert_variables(&dashboard, server, &serin);
    let decisions = dashboard["annotations"]["list"][0]["expr"].as_str();
    let decisions = filled(decisions.expect("the marks of decisions"), &serin);
    // Nothing was decided within the half minute that a mark stands for, but perhaps the start.
    assert!(ask(server, "query?", &decisions).len() <= 1);
    assert_quiet(server);
    eventually("Prometheus keeps the trace of a request", || {
        let series = "exemplars?start=0&end=9999999999&";
        let found = ask(
            server,
            &format!("query_{series}"),
            "serin_rollout_latency_seconds_bucket",
        );
        let exemplars = found.first()?["exemplars"].as_array()?.first()?.clone();
        let trace = exemplars["labels"]["trace_id"].as_str()?.to_owned();
        (trace.len() == 32).then_some(())
    });
    load.stop();
}
