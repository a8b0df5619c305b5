//! The whole program: builds every part from the configuration, starts them, watches them, stops them in order.
//!
//! Start: the lock on the state path, the listeners' addresses, the store, the gates restored and their splits in force,
//! probes, the admin port, and only then the first connection is accepted. Stop: not ready, accept until the queue is
//! empty, finish what was begun, then the gates, then the store. `steering` is what starts and stops with the store,
//! `ports` what is listened on, `handover` the steps of giving both to another process.

mod handover;
mod ports;
mod steering;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinHandle, LocalSet};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use crate::admin;
use crate::config::{self, Config, Fault, Health, Log, LogFormat, LogLevel, ServerTimeouts};
use crate::inherited::{InheritError, Inherited};
use crate::live::{Live, Table};
use crate::proxy::{self, ProxyParts, Workers};
use crate::shutdown::{self, Shutdown, Stage, Trigger, Watched};
use crate::store::lock::LockError;
use crate::takeover::{Successor, TakeError, Taking};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::{AccessLog, Format};
use crate::tls;
use crate::traces;
use crate::upstream::health;
use ports::Ports;
use steering::{Ground, Locked, Steering, ended};

/// How long workers may take to count what was cut at the end.
const LAST_COUNTS: Duration = Duration::from_secs(1);

/// A running serin.
pub struct App {
    ground: Ground,
    ports: Ports,
    timeouts: ServerTimeouts,
    workers: Workers,
    certificates: Watched,
    /// Tells a collector of spans, where the file names one.
    traces: Option<Watched>,
    access_log: Option<Arc<AccessLog>>,
    /// Of workers and certificates; the rest has its own.
    trigger: Trigger,
    /// `None` while another process is asked to give the state path back, and when it took over.
    steering: Option<Steering>,
    /// Who took over.
    successor: Option<Successor>,
    /// The end of the process that was taken over from.
    predecessor: Option<JoinHandle<()>>,
}

/// What happens to a running serin that somebody must act upon.
pub enum Happened {
    /// A part ended by itself.
    Ended(&'static str),
    /// Another process wants to take over.
    Asked(UnixStream),
}

/// Why serin does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Held(LockError),
    #[error(transparent)]
    Listen(#[from] proxy::BindError),
    #[error(transparent)]
    Inherited(#[from] InheritError),
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// A rollout that is not ended was started with something that the file now says otherwise.
    #[error("the configuration differs from what a rollout was started with")]
    Pinned(Vec<Fault>),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    TakeOver(#[from] TakeError),
}

/// The thread that writes the log. Dropped, it waits a moment for the lines that are still to be written.
#[must_use]
pub struct Logging {
    _writer: WorkerGuard,
}

/// Lines of the log that wait at most: a burst of events of everything that serin carries. Their places are made at once,
/// 32 bytes each, and the library's default of 128,000 was half of what an idle serin held.
const WAITING_LINES: usize = 4_096;

/// Logs to standard error from now on. Called once; a second call changes nothing. Whoever logs does not wait: where
/// standard error is read too slowly, lines are dropped.
pub fn start_logging(log: &Log) -> Logging {
    let level = match log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let (out, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(out)
        .with_target(false);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let set = match log.format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(lines.with_ansi(colours).finish())
        }
        LogFormat::Json => {
            tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
        }
    };
    if set.is_err() {
        tracing::debug!("logging was started before");
    }
    Logging { _writer: writer }
}

/// Asks one endpoint of a pool once, as its health checks do.
///
/// # Errors
/// What is wrong with it, in words.
pub async fn probe(pool: &config::Pool, health: &Health, address: &str) -> Result<(), String> {
    LocalSet::new()
        .run_until(health::ask(pool, health, address))
        .await
}

/// Starts to tell a collector of requests; `None` where the file names none.
fn traces(
    config: &Config,
    telemetry: &Telemetry,
    shutdown: Shutdown,
) -> std::io::Result<Option<Watched>> {
    let Some(collector) = &config.tracing.collector else {
        return Ok(None);
    };
    let Some((spans, line)) = telemetry.start_spans(collector.queue) else {
        return Ok(None);
    };
    let parts = traces::Parts {
        collector: collector.clone(),
        spans,
        line,
        shutdown,
    };
    traces::start(parts).map(Some)
}

impl App {
    /// Starts everything; `path` is what a reload reads. Sockets that are given are listened on instead of others. Within
    /// a runtime.
    pub fn start(config: Config, path: PathBuf, inherited: Inherited) -> Result<Self, StartError> {
        let locked = steering::lock(&config)?;
        let ports = Ports::open(&config, ports::given(&config, inherited)?)?;
        Self::build(config, path, ports, locked)
    }

    /// The same in the place of the serin that owns the state path: with its sockets, and its store when it is free. With
    /// an error that one goes on.
    pub async fn take_over(config: Config, path: PathBuf) -> Result<Self, StartError> {
        let mut taking = Taking::begin(&config.state.path).await?;
        let ports = Ports::open(&config, taking.sockets())?;
        taking.ready().await?;
        let locked = steering::lock(&config)?;
        let mut app = Self::build(config, path, ports, locked)?;
        let predecessor = match taking.accepting().await {
            Ok(predecessor) => predecessor,
            Err(why) => {
                app.withdraw().await;
                return Err(why.into());
            }
        };
        let (live, telemetry) = (
            Arc::clone(&app.ground.live),
            Arc::clone(&app.ground.telemetry),
        );
        let follows = async move { predecessor.follow(&live, &telemetry).await };
        app.predecessor = Some(tokio::spawn(follows));
        tracing::info!("took over");
        Ok(app)
    }

    fn build(
        config: Config,
        path: PathBuf,
        mut ports: Ports,
        locked: Locked,
    ) -> Result<Self, StartError> {
        let max_connections = proxy::max_connections(&config.server);
        let threads = config.server.workers;
        let (trigger, shutdown) = shutdown::channel();
        let telemetry = Telemetry::new();
        telemetry.start_access_log(match config.server.log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        });
        let traces = traces(&config, &telemetry, shutdown.clone())?;
        let live = Live::new(Table::build(&config, &Default::default(), &telemetry, None));
        let timeouts = config.server.timeouts.clone();
        let ground = Ground {
            booted: config.clone(),
            config: Arc::new(config),
            path,
            live: Arc::clone(&live),
            telemetry: Arc::clone(&telemetry),
        };
        let steering = Steering::start(&ground, ports.admin()?, locked)?;
        let certificates = {
            let live = Arc::clone(&live);
            tls::watch(move || live.load().tls_watched(), shutdown.clone())?
        };
        let access_log = telemetry.access_log();
        let workers = proxy::start(
            ports.listeners()?,
            ProxyParts {
                live,
                telemetry,
                max_connections,
                shutdown,
            },
        )?;
        let app = Self {
            ground,
            ports,
            timeouts,
            workers,
            certificates,
            traces,
            access_log,
            trigger,
            steering: Some(steering),
            successor: None,
            predecessor: None,
        };
        tracing::info!(
            proxy = %app.proxy_addr(),
            admin = %app.admin_addr(),
            workers = threads,
            max_connections,
            "serin carries traffic"
        );
        Ok(app)
    }

    /// Where the first listener listens.
    pub fn proxy_addr(&self) -> SocketAddr {
        let first = self.workers.addresses().first();
        first.copied().unwrap_or_else(|| ([0, 0, 0, 0], 0).into())
    }

    pub const fn admin_addr(&self) -> SocketAddr {
        self.ports.admin_addr()
    }

    /// Reads the configuration again, as `POST /api/reload` does, and logs what became of it.
    pub async fn reload(&self) {
        let Some(steering) = &self.steering else {
            tracing::error!("not reloaded: the state path is not ours now");
            return;
        };
        match steering.handle().reload("SIGHUP").await {
            Ok(reloaded) => tracing::info!(?reloaded, "reloaded"),
            Err(why) => tracing::error!(%why, "not reloaded: the old configuration stays in force"),
        }
    }

    /// Resolves when somebody must act. May be dropped and called again.
    pub async fn happened(&mut self) -> Happened {
        tokio::select! {
            lost = self.workers.ended() => {
                if let Err(lost) = lost {
                    tracing::error!(%lost, "a worker is gone");
                }
                Happened::Ended("workers")
            }
            happened = steering::happened(&mut self.steering, &self.ground, &self.ports) => happened,
            () = self.certificates.ended() => Happened::Ended("certificates"),
            () = ended(&mut self.traces) => Happened::Ended("traces"),
        }
    }

    /// Gives our place to the process that asks, step by step. False: it did not take it, and we go on.
    pub async fn hand_over(&mut self, asking: UnixStream) -> bool {
        match handover::hand_over(&mut self.steering, &mut self.ground, &self.ports, asking).await {
            Ok(successor) => {
                tracing::info!("another serin took over");
                self.successor = Some(successor);
                true
            }
            Err(why) => {
                tracing::warn!(%why, "nobody took over: this serin goes on");
                false
            }
        }
    }

    /// Drains and stops everything, in at most `drain_delay` + `drain` and a moment for the disk.
    pub async fn stop(mut self) {
        if self.successor.is_none() {
            self.advance(Stage::Leaving);
            tokio::time::sleep(self.timeouts.drain_delay).await;
        }
        // The sockets close with those of the workers, unless somebody took them over.
        self.ports.close();
        self.advance(Stage::Draining);
        self.drain().await;
        self.advance(Stage::Stopped);
        if let Some(successor) = self.successor.take() {
            let counted = tokio::time::timeout(LAST_COUNTS, self.workers.ended()).await;
            if !matches!(counted, Ok(Ok(()))) {
                tracing::warn!("what was cut is not counted");
            }
            successor.farewell(&self.ground.telemetry).await;
        }
        self.join();
    }

    /// Until everything is finished, or for `drain`.
    async fn drain(&mut self) {
        let Self {
            workers,
            successor,
            predecessor,
            ground,
            ..
        } = self;
        let taken_over = successor.is_some();
        let finished = async {
            // What is wrong with a worker now is told by what it cuts.
            let _drained = workers.ended().await.is_ok();
            // Its counts pass through here.
            if let Some(predecessor) = predecessor.take_if(|_| taken_over) {
                let _finished = predecessor.await.is_ok();
            }
        };
        let follow = async {
            match successor {
                Some(successor) => successor.follow(&ground.live, &ground.telemetry).await,
                None => std::future::pending().await,
            }
        };
        let drained = async {
            tokio::select! {
                () = finished => {}
                never = follow => match never {},
            }
        };
        let limit = self.timeouts.drain;
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(after = ?limit, "not everything was finished in time: the rest is cut");
        }
    }

    /// Gives back what was not ours yet, and finishes what was accepted meanwhile.
    async fn withdraw(mut self) {
        if let Some(steering) = self.steering.take() {
            steering.stop();
        }
        self.stop().await;
    }

    fn advance(&self, stage: Stage) {
        self.trigger.advance(stage);
        if let Some(steering) = &self.steering {
            steering.advance(stage);
        }
    }

    fn join(self) {
        if let Some(steering) = self.steering {
            steering.stop();
        }
        let calm = [
            self.certificates.join(),
            self.traces.is_none_or(Watched::join),
        ];
        if calm.contains(&false) {
            tracing::warn!("a thread panicked on the way out");
        }
        if let Some(log) = self.access_log {
            log.stop();
        }
    }
}
