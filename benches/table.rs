//! The cost of finding a request's route and arm in the table in force.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use serin::config;
use serin::live::{Live, RolloutSettings, Table};
use serin::rollout::assign::{Ask, Split};
use serin::rollout::name::RolloutName;
use serin::rollout::weight::Weight;
use serin::telemetry::Telemetry;

/// A table with this many routes, each of a host of its own, all of one rollout at 10 %.
fn live(routes: usize) -> Arc<Live> {
    let mut text = String::from(
        "[pools.original]\nendpoints = [\"127.0.0.1:1\"]\n[pools.ultra_fast]\nendpoints = [\"127.0.0.1:2\"]\n\
         [rollouts.analyzer]\nbaseline = \"original\"\ncanary = \"ultra_fast\"\nlearner = [\"header:x-learner-id\"]\n\
         [[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"10%\"\nduration = \"2h\"\n",
    );
    for route in 0..routes {
        writeln!(
            text,
            "[[routes]]\nhost = \"h{route}.example.org\"\npath = \"/api\"\nrollout = \"analyzer\""
        )
        .expect("a string takes everything");
    }
    let config = config::parse("bench.toml", &text, &|_| None).expect("a valid configuration");
    let name = RolloutName::parse("analyzer").expect("a name");
    let settings = RolloutSettings {
        split: Split {
            weight: Weight::from_share(0.1).expect("a share"),
            closed: false,
            epoch: 1,
            ..Split::baseline_only()
        },
        latency_limits_us: vec![200_000],
        patience: Duration::from_secs(1),
        failover_after: None,
        injection: None,
        stage: None,
    };
    let telemetry = Telemetry::new();
    Live::new(Table::build(
        &config,
        &BTreeMap::from([(name, settings)]),
        &telemetry,
        None,
    ))
}

fn lookups(criterion: &mut Criterion) {
    for routes in [1, 1_000] {
        let live = live(routes);
        let mut reader = live.reader();
        let host = format!("h{}.example.org", routes / 2);
        criterion.bench_function(&format!("route among {routes}"), |bencher| {
            bencher.iter(|| {
                let table = reader.load();
                black_box(table.route(black_box(&host), black_box("/api/lessons/1")))
            });
        });
    }
    let live = live(1);
    let table = live.load();
    let rollout = &table.rollouts()[0];
    criterion.bench_function("hash a learner and choose the arm", |bencher| {
        bencher.iter(|| {
            let learner = black_box(b"learner-12345".as_slice());
            let ask = Ask {
                learner: Some(learner),
                hash: Some(rollout.salt.hash(learner)),
                ..Ask::default()
            };
            black_box(rollout.split.assign(ask))
        });
    });
}

criterion_group!(benches, lookups);
criterion_main!(benches);
