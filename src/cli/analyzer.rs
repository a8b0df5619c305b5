//! `serin analyzer`: one stub analyzer in the foreground, until Ctrl-C or SIGTERM.
//!
//! Owns its arguments as typed. What it does lives in `stub::analyzer`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::rollout::time::parse_duration;
use crate::rollout::weight::Weight;
use crate::stub::analyzer::{Analyzer, AnalyzerSettings};
use crate::stub::behaviour::{Behaviour, Latency};

/// A stub analyzer for trying things out: answers learners, and misbehaves on command
///
/// While it runs, `POST /behaviour` with JSON changes how it behaves, for example
/// {"error_rate": 0.6, "latency_ms": 800, "for_ms": 30000}; `GET /behaviour` and `GET /counts` show it.
#[derive(Args, Clone, Debug)]
pub struct AnalyzerArgs {
    /// Address to listen on; port 0 for any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9101")]
    listen: SocketAddr,
    /// Pool named in every answer
    #[arg(long, default_value = "original")]
    pool: String,
    /// Median of the latency, and its 99 % quantile (three times the median if left out)
    #[arg(long, value_name = "40ms[,p99=120ms]", value_parser = latency, default_value = "0s")]
    latency: Latency,
    /// Share of requests answered with --status
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0%")]
    error_rate: f64,
    /// Status of those answers
    #[arg(long, value_parser = clap::value_parser!(u16).range(200..600), default_value_t = 500)]
    status: u16,
    /// Share of requests never answered
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0%")]
    hang: f64,
    /// Share of requests whose connection is reset
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0%")]
    reset: f64,
    /// Share of answers that end in the middle of the body
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0%")]
    cut_body: f64,
    /// Latency falls from ten times the usual to the usual within this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    slow_start: Duration,
    /// Answer 503 to /health
    #[arg(long)]
    sick: bool,
    /// Threads that serve
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256), default_value_t = 1)]
    threads: u16,
    /// Of the latencies and faults drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Serves until a signal. Fails if the address cannot be bound.
pub fn run(args: &AnalyzerArgs) -> anyhow::Result<()> {
    let analyzer = Analyzer::bind(args.settings())
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let runtime = one_thread()?;
    let told_to_end = runtime.block_on(async { end() })?;
    let mut helpers = Vec::new();
    for number in 1..args.threads {
        helpers.push(spawn_helper(number, analyzer.clone())?);
    }
    say(&format!(
        "analyzer {} listens on {}",
        args.pool,
        analyzer.addr()
    ));
    runtime.block_on(async {
        tokio::select! {
            () = analyzer.serve() => {}
            () = told_to_end => {}
        }
        analyzer.stop().await;
    });
    for helper in helpers {
        if helper.join().is_err() {
            anyhow::bail!("a thread of the analyzer ended unexpectedly");
        }
    }
    Ok(())
}

impl AnalyzerArgs {
    fn settings(&self) -> AnalyzerSettings {
        AnalyzerSettings {
            listen: self.listen,
            pool: self.pool.clone(),
            behaviour: Behaviour {
                latency: self.latency,
                error_rate: self.error_rate,
                status: self.status,
                hang: self.hang,
                reset: self.reset,
                cut_body: self.cut_body,
                refuse: false,
                sick: self.sick,
                slow_start: self.slow_start,
                ..Behaviour::HEALTHY
            },
            seed: self.seed,
        }
    }
}

fn spawn_helper(number: u16, analyzer: Analyzer) -> anyhow::Result<thread::JoinHandle<()>> {
    let runtime = one_thread()?;
    let thread = thread::Builder::new().name(format!("analyzer-{number}"));
    let serve = move || runtime.block_on(analyzer.serve());
    thread.spawn(serve).context("cannot start a thread")
}

fn one_thread() -> anyhow::Result<Runtime> {
    let mut builder = runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .context("cannot start a runtime")
}

// Listens for the signals from now on; the future ends at the first.
fn end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

// Whoever does not read it does not want it.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        tracing::debug!("nobody reads: {line}");
    }
}

fn share(text: &str) -> Result<f64, String> {
    Weight::parse(text)
        .map(Weight::share)
        .map_err(|error| error.to_string())
}

fn latency(text: &str) -> Result<Latency, String> {
    let Some((median, tail)) = text.split_once(',') else {
        return parse_duration(text).map(Latency::around);
    };
    let tail = tail
        .trim_start()
        .strip_prefix("p99=")
        .ok_or_else(|| format!("{text:?} is not like \"40ms,p99=120ms\""))?;
    let (median, p99) = (parse_duration(median)?, parse_duration(tail)?);
    if p99 < median {
        return Err(format!("{text:?} has a p99 below its median"));
    }
    Ok(Latency { median, p99 })
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(line: &str) -> Result<AnalyzerSettings, clap::Error> {
        let command = AnalyzerArgs::augment_args(Command::new("analyzer"));
        let matches = command.try_get_matches_from(line.split_whitespace())?;
        AnalyzerArgs::from_arg_matches(&matches).map(|args| args.settings())
    }

    #[test]
    fn what_is_typed_becomes_a_behaviour() {
        AnalyzerArgs::augment_args(Command::new("analyzer")).debug_assert();
        let healthy = parse("analyzer").expect("every argument has a default");
        assert_eq!(healthy.behaviour, Behaviour::default());
        let line = "analyzer --listen 127.0.0.1:9201 --pool ultra_fast --error-rate 60% --status 503 --sick";
        let settings = parse(line).expect("a valid line");
        let behaviour = Behaviour {
            error_rate: 0.6,
            status: 503,
            sick: true,
            ..Behaviour::default()
        };
        assert_eq!(settings.behaviour, behaviour);
        assert_eq!(
            (settings.pool.as_str(), settings.listen.port()),
            ("ultra_fast", 9201)
        );
        for wrong in [
            "--error-rate 101%",
            "--status 199",
            "--threads 0",
            "--listen x",
            "extra",
        ] {
            assert!(
                parse(&format!("analyzer {wrong}")).is_err(),
                "{wrong} was accepted"
            );
        }
    }

    #[test]
    fn a_latency_is_a_median_and_perhaps_a_tail() {
        let check = |text: &str, median: u64, p99: u64| {
            let [median, p99] = [median, p99].map(Duration::from_millis);
            assert_eq!(latency(text), Ok(Latency { median, p99 }), "{text}");
        };
        check("40ms", 40, 120);
        check("40ms,p99=100ms", 40, 100);
        check("40ms, p99=40ms", 40, 40);
        check("0s", 0, 0);
        for text in [
            "",
            "40",
            "40ms,",
            "40ms,120ms",
            "40ms,p99=",
            "40ms,p99=39ms",
            ",p99=1s",
        ] {
            assert!(latency(text).is_err(), "{text:?} was accepted");
        }
    }
}
