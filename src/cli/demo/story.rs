//! What a scenario was about, told from what was recorded: when the canary broke, when that was seen, who was hurt.

use std::time::Instant;

use super::Scenario;
use crate::clock;
use crate::records::event::EventRecord;
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
        if let (Some(broken), Some(taken_back)) = (self.broken, taken_back(events)) {
            let decided = taken_back.at.unix_millis();
            text.push_str(&format!(
                "seen and decided   {} ms after ultra_fast broke\n",
                decided - broken.as_unix_millis()
            ));
            // Where one segment alone went back, the others still go there.
            let last = self.last_canary_request;
            if let Some(last) = last.filter(|_| taken_back.lowered().is_none()) {
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
            (Scenario::Segment, true) => "complete without the sick segment, as it should be",
            (Scenario::Errors | Scenario::Latency, true) => "rolled back, as it should be",
            (_, false) => "NOT ended as it should",
        };
        text.push_str(&format!("the demo ended: {word}\n"));
        text
    }
}

// What the demo broke was taken off canary by this: everybody, or one segment.
fn taken_back(events: &[EventRecord]) -> Option<&EventRecord> {
    events
        .iter()
        .rev()
        .find(|event| event.rollback().is_some() || event.lowered().is_some())
}
