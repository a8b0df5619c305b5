//! From what an earlier process left to a running driver.
//!
//! When `start` returns, every gate stands where it stood and its split is in force, so that no connection need be
//! accepted under another one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::driver::{Charge, Driver, run};
use super::events::EventLog;
use super::fleet::Fleet;
use super::handle::Handle;
use super::journal::{Journal, Reports};
use super::settings::settings;
use super::view::Shared;
use super::vitals::Vitals;
use super::written;
use crate::clock::{self, GateClock};
use crate::config::{Config, Fault, Rollout};
use crate::fleet::Link;
use crate::hooks;
use crate::live::{Live, Table};
use crate::records::inputs::Recorder;
use crate::rollout::gate::{Effect, EventId, Gate, Snapshot};
use crate::rollout::name::RolloutName;
use crate::rollout::time::{Now, Timestamp, WallTime};
use crate::shutdown::{Shutdown, Watched};
use crate::signals::Signals;
use crate::store::{Recovered, Store, StoreError};
use crate::telemetry::Telemetry;

/// Orders on their way to the driver: more than that are waited for by those who give them.
const INBOX: usize = 64;
/// Events of its own journal that a member of a fleet has at hand at its start.
const RECALLED: u64 = 1024;
/// The latest of them may never have reached the fleet: they are asked for again.
const UNSURE: u64 = 16;

/// What the control path is made of.
pub struct Parts {
    pub config: Config,
    /// As the process began: what a reload changed since and only a new process takes up is named.
    pub booted: Config,
    /// What `Handle::reload` reads.
    pub config_path: PathBuf,
    pub live: Arc<Live>,
    pub telemetry: Arc<Telemetry>,
    /// What `Store::open` gave. With an error the rollouts stand at weight 0, held for the cause `store`.
    pub store: Result<(Store, Recovered), StoreError>,
    /// The other end of what `Store::open` was given to report to.
    pub reports: Reports,
    /// Where readings of signals come from.
    pub signals: Signals,
    /// The link with the fleet; `None` where this serin is alone.
    pub fleet: Option<Link>,
    /// With its region, where that aggregates.
    pub region: Option<Link>,
    pub shutdown: Shutdown,
}

/// The running control path.
#[derive(Debug)]
pub struct Control {
    handle: Handle,
    thread: Watched,
    hooks: Watched,
    /// `None` where there is no store.
    reports: Option<Watched>,
}

/// Why the control path cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A rollout that is not ended was started with something that the file now says otherwise: exit 2.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Pinned(Vec<Fault>),
    #[error("cannot start the control thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Restores the gates, puts their splits in force, and starts the driver on a thread of its own.
pub fn start(parts: Parts) -> Result<Control, StartError> {
    let Parts {
        config,
        booted,
        config_path,
        live,
        telemetry,
        store,
        reports,
        signals,
        fleet,
        region,
        shutdown,
    } = parts;
    let (store, recovered, fault) = match store {
        Ok((store, recovered)) => (Some(store), recovered, None),
        Err(error) => {
            tracing::error!(%error, "traffic stays on baseline: without its journal no rollout moves");
            (None, Recovered::default(), Some(error.to_string()))
        }
    };
    let clock = GateClock::starting_at(resumed_at(&recovered, clock::wall()));
    let shared = Arc::new(Shared {
        views: Default::default(),
        config: arc_swap::ArcSwap::from_pointee(config.clone()),
        admin: arc_swap::ArcSwap::from_pointee(config.admin.clone()),
        notify: arc_swap::ArcSwap::from_pointee(config.notify.clone()),
        notified: Default::default(),
        vitals: Vitals::starting_at(clock::wall()),
        fleet: Default::default(),
        store: store.clone(),
    });
    let journal = store
        .clone()
        .map(|store| Box::new(store) as Box<dyn Journal>);
    let mut driver = Driver::new(
        config,
        live,
        telemetry,
        journal,
        Arc::clone(&shared),
        clock.now(),
    );
    driver.booted = booted;
    driver.file = config_path.display().to_string();
    driver.store = store;
    driver.store_fault = fault;
    driver.signals = Some(signals);
    let (runner, hooks_thread) = hooks::start(shutdown.clone())?;
    driver.hooks = Some(runner.due);
    let (of_region, region) = region.map(|link| (link.asks, link.news)).unzip();
    let link = fleet
        .zip(driver.config.fleet.clone())
        .map(|(link, settings)| {
            driver.fleet = Some(Fleet::new(link.asks, of_region, settings, clock.now()));
            link.news
        });
    driver.restore(clock.now(), recovered)?;
    let store = driver.store.clone();

    let (inbox, orders) = mpsc::channel(INBOX);
    let handle = Handle {
        inbox,
        shared,
        live: Arc::clone(&driver.live),
        config_path: Arc::new(config_path),
        reloading: Arc::new(Mutex::new(())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let reports_thread = store
        .map(|store| written::start(handle.clone(), store, shutdown.clone()))
        .transpose()?;
    let thread = Watched::spawn("control", move || {
        runtime.block_on(run(
            driver,
            clock,
            orders,
            reports,
            runner.ended,
            (link, region),
            shutdown,
        ));
    })?;
    Ok(Control {
        handle,
        thread,
        hooks: hooks_thread,
        reports: reports_thread,
    })
}

/// Where the gate's clock goes on: the latest moment that any gate saw, and the time that has passed since by the
/// wall clock, which may have been set back.
fn resumed_at(recovered: &Recovered, wall: WallTime) -> Timestamp {
    let moments = recovered
        .rollouts
        .values()
        .map(|rollout| saved_at(&rollout.snapshot));
    moments
        .map(|saved| saved.mono.after(passed(saved.wall, wall)))
        .max()
        .unwrap_or_default()
}

// === impl Control ===

impl Control {
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Resolves when the driver's thread, that of the hooks or that of the reports has ended, by shutdown or by a fault.
    pub async fn ended(&mut self) {
        let reports = async {
            match &mut self.reports {
                Some(reports) => reports.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.thread.ended() => {}
            () = self.hooks.ended() => {}
            () = reports => {}
        }
    }

    /// Waits for the threads; false if one panicked. Blocks.
    #[must_use]
    pub fn join(self) -> bool {
        let calm = [
            self.thread.join(),
            self.hooks.join(),
            self.reports.is_none_or(Watched::join),
        ];
        !calm.contains(&false)
    }
}

// === impl Driver ===

impl Driver {
    pub(super) fn new(
        config: Config,
        live: Arc<Live>,
        telemetry: Arc<Telemetry>,
        journal: Option<Box<dyn Journal>>,
        shared: Arc<Shared>,
        now: Now,
    ) -> Self {
        Self {
            booted: config.clone(),
            config,
            live,
            telemetry,
            journal,
            file: String::new(),
            store: None,
            signals: None,
            shared,
            rollouts: BTreeMap::new(),
            dormant: BTreeMap::new(),
            drained_to: now.mono,
            store_fault: None,
            hooks: None,
            fleet: None,
            shift_ms: 0,
        }
    }

    /// Takes up what an earlier process left, puts it in force, and records the restart.
    pub(super) fn restore(&mut self, now: Now, recovered: Recovered) -> Result<(), StartError> {
        let mut effects = BTreeMap::new();
        for (name, left) in recovered.rollouts {
            if self.fleet.is_some() {
                // Whoever leads goes on from here, if the fleet has nothing newer; until then this is a copy.
                let mut gate = Gate::as_it_stood(left.snapshot.clone());
                gate.follow(left.snapshot, &left.recent, now);
                let charge = self.charge(&name, gate, now, &[]);
                self.recall(&name, &charge);
                let charge = charge.unsure_of(UNSURE);
                let known = self.config.rollouts.contains_key(&name);
                let charges = if known {
                    &mut self.rollouts
                } else {
                    &mut self.dormant
                };
                charges.insert(name, charge);
                continue;
            }
            let kept = self.config.state.record_inputs;
            let recorder = kept.then(|| Recorder::restored(&left.snapshot, &left.recent, now));
            let (gate, todo) = Gate::restore(left.snapshot, left.recent, now);
            let charge = Charge {
                recorder,
                ..self.charge(&name, gate, now, &todo)
            };
            if self.config.rollouts.contains_key(&name) {
                effects.insert(name.clone(), todo);
                self.rollouts.insert(name, charge);
            } else {
                self.dormant.insert(name, charge);
            }
        }
        let faults = self.pinned_faults(&self.config);
        if !faults.is_empty() {
            return Err(StartError::Pinned(faults));
        }
        self.add_missing(now);
        self.rebuild_table();
        self.teach_segments();
        for (name, todo) in effects {
            let done = self.carry_out(&name, todo);
            self.write(now, &name, done.events, Vec::new());
        }
        self.tell_versions(now);
        self.show(now);
        Ok(())
    }

    /// Events of the journal that others of the fleet may ask for.
    fn recall(&self, name: &RolloutName, charge: &Charge) {
        let Some(store) = &self.store else { return };
        let after = charge.announced.0.saturating_sub(RECALLED);
        match store.history(name, EventId(after), usize::MAX) {
            Ok(events) => events.into_iter().for_each(|event| charge.log.keep(event)),
            Err(error) => tracing::warn!(rollout = %name, %error, "the history cannot be read"),
        }
    }

    /// Segments that were told apart before are again, so that who belongs to `other` does not change.
    fn teach_segments(&self) {
        let table = self.live.load();
        for (name, charge) in &self.rollouts {
            let Some(index) = table.find_rollout(name) else {
                continue;
            };
            for segment in charge.gate.segments() {
                table.rollout(index).meter.segment(&segment);
            }
        }
    }

    /// Gates for the rollouts of the file that have none yet.
    pub(super) fn add_missing(&mut self, now: Now) {
        let missing: Vec<(RolloutName, Rollout)> = self
            .config
            .rollouts
            .iter()
            .filter(|(name, _)| !self.rollouts.contains_key(*name))
            .map(|(name, rollout)| (name.clone(), rollout.clone()))
            .collect();
        for (name, rollout) in missing {
            let charge = match self.dormant.remove(&name) {
                Some(charge) => charge,
                None => {
                    let gate = match &self.store_fault {
                        Some(why) if self.journal.is_none() => Gate::without_store(now, why),
                        Some(_) | None => Gate::at_rest(rollout.weight_at_rest),
                    };
                    self.charge(&name, gate, now, &[])
                }
            };
            self.rollouts.insert(name, charge);
        }
    }

    /// A gate with what the driver keeps beside it. `todo` holds the events that are not on disk yet.
    fn charge(&self, name: &RolloutName, gate: Gate, now: Now, todo: &[Effect]) -> Charge {
        let first_unwritten = todo.iter().find_map(|effect| match effect {
            Effect::Record(event) => Some(event.id),
            Effect::Publish(_) | Effect::Announce(_) | Effect::RunHook(_) | Effect::Refuse(_) => {
                None
            }
        });
        let status = gate.status(now);
        let last_written =
            first_unwritten.map_or(status.last_event, |id| EventId(id.0.saturating_sub(1)));
        let plan = gate
            .plan()
            .or_else(|| self.config.rollouts.get(name).map(|rollout| &rollout.plan))
            .cloned();
        Charge {
            version: gate
                .version()
                .or_else(|| plan.as_ref().map(|plan| plan.version.as_str()))
                .unwrap_or_default()
                .to_owned(),
            plan: plan.map(Arc::new),
            log: EventLog::new(name.clone(), self.store.clone(), last_written),
            told: last_written,
            announced: last_written,
            run: status.run,
            gate,
            seconds: Default::default(),
            blocks: Default::default(),
            probes: Default::default(),
            mirrored: Default::default(),
            recorder: self.config.state.record_inputs.then(Recorder::default),
            waiting: Vec::new(),
        }
    }

    /// Builds the table of the present configuration with every gate's split, and puts it in force.
    pub(super) fn rebuild_table(&self) {
        let settings = self.rollouts.iter().filter_map(|(name, charge)| {
            let rollout = self.config.rollouts.get(name)?;
            Some((
                name.clone(),
                settings(&self.config, rollout, &charge.gate, charge.gate.split()),
            ))
        });
        let table = Table::build(
            &self.config,
            &settings.collect(),
            &self.telemetry,
            Some(&self.live.load()),
        );
        self.live.publish(table);
    }
}

impl Charge {
    /// The last `many` events of its journal are not known to be what others have: they are asked for again.
    fn unsure_of(mut self, many: u64) -> Self {
        let sure = EventId(self.announced.0.saturating_sub(many));
        self.announced = sure;
        self
    }
}

/// When a gate was saved.
fn saved_at(snapshot: &Snapshot) -> Now {
    snapshot.saved
}

fn passed(from: WallTime, to: WallTime) -> std::time::Duration {
    let passed_ms = to.as_unix_millis().saturating_sub(from.as_unix_millis());
    std::time::Duration::from_millis(u64::try_from(passed_ms).unwrap_or(0))
}
