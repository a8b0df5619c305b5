//! A run: its plan, its progress, and the spans it counts over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Moments, pairs, probes};
use crate::records::confidence::ConfidenceRecord;
use crate::records::people::WaitsForWord;
use crate::records::plan::PlanRecord;
use crate::records::state::StateError;
use crate::records::state::people::{AskState, PassageState};
use crate::rollout::evidence::Evidence;
use crate::rollout::gate::{Confidence, Progress, Run};
use crate::rollout::plan::Plan;
use crate::rollout::time::Now;
use crate::rollout::window::Totals;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunState {
    plan: PlanRecord,
    started: Moments,
    ended: Option<Moments>,
    #[serde(default)]
    completed: bool,
    baseline_endpoints: u32,
    version: String,
    fallback_used: bool,
    #[serde(default)]
    failed_segments: BTreeMap<String, String>,
    #[serde(default)]
    confidence: Option<ConfidenceRecord>,
    stage: ProgressState,
    totals: TotalsState,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProgressState {
    index: usize,
    began: Option<Moments>,
    time: Duration,
    checkpoints_done: usize,
    extended_until: Option<Duration>,
    totals: TotalsState,
    interval_from: Duration,
    interval: TotalsState,
    interval_incidents: u64,
    failed: BTreeSet<usize>,
    #[serde(default)]
    passage: PassageState,
}

/// Without the cells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TotalsState {
    /// Sent and answered, of baseline and of canary.
    probes: [[u64; 2]; 2],
    span: Duration,
    #[serde(default)]
    apart: [u64; 2],
}

// === impl RunState, ProgressState, TotalsState ===

impl From<&Run> for RunState {
    fn from(run: &Run) -> Self {
        Self {
            plan: PlanRecord::from(&run.plan),
            started: run.started.into(),
            ended: run.ended.map(Moments::from),
            completed: run.completed,
            baseline_endpoints: run.baseline_endpoints,
            version: run.version.clone(),
            fallback_used: run.fallback_used,
            failed_segments: run
                .failed_segments
                .iter()
                .map(|(name, condition)| (name.to_string(), condition.clone()))
                .collect(),
            confidence: run.confidence.as_ref().map(ConfidenceRecord::from),
            stage: ProgressState::from(&run.stage),
            totals: TotalsState::from(&run.totals),
        }
    }
}

impl RunState {
    pub(super) fn into_run(self) -> Result<Run, StateError> {
        let (plan, started) = (Plan::try_from(&self.plan)?, self.started.into());
        Ok(Run {
            evidence: Evidence::new(started, &plan),
            plan,
            started,
            ended: self.ended.map(Now::from),
            completed: self.completed,
            baseline_endpoints: self.baseline_endpoints,
            version: self.version,
            fallback_used: self.fallback_used,
            failed_segments: self
                .failed_segments
                .into_iter()
                .map(|(name, condition)| (Arc::from(name), condition))
                .collect(),
            confidence: self.confidence.map(Confidence::from),
            stage: self.stage.into_progress()?,
            totals: self.totals.into(),
            learners: Default::default(),
            outcomes: Default::default(),
        })
    }
}

impl From<&Progress> for ProgressState {
    fn from(stage: &Progress) -> Self {
        Self {
            index: stage.index,
            began: stage.began.map(Moments::from),
            time: stage.time,
            checkpoints_done: stage.checkpoints_done,
            extended_until: stage.extended_until,
            totals: TotalsState::from(&stage.totals),
            interval_from: stage.interval_from,
            interval: TotalsState::from(&stage.interval),
            interval_incidents: stage.interval_incidents,
            failed: stage.failed.clone(),
            passage: PassageState {
                ask: stage.ask.as_ref().map(AskState::from),
                waits_for: stage.waits_for.iter().copied().map(WaitsForWord).collect(),
                levels_told: stage.levels_told,
            },
        }
    }
}

impl ProgressState {
    fn into_progress(self) -> Result<Progress, StateError> {
        Ok(Progress {
            index: self.index,
            began: self.began.map(Now::from),
            time: self.time,
            checkpoints_done: self.checkpoints_done,
            extended_until: self.extended_until,
            totals: self.totals.into(),
            learners: Default::default(),
            interval_from: self.interval_from,
            interval: self.interval.into(),
            interval_incidents: self.interval_incidents,
            failed: self.failed,
            ask: self.passage.ask.map(AskState::into_ask).transpose()?,
            waits_for: self
                .passage
                .waits_for
                .into_iter()
                .map(|word| word.0)
                .collect(),
            levels_told: self.passage.levels_told,
        })
    }
}

impl From<&Totals> for TotalsState {
    fn from(totals: &Totals) -> Self {
        Self {
            probes: pairs(&totals.probes),
            span: totals.span,
            apart: totals.apart,
        }
    }
}

impl From<TotalsState> for Totals {
    fn from(state: TotalsState) -> Self {
        Self {
            cells: Default::default(),
            probes: probes(state.probes),
            span: state.span,
            apart: state.apart,
            segments: Default::default(),
        }
    }
}
