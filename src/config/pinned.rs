//! What a new file must leave as it is while a rollout has not ended.
//!
//! Who a learner is, where his hash puts him, and the two pools. Whether a rollout has ended is for
//! the caller to know.

use super::{Config, Fault};
use crate::rollout::name::RolloutName;
use crate::rollout::plan::Identity;

/// Every change that would move learners behind a running rollout's back; none means that the file may be
/// applied. Ask only for rollouts that are neither idle, complete, rolled back nor aborted.
pub fn pinned(file: &str, rollout: &RolloutName, running: &Identity, new: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut refuse = |key: String, what: String| {
        let message = format!(
            "{what} while rollout {:?} is not ended: start with the old file, `serin abort`, then change",
            rollout.as_str()
        );
        faults.push(Fault {
            file: file.to_owned(),
            line: None,
            key,
            message,
        });
    };
    for pool in [&running.baseline, &running.canary] {
        if !new.pools.contains_key(pool) {
            refuse(
                format!("pools.{pool}"),
                "the pool cannot be removed".to_owned(),
            );
        }
    }
    let Some(changed) = new.rollouts.get(rollout) else {
        refuse(
            format!("rollouts.{rollout}"),
            "the rollout cannot be removed".to_owned(),
        );
        return faults;
    };
    for ((key, old), (_, new)) in rows(running).into_iter().zip(rows(&changed.plan.identity)) {
        if old != new {
            refuse(
                format!("rollouts.{rollout}.{key}"),
                format!("cannot change from {old} to {new}"),
            );
        }
    }
    faults
}

fn rows(identity: &Identity) -> [(&'static str, String); 5] {
    [
        ("baseline", identity.baseline.to_string()),
        ("canary", identity.canary.to_string()),
        ("salt", format!("{:?}", identity.salt)),
        ("learner", identity.learner.join(", ")),
        (
            "segment",
            identity
                .segment
                .clone()
                .unwrap_or_else(|| "false".to_owned()),
        ),
    ]
}
