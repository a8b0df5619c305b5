//! Holds: one event each, causes that add up, and who ends them.

use serin::rollout::gate::{Action, EventId, EventKind, Input, Phase};

use crate::sim::{Disk, World, conditions, plan, seconds, span, weight};

#[test]
fn a_second_cause_is_added_and_the_same_one_is_not_told_again() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].hold = conditions(&["error_rate > 0.5% for 10s"])
    }));
    world.run(seconds(100));
    world.order(Action::Hold);
    world.sim.canary().failing = 0.012;
    world.run(seconds(120));
    assert_eq!(world.causes(), ["operator", "condition"]);
    assert_eq!(world.count("held"), 2);
    world.order(Action::Resume);
    assert_eq!(world.phase(), Phase::Running);
}

#[test]
fn a_held_rollout_keeps_its_weight_and_stops_its_clock() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(100));
    world.order(Action::Hold);
    let before = world.gate.status(world.sim.now).stage_time;
    world.run(span("20m"));
    let status = world.gate.status(world.sim.now);
    assert_eq!(
        (status.stage_time, status.weight, status.phase),
        (before, weight("1%"), Phase::Held)
    );
    assert!(
        status.outlook.contains("waits for a person"),
        "{}",
        status.outlook
    );
}

#[test]
fn a_hold_before_a_step_is_in_force_ends_the_step() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(100));
    world.sim.disk = Disk::Stalls;
    world.run_until(seconds(700), |world| world.count("advanced") == 1);
    assert_eq!(
        (world.weight(), world.stage().as_str()),
        (weight("1%"), "ramp")
    );
    world.order(Action::Hold);
    world.disk_works();
    world.run(seconds(10));
    assert_eq!((world.weight(), world.phase()), (weight("1%"), Phase::Held));
    world.order(Action::Resume);
    assert_eq!(
        (world.weight(), world.phase()),
        (weight("10%"), Phase::Running)
    );
}

#[test]
fn a_store_that_cannot_write_holds_until_a_person_resumes() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    for _ in 0..3 {
        world.handle(Input::StoreFailed("disk full".to_owned()));
        world.tick();
    }
    assert_eq!(
        (world.phase(), world.causes(), world.count("held")),
        (Phase::Held, vec!["store"], 1)
    );
    world.order(Action::Resume);
    assert!(
        world
            .refusal()
            .starts_with("409 cannot resume: the store cannot write: disk full"),
        "{}",
        world.refusal()
    );
    world.run(seconds(700));
    assert_eq!((world.weight(), world.count("advanced")), (weight("1%"), 0));
    world.disk_works();
    world.run(seconds(120));
    assert_eq!(world.phase(), Phase::Held);
    world.order(Action::Resume);
    assert_eq!(world.phase(), Phase::Running);
    world.run_until(seconds(1300), |world| world.count("advanced") == 1);
}

#[test]
fn a_disk_that_works_again_is_heard_of_without_an_event() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    world.handle(Input::StoreFailed("disk full".to_owned()));
    world.disk_works();
    // A second time, while the hold of the first is still there: nothing is written that could come back.
    world.handle(Input::StoreFailed("disk full".to_owned()));
    world.order(Action::Resume);
    assert!(world.refusal().starts_with("409"), "{}", world.refusal());
    world.handle(Input::Stored(EventId(0)));
    world.order(Action::Resume);
    assert_eq!(
        (world.refusal().as_str(), world.phase()),
        ("", Phase::Running)
    );
}

#[test]
fn a_dead_store_never_keeps_learners_on_a_sick_canary() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(100));
    world.sim.disk = Disk::Stalls;
    world.handle(Input::StoreFailed("disk full".to_owned()));
    world.sim.canary().failing = 0.5;
    world.run_until(span("4m"), |world| world.weight().is_zero());
    assert_eq!(world.phase(), Phase::RollingBack);
    world.disk_works();
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn without_a_store_everything_is_refused_and_nobody_is_on_canary() {
    use serin::rollout::gate::Gate;
    let mut world = World::new();
    world.gate = Gate::without_store(world.sim.now, "made by a newer serin");
    for action in [
        Action::Resume,
        Action::Rollback,
        Action::Hold,
        Action::Unpin {
            learner: Box::default(),
        },
    ] {
        world.order(action);
        assert!(
            world.refusal().contains("made by a newer serin"),
            "{}",
            world.refusal()
        );
    }
    world.run(seconds(10));
    let status = world.gate.status(world.sim.now);
    assert_eq!(
        (status.phase, status.closed, status.last_event.0),
        (Phase::Held, true, 0)
    );
    assert_eq!(
        (world.causes(), world.weight()),
        (vec!["store"], weight("0%"))
    );
}

#[test]
fn resuming_after_a_hold_judges_new_figures() {
    let mut world = World::running(plan(|parts| parts.stages[0].rollback.clear()));
    // 60,000 requests: 1.2 % is beyond doubt more than 1 %.
    world.sim.rate = 10_000.0;
    world.sim.canary().failing = 0.012;
    world.run_until(seconds(700), |world| world.phase() == Phase::Held);
    world.sim.rate = 1000.0;
    assert_eq!(world.causes(), ["criteria"]);
    let EventKind::Held { evaluations, .. } = &world.last("held").kind else {
        unreachable!()
    };
    assert!(
        evaluations
            .iter()
            .any(|evaluation| evaluation.figure.is_some_and(|figure| figure > 0.01))
    );
    world.sim.canary().failing = 0.0;
    world.order(Action::Resume);
    // 100 requests at 10 a second, then the stage passes.
    let took = world.run_until(seconds(30), |world| world.count("advanced") == 1);
    assert!(took >= seconds(9), "{took:?}");
}

#[test]
fn a_clock_that_jumps_is_told_and_changes_nothing() {
    use serin::rollout::time::WallTime;
    let mut world = World::running(plan(|_| ()));
    let jump = |world: &mut World, by_ms: i64| {
        world.sim.now.wall =
            WallTime::from_unix_millis(world.sim.now.wall.as_unix_millis() + by_ms);
        world.tick();
    };
    jump(&mut world, 5_000);
    assert_eq!(world.count("clock_jumped"), 0);
    jump(&mut world, -5_001);
    let EventKind::ClockJumped { by_ms } = world.last("clock_jumped").kind else {
        unreachable!()
    };
    assert_eq!((by_ms, world.phase()), (-5_001, Phase::Running));
}
