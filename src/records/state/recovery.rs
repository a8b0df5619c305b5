//! The saved form of a rollback whose consequences are watched.

use serde::{Deserialize, Serialize};

use super::mirror::Moments;
use crate::records::words;
use crate::rollout::gate::{EndedHook, EventId, HookOutcome, Recovery};
use crate::rollout::time::Timestamp;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecoveryState {
    rollback: u64,
    alarm: Moments,
    back: Moments,
    stage: usize,
    hooks: Vec<EndedHookState>,
    health_ms: Option<u64>,
    errors_ms: Option<u64>,
    latency_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndedHookState {
    name: String,
    #[serde(with = "words")]
    outcome: HookOutcome,
    at_ms: u64,
}

impl From<&Recovery> for RecoveryState {
    fn from(recovery: &Recovery) -> Self {
        let hooks = recovery.hooks.iter().map(|hook| EndedHookState {
            name: hook.name.clone(),
            outcome: hook.outcome,
            at_ms: hook.at.as_millis(),
        });
        Self {
            rollback: recovery.rollback.0,
            alarm: recovery.alarm.into(),
            back: recovery.back.into(),
            stage: recovery.stage,
            hooks: hooks.collect(),
            health_ms: recovery.health.map(Timestamp::as_millis),
            errors_ms: recovery.errors.map(Timestamp::as_millis),
            latency_ms: recovery.latency.map(Timestamp::as_millis),
        }
    }
}

impl From<RecoveryState> for Recovery {
    fn from(state: RecoveryState) -> Self {
        let hooks = state.hooks.into_iter().map(|hook| EndedHook {
            name: hook.name,
            outcome: hook.outcome,
            at: Timestamp::from_millis(hook.at_ms),
        });
        Self {
            rollback: EventId(state.rollback),
            alarm: state.alarm.into(),
            back: state.back.into(),
            stage: state.stage,
            hooks: hooks.collect(),
            health: state.health_ms.map(Timestamp::from_millis),
            errors: state.errors_ms.map(Timestamp::from_millis),
            latency: state.latency_ms.map(Timestamp::from_millis),
        }
    }
}
