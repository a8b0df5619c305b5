//! The alert rules: checked and tested by Prometheus' own tool, each on both sides of its edge, each with a way out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::repository_file;

const RULES: &str = "deploy/prometheus/serin.rules.yml";
const TESTS: &str = "deploy/prometheus/serin.rules.test.yml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// Runs promtool on the files; what it said.
fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder())
        .output()
        .expect("promtool, of Debian's package prometheus");
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// What follows a key at the beginning of a line.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    let found = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    found.collect()
}

#[test]
fn promtool_finds_nothing_wrong_and_each_alert_fires_beyond_its_edge_alone() {
    let checked = promtool(&["check", "config", "prometheus.yml"]);
    assert!(checked.contains("SUCCESS"), "{checked}");
    promtool(&["check", "rules", "serin.rules.yml"]);
    promtool(&["test", "rules", "serin.rules.test.yml"]);
    let (rules, tests) = (repository_file(RULES), repository_file(TESTS));
    for alert in values(&rules, "alert") {
        let of_it = format!("- alertname: {alert}\n");
        let worlds: Vec<&str> = tests
            .split("input_series:")
            .filter(|world| world.contains(&of_it))
            .collect();
        let has = |part: &str| worlds.iter().any(|world| world.contains(part));
        assert!(has("- exp_labels:"), "{alert} fires in no test");
        assert!(
            has("instance=\"below\""),
            "nothing lies on the edge of {alert}"
        );
    }
}

#[test]
fn each_alert_says_what_is_and_where_the_runbook_says_what_to_do() {
    let rules = repository_file(RULES);
    let alerts = values(&rules, "alert");
    assert!(alerts.len() >= 20, "{alerts:?}");
    for key in ["summary", "description", "runbook_url", "expr", "for"] {
        assert_eq!(values(&rules, key).len(), alerts.len(), "{key}");
    }
    let headings: BTreeSet<String> = repository_file("docs/RUNBOOK.md")
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.to_ascii_lowercase().replace(' ', "-"))
        .collect();
    for (alert, url) in alerts.iter().zip(values(&rules, "runbook_url")) {
        let anchor = url
            .strip_prefix("docs/RUNBOOK.md#")
            .expect("a place in the runbook");
        assert_eq!(anchor, alert.to_ascii_lowercase());
        assert!(
            headings.contains(anchor),
            "docs/RUNBOOK.md has no section {alert}"
        );
    }
    let explained = headings
        .iter()
        .filter(|heading| heading.starts_with("serin"));
    assert_eq!(
        explained.count(),
        alerts.len(),
        "a section for an alert that is not there"
    );
}

#[test]
fn rules_read_only_metrics_that_there_are() {
    let (rules, metrics) = (repository_file(RULES), repository_file("docs/METRICS.md"));
    for expr in values(&rules, "expr") {
        let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names = words.filter(|word| word.starts_with("serin_") || word.starts_with("process_"));
        let names: Vec<&str> = names.collect();
        for name in &names {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let is_listed = |name: &str| metrics.contains(&format!("| `{name}` |"));
            assert!(
                is_listed(family.unwrap_or(name)) || is_listed(name),
                "{name} in {expr}"
            );
        }
        assert!(!names.is_empty() || expr.contains("up{"), "{expr}");
    }
}
