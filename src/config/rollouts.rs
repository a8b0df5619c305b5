//! Rollouts: references to pools, and the plan, which the pure room judges itself.
//!
//! Faults of the plan come back with paths of the rollout's table and are put on their lines here.

use std::collections::{BTreeMap, BTreeSet};

use super::check::usize_of;
use super::faults::{Faults, join};
use super::form::{Named, OrFalse, nearest};
use super::routes::check_pool;
use super::word::FailureKind;
use super::{
    Failover, LearnerSource, Mirror, Rollout, Signal, hooks, mirror, people, signals, staged,
};
use crate::rollout::condition::{Condition, Metric};
use crate::rollout::name::{PoolName, RolloutName};
use crate::rollout::plan::{
    EvidenceParts, GateParts, Hooks, Identity, Plan, PlanFault, PlanParts, Stage,
};
use crate::rollout::signal::{MIRROR_DIFFERENCE, REVENUE_IMPACT};
use crate::rollout::weight::Weight;

/// Checks every rollout; one whose plan has faults is left out after they were added.
pub(super) fn check(
    rollouts: Named<RolloutName, staged::Rollout>,
    faults: &mut Faults,
) -> BTreeMap<RolloutName, Rollout> {
    let mut checked = BTreeMap::new();
    for (name, raw) in rollouts {
        let key = join("rollouts", name.as_str());
        if let Some(rollout) = check_rollout(&name, raw, &key, faults) {
            checked.insert(name, rollout);
        }
    }
    checked
}

fn check_rollout(
    name: &RolloutName,
    raw: staged::Rollout,
    key: &str,
    faults: &mut Faults,
) -> Option<Rollout> {
    for (field, pool) in [("baseline", &raw.baseline), ("canary", &raw.canary)] {
        if let Some(pool) = pool {
            check_pool(pool.as_str(), &format!("{key}.{field}"), faults);
        }
    }
    check_learner(&raw, key, faults);
    check_weight_at_rest(&raw, key, faults);
    let segment = match raw.segment.clone() {
        OrFalse::Off => None,
        OrFalse::On(source) => Some(source),
    };
    let signals = signals::check(&raw.signals, key, faults);
    let mirror = raw.mirror.as_ref();
    let mirror = mirror.and_then(|raw| mirror::check(raw, key, faults));
    let plan = check_plan(name, &raw, segment.as_ref(), &signals, key, faults)?;
    check_compared(&plan, mirror.as_ref(), key, faults);
    Some(Rollout {
        plan,
        learner: raw.learner,
        segment,
        failover: failover(&raw.failover),
        failover_after: raw.failover_after.map(|wait| wait.0),
        weight_at_rest: raw.weight_at_rest,
        error_statuses: error_statuses(&raw.error_statuses),
        max_segments: usize_of(raw.max_segments),
        stream_grace: raw.stream_grace,
        signals,
        mirror,
    })
}

/// A condition on what a mirror finds needs one that compares.
fn check_compared(plan: &Plan, mirror: Option<&Mirror>, key: &str, faults: &mut Faults) {
    let compares = mirror.is_some_and(|mirror| mirror.compare.is_some());
    let mut conditions = plan.signal_conditions();
    let reads = |condition: &&Condition| {
        let signal = condition.metric.signal();
        signal.is_some_and(|name| name.as_str() == MIRROR_DIFFERENCE)
    };
    if let Some(condition) = conditions.find(reads).filter(|_| !compares) {
        let why = format!("{condition}: nothing is compared without mirror.compare");
        faults.add(&format!("{key}.mirror.compare"), why);
    }
}

fn check_learner(raw: &staged::Rollout, key: &str, faults: &mut Faults) {
    if raw.learner.is_empty() {
        faults.add(
            &format!("{key}.learner"),
            "empty: nothing would tell learners apart",
        );
    }
    // These two always have an answer, so that what follows them is never asked.
    let always = raw
        .learner
        .iter()
        .position(|source| matches!(source, LearnerSource::ClientIp | LearnerSource::Random));
    if let Some((index, source)) = always.map(|at| (at, &raw.learner[at]))
        && index + 1 < raw.learner.len()
    {
        let unreached = format!("never reached: {source} before it always has a value");
        faults.add(&format!("{key}.learner[{}]", index + 1), unreached);
    }
    if let OrFalse::On(source @ (LearnerSource::ClientIp | LearnerSource::Random)) = &raw.segment {
        faults.add(
            &format!("{key}.segment"),
            format!("{source} would make a segment of each learner"),
        );
    }
    if raw.salt.as_ref().is_some_and(|salt| salt.contains('\0')) {
        faults.add(
            &format!("{key}.salt"),
            "a zero byte ends the salt and cannot be in it",
        );
    }
}

fn check_weight_at_rest(raw: &staged::Rollout, key: &str, faults: &mut Faults) {
    if raw.weight_at_rest.ppm() + raw.holdout.ppm() > Weight::FULL.ppm() {
        let message = format!(
            "{} and the holdout of {} are more than the whole",
            raw.weight_at_rest, raw.holdout
        );
        faults.add(&format!("{key}.weight_at_rest"), message);
    }
}

// === the plan ===

fn check_plan(
    name: &RolloutName,
    raw: &staged::Rollout,
    segment: Option<&LearnerSource>,
    signals: &[Signal],
    key: &str,
    faults: &mut Faults,
) -> Option<Plan> {
    let identity = Identity {
        baseline: raw.baseline.clone().unwrap_or_else(|| stand_in("baseline")),
        canary: raw.canary.clone().unwrap_or_else(|| stand_in("canary")),
        salt: raw.salt.clone().unwrap_or_else(|| name.to_string()),
        learner: raw.learner.iter().map(ToString::to_string).collect(),
        segment: segment.map(ToString::to_string),
    };
    let typed = raw.stages.as_deref().unwrap_or_default();
    // Stages that lack something are left out, so that the others are judged all the same.
    let (places, stages): (Vec<usize>, Vec<Stage>) = typed
        .iter()
        .enumerate()
        .filter_map(|(at, stage)| {
            let hooks = hooks::check(&stage.hooks, &format!("{key}.stages[{at}]"), faults);
            Some((at, stage_parts(stage, hooks)?))
        })
        .unzip();
    doubled_names(typed, &places, key, faults);
    for (at, stage) in typed.iter().enumerate() {
        people::check_stage(stage, &format!("{key}.stages[{at}]"), faults);
    }
    let none_left = stages.is_empty() && (raw.stages.is_none() || !typed.is_empty());
    let parts = PlanParts {
        rollout: name.clone(),
        identity,
        version: raw.version.clone(),
        holdout: raw.holdout,
        gate: gate_parts(raw),
        signals: signals.iter().map(Signal::spec).collect(),
        stages,
        stabilization: raw.stabilization.as_ref().map(people::stabilization),
    };
    let found = match Plan::build(parts) {
        Ok(plan) => return Some(plan),
        Err(found) => found,
    };
    for PlanFault {
        path,
        mut message,
        unknown,
    } in found
    {
        if let Some(near) = unknown.and_then(|word| nearest_figure(&word, signals)) {
            message.push_str(&format!("; did you mean {near:?}?"));
        }
        if !(none_left && path == "stages") {
            faults.add(&join_path(key, &typed_path(&path, &places)), message);
        }
    }
    None
}

/// The metric or signal that a mistyped name was meant to be.
fn nearest_figure(word: &str, signals: &[Signal]) -> Option<String> {
    let metrics = Metric::ALL.iter().map(Metric::as_str);
    let declared = signals.iter().map(|signal| signal.name.as_str());
    let known: Vec<&str> = metrics
        .chain(declared)
        .chain([REVENUE_IMPACT, MIRROR_DIFFERENCE])
        .collect();
    nearest(word, &known).map(str::to_owned)
}

/// Names that stand twice where one of the two stages cannot be judged with the others.
fn doubled_names(typed: &[staged::Stage], judged: &[usize], key: &str, faults: &mut Faults) {
    for (at, stage) in typed.iter().enumerate() {
        let Some(name) = &stage.name else { continue };
        let earlier = typed[..at]
            .iter()
            .position(|other| other.name.as_ref() == Some(name));
        let Some(earlier) = earlier else { continue };
        if !(judged.contains(&at) && judged.contains(&earlier)) {
            let message = format!("{:?} stands twice", name.as_str());
            faults.add(&format!("{key}.stages[{at}].name"), message);
        }
    }
}

/// A pool that was not named stands in under a name of its own; the file is refused already.
fn stand_in(name: &str) -> PoolName {
    PoolName::parse(name).expect("both names are well formed")
}

fn gate_parts(raw: &staged::Rollout) -> GateParts {
    GateParts {
        outage_patience: raw.gate.outage_patience.0,
        max_gap: raw.gate.max_gap,
        cooldown: raw.gate.cooldown,
        approval_ttl: raw.gate.approval_ttl.0,
        escalate_after: raw.gate.escalate_after.0,
        baseline_min_healthy: raw.baseline_min_healthy.0,
        min_segment_requests: raw.gate.min_segment_requests.0,
        max_segments: raw.max_segments.0,
        max_failed_segments: raw.gate.max_failed_segments.0,
        tripwire: match raw.gate.tripwire.clone() {
            OrFalse::Off => None,
            OrFalse::On(condition) => Some(condition),
        },
        evidence: EvidenceParts {
            alpha: raw.gate.alpha.0,
            odds_margin: raw.gate.odds_margin.0,
        },
        mode: raw.mode,
        speed: 1.0,
    }
}

/// `None` where a key without a default is missing or faulty.
fn stage_parts(raw: &staged::Stage, hooks: Hooks) -> Option<Stage> {
    let duration = raw.duration?.0;
    Some(Stage {
        name: raw.name.clone()?,
        weight: raw.weight?,
        duration,
        warmup: raw.warmup,
        checkpoints: raw.checkpoints.iter().map(|at| at.0).collect(),
        min_requests: raw.min_requests.0,
        min_window_requests: raw.min_window_requests.0,
        // As long again as was planned: who plans two hours can wait two more.
        max_extension: raw.max_extension.unwrap_or(duration),
        advance: raw.advance.clone(),
        hold: raw.hold.clone(),
        rollback: raw.rollback.clone(),
        on_success: people::on_success(raw),
        on_failure: raw.on_failure,
        on_rollback: raw
            .on_rollback
            .as_ref()
            .and_then(|fallback| fallback.weight)
            .unwrap_or(Weight::ZERO),
        schedule: people::schedule(raw),
        hooks,
    })
}

/// `stages[0].weight` of the stages that were judged, as the index in the file.
fn typed_path(path: &str, places: &[usize]) -> String {
    let index = path
        .strip_prefix("stages[")
        .and_then(|rest| rest.split_once(']'));
    let typed = index.and_then(|(at, rest)| Some((places.get(at.parse::<usize>().ok()?)?, rest)));
    typed.map_or_else(
        || path.to_owned(),
        |(place, rest)| format!("stages[{place}]{rest}"),
    )
}

fn join_path(key: &str, path: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{key}.{path}")
    }
}

// === small parts ===

fn failover(kinds: &[FailureKind]) -> Failover {
    Failover {
        connect: kinds.contains(&FailureKind::Connect),
        reset: kinds.contains(&FailureKind::Reset),
        timeout: kinds.contains(&FailureKind::Timeout),
        status_5xx: kinds.contains(&FailureKind::Status5xx),
    }
}

fn error_statuses(typed: &[super::form::Count<100, 599>]) -> Vec<u16> {
    let ascending: BTreeSet<u16> = typed
        .iter()
        .filter_map(|status| u16::try_from(status.0).ok())
        .collect();
    ascending.into_iter().collect()
}
