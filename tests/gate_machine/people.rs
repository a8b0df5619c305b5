//! People and time: approvals, freezes, starts, windows, reminders. None of them ever disarms a trigger.

use std::time::Duration;

use serin::records::state;
use serin::rollout::gate::{Action, EventKind, Gate, Phase, Say, WaitsFor};
use serin::rollout::name::RoleName;
use serin::rollout::plan::{OnSuccess, Plan};
use serin::rollout::schedule::{Days, Daytime, Hours, Zone};
use serin::rollout::time::WallTime;
use serin::rollout::weight::Weight;

use crate::sim::{WALL_MS, World, conditions, plan, seconds, span, weight};

pub(crate) fn role(name: &str) -> RoleName {
    RoleName::parse(name).expect(name)
}

/// Working days, by the clocks of UTC.
pub(crate) fn nine_to(daytime: &str) -> Hours {
    Hours {
        days: Days::parse("mon-fri").expect("days"),
        daytime: Daytime::parse(daytime).expect(daytime),
        zone: Zone::utc(),
    }
}

/// After the simulation's beginning, which is 2025-10-31T14:00:00Z, a Friday.
fn wall(after: Duration) -> WallTime {
    WallTime::from_unix_millis(WALL_MS + after.as_millis() as i64)
}

/// The first stage asks these two.
fn asking() -> Plan {
    plan(|parts| {
        let roles = vec![role("engineering"), role("finance")];
        parts.stages[0].on_success = OnSuccess::Approve(roles);
    })
}

fn local(name: &str) -> Say {
    Say {
        role: Some(role(name)),
        holds: None,
        plan: "ab".to_owned(),
        seen: None,
    }
}

fn token(holds: &[&str]) -> Say {
    Say {
        role: None,
        holds: Some(holds.iter().map(|name| role(name)).collect()),
        ..local("engineering")
    }
}

fn asked(plan: Plan) -> World {
    let mut world = World::running(plan);
    world.run_until(span("12m"), |world| {
        world.phase() == Phase::AwaitingApproval
    });
    world
}

/// Through the saved bytes and back, as another process would.
fn restart(world: &mut World) {
    let bytes = state::encode(&world.gate.snapshot(world.sim.now));
    let snapshot = state::decode(&bytes.json, &bytes.counts).expect("what was saved is read");
    let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    world.gate = gate;
    world.sim.carry_out(effects);
    world.disk_works();
}

// === approvals ===

#[test]
fn a_stage_that_passed_goes_on_when_every_role_has_approved() {
    let mut world = asked(asking());
    assert_eq!(world.weight(), weight("1%"));
    let stage_time = world.gate.status(world.sim.now).stage_time;
    world.run(seconds(60));
    assert_eq!(
        world.gate.status(world.sim.now).stage_time,
        stage_time,
        "the clock stops"
    );

    world.order(Action::Approve(local("engineering")));
    assert_eq!(world.phase(), Phase::AwaitingApproval);
    restart(&mut world);
    world.run(seconds(1));
    assert_eq!(world.phase(), Phase::AwaitingApproval);
    world.order(Action::Approve(local("finance")));
    assert_eq!(
        (world.phase(), world.stage(), world.weight()),
        (Phase::Running, "ramp".to_owned(), weight("10%"))
    );
    assert_eq!(world.count("approval_asked"), 1, "{}", world.story());
    let last = world.last("approved");
    let EventKind::Approved {
        role: given,
        asked,
        plan,
        missing,
        evaluations,
    } = &last.kind
    else {
        panic!("{last:?}")
    };
    assert_eq!((given, plan.as_str()), (&role("finance"), "ab"));
    assert_eq!(*asked, world.last("approval_asked").id);
    assert!(missing.is_empty());
    assert!(
        evaluations.iter().any(|one| one.figure.is_some()),
        "the figures that were seen are recorded"
    );
}

#[test]
fn one_token_counts_for_one_role() {
    let mut world = asked(asking());
    let check = |world: &mut World, say: Say, refusal: &str| {
        world.order(Action::Approve(say));
        let given = world.refusal();
        assert!(given.contains(refusal), "{given} without {refusal:?}");
    };
    check(
        &mut world,
        token(&["engineering", "finance"]),
        "422 say for which role: engineering, finance",
    );
    check(
        &mut world,
        token(&["product"]),
        "422 the token speaks for none of",
    );
    let named = |name, holds: &[&str]| Say {
        role: Some(role(name)),
        ..token(holds)
    };
    check(
        &mut world,
        named("finance", &["engineering"]),
        "422 the token does not speak for finance",
    );
    check(
        &mut world,
        named("product", &["product"]),
        "422 product is not asked for",
    );
    check(
        &mut world,
        Say {
            seen: Some(serin::rollout::gate::EventId(1)),
            ..local("finance")
        },
        "409 cannot approve: the figures of event 1",
    );
    world.order(Action::Approve(named(
        "finance",
        &["engineering", "finance"],
    )));
    assert_eq!(world.refusal(), "");
    check(
        &mut world,
        token(&["engineering", "finance"]),
        "409 cannot approve: ops approved as finance already, and one token counts for one role",
    );
    check(
        &mut world,
        local("finance"),
        "ops approved as finance already",
    );
    assert_eq!(world.phase(), Phase::AwaitingApproval);
}

#[test]
fn a_canary_that_fails_while_approval_is_awaited_is_rolled_back() {
    let mut world = asked(asking());
    world.order(Action::Approve(local("engineering")));
    world.sim.canary().failing = 0.05;
    let took = world.run_until(span("5m"), |world| world.phase() == Phase::RolledBack);
    assert!(took < seconds(180), "{took:?}");
    assert_eq!(world.count("approvals_voided"), 1, "{}", world.story());

    // And by the tripwire within a second.
    let mut world = asked(asking());
    world.sim.rate = 5000.0;
    world.sim.canary().failing = 0.9;
    let took = world.run_until(seconds(10), |world| world.phase() == Phase::RolledBack);
    assert!(took <= seconds(2), "{took:?}");
}

#[test]
fn a_breach_and_too_long_a_time_take_approvals_back() {
    let mut world = asked(asking());
    world.order(Action::Approve(local("engineering")));
    world.sim.canary().failing = 0.02;
    world.run(seconds(59));
    assert_eq!(world.phase(), Phase::AwaitingApproval);
    world.order(Action::Approve(local("finance")));
    assert!(
        world.refusal().contains("is breached for"),
        "{}",
        world.refusal()
    );
    world.sim.canary().failing = 0.0;
    world.run(span("2m"));
    let approval = world.gate.status(world.sim.now).people.approval;
    assert_eq!(approval.expect("asked").missing.len(), 2);

    world.order(Action::Approve(local("engineering")));
    world.sim.tick = seconds(2);
    world.run(span("11h59m"));
    world.order(Action::Approve(local("finance")));
    assert_eq!(world.phase(), Phase::Running, "{}", world.refusal());

    let mut world = asked(asking());
    world.order(Action::Approve(local("engineering")));
    world.sim.tick = seconds(2);
    world.run(span("12h"));
    world.order(Action::Approve(local("finance")));
    assert_eq!(world.phase(), Phase::AwaitingApproval);
    assert_eq!(world.count("approvals_voided"), 1);
}

#[test]
fn what_was_passed_must_still_hold_at_the_moment_of_the_step() {
    // No trigger on client errors here: the criterion alone breaks after the stage has passed.
    let mut world = asked(plan(|parts| {
        parts.stages[0].on_success = OnSuccess::Approve(vec![role("engineering")]);
        parts.stages[0].hold.clear();
        parts.stages[0].advance = conditions(&["client_error_rate < 1% over 1m"]);
    }));
    world.sim.canary().refusing = 0.05;
    world.run(span("2m"));
    assert_eq!(world.phase(), Phase::AwaitingApproval);
    world.order(Action::Approve(local("engineering")));
    assert_eq!((world.phase(), world.weight()), (Phase::Held, weight("1%")));
    assert_eq!(world.causes(), ["criteria"]);
}

#[test]
fn who_rejects_holds_and_everybody_is_asked_again() {
    let mut world = asked(asking());
    world.order(Action::Approve(local("engineering")));
    world.order(Action::Reject(token(&["finance"])));
    assert_eq!((world.phase(), world.weight()), (Phase::Held, weight("1%")));
    assert_eq!(world.causes(), ["rejected"]);
    assert_eq!(world.last("held").reason, "rejected for finance: tested");
    world.order(Action::Resume);
    world.run_until(span("5m"), |world| world.phase() == Phase::AwaitingApproval);
    let approval = world.gate.status(world.sim.now).people.approval;
    assert_eq!(approval.expect("asked").missing.len(), 2);

    // Past them only by force and with a reason.
    world.order(Action::Advance);
    assert!(
        world
            .refusal()
            .contains("the approval of engineering is missing"),
        "{}",
        world.refusal()
    );
    world.command(Action::Advance, "release day", true);
    assert_eq!(world.stage(), "ramp");
}

// === freeze ===

fn freeze(until: Option<WallTime>) -> Action {
    Action::Freeze { until }
}

#[test]
fn nothing_advances_in_a_freeze_and_a_rollback_does() {
    let mut world = World::running(plan(|_| {}));
    world.run(span("5m"));
    world.order(freeze(None));
    let stood = world.gate.status(world.sim.now).stage_time;
    world.run(span("30m"));
    restart(&mut world);
    world.run(span("30m"));
    let status = world.gate.status(world.sim.now);
    assert_eq!(
        (status.phase, status.stage_time, world.weight()),
        (Phase::Running, stood, weight("1%"))
    );
    for (action, word) in [
        (
            Action::Advance,
            "cannot advance: the rollout is frozen by ops (tested)",
        ),
        (
            Action::SetWeight {
                weight: weight("5%"),
                guarded: true,
                holdout: Weight::ZERO,
            },
            "cannot set a weight above 0: the rollout is frozen",
        ),
    ] {
        world.command(action, "tested", true);
        assert!(world.refusal().contains(word), "{}", world.refusal());
    }
    world.sim.canary().failing = 0.05;
    world.run_until(span("5m"), |world| world.phase() == Phase::RolledBack);
    world.command(
        Action::Start {
            plan: Box::new(plan(|_| {})),
            baseline_endpoints: 20,
        },
        "tested",
        true,
    );
    assert!(world.refusal().contains("frozen"), "{}", world.refusal());
    world.order(Action::Unfreeze);
    world.order(Action::Unfreeze);
    assert!(world.refusal().contains("nothing is frozen"));
}

#[test]
fn a_freeze_at_a_stages_end_waits_and_ends_by_itself() {
    let mut world = asked(asking());
    world.order(freeze(Some(wall(span("1h")))));
    world.order(Action::Approve(local("engineering")));
    world.order(Action::Approve(local("finance")));
    let status = world.gate.status(world.sim.now);
    assert_eq!(
        (status.phase, status.people.waits_for.as_slice()),
        (Phase::Waiting, [WaitsFor::Freeze].as_slice())
    );
    restart(&mut world);
    world.run_until(span("1h"), |world| world.phase() == Phase::Running);
    let advanced = world.last("advanced").at.wall;
    assert_eq!(advanced, wall(span("1h")), "at the tick that ends it");
    assert_eq!(world.last("unfrozen").by, "gate");

    world.command(freeze(Some(wall(span("1h")))), "too late", false);
    assert_eq!(world.refusal(), "422 `until` is past");
    world.command(freeze(None), " ", false);
    assert_eq!(world.refusal(), "422 a freeze needs a reason");
}

#[test]
fn a_canary_that_fails_while_the_rollout_waits_is_rolled_back() {
    let mut world = asked(asking());
    world.order(freeze(None));
    world.order(Action::Approve(local("engineering")));
    world.order(Action::Approve(local("finance")));
    assert_eq!(world.phase(), Phase::Waiting);
    world.sim.canary().failing = 0.05;
    world.run_until(span("3m"), |world| world.phase() == Phase::RolledBack);
    assert_eq!(world.weight(), weight("0%"));
}

// === the calendar ===

/// The client's: the first stage on Nov 1 14:00 UTC, the second at 18:30.
fn on_november_first() -> Plan {
    plan(|parts| {
        parts.stages[0].schedule.start_at = Some(wall(span("24h")));
        parts.stages[1].schedule.start_at = Some(wall(span("28h30m")));
    })
}

#[test]
fn a_start_that_has_come_waits_for_baseline() {
    let mut world = World::new();
    world.start(on_november_first());
    world.sim.tick = seconds(1);
    world.sim.pools[0].usable = 9;
    world.run(span("24h1m"));
    assert_eq!(
        (world.phase(), world.causes(), world.weight()),
        (Phase::Held, vec!["no_baseline"], weight("0%"))
    );
    assert_eq!(world.count("started"), 1);
    world.sim.pools[0].usable = 20;
    world.run(seconds(65));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    assert_eq!(world.count("started"), 1);
}

#[test]
fn stages_start_at_their_times() {
    let mut world = World::new();
    world.start(on_november_first());
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Scheduled, weight("0%"))
    );
    assert_eq!(world.kinds(), ["scheduled"]);
    world.sim.tick = seconds(1);
    world.run(span("12h"));
    restart(&mut world);
    world.run(span("11h59m59s"));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Scheduled, weight("0%"))
    );
    world.tick();
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
    let started = world.last("started");
    assert_eq!(
        (started.at.wall, started.by.as_str()),
        (wall(span("24h")), "gate")
    );

    world.run(span("15m"));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Waiting, weight("1%"))
    );
    world.run_until(span("5h"), |world| world.weight() == weight("10%"));
    assert_eq!(world.last("advanced").at.wall, wall(span("28h30m")));
    assert_eq!(world.count("waits"), 1);
}

#[test]
fn a_start_that_was_missed_awaits_a_person() {
    let late = |by: Duration| {
        let mut world = World::new();
        world.start(on_november_first());
        world.tick();
        world.sim.pass(span("24h") - world.sim.tick + by);
        world.tick();
        world
    };
    assert_eq!(late(span("15m") - seconds(1)).phase(), Phase::Running);
    let mut world = late(span("15m1s"));
    assert_eq!(world.phase(), Phase::Scheduled);
    assert!(world.outlook().contains("a person"), "{}", world.outlook());
    world.run(seconds(5));
    assert_eq!((world.phase(), world.count("waits")), (Phase::Scheduled, 1));
    world.order(Action::Advance);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );

    // Before its time only by force.
    let mut world = World::new();
    world.start(on_november_first());
    world.order(Action::Advance);
    assert!(
        world.refusal().contains("start of the stage"),
        "{}",
        world.refusal()
    );
    world.command(Action::Advance, "now", true);
    assert_eq!(world.phase(), Phase::Running);
}

#[test]
fn a_scheduled_run_can_be_given_up() {
    let check = |action: Action, phase: Phase| {
        let mut world = World::new();
        world.start(on_november_first());
        world.order(action);
        world.tick();
        assert_eq!(world.phase(), phase, "{}", world.refusal());
        assert!(world.gate.status(world.sim.now).ended.is_some());
    };
    let set = |share: &str| Action::SetWeight {
        weight: weight(share),
        guarded: true,
        holdout: Weight::ZERO,
    };
    check(Action::Abort, Phase::Aborted);
    check(Action::Rollback, Phase::RolledBack);
    check(set("0%"), Phase::RolledBack);
    check(set("2%"), Phase::Manual);
}

#[test]
fn a_stage_is_left_in_its_window() {
    // Friday 14:00; the window closes at 14:05 and opens on Monday at 9:00.
    let mut world = World::running(plan(|parts| {
        parts.stages[0].schedule.window = Some(nine_to("09:00-14:05"));
    }));
    world.run(span("12m"));
    let status = world.gate.status(world.sim.now);
    assert_eq!(
        (status.phase, status.people.waits_for.as_slice()),
        (Phase::Waiting, [WaitsFor::Window].as_slice())
    );
    assert!(
        status.outlook.contains("mon-fri 09:00-14:05 UTC"),
        "{}",
        status.outlook
    );
    world.sim.tick = seconds(2);
    world.run_until(span("3d"), |world| world.phase() == Phase::Running);
    // Monday 2025-11-03T09:00:00Z is 67 hours after Friday 14:00.
    let late = world.last("advanced").at.wall.as_unix_millis() - wall(span("67h")).as_unix_millis();
    assert!((0..2_000).contains(&late), "{late} ms");
}

// === reminders ===

#[test]
fn what_waits_for_a_person_is_told_every_half_hour_until_somebody_acts() {
    let mut world = asked(asking());
    let since = world.sim.now;
    world.sim.tick = seconds(1);
    world.run(span("29m59s"));
    assert_eq!(world.count("reminded"), 0);
    world.run(span("1h"));
    assert_eq!(world.count("reminded"), 2);
    let EventKind::Reminded { since: told, times } = world.last("reminded").kind else {
        panic!("{}", world.story())
    };
    assert_eq!((told.mono, times), (since.mono, 2));
    restart(&mut world);
    world.order(Action::Approve(local("engineering")));
    world.run(span("29m"));
    assert_eq!(world.count("reminded"), 2, "somebody acted");
    world.run(span("2m"));
    assert_eq!(world.count("reminded"), 3);

    let mut world = World::running(plan(|_| {}));
    world.order(Action::Hold);
    world.sim.tick = seconds(1);
    world.run(span("31m"));
    assert_eq!(world.count("reminded"), 1);
    world.order(Action::Pause);
    world.order(Action::Resume);
    world.run(span("1m"));
    assert_eq!(world.gate.snapshot(world.sim.now).reminder, None);
}
