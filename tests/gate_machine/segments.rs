//! Segments: ceilings by hand, triggers that lower one segment alone, and criteria judged for each.

use std::sync::Arc;

use serin::rollout::gate::{Action, Effect, EventKind, Gate, Input, Phase, RollbackCause};
use serin::rollout::name::Arm;
use serin::rollout::slot::Slot;
use serin::rollout::verdict::{Evaluation, Verdict};
use serin::rollout::weight::Weight;

use crate::sim::{Disk, World, conditions, plan, seconds, span, weight};

const FOUR: [&str; 4] = ["asia", "eu", "latam", "us"];

fn ceiling(world: &mut World, segment: &str, share: &str) -> Vec<Effect> {
    world.order(Action::SetCeiling {
        segment: Arc::from(segment),
        ceiling: weight(share),
    })
}

fn lift(world: &mut World, segment: &str) -> Vec<Effect> {
    world.order(Action::LiftCeiling {
        segment: Arc::from(segment),
    })
}

fn in_force(world: &World, segment: &str) -> Option<Weight> {
    world.gate.split().ceilings.get(segment).copied()
}

/// A run at 10 % with four segments and these triggers alone, past its warm-up.
fn guarded_by(triggers: &[&str]) -> World {
    let mut world = World::new();
    world.sim.tell_apart(&FOUR);
    world.start(plan(|parts| {
        parts.stages.remove(0);
        parts.stages[0].rollback = conditions(triggers);
        parts.gate.tripwire = None;
    }));
    world.run(seconds(121));
    world
}

fn evaluation(world: &World, condition: &str) -> Evaluation {
    let status = world.gate.status(world.sim.now);
    let mut found = status.evaluations.into_iter();
    found
        .find(|evaluation| evaluation.condition.to_string() == condition)
        .unwrap_or_else(|| panic!("no {condition}"))
}

#[test]
fn a_segment_that_alone_regresses_is_lowered_and_the_rest_completes() {
    // The trigger on everybody is true at the same moment: 8 % of a quarter is 2 %.
    let mut world = guarded_by(&[
        "error_rate > 1.5% for 30s over 10s",
        "error_rate > 5% for 30s over 10s per segment",
    ]);
    world.sim.canary_of("eu").failing = 0.08;
    world.run_until(seconds(60), |world| world.count("segment_lowered") == 1);
    let EventKind::SegmentLowered {
        segment,
        condition,
        from,
        breached_since,
        evaluations,
    } = &world.last("segment_lowered").kind
    else {
        unreachable!()
    };
    assert_eq!(
        (segment.as_str(), condition.as_str(), *from),
        (
            "eu",
            "error_rate > 5% for 30s over 10s per segment",
            Weight::FULL
        )
    );
    let took = world.sim.now.mono.since(breached_since.mono);
    assert_eq!(took, seconds(30));
    let evidence = evaluations
        .iter()
        .find(|one| one.condition.per_segment)
        .expect("the trigger is in the evidence");
    assert_eq!(evidence.segment.as_deref(), Some("eu"));
    assert!(evidence.figure > Some(0.07) && evidence.learners >= Some(3));
    assert_eq!(evidence.breached_for, Some(seconds(30)));
    assert_eq!(in_force(&world, "eu"), Some(Weight::ZERO));
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("10%"))
    );

    // What eu did neither rolls everybody back nor keeps the stage from passing.
    let stage = |world: &World| world.gate.status(world.sim.now).stage_figures[1].clone();
    assert_eq!(stage(&world).errors, 0);
    assert!(
        world.outlook().contains("without eu"),
        "{}",
        world.outlook()
    );
    world.run_until(span("30m"), |world| world.phase() == Phase::Complete);
    assert_eq!((world.count("rolled_back"), world.count("held")), (0, 0));
    let status = world.gate.status(world.sim.now);
    let eu = status.segments.iter().find(|one| one.name == "eu");
    let eu = eu.expect("eu is shown");
    assert_eq!(eu.ceiling, Some(Weight::ZERO));
    let trigger = "error_rate > 5% for 30s over 10s per segment";
    assert_eq!(eu.failed.as_deref(), Some(trigger));
    assert!(eu.run[1].errors > 20, "{:?}", eu.run[1]);
    assert_eq!(status.run_figures[1].errors, eu.run[1].errors);
}

#[test]
fn the_trigger_of_everybody_acts_when_no_segment_is_to_blame() {
    let mut world = guarded_by(&[
        "error_rate > 1.5% for 30s over 10s",
        "error_rate > 5% for 30s over 10s per segment",
    ]);
    for segment in FOUR {
        world.sim.canary_of(segment).failing = 0.03;
    }
    world.run_until(seconds(60), |world| world.phase() == Phase::RolledBack);
    let EventKind::RolledBack { breached_since, .. } = &world.last("rolled_back").kind else {
        unreachable!()
    };
    // 30 s, and 2 s more in which a segment might have been found.
    let since = breached_since.expect("a trigger's breach");
    assert_eq!(world.sim.now.mono.since(since.mono), seconds(32));
    assert_eq!(world.count("segment_lowered"), 0);
}

#[test]
fn one_failed_segment_more_than_the_plan_bears_rolls_everybody_back() {
    let mut world = guarded_by(&["error_rate > 5% for 30s over 10s per segment"]);
    for (segment, lowered) in [("eu", 1), ("us", 2)] {
        world.sim.canary_of(segment).failing = 0.5;
        world.run_until(seconds(60), |world| {
            world.count("segment_lowered") == lowered
        });
        assert_eq!(world.phase(), Phase::Running);
    }
    world.sim.canary_of("asia").failing = 0.5;
    world.run_until(seconds(60), |world| world.phase() == Phase::RolledBack);
    let event = world.last("rolled_back");
    let EventKind::RolledBack { cause, .. } = &event.kind else {
        unreachable!()
    };
    let trigger = "error_rate > 5% for 30s over 10s per segment".to_owned();
    assert_eq!(*cause, RollbackCause::Trigger(trigger));
    assert_eq!(event.reason, "more than 2 segments failed: eu, us, asia");
    assert_eq!(world.count("segment_lowered"), 2);
    assert_eq!(in_force(&world, "asia"), None);

    // A new run tries all of them again, and not before its record is on disk.
    world.sim.tell_apart(&FOUR);
    world.sim.disk = Disk::Stalls;
    let again = plan(|parts| parts.gate.cooldown = seconds(0));
    world.start(again);
    assert_eq!(world.count("started"), 2, "{}", world.refusal());
    assert_eq!(in_force(&world, "eu"), Some(Weight::ZERO));
    world.disk_works();
    assert!(world.gate.split().ceilings.is_empty());
    assert_eq!(
        (world.phase(), world.weight()),
        (Phase::Running, weight("1%"))
    );
}

#[test]
fn a_bot_in_a_segment_holds_and_lowers_nothing() {
    let check = |learners: u64, lowered: usize, causes: &[&str]| {
        let mut world = guarded_by(&["error_rate > 5% for 10s over 10s per segment"]);
        world.sim.canary_of("eu").failing = 0.5;
        world.sim.canary_of("eu").learners = learners;
        // Others fail too, and prove nothing about eu.
        world.sim.canary_of("us").failing = 0.02;
        world.run(seconds(40));
        assert_eq!(
            world.count("segment_lowered"),
            lowered,
            "{learners} learners"
        );
        assert_eq!(world.causes(), causes, "{learners} learners");
        world
    };
    check(3, 1, &[]);
    let world = check(2, 0, &["alarm"]);
    let EventKind::AlarmNoted { why, .. } = &world.last("alarm_noted").kind else {
        unreachable!()
    };
    assert!(
        why.contains("in segment eu") && why.contains("2 of 3"),
        "{why}"
    );
}

#[test]
fn a_segments_trouble_that_baseline_shares_is_no_fault_of_the_canary() {
    let mut world = guarded_by(&["error_rate > 5% for 10s over 10s per segment"]);
    // Long after the step up, and with enough requests to tell.
    world.sim.rate = 20_000.0;
    world.order(Action::Pause);
    world.run(span("16m"));
    world.order(Action::Resume);
    world.run(seconds(60));
    for arm in Arm::ALL.map(Arm::index) {
        let found = world
            .sim
            .segments
            .iter_mut()
            .find(|(name, _)| *name == "eu");
        found.expect("eu").1[arm].failing = 0.5;
    }
    world.run(seconds(30));
    assert_eq!(world.causes(), ["outage"], "{}", world.story());
    assert_eq!(in_force(&world, "eu"), None);
}

#[test]
fn without_a_baseline_to_go_to_a_segment_waits_and_is_lowered_later() {
    let mut world = guarded_by(&["error_rate > 5% for 10s over 10s per segment"]);
    world.sim.pools[0].usable = 0;
    world.sim.canary_of("eu").failing = 0.5;
    world.run(seconds(30));
    assert_eq!(world.causes(), ["no_baseline"]);
    assert_eq!(in_force(&world, "eu"), None);
    world.sim.pools[0].usable = 20;
    world.run(seconds(1));
    assert_eq!(in_force(&world, "eu"), Some(Weight::ZERO));
    assert_eq!(world.weight(), weight("10%"));
}

#[test]
fn a_segment_without_requests_keeps_its_clock_standing() {
    let mut world = guarded_by(&["error_rate > 5% for 30s over 2s per segment"]);
    world.sim.canary_of("eu").failing = 0.5;
    world.run(seconds(20));
    // Nobody of eu asks for a minute.
    let all = world.sim.segments.clone();
    world.sim.segments.retain(|(name, _)| *name != "eu");
    world.run(seconds(60));
    assert_eq!(world.count("segment_lowered"), 0);
    world.sim.segments = all;
    let took = world.run_until(seconds(40), |world| world.count("segment_lowered") == 1);
    assert!((seconds(8)..seconds(14)).contains(&took), "{took:?}");
}

#[test]
fn a_ceiling_by_hand_holds_and_goes_down_at_once_and_up_when_it_is_recorded() {
    let order = |effects: &[Effect]| -> Vec<&'static str> {
        let word = |effect: &Effect| match effect {
            Effect::Publish(_) => "publish",
            Effect::Record(_) => "record",
            Effect::Announce(_) => "announce",
            Effect::Refuse(_) => "refuse",
            Effect::RunHook(_) => "run hook",
        };
        effects.iter().map(word).collect()
    };
    let mut world = guarded_by(&[]);
    world.sim.disk = Disk::Stalls;
    let effects = ceiling(&mut world, "eu", "2%");
    assert_eq!(
        order(&effects),
        ["record", "announce", "publish", "record", "announce"]
    );
    assert_eq!(
        (world.phase(), world.causes()),
        (Phase::Held, vec!["manual"])
    );
    assert_eq!(in_force(&world, "eu"), Some(weight("2%")));
    assert_eq!(world.last("ceiling_set").by, "ops");
    assert_eq!(world.last("ceiling_set").reason, "tested");
    assert_eq!(world.weight(), weight("10%"));

    // Up: recorded, and in force with the disk's word.
    assert_eq!(order(&ceiling(&mut world, "eu", "5%")), ["record"]);
    assert_eq!(in_force(&world, "eu"), Some(weight("2%")));
    let shown = world.gate.status(world.sim.now).segments;
    let eu = shown.iter().find(|one| one.name == "eu").expect("eu");
    assert_eq!(eu.ceiling, Some(weight("5%")));
    // A second raise and a lowering of another overtake nothing.
    assert_eq!(order(&lift(&mut world, "eu")), ["record"]);
    assert_eq!(order(&ceiling(&mut world, "us", "0%"))[0], "publish");
    assert_eq!(in_force(&world, "eu"), Some(weight("2%")));
    world.disk_works();
    assert_eq!(in_force(&world, "eu"), None);
    assert_eq!(in_force(&world, "us"), Some(Weight::ZERO));
    let ids: Vec<u64> = world.sim.announced.iter().map(|id| id.0).collect();
    assert!(
        ids.is_sorted() && ids.len() == world.sim.events.len(),
        "{ids:?}"
    );

    // A rollback is told at once, whatever raise waits.
    world.sim.disk = Disk::Stalls;
    lift(&mut world, "us");
    let effects = world.order(Action::Rollback);
    assert_eq!(
        order(&effects),
        ["publish", "announce", "record", "announce"]
    );
    world.disk_works();
    assert_eq!(
        (world.phase(), in_force(&world, "us")),
        (Phase::RolledBack, None)
    );
    world.command(
        Action::SetWeight {
            weight: weight("10%"),
            guarded: true,
            holdout: Weight::ZERO,
        },
        "",
        false,
    );
    ceiling(&mut world, "us", "0%");

    // A raise that is lowered again before it was stored never comes into force.
    world.sim.disk = Disk::Stalls;
    lift(&mut world, "us");
    ceiling(&mut world, "us", "0%");
    world.disk_works();
    assert_eq!(in_force(&world, "us"), Some(Weight::ZERO));

    let refused = |world: &mut World, effects: Vec<Effect>, part: &str| {
        assert!(matches!(effects[..], [Effect::Refuse(_)]));
        assert!(world.refusal().contains(part), "{}", world.refusal());
    };
    let effects = lift(&mut world, "asia");
    refused(&mut world, effects, "has no ceiling");
    let effects = ceiling(&mut world, "", "0%");
    refused(&mut world, effects, "1 to 128 bytes");
    let effects = ceiling(&mut world, &"x".repeat(129), "0%");
    refused(&mut world, effects, "1 to 128 bytes");
    world.handle(Input::StoreFailed("full".to_owned()));
    let effects = lift(&mut world, "us");
    refused(&mut world, effects, "the store cannot write");
    ceiling(&mut world, "latam", "0%");
    assert_eq!(in_force(&world, "latam"), Some(Weight::ZERO));
}

#[test]
fn outside_a_run_a_ceiling_waits_for_the_next_one() {
    let mut world = World::new();
    world.sim.tell_apart(&FOUR);
    ceiling(&mut world, "eu", "0%");
    assert_eq!(world.phase(), Phase::Idle);
    world.start(plan(|_| ()));
    world.run(seconds(10));
    assert_eq!(in_force(&world, "eu"), Some(Weight::ZERO));
    let none = world.gate.status(world.sim.now);
    let eu = none
        .segments
        .iter()
        .find(|one| one.name == "eu")
        .expect("eu");
    assert_eq!((eu.run[1].requests, eu.failed.is_none()), (0, true));
    let blind = plan(|parts| parts.identity.segment = None);
    let mut world = World::running(blind);
    ceiling(&mut world, "eu", "0%");
    assert!(world.refusal().contains("tells no segments apart"));
}

#[test]
fn each_segment_with_enough_requests_must_pass() {
    let criterion = "error_rate < 1% per segment";
    let world_with = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        world.sim.tell_apart(&FOUR);
        change(&mut world);
        world.start(plan(|parts| {
            parts.stages.remove(0);
            parts.stages[0].advance = conditions(&[criterion, "error_rate < 1%"]);
            parts.stages[0].rollback.clear();
            parts.gate.tripwire = None;
        }));
        world
    };
    // One segment of four fails: 0.75 % of all is below the limit.
    let mut world = world_with(&|world| world.sim.canary_of("eu").failing = 0.03);
    world.run(span("12m"));
    assert_eq!(world.causes(), ["criteria"], "{}", world.story());
    let seen = evaluation(&world, criterion);
    assert_eq!(
        (seen.segment.as_deref(), seen.verdict),
        (Some("eu"), Verdict::Fail)
    );
    assert_eq!(evaluation(&world, "error_rate < 1%").verdict, Verdict::Pass);

    // The same segment with too few requests is named and decides nothing.
    let few = |world: &mut World| {
        world.sim.segments.truncate(1);
        let found = world.sim.segments[0].1.clone();
        world.sim.segments = (0..40)
            .map(|place| (if place == 0 { "eu" } else { "us" }, found.clone()))
            .collect();
        world.sim.rate = 40.0;
        world.sim.canary_of("eu").failing = 0.2;
    };
    let mut world = world_with(&few);
    world.run_until(span("12m"), |world| world.stage() == "rollout");
    let EventKind::Advanced { evaluations, .. } = &world.last("advanced").kind else {
        unreachable!()
    };
    let passed = &evaluations[0];
    assert_eq!(
        (passed.segment.as_deref(), passed.verdict),
        (Some("us"), Verdict::Pass)
    );
    assert!(
        passed.note.contains("too few: eu (") && passed.note.contains("of 100 requests"),
        "{}",
        passed.note
    );

    // Nobody says a segment: no data is never a pass.
    let mut world = world_with(&|world| world.sim.segments.clear());
    world.run(span("12m"));
    assert_eq!(world.stage(), "ramp");
    let seen = evaluation(&world, criterion);
    assert_eq!(
        (seen.verdict, seen.note.as_str()),
        (Verdict::NoData, "no segment was seen")
    );
}

#[test]
fn a_hold_per_segment_names_the_segment() {
    let mut world = World::new();
    world.sim.tell_apart(&FOUR);
    world.start(plan(|parts| {
        parts.stages.remove(0);
        parts.stages[0].hold = conditions(&["error_rate > 5% for 20s over 30s per segment"]);
        parts.stages[0].rollback.clear();
        parts.gate.tripwire = None;
    }));
    world.run(seconds(90));
    world.sim.canary_of("latam").failing = 0.3;
    world.run(seconds(60));
    assert_eq!(world.causes(), ["condition"]);
    assert!(
        world.outlook().contains("in segment latam"),
        "{}",
        world.outlook()
    );
    assert_eq!(in_force(&world, "latam"), None);
}

#[test]
fn segment_variance_holds_back_an_advance() {
    let check = |failing: f64, passes: bool| {
        let mut world = World::new();
        world.sim.tell_apart(&FOUR);
        world.start(plan(|parts| {
            parts.stages.remove(0);
            parts.stages[0].advance =
                conditions(&["segment_variance < 5%", "segment_variance < 5% throughout"]);
            parts.stages[0].rollback.clear();
            parts.gate.tripwire = None;
        }));
        world.sim.canary_of("eu").failing = failing;
        world.run(span("12m"));
        assert_eq!(
            world.stage() == "rollout",
            passes,
            "{failing}: {}",
            world.outlook()
        );
        world
    };
    // eu is 3/4 of its failures off the whole: 0.75 * 6 % and 0.75 * 7 %.
    check(0.06, true);
    let world = check(0.07, false);
    let figure = evaluation(&world, "segment_variance < 5%")
        .figure
        .expect("data");
    assert!((figure - 0.75 * 0.07).abs() < 0.001, "{figure}");
}

/// A run with a sick segment, restarted before every tick or never.
fn lived(restarted: bool) -> World {
    let mut world = World::new();
    world.sim.tell_apart(&FOUR);
    world.sim.tick = seconds(1);
    world.start(plan(|parts| {
        parts.stages.remove(0);
        parts.stages[0].warmup = seconds(10);
        parts.stages[0].duration = seconds(200);
        parts.stages[0].checkpoints = vec![seconds(100), seconds(200)];
        parts.stages[0].advance = conditions(&[
            "error_rate < 1%",
            "p99 < 200ms throughout per segment",
            "segment_variance < 5%",
        ]);
        parts.stages[0].rollback = conditions(&[
            "error_rate > 1.5% for 30s over 10s",
            "error_rate > 5% for 30s over 10s per segment",
        ]);
    }));
    let mut recent: Vec<Slot> = Vec::new();
    while world.sim.now.mono.as_millis() < 300_000 {
        if world.sim.now.mono.as_millis() >= 60_000 {
            world.sim.canary_of("eu").failing = 0.2;
        }
        let tick = world.sim.tick;
        world.sim.pass(tick);
        let observed = world.sim.observe(&world.gate, tick);
        recent.extend(observed.slots.clone());
        world.handle(Input::Tick(Box::new(observed)));
        if restarted {
            let snapshot = world.gate.snapshot(world.sim.now);
            let oldest = world.sim.now.mono.before(world.gate.memory());
            let slots = recent.iter().filter(|slot| slot.start >= oldest);
            let (gate, effects) = Gate::restore(snapshot, slots.cloned().collect(), world.sim.now);
            world.gate = gate;
            if let Some(id) = world.sim.carry_out(effects) {
                world.handle(Input::Stored(id));
            }
        }
    }
    world
}

#[test]
fn restarts_keep_ceilings_clocks_and_figures_of_segments() {
    let (unbroken, broken) = (lived(false), lived(true));
    let decided = |world: &World| -> Vec<(u64, &'static str)> {
        let events = world.sim.events.iter();
        let kinds = events.map(|event| (event.at.mono.as_millis(), crate::sim::kind(&event.kind)));
        kinds.filter(|(_, kind)| *kind != "restarted").collect()
    };
    assert_eq!(decided(&unbroken), decided(&broken));
    assert_eq!(broken.count("segment_lowered"), 1, "{}", broken.story());
    assert!(broken.count("advanced") == 1 && broken.count("restarted") > 200);
    let status = |world: &World| world.gate.status(world.sim.now);
    assert_eq!(status(&unbroken).segments, status(&broken).segments);
    assert_eq!(status(&unbroken).run_figures, status(&broken).run_figures);
    assert_eq!(unbroken.gate.split().ceilings, broken.gate.split().ceilings);
}

#[test]
fn a_recorded_raise_comes_into_force_over_a_restart() {
    let mut world = guarded_by(&[]);
    ceiling(&mut world, "eu", "0%");
    world.sim.disk = Disk::Stalls;
    ceiling(&mut world, "eu", "5%");
    assert_eq!(in_force(&world, "eu"), Some(Weight::ZERO));
    let snapshot = world.gate.snapshot(world.sim.now);
    let (gate, _) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    assert_eq!(gate.split().ceilings.get("eu"), Some(&weight("5%")));
}
