//! `status`: the rollout as it is now, once.

use std::process::ExitCode;

use anyhow::Context;

use super::actions::resolve;
use super::client::{Client, ClientArgs};
use super::figures;
use crate::records::status::StatusRecord;
use crate::rollout::verdict::Purpose;

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
            let status = serde_json::from_value(status)
                .context("the state cannot be read: is the proxy a newer serin?")?;
            super::print(&picture(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Advance => "advance",
        Purpose::Hold => "hold",
        Purpose::Rollback => "rollback",
        Purpose::Tripwire => "tripwire",
    }
}

/// Figures from outside, a line each.
fn outside(status: &StatusRecord) -> String {
    let mut text = String::new();
    for signal in &status.signals {
        let value = signal
            .value
            .map_or_else(|| "-".to_owned(), |value| value.to_string());
        let age = signal.age_ms.map_or_else(
            || "never read".to_owned(),
            |age| format!("{} old", figures::span(age)),
        );
        let of = signal
            .segment
            .as_ref()
            .map_or_else(String::new, |segment| format!(" segment {segment}"));
        text.push_str(&format!(
            "signal {} on {}{of}: {value}, {age}",
            signal.name, signal.pool
        ));
        if signal.stale {
            text.push_str(&format!(", NO DATA: {}", signal.note));
        }
        text.push('\n');
    }
    for outcome in &status.outcomes {
        let interval = outcome.interval.map_or_else(
            || "too few results for an interval".to_owned(),
            |[low, high]| {
                format!(
                    "{} to {}",
                    figures::rate(Some(low)),
                    figures::rate(Some(high))
                )
            },
        );
        let (name, impact) = (&outcome.name, figures::rate(outcome.impact));
        let (canary, baseline) = (outcome.counted.canary, outcome.counted.baseline);
        text.push_str(&format!("outcome {name}: impact {impact} ({interval}), {canary} results on canary, {baseline} on baseline\n"));
    }
    text
}

fn picture(status: &StatusRecord) -> String {
    let mut text = format!(
        "{}\n\n{}\n",
        figures::headline(status),
        figures::table(status)
    );
    for evaluation in &status.evaluations {
        text.push_str(&format!(
            "{:<9} {}\n",
            purpose(evaluation.purpose),
            figures::evaluation_line(evaluation)
        ));
    }
    if let Some(evidence) = &status.evidence {
        text.push('\n');
        for line in evidence.sentences() {
            text.push_str(&format!("{line}\n"));
        }
    }
    if let Some(confidence) = &status.confidence {
        text.push_str(&format!(
            "\nconfidence of the last decision: {}\n",
            confidence.in_words()
        ));
    }
    text.push_str(&outside(status));
    let segments = figures::segments(status);
    if !segments.is_empty() {
        text.push_str(&format!("\n{segments}"));
    }
    if !status.guarded {
        text.push_str("\nNOT GUARDED: no trigger watches this weight\n");
    }
    for incident in &status.incidents {
        text.push_str(&format!("incident {}: {}\n", incident.id, incident.summary));
    }
    if !status.pins.is_empty() {
        text.push_str(&format!("{} learners are pinned\n", status.pins.len()));
    }
    if !status.outlook.is_empty() {
        text.push_str(&format!("\n{}\n", status.outlook));
    }
    text
}
