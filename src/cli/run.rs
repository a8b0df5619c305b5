//! `run`: the proxy in the foreground, until a signal or a fault ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::EXIT_USAGE;
use crate::app::{self, App, Ended, StartError};
use crate::config;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "proxy.toml")]
    pub(super) config: PathBuf,
    /// Replace a running serin without losing a connection (not in this version)
    #[arg(long)]
    pub(super) takeover: bool,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if args.takeover {
        eprintln!("serin: --takeover is not in this version");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let _logging = app::start_logging(&config.server.log);
    let app = match App::start(config, args.config.clone()) {
        Ok(app) => app,
        Err(StartError::Pinned(faults)) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        Err(why) => return Err(why.into()),
    };
    super::block_on(serve(app))
}

/// Until SIGTERM or SIGINT (drain), or until a part of serin ends by itself (exit 1). SIGHUP reloads.
async fn serve(mut app: App) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => app.reload().await,
            Ended(part) = app.ended() => {
                tracing::error!(part, "a part of serin ended unexpectedly; traffic cannot be carried safely without it");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    tracing::info!("draining");
    app.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
