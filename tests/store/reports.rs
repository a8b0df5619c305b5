//! Reports lie beside the deployment log of their run, whole at any moment, and leave with it.

use std::path::Path;
use std::time::Duration;

use serin::rollout::gate::EventKind;
use serin::store::{Document, Settings};

use crate::make::{PATIENCE, batch, event, open, open_settings, rollout, settings};

/// Longer ago than anything that is kept: the events of these tests are of 2025.
const SHORT: Duration = Duration::from_secs(1);

fn documents(text: &str) -> Vec<Document> {
    let of = |extension| Document {
        extension,
        text: format!("{text} as {extension}"),
    };
    ["md", "json", "html"].map(of).to_vec()
}

fn names(directory: &Path) -> Vec<String> {
    let logs = settings(directory).deployment_logs;
    let entries = std::fs::read_dir(logs).expect("the folder of the logs");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn reports_are_named_after_the_log_and_replaced_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    let started = event(1, 1, EventKind::Started { stages: 2 });
    opened.store.write(batch(vec![started], Vec::new()));
    opened.wait_stored(1);
    let keep = |stage, text: &str| {
        let kept = opened
            .store
            .keep_report(&rollout(), 1, stage, &documents(text));
        kept.expect("it is written");
    };
    keep(None, "the first");
    keep(Some("canary"), "of a stage");
    keep(None, "the second");
    // Of a run that nobody knows there is none.
    opened
        .store
        .keep_report(&rollout(), 7, None, &documents("of nothing"))
        .expect("nothing to do");
    opened.store.close(PATIENCE);
    assert_eq!(
        names(directory.path()),
        [
            "canary-20251101T140001.000Z-report-canary.html",
            "canary-20251101T140001.000Z-report-canary.json",
            "canary-20251101T140001.000Z-report-canary.md",
            "canary-20251101T140001.000Z-report.html",
            "canary-20251101T140001.000Z-report.json",
            "canary-20251101T140001.000Z-report.md",
            "canary-20251101T140001.000Z.json",
        ]
    );
    let logs = settings(directory.path()).deployment_logs;
    let text = std::fs::read_to_string(logs.join("canary-20251101T140001.000Z-report.md"));
    assert_eq!(text.expect("a report"), "the second as md");
}

#[test]
fn reports_leave_with_the_log_of_their_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    for run in [1, 2] {
        let started = event(run, run, EventKind::Started { stages: 2 });
        opened.store.write(batch(vec![started], Vec::new()));
        opened.wait_stored(run);
        for stage in [None, Some("canary"), Some("ramp.v2")] {
            opened
                .store
                .keep_report(&rollout(), run, stage, &documents("a report"))
                .expect("it is written");
        }
    }
    opened.store.close(PATIENCE);
    assert_eq!(names(directory.path()).len(), 20);
    // A file of somebody else's that only looks alike stays.
    let logs = settings(directory.path()).deployment_logs;
    let other = "canary-20251101T140001.000Z-reporting.md";
    std::fs::write(logs.join(other), "not ours").expect("a file");
    let again = open_settings(&Settings {
        retention: SHORT,
        ..settings(directory.path())
    });
    let again = again.expect("the store opens");
    // Two logs, eighteen reports, and the other one: ten files go.
    let deadline = serin::clock::now() + PATIENCE;
    while names(directory.path()).len() > 11 {
        assert!(
            serin::clock::now() < deadline,
            "{:?}",
            names(directory.path())
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
    again.store.close(PATIENCE);
    let left = names(directory.path());
    let (of_first, of_second): (Vec<_>, Vec<_>) = left
        .iter()
        .partition(|name| name.starts_with("canary-20251101T140001"));
    assert_eq!(of_first, [other]);
    assert_eq!(of_second.len(), 10, "{left:?}");
}
