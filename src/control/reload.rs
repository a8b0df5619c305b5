//! Applies a new configuration: whole, or not at all.
//!
//! Pools, endpoints, routes, limits and tokens take effect at once. A rollout that is not ended keeps the plan it was
//! started with; what the file says otherwise waits for the next `start`, and what would move learners is refused.

use std::sync::Arc;

use serde::Serialize;

use super::driver::{Charge, Driver};
use crate::config::{self, Config, Fault};
use crate::rollout::gate::{Action, Command, Input};
use crate::rollout::name::RolloutName;
use crate::rollout::plan::{Plan, PlanParts};
use crate::rollout::time::Now;

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// In force now, in sentences.
    pub changed: Vec<String>,
    /// Names of the rollouts whose plan waits for the next `start`.
    pub pending: Vec<String>,
    /// What only a new process takes up, in sentences.
    pub restart_needed: Vec<String>,
}

/// Why a reload was not done.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Every fault of the file; what was in force stays.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
    #[error("the reading thread ended: {0}")]
    Thread(String),
    #[error("serin is shutting down")]
    Stopped,
}

impl Driver {
    pub(super) fn reload(
        &mut self,
        now: Now,
        new: Config,
        by: &str,
    ) -> Result<Reloaded, Vec<Fault>> {
        let faults = self.pinned_faults(&new);
        if !faults.is_empty() {
            return Err(faults);
        }
        let changed = config::diff(&self.config, &new)
            .changes
            .into_iter()
            .map(|change| change.what)
            .collect();
        let restart_needed = config::diff(&self.booted, &new).restart;
        let replaced = self.replaced_canaries(&new);
        self.shared.config.store(Arc::new(new.clone()));
        self.shared.admin.store(Arc::new(new.admin.clone()));
        self.shared.notify.store(Arc::new(new.notify.clone()));
        self.config = new;
        if let Some(signals) = &self.signals {
            signals.follow(&self.config);
        }
        self.put_to_rest();
        self.add_missing(now);
        self.rebuild_table();
        for (name, what) in replaced {
            self.tell_replaced(now, &name, what, None);
        }
        self.tell_versions(now);
        let reloaded = Reloaded {
            changed,
            pending: self.pending(),
            restart_needed,
        };
        tracing::info!(by, ?reloaded, "configuration reloaded");
        Ok(reloaded)
    }

    /// Rollouts that the file does not name any more; none of them is running.
    fn put_to_rest(&mut self) {
        for name in self.names() {
            if !self.config.rollouts.contains_key(&name)
                && let Some(charge) = self.rollouts.remove(&name)
            {
                self.dormant.insert(name, charge);
            }
        }
    }

    /// Rollouts whose canary gets endpoints that it did not have. Fewer endpoints are no new canary.
    fn replaced_canaries(&self, new: &Config) -> Vec<(RolloutName, String)> {
        let endpoints = |config: &Config, name: &RolloutName| {
            let canary = &config.rollouts.get(name)?.plan.identity.canary;
            let pool = config.pools.get(canary)?;
            let name = pool.dns.as_ref().map(|dns| dns.name.to_string());
            Some(pool.addresses().chain(name).collect::<Vec<String>>())
        };
        let mut replaced = Vec::new();
        for name in self.rollouts.keys() {
            let (Some(old), Some(new)) = (endpoints(&self.config, name), endpoints(new, name))
            else {
                continue;
            };
            let added: Vec<String> = new
                .into_iter()
                .filter(|address| !old.contains(address))
                .collect();
            if !added.is_empty() {
                replaced.push((
                    name.clone(),
                    format!("new canary endpoints: {}", added.join(", ")),
                ));
            }
        }
        replaced
    }

    /// Tells the gates whose canary has another version than they were told last.
    pub(super) fn tell_versions(&mut self, now: Now) {
        for name in self.names() {
            let (Some(charge), Some(rollout)) = (
                self.rollouts.get_mut(&name),
                self.config.rollouts.get(&name),
            ) else {
                continue;
            };
            let version = rollout.plan.version.clone();
            if charge.version != version {
                let what = format!(
                    "canary version {:?} instead of {:?}",
                    version, charge.version
                );
                charge.version = version.clone();
                self.tell_replaced(now, &name, what, Some(version));
            }
        }
    }

    fn tell_replaced(
        &mut self,
        now: Now,
        name: &RolloutName,
        what: String,
        version: Option<String>,
    ) {
        let ended = self
            .rollouts
            .get(name)
            .is_none_or(|charge| charge.gate.is_over());
        if ended {
            return;
        }
        let action = Action::CanaryReplaced { what, version };
        let command = Command {
            by: "gate".to_owned(),
            reason: "configuration".to_owned(),
            force: false,
            action,
        };
        self.tell(now, name, Input::Command(command));
    }

    fn pending(&self) -> Vec<String> {
        let waits = |(name, charge): &(&RolloutName, &Charge)| {
            let (Some(rollout), Some(runs)) = (self.config.rollouts.get(*name), charge.gate.plan())
            else {
                return false;
            };
            !charge.gate.is_over() && !same_plan(runs, &rollout.plan)
        };
        self.rollouts
            .iter()
            .filter(waits)
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// What a configuration says otherwise about rollouts that are not ended.
    pub(super) fn pinned_faults(&self, new: &Config) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, charge) in self.rollouts.iter().chain(&self.dormant) {
            let ended = charge.gate.is_over();
            if let Some(plan) = charge.plan.as_ref().filter(|_| !ended) {
                faults.extend(config::pinned(&self.file, name, &plan.identity, new));
            }
        }
        faults
    }
}

/// Whether two plans are the same but for the canary's version, which takes effect at once.
pub(super) fn same_plan(a: &Plan, b: &Plan) -> bool {
    **a == PlanParts {
        version: a.version.clone(),
        ..(**b).clone()
    }
}
