//! What reaches a gate from outside its own counters: readings of signals, and results of learners.
//!
//! Takes them in and says which arm a result belongs to. They are judged where every other figure is.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use crate::rollout::assign::{LearnerHash, Salt};
use crate::rollout::name::{Arm, SignalName};
use crate::rollout::outcome::{Asked, Credited, PastSplit, Uncredited};
use crate::rollout::plan::Plan;
use crate::rollout::signal::{Observation, Series, SeriesKey, SignalSpec};
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::verdict::{Evaluation, Outside, Sample, Verdict};
use crate::rollout::window::Measured;

/// What was said since the last time: each in the order in which it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    pub signals: Vec<Observation>,
    pub outcomes: Vec<Credited>,
}

/// A signal on one arm as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalFigure {
    pub of: SeriesKey,
    /// The last value, fresh or not.
    pub value: Option<f64>,
    /// How many measurements it stands for.
    pub count: u64,
    pub age: Option<Duration>,
    /// Why it is no data; `None` while it is.
    pub lack: Option<String>,
}

/// Business results of the present or last run. Arrays by `Arm::index`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeFigures {
    /// Of the outcome: `revenue`.
    pub name: SignalName,
    pub counted: [u64; 2],
    pub means: [Option<f64>; 2],
    /// Mean on canary / mean on baseline - 1.
    pub impact: Option<f64>,
    /// All values of the impact that are not ruled out; `None` while there are too few results.
    pub interval: Option<(f64, f64)>,
}

impl Gate {
    /// Which arm a result belongs to: where the learner's hash stood at its time.
    pub fn credited_arm(&self, asked: &Asked<'_>) -> Result<(Arm, LearnerHash), Uncredited> {
        let run = self.state.run.as_ref().ok_or(Uncredited::NoRun)?;
        if asked.at < run.started.mono {
            return Err(Uncredited::BeforeTheRun);
        }
        if run.ended.is_some_and(|ended| asked.at > ended.mono) {
            return Err(Uncredited::AfterTheRun);
        }
        if self.state.split.pins.contains_key(asked.learner) {
            return Err(Uncredited::Pinned);
        }
        let hash = Salt::new(&run.plan.identity.salt).hash(asked.learner);
        let arm = PastSplit::arm(&self.state.splits, hash, asked)?;
        Ok((arm, hash))
    }

    /// Whether a result with this id was counted in the present or last run.
    pub fn counted(&self, id: u64) -> bool {
        let run = self.state.run.as_ref();
        run.is_some_and(|run| run.outcomes.ids.contains(id))
    }

    /// Whether a reading can be kept, after those that are coming: the segments of a signal have a bound.
    pub fn has_room(&self, of: &SeriesKey, coming: &[Observation]) -> bool {
        self.state.signals.has_room(of, coming)
    }

    pub(super) fn hear(&mut self, now: Now, heard: Heard) {
        let keep = self.longest_signal_window();
        for observation in heard.signals {
            self.state.signals.take(now.mono, observation, keep);
        }
        if let Some(run) = self
            .state
            .run
            .as_mut()
            .filter(|_| !heard.outcomes.is_empty())
        {
            let outcomes = Arc::make_mut(&mut run.outcomes);
            for credited in &heard.outcomes {
                outcomes.count(credited);
            }
        }
    }

    /// Keeps the split that late results are credited by, and forgets sources that fell silent.
    pub(super) fn remember_outside(&mut self, now: Now) {
        let state = &mut self.state;
        PastSplit::note(&mut state.splits, now.mono, &state.split);
        state.signals.forget(now.mono);
    }

    /// What conditions are judged on, with what is known from outside since a moment.
    pub(super) fn sample_since<'a>(
        &'a self,
        measured: &'a dyn Measured,
        now: Now,
        since: Timestamp,
    ) -> Sample<'a> {
        Sample {
            outside: self.outside(now, since),
            ..self.sample(measured)
        }
    }

    /// Everything from outside; `None` where there never was a plan to say what it means.
    pub(super) fn outside(&self, now: Now, since: Timestamp) -> Option<Outside<'_>> {
        let run = self.state.run.as_ref()?;
        let until = run.ended.map_or(now.mono, |ended| ended.mono);
        Some(Outside {
            readings: &self.state.signals,
            outcomes: &run.outcomes,
            plan: &run.plan,
            now: now.mono,
            since: since.max(self.state.watch.since),
            run_for: until.since(run.started.mono),
        })
    }

    /// Where the plan says so, a criterion on a signal that is unproven lets the stage go on. Never one without data.
    pub(super) fn let_through(&self, evaluation: &mut Evaluation) {
        let spec = self.signal_of(evaluation);
        if evaluation.verdict == Verdict::Unproven && spec.is_some_and(|spec| spec.unproven_passes)
        {
            evaluation.verdict = Verdict::Pass;
            evaluation.note = "unproven, which the plan lets through".to_owned();
        }
    }

    pub(super) fn signal_figures(&self, now: Now) -> Vec<SignalFigure> {
        let figure = |(of, series): (&SeriesKey, &Series)| SignalFigure {
            of: of.clone(),
            value: series.latest.map(|latest| latest.value),
            count: series.latest.map_or(0, |latest| latest.count),
            age: series.latest.map(|latest| now.mono.since(latest.at)),
            lack: series
                .fresh(now.mono)
                .err()
                .map(|lack| lack.sentence(of.name, of.arm)),
        };
        self.state.signals.0.iter().map(figure).collect()
    }

    pub(super) fn outcome_figures(&self) -> Vec<OutcomeFigures> {
        let sums = self.state.run.iter().flat_map(|run| &run.outcomes.sums);
        sums.map(|(&name, sums)| OutcomeFigures {
            name,
            counted: Arm::ALL.map(|arm| sums.counted(arm)),
            means: Arm::ALL.map(|arm| sums.mean(arm)),
            impact: sums.impact(),
            interval: sums.interval(),
        })
        .collect()
    }

    fn signal_of(&self, evaluation: &Evaluation) -> Option<SignalSpec> {
        let name = evaluation.condition.metric.signal()?;
        self.plan()?.signal(name)
    }

    fn longest_signal_window(&self) -> Duration {
        self.plan()
            .map_or(Duration::ZERO, Plan::longest_signal_window)
    }
}
