//! `serin check`: the file with every fault at once, or the plan it makes, as a table or in words.
//!
//! Reads the file and prints; starts nothing and asks nobody.

mod detects;
mod json;
mod outside;
mod people;
mod table;
mod words;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{self, Config, Fault, How, Origin, Target};
use crate::rollout::condition::Condition;
use crate::rollout::plan::{Plan, Stage};
use crate::rollout::time::format_duration;
use crate::rollout::weight::Weight;

/// A configuration that is not valid.
const INVALID: u8 = 2;

/// Checks proxy.toml and shows the plan
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The file
    #[arg(long, default_value = "proxy.toml")]
    pub config: PathBuf,

    /// Print the JSON Schema of the file instead
    #[arg(long, conflicts_with = "explain")]
    pub schema: bool,

    /// Print the plan in words
    #[arg(long)]
    pub explain: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints to `out`, or the faults to `err`. Exit 0 for a good file, 2 for one with faults.
pub fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    if args.schema {
        return print(out, &format!("{:#}\n", config::schema()), ExitCode::SUCCESS);
    }
    let file = args.config.display().to_string();
    let (text, code) = match config::load(&args.config) {
        Ok(config) if args.json => (json::plans(&file, &config), ExitCode::SUCCESS),
        Ok(config) if args.explain => (words::plans(&file, &config), ExitCode::SUCCESS),
        Ok(config) => (table::plans(&file, &config), ExitCode::SUCCESS),
        Err(faults) if args.json => (json::faults(&file, &faults), ExitCode::from(INVALID)),
        Err(faults) => return print(err, &faults_text(&faults), ExitCode::from(INVALID)),
    };
    print(out, &text, code)
}

/// A reader that went away is no failure of ours.
fn print(out: &mut dyn Write, text: &str, code: ExitCode) -> ExitCode {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => code,
    }
}

// === what every form says ===

fn faults_text(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        text += &format!("{fault}\n");
    }
    let count = faults.len();
    text + &format!("{count} fault{}\n", plural(count))
}

fn headline(file: &str, config: &Config) -> String {
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", plural(count));
    format!(
        "{file} is valid: {}, {}, {}\n",
        counted(config.pools.len(), "pool"),
        counted(config.routes.len(), "route"),
        counted(config.rollouts.len(), "rollout"),
    )
}

/// The values that are not the file's alone, without the values: they may be secrets.
fn environment_text(config: &Config) -> String {
    let origins = &config.environment;
    if origins.is_empty() {
        return String::new();
    }
    let width = origins.iter().map(|origin| origin.key.len()).max();
    let width = width.unwrap_or_default();
    origins
        .iter()
        .fold("\nfrom the environment\n".to_owned(), |text, origin| {
            let Origin { key, variable, how } = origin;
            let how = match how {
                How::Override => "",
                How::Template => " in the file",
                How::Default => " in the file, which is not set: its default",
            };
            format!("{text}  {key:width$}  {variable}{how}\n")
        })
}

fn notes_text(config: &Config) -> String {
    let notes = notes(config);
    if notes.is_empty() {
        return String::new();
    }
    notes.iter().fold("\nnotes\n".to_owned(), |text, note| {
        format!("{text}  {note}\n")
    })
}

/// What is legal but will not do what it seems to.
fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if config.routes.is_empty() {
        notes.push("routes: there are none, so every request is answered 404".to_owned());
    }
    for (name, rollout) in &config.rollouts {
        let routed = config
            .routes
            .iter()
            .any(|route| route.target == Target::Rollout(name.clone()));
        if !routed {
            notes.push(format!("rollouts.{name}: no route leads to it"));
        }
        notes.extend(
            rollout
                .plan
                .notes()
                .iter()
                .map(|note| format!("rollouts.{name}.{note}")),
        );
    }
    notes
}

/// The weight of a stage under the holdout.
fn weight_of(plan: &Plan, index: usize) -> Weight {
    plan.stage_weight(index).unwrap_or_default()
}

/// `1000 canary requests: about 14 requests/s in all at 1% over 2h`.
fn needs(stage: &Stage, weight: Weight) -> String {
    let requests = format!("{} canary requests", stage.min_requests);
    let Some(rate) = rate_needed(stage, weight) else {
        return requests;
    };
    let (rate, duration) = (rounded_up(rate), format_duration(stage.duration));
    format!("{requests}: about {rate} requests/s in all at {weight} over {duration}")
}

/// Requests per second on both arms together that give `min_requests` within the duration; `None` at
/// weight 0.
fn rate_needed(stage: &Stage, weight: Weight) -> Option<f64> {
    let canary_seconds = weight.share() * stage.duration.as_secs_f64();
    (canary_seconds > 0.0).then(|| stage.min_requests as f64 / canary_seconds)
}

/// Two digits are enough for "about"; up, so that what is said suffices.
fn rounded_up(rate: f64) -> String {
    if rate >= 10.0 {
        format!("{:.0}", rate.ceil())
    } else {
        format!("{:.1}", (rate * 10.0).ceil() / 10.0)
    }
}

fn printed(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(ToString::to_string).collect()
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
