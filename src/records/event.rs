//! One entry of the history as JSON: what happened, when, by whom, and how things stood afterwards.
//!
//! `detail` has what each kind of event says beside that, `published` how it is made of the gate's own.

mod detail;
mod published;

use serde::{Deserialize, Serialize};

use super::confidence::ConfidenceRecord;
use super::evaluation::EvaluationRecord;
use super::recovery::RecoveryRecord;
use super::{Moment, words};
use crate::rollout::gate::{Event, Phase};
use crate::rollout::name::RolloutName;
use crate::rollout::time::millis;

pub use detail::{Detail, RollbackWord, RolledBack, SegmentLowered};

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

    /// The segment that a trigger took off canary, where this event is of that.
    pub const fn lowered(&self) -> Option<&SegmentLowered> {
        if let Detail::SegmentLowered(lowered) = &self.detail {
            Some(lowered)
        } else {
            None
        }
    }

    /// What followed a rollback, where this event is of that.
    pub const fn recovery(&self) -> Option<&RecoveryRecord> {
        match &self.detail {
            Detail::Recovered(recovery) | Detail::NotRecovered(recovery) => Some(recovery),
            _ => None,
        }
    }

    /// How sure a decision was, where this event is of one.
    pub const fn confidence(&self) -> Option<&ConfidenceRecord> {
        match &self.detail {
            Detail::Advanced { confidence, .. }
            | Detail::Completed { confidence, .. }
            | Detail::Held { confidence, .. }
            | Detail::ApprovalAsked { confidence, .. }
            | Detail::RolledBack(RolledBack { confidence, .. }) => confidence.as_ref(),
            _ => None,
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::rollout::condition::Condition;
    use crate::rollout::gate::{Cause, EventId, EventKind, RollbackCause, WaitsFor};
    use crate::rollout::name::{RoleName, StageName};
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
            segment: None,
            figure: Some(46_080.0),
            interval: None,
            interval_says: None,
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
                confidence: None,
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
        let role = |name: &str| RoleName::parse(name).expect("a name");
        check(
            EventKind::Approved {
                role: role("engineering"),
                asked: EventId(5),
                plan: "ab".to_owned(),
                missing: vec![role("finance")],
                evaluations: Vec::new(),
            },
            "approved",
            json!({
                "role": "engineering", "asked": 5, "plan_hash": "ab", "missing": ["finance"], "evaluations": [],
            }),
        );
        check(
            EventKind::Waits {
                waits_for: vec![WaitsFor::StartAt, WaitsFor::Freeze],
                evaluations: Vec::new(),
            },
            "waits",
            json!({ "waits_for": ["start_at", "freeze"], "evaluations": [] }),
        );
        check(
            EventKind::Frozen {
                until: Some(at(2_000).wall),
            },
            "frozen",
            json!({ "until": "2025-11-01T14:00:02.000Z" }),
        );
        check(
            EventKind::CeilingSet {
                segment: "eu".to_owned(),
                from: Weight::FULL,
                to: Weight::from_ppm(50_000).expect("below the whole"),
            },
            "ceiling_set",
            json!({
                "segment": "eu", "from_ceiling": 1.0, "from_ceiling_ppm": 1_000_000,
                "ceiling": 0.05, "ceiling_ppm": 50_000,
            }),
        );
        check(
            EventKind::SegmentLowered {
                segment: "eu".to_owned(),
                condition: "error_rate > 1% per segment".to_owned(),
                from: Weight::FULL,
                breached_since: at(1_000),
                evaluations: Vec::new(),
            },
            "segment_lowered",
            json!({
                "segment": "eu", "trigger": "error_rate > 1% per segment", "from_ceiling": 1.0,
                "from_ceiling_ppm": 1_000_000, "breached_since": "2025-11-01T14:00:01.000Z",
                "breached_since_clock_ms": 1_000, "evaluations": [],
            }),
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
                confidence: None,
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
        json["event"] = "applauded".into();
        let read: EventRecord = serde_json::from_value(json).expect("it is read");
        assert_eq!((read.detail, read.id), (Detail::Unknown, 7));
    }
}
