//! Hooks on real processes and calls: what they are told, what is kept of them, and a kill in the middle of one.

use std::net::SocketAddr;

use serde_json::Value;

use crate::receiver::Receiver;
use crate::support::{Analyzer, Place, Serin, eventually, free_port, two_pools};

const STAGE: &str =
    "[[rollouts.analyzer.stages]]\nname = \"only\"\nweight = \"50%\"\nduration = \"1h\"\n";

fn named(serin: &Serin, event: &str, name: &str) -> Vec<Value> {
    let events = serin.events("analyzer");
    let of = |one: &Value| one["event"] == event && one["hook"]["name"] == name;
    events.into_iter().filter(|one| of(one)).collect()
}

fn ended(serin: &Serin, name: &str) -> Value {
    eventually(&format!("the end of {name}"), || {
        named(serin, "hook_ended", name).into_iter().next_back()
    })
}

#[test]
fn a_rollback_runs_its_hooks_once_though_serin_is_killed_in_the_middle() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let receiver = Receiver::start(SocketAddr::from(([127, 0, 0, 1], free_port())));
    let (flag, log) = (
        place.folder.path().join("flag"),
        place.folder.path().join("log"),
    );
    let check = "echo for $SERIN_ROLLOUT/$SERIN_STAGE as $SERIN_HOOK_KIND; echo to stderr >&2";
    let stop = format!(
        "echo $SERIN_IDEMPOTENCY_KEY >> {log:?}; while [ ! -e {flag:?} ]; do sleep 0.05; done"
    );
    let stage = format!(
        "{STAGE}[rollouts.analyzer.stages.hooks]\n\
         before = [{{ name = \"check\", command = [\"sh\", \"-c\", {check:?}] }}]\n\
         rollback = [\n\
           {{ name = \"stop_new\", command = [\"sh\", \"-c\", {stop:?}], verify = {{ command = [\"true\"] }} }},\n\
           {{ name = \"restart_original\", command = [\"false\"], when = \"baseline_unhealthy\" }},\n\
           {{ name = \"tell\", url = \"http://{0}/done\" }},\n\
           {{ name = \"too_slow\", command = [\"sh\", \"-c\", \"sleep 60 & sleep 60\"], timeout = \"300ms\", retries = 1 }},\n\
         ]\n",
        receiver.addr
    );
    place.write(1, &two_pools(&[original.addr], &[ultra_fast.addr], &stage));
    let mut serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);
    let check = ended(&serin, "check");
    assert_eq!(
        (&check["outcome"], &check["code"]),
        (&"passed".into(), &0.into())
    );
    let said = check["output"].as_str().expect("what it said");
    assert!(
        said.contains("for analyzer/only as before") && said.contains("to stderr"),
        "{said}"
    );
    serin.await_phase("analyzer", "running");

    assert_eq!(serin.act("analyzer", "rollback").status, 200);
    eventually("the first hook of the rollback", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| !text.is_empty())
    });
    serin.process.kill();
    serin.restart();
    // What it left running is let go, so that nothing outlives the test.
    std::fs::write(&flag, "").expect("a flag");
    let last = ended(&serin, "too_slow");
    assert_eq!(
        (&last["outcome"], &last["attempts"]),
        (&"failed".into(), &2.into())
    );
    assert!(
        last["why"]
            .as_str()
            .expect("why")
            .contains("longer than 300ms"),
        "{last}"
    );

    let stop: Vec<Value> = named(&serin, "hook_ended", "stop_new");
    let outcomes: Vec<&str> = stop
        .iter()
        .filter_map(|one| one["outcome"].as_str())
        .collect();
    assert_eq!(
        outcomes,
        ["unknown", "passed"],
        "unknown, and then verified"
    );
    assert_eq!(stop[1]["hook"]["verifies"], true);
    assert_eq!(ended(&serin, "restart_original")["outcome"], "skipped");
    let runs = std::fs::read_to_string(&log).expect("its log");
    assert_eq!(runs.lines().count(), 1, "it ran once: {runs}");
    let calls = receiver.calls();
    assert_eq!(calls.len(), 1);
    let key = calls[0]
        .header("idempotency-key")
        .expect("a key")
        .to_owned();
    let began = &named(&serin, "hook_started", "tell")[0];
    assert_eq!(key, format!("analyzer/{}", began["id"]));
    assert_eq!(calls[0].json()["hook"], "tell");

    let events = serin.events("analyzer");
    let rollbacks = events.iter().filter(|one| one["event"] == "rolled_back");
    assert_eq!(rollbacks.count(), 1);
    let called = events
        .iter()
        .filter(|one| one["event"] == "incident_opened");
    assert_eq!(called.count(), 2, "for what is unknown and for what failed");
    assert_eq!(serin.phase("analyzer"), "rolled_back");
}
