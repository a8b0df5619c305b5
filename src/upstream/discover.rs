//! Endpoints by DNS: the names of the pools in force are looked up, and again when what was found has had its time.
//!
//! An endpoint that stays keeps its state. A name that cannot be looked up, or has no address any more, changes nothing:
//! the last addresses stay, with a warning and a metric. Runs on the thread of the `upkeep`; never touches a request.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, ResolverBuilder, TokioResolver};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::found::Found;
use super::pool::Pool;
use crate::config::{Dns, DnsName};

/// The shortest time between two look-ups: a TTL of zero is no reason to ask without a pause.
const LEAST: Duration = Duration::from_secs(1);
/// The longest, so that a mistaken TTL of a week can be put right.
const MOST: Duration = Duration::from_secs(5 * 60);
/// How long a name that could not be looked up waits at first, twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
/// And at last.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long a server may take, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// The look-ups under way.
pub(super) struct Lookups {
    tasks: Vec<(Arc<Pool>, JoinHandle<()>)>,
    /// Told when a pool has other endpoints.
    found: Rc<Notify>,
}

/// Why a name was not looked up.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("{0}")]
    Dns(#[from] NetError),
    #[error("it has no address")]
    Nothing,
}

// === impl Lookups ===

impl Lookups {
    pub(super) fn new(found: &Rc<Notify>) -> Self {
        Self {
            tasks: Vec::new(),
            found: Rc::clone(found),
        }
    }

    /// Starts what is new, stops what is gone.
    pub(super) fn reconcile(&mut self, pools: &[Arc<Pool>]) {
        self.tasks.retain(|(known, task)| {
            let stays = pools.iter().any(|pool| Arc::ptr_eq(pool, known));
            if !stays {
                task.abort();
            }
            stays
        });
        for pool in pools {
            let is_known = |(known, _): &(Arc<Pool>, _)| Arc::ptr_eq(pool, known);
            let Some(dns) = &pool.config().dns else {
                continue;
            };
            if self.tasks.iter().any(is_known) {
                continue;
            }
            let (keeper, found) = (Arc::clone(pool), Rc::clone(&self.found));
            let task = tokio::task::spawn_local(follow(keeper, dns.clone(), found));
            self.tasks.push((Arc::clone(pool), task));
        }
    }
}

async fn follow(pool: Arc<Pool>, dns: Dns, told: Rc<Notify>) {
    let mut retry = RETRY;
    loop {
        let pause = match look_up(&dns).await {
            Ok((found, ttl)) => {
                retry = RETRY;
                if pool.found(&found) {
                    tracing::info!(pool = %pool.name, name = %dns.name, endpoints = found.len(), "looked up");
                    told.notify_one();
                }
                ttl.clamp(LEAST, MOST)
            }
            Err(why) => {
                let fault = why.to_string();
                tracing::warn!(pool = %pool.name, name = %dns.name, fault, "not looked up: the last endpoints stay");
                pool.not_found(fault);
                let pause = retry;
                retry = (retry * 2).min(RETRY_MOST);
                pause
            }
        };
        sleep(pause).await;
    }
}

// What is found, without two of the same address, and how long it holds.
async fn look_up(dns: &Dns) -> Result<(Vec<Found>, Duration), LookupError> {
    let resolver = resolver(dns)?;
    let (mut found, ttl) = match &dns.name {
        DnsName::Host { host, port } => addresses(&resolver, host, *port, 1).await?,
        DnsName::Service(name) => services(&resolver, name).await?,
    };
    found.sort_by_key(|found| found.address);
    found.dedup_by_key(|found| found.address);
    if found.is_empty() {
        return Err(LookupError::Nothing);
    }
    Ok((found, Duration::from_secs(ttl.into())))
}

// The addresses of a host, and the least TTL in seconds.
async fn addresses(
    resolver: &TokioResolver,
    host: &str,
    port: u16,
    weight: u32,
) -> Result<(Vec<Found>, u32), LookupError> {
    let answer = resolver.lookup_ip(host).await?;
    let found = answer.iter().map(|ip| Found {
        address: SocketAddr::new(ip, port),
        weight,
    });
    let found = found.collect();
    let ttls = answer.as_lookup().answers().iter().map(|record| record.ttl);
    Ok((found, ttls.min().unwrap_or(0)))
}

// The endpoints of a service: those of the lowest priority, each target with all of its addresses (RFC 2782).
async fn services(resolver: &TokioResolver, name: &str) -> Result<(Vec<Found>, u32), LookupError> {
    let answer = resolver.lookup(name, RecordType::SRV).await?;
    let mut ttl = answer.answers().iter().map(|record| record.ttl).min();
    let records = || {
        let answers = answer.answers().iter();
        answers.filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service),
            _ => None,
        })
    };
    let first = records().map(|service| service.priority).min();
    let heaviest = records().map(|service| service.weight).max().unwrap_or(0);
    let mut found = Vec::new();
    for service in records().filter(|service| Some(service.priority) == first) {
        let weight = weight_of(service.weight, heaviest);
        let target = service.target.to_utf8();
        let (some, of_target) = addresses(resolver, &target, service.port, weight).await?;
        found.extend(some);
        ttl = ttl.into_iter().chain([of_target]).min();
    }
    Ok((found, ttl.unwrap_or(0)))
}

// Weights of services go to 65,535, those of endpoints to 1000; a service of weight 0 is asked a little (RFC 2782).
fn weight_of(weight: u16, heaviest: u16) -> u32 {
    let (weight, heaviest) = (u32::from(weight), u32::from(heaviest));
    if heaviest <= 1000 {
        weight.max(1)
    } else {
        (weight * 1000 / heaviest).max(1)
    }
}

// Made anew for each look-up: it keeps no answer, and sees a changed /etc/resolv.conf.
fn resolver(dns: &Dns) -> Result<TokioResolver, NetError> {
    let mut builder: ResolverBuilder<TokioRuntimeProvider> = if dns.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = dns.servers.iter().map(|server| server_config(*server));
        let config = ResolverConfig::from_name_servers(servers.collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = PATIENCE;
    options.attempts = ATTEMPTS;
    builder.build()
}

fn server_config(server: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(server.ip(), true, connections.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_services_keep_their_proportion() {
        assert_eq!(weight_of(0, 0), 1);
        assert_eq!(weight_of(0, 10), 1);
        assert_eq!((weight_of(10, 30), weight_of(30, 30)), (10, 30));
        assert_eq!(
            (weight_of(65_535, 65_535), weight_of(6_554, 65_535)),
            (1000, 100)
        );
    }
}
