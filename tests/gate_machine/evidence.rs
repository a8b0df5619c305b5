//! Evidence in the gate: what it finds, what it does not take for a fault, and that it outlives its process.
//! Every crowd is drawn from a seed that a failure prints.

use std::time::Duration;

use serin::records::state;
use serin::rollout::gate::{Action, EventKind, EvidenceStatus, Gate, Input, Phase, RollbackCause};
use serin::rollout::plan::{Mode, Plan, PlanParts};

use crate::crowd::{Crowd, HEALTHY, Habit};
use crate::random::Dice;
use crate::sim::{World, conditions, plan, seconds, weight};

pub(crate) const REGRESSED: Habit = Habit {
    failing: 0.015,
    ..HEALTHY
};

/// One stage at this weight, long enough for anything, guarded by these triggers.
pub(crate) fn guarded_by(
    triggers: &[&str],
    share: &str,
    change: impl FnOnce(&mut PlanParts),
) -> Plan {
    plan(|parts| {
        parts.stages.truncate(1);
        let stage = &mut parts.stages[0];
        stage.weight = weight(share);
        stage.duration = seconds(86_400);
        stage.checkpoints = Vec::new();
        stage.hold = Vec::new();
        stage.rollback = conditions(triggers);
        change(parts);
    })
}

pub(crate) fn crowded(plan: Plan, seed: u64, learners: u64) -> World {
    let mut world = World::new();
    world.sim.crowd = Some(Crowd::new(seed, learners));
    world.start(plan);
    world.run(seconds(1));
    world
}

pub(crate) fn crowd(world: &mut World) -> &mut Crowd {
    world.sim.crowd.as_mut().expect("there are learners")
}

pub(crate) fn evidence(world: &World) -> EvidenceStatus {
    let status = world.gate.status(world.sim.now);
    status.evidence.expect("a run has evidence")
}

fn cause(world: &World) -> String {
    match &world.last("rolled_back").kind {
        EventKind::RolledBack { cause, .. } => match cause {
            RollbackCause::Trigger(condition) => condition.clone(),
            other => format!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Canary requests from a change for the worse to the rollback, the middle of some seeds.
fn median_to_find(triggers: &[&str], healthy_for: Duration, sick: Habit, wanted: &str) -> u64 {
    let mut needed: Vec<u64> = (1..=7)
        .map(|seed| {
            let mut world = crowded(guarded_by(triggers, "1%", |_| ()), seed, 500_000);
            world.run(healthy_for);
            *crowd(&mut world).canary() = sick;
            let before = crowd(&mut world).on_canary;
            world.run_until(seconds(600), |world| world.phase() == Phase::RolledBack);
            assert_eq!(cause(&world), wanted, "seed {seed}");
            crowd(&mut world).on_canary - before
        })
        .collect();
    needed.sort_unstable();
    eprintln!("{wanted} after {healthy_for:?}: {needed:?} canary requests");
    needed[needed.len() / 2]
}

#[test]
fn a_regression_of_errors_is_found_in_the_requests_that_the_definition_says() {
    let any = ["regression(any)"];
    // 60 s of them are the warm-up. By arithmetic ln E grows by 0.02 a request here; it has to reach ln(100 / 0.3), and has
    // staked 1/2 of its wealth on a regression from the first second, and 1/3700 on one from the 60th.
    let soon = median_to_find(&any, seconds(60), REGRESSED, "regression(any)");
    assert!(soon <= 450, "{soon} requests from the start");
    let later = median_to_find(&any, seconds(120), REGRESSED, "regression(any)");
    assert!(later <= 900, "{later} requests from 60 s on");
}

#[test]
fn a_regression_that_begins_late_is_found_as_well() {
    let late = median_to_find(
        &["regression(errors)"],
        seconds(600),
        REGRESSED,
        "regression(errors)",
    );
    assert!(late <= 1100, "{late} requests after 10 minutes");
}

#[test]
fn slow_answers_and_refusals_are_regressions_too() {
    let slow = Habit {
        median_ms: 25.0,
        ..HEALTHY
    };
    let latency = median_to_find(
        &["regression(latency)"],
        seconds(90),
        slow,
        "regression(latency)",
    );
    assert!(latency <= 300, "{latency} requests five times as slow");
    let refusing = Habit {
        refusing: 0.2,
        ..HEALTHY
    };
    let refused = median_to_find(
        &["regression(client_errors)"],
        seconds(90),
        refusing,
        "regression(client_errors)",
    );
    assert!(
        refused <= 300,
        "{refused} requests of which a fifth is refused"
    );
}

#[test]
fn a_limit_that_canary_alone_breaks_is_evidence_by_itself() {
    // Baseline fails as often as the margin lets pass, so only the limit tells.
    let mut world = crowded(
        guarded_by(
            &["error_rate > 3% for 12h", "regression(any)"],
            "50%",
            |_| (),
        ),
        5,
        500_000,
    );
    crowd(&mut world).habits[0].failing = 0.029;
    crowd(&mut world).canary().failing = 0.05;
    world.run_until(seconds(1800), |world| world.phase() == Phase::RolledBack);
    let strongest = evidence(&world)
        .processes
        .into_iter()
        .max_by(|a, b| a.ln_weighted().total_cmp(&b.ln_weighted()))
        .map(|process| serin::rollout::gate::process_name(process.part));
    assert_eq!(strongest, Some("absolute"));
}

#[test]
fn a_canary_that_stalls_for_a_moment_is_not_rolled_back_and_one_that_goes_on_is() {
    // Early, when a second weighs most, and once in the middle of two.
    for (healthy_for, ticks) in [(4 * 120, 4), (4 * 120 + 2, 4), (4 * 300, 3)] {
        let mut world = crowded(guarded_by(&["regression(any)"], "10%", |_| ()), 41, 20_000);
        for _ in 0..healthy_for {
            world.tick();
        }
        crowd(&mut world).canary().slow = 1.0;
        for _ in 0..ticks {
            world.tick();
        }
        crowd(&mut world).canary().slow = 0.01;
        world.run(seconds(3));
        let said = evidence(&world).ln_weighted;
        assert!(said > 100_f64.ln(), "{said} would be no alarm anyway");
        world.run(seconds(600));
        assert_eq!(world.phase(), Phase::Running, "{}", world.story());
        crowd(&mut world).canary().slow = 0.3;
        world.run_until(seconds(60), |world| world.phase() == Phase::RolledBack);
    }
}

#[test]
fn one_bot_that_always_fails_on_canary_never_rolls_back() {
    for seed in 1..=3 {
        let mut world = crowded(
            guarded_by(&["regression(any)"], "1%", |_| ()),
            seed,
            500_000,
        );
        crowd(&mut world).bot = 2;
        world.run(seconds(1200));
        assert_eq!(
            world.phase(),
            Phase::Running,
            "seed {seed}\n{}",
            world.story()
        );
        // By request it looks like a broken canary, and is shown so.
        let shown = evidence(&world);
        assert!(shown.ln_weighted_by_request > shown.ln_limit, "seed {seed}");
        assert!(
            !shown.alarm && shown.ln_weighted < 1.0,
            "seed {seed}: {shown:?}"
        );
    }
    // A threshold that he alone breaks holds.
    let mut world = crowded(
        guarded_by(&["error_rate > 5% for 30s"], "1%", |_| ()),
        4,
        500_000,
    );
    crowd(&mut world).bot = 2;
    world.run(seconds(600));
    assert_eq!(
        (world.phase(), world.causes()),
        (Phase::Held, vec!["alarm"])
    );
}

#[test]
fn an_outage_that_both_pools_share_is_no_evidence() {
    for seed in 1..=2 {
        let triggers = ["regression(any)", "error_rate > 1.5% for 30m"];
        let mut world = crowded(guarded_by(&triggers, "10%", |_| ()), seed, 500_000);
        world.run(seconds(200));
        for (failing, span) in [(0.06, 300), (0.001, 300)] {
            for habit in &mut crowd(&mut world).habits {
                habit.failing = failing;
            }
            world.run(seconds(span));
        }
        assert_eq!(
            world.phase(),
            Phase::Running,
            "seed {seed}\n{}",
            world.story()
        );
        assert!(!evidence(&world).alarm);
    }
}

#[test]
fn learners_who_always_fail_may_be_moved_by_growing_weights() {
    for seed in 1..=2 {
        let mut world = crowded(
            plan(|parts| {
                let stage = parts.stages[0].clone();
                parts.stages = [("a", "1%"), ("b", "5%"), ("c", "25%"), ("d", "50%")]
                    .map(|(name, share)| {
                        let mut stage = stage.clone();
                        stage.name = serin::rollout::name::StageName::parse(name).expect(name);
                        stage.weight = weight(share);
                        stage.duration = seconds(240);
                        stage.checkpoints = Vec::new();
                        stage.advance = Vec::new();
                        stage.hold = Vec::new();
                        stage.rollback = conditions(&["regression(any)"]);
                        stage
                    })
                    .to_vec();
            }),
            seed,
            20_000,
        );
        crowd(&mut world).always_failing = 200;
        world.run_until(seconds(1500), |world| world.phase() != Phase::Running);
        assert_eq!(
            world.phase(),
            Phase::Complete,
            "seed {seed}\n{}",
            world.story()
        );
    }
}

#[test]
fn after_hours_of_failures_here_and_there_a_late_regression_is_still_seen() {
    let mut world = crowded(
        guarded_by(&["regression(errors)"], "10%", |_| ()),
        11,
        20_000,
    );
    world.sim.rate = 200.0;
    for habit in &mut crowd(&mut world).habits {
        habit.failing = 0.01;
    }
    // Each learner fails every 100 requests: without epochs, nobody would be left to fail for the first time.
    world.run(seconds(3 * 3600));
    assert_eq!(world.phase(), Phase::Running, "{}", world.story());
    crowd(&mut world).canary().failing = 0.1;
    let took = world.run_until(seconds(600), |world| world.phase() == Phase::RolledBack);
    assert!(took <= seconds(120), "{took:?}");
}

#[test]
fn a_restart_at_any_moment_leaves_every_bit_as_it_was() {
    let triggers = [
        "regression(any)",
        "error_rate > 1.5% for 10m",
        "p99 > 250ms for 5m",
    ];
    let lived = |restarts: Option<u64>| {
        let mut world = crowded(guarded_by(&triggers, "10%", |_| ()), 21, 3_000);
        crowd(&mut world).always_failing = 300;
        let mut dice = Dice(restarts.unwrap_or(0));
        let mut largest = 0;
        for tick in 0..4 * 900 {
            if tick == 4 * 700 {
                crowd(&mut world).canary().failing = 0.004;
            }
            world.tick();
            if restarts.is_some() && dice.below(40) == 0 {
                let saved = state::encode(&world.gate.snapshot(world.sim.now));
                largest = saved.counts.len().max(largest);
                let saved = state::decode(&saved.json, &saved.counts).expect("what was saved");
                let (gate, effects) = Gate::restore(saved, Vec::new(), world.sim.now);
                world.gate = gate;
                if let Some(id) = world.sim.carry_out(effects) {
                    world.handle(Input::Stored(id));
                }
            }
        }
        assert!(largest < 80_000, "{largest} bytes of counts");
        world
    };
    let unbroken = lived(None);
    for seed in 1..=2 {
        let broken = lived(Some(seed));
        assert!(broken.count("restarted") > 30, "seed {seed}");
        let saved = |world: &World| {
            world
                .gate
                .snapshot(world.sim.now)
                .run
                .map(|run| run.evidence)
        };
        assert_eq!(saved(&broken), saved(&unbroken), "seed {seed}");
        let bits = |world: &World| evidence(world).ln_weighted.to_bits();
        assert_eq!(bits(&broken), bits(&unbroken), "seed {seed}");
    }
    assert!(evidence(&unbroken).blocks > 800);
}

#[test]
fn who_goes_on_over_an_alarm_spends_alpha_again() {
    let plan = guarded_by(&[], "10%", |parts| {
        parts.stages[0].hold = conditions(&["regression(any)"]);
    });
    let mut world = crowded(plan, 31, 500_000);
    crowd(&mut world).canary().failing = 0.05;
    world.run_until(seconds(300), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["condition"]);
    crowd(&mut world).canary().failing = 0.001;
    let before = evidence(&world);
    assert!(before.alarm && before.restarts == 0);
    world.order(Action::Resume);
    let after = evidence(&world);
    assert_eq!((after.alarm, after.restarts, after.blocks), (false, 1, 0));
    let EventKind::AlarmNoted { why, .. } = &world.last("alarm_noted").kind else {
        unreachable!()
    };
    assert!(
        why.contains("restarted by ops: alpha is spent again"),
        "{why}"
    );
    // Nothing to spend again: evidence goes on.
    world.run(seconds(20));
    world.order(Action::Pause);
    world.order(Action::Resume);
    let gone_on = evidence(&world);
    assert_eq!(gone_on.restarts, 1);
    assert!(gone_on.blocks >= 18, "{gone_on:?}");
}

#[test]
fn another_canary_begins_with_no_evidence_against_it() {
    let mut world = crowded(guarded_by(&["regression(any)"], "10%", |_| ()), 41, 500_000);
    world.run(seconds(100));
    assert!(evidence(&world).blocks > 30);
    world.order(Action::CanaryReplaced {
        what: "v3".to_owned(),
        version: Some("v3".to_owned()),
    });
    assert_eq!(evidence(&world).blocks, 0);
    world.run(seconds(59));
    assert_eq!(evidence(&world).blocks, 0, "the warm-up is no evidence");
    world.run(seconds(12));
    assert!(evidence(&world).blocks >= 8);
}

#[test]
fn in_an_a_a_run_an_alarm_is_a_fault_of_the_measurement() {
    let triggers = ["regression(any)", "error_rate > 1.5% for 30s"];
    let plan = guarded_by(&triggers, "10%", |parts| parts.gate.mode = Mode::Aa);
    let mut world = crowded(plan, 51, 500_000);
    crowd(&mut world).canary().failing = 0.2;
    world.run(seconds(300));
    assert_eq!(world.phase(), Phase::Running, "{}", world.story());
    assert_eq!(world.count("alarm_noted"), 2);
    let EventKind::AlarmNoted { why, .. } = &world.last("alarm_noted").kind else {
        unreachable!()
    };
    assert!(why.starts_with("fault of the measurement: "), "{why}");
}

#[test]
fn where_nobody_is_identified_evidence_by_request_holds_and_never_rolls_back() {
    let mut world = crowded(guarded_by(&["regression(any)"], "10%", |_| ()), 61, 500_000);
    crowd(&mut world).identified = false;
    world.run(seconds(90));
    assert_eq!(world.phase(), Phase::Running);
    crowd(&mut world).canary().failing = 0.3;
    world.run(seconds(60));
    assert_eq!(
        (world.phase(), world.causes()),
        (Phase::Held, vec!["alarm"])
    );
    assert!(evidence(&world).by_request_alone);
    assert_eq!(world.count("rolled_back"), 0);
}

#[test]
fn a_threshold_rolls_back_only_when_its_breach_is_no_chance() {
    let trigger = ["error_rate > 1.5% for 2m"];
    let thin = |seed: u64, failing: f64, span: Duration| {
        let mut world = crowded(
            guarded_by(&trigger, "50%", |parts| parts.stages[0].min_requests = 1),
            seed,
            500_000,
        );
        // 50 requests a minute on each arm.
        world.sim.rate = 100.0 / 60.0;
        for habit in &mut crowd(&mut world).habits {
            habit.failing = 0.0;
        }
        crowd(&mut world).canary().failing = failing;
        let end = world.sim.now.mono.after(span);
        while world.sim.now.mono < end && world.phase() != Phase::RolledBack {
            world.tick();
            if world.phase() == Phase::Held {
                world.order(Action::Resume);
            }
        }
        world.phase()
    };
    let rolled_back = |failing: f64, seeds: u64, span: Duration| {
        (1..=seeds)
            .filter(|&seed| thin(seed, failing, span) == Phase::RolledBack)
            .count()
    };
    assert_eq!(rolled_back(0.005, 12, seconds(7200)), 0, "healthy at 0.5 %");
    let found = rolled_back(0.08, 6, seconds(1800));
    assert_eq!(found, 6, "8 % are found");
}
