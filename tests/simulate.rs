//! `serin simulate`: what a plan does in a world. The world's own numbers are tested beside its code.

use std::path::{Path, PathBuf};

use serde_json::Value;
use serin::config;
use serin::rollout::condition::Metric;
use serin::rollout::gate::{Event, EventKind};
use serin::rollout::name::RolloutName;
use serin::rollout::plan::Plan;
use serin::rollout::time::millis;
use serin::simulate::{End, Ran, Scenario, many, one_as_json, one_as_text, run};

const SEED: u64 = 20_251_101;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("load-tests/scenarios")
}

fn text(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).expect(file)
}

fn plan(file: &str) -> Plan {
    let file = format!("{file}.plan.toml");
    let config =
        config::parse(&file, &text(&file), &|_| None).unwrap_or_else(|faults| panic!("{faults:?}"));
    let rollout = config.rollouts.into_values().next();
    rollout.expect("one rollout").plan
}

/// A world, at most so much of it.
fn world(file: &str, at_most: Option<&str>) -> Scenario {
    let mut text = text(&format!("{file}.toml"));
    if let Some(at_most) = at_most {
        let others = text.lines().filter(|line| !line.starts_with("at_most"));
        let others: Vec<&str> = others.collect();
        text = format!("at_most = \"{at_most}\"\n{}", others.join("\n"));
    }
    Scenario::parse(&text).unwrap_or_else(|why| panic!("{file}: {why}"))
}

fn name() -> RolloutName {
    RolloutName::parse("analyzer").expect("a name")
}

fn story(world: &Scenario, ran: &Ran) -> String {
    one_as_text(&name(), world, SEED, ran)
}

#[test]
fn every_scenario_ends_as_it_should() {
    let plan = plan("client");
    let check = |file: &str, at_most: &str, end: End, found: bool| {
        let world = world(file, Some(at_most));
        let ran = run(&plan, &world, SEED, 0);
        let story = story(&world, &ran);
        assert_eq!(ran.end, end, "{story}");
        assert!(!ran.false_alarm, "{story}");
        assert_eq!(ran.found.is_some(), found, "{story}");
        assert_eq!(ran.harmed > 0, found, "{story}");
    };
    // What goes well is still on its way when the time given here is over.
    check("healthy", "2h30m", End::Unfinished, false);
    check("errors", "2h30m", End::RolledBack, true);
    check("dead_canary", "2h30m", End::RolledBack, true);
    check("late_onset", "2h30m", End::RolledBack, true);
    // The outage over, whether the stage's own availability keeps its criterion is not proven: it is extended.
    check("outage", "2h30m", End::Unfinished, false);
    check("drift", "2h30m", End::Unfinished, false);
    check("cold_start", "2h30m", End::Unfinished, false);
    check("low_traffic", "2h30m", End::Unfinished, false);
    check("always_failing", "30m", End::Unfinished, false);
    check("always_slow", "30m", End::Unfinished, false);
}

#[test]
fn a_bot_alone_holds_and_moves_nothing() {
    let plan = plan("client");
    for (file, draw, end) in [("bot", "blocks", End::Held), ("bot", "learners", End::Held)] {
        // Nobody else fails, so that there are no two others to prove anything with.
        let world = format!(
            "draw = \"{draw}\"\nrate_per_minute = 12000.0\nat_most = \"1h\"\n{}\n[baseline]\nerror_rate = 0.0\n",
            text(&format!("{file}.toml"))
        );
        let world = Scenario::parse(&world).expect(file);
        let ran = run(&plan, &world, SEED, 0);
        let story = story(&world, &ran);
        assert_eq!((ran.end, ran.false_alarm), (end, false), "{story}");
        assert_eq!(ran.harmed, 0, "{story}");
    }
}

#[test]
fn a_slow_canary_goes_back_without_a_failed_request() {
    let world = world("latency", Some("1h"));
    let ran = run(&plan("client"), &world, SEED, 0);
    let story = story(&world, &ran);
    assert_eq!((ran.end, ran.harmed), (End::RolledBack, 0), "{story}");
    assert!(ran.found.is_some(), "{story}");
}

#[test]
fn every_scenario_file_can_be_read_and_is_shown_in_the_readme() {
    let mut read = 0;
    for entry in std::fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        if let Some(name) = file.strip_suffix(".plan.toml") {
            plan(name);
        } else if let Some(name) = file.strip_suffix(".toml") {
            world(name, None);
        }
        read += 1;
    }
    assert!(read > 15, "{read} files");
}

#[test]
fn one_seed_gives_one_text() {
    let (plan, world) = (plan("client"), world("errors", None));
    let shown = |seed, number| {
        let ran = run(&plan, &world, seed, number);
        (
            one_as_text(&name(), &world, seed, &ran),
            one_as_json(&name(), &world, seed, &ran).to_string(),
        )
    };
    assert_eq!(shown(7, 0), shown(7, 0));
    assert_ne!(shown(7, 0).1, shown(7, 1).1);
    assert_ne!(shown(7, 0).1, shown(8, 0).1);
}

#[test]
fn many_runs_are_the_runs_one_by_one_whatever_the_threads() {
    let (plan, world) = (plan("client"), world("errors", None));
    let summary = many(&plan, &world, SEED, 6);
    assert_eq!(summary, many(&plan, &world, SEED, 6));
    let runs: Vec<Ran> = (0..6)
        .map(|number| run(&plan, &world, SEED, number))
        .collect();
    assert_eq!(summary.rolled_back, 6);
    let harmed = runs.iter().map(|ran| ran.harmed).max().expect("six");
    assert_eq!(summary.harmed.most, harmed as f64);
    let seconds = runs
        .iter()
        .filter_map(|ran| Some(ran.found?.after.as_secs_f64()));
    let slowest = seconds.fold(0.0, f64::max);
    assert_eq!(
        summary.detection_seconds.map(|spread| spread.most),
        Some(slowest)
    );
    assert_eq!(summary.false_rollbacks, 0);
}

#[test]
fn learners_drawn_one_by_one_come_to_the_same_decision() {
    let plan = plan("client");
    for draw in ["blocks", "learners"] {
        let world = format!(
            "draw = \"{draw}\"\nrate_per_minute = 12000.0\n{}",
            text("errors.toml")
        );
        let world = Scenario::parse(&world).expect(draw);
        let ran = run(&plan, &world, SEED, 0);
        let story = story(&world, &ran);
        assert_eq!(ran.end, End::RolledBack, "{story}");
        assert!(
            ran.found.is_some_and(|found| found.after.as_secs() < 600),
            "{story}"
        );
    }
}

#[test]
fn learners_where_they_do_not_belong_hold_and_others_do_not() {
    let plan = plan("client");
    let world = |misassigned: f64| {
        let world = format!(
            "draw = \"learners\"\nrate_per_minute = 12000.0\nat_most = \"30m\"\nmisassigned = {misassigned:?}"
        );
        Scenario::parse(&world).expect("a world")
    };
    let (broken, whole) = (world(0.3), world(0.0));
    let ran = run(&plan, &broken, SEED, 0);
    let told = story(&broken, &ran);
    assert_eq!(ran.end, End::Held, "{told}");
    assert!(told.contains("assignment broken"), "{told}");
    let ran = run(&plan, &whole, SEED, 0);
    assert_eq!(ran.end, End::Unfinished, "{}", story(&whole, &ran));
    let why = Scenario::parse("misassigned = 0.1").expect_err("drawn as counts");
    assert!(why.to_string().contains("learners"), "{why}");
}

#[test]
fn a_plan_with_hooks_people_signals_and_a_calendar_is_played() {
    let text = r#"
[pools.original]
endpoints = ["127.0.0.1:9101"]
[pools.ultra_fast]
endpoints = ["127.0.0.1:9201"]
[[routes]]
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
learner = ["header:x-learner-id"]
[[rollouts.analyzer.signals]]
name = "queue"
source = "push"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "10%"
duration = "10m"
advance = ["error_rate < 1%", "queue < 50"]
on_success = "approve"
approvers = ["engineering"]
hooks = { before = [{ name = "warm", command = ["true"] }] }
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "50%"
duration = "10m"
window = { days = ["sat-sun"], hours = "16:00-18:00", tz = "UTC" }
advance = ["error_rate < 1%", "queue < 50"]
"#;
    let config = config::parse("all.toml", text, &|_| None).unwrap_or_else(|why| panic!("{why:?}"));
    let plan = config.rollouts.into_values().next().expect("one").plan;
    // A Saturday, two hours before the window opens.
    let world = |signal: &str| {
        let text = format!(
            "rate_per_minute = 6000.0\nstart = \"2025-11-01T14:00:00Z\"\napprove_after = \"5m\"\nat_most = \"4h\"\n[[hook]]\nname = \"warm\"\ntakes = \"20s\"\n[[signal]]\nname = \"queue\"\n{signal}"
        );
        Scenario::parse(&text).unwrap_or_else(|why| panic!("{why}"))
    };
    let well = world("canary = 3.0");
    let ran = run(&plan, &well, SEED, 0);
    let story = story(&well, &ran);
    assert_eq!(ran.end, End::Completed, "{story}");
    let kinds: Vec<&EventKind> = ran.events.iter().map(|event| &event.kind).collect();
    let seen = |is: fn(&EventKind) -> bool| assert!(kinds.iter().any(|kind| is(kind)), "{story}");
    seen(|kind| matches!(kind, EventKind::HookEnded { .. }));
    seen(|kind| matches!(kind, EventKind::Approved { .. }));
    seen(|kind| matches!(kind, EventKind::Waits { .. }));
    let ill = world("canary = 80.0");
    let ran = run(&plan, &ill, SEED, 0);
    assert_ne!(ran.end, End::Completed, "a signal beyond its limit");
    let silent = world("canary = 3.0\nfails_at = \"1m\"");
    let ran = run(&plan, &silent, SEED, 0);
    assert_ne!(ran.end, End::Completed, "no data is never a pass");
}

#[test]
fn what_comes_after_a_cured_canary_is_a_false_alarm_and_not_a_find() {
    let world = world("resumed", None);
    let ran = run(&plan("fallback"), &world, SEED, 0);
    let story = story(&world, &ran);
    assert_eq!(
        (ran.end, ran.false_alarm),
        (End::Completed, false),
        "{story}"
    );
    assert!(ran.found.is_some(), "{story}");
    assert!(
        ran.events
            .iter()
            .any(|event| matches!(event.kind, EventKind::Resumed)),
        "{story}"
    );
}

// === the client's documents ===

fn document(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(file);
    serde_json::from_str(&std::fs::read_to_string(path).expect(file)).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn due_minutes(event: &Event) -> Option<u64> {
    match &event.kind {
        EventKind::Checkpoint { due, .. } => Some(millis(*due) / 60_000),
        _ => None,
    }
}

#[test]
fn the_staging_rehearsal_advances_where_the_client_did() {
    let document = document("staging_2025-10-06.json");
    let (plan, world) = (
        plan("staging_2025-10-06"),
        world("staging_2025-10-06", None),
    );
    let ran = run(&plan, &world, SEED, 0);
    let story = story(&world, &ran);
    let mut events = ran.events.iter();
    let mut before = 0;
    for (index, stage) in document["stages"]
        .as_array()
        .expect("stages")
        .iter()
        .enumerate()
    {
        let typed = &plan.stages[index];
        assert_eq!(typed.weight.share(), number(&stage["weight"]));
        assert_eq!(
            millis(typed.duration) / 60_000,
            stage["minutes"].as_u64().expect("minutes")
        );
        let thresholds = &stage["thresholds"];
        for condition in &typed.advance {
            let limit = match condition.metric {
                Metric::P50 => number(&thresholds["p50_ms"]) * 1000.0,
                Metric::P95 => number(&thresholds["p95_ms"]) * 1000.0,
                Metric::P99 => number(&thresholds["p99_ms"]) * 1000.0,
                Metric::ErrorRate => number(&thresholds["error_rate"]),
                Metric::Throughput => number(&thresholds["throughput_rps_min"]),
                _ => panic!("{condition} is not of the document"),
            };
            assert!((condition.value - limit).abs() < 1e-9, "{condition}");
        }
        for checkpoint in stage["checkpoints"].as_array().expect("checkpoints") {
            // The document counts from the start of the rollout, a plan from the start of the stage.
            let minute = checkpoint["minute"].as_u64().expect("a minute") - before;
            let event = events.find(|event| due_minutes(event).is_some());
            assert_eq!(event.and_then(due_minutes), Some(minute), "{story}");
        }
        before += stage["minutes"].as_u64().expect("minutes");
        let decision = events.find(|event| matches!(event.kind, EventKind::Advanced { .. }));
        let decision =
            decision.unwrap_or_else(|| panic!("stage {} did not advance\n{story}", index + 1));
        let EventKind::Advanced { evaluations, .. } = &decision.kind else {
            unreachable!("found as such")
        };
        assert_eq!(stage["client_decision"], "advance");
        // Over the stage its figures lie between the checkpoints' smallest and largest.
        let between = |metric: Metric, key: &str, unit: f64, slack: f64| {
            let of = |checkpoint: &Value| number(&checkpoint[key]) * unit;
            let rows = stage["checkpoints"].as_array().expect("checkpoints");
            let low = rows.iter().map(of).fold(f64::INFINITY, f64::min);
            let high = rows.iter().map(of).fold(0.0, f64::max);
            let evaluation = evaluations
                .iter()
                .find(|evaluation| evaluation.condition.metric == metric);
            let figure = evaluation
                .and_then(|evaluation| evaluation.figure)
                .expect(key);
            assert!(
                figure > low / slack && figure < high * slack,
                "{key}: {figure} not in {low}..{high}"
            );
        };
        // A class of latencies is a quarter of an octave wide; errors of a stage are counted in some seventies and more.
        between(Metric::P50, "p50_ms", 1000.0, 1.2);
        between(Metric::P95, "p95_ms", 1000.0, 1.2);
        between(Metric::P99, "p99_ms", 1000.0, 1.2);
        between(Metric::ErrorRate, "error_rate", 1.0, 1.4);
        between(Metric::Throughput, "throughput_rps", 1.0, 1.02);
    }
}

#[test]
fn the_production_canary_does_not_advance_on_380_requests() {
    let document = document("canary_2025-10-31.json");
    let world = world("canary_2025-10-31", None);
    let ran = run(&plan("canary_2025-10-31"), &world, SEED, 0);
    let story = story(&world, &ran);
    let asked = document["requests"].as_u64().expect("requests") as f64;
    assert!(
        (ran.requests[1] as f64 - asked).abs() < 4.0 * asked.sqrt(),
        "{story}"
    );
    assert_eq!(ran.errors[1], 0);
    assert!(
        !ran.events
            .iter()
            .any(|event| matches!(event.kind, EventKind::Advanced { .. })),
        "{story}"
    );
    assert!(
        ran.events
            .iter()
            .any(|event| matches!(event.kind, EventKind::Extended { .. })),
        "{story}"
    );
    assert!(story.contains("of 1000 requests on canary"), "{story}");
    // One failure in so many requests is more than the client's rate, and none is none.
    assert!(number(&document["reported_error_rate"]) < 1.0 / asked);
    assert!(story.contains("with 99 %"), "{story}");
}
