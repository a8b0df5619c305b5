//! A rollout in the middle of its ramp, for the tests of the parts of `watch`.

use std::time::Duration;

use serde_json::{Value, json};

use super::action::{Action, Order};
use super::model::At;
use crate::admin::wire::RolloutAnswer;
use crate::records::event::EventRecord;
use crate::records::people::ApprovalRecord;
use crate::records::sample::SampleRecord;
use crate::rollout::time::WallTime;

/// 2025-11-01T14:00:00Z.
const BEGAN_MS: i64 = 1_762_005_600_000;

/// So many seconds after the watch began.
pub(super) fn at(seconds: u64) -> At {
    At {
        since: Duration::from_secs(seconds),
        wall: WallTime::from_unix_millis(BEGAN_MS + seconds as i64 * 1_000),
    }
}

/// Stage ramp of three, 43 minutes into it: all is well but P99.
pub(super) fn answer() -> RolloutAnswer {
    serde_json::from_value(state()).expect("a state")
}

/// The same as the port sends it.
pub(super) fn state() -> Value {
    let mut plan: Value =
        serde_json::from_str(include_str!("../../../tests/data/plan.json")).expect("a plan");
    let mut last = plan["stages"][1].clone();
    (last["name"], last["weight"]) = (json!("rollout"), json!("100%"));
    plan["stages"][1]["checkpoints"] = json!(["1h", "2h", "4h"]);
    plan["stages"].as_array_mut().expect("stages").push(last);
    let mut state = json!({
        "rollout": "analyzer", "at": "2025-11-01T14:00:00Z", "clock_ms": 2_600_000, "phase": "running", "run": 1,
        "started": "2025-11-01T11:17:00Z", "started_clock_ms": 0, "ended": null, "ended_clock_ms": null,
        "stage": "ramp", "stage_index": 1, "weight": 0.1, "weight_ppm": 100_000,
        "weights": { "original": 0.9, "ultra_fast": 0.1 }, "epoch": 4,
        "pools": { "baseline": "original", "canary": "ultra_fast" },
        "awaiting_store": null, "guarded": true, "closed": false,
        "stage_time_ms": 2_580_000, "stage_ends_at_ms": 14_400_000, "warming_up": false,
        "causes": [], "incidents": [], "pins": [],
    });
    let more = json!({
        "figures": { "baseline": figures(2_677.0, 0.000_1, 111.0), "canary": figures(305.0, 0.000_2, 231.0) },
        "evidence": evidence(),
        "evaluations": [
            judged(["advance", "error_rate < 0.5%", "error_rate", "<", "share", "pass"], 0.005, 0.000_2),
            judged(["advance", "p99 < 200ms", "p99", "<", "ms", "fail"], 200.0, 231.0),
            judged(["rollback", "error_rate > 1.5% for 2m", "error_rate", ">", "share", "pass"], 0.015, 0.000_2),
            breached(),
        ],
        "checkpoints_done": 0, "outlook": "advances in 3h17m; now p99 < 200ms is not met", "last_event": 12,
        "plan_hash": "abc", "plan": plan,
        "weights_in_force": { "original": 0.9, "ultra_fast": 0.1 }, "plan_pending": false, "store_fault": null,
    });
    let (fields, more) = (state.as_object_mut(), more.as_object().cloned());
    fields.expect("an object").extend(more.expect("an object"));
    state
}

fn evidence() -> Value {
    json!({
        "alpha": 0.01, "ln_limit": 4.605, "ln_weighted": 1.2, "alarm": false, "since": "2025-11-01T11:17:00Z",
        "restarts": 0, "blocks": 2_580,
        "processes": [
            { "name": "errors", "weight": 0.25, "ln_e": 0.5, "ln_weighted": -0.89, "failing_learners": 3, "blocks": 2_580 },
            { "name": "latency", "weight": 0.25, "ln_e": 2.6, "ln_weighted": 1.2, "failing_learners": 41, "blocks": 2_580 },
        ],
        "segments": [], "ln_weighted_by_request": 0.0, "by_request_alone": false,
    })
}

fn figures(throughput: f64, errors: f64, p99: f64) -> Value {
    let span = json!({
        "requests": (throughput * 60.0) as u64, "errors": 3, "failed": 0, "client_errors": 0, "abandoned": 0,
        "error_rate": errors, "client_error_rate": 0.0, "availability": 1.0, "uptime": 1.0,
        "p50_ms": p99 / 3.0, "p95_ms": p99 / 1.2, "p99_ms": p99, "p999_ms": p99 * 1.1,
        "throughput": throughput, "learners": 1_170,
    });
    json!({ "recent": span, "stage": span, "run": span })
}

fn judged(words: [&str; 6], limit: f64, figure: f64) -> Value {
    let [purpose, condition, metric, op, unit, verdict] = words;
    json!({
        "purpose": purpose, "condition": condition, "metric": metric, "selector": "canary", "op": op,
        "limit": limit, "figure": figure, "unit": unit, "baseline": figure / 2.0,
        "requests": 18_300, "window_ms": 60_000, "verdict": verdict,
    })
}

fn breached() -> Value {
    let words = ["rollback", "p99 > 220ms for 5m", "p99", ">", "ms", "fail"];
    let mut breached = judged(words, 220.0, 231.0);
    breached["breached_for_ms"] = json!(40_000);
    breached
}

pub(super) fn event(id: u64) -> EventRecord {
    let event = json!({
        "id": id, "rollout": "analyzer", "run": 1, "at": "2025-11-01T14:00:09Z", "clock_ms": id * 1_000,
        "phase": "running", "stage": "ramp", "weight": 0.1, "weight_ppm": 100_000, "stage_time_ms": 0,
        "by": "ops", "reason": "", "event": "paused",
    });
    serde_json::from_value(event).expect("an event")
}

/// A step with this error rate on canary, at this time of the gate's clock.
pub(super) fn sample(clock_ms: u64, error_rate: f64) -> SampleRecord {
    let span = json!({
        "requests": 10, "errors": 1, "failed": 0, "client_errors": 0, "abandoned": 0, "error_rate": error_rate,
        "client_error_rate": null, "availability": null, "uptime": null, "p50_ms": 5.0, "p95_ms": 40.0, "p99_ms": 48.0,
        "p999_ms": null, "throughput": 1.0, "learners": null,
    });
    let sample = json!({
        "at": "2025-11-01T14:00:00Z", "clock_ms": clock_ms, "width_ms": 10_000, "baseline": span, "canary": span,
    });
    serde_json::from_value(sample).expect("a sample")
}

pub(super) fn approval() -> ApprovalRecord {
    let approval = json!({
        "asked": 12, "since": "2025-11-01T14:00:00Z", "given": [], "missing": ["engineering", "finance"],
    });
    serde_json::from_value(approval).expect("an approval")
}

pub(super) fn order(action: Action, reason: &str) -> Order {
    Order {
        action,
        reason: reason.to_owned(),
        force: false,
        role: None,
        seen: None,
        plan_hash: None,
    }
}
