//! After a rollback: baseline's health, errors and latency are watched, and every step has its time since the alarm.

use std::time::Duration;

use serin::records::state;
use serin::rollout::gate::{Action, EventKind, Gate, HookEnd, Input, Observed, Phase, Recovered};
use serin::rollout::name::Arm;
use serin::rollout::plan::{Act, Hook, PlanParts, When};
use serin::rollout::slot::{Cell, CellKey, Slot};

use crate::sim::{World, conditions, plan, seconds, weight};

/// Canary fails from 100 s on; rolled back after two minutes of it.
fn rolled_back(change: impl FnOnce(&mut PlanParts)) -> World {
    let mut world = World::running(plan(change));
    world.run(seconds(100));
    world.sim.canary().failing = 0.2;
    world.run_until(seconds(300), |world| world.weight().is_zero());
    world
}

fn outcome(world: &World, event: &str) -> Recovered {
    match &world.last(event).kind {
        EventKind::Recovered(found) | EventKind::NotRecovered(found) => found.clone(),
        other => panic!("{other:?}"),
    }
}

fn after(found: &Recovered, step: &str) -> Option<Duration> {
    let mut steps = found.steps.iter();
    let found = steps.find(|one| one.step == step);
    found.unwrap_or_else(|| panic!("no {step}")).after
}

// Counted and erred on canary, of the run.
fn of_canary(world: &World) -> (u64, u64) {
    let figures = &world.gate.status(world.sim.now).run_figures[Arm::Canary.index()];
    (figures.requests, figures.errors)
}

#[test]
fn what_began_before_a_retreat_counts_for_its_run_whenever_it_ends() {
    let mut world = rolled_back(|_| ());
    let left = world.gate.split().epoch;
    world.run(seconds(1));
    assert_eq!(world.phase(), Phase::RolledBack);
    let before = of_canary(&world);
    let slot_of = |world: &World, epoch: u64| {
        let cell = Cell {
            counted: 7,
            errors: 2,
            ..Cell::default()
        };
        let key = CellKey {
            epoch,
            arm: Arm::Canary,
            segment: None,
        };
        let mut slot = Slot::empty(world.sim.now.mono, Duration::from_millis(250));
        slot.cells.insert(key, cell);
        slot
    };
    let give = |world: &mut World, slot: Slot| {
        let observed = Observed {
            slots: vec![slot],
            pools: world.sim.pools,
            learners: Default::default(),
            blocks: Vec::new(),
            gap: Duration::ZERO,
        };
        world.handle(Input::Tick(Box::new(observed)));
    };
    let late = slot_of(&world, left - 1);
    give(&mut world, late);
    assert_eq!(of_canary(&world), (before.0 + 7, before.1 + 2));
    // What begins now, by a pin, is no part of it.
    let later = slot_of(&world, left);
    give(&mut world, later);
    assert_eq!(of_canary(&world), (before.0 + 7, before.1 + 2));
}

#[test]
fn every_step_after_the_alarm_has_its_time() {
    let mut world = rolled_back(|_| ());
    let took = world.run_until(seconds(60), |world| world.count("recovered") == 1);
    assert!((seconds(4)..seconds(7)).contains(&took), "{took:?}");
    let found = outcome(&world, "recovered");
    let back = world.last("rolled_back");
    assert_eq!(found.rollback, back.id);
    let EventKind::RolledBack { breached_since, .. } = back.kind else {
        panic!("{}", world.story())
    };
    assert_eq!(Some(found.alarm), breached_since);
    let decided = back.at.mono.since(found.alarm.mono);
    assert!((seconds(120)..seconds(122)).contains(&decided));
    let names: Vec<&str> = found.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(names, ["decided", "weights", "health", "errors", "latency"]);
    for step in ["decided", "weights"] {
        assert_eq!(after(&found, step), Some(decided));
    }
    for step in ["errors", "latency"] {
        let after = after(&found, step).expect("it is back");
        assert!((decided + seconds(5)..decided + seconds(6)).contains(&after));
    }
    world.run(seconds(400));
    assert_eq!(
        (world.count("recovered"), world.count("not_recovered")),
        (1, 0),
        "once"
    );
}

#[test]
fn a_baseline_that_does_not_come_back_is_told_within_five_minutes() {
    let mut world = rolled_back(|_| ());
    // What broke is shared: baseline fails from now on as canary did, and half of it is gone.
    world.sim.arms[0].failing = 0.2;
    world.sim.pools[0].usable = 9;
    let took = world.run_until(seconds(400), |world| world.count("not_recovered") == 1);
    assert!((seconds(299)..seconds(302)).contains(&took), "{took:?}");
    let found = outcome(&world, "not_recovered");
    assert_eq!(after(&found, "health"), None);
    assert_eq!(after(&found, "errors"), None);
    assert!(after(&found, "latency").is_some());
    let mut steps = found.steps.iter();
    let errors = steps.find(|step| step.step == "errors").expect("a step");
    assert!(
        errors.note.contains("error_rate{baseline} > 1.5%") && errors.note.contains("20%"),
        "{}",
        errors.note
    );
    assert_eq!(world.count("recovered"), 0);
}

#[test]
fn what_was_back_and_is_gone_again_is_not_back() {
    let mut world = rolled_back(|_| ());
    world.sim.pools[0].usable = 9;
    world.run(seconds(30));
    assert!(
        world.outlook().contains("not yet health"),
        "{}",
        world.outlook()
    );
    world.sim.arms[0].failing = 0.2;
    world.run(seconds(30));
    world.sim.pools[0].usable = 20;
    world.run(seconds(10));
    assert!(
        world.outlook().contains("not yet errors"),
        "{}",
        world.outlook()
    );
    assert_eq!(world.count("recovered"), 0);
    world.sim.arms[0].failing = 0.0;
    world.run_until(seconds(10), |world| world.count("recovered") == 1);
}

#[test]
fn no_data_is_not_well() {
    let mut world = rolled_back(|_| ());
    world.sim.rate = 0.0;
    world.run_until(seconds(400), |world| world.count("not_recovered") == 1);
    let found = outcome(&world, "not_recovered");
    assert_eq!(after(&found, "errors"), None);
    assert!(after(&found, "health").is_some());
}

#[test]
fn hooks_of_the_rollback_are_among_the_steps_and_outlive_the_process() {
    let stop = Hook {
        name: "stop-canary".to_owned(),
        act: Act::Command(vec!["stop".to_owned()]),
        timeout: seconds(30),
        retries: 0,
        idempotent: true,
        when: When::Always,
        verify: None,
    };
    let mut world = rolled_back(|parts| parts.stages[0].hooks.rollback = vec![stop]);
    world.run(seconds(20));
    assert_eq!(world.count("recovered"), 0, "the hook has not ended");

    let bytes = state::encode(&world.gate.snapshot(world.sim.now));
    let snapshot = state::decode(&bytes.json, &bytes.counts).expect("what was saved is read");
    let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    world.gate = gate;
    world.sim.carry_out(effects);
    world.disk_works();
    let order = world.sim.hooks.last().expect("a hook runs").clone();
    world.handle(Input::HookEnded(Box::new(HookEnd {
        started: order.started,
        passed: true,
        took: seconds(2),
        attempts: 1,
        code: Some(0),
        why: "exit code 0".to_owned(),
        output: String::new(),
    })));
    world.run_until(seconds(20), |world| world.count("recovered") == 1);
    let found = outcome(&world, "recovered");
    let names: Vec<&str> = found.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(
        names,
        [
            "decided",
            "weights",
            "hook stop-canary",
            "health",
            "errors",
            "latency"
        ]
    );
    let hook = after(&found, "hook stop-canary").expect("it ended");
    assert!(hook >= seconds(140), "20 s after the weights: {hook:?}");
}

#[test]
fn a_new_run_ends_the_watch_and_a_fallback_has_none() {
    let mut world = rolled_back(|_| ());
    world.start(plan(|parts| parts.gate.cooldown = seconds(0)));
    assert_eq!(world.phase(), Phase::Running, "{}", world.refusal());
    world.run(seconds(10));
    assert_eq!(
        (world.count("recovered"), world.count("not_recovered")),
        (0, 0),
        "{}",
        world.story()
    );

    let mut world = World::running(plan(|parts| {
        parts.stages[0].on_rollback = weight("0.5%");
        parts.stages[0].rollback = conditions(&["error_rate > 1.5% for 2m"]);
    }));
    world.run(seconds(100));
    world.sim.canary().failing = 0.2;
    world.run_until(seconds(300), |world| world.phase() == Phase::Held);
    world.sim.canary().failing = 0.0;
    world.run(seconds(30));
    assert_eq!(world.count("recovered"), 0);
    world.order(Action::Rollback);
    world.run_until(seconds(30), |world| world.count("recovered") == 1);
}
