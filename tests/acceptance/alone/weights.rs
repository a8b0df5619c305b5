//! Weights change under load: no request fails, and whoever begins after the answer goes by the new weight.

use std::process::{Command, Stdio};

use serde_json::json;
use twox_hash::XxHash3_64;

use crate::support::{Analyzer, Connection, Place, two_pools};

const CHANGES: u64 = 1_000;
/// wrk is told to run this long at most; it is stopped when the changes are done.
const WRK_SECONDS: &str = "120";

/// The script that users are given as well.
const LEARNERS_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/load-tests/learners.lua");

#[test]
fn a_thousand_weight_changes_under_wrk_fail_no_request() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let stage =
        "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
    place.write(2, &two_pools(&[original.addr], &[ultra_fast.addr], stage));
    let serin = place.start();

    let wrk = Command::new("wrk")
        .args([
            "-t1",
            "-c16",
            &format!("-d{WRK_SECONDS}s"),
            "-s",
            LEARNERS_SCRIPT,
        ])
        .arg(format!("http://{}/", serin.proxy))
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk is installed (tests/run installs it)");

    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    for change in 0..CHANGES {
        // Up and down over the whole range, in an order that no cache could guess.
        let ppm = (change * 379_721) % 1_000_001;
        let answer = serin
            .set_weights(&json!({ "original": 1_000_000 - ppm, "ultra_fast": ppm }).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        for probe in 0..5 {
            let learner = format!("probe-{}", change * 5 + probe);
            let hash = XxHash3_64::oneshot(&[b"analyzer-v3\0", learner.as_bytes()].concat());
            let bucket = ((u128::from(hash) * 1_000_000) >> 64) as u64;
            let answer = connection.learner(&learner).expect("an answer");
            let canary = answer.header("x-analyzer-pool") == Some("ultra_fast");
            assert_eq!(
                canary,
                bucket < ppm,
                "{learner} (bucket {bucket}) after the change to {ppm} ppm was answered"
            );
        }
    }

    let interrupted = Command::new("kill")
        .args(["-INT", &wrk.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(
        interrupted.success(),
        "wrk ended before the changes were done"
    );
    let output = wrk.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said
        .lines()
        .find(|line| line.starts_with("requests "))
        .unwrap_or_else(|| panic!("wrk said: {said}"));
    let words: Vec<&str> = line.split(' ').collect();
    let requests: u64 = words[1].parse().expect("a number");
    assert!(requests > 1_000, "{line}");
    assert_eq!(words[3], "0", "{line}");
}
