//! What starts and stops with the store: the lock on the state path, the gates, the admin port, probes, signals, notices.
//!
//! Starts whole and stops whole, so that another process can take it up in between; requests pass meanwhile under the last
//! splits.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ports::Ports;
use super::{Happened, StartError};
use crate::admin::{self, Admin};
use crate::config::{self, Config};
use crate::control::{self, Control, Handle};
use crate::fleet;
use crate::live::Live;
use crate::notify;
use crate::shutdown::{self, Shutdown, Stage, Trigger, Watched};
use crate::signals;
use crate::store::lock::{LockError, OwnerLock};
use crate::store::{self, AccessLines, Store, StoreError};
use crate::takeover::Offer;
use crate::telemetry::Telemetry;
use crate::upstream::upkeep;

/// How long the store may take at the end to write what is pending: a disk that stalls longer has lost it anyway.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to get the state path back from a process that did not take over in the end.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What steering stands on: it outlives it.
pub(super) struct Ground {
    /// As the process began.
    pub(super) booted: Config,
    /// As it was in force when steering stopped last.
    pub(super) config: Arc<Config>,
    pub(super) path: PathBuf,
    pub(super) live: Arc<Live>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// The lock on the state path, or why the store is not opened.
pub(super) struct Locked(Result<OwnerLock, StoreError>);

/// The running parts.
pub(super) struct Steering {
    control: Control,
    admin: Admin,
    probes: Watched,
    signals: Watched,
    notices: Option<Watched>,
    /// The link with the fleet: it ends after the gates, whose last words it carries.
    fleet: Option<Watched>,
    /// With its region, where that aggregates; it ends as the other one does.
    region: Option<Watched>,
    store: Option<Store>,
    /// Where another process asks for our place; `None` where the file system does not let us listen.
    offer: Option<Offer>,
    /// Of the admin port alone: it ends before the gates that answer it.
    desk: Trigger,
    /// Of the link with the fleet.
    of_link: Trigger,
    trigger: Trigger,
    _lock: Option<OwnerLock>,
}

/// The lock on the state path. Where the file system does not let us lock, it does not let us write either: then there
/// is no owner to be had, and the store is not opened.
pub(super) fn lock(config: &Config) -> Result<Locked, StartError> {
    match OwnerLock::take(&config.state.path) {
        Ok(lock) => Ok(Locked(Ok(lock))),
        Err(held @ LockError::Held { .. }) => Err(StartError::Held(held)),
        Err(unusable @ LockError::Unusable { .. }) => Ok(Locked(Err(StoreError::Open {
            path: config.state.path.clone(),
            why: unusable.to_string(),
        }))),
    }
}

/// What happens to the steering; takes it up again where it was given away for nothing. May be dropped and called again.
pub(super) async fn happened(
    steering: &mut Option<Steering>,
    ground: &Ground,
    ports: &Ports,
) -> Happened {
    loop {
        if let Some(running) = steering {
            return running.happened().await;
        }
        match again(ground, ports) {
            Ok(begun) => {
                tracing::info!("the gates go on");
                *steering = Some(begun);
            }
            // The other process holds it to its end.
            Err(StartError::Held(_)) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(why) => {
                tracing::error!(%why, "the gates cannot go on");
                return Happened::Ended("control");
            }
        }
    }
}

fn again(ground: &Ground, ports: &Ports) -> Result<Steering, StartError> {
    let locked = lock(&ground.config)?;
    Steering::start(ground, ports.admin()?, locked)
}

impl Steering {
    /// Opens the store, restores the gates and puts their splits in force, then opens the admin port. Within a runtime.
    pub(super) fn start(
        ground: &Ground,
        admin: TcpListener,
        Locked(locked): Locked,
    ) -> Result<Self, StartError> {
        let config = &*ground.config;
        let (trigger, shutdown) = shutdown::channel();
        let (report, reports) = control::reports();
        let (lock, opened) = match locked {
            Ok(lock) => (Some(lock), Store::open(&store_settings(ground), report)),
            Err(why) => (None, Err(why)),
        };
        let store = opened.as_ref().ok().map(|(store, _)| store.clone());
        let (sources, signals) = signals::start(config, shutdown.clone())?;
        let (of_link, until) = shutdown::channel();
        let (link, fleet) = match &config.fleet {
            Some(settings) => {
                let (link, thread) = fleet::start(settings.clone(), until.clone())?;
                (Some(link), Some(thread))
            }
            None => (None, None),
        };
        let aggregates = |fleet: &&config::Fleet| fleet.aggregate == config::Aggregate::Region;
        let (region_link, region) = match config.fleet.as_ref().filter(aggregates) {
            Some(settings) => {
                let (link, thread) = fleet::start_region(settings.clone(), until)?;
                (Some(link), Some(thread))
            }
            None => (None, None),
        };
        let control = control::start(control::Parts {
            config: config.clone(),
            booted: ground.booted.clone(),
            config_path: ground.path.clone(),
            live: Arc::clone(&ground.live),
            telemetry: Arc::clone(&ground.telemetry),
            store: opened,
            reports,
            signals: sources,
            fleet: link,
            region: region_link,
            shutdown: shutdown.clone(),
        })
        .map_err(|why| match why {
            control::StartError::Pinned(faults) => StartError::Pinned(faults),
            control::StartError::Thread(why) => StartError::Thread(why),
        })?;
        let probes = upkeep::start(ground.live.pools(), shutdown.clone())?;
        let (desk, of_desk) = shutdown::channel();
        let admin = admin::start(admin::Parts {
            listener: admin,
            control: control.handle(),
            telemetry: Arc::clone(&ground.telemetry),
            shutdown: of_desk,
        })?;
        let notices = ground.notices(&control, store.clone(), shutdown)?;
        Ok(Self {
            offer: lock.as_ref().and_then(|_| make_offer(config)),
            control,
            admin,
            probes,
            signals,
            notices,
            fleet,
            region,
            store,
            desk,
            of_link,
            trigger,
            _lock: lock,
        })
    }

    pub(super) fn handle(&self) -> Handle {
        self.control.handle()
    }

    pub(super) fn advance(&self, stage: Stage) {
        self.desk.advance(stage);
        self.trigger.advance(stage);
        if stage < Stage::Stopped {
            self.of_link.advance(stage);
        }
    }

    /// Resolves when a part ends that should not, or another process asks. May be dropped and called again.
    async fn happened(&mut self) -> Happened {
        let ended = tokio::select! {
            () = self.control.ended() => "control",
            () = self.admin.ended() => "admin",
            () = self.probes.ended() => "probes",
            () = self.signals.ended() => "signals",
            () = ended(&mut self.notices) => "notices",
            () = ended(&mut self.fleet) => "fleet",
            () = ended(&mut self.region) => "region",
            stream = asked(self.offer.as_ref()) => return Happened::Asked(stream),
        };
        Happened::Ended(ended)
    }

    /// Ends everything in order: operators' requests, the gates with their last look, the store, and then the lock is free.
    /// Blocks.
    pub(super) fn stop(self) {
        self.desk.advance(Stage::Stopped);
        let admin = self.admin.join();
        self.trigger.advance(Stage::Stopped);
        let calm = [
            admin,
            self.probes.join(),
            self.signals.join(),
            self.control.join(),
            self.notices.is_none_or(Watched::join),
        ];
        self.of_link.advance(Stage::Stopped);
        let links = [self.fleet, self.region];
        let linked = links.map(|link| link.is_none_or(Watched::join)) == [true; 2];
        if let Some(store) = self.store {
            store.close(STORE_PATIENCE);
        }
        if calm.contains(&false) || !linked {
            tracing::warn!("a thread panicked on the way out");
        }
    }
}

impl Ground {
    fn notices(
        &self,
        control: &Control,
        store: Option<Store>,
        shutdown: Shutdown,
    ) -> std::io::Result<Option<Watched>> {
        let start = |store| {
            notify::start(notify::Parts {
                control: control.handle(),
                store,
                retention: self.config.state.retention,
                telemetry: Arc::clone(&self.telemetry),
                shutdown,
            })
        };
        store.map(start).transpose()
    }
}

/// The end of a part that may not be there.
pub(super) async fn ended(part: &mut Option<Watched>) {
    match part {
        Some(part) => part.ended().await,
        None => std::future::pending().await,
    }
}

async fn asked(offer: Option<&Offer>) -> tokio::net::UnixStream {
    match offer {
        Some(offer) => offer.asked().await,
        None => std::future::pending().await,
    }
}

fn make_offer(config: &Config) -> Option<Offer> {
    match Offer::make(&config.state.path) {
        Ok(offer) => Some(offer),
        Err(error) => {
            tracing::warn!(%error, state = %config.state.path.display(), "no process can take over: its socket cannot be made");
            None
        }
    }
}

fn store_settings(ground: &Ground) -> store::Settings {
    let state = &ground.config.state;
    let log = ground.telemetry.access_log();
    store::Settings {
        path: state.path.clone(),
        deployment_logs: state.deployment_logs.clone(),
        retention: state.retention,
        access_lines: AccessLines::new(move |rollout| {
            log.as_ref()
                .map_or_else(Vec::new, |log| log.latest(rollout))
        }),
    }
}
