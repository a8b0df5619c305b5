//! A pool: its endpoints, and which of them may be given a request.
//!
//! Owns what "usable" means. The choice among the usable is `balance`'s.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use http::{HeaderName, HeaderValue};

use super::admission::Admission;
pub use super::balance::Ask;
use super::balance::Dice;
use super::eject::{Ejector, Failing, Floor};
use super::endpoint::{Endpoint, EndpointId};
use super::found::Lookup;
use super::roster::{Member, Roster};
use super::transport::Transport;
use crate::clock;
use crate::config;
use crate::config::PoolTimeouts;
use crate::rollout::name::PoolName;
use crate::telemetry::PoolMeter;

pub struct Pool {
    pub name: PoolName,
    pub transport: Arc<Transport>,
    pub timeouts: PoolTimeouts,
    /// Attempts after the first.
    pub retries: u32,
    /// Set on requests of this pool.
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    pub meter: PoolMeter,
    pub(super) roster: ArcSwap<Roster>,
    turn: AtomicU64,
    pub(super) lookup: Lookup,
    floor: Floor,
    admission: Arc<Admission>,
    /// `None` where endpoints are never ejected.
    ejector: Option<Ejector>,
    pub(super) config: config::Pool,
}

impl Pool {
    /// Builds a pool; endpoints that `previous` has at the same address keep their state, unless they are spoken to in
    /// another way from now on, and those that it has not warm up.
    pub fn build(
        name: &PoolName,
        config: &config::Pool,
        floor: Floor,
        meter: PoolMeter,
        previous: Option<&Self>,
    ) -> Self {
        let transport = match previous {
            Some(pool) if pool.config.transport == config.transport => Arc::clone(&pool.transport),
            pool => Arc::new(Transport::build(
                &config.transport,
                pool.map(|pool| pool.transport.as_ref()),
            )),
        };
        let alike = previous.filter(|pool| pool.config.transport.is_alike(&config.transport));
        let known = alike.map(|pool| pool.roster.load_full());
        let stays = alike.filter(|pool| config.dns.is_some() && pool.config.dns == config.dns);
        let looked_up = stays.map(|pool| pool.roster.load_full());
        let kept = looked_up.iter().flat_map(|roster| roster.members());
        let kept = kept.map(|member| Member {
            slow_start: config.slow_start,
            ..member.clone()
        });
        let listed = config.endpoints.iter().map(|listed| {
            let place = Place {
                address: &listed.address,
                weight: listed.weight,
                zone: listed.zone.as_deref(),
            };
            place.member(known.as_deref(), config.slow_start)
        });
        let members: Vec<Member> = kept.chain(listed).collect();
        let is_found = config.dns.is_none() || !members.is_empty();
        Self {
            name: name.clone(),
            roster: ArcSwap::from_pointee(Roster::build(
                members,
                config.balance,
                config.zone.as_deref(),
            )),
            transport,
            timeouts: config.timeouts.clone(),
            retries: config.retries.attempts,
            request_headers: config.request_headers.clone(),
            meter,
            turn: AtomicU64::new(0),
            lookup: Lookup::new(is_found),
            floor,
            admission: admission(&config.overload, previous),
            ejector: config
                .ejection
                .as_ref()
                .map(|rule| Ejector::new(rule, floor)),
            config: config.clone(),
        }
    }

    /// Whether this pool would be built the same from these.
    pub fn is_of(&self, config: &config::Pool, floor: Floor) -> bool {
        self.config == *config && self.floor == floor
    }

    /// What this pool was built from.
    pub fn config(&self) -> &config::Pool {
        &self.config
    }

    /// Who may send it a request now.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Its endpoints as of now.
    pub fn roster(&self) -> Guard<Arc<Roster>> {
        self.roster.load()
    }

    /// Its endpoints as of now, for whoever keeps them.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let roster = self.roster.load();
        let members = roster.members.iter();
        members.map(|member| Arc::clone(&member.endpoint)).collect()
    }

    /// The endpoint of the next attempt, by the pool's balance: a usable one that was not tried yet, else a usable
    /// one. `None` where no endpoint is usable. `roster` is this pool's.
    pub fn pick<'a>(&self, roster: &'a Roster, ask: Ask<'_>) -> Option<&'a Arc<Endpoint>> {
        let is_first = ask.tried.is_empty();
        // A retry takes nobody else's turn.
        let turn = if is_first {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            self.turn.load(Ordering::Relaxed)
        };
        let dice = Dice {
            turn,
            random: ask.random,
            key: ask.key,
            now: ask.now,
            is_first,
        };
        let untried = |endpoint: &Endpoint| !ask.tried.contains(&endpoint.id());
        let usable = |endpoint: &Endpoint| self.is_usable(endpoint, ask.now);
        roster
            .pick(&|endpoint| usable(endpoint) && untried(endpoint), dice)
            .or_else(|| {
                let usable = self.usables(ask.now);
                roster
                    .pick(&|endpoint| usable(endpoint) && untried(endpoint), dice)
                    .or_else(|| roster.pick(&usable, dice))
            })
            .or_else(|| self.pick_ejected(roster, dice))
    }

    // Better one that failed lately than none, where nobody else can answer.
    fn pick_ejected<'a>(&self, roster: &'a Roster, dice: Dice) -> Option<&'a Arc<Endpoint>> {
        match self.floor {
            Floor::None => None,
            Floor::Half => {
                let unproven = self.never_healthy();
                roster.pick(&|endpoint| self.is_fit(endpoint, unproven), dice)
            }
        }
    }

    /// Takes in how an attempt ended that an endpoint was given: it may be ejected.
    pub fn note(
        &self,
        endpoint: &Endpoint,
        failing: Option<Failing>,
        began: Instant,
        now: Instant,
    ) {
        let Some(ejector) = &self.ejector else {
            return;
        };
        if let Some(reason) = ejector.note(endpoint, failing, (began, now)) {
            ejector.eject(&self.roster.load(), endpoint, reason, now);
        }
    }

    /// Whether an endpoint is left that is usable and was not tried.
    pub fn has_untried(&self, tried: &[EndpointId]) -> bool {
        let usable = self.usables(clock::now());
        self.roster
            .load()
            .members()
            .iter()
            .any(|member| usable(&member.endpoint) && !tried.contains(&member.endpoint.id()))
    }

    /// Whether another endpoint than `present` is left that is usable and was not tried.
    pub fn has_other(&self, present: EndpointId, tried: &[EndpointId], now: Instant) -> bool {
        let roster = self.roster.load();
        let mut members = roster.members().iter();
        members.any(|Member { endpoint, .. }| {
            endpoint.id() != present
                && self.is_usable(endpoint, now)
                && !tried.contains(&endpoint.id())
        })
    }

    /// How many endpoints may be given requests now.
    pub fn usable(&self) -> u32 {
        let usable = self.usables(clock::now());
        let roster = self.roster.load();
        let members = roster.members().iter();
        let count = members.filter(|member| usable(&member.endpoint)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Every endpoint is unhealthy and none ever passed a probe: more likely the probe is wrong than the servers, so
    /// they are used all the same.
    pub fn never_healthy(&self) -> bool {
        self.config.health.is_some()
            && self.roster.load().members.iter().all(|member| {
                let endpoint = &member.endpoint;
                !endpoint.is_healthy() && !endpoint.ever_passed()
            })
    }

    /// What the probes say of an endpoint; where there are none, it is healthy.
    pub fn counts_healthy(&self, endpoint: &Endpoint) -> bool {
        self.config.health.is_none() || endpoint.is_healthy()
    }

    fn usables(&self, now: Instant) -> impl Fn(&Endpoint) -> bool {
        let unproven = self.never_healthy();
        move |endpoint| self.is_fit(endpoint, unproven) && !endpoint.is_ejected(now)
    }

    fn is_usable(&self, endpoint: &Endpoint, now: Instant) -> bool {
        self.is_fit(endpoint, false) && !endpoint.is_ejected(now)
    }

    // Whether neither the probes nor an operator are against it; `unproven` where the probes are not believed.
    fn is_fit(&self, endpoint: &Endpoint, unproven: bool) -> bool {
        (unproven || self.counts_healthy(endpoint)) && !endpoint.is_drained()
    }
}

// Places that are taken stay taken where the limits stay.
fn admission(overload: &config::Overload, previous: Option<&Pool>) -> Arc<Admission> {
    let known = previous.filter(|pool| pool.admission.is_of(overload));
    known.map_or_else(
        || Arc::new(Admission::starting(overload)),
        |pool| Arc::clone(&pool.admission),
    )
}

/// Where an endpoint is, as somebody listed or found it.
pub(super) struct Place<'a> {
    pub(super) address: &'a str,
    pub(super) weight: u32,
    pub(super) zone: Option<&'a str>,
}

impl Place<'_> {
    /// The endpoint of a known address goes on with its state; one that joins others warms up.
    pub(super) fn member(&self, known: Option<&Roster>, slow_start: Duration) -> Member {
        let mut members = known.into_iter().flat_map(|roster| &roster.members);
        let found = members.find(|member| member.endpoint.address() == self.address);
        let endpoint = found.map_or_else(
            || {
                let endpoint = Endpoint::new(self.address);
                if known.is_some_and(|roster| !roster.members.is_empty()) {
                    endpoint.warm_up(clock::now());
                }
                Arc::new(endpoint)
            },
            |member| Arc::clone(&member.endpoint),
        );
        Member {
            endpoint,
            weight: self.weight,
            zone: self.zone.map(Arc::from),
            slow_start,
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Balance, Health, HealthKind, Retries, Transport};
    use crate::telemetry::Telemetry;

    /// An endpoint by its address, weight and zone.
    pub(in crate::upstream) fn listed(
        (address, weight, zone): (&str, u32, &str),
    ) -> config::Endpoint {
        config::Endpoint {
            address: address.to_owned(),
            weight,
            zone: (!zone.is_empty()).then(|| zone.to_owned()),
        }
    }

    pub(in crate::upstream) fn pool(endpoints: &[&str], balance: Balance, checked: bool) -> Pool {
        let listed: Vec<_> = endpoints.iter().map(|&at| listed((at, 1, ""))).collect();
        let mut config = configured(&listed, balance, "");
        config.health = checked.then(|| Health {
            kind: HealthKind::Http,
            service: String::new(),
            path: "/health".to_owned(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        });
        build(&config)
    }

    /// A pool without probes, in this zone.
    pub(in crate::upstream) fn built(
        endpoints: &[config::Endpoint],
        balance: Balance,
        zone: &str,
    ) -> Pool {
        build(&configured(endpoints, balance, zone))
    }

    fn build(config: &config::Pool) -> Pool {
        let name = PoolName::parse("p").expect("a name");
        let meter = Telemetry::new().pool(&name);
        Pool::build(&name, config, Floor::Half, meter, None)
    }

    /// A roster of so many endpoints.
    pub(in crate::upstream) fn members(count: usize) -> Roster {
        let listed: Vec<_> = (0..count)
            .map(|nth| listed((&format!("h{nth}:1"), 1, "")))
            .collect();
        let pool = build(&configured(&listed, Balance::RoundRobin, ""));
        let members = pool.roster.load().members().to_vec();
        Roster::build(members, Balance::RoundRobin, None)
    }

    fn configured(endpoints: &[config::Endpoint], balance: Balance, zone: &str) -> config::Pool {
        let second = Duration::from_secs(1);
        config::Pool {
            endpoints: endpoints.to_vec(),
            dns: None,
            balance,
            zone: (!zone.is_empty()).then(|| zone.to_owned()),
            transport: Transport::plain(),
            health: None,
            timeouts: PoolTimeouts {
                connect: second,
                answer_head: second,
                body_idle: second,
                idle: second,
                request: Duration::ZERO,
            },
            slow_start: Duration::from_secs(3600),
            ejection: None,
            overload: config::Overload {
                in_flight: 0,
                queued: 0,
                wait: second,
                adaptive: false,
            },
            retries: Retries {
                attempts: 1,
                per_try: second,
                budget: 0.2,
            },
            request_headers: Vec::new(),
        }
    }

    pub(in crate::upstream) fn picked(
        pool: &Pool,
        tried: &[EndpointId],
        random: u64,
    ) -> Option<String> {
        let ask = Ask {
            tried,
            random,
            key: random,
            now: clock::now(),
        };
        let roster = pool.roster();
        let endpoint = pool.pick(&roster, ask)?;
        Some(endpoint.address().to_owned())
    }

    #[test]
    fn only_usable_endpoints_are_picked() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::RoundRobin, true);
        let [a, b, c] = &pool.endpoints()[..] else {
            panic!("three endpoints")
        };
        a.probe_passed();
        a.set_healthy(false);
        b.set_drained(true);
        for random in 0..6 {
            assert_eq!(picked(&pool, &[], random).as_deref(), Some("c:1"));
        }
        assert_eq!(pool.usable(), 1);
        assert!(!pool.has_untried(&[c.id()]));
        assert_eq!(
            picked(&pool, &[c.id()], 0).as_deref(),
            Some("c:1"),
            "better the same than none"
        );
        c.set_healthy(false);
        assert!(picked(&pool, &[], 0).is_none());
        assert!(picked(&pool, &[c.id()], 0).is_none());
        assert_eq!(pool.usable(), 0);
    }

    #[test]
    fn a_pool_in_which_none_ever_passed_stays_in_use() {
        let pool = pool(&["a:1", "b:1"], Balance::RoundRobin, true);
        for endpoint in pool.endpoints() {
            endpoint.set_healthy(false);
        }
        assert!(pool.never_healthy());
        assert_eq!(pool.usable(), 2);
        assert!(picked(&pool, &[], 0).is_some());
        pool.endpoints()[0].probe_passed();
        assert!(!pool.never_healthy());
        assert!(
            picked(&pool, &[], 0).is_none(),
            "one passed once, so the probe can be believed"
        );
    }

    #[test]
    fn without_probes_health_is_no_matter() {
        let pool = pool(&["a:1"], Balance::RoundRobin, false);
        pool.endpoints()[0].set_healthy(false);
        assert_eq!(pool.usable(), 1);
        assert!(picked(&pool, &[], 0).is_some());
    }
}
