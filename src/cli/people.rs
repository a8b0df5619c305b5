//! `approve`, `reject`, `freeze`, `unfreeze`: one call to the admin port each, and its answer in a line.

use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::actions::{resolve, show};
use super::client::{Client, ClientArgs};
use crate::calendar::{moment, moment_text};
use crate::clock;
use crate::rollout::time::{WallTime, parse_duration};

#[derive(Debug, clap::Args)]
pub(super) struct SayArgs {
    /// Name of the rollout; may be left out where there is one
    rollout: Option<String>,
    /// For which role; may be left out where only one can be meant
    #[arg(long)]
    role: Option<String>,
    /// Why, for the journal
    #[arg(long, default_value = "")]
    reason: String,
    /// The event whose figures were looked at: refused if others are asked about by now
    #[arg(long, value_name = "EVENT")]
    seen: Option<u64>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct FreezeArgs {
    /// Name of the rollout; may be left out where there is one
    rollout: Option<String>,
    /// Why, for the journal
    #[arg(long)]
    reason: String,
    /// When it ends by itself, as 2025-11-01T14:00:00Z
    #[arg(long, value_parser = moment, conflicts_with = "span")]
    until: Option<WallTime>,
    /// How long it lasts
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_duration)]
    span: Option<Duration>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnfreezeArgs {
    /// Name of the rollout; may be left out where there is one
    rollout: Option<String>,
    /// Why, for the journal
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// `action` is `approve` or `reject`.
pub(super) fn say(action: &str, args: &SayArgs) -> anyhow::Result<ExitCode> {
    let mut body = json!({ "reason": args.reason });
    if let Some(role) = &args.role {
        body["role"] = json!(role);
    }
    if let Some(seen) = args.seen {
        body["seen"] = json!(seen);
    }
    let to = (args.rollout.as_deref(), action);
    send(&args.client, Method::POST, to, &body)
}

pub(super) fn freeze(args: &FreezeArgs) -> anyhow::Result<ExitCode> {
    let mut body = json!({ "reason": args.reason });
    if let Some(until) = args.until.or_else(|| args.span.map(from_now)) {
        body["until"] = json!(moment_text(until));
    }
    let to = (args.rollout.as_deref(), "freeze");
    send(&args.client, Method::PUT, to, &body)
}

pub(super) fn unfreeze(args: &UnfreezeArgs) -> anyhow::Result<ExitCode> {
    let to = (args.rollout.as_deref(), "freeze");
    let body = json!({ "reason": args.reason });
    send(&args.client, Method::DELETE, to, &body)
}

fn send(
    client: &ClientArgs,
    method: Method,
    (rollout, resource): (Option<&str>, &str),
    body: &Value,
) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let port = Client::from_args(client)?;
        let rollout = resolve(&port, rollout).await?;
        let path = format!("/api/rollouts/{rollout}/{resource}");
        let answer = port.send_json(method, &path, body).await?;
        show(client, answer)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn from_now(span: Duration) -> WallTime {
    let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(clock::wall().as_unix_millis().saturating_add(ms))
}
