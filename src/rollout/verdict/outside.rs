//! What conditions read beside the counts of requests: signals, and business results of learners.
//!
//! Owns where each figure comes from and what is missing where there is none. Never keeps anything.

use std::time::Duration;

use crate::rollout::name::{Arm, SignalName};
use crate::rollout::outcome::{Outcomes, Sums};
use crate::rollout::plan::Plan;
use crate::rollout::signal::{Lack, Reading, Readings, SeriesKey, SignalKind};
use crate::rollout::time::Timestamp;

/// Everything from outside at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    pub readings: &'a Readings,
    /// Of the run.
    pub outcomes: &'a Outcomes,
    pub plan: &'a Plan,
    pub now: Timestamp,
    /// What was read before it is left out; outcomes count for the whole run.
    pub since: Timestamp,
    /// How long the run has lasted.
    pub run_for: Duration,
}

impl Outside<'_> {
    /// The figure of a signal on an arm; an impact is the canary's.
    pub(super) fn figure(self, name: SignalName, arm: Arm, over: Option<Duration>) -> Option<f64> {
        match self.plan.signal(name)?.kind {
            SignalKind::Read { .. } => self.reading(name, arm, over).ok().map(|found| found.value),
            SignalKind::Outcomes if arm == Arm::Baseline => None,
            SignalKind::Outcomes => {
                self.interval(name)?;
                self.sums(name)?.impact()
            }
        }
    }

    /// The interval of an impact; `None` for what is read, and where there are too few results.
    pub(super) fn interval(self, name: SignalName) -> Option<(f64, f64)> {
        self.sums(name)?.interval()
    }

    /// How many measurements the figure stands for.
    pub(super) fn count(self, name: SignalName, arm: Arm, over: Option<Duration>) -> u64 {
        match self.sums(name) {
            Some(sums) => sums.counted(arm),
            None => self.reading(name, arm, over).map_or(0, |found| found.count),
        }
    }

    pub(super) fn window(self, name: SignalName, over: Option<Duration>) -> Duration {
        match self.plan.signal(name).map(|spec| spec.kind) {
            Some(SignalKind::Outcomes) => self.run_for,
            Some(SignalKind::Read { .. }) | None => over.unwrap_or_default(),
        }
    }

    /// What is missing for a figure, as a sentence with numbers.
    pub(super) fn lack(self, name: SignalName, arm: Arm) -> String {
        let spec = self.plan.signal(name);
        match spec.and_then(|spec| spec.outcome()) {
            Some(outcome) => {
                let sums = self.outcomes.sums.get(&outcome);
                sums.map_or_else(
                    || format!("no outcome {outcome} was counted"),
                    |sums| sums.lack(outcome),
                )
            }
            None => match self.reading(name, arm, None) {
                Err(lack) => lack.sentence(name, arm),
                Ok(_) => format!("{name} has no data on {arm}"),
            },
        }
    }

    fn sums(&self, name: SignalName) -> Option<&Sums> {
        let outcome = self.plan.signal(name)?.outcome()?;
        self.outcomes.sums.get(&outcome)
    }

    fn reading(&self, name: SignalName, arm: Arm, over: Option<Duration>) -> Result<Reading, Lack> {
        let of = SeriesKey {
            name,
            arm,
            segment: None,
        };
        self.readings.figure(&of, self.now, self.since, over)
    }
}
