//! What operators may do where, and what each command leaves behind.

use serin::rollout::gate::{Action, Cause, EventKind, Phase, RollbackCause};
use serin::rollout::name::Arm;

use crate::sim::{World, conditions, plan, seconds, weight};

#[test]
fn a_refusal_says_what_is_allowed() {
    let mut world = World::new();
    world.order(Action::Pause);
    assert_eq!(
        world.refusal(),
        "409 cannot pause: the rollout is idle; allowed now: start, weights"
    );
    world.start(plan(|_| ()));
    world.order(Action::Resume);
    assert_eq!(
        world.refusal(),
        "409 cannot resume: the rollout is running; allowed now: pause, hold, advance, rollback, abort, weights"
    );
    assert_eq!(world.sim.events.len(), 1);
}

#[test]
fn an_advance_over_unmet_criteria_needs_force_and_a_reason() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(70));
    world.command(Action::Advance, "", false);
    assert!(
        world
            .refusal()
            .starts_with("409 cannot advance: the criteria are not met (stage time is")
    );
    world.command(Action::Advance, " ", true);
    assert_eq!(
        world.refusal(),
        "422 advance over unmet criteria needs a reason"
    );
    world.command(Action::Advance, "the fix is urgent", true);
    assert_eq!(
        (world.stage().as_str(), world.weight()),
        ("ramp", weight("10%"))
    );
    let event = world.last("advanced");
    assert!(matches!(
        event.kind,
        EventKind::Advanced { forced: true, .. }
    ));
    assert_eq!(
        (event.by.as_str(), event.reason.as_str()),
        ("ops", "the fix is urgent")
    );
}

#[test]
fn a_start_soon_after_a_rollback_needs_force() {
    let mut world = World::running(plan(|_| ()));
    world.order(Action::Rollback);
    world.run(seconds(599));
    world.start(plan(|_| ()));
    assert!(
        world.refusal().contains("the cooldown lasts 1s more"),
        "{}",
        world.refusal()
    );
    world.run(seconds(1));
    world.start(plan(|_| ()));
    assert_eq!(
        (world.refusal().as_str(), world.phase()),
        ("", Phase::Running)
    );
    world.order(Action::Rollback);
    let start = Action::Start {
        plan: Box::new(plan(|_| ())),
        baseline_endpoints: 20,
    };
    world.command(start, "", true);
    assert_eq!(
        (world.phase(), world.gate.status(world.sim.now).run),
        (Phase::Running, 3)
    );
}

#[test]
fn a_weight_by_hand_holds_a_run_and_zero_rolls_it_back() {
    let mut world = World::running(plan(|_| ()));
    world.set_weight("7%");
    assert_eq!(
        (world.phase(), world.causes(), world.weight()),
        (Phase::Held, vec!["manual"], weight("7%"))
    );
    world.order(Action::Resume);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    world.set_weight("0%");
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RolledBack, weight("0%"))
    );
    let EventKind::RolledBack { cause, .. } = &world.last("rolled_back").kind else {
        unreachable!()
    };
    assert_eq!(*cause, RollbackCause::Operator);
    // A script that says so again changes nothing that matters.
    world.set_weight("0%");
    assert_eq!(
        (world.phase(), world.refusal().as_str()),
        (Phase::RolledBack, "")
    );
}

#[test]
fn a_weight_by_hand_outside_a_run_is_manual_and_zero_closes() {
    let mut world = World::new();
    assert!(!world.gate.split().closed, "at rest pins work");
    world.set_weight("5%");
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Manual, weight("5%"))
    );
    world.set_weight("0%");
    assert_eq!(
        (world.phase(), world.gate.split().closed),
        (Phase::Idle, true)
    );
    world.set_weight("5%");
    assert!(!world.gate.split().closed);
    world.start(plan(|_| ()));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
}

#[test]
fn pausing_stops_the_clock_and_resuming_goes_on() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(100));
    world.order(Action::Pause);
    let before = world.gate.status(world.sim.now);
    world.run(seconds(1000));
    assert_eq!(
        world.gate.status(world.sim.now).stage_time,
        before.stage_time
    );
    world.order(Action::Resume);
    world.run(seconds(1));
    let after = world.gate.status(world.sim.now);
    assert_eq!(after.stage_time, before.stage_time + seconds(1));
    assert!(after.stage_figures[1].requests > before.stage_figures[1].requests + 9_000);
}

#[test]
fn a_retry_begins_the_stage_again() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(400));
    world.order(Action::Hold);
    world.order(Action::Retry);
    let status = world.gate.status(world.sim.now);
    assert_eq!((status.phase, status.checkpoints_done), (Phase::Running, 0));
    assert_eq!(
        (status.stage_time, status.stage_figures[1].requests),
        (seconds(0), 0)
    );
    world.run(seconds(1));
    assert_eq!(world.count("stage_began"), 2);
    assert!(world.gate.status(world.sim.now).warming_up);
}

#[test]
fn a_replaced_canary_begins_the_stage_anew_at_its_weight() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(400));
    world.order(Action::CanaryReplaced {
        what: "version 2".to_owned(),
        version: None,
    });
    let status = world.gate.status(world.sim.now);
    assert_eq!(
        (status.phase, status.weight, status.stage_time),
        (Phase::Running, weight("1%"), seconds(0))
    );
    world.run(seconds(1));
    assert!(world.gate.status(world.sim.now).warming_up);
}

#[test]
fn aborting_ends_the_run_and_closes_the_canary() {
    let mut world = World::running(plan(|_| ()));
    world.order(Action::Abort);
    assert_eq!(
        (world.phase(), world.weight(), world.gate.split().closed),
        (Phase::Aborted, weight("0%"), true)
    );
    assert!(world.gate.status(world.sim.now).ended.is_some());
}

#[test]
fn pins_are_published_at_once_and_bounded() {
    let mut world = World::running(plan(|_| ()));
    let epoch = world.gate.split().epoch;
    world.order(Action::Pin {
        learner: b"tester".as_slice().into(),
        arm: Arm::Canary,
    });
    let split = world.gate.split();
    assert_eq!(
        (split.pins.get(b"tester".as_slice()), split.epoch),
        (Some(&Arm::Canary), epoch + 1)
    );
    let EventKind::Pinned { learner, pool } = &world.last("pinned").kind else {
        unreachable!()
    };
    assert_eq!((learner.as_str(), pool.as_str()), ("tester", "ultra_fast"));
    world.order(Action::Unpin {
        learner: b"other".as_slice().into(),
    });
    assert_eq!(world.refusal(), "422 learner \"other\" is not pinned");
    for n in 1..10_000_u32 {
        world.order(Action::Pin {
            learner: n.to_be_bytes().into(),
            arm: Arm::Baseline,
        });
    }
    world.order(Action::Pin {
        learner: b"one more".as_slice().into(),
        arm: Arm::Canary,
    });
    assert_eq!(world.refusal(), "422 there are 10000 pins already");
    world.order(Action::Pin {
        learner: b"tester".as_slice().into(),
        arm: Arm::Baseline,
    });
    assert_eq!(world.refusal(), "");
}

#[test]
fn incidents_are_opened_closed_and_counted() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].rollback = conditions(&["incidents > 1"])
    }));
    world.order(Action::OpenIncident {
        summary: "one".to_owned(),
    });
    world.order(Action::CloseIncident { id: 2 });
    assert_eq!(world.refusal(), "422 no incident 2 is open");
    world.order(Action::CloseIncident { id: 1 });
    world.order(Action::OpenIncident {
        summary: "two".to_owned(),
    });
    world.run(seconds(5));
    assert_eq!(world.phase(), Phase::Running);
    world.order(Action::OpenIncident {
        summary: "three".to_owned(),
    });
    world.tick();
    assert_eq!(world.phase(), Phase::RolledBack);
    let open: Vec<u64> = world
        .gate
        .status(world.sim.now)
        .incidents
        .iter()
        .map(|incident| incident.id)
        .collect();
    assert_eq!(open, [2, 3]);
}

#[test]
fn a_complete_rollout_can_still_be_taken_back() {
    let mut world = World::running(plan(|parts| parts.stages.truncate(1)));
    world.run_until(seconds(700), |world| world.phase() == Phase::Complete);
    world.order(Action::Rollback);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RolledBack, weight("0%"))
    );
}

#[test]
fn what_the_status_says_of_a_hold_is_whole() {
    let mut world = World::running(plan(|_| ()));
    world.command(Action::Hold, "looking at a graph", false);
    let status = world.gate.status(world.sim.now);
    let [cause] = status.causes.as_slice() else {
        panic!("{:?}", status.causes)
    };
    assert_eq!(
        (cause.cause, cause.why.as_str(), cause.ends_by_itself),
        (Cause::Operator, "looking at a graph", false)
    );
    world.order(Action::Hold);
    assert!(
        world.refusal().contains("held by an operator already"),
        "{}",
        world.refusal()
    );
}
