//! What a configuration asks of the world outside, and whom it tells, in lines: signals, hooks, channels.

use crate::config::{Config, Signal};
use crate::rollout::plan::{HookKind, Stage};

/// Each signal with all that is said of it.
pub(super) fn signals(signals: &[Signal]) -> Vec<String> {
    signals.iter().map(ToString::to_string).collect()
}

/// The names of a stage's hooks, a line for each list that has any.
pub(super) fn hooks(stage: &Stage) -> Vec<String> {
    let lists = HookKind::ALL.map(|kind| (kind, stage.hooks.of(kind)));
    let lists = lists.iter().filter(|(_, hooks)| !hooks.is_empty());
    lists
        .map(|(kind, hooks)| {
            let names: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
            format!("{}: {}", kind.as_str(), names.join(", "))
        })
        .collect()
}

/// Who is told; a channel's URL may be a secret.
pub(super) fn channels(config: &Config) -> Option<String> {
    let channels = config
        .notify
        .iter()
        .map(|channel| format!("{} ({})", channel.name, channel.kind.as_str()));
    let channels: Vec<String> = channels.collect();
    (!channels.is_empty()).then(|| channels.join(", "))
}
