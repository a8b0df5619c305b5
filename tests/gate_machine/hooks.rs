//! Hooks: in their order, never before their beginning is on disk, never twice, and none forgotten by a restart.

use serin::rollout::gate::{
    Action, EventKind, Gate, HookEnd, HookOrder, HookOutcome, Input, Phase,
};
use serin::rollout::plan::{Act, Hook, OnSuccess, Plan, Verify, When};
use serin::rollout::time::{Now, Timestamp};

use crate::sim::{Disk, World, plan, seconds, weight};

pub(crate) fn hook(name: &str) -> Hook {
    Hook {
        name: name.to_owned(),
        act: Act::Command(vec![name.to_owned()]),
        timeout: seconds(30),
        retries: 0,
        idempotent: false,
        when: When::Always,
        verify: None,
    }
}

fn hooked(change: impl FnOnce(&mut serin::rollout::plan::PlanParts)) -> Plan {
    plan(|parts| {
        parts.stages.truncate(2);
        for stage in &mut parts.stages {
            stage.duration = seconds(60);
            stage.warmup = seconds(1);
            stage.checkpoints.clear();
            stage.advance.clear();
            stage.min_requests = 1;
        }
        change(parts);
    })
}

fn names(world: &World) -> Vec<&str> {
    let orders = world.sim.hooks.iter();
    orders.map(|order| order.hook.name.as_str()).collect()
}

fn end_of(order: &HookOrder, passed: bool) -> HookEnd {
    HookEnd {
        started: order.started,
        passed,
        took: seconds(2),
        attempts: 1,
        code: Some(i32::from(!passed)),
        why: "tested".to_owned(),
        output: "said".to_owned(),
    }
}

/// The hook that was given out last comes to its end.
fn end(world: &mut World, passed: bool) {
    let order = world.sim.hooks.last().expect("a hook runs").clone();
    world.handle(Input::HookEnded(Box::new(end_of(&order, passed))));
}

fn outcomes(world: &World) -> Vec<(String, HookOutcome)> {
    let events = world.sim.events.iter();
    let ended = events.filter_map(|event| match &event.kind {
        EventKind::HookEnded { hook, ending } => Some((hook.name.clone(), ending.outcome)),
        _ => None,
    });
    ended.collect()
}

/// Killed and started again a second later.
fn restart(world: &mut World) {
    let snapshot = world.gate.snapshot(world.sim.now);
    world.sim.now = Now {
        mono: world.sim.now.mono.after(seconds(1)),
        wall: world.sim.now.wall,
    };
    let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    world.gate = gate;
    if let Some(id) = world.sim.carry_out(effects) {
        world.handle(Input::Stored(id));
    }
}

#[test]
fn the_first_stage_begins_when_its_hooks_have_passed() {
    let mut world = World::new();
    world.start(hooked(|parts| {
        parts.stages[0].hooks.before = vec![hook("one"), hook("two")];
    }));
    assert_eq!((names(&world), world.causes()), (vec!["one"], vec!["hook"]));
    world.run(seconds(5));
    end(&mut world, true);
    assert_eq!(names(&world), ["one", "two"]);
    assert!(world.weight().is_zero());
    end(&mut world, true);
    assert_eq!(world.phase(), Phase::Running);
    assert_eq!(
        world.weight(),
        world.gate.plan().expect("a plan").stages[0].weight
    );
    world.run(seconds(5));
    assert_eq!(names(&world).len(), 2, "they run once");
}

#[test]
fn what_a_weight_by_hand_brings_does_not_begin_the_first_stage_before_its_hooks() {
    let mut world = World::new();
    world.set_weight("50%");
    world.run(seconds(5));
    world.start(hooked(|parts| {
        parts.stages[0].hooks.before = vec![hook("one")];
    }));
    world.run(seconds(10));
    assert_eq!(
        (world.causes(), world.count("stage_began")),
        (vec!["hook"], 0)
    );
    end(&mut world, false);
    world.run(seconds(10));
    world.order(Action::Resume);
    // It runs again, and until it has passed the weight stays.
    assert_eq!(names(&world), ["one", "one"]);
    assert_eq!(world.weight(), weight("50%"));
    end(&mut world, true);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    world.run(seconds(5));
    assert_eq!(world.count("stage_began"), 1);
}

#[test]
fn a_hook_that_fails_blocks_the_step_until_a_person_lets_it_run_again() {
    let mut world = World::running(hooked(|parts| {
        parts.stages[1].hooks.before = vec![hook("check"), hook("never")];
    }));
    let first = world.weight();
    world.run_until(seconds(120), |world| !world.sim.hooks.is_empty());
    world.run(seconds(5));
    assert_eq!((names(&world), world.weight()), (vec!["check"], first));
    end(&mut world, false);
    assert_eq!((world.phase(), world.causes()), (Phase::Held, vec!["hook"]));
    assert_eq!(world.count("incident_opened"), 1);
    world.run(seconds(30));
    assert_eq!((names(&world), world.weight()), (vec!["check"], first));

    world.order(Action::Resume);
    world.run_until(seconds(120), |world| world.sim.hooks.len() == 2);
    end(&mut world, true);
    end(&mut world, true);
    world.run_until(seconds(5), |world| world.stage() == "ramp");
    assert_eq!(names(&world), ["check", "check", "never"]);
    assert!(world.weight() > first);
}

#[test]
fn a_step_by_hand_waits_for_its_hooks_and_force_takes_it_over_a_failed_one() {
    let mut world = World::running(hooked(|parts| {
        parts.stages[1].hooks.before = vec![hook("check")];
    }));
    world.command(Action::Advance, "we know", true);
    assert_eq!(world.refusal(), "");
    assert_eq!(
        (names(&world), world.stage().as_str()),
        (vec!["check"], "canary")
    );
    end(&mut world, false);
    world.command(Action::Advance, "we looked", true);
    assert_eq!(
        (world.phase(), world.stage().as_str()),
        (Phase::Running, "ramp")
    );
    assert_eq!(names(&world), ["check"]);
}

#[test]
fn a_rollback_moves_weights_first_and_then_runs_its_hooks_in_order() {
    let mut world = World::running(hooked(|parts| {
        let restore = Hook {
            when: When::BaselineUnhealthy,
            ..hook("restart_original")
        };
        parts.stages[0].hooks.rollback = vec![hook("stop_new"), restore, hook("verify")];
    }));
    world.sim.disk = Disk::Stalls;
    world.order(Action::Rollback);
    assert!(world.weight().is_zero());
    assert!(names(&world).is_empty(), "its beginning is not on disk");
    world.disk_works();
    assert_eq!(
        (world.phase(), names(&world)),
        (Phase::RolledBack, vec!["stop_new"])
    );
    world.command(
        Action::Start {
            plan: Box::new(hooked(|_| {})),
            baseline_endpoints: 2,
        },
        "again",
        false,
    );
    assert!(world.refusal().contains("cooldown") || world.refusal().contains("stop_new"));
    // One that fails keeps the others from nothing.
    end(&mut world, false);
    assert_eq!(names(&world), ["stop_new", "verify"]);
    end(&mut world, true);
    let told = outcomes(&world);
    let told: Vec<(&str, HookOutcome)> = told
        .iter()
        .map(|(name, how)| (name.as_str(), *how))
        .collect();
    assert_eq!(
        told,
        [
            ("stop_new", HookOutcome::Failed),
            ("restart_original", HookOutcome::Skipped),
            ("verify", HookOutcome::Passed),
        ]
    );
    assert_eq!(world.count("rolled_back"), 1);
}

#[test]
fn what_runs_after_a_stage_keeps_nobody_waiting() {
    let mut world = World::running(hooked(|parts| {
        parts.stages[0].hooks.after = vec![hook("compare")];
    }));
    world.run_until(seconds(120), |world| world.stage() == "ramp");
    assert_eq!(names(&world), ["compare"]);
    end(&mut world, false);
    assert_eq!(
        (world.phase(), world.count("incident_opened")),
        (Phase::Running, 1)
    );
}

#[test]
fn a_hook_found_half_run_follows_its_rule_and_one_rollback_stays_one() {
    let again = Hook {
        idempotent: true,
        ..hook("again")
    };
    let verified = Hook {
        verify: Some(Verify {
            act: Act::Command(vec!["look".to_owned()]),
            timeout: seconds(5),
        }),
        ..hook("verified")
    };
    let mut world = World::running(hooked(|parts| {
        parts.stages[0].hooks.rollback = vec![again, hook("lost"), verified, hook("last")];
    }));
    world.order(Action::Rollback);

    // One that may be repeated is, under the same key.
    restart(&mut world);
    assert_eq!(names(&world), ["again", "again"]);
    assert_eq!(world.sim.hooks[0].key, world.sim.hooks[1].key);
    assert_ne!(world.sim.hooks[0].started, world.sim.hooks[1].started);
    // The end of the first attempt is nobody's any more.
    let stale = end_of(&world.sim.hooks[0].clone(), true);
    world.handle(Input::HookEnded(Box::new(stale)));
    assert_eq!(names(&world).len(), 2);
    end(&mut world, true);

    // One that may not is unknown, a person is called, and the next one runs.
    assert_eq!(names(&world).last(), Some(&"lost"));
    restart(&mut world);
    assert_eq!(
        outcomes(&world).last(),
        Some(&("lost".to_owned(), HookOutcome::Unknown))
    );
    assert_eq!(world.count("incident_opened"), 1);

    // One that can be verified is: not the hook is run, but what finds out.
    world.tick();
    assert_eq!(names(&world).last(), Some(&"verified"));
    restart(&mut world);
    let verify = world.sim.hooks.last().expect("a hook").clone();
    assert!(verify.hook.verifies);
    assert_eq!(verify.act, Act::Command(vec!["look".to_owned()]));
    end(&mut world, true);
    assert_eq!(names(&world).last(), Some(&"last"));
    end(&mut world, true);

    world.run(seconds(10));
    restart(&mut world);
    world.run(seconds(10));
    assert_eq!(world.count("rolled_back"), 1);
    assert_eq!(
        names(&world),
        ["again", "again", "lost", "verified", "verified", "last"]
    );
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RolledBack, weight("0%"))
    );
    assert!(world.sim.now.mono > Timestamp::default());
}

#[test]
fn a_step_that_is_not_to_be_taken_any_more_is_not_taken_by_its_hook() {
    let mut world = World::running(hooked(|parts| {
        parts.stages[1].hooks.before = vec![hook("slow")];
        parts.stages[0].hooks.rollback = vec![hook("stop_new")];
    }));
    world.run_until(seconds(120), |world| !world.sim.hooks.is_empty());
    world.order(Action::Rollback);
    // The hooks of a rollback wait for none of a step forward.
    assert_eq!(names(&world), ["slow", "stop_new"]);
    let slow = end_of(&world.sim.hooks[0].clone(), true);
    world.handle(Input::HookEnded(Box::new(slow)));
    world.run(seconds(5));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RolledBack, weight("0%"))
    );
    assert_eq!(outcomes(&world), [("slow".to_owned(), HookOutcome::Passed)]);
}

/// Frozen for good by somebody.
fn freeze(world: &mut World) {
    world.command(Action::Freeze { until: None }, "exams", false);
    assert_eq!(world.refusal(), "");
}

#[test]
fn what_comes_up_while_hooks_run_keeps_the_step_that_waited_for_them() {
    let by_hand = || {
        let mut world = World::running(hooked(|parts| {
            parts.stages[0].on_success = OnSuccess::Hold;
            parts.stages[1].hooks.before = vec![hook("slow")];
        }));
        world.run_until(seconds(120), |world| world.phase() == Phase::Held);
        world.command(Action::Advance, "we know", false);
        assert_eq!(
            (world.refusal().as_str(), names(&world)),
            ("", vec!["slow"])
        );
        world
    };
    let is_kept = |mut world: World, what: &str| {
        let before = world.weight();
        end(&mut world, true);
        world.run(seconds(5));
        assert_eq!(
            (world.weight(), world.stage().as_str()),
            (before, "canary"),
            "{what}"
        );
    };
    let mut world = by_hand();
    freeze(&mut world);
    is_kept(world, "frozen");
    let mut world = by_hand();
    world.sim.pools[0].usable = 9;
    world.run(seconds(1));
    is_kept(world, "baseline is weak");
    let mut world = by_hand();
    world.order(Action::CanaryReplaced {
        what: "version 2".to_owned(),
        version: None,
    });
    is_kept(world, "another canary");
    let mut world = by_hand();
    world.order(Action::Resume);
    is_kept(world, "resumed since");
}

#[test]
fn the_first_stage_waits_for_the_end_of_a_freeze_behind_its_hooks() {
    let mut world = World::new();
    world.start(hooked(|parts| {
        parts.stages[0].hooks.before = vec![hook("one")];
    }));
    freeze(&mut world);
    end(&mut world, true);
    world.run(seconds(30));
    assert!(world.weight().is_zero());
    assert_eq!((world.phase(), world.causes()), (Phase::Held, vec!["hook"]));
    let causes = world.gate.status(world.sim.now).causes;
    assert_eq!(
        causes[0].why,
        "the hooks before the first stage have passed; frozen by ops (exams)"
    );
    world.order(Action::Unfreeze);
    world.run(seconds(1));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    assert_eq!(names(&world), ["one"]);
}
