//! The report says what the records say: every number is a record's or checked by hand, and the bytes never vary.

use std::time::Duration;

use serin::records::event::EventRecord;
use serin::records::plan::PlanRecord;
use serin::records::status::StatusRecord;
use serin::report::{ReportInput, json, markdown};
use serin::rollout::condition::Condition;
use serin::rollout::gate::{ArmFigures, Event, EventId, EventKind, Phase, RollbackCause, Status};
use serin::rollout::name::{PoolName, RolloutName, StageName};
use serin::rollout::plan::Plan;
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
        purpose,
        condition: Condition::parse(condition).expect(condition),
        figure: Some(figure),
        interval: None,
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
                forced: false,
            },
        ),
        back,
    ]
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
        causes: Vec::new(),
        incidents: Vec::new(),
        pins: Vec::new(),
        recent: [figures(0, 0), figures(0, 0)],
        stage_figures: [figures(36_000, 18), figures(4_000, 60)],
        run_figures: [figures(1_234_567, 617), figures(4_380, 60)],
        evaluations: Vec::new(),
        checkpoints_done: 0,
        outlook: String::new(),
        last_event: EventId(5),
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
