//! Routes, pools and rollouts as they are at one moment.
//!
//! Immutable, except for what its pools and endpoints count. Built in `build`; never decides where a request goes
//! beyond finding its route.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use super::routes::Routes;
use super::{EjectionView, EndpointView, PoolView, Pools, RolloutSettings};
use crate::config::{self, AccessLog, Failover, LearnerSource, Limits, ServerTimeouts, Tracing};
use crate::rollout::assign::{Salt, Split};
use crate::rollout::gate::PoolHealth;
use crate::rollout::name::{Arm, PoolName, RolloutName, StageName};
use crate::rollout::rehearsal::Injection;
use crate::rollout::segments::OTHER_SEGMENT;
use crate::telemetry::{MirrorMeter, RolloutMeter, Telemetry};
use crate::tls;
use crate::upstream::admission::Admission;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Pool;
use crate::upstream::roster::Member;

/// Routes, pools and rollouts as they are at one moment.
#[derive(Debug)]
pub struct Table {
    pub(super) routes: Arc<Routes>,
    /// By the index of the route.
    pub(super) targets: Arc<[(Target, bool)]>,
    pub(super) pools: Pools,
    pub(super) rollouts: Vec<Arc<Rollout>>,
    pub(super) rules: Arc<Rules>,
    pub(super) telemetry: Arc<Telemetry>,
    /// By the listener's address as configured.
    pub(super) entrances: Arc<BTreeMap<SocketAddr, Entrance>>,
    /// TLS of the admin port, where it is spoken.
    pub(super) admin_tls: Option<Arc<tls::Listener>>,
}

/// How clients come in at one listener.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// `None` where no TLS is spoken.
    pub tls: Option<Arc<tls::Listener>>,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
}

/// A pool's place in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolIndex(pub usize);

/// A rollout's place in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutIndex(pub usize);

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Pool(PoolIndex),
    Rollout(RolloutIndex),
}

/// The route of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    pub target: Target,
    /// Requests of this route may be sent again whatever their method.
    pub idempotent: bool,
}

/// What holds for every request.
#[derive(Debug)]
pub struct Rules {
    pub trusted: Vec<IpNet>,
    /// Who may come in now, of all requests.
    pub admission: Arc<Admission>,
    pub limits: Limits,
    pub timeouts: ServerTimeouts,
    /// Which requests the access log tells.
    pub access: AccessLog,
    /// Which requests are told as spans, where somebody takes them.
    pub tracing: Tracing,
    /// Names of headers that any pool sets, in lower case with `_` as `-`, sorted: learners may not set them.
    pub claimed: Vec<Box<str>>,
    /// Bit n is set where a claimed name is n bytes long (64 and more share the last bit).
    pub claimed_lengths: u64,
}

/// One rollout as the data path knows it.
#[derive(Debug)]
pub struct Rollout {
    pub name: RolloutName,
    /// By `Arm::index`.
    pub pools: [PoolIndex; 2],
    pub salt: Salt,
    pub learner: Vec<LearnerSource>,
    pub segment: Option<LearnerSource>,
    pub split: Split,
    pub patience: Duration,
    pub failover: Failover,
    /// Ends a canary attempt that could still be answered by baseline; never zero.
    pub failover_after: Duration,
    pub error_statuses: Vec<u16>,
    /// How long streams and tunnels may go on after their arm was retreated from.
    pub stream_grace: Duration,
    /// Faults of a rehearsal.
    pub injection: Option<Injection>,
    /// That the rollout is in, or ended in; `None` before any run.
    pub stage: Option<StageName>,
    /// Copies of baseline's requests for canary; `None` where none are made.
    pub mirror: Option<Arc<Mirror>>,
    pub meter: RolloutMeter,
    pub(super) max_segments: usize,
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) failover_after_cap: Duration,
    pub(super) failover_after_typed: Option<Duration>,
}

/// Which requests are copied, and where it is counted.
#[derive(Debug)]
pub struct Mirror {
    pub rule: config::Mirror,
    pub meter: Arc<MirrorMeter>,
}

// === impl Table ===

impl Table {
    /// The route of a request. `host` is without port; its case does not matter.
    pub fn route(&self, host: &str, path: &str) -> Option<Matched> {
        let index = self.routes.find(host, path)?;
        let &(target, idempotent) = self.targets.get(index)?;
        Some(Matched { target, idempotent })
    }

    pub fn pool(&self, index: PoolIndex) -> &Arc<Pool> {
        &self.pools[index.0]
    }

    pub fn rollout(&self, index: RolloutIndex) -> &Arc<Rollout> {
        &self.rollouts[index.0]
    }

    /// Where a rollout of another table stands in this one.
    pub fn find_rollout(&self, name: &RolloutName) -> Option<RolloutIndex> {
        self.rollouts
            .iter()
            .position(|rollout| rollout.name == *name)
            .map(RolloutIndex)
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn rollouts(&self) -> &[Arc<Rollout>] {
        &self.rollouts
    }

    pub(super) fn pool_list(&self) -> &Pools {
        &self.pools
    }

    /// The same table with other settings for one rollout.
    pub fn with_settings(&self, rollout: &RolloutName, settings: RolloutSettings) -> Self {
        let changed = |known: &Arc<Rollout>| {
            if known.name == *rollout {
                Arc::new(known.with_settings(settings.clone(), &self.telemetry))
            } else {
                Arc::clone(known)
            }
        };
        Self {
            routes: Arc::clone(&self.routes),
            targets: Arc::clone(&self.targets),
            pools: Arc::clone(&self.pools),
            rollouts: self.rollouts.iter().map(changed).collect(),
            rules: Arc::clone(&self.rules),
            telemetry: Arc::clone(&self.telemetry),
            entrances: Arc::clone(&self.entrances),
            admin_tls: self.admin_tls.clone(),
        }
    }

    /// How clients come in at a listener; `None` where the configuration does not name it any more.
    pub fn entrance(&self, listener: SocketAddr) -> Option<&Entrance> {
        self.entrances.get(&listener)
    }

    /// TLS of the admin port, where it is spoken.
    pub fn admin_tls(&self) -> Option<&Arc<tls::Listener>> {
        self.admin_tls.as_ref()
    }

    /// Everything that was made from files of certificates: listeners, the admin port, and pools that are spoken to over
    /// TLS.
    pub fn tls_watched(&self) -> Vec<Arc<dyn tls::Watched>> {
        let listeners = self.tls_listeners().into_iter();
        let listeners = listeners.chain(self.admin_tls.clone());
        let listeners = listeners.map(|listener| listener as Arc<dyn tls::Watched>);
        let pools = self.pools.iter();
        listeners
            .chain(pools.filter_map(|pool| pool.transport.watched()))
            .collect()
    }

    /// Every listener for learners that speaks TLS.
    pub fn tls_listeners(&self) -> Vec<Arc<tls::Listener>> {
        let entrances = self.entrances.values();
        entrances
            .filter_map(|entrance| entrance.tls.clone())
            .collect()
    }

    pub fn pools(&self) -> Vec<PoolView> {
        let view = |pool: &Arc<Pool>| {
            let (dns_fault, dns_failures) = pool.lookup_fault();
            PoolView {
                name: pool.name.clone(),
                endpoints: pool
                    .roster()
                    .members()
                    .iter()
                    .map(|member| view_endpoint(pool, member))
                    .collect(),
                never_healthy: pool.never_healthy(),
                limit: pool.admission().limit(),
                queued: pool.admission().queued(),
                dns: pool.config().dns.as_ref().map(|dns| dns.name.to_string()),
                dns_fault,
                dns_failures,
            }
        };
        self.pools.iter().map(view).collect()
    }

    /// Health of a pool, with its probes in total since start.
    pub fn pool_health(&self, pool: &PoolName) -> Option<PoolHealth> {
        let pool = self.find_pool(pool)?;
        let known = pool.endpoints();
        let sum = |count: fn(&Endpoint) -> u64| known.iter().map(|endpoint| count(endpoint)).sum();
        Some(PoolHealth {
            endpoints: u32::try_from(known.len()).unwrap_or(u32::MAX),
            usable: pool.usable(),
            probes_sent: sum(Endpoint::probes_sent),
            probes_answered: sum(Endpoint::probes_answered),
        })
    }

    /// Takes an endpoint out of use, or back; false if there is none of that address.
    pub fn set_drained(&self, pool: &PoolName, address: &str, drained: bool) -> bool {
        let found = self.find_pool(pool).and_then(|pool| {
            let mut endpoints = pool.endpoints().into_iter();
            endpoints.find(|endpoint| endpoint.address() == address)
        });
        if let Some(endpoint) = &found {
            endpoint.set_drained(drained);
        }
        found.is_some()
    }

    fn find_pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.name == *name)
    }
}

// === impl Rules ===

impl Rules {
    /// Whether forwarded headers and `x-serin-pool` of this peer count.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted.is_empty() && self.trusted.iter().any(|net| net.contains(&peer))
    }
}

// === impl Rollout ===

impl Rollout {
    /// The epoch in force now, which may be later than this table's.
    pub fn epoch_now(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn pool(&self, arm: Arm) -> PoolIndex {
        self.pools[arm.index()]
    }

    /// What its gate said last, without the faults of a rehearsal.
    pub fn settings(&self) -> RolloutSettings {
        RolloutSettings {
            split: self.split.clone(),
            latency_limits_us: self.meter.latency_limits_us(),
            patience: self.patience,
            failover_after: Some(self.failover_after),
            injection: None,
            stage: self.stage.clone(),
        }
    }

    /// The name that a segment's ceiling stands under: `other` where it is one of the rest, unless it has its own.
    pub fn capped_segment<'a>(&self, segment: &'a str) -> &'a str {
        let has_own = || self.split.ceilings.contains_key(segment);
        if self.meter.counts_as_other(segment) && !has_own() {
            OTHER_SEGMENT
        } else {
            segment
        }
    }

    fn with_settings(&self, settings: RolloutSettings, telemetry: &Arc<Telemetry>) -> Self {
        Self {
            name: self.name.clone(),
            pools: self.pools,
            salt: self.salt.clone(),
            learner: self.learner.clone(),
            segment: self.segment.clone(),
            patience: settings.patience,
            failover: self.failover,
            failover_after: self.failover_after(settings.failover_after),
            error_statuses: self.error_statuses.clone(),
            stream_grace: self.stream_grace,
            injection: settings.injection,
            stage: settings.stage,
            mirror: self.mirror.clone(),
            meter: telemetry.rollout(&self.name, &settings.latency_limits_us, self.max_segments),
            max_segments: self.max_segments,
            epoch: Arc::clone(&self.epoch),
            failover_after_cap: self.failover_after_cap,
            failover_after_typed: self.failover_after_typed,
            split: settings.split,
        }
    }

    // What a person typed, else what the gate derived from the plan, never beyond the cap.
    fn failover_after(&self, derived: Option<Duration>) -> Duration {
        let cap = self.failover_after_cap;
        self.failover_after_typed
            .or(derived)
            .map_or(cap, |span| span.min(cap))
    }
}

fn view_endpoint(pool: &Pool, member: &Member) -> EndpointView {
    let endpoint = &member.endpoint;
    let standing = member.standing();
    EndpointView {
        address: endpoint.address().to_owned(),
        healthy: pool.counts_healthy(endpoint),
        fault: endpoint.fault(),
        drained: endpoint.is_drained(),
        in_flight: endpoint.in_flight(),
        connections_idle: endpoint.connections_idle(),
        probes_sent: endpoint.probes_sent(),
        probes_answered: endpoint.probes_answered(),
        requests: endpoint.requests(),
        weight: member.weight,
        zone: member.zone.as_deref().map(str::to_owned),
        warmth: standing.warmth,
        latency: standing.latency,
        ejected: standing.ejected.map(|(reason, left)| EjectionView {
            kind: reason.as_str(),
            reason: reason.to_string(),
            left,
        }),
        ejections: standing.ejections,
    }
}
