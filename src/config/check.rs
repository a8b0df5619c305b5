//! From the file as typed to the configuration as meant, or to every fault at once.
//!
//! Judges what one part means to another. The parts themselves are in `pools`, `routes`, `rollouts`
//! and `tokens`; none of them stops at a fault.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread::available_parallelism;

use super::amount::Size;
use super::env::Env;
use super::faults::Faults;
use super::form::Count;
use super::header::CallHeaders;
use super::leaf::{CallUrl, HostName};
use super::{
    Admin, Collector, Config, Limits, Log, Pool, Rollout, Server, ServerTimeouts, SignalSource,
    State, Tracing,
};
use super::{fleet, listeners, notify, overload, people, pools, raw, rollouts, routes, tokens};
use crate::rollout::name::{PoolName, RolloutName};
use crate::tls;

/// Checks a whole file. What it answers is only to be used where no fault was added.
pub(super) fn check(file: raw::File, env: Env<'_>, faults: &mut Faults) -> Option<Config> {
    let server = server(&file.server, faults);
    let admin = admin(&file.admin, env, faults);
    let routes = routes::check(&file, faults);
    let state = state(file.state);
    let notify = notify::check(&file.notify, env, faults);
    let fleet = fleet::check(file.fleet, env, faults);
    let rollouts = rollouts::check(file.rollouts, faults);
    let pools = pools::check(file.pools, &file.server.zone, faults);
    people::check(&rollouts, &admin.tokens, faults);
    scraped(&rollouts, &pools, faults);
    (faults.count() == 0).then_some(Config {
        server,
        admin,
        state,
        pools,
        routes,
        rollouts,
        notify,
        rehearsals: file.rehearsal.enabled,
        tracing: tracing(file.tracing),
        fleet,
        environment: Vec::new(),
    })
}

fn tracing(raw: raw::Tracing) -> Tracing {
    let raw::Tracing {
        endpoint,
        share,
        parents,
        service,
        headers: CallHeaders(headers),
        timeout,
        queue,
    } = raw;
    Tracing {
        collector: endpoint.map(|CallUrl(endpoint)| Collector {
            endpoint,
            headers,
            service,
            timeout: timeout.0,
            queue: usize_of(queue),
        }),
        share,
        parents,
    }
}

/// What is scraped from endpoints needs to know them before the first request.
fn scraped(
    rollouts: &BTreeMap<RolloutName, Rollout>,
    pools: &BTreeMap<PoolName, Pool>,
    faults: &mut Faults,
) {
    for (name, rollout) in rollouts {
        let identity = &rollout.plan.identity;
        let arms = [&identity.baseline, &identity.canary];
        let is_looked_up =
            |pool: &&PoolName| pools.get(*pool).is_some_and(|pool| pool.dns.is_some());
        let Some(pool) = arms.into_iter().find(is_looked_up) else {
            continue;
        };
        for (index, signal) in rollout.signals.iter().enumerate() {
            if matches!(signal.source, SignalSource::Scrape { .. }) {
                let key = format!("rollouts.{name}.signals[{index}].source");
                faults.add(
                    &key,
                    format!("scrape needs listed endpoints; those of pool {pool} are looked up"),
                );
            }
        }
    }
}

/// A count as the program uses it.
pub(super) fn usize_of<const MIN: u64, const MAX: u64>(count: Count<MIN, MAX>) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}

fn server(raw: &raw::Server, faults: &mut Faults) -> Server {
    let tls = listeners::check(raw, faults);
    let introduced = raw.listen.iter().filter(|listen| listen.proxy_protocol);
    Server {
        listen: raw.listen.iter().map(|listen| listen.address).collect(),
        tls,
        proxy_protocol: introduced.map(|listen| listen.address).collect(),
        workers: workers(raw.workers),
        trusted: raw.trusted.clone(),
        max_connections: usize_of(raw.max_connections),
        overload: overload::of_server(&raw.overload),
        limits: limits(&raw.limits),
        timeouts: timeouts(&raw.timeouts),
        log: Log {
            level: raw.log.level,
            format: raw.log.format,
            access: raw.log.access,
        },
    }
}

fn workers(typed: Count<0, 1024>) -> usize {
    match usize_of(typed) {
        0 => available_parallelism().map_or(1, NonZero::get),
        workers => workers,
    }
}

fn limits(raw: &raw::Limits) -> Limits {
    let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    Limits {
        head_bytes: bytes(raw.head),
        headers: usize_of(raw.headers),
        target_bytes: bytes(raw.target),
        body_bytes: raw.body.0,
    }
}

fn timeouts(raw: &raw::ServerTimeouts) -> ServerTimeouts {
    ServerTimeouts {
        first_byte: raw.first_byte.0,
        head: raw.head.0,
        body_idle: raw.body_idle.0,
        write_idle: raw.write_idle.0,
        keep_alive: raw.keep_alive.0,
        stream_idle: raw.stream_idle.0,
        drain_delay: raw.drain_delay,
        idle_grace: raw.idle_grace,
        drain: raw.drain,
    }
}

fn admin(raw: &raw::Admin, env: Env<'_>, faults: &mut Faults) -> Admin {
    if raw.tokens.is_empty() && !raw.listen.ip().is_loopback() {
        let open = format!(
            "{} is not a loopback address: at least one token is needed in admin.tokens",
            raw.listen
        );
        faults.add("admin.listen", open);
    }
    let secured = raw.tls.as_ref();
    Admin {
        listen: raw.listen,
        tls: secured.and_then(|typed| listeners::load(typed, tls::HTTP1, "admin.tls", faults)),
        hosts: raw
            .hosts
            .iter()
            .map(|HostName(host)| host.clone())
            .collect(),
        open_metrics: raw.open_metrics,
        tokens: tokens::check(&raw.tokens, env, faults),
    }
}

fn state(raw: raw::State) -> State {
    State {
        path: raw.path,
        deployment_logs: raw.deployment_logs,
        retention: raw.retention.0,
        record_inputs: raw.record_inputs,
    }
}
