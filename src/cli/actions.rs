//! The operator's actions: one call to the admin port each, and its answer in a line.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs, ClientError};
use super::{figures, printable};

#[derive(Debug, clap::Args)]
pub(super) struct ActionArgs {
    /// Name of the rollout; may be left out where there is one
    pub(super) rollout: Option<String>,
    /// Why, for the journal
    #[arg(long, default_value = "")]
    pub(super) reason: String,
    /// Over what would otherwise refuse (unmet criteria, a cooldown)
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

/// Asks for `action` and prints how things stand afterwards.
pub(super) fn run(action: &str, args: &ActionArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let rollout = resolve(&client, args.rollout.as_deref()).await?;
        let body = json!({ "reason": args.reason, "force": args.force });
        let answer = client
            .post(&format!("/api/rollouts/{rollout}/{action}"), &body)
            .await?;
        show(&args.client, answer)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints the rollout that an action answered with, in a line or as JSON.
pub(super) fn show(args: &ClientArgs, answer: Value) -> anyhow::Result<()> {
    if args.json {
        return super::print(&format!("{answer:#}\n"));
    }
    let status = serde_json::from_value(printable::document(answer))
        .context("the state cannot be read: is the proxy a newer serin?")?;
    super::print(&format!("{}\n", figures::headline(&status)))
}

/// The rollout meant: the one named, or the only one there is.
pub(super) async fn resolve(client: &Client, named: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = named {
        return Ok(
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
                .to_string(),
        );
    }
    let names = rollouts(client).await?;
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => anyhow::bail!("there is no rollout"),
        several => anyhow::bail!(
            "there are several rollouts: say which ({})",
            several.join(", ")
        ),
    }
}

async fn rollouts(client: &Client) -> Result<Vec<String>, ClientError> {
    let answer = client.get("/api/rollouts").await?;
    let list = answer.get("rollouts").unwrap_or(&answer);
    let names = list.as_array().into_iter().flatten();
    Ok(names
        .filter_map(|rollout| rollout.get("rollout")?.as_str())
        .map(str::to_owned)
        .collect())
}
