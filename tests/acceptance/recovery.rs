//! After a rollback: baseline is seen to be well again, each step has its time, and ten minutes of evidence lie in a file.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Connection, Place, Serin, StopOnDrop, eventually, eventually_within, get, pause,
    two_pools,
};

const CLIENTS: usize = 4;
const STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"0s\"\nmin_requests = 20\n\
                     rollback = [\"error_rate > 1.5% for 1s over 5s\", \"p99 > 2s for 5m\"]\n\
                     [rollouts.analyzer.stages.hooks]\n\
                     rollback = [{ name = \"stop_new\", command = [\"/bin/echo\", \"the new analyzers are stopped\"] }]\n";

/// Reads the file with Python's own modules, and says what is in it.
const READ: &str = "import gzip, json, sys\n\
                    d = json.load(gzip.open(sys.argv[1], 'rt'))\n\
                    arms = {s['arm'] for s in d['slots']}\n\
                    errors = sum(s['errors'] for s in d['slots'] if s['arm'] == 'canary')\n\
                    told = {(l['arm'], l['status']) for l in d['access_log']}\n\
                    print(json.dumps({'rollout': d['rollout'], 'event': d['rollback']['event'], 'arms': sorted(arms),\n\
                    \x20 'errors': errors, 'told': sorted(told), 'output': d['hooks'][0]['output'] if d['hooks'] else None}))\n";

fn load(serin: &Serin, client: usize, stop: &AtomicBool) {
    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    let mut learner = client;
    while !stop.load(Ordering::Relaxed) {
        learner += CLIENTS;
        let answer = connection.learner(&format!("learner-{}", learner % 5_000));
        answer.expect("no request is lost");
        pause();
    }
}

fn python(file: &Path) -> Option<Value> {
    let output = Command::new("python3")
        .arg("-c")
        .arg(READ)
        .arg(file)
        .output();
    let output = output.expect("Python, which tests/run installs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).ok()
}

fn archive(serin: &Serin) -> Option<std::path::PathBuf> {
    let logs = std::fs::read_dir(serin.folder.path().join("deployment-logs")).ok()?;
    let mut paths = logs.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.to_string_lossy().ends_with("-evidence.json.gz"))
}

#[test]
fn a_rollback_is_seen_to_have_helped_and_leaves_its_evidence() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], STAGE);
    place.write(2, &(pools + "[server.log]\naccess = \"all\"\n"));
    let serin = place.start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (stop, serin) = (&stop, &serin);
            scope.spawn(move || load(serin, client, stop));
        }
        let _stop = StopOnDrop(&stop);
        assert_eq!(serin.act("analyzer", "start").status, 200);
        eventually("a healthy canary", || {
            let status = serin.status("analyzer");
            (status["stage_time_ms"].as_u64()? > 2_000).then_some(())
        });
        ultra_fast.behave(&json!({ "error_rate": 0.3 }));
        serin.await_phase("analyzer", "rolled_back");

        let event = eventually_within(Duration::from_secs(30), "baseline well again", &mut || {
            let events = serin.events("analyzer");
            let found = events.iter().find(|event| event["event"] == "recovered");
            found.cloned()
        });
        let steps: Vec<(&str, u64)> = event["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|step| {
                let name = step["step"].as_str().expect("a name");
                (name, step["after_ms"].as_u64().expect("a time"))
            })
            .collect();
        println!("since the alarm, ms: {steps:?}");
        let names: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "decided",
                "weights",
                "hook stop_new",
                "health",
                "errors",
                "latency"
            ]
        );
        // The client's limits: weights within 30 s of the alarm, all of it within 5 minutes.
        assert!(steps.iter().all(|&(_, after)| after < 300_000), "{steps:?}");
        assert!((1_000..30_000).contains(&steps[1].1), "{steps:?}");
        assert!(steps[4].1 >= steps[1].1 + 5_000, "{steps:?}");
    });

    let back = serin.events("analyzer");
    let back = back.iter().find(|event| event["event"] == "rolled_back");
    let confidence = &back.expect("it was rolled back")["confidence"];
    assert_eq!(confidence["level"], "high", "{confidence:#}");
    let report = get(serin.admin, "/api/rollouts/analyzer/report?format=md").text();
    for wanted in [
        "Confidence: high.",
        "## After the rollback",
        "| hook stop_new |",
    ] {
        assert!(report.contains(wanted), "no {wanted:?} in\n{report}");
    }

    // It is written again when the hooks have ended.
    let found = eventually("the archive with the hooks' output", || {
        let found = python(&archive(&serin)?)?;
        (!found["output"].is_null()).then_some(found)
    });
    assert_eq!(found["output"], "the new analyzers are stopped\n");
    assert_eq!(found["told"], json!([["baseline", 200], ["canary", 200]]));
    println!("{found}");
    assert_eq!(
        (&found["rollout"], &found["event"], &found["arms"]),
        (
            &json!("analyzer"),
            &json!("rolled_back"),
            &json!(["baseline", "canary"])
        )
    );
    let series = serin.get("/api/rollouts/analyzer/samples?step=1s");
    let points = series["samples"].as_array().expect("points");
    let of = |arm: &str, figure: &str| -> u64 {
        let figures = points.iter().map(|point| &point[arm][figure]);
        figures.filter_map(Value::as_u64).sum()
    };
    println!(
        "{} points, {} requests",
        points.len(),
        of("baseline", "requests")
    );
    assert_eq!(
        Some(of("canary", "errors")),
        serin.status("analyzer")["figures"]["canary"]["run"]["errors"].as_u64()
    );
    assert!(of("baseline", "requests") > 100, "{series:#}");
    assert!(
        found["errors"].as_u64().is_some_and(|errors| errors >= 3),
        "{found}"
    );
}
