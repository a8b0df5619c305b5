//! `serin learners`: learners' load in the foreground, for trying things out beside `serin analyzer`.
//!
//! Owns its arguments as typed, and one line of figures. Who asks, and when, lives in `stub::load`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::Uri;
use tokio::net::lookup_host;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::rollout::time::parse_duration;
use crate::stub::load::{Load, LoadReport, LoadSettings};

/// From one line of figures to the next.
const EVERY: Duration = Duration::from_secs(10);
/// How often a name that cannot be found yet is looked up again, and for how long.
const AGAIN: Duration = Duration::from_secs(1);
const LOOK_UPS: u32 = 30;

/// Learners who ask at a steady rate, whatever the answers, until Ctrl-C or SIGTERM
///
/// Each request carries x-learner-id: learner-N. A line of figures is printed every 10 s and at the end.
#[derive(Args, Clone, Debug)]
pub(super) struct LearnersArgs {
    /// Whom they ask; given several times, each is asked by its share of the requests
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/")]
    target: Vec<String>,
    /// Requests a second, of all together
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// How many learners there are
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000), default_value_t = 20_000)]
    learners: u32,
    /// When they have had enough; 0s = never
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    duration: Duration,
    /// Of who asks, and when
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Exit 0 where every request was answered below 400, else 1.
pub(super) fn run(args: &LearnersArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let mut loads = Vec::new();
        for (target, seed) in args.target.iter().zip(args.seed..) {
            let settings = LoadSettings {
                learners: args.learners,
                rate_per_s: args.rate / args.target.len() as f64,
                seed,
                ..aimed_at(target).await?
            };
            loads.push(Load::start(settings)?);
        }
        until_enough(args.duration, &loads).await?;
        let mut reports = Vec::new();
        for load in loads {
            reports.push(load.stop().await);
        }
        super::print(&line(&reports))?;
        let is_good = |report: &LoadReport| report.failed == 0 && report.ok() == report.sent;
        Ok(if reports.iter().all(is_good) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

async fn aimed_at(url: &str) -> anyhow::Result<LoadSettings> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
    anyhow::ensure!(
        uri.scheme_str() == Some("http"),
        "{url:?} does not begin with http://"
    );
    let host = uri.host().with_context(|| format!("{url:?} has no host"))?;
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let mut left = LOOK_UPS;
    let target = loop {
        match lookup_host(&address).await {
            Ok(mut found) => break found.next(),
            Err(why) if left == 0 => {
                return Err(why).with_context(|| format!("cannot find {address}"));
            }
            Err(_) => left -= 1,
        }
        sleep(AGAIN).await;
    };
    let target = target.with_context(|| format!("{address} has no address"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(LoadSettings {
        path: path.to_owned(),
        ..LoadSettings::new(target)
    })
}

async fn until_enough(duration: Duration, loads: &[Load]) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut lines = interval(EVERY);
    lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
    lines.tick().await;
    let enough = async {
        match duration {
            Duration::ZERO => std::future::pending().await,
            duration => sleep(duration).await,
        }
    };
    tokio::pin!(enough);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = &mut enough => return Ok(()),
            _ = lines.tick() => {
                let reports: Vec<LoadReport> = loads.iter().map(Load::snapshot).collect();
                super::print(&line(&reports))?;
            }
        }
    }
}

/// `10.0s  1000 asked: original 900, ultra_fast 100; 0 errors, 0 without an answer`.
fn line(reports: &[LoadReport]) -> String {
    let sum = |count: fn(&LoadReport) -> u64| -> u64 { reports.iter().map(count).sum() };
    let took = reports.iter().map(|report| report.took).max();
    let mut pools = std::collections::BTreeMap::<&str, u64>::new();
    let answers = reports.iter().flat_map(|report| &report.pools);
    for (pool, answers) in answers.filter(|(_, answers)| answers.ok > 0) {
        let name = if pool.is_empty() { "no pool" } else { pool };
        *pools.entry(name).or_default() += answers.ok;
    }
    let pools: Vec<String> = pools
        .iter()
        .map(|(pool, ok)| format!("{pool} {ok}"))
        .collect();
    let last = reports
        .iter()
        .find_map(|report| report.last_failure.as_ref());
    format!(
        "{:6.1}s  {} asked: {}; {} errors, {} without an answer{}\n",
        took.unwrap_or_default().as_secs_f64(),
        sum(|report| report.sent),
        pools.join(", "),
        sum(|report| report.pools.values().map(|pool| pool.errors).sum()),
        sum(|report| report.failed),
        last.map_or_else(String::new, |why| format!(" ({why})")),
    )
}

fn rate(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok();
    parsed
        .filter(|rate: &f64| *rate > 0.0 && *rate <= 1_000_000.0)
        .ok_or_else(|| format!("{text:?} is not a rate above 0, and up to 1000000"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::load::PoolAnswers;

    #[test]
    fn the_figures_of_all_targets_stand_in_one_line() {
        let report = |original: u64, failed: u64| LoadReport {
            sent: original + failed + 1,
            pools: [
                (
                    "original".to_owned(),
                    PoolAnswers {
                        ok: original,
                        errors: 0,
                    },
                ),
                (String::new(), PoolAnswers { ok: 0, errors: 1 }),
            ]
            .into(),
            failed,
            last_failure: (failed > 0).then(|| "gone".to_owned()),
            took: Duration::from_millis(2500),
            ..LoadReport::default()
        };
        assert_eq!(
            line(&[report(5, 0), report(7, 2)]),
            "   2.5s  16 asked: original 12; 2 errors, 2 without an answer (gone)\n"
        );
    }
}
