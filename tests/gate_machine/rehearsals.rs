//! A rehearsal is found, rolled back and gone, and leaves nothing behind, whatever happens meanwhile.

use std::time::Duration;

use serin::rollout::gate::{Action, EventKind, Gate, Input, Phase, Refusal, Rehearsed};
use serin::rollout::rehearsal::{Fault, Injection};
use serin::rollout::weight::Weight;

use crate::sim::{Disk, World, conditions, plan, seconds, weight};

fn rehearse(share: &str, within_s: u64) -> Action {
    Action::Rehearse {
        injection: Injection {
            fault: Fault::Latency(Duration::from_millis(800)),
            share: weight(share),
        },
        within: seconds(within_s),
    }
}

/// Ten percent on canary, warm, with a trigger that takes three seconds.
fn warm() -> World {
    let mut world = World::running(plan(|parts| {
        parts.stages.remove(0);
        parts.stages[0].rollback = conditions(&["p95 > 250ms for 3s over 5s"]);
    }));
    world.run(seconds(90));
    assert_eq!(world.gate.phase(), Phase::Running);
    world
}

/// Time passes, and canary is as slow as the gate asks for.
fn pass(world: &mut World, span: Duration) {
    let until = world.sim.now.mono.after(span);
    while world.sim.now.mono < until {
        let share = world
            .gate
            .injection()
            .map_or(0.0, |injection| injection.share.share());
        world.sim.canary().slow = share;
        world.sim.canary().slow_ms = 805;
        world.run(world.sim.tick);
    }
}

fn ended(world: &World) -> Vec<Rehearsed> {
    let events = world.sim.events.iter();
    events
        .filter_map(|event| match &event.kind {
            EventKind::RehearsalEnded(outcome) => Some(outcome.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn it_is_found_rolled_back_and_everything_is_as_before() {
    let mut world = warm();
    let before = world.gate.status(world.sim.now);
    world.order(rehearse("50%", 120));
    assert!(world.gate.injection().is_some());
    let mut lowest = Weight::FULL;
    for _ in 0..20 {
        pass(&mut world, seconds(1));
        lowest = lowest.min(world.gate.split().weight);
    }
    assert_eq!(lowest, Weight::ZERO, "the weights went back");
    let outcome = &ended(&world)[0];
    assert_eq!(outcome.fault, "", "{outcome:?}");
    let found = outcome.detected.expect("found");
    let back = outcome.back.expect("weights back");
    // A twentieth of the window is slow within a second; then the trigger asks for three.
    assert!(found <= seconds(1), "{found:?}");
    assert!(back >= seconds(3) && back <= seconds(5), "{back:?}");
    assert!(outcome.recovered.is_some_and(|at| at <= back + seconds(3)));

    pass(&mut world, seconds(70));
    let after = world.gate.status(world.sim.now);
    assert_eq!((after.phase, after.weight), (before.phase, before.weight));
    assert!(world.gate.injection().is_none());
    assert!(after.stage_time > before.stage_time, "the clock goes on");
    let slow = after.run_figures[1].p99.expect("latencies");
    assert!(
        slow < Duration::from_millis(100),
        "its figures are forgotten: {slow:?}"
    );
    world.order(rehearse("50%", 120));
    assert!(world.sim.refused.is_none(), "and it can be had again");
}

#[test]
fn what_no_trigger_finds_ends_after_its_time() {
    let mut world = warm();
    let weight_before = world.gate.split().weight;
    world.order(rehearse("1%", 10));
    pass(&mut world, seconds(12));
    let outcome = &ended(&world)[0];
    assert_eq!((outcome.detected, outcome.back), (None, None));
    assert!(outcome.fault.contains("no trigger found it"), "{outcome:?}");
    assert_eq!(world.gate.split().weight, weight_before);
    assert!(world.gate.injection().is_none());
}

#[test]
fn a_kill_at_any_moment_ends_it_and_brings_everything_back() {
    for killed_after_ms in (250..12_000).step_by(250) {
        let mut world = warm();
        let weight_before = world.gate.split().weight;
        world.order(rehearse("50%", 120));
        pass(&mut world, Duration::from_millis(killed_after_ms));
        let was_over = !ended(&world).is_empty();
        let (gate, effects) = Gate::restore(
            world.gate.snapshot(world.sim.now),
            Vec::new(),
            world.sim.now,
        );
        world.gate = gate;
        if let Some(id) = world.sim.carry_out(effects) {
            world.handle(Input::Stored(id));
        }
        assert!(
            world.gate.injection().is_none(),
            "after {killed_after_ms} ms"
        );
        assert_eq!(
            (world.gate.phase(), world.gate.split().weight),
            (Phase::Running, weight_before),
            "after {killed_after_ms} ms"
        );
        let outcomes = ended(&world);
        assert_eq!(outcomes.len(), 1, "after {killed_after_ms} ms");
        assert_eq!(
            outcomes[0].fault == "serin was restarted",
            !was_over,
            "after {killed_after_ms} ms"
        );
    }
}

#[test]
fn a_person_who_rolls_back_wins() {
    let mut world = warm();
    world.order(rehearse("50%", 120));
    world.order(Action::Pause);
    let refused = world.sim.refused.take();
    assert!(
        matches!(&refused, Some(Refusal::Phase(why)) if why.contains("rehearsal")),
        "{refused:?}"
    );
    world.order(Action::Rollback);
    pass(&mut world, seconds(5));
    assert_eq!(world.gate.phase(), Phase::RolledBack);
    assert!(world.gate.split().weight.is_zero() && world.gate.injection().is_none());
    assert!(ended(&world)[0].fault.contains("operator"));
}

#[test]
fn nothing_comes_back_while_the_disk_cannot_remember() {
    let mut world = warm();
    world.order(rehearse("50%", 120));
    world.sim.disk = Disk::Stalls;
    pass(&mut world, seconds(30));
    assert_eq!(world.gate.phase(), Phase::RollingBack);
    assert!(world.gate.split().weight.is_zero());
    world.disk_works();
    pass(&mut world, seconds(1));
    assert_eq!(world.gate.phase(), Phase::Running);
    assert!(!world.gate.split().weight.is_zero());
}

#[test]
fn it_is_refused_where_it_would_show_nothing() {
    let check = |world: &mut World, action: Action, wanted: &str| {
        world.sim.refused = None;
        world.order(action);
        let said = format!("{:?}", world.sim.refused);
        assert!(said.contains(wanted), "{said}, not {wanted}");
        assert!(world.gate.injection().is_none());
    };
    let mut cold = World::running(plan(|_| {}));
    check(&mut cold, rehearse("50%", 120), "not warm");
    let mut world = warm();
    check(&mut world, rehearse("0%", 120), "share");
    check(&mut world, rehearse("50%", 0), "between 1s and 10m");
    check(&mut world, rehearse("50%", 601), "between 1s and 10m");
    world.order(Action::Pause);
    check(&mut world, rehearse("50%", 120), "paused");
}

/// In the middle: the trigger has taken the weight down.
fn in_the_middle() -> World {
    let mut world = warm();
    world.order(rehearse("50%", 600));
    for _ in 0..20 {
        pass(&mut world, Duration::from_millis(250));
        if world.phase() == Phase::RolledBack {
            return world;
        }
    }
    panic!("{}", world.story());
}

#[test]
fn a_rehearsals_phases_are_no_end_of_the_run() {
    let mut world = in_the_middle();
    assert!(!world.gate.is_over());
    assert!(world.gate.status(world.sim.now).rehearsing);
    world.order(Action::CanaryReplaced {
        what: "version 2".to_owned(),
        version: None,
    });
    assert_eq!(world.refusal(), "");
    assert_eq!(ended(&world)[0].fault, "the canary was replaced");
    let status = world.gate.status(world.sim.now);
    assert_eq!((status.phase, status.rehearsing), (Phase::Running, false));
    assert_eq!(status.stage_time, seconds(0), "another canary");
}

#[test]
fn a_disk_that_fails_meanwhile_holds_the_run() {
    let mut world = in_the_middle();
    world.handle(Input::StoreFailed("disk full".to_owned()));
    pass(&mut world, seconds(20));
    assert_eq!(ended(&world).len(), 1);
    assert_eq!(
        (world.phase(), world.causes()),
        (Phase::Held, vec!["store"])
    );
}
