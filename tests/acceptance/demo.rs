//! The demo ends as its scenario wants, and says what happened.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::binary;

/// A run and its report on a slow machine.
const LONGEST: Duration = Duration::from_secs(90);

fn demo(scenario: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let began = Instant::now();
    let output: Output = Command::new(binary())
        .args(["demo", "--scenario", scenario])
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(began.elapsed() < LONGEST, "{:?}\n{said}", began.elapsed());
    let logs = std::fs::read_dir(folder.path().join("deployment-logs"))
        .expect("deployment-logs/ is left behind");
    assert!(logs.count() >= 2, "the log of the run and its report");
    said
}

#[test]
fn a_healthy_demo_completes() {
    let said = demo("healthy");
    for part in ["canary", "ramp", "rollout", "complete", "100%"] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn a_demo_with_errors_is_rolled_back() {
    let said = demo("errors");
    for part in [
        "rolled back",
        "error_rate",
        "last canary request",
        "learners",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn a_demo_with_slow_answers_is_rolled_back() {
    let said = demo("latency");
    for part in ["rolled back", "p99", "last canary request"] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn a_demo_with_one_sick_segment_completes_without_it() {
    let said = demo("segment");
    for part in [
        "segment school lowered to 0%",
        "## Segments",
        "complete without the sick segment",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains("rolled back from"), "{said}");
}
