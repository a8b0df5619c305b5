//! The cost of the work on a request's headers: checked, hop-by-hop ones and claims removed, who asked and its ids said.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use serin::config;
use serin::live::{Live, Table};
use serin::proxy::bench::Client;
use serin::telemetry::Telemetry;

/// What an application sends.
const SHORT: &[(&str, &str)] = &[
    ("host", "tutor.example.org"),
    ("user-agent", "tutor/3.1"),
    ("accept", "application/json"),
    ("x-learner-id", "learner-12345"),
];
/// What a browser adds.
const BROWSER: &[(&str, &str)] = &[
    ("connection", "keep-alive"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
    ("cache-control", "no-cache"),
    (
        "cookie",
        "session=0123456789abcdef0123456789abcdef; theme=dark",
    ),
    ("referer", "https://tutor.example.org/lessons/17"),
    (
        "sec-ch-ua",
        "\"Chromium\";v=\"140\", \"Not.A/Brand\";v=\"8\"",
    ),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
    ("x-forwarded-for", "203.0.113.7"),
];

fn map(lines: &[&[(&'static str, &'static str)]]) -> HeaderMap {
    let line = |&(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    lines.concat().iter().map(line).collect()
}

fn headers(criterion: &mut Criterion) {
    let text = "[pools.original]\nendpoints = [\"127.0.0.1:1\"]\n[[routes]]\npath = \"/\"\npool = \"original\"\n";
    let config = config::parse("bench.toml", text, &|_| None).expect("a valid configuration");
    let telemetry = Telemetry::new();
    let live = Live::new(Table::build(&config, &BTreeMap::new(), &telemetry, None));
    let table = live.load();
    let client = Client::at("192.0.2.1");
    let mut group = criterion.benchmark_group("headers");
    for (name, lines) in [
        ("of_4_lines", vec![SHORT]),
        ("of_17_lines", vec![SHORT, BROWSER]),
    ] {
        let asked = map(&lines);
        group.bench_function(name, |bench| {
            bench.iter_batched_ref(
                || asked.clone(),
                |headers| assert!(client.pass_on(black_box(headers), &table)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
