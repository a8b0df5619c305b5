//! The order of effects: a step waits for its record, a retreat never does, and numbers have no gaps.

use serin::rollout::gate::{Action, Effect, EventId, Input, Phase};

use crate::sim::{Disk, World, plan, seconds, weight};

fn shape(effects: &[Effect]) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Publish(_) => "publish",
        Effect::Record(_) => "record",
        Effect::Announce(_) => "announce",
        Effect::RunHook(_) => "run_hook",
        Effect::Refuse(_) => "refuse",
    };
    effects.iter().map(name).collect()
}

#[test]
fn a_step_towards_canary_is_recorded_first_and_in_force_when_stored() {
    let mut world = World::new();
    world.sim.disk = Disk::Stalls;
    let baseline_endpoints = 20;
    let effects = world.order(Action::Start {
        plan: Box::new(plan(|_| ())),
        baseline_endpoints,
    });
    assert_eq!(shape(&effects), ["record"]);
    world.run(seconds(100));
    assert_eq!(
        (world.weight(), world.phase()),
        (weight("0%"), Phase::Running)
    );
    assert_eq!(
        world.gate.status(world.sim.now).awaiting_store,
        Some(EventId(1))
    );
    assert!(
        world.outlook().contains("as soon as event 1 is on disk"),
        "{}",
        world.outlook()
    );
    let effects = world.handle(Input::Stored(EventId(1)));
    assert_eq!(shape(&effects), ["publish", "announce"]);
    assert_eq!(world.weight(), weight("1%"));
    // What is stored already does nothing again.
    assert_eq!(world.handle(Input::Stored(EventId(1))), []);
}

#[test]
fn a_retreat_is_in_force_before_it_is_recorded() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    let effects = world.order(Action::Rollback);
    assert_eq!(shape(&effects), ["publish", "record", "announce"]);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RollingBack, weight("0%"))
    );
    world.run(seconds(10));
    assert_eq!(world.phase(), Phase::RollingBack);
    world.disk_works();
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn a_retreat_cancels_a_step_that_waits() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    world.set_weight("50%");
    assert_eq!(
        (world.weight(), world.gate.status(world.sim.now).weight),
        (weight("1%"), weight("50%"))
    );
    let effects = world.order(Action::Rollback);
    assert_eq!(
        shape(&effects),
        ["publish", "announce", "record", "announce"]
    );
    world.disk_works();
    world.run(seconds(10));
    assert_eq!(
        (world.weight(), world.phase()),
        (weight("0%"), Phase::RolledBack)
    );
    assert_eq!(world.sim.published.len(), 2);
}

#[test]
fn a_weight_by_hand_that_waits_is_not_meant_any_more_once_the_stage_goes_on() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    world.set_weight("50%");
    assert_eq!(world.phase(), Phase::Held);
    world.order(Action::Resume);
    assert_eq!(world.gate.status(world.sim.now).awaiting_store, None);
    world.disk_works();
    world.run(seconds(10));
    assert_eq!(
        (world.weight(), world.phase()),
        (weight("1%"), Phase::Running)
    );
    let recorded: Vec<EventId> = world.sim.events.iter().map(|event| event.id).collect();
    assert_eq!(world.sim.announced, recorded);
}

#[test]
fn more_by_hand_waits_and_less_by_hand_does_not() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    assert_eq!(
        shape(&world.set_weight("5%")),
        ["record", "announce", "record"]
    );
    assert_eq!(world.weight(), weight("1%"));
    assert_eq!(shape(&world.set_weight("0.5%"))[0], "publish");
    assert_eq!(world.weight(), weight("0.5%"));
}

#[test]
fn everything_recorded_is_announced_once_in_order() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    world.run_until(seconds(700), |world| world.count("advanced") == 1);
    world.order(Action::OpenIncident {
        summary: "pager".to_owned(),
    });
    world.run(seconds(30));
    world.disk_works();
    world.run(seconds(700));
    let recorded: Vec<EventId> = world.sim.events.iter().map(|event| event.id).collect();
    assert_eq!(world.sim.announced, recorded);
    let ids: Vec<u64> = recorded.iter().map(|id| id.0).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
}

#[test]
fn triggers_guard_the_old_split_while_a_step_waits() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    world.run_until(seconds(700), |world| world.count("advanced") == 1);
    world.sim.canary().failing = 0.5;
    world.run_until(seconds(200), |world| world.weight().is_zero());
    world.disk_works();
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RolledBack, weight("0%"))
    );
}

#[test]
fn the_epoch_rises_at_every_publish_and_old_attempts_count_for_the_run_alone() {
    let mut world = World::running(plan(|parts| parts.stages[0].warmup = seconds(0)));
    world.run(seconds(10));
    let split = world.gate.split();
    let span = world.sim.tick;
    world.sim.pass(span);
    // Begun before the step, ended after it.
    let mut late = world.sim.observe(&world.gate, span);
    world.set_weight("5%");
    let epochs: Vec<u64> = world
        .sim
        .published
        .iter()
        .map(|&(_, epoch, _)| epoch)
        .collect();
    assert!(
        epochs.is_sorted_by(|a, b| a < b) && world.gate.split().epoch > split.epoch,
        "{epochs:?}"
    );
    let before = world.gate.status(world.sim.now);
    late.slots[0].start = world.sim.now.mono;
    world.handle(Input::Tick(Box::new(late)));
    let after = world.gate.status(world.sim.now);
    assert!(after.run_figures[1].requests > before.run_figures[1].requests);
    assert_eq!(
        after.stage_figures[1].requests,
        before.stage_figures[1].requests
    );
    assert_eq!(after.recent[1].requests, 0);
}
