//! Which events end something that a report is written of: a stage, a run, or what followed a rollback.

use crate::records::event::{Detail, EventRecord};
use crate::rollout::gate::Cause;

/// What an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed<'a> {
    /// This stage: it passed, failed, or was left.
    Stage(&'a str),
    /// Nothing by itself, but what is known of the run's end changed.
    Run,
}

/// What the event ended; `None` where the run just goes on.
pub fn closed(event: &EventRecord) -> Option<Closed<'_>> {
    let stage = event.stage.as_deref().map(Closed::Stage);
    match &event.detail {
        Detail::Advanced { from, .. } => Some(Closed::Stage(from)),
        Detail::Completed { .. } | Detail::RolledBack(_) | Detail::Aborted { .. } => {
            stage.or(Some(Closed::Run))
        }
        Detail::ApprovalAsked { .. } => stage,
        // A stage that ended without meeting its criteria.
        Detail::Held {
            cause: Cause::Criteria,
            ..
        } => stage,
        Detail::Recovered(_) | Detail::NotRecovered(_) => Some(Closed::Run),
        Detail::Held { .. }
        | Detail::Started { .. }
        | Detail::StageBegan
        | Detail::Checkpoint { .. }
        | Detail::IntervalFailed { .. }
        | Detail::Extended { .. }
        | Detail::CauseEnded { .. }
        | Detail::Resumed
        | Detail::Retried
        | Detail::Paused
        | Detail::WeightSet { .. }
        | Detail::Pinned { .. }
        | Detail::Unpinned { .. }
        | Detail::CeilingSet { .. }
        | Detail::CeilingLifted { .. }
        | Detail::SegmentLowered(_)
        | Detail::IncidentOpened { .. }
        | Detail::IncidentClosed { .. }
        | Detail::AlarmNoted { .. }
        | Detail::CanaryReplaced { .. }
        | Detail::RehearsalBegan { .. }
        | Detail::RehearsalEnded(_)
        | Detail::Restarted { .. }
        | Detail::FleetNoted { .. }
        | Detail::ClockJumped { .. }
        | Detail::Scheduled { .. }
        | Detail::Approved { .. }
        | Detail::ApprovalsVoided { .. }
        | Detail::Waits { .. }
        | Detail::Frozen { .. }
        | Detail::Unfrozen
        | Detail::LevelBegan { .. }
        | Detail::DayBegan { .. }
        | Detail::StabilizationRestarted { .. }
        | Detail::Reminded { .. }
        | Detail::HookStarted { .. }
        | Detail::HookEnded { .. }
        | Detail::Unknown => None,
    }
}
