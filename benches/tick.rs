//! The cost of one tick of the gate: counts taken in, triggers and criteria judged.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use serin::config;
use serin::rollout::gate::{Action, Command, Effect, EventId, Gate, Input, Observed, PoolHealth};
use serin::rollout::learners::LearnerSketch;
use serin::rollout::name::Arm;
use serin::rollout::plan::Plan;
use serin::rollout::slot::{Cell, CellKey, Slot};
use serin::rollout::time::{Now, Timestamp, WallTime};
use serin::rollout::weight::Weight;

const TICK_MS: u64 = 250;
/// Of every cell of every tick: 3,000 requests a second over both arms.
const REQUESTS: u64 = 375;

fn plan() -> Plan {
    let text = "[pools.original]\nendpoints = [\"127.0.0.1:1\"]\n[pools.ultra_fast]\nendpoints = [\"127.0.0.1:2\"]\n\
         [rollouts.analyzer]\nbaseline = \"original\"\ncanary = \"ultra_fast\"\n\
         [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"200d\"\n\
         advance = [\"error_rate < 1%\", \"p99 < 200ms\", \"availability > 99.9%\"]\n\
         rollback = [\"error_rate > 1.5% for 2m\", \"p99 > 250ms for 5m over 10m\", \"availability < 99% for 5m\"]\n";
    let config = config::parse("bench.toml", text, &|_| None).expect("a valid configuration");
    let rollout = config.rollouts.into_values().next().expect("one rollout");
    rollout.plan
}

/// A gate, its time, and what is observed in each tick.
struct World {
    gate: Gate,
    now: Now,
    segments: usize,
}

impl World {
    fn running(segments: usize) -> Self {
        let plan = Box::new(plan());
        let start = Command {
            by: "bench".to_owned(),
            reason: String::new(),
            force: false,
            action: Action::Start {
                plan,
                baseline_endpoints: 2,
            },
        };
        let gate = Gate::at_rest(Weight::ZERO);
        let mut world = Self {
            gate,
            now: Now::default(),
            segments,
        };
        let effects = world.gate.handle(world.now, Input::Command(start));
        world.store(&effects);
        // Past the warm-up, with every window full.
        for _ in 0..(15 * 60 * 1_000 / TICK_MS) {
            world.tick();
        }
        world
    }

    fn tick(&mut self) {
        let at = self.now.mono;
        self.now = Now {
            mono: at.after(Duration::from_millis(TICK_MS)),
            wall: WallTime::from_unix_millis(self.now.wall.as_unix_millis() + TICK_MS as i64),
        };
        let observed = Box::new(self.observed(at));
        let effects = self.gate.handle(self.now, Input::Tick(observed));
        self.store(&effects);
    }

    fn store(&mut self, effects: &[Effect]) {
        let last: Option<EventId> = effects.iter().rev().find_map(|effect| match effect {
            Effect::Record(event) => Some(event.id),
            Effect::Publish(_) | Effect::Announce(_) | Effect::RunHook(_) | Effect::Refuse(_) => {
                None
            }
        });
        if let Some(id) = last {
            black_box(self.gate.handle(self.now, Input::Stored(id)));
        }
    }

    fn observed(&self, at: Timestamp) -> Observed {
        let mut slot = Slot::empty(at, Duration::from_millis(TICK_MS));
        for arm in Arm::ALL {
            for segment in 0..self.segments {
                let segment = Some(Arc::from(format!("segment-{segment}")));
                let epoch = self.gate.split().epoch;
                slot.cells.insert(
                    CellKey {
                        epoch,
                        arm,
                        segment,
                    },
                    cell(self.segments),
                );
            }
        }
        let usable = PoolHealth {
            endpoints: 2,
            usable: 2,
            probes_sent: 1,
            probes_answered: 1,
        };
        Observed {
            slots: vec![slot],
            pools: [usable; 2],
            learners: [LearnerSketch::new(), LearnerSketch::new()],
            gap: Duration::ZERO,
            blocks: Vec::new(),
        }
    }
}

fn cell(segments: usize) -> Cell {
    let mut cell = Cell {
        counted: (REQUESTS / segments as u64).max(1),
        ..Cell::default()
    };
    for request in 0..cell.counted {
        cell.latency.record(10_000 + request * 331 % 90_000, 1);
    }
    cell
}

fn ticks(criterion: &mut Criterion) {
    for segments in [1, 64] {
        let mut world = World::running(segments);
        criterion.bench_function(&format!("tick with {segments} segments"), |bencher| {
            bencher.iter(|| world.tick());
        });
        let status = world.gate.status(world.now);
        assert_eq!(status.run, 1);
        criterion.bench_function(&format!("snapshot with {segments} segments"), |bencher| {
            bencher.iter(|| black_box(world.gate.snapshot(world.now)));
        });
    }
}

criterion_group!(benches, ticks);
criterion_main!(benches);
