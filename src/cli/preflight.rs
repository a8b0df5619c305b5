//! `preflight`: the checklist before a rollout, gone through by the machine.
//!
//! Changes nothing: hooks are looked for and not run, and a channel gets a notice that says it is a test. Exit 1 when one
//! point fails; what cannot be tried now is shown as skipped, with the reason.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http::Uri;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::client::{Client, ClientArgs};
use crate::app;
use crate::clock;
use crate::config::{self, Config, State};
use crate::notify::message;
use crate::outbound::{self, Call};
use crate::records::event::{Detail, EventRecord};
use crate::rollout::plan::{Act, Hook, HookKind};

/// How long a connection to a hook's server may take.
const REACH: Duration = Duration::from_secs(5);
/// Events read at once, looking for the last rehearsal.
const PAGE: usize = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct PreflightArgs {
    /// The file
    #[arg(long, default_value = "proxy.toml")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

/// The list, as printed with --json.
#[derive(Debug, Default, Serialize)]
struct Checklist {
    passed: bool,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    check: &'static str,
    subject: String,
    outcome: Outcome,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

pub(super) fn run(args: &PreflightArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let list = go_through(&args.config, &client).await;
        if args.client.json {
            super::print(&format!("{:#}\n", serde_json::to_value(&list)?))?;
        } else {
            super::print(&list.table())?;
        }
        Ok(match list.passed {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    })
}

async fn go_through(file: &Path, client: &Client) -> Checklist {
    let mut list = Checklist::default();
    match config::load(file) {
        Ok(config) => {
            let counted = match config.rollouts.len() {
                1 => "1 rollout".to_owned(),
                more => format!("{more} rollouts"),
            };
            list.add("config", &file.display().to_string(), Ok(counted));
            let calls = outbound::Client::new();
            list.endpoints(&config).await;
            list.hooks(&config).await;
            list.channels(&config, &calls).await;
            list.state(&config.state);
            list.admin(client).await;
            list.rehearsals(&config, client).await;
        }
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let file = file.display().to_string();
            list.add("config", &file, Err(faults.join("; ")));
            list.admin(client).await;
        }
    }
    list.passed = list
        .points
        .iter()
        .all(|point| point.outcome != Outcome::Failed);
    list
}

impl Checklist {
    fn add(&mut self, check: &'static str, subject: &str, found: Result<String, String>) {
        let (outcome, detail) = match found {
            Ok(detail) => (Outcome::Passed, detail),
            Err(detail) => (Outcome::Failed, detail),
        };
        self.point(check, subject, outcome, detail);
    }

    fn skip(&mut self, check: &'static str, subject: &str, why: &str) {
        self.point(check, subject, Outcome::Skipped, why.to_owned());
    }

    fn point(&mut self, check: &'static str, subject: &str, outcome: Outcome, detail: String) {
        let subject = subject.to_owned();
        self.points.push(Point {
            check,
            subject,
            outcome,
            detail,
        });
    }

    async fn endpoints(&mut self, config: &Config) {
        for (name, pool) in &config.pools {
            let Some(health) = &pool.health else {
                self.skip("health", name.as_str(), "the pool has no health checks");
                continue;
            };
            if pool.dns.is_some() {
                self.skip(
                    "health",
                    name.as_str(),
                    "its endpoints are looked up while serin runs",
                );
            }
            for endpoint in pool.addresses() {
                let found = app::probe(pool, health, &endpoint).await;
                let found = found.map(|()| "healthy".to_owned());
                self.add("health", &format!("{name} {endpoint}"), found);
            }
        }
    }

    async fn hooks(&mut self, config: &Config) {
        for (name, rollout) in &config.rollouts {
            for stage in &rollout.plan.stages {
                for kind in HookKind::ALL {
                    for hook in stage.hooks.of(kind) {
                        let what = format!("{name}/{} {} {}", stage.name, kind.as_str(), hook.name);
                        let found = runnable(hook).await;
                        self.add("hook", &what, found);
                    }
                }
            }
        }
    }

    async fn channels(&mut self, config: &Config, calls: &outbound::Client) {
        if config.notify.is_empty() {
            self.skip("channel", "", "nobody is told: there is no [[notify]]");
        }
        for channel in &config.notify {
            let found = match message::test(channel, clock::wall()) {
                Ok(call) => made(calls, call).await,
                Err(why) => Err(why),
            };
            self.add("channel", &channel.name, found);
        }
    }

    fn state(&mut self, state: &State) {
        let folder = |path: &Path| path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let database = folder(&state.path);
        for folder in [database.as_path(), state.deployment_logs.as_path()] {
            let shown = match folder.as_os_str().is_empty() {
                true => ".".to_owned(),
                false => folder.display().to_string(),
            };
            self.add("state", &shown, writable(folder));
        }
    }

    async fn admin(&mut self, client: &Client) {
        let found = match client.get_text("/readyz", "*/*").await {
            Ok(_) => store_works(client).await,
            Err(why) => Err(why.to_string()),
        };
        self.add("admin", "ready", found);
    }

    async fn rehearsals(&mut self, config: &Config, client: &Client) {
        for name in config.rollouts.keys() {
            if !config.rehearsals {
                let why = "rehearsals are refused: rehearsal.enabled is false";
                self.skip("rehearsal", name.as_str(), why);
                continue;
            }
            match last_rehearsal(client, name.as_str()).await {
                Ok(Some(rehearsed)) => self.add("rehearsal", name.as_str(), rehearsed),
                Ok(None) => {
                    let why = "not rehearsed yet: `serin rehearse` does, while a stage runs";
                    self.skip("rehearsal", name.as_str(), why);
                }
                Err(why) => self.skip("rehearsal", name.as_str(), &why),
            }
        }
    }

    fn table(&self) -> String {
        let widest = |of: fn(&Point) -> usize| self.points.iter().map(of).max().unwrap_or(0);
        let (check, subject) = (
            widest(|point| point.check.len()),
            widest(|point| point.subject.chars().count()),
        );
        let mut text = String::new();
        for point in &self.points {
            let outcome = match point.outcome {
                Outcome::Passed => "ok  ",
                Outcome::Failed => "FAIL",
                Outcome::Skipped => "skip",
            };
            text.push_str(&format!(
                "{outcome}  {:check$}  {:subject$}  {}\n",
                point.check, point.subject, point.detail
            ));
        }
        let failed = self.points.iter();
        let failed = failed.filter(|point| point.outcome == Outcome::Failed);
        match failed.count() {
            0 => text.push_str("ready\n"),
            1 => text.push_str("not ready: 1 point fails\n"),
            more => text.push_str(&format!("not ready: {more} points fail\n")),
        }
        text
    }
}

async fn made(calls: &outbound::Client, call: Call) -> Result<String, String> {
    let answer = calls.call(call).await.map_err(|why| why.to_string())?;
    let said = format!("answered {}", answer.status.as_u16());
    match answer.status.is_success() {
        true => Ok(said),
        false => Err(said),
    }
}

/// Whether what a hook names is there, and what finds out how it ended as well.
async fn runnable(hook: &Hook) -> Result<String, String> {
    let found = there(&hook.act).await?;
    match &hook.verify {
        Some(verify) => {
            let verified = there(&verify.act).await;
            let verified = verified.map_err(|why| format!("verify: {why}"))?;
            Ok(format!("{found}, verified by {verified}"))
        }
        None => Ok(found),
    }
}

async fn there(act: &Act) -> Result<String, String> {
    match act {
        Act::Command(command) => {
            let program = command.first().map_or("", String::as_str);
            let found = executable(program);
            let missing = || format!("{program} is no program that can be run");
            found
                .map(|path| path.display().to_string())
                .ok_or_else(missing)
        }
        Act::Http { url, .. } => {
            let url: Uri = url
                .parse()
                .map_err(|_| "its URL cannot be read".to_owned())?;
            let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
            let usual = if url.scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let port = url.port_u16().unwrap_or(usual);
            match tokio::time::timeout(REACH, TcpStream::connect((host, port))).await {
                Ok(Ok(_)) => Ok(format!("{host}:{port} takes connections")),
                Ok(Err(why)) => Err(format!("{host}:{port}: {why}")),
                Err(_) => Err(format!("{host}:{port} does not answer")),
            }
        }
    }
}

/// As the system looks for a program: by its path, or in the folders of PATH.
fn executable(program: &str) -> Option<PathBuf> {
    let can_run = |path: &Path| {
        let file = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file);
        file.is_some_and(|file| file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| can_run(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| can_run(path))
}

/// Whether a file can be made in the folder, or in the nearest one above that is there.
fn writable(folder: &Path) -> Result<String, String> {
    let there = folder.ancestors().find(|folder| folder.is_dir());
    let there = there.unwrap_or_else(|| Path::new("."));
    match tempfile::tempfile_in(there) {
        Ok(_) => Ok("can be written".to_owned()),
        Err(why) => Err(format!("{}: {why}", there.display())),
    }
}

async fn store_works(client: &Client) -> Result<String, String> {
    let answer = client
        .get("/api/rollouts")
        .await
        .map_err(|why| why.to_string())?;
    let rollouts = answer["rollouts"].as_array();
    let fault = rollouts
        .into_iter()
        .flatten()
        .find_map(|rollout| rollout["store_fault"].as_str());
    match fault {
        Some(why) => Err(format!("the journal cannot be written: {why}")),
        None => Ok("ready, and its journal works".to_owned()),
    }
}

/// How the last rehearsal of a rollout ended; `None` where there was none.
async fn last_rehearsal(
    client: &Client,
    rollout: &str,
) -> Result<Option<Result<String, String>>, String> {
    let mut last = None;
    let mut after = 0;
    loop {
        let path = format!("/api/rollouts/{rollout}/events?after={after}&limit={PAGE}");
        let answer = client.get(&path).await.map_err(|why| why.to_string())?;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        for event in events.into_iter().filter_map(read) {
            if let Detail::RehearsalEnded(ended) = &event.detail {
                last = Some(match ended.passed {
                    true => Ok(format!("rehearsed well at {}", event.at)),
                    false => Err(format!("failed at {}: {}", event.at, ended.why)),
                });
            }
        }
        match answer["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(last),
        }
    }
}

fn read(event: Value) -> Option<EventRecord> {
    serde_json::from_value(event).ok()
}
