//! `serin simulate`: the plan of a configuration file under a virtual clock, once with every decision or many times in sum.
//!
//! Touches no socket and no state: what is played is the file's plan in the scenario's world.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{self, Config};
use crate::rollout::name::RolloutName;
use crate::rollout::plan::Plan;
use crate::simulate::{Scenario, many, one_as_json, one_as_text, run as play, summary_as_text};

#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// Name of the rollout; may be left out where there is one
    rollout: Option<String>,
    /// The file with the plan
    #[arg(long, default_value = "proxy.toml")]
    config: PathBuf,
    /// The world, a TOML file as in load-tests/scenarios; left out: a healthy canary at 1,000 requests a second
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// The same seed gives the same decisions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// More than one: what they say together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            return Ok(ExitCode::from(super::EXIT_USAGE));
        }
    };
    let (world, (rollout, plan)) = match (read(args.scenario.as_deref()), pick(&config, args)) {
        (Ok(world), Ok(picked)) => (world, picked),
        (Err(why), _) | (_, Err(why)) => {
            eprintln!("serin: {why}");
            return Ok(ExitCode::from(super::EXIT_USAGE));
        }
    };
    let text = match (args.runs, args.json) {
        (1, json) => {
            let ran = play(plan, &world, args.seed, 0);
            if json {
                format!("{}\n", one_as_json(rollout, &world, args.seed, &ran))
            } else {
                one_as_text(rollout, &world, args.seed, &ran)
            }
        }
        (runs, json) => {
            let summary = many(plan, &world, args.seed, runs);
            if json {
                format!("{}\n", serde_json::to_string(&summary)?)
            } else {
                summary_as_text(&world.about, &summary)
            }
        }
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: Option<&Path>) -> Result<Scenario, String> {
    let Some(path) = path else {
        return Scenario::parse("name = \"healthy\"").map_err(|why| why.to_string());
    };
    let text = std::fs::read_to_string(path)
        .map_err(|why| format!("{} cannot be read: {why}", path.display()))?;
    Scenario::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
}

fn pick<'a>(
    config: &'a Config,
    args: &SimulateArgs,
) -> Result<(&'a RolloutName, &'a Plan), String> {
    let mut all = config
        .rollouts
        .iter()
        .map(|(name, rollout)| (name, &rollout.plan));
    match &args.rollout {
        Some(wanted) => all
            .find(|(name, _)| name.as_str() == wanted)
            .ok_or_else(|| format!("{} has no rollout {wanted:?}", args.config.display())),
        None => match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(format!("{} has no rollout", args.config.display())),
            (Some(_), Some(_)) => Err("there are several rollouts: name one".to_owned()),
        },
    }
}
