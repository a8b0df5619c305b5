//! The report says what the records say: every number is a record's or checked by hand, and the bytes never vary.

use std::time::Duration;

use serin::records::event::EventRecord;
use serin::records::plan::PlanRecord;
use serin::records::status::StatusRecord;
use serin::report::{ReportInput, json, markdown};
use serin::rollout::condition::Condition;
use serin::rollout::gate::{
    ArmFigures, Confidence, Event, EventId, EventKind, Level, Phase, Recovered, RecoveryStep,
    RollbackCause, Sensitivity, Status,
};
use serin::rollout::name::{PoolName, RolloutName, StageName};
use serin::rollout::plan::Plan;
use serin::rollout::stats::detectable::Detectable;
use serin::rollout::time::{Now, Timestamp, WallTime};
use serin::rollout::verdict::{Evaluation, Purpose, Verdict};
use serin::rollout::weight::Weight;

/// 2025-11-01T14:00:00.000Z.
const START: i64 = 1_762_005_600_000;

fn at(ms: u64) -> Now {
    Now {
        mono: Timestamp::from_millis(ms),
        wall: WallTime::from_unix_millis(START + ms as i64),
    }
}

fn weight(ppm: u32) -> Weight {
    Weight::from_ppm(ppm).expect("below the whole")
}

fn plan() -> Plan {
    let record: PlanRecord =
        serde_json::from_str(include_str!("data/plan.json")).expect("a plan's record");
    Plan::try_from(&record).expect("a valid plan")
}

fn judged(
    purpose: Purpose,
    condition: &str,
    figure: f64,
    requests: u64,
    verdict: Verdict,
) -> Evaluation {
    Evaluation {
        segment: None,
        purpose,
        condition: Condition::parse(condition).expect(condition),
        figure: Some(figure),
        interval: None,
        interval_says: None,
        baseline: Some(0.0005),
        requests,
        window: Duration::from_secs(60),
        verdict,
        breached_for: None,
        learners: None,
        note: String::new(),
    }
}

/// The client's first canary: 380 requests, none failed, P99 46 ms.
fn canary_passed() -> Vec<Evaluation> {
    let mut slow = judged(
        Purpose::Advance,
        "p99 < 200ms",
        46_000.0,
        380,
        Verdict::Pass,
    );
    slow.baseline = Some(44_000.0);
    vec![
        judged(Purpose::Advance, "error_rate < 1%", 0.0, 380, Verdict::Pass),
        slow,
    ]
}

fn event(id: u64, ms: u64, stage: &str, ppm: u32, kind: EventKind) -> Event {
    Event {
        id: EventId(id),
        run: 1,
        at: at(ms),
        phase: Phase::Running,
        stage: Some(StageName::parse(stage).expect(stage)),
        weight: weight(ppm),
        stage_time: Duration::ZERO,
        by: "gate".to_owned(),
        reason: String::new(),
        kind,
    }
}

/// Canary passes with 380 requests; the ramp fails: 60 of 4,000 requests, seen half a second after it began.
fn rolled_back() -> Vec<Event> {
    let mut start = event(1, 0, "canary", 10_000, EventKind::Started { stages: 2 });
    start.by = "ci".to_owned();
    start.reason = "release | 2.4.0\nas planned".to_owned();
    let name = |stage| StageName::parse(stage).expect("a name");
    let mut back = event(
        5,
        7_500_500,
        "ramp",
        0,
        EventKind::RolledBack {
            cause: RollbackCause::Trigger("error_rate > 1.5% for 2m".to_owned()),
            from: weight(100_000),
            breached_since: Some(at(7_380_000)),
            evaluations: vec![
                judged(
                    Purpose::Advance,
                    "error_rate < 0.5%",
                    0.015,
                    4_000,
                    Verdict::Fail,
                ),
                judged(
                    Purpose::Rollback,
                    "error_rate > 1.5% for 2m",
                    0.6,
                    1_234,
                    Verdict::Fail,
                ),
            ],
            confidence: Some(Confidence {
                level: Level::High,
                sensitivity: None,
                why: Vec::new(),
            }),
        },
    );
    back.phase = Phase::RolledBack;
    vec![
        start,
        event(2, 250, "canary", 10_000, EventKind::StageBegan),
        event(
            3,
            3_660_250,
            "canary",
            10_000,
            EventKind::Checkpoint {
                due: Duration::from_secs(3_600),
                late: false,
                evaluations: canary_passed(),
            },
        ),
        event(
            4,
            7_260_250,
            "ramp",
            100_000,
            EventKind::Advanced {
                from: name("canary"),
                to: name("ramp"),
                evaluations: canary_passed(),
                confidence: Some(unsure()),
                forced: false,
            },
        ),
        back,
        recovered(),
    ]
}

/// 14 times baseline's errors, and no less, would have been seen by 380 requests.
fn unsure() -> Confidence {
    Confidence {
        level: Level::Low,
        sensitivity: Some(Sensitivity {
            base_rate: 0.001,
            smallest: Some(Detectable {
                rate: 0.014,
                ratio: 14.0,
                odds_ratio: 14.2,
            }),
        }),
        why: vec!["errors of less than 14.0 times baseline's would not have been seen".to_owned()],
    }
}

/// 2 min after the alarm the weights were back, 3 s later a hook had ended; latency has too few requests.
fn recovered() -> Event {
    let step = |step: &str, ms: Option<u64>, note: &str| RecoveryStep {
        step: step.to_owned(),
        after: ms.map(Duration::from_millis),
        note: note.to_owned(),
    };
    let mut event = event(
        6,
        7_800_500,
        "ramp",
        0,
        EventKind::NotRecovered(Recovered {
            rollback: EventId(5),
            alarm: at(7_380_000),
            steps: vec![
                step("decided", Some(120_500), ""),
                step("weights", Some(120_500), ""),
                step("hook stop | canary", Some(123_500), "passed"),
                step("health", Some(120_750), "8 usable endpoints"),
                step("errors", Some(125_500), "not error_rate{baseline} > 1.5%"),
                step(
                    "latency",
                    None,
                    "not p99{baseline} > 250ms; now 20 of 100 requests on baseline",
                ),
            ],
        }),
    );
    event.phase = Phase::RolledBack;
    event
}

fn figures(requests: u64, errors: u64) -> ArmFigures {
    ArmFigures {
        requests,
        errors,
        error_rate: (requests > 0).then(|| errors as f64 / requests as f64),
        availability: (requests > 0).then_some(0.9997),
        p99: (requests > 0).then_some(Duration::from_micros(46_080)),
        throughput: 12.5,
        learners: Some(requests / 4),
        ..ArmFigures::default()
    }
}

fn status(phase: Phase, ended: Option<Now>) -> Status {
    Status {
        signals: Vec::new(),
        outcomes: Vec::new(),
        segments: Vec::new(),
        at: at(8_000_000),
        phase,
        run: 1,
        started: Some(at(0)),
        ended,
        stage_index: Some(1),
        stage: Some(StageName::parse("ramp").expect("a name")),
        weight: Weight::ZERO,
        epoch: 3,
        awaiting_store: None,
        guarded: true,
        closed: true,
        stage_time: Duration::ZERO,
        stage_ends_at: None,
        warming_up: false,
        rehearsing: false,
        causes: Vec::new(),
        incidents: Vec::new(),
        pins: Vec::new(),
        recent: [figures(0, 0), figures(0, 0)],
        stage_figures: [figures(36_000, 18), figures(4_000, 60)],
        run_figures: [figures(1_234_567, 617), figures(4_380, 60)],
        evidence: None,
        confidence: None,
        evaluations: Vec::new(),
        checkpoints_done: 0,
        people: Default::default(),
        outlook: String::new(),
        last_event: EventId(6),
    }
}

fn input(events: &[Event], status: &Status) -> ReportInput {
    let rollout = RolloutName::parse("analyzer").expect("a name");
    let pools = ["original", "ultra_fast"].map(|name| PoolName::parse(name).expect("a name"));
    let record = StatusRecord::new(&rollout, [&pools[0], &pools[1]], status, Some(&plan()));
    let events = events
        .iter()
        .map(|event| EventRecord::new(&rollout, event))
        .collect();
    ReportInput {
        rollout,
        status: record,
        events,
    }
}

fn ended() -> ReportInput {
    input(
        &rolled_back(),
        &status(Phase::RolledBack, Some(at(7_500_500))),
    )
}

#[test]
fn the_report_of_a_rollback_is_this_text() {
    let text = markdown(&ended());
    if let Some(path) = std::env::var_os("SERIN_WRITE_GOLDEN") {
        std::fs::write(path, &text).expect("the text is written");
    }
    let golden = include_str!("data/report_rolled_back.md");
    for (number, (seen, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(seen, wanted, "line {}", number + 1);
    }
    assert_eq!(text.len(), golden.len());
}

#[test]
fn the_same_records_give_the_same_bytes_also_through_json() {
    let first = ended();
    let events = serde_json::to_string(&first.events).expect("records are JSON");
    let status = serde_json::to_string(&first.status).expect("records are JSON");
    let second = ReportInput {
        rollout: first.rollout.clone(),
        status: serde_json::from_str(&status).expect("what was written is read"),
        events: serde_json::from_str(&events).expect("what was written is read"),
    };
    assert_eq!(first, second);
    assert_eq!(markdown(&first), markdown(&second));
    assert_eq!(json(&first), json(&second));
    let document: serde_json::Value =
        serde_json::from_str(&json(&first)).expect("the report is JSON");
    assert_eq!(document["phase"], "rolled_back");
    assert_eq!(document["stages"][0]["criteria"][1]["figure"], 46.0);
    assert_eq!(document["confidence"]["level"], "high");
    assert_eq!(
        document["stages"][0]["confidence"]["sensitivity"]["ratio"],
        14.0
    );
    assert_eq!(document["recovery"]["steps"][2]["after_ms"], 123_500);
    assert_eq!(document["figures"]["canary"]["run"]["requests"], 4_380);
}

#[test]
fn three_hundred_and_eighty_requests_prove_little() {
    // 1 - 0.05^(1/380) = 0.0078525: below the canary's 1 %, above the ramp's 0.5 %.
    let check = |limit: &str, verdict: &str| {
        let seen = judged(
            Purpose::Advance,
            &format!("error_rate < {limit}"),
            0.0,
            380,
            Verdict::Pass,
        );
        let name = StageName::parse("canary").expect("a name");
        let to = StageName::parse("ramp").expect("a name");
        let kind = EventKind::Advanced {
            from: name,
            to,
            evaluations: vec![seen],
            confidence: None,
            forced: false,
        };
        let text = markdown(&input(
            &[event(1, 0, "ramp", 100_000, kind)],
            &status(Phase::Paused, None),
        ));
        let wanted = format!(
            "Stage canary: 0 errors in 380 requests leave error rates up to 0.7853% possible; `error_rate < {limit}` is {verdict}."
        );
        assert!(text.contains(&wanted), "{text}");
    };
    check("1%", "shown");
    check("0.5%", "NOT shown by this sample");
}

#[test]
fn a_learner_who_caused_most_failures_is_named_as_one_learner() {
    // 8 of 380 requests are the learner's failures: 2 of 372 are left, 0.5376 %.
    let check = |of_one: Option<u64>, in_learners: bool, in_sample: bool| {
        let mut status = status(Phase::Paused, None);
        status.run_figures[1] = ArmFigures {
            errors_of_one: of_one,
            ..figures(380, 10)
        };
        let text = markdown(&input(&[], &status));
        let worst = of_one.unwrap_or(0);
        let named = format!("one learner caused {worst} of 10 failures");
        let (learners, sample) = (
            format!("in the run; {named}\n"),
            format!("On canary {named}:"),
        );
        assert_eq!(text.contains(&learners), in_learners, "{of_one:?}: {text}");
        assert_eq!(text.contains(&sample), in_sample, "{of_one:?}: {text}");
        text
    };
    check(None, false, false);
    check(Some(2), false, false);
    check(Some(3), true, false);
    check(Some(5), true, false);
    let text = check(Some(8), true, true);
    let others = "without these 2 of 372 canary requests failed, 0.5376%.";
    assert!(text.contains(others), "{text}");
}

#[test]
fn every_phase_has_a_report_also_without_any_event() {
    for phase in Phase::ALL {
        let text = markdown(&input(&[], &status(phase, None)));
        assert!(
            text.contains(&format!("| phase | {} |", phase.as_str())),
            "{text}"
        );
        assert!(text.contains("## Next steps\n\n- "), "{text}");
    }
}
