//! The cost of putting one learner on an arm: hash and order of precedence.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

use serin::rollout::assign::{Ask, Salt, Split};
use serin::rollout::weight::Weight;

fn assign(criterion: &mut Criterion) {
    let salt = Salt::new("analyzer-v3");
    let split = Split {
        closed: false,
        weight: Weight::parse("1%").expect("a weight"),
        ..Split::baseline_only()
    };
    let short = b"learner-12345".as_slice();
    let long = [b'x'; 300];
    let mut group = criterion.benchmark_group("assign");
    group.bench_function("hash", |bench| {
        bench.iter(|| salt.hash(black_box(short)));
    });
    group.bench_function("hash_300_bytes", |bench| {
        bench.iter(|| salt.hash(black_box(&long)));
    });
    group.bench_function("hash_and_assign", |bench| {
        bench.iter(|| {
            let learner = black_box(short);
            split.assign(Ask {
                learner: Some(learner),
                hash: Some(salt.hash(learner)),
                ..Ask::default()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, assign);
criterion_main!(benches);
