//! One learner who always fails, hashed into canary, is found to be one learner, and rolls nothing back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use serin::stub::load::LoadSettings;

use crate::support::{
    Analyzer, Connection, Learners, Place, Serin, StopOnDrop, eventually_within, get, pause,
    two_pools,
};

/// Requests with this segment fail on canary; the rollout itself tells no segments apart.
const FAILING: &str = "bot";
/// Well before the bot comes: the few failures of others are below every limit then.
const WELL_MS: u64 = 8_000;

/// A proxy whose canary fails the bot and nobody else, and whose baseline fails one in two hundred.
fn started(stage: &str) -> (Serin, [Analyzer; 2]) {
    let place = Place::new();
    let analyzer = |pool| Analyzer::start_with(place.folder.path(), pool, "15ms,p99=46ms", &[]);
    let (original, ultra_fast) = (analyzer("original"), analyzer("ultra_fast"));
    original.behave(&json!({ "error_rate": 0.005 }));
    ultra_fast.behave(&json!({ "error_rate": 1.0, "error_segment": FAILING }));
    let stages = format!(
        "segment = false\n[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"20%\"\nwarmup = \"0s\"\nmin_requests = 20\n{stage}\n"
    );
    place.write(1, &two_pools(&[original.addr], &[ultra_fast.addr], &stages));
    (place.start(), [original, ultra_fast])
}

fn learners(serin: &Serin) -> Learners {
    Learners::start(LoadSettings {
        learners: 2_000,
        rate_per_s: 400.0,
        ..LoadSettings::new(serin.proxy)
    })
}

fn begin(serin: &Serin) {
    assert_eq!(serin.act("analyzer", "start").status, 200);
    eventually_within(
        Duration::from_secs(30),
        "a stage that goes well",
        &mut || (serin.status("analyzer")["stage_time_ms"].as_u64()? >= WELL_MS).then_some(()),
    );
}

/// Ids that stand on canary.
fn on_canary(serin: &Serin) -> impl Iterator<Item = String> {
    let ids = (0..).map(|number| format!("guest-{number}"));
    ids.filter(|id| {
        let lookup = serin.get(&format!("/api/assign?rollout=analyzer&learner={id}"));
        lookup["arm"] == "canary"
    })
}

/// Asks as the bot until told to stop, and counts how often.
fn be_the_bot(serin: &Serin, id: &str, stop: &AtomicBool, asked: &AtomicU64) {
    let mut connection = Connection::open(serin.proxy).expect("it accepts");
    while !stop.load(Ordering::Relaxed) {
        // Baseline answers instead, so that the learner himself meets no failure of canary.
        let answer = connection.learner_of(FAILING, id).expect("an answer");
        assert_eq!(answer.json()["pool"], "original");
        asked.fetch_add(1, Ordering::Relaxed);
        (0..12).for_each(|_| pause());
    }
}

/// The report as soon as it has counted everything that was asked, and what it says of one learner.
fn report_that_names(serin: &Serin, asked: u64) -> (String, u64) {
    let failures = eventually_within(Duration::from_secs(10), "all of it counted", &mut || {
        let status = serin.status("analyzer");
        let run = &status["figures"]["canary"]["run"];
        (run["errors_of_one_learner"].as_u64()? == asked).then(|| run["errors"].as_u64())?
    });
    let answer = get(serin.admin, "/api/rollouts/analyzer/report?format=md");
    (answer.text(), failures)
}

fn kinds(serin: &Serin) -> Vec<Value> {
    let events = serin.events("analyzer").into_iter();
    events.map(|event| event["event"].clone()).collect()
}

#[test]
fn a_bot_that_always_fails_breaks_a_threshold_and_is_named_instead_of_rolled_back() {
    let (serin, _analyzers) = started(
        "duration = \"1h\"\nrollback = [\"regression(any)\", \"error_rate > 1.5% for 1s over 10s\"]",
    );
    let load = learners(&serin);
    begin(&serin);
    let mut guests = on_canary(&serin);
    let bot = guests.next().expect("one of five is");
    let others: Vec<String> = guests.by_ref().take(2).collect();
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| be_the_bot(&serin, &bot, &stop, &asked));
        // Two more fail, once each: so many learners would do, were they all of it.
        let mut connection = Connection::open(serin.proxy).expect("it accepts");
        for id in &others {
            connection.learner_of(FAILING, id).expect("an answer");
        }
        let held = serin.await_phase("analyzer", "held");
        let why = held["causes"][0]["why"].as_str().expect("a sentence");
        assert!(
            held["causes"][0]["cause"] == "alarm" && why.contains("not proven: one learner caused"),
            "{why}"
        );
        // He goes on for as long as evidence would need for a release that is really sick, and longer.
        let since = held["clock_ms"].as_u64().expect("a time");
        eventually_within(Duration::from_secs(40), "half a minute", &mut || {
            let status = serin.status("analyzer");
            assert_eq!(status["weight_ppm"], 200_000, "{status}");
            (status["clock_ms"].as_u64()? > since + 30_000).then_some(())
        });
    });
    load.stop();
    assert!(!kinds(&serin).contains(&json!("rolled_back")));

    let asked = asked.into_inner();
    let (report, failures) = report_that_names(&serin, asked);
    assert_eq!(failures, asked + 2, "the two others failed once each");
    let named = format!("one learner caused {asked} of {failures} failures");
    assert!(
        report.contains(&format!("; {named}")) && report.contains(&format!("On canary {named}")),
        "{named:?} is not in:\n{report}"
    );
}

#[test]
fn a_plan_that_names_no_threshold_goes_on_over_a_bot() {
    let (serin, _analyzers) = started("duration = \"25s\"");
    let load = learners(&serin);
    begin(&serin);
    let bot = on_canary(&serin).next().expect("one of five is");
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| be_the_bot(&serin, &bot, &stop, &asked));
        eventually_within(Duration::from_secs(40), "complete", &mut || {
            (serin.phase("analyzer") == "complete").then_some(())
        });
    });
    load.stop();
    assert_eq!(
        kinds(&serin),
        ["started", "stage_began", "completed"].map(|kind| json!(kind))
    );
    let report = get(serin.admin, "/api/rollouts/analyzer/report?format=md").text();
    assert!(report.contains("On canary one learner caused"), "{report}");
}
