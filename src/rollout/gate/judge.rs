//! Which window each condition is read from, and the evaluations that decisions carry.
//!
//! Reads the state and never changes it.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::snapshot::{Breach, Progress};
use crate::rollout::condition::{Condition, Metric};
use crate::rollout::name::Arm;
use crate::rollout::plan::{DEFAULT_OVER, Stage};
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::verdict::{Evaluation, Purpose, Sample, SegmentRule, Verdict};
use crate::rollout::weight::Weight;
use crate::rollout::window::{Measured, View};

/// What a stage's criteria say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// One of them is not met.
    Failed,
    /// None is, but the data do not say so of all: which is never a pass.
    Undecided,
    Passed,
}

/// Requests that a window needs where no plan says it.
const DEFAULT_MIN_WINDOW: u64 = 20;
/// What guards a weight set by hand where there never was a plan (gate.md, decision 6).
pub(super) const DEFAULT_TRIPWIRE: &str = "error_rate > 50% for 0s over 1s";

pub(super) fn is_undecided(evaluation: &Evaluation) -> bool {
    matches!(evaluation.verdict, Verdict::NoData | Verdict::Unproven)
}

impl Gate {
    /// The stage of the present or last run.
    pub(super) fn present_stage(&self) -> Option<&Stage> {
        let run = self.state.run.as_ref()?;
        run.plan.stage(run.stage.index)
    }

    /// The stage whose triggers guard the split in force.
    pub(super) fn watched_stage(&self) -> Option<&Stage> {
        self.plan()?.stage(self.state.watch.stage)
    }

    /// The weight that the present stage asks for; 0 without one.
    pub(super) fn stage_weight(&self) -> Weight {
        let run = self.state.run.as_ref();
        run.and_then(|run| run.plan.stage_weight(run.stage.index))
            .unwrap_or_default()
    }

    pub(super) fn condition(&self, purpose: Purpose, index: usize) -> Option<&Condition> {
        let stage = self.watched_stage();
        match purpose {
            Purpose::Tripwire => self.tripwire(),
            Purpose::Rollback => stage?.rollback.get(index),
            Purpose::Hold => stage?.hold.get(index),
            Purpose::Advance => self.present_stage()?.advance.get(index),
        }
    }

    /// Triggers first, then what holds: all that guards the split in force.
    pub(super) fn guards(&self) -> impl Iterator<Item = (Purpose, usize, &Condition)> {
        // A weight by hand outside a run cannot be held any more than it is.
        let holds = self.state.phase.is_in_a_run();
        let of_stage = self.watched_stage().into_iter().flat_map(move |stage| {
            let hold: &[Condition] = if holds { &stage.hold } else { &[] };
            numbered(Purpose::Rollback, &stage.rollback).chain(numbered(Purpose::Hold, hold))
        });
        numbered(
            Purpose::Tripwire,
            self.tripwire().map_or(&[], std::slice::from_ref),
        )
        .chain(of_stage)
    }

    /// Whether a comparison with baseline says nothing because nobody is on it.
    pub(super) fn lacks_baseline(&self, condition: &Condition) -> bool {
        condition.needs_baseline_traffic() && self.state.split.weight == Weight::FULL
    }

    /// What a hold condition or trigger reads.
    pub(super) fn guard_view(&self, now: Now, purpose: Purpose, condition: &Condition) -> View<'_> {
        let (over, since) = self.guard_span(purpose, condition);
        self.window.view(now.mono, over, since, &self.state.probes)
    }

    /// The length of its window, and what it must not reach back over.
    pub(super) fn guard_span(
        &self,
        purpose: Purpose,
        condition: &Condition,
    ) -> (Duration, Timestamp) {
        let waits = purpose != Purpose::Tripwire && condition.waits_for_warmup();
        let since = if waits {
            self.warm_since()
        } else {
            self.state.watch.since
        };
        (condition.over.unwrap_or(DEFAULT_OVER), since)
    }

    pub(super) fn min_window_requests(&self) -> u64 {
        self.watched_stage()
            .map_or(DEFAULT_MIN_WINDOW, |stage| stage.min_window_requests)
    }

    /// Every condition of the stage, judged now: criteria, what holds, triggers, the tripwire.
    pub(super) fn judge_all(&self, now: Now) -> Vec<Evaluation> {
        let mut evaluations = match self.state.phase.is_in_a_run() {
            true => self.judge_advance_at(now),
            false => Vec::new(),
        };
        for (purpose, index, condition) in self.guards() {
            evaluations.push(self.judge_guard(now, purpose, index, condition));
        }
        evaluations
    }

    /// One hold condition or trigger, with its breach clock and what it still lacks.
    pub(super) fn judge_guard(
        &self,
        now: Now,
        purpose: Purpose,
        index: usize,
        condition: &Condition,
    ) -> Evaluation {
        let over = condition.over.unwrap_or(DEFAULT_OVER);
        let mut evaluation = if condition.per_segment {
            let each = self.guard_view(now, purpose, condition).by_segment();
            self.judge_each(now, (purpose, Some(index)), condition, (each, over))
        } else {
            let view = self.guard_view(now, purpose, condition);
            let (_, since) = self.guard_span(purpose, condition);
            condition.evaluate(purpose, &self.sample_since(&view, now, since), over)
        };
        if self.lacks_baseline(condition) {
            evaluation.verdict = Verdict::NoData;
            evaluation.note = "no baseline at 100%".to_owned();
            return evaluation;
        }
        self.judge_regression(now, &mut evaluation);
        if let Some(breach) = self.breach_of(purpose, index, None) {
            self.show_breach(now, &mut evaluation, condition, breach);
        }
        evaluation
    }

    /// The criteria at the last tick.
    pub(super) fn judge_advance(&self) -> Vec<Evaluation> {
        self.judge_advance_at(self.state.last_tick.unwrap_or_default())
    }

    /// The criteria over the stage so far, or over the window that each names.
    pub(super) fn judge_advance_at(&self, now: Now) -> Vec<Evaluation> {
        let (Some(run), Some(stage)) = (&self.state.run, self.present_stage()) else {
            return Vec::new();
        };
        let short = self.lacks_requests();
        let judge = |(index, condition): (usize, &Condition)| {
            let mut evaluation = match condition.over {
                Some(over) => {
                    let view =
                        self.window
                            .view(now.mono, over, self.warm_since(), &self.state.probes);
                    match condition.per_segment {
                        true => {
                            let each = (view.by_segment(), over);
                            self.judge_each(now, (Purpose::Advance, None), condition, each)
                        }
                        false => {
                            let sample = self.sample_since(&view, now, self.warm_since());
                            condition.evaluate(Purpose::Advance, &sample, over)
                        }
                    }
                }
                None if condition.per_segment => {
                    self.judge_each_total(condition, &run.stage.totals)
                }
                None => {
                    let totals = &run.stage.totals;
                    let sample = self.sample_since(totals, now, self.warm_since());
                    condition.evaluate(Purpose::Advance, &sample, totals.span)
                }
            };
            if condition.throughout {
                self.judge_throughout(&mut evaluation, index, &run.stage, stage);
            }
            self.let_through(&mut evaluation);
            if let (Some(short), Verdict::Pass | Verdict::Fail) = (&short, evaluation.verdict) {
                evaluation.verdict = Verdict::Unproven;
                evaluation.note.clone_from(short);
            }
            evaluation
        };
        stage.advance.iter().enumerate().map(judge).collect()
    }

    /// What these criteria say together, judged now.
    pub(super) fn standing(&self, evaluations: &[Evaluation]) -> Standing {
        let is_failed = |evaluation: &Evaluation| evaluation.verdict == Verdict::Fail;
        if evaluations.iter().any(is_failed) {
            Standing::Failed
        } else if self.lacks_requests().is_some() || evaluations.iter().any(is_undecided) {
            Standing::Undecided
        } else {
            Standing::Passed
        }
    }

    /// What the canary arm lacks for any decision but a rollback; `None` where it has enough.
    pub(super) fn lacks_requests(&self) -> Option<String> {
        let (run, stage) = (self.state.run.as_ref()?, self.present_stage()?);
        let seen = run.stage.totals.counts(Arm::Canary).counted;
        match seen {
            0 => Some("no traffic on canary".to_owned()),
            seen if seen < stage.min_requests => Some(format!(
                "{seen} of {} requests on canary",
                stage.min_requests
            )),
            _ => None,
        }
    }

    pub(super) fn sample<'a>(&'a self, measured: &'a dyn Measured) -> Sample<'a> {
        Sample {
            measured,
            incidents: self.state.incidents.len() as u64,
            min_window_requests: self.min_window_requests(),
            outside: None,
            segments: SegmentRule {
                min_requests: self
                    .plan()
                    .map_or(u64::MAX, |plan| plan.gate.min_segment_requests),
                ceilings: &self.state.split.ceilings,
            },
        }
    }

    pub(super) fn breach_of(
        &self,
        purpose: Purpose,
        index: usize,
        segment: Option<&Arc<str>>,
    ) -> Option<&Breach> {
        let mut breaches = self.state.watch.breaches.iter();
        breaches.find(|breach| breach.is_of(purpose, index, segment))
    }

    /// What the clock of a breach reads.
    pub(super) fn breach_view<'a>(
        &'a self,
        now: Now,
        breach: &'a Breach,
        condition: &Condition,
    ) -> View<'a> {
        let view = self.guard_view(now, breach.purpose, condition);
        match &breach.segment {
            Some(name) => view.segment(name),
            None => view,
        }
    }

    fn tripwire(&self) -> Option<&Condition> {
        match self.plan() {
            Some(plan) => plan.gate.tripwire.as_ref(),
            None => self.default_tripwire.as_ref(),
        }
    }

    // Nothing is old enough while the warm-up lasts.
    pub(super) fn warm_since(&self) -> Timestamp {
        self.state
            .watch
            .warm_until
            .unwrap_or(Timestamp::from_millis(u64::MAX))
    }

    fn judge_throughout(
        &self,
        evaluation: &mut Evaluation,
        index: usize,
        progress: &Progress,
        stage: &Stage,
    ) {
        if progress.failed.contains(&index) {
            evaluation.verdict = Verdict::Fail;
            evaluation.note = "it failed in an interval of the stage".to_owned();
        } else if progress.interval_from < stage.duration {
            let seen = progress.interval.counts(Arm::Canary).counted;
            if evaluation.verdict == Verdict::Pass && progress.time >= stage.duration {
                evaluation.verdict = Verdict::Unproven;
                evaluation.note = match seen < stage.min_requests {
                    true => format!(
                        "the last interval has {seen} of {} requests",
                        stage.min_requests
                    ),
                    false => "the last interval cannot be judged yet".to_owned(),
                };
            }
        }
    }
}

/// Whether failures are what the metric counts, so that learners can be told apart.
pub(super) const fn names_learners(metric: Metric) -> bool {
    match metric {
        Metric::ErrorRate | Metric::Availability => true,
        Metric::ClientErrorRate
        | Metric::Abandoned
        | Metric::P50
        | Metric::P95
        | Metric::P99
        | Metric::P999
        | Metric::Uptime
        | Metric::Throughput
        | Metric::Incidents
        | Metric::SegmentVariance
        | Metric::Regression(_)
        | Metric::Signal(_) => false,
    }
}

fn numbered(
    purpose: Purpose,
    list: &[Condition],
) -> impl Iterator<Item = (Purpose, usize, &Condition)> {
    let conditions = list.iter().enumerate();
    conditions.map(move |(index, condition)| (purpose, index, condition))
}

/// Sums a `Duration` that only grows.
pub(super) fn add(sum: &mut Duration, more: Duration) {
    *sum = sum.saturating_add(more);
}
