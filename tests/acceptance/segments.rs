//! A segment that alone regresses is taken back alone, while the others go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Connection, Place, Serin, StopOnDrop, eventually_within, pause, two_pools,
};

const SEGMENTS: [&str; 4] = ["asia", "eu", "latam", "us"];

/// Half of everybody; a trigger on everybody that a sick quarter would touch, and one on each segment.
const STAGES: &str = "[rollouts.analyzer.gate]\nmax_failed_segments = 1\n\
     [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"12s\"\nwarmup = \"0s\"\nmin_requests = 100\n\
     advance = [\"error_rate < 1%\", \"error_rate < 1% per segment\", \"segment_variance < 5%\"]\n\
     rollback = [\"error_rate > 5% for 1s over 2s\", \"error_rate > 20% for 1s over 2s per segment\"]\n";

/// The same with nothing but the evidence to go by.
const BY_EVIDENCE: &str = "[rollouts.analyzer.gate]\ntripwire = false\n\
     [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"0s\"\nmin_requests = 100\n\
     rollback = [\"regression(any)\"]\n";

#[test]
fn a_segment_whose_errors_are_a_regression_is_lowered_by_the_evidence_alone() {
    let (serin, [_original, ultra_fast]) = started(BY_EVIDENCE);
    under_load(&serin, || {
        begin(&serin);
        ultra_fast.behave(&json!({ "error_rate": 0.9, "error_segment": "eu" }));
        let lowered = eventually_within(Duration::from_secs(30), "eu lowered", &mut || {
            last_event(&serin, "segment_lowered").or_else(|| last_event(&serin, "rolled_back"))
        });
        assert_eq!(lowered["segment"], "eu", "{lowered:#}");
        assert_eq!(lowered["trigger"], "regression(any)");
        let why = lowered["reason"].as_str().expect("a reason");
        assert!(why.starts_with("eu alone is to blame"), "{why}");

        // The others go on, and their evidence is without what eu did.
        let stage_time = || serin.status("analyzer")["stage_time_ms"].as_u64();
        let then = stage_time();
        let status = eventually_within(Duration::from_secs(20), "5 s more", &mut || {
            (stage_time()? > then? + 5_000).then(|| serin.status("analyzer"))
        });
        assert_eq!(status["phase"], "running", "{status:#}");
        let evidence = &status["evidence"];
        assert_eq!(evidence["alarm"], false, "{evidence:#}");
        let segments = evidence["segments"].as_array().expect("a list");
        let names: Vec<&Value> = segments.iter().map(|one| &one["segment"]).collect();
        assert!(
            names.len() == 3 && !names.contains(&&json!("eu")),
            "{names:?}"
        );
        let shares = &evidence["shares"];
        assert!(
            shares["canary"].as_u64() > Some(100) && shares["ln_odds"].as_f64() < Some(4.6),
            "{shares:#}"
        );

        // What everybody suffers takes everybody back.
        ultra_fast.behave(&json!({ "error_rate": 0.6, "error_segment": "" }));
        eventually_within(Duration::from_secs(20), "back", &mut || {
            last_event(&serin, "rolled_back")
        });
    });
    assert_eq!(serin.get("/api/traffic-weights")["ultra_fast"], 0.0);
}

#[test]
fn a_segment_that_alone_regresses_is_lowered_and_the_rollout_completes() {
    let (mut serin, [_original, ultra_fast]) = started(STAGES);
    under_load(&serin, || {
        begin(&serin);
        ultra_fast.behave(&json!({ "error_rate": 0.6, "error_segment": "eu" }));
        let lowered = eventually_within(Duration::from_secs(10), "eu lowered", &mut || {
            last_event(&serin, "segment_lowered")
        });
        assert_eq!(lowered["segment"], "eu", "{lowered:#}");
        assert_eq!(lowered["phase"], "running");
        let proof = lowered["evaluations"].as_array().expect("a list");
        let proof = proof
            .iter()
            .find(|one| one["segment"] == "eu")
            .expect("the trigger");
        assert!(proof["figure"].as_f64() > Some(0.2), "{proof:#}");

        // Nobody of eu meets the new pool any more, and the others still do.
        let mut connection = Connection::open(serin.proxy).expect("it accepts");
        let mut pools = |segment: &str| -> Vec<String> {
            let ask = |n: u32| {
                let answer = connection.learner_of(segment, &format!("asked-{n}"));
                let answer = answer.expect("an answer");
                assert_eq!(answer.status, 200);
                answer.json()["pool"].as_str().expect("a pool").to_owned()
            };
            let mut pools: Vec<String> = (0..40).map(ask).collect();
            pools.sort_unstable();
            pools.dedup();
            pools
        };
        assert_eq!(pools("eu"), ["original"]);
        assert_eq!(pools("us"), ["original", "ultra_fast"]);

        let status = eventually_within(Duration::from_secs(40), "complete", &mut || {
            let status = serin.status("analyzer");
            (status["phase"] == "complete").then_some(status)
        });
        let eu = segment(&status, "eu");
        assert_eq!(
            (&eu["max_weight"], status["weight"].as_f64()),
            (&json!(0.0), Some(0.5))
        );
        assert!(eu["canary"]["run"]["errors"].as_u64() >= Some(3), "{eu:#}");
        assert_eq!(
            eu["lowered_by"],
            "error_rate > 20% for 1s over 2s per segment"
        );
        let us = segment(&status, "us");
        assert_eq!(us["canary"]["stage"]["errors"], 0, "{us:#}");
        assert!(
            us["canary"]["stage"]["p99_ms"].as_f64() > Some(0.0),
            "{us:#}"
        );
    });
    assert!(last_event(&serin, "rolled_back").is_none());

    // It stays so over a kill, and the report tells it.
    serin.process.kill();
    serin.restart();
    assert_eq!(segment(&serin.status("analyzer"), "eu")["max_weight"], 0.0);
    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    for n in 0..20 {
        let answer = connection.learner_of("eu", &format!("later-{n}"));
        assert_eq!(answer.expect("an answer").json()["pool"], "original");
    }
    let report = crate::support::get(serin.admin, "/api/rollouts/analyzer/report?format=md");
    let report = report.text();
    for part in ["## Segments", "Segment eu was lowered to 0%", "| us |"] {
        assert!(report.contains(part), "{part:?} is not in:\n{report}");
    }
}

#[test]
fn more_sick_segments_than_the_plan_bears_take_everybody_back() {
    let (serin, [_original, ultra_fast]) = started(STAGES);
    under_load(&serin, || {
        begin(&serin);
        for sick in ["eu", "us"] {
            ultra_fast.behave(&json!({ "error_rate": 0.6, "error_segment": sick }));
            eventually_within(Duration::from_secs(10), "an answer to it", &mut || {
                let lowered = last_event(&serin, "segment_lowered")?;
                let back = last_event(&serin, "rolled_back");
                (lowered["segment"] == sick || back.is_some()).then_some(())
            });
        }
    });
    let back = last_event(&serin, "rolled_back").expect("it is rolled back");
    assert_eq!(
        back["reason"], "more than 1 segments failed: eu, us",
        "{back:#}"
    );
    assert_eq!(serin.get("/api/traffic-weights")["ultra_fast"], 0.0);
}

/// A proxy, and the analyzers of the old pool and the new one.
fn started(stages: &str) -> (Serin, [Analyzer; 2]) {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], stages);
    place.write(1, &pools);
    (place.start(), [original, ultra_fast])
}

fn begin(serin: &Serin) {
    assert_eq!(serin.act("analyzer", "start").status, 200);
    eventually_within(Duration::from_secs(20), "two healthy seconds", &mut || {
        (serin.status("analyzer")["stage_time_ms"].as_u64()? > 2_000).then_some(())
    });
}

/// Does this while learners of every segment ask.
fn under_load(serin: &Serin, during: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let (proxy, stopped) = (serin.proxy, &stop);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(stopped);
        for segment in SEGMENTS {
            scope.spawn(move || load(proxy, segment, stopped));
        }
        during();
    });
}

fn load(proxy: std::net::SocketAddr, segment: &str, stop: &AtomicBool) {
    let mut connection = Connection::open(proxy).expect("it accepts");
    let mut learner = 0;
    while !stop.load(Ordering::Relaxed) {
        learner = (learner + 1) % 3_000;
        let answer = connection.learner_of(segment, &format!("{segment}-{learner}"));
        answer.expect("no request is lost");
        pause();
    }
}

fn last_event(serin: &Serin, kind: &str) -> Option<Value> {
    let events = serin.events("analyzer");
    events.into_iter().rfind(|event| event["event"] == kind)
}

fn segment(status: &Value, name: &str) -> Value {
    let segments = status["segments"].as_array().expect("a list");
    let found = segments.iter().find(|one| one["segment"] == name);
    found
        .unwrap_or_else(|| panic!("{name} in {status:#}"))
        .clone()
}
