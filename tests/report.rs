//! The report says what the records say: every number is a record's or checked by hand, and the bytes never vary.

use std::time::Duration;

use serin::records::event::EventRecord;
use serin::records::plan::PlanRecord;
use serin::records::sample::SampleRecord;
use serin::records::status::{PerArm, SpanRecord, StatusRecord};
use serin::report::{Measured, ReportInput, StageSpan, Wanted, html, json, markdown};
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
    back.phase = Phase::RollingBack;
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
        measured: Measured::default(),
    }
}

fn ended() -> ReportInput {
    let input = input(
        &rolled_back(),
        &status(Phase::RolledBack, Some(at(7_500_500))),
    );
    ReportInput {
        measured: measured(),
        ..input
    }
}

/// A point of a minute: so many requests and errors of canary, with this P99; baseline has 600 and none.
fn minute(minute: u64, canary: ArmFigures) -> SampleRecord {
    let start = at(minute * 60_000);
    let baseline = ArmFigures {
        requests: 600,
        error_rate: Some(0.0),
        p50: Some(Duration::from_micros(21_000)),
        p99: Some(Duration::from_micros(44_000)),
        throughput: 10.0,
        ..ArmFigures::default()
    };
    SampleRecord {
        at: start.wall.into(),
        clock_ms: start.mono.as_millis(),
        width_ms: 60_000,
        arms: PerArm {
            baseline: SpanRecord::from(&baseline),
            canary: SpanRecord::from(&canary),
        },
    }
}

fn of_canary(requests: u64, errors: u64, p99_us: u64) -> ArmFigures {
    ArmFigures {
        p50: (requests > 0).then_some(Duration::from_micros(p99_us / 2)),
        p99: (requests > 0).then_some(Duration::from_micros(p99_us)),
        throughput: requests as f64 / 60.0,
        learners: None,
        ..figures(requests, errors)
    }
}

/// Three minutes of the canary stage, ten that nobody measured, one without a canary request, then the ramp.
fn measured() -> Measured {
    let fine = vec![
        minute(1, of_canary(6, 0, 40_000)),
        minute(2, of_canary(6, 3, 50_000)),
        minute(3, of_canary(6, 0, 60_000)),
        minute(14, of_canary(0, 0, 0)),
        minute(15, of_canary(6, 0, 45_000)),
        minute(122, of_canary(60, 0, 46_000)),
        minute(123, of_canary(60, 36, 90_000)),
    ];
    let whole = |canary: ArmFigures| PerArm {
        baseline: SpanRecord::from(&figures(54_321, 27)),
        canary: SpanRecord::from(&canary),
    };
    Measured {
        coarse: vec![fine[1].clone(), fine[6].clone()],
        fine,
        stages: vec![
            whole(of_canary(381, 3, 47_000)),
            whole(of_canary(3_999, 57, 91_000)),
        ],
    }
}

/// Compares with what is kept, and says where they part. `SERIN_WRITE_GOLDEN` names a folder to write to instead.
fn is_kept(name: &str, text: &str, golden: &str) {
    if let Some(folder) = std::env::var_os("SERIN_WRITE_GOLDEN") {
        let path = std::path::Path::new(&folder).join(name);
        return std::fs::write(path, text).expect("the text is written");
    }
    for (number, (seen, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(seen, wanted, "{name}, line {}", number + 1);
    }
    assert_eq!(text.len(), golden.len(), "{name}");
}

#[test]
fn the_report_of_a_rollback_is_these_bytes() {
    let input = ended();
    let golden = include_str!("data/report_rolled_back.md");
    is_kept("report_rolled_back.md", &markdown(&input), golden);
    let golden = include_str!("data/report_rolled_back.json");
    is_kept("report_rolled_back.json", &json(&input), golden);
    let golden = include_str!("data/report_rolled_back.html");
    is_kept("report_rolled_back.html", &html(&input), golden);
}

#[test]
fn a_report_asks_for_samples_of_the_run_and_what_followed_it() {
    let input = ended();
    let span = |stage: &str, from_ms, to_ms| StageSpan {
        stage: stage.to_owned(),
        from_ms,
        to_ms,
    };
    // 2 h 5 min 0.5 s and a minute: 240 points are 31.5 s each, 24 rows 315 s.
    assert_eq!(
        Wanted::of(&input.status, &input.events),
        Some(Wanted {
            from_ms: 0,
            to_ms: 7_560_500,
            fine_ms: 60_000,
            coarse_ms: 600_000,
            stages: vec![
                span("canary", 0, 7_260_250),
                span("ramp", 7_260_250, 7_500_500),
            ],
        })
    );
    assert_eq!(Wanted::of(&input.status, &[]), None);
}

/// What is within an element that begins with `begin`, as far as `end`.
fn part<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, from) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("no {begin}"));
    from.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

/// The points of every line of one colour in a picture.
fn lines(picture: &str, color: &str) -> Vec<Vec<(i32, i32)>> {
    let stroke = format!("stroke=\"{color}\"");
    let of_color = picture.lines().filter(|line| line.contains(&stroke));
    of_color
        .filter_map(|line| line.split_once("points=\""))
        .map(|(_, points)| points.trim_end_matches("\"/>"))
        .map(|points| points.split_whitespace().map(point).collect())
        .collect()
}

fn point(text: &str) -> (i32, i32) {
    let (x, y) = text.split_once(',').expect("a point");
    (x.parse().expect("a number"), y.parse().expect("a number"))
}

/// The same lines, but for a quarter of a pixel in 100: the library cuts off where we round.
fn are_drawn(picture: &str, color: &str, wanted: &[&[(i32, i32)]]) {
    let seen = lines(picture, color);
    let near = |(seen, wanted): (&(i32, i32), &(i32, i32))| {
        (seen.0 - wanted.0).abs() <= 2 && (seen.1 - wanted.1).abs() <= 2
    };
    let same = seen.len() == wanted.len()
        && seen
            .iter()
            .zip(wanted)
            .all(|(seen, wanted)| seen.len() == wanted.len() && seen.iter().zip(*wanted).all(near));
    assert!(same, "{color}: {seen:?} is not {wanted:?}");
}

/// The wide picture is 2,880 by 1,040 units: time from 232 to 2,832, values from 944 up to 80.
#[test]
fn every_point_of_a_chart_is_a_record_and_a_gap_stays_a_gap() {
    let text = html(&ended());
    let picture = |chart: &str| {
        let begin = format!("<title id=\"{chart}-wide-title\">");
        part(&text, &begin, "</svg>").to_owned()
    };
    // The weight is 1 % from the first event on, 10 % (the top) from 7,260,250 ms on, and 0 from 7,500,500 ms on:
    // 232 + 2,600 * 7,260,250 / 7,560,500 = 2,728.7; 232 + 2,600 * 7,500,500 / 7,560,500 = 2,811.4.
    let weight: &[_] = &[
        (232, 858),
        (2729, 858),
        (2729, 80),
        (2811, 80),
        (2811, 944),
        (2832, 944),
    ];
    are_drawn(&picture("weight"), "#C2550A", &[weight]);
    // 50 % of the third minute and 60 % of the last: the axis ends at 60 %. Points are in the middle of their minutes.
    // 232 + 2,600 * 90,000 / 7,560,500 = 262.95, and so on. The fifteenth minute stands alone: a dot.
    let errors = picture("errors");
    are_drawn(
        &errors,
        "#C2550A",
        &[
            &[(263, 944), (284, 224), (304, 944)],
            &[(2758, 944), (2779, 80)],
        ],
    );
    let dot = errors.lines().find(|line| line.starts_with("<circle"));
    let dot = dot.expect("a step between two gaps");
    let number = |name: &str| part(dot, name, "\"").parse().expect("a number");
    let (x, y): (i32, i32) = (number("cx=\""), number("cy=\""));
    assert!((x - 552).abs() <= 2 && (y - 944).abs() <= 2, "{dot}");
    // Baseline answered in the fourteenth minute too.
    assert_eq!(lines(&errors, "#1C6FB4").len(), 3);
    // The criterion of each stage where it stood: below 1 % and below 0.5 %, of 60 %; the trigger of both at 1.5 %.
    are_drawn(
        &errors,
        "#2B8A3E",
        &[&[(232, 930), (2729, 930)], &[(2729, 937), (2811, 937)]],
    );
    are_drawn(
        &errors,
        "#C92A2A",
        &[&[(232, 922), (2729, 922)], &[(2729, 922), (2811, 922)]],
    );
    // Decisions are those of the timeline: the start, the step, the way back.
    are_drawn(
        &errors,
        "#868E96",
        &[
            &[(232, 944), (232, 80)],
            &[(2729, 944), (2729, 80)],
            &[(2811, 944), (2811, 80)],
        ],
    );
    assert!(lines(&picture("latency"), "#C92A2A").is_empty());
}

#[test]
fn what_was_counted_while_a_stage_stood_is_told_of_each() {
    let text = markdown(&ended());
    for row in [
        "| canary | passed | low | 2025-11-01T14:00:00.000Z | 2h1m250ms | 381 | 54,321 | 0.7874% | 0.0497% | 47 ms | 46.1 ms |",
        "| ramp | rolled back from 10%: `error_rate > 1.5% for 2m` was true | high | 2025-11-01T16:01:00.250Z | 4m250ms | 3,999 | 54,321 | 1.4254% | 0.0497% | 91 ms | 46.1 ms |",
        "| 2025-11-01T16:03:00.000Z | 1m | 60 | 600 | 60% | 0% | 45 ms | 21 ms | 90 ms | 44 ms | 1/s | 10/s |",
    ] {
        assert!(text.contains(row), "{row:?} is not in:\n{text}");
    }
}

/// Everything that a person or a client can put into the records.
fn hostile() -> ReportInput {
    const EVIL: &str = "\"'><script src=//x.example/a.js>alert(1)</script><img src=x onerror=alert(1)> `<b>` | & <!-- ]]>";
    let mut input = ended();
    for event in &mut input.events {
        event.by = EVIL.to_owned();
        event.reason = EVIL.to_owned();
    }
    let status = &mut input.status;
    status.phase = Phase::Held;
    status.ended = None;
    status.pools.canary = EVIL.to_owned();
    status.pools.baseline = EVIL.to_owned();
    status.outlook = EVIL.to_owned();
    let mut json = serde_json::to_value(&*status).expect("JSON");
    json["causes"] = serde_json::json!([{
        "cause": "operator", "since": "2025-11-01T14:00:00.000Z", "why": EVIL, "ends_by_itself": false,
    }]);
    json["incidents"] =
        serde_json::json!([{ "id": 1, "summary": EVIL, "opened": "2025-11-01T14:00:00.000Z" }]);
    let span = json["figures"]["canary"]["run"].clone();
    let figures = serde_json::json!({ "stage": span, "run": span });
    json["segments"] = serde_json::json!([{
        "segment": EVIL, "max_weight": 0.0, "max_weight_ppm": 0, "lowered_by": "error_rate > 5% per segment", "delta": null,
        "baseline": figures, "canary": figures,
    }]);
    json["signals"] = serde_json::json!([{
        "name": EVIL, "pool": EVIL, "segment": EVIL, "value": 1.0, "count": 1, "age_ms": 1, "stale": true, "note": EVIL,
    }]);
    json["plan"]["version"] = EVIL.into();
    input.status = serde_json::from_value(json).expect("a status");
    let mut hook = serde_json::to_value(&input.events[1]).expect("JSON");
    for (key, value) in [
        ("event", serde_json::json!("hook_ended")),
        (
            "hook",
            serde_json::json!({ "kind": "before", "stage": "ramp", "name": EVIL, "verifies": false }),
        ),
        ("outcome", serde_json::json!("failed")),
        ("took_ms", serde_json::json!(5)),
        ("attempts", serde_json::json!(1)),
        ("code", serde_json::json!(1)),
        ("why", EVIL.into()),
        ("output", EVIL.into()),
    ] {
        hook[key] = value;
    }
    input
        .events
        .insert(2, serde_json::from_value(hook).expect("an event"));
    input
}

#[test]
fn nothing_from_outside_becomes_a_part_of_the_page() {
    const TAGS: &[&str] = &[
        "!doctype",
        "a",
        "body",
        "circle",
        "code",
        "dd",
        "desc",
        "details",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "head",
        "header",
        "html",
        "i",
        "li",
        "line",
        "main",
        "meta",
        "nav",
        "p",
        "polyline",
        "rect",
        "section",
        "span",
        "style",
        "summary",
        "svg",
        "table",
        "tbody",
        "td",
        "text",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
    ];
    let text = html(&hostile());
    let (before, after) = text.split_once("</style>").expect("a style");
    let (before, style) = before.split_once("<style>").expect("a style");
    for outside in ["url(", "@import", "http"] {
        assert!(!style.contains(outside), "{outside} in the style");
    }
    for part in [before, after] {
        for tag in part.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.trim_start_matches('/').split([' ', '\n']).next();
            let name = name.unwrap_or_default();
            assert!(TAGS.contains(&name), "<{tag}>");
            for attribute in [
                "src=", "href=\"h", "href=\"/", "onerror", "onload", "style=", "xlink",
            ] {
                assert!(!tag.contains(attribute), "<{tag}>");
            }
        }
    }
    assert!(!text.contains("http://") && !text.contains("https://"));
    // It is all there, as text.
    for place in ["by", "reason", "segment", "hook"] {
        assert!(
            text.contains("&lt;script src=//x.example/a.js&gt;alert(1)"),
            "{place}"
        );
    }
    let text = markdown(&hostile());
    assert!(text.contains("/segments/%22%27%3E%3Cscript"), "{text}");
    assert!(!text.replace("\\<", "").contains("<script"), "{text}");
    assert!(!text.replace("\\<", "").contains("<img"), "{text}");
}

#[test]
fn each_picture_has_a_title_a_description_and_its_numbers_as_a_table() {
    let text = html(&ended());
    for chart in ["weight", "errors", "latency", "throughput"] {
        for size in ["wide", "narrow"] {
            let label = format!("aria-labelledby=\"{chart}-{size}-title {chart}-{size}-desc\"");
            assert!(text.contains(&label), "{label}");
            let begin = format!("<desc id=\"{chart}-{size}-desc\">");
            assert!(part(&text, &begin, "</desc>").len() > 30, "{chart}");
        }
    }
    assert_eq!(
        text.matches("<summary>The same as numbers</summary>")
            .count(),
        4
    );
    // The third minute, as the table behind the chart of errors has it.
    let row = "<tr><td class=\"label\">2025-11-01T14:02:00.000Z</td><td class=\"label\">1m</td>\
               <td class=\"number\">6</td><td class=\"number\">600</td>\
               <td class=\"number\">50%</td><td class=\"number\">0%</td></tr>";
    assert!(text.contains(row), "{text}");
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
        measured: measured(),
    };
    assert_eq!(first, second);
    assert_eq!(html(&first), html(&second));
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
