//! `report`: fetches the report of a run and prints it, or writes it to a file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::actions::resolve;
use super::client::{Client, ClientArgs};

#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Name of the rollout; may be left out where there is one
    pub(super) rollout: Option<String>,
    /// The form of the report
    #[arg(long, value_enum, default_value = "md")]
    pub(super) format: Format,
    /// Write to this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Md,
    Json,
    Html,
}

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let (name, accept) = match args.format {
        Format::Md if args.client.json => ("json", "application/json"),
        Format::Md => ("md", "text/markdown"),
        Format::Json => ("json", "application/json"),
        Format::Html => ("html", "text/html"),
    };
    super::block_on(async {
        let client = Client::from_args(&args.client)?;
        let rollout = resolve(&client, args.rollout.as_deref()).await?;
        let report = client
            .get_text(
                &format!("/api/rollouts/{rollout}/report?format={name}"),
                accept,
            )
            .await?;
        match &args.out {
            Some(path) => std::fs::write(path, &report)
                .with_context(|| format!("cannot write {}", path.display()))?,
            None => super::print(&String::from_utf8_lossy(&report))?,
        }
        Ok(ExitCode::SUCCESS)
    })
}
