//! Random sequences of commands, faults and traffic: the gate's own invariants and those seen from
//! outside hold at every step. The seed is printed; `SERIN_SEED` replays one, `SERIN_SEQUENCES=20000` is the nightly form
//! (`load-tests/sequences`).

use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serin::rollout::assign::Ceilings;
use serin::rollout::gate::{Action, Cause, EventId, Gate, Input, Phase, Say};
use serin::rollout::name::{Arm, StageName};
use serin::rollout::plan::{Level, OnFailure, OnSuccess, Plan, Stabilization};
use serin::rollout::rehearsal::{Fault, Injection};
use serin::rollout::time::WallTime;
use serin::rollout::weight::Weight;

use crate::people::{nine_to, role};
use crate::sim::{Disk, WALL_MS, World, conditions, plan, seconds, weight};

/// Of each test run.
const SEQUENCES: u64 = 200;
const STEPS: u64 = 120;

/// SplitMix64 (Steele, Lea, Flood 2014): a whole generator in five lines.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

fn settling() -> Stabilization {
    Stabilization {
        duration: seconds(30),
        require: conditions(&["error_rate < 1%"]),
        hold: conditions(&["error_rate > 1% for 5s"]),
        rollback: None,
        levels: vec![Level {
            name: StageName::parse("close").expect("a name"),
            lasts: seconds(10),
            report: seconds(5),
        }],
    }
}

fn some_plan(dice: &mut Dice) -> Plan {
    plan(|parts| {
        parts.holdout = dice.one_of(&[Weight::ZERO, weight("1%")]);
        parts.gate.approval_ttl = seconds(dice.one_of(&[5, 600]));
        parts.gate.escalate_after = seconds(20);
        if dice.below(4) == 0 {
            let at = WALL_MS + dice.one_of(&[-1000, 5_000, 60_000]);
            parts.stages[0].schedule.start_at = Some(WallTime::from_unix_millis(at));
        }
        if dice.below(4) == 0 {
            let at = WALL_MS + dice.one_of(&[61_000, 120_000]);
            parts.stages[1].schedule.start_at = Some(WallTime::from_unix_millis(at));
            parts.stages[1].schedule.start_grace = seconds(10);
        }
        parts.stabilization = (dice.below(3) == 0).then(settling);
        for stage in &mut parts.stages {
            stage.duration = seconds(dice.one_of(&[1, 20, 60]));
            stage.checkpoints = vec![stage.duration];
            stage.warmup = seconds(dice.one_of(&[0, 5]));
            stage.max_extension = seconds(dice.one_of(&[0, 30]));
            stage.min_requests = dice.one_of(&[1, 50, 400]);
            stage.on_success = match dice.below(4) {
                0 | 1 => OnSuccess::Advance,
                2 => OnSuccess::Hold,
                _ => OnSuccess::Approve(vec![role("engineering"), role("finance")]),
            };
            stage.schedule.window = (dice.below(6) == 0).then(|| nine_to("09:00-14:05"));
            let fallback = OnFailure::Fallback(weight("0.5%"));
            stage.on_failure = dice.one_of(&[OnFailure::Hold, OnFailure::Rollback, fallback]);
            stage.on_rollback = dice.one_of(&[Weight::ZERO, weight("0.1%")]);
            stage.hold = conditions(&["client_error_rate > 5% for 5s over 5s"]);
            stage.rollback = conditions(&[
                "error_rate > 2% for 3s over 5s",
                "p95 > 250ms for 5s over 10s",
            ]);
            if dice.below(2) == 0 {
                let trigger = "error_rate > 4% for 2s over 5s per segment";
                stage.rollback.extend(conditions(&[trigger]));
                stage
                    .hold
                    .extend(conditions(&["segment_variance > 50% for 5s"]));
            }
            if dice.below(2) == 0 {
                stage.advance = conditions(&[
                    "error_rate < 1% throughout",
                    "p99 < 200ms",
                    "incidents == 0",
                ]);
            }
        }
    })
}

fn some_action(dice: &mut Dice) -> Action {
    let learner = Box::from([dice.below(3) as u8]);
    let share = dice.one_of(&["0%", "0.05%", "1%", "5%", "60%", "100%"]);
    let segment = Arc::from(dice.one_of(&["eu", "us"]));
    match dice.below(30) {
        0..=4 => Action::Start {
            plan: Box::new(some_plan(dice)),
            baseline_endpoints: 20,
        },
        5 => Action::Pause,
        6 | 7 => Action::Resume,
        8 => Action::Retry,
        9 => Action::Hold,
        10 | 11 => Action::Advance,
        12 => Action::Rollback,
        13 => Action::Abort,
        14 => Action::SetWeight {
            weight: weight(share),
            guarded: dice.below(4) > 0,
            holdout: Weight::ZERO,
        },
        15 => Action::Pin {
            learner,
            arm: dice.one_of(&Arm::ALL),
        },
        16 => Action::Unpin { learner },
        17 => Action::OpenIncident {
            summary: "pager".to_owned(),
        },
        18 => Action::CloseIncident { id: dice.below(4) },
        19 | 20 => Action::SetCeiling {
            segment,
            ceiling: weight(share),
        },
        21 => Action::LiftCeiling { segment },
        22..=24 => Action::Approve(some_say(dice)),
        25 => Action::Reject(some_say(dice)),
        26 => Action::Freeze {
            until: (dice.below(2) == 0).then(|| WallTime::from_unix_millis(WALL_MS + 300_000)),
        },
        27 => Action::Unfreeze,
        28 => Action::Rehearse {
            injection: Injection {
                fault: dice.one_of(&[Fault::Error, Fault::Reset]),
                share: weight("50%"),
            },
            within: seconds(dice.one_of(&[1, 20])),
        },
        _ => Action::CanaryReplaced {
            what: "version 2".to_owned(),
            version: None,
        },
    }
}

fn some_say(dice: &mut Dice) -> Say {
    let roles = [role("engineering"), role("finance")];
    let some = roles[dice.below(2) as usize].clone();
    Say {
        role: (dice.below(2) == 0).then(|| some.clone()),
        holds: (dice.below(3) == 0).then(|| vec![some]),
        plan: "ab".to_owned(),
        seen: None,
    }
}

fn change_the_world(world: &mut World, dice: &mut Dice) {
    let arm = dice.below(2) as usize;
    let place = dice.below(2) as usize;
    let sim = &mut world.sim;
    let behaviour = match sim.segments.get_mut(place) {
        Some((_, arms)) => &mut arms[arm],
        None => &mut sim.arms[arm],
    };
    match dice.below(8) {
        0 | 1 => behaviour.failing = dice.one_of(&[0.0, 0.0, 0.015, 0.05, 0.7]),
        2 => behaviour.refusing = dice.one_of(&[0.0, 0.0, 0.1]),
        3 => behaviour.latency_ms = dice.one_of(&[5, 5, 220, 300]),
        4 => behaviour.learners = dice.one_of(&[1, 2, 1000]),
        5 => world.sim.rate = dice.one_of(&[0.0, 30.0, 1000.0, 5000.0]),
        6 => world.sim.pools[0].usable = dice.one_of(&[0, 5, 20, 20]),
        _ => world.sim.pools[1].usable = dice.one_of(&[0, 2]),
    }
}

fn fault(world: &mut World, dice: &mut Dice) {
    match dice.below(6) {
        0 => world.sim.disk = Disk::Stalls,
        1 => {
            world.sim.disk = Disk::Stalls;
            world.handle(Input::StoreFailed("disk full".to_owned()));
        }
        2 => world.disk_works(),
        3 => world.sim.pass(seconds(dice.one_of(&[3, 200, 400]))),
        4 => {
            let snapshot = world.gate.snapshot(world.sim.now);
            world.sim.pass(seconds(dice.one_of(&[0, 1, 400])));
            let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
            world.gate = gate;
            // The old process may have announced less than it recorded.
            world.sim.announced.clear();
            let recorded = world.sim.carry_out(effects);
            if let (Some(id), Disk::Works) = (recorded, world.sim.disk) {
                world.handle(Input::Stored(id));
            }
        }
        _ => {
            // Late and repeated word from the store.
            let last = world.gate.status(world.sim.now).last_event.0;
            world.handle(Input::Stored(EventId(dice.below(last + 1))));
        }
    }
}

/// What must hold, seen from outside.
fn check(world: &World, weight_before: Weight, stored_everything: bool) {
    let status = world.gate.status(world.sim.now);
    let split = world.gate.split();
    let ids = world.sim.events.iter().map(|event| event.id.0);
    assert!(
        ids.eq(1..=world.sim.events.len() as u64),
        "numbers with a gap"
    );
    assert!(
        world.sim.announced.is_sorted_by(|a, b| a < b),
        "announced out of order or twice"
    );
    match status.phase {
        Phase::RollingBack | Phase::RolledBack | Phase::Aborted => {
            assert!(split.closed && split.weight.is_zero())
        }
        Phase::Idle => assert!(split.weight.is_zero()),
        Phase::Scheduled
        | Phase::Running
        | Phase::AwaitingApproval
        | Phase::Waiting
        | Phase::Stabilizing
        | Phase::Held
        | Phase::Paused
        | Phase::Manual
        | Phase::Complete => {}
    }
    if status.phase == Phase::AwaitingApproval {
        let approval = status.people.approval.as_ref().expect("somebody is asked");
        assert!(!approval.missing.is_empty(), "nobody is missing");
    }
    if split.weight > weight_before {
        assert!(
            stored_everything,
            "more canary before it was on disk: {weight_before} to {}",
            split.weight
        );
    }
    if let (true, Some(index)) = (status.phase.is_under_way(), status.stage_index) {
        let plan = world.gate.plan().expect("a run has a plan");
        assert!(
            Some(split.weight) <= plan.stage_weight(index),
            "above the stage's weight"
        );
    }
    let by_itself = |cause: Cause| status.causes.iter().any(|held| held.cause == cause);
    if by_itself(Cause::Store) {
        assert_ne!(status.phase, Phase::Running);
    }
    for evaluation in &status.evaluations {
        assert!(
            !evaluation.figure.is_some_and(f64::is_nan),
            "{} is NaN",
            evaluation.condition
        );
    }
}

/// Whether a ceiling that was recorded higher is not in force yet.
fn raising(world: &World) -> bool {
    let ceilings = world.gate.split().ceilings;
    let segments = world.gate.status(world.sim.now).segments;
    segments.iter().any(|segment| {
        let decided = segment.ceiling.unwrap_or(Weight::FULL);
        let now = ceilings.get(segment.name.as_str());
        now.is_some_and(|&now| now < decided)
    })
}

fn check_ceilings(world: &World, before: &Ceilings, stored_everything: bool) {
    let now = world.gate.split().ceilings;
    for (segment, ceiling) in before {
        let higher = now.get(segment).is_none_or(|now| now > ceiling);
        assert!(
            !higher || stored_everything,
            "{segment} above {ceiling} before it was on disk"
        );
    }
}

fn play(seed: u64) -> World {
    let mut dice = Dice(seed);
    let mut world = World::new();
    if dice.below(2) == 0 {
        world.sim.tell_apart(&["eu", "us"]);
    }
    for step in 0..STEPS {
        let (before, ceilings) = (world.weight(), world.gate.split().ceilings);
        let raising = raising(&world);
        let status = world.gate.status(world.sim.now);
        let (awaited, was_frozen) = (status.awaiting_store, status.people.frozen);
        let disk = world.sim.disk;
        let played = catch_unwind(std::panic::AssertUnwindSafe(|| {
            match dice.below(10) {
                0..=1 => {
                    let (action, force) = (some_action(&mut dice), dice.below(2) == 0);
                    world.command(action, "because", force);
                }
                2 => change_the_world(&mut world, &mut dice),
                3 if dice.below(3) == 0 => fault(&mut world, &mut dice),
                _ => {
                    for _ in 0..=dice.below(16) {
                        world.tick();
                    }
                }
            }
            // Up only through the store's word: at once where the disk works, else by what was awaited.
            let may_rise =
                disk == Disk::Works || world.sim.disk == Disk::Works || awaited.is_some();
            check(&world, before, may_rise);
            check_ceilings(&world, &ceilings, may_rise || raising);
            let frozen = world.gate.status(world.sim.now).people.frozen;
            let froze_all_along = was_frozen.is_some() && was_frozen == frozen;
            assert!(
                !froze_all_along || awaited.is_some() || world.weight() <= before,
                "more canary in a freeze"
            );
        }));
        if let Err(panic) = played {
            eprintln!("seed {seed}, step {step}\n{}", world.story());
            resume_unwind(panic);
        }
    }
    world
}

/// Plays one seed after another, as long as there are any; gives how often each kind of event came.
fn play_each(next: &AtomicU64, end: u64) -> BTreeMap<&'static str, u64> {
    let mut ended = BTreeMap::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return ended;
        }
        let world = catch_unwind(|| play(seed)).unwrap_or_else(|panic| {
            // Nobody begins another one.
            next.store(end, Ordering::Relaxed);
            eprintln!("SERIN_SEED={seed} replays this");
            resume_unwind(panic)
        });
        for kind in world.kinds() {
            *ended.entry(kind).or_default() += 1;
        }
    }
}

#[test]
fn no_sequence_of_commands_and_faults_breaks_a_promise() {
    let typed = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match (typed("SERIN_SEED"), typed("SERIN_SEQUENCES")) {
        (Some(seed), _) => seed..seed + 1,
        (None, sequences) => 0..sequences.unwrap_or(SEQUENCES),
    };
    println!(
        "sequences of the seeds {} to {}",
        seeds.start,
        seeds.end - 1
    );
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| play_each(&next, seeds.end)))
            .collect();
        let mut ended = BTreeMap::<&str, u64>::new();
        for thread in threads {
            let of_thread = thread.join();
            for (kind, many) in of_thread.unwrap_or_else(|panic| resume_unwind(panic)) {
                *ended.entry(kind).or_default() += many;
            }
        }
        ended
    });
    // The sequences must reach what they are meant to try.
    let reached = [
        "advanced",
        "completed",
        "rolled_back",
        "held",
        "extended",
        "cause_ended",
        "alarm_noted",
        "ceiling_set",
        "ceiling_lifted",
        "segment_lowered",
        "restarted",
    ];
    if seeds.end - seeds.start >= SEQUENCES {
        let missed: Vec<&str> = reached
            .into_iter()
            .filter(|kind| !ended.contains_key(kind))
            .collect();
        assert!(missed.is_empty(), "never seen: {missed:?} in {ended:?}");
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| play(seed).sim.trace;
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
