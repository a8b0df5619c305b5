//! Promises of the recorder, the drain and the Prometheus text, to the gate and to dashboards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use serin::rollout::assign::{LearnerHash, Salt};
use serin::rollout::evidence::{Assigned, place_of};
use serin::rollout::learners::LearnerSketch;
use serin::rollout::name::{Arm, PoolName, RolloutName};
use serin::rollout::segments::OTHER_SEGMENT;
use serin::rollout::slot::{
    Cell, CellKey, Class, LATENCY_EDGES, MAX_FAILING_LEARNERS, Outcome, Slot,
};
use serin::rollout::time::{Timestamp, WallTime};
use serin::telemetry::access_log::Line;
use serin::telemetry::prometheus::{Exposition, Form};
use serin::telemetry::{
    ArmRecord, Attempt, AttemptRecord, Drained, Recorder, RolloutMeter, SegmentId, Tally,
    Telemetry, TraceId,
};

const QUARTER: Duration = Duration::from_millis(250);

fn rollout_name(name: &str) -> RolloutName {
    RolloutName::parse(name).expect("a valid name")
}

fn pool_name(name: &str) -> PoolName {
    PoolName::parse(name).expect("a valid name")
}

fn at(quarter: u64) -> Timestamp {
    Timestamp::from_millis(250 * quarter)
}

fn us(micros: u64) -> Option<Duration> {
    Some(Duration::from_micros(micros))
}

fn sent(id: u64, arm: Arm) -> Assigned<SegmentId> {
    Assigned {
        learner: learner(id),
        arm,
        segment: SegmentId(0),
        epoch: 1,
    }
}

fn learner(id: u64) -> LearnerHash {
    Salt::new("telemetry").hash(&id.to_le_bytes())
}

/// A telemetry with one rollout and one worker.
struct Bench {
    telemetry: Arc<Telemetry>,
    meter: RolloutMeter,
    recorder: Recorder,
    quarter: AtomicU64,
}

impl Bench {
    fn new(limits_us: &[u64], max_segments: usize) -> Self {
        let telemetry = Telemetry::new();
        let meter = telemetry.rollout(&rollout_name("analyzer"), limits_us, max_segments);
        let recorder = telemetry.recorder();
        let quarter = AtomicU64::new(0);
        Self {
            telemetry,
            meter,
            recorder,
            quarter,
        }
    }

    fn ok(&self) -> ArmRecord<'_> {
        ArmRecord {
            rollout: &self.meter,
            arm: Arm::Canary,
            segment: SegmentId(0),
            epoch: 1,
            outcome: Outcome {
                class: Class::Ok,
                latency: us(1_000),
            },
            learner: None,
            trace: None,
        }
    }

    fn record(&self, class: Class, latency: Option<Duration>, learner: Option<LearnerHash>) {
        let outcome = Outcome { class, latency };
        self.recorder.record(&ArmRecord {
            outcome,
            learner,
            ..self.ok()
        });
    }

    fn drain(&self) -> Drained {
        let quarter = self.quarter.fetch_add(1, Ordering::Relaxed);
        let mut drained = self.telemetry.drain(at(quarter), QUARTER);
        assert_eq!(drained.len(), 1, "one rollout is known");
        drained.remove(0)
    }

    fn canary(&self) -> Cell {
        self.drain().slot.arm(Arm::Canary)
    }
}

#[test]
fn each_class_counts_as_the_table_of_outcomes_says() {
    // counted, errors, failed, client errors, abandoned, latencies recorded
    let check = |class, expected: [u64; 6]| {
        let bench = Bench::new(&[], 4);
        bench.record(class, us(5_000), None);
        let cell = bench.canary();
        let found = [
            cell.counted,
            cell.errors,
            cell.failed,
            cell.client_errors,
            cell.abandoned,
            cell.latency.len(),
        ];
        assert_eq!(found, expected, "{class:?}");
        assert_eq!(cell.failing_others, expected[1], "{class:?}");
    };
    check(Class::Ok, [1, 0, 0, 0, 0, 1]);
    check(Class::ClientError, [1, 0, 0, 1, 0, 1]);
    check(Class::Error, [1, 1, 0, 0, 0, 1]);
    check(Class::Failed, [1, 1, 1, 0, 0, 1]);
    check(Class::Abandoned, [0, 0, 0, 0, 1, 0]);
    check(Class::AbandonedLate, [1, 1, 1, 0, 1, 1]);

    let bench = Bench::new(&[], 4);
    bench.record(Class::Failed, None, None);
    let cell = bench.canary();
    assert_eq!((cell.counted, cell.latency.len()), (1, 0), "no latency");
}

#[test]
fn a_limit_is_counted_exactly_on_both_sides() {
    let limits = [250_000, 200_000, 200_000, 0, 1];
    let check = |latency: Duration, over: [u64; 4]| {
        let bench = Bench::new(&limits, 4);
        bench.record(Class::Ok, Some(latency), None);
        let expected: BTreeMap<u64, u64> = [0, 1, 200_000, 250_000].into_iter().zip(over).collect();
        assert_eq!(bench.canary().over_limit, expected, "{latency:?}");
    };
    check(Duration::ZERO, [0, 0, 0, 0]);
    check(Duration::from_nanos(1), [1, 0, 0, 0]);
    check(Duration::from_micros(1), [1, 0, 0, 0]);
    check(Duration::from_nanos(1_001), [1, 1, 0, 0]);
    check(Duration::from_nanos(199_999_999), [1, 1, 0, 0]);
    check(Duration::from_millis(200), [1, 1, 0, 0]);
    check(Duration::from_nanos(200_000_001), [1, 1, 1, 0]);
    check(Duration::from_micros(200_001), [1, 1, 1, 0]);
    check(Duration::from_micros(250_000), [1, 1, 1, 0]);
    check(Duration::from_micros(250_001), [1, 1, 1, 1]);
    check(Duration::MAX, [1, 1, 1, 1]);
}

#[test]
fn an_edge_is_counted_exactly_on_both_sides() {
    for edge in 0..LATENCY_EDGES {
        let at_edge = Duration::from_millis(1 << edge);
        let check = |latency: Duration, edges_below: usize| {
            let bench = Bench::new(&[], 4);
            bench.record(Class::Ok, Some(latency), None);
            let mut expected = [0; LATENCY_EDGES];
            expected[..edges_below].fill(1);
            assert_eq!(bench.canary().over_edge, expected, "{latency:?}");
        };
        check(at_edge - Duration::from_nanos(1), edge);
        check(at_edge, edge);
        check(at_edge + Duration::from_nanos(1), edge + 1);
    }
}

#[test]
fn what_is_longer_than_the_longest_latency_counts_as_the_longest() {
    let bench = Bench::new(&[], 4);
    bench.record(Class::Failed, Some(Duration::MAX), None);
    bench.record(Class::Ok, us(1), None);
    let latency = bench.canary().latency;
    let longest = latency.percentile_us(1_000).expect("there are latencies") as f64;
    assert!((longest / 120e6 - 1.0).abs() < 0.01, "{longest}");
    assert_eq!(latency.len(), 2);
}

#[test]
fn changed_limits_hold_for_new_records_through_any_meter() {
    let bench = Bench::new(&[100], 4);
    bench.record(Class::Ok, us(300), None);
    let again = bench
        .telemetry
        .rollout(&rollout_name("analyzer"), &[200, 400], 4);
    bench.record(Class::Ok, us(300), None);
    bench.recorder.record(&ArmRecord {
        rollout: &again,
        ..bench.ok()
    });
    // Until the drain the old limit is counted on, so that its count is whole.
    assert_eq!(
        bench.canary().over_limit,
        [(100, 3), (200, 2), (400, 1)].into()
    );
    bench.record(Class::Ok, us(300), None);
    assert_eq!(bench.canary().over_limit, [(200, 1), (400, 0)].into());
}

#[test]
fn failing_learners_are_kept_by_hash_up_to_the_bound() {
    let bench = Bench::new(&[], 4);
    let most = MAX_FAILING_LEARNERS as u64;
    for id in 0..most + 10 {
        bench.record(Class::Error, None, Some(learner(id)));
    }
    bench.record(Class::Failed, None, Some(learner(0)));
    bench.record(Class::AbandonedLate, None, Some(learner(1)));
    bench.record(Class::Error, None, None);
    bench.record(Class::ClientError, None, Some(learner(2)));
    let cell = bench.canary();
    assert_eq!(cell.failing.len(), MAX_FAILING_LEARNERS);
    assert_eq!(cell.failing[&learner(0)], 2);
    assert_eq!(cell.failing[&learner(1)], 2);
    assert_eq!(cell.failing[&learner(2)], 1);
    assert_eq!(cell.failing_others, 11);
    let kept: u64 = cell.failing.values().sum();
    assert_eq!(kept + cell.failing_others, cell.errors);

    // The bound is per drain, and over all workers together.
    let second = bench.telemetry.recorder();
    for id in 0..most {
        bench.record(Class::Error, None, Some(learner(id)));
        let outcome = Outcome {
            class: Class::Error,
            latency: None,
        };
        second.record(&ArmRecord {
            outcome,
            learner: Some(learner(id + most / 2)),
            ..bench.ok()
        });
    }
    let cell = bench.canary();
    assert_eq!(cell.failing.len(), MAX_FAILING_LEARNERS);
    assert_eq!(cell.failing_others, most / 2);
}

#[test]
fn epochs_arms_and_segments_are_kept_apart_and_only_what_was_seen_is_there() {
    let bench = Bench::new(&[], 8);
    let eu = bench.meter.segment("eu");
    let mut expected = BTreeMap::new();
    let rows = [
        (1, Arm::Baseline, SegmentId(0), None, 3),
        (1, Arm::Canary, eu, Some("eu"), 2),
        (2, Arm::Canary, eu, Some("eu"), 1),
        (9, Arm::Canary, SegmentId(0), None, 4),
    ];
    for (epoch, arm, segment, name, times) in rows {
        expected.insert((epoch, arm, name.map(str::to_owned)), times);
        for _ in 0..times {
            bench.recorder.record(&ArmRecord {
                epoch,
                arm,
                segment,
                ..bench.ok()
            });
        }
    }
    assert_eq!(counted(&bench.drain().slot), expected);
    assert!(bench.drain().slot.cells.is_empty());
    bench.recorder.record(&ArmRecord {
        epoch: 2,
        ..bench.ok()
    });
    let late = [((2, Arm::Canary, None), 1)].into();
    assert_eq!(counted(&bench.drain().slot), late);
}

fn counted(slot: &Slot) -> BTreeMap<(u64, Arm, Option<String>), u64> {
    let cells = slot.cells.iter();
    cells
        .map(|(key, cell)| {
            let segment = key.segment.as_deref().map(str::to_owned);
            ((key.epoch, key.arm, segment), cell.counted)
        })
        .collect()
}

#[test]
fn segments_beyond_the_bound_are_other() {
    let bench = Bench::new(&[], 2);
    let (eu, us) = (bench.meter.segment("eu"), bench.meter.segment("us"));
    let beyond = bench.meter.segment("asia");
    assert_eq!(bench.meter.segment(""), SegmentId(0));
    assert_eq!(bench.meter.segment("eu"), eu);
    assert_ne!(eu, us);
    assert_eq!(beyond, bench.meter.segment("africa"));
    assert_eq!(beyond, bench.meter.segment(OTHER_SEGMENT));
    bench.recorder.record(&ArmRecord {
        segment: beyond,
        ..bench.ok()
    });
    let other = Some(OTHER_SEGMENT.to_owned());
    assert_eq!(
        counted(&bench.drain().slot),
        [((1, Arm::Canary, other), 1)].into()
    );

    // More room: known names stay, new ones are told apart. Less room: nothing is forgotten.
    let wider = bench.telemetry.rollout(&rollout_name("analyzer"), &[], 3);
    let asia = wider.segment("asia");
    assert_ne!(asia, beyond);
    assert_eq!(bench.meter.segment("asia"), asia);
    let narrower = bench.telemetry.rollout(&rollout_name("analyzer"), &[], 1);
    assert_eq!(narrower.segment("asia"), asia);
    assert_eq!(narrower.segment("africa"), beyond);
    assert_eq!(
        Bench::new(&[], 9).meter.segment(&"x".repeat(129)),
        beyond,
        "too long a name"
    );
}

#[test]
fn segments_learnt_at_once_by_many_threads_get_one_number_each() {
    let bench = Bench::new(&[], 40);
    let numbers: Vec<Vec<SegmentId>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|turn| {
                let meter = &bench.meter;
                scope.spawn(move || {
                    let mut ids = vec![SegmentId(0); 60];
                    for step in 0..60 {
                        let name = (step * 7 + turn * 13) % 60;
                        ids[name] = meter.segment(&format!("s{name}"));
                    }
                    ids
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("the thread ends well"))
            .collect()
    });
    let other = bench.meter.segment(OTHER_SEGMENT);
    let told_apart: BTreeSet<u16> = (0..60)
        .map(|name| bench.meter.segment(&format!("s{name}")))
        .filter(|&id| id != other)
        .map(|id| id.0)
        .collect();
    assert_eq!(told_apart.len(), 40);
    for ids in numbers {
        for (name, id) in ids.into_iter().enumerate() {
            assert_eq!(id, bench.meter.segment(&format!("s{name}")), "s{name}");
        }
    }
}

#[test]
fn learners_are_counted_once_per_arm_over_workers_and_drains() {
    let bench = Bench::new(&[], 4);
    let second = bench.telemetry.recorder();
    for id in 0..4_000 {
        bench
            .recorder
            .record_learner(&bench.meter, sent(id, Arm::Baseline));
        second.record_learner(&bench.meter, sent(id + 1_000, Arm::Baseline));
    }
    second.record_learner(&bench.meter, sent(7, Arm::Canary));
    let [baseline, canary] = bench.drain().learners.map(|sketch| sketch.estimate());
    // Three standard errors of the sketch: 3 * 0.81 %.
    assert!(
        (baseline as f64 / 5_000.0 - 1.0).abs() < 0.0243,
        "{baseline}"
    );
    assert_eq!(canary, 1);
    let next = bench.drain().learners;
    assert!(next.iter().all(|sketch| sketch.is_empty()));
    // Whatever a recorder reuses, nobody of an earlier drain comes back.
    for _ in 0..3 {
        for arm in Arm::ALL {
            bench.recorder.record_learner(&bench.meter, sent(7, arm));
        }
        let again = bench.drain().learners.map(|sketch| sketch.estimate());
        assert_eq!(again, [1, 1]);
    }
    let samples = Samples::of(&bench.telemetry);
    let shown = samples.value(
        "serin_rollout_learners",
        &[("rollout", "analyzer"), ("arm", "canary")],
    );
    assert_eq!(shown, 1.0, "the same learner in two drains is one");
}

#[test]
fn who_was_sent_where_is_told_once_by_the_newest_split_and_by_name() {
    let bench = Bench::new(&[], 4);
    let eu = bench.meter.segment("eu");
    for (arm, segment, epoch) in [
        (Arm::Baseline, SegmentId(0), 1),
        (Arm::Canary, eu, 2),
        (Arm::Baseline, SegmentId(0), 1),
    ] {
        let learner = learner(7);
        let assigned = Assigned {
            learner,
            arm,
            segment,
            epoch,
        };
        bench.recorder.record_learner(&bench.meter, assigned);
    }
    let told = bench.drain().assigned;
    let expected = Assigned {
        learner: learner(7),
        arm: Arm::Canary,
        segment: Some(Arc::from("eu")),
        epoch: 2,
    };
    assert_eq!(told, [expected]);
    assert!(bench.drain().assigned.is_empty());
}

#[test]
fn beyond_its_bound_a_worker_tells_of_a_sample_by_hash_of_both_arms_alike() {
    let bench = Bench::new(&[], 4);
    // Everybody twice: the arm that is asked last must not be told of less.
    for id in (0..40_000).chain(0..40_000) {
        let arm = if id % 10 == 0 {
            Arm::Canary
        } else {
            Arm::Baseline
        };
        bench.recorder.record_learner(&bench.meter, sent(id, arm));
    }
    let told = bench.drain().assigned;
    // An eighth of the places is left, and everybody who has one is told of.
    let up_to = u64::MAX / 8;
    let expected: BTreeSet<LearnerHash> = (0..40_000)
        .map(learner)
        .filter(|&learner| place_of(learner) <= up_to)
        .collect();
    let found: BTreeSet<LearnerHash> = told.iter().map(|one| one.learner).collect();
    assert_eq!(found, expected);
    assert_eq!(told.len(), found.len(), "each once");
    // The next drain begins with all places.
    bench
        .recorder
        .record_learner(&bench.meter, sent(1, Arm::Canary));
    assert_eq!(bench.drain().assigned.len(), 1);
}

#[test]
fn a_rollout_is_drained_while_anybody_holds_its_meter_and_never_loses_a_record() {
    let telemetry = Telemetry::new();
    let recorder = telemetry.recorder();
    let kept = telemetry.rollout(&rollout_name("kept"), &[], 4);
    let dropped = telemetry.rollout(&rollout_name("dropped"), &[], 4);
    let record = |rollout: &RolloutMeter| {
        recorder.record(&ArmRecord {
            rollout,
            arm: Arm::Baseline,
            segment: SegmentId(0),
            epoch: 0,
            outcome: Outcome {
                class: Class::Ok,
                latency: None,
            },
            learner: None,
            trace: None,
        });
    };
    record(&dropped);
    drop(dropped);
    let names = |quarter| -> Vec<(String, u64)> {
        let drained = telemetry.drain(at(quarter), QUARTER).into_iter();
        drained
            .map(|d| (d.rollout.to_string(), d.slot.arm(Arm::Baseline).counted))
            .collect()
    };
    assert_eq!(
        names(0),
        [("kept".to_owned(), 0), ("dropped".to_owned(), 1)]
    );
    assert_eq!(names(1), [("kept".to_owned(), 0)]);
    let again = telemetry.rollout(&rollout_name("dropped"), &[], 4);
    record(&again);
    record(&kept);
    drop(recorder);
    assert_eq!(
        names(2),
        [("kept".to_owned(), 1), ("dropped".to_owned(), 1)]
    );
    let labels = [
        ("rollout", "dropped"),
        ("arm", "baseline"),
        ("outcome", "ok"),
    ];
    let total = Samples::of(&telemetry).value("serin_rollout_requests_total", &labels);
    assert_eq!(total, 2.0, "the same name goes on counting");
}

/// What one thread wrote, added up in the plainest way.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    counted: BTreeMap<(u64, Arm), u64>,
    over_100ms: u64,
    failures: BTreeMap<LearnerHash, u64>,
    latencies: u64,
    attempts: u64,
    answers: u64,
}

#[test]
fn many_writers_and_a_drainer_lose_nothing_and_double_nothing() {
    let seed = std::env::var("SERIN_SEED").map_or(0x5e51_1102, |text| {
        text.parse().expect("SERIN_SEED is a number")
    });
    println!("seed {seed} (SERIN_SEED repeats it)");
    let bench = Bench::new(&[100_000], 4);
    let pool = bench.telemetry.pool(&pool_name("original"));
    let done = AtomicBool::new(false);
    let (written, found) = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (bench, pool) = (&bench, &pool);
                let recorder = bench.telemetry.recorder();
                let rng = StdRng::seed_from_u64(seed + writer);
                scope.spawn(move || write(bench, pool, &recorder, rng))
            })
            .collect();
        let drainer = scope.spawn(|| {
            let mut found = Sums::default();
            let mut last = false;
            loop {
                take(&bench.drain(), &mut found);
                if last {
                    return found;
                }
                last = done.load(Ordering::Acquire);
            }
        });
        let mut written = Sums::default();
        for writer in writers {
            written.add(writer.join().expect("the writer ends well"));
        }
        done.store(true, Ordering::Release);
        (written, drainer.join().expect("the drainer ends well"))
    });
    let samples = Samples::of(&bench.telemetry);
    let found = Sums {
        attempts: samples.sum("serin_pool_requests_total") as u64,
        answers: samples.sum("serin_answers_total") as u64,
        ..found
    };
    assert_eq!(found, written);
    let counted: u64 = written.counted.values().sum();
    assert_eq!(samples.sum("serin_rollout_requests_total") as u64, counted);
}

fn write(
    bench: &Bench,
    pool: &serin::telemetry::PoolMeter,
    recorder: &Recorder,
    mut rng: StdRng,
) -> Sums {
    let mut sums = Sums::default();
    for step in 0..30_000_u64 {
        let arm = Arm::ALL[rng.random_range(0..2)];
        let epoch = step / 5_000 + rng.random_range(0..2);
        let latency_us = rng.random_range(1..200_000);
        // Fewer failing learners than the bound: each is found by hash.
        let who = learner(rng.random_range(0..200));
        let class = if rng.random_bool(0.05) {
            Class::Error
        } else {
            Class::Ok
        };
        let outcome = Outcome {
            class,
            latency: us(latency_us),
        };
        recorder.record(&ArmRecord {
            arm,
            epoch,
            outcome,
            learner: Some(who),
            ..bench.ok()
        });
        recorder.record_attempt(&AttemptRecord {
            pool,
            attempt: Attempt::First,
            outcome,
            trace: None,
        });
        recorder.record_answer(200, None);
        *sums.counted.entry((epoch, arm)).or_default() += 1;
        sums.over_100ms += u64::from(latency_us > 100_000);
        if class == Class::Error {
            *sums.failures.entry(who).or_default() += 1;
        }
        sums.latencies += 1;
        sums.attempts += 1;
        sums.answers += 1;
    }
    sums
}

fn take(drained: &Drained, sums: &mut Sums) {
    for (key, cell) in &drained.slot.cells {
        *sums.counted.entry((key.epoch, key.arm)).or_default() += cell.counted;
        sums.over_100ms += cell.over_limit[&100_000];
        for (who, failures) in &cell.failing {
            *sums.failures.entry(*who).or_default() += failures;
        }
        sums.latencies += cell.latency.len();
    }
}

impl Sums {
    fn add(&mut self, other: Self) {
        for (key, count) in other.counted {
            *self.counted.entry(key).or_default() += count;
        }
        for (who, failures) in other.failures {
            *self.failures.entry(who).or_default() += failures;
        }
        self.over_100ms += other.over_100ms;
        self.latencies += other.latencies;
        self.attempts += other.attempts;
        self.answers += other.answers;
    }
}

#[test]
fn prometheus_shows_what_was_recorded() {
    let bench = Bench::new(&[], 4);
    let pool = bench.telemetry.pool(&pool_name("ultra_fast"));
    bench.telemetry.pool(&pool_name("original"));
    let attempt = |attempt, class, latency| {
        let outcome = Outcome { class, latency };
        bench.recorder.record_attempt(&AttemptRecord {
            pool: &pool,
            attempt,
            outcome,
            trace: None,
        });
    };
    attempt(Attempt::First, Class::Ok, Some(Duration::from_millis(200)));
    attempt(
        Attempt::First,
        Class::Ok,
        Some(Duration::from_nanos(200_000_001)),
    );
    attempt(Attempt::Retry, Class::Failed, None);
    attempt(
        Attempt::Failover,
        Class::Error,
        Some(Duration::from_secs(100)),
    );
    bench.record(Class::Ok, us(1_000), None);
    for status in [200, 204, 404] {
        bench.recorder.record_answer(status, None);
    }
    bench.recorder.record_answer(503, Some("overloaded"));
    for tally in [
        Tally::ConnectionAccepted,
        Tally::ConnectionAccepted,
        Tally::ConnectionClosed,
    ] {
        bench.recorder.tally(tally);
    }
    bench.recorder.tally(Tally::StaleConnection);
    bench.drain();
    bench.drain();

    let samples = Samples::of(&bench.telemetry);
    let check = |name: &str, labels: &[(&str, &str)], value: f64| {
        assert_eq!(samples.value(name, labels), value, "{name} {labels:?}");
    };
    let requests = "serin_pool_requests_total";
    for (attempt, outcome, count) in [
        ("first", "ok", 2.0),
        ("retry", "failed", 1.0),
        ("failover", "error", 1.0),
    ] {
        let labels = [
            ("pool", "ultra_fast"),
            ("attempt", attempt),
            ("outcome", outcome),
        ];
        check(requests, &labels, count);
    }
    check(
        requests,
        &[
            ("pool", "original"),
            ("attempt", "first"),
            ("outcome", "ok"),
        ],
        0.0,
    );
    for (edge, below) in [
        ("0.15", 0.0),
        ("0.2", 1.0),
        ("0.25", 2.0),
        ("60.0", 2.0),
        ("+Inf", 3.0),
    ] {
        check(
            "serin_pool_latency_seconds_bucket",
            &[("pool", "ultra_fast"), ("le", edge)],
            below,
        );
    }
    check(
        "serin_pool_latency_seconds_count",
        &[("pool", "ultra_fast")],
        3.0,
    );
    check(
        "serin_pool_latency_seconds_sum",
        &[("pool", "ultra_fast")],
        100.400_000_001,
    );
    check(
        "serin_rollout_latency_seconds_count",
        &[("rollout", "analyzer"), ("arm", "canary")],
        1.0,
    );
    check(
        "serin_answers_total",
        &[("status", "2xx"), ("reason", "")],
        2.0,
    );
    check(
        "serin_answers_total",
        &[("status", "4xx"), ("reason", "")],
        1.0,
    );
    check(
        "serin_answers_total",
        &[("status", "5xx"), ("reason", "overloaded")],
        1.0,
    );
    check("serin_connections_open", &[], 1.0);
    check("serin_connections_accepted_total", &[], 2.0);
    check("serin_stale_connections_total", &[], 1.0);
    check("serin_accept_paused_total", &[], 0.0);
}

#[test]
fn any_text_is_a_label_and_any_number_a_value() {
    let mut out = Exposition::new(Form::Text);
    let text = "a\\b\"c\nd{},=é";
    out.gauge("serin_test", "first line\nback\\slash \"quoted\"")
        .sample(&[("text", text), ("n", "1")], f64::NAN)
        .sample(&[("text", ""), ("n", "2")], f64::INFINITY)
        .sample(&[("text", ""), ("n", "3")], f64::NEG_INFINITY)
        .sample(&[("text", ""), ("n", "4")], 0.000_001)
        .count(&[], (1 << 53) - 1);
    let written = out.finish();
    assert!(written.contains("# HELP serin_test first line\\nback\\\\slash \"quoted\"\n"));
    let samples = Samples::parse(&written);
    assert!(
        samples
            .value("serin_test", &[("text", text), ("n", "1")])
            .is_nan()
    );
    let check = |n, value| {
        assert_eq!(
            samples.value("serin_test", &[("text", ""), ("n", n)]),
            value
        )
    };
    check("2", f64::INFINITY);
    check("3", f64::NEG_INFINITY);
    check("4", 1e-6);
    assert_eq!(samples.value("serin_test", &[]), 9_007_199_254_740_991.0);
}

/// A small strict reader of the text format 0.0.4, written from its specification.
#[derive(Debug, Default)]
struct Samples {
    kinds: BTreeMap<String, String>,
    values: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Samples {
    fn of(telemetry: &Telemetry) -> Self {
        let mut out = Exposition::new(Form::Text);
        telemetry.expose(&mut out);
        Self::parse(&out.finish())
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends in a line feed");
        let mut samples = Self::default();
        let mut family = String::new();
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, _) = help.split_once(' ').expect("a name and a text");
                assert!(helped.insert(name.to_owned()), "{name} has one HELP");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert!(helped.contains(name), "{name} has HELP before TYPE");
                let known = samples.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(known, None, "{name} has one TYPE");
                family = name.to_owned();
            } else {
                samples.sample(&family, line);
            }
        }
        samples.check_histograms();
        samples
    }

    fn sample(&mut self, family: &str, line: &str) {
        let name_len = line.find(['{', ' ']).expect("a name ends");
        let (name, rest) = line.split_at(name_len);
        let suffix = name
            .strip_prefix(family)
            .expect("samples follow their TYPE");
        let histogram = self.kinds[family] == "histogram";
        let suffixes: &[&str] = if histogram {
            &["_bucket", "_sum", "_count"]
        } else {
            &[""]
        };
        assert!(suffixes.contains(&suffix), "{name} in {family}");
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "{name}"
        );
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest),
            None => (BTreeMap::new(), rest),
        };
        let value = match rest.strip_prefix(' ').expect("a blank before the value") {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            "NaN" => f64::NAN,
            number => number.parse().expect("a number"),
        };
        let known = self.values.insert((name.to_owned(), labels), value);
        assert_eq!(known, None, "{line} is there once");
    }

    // Buckets grow with their edges, and the last, +Inf, is the count.
    fn check_histograms(&self) {
        let mut series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), &value) in &self.values {
            let Some(base) = name.strip_suffix("_bucket") else {
                continue;
            };
            let mut labels = labels.clone();
            let edge = labels.remove("le").expect("a bucket has an edge");
            let edge = if edge == "+Inf" {
                f64::INFINITY
            } else {
                edge.parse().expect("an edge")
            };
            series
                .entry((base.to_owned(), labels))
                .or_default()
                .push((edge, value));
        }
        for ((base, labels), mut buckets) in series {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(
                buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
                "{base} {labels:?}"
            );
            let &(edge, all) = buckets.last().expect("at least one bucket");
            assert_eq!(edge, f64::INFINITY, "{base}");
            assert_eq!(
                all,
                self.values[&(format!("{base}_count"), labels)],
                "{base}"
            );
        }
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let key = (name.to_owned(), labels.collect());
        *self
            .values
            .get(&key)
            .unwrap_or_else(|| panic!("no {key:?}"))
    }

    fn sum(&self, name: &str) -> f64 {
        let samples = self.values.iter();
        samples
            .filter(|((n, _), _)| n == name)
            .map(|(_, value)| value)
            .sum()
    }
}

fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, quoted) = rest.split_once("=\"").expect("a label has a quoted value");
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().expect("the value ends") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("unknown escape {c}"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = &quoted[end + 1..];
        match rest.split_at(1) {
            (",", more) => rest = more,
            ("}", more) => return (labels, more),
            other => panic!("after a label: {other:?}"),
        }
    }
}

#[test]
fn who_was_seen_is_told_once_a_drain_with_how_he_fared() {
    let bench = Bench::new(&[], 4);
    let [slow, late, gone] = [7, 8, 9].map(LearnerHash::from_raw);
    bench.record(Class::Ok, us(1_000), Some(slow));
    bench.record(Class::Failed, us(5_001), Some(slow));
    bench.record(Class::ClientError, None, Some(slow));
    // Nobody to be told apart, and nothing that counts.
    bench.record(Class::Failed, us(5_001), None);
    bench.record(Class::Abandoned, us(5_001), Some(gone));
    bench.recorder.record_timeout(&ArmRecord {
        outcome: Outcome {
            class: Class::Failed,
            latency: us(1_000_000),
        },
        learner: Some(late),
        segment: bench.meter.segment("eu"),
        ..bench.ok()
    });
    let mut sights = bench.drain().sights;
    sights.sort_by_key(|sight| sight.learner);
    let [first, second] = &sights[..] else {
        panic!("two learners: {sights:?}");
    };
    assert_eq!((first.learner, first.segment.as_deref()), (slow, None));
    assert!(first.error && first.client_error && !first.first.error);
    // 5.001 ms is above 1, 2 and 4 ms.
    assert_eq!(
        (first.edges, first.first.latency_us),
        (Some(3), Some(1_000))
    );
    assert_eq!(
        (second.learner, second.segment.as_deref()),
        (late, Some("eu"))
    );
    assert!(second.first.failed && second.first.error);
    assert_eq!(
        (second.edges, second.first.latency_us),
        (Some(15), Some(u64::MAX)),
        "a timeout is above every edge"
    );
    assert!(bench.drain().sights.is_empty());
}

#[test]
fn beyond_the_bound_learners_are_left_out_whichever_way_they_fare() {
    let bench = Bench::new(&[], 4);
    for learner in 0..16_386 {
        bench.record(Class::Ok, None, Some(LearnerHash::from_raw(learner)));
    }
    bench.record(Class::Failed, None, Some(LearnerHash::from_raw(16_385)));
    bench.record(Class::Failed, None, Some(LearnerHash::from_raw(0)));
    bench.recorder.record(&ArmRecord {
        arm: Arm::Baseline,
        learner: Some(LearnerHash::from_raw(16_385)),
        ..bench.ok()
    });
    let sights = bench.drain().sights;
    let of = |arm| sights.iter().filter(|sight| sight.arm == arm).count();
    assert_eq!((of(Arm::Canary), of(Arm::Baseline)), (16_384, 1));
    assert_eq!(sights.iter().filter(|sight| sight.error).count(), 1);
}

#[test]
fn what_a_replaced_process_counted_is_in_the_next_drain_once_and_apart() {
    let bench = Bench::new(&[], 4);
    bench.record(Class::Ok, us(5_000), None);
    let key = CellKey {
        epoch: 1,
        arm: Arm::Canary,
        segment: Some("school".into()),
    };
    let cell = Cell {
        counted: 3,
        errors: 1,
        ..Cell::default()
    };
    let mut learners = LearnerSketch::new();
    learners.insert(LearnerHash::from_raw(1 << 40));
    for _ in 0..2 {
        let name = rollout_name("analyzer");
        bench.telemetry.absorb(name.clone(), key.clone(), &cell);
        bench
            .telemetry
            .absorb_learners(name, Arm::Canary, &learners);
        let unknown = rollout_name("another");
        bench.telemetry.absorb(unknown, key.clone(), &cell);
    }
    let drained = bench.drain();
    assert_eq!(drained.slot.arm(Arm::Canary).counted, 1);
    let handed = drained.handed.arm(Arm::Canary);
    assert_eq!((handed.counted, handed.errors), (6, 2));
    assert_eq!(drained.handed.cells.keys().collect::<Vec<_>>(), [&key]);
    assert_eq!(drained.learners[Arm::Canary.index()], learners);
    assert!(bench.drain().handed.cells.is_empty());
}

/// The rows of the table of fields: name, type, and whether it is always there.
fn documented_fields() -> Vec<(String, String, bool)> {
    let page = include_str!("../docs/ACCESS_LOG.md");
    let table = page
        .split("| field | ")
        .nth(1)
        .expect("the table of fields");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        (name, cells[1].to_owned(), cells[2] == "always")
    };
    rows.map(row).collect()
}

#[test]
fn the_page_of_the_access_log_lists_its_fields() {
    let whole = Line {
        at: WallTime::from_unix_millis(1_762_000_000_123),
        client: IpAddr::from([192, 0, 2, 7]),
        protocol: Some("HTTP/1.1"),
        method: Some("GET"),
        host: Some("example.org"),
        path: Some("/a"),
        status: 503,
        error: Some("overloaded"),
        rollout: Some("analyzer"),
        arm: Some(Arm::Canary),
        pool: Some("ultra_fast"),
        endpoint: Some("127.0.0.1:9201"),
        bytes: 1234,
        duration: Duration::from_micros(15_250),
        whole: true,
        trace: TraceId::new(1),
    };
    let least = Line {
        protocol: None,
        method: None,
        host: None,
        path: None,
        error: None,
        rollout: None,
        arm: None,
        pool: None,
        endpoint: None,
        trace: None,
        ..whole.clone()
    };
    let kind = |value: &serde_json::Value| match value {
        serde_json::Value::String(_) => "string",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::Bool(_) => "boolean",
        other => panic!("{other} has no place in a line"),
    };
    let told = |line: &Line<'_>| -> BTreeMap<String, String> {
        let json = serde_json::to_value(line).expect("JSON");
        let fields = json.as_object().expect("an object").iter();
        fields
            .map(|(name, value)| (name.clone(), kind(value).to_owned()))
            .collect()
    };
    let documented = documented_fields();
    let all = documented
        .iter()
        .map(|(name, kind, _)| (name.clone(), kind.clone()));
    assert_eq!(all.collect::<BTreeMap<_, _>>(), told(&whole));
    let always = documented.iter().filter(|(_, _, always)| *always);
    let always = always.map(|(name, kind, _)| (name.clone(), kind.clone()));
    assert_eq!(always.collect::<BTreeMap<_, _>>(), told(&least));
}
