//! A rehearsal on real traffic: found, rolled back, recovered, and gone, also when serin is killed in the middle.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Analyzer, Connection, Place, Serin, StopOnDrop, binary, eventually, eventually_within, post,
    two_pools,
};

const CLIENTS: usize = 16;
const STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"half\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"1s\"\nmin_requests = 20\n\
                     hold = []\nrollback = [\"p95 > 250ms for 1s over 3s\"]\n";

#[test]
fn a_rehearsal_is_found_and_leaves_nothing_behind() {
    let (serin, _pools) = running(true);
    under_load(&serin, || {
        warm(&serin);
        let before = serin.status("analyzer");
        let output = rehearse(&serin, &["--json", "--latency", "800ms", "--share", "50%"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        let outcome: Value = serde_json::from_str(&said).expect("JSON");
        println!("{outcome}");
        let (found, back, recovered) = (
            span(&outcome, "detected_ms"),
            span(&outcome, "back_ms"),
            span(&outcome, "recovered_ms"),
        );
        assert!(
            found <= back && back <= recovered && recovered < 120_000,
            "{outcome}"
        );
        assert_eq!(outcome["passed"], true);
        eventually("everything as before", || {
            let now = serin.status("analyzer");
            let same = ["phase", "stage", "weight", "run"]
                .iter()
                .all(|&key| now[key] == before[key]);
            (same && serin.get("/api/traffic-weights")["ultra_fast"] == 0.5).then_some(())
        });
        let slowest = serin.status("analyzer")["run_figures"]["canary"]["p99_ms"].clone();
        assert!(
            slowest.as_f64().is_none_or(|ms| ms < 500.0),
            "its figures are forgotten: {slowest}"
        );
    });
}

#[test]
fn killed_in_the_middle_it_is_over_and_the_rollout_goes_on() {
    let (mut serin, _pools) = running(true);
    let stop = AtomicBool::new(false);
    let proxy = serin.proxy;
    std::thread::scope(|scope| {
        load(scope, proxy, &stop);
        let _stop = StopOnDrop(&stop);
        warm(&serin);
        let begun = post(
            serin.admin,
            "/api/rehearsals",
            r#"{"fault": "latency", "latency": "900ms", "share": "2%", "within": "1m"}"#,
        );
        assert_eq!(begun.status, 202, "{}", begun.text());
        serin.process.kill();
        serin.restart();
        let ended = eventually("its end on disk", || {
            let mut events = serin.events("analyzer").into_iter();
            events.find(|event| event["event"] == "rehearsal_ended")
        });
        assert_eq!(ended["passed"], false);
        eventually("the rollout goes on", || {
            let now = serin.status("analyzer");
            (now["phase"] == "running" && now["weight"] == 0.5).then_some(())
        });
        let again = post(
            serin.admin,
            "/api/rehearsals",
            r#"{"fault": "errors", "share": "0%"}"#,
        );
        assert_eq!(again.status, 422, "{}", again.text());
    });
}

#[test]
fn it_is_refused_unless_enabled() {
    let (serin, _pools) = running(false);
    let output = rehearse(&serin, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not enabled"), "{said}");
}

fn running(enabled: bool) -> (Serin, [Analyzer; 2]) {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], STAGE);
    place.write(2, &format!("{pools}[rehearsal]\nenabled = {enabled}\n"));
    let serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);
    serin.await_phase("analyzer", "running");
    (serin, [original, ultra_fast])
}

fn warm(serin: &Serin) {
    eventually_within(Duration::from_secs(30), "three warm seconds", &mut || {
        (serin.status("analyzer")["stage_time_ms"].as_u64()? > 3_000).then_some(())
    });
}

fn rehearse(serin: &Serin, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command
        .args(["rehearse", "--admin", &format!("http://{}", serin.admin)])
        .args(args);
    command.output().expect("the binary runs")
}

fn span(outcome: &Value, key: &str) -> u64 {
    outcome[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key}: {outcome}"))
}

fn under_load(serin: &Serin, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        load(scope, serin.proxy, &stop);
        let _stop = StopOnDrop(&stop);
        work();
    });
}

fn load<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    proxy: std::net::SocketAddr,
    stop: &'scope AtomicBool,
) {
    for client in 0..CLIENTS {
        scope.spawn(move || {
            let mut connection = None;
            let mut learner = client;
            while !stop.load(Ordering::Relaxed) {
                if connection.is_none() {
                    connection = Connection::open(proxy).ok();
                }
                learner += CLIENTS;
                let name = format!("learner-{}", learner % 5_000);
                let lost = connection
                    .as_mut()
                    .is_none_or(|open| open.learner(&name).is_err());
                if lost {
                    connection = None;
                }
                crate::support::pause();
            }
        });
    }
}
