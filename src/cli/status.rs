//! `status`: the rollout as it is now, once: the same picture as `watch` has, whole and without colours.

use std::process::ExitCode;

use anyhow::Context;

use super::actions::resolve;
use super::client::{Client, ClientArgs};
use super::figures::{self, Span};
use super::printable;
use crate::admin::wire::{FleetAnswer, RolloutAnswer};

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
            // An older serin knows no fleet.
            if let Ok(fleet) = client.get("/api/fleet").await {
                let fleet: Option<FleetAnswer> =
                    serde_json::from_value(printable::document(fleet)).unwrap_or_default();
                super::print(&fleet_lines(fleet.as_ref()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Who is in the fleet; nothing where there is none.
fn fleet_lines(fleet: Option<&FleetAnswer>) -> String {
    let Some(fleet) = fleet else {
        return String::new();
    };
    let leader = match &fleet.leader {
        Some(leader) => format!("{leader} leads (term {})", fleet.term),
        None => "nobody leads".to_owned(),
    };
    let many = fleet.count.max(fleet.members.len());
    let mut text = format!(
        "\nfleet: {leader}; {many} members, asked is {} ({})\n",
        fleet.name, fleet.role
    );
    if let Some(why) = &fleet.why {
        text.push_str(&format!("  {why}\n"));
    }
    for member in &fleet.members {
        let applied = member.says.applied.iter();
        let weights: Vec<String> = applied
            .map(|(rollout, split)| {
                let weight = f64::from(split.weight_ppm) / 10_000.0;
                format!("{rollout} {weight}% (split {})", split.epoch)
            })
            .collect();
        let mut notes = vec![weights.join(", ")];
        if !member.agrees {
            notes.push("another version or plan".to_owned());
        }
        for (rollout, retreat) in &member.says.retreats {
            notes.push(format!("took {rollout} to baseline alone: {}", retreat.why));
        }
        let region = &member.says.region;
        text.push_str(&format!(
            "  {:<16} {region:<12} {}\n",
            member.name,
            notes.join("; ")
        ));
    }
    if many > fleet.members.len() {
        text.push_str("  the others are known to the member that leads\n");
    }
    text
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
