//! The recent past of both pools: what was counted in each step, joined from answers that overlap.

use std::time::Duration;

use crate::records::sample::SampleRecord;
use crate::records::status::{SpanRecord, StatusRecord};
use crate::rollout::name::Arm;
use crate::rollout::time::{millis, parse_duration};

/// Steps kept: as many as a line of a wide screen shows.
pub(super) const POINTS: usize = 60;
/// A stage of this length or more is shown in steps of 10 s, so 10 minutes; a shorter one in seconds.
const LONG_STAGE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    step: Duration,
    /// Oldest first, by the gate's clock.
    samples: Vec<SampleRecord>,
}

/// What a line of the past shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    ErrorRate,
    P99,
}

impl Series {
    /// Takes in steps, some of which may be known: the newest of those was not over when it was told.
    pub(super) fn merge(&mut self, step: Duration, more: Vec<SampleRecord>) {
        if step != self.step {
            self.samples.clear();
            self.step = step;
        }
        let Some(first) = more.first() else {
            return;
        };
        let first = first.clock_ms;
        self.samples.retain(|sample| sample.clock_ms < first);
        self.samples.extend(more);
        let spare = self.samples.len().saturating_sub(POINTS);
        self.samples.drain(..spare);
    }

    /// How long the past is that a full line shows.
    pub(super) fn length(&self) -> Duration {
        self.step * POINTS as u32
    }

    /// The figure of each of the last `count` steps, the newest last; `None` where nothing was measured in one.
    pub(super) fn points(&self, arm: Arm, figure: Figure, count: usize) -> Vec<Option<f64>> {
        let (step, Some(last)) = (millis(self.step), self.samples.last()) else {
            return Vec::new();
        };
        if step == 0 {
            return Vec::new();
        }
        let mut points = vec![None; count];
        for sample in &self.samples {
            let back = (last.clock_ms - sample.clock_ms) / step;
            let place = usize::try_from(back)
                .ok()
                .and_then(|back| count.checked_sub(1)?.checked_sub(back));
            if let Some(place) = place {
                points[place] = figure.of(sample.arms.of(arm));
            }
        }
        points
    }
}

impl Figure {
    pub(super) const fn of(self, span: &SpanRecord) -> Option<f64> {
        match self {
            Self::ErrorRate => span.error_rate,
            Self::P99 => span.p99_ms,
        }
    }
}

/// How long a step should be, for the stage that is in force.
pub(super) fn step(status: &StatusRecord) -> Duration {
    let stage = status
        .stage_index
        .and_then(|index| status.plan.as_ref()?.stages.get(index));
    let stage = stage.and_then(|stage| parse_duration(&stage.duration).ok());
    match stage.is_some_and(|duration| duration < LONG_STAGE) {
        true => Duration::from_secs(1),
        false => Duration::from_secs(10),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, sample};
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn errors(series: &Series, count: usize) -> Vec<Option<f64>> {
        series.points(Arm::Canary, Figure::ErrorRate, count)
    }

    #[test]
    fn answers_that_overlap_become_one_line() {
        let mut series = Series::default();
        assert_eq!(errors(&series, 3), []);
        series.merge(TEN, vec![sample(10_000, 0.1), sample(20_000, 0.2)]);
        series.merge(TEN, vec![sample(20_000, 0.3), sample(30_000, 0.4)]);
        series.merge(TEN, Vec::new());
        assert_eq!(errors(&series, 3), [Some(0.1), Some(0.3), Some(0.4)]);
        assert_eq!(
            errors(&series, 5),
            [None, None, Some(0.1), Some(0.3), Some(0.4)]
        );
        assert_eq!(errors(&series, 1), [Some(0.4)]);
        assert_eq!(errors(&series, 0), []);
    }

    #[test]
    fn a_step_without_requests_is_a_gap() {
        let mut series = Series::default();
        series.merge(TEN, vec![sample(10_000, 0.1), sample(40_000, 0.2)]);
        assert_eq!(errors(&series, 4), [Some(0.1), None, None, Some(0.2)]);
    }

    #[test]
    fn another_step_begins_anew_and_no_more_is_kept_than_is_shown() {
        let mut series = Series::default();
        series.merge(TEN, vec![sample(10_000, 0.1)]);
        let second = Duration::from_secs(1);
        series.merge(second, (1..=200).map(|s| sample(s * 1_000, 0.5)).collect());
        assert_eq!(series.samples.len(), POINTS);
        assert_eq!(series.length(), Duration::from_secs(60));
        assert_eq!(errors(&series, 100).iter().flatten().count(), POINTS);
    }

    #[test]
    fn a_short_stage_is_seen_in_seconds() {
        let mut status = answer().status;
        assert_eq!(step(&status), TEN);
        if let Some(plan) = &mut status.plan {
            plan.stages[1].duration = "1m".to_owned();
        }
        assert_eq!(step(&status), Duration::from_secs(1));
        status.plan = None;
        assert_eq!(step(&status), TEN);
    }
}
