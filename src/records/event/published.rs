//! The gate's own events as they are published.

use super::detail::{Detail, RollbackWord, RolledBack, SegmentLowered};
use crate::records::Moment;
use crate::records::confidence::ConfidenceRecord;
use crate::records::evaluation::records;
use crate::records::people::{WaitsForWord, texts};
use crate::records::rehearsal::{FaultRecord, RehearsalRecord};
use crate::rollout::gate::{Confidence, EventKind, RollbackCause};
use crate::rollout::time::millis;

impl From<&EventKind> for Detail {
    fn from(kind: &EventKind) -> Self {
        match kind {
            EventKind::Started { stages } => Self::Started { stages: *stages },
            EventKind::StageBegan => Self::StageBegan,
            EventKind::Checkpoint {
                due,
                late,
                evaluations,
            } => Self::Checkpoint {
                due_ms: millis(*due),
                late: *late,
                evaluations: records(evaluations),
            },
            EventKind::IntervalFailed {
                from,
                to,
                evaluations,
            } => Self::IntervalFailed {
                from_ms: millis(*from),
                to_ms: millis(*to),
                evaluations: records(evaluations),
            },
            EventKind::Advanced {
                from,
                to,
                evaluations,
                confidence,
                forced,
            } => Self::Advanced {
                from: from.to_string(),
                to: to.to_string(),
                forced: *forced,
                evaluations: records(evaluations),
                confidence: published(confidence),
            },
            EventKind::Completed {
                evaluations,
                confidence,
                forced,
            } => Self::Completed {
                forced: *forced,
                evaluations: records(evaluations),
                confidence: published(confidence),
            },
            EventKind::Extended {
                until,
                missing,
                evaluations,
            } => Self::Extended {
                until_ms: millis(*until),
                missing: missing.clone(),
                evaluations: records(evaluations),
            },
            EventKind::Held {
                cause,
                evaluations,
                confidence,
            } => Self::Held {
                cause: *cause,
                evaluations: records(evaluations),
                confidence: published(confidence),
            },
            EventKind::CauseEnded { cause } => Self::CauseEnded { cause: *cause },
            EventKind::Resumed => Self::Resumed,
            EventKind::Retried => Self::Retried,
            EventKind::Paused => Self::Paused,
            EventKind::RolledBack {
                cause,
                from,
                breached_since,
                evaluations,
                confidence,
            } => Self::RolledBack(RolledBack {
                cause: RollbackWord::from(cause),
                trigger: trigger(cause),
                from_weight: from.share(),
                from_weight_ppm: from.ppm(),
                breached_since: breached_since.map(|since| since.wall.into()),
                breached_since_clock_ms: breached_since.map(|since| since.mono.as_millis()),
                evaluations: records(evaluations),
                confidence: published(confidence),
            }),
            EventKind::Recovered(recovered) => Self::Recovered(recovered.into()),
            EventKind::NotRecovered(recovered) => Self::NotRecovered(recovered.into()),
            EventKind::Aborted { from } => Self::Aborted {
                from_weight: from.share(),
                from_weight_ppm: from.ppm(),
            },
            EventKind::WeightSet { from, guarded } => Self::WeightSet {
                from_weight: from.share(),
                from_weight_ppm: from.ppm(),
                guarded: *guarded,
            },
            EventKind::Pinned { learner, pool } => Self::Pinned {
                learner: learner.clone(),
                pool: pool.clone(),
            },
            EventKind::Unpinned { learner } => Self::Unpinned {
                learner: learner.clone(),
            },
            EventKind::CeilingSet { segment, from, to } => Self::CeilingSet {
                segment: segment.clone(),
                from_ceiling: from.share(),
                from_ceiling_ppm: from.ppm(),
                ceiling: to.share(),
                ceiling_ppm: to.ppm(),
            },
            EventKind::CeilingLifted { segment, from } => Self::CeilingLifted {
                segment: segment.clone(),
                from_ceiling: from.share(),
                from_ceiling_ppm: from.ppm(),
            },
            EventKind::SegmentLowered {
                segment,
                condition,
                from,
                breached_since,
                evaluations,
            } => Self::SegmentLowered(SegmentLowered {
                segment: segment.clone(),
                trigger: condition.clone(),
                from_ceiling: from.share(),
                from_ceiling_ppm: from.ppm(),
                breached_since: breached_since.wall.into(),
                breached_since_clock_ms: breached_since.mono.as_millis(),
                evaluations: records(evaluations),
            }),
            EventKind::IncidentOpened { incident, summary } => Self::IncidentOpened {
                incident: *incident,
                summary: summary.clone(),
            },
            EventKind::IncidentClosed { incident } => Self::IncidentClosed {
                incident: *incident,
            },
            EventKind::AlarmNoted { why, evaluations } => Self::AlarmNoted {
                why: why.clone(),
                evaluations: records(evaluations),
            },
            EventKind::CanaryReplaced { what } => Self::CanaryReplaced { what: what.clone() },
            EventKind::RehearsalBegan { injection, within } => Self::RehearsalBegan {
                fault: FaultRecord::from(*injection),
                within_ms: millis(*within),
            },
            EventKind::RehearsalEnded(outcome) => {
                Self::RehearsalEnded(RehearsalRecord::from(outcome))
            }
            EventKind::Restarted { gap, windows_kept } => Self::Restarted {
                gap_ms: millis(*gap),
                windows_kept: *windows_kept,
            },
            EventKind::FleetNoted { what } => Self::FleetNoted { what: what.clone() },
            EventKind::ClockJumped { by_ms } => Self::ClockJumped { by_ms: *by_ms },
            EventKind::Scheduled { stages, start_at } => Self::Scheduled {
                stages: *stages,
                start_at: (*start_at).into(),
            },
            EventKind::ApprovalAsked {
                roles,
                evaluations,
                confidence,
            } => Self::ApprovalAsked {
                roles: texts(roles),
                evaluations: records(evaluations),
                confidence: published(confidence),
            },
            EventKind::Approved {
                role,
                asked,
                plan,
                missing,
                evaluations,
            } => Self::Approved {
                role: role.to_string(),
                asked: asked.0,
                plan_hash: plan.clone(),
                missing: texts(missing),
                evaluations: records(evaluations),
            },
            EventKind::ApprovalsVoided { roles, why } => Self::ApprovalsVoided {
                roles: texts(roles),
                why: why.clone(),
            },
            EventKind::Waits {
                waits_for,
                evaluations,
            } => Self::Waits {
                waits_for: waits_for.iter().copied().map(WaitsForWord).collect(),
                evaluations: records(evaluations),
            },
            EventKind::Frozen { until } => Self::Frozen {
                until: until.map(Moment::from),
            },
            EventKind::Unfrozen => Self::Unfrozen,
            EventKind::LevelBegan { level, report } => Self::LevelBegan {
                level: level.clone(),
                report_ms: report.map(millis),
            },
            EventKind::DayBegan {
                day,
                days,
                alpha,
                evaluations,
            } => Self::DayBegan {
                day: *day,
                days: *days,
                alpha: *alpha,
                evaluations: records(evaluations),
            },
            EventKind::StabilizationRestarted { after, evaluations } => {
                Self::StabilizationRestarted {
                    after_ms: millis(*after),
                    evaluations: records(evaluations),
                }
            }
            EventKind::Reminded { since, times } => Self::Reminded {
                since: since.wall.into(),
                since_clock_ms: since.mono.as_millis(),
                times: *times,
            },
            EventKind::HookStarted { hook, again } => Self::HookStarted {
                hook: hook.into(),
                again: *again,
            },
            EventKind::HookEnded { hook, ending } => Self::HookEnded {
                hook: hook.into(),
                ending: ending.into(),
            },
        }
    }
}

fn published(confidence: &Option<Confidence>) -> Option<ConfidenceRecord> {
    confidence.as_ref().map(ConfidenceRecord::from)
}

fn trigger(cause: &RollbackCause) -> Option<String> {
    match cause {
        RollbackCause::Trigger(condition) => Some(condition.clone()),
        RollbackCause::Tripwire | RollbackCause::Criteria | RollbackCause::Operator => None,
    }
}

impl From<&RollbackCause> for RollbackWord {
    fn from(cause: &RollbackCause) -> Self {
        match cause {
            RollbackCause::Trigger(_) => Self::Trigger,
            RollbackCause::Tripwire => Self::Tripwire,
            RollbackCause::Criteria => Self::Criteria,
            RollbackCause::Operator => Self::Operator,
        }
    }
}
