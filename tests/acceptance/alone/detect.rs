//! A regression is found by evidence alone, on real sockets, and two equal pools stay where they are.
//!
//! Learner by learner: 20,000 of them ask 1,000 times a second, a twentieth is on canary, and the plan names no trigger, so
//! that what takes the weight down is `regression(any)` at alpha 0.01. In a test run one of each; `load-tests/detect` asks
//! for more by SERIN_DETECT_SICK, SERIN_DETECT_EQUAL and SERIN_DETECT_SIDE_BY_SIDE, and prints every run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use serin::stub::load::{LoadReport, LoadSettings};

use crate::support::{
    Analyzer, Learners, Place, Serin, asked, eventually_within, get, two_pools, unix_ms, wall_ms,
};

/// The client's P99. Answers of a millisecond would compare how the machine's scheduler treats two processes.
const LATENCY: &str = "15ms,p99=46ms";
const RATE_PER_S: f64 = 1_000.0;
const LEARNERS: u32 = 20_000;
/// What both pools fail from the beginning, and what canary fails after it went wrong.
const USUAL: f64 = 0.001;
const SICK: f64 = 0.015;
/// Observed and well, after the warm-up.
const WELL: Duration = Duration::from_secs(15);
/// Within which the weight is to be back in the middle of all runs; what takes longer was not found.
const LIMIT: Duration = Duration::from_secs(60);
/// Poisson: 1,000 a second over a minute and more are within this by far.
const RATE_TOLERANCE: f64 = 0.03;

/// Learners wait the analyzers' P99 and little more while there is processor time for everybody. What waits longer waited
/// for the machine, which stalls one process and not the other: that is a regression of latency, and none of the plan's.
const STARVED: Duration = Duration::from_millis(60);
/// A run on a machine that starves says nothing and is made again, so often.
const ATTEMPTS: u64 = 3;

/// Nothing but the defaults: `rollback` is `["regression(any)"]`, `hold` looks at client errors alone.
const STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"5%\"\nduration = \"1h\"\nwarmup = \"5s\"\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    Sick,
    Equal,
}

/// How one run went.
struct Run {
    canary: Canary,
    seed: u64,
    /// From the moment canary went wrong to the decision; `None` where the weight stayed.
    found_after: Option<Duration>,
    canary_requests: u64,
    /// The process that says most, and its weighted evidence.
    leading: (String, f64),
    load: LoadReport,
    /// Everything that is not as it must be for the run to count.
    faults: Vec<String>,
}

#[test]
fn a_canary_that_fails_fifteen_times_as_often_is_found_within_a_minute_and_an_equal_one_never() {
    let (sick, equal) = (
        asked("SERIN_DETECT_SICK", 1),
        asked("SERIN_DETECT_EQUAL", 1),
    );
    let side_by_side = asked("SERIN_DETECT_SIDE_BY_SIDE", 2);
    let seed = asked("SERIN_DETECT_SEED", 1) as u64;
    let list: Vec<Canary> = [(Canary::Sick, sick), (Canary::Equal, equal)]
        .into_iter()
        .flat_map(|(canary, runs)| std::iter::repeat_n(canary, runs))
        .collect();
    println!("{sick} sick, {equal} equal, {side_by_side} side by side, SERIN_DETECT_SEED={seed}");

    let next = AtomicUsize::new(0);
    let (done, finished) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..side_by_side {
            let (done, next, list) = (done.clone(), &next, &list);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&canary) = list.get(number) else {
                        return;
                    };
                    let run = not_starved(canary, seed + number as u64);
                    done.send(run).expect("the test waits for every run");
                }
            });
        }
    });
    drop(done);
    let runs: Vec<Run> = finished.iter().collect();
    judge(&runs);
}

fn judge(runs: &[Run]) {
    let of = |canary| runs.iter().filter(move |run| run.canary == canary);
    let mut took: Vec<Duration> = of(Canary::Sick)
        .map(|run| run.found_after.unwrap_or(LIMIT))
        .collect();
    took.sort_unstable();
    let median = median(&took);
    let found = of(Canary::Sick).filter(|run| run.found_after.is_some());
    let still = of(Canary::Equal).filter(|run| run.found_after.is_none());
    println!(
        "sick: {} of {} rolled back, median {:.1} s (limit {} s); equal: {} of {} left where they were",
        found.count(),
        took.len(),
        median.as_secs_f64(),
        LIMIT.as_secs(),
        still.count(),
        of(Canary::Equal).count(),
    );
    for run in runs {
        assert!(run.faults.is_empty(), "{}", run.line());
    }
    assert!(took.is_empty() || median < LIMIT, "{took:?}");
    assert!(of(Canary::Equal).all(|run| run.found_after.is_none()));
}

fn median(sorted: &[Duration]) -> Duration {
    match sorted {
        [] => Duration::ZERO,
        // Of an even number the mean of the two in the middle.
        some => (some[(some.len() - 1) / 2] + some[some.len() / 2]) / 2,
    }
}

/// The first run that the machine had time for, or the last one.
fn not_starved(canary: Canary, seed: u64) -> Run {
    let mut attempt = 1;
    loop {
        let run = one(canary, seed);
        println!("{}", run.line());
        if run.load.latency.p99 <= STARVED || attempt == ATTEMPTS {
            return run;
        }
        println!("  the machine starved: made again");
        attempt += 1;
    }
}

/// One rollout from its start to its end, on sockets of its own.
fn one(canary: Canary, seed: u64) -> Run {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    let analyzer = |pool, offset: u64| {
        let drawn = (seed * 10 + offset).to_string();
        let analyzer = Analyzer::start_with(&folder, pool, LATENCY, &["--seed", &drawn]);
        analyzer.behave(&json!({ "error_rate": USUAL }));
        analyzer
    };
    let (original, ultra_fast) = (analyzer("original", 1), analyzer("ultra_fast", 2));
    place.write(1, &two_pools(&[original.addr], &[ultra_fast.addr], STAGE));
    let serin = place.start();
    let learners = Learners::start(LoadSettings {
        learners: LEARNERS,
        rate_per_s: RATE_PER_S,
        seed,
        ..LoadSettings::new(serin.proxy)
    });

    assert_eq!(serin.act("analyzer", "start").status, 200);
    await_stage_time(&serin, WELL);
    let asked_before = requests(&ultra_fast);
    let found_after = match canary {
        Canary::Sick => {
            let broken_at = unix_ms();
            ultra_fast.behave(&json!({ "error_rate": SICK }));
            await_stage_time(&serin, WELL + LIMIT);
            rolled_back(&serin).map(|event| wall_ms(&event) - broken_at)
        }
        Canary::Equal => {
            let from = unix_ms();
            await_stage_time(&serin, WELL + LIMIT);
            rolled_back(&serin).map(|event| wall_ms(&event) - from)
        }
    };
    let canary_requests = requests(&ultra_fast) - asked_before;
    let load = learners.stop();
    Run {
        canary,
        seed,
        found_after: found_after.map(|ms| Duration::from_millis(ms.try_into().unwrap_or(0))),
        canary_requests,
        leading: leading(&serin),
        faults: faults(&serin, &original, found_after, &load),
        load,
    }
}

/// Waits until the stage has run for so long, or is over.
fn await_stage_time(serin: &Serin, time: Duration) {
    eventually_within(LIMIT * 3, "stage time", &mut || {
        let status = serin.status("analyzer");
        let there = u128::from(status["stage_time_ms"].as_u64()?) >= time.as_millis();
        (there || status["phase"] == "rolled_back").then_some(())
    });
}

fn leading(serin: &Serin) -> (String, f64) {
    let status = serin.status("analyzer");
    let processes = status["evidence"]["processes"].as_array().expect("a list");
    let all = processes.iter().map(|process| {
        let name = process["name"].as_str().expect("a word").to_owned();
        (name, process["ln_weighted"].as_f64().expect("a number"))
    });
    all.max_by(|one, other| one.1.total_cmp(&other.1))
        .expect("some")
}

fn rolled_back(serin: &Serin) -> Option<Value> {
    let events = serin.events("analyzer");
    events
        .into_iter()
        .find(|event| event["event"] == "rolled_back")
}

fn requests(analyzer: &Analyzer) -> u64 {
    counted(analyzer, "requests")
}

fn counted(analyzer: &Analyzer, what: &str) -> u64 {
    let counts = get(analyzer.addr, "/counts").json();
    counts[what].as_u64().expect("a count")
}

/// What would make a run say something else than it seems to.
fn faults(
    serin: &Serin,
    original: &Analyzer,
    found_after_ms: Option<i64>,
    load: &LoadReport,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    let rate = load.sent as f64 / load.took.as_secs_f64();
    must(
        (rate / RATE_PER_S - 1.0).abs() < RATE_TOLERANCE,
        format!("{rate:.0} requests a second"),
    );
    let p99 = load.latency.p99;
    must(
        p99 <= STARVED,
        format!(
            "the machine starved: learners' p99 is {} ms",
            p99.as_millis()
        ),
    );
    let lost = load.failed + load.missed;
    must(
        lost == 0,
        format!("{lost} requests lost: {:?}", load.last_failure),
    );
    // A canary's failure is answered by baseline: what learners met is what baseline drew, and nothing else.
    let drawn = counted(original, "errors");
    must(
        load.errors() == drawn,
        format!(
            "learners met {} errors, baseline drew {drawn}",
            load.errors()
        ),
    );
    let status = serin.status("analyzer");
    for arm in ["baseline", "canary"] {
        let failed = &status["figures"][arm]["run"]["failed"];
        must(
            *failed == 0,
            format!("{failed} requests failed on {arm} otherwise than by a status"),
        );
    }
    let events = serin.events("analyzer");
    for event in &events {
        let kind = event["event"].as_str().expect("a word");
        must(
            ["started", "stage_began", "rolled_back"].contains(&kind),
            format!("an event: {event}"),
        );
        must(
            kind != "rolled_back" || event["trigger"] == "regression(any)",
            format!("not by evidence: {event}"),
        );
    }
    let weight = if found_after_ms.is_some() { 0 } else { 50_000 };
    must(
        status["weight_ppm"] == weight,
        format!("the weight is {}", status["weight_ppm"]),
    );
    if let Some(after) = found_after_ms {
        must(after >= 0, format!("rolled back {} ms too early", -after));
        let (process, _) = leading(serin);
        must(process == "errors", format!("it was {process} that led"));
    }
    faults
}

impl Run {
    fn line(&self) -> String {
        let found = match self.found_after {
            Some(after) => format!(
                "rolled back after {:.1} s and {} canary requests",
                after.as_secs_f64(),
                self.canary_requests
            ),
            None => format!("not rolled back ({} canary requests)", self.canary_requests),
        };
        let rate = self.load.sent as f64 / self.load.took.as_secs_f64();
        let p99 = self.load.latency.p99.as_secs_f64() * 1e3;
        let (process, ln_weighted) = &self.leading;
        let mut line = format!(
            "{:?}, seed {}: {found}; ln(w E) of {process} {ln_weighted:.1}; {rate:.0} requests/s of {} learners, p99 {p99:.0} ms",
            self.canary, self.seed, self.load.learners
        );
        for fault in &self.faults {
            line.push_str(&format!("; FAULT: {fault}"));
        }
        line
    }
}
