//! What the gates say to the data path of the process that was replaced.
//!
//! A rollout that means other pools or another salt there is left as it is: its weight would move other learners.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::Fault;
use super::protocol::Message;
use crate::live::{Live, Rollout, RolloutSettings, Table};
use crate::records::handed::SplitLine;
use crate::rollout::name::Arm;
use crate::rollout::time::millis;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SettingsLine {
    means: Means,
    split: SplitLine,
    latency_limits_us: Vec<u64>,
    patience_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failover_after_ms: Option<u64>,
}

/// What a split is of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Means {
    baseline: String,
    canary: String,
    /// The hash of one fixed learner: another salt gives another one.
    salt: u64,
}

/// Every rollout as the table in force has it.
pub(super) fn messages(live: &Live) -> Vec<Message> {
    let table = live.load();
    let message = |rollout: &Rollout| {
        let settings = rollout.settings();
        Message::Settings(SettingsLine {
            means: Means::of(&table, rollout),
            split: SplitLine::new(&rollout.name, &settings.split),
            latency_limits_us: settings.latency_limits_us,
            patience_ms: millis(settings.patience),
            failover_after_ms: settings.failover_after.map(millis),
        })
    };
    let rollouts = table.rollouts().iter();
    rollouts.map(|rollout| message(rollout)).collect()
}

/// Puts what was said in force here.
pub(super) fn apply(live: &Live, line: SettingsLine) -> Result<(), Fault> {
    let strange = |why: &dyn std::fmt::Display| Fault::Strange(why.to_string());
    let (name, split) = line.split.read().map_err(|why| strange(&why))?;
    let table = live.load();
    let Some(index) = table.find_rollout(&name) else {
        return Ok(());
    };
    let rollout = table.rollout(index);
    if Means::of(&table, rollout) != line.means {
        tracing::debug!(rollout = %name, "the split of a rollout with other pools or another salt");
        return Ok(());
    }
    if rollout.split == split {
        return Ok(());
    }
    tracing::info!(rollout = %name, weight = %split.weight, epoch = split.epoch, "the serin that took over moves the split");
    let settings = RolloutSettings {
        split,
        latency_limits_us: line.latency_limits_us,
        patience: Duration::from_millis(line.patience_ms),
        failover_after: line.failover_after_ms.map(Duration::from_millis),
        injection: None,
        // What the old process finishes began in the stage that it knew.
        stage: rollout.stage.clone(),
    };
    live.publish(table.with_settings(&name, settings));
    Ok(())
}

impl Means {
    fn of(table: &Table, rollout: &Rollout) -> Self {
        let pool = |arm| table.pool(rollout.pool(arm)).name.to_string();
        Self {
            baseline: pool(Arm::Baseline),
            canary: pool(Arm::Canary),
            salt: rollout.salt.hash(b"takeover").raw(),
        }
    }
}
