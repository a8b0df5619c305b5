//! `rehearse`: starts a rehearsal and waits for what comes of it, each step with its time.
//!
//! The faults, the rollback and the way back are the proxy's; a proxy that restarts meanwhile is waited for.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::actions::resolve;
use super::client::{Client, ClientArgs, ClientError};
use crate::admin::wire::{RehearsalAnswer, RehearsalKind};
use crate::clock;
use crate::records::event::{Detail, EventRecord};
use crate::records::rehearsal::RehearsalRecord;
use crate::rollout::time::{format_duration, parse_duration};

const POLL: Duration = Duration::from_millis(250);
/// Beyond its own time: its end waits for the disk, or for the proxy to come back.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct RehearseArgs {
    /// Name of the rollout; may be left out where there is one
    pub(super) rollout: Option<String>,
    /// What canary's requests meet
    #[arg(long, value_enum, default_value = "latency")]
    pub(super) fault: Kind,
    /// How much later answers come, of the fault latency [default: 800ms]
    #[arg(long, value_parser = parse_duration)]
    pub(super) latency: Option<Duration>,
    /// Share of canary's requests
    #[arg(long, default_value = "50%")]
    pub(super) share: String,
    /// It must be found, rolled back and over within this time
    #[arg(long, value_parser = parse_duration, default_value = "2m")]
    pub(super) within: Duration,
    /// Why, for the journal
    #[arg(long, default_value = "")]
    pub(super) reason: String,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Kind {
    Latency,
    Errors,
    Resets,
}

pub(super) fn run(args: &RehearseArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let rollout = resolve(&client, args.rollout.as_deref()).await?;
        let begun = begin(&client, args).await?;
        if !args.client.json {
            super::print(&format!("{rollout}: {}\n", begun.fault.text))?;
        }
        let outcome = outcome(&client, &rollout, begun.after, args.within).await?;
        if args.client.json {
            super::print(&format!("{:#}\n", json!(outcome)))?;
        } else {
            super::print(&table(&outcome))?;
        }
        Ok(match outcome.passed {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    })
}

async fn begin(client: &Client, args: &RehearseArgs) -> anyhow::Result<RehearsalAnswer> {
    let fault = match args.fault {
        Kind::Latency => RehearsalKind::Latency,
        Kind::Errors => RehearsalKind::Errors,
        Kind::Resets => RehearsalKind::Resets,
    };
    let body = json!({
        "rollout": args.rollout,
        "fault": fault,
        "latency": args.latency.map(format_duration),
        "share": args.share,
        "within": format_duration(args.within),
        "reason": args.reason,
    });
    let answer = client.post("/api/rehearsals", &body).await?;
    serde_json::from_value(answer).context("the answer cannot be read: is the proxy a newer serin?")
}

async fn outcome(
    client: &Client,
    rollout: &str,
    after: u64,
    within: Duration,
) -> anyhow::Result<RehearsalRecord> {
    let deadline = clock::now() + within + PATIENCE;
    let path = format!("/api/rollouts/{rollout}/events?after={after}&limit=1000");
    loop {
        match client.get(&path).await {
            Ok(answer) => {
                let events: Vec<EventRecord> =
                    serde_json::from_value(answer["events"].clone()).context("the events")?;
                let ended = events.into_iter().find_map(|event| match event.detail {
                    Detail::RehearsalEnded(outcome) => Some(outcome),
                    _ => None,
                });
                if let Some(outcome) = ended {
                    return Ok(outcome);
                }
            }
            Err(ClientError::Unreachable { .. }) => {}
            Err(why) => return Err(why.into()),
        }
        anyhow::ensure!(
            clock::now() < deadline,
            "the end of the rehearsal was not seen in time"
        );
        tokio::time::sleep(POLL).await;
    }
}

fn table(outcome: &RehearsalRecord) -> String {
    let steps = [
        ("found", outcome.detected_ms),
        ("weights back", outcome.back_ms),
        ("recovered", outcome.recovered_ms),
    ];
    let mut text = String::new();
    for (step, at) in steps {
        let at = at.map_or_else(
            || "not seen".to_owned(),
            |at| format_duration(Duration::from_millis(at)),
        );
        text.push_str(&format!("  {step:<14}{at:>10}\n"));
    }
    let within = format_duration(Duration::from_millis(outcome.within_ms));
    text.push_str(&match outcome.why.as_str() {
        "" => format!("passed within {within}; the rollout goes on as before\n"),
        why => format!("failed: {why}\n"),
    });
    text
}
