//! Routes: each has one target that exists, and no two match the same requests.

use std::collections::BTreeMap;

use super::faults::{Faults, join};
use super::{HostPattern, Route, Target, raw};

/// Checks the list in the order of the file.
pub(super) fn check(file: &raw::File, faults: &mut Faults) -> Vec<Route> {
    let mut seen = BTreeMap::new();
    let mut routes = Vec::new();
    for (index, raw) in file.routes.iter().enumerate() {
        let key = format!("routes[{index}]");
        let target = check_target(raw, &key, faults);
        // A host that could not be read is no "any host".
        if raw.host.is_none() && faults.has_key(&format!("{key}.host")) {
            continue;
        }
        let host = raw.host.clone().unwrap_or(HostPattern::Any);
        let path = without_last_slash(&raw.path.0);
        if let Some(first) = seen.insert((host.clone(), path.clone()), index) {
            faults.add(
                &key,
                format!("routes[{first}] matches {host} and {path} already"),
            );
        }
        routes.extend(target.map(|target| Route {
            host,
            path,
            target,
            idempotent: raw.idempotent,
        }));
    }
    routes
}

fn check_target(raw: &raw::Route, key: &str, faults: &mut Faults) -> Option<Target> {
    let given = ["rollout", "pool"].map(|name| faults.has_key(&format!("{key}.{name}")));
    match given {
        [true, true] => faults.add(
            key,
            "both `rollout` and `pool` are given; one of them is the target",
        ),
        [false, false] => faults.add(key, "neither `rollout` nor `pool` is given"),
        [true, false] | [false, true] => {}
    }
    if let Some(name) = &raw.rollout
        && !faults.has_key(&join("rollouts", name.as_str()))
    {
        faults.add(
            &format!("{key}.rollout"),
            format!("there is no rollout {:?}", name.as_str()),
        );
    }
    if let Some(name) = &raw.pool {
        check_pool(name.as_str(), &format!("{key}.pool"), faults);
    }
    let rollout = raw.rollout.clone().map(Target::Rollout);
    rollout.or_else(|| raw.pool.clone().map(Target::Pool))
}

/// Adds a fault where the file has no such pool.
pub(super) fn check_pool(name: &str, key: &str, faults: &mut Faults) {
    if !faults.has_key(&join("pools", name)) {
        faults.add(key, format!("there is no pool {name:?}"));
    }
}

/// `/api/` and `/api` match the same whole segments, so they are one path.
fn without_last_slash(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}
