//! Active health checks: every endpoint is asked, each time over a fresh connection.
//!
//! Runs on the thread of the `upkeep`; never touches a request. The first probe alone decides, later ones by the counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::endpoint::{Endpoint, EndpointId};
use super::pool::Pool;
use super::probe::{ProbeError, probe};
use super::transport::Transport;
use crate::clock;
use crate::config::{self, Health};

/// The probes under way.
#[derive(Default)]
pub(super) struct Probers(HashMap<EndpointId, Prober>);

struct Prober {
    health: Health,
    transport: Arc<Transport>,
    task: JoinHandle<()>,
}

/// Asks one endpoint of a pool once, as its probes do. Needs a `LocalSet` around it.
///
/// # Errors
/// What is wrong with it, in words.
pub async fn ask(pool: &config::Pool, health: &Health, address: &str) -> Result<(), String> {
    let transport = Transport::build(&pool.transport, None);
    let endpoint = Endpoint::new(address);
    let asking = probe(&transport, &endpoint, health);
    match timeout(health.timeout, asking).await {
        Ok(outcome) => outcome.map_err(|why| why.to_string()),
        Err(_) => Err(ProbeError::Timeout(health.timeout).to_string()),
    }
}

// === impl Probers ===

impl Probers {
    /// Starts what is new, stops what is gone or probed differently now, leaves the rest alone.
    pub(super) fn reconcile(&mut self, pools: &[Arc<Pool>]) {
        let probers = &mut self.0;
        let mut wanted = HashMap::new();
        for pool in pools {
            if let Some(health) = &pool.config().health {
                wanted.extend(
                    pool.endpoints()
                        .into_iter()
                        .map(|endpoint| (endpoint.id(), (endpoint, health, &pool.transport))),
                );
            }
        }
        probers.retain(|id, prober| {
            let stays = wanted.get(id).is_some_and(|(_, health, transport)| {
                **health == prober.health && Arc::ptr_eq(transport, &prober.transport)
            });
            if !stays {
                prober.task.abort();
            }
            stays
        });
        for (id, (endpoint, health, transport)) in wanted {
            probers.entry(id).or_insert_with(|| Prober {
                health: health.clone(),
                transport: Arc::clone(transport),
                task: tokio::task::spawn_local(watch_endpoint(
                    endpoint,
                    health.clone(),
                    Arc::clone(transport),
                )),
            });
        }
    }
}

async fn watch_endpoint(endpoint: Arc<Endpoint>, health: Health, transport: Arc<Transport>) {
    let mut ticks = interval(health.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let is_first = endpoint.probes_sent() == 0;
        let outcome = match timeout(health.timeout, probe(&transport, &endpoint, &health)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ProbeError::Timeout(health.timeout)),
        };
        // Counted when its fate is known: one on its way is neither answered nor failed.
        endpoint.probe_sent();
        take_in(&endpoint, &health, outcome, is_first);
    }
}

fn take_in(endpoint: &Endpoint, health: &Health, outcome: Result<(), ProbeError>, is_first: bool) {
    let passed = outcome.is_ok();
    match outcome {
        Ok(()) => endpoint.probe_passed(),
        Err(why) => endpoint.probe_failed(why.to_string()),
    }
    if passed == endpoint.is_healthy() {
        endpoint.streak.store(0, Ordering::Relaxed);
        return;
    }
    let against = endpoint.streak.fetch_add(1, Ordering::Relaxed) + 1;
    let needed = if passed {
        health.healthy_after
    } else {
        health.unhealthy_after
    };
    if is_first || against >= needed {
        endpoint.streak.store(0, Ordering::Relaxed);
        endpoint.set_healthy(passed);
        if passed {
            endpoint.warm_up(clock::now());
            tracing::info!(endpoint = endpoint.address(), "healthy again");
        } else {
            tracing::warn!(
                endpoint = endpoint.address(),
                fault = endpoint.fault(),
                "unhealthy"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::config::Balance;
    use crate::upstream::pool::tests::pool;

    // Runs probe results through one endpoint and tells its state after each: `+` passed, `-` failed.
    fn states(probes: &str) -> String {
        let pool = pool(&["a:1"], Balance::RoundRobin, true);
        let health = pool.config().health.clone().expect("it is checked");
        let endpoint = &pool.endpoints()[0];
        let mut states = String::new();
        for (index, probe) in probes.chars().enumerate() {
            let outcome = if probe == '+' {
                Ok(())
            } else {
                Err(ProbeError::Timeout(health.timeout))
            };
            take_in(endpoint, &health, outcome, index == 0);
            states.push(if endpoint.is_healthy() { 'h' } else { 'u' });
        }
        states
    }

    #[test]
    fn the_first_probe_alone_decides_and_later_ones_by_the_counts() {
        let check = |probes: &str, expected: &str| assert_eq!(states(probes), expected, "{probes}");
        check("+", "h");
        check("-", "u");
        check("+---", "hhhu");
        check("+--+---", "hhhhhhu");
        check("-++", "uuh");
        check("-+-++", "uuuuh");
        check("+---++---", "hhhuuhhhu");
    }

    #[test]
    fn the_fault_is_kept_in_words_until_a_probe_passes() {
        let pool = pool(&["a:1"], Balance::RoundRobin, true);
        let health = pool.config().health.clone().expect("it is checked");
        let endpoint = &pool.endpoints()[0];
        take_in(
            endpoint,
            &health,
            Err(ProbeError::Status(StatusCode::SERVICE_UNAVAILABLE)),
            true,
        );
        assert_eq!(endpoint.fault().as_deref(), Some("answered 503"));
        take_in(endpoint, &health, Ok(()), false);
        assert_eq!(endpoint.fault(), None);
    }
}
