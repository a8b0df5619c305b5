//! A stage that asks for approval goes on when it is given, and a canary that fails while it is asked for goes back.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Connection, Place, Serin, StopOnDrop, binary, eventually_within, pause, two_pools,
};

const CLIENTS: usize = 4;
const STAGES: &str = r#"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "20%"
duration = "2s"
warmup = "0s"
min_requests = 20
advance = ["error_rate < 1%"]
on_success = "approve"
approvers = ["engineering", "finance"]
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "30%"
duration = "2s"
warmup = "0s"
min_requests = 20
rollback = ["error_rate > 1.5% for 2m"]
on_success = "approve"
approvers = ["engineering"]
[[rollouts.analyzer.stages]]
name = "rollout"
weight = "100%"
duration = "1h"
hold = []
"#;

#[test]
fn a_failing_canary_is_rolled_back_while_approval_is_awaited() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    place.write(2, &two_pools(&[original.addr], &[ultra_fast.addr], STAGES));
    let mut serin = place.start();

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (stop, proxy) = (&stop, serin.proxy);
            scope.spawn(move || load(proxy, client, stop));
        }
        let _stop = StopOnDrop(&stop);
        assert_eq!(serin.act("analyzer", "start").status, 200);
        approve_the_first(&serin);

        let status = awaited(&serin, "ramp");
        assert_eq!(status["weights_in_force"]["ultra_fast"], 0.3);
        ultra_fast.behave(&json!({ "error_rate": 0.8 }));
        eventually_within(Duration::from_secs(10), "a rollback", &mut || {
            (serin.phase("analyzer") == "rolled_back").then_some(())
        });
        assert_eq!(serin.get("/api/traffic-weights")["ultra_fast"], 0.0);
    });

    let events = serin.events("analyzer");
    let kinds: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .filter(|kind| !matches!(*kind, "stage_began" | "checkpoint"))
        .collect();
    assert_eq!(
        kinds,
        [
            "started",
            "approval_asked",
            "approved",
            "approved",
            "advanced",
            "approval_asked",
            "rolled_back",
        ]
    );

    // A freeze is there after a kill -9, and the command line ends it.
    run(
        &serin,
        &["freeze", "--reason", "night", "--for", "1h"],
        true,
    );
    serin.process.kill();
    serin.restart();
    assert_eq!(serin.status("analyzer")["frozen"]["reason"], "night");
    let refused = run(&serin, &["start", "--force"], false);
    assert!(refused.contains("frozen by local (night)"), "{refused}");
    run(&serin, &["unfreeze"], true);
    assert_eq!(serin.status("analyzer")["frozen"], Value::Null);
}

fn approve_the_first(serin: &Serin) {
    let status = awaited(serin, "canary");
    assert_eq!(
        status["approval"]["missing"],
        json!(["engineering", "finance"])
    );
    let refused = run(serin, &["approve"], false);
    assert!(
        refused.contains("say for which role: engineering, finance"),
        "{refused}"
    );
    let seen = status["approval"]["asked"].to_string();
    let said = run(
        serin,
        &["approve", "--role", "engineering", "--seen", &seen],
        true,
    );
    assert!(said.contains("approval of finance missing"), "{said}");
    run(serin, &["approve", "--reason", "the budget holds"], true);
    let events = serin.events("analyzer");
    let approved = events
        .iter()
        .rfind(|event| event["event"] == "approved")
        .expect("it is in the journal");
    assert_eq!(
        (&approved["role"], &approved["by"], &approved["reason"]),
        (
            &json!("finance"),
            &json!("local"),
            &json!("the budget holds")
        )
    );
    assert_eq!(approved["plan_hash"], status["plan_hash"]);
    assert!(
        approved["evaluations"][0]["figure"].is_number(),
        "{approved:#}"
    );
}

fn awaited(serin: &Serin, stage: &str) -> Value {
    eventually_within(
        Duration::from_secs(30),
        "an approval is asked for",
        &mut || {
            let status = serin.status("analyzer");
            (status["phase"] == "awaiting_approval" && status["stage"] == stage).then_some(status)
        },
    )
}

/// A command of the binary against this admin port: what it printed.
fn run(serin: &Serin, arguments: &[&str], succeeds: bool) -> String {
    let output = Command::new(binary())
        .args(arguments)
        .env("SERIN_ADMIN", format!("http://{}", serin.admin))
        .output()
        .expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(output.status.success(), succeeds, "{arguments:?}: {text}");
    text
}

fn load(proxy: SocketAddr, client: usize, stop: &AtomicBool) {
    let mut connection = Connection::open(proxy).expect("it accepts");
    let mut learner = client;
    while !stop.load(Ordering::Relaxed) {
        learner += CLIENTS;
        connection
            .learner(&format!("learner-{}", learner % 5_000))
            .expect("an answer");
        pause();
    }
}
