//! Snapshot and restore: the same decisions as if the process had never ended.

use std::time::Duration;

use serin::rollout::gate::{Action, Gate, Input, Phase};
use serin::rollout::slot::Slot;
use serin::rollout::weight::Weight;

use crate::sim::{Disk, World, kind, plan, seconds, span, weight};

/// What was decided and when, without the restarts themselves and the numbers they shift.
fn decisions(world: &World) -> Vec<(u64, &'static str, Phase, Weight)> {
    let decided = world
        .sim
        .events
        .iter()
        .filter(|event| kind(&event.kind) != "restarted");
    decided
        .map(|event| {
            (
                event.at.mono.as_millis(),
                kind(&event.kind),
                event.phase,
                event.weight,
            )
        })
        .collect()
}

fn restart(world: &mut World, recent: &[Slot]) {
    let snapshot = world.gate.snapshot(world.sim.now);
    let oldest = world.sim.now.mono.before(world.gate.memory());
    let recent = recent
        .iter()
        .filter(|slot| slot.start >= oldest)
        .cloned()
        .collect();
    let (gate, effects) = Gate::restore(snapshot, recent, world.sim.now);
    world.gate = gate;
    if let Some(id) = world.sim.carry_out(effects) {
        world.handle(Input::Stored(id));
    }
}

/// A run through healthy and sick times, restarted before every tick or never.
fn lived(restarted: bool, sick_from: Duration) -> World {
    let mut world = World::running(plan(|parts| {
        parts.stages.truncate(2);
        parts.stages[0].duration = seconds(60);
        parts.stages[0].warmup = seconds(10);
        parts.stages[0].checkpoints = vec![seconds(30), seconds(60)];
        parts.stages[0]
            .advance
            .push("error_rate < 1% throughout".parse_condition());
        parts.stages[0]
            .advance
            .push("p95{delta} < 50% over 30s".parse_condition());
    }));
    world.sim.tick = seconds(1);
    let mut recent = Vec::new();
    while world.sim.now.mono.as_millis() < 360_000 {
        if world.sim.now.mono.since(Default::default()) >= sick_from {
            world.sim.canary().failing = 0.08;
            world.sim.canary().learners = 50;
        }
        let tick = world.sim.tick;
        world.sim.pass(tick);
        let observed = world.sim.observe(&world.gate, tick);
        let slots = observed.slots.clone();
        world.handle(Input::Tick(Box::new(observed)));
        recent.extend(slots);
        if restarted {
            restart(&mut world, &recent);
        }
    }
    world
}

trait ParseCondition {
    fn parse_condition(&self) -> serin::rollout::condition::Condition;
}

impl ParseCondition for str {
    fn parse_condition(&self) -> serin::rollout::condition::Condition {
        serin::rollout::condition::Condition::parse(self).expect(self)
    }
}

#[test]
fn restarts_at_every_tick_decide_as_one_unbroken_run() {
    for sick_from in [seconds(1000), seconds(40), seconds(100)] {
        let (unbroken, broken) = (lived(false, sick_from), lived(true, sick_from));
        assert_eq!(
            decisions(&unbroken),
            decisions(&broken),
            "sick from {sick_from:?}"
        );
        assert!(
            broken.count("restarted") > 300 && decisions(&broken).len() >= 3,
            "{}",
            unbroken.story()
        );
        let figures = |world: &World| world.gate.status(world.sim.now).run_figures;
        assert_eq!(figures(&unbroken), figures(&broken));
    }
}

#[test]
fn what_is_saved_comes_back_as_it_was() {
    let mut world = World::running(plan(|_| ()));
    world.run(seconds(200));
    world.sim.canary().failing = 0.3;
    world.run(seconds(20));
    world.order(Action::OpenIncident {
        summary: "pager".to_owned(),
    });
    let before = world.gate.snapshot(world.sim.now);
    let (gate, _) = Gate::restore(before.clone(), Vec::new(), world.sim.now);
    let mut after = gate.snapshot(world.sim.now);
    // The restart itself: one event, one epoch, and what was recorded counts as stored.
    assert_eq!(after.last_event.0, before.last_event.0 + 1);
    assert_eq!(after.split.epoch, before.split.epoch + 1);
    (after.last_event, after.stored, after.split.epoch) =
        (before.last_event, before.stored, before.split.epoch);
    assert_eq!(after, before);
    assert!(!before.watch.breaches.is_empty(), "a breach is under way");
}

#[test]
fn a_recorded_step_comes_into_force_and_a_recorded_rollback_is_over() {
    let mut world = World::running(plan(|_| ()));
    world.sim.disk = Disk::Stalls;
    world.run_until(seconds(700), |world| world.count("advanced") == 1);
    assert_eq!(world.weight(), weight("1%"));
    restart(&mut world, &[]);
    assert_eq!(
        (world.weight(), world.stage().as_str()),
        (weight("10%"), "ramp")
    );
    world.order(Action::Rollback);
    assert_eq!(world.phase(), Phase::RollingBack);
    restart(&mut world, &[]);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn a_long_absence_begins_windows_anew_and_keeps_the_stage() {
    let check = |away: Duration, kept: bool| {
        let mut world = World::running(plan(|_| ()));
        world.run(seconds(200));
        world.sim.canary().failing = 0.3;
        world.run(seconds(100));
        let before = world.gate.status(world.sim.now);
        let snapshot = world.gate.snapshot(world.sim.now);
        world.sim.pass(away);
        let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
        world.gate = gate;
        world.sim.carry_out(effects);
        let after = world.gate.status(world.sim.now);
        assert_eq!(
            (after.stage_time, after.weight, after.phase),
            (before.stage_time, before.weight, before.phase)
        );
        assert_eq!(after.stage_figures, before.stage_figures);
        let breaches = world.gate.snapshot(world.sim.now).watch.breaches.len();
        assert_eq!(breaches > 0, kept, "away for {away:?}");
        world.tick();
        assert_eq!(
            world.gate.status(world.sim.now).stage_time,
            before.stage_time + world.sim.tick
        );
    };
    check(span("5m"), true);
    check(span("5m1ms"), false);
}

#[test]
fn an_idle_gate_restarts_without_a_word() {
    let world = World::new();
    let snapshot = world.gate.snapshot(world.sim.now);
    let (gate, effects) = Gate::restore(snapshot, Vec::new(), world.sim.now);
    assert_eq!(
        (effects.len(), gate.status(world.sim.now).phase),
        (1, Phase::Idle)
    );
}
