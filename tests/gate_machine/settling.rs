//! The stabilization: thirteen days after the last stage, watched, before a rollout is complete.

use serin::records::state;
use serin::rollout::gate::{Action, EventKind, Gate, Phase};
use serin::rollout::name::StageName;
use serin::rollout::plan::{Level, Plan, PlanParts, Stabilization};

use crate::sim::{World, conditions, plan, seconds, span, stage, weight};

fn level(name: &str, lasts: &str, report: &str) -> Level {
    Level {
        name: StageName::parse(name).expect(name),
        lasts: span(lasts),
        report: span(report),
    }
}

/// One stage of ten minutes, then three days on a clock on which a day is an hour: a close one, and two of routine.
fn settling(change: impl FnOnce(&mut PlanParts)) -> Plan {
    plan(|parts| {
        let mut only = stage("rollout", "100%");
        only.hold.clear();
        only.rollback = conditions(&["error_rate > 2% for 2m"]);
        parts.stages = vec![only];
        parts.gate.speed = 24.0;
        parts.stabilization = Some(Stabilization {
            duration: span("3h"),
            require: conditions(&["error_rate < 0.5%"]),
            hold: conditions(&["error_rate > 0.1% for 20m"]),
            rollback: None,
            levels: vec![level("close", "1h", "15m")],
        });
        change(parts);
    })
}

/// In the stabilization.
fn settled(plan: Plan) -> World {
    let mut world = World::running(plan);
    world.run_until(span("12m"), |world| world.phase() == Phase::Stabilizing);
    world.sim.tick = seconds(1);
    world.sim.rate = 100.0;
    world
}

#[test]
fn a_rollout_is_complete_after_its_days_and_not_before() {
    let mut world = settled(settling(|parts| parts.holdout = weight("1%")));
    assert_eq!(
        (world.weight(), world.stage()),
        (weight("99%"), "stabilization".to_owned())
    );
    assert_eq!(world.count("completed"), 0);
    let took = world.run_until(span("4h"), |world| world.phase() == Phase::Complete);
    assert!((span("3h")..span("3h1m")).contains(&took), "{took:?}");
    assert_eq!(world.weight(), weight("100%"), "the holdout ends with it");

    let levels: Vec<String> = world
        .sim
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::LevelBegan { level, .. } => Some(level.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(levels, ["close", "routine"]);
    // Two of the stage, four of the first day.
    assert_eq!(world.count("checkpoint"), 6);
}

#[test]
fn a_day_that_fails_begins_the_days_anew() {
    let mut world = settled(settling(|parts| {
        let settling = parts.stabilization.as_mut().expect("it has one");
        settling.hold.clear();
    }));
    world.run(span("70m"));
    // 1 % of the second day for 20 of its 60 minutes is below what is required, for 40 above.
    world.sim.canary().failing = 0.01;
    world.run(span("20m"));
    world.sim.canary().failing = 0.0;
    world.run(span("40m"));
    assert_eq!(
        world.count("stabilization_restarted"),
        0,
        "{}",
        world.story()
    );
    world.sim.canary().failing = 0.01;
    world.run(span("40m"));
    world.sim.canary().failing = 0.0;
    world.run(span("15m"));
    assert_eq!(
        world.count("stabilization_restarted"),
        1,
        "{}",
        world.story()
    );
    let EventKind::StabilizationRestarted { after, .. } =
        &world.last("stabilization_restarted").kind
    else {
        panic!("{}", world.story())
    };
    assert!((span("3h")..span("3h1m")).contains(after), "{after:?}");
    assert_eq!(world.phase(), Phase::Stabilizing);
    world.run(span("2h30m"));
    assert_eq!(world.phase(), Phase::Stabilizing, "all three days again");
    world.run_until(span("1h"), |world| world.phase() == Phase::Complete);
}

#[test]
fn more_errors_than_usual_for_long_are_investigated_and_not_rolled_back() {
    let mut world = settled(settling(|_| {}));
    world.run(span("2h"));
    world.sim.canary().failing = 0.01;
    world.run(span("19m"));
    assert_eq!(world.phase(), Phase::Stabilizing);
    world.run(span("3m"));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Held, weight("100%"))
    );
    assert_eq!(world.causes(), ["condition"]);

    world.sim.canary().failing = 0.0;
    let bytes = state::encode(&world.gate.snapshot(world.sim.now));
    let snapshot = state::decode(&bytes.json, &bytes.counts).expect("what was saved is read");
    let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    world.gate = gate;
    world.sim.carry_out(effects);
    world.disk_works();
    world.order(Action::Resume);
    assert_eq!(world.phase(), Phase::Stabilizing);
    world.run_until(span("2h"), |world| world.phase() == Phase::Complete);
}

#[test]
fn a_canary_that_fails_in_the_stabilization_is_rolled_back() {
    let mut world = settled(settling(|_| {}));
    world.run(span("80m"));
    world.sim.canary().failing = 0.05;
    world.run_until(span("5m"), |world| world.phase() == Phase::RolledBack);
    assert_eq!(world.weight(), weight("0%"));
}

#[test]
fn no_data_is_no_good_day() {
    let mut world = settled(settling(|parts| parts.stages[0].min_requests = 10_000));
    world.run(span("61m"));
    world.sim.rate = 0.0;
    // The second day goes on into the third, and then somebody has to know.
    world.run(span("118m"));
    assert_eq!(world.phase(), Phase::Stabilizing);
    world.run(span("3m"));
    assert_eq!(
        (world.phase(), world.causes()),
        (Phase::Held, vec!["no_data"])
    );
    world.sim.rate = 100.0;
    world.run_until(span("2h"), |world| world.phase() == Phase::Complete);
}

/// What each day's event says: its number, how many there are, and the alpha of its evidence.
fn days(world: &World) -> Vec<(u64, u64, f64)> {
    let events = world.sim.events.iter();
    let days = events.filter_map(|event| match event.kind {
        EventKind::DayBegan {
            day, days, alpha, ..
        } => Some((day, days, alpha)),
        _ => None,
    });
    days.collect()
}

#[test]
fn evidence_begins_anew_with_each_day_at_its_part_of_alpha() {
    let mut world = settled(settling(|parts| parts.holdout = weight("1%")));
    world.run(span("10m"));
    let evidence = |world: &World| {
        let status = world.gate.status(world.sim.now);
        status.evidence.expect("a run has evidence")
    };
    let first = evidence(&world);
    assert!((first.alpha - 0.01 / 3.0).abs() < 1e-15, "{first:?}");
    assert!((first.ln_limit - 300_f64.ln()).abs() < 1e-12, "{first:?}");
    world.run(span("1h"));
    let second = evidence(&world);
    let apart = second.began.mono.since(first.began.mono);
    assert!((span("1h")..span("1h1m")).contains(&apart), "{apart:?}");

    // As it is after a restart.
    let bytes = state::encode(&world.gate.snapshot(world.sim.now));
    let snapshot = state::decode(&bytes.json, &bytes.counts).expect("what was saved is read");
    let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    world.gate = gate;
    world.sim.carry_out(effects);
    world.disk_works();
    let again = evidence(&world);
    assert_eq!((again.alpha, again.began), (second.alpha, second.began));

    world.run_until(span("4h"), |world| world.phase() == Phase::Complete);
    let third = 0.01 / 3.0;
    assert_eq!(days(&world), [(1, 3, third), (2, 3, third), (3, 3, third)]);
}
