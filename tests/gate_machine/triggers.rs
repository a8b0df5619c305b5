//! Triggers: when they act, what proves them, outages, and where nobody can go.

use std::time::Duration;

use serin::rollout::gate::{Action, EventKind, Phase, RollbackCause};
use serin::rollout::weight::Weight;

use crate::sim::{World, conditions, plan, seconds, span, weight};

/// A run whose first stage has these triggers alone, past its warm-up.
fn guarded_by(triggers: &[&str]) -> World {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].duration = span("6h");
        parts.stages[0].rollback = conditions(triggers);
        parts.gate.tripwire = None;
    }));
    world.run(seconds(120));
    world
}

#[test]
fn a_trigger_acts_when_its_time_is_over_and_not_before() {
    let mut world = guarded_by(&["error_rate > 1.5% for 2m over 10s"]);
    world.sim.canary().failing = 0.5;
    let breached_after = world.run_until(seconds(10), |world| {
        !world.outlook().contains("advances in 5h") || world.outlook().contains("breached")
    });
    let acted_after = world.run_until(seconds(130), |world| world.phase() == Phase::RolledBack);
    assert_eq!(
        acted_after,
        seconds(120),
        "breached after {breached_after:?}"
    );
    let event = world.last("rolled_back");
    let EventKind::RolledBack {
        cause,
        from,
        breached_since,
        evaluations,
        ..
    } = &event.kind
    else {
        unreachable!()
    };
    assert_eq!(
        *cause,
        RollbackCause::Trigger("error_rate > 1.5% for 2m over 10s".to_owned())
    );
    assert_eq!(*from, weight("1%"));
    assert_eq!(
        breached_since.map(|since| event.at.mono.since(since.mono)),
        Some(seconds(120))
    );
    let evidence = evaluations
        .iter()
        .find(|evaluation| evaluation.breached_for == Some(seconds(120)));
    let evidence = evidence.expect("the breach is in the evidence");
    assert!(evidence.figure.is_some_and(|figure| figure > 0.4) && evidence.learners >= Some(3));
    assert!(world.gate.split().closed);
}

#[test]
fn a_breach_that_stops_begins_again_from_nothing() {
    let mut world = guarded_by(&["error_rate > 1.5% for 1m over 1s"]);
    world.sim.rate = 10_000.0;
    for _ in 0..5 {
        world.sim.canary().failing = 0.5;
        world.run(seconds(55));
        world.sim.canary().failing = 0.0;
        world.run(seconds(5));
    }
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    world.sim.canary().failing = 0.5;
    let took = world.run_until(seconds(70), |world| world.phase() == Phase::RolledBack);
    assert!((seconds(60)..seconds(62)).contains(&took), "{took:?}");
}

#[test]
fn the_tripwire_acts_within_a_second() {
    let mut world = World::running(plan(|_| ()));
    // Still in the warm-up, which the tripwire does not wait for.
    world.sim.rate = 10_000.0;
    world.run(seconds(2));
    world.sim.canary().failing = 0.9;
    let took = world.run_until(seconds(3), |world| world.phase() == Phase::RolledBack);
    assert!(took <= seconds(1), "{took:?}");
    let EventKind::RolledBack { cause, .. } = &world.last("rolled_back").kind else {
        unreachable!()
    };
    assert_eq!(*cause, RollbackCause::Tripwire);
}

#[test]
fn one_bot_that_always_fails_holds_and_never_rolls_back() {
    let check = |learners: u64, phase: Phase, causes: &[&str]| {
        let mut world = guarded_by(&["error_rate > 1.5% for 10s"]);
        world.sim.canary().failing = 0.3;
        world.sim.canary().learners = learners;
        world.run(seconds(60));
        assert_eq!(
            (world.phase(), world.causes()),
            (phase, causes.to_vec()),
            "{learners} learners"
        );
        world
    };
    check(3, Phase::RolledBack, &[]);
    let world = check(2, Phase::Held, &["alarm"]);
    assert_eq!(world.count("alarm_noted"), 1);
    let EventKind::AlarmNoted { why, .. } = &world.last("alarm_noted").kind else {
        unreachable!()
    };
    assert!(why.contains("2 of 3 failing learners"), "{why}");
}

#[test]
fn a_magnitude_is_proven_like_any_other_share() {
    for trigger in [
        "|error_rate| > 1.5% for 10s",
        "|error_rate{delta}| > 50% for 10s",
    ] {
        let ends = |learners: u64| {
            let mut world = guarded_by(&[trigger]);
            world.sim.canary().failing = 0.3;
            world.sim.canary().learners = learners;
            world.run(seconds(60));
            world.phase()
        };
        assert_eq!(ends(1), Phase::Held, "{trigger}: one bot");
        assert_eq!(ends(1000), Phase::RolledBack, "{trigger}");
    }
}

#[test]
fn a_clock_stands_still_without_data_and_is_dropped_after_five_minutes() {
    let check = |silence: Duration, left: Duration| {
        let mut world = guarded_by(&["error_rate > 1.5% for 1m over 1s"]);
        world.sim.rate = 10_000.0;
        world.run(seconds(10));
        world.sim.canary().failing = 0.5;
        world.run(seconds(40));
        world.sim.rate = 0.0;
        world.run(silence);
        assert_eq!(world.phase(), Phase::Running);
        world.sim.rate = 10_000.0;
        let took = world.run_until(seconds(90), |world| world.phase() == Phase::RolledBack);
        assert!(
            took >= left - seconds(1) && took <= left + seconds(1),
            "{took:?} after {silence:?}"
        );
    };
    check(seconds(30), seconds(20));
    check(seconds(290), seconds(20));
    check(seconds(310), seconds(60));
}

#[test]
fn too_few_requests_raise_no_alarm() {
    let mut world = guarded_by(&["error_rate > 1.5% for 10s"]);
    // 18 canary requests in a minute, 20 are data.
    world.sim.rate = 30.0;
    world.run(seconds(70));
    world.sim.canary().failing = 1.0;
    world.run(seconds(600));
    assert_eq!(world.phase(), Phase::Running);
    world.sim.rate = 40.0;
    world.run_until(seconds(90), |world| world.phase() == Phase::RolledBack);
}

#[test]
fn latency_triggers_wait_for_the_warm_up_and_error_triggers_do_not() {
    let check = |slow: bool, acts_in_warm_up: bool| {
        let mut world = World::new();
        world.start(plan(|parts| {
            parts.stages[0].rollback =
                conditions(&["p95 > 250ms for 10s", "error_rate > 1.5% for 10s"]);
        }));
        match slow {
            true => world.sim.canary().latency_ms = 300,
            false => world.sim.canary().failing = 0.1,
        }
        world.run(seconds(59));
        assert_eq!(world.phase() == Phase::RolledBack, acts_in_warm_up);
        world.run(seconds(30));
        assert_eq!(world.phase(), Phase::RolledBack);
    };
    check(true, false);
    check(false, true);
}

#[test]
fn the_exact_counter_decides_a_latency_trigger() {
    // 5 % above the limit, in a histogram bucket that 250 ms shares.
    let mut world = guarded_by(&["p99 > 250ms for 10s"]);
    world.sim.canary().slow_ms = 251;
    world.sim.canary().slow = 0.009;
    world.run(seconds(120));
    assert_eq!(world.phase(), Phase::Running);
    world.sim.canary().slow = 0.05;
    world.run_until(seconds(90), |world| world.phase() == Phase::RolledBack);
}

#[test]
fn a_difference_in_client_errors_holds_when_a_point_apart() {
    let check = |share: f64, phase: Phase| {
        let mut world = guarded_by(&[]);
        world.sim.canary().refusing = share;
        world.run(seconds(250));
        assert_eq!(world.phase(), phase, "{share}");
    };
    check(0.009, Phase::Running);
    check(0.012, Phase::Held);
}

#[test]
fn triggers_stay_armed_while_paused_held_and_by_hand() {
    let check = |prepare: &dyn Fn(&mut World), at: Phase| {
        let mut world = guarded_by(&["error_rate > 1.5% for 1m"]);
        prepare(&mut world);
        assert_eq!(world.phase(), at);
        world.run(seconds(70));
        world.sim.canary().failing = 0.2;
        world.run_until(seconds(80), |world| world.phase() == Phase::RolledBack);
    };
    check(&|world| drop(world.order(Action::Pause)), Phase::Paused);
    check(&|world| drop(world.order(Action::Hold)), Phase::Held);
    check(&|world| drop(world.set_weight("5%")), Phase::Held);
    let by_hand = |world: &mut World| {
        world.order(Action::Abort);
        world.set_weight("5%");
    };
    check(&by_hand, Phase::Manual);
}

#[test]
fn a_weight_by_hand_without_a_plan_has_the_tripwire() {
    let check = |guarded: bool, phase: Phase| {
        let mut world = World::new();
        world.order(Action::SetWeight {
            weight: weight("5%"),
            guarded,
            holdout: Weight::ZERO,
        });
        world.run(seconds(10));
        world.sim.canary().failing = 0.7;
        world.run(seconds(5));
        assert_eq!(world.phase(), phase);
    };
    check(true, Phase::RolledBack);
    check(false, Phase::Manual);
}

#[test]
fn one_sequence_per_run_however_many_alarms() {
    let mut world = guarded_by(&[
        "error_rate > 1% for 0s",
        "availability < 99% for 0s",
        "p99 > 250ms for 0s",
    ]);
    world.sim.canary().failing = 0.5;
    world.sim.canary().latency_ms = 900;
    world.run(seconds(200));
    assert_eq!(
        (world.count("rolled_back"), world.phase()),
        (1, Phase::RolledBack)
    );
    assert_eq!(
        world.sim.published.last().map(|&(_, _, weight)| weight),
        Some(weight("0%"))
    );
}

#[test]
fn a_fallback_weight_takes_effect_once_and_then_it_is_zero() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].rollback = conditions(&["error_rate > 1.5% for 10s"]);
        parts.stages[0].on_rollback = weight("0.5%");
    }));
    world.run(seconds(120));
    world.sim.canary().failing = 0.2;
    world.run_until(seconds(60), |world| world.phase() == Phase::Held);
    assert_eq!(
        (world.weight(), world.causes()),
        (weight("0.5%"), vec!["alarm"])
    );
    assert!(!world.gate.split().closed);
    world.run_until(seconds(90), |world| world.phase() == Phase::RolledBack);
    assert_eq!(
        (world.count("rolled_back"), world.weight()),
        (2, weight("0%"))
    );
}

#[test]
fn resuming_after_a_fallback_goes_back_to_the_stage_with_new_windows() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].rollback = conditions(&["error_rate > 1.5% for 10s"]);
        parts.stages[0].on_rollback = weight("0.5%");
    }));
    world.run(seconds(120));
    let before = world.gate.status(world.sim.now).stage_time;
    world.sim.canary().failing = 0.2;
    world.run_until(seconds(60), |world| world.phase() == Phase::Held);
    world.sim.canary().failing = 0.0;
    world.run(seconds(20));
    world.order(Action::Resume);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    world.run(seconds(1));
    let status = world.gate.status(world.sim.now);
    assert_eq!(status.recent[1].errors, 0);
    assert!(status.stage_time >= before, "the stage clock goes on");
}

/// Past the 15 minutes in which a step is suspected.
fn long_after_the_step(triggers: &[&str]) -> World {
    let mut world = guarded_by(triggers);
    world.run(span("16m"));
    world
}

#[test]
fn an_outage_of_both_pools_holds_and_goes_on_when_it_is_over() {
    let mut world = long_after_the_step(&["error_rate > 1.5% for 10s"]);
    world.sim.arms[0].failing = 0.3;
    world.sim.arms[1].failing = 0.3;
    world.run_until(seconds(30), |world| world.phase() == Phase::Held);
    assert_eq!(
        (world.causes(), world.weight()),
        (vec!["outage"], weight("1%"))
    );
    world.run(seconds(60));
    world.sim.arms[0].failing = 0.0;
    world.sim.arms[1].failing = 0.0;
    let took = world.run_until(span("4m"), |world| world.phase() == Phase::Running);
    assert!(took >= seconds(60), "{took:?}");
    let kinds = world.kinds();
    assert_eq!(
        kinds[kinds.len() - 4..],
        ["alarm_noted", "held", "cause_ended", "resumed"]
    );
    assert_eq!(world.last("resumed").by, "gate");
}

#[test]
fn the_tail_of_an_outage_is_no_proof_against_canary() {
    let mut world = long_after_the_step(&["error_rate > 1.5% for 20s"]);
    world.sim.arms[0].failing = 0.3;
    world.sim.arms[1].failing = 0.3;
    world.run(span("2m"));
    // Baseline's window is clean again before canary's, but not for the trigger's time.
    world.sim.arms[0].failing = 0.0;
    world.run_until(span("2m"), |world| {
        let recent = &world.gate.status(world.sim.now).recent;
        recent[0].error_rate.is_some_and(|rate| rate < 0.015)
    });
    world.sim.arms[1].failing = 0.0;
    world.run(seconds(15));
    assert_eq!(world.weight(), weight("1%"), "{}", world.story());
    // What goes on failing alone is canary's own.
    world.sim.arms[1].failing = 0.3;
    world.run_until(seconds(30), |world| world.weight().is_zero());
}

#[test]
fn an_outage_rolls_back_all_the_same_where_going_back_is_the_safe_side() {
    let both_fail = |world: &mut World| {
        world.sim.arms[0].failing = 0.3;
        world.sim.arms[1].failing = 0.3;
    };
    // It began soon after a step up.
    let mut world = guarded_by(&["error_rate > 1.5% for 10s"]);
    both_fail(&mut world);
    world.run_until(seconds(30), |world| world.phase() == Phase::RolledBack);
    // It lasted too long.
    let mut world = long_after_the_step(&["error_rate > 1.5% for 10s"]);
    both_fail(&mut world);
    let took = world.run_until(span("6m"), |world| world.phase() == Phase::RolledBack);
    assert!((span("5m")..span("5m5s")).contains(&took), "{took:?}");
    // Baseline alone recovers: then it was the canary.
    let mut world = long_after_the_step(&["error_rate > 1.5% for 10s"]);
    both_fail(&mut world);
    world.run_until(seconds(30), |world| world.phase() == Phase::Held);
    world.sim.arms[0].failing = 0.0;
    world.run_until(span("2m"), |world| world.phase() == Phase::RolledBack);
    // Baseline carries too few to say anything: 72 requests in the window, 100 are needed.
    let mut world = long_after_the_step(&["error_rate > 1.5% for 10s"]);
    world.sim.rate = 2.0;
    world.set_weight("40%");
    world.run(span("20m"));
    both_fail(&mut world);
    world.run_until(span("3m"), |world| world.phase() == Phase::RolledBack);
}

#[test]
fn nobody_is_sent_to_a_baseline_that_is_gone() {
    let mut world = guarded_by(&["error_rate > 1.5% for 10s"]);
    world.sim.pools[0].usable = 0;
    world.sim.canary().failing = 0.5;
    world.run(seconds(60));
    assert_eq!((world.phase(), world.weight()), (Phase::Held, weight("1%")));
    assert_eq!(
        (world.causes(), world.count("alarm_noted")),
        (vec!["no_baseline"], 1)
    );
    let EventKind::AlarmNoted { why, .. } = &world.last("alarm_noted").kind else {
        unreachable!()
    };
    assert!(why.contains("nowhere to go"), "{why}");
    // Back: what was decided is carried out at once, even if the canary looks well by then.
    world.sim.canary().failing = 0.0;
    world.run(seconds(120));
    world.sim.pools[0].usable = 1;
    world.tick();
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn no_step_up_onto_a_weak_baseline() {
    let mut world = World::running(plan(|_| ()));
    world.sim.pools[0].usable = 9;
    world.run_until(seconds(700), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["no_baseline"]);
    assert!(
        world
            .last("held")
            .reason
            .contains("9 usable endpoints; 10 of the 20"),
        "{}",
        world.last("held").reason
    );
    world.sim.pools[0].usable = 10;
    let took = world.run_until(seconds(70), |world| world.count("advanced") == 1);
    assert!((seconds(60)..seconds(62)).contains(&took), "{took:?}");
}

#[test]
fn most_learners_on_canary_over_a_weak_baseline_is_told_once() {
    let mut world = World::running(plan(|parts| {
        parts.stages.truncate(2);
        parts.stages[1].weight = weight("60%");
    }));
    world.run_until(seconds(700), |world| world.stage() == "ramp");
    world.sim.pools[0].usable = 3;
    world.run(seconds(30));
    assert_eq!(world.count("alarm_noted"), 1);
}
