//! Evidence per segment: a segment that alone regresses is taken back alone, everybody's regression takes everybody back.
//! Every crowd is drawn from a seed that a failure prints.

use std::sync::Arc;
use std::time::Duration;

use serin::records::state;
use serin::rollout::assign::Ceilings;
use serin::rollout::evidence::{Block, Evidence, Limit, SegmentReading, Sight};
use serin::rollout::gate::{Action, EventKind, Gate, Input, Phase};
use serin::rollout::plan::Plan;
use serin::rollout::slot::Slot;
use serin::rollout::time::{Now, Timestamp};
use serin::rollout::weight::Weight;

use crate::crowd::{Crowd, HEALTHY, Habit};
use crate::evidence::{REGRESSED, crowd, crowded, evidence, guarded_by};
use crate::sim::{World, seconds};

const FOUR: [&str; 4] = ["asia", "eu", "latam", "us"];
const ANY: [&str; 1] = ["regression(any)"];
const BROKEN: Habit = Habit {
    failing: 0.3,
    ..HEALTHY
};

/// Ten healthy seconds after the warm-up, at 10 %, of everybody in four segments.
fn healthy(seed: u64) -> World {
    let mut world = crowded(guarded_by(&ANY, "10%", |_| ()), seed, 500_000);
    crowd(&mut world).segments = FOUR.to_vec();
    world.run(seconds(70));
    world
}

fn lowered(world: &World) -> Vec<String> {
    let events = world.sim.events.iter();
    let names = events.filter_map(|event| match &event.kind {
        EventKind::SegmentLowered { segment, .. } => Some(segment.clone()),
        _ => None,
    });
    names.collect()
}

fn until_decided(world: &mut World) -> Duration {
    world.run_until(seconds(600), |world| {
        world.phase() == Phase::RolledBack || world.count("segment_lowered") > 0
    })
}

#[test]
fn a_segment_whose_errors_alone_regress_is_lowered_and_the_others_go_on() {
    let (mut alone, mut took) = (0, Vec::new());
    for seed in 1..=20 {
        let mut world = healthy(seed);
        crowd(&mut world).sick = vec![("eu", REGRESSED)];
        took.push(until_decided(&mut world));
        alone += usize::from(lowered(&world) == ["eu"] && world.count("rolled_back") == 0);
    }
    took.sort_unstable();
    eprintln!("lowered alone in {alone} of 20, after {took:?}");
    assert!(alone >= 19, "{alone} of 20");

    let mut world = healthy(3);
    crowd(&mut world).sick = vec![("eu", BROKEN)];
    until_decided(&mut world);
    let event = world.last("segment_lowered");
    let EventKind::SegmentLowered {
        segment,
        condition,
        evaluations,
        ..
    } = &event.kind
    else {
        unreachable!()
    };
    assert_eq!((segment.as_str(), condition.as_str()), ("eu", ANY[0]));
    assert!(
        evaluations
            .iter()
            .any(|one| one.segment.as_deref() == Some("eu"))
    );
    assert!(
        event
            .reason
            .starts_with("eu alone is to blame: ln E of its own errors is "),
        "{}",
        event.reason
    );
    assert_eq!(
        world.gate.split().ceilings,
        Ceilings::from([(Arc::from("eu"), Weight::ZERO)])
    );
    // What is left is well, and stays so although eu goes on failing wherever it is.
    let left = evidence(&world);
    assert!(!left.alarm && left.ln_weighted < 1.0, "{left:?}");
    assert!(
        left.segments
            .iter()
            .all(|one| &*one.reading.segment != "eu")
    );
    world.run(seconds(300));
    assert_eq!(world.phase(), Phase::Running, "{}", world.story());
    assert_eq!(evidence(&world).segments.len(), 3);
}

#[test]
fn everybodys_regression_takes_everybody_back_as_soon_as_without_segments() {
    let (mut apart, mut together) = (Vec::new(), Vec::new());
    let mut at_once = 0;
    for seed in 1..=20 {
        for (segments, took) in [(&FOUR[..], &mut apart), (&[], &mut together)] {
            let mut world = crowded(guarded_by(&ANY, "10%", |_| ()), seed, 500_000);
            crowd(&mut world).segments = segments.to_vec();
            world.run(seconds(70));
            *crowd(&mut world).canary() = REGRESSED;
            let first = until_decided(&mut world);
            at_once += u32::from(!segments.is_empty() && world.phase() == Phase::RolledBack);
            // Where chance let one segment fail so much more that the rest looked well, the rest follows.
            let then = world.run_until(seconds(120), |world| world.phase() == Phase::RolledBack);
            took.push(first + then);
        }
    }
    let middle = |took: &mut Vec<Duration>| {
        took.sort_unstable();
        took[took.len() / 2]
    };
    let (apart, together) = (middle(&mut apart), middle(&mut together));
    eprintln!(
        "everybody found after {apart:?} with segments, {together:?} without; at once in {at_once} of 20"
    );
    assert!(at_once >= 17, "{at_once} of 20");
    assert!(apart <= together + seconds(1), "{apart:?} and {together:?}");
}

#[test]
fn a_dead_canary_takes_everybody_back_at_once() {
    for seed in 1..=5 {
        let mut world = healthy(seed);
        crowd(&mut world).canary().failing = 1.0;
        let took = until_decided(&mut world);
        assert_eq!(
            (world.phase(), lowered(&world)),
            (Phase::RolledBack, Vec::new()),
            "seed {seed}"
        );
        assert!(took <= seconds(3), "seed {seed}: {took:?}");
    }
}

#[test]
fn one_segment_after_another_is_lowered_until_the_plan_bears_no_more() {
    let mut world = healthy(7);
    for (place, segment) in ["eu", "us", "asia"].into_iter().enumerate() {
        crowd(&mut world).sick = vec![(segment, BROKEN)];
        world.run_until(seconds(60), |world| {
            world.phase() == Phase::RolledBack || world.count("segment_lowered") > place
        });
        world.run(seconds(20));
    }
    assert_eq!(lowered(&world), ["eu", "us"]);
    let event = world.last("rolled_back");
    assert_eq!(event.reason, "more than 2 segments failed: eu, us, asia");
}

#[test]
fn two_segments_that_regress_at_once_are_both_off_canary_and_no_healthy_one_is_blamed() {
    let (mut each, mut everybody) = (0, 0);
    for seed in 1..=10 {
        let mut world = healthy(seed);
        crowd(&mut world).sick = vec![("eu", BROKEN), ("us", BROKEN)];
        let took = world.run_until(seconds(60), |world| {
            world.phase() == Phase::RolledBack || world.count("segment_lowered") == 2
        });
        let mut lowered = lowered(&world);
        lowered.sort_unstable();
        match world.phase() {
            Phase::RolledBack => everybody += 1,
            _ => {
                assert_eq!(lowered, ["eu", "us"], "seed {seed}");
                each += 1;
            }
        }
        assert!(took < seconds(60), "seed {seed}: {}", world.story());
        let blamed = lowered
            .iter()
            .all(|name| ["eu", "us"].contains(&name.as_str()));
        assert!(blamed, "seed {seed}: {lowered:?}");
    }
    eprintln!("each lowered in {each} of 10, everybody rolled back in {everybody}");
}

#[test]
fn a_bot_in_a_segment_names_nobody() {
    for seed in 1..=3 {
        let mut world = healthy(seed);
        crowd(&mut world).bot = 3;
        world.run(seconds(600));
        assert_eq!(world.phase(), Phase::Running, "{}", world.story());
        assert!(evidence(&world).segments.iter().all(|one| !one.named));
        assert_eq!(lowered(&world), [""; 0]);
    }
}

#[test]
fn a_healthy_canary_and_an_outage_name_nobody() {
    for seed in 1..=3 {
        let mut world = healthy(seed);
        for (failing, span) in [(0.001, 300), (0.06, 300), (0.001, 600)] {
            for habit in &mut crowd(&mut world).habits {
                habit.failing = failing;
            }
            world.run(seconds(span));
            let shown = evidence(&world);
            assert!(shown.segments.iter().all(|one| !one.named), "seed {seed}");
        }
        assert_eq!(world.phase(), Phase::Running, "seed {seed}");
    }
}

#[test]
fn a_segment_taken_out_by_hand_leaves_the_evidence_on_both_arms() {
    let mut world = healthy(9);
    let before = evidence(&world).blocks;
    world.order(Action::SetCeiling {
        segment: Arc::from("eu"),
        ceiling: Weight::ZERO,
    });
    let seen = |world: &World| -> Vec<(String, u64)> {
        let shown = evidence(world).segments.into_iter();
        shown
            .map(|one| (one.reading.segment.to_string(), one.reading.blocks))
            .collect()
    };
    assert_eq!(seen(&world).len(), 3, "{:?}", seen(&world));
    world.run(seconds(90));
    assert!(evidence(&world).blocks > before, "the others' goes on");
    assert_eq!(seen(&world).len(), 3);
    // Back on canary it begins anew.
    world.order(Action::LiftCeiling {
        segment: Arc::from("eu"),
    });
    world.run(seconds(90));
    let shown = seen(&world);
    let of = |name: &str| shown.iter().find(|one| one.0 == name).expect(name).1;
    assert!(of("eu") + 30 < of("us"), "{shown:?}");
}

/// So many seconds of learners so few that no two share a place among those who failed.
fn blocks(plan: &Plan, seed: u64, many: u64) -> Vec<Block> {
    let mut crowd = Crowd::new(seed, 2_000);
    crowd.segments = FOUR.to_vec();
    crowd.habits[1].failing = 0.01;
    crowd.sick = vec![("eu", BROKEN)];
    let mut split = Gate::at_rest(plan.stages[0].weight).split();
    split.epoch = 1;
    let ticks = 0..4 * many;
    let closed = ticks.flat_map(|tick| {
        let start = Timestamp::from_millis(250 * tick);
        crowd
            .observe(&split, start, Duration::from_millis(250), 1000.0, &[])
            .1
    });
    closed.collect()
}

#[test]
fn what_is_left_without_a_segment_is_what_there_would_be_had_it_never_been() {
    let triggers = ["error_rate > 3% for 12h", "availability < 95% for 1h"];
    let plan = guarded_by(&triggers, "30%", |_| ());
    let limits = Limit::of_stage(&plan.stages[0]);
    let (mut left, mut never) = (
        Evidence::new(Now::default(), &plan),
        Evidence::new(Now::default(), &plan),
    );
    for block in blocks(&plan, 11, 300) {
        left.add(&block, 1, 1.5, &limits, &Ceilings::new());
        let mut others = Block::new(block.start);
        let without = |sight: &&Sight| sight.segment.as_deref() != Some("eu");
        let sights: Vec<Sight> = block.sights(1).filter(without).cloned().collect();
        others.add(&Slot::empty(block.start, seconds(1)), sights);
        never.add(&others, 1, 1.5, &limits, &Ceilings::new());
    }
    let own = |evidence: &Evidence, name: &str| -> SegmentReading {
        let mut readings = evidence.segments.readings().into_iter();
        readings.find(|one| &*one.segment == name).expect(name)
    };
    assert!(own(&left, "eu").ln_e > 50.0 && own(&left, "eu").failing_learners > 100);
    assert_ne!(left.errors.onset, never.errors.onset);
    left.leave_out("eu");
    assert_eq!(left.errors.onset, never.errors.onset);
    assert_eq!(left.client_errors.onset, never.client_errors.onset);
    assert_eq!(left.errors.erred.failing, never.errors.erred.failing);
    for (left, never) in left.absolute.iter().zip(&never.absolute) {
        assert_eq!(left.limit, never.limit);
        // Seconds in which baseline breaks the limit are left out by everybody's baseline; here it never does.
        assert_eq!(left.onset, never.onset, "{:?}", left.limit);
    }
    assert_eq!(own(&left, "us"), own(&never, "us"));
}

#[test]
fn segments_have_their_share_of_alpha_and_no_more() {
    let plan = guarded_by(&ANY, "30%", |parts| parts.gate.max_segments = 2);
    let mut evidence = Evidence::new(Now::default(), &plan);
    for block in blocks(&plan, 12, 20) {
        evidence.add(&block, 1, 1.5, &[], &Ceilings::new());
    }
    // Two and the rest: the fourth that came has none.
    assert_eq!(
        (evidence.segments.most, evidence.segments.each.len()),
        (3, 3)
    );
    let ln_es = evidence.segments.readings();
    let sum: f64 = ln_es.iter().map(|one| one.ln_e.exp()).sum();
    let shown = evidence.readings();
    let together = shown
        .iter()
        .find(|one| serin::rollout::gate::process_name(one.part) == "segments")
        .expect("they are told apart");
    assert!((together.ln_e - (sum / 3.0).ln()).abs() < 1e-9);
    let blind = guarded_by(&ANY, "30%", |parts| parts.identity.segment = None);
    let none = Evidence::new(Now::default(), &blind);
    assert_eq!((none.segments.most, none.readings().len()), (0, 2));
}

#[test]
fn a_restart_leaves_every_bit_of_every_segment_and_the_row_stays_small() {
    let names: Vec<&'static str> = (0..64_u32)
        .map(|n| -> &'static str { format!("segment-{n}").leak() })
        .collect();
    let lived = |restarts: bool| {
        let triggers = ["regression(any)", "error_rate > 30% for 1h"];
        let mut world = crowded(guarded_by(&triggers, "10%", |_| ()), 21, 50_000);
        crowd(&mut world).segments.clone_from(&names);
        let mut largest = [0; 2];
        for tick in 0..4 * 240 {
            if tick == 4 * 150 {
                crowd(&mut world).sick = vec![(names[7], BROKEN)];
            }
            world.tick();
            if restarts && tick % 37 == 0 {
                let mut snapshot = world.gate.snapshot(world.sim.now);
                let saved = state::encode(&snapshot);
                if let Some(run) = &mut snapshot.run {
                    run.evidence.segments.each.clear();
                }
                let without = state::encode(&snapshot).counts.len();
                largest = [saved.counts.len(), saved.counts.len() - without];
                let saved = state::decode(&saved.json, &saved.counts).expect("what was saved");
                let (gate, effects) = Gate::restore(saved, Vec::new(), world.sim.now);
                world.gate = gate;
                if let Some(id) = world.sim.carry_out(effects) {
                    world.handle(Input::Stored(id));
                }
            }
        }
        (world, largest)
    };
    let (unbroken, _) = lived(false);
    let (broken, [row, segments]) = lived(true);
    eprintln!("{row} bytes of counts, {segments} of them evidence of 63 segments");
    assert!(
        segments < 64 * 512,
        "{segments} bytes of evidence of segments"
    );
    assert_eq!(lowered(&unbroken), [names[7]], "{}", unbroken.story());
    assert_eq!(lowered(&broken), lowered(&unbroken));
    let saved = |world: &World| {
        let run = world.gate.snapshot(world.sim.now).run;
        run.map(|run| run.evidence)
    };
    assert_eq!(saved(&broken), saved(&unbroken));
}
