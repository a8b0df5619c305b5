//! `status`: the rollout as it is now, once: the same picture as `watch` has, whole and without colours.

use std::process::ExitCode;

use anyhow::Context;

use super::actions::resolve;
use super::client::{Client, ClientArgs};
use super::figures::{self, Span};
use super::printable;
use crate::admin::wire::RolloutAnswer;

/// How wide bars are drawn.
const BAR: usize = 42;

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Name of the rollout; may be left out where there is one
    pub(super) rollout: Option<String>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

pub(super) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let rollout = resolve(&client, args.rollout.as_deref()).await?;
        let status = client.get(&format!("/api/rollouts/{rollout}")).await?;
        if args.client.json {
            super::print(&format!("{status:#}\n"))?;
        } else {
            let answer = serde_json::from_value(printable::document(status))
                .context("the state cannot be read: is the proxy a newer serin?")?;
            super::print(&picture(&answer))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn picture(answer: &RolloutAnswer) -> String {
    let status = &answer.status;
    let mut lines = vec![figures::headline(status)];
    lines.extend(figures::progress(status, BAR));
    lines.extend(Some(figures::stages(status)).filter(|stages| !stages.is_empty()));
    lines.extend(figures::checkpoints(status));
    lines.extend(figures::warnings(answer));
    if !status.outlook.is_empty() {
        lines.push(format!("next: {}", status.outlook));
    }
    lines.push(String::new());
    lines.extend(figures::lines(status, &Span::ALL, usize::MAX));
    if !status.evaluations.is_empty() {
        lines.push(String::new());
    }
    lines.extend(status.evaluations.iter().map(|evaluation| {
        let list = figures::purpose(evaluation.purpose);
        format!("{list:<9} {}", figures::evaluation_line(evaluation))
    }));
    if let Some(evidence) = &status.evidence {
        lines.push(String::new());
        lines.push(figures::evidence(status, evidence, BAR));
        lines.extend(evidence.sentences());
    }
    if let Some(confidence) = &status.confidence {
        let words = confidence.in_words();
        lines.push(format!("\nconfidence of the last decision: {words}"));
    }
    let mut text = lines.join("\n") + "\n" + &figures::outside(status);
    let segments = figures::segments(status);
    if !segments.is_empty() {
        text.push_str(&format!("\n{segments}"));
    }
    text
}
