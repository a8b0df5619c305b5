//! A pool: its endpoints, and which of them may be given a request.
//!
//! Owns what "usable" means. The choice among the usable is `balance`'s.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderName, HeaderValue};

use super::balance::{self, Dice};
use super::endpoint::{Endpoint, EndpointId};
use crate::config;
use crate::config::PoolTimeouts;
use crate::rollout::name::PoolName;
use crate::telemetry::PoolMeter;

pub struct Pool {
    pub name: PoolName,
    pub endpoints: Vec<Arc<Endpoint>>,
    pub timeouts: PoolTimeouts,
    /// Attempts after the first.
    pub retries: u32,
    /// Set on requests of this pool.
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    pub meter: PoolMeter,
    turn: AtomicUsize,
    config: config::Pool,
}

impl Pool {
    /// Builds a pool; endpoints that `previous` has at the same address keep their state.
    pub fn build(
        name: &PoolName,
        config: &config::Pool,
        meter: PoolMeter,
        previous: Option<&Self>,
    ) -> Self {
        let known = |address: &String| {
            let endpoints = &previous?.endpoints;
            endpoints
                .iter()
                .find(|endpoint| endpoint.address() == address)
                .cloned()
        };
        let endpoint = |address| known(address).unwrap_or_else(|| Arc::new(Endpoint::new(address)));
        Self {
            name: name.clone(),
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            timeouts: config.timeouts.clone(),
            retries: config.retries.attempts,
            request_headers: config.request_headers.clone(),
            meter,
            turn: AtomicUsize::new(0),
            config: config.clone(),
        }
    }

    /// What this pool was built from.
    pub fn config(&self) -> &config::Pool {
        &self.config
    }

    /// The endpoint of the next attempt, by the pool's balance: a usable one that was not tried yet, else a usable
    /// one. `None` where no endpoint is usable. `random` is any uniform number.
    pub fn pick(&self, tried: &[EndpointId], random: u64) -> Option<&Arc<Endpoint>> {
        // A retry takes nobody else's turn.
        let turn = if tried.is_empty() {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            self.turn.load(Ordering::Relaxed)
        };
        let dice = Dice { turn, random };
        let pick = |open: &dyn Fn(&Endpoint) -> bool| {
            balance::pick(&self.endpoints, self.config.balance, open, dice)
        };
        let untried = |endpoint: &Endpoint| !tried.contains(&endpoint.id());
        pick(&|endpoint| self.is_usable(endpoint) && untried(endpoint)).or_else(|| {
            let unproven = self.never_healthy();
            let usable = |endpoint: &Endpoint| {
                self.is_usable(endpoint) || unproven && !endpoint.is_drained()
            };
            pick(&|endpoint| usable(endpoint) && untried(endpoint)).or_else(|| pick(&usable))
        })
    }

    /// Whether an endpoint is left that is usable and was not tried.
    pub fn has_untried(&self, tried: &[EndpointId]) -> bool {
        let unproven = self.never_healthy();
        let usable =
            |endpoint: &Endpoint| self.is_usable(endpoint) || unproven && !endpoint.is_drained();
        self.endpoints
            .iter()
            .any(|endpoint| usable(endpoint) && !tried.contains(&endpoint.id()))
    }

    /// How many endpoints may be given requests now.
    pub fn usable(&self) -> u32 {
        let unproven = self.never_healthy();
        let usable = |endpoint: &&Arc<Endpoint>| {
            self.is_usable(endpoint) || unproven && !endpoint.is_drained()
        };
        u32::try_from(self.endpoints.iter().filter(usable).count()).unwrap_or(u32::MAX)
    }

    /// Every endpoint is unhealthy and none ever passed a probe: more likely the probe is wrong than the servers, so
    /// they are used all the same.
    pub fn never_healthy(&self) -> bool {
        self.config.health.is_some()
            && self
                .endpoints
                .iter()
                .all(|endpoint| !endpoint.is_healthy() && !endpoint.ever_passed())
    }

    /// What the probes say of an endpoint; where there are none, it is healthy.
    pub fn counts_healthy(&self, endpoint: &Endpoint) -> bool {
        self.config.health.is_none() || endpoint.is_healthy()
    }

    fn is_usable(&self, endpoint: &Endpoint) -> bool {
        self.counts_healthy(endpoint) && !endpoint.is_drained()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Balance, Health, Retries};
    use crate::telemetry::Telemetry;

    pub(in crate::upstream) fn pool(endpoints: &[&str], balance: Balance, checked: bool) -> Pool {
        let health = Health {
            path: "/health".to_owned(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        };
        let second = Duration::from_secs(1);
        let config = config::Pool {
            endpoints: endpoints
                .iter()
                .map(|&address| address.to_owned())
                .collect(),
            balance,
            health: checked.then_some(health),
            timeouts: PoolTimeouts {
                connect: second,
                answer_head: second,
                body_idle: second,
                idle: second,
                request: Duration::ZERO,
            },
            retries: Retries {
                attempts: 1,
                per_try: second,
                budget: 0.2,
            },
            request_headers: Vec::new(),
        };
        let name = PoolName::parse("p").expect("a name");
        Pool::build(&name, &config, Telemetry::new().pool(&name), None)
    }

    #[test]
    fn only_usable_endpoints_are_picked() {
        let pool = pool(&["a:1", "b:1", "c:1"], Balance::RoundRobin, true);
        let [a, b, c] = &pool.endpoints[..] else {
            panic!("three endpoints")
        };
        a.probe_passed();
        a.set_healthy(false);
        b.set_drained(true);
        for turn in 0..6 {
            assert_eq!(pool.pick(&[], turn).map(|e| e.address()), Some("c:1"));
        }
        assert_eq!(pool.usable(), 1);
        assert!(!pool.has_untried(&[c.id()]));
        assert_eq!(
            pool.pick(&[c.id()], 0).map(|e| e.address()),
            Some("c:1"),
            "better the same than none"
        );
        c.set_healthy(false);
        assert!(pool.pick(&[], 0).is_none());
        assert!(pool.pick(&[c.id()], 0).is_none());
        assert_eq!(pool.usable(), 0);
    }

    #[test]
    fn a_pool_in_which_none_ever_passed_stays_in_use() {
        let pool = pool(&["a:1", "b:1"], Balance::RoundRobin, true);
        for endpoint in &pool.endpoints {
            endpoint.set_healthy(false);
        }
        assert!(pool.never_healthy());
        assert_eq!(pool.usable(), 2);
        assert!(pool.pick(&[], 0).is_some());
        pool.endpoints[0].probe_passed();
        assert!(!pool.never_healthy());
        assert!(
            pool.pick(&[], 0).is_none(),
            "one passed once, so the probe can be believed"
        );
    }

    #[test]
    fn without_probes_health_is_no_matter() {
        let pool = pool(&["a:1"], Balance::RoundRobin, false);
        pool.endpoints[0].set_healthy(false);
        assert_eq!(pool.usable(), 1);
        assert!(pool.pick(&[], 0).is_some());
    }
}
