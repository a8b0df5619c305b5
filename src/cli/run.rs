//! `run`: the proxy in the foreground, until a signal or a fault ends it, or another one takes over.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::EXIT_USAGE;
use crate::app::{self, App, Happened, StartError};
use crate::config;
use crate::inherited::Inherited;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "proxy.toml")]
    pub(super) config: PathBuf,
    /// Take the place of the serin that runs on the same state path, without losing a request; fails if there is none
    #[arg(long)]
    pub(super) takeover: bool,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let inherited = Inherited::from_env()?;
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let _logging = app::start_logging(&config.server.log);
    super::block_on(async {
        // Before anything is ready: who sees that it is may end it at once.
        let signals = Signals::new()?;
        let path = args.config.clone();
        let started = if args.takeover {
            if !inherited.is_empty() {
                tracing::warn!(
                    "the sockets that were passed are left: those of the serin that is replaced are taken"
                );
            }
            App::take_over(config, path).await
        } else {
            App::start(config, path, inherited)
        };
        match started {
            Ok(app) => serve(app, signals).await,
            Err(StartError::Pinned(faults)) => {
                faults.iter().for_each(|fault| eprintln!("{fault}"));
                Ok(ExitCode::from(EXIT_USAGE))
            }
            Err(why) => Err(why.into()),
        }
    })
}

/// What the process is told from outside, heard from the moment that this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Until SIGTERM or SIGINT (drain), until another process has taken over (drain as well), or until a part of serin ends by
/// itself (exit 1). SIGHUP reloads.
async fn serve(mut app: App, mut signals: Signals) -> anyhow::Result<ExitCode> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => app.reload().await,
            happened = app.happened() => match happened {
                Happened::Asked(asking) => if app.hand_over(asking).await {
                    break;
                },
                Happened::Ended(part) => {
                    tracing::error!(part, "a part of serin ended unexpectedly; traffic cannot be carried safely without it");
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    tracing::info!("draining");
    app.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
