//! `demo`: a whole rollout on real sockets in about a minute.
//!
//! Starts stub analyzers, the proxy, and learners' load, starts the rollout through the admin port as a person would, and
//! shows what happens. The proxy is the one that `run` starts: the same listener, table, recorder, gate, store and
//! admin port. Exit 0 when the scenario ended as it should.

mod screen;
mod speed;
mod story;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use http::HeaderValue;
use serde_json::json;

use self::screen::Screen;
use self::story::Story;
use self::world::World;
use super::client::Client;
use super::figures;
use crate::app::{App, StartError};
use crate::clock;
use crate::config::{self, Config};
use crate::inherited::Inherited;
use crate::records::event::EventRecord;
use crate::records::status::StatusRecord;
use crate::rollout::gate::Phase;
use crate::stub::load::{Load, LoadSettings};

/// Between two looks at the rollout: the gate's own tick.
const LOOK: Duration = Duration::from_millis(250);
/// After a rollback learners go on asking for this long, so that the recovery is seen too.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Into the ramp, when the scenario breaks the canary, as a share of the stage.
const BREAK_AT: f64 = 0.2;
/// A rollout that is not over this long after its plan's end is stuck. On a machine that is busy with something else the analyzers
/// stall, the gate holds for an outage, and the stage is given its time again.
const LATE: Duration = Duration::from_secs(240);
const ROLLOUT: &str = "analyzer";
/// The learners' segments, where the scenario tells them apart.
const SEGMENTS: [&str; 8] = [
    "free", "family", "school", "college", "team", "business", "partner", "trial",
];
/// The one that fares badly.
const SICK_SEGMENT: &str = "school";
/// What takes back that one alone.
const PER_SEGMENT: &str = ", \"error_rate > 5% for 2m over 60s per segment\"";

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// How many times faster than the plan's own clock: its durations are divided by it, none below 1 s
    #[arg(long, default_value_t = 480.0, value_parser = parse_speed)]
    pub(super) speed: f64,
    /// What becomes of the new pool
    #[arg(long, value_enum, default_value = "healthy")]
    pub(super) scenario: Scenario,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scenario {
    /// It is as good as the old one: the rollout completes
    Healthy,
    /// It begins to answer with errors during the ramp: rolled back
    Errors,
    /// It becomes slow during the ramp: rolled back
    Latency,
    /// One segment of learners meets errors during the ramp: it alone is taken back, and the rollout completes
    Segment,
}

/// How the demo ended.
struct Outcome {
    status: StatusRecord,
    events: Vec<EventRecord>,
    story: Story,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    super::block_on(play(args))
}

async fn play(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let world = World::start()?;
    let (app, config) = start(&world, folder.path(), args)?;
    let logs = config.state.deployment_logs.clone();
    let planned: Duration = config
        .rollouts
        .values()
        .flat_map(|rollout| &rollout.plan.stages)
        .map(|stage| stage.duration)
        .sum();
    let (proxy, admin) = (app.proxy_addr(), app.admin_addr());
    let screen = Screen::new(args.speed);
    screen.introduce(args.scenario, proxy, admin, planned);

    let load = LoadSettings {
        segments: args.scenario.segments(),
        ..LoadSettings::new(proxy)
    };
    let load = Load::start(load).context("cannot start the load")?;
    let client = Client::new(&format!("http://{admin}"), None, &Default::default())?;
    let outcome = follow(args, &world, &client, &screen, planned + LATE).await?;
    if outcome.status.phase == Phase::RolledBack {
        tokio::time::sleep(AFTERWARDS).await;
    }
    let seen = load.snapshot();
    let report = client
        .get_text(
            &format!("/api/rollouts/{ROLLOUT}/report?format=md"),
            "text/markdown",
        )
        .await?;
    let written = report_file(&logs, &outcome);
    screen.conclude(&outcome.status, &String::from_utf8_lossy(&report), &written);
    let good = args.scenario.ended_well(&outcome);
    super::print(&outcome.story.told(&outcome.events, &seen, good))?;

    if args.keep {
        super::print(&format!(
            "kept: proxy http://{proxy}, admin http://{admin}; Ctrl-C ends it\n"
        ))?;
        tokio::signal::ctrl_c().await?;
    }
    load.stop().await;
    app.stop().await;
    world.stop();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts the rollout, shows each event as it happens, and breaks the canary where the scenario says.
async fn follow(
    args: &DemoArgs,
    world: &World,
    client: &Client,
    screen: &Screen,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    let rollout = format!("/api/rollouts/{ROLLOUT}");
    client
        .post(
            &format!("{rollout}/start"),
            &json!({ "reason": "the demo" }),
        )
        .await?;
    let deadline = clock::now() + patience;
    let mut events: Vec<EventRecord> = Vec::new();
    let mut story = Story::begin(args.scenario);
    loop {
        let status: StatusRecord = serde_json::from_value(client.get(&rollout).await?)?;
        let after = events.last().map_or(0, |event| event.id);
        for event in history(client, after).await? {
            screen.event(&event);
            events.push(event);
        }
        screen.show(&status);
        if args.scenario != Scenario::Healthy && !story.is_broken() && is_due(&status) {
            world.break_canary(args.scenario);
            story.broken(clock::wall());
            screen.say(&format!(
                "the demo breaks ultra_fast now: {}",
                args.scenario.what_breaks()
            ));
        }
        if figures::is_over(status.phase) {
            story.ended(world.last_canary_request());
            return Ok(Outcome {
                status,
                events,
                story,
            });
        }
        if clock::now() > deadline {
            bail!(
                "the rollout is not over {} s after it should be: {}",
                LATE.as_secs(),
                figures::headline(&status)
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn history(client: &Client, after: u64) -> anyhow::Result<Vec<EventRecord>> {
    let answer = client
        .get(&format!("/api/rollouts/{ROLLOUT}/events?after={after}"))
        .await?;
    let list = answer.get("events").cloned().unwrap_or(answer);
    Ok(serde_json::from_value(list)?)
}

/// Whether the moment has come at which a scenario breaks the canary.
fn is_due(status: &StatusRecord) -> bool {
    let Some(end) = status.stage_ends_at_ms else {
        return false;
    };
    status.phase == Phase::Running
        && status.stage_index == Some(1)
        && status.stage_time_ms as f64 >= BREAK_AT * end as f64
}

/// Starts the proxy on the usual ports, or on others where somebody has those.
fn start(world: &World, folder: &Path, args: &DemoArgs) -> anyhow::Result<(App, Config)> {
    let begin = |folder: PathBuf, ports: [u16; 2]| {
        std::fs::create_dir_all(&folder).context("cannot make a folder for the state")?;
        let config = configure(world, &folder, args, ports)?;
        let app = App::start(
            config.clone(),
            folder.join("proxy.toml"),
            Inherited::default(),
        );
        anyhow::Ok(app.map(|app| (app, config)))
    };
    match begin(folder.join("usual"), [free_or_any(8080), free_or_any(9901)])? {
        // Taken since it was looked at.
        Err(StartError::Listen(_) | StartError::Admin(_)) => {
            Ok(begin(folder.join("other"), [0, 0])??)
        }
        started => Ok(started?),
    }
}

/// The configuration: the client's plan on these ports, with its state in a temporary folder.
fn configure(
    world: &World,
    folder: &Path,
    args: &DemoArgs,
    [proxy, admin]: [u16; 2],
) -> anyhow::Result<Config> {
    let text = include_str!("plan.toml")
        .replace("@PROXY@", &format!("127.0.0.1:{proxy}"))
        .replace("@PER_SEGMENT@", args.scenario.triggers())
        .replace("@ADMIN@", &format!("127.0.0.1:{admin}"))
        .replace("@STATE@", &folder.join("serin.db").to_string_lossy())
        .replace("@ORIGINAL@", &world.original_addresses())
        .replace("@ULTRA_FAST@", &world.ultra_fast_addresses());
    std::fs::write(folder.join("proxy.toml"), &text)
        .context("cannot write the demo's configuration")?;
    let mut config =
        config::parse("the demo's proxy.toml", &text, &|_| None).map_err(|faults| list(&faults))?;
    for rollout in config.rollouts.values_mut() {
        rollout.plan = speed::sped_up(&rollout.plan, args.speed).map_err(|faults| list(&faults))?;
    }
    Ok(config)
}

fn list<T: std::fmt::Display>(faults: &[T]) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(T::to_string).collect();
    anyhow::anyhow!(
        "the demo's plan is not valid at this speed:\n{}",
        lines.join("\n")
    )
}

/// The usual port of loopback if nobody has it, else 0: any that is free when it is bound.
fn free_or_any(usual: u16) -> u16 {
    let is_free = std::net::TcpListener::bind(("127.0.0.1", usual)).is_ok();
    if is_free { usual } else { 0 }
}

/// Where serin leaves the report with its charts; it is there when everything has stopped.
fn report_file(logs: &Path, outcome: &Outcome) -> PathBuf {
    let stamp = outcome.status.started.unwrap_or_default().compact();
    logs.join(format!("canary-{stamp}-report.html"))
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (1.0..=100_000.0).contains(&speed) => Ok(speed),
        Ok(_) | Err(_) => Err("it must be a number from 1 to 100000".to_owned()),
    }
}

// === impl Scenario ===

impl Scenario {
    fn segments(self) -> Vec<HeaderValue> {
        match self {
            Self::Segment => SEGMENTS.map(HeaderValue::from_static).to_vec(),
            Self::Healthy | Self::Errors | Self::Latency => Vec::new(),
        }
    }

    const fn triggers(self) -> &'static str {
        match self {
            Self::Segment => PER_SEGMENT,
            Self::Healthy | Self::Errors | Self::Latency => "",
        }
    }

    const fn goal(self) -> Phase {
        match self {
            Self::Healthy | Self::Segment => Phase::Complete,
            Self::Errors | Self::Latency => Phase::RolledBack,
        }
    }

    fn ended_well(self, outcome: &Outcome) -> bool {
        let lowered: Vec<&str> = outcome
            .events
            .iter()
            .filter_map(EventRecord::lowered)
            .map(|lowered| lowered.segment.as_str())
            .collect();
        let wanted: &[&str] = match self {
            Self::Segment => &[SICK_SEGMENT],
            Self::Healthy | Self::Errors | Self::Latency => &[],
        };
        outcome.status.phase == self.goal() && lowered == wanted
    }

    const fn what_breaks(self) -> &'static str {
        match self {
            Self::Healthy => "nothing",
            Self::Segment => "30% of its answers to the segment `school` are errors",
            Self::Errors => "30% of its answers are errors",
            Self::Latency => "its answers take 400 ms and more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_that_speeds_up_is_a_speed() {
        assert_eq!(parse_speed("480"), Ok(480.0));
        for text in ["0", "0.5", "-1", "NaN", "inf", "fast", "100001"] {
            assert!(parse_speed(text).is_err(), "{text}");
        }
    }
}
