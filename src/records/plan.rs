//! A plan as JSON, in the words and forms of proxy.toml, both ways, and its hash.

mod time;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hook::HooksRecord;
use crate::rollout::condition::Condition;
use crate::rollout::name::{PoolName, RoleName, RolloutName, SignalName, StageName};
use crate::rollout::plan::{
    EvidenceParts, GateParts, Identity, Mode, OnFailure, OnSuccess, Plan, PlanParts, Stage,
};
use crate::rollout::signal::{ArmsRead, SignalKind, SignalSpec};
use crate::rollout::time::{format_duration, parse_duration};
use crate::rollout::weight::Weight;

pub use time::{LevelRecord, ScheduleRecord, StabilizationRecord, WindowRecord};

/// A plan as published. Durations (`"1h30m"`, to the microsecond), weights (`"1%"`) and conditions are text as a
/// person types them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub rollout: String,
    pub baseline: String,
    pub canary: String,
    pub salt: String,
    pub learner: Vec<String>,
    pub segment: Option<String>,
    pub version: String,
    pub holdout: String,
    #[serde(default)]
    pub mode: ModeRecord,
    pub gate: GateRecord,
    /// Left out where there are none, as in plans of older states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalRecord>,
    pub stages: Vec<StageRecord>,
    #[serde(default)]
    pub stabilization: Option<StabilizationRecord>,
}

/// A signal as far as the gate knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    pub name: String,
    /// How often it is read; `null` where it comes from outcomes of learners.
    pub interval: Option<String>,
    /// Whether baseline is read as well.
    pub baseline: bool,
    /// Whether an unproven criterion lets the stage go on.
    pub unproven_passes: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateRecord {
    pub outage_patience: String,
    pub max_gap: String,
    pub cooldown: String,
    #[serde(default = "twelve_hours")]
    pub approval_ttl: String,
    #[serde(default = "half_an_hour")]
    pub escalate_after: String,
    /// 0.0 to 1.0.
    pub baseline_min_healthy: f64,
    #[serde(default = "min_segment_requests")]
    pub min_segment_requests: u64,
    #[serde(default = "max_segments")]
    pub max_segments: u64,
    #[serde(default = "max_failed_segments")]
    pub max_failed_segments: u64,
    /// `null` where switched off.
    pub tripwire: Option<String>,
    /// Plans that were recorded before there was evidence have the defaults.
    #[serde(default = "unsaid_alpha")]
    pub alpha: f64,
    #[serde(default = "unsaid_odds_margin")]
    pub odds_margin: f64,
    pub speed: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeRecord {
    #[default]
    Rollout,
    Aa,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    pub name: String,
    pub weight: String,
    pub duration: String,
    pub warmup: String,
    pub checkpoints: Vec<String>,
    pub min_requests: u64,
    pub min_window_requests: u64,
    pub max_extension: String,
    pub advance: Vec<String>,
    pub hold: Vec<String>,
    pub rollback: Vec<String>,
    pub on_success: OnSuccessRecord,
    pub on_failure: OnFailureRecord,
    /// `"0%"` is a rollback, more is a fallback weight.
    pub on_rollback: String,
    #[serde(default)]
    pub schedule: ScheduleRecord,
    #[serde(default, skip_serializing_if = "HooksRecord::is_empty")]
    pub hooks: HooksRecord,
}

/// `"advance"`, `"hold"`, or `{"approve": ["engineering"]}` with the roles that are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSuccessRecord {
    Advance,
    Approve(Vec<String>),
    Hold,
}

// What a plan that was saved before these were known goes by.
const fn min_segment_requests() -> u64 {
    100
}

const fn max_segments() -> u64 {
    64
}

const fn max_failed_segments() -> u64 {
    2
}

/// `"hold"`, `"rollback"`, or `{"weight": "0.5%"}`, as in proxy.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OnFailureRecord {
    Word(OnFailureWord),
    Fallback { weight: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailureWord {
    Hold,
    Rollback,
}

// What held before a plan could say it.
fn twelve_hours() -> String {
    "12h".to_owned()
}

fn half_an_hour() -> String {
    "30m".to_owned()
}

/// Why a record is not a plan: every fault, or the first text that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a plan: {0}")]
pub struct PlanRecordError(String);

/// The hash that approvals, logs and reports name a plan by.
pub fn plan_hash(plan: &Plan) -> String {
    PlanRecord::from(plan).hash()
}

// === impl PlanRecord ===

impl PlanRecord {
    /// SHA-256, in hex, of the record's JSON without blanks and with the fields in the order declared here.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a record of texts and finite numbers is JSON");
        hex(&Sha256::digest(json))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<&Plan> for PlanRecord {
    fn from(plan: &Plan) -> Self {
        let identity = &plan.identity;
        Self {
            rollout: plan.rollout.to_string(),
            baseline: identity.baseline.to_string(),
            canary: identity.canary.to_string(),
            salt: identity.salt.clone(),
            learner: identity.learner.clone(),
            segment: identity.segment.clone(),
            version: plan.version.clone(),
            holdout: plan.holdout.to_string(),
            mode: match plan.gate.mode {
                Mode::Rollout => ModeRecord::Rollout,
                Mode::Aa => ModeRecord::Aa,
            },
            gate: GateRecord::from(&plan.gate),
            signals: plan.signals.iter().map(SignalRecord::from).collect(),
            stages: plan.stages.iter().map(StageRecord::from).collect(),
            stabilization: plan.stabilization.as_ref().map(StabilizationRecord::from),
        }
    }
}

impl From<&GateParts> for GateRecord {
    fn from(gate: &GateParts) -> Self {
        Self {
            outage_patience: format_duration(gate.outage_patience),
            max_gap: format_duration(gate.max_gap),
            cooldown: format_duration(gate.cooldown),
            approval_ttl: format_duration(gate.approval_ttl),
            escalate_after: format_duration(gate.escalate_after),
            baseline_min_healthy: gate.baseline_min_healthy,
            min_segment_requests: gate.min_segment_requests,
            max_segments: gate.max_segments,
            max_failed_segments: gate.max_failed_segments,
            tripwire: gate.tripwire.as_ref().map(ToString::to_string),
            alpha: gate.evidence.alpha,
            odds_margin: gate.evidence.odds_margin,
            speed: gate.speed,
        }
    }
}

fn unsaid_alpha() -> f64 {
    EvidenceParts::default().alpha
}

fn unsaid_odds_margin() -> f64 {
    EvidenceParts::default().odds_margin
}

impl From<&SignalSpec> for SignalRecord {
    fn from(spec: &SignalSpec) -> Self {
        let (interval, baseline) = match spec.kind {
            SignalKind::Read { interval, arms } => {
                (Some(format_duration(interval)), arms == ArmsRead::Both)
            }
            SignalKind::Outcomes => (None, true),
        };
        Self {
            name: spec.name.to_string(),
            interval,
            baseline,
            unproven_passes: spec.unproven_passes,
        }
    }
}

impl From<&Stage> for StageRecord {
    fn from(stage: &Stage) -> Self {
        Self {
            name: stage.name.to_string(),
            weight: stage.weight.to_string(),
            duration: format_duration(stage.duration),
            warmup: format_duration(stage.warmup),
            checkpoints: stage
                .checkpoints
                .iter()
                .copied()
                .map(format_duration)
                .collect(),
            min_requests: stage.min_requests,
            min_window_requests: stage.min_window_requests,
            max_extension: format_duration(stage.max_extension),
            advance: texts(&stage.advance),
            hold: texts(&stage.hold),
            rollback: texts(&stage.rollback),
            on_success: OnSuccessRecord::from(&stage.on_success),
            on_failure: stage.on_failure.into(),
            on_rollback: stage.on_rollback.to_string(),
            schedule: ScheduleRecord::from(&stage.schedule),
            hooks: HooksRecord::from(&stage.hooks),
        }
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

impl From<&OnSuccess> for OnSuccessRecord {
    fn from(then: &OnSuccess) -> Self {
        match then {
            OnSuccess::Advance => Self::Advance,
            OnSuccess::Approve(roles) => Self::Approve(texts(roles)),
            OnSuccess::Hold => Self::Hold,
        }
    }
}

impl From<OnFailure> for OnFailureRecord {
    fn from(then: OnFailure) -> Self {
        match then {
            OnFailure::Hold => Self::Word(OnFailureWord::Hold),
            OnFailure::Rollback => Self::Word(OnFailureWord::Rollback),
            OnFailure::Fallback(weight) => Self::Fallback {
                weight: weight.to_string(),
            },
        }
    }
}

// === impl Plan ===

impl TryFrom<&PlanRecord> for Plan {
    type Error = PlanRecordError;

    fn try_from(record: &PlanRecord) -> Result<Self, PlanRecordError> {
        Self::build(parts(record)?).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            PlanRecordError(faults.join("; "))
        })
    }
}

fn parts(record: &PlanRecord) -> Result<PlanParts, PlanRecordError> {
    Ok(PlanParts {
        rollout: read("rollout", &record.rollout, RolloutName::parse)?,
        identity: Identity {
            baseline: read("baseline", &record.baseline, PoolName::parse)?,
            canary: read("canary", &record.canary, PoolName::parse)?,
            salt: record.salt.clone(),
            learner: record.learner.clone(),
            segment: record.segment.clone(),
        },
        version: record.version.clone(),
        holdout: read("holdout", &record.holdout, Weight::parse)?,
        gate: gate_parts(&record.gate, record.mode)?,
        signals: record
            .signals
            .iter()
            .map(signal)
            .collect::<Result<_, _>>()?,
        stages: record.stages.iter().map(stage).collect::<Result<_, _>>()?,
        stabilization: record
            .stabilization
            .as_ref()
            .map(StabilizationRecord::stabilization)
            .transpose()?,
    })
}

fn gate_parts(record: &GateRecord, mode: ModeRecord) -> Result<GateParts, PlanRecordError> {
    Ok(GateParts {
        outage_patience: span("gate.outage_patience", &record.outage_patience)?,
        max_gap: span("gate.max_gap", &record.max_gap)?,
        cooldown: span("gate.cooldown", &record.cooldown)?,
        approval_ttl: span("gate.approval_ttl", &record.approval_ttl)?,
        escalate_after: span("gate.escalate_after", &record.escalate_after)?,
        baseline_min_healthy: record.baseline_min_healthy,
        min_segment_requests: record.min_segment_requests,
        max_segments: record.max_segments,
        max_failed_segments: record.max_failed_segments,
        tripwire: record
            .tripwire
            .as_ref()
            .map(|text| read("gate.tripwire", text, Condition::parse))
            .transpose()?,
        evidence: EvidenceParts {
            alpha: record.alpha,
            odds_margin: record.odds_margin,
        },
        mode: match mode {
            ModeRecord::Rollout => Mode::Rollout,
            ModeRecord::Aa => Mode::Aa,
        },
        speed: record.speed,
    })
}

fn signal(record: &SignalRecord) -> Result<SignalSpec, PlanRecordError> {
    let arms = if record.baseline {
        ArmsRead::Both
    } else {
        ArmsRead::Canary
    };
    let kind = match &record.interval {
        Some(text) => SignalKind::Read {
            interval: span("signal.interval", text)?,
            arms,
        },
        None => SignalKind::Outcomes,
    };
    Ok(SignalSpec {
        name: read("signal.name", &record.name, SignalName::parse)?,
        kind,
        unproven_passes: record.unproven_passes,
    })
}

fn stage(record: &StageRecord) -> Result<Stage, PlanRecordError> {
    Ok(Stage {
        name: read("stage.name", &record.name, StageName::parse)?,
        weight: read("stage.weight", &record.weight, Weight::parse)?,
        duration: span("stage.duration", &record.duration)?,
        warmup: span("stage.warmup", &record.warmup)?,
        checkpoints: read_all(&record.checkpoints, |text| span("stage.checkpoints", text))?,
        min_requests: record.min_requests,
        min_window_requests: record.min_window_requests,
        max_extension: span("stage.max_extension", &record.max_extension)?,
        advance: read_all(&record.advance, |text| {
            read("stage.advance", text, Condition::parse)
        })?,
        hold: read_all(&record.hold, |text| {
            read("stage.hold", text, Condition::parse)
        })?,
        rollback: read_all(&record.rollback, |text| {
            read("stage.rollback", text, Condition::parse)
        })?,
        on_success: match &record.on_success {
            OnSuccessRecord::Advance => OnSuccess::Advance,
            OnSuccessRecord::Approve(roles) => OnSuccess::Approve(read_all(roles, |text| {
                read("stage.on_success", text, RoleName::parse)
            })?),
            OnSuccessRecord::Hold => OnSuccess::Hold,
        },
        on_failure: match &record.on_failure {
            OnFailureRecord::Word(OnFailureWord::Hold) => OnFailure::Hold,
            OnFailureRecord::Word(OnFailureWord::Rollback) => OnFailure::Rollback,
            OnFailureRecord::Fallback { weight } => {
                OnFailure::Fallback(read("stage.on_failure", weight, Weight::parse)?)
            }
        },
        on_rollback: read("stage.on_rollback", &record.on_rollback, Weight::parse)?,
        schedule: record.schedule.schedule()?,
        hooks: (record.hooks.hooks())
            .map_err(|why| PlanRecordError(format!("stage.hooks: {why}")))?,
    })
}

fn read<T, E: fmt::Display>(
    key: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, PlanRecordError> {
    parse(text).map_err(|why| PlanRecordError(format!("{key}: {why}")))
}

fn read_all<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, PlanRecordError>,
) -> Result<Vec<T>, PlanRecordError> {
    texts.iter().map(|text| parse(text)).collect()
}

fn span(key: &str, text: &str) -> Result<Duration, PlanRecordError> {
    read(key, text, parse_duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = r#"{
        "rollout": "analyzer", "baseline": "original", "canary": "ultra_fast", "salt": "analyzer-v3",
        "learner": ["header:x-learner-id", "client_ip"], "segment": null, "version": "", "holdout": "0%",
        "gate": { "outage_patience": "5m", "max_gap": "5m", "cooldown": "10m", "baseline_min_healthy": 0.5,
                  "tripwire": "error_rate > 50% over 1s", "speed": 1.0 },
        "stages": [{
            "name": "canary", "weight": "1%", "duration": "2h", "warmup": "1m", "checkpoints": ["15m", "30m", "1h", "1h30m", "2h"],
            "min_requests": 1000, "min_window_requests": 20, "max_extension": "2h",
            "advance": ["error_rate < 1%", "p99 < 200ms", "availability > 99.9%"],
            "hold": ["client_error_rate{delta} > 50% for 2m"],
            "rollback": ["error_rate > 1.5% for 2m", "p99 > 250ms for 5m", "availability < 99% for 5m"],
            "on_success": "advance", "on_failure": {"weight": "0.5%"}, "on_rollback": "0.2%"
        }]
    }"#;

    fn client() -> PlanRecord {
        serde_json::from_str(CLIENT).expect("the record is well formed")
    }

    #[test]
    fn a_plan_comes_back_through_its_record_with_the_same_hash() {
        let plan = Plan::try_from(&client()).expect("the client's plan is valid");
        let record = PlanRecord::from(&plan);
        let json = serde_json::to_string(&record).expect("a record is JSON");
        let again = Plan::try_from(
            &serde_json::from_str::<PlanRecord>(&json).expect("what was written is read"),
        );
        assert_eq!(again.as_ref(), Ok(&plan));
        assert_eq!(plan_hash(&plan), record.hash());
        assert_eq!(record.hash().len(), 64);
    }

    #[test]
    fn any_other_plan_has_another_hash() {
        let first = client().hash();
        let mut other = client();
        other.stages[0].min_requests += 1;
        assert_ne!(other.hash(), first);
        let mut other = client();
        other.gate.baseline_min_healthy = f64::from_bits(0.5_f64.to_bits() + 1);
        assert_ne!(other.hash(), first);
    }

    #[test]
    fn what_is_no_plan_is_refused_by_its_key() {
        fn check(spoil: impl Fn(&mut PlanRecord), named: &str) {
            let mut record = client();
            spoil(&mut record);
            let why = Plan::try_from(&record).expect_err(named).to_string();
            assert!(why.contains(named), "{why} does not name {named}");
        }
        check(|plan| plan.rollout = "a b".to_owned(), "rollout");
        check(|plan| plan.holdout = "101%".to_owned(), "holdout");
        check(
            |plan| plan.gate.cooldown = "soon".to_owned(),
            "gate.cooldown",
        );
        check(
            |plan| plan.stages[0].advance = vec!["p99 is low".to_owned()],
            "stage.advance",
        );
        check(|plan| plan.stages.clear(), "stages");
    }
}
