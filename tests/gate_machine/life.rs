//! A stage from its first canary request to its end, and a rollout from start to complete.

use serin::rollout::gate::{Action, EventKind, Phase};
use serin::rollout::plan::{OnFailure, OnSuccess};
use serin::rollout::verdict::Verdict;

use crate::sim::{World, conditions, plan, seconds, span, stage, weight};

#[test]
fn a_healthy_canary_takes_the_whole_way_by_itself() {
    let mut world = World::new();
    world.start(plan(|_| ()));
    world.run_until(seconds(3600), |world| world.phase() == Phase::Complete);
    let stages = ["stage_began", "checkpoint", "checkpoint", "advanced"];
    let expected = [
        &["started"][..],
        &stages,
        &stages,
        &stages[..3],
        &["completed"],
    ]
    .concat();
    assert_eq!(world.kinds(), expected);
    let weights: Vec<String> = world
        .sim
        .published
        .iter()
        .map(|(_, _, weight)| weight.to_string())
        .collect();
    assert_eq!(weights, ["1%", "10%", "100%"]);
    assert_eq!(world.weight(), weight("100%"));
    let ids: Vec<u64> = world.sim.events.iter().map(|event| event.id.0).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    // Three stages of 10 minutes, each with its warm-up of a minute and a tick to see the first request.
    let took = world.sim.now.mono.as_millis();
    assert!((3 * 660_000..3 * 661_000).contains(&took), "{took} ms");
}

#[test]
fn two_days_of_five_stages_run_under_a_virtual_clock() {
    let mut world = World::new();
    world.sim.tick = seconds(2);
    world.sim.rate = 100.0;
    let stages = [
        ("2%", "2h"),
        ("10%", "4h"),
        ("30%", "8h"),
        ("60%", "12h"),
        ("100%", "22h"),
    ];
    world.start(plan(|parts| {
        parts.stages = stages
            .iter()
            .map(|&(share, duration)| {
                let mut stage = stage(&format!("at-{}", share.trim_end_matches('%')), share);
                stage.duration = span(duration);
                stage.checkpoints = vec![span("15m"), span("1h"), span(duration)];
                stage
            })
            .collect();
    }));
    world.run_until(span("49h"), |world| world.phase() == Phase::Complete);
    assert_eq!(
        (world.count("checkpoint"), world.count("advanced")),
        (15, 4)
    );
}

#[test]
fn the_stage_clock_waits_for_the_first_canary_request_and_the_warm_up() {
    let mut world = World::new();
    world.sim.rate = 0.0;
    world.start(plan(|_| ()));
    world.run(seconds(300));
    assert_eq!(world.gate.status(world.sim.now).stage_time, seconds(0));
    assert!(
        world.outlook().contains("first canary request"),
        "{}",
        world.outlook()
    );
    world.sim.rate = 1000.0;
    world.run(seconds(60));
    let status = world.gate.status(world.sim.now);
    assert!(status.warming_up && status.stage_time.is_zero());
    world.run(seconds(10));
    let status = world.gate.status(world.sim.now);
    assert!(!status.warming_up);
    assert_eq!(status.stage_time, span("9s750ms"));
    // What the warm-up saw is left out of the stage's figures.
    assert!(
        (97..=98).contains(&status.stage_figures[1].requests),
        "9.75 s of 10 a second"
    );
    assert_eq!(status.run_figures[1].requests, 700);
}

#[test]
fn a_gap_adds_no_stage_time() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(100));
    let before = world.gate.status(world.sim.now).stage_time;
    world.sim.pass(seconds(3));
    world.tick();
    assert_eq!(world.gate.status(world.sim.now).stage_time, before);
    world.tick();
    assert_eq!(
        world.gate.status(world.sim.now).stage_time,
        before + span("250ms")
    );
}

#[test]
fn no_traffic_is_no_data_and_never_a_pass() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(61));
    world.sim.rate = 0.0;
    world.run_until(seconds(700), |world| world.count("extended") == 1);
    let EventKind::Extended { until, missing, .. } = &world.last("extended").kind else {
        unreachable!()
    };
    assert_eq!(*until, seconds(1200));
    assert!(
        missing
            .iter()
            .any(|missing| missing.contains("requests on canary")),
        "{missing:?}"
    );
    world.run_until(seconds(700), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["no_data"]);
    // Traffic comes back: a minute with enough of it ends the hold, and the stage passes.
    world.sim.rate = 1000.0;
    world.run_until(seconds(75), |world| world.count("advanced") == 1);
    assert_eq!(
        world.kinds()[4..],
        ["extended", "held", "cause_ended", "resumed", "advanced"]
    );
}

#[test]
fn an_extended_stage_advances_as_soon_as_it_may() {
    let mut world = World::running(plan(|parts| parts.stages[0].min_requests = 8000));
    // 10 requests a second: 6000 at the stage's end, 8000 after 200 s more.
    world.run_until(seconds(700), |world| world.count("extended") == 1);
    let took = world.run_until(seconds(600), |world| world.count("advanced") == 1);
    assert!((seconds(198)..=seconds(202)).contains(&took), "{took:?}");
}

#[test]
fn too_few_requests_with_a_failing_figure_hold_for_the_criteria() {
    let mut world = World::new();
    world.sim.rate = 5.0;
    world.sim.canary().failing = 0.04;
    world.start(plan(|parts| parts.stages[0].rollback.clear()));
    world.run_until(seconds(2000), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["criteria"]);
    assert!(
        world
            .last("held")
            .reason
            .contains("of 100 requests on canary"),
        "{}",
        world.last("held").reason
    );
}

#[test]
fn unmet_criteria_do_what_on_failure_says() {
    let check = |on_failure: OnFailure, phase: Phase, share: &str, causes: &[&str]| {
        let mut world = World::new();
        // Above the criterion of 1 %, beyond doubt with 60,000 requests, below the trigger at 1.5 %.
        world.sim.rate = 10_000.0;
        world.sim.canary().failing = 0.012;
        world.start(plan(|parts| {
            parts.stages[0].on_failure = on_failure;
            parts.stages[0].rollback = conditions(&["error_rate > 1.5% for 2m"]);
        }));
        world.run_until(seconds(700), |world| world.phase() != Phase::Running);
        assert_eq!(world.phase(), phase, "{}", world.story());
        assert_eq!(
            (world.weight(), world.causes()),
            (weight(share), causes.to_vec())
        );
        assert_eq!(world.count("extended"), 0);
    };
    check(OnFailure::Hold, Phase::Held, "1%", &["criteria"]);
    check(OnFailure::Rollback, Phase::RolledBack, "0%", &[]);
    check(
        OnFailure::Fallback(weight("0.5%")),
        Phase::Held,
        "0.5%",
        &["criteria"],
    );
}

#[test]
fn a_stage_that_says_hold_waits_for_an_advance_without_force() {
    let mut world = World::running(plan(|parts| parts.stages[0].on_success = OnSuccess::Hold));
    world.run_until(seconds(700), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["operator"]);
    world.order(Action::Advance);
    assert_eq!(
        (world.refusal().as_str(), world.stage().as_str()),
        ("", "ramp")
    );
    let EventKind::Advanced { forced, .. } = &world.last("advanced").kind else {
        unreachable!()
    };
    assert!(!forced);
}

#[test]
fn checkpoints_carry_every_figure_and_verdict() {
    let mut world = World::running(plan(|_| ()));
    // 50 canary requests a second: the tripwire's window of one second has data as well.
    world.sim.rate = 5000.0;
    world.run_until(seconds(400), |world| world.count("checkpoint") == 1);
    let event = world.last("checkpoint");
    let EventKind::Checkpoint {
        due,
        late,
        evaluations,
    } = &event.kind
    else {
        unreachable!()
    };
    assert_eq!(
        (*due, *late, evaluations.len()),
        (seconds(300), false, 3 + 1 + 3 + 1)
    );
    for evaluation in evaluations {
        assert_eq!(
            evaluation.verdict,
            Verdict::Pass,
            "{}: {}",
            evaluation.condition,
            evaluation.note
        );
        assert!(
            evaluation.figure.is_some() && evaluation.requests > 0,
            "{}",
            evaluation.condition
        );
    }
}

#[test]
fn throughout_fails_for_one_bad_interval_and_says_so_at_once() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].advance = conditions(&["error_rate < 1%", "error_rate < 1% throughout"]);
        parts.stages[0].rollback.clear();
        parts.stages[0].checkpoints = vec![seconds(60), seconds(120), seconds(300)];
    }));
    world.run_until(seconds(200), |world| world.count("checkpoint") == 1);
    // 30 of 600 requests: beyond doubt more than 1 %, and over the stage still less.
    world.sim.canary().failing = 0.05;
    world.run_until(seconds(61), |world| world.count("checkpoint") == 2);
    world.sim.canary().failing = 0.0;
    assert_eq!(world.count("interval_failed"), 1);
    let EventKind::IntervalFailed {
        from,
        to,
        evaluations,
    } = &world.last("interval_failed").kind
    else {
        unreachable!()
    };
    assert_eq!(
        (from.as_secs(), to.as_secs(), evaluations.len()),
        (60, 120, 1)
    );
    // The stage goes on to its end, where the whole is below 1 % and the interval still counts.
    world.run_until(seconds(700), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["criteria"]);
    assert!(
        world.last("held").reason.contains("failed in an interval"),
        "{}",
        world.last("held").reason
    );
    // Only `retry` makes it good.
    world.order(Action::Retry);
    world.run_until(seconds(700), |world| world.count("advanced") == 1);
}

#[test]
fn an_interval_with_too_few_requests_is_joined_to_the_next() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].advance = conditions(&["error_rate < 1% throughout"]);
        parts.stages[0].rollback.clear();
        parts.stages[0].checkpoints = vec![seconds(5), seconds(10), seconds(15), seconds(300)];
        parts.stages[0].min_requests = 120;
    }));
    world.run(seconds(60));
    // 10 requests a second and 120 needed: the first interval that can be judged ends at 15 s.
    world.sim.canary().failing = 0.3;
    world.run_until(seconds(20), |world| world.count("interval_failed") == 1);
    let EventKind::IntervalFailed { from, to, .. } = &world.last("interval_failed").kind else {
        unreachable!()
    };
    assert_eq!((from.as_secs(), to.as_secs()), (0, 15));
}

#[test]
fn an_incident_within_an_interval_fails_it_even_if_closed() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].advance = conditions(&["incidents == 0 throughout"]);
    }));
    world.run(seconds(100));
    world.order(Action::OpenIncident {
        summary: "pager".to_owned(),
    });
    world.run(seconds(5));
    world.order(Action::CloseIncident { id: 1 });
    world.run_until(seconds(400), |world| world.count("interval_failed") == 1);
    world.run_until(seconds(400), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["criteria"]);
}

#[test]
fn a_breach_on_its_way_is_not_advanced_over() {
    let mut world = World::running(plan(|_| ()));
    world.run_until(seconds(700), |world| {
        world.gate.status(world.sim.now).stage_time >= seconds(550)
    });
    // 4 % for the last 50 s: the whole stage stays below 1 %, the trigger needs 2 minutes.
    world.sim.canary().failing = 0.04;
    world.run(seconds(60));
    assert_eq!(
        (world.phase(), world.count("advanced")),
        (Phase::Running, 0),
        "{}",
        world.story()
    );
    world.run_until(seconds(120), |world| world.phase() == Phase::RolledBack);
}

#[test]
fn an_empty_list_of_criteria_still_needs_requests_and_time() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].advance.clear();
        parts.stages[0].min_requests = 7000;
    }));
    world.run_until(seconds(1000), |world| world.count("advanced") == 1);
    assert_eq!(world.count("extended"), 1);
}

#[test]
fn a_stage_of_one_second_runs_on_quarter_second_ticks() {
    let mut world = World::new();
    world.start(plan(|parts| {
        for stage in &mut parts.stages {
            stage.duration = seconds(1);
            stage.warmup = seconds(0);
            stage.checkpoints = vec![seconds(1)];
            stage.min_requests = 5;
            stage.min_window_requests = 5;
            stage.advance = conditions(&[
                "error_rate < 1%",
                "error_rate < 1% over 1s",
                "throughput > 900",
            ]);
        }
    }));
    let took = world.run_until(seconds(10), |world| world.phase() == Phase::Complete);
    assert!(took <= seconds(5), "{took:?}");
}

#[test]
fn the_holdout_lasts_until_complete() {
    let mut world = World::running(plan(|parts| parts.holdout = weight("1%")));
    world.run_until(seconds(3600), |world| world.stage() == "rollout");
    assert_eq!(world.weight(), weight("99%"));
    world.set_weight("100%");
    assert!(
        world.refusal().starts_with("422 100% is above 99%"),
        "{}",
        world.refusal()
    );
    world.run_until(seconds(700), |world| world.phase() == Phase::Complete);
    assert_eq!(world.weight(), weight("100%"));
}

#[test]
fn the_holdout_caps_weights_by_hand_until_a_run_has_completed() {
    let mut world = World::new();
    world.holdout = weight("1%");
    let refused = |world: &mut World| {
        world.set_weight("100%");
        assert!(
            world.refusal().starts_with("422 100% is above 99%"),
            "{}",
            world.refusal()
        );
    };
    refused(&mut world);
    world.set_weight("99%");
    world.tick();
    assert_eq!(world.weight(), weight("99%"));
    // An aborted run did not complete.
    world.set_weight("0%");
    world.start(plan(|parts| parts.holdout = weight("1%")));
    world.tick();
    world.order(Action::Abort);
    world.tick();
    refused(&mut world);
    world.start(plan(|parts| parts.holdout = weight("1%")));
    world.run_until(seconds(4300), |world| world.phase() == Phase::Complete);
    for share in ["50%", "100%"] {
        world.set_weight(share);
        world.tick();
        assert_eq!(world.weight(), weight(share), "{}", world.refusal());
    }
}

#[test]
fn nothing_is_compared_with_a_baseline_that_carries_nobody() {
    let mut world = World::new();
    world.sim.arms[1].refusing = 0.5;
    world.start(plan(|parts| {
        parts.stages = vec![stage("all", "100%")];
        parts.stages[0].rollback = conditions(&["error_rate{delta} > 1% for 1m"]);
    }));
    world.run_until(seconds(700), |world| world.phase() == Phase::Complete);
    let EventKind::Checkpoint { evaluations, .. } = &world.last("checkpoint").kind else {
        unreachable!()
    };
    let notes: Vec<&str> = evaluations
        .iter()
        .map(|evaluation| evaluation.note.as_str())
        .collect();
    assert_eq!(
        notes
            .iter()
            .filter(|&&note| note == "no baseline at 100%")
            .count(),
        2,
        "{notes:?}"
    );
}

#[test]
fn the_outlook_says_what_comes_and_what_is_in_the_way() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(110));
    let outlook = world.outlook();
    assert!(
        outlook.starts_with("advances in 9m9s if error_rate < 1% and p99 < 200ms"),
        "{outlook}"
    );
    world.sim.canary().failing = 0.02;
    world.run(seconds(60));
    let outlook = world.outlook();
    assert!(
        outlook.contains("error_rate < 1% is 1.") && outlook.contains("is breached for"),
        "{outlook}"
    );
}
