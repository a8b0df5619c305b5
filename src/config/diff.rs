//! What changed from one configuration to the next.
//!
//! Both are said in words, setting by setting (`words`), and the words are compared: a default written out is
//! no change. Applies nothing.

mod words;

use std::collections::BTreeMap;
use std::fmt;

use super::{Channel, Config, Endpoint, Pool, Route, Token};
use crate::rollout::name::RolloutName;
use crate::tls::Loaded;
use words::{
    Settings, admin, endpoint, fixed, pool, rehearsal, rollout, route, server, state, tracing,
};

/// The difference of two configurations, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Applied by a reload at once.
    pub changes: Vec<Change>,
    /// Keys with their change that only a restart applies.
    pub restart: Vec<String>,
    /// Rollouts in both whose plan differs: a running one keeps its own until the next `start`.
    pub plans: Vec<RolloutName>,
}

/// One change, as an operator reads it: `endpoint 127.0.0.1:9103 added to pool original`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub area: Area,
    pub what: String,
}

/// The part of the file that a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    Server,
    Admin,
    State,
    Pools,
    Routes,
    Rollouts,
    Notify,
}

/// Compares two configurations.
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut diff = Diff {
        restart: changed("", &fixed(old), &fixed(new)),
        ..Diff::default()
    };
    diff.settings(Area::Server, "", &server(&old.server), &server(&new.server));
    diff.listeners(old, new);
    diff.settings(Area::Admin, "", &admin(&old.admin), &admin(&new.admin));
    if let Some(what) = tls_change(old.admin.tls.as_ref(), new.admin.tls.as_ref()) {
        diff.say(Area::Admin, format!("{what} the admin port"));
    }
    diff.tokens(&old.admin.tokens, &new.admin.tokens);
    diff.settings(Area::State, "", &state(old), &state(new));
    diff.settings(
        Area::Rollouts,
        "rehearsal.",
        &rehearsal(old),
        &rehearsal(new),
    );
    diff.settings(Area::Server, "tracing.", &tracing(old), &tracing(new));
    let headers = |config: &Config| {
        let collector = config.tracing.collector.as_ref();
        collector.map(|collector| collector.headers.clone())
    };
    // Values may be secrets.
    if headers(old).unwrap_or_default() != headers(new).unwrap_or_default() {
        diff.restart.push("tracing.headers changed".to_owned());
    }
    // So are what a member logs in with, and what the files of its TLS say.
    let hidden = |config: &Config| config.fleet.clone().map(|fleet| (fleet.login, fleet.tls));
    if let (Some(old), Some(new)) = (hidden(old), hidden(new))
        && old != new
    {
        diff.restart
            .push("fleet: what it logs in with, or its tls, changed".to_owned());
    }
    diff.names(Area::Pools, "pool", &old.pools, &new.pools);
    for (name, old, new) in common(&old.pools, &new.pools) {
        diff.endpoints(name.as_str(), old, new);
        diff.settings(
            Area::Pools,
            &format!("pools.{name}."),
            &pool(old),
            &pool(new),
        );
        diff.pool_tls(name.as_str(), old, new);
        // Values may be secrets of the analyzers.
        if old.request_headers != new.request_headers {
            diff.say(Area::Pools, format!("pools.{name}.request_headers changed"));
        }
    }
    diff.routes(&old.routes, &new.routes);
    diff.channels(&old.notify, &new.notify);
    diff.names(Area::Rollouts, "rollout", &old.rollouts, &new.rollouts);
    for (name, old, new) in common(&old.rollouts, &new.rollouts) {
        if old.plan != new.plan {
            diff.plans.push(name.clone());
        }
        diff.settings(
            Area::Rollouts,
            &format!("rollouts.{name}."),
            &rollout(old),
            &rollout(new),
        );
    }
    diff
}

// === impl Diff ===

impl Diff {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.restart.is_empty() && self.plans.is_empty()
    }

    fn say(&mut self, area: Area, what: String) {
        self.changes.push(Change { area, what });
    }

    fn settings(&mut self, area: Area, prefix: &str, old: &Settings, new: &Settings) {
        for what in changed(prefix, old, new) {
            self.say(area, what);
        }
    }

    fn endpoints(&mut self, pool: &str, old: &Pool, new: &Pool) {
        let by_address = |pool: &Pool| -> BTreeMap<String, Endpoint> {
            let endpoints = pool.endpoints.iter();
            endpoints
                .map(|endpoint| (endpoint.address.clone(), endpoint.clone()))
                .collect()
        };
        let (old, new) = (by_address(old), by_address(new));
        for gone in old.keys().filter(|address| !new.contains_key(*address)) {
            self.say(
                Area::Pools,
                format!("endpoint {gone} removed from pool {pool}"),
            );
        }
        for come in new.keys().filter(|address| !old.contains_key(*address)) {
            self.say(Area::Pools, format!("endpoint {come} added to pool {pool}"));
        }
        for (address, old, new) in common(&old, &new) {
            self.settings(
                Area::Pools,
                &format!("endpoint {address} of pool {pool}: "),
                &endpoint(old),
                &endpoint(new),
            );
        }
    }

    fn listeners(&mut self, old: &Config, new: &Config) {
        let (old, new) = (&old.server, &new.server);
        for address in &new.listen {
            let [before, now] = [old, new].map(|server| server.proxy_protocol.contains(address));
            if before != now {
                let what = if now { "from now on" } else { "no more" };
                self.say(
                    Area::Server,
                    format!("PROXY headers {what} at listener {address}"),
                );
            }
            if let Some(what) = tls_change(old.tls.get(address), new.tls.get(address)) {
                self.say(Area::Server, format!("{what} listener {address}"));
            }
        }
    }

    fn pool_tls(&mut self, pool: &str, old: &Pool, new: &Pool) {
        let loaded = |pool: &Pool| pool.transport.tls.as_ref().map(|tls| tls.loaded.clone());
        let (old, new) = (loaded(old), loaded(new));
        if old == new {
            return;
        }
        let what = match (old, new) {
            (Some(old), Some(new)) if old.files() == new.files() => "new certificates for",
            (Some(_), Some(_)) => "other TLS for",
            (None, _) => "TLS from now on to",
            (Some(_), None) => "no TLS any more to",
        };
        self.say(Area::Pools, format!("{what} pool {pool}"));
    }

    fn tokens(&mut self, old: &[Token], new: &[Token]) {
        let by_name = |tokens: &[Token]| -> BTreeMap<String, Token> {
            tokens
                .iter()
                .map(|token| (token.name.clone(), token.clone()))
                .collect()
        };
        let (old, new) = (by_name(old), by_name(new));
        self.names(Area::Admin, "token", &old, &new);
        for (name, old, new) in common(&old, &new) {
            // Not even the hash is anybody's business.
            if old != new {
                self.say(Area::Admin, format!("token {name} changed"));
            }
        }
    }

    fn channels(&mut self, old: &[Channel], new: &[Channel]) {
        let by_name = |channels: &[Channel]| -> BTreeMap<String, Channel> {
            channels
                .iter()
                .map(|channel| (channel.name.clone(), channel.clone()))
                .collect()
        };
        let (old, new) = (by_name(old), by_name(new));
        self.names(Area::Notify, "channel", &old, &new);
        for (name, old, new) in common(&old, &new) {
            // URLs and secrets are nobody's business.
            if old != new {
                self.say(Area::Notify, format!("channel {name} changed"));
            }
        }
    }

    fn routes(&mut self, old: &[Route], new: &[Route]) {
        let by_match = |routes: &[Route]| -> BTreeMap<String, Route> {
            routes
                .iter()
                .map(|route| (format!("{} {}", route.host, route.path), route.clone()))
                .collect()
        };
        let (old, new) = (by_match(old), by_match(new));
        self.names(Area::Routes, "route", &old, &new);
        for (name, old, new) in common(&old, &new) {
            self.settings(
                Area::Routes,
                &format!("route {name} "),
                &route(old),
                &route(new),
            );
        }
    }

    /// Names that came or went.
    fn names<N: Ord + fmt::Display, T>(
        &mut self,
        area: Area,
        noun: &str,
        old: &BTreeMap<N, T>,
        new: &BTreeMap<N, T>,
    ) {
        for gone in old.keys().filter(|name| !new.contains_key(name)) {
            self.say(area, format!("{noun} {gone} removed"));
        }
        for come in new.keys().filter(|name| !old.contains_key(name)) {
            self.say(area, format!("{noun} {come} added"));
        }
    }
}

impl Area {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Admin => "admin",
            Self::State => "state",
            Self::Pools => "pools",
            Self::Routes => "routes",
            Self::Rollouts => "rollouts",
            Self::Notify => "notify",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What became of the TLS of a listener, if anything.
fn tls_change(old: Option<&Loaded>, new: Option<&Loaded>) -> Option<&'static str> {
    if old == new {
        return None;
    }
    Some(match (old, new) {
        (Some(old), Some(new)) if old.files() == new.files() => "new certificates for",
        (Some(_), Some(_)) => "other files of certificates for",
        (None, _) => "TLS from now on at",
        (Some(_), None) => "no TLS any more at",
    })
}

/// `key: old -> new` for each setting that differs.
fn changed(prefix: &str, old: &Settings, new: &Settings) -> Vec<String> {
    let pairs = old.iter().zip(new).filter(|(old, new)| old != new);
    pairs
        .map(|((key, old), (_, new))| format!("{prefix}{key}: {old} -> {new}"))
        .collect()
}

/// What both have, pair by pair.
fn common<'a, N: Ord, T>(
    old: &'a BTreeMap<N, T>,
    new: &'a BTreeMap<N, T>,
) -> impl Iterator<Item = (&'a N, &'a T, &'a T)> {
    old.iter()
        .filter_map(|(name, old)| Some((name, old, new.get(name)?)))
}
