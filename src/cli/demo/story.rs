//! What a scenario was about, told from what was recorded: when the canary broke, when that was seen, who was hurt.

use std::time::Instant;

use super::Scenario;
use crate::clock;
use crate::records::event::{Detail, EventRecord};
use crate::rollout::time::WallTime;
use crate::stub::load::LoadReport;

/// Moments that only the demo knows.
pub(super) struct Story {
    scenario: Scenario,
    broken: Option<WallTime>,
    last_canary_request: Option<WallTime>,
}

impl Story {
    pub(super) const fn begin(scenario: Scenario) -> Self {
        Self {
            scenario,
            broken: None,
            last_canary_request: None,
        }
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(super) fn broken(&mut self, at: WallTime) {
        self.broken = Some(at);
    }

    /// `last` is when the last learner's request reached the canary.
    pub(super) fn ended(&mut self, last: Option<Instant>) {
        self.last_canary_request = last.map(|last| {
            let ago = clock::now().saturating_duration_since(last);
            WallTime::from_unix_millis(
                clock::wall().as_unix_millis() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX),
            )
        });
    }

    pub(super) fn told(&self, events: &[EventRecord], seen: &LoadReport, good: bool) -> String {
        let mut text = String::new();
        if let (Some(broken), Some(rollback)) = (self.broken, rolled_back(events)) {
            let decided = rollback.at.unix_millis();
            text.push_str(&format!(
                "seen and decided   {} ms after ultra_fast broke\n",
                decided - broken.as_unix_millis()
            ));
            if let Some(last) = self.last_canary_request {
                let after = last.as_unix_millis() - decided;
                let words = if after >= 0 {
                    format!("{after} ms after")
                } else {
                    format!("{} ms before", -after)
                };
                text.push_str(&format!("last canary request   {words} the decision\n"));
            }
        }
        let failed = seen.failed + seen.errors();
        text.push_str(&format!(
            "learners' requests   {} sent, {} answered well, {failed} not; {} of {} learners met an error\n",
            seen.sent,
            seen.ok(),
            seen.learners_hurt,
            seen.learners
        ));
        let word = match (self.scenario, good) {
            (Scenario::Healthy, true) => "complete, as it should be",
            (_, true) => "rolled back, as it should be",
            (_, false) => "NOT ended as it should",
        };
        text.push_str(&format!("the demo ended: {word}\n"));
        text
    }
}

fn rolled_back(events: &[EventRecord]) -> Option<&EventRecord> {
    events
        .iter()
        .rev()
        .find(|event| matches!(event.detail, Detail::RolledBack(_)))
}
