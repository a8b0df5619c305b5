//! One entry of the history as JSON: what happened, when, by whom, and how things stood afterwards.

use serde::{Deserialize, Serialize};

use super::evaluation::{EvaluationRecord, records};
use super::rehearsal::{FaultRecord, RehearsalRecord};
use super::{Moment, words};
use crate::rollout::gate::{Cause, Event, EventKind, Phase, RollbackCause};
use crate::rollout::name::RolloutName;
use crate::rollout::time::millis;

/// An event as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// 1, 2, 3, ... without gaps over all runs of the rollout.
    pub id: u64,
    pub rollout: String,
    /// 1 for the first `start`; 0 before any.
    pub run: u64,
    pub at: Moment,
    /// The gate's own monotonic time.
    pub clock_ms: u64,
    /// After the event, as are stage and weight.
    #[serde(with = "words")]
    pub phase: Phase,
    pub stage: Option<String>,
    /// The canary's share, 0 to 1, and the same in parts per million, exact.
    pub weight: f64,
    pub weight_ppm: u32,
    pub stage_time_ms: u64,
    /// The token's name; `gate` for the gate's own decisions.
    pub by: String,
    pub reason: String,
    #[serde(flatten)]
    pub detail: Detail,
}

/// What happened; the field `event` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Detail {
    Started {
        stages: usize,
    },
    StageBegan,
    Checkpoint {
        due_ms: u64,
        late: bool,
        evaluations: Vec<EvaluationRecord>,
    },
    IntervalFailed {
        from_ms: u64,
        to_ms: u64,
        evaluations: Vec<EvaluationRecord>,
    },
    Advanced {
        from: String,
        to: String,
        forced: bool,
        evaluations: Vec<EvaluationRecord>,
    },
    Completed {
        forced: bool,
        evaluations: Vec<EvaluationRecord>,
    },
    Extended {
        until_ms: u64,
        missing: Vec<String>,
        evaluations: Vec<EvaluationRecord>,
    },
    Held {
        #[serde(with = "words")]
        cause: Cause,
        evaluations: Vec<EvaluationRecord>,
    },
    CauseEnded {
        #[serde(with = "words")]
        cause: Cause,
    },
    Resumed,
    Retried,
    Paused,
    RolledBack(RolledBack),
    Aborted {
        from_weight: f64,
        from_weight_ppm: u32,
    },
    WeightSet {
        from_weight: f64,
        from_weight_ppm: u32,
        guarded: bool,
    },
    Pinned {
        learner: String,
        pool: String,
    },
    Unpinned {
        learner: String,
    },
    IncidentOpened {
        incident: u64,
        summary: String,
    },
    IncidentClosed {
        incident: u64,
    },
    AlarmNoted {
        why: String,
        evaluations: Vec<EvaluationRecord>,
    },
    CanaryReplaced {
        what: String,
    },
    RehearsalBegan {
        fault: FaultRecord,
        within_ms: u64,
    },
    RehearsalEnded(RehearsalRecord),
    Restarted {
        gap_ms: u64,
        windows_kept: bool,
    },
    ClockJumped {
        by_ms: i64,
    },
    /// An event that only a newer serin knows.
    #[serde(other)]
    Unknown,
}

/// The weight was taken down: to 0 a rollback, else a fallback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolledBack {
    pub cause: RollbackWord,
    /// The condition, where a trigger was the cause.
    pub trigger: Option<String>,
    pub from_weight: f64,
    pub from_weight_ppm: u32,
    /// Since when the condition was true.
    pub breached_since: Option<Moment>,
    /// The same moment on the gate's clock: `clock_ms - breached_since_clock_ms` is how long it took to be seen.
    pub breached_since_clock_ms: Option<u64>,
    pub evaluations: Vec<EvaluationRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackWord {
    Trigger,
    Tripwire,
    Criteria,
    Operator,
}

// === impl EventRecord ===

impl EventRecord {
    pub fn new(rollout: &RolloutName, event: &Event) -> Self {
        Self {
            id: event.id.0,
            rollout: rollout.to_string(),
            run: event.run,
            at: event.at.wall.into(),
            clock_ms: event.at.mono.as_millis(),
            phase: event.phase,
            stage: event.stage.as_ref().map(ToString::to_string),
            weight: event.weight.share(),
            weight_ppm: event.weight.ppm(),
            stage_time_ms: millis(event.stage_time),
            by: event.by.clone(),
            reason: event.reason.clone(),
            detail: Detail::from(&event.kind),
        }
    }

    /// The word of the field `event`.
    pub const fn kind(&self) -> &'static str {
        self.detail.word()
    }

    /// What was judged, empty where nothing was.
    pub fn evaluations(&self) -> &[EvaluationRecord] {
        self.detail.evaluations()
    }

    /// What took the weight down, where this event is of that.
    pub const fn rollback(&self) -> Option<&RolledBack> {
        if let Detail::RolledBack(back) = &self.detail {
            Some(back)
        } else {
            None
        }
    }
}

// === impl Detail ===

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
                forced,
            } => Self::Advanced {
                from: from.to_string(),
                to: to.to_string(),
                forced: *forced,
                evaluations: records(evaluations),
            },
            EventKind::Completed {
                evaluations,
                forced,
            } => Self::Completed {
                forced: *forced,
                evaluations: records(evaluations),
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
            EventKind::Held { cause, evaluations } => Self::Held {
                cause: *cause,
                evaluations: records(evaluations),
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
            } => Self::RolledBack(RolledBack {
                cause: RollbackWord::from(cause),
                trigger: trigger(cause),
                from_weight: from.share(),
                from_weight_ppm: from.ppm(),
                breached_since: breached_since.map(|since| since.wall.into()),
                breached_since_clock_ms: breached_since.map(|since| since.mono.as_millis()),
                evaluations: records(evaluations),
            }),
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
            EventKind::ClockJumped { by_ms } => Self::ClockJumped { by_ms: *by_ms },
        }
    }
}

fn trigger(cause: &RollbackCause) -> Option<String> {
    match cause {
        RollbackCause::Trigger(condition) => Some(condition.clone()),
        RollbackCause::Tripwire | RollbackCause::Criteria | RollbackCause::Operator => None,
    }
}

impl Detail {
    const fn word(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::StageBegan => "stage_began",
            Self::Checkpoint { .. } => "checkpoint",
            Self::IntervalFailed { .. } => "interval_failed",
            Self::Advanced { .. } => "advanced",
            Self::Completed { .. } => "completed",
            Self::Extended { .. } => "extended",
            Self::Held { .. } => "held",
            Self::CauseEnded { .. } => "cause_ended",
            Self::Resumed => "resumed",
            Self::Retried => "retried",
            Self::Paused => "paused",
            Self::RolledBack(_) => "rolled_back",
            Self::Aborted { .. } => "aborted",
            Self::WeightSet { .. } => "weight_set",
            Self::Pinned { .. } => "pinned",
            Self::Unpinned { .. } => "unpinned",
            Self::IncidentOpened { .. } => "incident_opened",
            Self::IncidentClosed { .. } => "incident_closed",
            Self::AlarmNoted { .. } => "alarm_noted",
            Self::CanaryReplaced { .. } => "canary_replaced",
            Self::RehearsalBegan { .. } => "rehearsal_began",
            Self::RehearsalEnded(_) => "rehearsal_ended",
            Self::Restarted { .. } => "restarted",
            Self::ClockJumped { .. } => "clock_jumped",
            Self::Unknown => "unknown",
        }
    }

    fn evaluations(&self) -> &[EvaluationRecord] {
        match self {
            Self::Checkpoint { evaluations, .. }
            | Self::IntervalFailed { evaluations, .. }
            | Self::Advanced { evaluations, .. }
            | Self::Completed { evaluations, .. }
            | Self::Extended { evaluations, .. }
            | Self::Held { evaluations, .. }
            | Self::RolledBack(RolledBack { evaluations, .. })
            | Self::AlarmNoted { evaluations, .. } => evaluations,
            Self::Started { .. }
            | Self::StageBegan
            | Self::CauseEnded { .. }
            | Self::Resumed
            | Self::Retried
            | Self::Paused
            | Self::Aborted { .. }
            | Self::WeightSet { .. }
            | Self::Pinned { .. }
            | Self::Unpinned { .. }
            | Self::IncidentOpened { .. }
            | Self::IncidentClosed { .. }
            | Self::CanaryReplaced { .. }
            | Self::RehearsalBegan { .. }
            | Self::RehearsalEnded(_)
            | Self::Restarted { .. }
            | Self::ClockJumped { .. }
            | Self::Unknown => &[],
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::rollout::condition::Condition;
    use crate::rollout::gate::EventId;
    use crate::rollout::name::StageName;
    use crate::rollout::time::{Now, Timestamp, WallTime};
    use crate::rollout::verdict::{Evaluation, Purpose, Verdict};
    use crate::rollout::weight::Weight;

    fn at(ms: u64) -> Now {
        Now {
            mono: Timestamp::from_millis(ms),
            wall: WallTime::from_unix_millis(1_762_005_600_000 + ms as i64),
        }
    }

    fn evaluation() -> Evaluation {
        Evaluation {
            purpose: Purpose::Rollback,
            condition: Condition::parse("p99 > 250ms for 5m").expect("a condition"),
            figure: Some(46_080.0),
            interval: None,
            baseline: None,
            requests: 380,
            window: Duration::from_secs(60),
            verdict: Verdict::Fail,
            breached_for: Some(Duration::from_secs(301)),
            learners: Some(7),
            note: String::new(),
        }
    }

    fn record(kind: EventKind) -> EventRecord {
        let event = Event {
            id: EventId(7),
            run: 2,
            at: at(1_500),
            phase: Phase::Running,
            stage: Some(StageName::parse("ramp").expect("a name")),
            weight: Weight::from_ppm(100_000).expect("below the whole"),
            stage_time: Duration::from_millis(900),
            by: "gate".to_owned(),
            reason: "because".to_owned(),
            kind,
        };
        EventRecord::new(&RolloutName::parse("analyzer").expect("a name"), &event)
    }

    #[test]
    fn an_event_is_one_flat_object_and_reads_back() {
        let check = |kind: EventKind, word: &str, detail: Value| {
            let record = record(kind);
            let json = serde_json::to_value(&record).expect("a record is JSON");
            let common = json!({
                "id": 7, "rollout": "analyzer", "run": 2, "at": "2025-11-01T14:00:01.500Z", "clock_ms": 1_500,
                "phase": "running", "stage": "ramp", "weight": 0.1, "weight_ppm": 100_000, "stage_time_ms": 900,
                "by": "gate", "reason": "because", "event": word,
            });
            let (Value::Object(mut wanted), Value::Object(detail)) = (common, detail) else {
                panic!("objects")
            };
            wanted.extend(detail);
            assert_eq!(json, Value::Object(wanted));
            assert_eq!(record.kind(), word);
            assert_eq!(
                serde_json::from_value::<EventRecord>(json).expect("what was written is read"),
                record
            );
        };
        check(
            EventKind::Started { stages: 3 },
            "started",
            json!({ "stages": 3 }),
        );
        check(EventKind::StageBegan, "stage_began", json!({}));
        check(
            EventKind::Held {
                cause: Cause::NoData,
                evaluations: Vec::new(),
            },
            "held",
            json!({ "cause": "no_data", "evaluations": [] }),
        );
        check(
            EventKind::Restarted {
                gap: Duration::from_millis(1_250),
                windows_kept: true,
            },
            "restarted",
            json!({ "gap_ms": 1_250, "windows_kept": true }),
        );
        check(
            EventKind::ClockJumped { by_ms: -9_000 },
            "clock_jumped",
            json!({ "by_ms": -9_000 }),
        );
        check(
            EventKind::RolledBack {
                cause: RollbackCause::Trigger("p99 > 250ms for 5m".to_owned()),
                from: Weight::FULL,
                breached_since: Some(at(1_000)),
                evaluations: vec![evaluation()],
            },
            "rolled_back",
            json!({
                "cause": "trigger", "trigger": "p99 > 250ms for 5m", "from_weight": 1.0, "from_weight_ppm": 1_000_000,
                "breached_since": "2025-11-01T14:00:01.000Z", "breached_since_clock_ms": 1_000,
                "evaluations": [{
                    "purpose": "rollback", "condition": "p99 > 250ms for 5m", "metric": "p99", "selector": "canary",
                    "op": ">", "limit": 250.0, "figure": 46.08, "unit": "ms", "baseline": null, "requests": 380,
                    "window_ms": 60_000, "verdict": "fail", "breached_for_ms": 301_000, "learners": 7, "note": "",
                }],
            }),
        );
    }

    #[test]
    fn what_a_newer_version_adds_is_passed_over() {
        let mut json = serde_json::to_value(record(EventKind::Paused)).expect("a record is JSON");
        json["confidence"] = "high".into();
        assert_eq!(
            serde_json::from_value::<EventRecord>(json.clone()).expect("it is read"),
            record(EventKind::Paused)
        );
        json["event"] = "approved".into();
        let read: EventRecord = serde_json::from_value(json).expect("it is read");
        assert_eq!((read.detail, read.id), (Detail::Unknown, 7));
    }
}
