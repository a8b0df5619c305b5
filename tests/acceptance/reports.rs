//! Reports lie beside the deployment log after each stage and at the end, and every number in them is one of the records.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{
    Analyzer, Connection, Place, Serin, StopOnDrop, binary, eventually, get, pause, two_pools,
};

const STAGES: &str = r#"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "20%"
duration = "2s"
warmup = "0s"
min_requests = 20
advance = ["error_rate < 1%"]
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "50%"
duration = "1h"
warmup = "0s"
min_requests = 20
advance = ["error_rate < 1%"]
"#;

#[test]
fn a_report_is_left_after_each_stage_and_at_the_end() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    place.write(2, &two_pools(&[original.addr], &[ultra_fast.addr], STAGES));
    let mut serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);
    ask_until(&serin, || serin.status("analyzer")["stage"] == "ramp");

    let of_stage = eventually("the report of the first stage", || {
        found(&serin, "-report-canary.json")
    });
    let report: Value = read(&of_stage);
    assert_eq!(report["stages"][0]["outcome"], "passed");
    let events = serin.events("analyzer");
    let advanced = events.iter().find(|event| event["event"] == "advanced");
    let advanced = advanced.expect("an event");
    assert_eq!(
        report["stages"][0]["criteria"][0],
        advanced["evaluations"][0]
    );

    // Nobody asks any more, so that what was counted stays.
    assert_eq!(serin.act("analyzer", "rollback").status, 200);
    serin.await_phase("analyzer", "rolled_back");
    let at_the_end = eventually("the report of the run", || {
        let report = read(&found(&serin, "-report.json")?);
        (report["phase"] == "rolled_back").then_some(report)
    });
    assert_eq!(at_the_end["decision"], now(&serin)["decision"]);
    assert!(found(&serin, "-report-ramp.html").is_some());
    every_request_is_in_the_samples(&serin);
    the_pages_are_whole(&serin, &at_the_end);

    // What a process did not come to write is written by the next one.
    serin.process.kill();
    for name in ["-report.json", "-report.md", "-report.html"] {
        let path = found(&serin, name).expect("it is there");
        std::fs::remove_file(path).expect("it is lost");
    }
    serin.restart();
    eventually("the report again", || found(&serin, "-report.html"));
}

/// On one connection, until that is so.
fn ask_until(serin: &Serin, is_so: impl Fn() -> bool) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, proxy) = (&stop, serin.proxy);
        scope.spawn(move || {
            let mut connection = Connection::open(proxy).expect("it accepts");
            let mut learner = 0;
            while !stop.load(Ordering::Relaxed) {
                learner += 1;
                let name = format!("learner-{}", learner % 2_000);
                connection.learner(&name).expect("an answer");
                pause();
            }
        });
        let _stop = StopOnDrop(stop);
        eventually("the next stage", || is_so().then_some(()));
    });
}

/// The samples of the charts add up to what the gate counted, on both arms.
fn every_request_is_in_the_samples(serin: &Serin) {
    eventually("the last second is on disk", || {
        let report = now(serin);
        let samples = report["series"]["samples"].as_array()?.clone();
        let sum = |arm: &str| -> u64 {
            let counted = samples.iter();
            counted
                .filter_map(|sample| sample[arm]["requests"].as_u64())
                .sum()
        };
        let run = |arm: &str| report["figures"][arm]["run"]["requests"].as_u64();
        let whole =
            Some(sum("canary")) == run("canary") && Some(sum("baseline")) == run("baseline");
        (whole && sum("canary") > 20).then_some(())
    });
    // And each stage has its own.
    let report = now(serin);
    let of = |stage: usize| {
        let span = &report["stages"][stage]["spans"][0];
        span["arms"]["canary"]["requests"]
            .as_u64()
            .expect("a count")
    };
    let run = &report["figures"]["canary"]["run"]["requests"];
    assert_eq!(Some(of(0) + of(1)), run.as_u64(), "{report:#}");
}

fn the_pages_are_whole(serin: &Serin, report: &Value) {
    let answer = get(serin.admin, "/api/rollouts/analyzer/report?format=html");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let by_command = serin.folder.path().join("by-command.html");
    let output = Command::new(binary())
        .args(["report", "--format", "html", "--out"])
        .arg(&by_command)
        .env("SERIN_ADMIN", format!("http://{}", serin.admin))
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    let left = found(serin, "-report.html").expect("it is there");
    for page in [
        answer.text(),
        std::fs::read_to_string(by_command).expect("a file"),
        std::fs::read_to_string(left).expect("a file"),
    ] {
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert_eq!(
            page.matches("<svg ").count(),
            8,
            "four charts, in two sizes"
        );
        let decision = report["decision"].as_str().expect("a text");
        assert!(page.contains(decision), "{decision:?}");
        assert!(!page.contains("://"), "an address");
    }
}

fn now(serin: &Serin) -> Value {
    serin.get("/api/rollouts/analyzer/report?format=json")
}

fn found(serin: &Serin, ending: &str) -> Option<PathBuf> {
    let logs = serin.folder.path().join("deployment-logs");
    let mut entries = std::fs::read_dir(logs).ok()?.filter_map(Result::ok);
    entries
        .find(|entry| entry.file_name().to_string_lossy().ends_with(ending))
        .map(|entry| entry.path())
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a report");
    serde_json::from_str(&text).expect("it is JSON")
}
