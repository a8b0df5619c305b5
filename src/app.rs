//! The whole program: builds every part from the configuration, starts them, watches them, stops them in order.
//!
//! Start: the lock on the state path, the listeners' addresses, the store, the gates restored and their splits in force,
//! probes, the admin port, and only then the first connection is accepted. Stop: not ready, accept until the queue is
//! empty, finish what was begun, then the gates, then the store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use crate::admin::{self, Admin};
use crate::config::{self, Config, Fault, Health, Log, LogFormat, LogLevel, ServerTimeouts};
use crate::control::{self, Control};
use crate::live::{Live, Table};
use crate::notify;
use crate::proxy::{self, ProxyParts, Workers};
use crate::shutdown::{self, Stage, Trigger, Watched};
use crate::signals;
use crate::store::lock::{LockError, OwnerLock};
use crate::store::{self, Store, StoreError};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::{AccessLog, Format};
use crate::tls;
use crate::upstream::{health, upkeep};

/// How long the store may take at the end to write what is pending: a disk that stalls longer has lost it anyway.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// A running serin.
pub struct App {
    proxy: SocketAddr,
    admin_addr: SocketAddr,
    timeouts: ServerTimeouts,
    workers: Workers,
    control: Control,
    admin: Admin,
    probes: Watched,
    signals: Watched,
    notices: Option<Watched>,
    certificates: Watched,
    store: Option<Store>,
    access_log: Option<Arc<AccessLog>>,
    trigger: Trigger,
    _lock: Option<OwnerLock>,
}

/// The part that ended by itself.
pub struct Ended(pub &'static str);

/// Why serin does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Held(LockError),
    #[error(transparent)]
    Listen(#[from] proxy::BindError),
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// A rollout that is not ended was started with something that the file now says otherwise.
    #[error("the configuration differs from what a rollout was started with")]
    Pinned(Vec<Fault>),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The thread that writes the log. Dropped, it waits a moment for the lines that are still to be written.
#[must_use]
pub struct Logging {
    _writer: WorkerGuard,
}

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

impl App {
    /// Starts everything; `path` is what a reload reads.
    pub fn start(config: Config, path: PathBuf) -> Result<Self, StartError> {
        let (lock, unlocked) = take_lock(&config)?;
        let max_connections = proxy::max_connections(&config.server);
        let listeners = proxy::bind(&config.server)?;
        let (trigger, shutdown) = shutdown::channel();
        let telemetry = Telemetry::new();
        telemetry.start_access_log(match config.server.log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        });
        let live = Live::new(Table::build(&config, &Default::default(), &telemetry, None));

        let (report, reports) = control::reports();
        let opened = match unlocked {
            None => Store::open(&store_settings(&config), report),
            Some(why) => Err(why),
        };
        let store = opened.as_ref().ok().map(|(store, _)| store.clone());
        let (sources, signals) = signals::start(&config, shutdown.clone())?;
        let control = control::start(control::Parts {
            config: config.clone(),
            config_path: path,
            live: Arc::clone(&live),
            telemetry: Arc::clone(&telemetry),
            store: opened,
            reports,
            signals: sources,
            shutdown: shutdown.clone(),
        })
        .map_err(|why| match why {
            control::StartError::Pinned(faults) => StartError::Pinned(faults),
            control::StartError::Thread(why) => StartError::Thread(why),
        })?;

        let probes = upkeep::start(live.pools(), shutdown.clone())?;
        let admin = admin::start(admin::Parts {
            listen: config.admin.listen,
            control: control.handle(),
            telemetry: Arc::clone(&telemetry),
            shutdown: shutdown.clone(),
        })?;
        let notices = store
            .clone()
            .map(|store| {
                notify::start(notify::Parts {
                    control: control.handle(),
                    store,
                    retention: config.state.retention,
                    telemetry: Arc::clone(&telemetry),
                    shutdown: shutdown.clone(),
                })
            })
            .transpose()?;
        let certificates = {
            let live = Arc::clone(&live);
            tls::watch(move || live.load().tls_watched(), shutdown.clone())?
        };
        let access_log = telemetry.access_log();
        let workers = proxy::start(
            listeners,
            ProxyParts {
                live,
                telemetry,
                max_connections,
                shutdown,
            },
        )?;
        let app = Self {
            proxy: workers
                .addresses()
                .first()
                .copied()
                .unwrap_or_else(|| ([0, 0, 0, 0], 0).into()),
            admin_addr: admin.local_addr(),
            timeouts: config.server.timeouts,
            workers,
            control,
            admin,
            probes,
            signals,
            notices,
            certificates,
            store,
            access_log,
            trigger,
            _lock: lock,
        };
        tracing::info!(proxy = %app.proxy, admin = %app.admin_addr, "serin carries traffic");
        Ok(app)
    }

    /// Where the first listener listens.
    pub const fn proxy_addr(&self) -> SocketAddr {
        self.proxy
    }

    pub const fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Reads the configuration again, as `POST /api/reload` does, and logs what became of it.
    pub async fn reload(&self) {
        match self.control.handle().reload("SIGHUP").await {
            Ok(reloaded) => tracing::info!(?reloaded, "reloaded"),
            Err(why) => tracing::error!(%why, "not reloaded: the old configuration stays in force"),
        }
    }

    /// Resolves when a part ends that should not: the process must end then.
    pub async fn ended(&mut self) -> Ended {
        tokio::select! {
            lost = self.workers.ended() => {
                if let Err(lost) = lost {
                    tracing::error!(%lost, "a worker is gone");
                }
                Ended("workers")
            }
            () = self.control.ended() => Ended("control"),
            () = self.admin.ended() => Ended("admin"),
            () = self.probes.ended() => Ended("probes"),
            () = self.signals.ended() => Ended("signals"),
            () = ended(&mut self.notices) => Ended("notices"),
            () = self.certificates.ended() => Ended("certificates"),
        }
    }

    /// Drains and stops everything, in at most `drain_delay` + `drain` and a moment for the disk.
    pub async fn stop(mut self) {
        self.trigger.advance(Stage::Leaving);
        tokio::time::sleep(self.timeouts.drain_delay).await;
        self.trigger.advance(Stage::Draining);
        if tokio::time::timeout(self.timeouts.drain, self.workers.ended())
            .await
            .is_err()
        {
            tracing::warn!(after = ?self.timeouts.drain, "not everything was finished in time: the rest is cut");
        }
        self.trigger.advance(Stage::Stopped);
        self.join();
    }

    fn join(self) {
        let calm = [
            self.admin.join(),
            self.probes.join(),
            self.signals.join(),
            self.certificates.join(),
            self.control.join(),
            self.notices.is_none_or(Watched::join),
        ];
        if let Some(store) = self.store {
            store.close(STORE_PATIENCE);
        }
        if let Some(log) = self.access_log {
            log.stop();
        }
        if calm.contains(&false) {
            tracing::warn!("a thread panicked on the way out");
        }
    }
}

/// The end of a part that may not be there.
async fn ended(part: &mut Option<Watched>) {
    match part {
        Some(part) => part.ended().await,
        None => std::future::pending().await,
    }
}

/// The lock on the state path. Where the file system does not let us lock, it does not let us write either: then there
/// is no owner to be had, and the store is not opened.
fn take_lock(config: &Config) -> Result<(Option<OwnerLock>, Option<StoreError>), StartError> {
    match OwnerLock::take(&config.state.path) {
        Ok(lock) => Ok((Some(lock), None)),
        Err(held @ LockError::Held { .. }) => Err(StartError::Held(held)),
        Err(unusable @ LockError::Unusable { .. }) => {
            let why = StoreError::Open {
                path: config.state.path.clone(),
                why: unusable.to_string(),
            };
            Ok((None, Some(why)))
        }
    }
}

fn store_settings(config: &Config) -> store::Settings {
    store::Settings {
        path: config.state.path.clone(),
        deployment_logs: config.state.deployment_logs.clone(),
        retention: config.state.retention,
    }
}
