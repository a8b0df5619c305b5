//! Pools: endpoints without duplicates, and settings as the data path wants them.

use std::collections::BTreeMap;

use super::faults::{Faults, join};
use super::form::{Named, OrFalse};
use super::{Health, Pool, PoolTimeouts, Retries, raw};
use crate::rollout::name::PoolName;

/// Checks every pool.
pub(super) fn check(
    pools: Named<PoolName, raw::Pool>,
    faults: &mut Faults,
) -> BTreeMap<PoolName, Pool> {
    pools
        .into_iter()
        .map(|(name, pool)| {
            let key = join("pools", name.as_str());
            (name, check_pool(pool, &key, faults))
        })
        .collect()
}

fn check_pool(raw: raw::Pool, key: &str, faults: &mut Faults) -> Pool {
    let endpoints = raw
        .endpoints
        .map(|endpoints| check_endpoints(endpoints, key, faults));
    Pool {
        endpoints: endpoints.unwrap_or_default(),
        balance: raw.balance,
        health: match raw.health {
            OrFalse::Off => None,
            OrFalse::On(health) => Some(check_health(health)),
        },
        timeouts: PoolTimeouts {
            connect: raw.timeouts.connect.0,
            answer_head: raw.timeouts.answer_head.0,
            body_idle: raw.timeouts.body_idle.0,
            idle: raw.timeouts.idle.0,
            request: raw.timeouts.request,
        },
        retries: Retries {
            attempts: small(raw.retries.attempts.0),
            per_try: raw.retries.per_try.0,
            budget: raw.retries.budget.0,
        },
        request_headers: raw.request_headers.0,
    }
}

fn check_endpoints(
    typed: Vec<super::leaf::Endpoint>,
    key: &str,
    faults: &mut Faults,
) -> Vec<String> {
    let key = format!("{key}.endpoints");
    if typed.is_empty() {
        faults.add(&key, "empty: a pool needs at least one endpoint");
    }
    let mut endpoints = Vec::with_capacity(typed.len());
    for (index, endpoint) in typed.into_iter().enumerate() {
        if endpoints.contains(&endpoint.0) {
            faults.add(
                &format!("{key}[{index}]"),
                format!("{} is listed twice", endpoint.0),
            );
        }
        endpoints.push(endpoint.0);
    }
    endpoints
}

fn check_health(raw: raw::Health) -> Health {
    Health {
        path: raw.path.0,
        interval: raw.interval.0,
        timeout: raw.timeout.0,
        unhealthy_after: small(raw.unhealthy_after.0),
        healthy_after: small(raw.healthy_after.0),
    }
}

/// A count whose form has an upper bound far below `u32`.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
