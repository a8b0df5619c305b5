//! The cost of reading a window of ten minutes: a percentile, and conditions judged on it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use serin::rollout::assign::Ceilings;
use serin::rollout::condition::Condition;
use serin::rollout::name::Arm;
use serin::rollout::slot::{Cell, CellKey, Slot};
use serin::rollout::time::Timestamp;
use serin::rollout::verdict::{Purpose, Sample, SegmentRule};
use serin::rollout::window::{Measured, Part, View, Window};

const TICK_MS: u64 = 250;
const SPAN: Duration = Duration::from_secs(600);
/// Of each arm and tick: 1,000 requests a second on each.
const REQUESTS: u64 = 250;

fn filled() -> (Window, Timestamp) {
    let mut window = Window::default();
    let ticks = SPAN.as_millis() as u64 / TICK_MS;
    for tick in 0..ticks {
        let start = Timestamp::from_millis(tick * TICK_MS);
        let mut slot = Slot::empty(start, Duration::from_millis(TICK_MS));
        for arm in Arm::ALL {
            let key = CellKey {
                epoch: 1,
                arm,
                segment: None,
            };
            slot.cells.insert(key, cell(tick));
        }
        let now = start.after(Duration::from_millis(TICK_MS));
        window.push(Part::of(&slot, 1), now, SPAN, None);
    }
    (window, Timestamp::from_millis(ticks * TICK_MS))
}

// Latencies from 5 to some 100 ms, each tick's a little different.
fn cell(tick: u64) -> Cell {
    let mut cell = Cell {
        counted: REQUESTS,
        errors: tick % 3,
        ..Cell::default()
    };
    for request in 0..REQUESTS {
        let ms = 5 + (request * 7919 + tick * 104_729) % 97;
        cell.latency.record(ms * 1000, 1);
    }
    cell.over_limit.insert(250_000, 0);
    cell
}

fn bench(criterion: &mut Criterion) {
    let (window, now) = filled();
    let view = || window.view(now, SPAN, Timestamp::default(), &[]);
    criterion.bench_function("window/view", |bencher| bencher.iter(|| black_box(view())));
    let seen = view();
    criterion.bench_function("window/p99", |bencher| {
        bencher.iter(|| seen.percentile_us(black_box(Arm::Canary), 100));
    });
    let ceilings = Ceilings::new();
    let sample = sample(&seen, &ceilings);
    for text in [
        "error_rate > 1.5% for 2m over 10m",
        "p99 > 250ms for 5m over 10m",
        "p95{delta} > 15% for 5m over 10m",
    ] {
        let condition = Condition::parse(text).expect("it can be read");
        criterion.bench_function(&format!("condition/{text}"), |bencher| {
            bencher.iter(|| black_box(&condition).truth(Purpose::Rollback, &sample));
        });
    }
}

fn sample<'a>(view: &'a View<'a>, ceilings: &'a Ceilings) -> Sample<'a> {
    Sample {
        measured: view,
        incidents: 0,
        min_window_requests: 20,
        segments: SegmentRule {
            min_requests: 100,
            ceilings,
        },
        outside: None,
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
