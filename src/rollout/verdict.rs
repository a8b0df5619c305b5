//! One condition judged on what was measured: the figure, what it was compared with, and the verdict.
//!
//! Owns the data rules and `Evaluation`, which every decision carries. Never moves a weight.

mod interval;
mod outside;

use std::sync::Arc;
use std::time::Duration;

use interval::Bounds;
pub use outside::Outside;

use super::assign::Ceilings;
use super::condition::{Condition, Metric, Op, Selector};
use super::name::Arm;
use super::segments::{is_left_out, success_delta};
use super::window::{Counts, Measured};

/// A percentile says nothing below so many latencies (gate.md, "Windows and data").
const P99_NEEDS: u64 = 100;
const P999_NEEDS: u64 = 1000;
/// A throughput is read from this span on.
const THROUGHPUT_NEEDS: Duration = Duration::from_secs(1);
/// Answers 4xx are compared only when canary has more than a point above baseline: 0.02 % against 0.01 % is a
/// doubling and means nothing.
const CLIENT_ERRORS_APART: f64 = 0.01;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Pass,
    Fail,
    /// Too few requests to decide, or the figure misses and its interval holds passing values.
    Unproven,
    /// Nothing, or too little, was measured. Never a pass.
    NoData,
}

/// The list of a stage that a condition stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Advance,
    Hold,
    Rollback,
    Tripwire,
}

/// A condition with what was seen. For `Advance`, `Pass` means that the condition is true; for
/// `Hold`, `Rollback` and `Tripwire`, `Fail` means that it is true: breached.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub purpose: Purpose,
    pub condition: Condition,
    /// `per segment`: the segment that the rest is of, the worst one.
    pub segment: Option<Arc<str>>,
    /// In the condition's unit; `None` without data.
    pub figure: Option<f64>,
    /// Where a figure can be bounded: all of its values that the data do not rule out, at any time (gate.md,
    /// "Evidence", 7).
    pub interval: Option<(f64, f64)>,
    /// What all values that are not ruled out say together: `Pass` or `Fail` as `verdict`, `Unproven` where they lie on
    /// both sides of the limit. `None` where the figure has no interval, and for a guard that is not breached.
    pub interval_says: Option<Verdict>,
    /// Baseline's figure for the same metric and window, where it has data.
    pub baseline: Option<f64>,
    /// Counted requests in the window on the arm judged.
    pub requests: u64,
    pub window: Duration,
    pub verdict: Verdict,
    /// How long the condition has been breached (hold and rollback).
    pub breached_for: Option<Duration>,
    /// Distinct learners on the wrong side within the breach, where failures are what is counted.
    pub learners: Option<u64>,
    /// What is missing for a decision, as a sentence with numbers; empty if nothing is.
    pub note: String,
}

/// What conditions are judged on.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    pub measured: &'a dyn Measured,
    /// Open now, or at most so many at once within the span.
    pub incidents: u64,
    pub min_window_requests: u64,
    pub segments: SegmentRule<'a>,
    /// What is known beside the counts; `None` where nothing is.
    pub outside: Option<Outside<'a>>,
}

/// Which segments are compared: those with enough requests on both arms that are not left out.
#[derive(Clone, Copy)]
pub struct SegmentRule<'a> {
    pub min_requests: u64,
    pub ceilings: &'a Ceilings,
}

// === impl Condition ===

impl Condition {
    /// Whether it is true; `None` without data. Latency limits are read from exact counts, so that a
    /// histogram's bucket never decides.
    pub fn truth(&self, purpose: Purpose, sample: &Sample<'_>) -> Option<bool> {
        if let (Some(limit_us), Some(one_in)) =
            (self.latency_limit_us(), self.metric.one_above_in())
        {
            return self.latency_truth(limit_us, one_in, sample);
        }
        let figure = self.figure(sample)?;
        let apart = match (self.metric, self.selector, purpose) {
            (
                Metric::ClientErrorRate,
                Selector::Delta,
                Purpose::Hold | Purpose::Rollback | Purpose::Tripwire,
            ) => {
                let rate = |arm| sample.figure(Metric::ClientErrorRate, arm);
                rate(Arm::Canary)? - rate(Arm::Baseline)? > CLIENT_ERRORS_APART
            }
            _ => true,
        };
        Some(apart && self.holds(figure))
    }

    /// The figure in the condition's unit; `None` without data on an arm that it reads.
    pub fn figure(&self, sample: &Sample<'_>) -> Option<f64> {
        match self.selector {
            Selector::Canary if self.metric == Metric::Throughput => sample.rate(&Arm::ALL),
            Selector::Canary => self.figure_of(sample, Arm::Canary),
            Selector::Baseline => self.figure_of(sample, Arm::Baseline),
            Selector::Delta => Some(delta(
                self.figure_of(sample, Arm::Canary)?,
                self.figure_of(sample, Arm::Baseline)?,
            )),
        }
    }

    // The metric's own figure on one arm.
    fn figure_of(&self, sample: &Sample<'_>, arm: Arm) -> Option<f64> {
        match self.metric {
            Metric::Signal(name) => sample.outside?.figure(name, arm, self.over),
            metric => sample.figure(metric, arm),
        }
    }

    /// The arm whose requests decide: canary for `delta`.
    pub const fn arm(&self) -> Arm {
        match self.selector {
            Selector::Canary | Selector::Delta => Arm::Canary,
            Selector::Baseline => Arm::Baseline,
        }
    }

    /// Judges it with everything that is to be shown. `window` is what `sample` spans by name.
    ///
    /// A criterion that its figure misses while its interval still holds passing values is unproven. A business mean is
    /// so too where its figure passes: few results say little about it.
    pub fn evaluate(&self, purpose: Purpose, sample: &Sample<'_>, window: Duration) -> Evaluation {
        let truth = self.truth(purpose, sample);
        let bounds = self.bounds_for(purpose, truth, sample);
        let says = bounds.as_ref().map(|bounds| bounds.says);
        let verdict = match (purpose, truth, says) {
            (_, None, _) => Verdict::NoData,
            (Purpose::Advance, Some(_), Some(says)) if self.metric.signal().is_some() => says,
            (Purpose::Advance, Some(true), _) => Verdict::Pass,
            (Purpose::Advance, Some(false), Some(Verdict::Unproven)) => Verdict::Unproven,
            (Purpose::Advance, Some(false), _) => Verdict::Fail,
            (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Some(true), _) => Verdict::Fail,
            (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Some(false), _) => {
                Verdict::Pass
            }
        };
        let note = match (truth, &bounds, verdict) {
            (None, _, _) => self.lacks(sample),
            (Some(_), Some(bounds), Verdict::Unproven) => bounds.note.clone(),
            (Some(_), _, _) => String::new(),
        };
        Evaluation {
            purpose,
            condition: self.clone(),
            segment: None,
            figure: self.figure(sample),
            interval: bounds.and_then(|bounds| bounds.shown),
            interval_says: says.map(|says| read_for(purpose, says)),
            baseline: self.figure_of(sample, Arm::Baseline),
            requests: sample.requests(self),
            window: sample.window(self, window),
            verdict,
            breached_for: None,
            learners: None,
            note,
        }
    }

    // Guards are looked at every tick: theirs is computed while they are breached, when somebody wants to know.
    fn bounds_for(
        &self,
        purpose: Purpose,
        truth: Option<bool>,
        sample: &Sample<'_>,
    ) -> Option<Bounds> {
        let wanted = match purpose {
            Purpose::Advance => truth.is_some(),
            Purpose::Hold | Purpose::Rollback | Purpose::Tripwire => {
                truth == Some(true) || self.metric.signal().is_some()
            }
        };
        wanted.then(|| self.bounds(sample)).flatten()
    }

    /// Whether all that the data leave possible misses a criterion.
    pub fn is_proven_unmet(&self, sample: &Sample<'_>) -> bool {
        let says = self.bounds(sample).map(|bounds| bounds.says);
        says.is_none_or(|says| says == Verdict::Fail)
    }

    // The smallest value that at most one in `one_in` exceeds is at most the limit exactly if at most one in
    // `one_in` exceeds the limit.
    fn latency_truth(&self, limit_us: u64, one_in: u64, sample: &Sample<'_>) -> Option<bool> {
        let timed = sample.measured.counts(self.arm()).timed;
        if timed < sample.needs(self.metric) {
            return None;
        }
        let within = sample.measured.above(self.arm(), limit_us) * one_in <= timed;
        match self.op {
            Op::Less | Op::LessOrEqual => Some(within),
            Op::Greater | Op::GreaterOrEqual => Some(!within),
            Op::Equal => self.figure(sample).map(|figure| self.holds(figure)),
        }
    }

    fn lacks(&self, sample: &Sample<'_>) -> String {
        if self.metric == Metric::SegmentVariance {
            let least = sample.segments.min_requests;
            return format!("no segment has {least} requests on both arms");
        }
        let arms: &[Arm] = match self.selector {
            Selector::Canary => &[Arm::Canary],
            Selector::Baseline => &[Arm::Baseline],
            Selector::Delta => &[Arm::Canary, Arm::Baseline],
        };
        let lacking = arms
            .iter()
            .filter(|&&arm| self.figure_of(sample, arm).is_none());
        let sentences: Vec<String> = lacking
            .map(|&arm| match (self.metric, sample.outside) {
                (Metric::Signal(name), Some(outside)) => outside.lack(name, arm),
                (metric, _) => sample.lack(metric, arm),
            })
            .collect();
        sentences.join("; ")
    }
}

// === impl Sample ===

impl Sample<'_> {
    fn figure(&self, metric: Metric, arm: Arm) -> Option<f64> {
        let counts = self.measured.counts(arm);
        let share = |part: u64, whole: u64| {
            (whole >= self.needs(metric)).then(|| part as f64 / whole as f64)
        };
        match metric {
            Metric::ErrorRate => share(counts.errors, counts.counted),
            Metric::ClientErrorRate => share(counts.client_errors, counts.counted),
            Metric::Abandoned => share(counts.abandoned, asked(counts)),
            Metric::Availability => {
                share(counts.counted.saturating_sub(counts.failed), counts.counted)
            }
            Metric::Uptime => {
                let probes = self.measured.probes(arm);
                (probes.sent > 0)
                    .then(|| probes.answered.min(probes.sent) as f64 / probes.sent as f64)
            }
            Metric::Throughput => self.rate(&[arm]),
            Metric::Incidents => Some(self.incidents as f64),
            Metric::SegmentVariance => self.segment_variance().filter(|_| arm == Arm::Canary),
            Metric::Regression(_) | Metric::Signal(_) => None,
            Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => {
                let one_in = metric.one_above_in()?;
                let enough = counts.timed >= self.needs(metric);
                let latency = enough.then(|| self.measured.percentile_us(arm, one_in))?;
                latency.map(|us| us as f64)
            }
        }
    }

    // A signal's figure is of a moment, unless a window is named.
    fn window(&self, condition: &Condition, named: Duration) -> Duration {
        match (condition.metric, self.outside) {
            (Metric::Signal(name), Some(outside)) => outside.window(name, condition.over),
            (_, _) => named,
        }
    }

    // The largest |delta of a segment - delta overall| of the success rate.
    fn segment_variance(&self) -> Option<f64> {
        let arms = Arm::ALL.map(|arm| self.measured.counts(arm));
        let is_enough = |arms: &[Counts; 2], least: u64| {
            arms.iter().all(|counts| counts.counted >= least.max(1))
        };
        if !is_enough(&arms, self.min_window_requests) {
            return None;
        }
        let overall = success_delta(arms)?;
        let rule = self.segments;
        let compared = self.measured.segments().into_iter().filter(|(name, arms)| {
            !is_left_out(rule.ceilings, name) && is_enough(arms, rule.min_requests)
        });
        compared
            .filter_map(|(_, arms)| Some((success_delta(arms)? - overall).abs()))
            .filter(|distance| !distance.is_nan())
            .reduce(f64::max)
    }

    fn rate(&self, arms: &[Arm]) -> Option<f64> {
        let span = self.measured.span();
        let counted: u64 = arms
            .iter()
            .map(|&arm| self.measured.counts(arm).counted + self.measured.apart(arm))
            .sum();
        (span >= THROUGHPUT_NEEDS).then(|| counted as f64 / span.as_secs_f64())
    }

    /// How many requests (latencies for a percentile, probes for uptime) a figure needs.
    fn needs(&self, metric: Metric) -> u64 {
        match metric {
            Metric::ErrorRate
            | Metric::ClientErrorRate
            | Metric::Abandoned
            | Metric::Availability
            | Metric::P50
            | Metric::P95 => self.min_window_requests.max(1),
            Metric::P99 => self.min_window_requests.max(P99_NEEDS),
            Metric::P999 => self.min_window_requests.max(P999_NEEDS),
            Metric::Uptime => 1,
            Metric::Throughput
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_) => 0,
        }
    }

    fn requests(&self, condition: &Condition) -> u64 {
        let counted = |arm| self.measured.counts(arm).counted;
        match (condition.metric, condition.selector) {
            (Metric::Throughput, Selector::Canary) => counted(Arm::Canary) + counted(Arm::Baseline),
            (Metric::Signal(name), _) => self.outside.map_or(0, |outside| {
                outside.count(name, condition.arm(), condition.over)
            }),
            _ => counted(condition.arm()),
        }
    }

    fn lack(&self, metric: Metric, arm: Arm) -> String {
        let counts = self.measured.counts(arm);
        let seen = match metric {
            Metric::Uptime => return format!("no health check of {arm} was sent"),
            Metric::Throughput => return "observed for less than 1s".to_owned(),
            Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => counts.timed,
            Metric::Abandoned => asked(counts),
            Metric::ErrorRate
            | Metric::ClientErrorRate
            | Metric::Availability
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_) => counts.counted,
        };
        match (seen, self.needs(metric)) {
            (0, _) => format!("no traffic on {arm}"),
            // It lacks no requests: what it lacks is for others to say.
            (_, 0) => String::new(),
            (seen, needs) => format!("{seen} of {needs} requests on {arm}"),
        }
    }
}

// A guard fails where its condition is true.
const fn read_for(purpose: Purpose, says: Verdict) -> Verdict {
    match (purpose, says) {
        (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Verdict::Pass) => Verdict::Fail,
        (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Verdict::Fail) => Verdict::Pass,
        (Purpose::Advance, says)
        | (
            Purpose::Hold | Purpose::Rollback | Purpose::Tripwire,
            says @ (Verdict::Unproven | Verdict::NoData),
        ) => says,
    }
}

/// canary / baseline - 1: nothing against nothing is no change, something against nothing is infinitely more.
pub fn delta(canary: f64, baseline: f64) -> f64 {
    if baseline == 0.0 {
        return if canary == 0.0 { 0.0 } else { f64::INFINITY };
    }
    canary / baseline - 1.0
}

// Those who left early are not counted; those who left late are, and stand in both terms.
fn asked(counts: Counts) -> u64 {
    counts.counted + counts.abandoned
}

#[cfg(test)]
mod tests;
