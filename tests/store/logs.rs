//! The deployment log of a run is whole JSON at every moment, and finds its file again after a restart.

use std::path::{Path, PathBuf};

use serde_json::Value;
use serin::rollout::gate::{EventKind, Phase};
use serin::rollout::name::RolloutName;

use crate::make::{PATIENCE, batch, event, open, settings};

fn files(directory: &Path) -> Vec<PathBuf> {
    let logs = settings(directory).deployment_logs;
    let Ok(entries) = std::fs::read_dir(logs) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn names(directory: &Path) -> Vec<String> {
    let name = |path: &PathBuf| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    files(directory).iter().map(name).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the log")).expect("the log is JSON")
}

#[test]
fn a_run_has_one_log_that_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    first
        .store
        .write(batch(vec![event(1, 0, EventKind::Resumed)], Vec::new()));
    first.store.write(batch(
        vec![event(2, 1, EventKind::Started { stages: 2 })],
        Vec::new(),
    ));
    first.store.close(PATIENCE);
    assert_eq!(
        names(directory.path()),
        ["canary-20251101T140002.000Z.json"]
    );
    let log = read(&files(directory.path())[0]);
    assert_eq!(
        (&log["rollout"], &log["run"]),
        (&"analyzer".into(), &1.into())
    );
    assert_eq!(
        (&log["started"], &log["ended"]),
        (&"2025-11-01T14:00:02.000Z".into(), &Value::Null)
    );
    assert_eq!(log["plan"]["stages"][1]["weight"], "10%");
    assert_eq!(log["events"].as_array().map(Vec::len), Some(1));

    std::fs::remove_file(&files(directory.path())[0]).expect("the log is lost");
    let second = open(directory.path());
    let mut end = event(
        3,
        1,
        EventKind::Completed {
            evaluations: Vec::new(),
            confidence: None,
            forced: false,
        },
    );
    end.phase = Phase::Complete;
    let mut later = event(
        4,
        1,
        EventKind::Unpinned {
            learner: "l1".to_owned(),
        },
    );
    later.phase = Phase::Complete;
    second.store.write(batch(vec![end, later], Vec::new()));
    second.store.close(PATIENCE);
    assert_eq!(
        names(directory.path()),
        ["canary-20251101T140002.000Z.json"]
    );
    let log = read(&files(directory.path())[0]);
    assert_eq!(log["ended"], "2025-11-01T14:00:03.000Z");
    let events: Vec<&str> = log["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["event"].as_str())
        .collect();
    assert_eq!(events, ["started", "completed", "unpinned"]);
}

#[test]
fn a_log_that_was_lost_is_written_again_at_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    first.store.write(batch(
        vec![event(1, 1, EventKind::Started { stages: 2 })],
        Vec::new(),
    ));
    first.store.close(PATIENCE);
    std::fs::remove_file(&files(directory.path())[0]).expect("the log is lost");
    open(directory.path()).store.close(PATIENCE);
    assert_eq!(
        names(directory.path()),
        ["canary-20251101T140001.000Z.json"]
    );
}

#[test]
fn two_rollouts_that_start_in_one_millisecond_have_two_logs() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    for name in ["analyzer", "tutor", "grader"] {
        let mut start = batch(
            vec![event(1, 1, EventKind::Started { stages: 2 })],
            Vec::new(),
        );
        start.rollout = RolloutName::parse(name).expect("a name");
        opened.store.write(start);
    }
    opened.store.close(PATIENCE);
    assert_eq!(
        names(directory.path()),
        [
            "canary-20251101T140001.000Z-2.json",
            "canary-20251101T140001.000Z-3.json",
            "canary-20251101T140001.000Z.json"
        ]
    );
}

#[test]
fn a_directory_of_logs_that_cannot_be_written_does_not_stop_the_journal() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(settings(directory.path()).deployment_logs, "in the way").expect("a file");
    let opened = open(directory.path());
    opened.store.write(batch(
        vec![event(1, 1, EventKind::Started { stages: 2 })],
        Vec::new(),
    ));
    opened.wait_stored(1);
    opened
        .store
        .write(batch(vec![event(2, 1, EventKind::Paused)], Vec::new()));
    opened.wait_stored(2);
    assert_eq!(opened.ids(), [1, 2]);
}
