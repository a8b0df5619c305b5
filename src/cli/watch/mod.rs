//! `watch`: the rollout live, as a screen whose keys act on it, or as a line or a JSON object in each interval.
//!
//! What is known (`model`, `series`), what a key means and leads to (`keys`, `view`, `dialog`, `action`, `effect`), how
//! it looks (`draw`) and what a line says (`line`) are pure; `feed` is the connection, `screen` and `lines` the loops.

mod action;
mod dialog;
mod draw;
mod effect;
#[cfg(test)]
mod examples;
mod feed;
mod keys;
mod line;
mod lines;
mod model;
mod screen;
mod series;
mod sse;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use self::feed::Feed;
use self::lines::Form;
use self::model::Model;
use super::actions::resolve;
use super::client::{Client, ClientArgs};
use crate::rollout::time::parse_duration;

/// The gate's tick: nothing is newer.
const SHORTEST: Duration = Duration::from_millis(250);
/// A decision comes at once by its event; figures of a minute move slowly.
const ON_A_SCREEN: Duration = Duration::from_secs(2);
/// A log that somebody reads later.
const IN_LINES: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// Name of the rollout; may be left out where there is one
    pub(super) rollout: Option<String>,
    /// One line per interval instead of a screen, as where the output is no terminal
    #[arg(long)]
    pub(super) plain: bool,
    /// How often the figures are asked for [default: 2s on a screen, 10s in lines]; decisions are seen at once on a screen
    #[arg(long, value_name = "SPAN", value_parser = interval)]
    pub(super) interval: Option<Duration>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

pub(super) fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let form = match (args.client.json, args.plain) {
        (true, _) => Some(Form::Json),
        (false, true) => Some(Form::Plain),
        (false, false) if !std::io::stdout().is_terminal() => Some(Form::Plain),
        (false, false) => None,
    };
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let rollout = resolve(&client, args.rollout.as_deref()).await?;
        let path = format!("/api/rollouts/{rollout}");
        let name = percent_encoding::percent_decode_str(&rollout).decode_utf8_lossy();
        if let Some(form) = form {
            let every = args.interval.unwrap_or(IN_LINES);
            lines::run(client, &name, path, every, form).await?;
        } else {
            let every = args.interval.unwrap_or(ON_A_SCREEN);
            let feed = Feed::start(client, &path, every);
            screen::run(feed, Model::new(name.into_owned(), every)).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn interval(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    match every < SHORTEST {
        true => Err("the shortest is 250ms, the gate's own tick".to_owned()),
        false => Ok(every),
    }
}
