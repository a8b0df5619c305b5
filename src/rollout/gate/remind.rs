//! Reminders: what waits for a person is told again and again while nobody acts.
//!
//! Makes the event; whom it reaches is for others. Never acts itself.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::snapshot::Reminder;
use super::state::{Phase, WaitsFor};
use crate::rollout::time::Now;

/// Where no plan says it.
const DEFAULT_ESCALATE_AFTER: Duration = Duration::from_secs(1800);

impl Gate {
    /// Tells of a rollout that has waited for a person for another `escalate_after`. Whatever a person does begins
    /// the time anew.
    pub(super) fn remind(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.waits_for_a_person() {
            self.state.reminder = None;
            return;
        }
        let every = self
            .plan()
            .map_or(DEFAULT_ESCALATE_AFTER, |plan| plan.gate.escalate_after);
        let reminder = self.state.reminder.get_or_insert(Reminder {
            since: now,
            told: 0,
        });
        let due = every.saturating_mul(reminder.told + 1);
        if now.mono.since(reminder.since.mono) < due {
            return;
        }
        reminder.told += 1;
        let kind = EventKind::Reminded {
            since: reminder.since,
            times: reminder.told,
        };
        self.tell(now, Author::GATE, kind, out);
    }

    fn waits_for_a_person(&self) -> bool {
        match self.state.phase {
            Phase::Held | Phase::AwaitingApproval => true,
            Phase::Scheduled | Phase::Waiting => {
                self.told_to_wait_for().contains(&WaitsFor::Person)
            }
            Phase::Idle
            | Phase::Running
            | Phase::Stabilizing
            | Phase::Paused
            | Phase::Manual
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Aborted
            | Phase::Complete => false,
        }
    }
}
