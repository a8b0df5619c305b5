//! Pools and their endpoints in the Prometheus text.

use super::truth;
use crate::live::{EndpointView, PoolView};
use crate::telemetry::prometheus::Exposition;

/// What a metric of an endpoint shows.
type OfEndpoint = fn(&EndpointView) -> f64;

const ENDPOINT_GAUGES: [(&str, &str, OfEndpoint); 5] = [
    (
        "serin_endpoint_up",
        "1 where the endpoint is healthy.",
        |endpoint| truth(endpoint.healthy),
    ),
    (
        "serin_endpoint_drained",
        "1 where an operator took the endpoint out of use.",
        |endpoint| truth(endpoint.drained),
    ),
    (
        "serin_endpoint_in_flight",
        "Requests on their way to the endpoint.",
        |endpoint| endpoint.in_flight as f64,
    ),
    (
        "serin_endpoint_connections_idle",
        "Idle connections kept to the endpoint.",
        |endpoint| endpoint.connections_idle as f64,
    ),
    (
        "serin_endpoint_warmth",
        "How much of its weight the endpoint may carry, up to 1; less in its slow start.",
        |endpoint| endpoint.warmth,
    ),
];

const ENDPOINT_COUNTERS: [(&str, &str, OfEndpoint); 4] = [
    (
        "serin_endpoint_ejections_total",
        "Times that the endpoint was left out because it failed its requests.",
        |endpoint| endpoint.ejections as f64,
    ),
    (
        "serin_endpoint_probes_total",
        "Health probes sent.",
        |endpoint| endpoint.probes_sent as f64,
    ),
    (
        "serin_endpoint_probes_answered_total",
        "Health probes answered well.",
        |endpoint| endpoint.probes_answered as f64,
    ),
    (
        "serin_endpoint_requests_total",
        "Requests that the endpoint was given.",
        |endpoint| endpoint.requests as f64,
    ),
];

pub(super) fn show(pools: &[PoolView], out: &mut Exposition) {
    for (name, help, read) in ENDPOINT_GAUGES {
        let mut family = out.gauge(name, help);
        each_endpoint(pools, |labels, endpoint| {
            family.sample(labels, read(endpoint));
        });
    }
    for (name, help, read) in ENDPOINT_COUNTERS {
        let mut family = out.counter(name, help);
        each_endpoint(pools, |labels, endpoint| {
            family.sample(labels, read(endpoint));
        });
    }
    let mut ejected = out.gauge(
        "serin_endpoint_ejected",
        "1 while the endpoint is left out because it failed its requests, by reason: consecutive or share.",
    );
    for pool in pools {
        for endpoint in &pool.endpoints {
            let labels = [
                ("pool", pool.name.as_str()),
                ("endpoint", &endpoint.address),
            ];
            for reason in ["consecutive", "share"] {
                let is_out = endpoint
                    .ejected
                    .as_ref()
                    .is_some_and(|out| out.kind == reason);
                let [pool, endpoint] = labels;
                ejected.sample(&[pool, endpoint, ("reason", reason)], truth(is_out));
            }
        }
    }
    let mut limits = out.gauge(
        "serin_pool_limit",
        "Requests that may be under way to the pool now; 0 = no limit.",
    );
    for pool in pools {
        limits.count(&[("pool", pool.name.as_str())], pool.limit as u64);
    }
    let mut queued = out.gauge(
        "serin_pool_queued",
        "Requests that wait for a place in the pool.",
    );
    for pool in pools {
        queued.count(&[("pool", pool.name.as_str())], pool.queued as u64);
    }
    let mut lookups = out.counter(
        "serin_pool_dns_failures_total",
        "Times that the pool's name could not be looked up; the last endpoints stay.",
    );
    for pool in pools.iter().filter(|pool| pool.dns.is_some()) {
        lookups.count(&[("pool", pool.name.as_str())], pool.dns_failures);
    }
    let mut blind = out.gauge(
        "serin_pool_never_healthy",
        "1 where no endpoint ever passed a probe; it is used all the same.",
    );
    for pool in pools {
        blind.sample(&[("pool", pool.name.as_str())], truth(pool.never_healthy));
    }
}

fn each_endpoint(pools: &[PoolView], mut show: impl FnMut(&[(&str, &str)], &EndpointView)) {
    for pool in pools {
        for endpoint in &pool.endpoints {
            show(
                &[
                    ("pool", pool.name.as_str()),
                    ("endpoint", &endpoint.address),
                ],
                endpoint,
            );
        }
    }
}
