//! A gate's saved state comes back as it was, to the bit, and stays small.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serin::records::state::{decode, encode};
use serin::rollout::assign::LearnerHash;
use serin::rollout::evidence::{Others, Segment, Shares};
use serin::rollout::gate::{
    Approval, Ask, Awaiting, Breach, Cause, Confidence, Decided, EndedHook, EventId, Freeze,
    HeldFor, HookOutcome, Incident, Level, Phase, PoolHealth, Raise, Recovery, Reminder,
    RollbackCause, Sensitivity, Snapshot, WaitsFor,
};
use serin::rollout::name::{Arm, RoleName};
use serin::rollout::slot::Cell;
use serin::rollout::stats::Onset;
use serin::rollout::stats::detectable::Detectable;
use serin::rollout::time::Timestamp;
use serin::rollout::verdict::Purpose;
use serin::rollout::weight::Weight;
use serin::rollout::window::{Counts, ProbeBucket, Probes};

use crate::make::{at, snapshot};

/// Everything that may be there, is there.
fn full(dice: &mut StdRng) -> Snapshot {
    let mut state = snapshot(7, 3);
    state.phase = Phase::Held;
    state.split.weight = Weight::from_ppm(123_456).expect("below the whole");
    state.split.closed = false;
    state.split.ceilings.insert(Arc::from("beta"), Weight::ZERO);
    state.split.pins = Arc::new(
        (0..50_u8)
            .map(|id| (vec![id, 0xff, b'"'].into(), Arm::ALL[usize::from(id % 2)]))
            .collect(),
    );
    state.awaiting = Some(Awaiting {
        event: EventId(8),
        weight: Weight::FULL,
    });
    state.raises = vec![Raise {
        event: EventId(8),
        segment: Arc::from("beta"),
        ceiling: Weight::from_ppm(50_000).expect("below the whole"),
    }];
    state.retreat = Some(EventId(6));
    state.guarded = false;
    state.causes = vec![HeldFor {
        cause: Cause::Outage,
        since: at(3),
        why: "both".to_owned(),
        gone_since: Some(Timestamp::from_millis(9)),
    }];
    state.incidents = vec![Incident {
        id: 4,
        summary: "pager \u{1f514}\n".to_owned(),
        opened: at(5),
    }];
    state.incidents_opened = 4;
    state.pools = [PoolHealth {
        endpoints: 8,
        usable: 7,
        probes_sent: 11,
        probes_answered: 10,
    }; 2];
    state.probes = vec![ProbeBucket {
        start: Timestamp::from_millis(5_000),
        pools: [
            Probes {
                sent: 8,
                answered: 7,
            },
            Probes {
                sent: 2,
                answered: 2,
            },
        ],
    }];
    state.stepped_up = Some(Timestamp::from_millis(77));
    state.rolled_back = Some(at(78));
    state.recovery = Some(Recovery {
        rollback: EventId(6),
        alarm: at(70),
        back: at(71),
        stage: 1,
        hooks: vec![EndedHook {
            name: "stop".to_owned(),
            outcome: HookOutcome::Failed,
            at: Timestamp::from_millis(72),
        }],
        health: Some(Timestamp::from_millis(73)),
        errors: None,
        latency: Some(Timestamp::from_millis(74)),
    });
    state.store_fault = Some("disk is full".to_owned());
    state.decided = Some(Decided {
        cause: RollbackCause::Trigger("p99 > 250ms for 5m".to_owned()),
        breached_since: at(79),
    });
    state.thin_baseline_told = true;
    state.freeze = Some(Freeze {
        since: at(87),
        until: Some(at(88).wall),
        by: "ops".to_owned(),
        reason: "night".to_owned(),
    });
    state.reminder = Some(Reminder {
        since: at(89),
        told: 3,
    });
    state.watch.began = Some(at(80));
    state.watch.warmed = Duration::from_nanos(1_234_567_891);
    state.watch.warm_until = Some(Timestamp::from_millis(81));
    state.watch.breaches = vec![breach(dice)];
    state.watch.shares = Shares {
        epoch: 4,
        closed: [60_000, 700],
        open: [30_000, 300],
        from: u64::MAX / 2,
        width: u64::MAX / 1_000,
    };
    fill_run(&mut state, dice);
    state
}

fn breach(dice: &mut StdRng) -> Breach {
    Breach {
        purpose: Purpose::Rollback,
        index: 2,
        segment: Some(Arc::from("beta")),
        since: at(82),
        lasted: Duration::from_nanos(3),
        without_data: Duration::from_millis(250),
        shared: Duration::from_secs(9),
        shared_since: Some(Timestamp::from_millis(83)),
        learners: (0..300)
            .map(|_| LearnerHash::from_raw(dice.random()))
            .collect(),
        others: 5,
        seen: 400,
        wrong: 305,
        told: true,
    }
}

fn fill_run(state: &mut Snapshot, dice: &mut StdRng) {
    let run = state.run.as_mut().expect("run 3");
    run.ended = Some(at(84));
    let trigger = "p99 > 250ms for 5m per segment".to_owned();
    run.failed_segments = [(Arc::from("beta"), trigger)].into();
    run.confidence = Some(Confidence {
        level: Level::Medium,
        sensitivity: Some(Sensitivity {
            base_rate: 0.1 + 0.2,
            smallest: Some(Detectable {
                rate: 0.7,
                ratio: 7.0 / 3.0,
                odds_ratio: 5.444_444_444_444_445,
            }),
        }),
        why: vec!["the \"ramp\"".to_owned()],
    });
    run.stage.totals.apart = [7, 1];
    add_segments(state, dice, 2);
    let run = state.run.as_mut().expect("run 3");
    run.stage.extended_until = Some(Duration::from_secs(9_000));
    run.stage.ask = Some(Ask {
        event: EventId(5),
        since: at(85),
        approvals: vec![Approval {
            role: RoleName::parse("finance").expect("a name"),
            by: "finn".to_owned(),
            reason: "the budget holds".to_owned(),
            at: at(86),
        }],
    });
    run.stage.waits_for = vec![WaitsFor::Window, WaitsFor::Freeze];
    run.stage.levels_told = 2;
    run.stage.failed = [0, 2].into();
    run.stage.totals.span = Duration::from_nanos(5);
    run.stage.interval.probes[1] = Probes {
        sent: 3,
        answered: 1,
    };
    for cells in [
        &mut run.totals.cells,
        &mut run.stage.totals.cells,
        &mut run.stage.interval.cells,
    ] {
        cells.iter_mut().for_each(|cell| *cell = traffic(dice));
    }
    for sketches in [&mut run.learners, &mut run.stage.learners] {
        for sketch in sketches {
            (0..500_000).for_each(|_| sketch.insert(LearnerHash::from_raw(dice.random())));
        }
    }
}

/// So many segments of a run that tells them apart in every span.
fn add_segments(state: &mut Snapshot, dice: &mut StdRng, many: usize) {
    let run = state.run.as_mut().expect("a run");
    run.evidence.segments.most = 65;
    for place in 0..many {
        let name: Arc<str> = Arc::from(format!("segment {place}"));
        let counts = Counts {
            counted: 9,
            errors: 1,
            ..Counts::default()
        };
        run.totals.segments.count(&name, Arm::Canary, counts);
        run.evidence
            .segments
            .each
            .push(judged(&name, dice, run.evidence.absolute.len()));
        for totals in [&mut run.stage.totals, &mut run.stage.interval] {
            let arms = [(); 2].map(|()| traffic(dice));
            totals.segments.insert(Arc::clone(&name), arms);
        }
    }
}

/// Evidence of one segment, of everybody but it in every process that tells segments apart.
fn judged(name: &Arc<str>, dice: &mut StdRng, limits: usize) -> Segment {
    let mut onset = || {
        let (t, folded) = (dice.random_range(1..100_000), dice.random());
        let s = (0..9).map(|_| dice.random_range(0.0..1e90)).collect();
        Onset::of(t, folded, s, dice.random_range(0.0..900.0))
    };
    let mut others = || Others {
        onset: onset(),
        failing: [300, 2],
    };
    Segment {
        name: Arc::clone(name),
        errors: others(),
        client_errors: others(),
        own: onset(),
        absolute: (0..limits).map(|_| onset()).collect(),
    }
}

/// What some hours of traffic leave: a million requests of 5 to 500 ms.
fn traffic(dice: &mut StdRng) -> Cell {
    let mut cell = Cell {
        counted: 1_000_000,
        errors: 3_000,
        failed: 900,
        ..Cell::default()
    };
    for _ in 0..20_000 {
        let ms = 10_f64.powf(dice.random_range(0.7..2.7));
        cell.latency
            .record((ms * 1000.0) as u64, dice.random_range(1..100));
    }
    cell.over_limit = [(200_000, 4_000), (250_000, 900)].into();
    cell.over_edge[3] = 800_000;
    cell
}

#[test]
fn every_field_comes_back_and_the_row_stays_below_50_kib_and_8_more_a_segment() {
    let mut dice = StdRng::seed_from_u64(3);
    for state in [snapshot(0, 0), snapshot(7, 1), full(&mut dice)] {
        let bytes = encode(&state);
        let read = decode(&bytes.json, &bytes.counts).expect("what was written is read");
        assert_eq!(read, state);
        assert_eq!(encode(&read), bytes, "one state has one form");
        let len = bytes.json.len() + bytes.counts.len();
        let run = state.run.as_ref();
        let segments = run.map_or(0, |run| run.totals.segments.iter().count());
        assert!(len < (50 + 8 * segments) * 1024, "{len} bytes");
    }
}

#[test]
fn many_segments_come_back_and_the_row_grows_by_few_kib_each() {
    let mut dice = StdRng::seed_from_u64(5);
    let len = |state: &Snapshot| {
        let bytes = encode(state);
        let read = decode(&bytes.json, &bytes.counts).expect("what was written is read");
        assert_eq!(read, *state);
        bytes.json.len() + bytes.counts.len()
    };
    let mut state = snapshot(7, 1);
    let without = len(&state);
    add_segments(&mut state, &mut dice, 64);
    let each = (len(&state) - without) / 64;
    // Two arms in two spans, each of a million requests over two and a half decades.
    assert!(each < 8 * 1024, "{each} bytes each");
}

#[test]
fn a_state_saved_before_segments_were_is_still_read() {
    let state = snapshot(7, 1);
    let bytes = encode(&state);
    let mut json: serde_json::Value = serde_json::from_str(&bytes.json).expect("JSON");
    let run = &mut json["run"];
    let fields = run.as_object_mut().expect("a run");
    assert!(fields.remove("failed_segments").is_some());
    let gate = run["plan"]["gate"].as_object_mut().expect("a gate");
    gate.remove("min_segment_requests");
    gate.remove("max_failed_segments");
    for totals in ["/run/totals", "/run/stage/totals", "/run/stage/interval"] {
        let totals = json.pointer_mut(totals).and_then(|one| one.as_object_mut());
        assert!(totals.expect("totals").remove("apart").is_some());
    }
    let fields = json.as_object_mut().expect("a state");
    assert!(fields.remove("raises").is_some());
    // Version 1 ended before the empty lists of outcomes and their ids, three of segments, and evidence of nothing.
    let mut counts = bytes.counts.clone();
    counts[0] = 1;
    counts.truncate(counts.len() - 437);
    let read = decode(&json.to_string(), &counts).expect("an older state is read");
    assert_eq!(read, state);
}

#[test]
fn no_spoilt_state_is_taken_for_a_good_one_or_panics() {
    let mut dice = StdRng::seed_from_u64(4);
    let bytes = encode(&full(&mut dice));
    for cut in 0..200 {
        let counts = &bytes.counts[..bytes.counts.len() * cut / 200];
        assert!(
            decode(&bytes.json, counts).is_err(),
            "cut to {} bytes",
            counts.len()
        );
    }
    assert!(decode(&bytes.json, &[bytes.counts.as_slice(), &[0]].concat()).is_err());
    for _ in 0..300 {
        let mut counts = bytes.counts.clone();
        let place = dice.random_range(0..counts.len());
        counts[place] ^= 1 << dice.random_range(0..8);
        drop(decode(&bytes.json, &counts));
    }
    for (good, bad) in [
        ("\"123456\"", ""),
        ("123456", "1000001"),
        ("\"held\"", "\"asleep\""),
        ("\"2h\"", "\"late\""),
    ] {
        let json = bytes.json.replace(good, bad);
        if json != bytes.json {
            assert!(decode(&json, &bytes.counts).is_err(), "{good} as {bad}");
        }
    }
}

#[test]
fn a_state_from_before_people_and_time_is_still_read() {
    let state = snapshot(7, 3);
    let bytes = encode(&state);
    let mut json: serde_json::Value = serde_json::from_str(&bytes.json).expect("it is JSON");
    let mut forget = |place: &str, key: &str| {
        let object = json
            .pointer_mut(place)
            .and_then(|value| value.as_object_mut());
        let gone = object.and_then(|object| object.remove(key));
        assert!(gone.is_some(), "{place} has no {key}");
    };
    for (place, key) in [
        ("", "freeze"),
        ("", "reminder"),
        ("/run/stage", "passage"),
        ("/run/plan", "stabilization"),
        ("/run/plan/gate", "approval_ttl"),
        ("/run/plan/gate", "escalate_after"),
        ("/run/plan/stages/0", "schedule"),
    ] {
        forget(place, key);
    }
    let read = decode(&json.to_string(), &bytes.counts).expect("an older state is read");
    assert_eq!(read, state);
}
