//! Builds a table from a configuration, keeping the state of what stays.
//!
//! An unchanged pool is kept whole; a changed one keeps its surviving endpoints; a rollout keeps its epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::routes::Routes;
use super::{
    Entrance, Mirror, PoolIndex, Pools, Rollout, RolloutIndex, RolloutSettings, Rules, Table,
    Target,
};
use crate::config::{self, Config};
use crate::rollout::assign::{Salt, Split};
use crate::rollout::name::{PoolName, RolloutName};
use crate::telemetry::Telemetry;
use crate::tls;
use crate::upstream::admission::Admission;
use crate::upstream::eject::Floor;
use crate::upstream::pool::Pool;

/// How long a learner waits before leaving counts as an error, where no stage names a latency limit.
const PATIENCE: Duration = Duration::from_secs(1);
/// Cap on `failover_after` where the canary's answers may take for ever.
const FAILOVER_CAP: Duration = Duration::from_secs(15);

impl Table {
    /// Builds the table of a configuration. Pools and endpoints that `previous` has keep their state.
    pub fn build(
        config: &Config,
        settings: &BTreeMap<RolloutName, RolloutSettings>,
        telemetry: &Arc<Telemetry>,
        previous: Option<&Self>,
    ) -> Self {
        let pools = pools(config, telemetry, previous);
        let rollouts: Vec<_> = config
            .rollouts
            .iter()
            .filter_map(|(name, typed)| {
                let settings = settings.get(name).cloned().unwrap_or_else(at_rest);
                rollout(name, typed, settings, &pools, telemetry, previous)
            })
            .map(Arc::new)
            .collect();
        let targets = config.routes.iter().filter_map(|route| {
            target(&route.target, &pools, &rollouts).map(|target| (target, route.idempotent))
        });
        Self {
            routes: Arc::new(Routes::build(&config.routes)),
            targets: targets.collect(),
            rules: Arc::new(rules(config, previous)),
            telemetry: Arc::clone(telemetry),
            entrances: Arc::new(entrances(config, previous)),
            admin_tls: secured(
                config.admin.tls.as_ref(),
                previous.and_then(Self::admin_tls),
            ),
            pools,
            rollouts,
        }
    }
}

fn entrances(config: &Config, previous: Option<&Table>) -> BTreeMap<SocketAddr, Entrance> {
    let entrance = |address: &SocketAddr| Entrance {
        tls: secured(
            config.server.tls.get(address),
            previous.and_then(|table| table.entrance(*address)?.tls.as_ref()),
        ),
        proxy_protocol: config.server.proxy_protocol.contains(address),
    };
    let addresses = config.server.listen.iter();
    addresses
        .map(|address| (*address, entrance(address)))
        .collect()
}

// A listener whose files say the same keeps its state, and with it the sessions that its clients may resume.
fn secured(
    loaded: Option<&tls::Loaded>,
    known: Option<&Arc<tls::Listener>>,
) -> Option<Arc<tls::Listener>> {
    let loaded = loaded?;
    Some(match known {
        Some(known) if known.says(loaded) => Arc::clone(known),
        _ => tls::Listener::new(loaded.clone()),
    })
}

fn pools(config: &Config, telemetry: &Arc<Telemetry>, previous: Option<&Table>) -> Pools {
    let known = |name: &PoolName| previous?.pools.iter().find(|pool| pool.name == *name);
    let built: Vec<_> = config
        .pools
        .iter()
        .map(|(name, typed)| match known(name) {
            Some(pool) if pool.is_of(typed, floor(config, name)) => Arc::clone(pool),
            pool => Arc::new(Pool::build(
                name,
                typed,
                floor(config, name),
                telemetry.pool(name),
                pool.map(AsRef::as_ref),
            )),
        })
        .collect();
    // The same pools are the same list, so that nobody is told of a change that is none.
    match previous {
        Some(table) if same(&table.pools, &built) => Arc::clone(&table.pools),
        _ => built.into(),
    }
}

// A pool that is nothing but a canary whose failures baseline answers may be ejected whole.
fn floor(config: &Config, pool: &PoolName) -> Floor {
    let routes = config.routes.iter();
    let is_asked = routes
        .filter_map(|route| match &route.target {
            config::Target::Pool(name) => Some(name),
            config::Target::Rollout(_) => None,
        })
        .any(|name| name == pool);
    let rollouts = config.rollouts.values();
    let is_canary = |rollout: &config::Rollout| rollout.plan.identity.canary == *pool;
    let is_answered = |rollout: &config::Rollout| {
        is_canary(rollout) && rollout.failover != config::Failover::default()
    };
    let is_held = |rollout: &config::Rollout| {
        rollout.plan.identity.baseline == *pool || is_canary(rollout) && !is_answered(rollout)
    };
    if rollouts.clone().any(is_answered) && !rollouts.clone().any(is_held) && !is_asked {
        Floor::None
    } else {
        Floor::Half
    }
}

fn same(old: &[Arc<Pool>], new: &[Arc<Pool>]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| Arc::ptr_eq(old, new))
}

// `None` only for a rollout whose pools are not in the configuration, which `config` refuses.
fn rollout(
    name: &RolloutName,
    typed: &config::Rollout,
    settings: RolloutSettings,
    pools: &Pools,
    telemetry: &Arc<Telemetry>,
    previous: Option<&Table>,
) -> Option<Rollout> {
    let identity = &typed.plan.identity;
    let arms = [
        find(pools, &identity.baseline)?,
        find(pools, &identity.canary)?,
    ];
    let known =
        previous.and_then(|table| table.rollouts.iter().find(|rollout| rollout.name == *name));
    let answer_head = pools[arms[1].0].timeouts.answer_head;
    let cap = if answer_head.is_zero() {
        FAILOVER_CAP
    } else {
        answer_head / 2
    };
    Some(Rollout {
        name: name.clone(),
        pools: arms,
        salt: Salt::new(&identity.salt),
        learner: typed.learner.clone(),
        segment: typed.segment.clone(),
        patience: settings.patience,
        failover: typed.failover,
        failover_after: typed
            .failover_after
            .or(settings.failover_after)
            .map_or(cap, |span| span.min(cap)),
        error_statuses: typed.error_statuses.clone(),
        stream_grace: typed.stream_grace,
        injection: settings.injection,
        stage: settings.stage,
        mirror: mirror(name, typed, telemetry),
        meter: telemetry.rollout(name, &settings.latency_limits_us, typed.max_segments),
        max_segments: typed.max_segments,
        epoch: known.map_or_else(
            || Arc::new(AtomicU64::new(settings.split.epoch)),
            |rollout| Arc::clone(&rollout.epoch),
        ),
        failover_after_cap: cap,
        failover_after_typed: typed.failover_after,
        split: settings.split,
    })
}

// A share of nothing is no mirror.
fn mirror(
    name: &RolloutName,
    typed: &config::Rollout,
    telemetry: &Telemetry,
) -> Option<Arc<Mirror>> {
    let rule = typed.mirror.as_ref()?;
    (!rule.share.is_zero()).then(|| {
        Arc::new(Mirror {
            rule: rule.clone(),
            meter: telemetry.mirror(name),
        })
    })
}

fn at_rest() -> RolloutSettings {
    RolloutSettings {
        split: Split::baseline_only(),
        latency_limits_us: Vec::new(),
        patience: PATIENCE,
        failover_after: None,
        injection: None,
        stage: None,
    }
}

fn target(typed: &config::Target, pools: &Pools, rollouts: &[Arc<Rollout>]) -> Option<Target> {
    match typed {
        config::Target::Pool(name) => find(pools, name).map(Target::Pool),
        config::Target::Rollout(name) => {
            let index = rollouts.iter().position(|rollout| rollout.name == *name)?;
            Some(Target::Rollout(RolloutIndex(index)))
        }
    }
}

fn find(pools: &[Arc<Pool>], name: &PoolName) -> Option<PoolIndex> {
    pools
        .iter()
        .position(|pool| pool.name == *name)
        .map(PoolIndex)
}

fn rules(config: &Config, previous: Option<&Table>) -> Rules {
    let overload = &config.server.overload;
    let known = previous.map(|table| &table.rules.admission);
    let known = known.filter(|admission| admission.is_of(overload));
    let set = config.pools.values().flat_map(|pool| &pool.request_headers);
    let claimed: BTreeSet<Box<str>> = set
        .map(|(name, _)| name.as_str().replace('_', "-").into())
        .collect();
    Rules {
        trusted: config.server.trusted.clone(),
        admission: known.map_or_else(|| Arc::new(Admission::starting(overload)), Arc::clone),
        limits: config.server.limits,
        timeouts: config.server.timeouts.clone(),
        access: config.server.log.access,
        tracing: config.tracing.clone(),
        claimed_lengths: claimed
            .iter()
            .fold(0, |bits, name| bits | 1 << name.len().min(63)),
        claimed: claimed.into_iter().collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        Arc, BTreeMap, Config, Duration, Floor, PoolName, RolloutName, RolloutSettings, Split,
        Table, Telemetry, at_rest, floor,
    };
    use crate::config::{
        AccessLog, Admin, Balance, Endpoint, Failover, HostPattern, LearnerSource, Limits, Log,
        LogFormat, LogLevel, Overload, Parents, Pool, PoolTimeouts, Retries, Rollout, Route,
        Server, ServerTimeouts, State, Target, Tracing, Transport,
    };
    use crate::rollout::condition::{Condition, Metric, Op, Selector};
    use crate::rollout::name::StageName;
    use crate::rollout::plan::{
        EvidenceParts, GateParts, Identity, Mode, OnFailure, OnSuccess, Plan, PlanParts, Stage,
    };
    use crate::rollout::schedule::Schedule;
    use crate::rollout::weight::Weight;

    /// A configuration with the pools `base` of these endpoints and `new`, and a rollout between them.
    pub(in crate::live) fn config(base: &[&str]) -> Config {
        let name = |text| PoolName::parse(text).expect("a name");
        let pool = |endpoints: &[&str]| Pool {
            endpoints: endpoints
                .iter()
                .map(|&address| Endpoint::at(address))
                .collect(),
            dns: None,
            balance: Balance::RoundRobin,
            zone: None,
            transport: Transport::plain(),
            health: None,
            timeouts: PoolTimeouts {
                connect: Duration::from_secs(1),
                answer_head: Duration::from_secs(30),
                body_idle: Duration::from_secs(30),
                idle: Duration::from_secs(4),
                request: Duration::ZERO,
            },
            slow_start: Duration::ZERO,
            ejection: None,
            overload: unlimited(),
            retries: Retries {
                attempts: 1,
                per_try: Duration::from_secs(10),
                budget: 0.2,
            },
            request_headers: Vec::new(),
        };
        let rollout_name = RolloutName::parse("r").expect("a name");
        Config {
            fleet: None,
            server: server(),
            admin: Admin {
                tls: None,
                listen: ([127, 0, 0, 1], 0).into(),
                hosts: Vec::new(),
                open_metrics: false,
                tokens: Vec::new(),
            },
            state: State {
                path: "s".into(),
                deployment_logs: "d".into(),
                retention: Duration::from_secs(1),
                record_inputs: false,
            },
            pools: [(name("base"), pool(base)), (name("new"), pool(&["n:1"]))].into(),
            routes: vec![Route {
                host: HostPattern::Any,
                path: "/".to_owned(),
                target: Target::Rollout(rollout_name.clone()),
                idempotent: false,
            }],
            notify: Vec::new(),
            rehearsals: false,
            tracing: Tracing {
                collector: None,
                share: Weight::ZERO,
                parents: Parents::All,
            },
            rollouts: [(rollout_name.clone(), rollout(plan(rollout_name)))].into(),
            environment: Vec::new(),
        }
    }

    pub(in crate::live) fn settings(
        epoch: u64,
        weight: &str,
    ) -> BTreeMap<RolloutName, RolloutSettings> {
        let weight = Weight::parse(weight).expect("a weight");
        let split = Split {
            epoch,
            weight,
            closed: false,
            ..Split::baseline_only()
        };
        let name = RolloutName::parse("r").expect("a name");
        [(name, RolloutSettings { split, ..at_rest() })].into()
    }

    fn unlimited() -> Overload {
        Overload {
            in_flight: 0,
            queued: 0,
            wait: Duration::from_secs(1),
            adaptive: false,
        }
    }

    fn server() -> Server {
        let second = Duration::from_secs(1);
        Server {
            listen: Vec::new(),
            tls: BTreeMap::new(),
            proxy_protocol: Default::default(),
            workers: 1,
            trusted: Vec::new(),
            max_connections: 0,
            overload: unlimited(),
            limits: Limits {
                head_bytes: 65_536,
                headers: 100,
                target_bytes: 8192,
                body_bytes: 0,
            },
            timeouts: ServerTimeouts {
                first_byte: second,
                head: second,
                body_idle: second,
                write_idle: second,
                keep_alive: second,
                stream_idle: second,
                drain_delay: second,
                idle_grace: second,
                drain: second,
            },
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Text,
                access: AccessLog::Off,
            },
        }
    }

    fn rollout(plan: Plan) -> Rollout {
        Rollout {
            signals: Vec::new(),
            plan,
            learner: vec![LearnerSource::ClientIp],
            segment: None,
            failover: Failover::default(),
            failover_after: None,
            weight_at_rest: Weight::ZERO,
            error_statuses: Vec::new(),
            max_segments: 64,
            stream_grace: Duration::from_secs(30),
            mirror: None,
        }
    }

    fn plan(rollout: RolloutName) -> Plan {
        let errors = Condition {
            metric: Metric::ErrorRate,
            selector: Selector::Canary,
            absolute: false,
            op: Op::Greater,
            value: 0.01,
            sustained: Duration::from_secs(120),
            over: None,
            throughout: false,
            per_segment: false,
        };
        let name = |text| PoolName::parse(text).expect("a name");
        let parts = PlanParts {
            rollout,
            identity: Identity {
                baseline: name("base"),
                canary: name("new"),
                salt: "s".to_owned(),
                learner: vec!["client_ip".to_owned()],
                segment: None,
            },
            version: String::new(),
            holdout: Weight::ZERO,
            gate: GateParts {
                min_segment_requests: 100,
                max_segments: 64,
                max_failed_segments: 2,
                outage_patience: Duration::from_secs(300),
                max_gap: Duration::from_secs(300),
                cooldown: Duration::from_secs(600),
                approval_ttl: Duration::from_secs(43200),
                escalate_after: Duration::from_secs(1800),
                baseline_min_healthy: 0.5,
                tripwire: None,
                evidence: EvidenceParts::default(),
                mode: Mode::Rollout,
                speed: 1.0,
            },
            signals: Vec::new(),
            stabilization: None,
            stages: vec![Stage {
                name: StageName::parse("canary").expect("a name"),
                weight: Weight::parse("1%").expect("a weight"),
                duration: Duration::from_secs(3600),
                warmup: Duration::from_secs(60),
                checkpoints: Vec::new(),
                min_requests: 1000,
                min_window_requests: 20,
                max_extension: Duration::from_secs(3600),
                advance: vec![Condition {
                    op: Op::Less,
                    sustained: Duration::ZERO,
                    ..errors.clone()
                }],
                hold: Vec::new(),
                rollback: vec![errors],
                on_success: OnSuccess::Advance,
                on_failure: OnFailure::Hold,
                on_rollback: Weight::ZERO,
                schedule: Schedule::default(),
                hooks: Default::default(),
            }],
        };
        Plan::build(parts).expect("a valid plan")
    }

    #[test]
    fn a_changed_pool_keeps_its_surviving_endpoints() {
        let telemetry = Telemetry::new();
        let first = Table::build(
            &config(&["a:1", "b:1"]),
            &settings(1, "1%"),
            &telemetry,
            None,
        );
        let base = PoolName::parse("base").expect("a name");
        assert!(first.set_drained(&base, "b:1", true));
        assert!(!first.set_drained(&base, "c:1", true));
        let second = Table::build(
            &config(&["b:1", "c:1"]),
            &settings(1, "1%"),
            &telemetry,
            Some(&first),
        );
        let view = second
            .pools()
            .into_iter()
            .find(|view| view.name == base)
            .expect("it is there");
        let drained: Vec<_> = view
            .endpoints
            .iter()
            .map(|e| (e.address.as_str(), e.drained))
            .collect();
        assert_eq!(drained, [("b:1", true), ("c:1", false)]);
        assert_eq!(
            second
                .pool_health(&base)
                .map(|health| (health.endpoints, health.usable)),
            Some((2, 1))
        );
        assert!(
            Arc::ptr_eq(&first.pools[1], &second.pools[1]),
            "an unchanged pool is the same pool"
        );
    }

    #[test]
    fn only_a_canary_that_fails_over_may_be_ejected_whole() {
        let table =
            |config: &Config| Table::build(config, &settings(1, "1%"), &Telemetry::new(), None);
        let check = |config: &Config, expected: Floor| {
            assert_eq!(
                floor(config, &PoolName::parse("base").expect("a name")),
                Floor::Half
            );
            let new = PoolName::parse("new").expect("a name");
            assert_eq!(floor(config, &new), expected);
            let first = table(config);
            assert!(first.pools[1].is_of(&config.pools[&new], expected));
        };
        let mut config = config(&["a:1"]);
        check(&config, Floor::Half);
        let rollout = config.rollouts.values_mut().next().expect("there is one");
        rollout.failover.connect = true;
        check(&config, Floor::None);
        let mut careless = config.clone();
        let mut other = careless
            .rollouts
            .values()
            .next()
            .cloned()
            .expect("there is one");
        other.failover = Failover::default();
        let name = RolloutName::parse("s").expect("a name");
        careless.rollouts.insert(name, other);
        check(&careless, Floor::Half);
        config.routes[0].target = Target::Pool(PoolName::parse("new").expect("a name"));
        check(&config, Floor::Half);
    }

    #[test]
    fn claimed_headers_are_those_of_every_pool() {
        let mut config = config(&["a:1"]);
        let name = http::HeaderName::from_static("x_cohort-flag");
        let value = http::HeaderValue::from_static("on");
        let pool = config.pools.values_mut().next().expect("there are pools");
        pool.request_headers.push((name, value));
        let table = Table::build(&config, &settings(1, "1%"), &Telemetry::new(), None);
        assert_eq!(table.rules().claimed, ["x-cohort-flag".into()]);
        assert_eq!(table.rules().claimed_lengths, 1 << 13);
    }
}
