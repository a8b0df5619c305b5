//! The cost of measuring one request, as the data path pays it, and of a drain.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

use serin::rollout::assign::{LearnerHash, Salt};
use serin::rollout::evidence::Assigned;
use serin::rollout::name::{Arm, PoolName, RolloutName};
use serin::rollout::slot::{Class, Outcome};
use serin::rollout::time::Timestamp;
use serin::telemetry::{
    ArmRecord, Attempt, AttemptRecord, PoolMeter, Recorder, RolloutMeter, SegmentId, Telemetry,
    TraceId,
};

/// As many as a worker keeps apart at most by default.
const SEGMENTS: usize = 64;
/// Varied, so that no branch or cache line is always the same.
const SAMPLES: usize = 4_096;

struct Meters {
    telemetry: Arc<Telemetry>,
    rollout: RolloutMeter,
    pool: PoolMeter,
    recorder: Recorder,
    segments: Vec<SegmentId>,
    learners: Vec<LearnerHash>,
    latencies: Vec<Duration>,
}

impl Meters {
    fn new() -> Self {
        let telemetry = Telemetry::new();
        let rollout_name = RolloutName::parse("analyzer").expect("a name");
        let pool_name = PoolName::parse("original").expect("a name");
        let rollout = telemetry.rollout(&rollout_name, &[200_000, 250_000, 1_000_000], SEGMENTS);
        let salt = Salt::new("bench");
        let learners: Vec<_> = (0..SAMPLES).map(|n| salt.hash(&n.to_le_bytes())).collect();
        let spread = |hash: &LearnerHash| Duration::from_micros(1_000 + hash.raw() % 300_000);
        Self {
            pool: telemetry.pool(&pool_name),
            recorder: telemetry.recorder(),
            segments: (0..SEGMENTS)
                .map(|n| rollout.segment(&format!("segment-{n}")))
                .collect(),
            latencies: learners.iter().map(spread).collect(),
            learners,
            rollout,
            telemetry,
        }
    }

    fn record(&self, n: usize, segments: usize, class: Class) {
        let sample = n % SAMPLES;
        self.recorder.record(black_box(&ArmRecord {
            rollout: &self.rollout,
            arm: Arm::ALL[n % 2],
            segment: self.segments[n % segments],
            epoch: 7,
            outcome: self.outcome(n, class),
            learner: Some(self.learners[sample]),
            trace: TraceId::new(n as u128),
        }));
    }

    fn outcome(&self, n: usize, class: Class) -> Outcome {
        let latency = Some(self.latencies[n % SAMPLES]);
        Outcome { class, latency }
    }

    fn whole(&self, n: usize) {
        let assigned = Assigned {
            learner: self.learners[n % SAMPLES],
            arm: Arm::ALL[n % 2],
            segment: self.segments[0],
            epoch: 7,
        };
        self.recorder.record_learner(&self.rollout, assigned);
        self.recorder.record_attempt(black_box(&AttemptRecord {
            pool: &self.pool,
            attempt: Attempt::First,
            outcome: self.outcome(n, Class::Ok),
            trace: TraceId::new(n as u128),
        }));
        self.recorder.record_answer(200, None);
        self.record(n, 1, Class::Ok);
    }
}

fn record(criterion: &mut Criterion) {
    let meters = Meters::new();
    let mut group = criterion.benchmark_group("record");
    let mut each = |name: &str, what: &dyn Fn(usize)| {
        let mut n = 0;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                n += 1;
                what(n);
            });
        });
    };
    each("arm", &|n| meters.record(n, 1, Class::Ok));
    each("arm_of_64_segments", &|n| {
        meters.record(n, SEGMENTS, Class::Ok)
    });
    each("arm_failed", &|n| meters.record(n, 1, Class::Failed));
    each("one_request_in_all", &|n| meters.whole(n));
    each("segment_by_name", &|_| {
        black_box(meters.rollout.segment(black_box("segment-17")));
    });
    group.finish();
}

fn drain(criterion: &mut Criterion) {
    let meters = Meters::new();
    let mut group = criterion.benchmark_group("drain");
    for segments in [1, SEGMENTS] {
        group.bench_function(format!("750_requests_of_{segments}_segments"), |bench| {
            bench.iter_batched(
                || (0..750).for_each(|n| meters.record(n, segments, Class::Ok)),
                |()| {
                    let width = Duration::from_millis(250);
                    meters.telemetry.drain(Timestamp::default(), width)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, record, drain);
criterion_main!(benches);
