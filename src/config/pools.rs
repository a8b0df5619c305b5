//! Pools: their settings as the data path wants them.

use std::collections::BTreeMap;

use super::faults::{Faults, join};
use super::form::{Named, OrFalse};
use super::{
    Health, HealthKind, Pool, PoolTimeouts, Protocol, Retries, ejection, endpoints, overload, raw,
    transport,
};
use crate::rollout::name::PoolName;

/// Checks every pool.
pub(super) fn check(
    pools: Named<PoolName, raw::Pool>,
    zone: &str,
    faults: &mut Faults,
) -> BTreeMap<PoolName, Pool> {
    pools
        .into_iter()
        .map(|(name, pool)| {
            let key = join("pools", name.as_str());
            (name, check_pool(pool, &key, zone, faults))
        })
        .collect()
}

fn check_pool(raw: raw::Pool, key: &str, zone: &str, faults: &mut Faults) -> Pool {
    let dns = raw.dns;
    let endpoints = match (raw.endpoints, &dns) {
        (Some(endpoints), None) => endpoints::check(endpoints, key, faults),
        (Some(_), Some(_)) => {
            faults.add(&join(key, "dns"), "either endpoints or dns, not both");
            Vec::new()
        }
        (None, Some(_)) => Vec::new(),
        (None, None) => {
            let [listed, looked_up] = ["endpoints", "dns"].map(|name| join(key, name));
            if !faults.has_key(&listed) && !faults.has_key(&looked_up) {
                faults.add_missing(&listed);
            }
            Vec::new()
        }
    };
    let transport = {
        let found = transport::Found {
            endpoints: &endpoints,
            dns: dns.as_ref(),
        };
        let typed = transport::Typed {
            protocol: raw.protocol,
            tls: raw.tls,
            proxy_protocol: raw.proxy_protocol,
        };
        transport::check(typed, found, key, faults)
    };
    Pool {
        endpoints,
        dns,
        balance: raw.balance,
        zone: (!zone.is_empty()).then(|| zone.to_owned()),
        transport,
        health: match raw.health {
            OrFalse::Off => None,
            OrFalse::On(health) => Some(check_health(health, raw.protocol, key, faults)),
        },
        timeouts: PoolTimeouts {
            connect: raw.timeouts.connect.0,
            answer_head: raw.timeouts.answer_head.0,
            body_idle: raw.timeouts.body_idle.0,
            idle: raw.timeouts.idle.0,
            request: raw.timeouts.request,
        },
        slow_start: raw.slow_start,
        overload: overload::of_pool(&raw.overload),
        ejection: ejection::check(raw.ejection, key, faults),
        retries: Retries {
            attempts: small(raw.retries.attempts.0),
            per_try: raw.retries.per_try.0,
            budget: raw.retries.budget.0,
        },
        request_headers: raw.request_headers.0,
    }
}

fn check_health(raw: raw::Health, protocol: Protocol, key: &str, faults: &mut Faults) -> Health {
    let is_grpc = raw.kind == HealthKind::Grpc;
    if is_grpc && !protocol.is_http2() {
        let message = "\"grpc\" is asked over HTTP/2, and the pool speaks HTTP/1.1";
        faults.add(&format!("{key}.health.kind"), message);
    }
    if !is_grpc && !raw.service.is_empty() {
        let message = "only for kind = \"grpc\"";
        faults.add(&format!("{key}.health.service"), message);
    }
    Health {
        kind: raw.kind,
        service: raw.service,
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
