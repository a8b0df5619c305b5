//! Figures from outside: no data is never a pass, and ends by itself; business figures are judged by their interval.

use std::time::Duration;

use serin::records::state::{decode, encode};
use serin::rollout::gate::{Gate, Heard, Input, Phase};
use serin::rollout::name::{Arm, SignalName};
use serin::rollout::outcome::{Asked, Credited, Uncredited};
use serin::rollout::plan::Plan;
use serin::rollout::signal::{ArmsRead, Observation, Said, SeriesKey, SignalKind, SignalSpec};
use serin::rollout::time::Timestamp;
use serin::rollout::verdict::Verdict;

use crate::sim::{World, conditions, plan, seconds, span, weight};

const INTERVAL: Duration = Duration::from_secs(15);

fn name(text: &str) -> SignalName {
    SignalName::parse(text).expect(text)
}

fn spec(text: &str, kind: SignalKind) -> SignalSpec {
    SignalSpec {
        name: name(text),
        kind,
        unproven_passes: false,
    }
}

/// One stage of ten minutes with a signal `memory`, and these criteria and triggers.
fn memory_plan(advance: &[&str], rollback: &[&str]) -> Plan {
    plan(|parts| {
        let kind = SignalKind::Read {
            interval: INTERVAL,
            arms: ArmsRead::Both,
        };
        parts.signals = vec![spec("memory", kind)];
        parts.stages.truncate(2);
        parts.stages[0].advance = conditions(advance);
        parts.stages[0].rollback = conditions(rollback);
    })
}

fn say(world: &mut World, arm: Arm, said: Said) {
    let observation = Observation {
        of: SeriesKey {
            name: name("memory"),
            arm,
            segment: None,
        },
        at: world.sim.now.mono,
        interval: INTERVAL,
        said,
    };
    let heard = Heard {
        signals: vec![observation],
        outcomes: Vec::new(),
    };
    world.handle(Input::Heard(Box::new(heard)));
}

/// Runs on, with both arms' memory read every interval.
fn run_reading(world: &mut World, for_so_long: Duration, canary: f64, baseline: f64) {
    let until = world.sim.now.mono.after(for_so_long);
    while world.sim.now.mono < until {
        for (arm, value) in [(Arm::Canary, canary), (Arm::Baseline, baseline)] {
            say(world, arm, Said::Value { value, count: 1 });
        }
        world.run(INTERVAL);
    }
}

fn verdicts(world: &World) -> Vec<(String, Verdict, String)> {
    let evaluations = world.gate.status(world.sim.now).evaluations;
    let shown = evaluations
        .into_iter()
        .map(|one| (one.condition.to_string(), one.verdict, one.note));
    shown.collect()
}

#[test]
fn a_source_that_stops_extends_holds_and_goes_on_by_itself() {
    let mut world = World::running(memory_plan(&["memory < 1GiB"], &[]));
    run_reading(&mut world, seconds(300), 5e8, 5e8);
    // Its last word is a failure; then nothing.
    say(
        &mut world,
        Arm::Canary,
        Said::Failed("connection refused".to_owned()),
    );
    world.run(seconds(400));
    assert_eq!(
        (world.count("extended"), world.phase()),
        (1, Phase::Running),
        "{}",
        world.story()
    );
    world.run_until(seconds(700), |world| world.phase() == Phase::Held);
    assert_eq!(world.causes(), ["no_data"]);
    let why = &world.gate.status(world.sim.now).causes[0].why;
    assert!(
        why.contains("memory < 1GiB has no data") && why.contains("connection refused"),
        "{why}"
    );
    world.run(span("2h"));
    assert_eq!(
        (world.phase(), world.weight(), world.count("advanced")),
        (Phase::Held, weight("1%"), 0)
    );
    // Back again: gone for a minute, then on.
    run_reading(&mut world, seconds(45), 5e8, 5e8);
    assert_eq!(world.phase(), Phase::Held);
    run_reading(&mut world, seconds(45), 5e8, 5e8);
    assert_eq!(
        (world.stage().as_str(), world.weight()),
        ("ramp", weight("10%")),
        "{}",
        world.story()
    );
}

#[test]
fn a_stale_reading_is_no_data_and_never_a_pass() {
    let mut world = World::running(memory_plan(&["memory < 1GiB"], &[]));
    run_reading(&mut world, seconds(500), 5e8, 5e8);
    assert_eq!(verdicts(&world)[0].1, Verdict::Pass);
    world.run(seconds(40));
    let (_, verdict, note) = &verdicts(&world)[0];
    assert_eq!(*verdict, Verdict::NoData);
    assert!(note.contains("more than 3 intervals of 15s"), "{note}");
    world.run(seconds(300));
    assert_eq!((world.count("advanced"), world.count("extended")), (0, 1));
}

#[test]
fn what_is_no_number_is_no_data() {
    let mut world = World::running(memory_plan(&["memory < 1GiB"], &["memory > 1GiB"]));
    run_reading(&mut world, seconds(120), 5e8, 5e8);
    for value in [f64::NAN, f64::INFINITY] {
        say(&mut world, Arm::Canary, Said::Value { value, count: 1 });
        world.tick();
        for (condition, verdict, _) in &verdicts(&world)[..2] {
            assert_eq!(*verdict, Verdict::NoData, "{condition} with {value}");
        }
    }
}

#[test]
fn a_trigger_on_a_signal_rolls_back_after_its_time() {
    let mut world = World::running(memory_plan(&[], &["memory > 2GiB for 2m"]));
    run_reading(&mut world, seconds(120), 1e9, 1e9);
    run_reading(&mut world, seconds(105), 3e9, 1e9);
    assert_eq!(world.phase(), Phase::Running, "{}", world.story());
    run_reading(&mut world, seconds(30), 3e9, 1e9);
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::RolledBack, weight("0%"))
    );
    assert!(world.story().contains("rolled_back"));
}

#[test]
fn a_comparison_of_a_signal_reads_both_arms() {
    let mut world = World::running(memory_plan(
        &["memory{delta} < 10%", "memory{baseline} > 0.9"],
        &[],
    ));
    run_reading(&mut world, seconds(120), 1.2, 1.0);
    let seen = verdicts(&world);
    assert_eq!(
        (seen[0].1, seen[1].1),
        (Verdict::Fail, Verdict::Pass),
        "{seen:?}"
    );
    run_reading(&mut world, seconds(30), 1.05, 1.0);
    assert_eq!(verdicts(&world)[0].1, Verdict::Pass);
}

#[test]
fn readings_of_before_a_step_do_not_judge_the_next_stage() {
    let mut world = World::running(memory_plan(&["memory < 1GiB"], &["memory > 2GiB for 0s"]));
    world.run(seconds(5));
    run_reading(&mut world, seconds(30), 5e8, 5e8);
    world.set_weight("2%");
    world.tick();
    let seen = verdicts(&world);
    let trigger = seen
        .iter()
        .find(|(condition, ..)| condition == "memory > 2GiB")
        .expect("the trigger");
    assert_eq!(trigger.1, Verdict::NoData, "{seen:?}");
}

// === business figures ===

/// One stage that asks for a neutral revenue, with the client's trigger.
fn revenue_plan(unproven_passes: bool) -> Plan {
    plan(|parts| {
        parts.signals = vec![SignalSpec {
            unproven_passes,
            ..spec("revenue_impact", SignalKind::Outcomes)
        }];
        parts.stages.truncate(2);
        parts.stages[0].weight = weight("50%");
        parts.stages[1].weight = weight("100%");
        parts.stages[0].advance = conditions(&["|revenue_impact| < 3%"]);
        parts.stages[0].rollback = conditions(&["revenue_impact < -5% for 10m"]);
    })
}

/// Results of so many learners: 10 each on baseline, on canary changed by a share, and spread by +-`spread`.
fn post(world: &mut World, learners: std::ops::Range<u32>, impact: f64, spread: f64) {
    let mut outcomes = Vec::new();
    for learner in learners {
        let id = format!("learner-{learner}");
        let asked = Asked {
            learner: id.as_bytes(),
            segment: None,
            at: world.sim.now.mono,
        };
        let (arm, hash) = world.gate.credited_arm(&asked).expect("a run is on");
        let sign = if learner % 2 == 0 { 1.0 } else { -1.0 };
        let mean = if arm == Arm::Canary {
            10.0 * (1.0 + impact)
        } else {
            10.0
        };
        outcomes.push(Credited {
            name: name("revenue"),
            arm,
            learner: hash,
            value: mean + sign * spread,
            id: None,
        });
    }
    let heard = Heard {
        signals: Vec::new(),
        outcomes,
    };
    world.handle(Input::Heard(Box::new(heard)));
}

#[test]
fn a_neutral_revenue_passes_when_its_whole_interval_is_inside() {
    let mut world = World::running(revenue_plan(false));
    post(&mut world, 0..100_000, 0.0, 2.0);
    world.run(seconds(700));
    assert_eq!(world.stage(), "ramp", "{:?}", verdicts(&world));
}

#[test]
fn a_revenue_that_straddles_the_limit_is_unproven_and_extends() {
    let world = |unproven_passes: bool| {
        let mut world = World::running(revenue_plan(unproven_passes));
        post(&mut world, 0..4_000, 0.0, 5.0);
        world.run(seconds(700));
        world
    };
    let asks = world(false);
    let seen = verdicts(&asks);
    assert_eq!(
        (seen[0].1, asks.count("extended"), asks.count("advanced")),
        (Verdict::Unproven, 1, 0),
        "{seen:?}"
    );
    let figures = &asks.gate.status(asks.sim.now).outcomes[0];
    let (low, high) = figures.interval.expect("enough results");
    assert!(low < 0.0 && high > 0.0 && high - low > 0.03, "{figures:?}");
    assert_eq!(
        world(true).count("advanced"),
        1,
        "`unproven = \"pass\"` lets it through"
    );
}

#[test]
fn unproven_that_may_pass_is_never_no_data_that_passes() {
    let mut world = World::running(revenue_plan(true));
    post(&mut world, 0..50, 0.0, 1.0);
    world.run(seconds(700));
    let seen = verdicts(&world);
    assert_eq!(
        (seen[0].1, world.count("advanced")),
        (Verdict::NoData, 0),
        "{seen:?}"
    );
    assert!(seen[0].2.contains("of 100 groups of learners"), "{seen:?}");
}

#[test]
fn a_revenue_that_fell_rolls_back_and_one_that_may_have_does_not() {
    let fell = |learners: u32, spread: f64| {
        let mut world = World::running(revenue_plan(false));
        post(&mut world, 0..learners, -0.08, spread);
        world.run(seconds(620));
        world
    };
    let proven = fell(100_000, 2.0);
    assert_eq!(proven.phase(), Phase::RolledBack, "{}", proven.story());
    let unproven = fell(4_000, 8.0);
    assert_eq!(
        (unproven.phase(), unproven.causes()),
        (Phase::Held, vec!["alarm"]),
        "{}",
        unproven.story()
    );
    let why = &unproven.gate.status(unproven.sim.now).causes[0].why;
    assert!(why.contains("holds 0"), "{why}");
}

#[test]
fn a_result_is_credited_by_the_weight_of_its_time() {
    let mut world = World::new();
    let asked = |at: Timestamp, learner: &'static str| Asked {
        learner: learner.as_bytes(),
        segment: None,
        at,
    };
    let before = world.sim.now.mono;
    assert_eq!(
        world.gate.credited_arm(&asked(before, "x")),
        Err(Uncredited::NoRun)
    );
    world.run(seconds(10));
    world.start(revenue_plan(false));
    world.run(seconds(10));
    assert_eq!(
        world.gate.credited_arm(&asked(before, "x")),
        Err(Uncredited::BeforeTheRun)
    );
    let at_half = world.sim.now.mono;
    world.run(seconds(1));
    // Whoever is on canary at 90 % and not at 50 % was on baseline then.
    world.set_weight("90%");
    world.run(seconds(10));
    let at_most = world.sim.now.mono;
    let arm = |at, learner: &str| {
        let asked = Asked {
            learner: learner.as_bytes(),
            segment: None,
            at,
        };
        world.gate.credited_arm(&asked).map(|(arm, _)| arm)
    };
    let moved: Vec<String> = (0..200)
        .map(|n| format!("learner-{n}"))
        .filter(|learner| {
            arm(at_half, learner) == Ok(Arm::Baseline) && arm(at_most, learner) == Ok(Arm::Canary)
        })
        .collect();
    // 40 % of 200, within four standard deviations.
    assert!((52..=108).contains(&moved.len()), "{}", moved.len());
}

#[test]
fn everything_from_outside_survives_a_restart_bit_for_bit() {
    let mut world = World::running(memory_plan(&["memory < 1GiB over 1m"], &[]));
    run_reading(&mut world, seconds(120), 5e8, 0.1 + 0.2);
    say(
        &mut world,
        Arm::Baseline,
        Said::Failed("gone \u{1f514}".to_owned()),
    );
    post(&mut world, 0..3_000, 0.07, 1.0 / 3.0);
    let snapshot = world.gate.snapshot(world.sim.now);
    assert!(!snapshot.signals.0.is_empty() && !snapshot.splits.is_empty());
    let bytes = encode(&snapshot);
    let again = decode(&bytes.json, &bytes.counts).expect("what was written is read");
    assert_eq!(again, snapshot);
    let (gate, _) = Gate::restore(again, Vec::new(), world.sim.now);
    let figures = |gate: &Gate| {
        let status = gate.status(world.sim.now);
        (status.signals, status.outcomes)
    };
    assert_eq!(figures(&gate), figures(&world.gate));
}
