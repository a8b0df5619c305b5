//! What the rest of the program may ask of the control path.
//!
//! Orders and reloads go to the driver and are answered by it; everything else is read from what the driver publishes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::events::{HistoryError, Subscription};
use super::fleet::FleetView;
use super::hearing::{ItemFault, OutcomesTaken, PostedOutcome, PushedReading};
use super::inbox::Message;
use super::order::{Order, OrderError, Verb};
use super::reload::{ReloadError, Reloaded};
use super::view::{RolloutView, Shared};
use super::vitals::Vitals;
use crate::clock;
use crate::config::{self, Config};
use crate::live::{CertificateView, Live, PoolView};
use crate::records::event::EventRecord;
use crate::rollout::assign::{Ask, Why};
use crate::rollout::name::{Arm, PoolName, RolloutName};
use crate::rollout::weight::Weight;
use crate::store::{self, Notified, Store};

/// How long an answer waits for a weight to come into force.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer waits for the disk: an order that is answered is not lost in a crash, and a disk that stalls
/// keeps nobody from acting.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// The control path as others see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) shared: Arc<Shared>,
    pub(super) live: Arc<Live>,
    pub(super) config_path: Arc<PathBuf>,
    /// One reload at a time: the file that was read last is the one in force.
    pub(super) reloading: Arc<Mutex<()>>,
}

/// Where a learner goes now, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// `None` where no id was given.
    pub bucket: Option<u32>,
    /// The side his hash puts him on.
    pub arm: Arm,
    /// The pool that answers him: baseline's on failover.
    pub pool: PoolName,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    #[error("there is no pool {0:?}")]
    UnknownPool(String),
    #[error("pool {pool:?} has no endpoint {address:?}")]
    UnknownEndpoint { pool: String, address: String },
}

/// Why readings or results were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HearError {
    /// Of each item that is wrong; nothing was taken.
    #[error("{} of the items are wrong; nothing was taken", .0.len())]
    Faults(Vec<ItemFault>),
    #[error("serin is shutting down")]
    Stopped,
}

impl Handle {
    /// Every rollout of the configuration.
    pub fn rollouts(&self) -> Arc<BTreeMap<RolloutName, Arc<RolloutView>>> {
        self.shared.views.load_full()
    }

    pub fn rollout(&self, name: &str) -> Option<Arc<RolloutView>> {
        self.shared.views.load().get(name).cloned()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config.load_full()
    }

    /// How the control path itself fares.
    pub fn vitals(&self) -> &Vitals {
        &self.shared.vitals
    }

    /// The fleet as this member knows it; `None` where it is in none.
    pub fn fleet(&self) -> Option<Arc<FleetView>> {
        self.shared.fleet.load_full()
    }

    /// How the journal's writer fares; `None` where there is no journal.
    pub fn store_vitals(&self) -> Option<&store::Vitals> {
        self.shared.store.as_ref().map(Store::vitals)
    }

    /// How many events are not on disk yet.
    pub fn unwritten_events(&self) -> usize {
        let store = self.shared.store.as_ref();
        store.map_or(0, Store::waiting_events)
    }

    /// Why the journal cannot be written, while it cannot.
    pub fn store_fault(&self) -> Option<String> {
        let views = self.shared.views.load();
        views.values().find_map(|view| view.store_fault.clone())
    }

    /// The settings of the admin port as they are now: tokens and hosts change with a reload.
    pub fn admin(&self) -> Arc<config::Admin> {
        self.shared.admin.load_full()
    }

    /// The channels of notices as they are now.
    pub fn notify(&self) -> Arc<Vec<config::Channel>> {
        self.shared.notify.load_full()
    }

    /// Whether this process sends notices: in a fleet the member that leads does, and each that is cut off.
    pub fn sends_notices(&self) -> bool {
        let fleet = self.shared.fleet.load();
        fleet.as_ref().is_none_or(|fleet| fleet.role != "follows")
    }

    /// Says up to which event of each rollout the channels were told.
    pub fn notified(&self, notified: BTreeMap<RolloutName, Notified>) {
        self.shared.notified.store(Arc::new(notified));
    }

    /// What the next handshake of the admin port uses; `None` where it speaks no TLS.
    pub fn admin_tls(&self) -> Option<Arc<ServerConfig>> {
        let table = self.live.load();
        table.admin_tls().map(|listener| listener.config())
    }

    /// The certificates in force.
    pub fn certificates(&self) -> Vec<CertificateView> {
        let watched = self.live.load().tls_watched();
        let views = watched.iter().map(|one| one.certificates());
        views.flatten().collect()
    }

    /// The share of baseline's requests that is copied to canary while it may be.
    pub fn mirrored_share(&self, rollout: &RolloutName) -> Weight {
        let table = self.live.load();
        let found = table.find_rollout(rollout);
        let mirror = found.and_then(|found| table.rollout(found).mirror.as_ref());
        mirror.map_or(Weight::ZERO, |mirror| mirror.rule.share)
    }

    pub fn pools(&self) -> Vec<PoolView> {
        self.live.load().pools()
    }

    /// Gives an order and waits for its answer: the rollout as it stands afterwards. A weight is answered when it is in
    /// force; after 10 s the error says what it waits for.
    pub async fn order(
        &self,
        rollout: &RolloutName,
        order: Order,
    ) -> Result<Arc<RolloutView>, OrderError> {
        let (answer, answered) = oneshot::channel();
        let waits_for_weight = matches!(order.verb, Verb::SetWeight { .. });
        let message = Message::Order {
            rollout: rollout.clone(),
            order,
            answer,
        };
        let exchange = async {
            self.inbox
                .send(message)
                .await
                .map_err(|_| OrderError::Stopped)?;
            let view = answered.await.map_err(|_| OrderError::Stopped)??;
            if tokio::time::timeout(DISK_PATIENCE, view.events.all_shown())
                .await
                .is_err()
            {
                tracing::warn!(%rollout, "an order is answered before the disk has it");
            }
            Ok(view)
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) if waits_for_weight => Err(OrderError::Waiting(self.what_it_waits_for(rollout))),
            Err(_) => Err(OrderError::Waiting(
                "the gate has not answered yet".to_owned(),
            )),
        }
    }

    fn what_it_waits_for(&self, rollout: &RolloutName) -> String {
        let view = self.rollout(rollout.as_str());
        let awaited = view.as_ref().and_then(|view| view.status.awaiting_store);
        let fault = view.as_ref().and_then(|view| view.store_fault.clone());
        match (awaited, fault) {
            (Some(event), Some(fault)) => {
                format!(
                    "the weight waits for event {} to be on disk, and the store cannot write: {fault}",
                    event.0
                )
            }
            (Some(event), None) => format!("the weight waits for event {} to be on disk", event.0),
            (None, _) => "the gate has not answered yet".to_owned(),
        }
    }

    /// Events after `after`, oldest first, at most `limit`.
    pub async fn history(
        &self,
        view: &RolloutView,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<EventRecord>>, HistoryError> {
        view.events.after(after, limit).await
    }

    /// Events after `after`, and then each as it comes.
    pub fn subscribe(&self, view: &RolloutView, after: u64) -> Subscription {
        view.events.subscribe(after)
    }

    /// Where the data path would send a request of this learner now.
    pub fn assign(
        &self,
        view: &RolloutView,
        learner: Option<&[u8]>,
        segment: Option<&str>,
    ) -> Lookup {
        let hash = learner.map(|id| view.salt.hash(id));
        let table = self.live.load();
        let rollout = table
            .find_rollout(&view.rollout)
            .map(|index| table.rollout(index));
        let segment = segment.map(|name| match rollout {
            Some(rollout) => rollout.capped_segment(name),
            None => name,
        });
        let assignment = view.split.assign(Ask {
            learner,
            hash,
            forced: None,
            segment,
        });
        let canary_is_gone = || {
            let health = self.live.load().pool_health(view.pool(Arm::Canary));
            health.is_none_or(|health| health.usable == 0)
        };
        let (pool, why) = match assignment.arm {
            Arm::Canary if canary_is_gone() => (Arm::Baseline, Why::Failover),
            arm => (arm, assignment.why),
        };
        let bucket = hash.map(|hash| hash.bucket());
        Lookup {
            bucket,
            arm: assignment.arm,
            pool: view.pool(pool).clone(),
            why,
        }
    }

    /// Takes an endpoint out of use: no new request goes there.
    pub fn drain(
        &self,
        pool: &str,
        address: &str,
        by: &str,
        reason: &str,
    ) -> Result<(), DrainError> {
        self.set_drained(pool, address, true)?;
        tracing::info!(pool, endpoint = address, by, reason, "endpoint drained");
        Ok(())
    }

    /// Takes an endpoint back into use.
    pub fn undrain(
        &self,
        pool: &str,
        address: &str,
        by: &str,
        reason: &str,
    ) -> Result<(), DrainError> {
        self.set_drained(pool, address, false)?;
        tracing::info!(
            pool,
            endpoint = address,
            by,
            reason,
            "endpoint taken back into use"
        );
        Ok(())
    }

    fn set_drained(&self, pool: &str, address: &str, drained: bool) -> Result<(), DrainError> {
        let unknown_pool = || DrainError::UnknownPool(pool.to_owned());
        let name = PoolName::parse(pool).map_err(|_| unknown_pool())?;
        let table = self.live.load();
        if table.pool_health(&name).is_none() {
            return Err(unknown_pool());
        }
        if !table.set_drained(&name, address, drained) {
            return Err(DrainError::UnknownEndpoint {
                pool: pool.to_owned(),
                address: address.to_owned(),
            });
        }
        Ok(())
    }

    /// Reads proxy.toml again and applies it whole, or not at all.
    pub async fn reload(&self, by: &str) -> Result<Reloaded, ReloadError> {
        let _turn = self.reloading.lock().await;
        let path = Arc::clone(&self.config_path);
        let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let read = read.map_err(|ended| ReloadError::Thread(ended.to_string()));
        let reloaded = match read.and_then(|read| read.map_err(ReloadError::Faults)) {
            Ok(config) => self.apply(config, by).await,
            Err(why) => Err(why),
        };
        match reloaded {
            Ok(_) => self.shared.vitals.reloaded(clock::wall()),
            Err(_) => self.shared.vitals.refused(),
        }
        reloaded
    }

    /// Gives readings that were pushed to their gates: all of them, or none and what is wrong with each.
    pub async fn readings(&self, readings: Vec<PushedReading>) -> Result<usize, HearError> {
        self.hear(|answer| Message::Readings { readings, answer })
            .await
    }

    /// Gives business results to the gates that compare them.
    pub async fn outcomes(&self, outcomes: Vec<PostedOutcome>) -> Result<OutcomesTaken, HearError> {
        self.hear(|answer| Message::Outcomes { outcomes, answer })
            .await
    }

    async fn hear<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, Vec<ItemFault>>>) -> Message,
    ) -> Result<T, HearError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.inbox.send(message(answer)).await;
        sent.map_err(|_| HearError::Stopped)?;
        answered
            .await
            .map_err(|_| HearError::Stopped)?
            .map_err(HearError::Faults)
    }

    async fn apply(&self, config: Config, by: &str) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        let message = Message::Reload {
            config: Box::new(config),
            by: by.to_owned(),
            answer,
        };
        self.inbox
            .send(message)
            .await
            .map_err(|_| ReloadError::Stopped)?;
        answered
            .await
            .map_err(|_| ReloadError::Stopped)?
            .map_err(ReloadError::Faults)
    }
}
