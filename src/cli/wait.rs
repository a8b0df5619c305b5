//! `wait`: blocks until a rollout has ended in a certain way, for pipelines.
//!
//! Exit 0 when it comes, 1 when it cannot come any more or not in time. A proxy that restarts meanwhile is
//! waited for.

use std::process::ExitCode;
use std::time::Duration;

use crate::clock;
use crate::rollout::time::parse_duration;

use super::actions::resolve;
use super::client::{Client, ClientArgs, ClientError};

/// How often the phase is asked for: people and pipelines do not notice half a second.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Name of the rollout; may be left out where there is one
    pub(super) rollout: Option<String>,
    /// What to wait for
    #[arg(long = "for", value_enum)]
    pub(super) goal: Goal,
    /// How long at most
    #[arg(long, value_parser = parse_duration, default_value = "3h")]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Goal {
    Complete,
    RolledBack,
    Held,
}

/// What a phase means for somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Come,
    Never,
    NotYet,
}

pub(super) fn run(args: &WaitArgs) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let deadline = clock::now() + args.timeout;
        let rollout = resolve(&client, args.rollout.as_deref()).await?;
        loop {
            let phase = match client.get(&format!("/api/rollouts/{rollout}")).await {
                // Its phases are not the run's.
                Ok(status) if status["rehearsing"] == true => "rehearsing".to_owned(),
                Ok(status) => status["phase"].as_str().unwrap_or_default().to_owned(),
                Err(ClientError::Unreachable { .. }) => "unreachable".to_owned(),
                Err(why) => return Err(why.into()),
            };
            match answer(args.goal, &phase) {
                Answer::Come => return finish(args, &rollout, &phase, ExitCode::SUCCESS),
                Answer::Never => return finish(args, &rollout, &phase, ExitCode::FAILURE),
                Answer::NotYet if clock::now() >= deadline => {
                    return finish(args, &rollout, &phase, ExitCode::FAILURE);
                }
                Answer::NotYet => tokio::time::sleep(POLL).await,
            }
        }
    })
}

fn answer(goal: Goal, phase: &str) -> Answer {
    match (goal, phase) {
        (Goal::Complete, "complete") | (Goal::RolledBack, "rolled_back") | (Goal::Held, "held") => {
            Answer::Come
        }
        (_, "complete" | "rolled_back" | "aborted") => Answer::Never,
        _ => Answer::NotYet,
    }
}

fn finish(args: &WaitArgs, rollout: &str, phase: &str, code: ExitCode) -> anyhow::Result<ExitCode> {
    let line = if args.client.json {
        serde_json::json!({ "rollout": rollout, "phase": phase, "reached": code == ExitCode::SUCCESS }).to_string()
    } else {
        format!("{rollout}: {phase}")
    };
    super::print(&format!("{line}\n"))?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_rollout_is_not_waited_for() {
        assert_eq!(answer(Goal::Complete, "complete"), Answer::Come);
        assert_eq!(answer(Goal::Complete, "rolled_back"), Answer::Never);
        assert_eq!(answer(Goal::RolledBack, "complete"), Answer::Never);
        assert_eq!(answer(Goal::Held, "aborted"), Answer::Never);
        for phase in [
            "idle",
            "running",
            "held",
            "paused",
            "manual",
            "rolling_back",
            "unreachable",
        ] {
            assert_eq!(answer(Goal::Complete, phase), Answer::NotYet, "{phase}");
        }
    }
}
