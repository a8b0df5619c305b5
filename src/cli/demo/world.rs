//! The demo's world: eight analyzers of the old pool, two of the new one, on real sockets and a thread of their own.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Scenario;
use crate::stub::analyzer::{Analyzer, AnalyzerSettings};
use crate::stub::behaviour::{Behaviour, Latency};

const ORIGINALS: u64 = 8;
const ULTRA_FASTS: u64 = 2;
/// The old pool: the latencies of a service that was worth replacing, and a few errors of its own.
const ORIGINAL: Behaviour = behaviour(40, 110, 0.000_2);
/// The new pool, as good as its name.
const ULTRA_FAST: Behaviour = behaviour(15, 45, 0.0);

/// The analyzers. They serve until `stop`.
pub(super) struct World {
    originals: Vec<Analyzer>,
    ultra_fasts: Vec<Analyzer>,
    thread: thread::JoinHandle<()>,
}

const fn behaviour(median_ms: u64, p99_ms: u64, error_rate: f64) -> Behaviour {
    Behaviour {
        latency: Latency {
            median: Duration::from_millis(median_ms),
            p99: Duration::from_millis(p99_ms),
        },
        error_rate,
        ..Behaviour::HEALTHY
    }
}

impl World {
    pub(super) fn start() -> anyhow::Result<Self> {
        let bind = |pool: &str, behaviour, seed| {
            let listen = ([127, 0, 0, 1], 0).into();
            let settings = AnalyzerSettings {
                listen,
                pool: pool.to_owned(),
                behaviour,
                seed,
            };
            Analyzer::bind(settings).context("cannot start a stub analyzer")
        };
        let originals = (0..ORIGINALS)
            .map(|seed| bind("original", ORIGINAL, seed))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let ultra_fasts = (0..ULTRA_FASTS)
            .map(|seed| bind("ultra_fast", ULTRA_FAST, 100 + seed))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let all: Vec<Analyzer> = originals.iter().chain(&ultra_fasts).cloned().collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new()
            .name("analyzers".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let mut serving = tokio::task::JoinSet::new();
                    for analyzer in all {
                        serving.spawn(async move { analyzer.serve().await });
                    }
                    serving.join_all().await;
                });
            })?;
        Ok(Self {
            originals,
            ultra_fasts,
            thread,
        })
    }

    pub(super) fn original_addresses(&self) -> String {
        addresses(&self.originals)
    }

    pub(super) fn ultra_fast_addresses(&self) -> String {
        addresses(&self.ultra_fasts)
    }

    /// Makes the new pool misbehave from the next request on.
    pub(super) fn break_canary(&self, scenario: Scenario) {
        for analyzer in &self.ultra_fasts {
            analyzer.change(|behaviour| match scenario {
                Scenario::Errors => behaviour.error_rate = 0.3,
                Scenario::Latency => {
                    behaviour.latency = Latency {
                        median: Duration::from_millis(400),
                        p99: Duration::from_millis(900),
                    }
                }
                Scenario::Healthy | Scenario::Segment => {}
            });
        }
    }

    /// When the last learner's request reached the new pool.
    pub(super) fn last_canary_request(&self) -> Option<Instant> {
        self.ultra_fasts
            .iter()
            .filter_map(Analyzer::last_request)
            .max()
    }

    /// Ends them all. Called when nobody asks any more.
    pub(super) fn stop(self) {
        for analyzer in self.originals.iter().chain(&self.ultra_fasts) {
            analyzer.stop_soon();
        }
        if self.thread.join().is_err() {
            tracing::warn!("the analyzers' thread panicked");
        }
    }
}

/// As a TOML list.
fn addresses(analyzers: &[Analyzer]) -> String {
    let quoted: Vec<String> = analyzers
        .iter()
        .map(|analyzer| format!("\"{}\"", analyzer.addr()))
        .collect();
    format!("[{}]", quoted.join(", "))
}
