//! What the driver promises, on real gates and a real table, with time and the disk in the test's hand.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::driver::{Driver, run};
use super::handle::Handle;
use super::inbox::Message;
use super::journal::{Journal, News, StoreHealth, reports};
use super::order::{Order, OrderError, Verb};
use super::view::{RolloutView, Shared};
use super::vitals::Vitals;
use crate::clock::GateClock;
use crate::config::{self, Config, Fault};
use crate::live::{Live, Table};
use crate::rollout::assign::Split;
use crate::rollout::gate::{EventId, Phase};
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::slot::{Class, Outcome};
use crate::rollout::time::{Now, Timestamp, WallTime};
use crate::rollout::weight::Weight;
use crate::shutdown;
use crate::store::{Batch, Recovered, Report};
use crate::telemetry::{ArmRecord, Mirrored, SegmentId, Telemetry};

mod renewed;

const FILE: &str = r#"
[pools.original]
endpoints = ["127.0.0.1:9101", "127.0.0.1:9102"]
[pools.ultra_fast]
endpoints = ["127.0.0.1:9201"]
[[routes]]
path = "/"
rollout = "analyzer"
[rollouts.analyzer]
baseline = "original"
canary = "ultra_fast"
version = "7"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "1%"
duration = "2h"
advance = ["p99 < 200ms"]
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "10%"
duration = "4h"
"#;

/// A disk that keeps what it is given and never says anything by itself.
#[derive(Clone, Default)]
struct Stalled(Arc<Mutex<Vec<Batch>>>);

impl Journal for Stalled {
    fn write(&self, batch: Batch) {
        self.0
            .lock()
            .expect("no test panics while it writes")
            .push(batch);
    }
}

struct Rig {
    driver: Driver,
    disk: Stalled,
    telemetry: Arc<Telemetry>,
    at_ms: u64,
}

fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    config::parse("proxy.toml", text, &|_| None)
}

fn name() -> RolloutName {
    RolloutName::parse("analyzer").expect("a name")
}

fn order(verb: Verb) -> Order {
    Order {
        by: "ci".to_owned(),
        reason: "test".to_owned(),
        force: false,
        verb,
    }
}

fn weight(text: &str) -> Verb {
    Verb::SetWeight {
        weight: Weight::parse(text).expect("a weight"),
        guarded: true,
    }
}

fn driver(disk: &Stalled) -> (Driver, Arc<Telemetry>) {
    let config = parse(FILE).expect("the file is valid");
    let telemetry = Telemetry::new();
    let live = Live::new(Table::build(&config, &Default::default(), &telemetry, None));
    let shared = Arc::new(Shared {
        views: Default::default(),
        config: arc_swap::ArcSwap::from_pointee(config.clone()),
        admin: arc_swap::ArcSwap::from_pointee(config.admin.clone()),
        notify: arc_swap::ArcSwap::from_pointee(config.notify.clone()),
        notified: Default::default(),
        fleet: Default::default(),
        vitals: Vitals::starting_at(WallTime::default()),
        store: None,
    });
    let journal: Box<dyn Journal> = Box::new(disk.clone());
    let driver = Driver::new(
        config,
        live,
        Arc::clone(&telemetry),
        Some(journal),
        shared,
        Now::default(),
    );
    (driver, telemetry)
}

impl Rig {
    fn new() -> Self {
        let disk = Stalled::default();
        let (mut driver, telemetry) = driver(&disk);
        driver
            .restore(Now::default(), Recovered::default())
            .expect("nothing is pinned");
        Self {
            driver,
            disk,
            telemetry,
            at_ms: 0,
        }
    }

    fn now(&self) -> Now {
        let wall = 1_762_005_600_000 + i64::try_from(self.at_ms).expect("tests are short");
        Now {
            mono: Timestamp::from_millis(self.at_ms),
            wall: WallTime::from_unix_millis(wall),
        }
    }

    fn tick(&mut self) {
        self.at_ms += 250;
        self.driver.tick(self.now());
    }

    fn order(&mut self, verb: Verb) -> oneshot::Receiver<Result<Arc<RolloutView>, OrderError>> {
        let (answer, answered) = oneshot::channel();
        self.driver.take(
            self.now(),
            Message::Order {
                rollout: name(),
                order: order(verb),
                answer,
            },
        );
        answered
    }

    /// The disk catches up with everything it was given.
    fn store_all(&mut self) {
        let last = self.events().last().copied().unwrap_or_default();
        self.driver.hear(
            self.now(),
            News {
                stored: [(name(), last)].into(),
                health: None,
            },
        );
    }

    fn events(&self) -> Vec<EventId> {
        let batches = self.disk.0.lock().expect("no test panics while it writes");
        batches
            .iter()
            .flat_map(|batch| &batch.events)
            .map(|event| EventId(event.id))
            .collect()
    }

    fn split(&self) -> Split {
        let table = self.driver.live.load();
        let rollout = table
            .rollouts()
            .iter()
            .find(|rollout| rollout.name == name())
            .expect("it is in the file");
        rollout.split.clone()
    }

    fn phase(&self) -> Phase {
        self.driver
            .shown(&name())
            .expect("it is shown")
            .status
            .phase
    }

    fn running() -> Self {
        let mut rig = Self::new();
        rig.order(Verb::Start)
            .try_recv()
            .expect("answered")
            .expect("idle may start");
        rig.store_all();
        rig.tick();
        assert_eq!(
            (rig.phase(), rig.split().weight.ppm()),
            (Phase::Running, 10_000)
        );
        rig
    }

    fn reload(&mut self, text: &str) -> Result<super::Reloaded, Vec<Fault>> {
        let config = parse(text).expect("the file is valid");
        let outcome = self.driver.reload(self.now(), config, "ci");
        self.driver.show(self.now());
        outcome
    }
}

#[test]
fn a_step_towards_canary_waits_for_the_disk() {
    let mut rig = Rig::new();
    rig.order(Verb::Start)
        .try_recv()
        .expect("answered at once")
        .expect("idle may start");
    for _ in 0..40 {
        rig.tick();
    }
    assert!(
        rig.split().weight.is_zero(),
        "nothing was stored, and learners moved"
    );
    assert!(!rig.events().is_empty());
    rig.store_all();
    assert_eq!(rig.split().weight.ppm(), 10_000);
}

#[test]
fn a_retreat_is_in_force_before_the_disk_has_answered() {
    let mut rig = Rig::running();
    let before = rig.split().epoch;
    rig.order(Verb::Rollback)
        .try_recv()
        .expect("answered at once")
        .expect("running may go back");
    let split = rig.split();
    assert!(split.weight.is_zero() && split.closed && split.epoch > before);
    assert_eq!(rig.phase(), Phase::RollingBack);
    rig.store_all();
    assert_eq!(rig.phase(), Phase::RolledBack);
}

#[test]
fn more_weight_is_answered_when_stored_and_less_at_once() {
    let mut rig = Rig::new();
    let mut more = rig.order(weight("25%"));
    rig.tick();
    assert!(more.try_recv().is_err(), "answered before it was in force");
    rig.store_all();
    let view = more.try_recv().expect("answered").expect("allowed");
    assert_eq!(
        (view.split.weight.ppm(), rig.split().weight.ppm()),
        (250_000, 250_000)
    );

    let view = rig
        .order(weight("5%"))
        .try_recv()
        .expect("answered at once")
        .expect("allowed");
    assert_eq!(
        (view.split.weight.ppm(), rig.split().weight.ppm()),
        (50_000, 50_000)
    );
}

#[test]
fn a_weight_overtaken_by_a_retreat_is_answered_so() {
    let mut rig = Rig::new();
    let mut more = rig.order(weight("25%"));
    rig.order(weight("0%"))
        .try_recv()
        .expect("answered at once")
        .expect("allowed");
    assert!(matches!(
        more.try_recv().expect("answered"),
        Err(OrderError::Phase(_))
    ));
    assert!(rig.split().weight.is_zero());
}

#[test]
fn what_the_phase_does_not_allow_changes_nothing() {
    let mut rig = Rig::new();
    let before = (rig.split(), rig.events());
    for verb in [Verb::Pause, Verb::Resume, Verb::Retry, Verb::Advance] {
        let refused = rig.order(verb).try_recv().expect("answered");
        assert!(matches!(refused, Err(OrderError::Phase(_))), "{refused:?}");
    }
    assert_eq!((rig.split(), rig.events()), before);
}

#[test]
fn every_tick_writes_the_state_and_each_second_once() {
    let mut rig = Rig::running();
    let recorder = rig.telemetry.recorder();
    let meter = rig.telemetry.rollout(&name(), &[], 64);
    rig.disk.0.lock().expect("unpoisoned").clear();
    let epoch = rig.split().epoch;
    for _ in 0..12 {
        for _ in 0..7 {
            recorder.record(&ArmRecord {
                rollout: &meter,
                arm: Arm::Baseline,
                segment: SegmentId::default(),
                epoch,
                outcome: Outcome {
                    class: Class::Ok,
                    latency: Some(Duration::from_millis(10)),
                },
                learner: None,
                trace: None,
            });
        }
        rig.tick();
    }
    rig.driver.finish(rig.now());
    let batches = rig.disk.0.lock().expect("unpoisoned");
    assert!(batches.len() >= 12);
    let slots: Vec<_> = batches.iter().flat_map(|batch| &batch.slots).collect();
    assert!(
        slots.windows(2).all(|pair| pair[0].start < pair[1].start),
        "a second was written twice"
    );
    let counted: u64 = slots
        .iter()
        .map(|slot| slot.arm(Arm::Baseline).counted)
        .sum();
    assert_eq!(counted, 12 * 7);
    assert!(batches.iter().all(|batch| batch.run == 1));
}

#[test]
fn a_store_that_fails_holds_the_rollout_and_its_canary_stays() {
    let mut rig = Rig::running();
    let why = "disk is full".to_owned();
    rig.driver.hear(
        rig.now(),
        News {
            stored: Default::default(),
            health: Some(StoreHealth::Fails(why.clone())),
        },
    );
    let view = rig.driver.shown(&name()).expect("shown");
    assert_eq!(
        (view.status.phase, view.store_fault.clone()),
        (Phase::Held, Some(why))
    );
    assert_eq!(rig.split().weight.ppm(), 10_000);
}

#[test]
fn without_a_journal_nobody_leaves_baseline() {
    let (mut driver, telemetry) = driver(&Stalled::default());
    driver.journal = None;
    driver.store_fault = Some("serin.db was made by a newer serin".to_owned());
    driver
        .restore(Now::default(), Recovered::default())
        .expect("nothing is pinned");
    let mut rig = Rig {
        driver,
        disk: Stalled::default(),
        telemetry,
        at_ms: 0,
    };
    for verb in [Verb::Start, Verb::Resume, Verb::Advance, weight("1%")] {
        let refused = rig
            .order(verb)
            .try_recv()
            .expect("answered")
            .expect_err("nothing could be remembered");
        assert!(refused.to_string().contains("newer serin"), "{refused}");
        rig.tick();
    }
    assert_eq!((rig.phase(), rig.split().closed), (Phase::Held, true));
}

#[test]
fn history_and_stream_meet_without_gap_or_double() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut rig = Rig::running();
    let log = Arc::clone(&rig.driver.rollouts[&name()].log);
    let mut stream = log.subscribe(0);
    let mut seen = Vec::new();
    for verb in [Verb::Pause, Verb::Resume, Verb::Hold, Verb::Rollback] {
        let retreats = matches!(verb, Verb::Rollback);
        rig.order(verb)
            .try_recv()
            .expect("answered")
            .expect("allowed");
        if !retreats {
            rig.store_all();
        }
        seen.extend(
            runtime
                .block_on(stream.next())
                .expect("readable")
                .iter()
                .map(|event| event.id),
        );
    }
    rig.store_all();
    let expected: Vec<u64> = (1..=rig.events().len() as u64).collect();
    assert_eq!(seen, expected);
    let history = runtime.block_on(log.after(2, 3)).expect("readable");
    assert_eq!(
        history.iter().map(|event| event.id).collect::<Vec<_>>(),
        [3, 4, 5]
    );
}

// The last value of `mirror_difference`, and how many comparisons it stands for.
fn difference(rig: &Rig) -> Option<(f64, u64)> {
    let view = rig.driver.shown(&name()).expect("it is shown");
    let mut signals = view.status.signals.iter();
    let found = signals.find(|figure| figure.of.name.as_str() == "mirror_difference")?;
    Some((found.value?, found.count))
}

#[test]
fn what_a_mirror_finds_is_read_four_times_a_minute_and_judged() {
    let compared = FILE.replace(
        "advance = [\"p99 < 200ms\"]",
        "warmup = \"0s\"\nhold = [\"mirror_difference > 10% over 1m\"]",
    );
    let compared = compared.replace(
        "version = \"7\"",
        "version = \"7\"\nmirror = { share = \"1%\", compare = {} }",
    );
    let mut rig = Rig::new();
    rig.reload(&compared).expect("nothing runs");
    let meter = rig.telemetry.mirror(&name());
    let quarter = |rig: &mut Rig, same: u32, different: u32| {
        for (many, result) in [(same, Mirrored::Same), (different, Mirrored::Different)] {
            (0..many).for_each(|_| meter.count(result));
            meter.count(Mirrored::Failed);
            for _ in 0..30 {
                rig.tick();
            }
        }
        rig.store_all();
    };
    assert_eq!(difference(&rig), None);
    quarter(&mut rig, 3, 1);
    assert_eq!(difference(&rig), Some((0.25, 4)), "also before the start");
    // What was read before the step is not the stage's.
    rig.tick();
    rig.order(Verb::Start)
        .try_recv()
        .expect("answered")
        .expect("idle may start");
    rig.store_all();
    quarter(&mut rig, 95, 5);
    assert_eq!(difference(&rig), Some((0.05, 100)));
    quarter(&mut rig, 0, 0);
    assert_eq!(difference(&rig), Some((0.05, 100)), "nothing was compared");
    assert_eq!(rig.phase(), Phase::Running);
    // 25 of 120 in the last minute.
    quarter(&mut rig, 0, 20);
    assert_eq!(difference(&rig), Some((1.0, 20)));
    assert_eq!(rig.phase(), Phase::Held);
    let silent = compared.replace("compare = {}", "compare = {}, in_flight = 1");
    let reloaded = rig.reload(&silent).expect("allowed");
    assert!(reloaded.pending.is_empty(), "it is no part of the plan");
    let table = rig.driver.live.load();
    let mirror = table.rollouts()[0].mirror.as_ref().expect("it is there");
    assert_eq!(mirror.rule.in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn a_weight_that_the_disk_keeps_waiting_is_answered_after_ten_seconds() {
    let (mut driver, _) = driver(&Stalled::default());
    driver
        .restore(Now::default(), Recovered::default())
        .expect("nothing is pinned");
    let (inbox, orders) = mpsc::channel(1);
    let handle = Handle {
        inbox,
        shared: Arc::clone(&driver.shared),
        live: Arc::clone(&driver.live),
        config_path: Arc::new(Path::new("proxy.toml").to_owned()),
        reloading: Arc::default(),
    };
    let (say, heard) = reports();
    let (stop, shutdown) = shutdown::channel();
    let clock = GateClock::starting_at(Timestamp::default());
    let task = tokio::spawn(run(
        driver,
        clock,
        orders,
        heard,
        no_hooks(),
        (None, None),
        shutdown,
    ));

    let waited = handle
        .order(&name(), order(weight("25%")))
        .await
        .expect_err("nothing was stored");
    let OrderError::Waiting(what) = waited else {
        panic!("{waited:?}")
    };
    assert!(what.contains("event 1"), "{what}");

    let view = handle.rollout("analyzer").expect("shown");
    let awaited = view.status.awaiting_store.expect("it waits");
    say(Report::Stored {
        rollout: name(),
        id: awaited,
    });
    handle.subscribe(&view, 0).next().await.expect("readable");
    assert_eq!(
        handle
            .rollout("analyzer")
            .expect("shown")
            .split
            .weight
            .ppm(),
        250_000
    );

    stop.advance(shutdown::Stage::Stopped);
    task.await.expect("the driver ends with the process");
    assert_eq!(
        handle
            .order(&name(), order(Verb::Hold))
            .await
            .expect_err("it ended"),
        OrderError::Stopped
    );
}

/// The ends of hooks that nobody runs.
fn no_hooks() -> mpsc::UnboundedReceiver<crate::hooks::Ended> {
    mpsc::unbounded_channel().1
}
