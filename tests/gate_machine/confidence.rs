//! How sure a decision is: what its criteria's intervals say, and what its stage could have seen.

use serin::rollout::gate::{Confidence, EventKind, Level, Phase};
use serin::rollout::plan::{OnSuccess, Plan, PlanParts};

use crate::crowd::{Crowd, Habit};
use crate::sim::{World, conditions, plan, seconds, weight};

/// Every hundredth request of everybody fails.
const TIRED: Habit = Habit {
    failing: 0.01,
    refusing: 0.0,
    median_ms: 5.0,
    slow: 0.0,
};

/// One short stage at a weight, which asks for less than 5 % errors.
fn asking(share: &str, change: impl FnOnce(&mut PlanParts)) -> Plan {
    plan(|parts| {
        parts.stages.truncate(2);
        let stage = &mut parts.stages[0];
        stage.weight = weight(share);
        stage.duration = seconds(300);
        stage.checkpoints.clear();
        stage.rollback.clear();
        stage.hold.clear();
        stage.advance = conditions(&["error_rate < 5%"]);
        parts.stages[1].weight = weight("60%");
        change(parts);
    })
}

fn crowded(plan: Plan, rate: f64) -> World {
    let mut world = World::new();
    let mut crowd = Crowd::new(7, 500_000);
    crowd.habits = [TIRED; 2];
    world.sim.crowd = Some(crowd);
    world.sim.rate = rate;
    world.start(plan);
    world
}

fn of(kind: &EventKind) -> Option<Confidence> {
    match kind {
        EventKind::Advanced { confidence, .. }
        | EventKind::Completed { confidence, .. }
        | EventKind::Held { confidence, .. }
        | EventKind::ApprovalAsked { confidence, .. }
        | EventKind::RolledBack { confidence, .. } => confidence.clone(),
        other => panic!("{other:?} is no decision"),
    }
}

fn confidence(world: &World, event: &str) -> Confidence {
    of(&world.last(event).kind).expect("the gate decided it")
}

#[test]
fn a_step_is_as_sure_as_what_its_stage_could_have_seen() {
    let check = |share: &str, rate: f64, wanted: Level| {
        let mut world = crowded(asking(share, |_| ()), rate);
        world.run_until(seconds(500), |world| world.count("advanced") == 1);
        let found = confidence(&world, "advanced");
        assert_eq!(found.level, wanted, "{share} of {rate}/s: {found:?}");
        let sensitivity = found.sensitivity.expect("both arms have requests");
        assert!((sensitivity.base_rate - 0.01).abs() < 0.005, "{found:?}");
        let status = world.gate.status(world.sim.now);
        assert_eq!(status.confidence, Some(found), "the status shows the last");
    };
    // 30,000 requests of canary; 3,000; and 120.
    check("50%", 200.0, Level::High);
    check("5%", 200.0, Level::Medium);
    check("1%", 40.0, Level::Low);
}

#[test]
fn an_interval_that_holds_the_limit_is_no_high_confidence() {
    let strict = |parts: &mut PlanParts| {
        parts.stages[0].advance = conditions(&["error_rate < 1.1%"]);
    };
    let mut world = crowded(asking("50%", strict), 200.0);
    world.run_until(seconds(900), |world| world.count("advanced") == 1);
    let found = confidence(&world, "advanced");
    assert_eq!(found.level, Level::Medium, "{found:?}");
    assert!(
        found.why.iter().any(|why| why.contains("holds its limit")),
        "{found:?}"
    );
}

#[test]
fn people_are_shown_how_sure_it_is() {
    let asked = |parts: &mut PlanParts| {
        let role = serin::rollout::name::RoleName::parse("engineering").expect("a name");
        parts.stages[0].on_success = OnSuccess::Approve(vec![role]);
    };
    let mut world = crowded(asking("50%", asked), 200.0);
    world.run_until(seconds(500), |world| {
        world.phase() == Phase::AwaitingApproval
    });
    assert_eq!(confidence(&world, "approval_asked").level, Level::High);
}

#[test]
fn a_criterion_missed_by_chance_extends_the_stage_and_then_holds_with_little_confidence() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].advance = conditions(&["error_rate < 1%"]);
        parts.stages[0].rollback.clear();
        parts.stages[0].max_extension = seconds(120);
    }));
    // 1.2 % of 6,000 and of 7,200 requests leaves 1 % possible.
    world.sim.canary().failing = 0.012;
    world.run_until(seconds(800), |world| world.phase() == Phase::Held);
    assert_eq!(
        (world.count("extended"), world.causes()),
        (1, vec!["criteria"]),
        "{}",
        world.story()
    );
    let reason = &world.last("held").reason;
    assert!(reason.contains("it may be anything from"), "{reason}");
    let found = confidence(&world, "held");
    assert_eq!(found.level, Level::Low, "{found:?}");
}

#[test]
fn a_way_back_is_as_sure_as_what_it_rests_on() {
    let mut world = World::running(plan(|parts| {
        parts.stages[0].rollback = conditions(&["error_rate > 1.5% for 2m"]);
    }));
    world.run(seconds(100));
    world.sim.canary().failing = 0.2;
    world.run_until(seconds(300), |world| world.phase() == Phase::RolledBack);
    assert_eq!(confidence(&world, "rolled_back").level, Level::High);

    // 2.6 % of 600 requests a minute: more than chance allows, and 1.5 % is possible all the same.
    let mut world = World::running(plan(|parts| {
        parts.stages[0].advance.clear();
        parts.stages[0].rollback = conditions(&["error_rate > 1.5% for 2m"]);
    }));
    world.run(seconds(100));
    world.sim.canary().failing = 0.026;
    world.run_until(seconds(500), |world| world.phase() != Phase::Running);
    if world.phase() == Phase::RolledBack {
        let found = confidence(&world, "rolled_back");
        assert_eq!(found.level, Level::Medium, "{found:?}");
    } else {
        panic!("{}", world.story());
    }

    let mut world = World::running(plan(|_| ()));
    world.run(seconds(100));
    world.order(serin::rollout::gate::Action::Rollback);
    assert_eq!(
        of(&world.last("rolled_back").kind),
        None,
        "a person decided"
    );
}
